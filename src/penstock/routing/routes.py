"""From a model's name to a provider.

The first route whose glob matches the model and whose provider speaks the path's protocol wins. If routes matched the model but none of
their providers speaks the protocol, that is a `Mismatch`: the file says who serves this model, and sending it elsewhere would be a
guess. If no route matched, the model `demo` is the built-in provider's, and everything else goes to the first provider in the file that
speaks the path's protocol, as without routes.

Without a model (a response's id, files, batches): the provider that the ledger knows, else the one that the client names, else the
first that speaks the protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from penstock.routing.endpoints import PROTOCOL_PATHS, Face
from penstock.routing.globs import Glob
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.wire.secrets import mask_name

DEMO = "demo"
"""The built-in model, and the provider of the same name that streams it."""

_CACHED = 2048
_LONGEST = 200
_KINDS = {
    ProtocolId.OPENAI_CHAT: "openai", ProtocolId.OPENAI_RESPONSES: "openai", ProtocolId.ANTHROPIC_MESSAGES: "anthropic", ProtocolId.GEMINI: "gemini",
}
_MAKING = frozenset({Operation.CHAT, Operation.COMPLETIONS, Operation.RESPONSES, Operation.MESSAGES, Operation.GENERATE})
_COUNTING = {
    ProtocolId.OPENAI_RESPONSES: "/v1/responses/input_tokens",
    ProtocolId.ANTHROPIC_MESSAGES: "/v1/messages/count_tokens",
    ProtocolId.GEMINI: "/v1beta/models/{model}:countTokens",
}

P = TypeVar("P", bound=Face)


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the file."""

    model: Glob
    provider: str
    rename: str | None = None
    """What the provider calls the model; `None`: what the client calls it."""


@dataclass(frozen=True, slots=True)
class Hints:
    """What is known where the request has no model."""

    ledger_provider: str | None = None
    """Who made the response that is asked for."""
    header_provider: str | None = None
    """The client's `x-penstock-provider`."""


@dataclass(frozen=True, slots=True)
class Choice(Generic[P]):
    provider: P
    model_upstream: str | None
    """What the provider is to be told; `None` where the request has no model."""
    route: Route | None = None
    index: int | None = None
    """Of the route, in the file's order."""

    @property
    def renamed(self) -> bool:
        return self.route is not None and self.route.rename is not None


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Route and path speak different protocols (400). The sentence is for the client."""

    message: str


@dataclass(frozen=True, slots=True)
class NoRoute:
    """Nobody can take this (404). The sentence is for the client."""

    message: str


_NO_HINTS = Hints()


class Router(Generic[P]):
    """The routes of a file over its providers, in the file's order. `demo` is the built-in provider, never a fallback."""

    __slots__ = ("_cache", "_demo", "_named", "_providers", "_routes", "by_model")

    def __init__(self, routes: Sequence[Route], providers: Sequence[P], demo: P | None = None) -> None:
        """Raises KeyError where a route names a provider that is not there (the configuration has refused that before)."""
        self._providers = tuple(provider for provider in providers if provider is not demo)
        self._demo = demo
        self._named = {provider.name: provider for provider in providers} | ({demo.name: demo} if demo is not None else {})
        self._routes = tuple((route, self._named[route.provider]) for route in routes)
        self.by_model = any(route.model.text != "*" or route.rename is not None for route in routes)
        """Does it depend on the model who takes a request, and how?"""
        self._cache: dict[tuple[ProtocolId, Operation, str], Choice[P] | Mismatch | NoRoute] = {}

    def choose(
        self, protocol: ProtocolId, operation: Operation, model: str | None, hints: Hints = _NO_HINTS
    ) -> Choice[P] | Mismatch | NoRoute:
        """Who takes it. Pure but for a bounded memory of earlier answers; hints count only where there is no model."""
        if model is None:
            return self._without_model(protocol, hints)
        key = (protocol, operation, model)
        known = self._cache.get(key)
        if known is None:
            known = self._for_model(protocol, operation, model)
            # Clients choose the names: neither many of them nor long ones may fill the memory.
            if len(model) <= _LONGEST:
                if len(self._cache) >= _CACHED:
                    self._cache.clear()
                self._cache[key] = known
        return known

    def _for_model(self, protocol: ProtocolId, operation: Operation, model: str) -> Choice[P] | Mismatch | NoRoute:
        passed_over: P | None = None
        for index, (route, provider) in enumerate(self._routes):
            if not route.model.matches(model):
                continue
            if protocol in provider.protocols:
                return Choice(provider, route.rename or model, route, index)
            passed_over = passed_over or provider
        if model == DEMO and self._demo is not None and protocol in self._demo.protocols:
            return Choice(self._demo, model)
        if passed_over is not None:
            return Mismatch(_mismatch(protocol, operation, model, passed_over))
        return self._first(protocol, model)

    def _without_model(self, protocol: ProtocolId, hints: Hints) -> Choice[P] | Mismatch | NoRoute:
        if hints.ledger_provider is not None:
            provider = self._named.get(hints.ledger_provider)
            if provider is not None and protocol in provider.protocols:
                return Choice(provider, None)
        if hints.header_provider is not None:
            provider = self._named.get(hints.header_provider)
            if provider is None:
                return NoRoute(f"x-penstock-provider names {_quoted(hints.header_provider)}, which is not configured; there is {self._names()}")
            if protocol not in provider.protocols:
                return Mismatch(
                    f"x-penstock-provider names {provider.name!r} ({_spoken(provider)}); this path speaks {protocol}. "
                    f"Name {_article(_KINDS[protocol])} provider, or use a path below /{provider.name}/.")
            return Choice(provider, None)
        return self._first(protocol, None)

    def _first(self, protocol: ProtocolId, model: str | None) -> Choice[P] | NoRoute:
        for provider in self._providers:
            if protocol in provider.protocols:
                return Choice(provider, model)
        return NoRoute(f"no provider speaks {protocol}, which this path does; there is {self._names()}. Add {_article(_KINDS[protocol])} provider.")

    def _names(self) -> str:
        return ", ".join(f"{provider.name!r} ({_spoken(provider)})" for provider in self._providers) or "none"


def _mismatch(protocol: ProtocolId, operation: Operation, model: str, provider: Face) -> str:
    served = f"model {_quoted(model)} is served by provider {provider.name!r} ({_spoken(provider)}); this path speaks {protocol}."
    kind = _KINDS[protocol]
    # A provider of the right kind that was told to speak less needs no other provider of its kind, but one that says it speaks this.
    other = f"{_article(kind)} provider" if kind != provider.kind else f"a provider that speaks {protocol}"
    if operation in _MAKING:
        paths = [PROTOCOL_PATHS[spoken] for spoken in _in_order(provider)]
    elif operation is Operation.COUNT_TOKENS:
        paths = [_COUNTING[spoken] for spoken in _in_order(provider) if spoken in _COUNTING]
    else:
        paths = []
    if not paths:
        return f"{served} Route the model to {other}."
    named = " or ".join(paths).replace("{model}", model if len(model) <= _LONGEST else "{model}")
    return f"{served} Use {named}, or route the model to {other}."


def _in_order(provider: Face) -> list[ProtocolId]:
    return [protocol for protocol in ProtocolId if protocol in provider.protocols]


def _spoken(provider: Face) -> str:
    return ", ".join(_in_order(provider))


def _article(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _quoted(text: str) -> str:
    text = mask_name(text)
    return repr(text if len(text) <= _LONGEST else text[:_LONGEST] + "...")
