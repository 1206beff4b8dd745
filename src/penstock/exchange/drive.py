"""One exchange, driven: what the machine says is done here, on the loop, in the callbacks that bring it about.

Per chunk: `answer_body` -> `pipeline.feed` -> `reply.write`. Nothing is awaited and no task is switched there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from penstock.exchange import faults
from penstock.exchange.contract import ClientRequest, Headers, Reply
from penstock.exchange.gateway import Demo, Gateway
from penstock.exchange.machine import Command, Input, Machine, Phase
from penstock.exchange.settle import close_entry, open_entry, read
from penstock.ledger.errors import LedgerFull
from penstock.pipeline.compose import Answer, compose
from penstock.pipeline.contract import Pipeline, State
from penstock.protocols.contract import Peek, ProtocolSpec
from penstock.providers import Provider, response_headers, upstream_request_id
from penstock.routing import Endpoint
from penstock.upstream.contract import Ask, Loss, LossKind, ResponseHead
from penstock.vocabulary.errors import Fault
from penstock.vocabulary.ids import ProtocolId
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome

_JUDGED = 64 * 1024
"""Bytes of an error body that are held to see whether it is about what we added."""
_GONE = Outcome(Ending.CLIENT_GONE, "the client closed its connection", EndedBy.CLIENT)


class Exchange:
    """From routed request to settled row. Implements `upstream.contract.Receiver`; `intake` takes the request in before that."""

    __slots__ = (
        "_ask", "_judged", "_judged_size", "_linger", "_opened", "_paused", "_reply", "again", "chunked", "endpoint", "entry", "gateway",
        "head", "id", "machine", "outcome", "peek", "pipeline", "provider", "query", "request", "sent", "spec", "started",
        "take_usage", "taken", "uploading",
    )

    def __init__(self, gateway: Gateway, request: ClientRequest, reply: Reply) -> None:
        self.gateway = gateway
        self.request: ClientRequest | None = request
        self._reply: Reply | None = reply
        self.started = monotonic()
        self.id = gateway.next_id()
        self.entry = open_entry(self.id, gateway.instance, request)
        self.machine = Machine()
        self.query = request.query
        self.spec: ProtocolSpec = gateway.specs[ProtocolId.OPENAI_CHAT]
        self.endpoint: Endpoint | None = None
        self.peek = Peek(None, stream=False)
        self.provider: Provider | Demo | None = None
        self.sent: tuple[bytes, bytes, bytes] | None = None
        """The upstream request, kept until an answer begins."""
        self.head: ResponseHead | None = None
        self.pipeline: Pipeline | None = None
        self.outcome: Outcome | None = None
        self._ask: Ask | None = None
        self.again: Callable[[], tuple[bytes, bytes, bytes]] | None = None
        """The same request without the field that we added."""
        self.taken = 0
        """Bytes of the shared budget of request bodies that `sent` and `again` stand for."""
        self.take_usage = False
        self._judged: list[bytes] | None = None
        self._judged_size = 0
        self._linger: asyncio.TimerHandle | None = None
        self._opened = False
        self._paused = False
        self.uploading = False
        self.chunked = request.chunked
        gateway.live.add(self)

    # -- the provider's answer -------------------------------------------------------------------------------------------------------

    def answer_began(self, head: ResponseHead, now: float) -> None:
        self.machine.handle(Input.HEAD)
        self.head = head
        self.entry.upstream_status = head.status
        self.entry.upstream_request_id = upstream_request_id(head.headers)
        if self.again is not None and head.status in (400, 422):
            self._judged = []
            return
        self._commit(now)

    def answer_body(self, data: bytes, now: float) -> None:
        pipeline = self.pipeline
        if pipeline is None:
            return self._judge(data, now)
        out = pipeline.feed(data, now)
        reply = self._reply
        if out and reply is not None:
            reply.write(out)
        if pipeline.state is not State.RUNNING and self.machine.phase is Phase.STREAMING:
            self._stopped(pipeline, now)

    def answer_ended(self, now: float) -> None:
        self._ask = None
        if self._judged is not None:
            self._rule(now)
            return
        pipeline = self.pipeline
        if self.machine.phase is Phase.STREAMING and pipeline is not None:
            self.outcome = outcome = pipeline.conclude(True, "")
            if outcome.ending in (Ending.TRUNCATED, Ending.UPSTREAM_LOST):
                self._do(self.machine.handle(Input.LOST), now, faults.truncated(outcome.cause, self._provider_name))
                return
        self._do(self.machine.handle(Input.ENDED), now)

    def answer_lost(self, loss: Loss, now: float) -> None:
        self._ask = None
        phase = self.machine.phase
        if phase is Phase.DIALING and loss.kind is LossKind.STALE and self.sent is not None:
            self._do(self.machine.handle(Input.STALE), now)
            return
        self._judged = None
        fault = faults.lost(loss, self._provider_name)
        if phase is Phase.STREAMING and self.pipeline is not None:
            self.outcome = self.pipeline.conclude(False, loss.cause)
            if self.outcome.ending in (Ending.UPSTREAM_ERROR, Ending.COMPLETE) and self.entry.streamed:
                # The provider said all that it had to say, and then the line broke.
                self._do(self.machine.handle(Input.ENDED), now)
                return
        elif phase is not Phase.SETTLED:
            self.outcome = Outcome(Ending.UPSTREAM_LOST, loss.cause, EndedBy.UPSTREAM)
        self._do(self.machine.handle(Input.LOST), now, fault)

    def upload_paused(self) -> None:
        if self._reply is not None:
            self._reply.pause_upload()

    def upload_resumed(self) -> None:
        if self._reply is not None:
            self._reply.resume_upload()

    # -- the client's body, where it is sent as it comes -------------------------------------------------------------------------------

    def upload(self, data: bytes) -> None:
        if self._ask is not None:
            self._ask.upload(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def upload_end(self) -> None:
        if self._ask is not None:
            if self.chunked:
                self._ask.upload(b"0\r\n\r\n")
            self._ask.upload_end()

    # -- the client ------------------------------------------------------------------------------------------------------------------

    def client_gone(self) -> None:
        self._reply = None
        self._judged = None
        if self.outcome is None:
            self.outcome = _GONE
        self._do(self.machine.handle(Input.CLIENT_GONE), monotonic())

    def client_bad(self, status: int, why: str) -> None:
        """The client's request broke off in a way that is its own fault; the listener has told it."""
        self._reply = None
        self._judged = None
        if self.outcome is None:
            self.outcome = Outcome(Ending.REFUSED, why, EndedBy.GATEWAY)
            self.entry.status = status
        self._do(self.machine.handle(Input.CLIENT_GONE), monotonic())

    def client_paused(self) -> None:
        self._paused = True
        if self._ask is not None:
            self._ask.pause()

    def client_resumed(self) -> None:
        self._paused = False
        if self._ask is not None:
            self._ask.resume()

    def shut_down(self) -> None:
        """The gateway ends this exchange."""
        if self.outcome is None:
            self.outcome = Outcome(Ending.SHUTDOWN, "the gateway shut down", EndedBy.GATEWAY)
        self._judged = None
        self._do(self.machine.handle(Input.SHUTDOWN), monotonic(), faults.DRAINING)

    # -- steps -----------------------------------------------------------------------------------------------------------------------

    @property
    def _provider_name(self) -> str:
        return self.provider.name if self.provider is not None else "?"

    def ask(self, now: float) -> None:
        """Routed: ask the provider. `sent` (and `_again`, `_take_usage`) are set."""
        self._do(self.machine.handle(Input.ROUTED), now)

    def refuse(self, fault: Fault, cause: str, headers: Headers | None = None) -> None:
        """Answer with an error of ours, before anything was asked."""
        if self.machine.phase is not Phase.OPENED:
            return
        now = monotonic()
        self.outcome = Outcome(Ending.REFUSED, cause, EndedBy.GATEWAY)
        if not self.open_row():
            fault = faults.FULL
        self._do(self.machine.handle(Input.REFUSED), now, fault, headers)

    def answer(self, status: int, headers: Headers, body: bytes, cause: str) -> None:
        """Answer from what we know."""
        if self.machine.phase is not Phase.OPENED:
            return
        if not self.open_row():
            self.refuse(faults.FULL, "the ledger is full")
            return
        self.outcome = Outcome(Ending.COMPLETE, cause, EndedBy.GATEWAY)
        self.machine.handle(Input.ANSWERED)
        self.entry.bytes_out = len(body)
        self._reply_whole(status, headers, body)
        self._settle(monotonic())

    def open_row(self) -> bool:
        """Before anything is asked of a provider. False: the ledger is full, and nothing may be asked."""
        if self._opened:
            return True
        try:
            self.gateway.ledger.open(self.entry)
        except LedgerFull:
            return False
        self._opened = True
        return True

    def _do(self, commands: tuple[Command, ...], now: float, fault: Fault = faults.SELF, headers: Headers | None = None) -> None:
        for command in commands:
            if command is Command.SETTLE:
                self._settle(now)
            elif command is Command.FINISH:
                self._finish()
            elif command is Command.ASK:
                self._send(fresh=False)
            elif command is Command.ASK_FRESH:
                self._send(fresh=True)
            elif command is Command.REFUSE:
                self._refuse(fault, headers)
            elif command is Command.BREAK:
                self._break(fault)
            elif command is Command.CANCEL:
                self._cancel()
            elif command is Command.LINGER and self._ask is not None:
                self._linger = asyncio.get_running_loop().call_later(self.gateway.settings.linger, self._lingered)

    def _send(self, *, fresh: bool) -> None:
        provider, sent = self.provider, self.sent
        endpoint = self.endpoint
        assert endpoint is not None
        if isinstance(provider, Demo):
            self._ask = self.gateway.ask_demo(self.spec, endpoint.operation, self.peek, not self._array_asked(), self)
            return
        assert provider is not None and sent is not None  # noqa: PT018
        if self.uploading:
            self.sent = None  # what was sent as it came cannot be sent again
        # Nothing comes back before `ask` has returned.
        self._ask = ask = self.gateway.client.ask(provider.origin, sent, self, head_only=sent[0] == b"HEAD", uploading=self.uploading, fresh=fresh)
        if self._paused:
            ask.pause()

    def _array_asked(self) -> bool:
        asked = self.spec.array_asked
        return self.peek.stream and asked is not None and asked(self.query)

    def _commit(self, now: float) -> None:
        """The head goes to the client; from here there is one answer."""
        self.machine.handle(Input.COMMIT)
        head, reply, endpoint = self.head, self._reply, self.endpoint
        assert head is not None and endpoint is not None  # noqa: PT018
        observer = self.spec.observer(endpoint.operation)
        array = self._array_asked()
        answer = Answer(head.status, head.content_type, head.content_encoding, head.delimited, self.peek.stream, array)
        gateway = self.gateway
        mode = compose(answer, observer, self.spec, gateway.settings.limits, gateway.held, now, take_usage=self.take_usage)
        self.pipeline = mode.pipeline
        entry = self.entry
        entry.status = head.status
        entry.streamed = mode.streamed
        headers = response_headers(head.headers)
        if mode.decoded:
            headers = [pair for pair in headers if pair[0].lower() != b"content-encoding"]
        headers.append((b"x-penstock-id", self.id.encode()))
        if reply is not None:
            reply.head(head.status, headers, None if mode.streamed or mode.decoded else head.content_length)
        self.head = None  # used up; a stream must not carry it along
        self._let_go()

    def _let_go(self) -> None:
        """The request is no longer needed."""
        self.request = self.sent = self.again = None
        if self.taken:
            self.gateway.peeked.give(self.taken)
            self.taken = 0

    def _stopped(self, pipeline: Pipeline, now: float) -> None:
        if pipeline.state is State.ENDED:
            self.outcome = pipeline.conclude(True, "")
            self._do(self.machine.handle(Input.TERMINAL), now)
        elif pipeline.state is State.BROKEN:
            self._cancel()
            self.answer_lost(Loss(LossKind.GARBAGE, "the provider's answer is not the gzip that it says it is"), now)

    def _judge(self, data: bytes, now: float) -> None:
        judged = self._judged
        if judged is None:
            return
        judged.append(data)
        self._judged_size += len(data)
        if self._judged_size > _JUDGED:
            self._release(now)

    def _rule(self, now: float) -> None:
        """The provider answered 400 or 422 to a request to which we had added a field: is that why?"""
        body = b"".join(self._judged or ())
        again = self.again
        if again is not None and (b"stream_options" in body or b"include_usage" in body):
            self.gateway.no_usage_field.add(self._provider_name)
            self.entry.retries = (self.entry.retries or 0) + 1
            self.sent, self.again, self._judged, self.take_usage = again(), None, None, False
            self._do(self.machine.handle(Input.AGAIN), now)
            return
        self._release(now)
        self.answer_ended(now)

    def _release(self, now: float) -> None:
        held, self._judged = self._judged or [], None
        self._commit(now)
        for piece in held:
            self.answer_body(piece, now)

    def _lingered(self) -> None:
        self._linger = None
        self._do(self.machine.handle(Input.LINGERED), monotonic())

    def _finish(self) -> None:
        self.gateway.live.discard(self)
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        pipeline, reply = self.pipeline, self._reply
        self._reply = None
        rest = pipeline.end(None, self.id) if pipeline is not None else b""
        if reply is not None:
            if rest:
                reply.write(rest)
            reply.end()

    def _break(self, fault: Fault) -> None:
        pipeline, reply = self.pipeline, self._reply
        self._reply = None
        spoke = pipeline is not None and pipeline.may_speak()
        last = pipeline.end(fault, self.id) if pipeline is not None else b""
        if reply is None:
            return
        if last:
            reply.write(last)
        if spoke:
            reply.end()
        else:
            reply.abort()

    def _refuse(self, fault: Fault, headers: Headers | None) -> None:
        self._reply_whole(fault.status, headers or [], self.spec.error_body(fault, self.id))

    def _reply_whole(self, status: int, headers: Headers, body: bytes) -> None:
        reply, self._reply = self._reply, None
        self.entry.status = status
        if reply is None:
            return
        kind: Headers = [(b"content-type", b"application/json")] if body else []
        reply.head(status, [*kind, *headers, (b"x-penstock-id", self.id.encode())], len(body))
        if body:
            reply.write(body)
        reply.end()

    def _cancel(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        self.gateway.live.discard(self)
        ask, self._ask = self._ask, None
        if ask is not None:
            ask.cancel()

    def _settle(self, now: float) -> None:
        outcome = self.outcome or Outcome(Ending.CRASHED, "no outcome was known: a mistake of the gateway", EndedBy.GATEWAY)
        if self.pipeline is not None:
            if outcome is _GONE:
                # What had come until then: the figures so far.
                self.pipeline.conclude(False, outcome.cause)
            read(self.entry, self.pipeline, self.started, now)
            if self.machine.phase is Phase.SETTLED and outcome is _GONE:
                self.pipeline.close()
        if self._ask is None:
            self.gateway.live.discard(self)
        first = close_entry(self.entry, outcome, self.started, now)
        self._let_go()
        if first and self.gateway.on_settled is not None:
            self.gateway.on_settled(self.entry)
