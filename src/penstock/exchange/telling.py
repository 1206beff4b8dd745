"""What the client of one exchange is told: whole answers, the ends of streams, refusals. Part of `drive`."""

from __future__ import annotations

from penstock.exchange.contract import ClientRequest, Headers, Reply
from penstock.exchange.gateway import Gateway
from penstock.exchange.settle import open_entry
from penstock.ledger.entry import Entry
from penstock.ledger.errors import LedgerFull
from penstock.pipeline.contract import Pipeline
from penstock.protocols.contract import ProtocolSpec
from penstock.vocabulary.errors import Fault
from penstock.vocabulary.ids import ProtocolId


class Telling:
    """The reply, and the row that goes with it. After `reply` is gone nothing is told any more."""

    __slots__ = ("_opened", "entry", "gateway", "id", "pipeline", "reply", "spec")

    def __init__(self, gateway: Gateway, request: ClientRequest, reply: Reply) -> None:
        self.gateway = gateway
        self.reply: Reply | None = reply
        self.id = gateway.next_id()
        self.entry: Entry = open_entry(self.id, gateway.instance, request)
        self.spec: ProtocolSpec = gateway.specs[ProtocolId.OPENAI_CHAT]
        """Of the client; until the path is known, the one that most clients read."""
        self.pipeline: Pipeline | None = None
        self._opened = False

    def open_row(self) -> bool:
        """Before anything is asked of a provider. False: the ledger is full, and nothing may be asked."""
        if not self._opened:
            try:
                self.gateway.ledger.open(self.entry)
            except LedgerFull:
                return False
            self._opened = True
        return True

    def say_whole(self, status: int, headers: Headers, body: bytes) -> None:
        """A whole answer of ours."""
        reply, self.reply = self.reply, None
        self.entry.status = status
        if reply is None:
            return
        kind: Headers = [(b"content-type", b"application/json")] if body else []
        reply.head(status, [*kind, *headers, (b"x-penstock-id", self.id.encode())], len(body))
        if body:
            reply.write(body)
        reply.end()

    def say_fault(self, fault: Fault, headers: Headers) -> None:
        """An error before the first byte, with its true status."""
        self.say_whole(fault.status, headers, self.spec.error_body(fault, self.id))

    def finish(self) -> None:
        """Give out what is held, and end the answer. Does nothing where that was done."""
        self.gateway.live.discard(self)  # pyright: ignore[reportArgumentType]  # an Exchange, which is what the set holds
        pipeline, reply = self.pipeline, self.reply
        rest = pipeline.end(None, self.id) if pipeline is not None else b""
        self.reply = None
        if reply is not None:
            if rest:
                reply.write(rest)
            reply.end()

    def break_off(self, fault: Fault) -> None:
        """Tell `fault` in band where that is possible, and end the answer so that its end cannot be taken for a good one."""
        pipeline, reply = self.pipeline, self.reply
        spoke = pipeline is not None and pipeline.may_speak()
        last = pipeline.end(fault, self.id) if pipeline is not None else b""
        self.reply = None
        if reply is None:
            return
        if last:
            reply.write(last)
        if spoke:
            reply.end()
        else:
            reply.abort()
