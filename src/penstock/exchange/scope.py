"""Which models somebody may use, for lists of them: what would be refused when it was asked for is not listed.

A model may be used when some request for it would be let in: by any path, those of the list's own protocol first, and for anything that is made
there. What that depends on is asked of the router and the door, as for the request itself; nothing is remembered, so no caller can see another's.
"""

from __future__ import annotations

from urllib.parse import unquote

from penstock.admission.door import Door, Found, Refused
from penstock.admission.facts import SETTLED, Facts
from penstock.admission.patterns import any_matches
from penstock.admission.subject import By, Subject
from penstock.exchange.contract import Headers
from penstock.exchange.gateway import Gateway
from penstock.routing import Choice, Endpoint
from penstock.vocabulary.ids import Operation, ProtocolId

LISTS = frozenset({"/v1/models", "/models", "/v1beta/models", "/v1alpha/models"})
_NAMED = frozenset({"model"})
_LISTED = frozenset({"model", "route", "provider"})
_NOT_HERE = "nothing here serves the model"
_MADE: dict[ProtocolId, tuple[Operation, ...]] = {
    ProtocolId.OPENAI_CHAT: (
        Operation.CHAT, Operation.EMBEDDINGS, Operation.COMPLETIONS, Operation.IMAGES, Operation.AUDIO, Operation.MODERATIONS,
    ),
    ProtocolId.OPENAI_RESPONSES: (Operation.RESPONSES,),
    ProtocolId.ANTHROPIC_MESSAGES: (Operation.MESSAGES,),
    ProtocolId.GEMINI: (Operation.GENERATE, Operation.EMBEDDINGS),
}  # fmt: skip
"""What is asked of models by each protocol's paths."""


def model_named(path: str) -> str | None:
    """The model that a path below `/models/` names; `None`: it is a list."""
    if path in LISTS or "/models/" not in path:
        return None
    return unquote(path.rpartition("/models/")[2])


def decided_later(endpoint: Endpoint) -> frozenset[str]:
    """By which fields `Scope` decides of a request for models. A provider's own list passes as it is."""
    if model_named(endpoint.path) is not None:
        return _NAMED
    return SETTLED if endpoint.provider is not None else _LISTED


class Scope:
    """Of one request for a list. Implements `gateway.Lists`."""

    __slots__ = ("_door", "_found", "_gateway", "_headers", "_peer", "_protocols", "subject")

    def __init__(
        self, gateway: Gateway, door: Door, found: Found, subject: Subject, protocol: ProtocolId, headers: Headers, peer: str | None
    ) -> None:  # fmt: skip
        self._gateway = gateway
        self._door = door
        self._found = found
        self._headers = headers
        self._peer = peer
        self._protocols = sorted(ProtocolId, key=lambda one: one is not protocol)
        self.subject = subject

    def __call__(self, model: str, owner: str) -> bool:
        return self.refuses(model, None, owner) is None

    def refuses(self, model: str, provider: str | None, owner: str | None = None) -> Refused | None:
        """Why it may not be used; `None`: it may. `provider`: by whose own paths; `None`: by the routes. `owner`: who lists it, where that is
        known."""
        key = self.subject.key
        if key is not None and key.models and not any_matches(key.models, model):  # soon told, of most of a long list
            return Refused(403, "", f"key {key.id} does not allow this model", by=By.KEY, rule=key.id)
        first: Refused | None = None
        for protocol in self._protocols:
            for operation in _MADE[protocol]:
                refused = self._asked(protocol, operation, model, provider, owner)
                if refused is None:
                    return None
                first = first or (refused if refused.cause != _NOT_HERE else None)
        if first is not None:
            return first
        # No path serves it: whoever might use it if one did may know of it.
        return self._door.allow(self._facts(self.subject, self._protocols[0], _MADE[self._protocols[0]][0], model, None, provider or owner))

    def _asked(self, protocol: ProtocolId, operation: Operation, model: str, provider: str | None, owner: str | None) -> Refused | None:
        """What would become of a request."""
        route: str | None = None
        subject = self.subject
        if provider is not None:
            if protocol not in self._gateway.faces[provider].protocols:
                return Refused(404, "", _NOT_HERE)
        else:
            chosen = self._gateway.router.choose(protocol, operation, model)
            # Without a route everything goes to the first provider of the path, which knows nothing of the models of others.
            if not isinstance(chosen, Choice) or (chosen.route is None and owner in self._gateway.providers and chosen.provider.name != owner):
                return Refused(404, "", _NOT_HERE)
            provider, route = chosen.provider.name, chosen.route.model.text if chosen.route is not None else None
            if self._door.per_route:
                entered = self._door.enter(self._found, self._door.mode_of(chosen.index))
                if isinstance(entered, Refused):
                    return entered
                subject = entered
        return self._door.allow(self._facts(subject, protocol, operation, model, route, provider))

    def _facts(self, subject: Subject, protocol: str, operation: str, model: str, route: str | None, provider: str | None) -> Facts:
        return Facts(subject, protocol, operation, model, route, provider, self._headers, lambda: self._door.address(self._peer, self._headers))
