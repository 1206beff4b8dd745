"""How legacy Argo is asked, and what is written down of it: a client's OpenAI request becomes its own, and its answer comes back as OpenAI's
(`legacy_answer`). What it does not have is refused here; its own bodies, on its own paths, pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import time
from typing import TYPE_CHECKING

import msgspec

from penstock import __version__
from penstock.exchange.contract import ClientRequest
from penstock.exchange.legacy_answer import LegacyAnswer
from penstock.exchange.plan import Plan
from penstock.ledger.entry import Entry
from penstock.protocols.contract import BadRequest, Peek, ProtocolSpec
from penstock.providers import ArgoLegacyProvider
from penstock.providers.argo_legacy import RAW
from penstock.translate.argo_legacy import Asked, Resource, Told, ask
from penstock.upstream.contract import Loss, LossKind, Receiver
from penstock.vocabulary.errors import Fault, FaultKind
from penstock.vocabulary.ids import Operation
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
from penstock.vocabulary.usage import Provenance
from penstock.wire.budget import Budget
from penstock.wire.json import set_field

if TYPE_CHECKING:
    from penstock.exchange.drive import Exchange
    from penstock.exchange.gateway import Gateway

PROTOCOL = "argo_legacy"
"""Its name in the record."""
_SERVED = frozenset({Operation.CHAT, Operation.COMPLETIONS, Operation.RESPONSES, Operation.EMBEDDINGS})
_PLACES = ("/chat/completions", "/completions", "/responses", "/embeddings")
"""Of these operations; what stands below them (`/responses/compact`) is another endpoint."""
Sent = tuple[bytes, bytes, bytes]


@dataclass(slots=True)
class LegacyTurn:
    """One exchange with legacy Argo, over all of its tries. Implements `legacy_answer.Turn`."""

    spec: ProtocolSpec
    operation: Operation
    asked: Asked
    answer_id: str
    model: str
    """What the client calls it."""
    limit: int
    budget: Budget
    fail: Callable[[Exception], None]
    _told: Told | None = None
    _unusable: Outcome | None = field(default=None)

    @property
    def resource(self) -> Resource:
        return self.asked.resource

    @property
    def made(self) -> int:
        """Tokens of the answer so far, an estimate."""
        return (self._told.output_tokens if self._told is not None else None) or 0

    def answer(self, receiver: Receiver) -> LegacyAnswer:
        """Who hears the connection of another try in the place of `receiver`."""
        self._unusable = None
        self._told = told = Told(self.spec, self.operation, self.asked, answer_id=self.answer_id, model=self.model, created=int(time()))
        return LegacyAnswer(self, told, receiver)

    def cannot_be_used(self, why: str, *, by_us: bool = False) -> Loss:
        """The answer came, and cannot be told; `by_us`: because of a limit of ours."""
        if by_us:
            self._unusable = Outcome(Ending.CUT, f"the provider's answer could not be told: {why}", EndedBy.GATEWAY)
        else:
            self._unusable = Outcome(Ending.UPSTREAM_ERROR, f"the provider's answer could not be used: {why}", EndedBy.UPSTREAM)
        return Loss(LossKind.UNUSABLE, why)

    def account(self, entry: Entry, outcome: Outcome) -> Outcome:
        """Estimates where the provider states nothing, and the outcome with what was changed on the way."""
        written = self._told.output_tokens if self._told is not None else None
        if written is not None or entry.usage_source in (Provenance.REPORTED, Provenance.PARTIAL):
            entry.usage_source = Provenance.ESTIMATED.value
            entry.input_tokens, entry.output_tokens = self.asked.input_tokens, written
            entry.cache_read_tokens = entry.reasoning_tokens = None  # Responses states zeros where nothing is known
        if outcome.ending is Ending.UPSTREAM_LOST and self._unusable is not None:
            outcome = self._unusable
        if not self.asked.notes:
            return outcome
        return Outcome(outcome.ending, "; ".join((outcome.cause, *self.asked.notes)), outcome.ended_by)


def serves(provider: ArgoLegacyProvider, plan: Plan) -> bool:
    """Is this told in its own words? Else what a path names below the provider goes there as it is."""
    endpoint = plan.endpoint
    return endpoint.path in RAW or endpoint.operation in _SERVED or not endpoint.verbatim


def in_own_words(provider: object, plan: Plan, request: ClientRequest | None) -> bool:
    """Is the answer a model's, in the gateway's own form, which goes to the client as it is?"""
    if not isinstance(provider, ArgoLegacyProvider) or plan.endpoint.operation is not Operation.OTHER:
        return False
    return RAW.get(plan.endpoint.path) != "embed" and (request is None or request.method not in ("GET", "HEAD"))


def begin(
    exchange: Exchange, gateway: Gateway, plan: Plan, provider: ArgoLegacyProvider, model: str | None, body: bytes | None
) -> bool:  # fmt: skip
    """Make the upstream request, and what tells its answer; False: it was refused. `model`: as the route says it."""
    exchange.entry.upstream_protocol = PROTOCOL
    peek = exchange.peek
    if plan.endpoint.path in RAW:
        raw = ask_raw(provider, plan, peek, model, body or b"")
        if not isinstance(raw, Fault):
            exchange.sent = raw
            return True
        exchange.refuse(raw, raw.message)
        return False
    conduct = exchange.conduct
    told = ask_told(provider, plan, peek, model, body, real_stream=provider.settings.real_stream is not False and conduct.pace is None)
    if isinstance(told, Fault):
        exchange.refuse(told, told.message)
        return False
    exchange.sent, asked = told
    exchange.pace = conduct.telling if asked.streams else None  # of a whole answer; raw text goes as it comes
    exchange.legacy = LegacyTurn(
        plan.spec, plan.endpoint.operation, asked, exchange.id, peek.model or "", gateway.settings.limits.body, gateway.held, exchange.fail)
    return True


def ask_raw(provider: ArgoLegacyProvider, plan: Plan, peek: Peek, model: str | None, body: bytes) -> Sent | Fault:
    """One of its own bodies: only who asks and the model's id are put in, and no other byte is changed."""
    user = provider.user(plan.headers, plan.query)
    if user is None:
        return _nobody(provider)
    resource = Resource.EMBED if RAW[plan.endpoint.path] == "embed" else Resource.STREAM if peek.stream else Resource.CHAT
    try:
        told = set_field(body, "user", msgspec.json.encode(user))
        if model is not None:
            told = set_field(told, "model", msgspec.json.encode(provider.names.id_of(model)))
    except ValueError:
        return Fault(FaultKind.BAD_REQUEST, 400, "The request body must be a JSON object.")
    return _sent(provider, resource, told, stream=peek.stream)


def ask_told(
    provider: ArgoLegacyProvider, plan: Plan, peek: Peek, model: str | None, body: bytes | None, *, real_stream: bool = True
) -> tuple[Sent, Asked] | Fault:  # fmt: skip
    """The client's request in its words."""
    endpoint = plan.endpoint
    if endpoint.operation not in _SERVED or body is None or not endpoint.path.endswith(_PLACES):
        return Fault(FaultKind.NOT_FOUND, 404, f"Provider {provider.name!r} (argo_legacy) has nothing like {endpoint.path}: it serves chat "
                     "completions, completions, responses and embeddings.")  # fmt: skip
    if model is None:
        return Fault(FaultKind.BAD_REQUEST, 400, "The request names no model: the field 'model' is missing.")
    user = provider.user(plan.headers, plan.query)
    if user is None:
        return _nobody(provider)
    try:
        asked = ask(endpoint.operation, body, user=user, model=provider.names.id_of(model), stream=peek.stream, real_stream=real_stream)
    except BadRequest as error:
        return Fault(FaultKind.BAD_REQUEST, 400, str(error))
    return _sent(provider, asked.resource, asked.body, stream=asked.streams), asked


def _nobody(provider: ArgoLegacyProvider) -> Fault:
    message = f"Provider {provider.name!r} takes your user name as the API key, and this request has none that can be one."
    return Fault(FaultKind.UNAUTHENTICATED, 401, message)


def _sent(provider: ArgoLegacyProvider, resource: Resource, body: bytes, *, stream: bool) -> Sent:
    own = [b"%b: %b\r\n" % (name.encode("latin-1"), value.encode("latin-1")) for name, value in provider.settings.headers]
    lines = [
        b"Host: %b\r\nContent-Type: application/json\r\n" % provider.host_header.encode("latin-1"),
        b"Accept: text/plain\r\n" if stream else b"",
        b"Accept-Encoding: identity\r\nUser-Agent: penstock/%b\r\n" % __version__.encode(),
        *own,
        b"Content-Length: %d\r\n\r\n" % len(body),
        body,
    ]
    return b"POST", provider.resource(resource).encode("ascii"), b"".join(lines)
