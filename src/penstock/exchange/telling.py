"""What the client of one exchange is told: whole answers, early heads, the ends of streams, refusals. Part of `drive`."""

from __future__ import annotations

from penstock.exchange.admitting import Pass
from penstock.exchange.contract import Headers, Reply
from penstock.exchange.gateway import Gateway
from penstock.exchange.plan import Plan
from penstock.ledger.entry import Entry
from penstock.ledger.errors import LedgerFull
from penstock.pipeline.contract import Pipeline
from penstock.protocols.contract import ProtocolSpec
from penstock.providers import REQUEST_IDS
from penstock.vocabulary.errors import Fault
from penstock.vocabulary.ids import ProtocolId

JSON = (b"content-type", b"application/json")
UNBUFFERED: Headers = [(b"cache-control", b"no-cache, no-transform"), (b"x-accel-buffering", b"no")]
"""Asks whoever stands between us and the client to pass a stream on as it comes: `no-transform` keeps compressing proxies off
(RFC 9111, 5.2.2.6), the other is nginx's own."""
_REQUEST_ID = {ProtocolId.ANTHROPIC_MESSAGES: b"request-id", ProtocolId.OPENAI_CHAT: b"x-request-id", ProtocolId.OPENAI_RESPONSES: b"x-request-id"}
"""Where the makers' clients look for an id to quote."""


class _Begun:
    """What every exchange has from its beginning has a slot; `drive` says what becomes of the rest."""

    __slots__ = ("_stage", "conduct", "entry", "gateway", "id", "machine", "reply", "request", "spec", "started")


class Telling(_Begun):
    """The reply, and the row that goes with it. After `reply` is gone nothing is told any more."""

    # What most exchanges never change stands on the class: an attribute that is not set costs nothing, and this runs once per exchange.
    plan: Plan | None = None
    pipeline: Pipeline | None = None
    admitted: Pass | None = None
    """Who it is for and what it was granted; `None`: admission is off."""
    last_out = 0.0
    """When the client was last sent something, on the monotonic clock."""
    _opened = False
    # Set by `Asking`, in one step with its own.
    gateway: Gateway
    reply: Reply | None
    id: str
    entry: Entry
    spec: ProtocolSpec
    """Of the client; until the path is known, the one that most clients read."""

    @property
    def quoted(self) -> str:
        """The id that an error names in its body. Anthropic's errors name the id of their head (`request-id`): so it is the provider's, where it
        told one that the client may see, and people quote one id. Everything else names the exchange's own."""
        told = self.entry.upstream_request_id
        if told is None or self.spec.id is not ProtocolId.ANTHROPIC_MESSAGES:
            return self.id
        return told if self.gateway.settings.drop_response_headers.isdisjoint(REQUEST_IDS) else self.id

    def open_row(self) -> bool:
        """Before anything is asked of a provider. False: the ledger is full, and nothing may be asked."""
        if not self._opened:
            try:
                self.gateway.ledger.open(self.entry)
            except LedgerFull:
                return False
            self._opened = True
        return True

    def own(self) -> Headers:
        """What every answer has of ours."""
        replay = self.entry.replay
        own = [(b"x-penstock-id", self.id.encode())]
        return own if replay is None else [*own, (b"x-penstock-replay", replay.encode())]

    def say_whole(self, status: int, headers: Headers, body: bytes) -> None:
        """A whole answer of ours."""
        reply, self.reply = self.reply, None
        if reply is None:
            return
        self.entry.status = status
        kind: Headers = [JSON] if body else []
        own = self.own()
        name = _REQUEST_ID.get(self.spec.id)
        if name is not None and status >= 400 and all(key.lower() != name for key, _ in headers):
            own.append((name, self.quoted.encode("latin-1")))
        if self.admitted is not None:
            self.admitted.withdraw(self.gateway.clock())
            headers = self.admitted.headers_on(headers)
        reply.whole(status, [*kind, *headers, *own], body)

    def say_fault(self, fault: Fault, headers: Headers) -> None:
        """An error before the first byte, with its true status."""
        self.say_whole(fault.status, headers, self.spec.error_body(fault, self.quoted))

    def say(self, data: bytes, now: float) -> None:
        """Some bytes of the answer."""
        if data and self.reply is not None:
            self.last_out = now
            self.reply.write(data)

    def finish(self) -> None:
        """Give out what is held, and end the answer. Does nothing where that was done."""
        pipeline, reply = self.pipeline, self.reply
        rest = pipeline.end(None, self.id) if pipeline is not None else b""
        self.reply = None
        if reply is not None:
            if rest:
                reply.write(rest)
            reply.end()

    def break_off(self, fault: Fault) -> None:
        """Tell `fault` in band where that is possible and no error was told, and end the answer so that its end cannot be taken for a good one."""
        pipeline, reply = self.pipeline, self.reply
        spoke = pipeline is not None and (pipeline.may_speak() or pipeline.has_error)
        if pipeline is not None:
            pipeline.observer.assume(self.entry.requested_model, int(self.entry.started_at))
        last = pipeline.end(fault, self.quoted) if pipeline is not None else b""
        self.reply = None
        if reply is None:
            return
        if last:
            reply.write(last)
        if spoke:
            reply.end()
        else:
            reply.abort()
