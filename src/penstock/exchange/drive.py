"""One exchange, driven: what the machine says is done here, on the loop, in the callbacks that bring it about.

Per chunk: `answer_body` -> `pipeline.feed` -> `reply.write`. Nothing is awaited and no task is switched there. A mistake of ours in any
callback ends this exchange, with a row, and reaches no other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic

from penstock.exchange import faults
from penstock.exchange.contract import ClientRequest, Headers, Reply
from penstock.exchange.gateway import Demo, Gateway
from penstock.exchange.judge import Judge
from penstock.exchange.machine import Command, Input, Machine, Phase
from penstock.exchange.plan import Plan
from penstock.exchange.settle import close_entry, read
from penstock.exchange.telling import Telling
from penstock.pipeline.compose import Answer, compose
from penstock.pipeline.contract import Pipeline, State
from penstock.protocols.contract import Peek
from penstock.providers import Provider, response_headers, upstream_request_id
from penstock.upstream.contract import Ask, Loss, LossKind, ResponseHead
from penstock.vocabulary.errors import Fault
from penstock.vocabulary.ids import Operation
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome

log = logging.getLogger(__name__)
Sent = tuple[bytes, bytes, bytes]
"""An upstream request: method, target, and the rest from the first header line on."""
_GONE = Outcome(Ending.CLIENT_GONE, "the client closed its connection", EndedBy.CLIENT)
# Members of enumerations by names of their own: an attribute of an Enum class costs six times a global, and this runs per chunk.
_RUNNING, _ENDED = State.RUNNING, State.ENDED
_OPENED, _DIALING, _STREAMING, _SETTLED = Phase.OPENED, Phase.DIALING, Phase.STREAMING, Phase.SETTLED
_SETTLE, _FINISH, _ASK, _SEND_HEAD = Command.SETTLE, Command.FINISH, Command.ASK, Command.SEND_HEAD
_HEAD, _COMMIT, _ROUTED, _UPSTREAM_ENDED = Input.HEAD, Input.COMMIT, Input.ROUTED, Input.ENDED


class Exchange(Telling):
    """From routed request to settled row. Implements `upstream.contract.Receiver`; `intake` takes the request in before that."""

    __slots__ = (
        "_ask", "_judge", "_linger", "_paused", "_retried", "_unknown_id", "again", "chunked", "head", "machine", "outcome", "peek",
        "plan", "provider", "request", "sent", "started", "take_usage", "taken", "uploading",
    )  # fmt: skip

    def __init__(self, gateway: Gateway, request: ClientRequest, reply: Reply) -> None:
        super().__init__(gateway, request, reply)
        self.started = monotonic()
        self.request: ClientRequest | None = request
        self.machine = Machine()
        self.plan: Plan | None = None
        self.peek = Peek(None, stream=False)
        self.provider: Provider | Demo | None = None
        self.sent: Sent | None = None
        """The upstream request, kept until an answer begins."""
        self.again: Callable[[], Sent] | None = None
        """The same request without the field that we added."""
        self.taken = 0
        """Bytes of the shared budget of request bodies that this exchange holds."""
        self.take_usage = False
        self.uploading = False
        self.chunked = request.chunked
        self.head: ResponseHead | None = None
        self.outcome: Outcome | None = None
        self._ask: Ask | None = None
        self._judge: Judge | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._paused = False
        self._retried = False  # without the field that we added
        self._unknown_id = False  # a response whose id others may ask for while it is made
        gateway.live.add(self)

    # -- the provider's answer -------------------------------------------------------------------------------------------------------

    def answer_began(self, head: ResponseHead, now: float) -> None:
        try:
            self.machine.handle(_HEAD)
            self.head = head
            self.entry.upstream_status = head.status
            self.entry.upstream_request_id = upstream_request_id(head.headers)
            if self._retried and head.status < 400:
                self.gateway.no_usage_field.add(self._provider_name)
            if self.again is not None and head.status in (400, 422):
                self._judge = Judge(head.content_encoding)
            else:
                self._commit(now)
        except Exception as error:
            self.fail(error)

    def answer_body(self, data: bytes, now: float) -> None:
        try:
            pipeline = self.pipeline
            if pipeline is None:
                return self._hold(data, now)
            out = pipeline.feed(data, now)
            reply = self.reply
            if out and reply is not None:
                reply.write(out)
            if pipeline.state is not _RUNNING and self.machine.phase is _STREAMING:
                self._stopped(pipeline, now)
            elif self._unknown_id and pipeline.observer.response_id is not None:
                self._unknown_id = False
                self.gateway.ledger.remember(pipeline.observer.response_id, self._provider_name)
        except Exception as error:
            self.fail(error)

    def answer_ended(self, now: float) -> None:
        try:
            self._ask = None
            if self._judge is not None:
                self._rule(now)
                return
            pipeline = self.pipeline
            if self.machine.phase is _STREAMING and pipeline is not None:
                self.outcome = outcome = pipeline.conclude(True, "")
                if outcome.ending in (Ending.TRUNCATED, Ending.UPSTREAM_LOST):
                    self._do(self.machine.handle(Input.LOST), now, faults.truncated(outcome.cause, self._provider_name))
                    return
            self._do(self.machine.handle(_UPSTREAM_ENDED), now)
        except Exception as error:
            self.fail(error)

    def answer_lost(self, loss: Loss, now: float) -> None:
        try:
            self._ask = self._judge = None
            phase = self.machine.phase
            if phase is _DIALING and loss.kind is LossKind.STALE and self.sent is not None:
                self._do(self.machine.handle(Input.STALE), now)
                return
            if phase is _STREAMING and self.pipeline is not None:
                self.outcome = self.pipeline.conclude(False, loss.cause)
                if self.outcome.ending is Ending.COMPLETE:
                    # The provider said all that it had to say, and then the line broke.
                    self._do(self.machine.handle(_UPSTREAM_ENDED), now)
                    return
            elif phase is not _SETTLED:
                self.outcome = faults.outcome_of(loss)
            self._do(self.machine.handle(Input.LOST), now, faults.lost(loss, self._provider_name))
        except Exception as error:
            self.fail(error)

    def upload_paused(self) -> None:
        if self.reply is not None:
            self.reply.pause_upload()

    def upload_resumed(self) -> None:
        if self.reply is not None:
            self.reply.resume_upload()

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

    def client_gone(self, outcome: Outcome = _GONE) -> None:
        """The client left; or, with another outcome, was sent away by the listener."""
        self.reply = self._judge = None
        if self.machine.phase is _OPENED:
            self.open_row()
        if self.outcome is None:
            self.outcome = outcome
        self._do(self.machine.handle(Input.CLIENT_GONE), monotonic())
        if self.pipeline is not None:
            self.pipeline.close()

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
        if self.machine.phase is _OPENED:
            self.open_row()
        if self.outcome is None:
            self.outcome = Outcome(Ending.SHUTDOWN, "the gateway shut down", EndedBy.GATEWAY)
        self._judge = None
        self._do(self.machine.handle(Input.SHUTDOWN), monotonic(), faults.DRAINING)

    # -- steps -----------------------------------------------------------------------------------------------------------------------

    @property
    def _provider_name(self) -> str:
        return self.provider.name if self.provider is not None else "?"

    def ask(self, now: float) -> None:
        """Routed: ask the provider. `sent` (and `again`, `take_usage`) are set."""
        self._do(self.machine.handle(_ROUTED), now)

    def refuse(self, fault: Fault, cause: str, headers: Headers | None = None) -> None:
        """Answer with an error of ours, before anything was asked."""
        if self.machine.phase is not _OPENED:
            return
        self.outcome = Outcome(Ending.REFUSED, cause, EndedBy.GATEWAY)
        if not self.open_row():
            fault, headers = faults.FULL, faults.SOON
        self._do(self.machine.handle(Input.REFUSED), monotonic(), fault, headers or [])

    def answer(self, status: int, headers: Headers, body: bytes, cause: str) -> None:
        """Answer from what we know."""
        if self.machine.phase is not _OPENED:
            return
        if not self.open_row():
            self.refuse(faults.FULL, "the ledger is full", faults.SOON)
            return
        self.outcome = Outcome(Ending.COMPLETE, cause, EndedBy.GATEWAY)
        self.entry.bytes_out = len(body)
        self.say_whole(status, headers, body)
        self._do(self.machine.handle(Input.ANSWERED), monotonic())

    def fail(self, error: Exception) -> None:
        """A mistake of ours: end this exchange, whatever its phase, and reach nobody else."""
        log.error("exchange %s: %s", self.id, type(error).__name__, exc_info=error)
        self.machine.phase = _SETTLED
        self._judge = None
        self._cancel()
        self.open_row()
        began = self.pipeline is not None
        if began and self.pipeline is not None:
            self.pipeline.close()
        if self.reply is not None:
            if began:
                reply, self.reply = self.reply, None
                reply.abort()
            else:
                self.say_fault(faults.SELF, [])
        ending = Ending.UNVERIFIED if began else Ending.REFUSED
        outcome = Outcome(ending, f"a mistake of the gateway ({type(error).__name__})", EndedBy.GATEWAY)
        self._close_row(outcome, monotonic())

    def _do(self, commands: tuple[Command, ...], now: float, fault: Fault = faults.SELF, headers: Headers = faults.NONE) -> None:
        for command in commands:
            if command is _SETTLE:
                self._settle(now)
            elif command is _FINISH:
                self._stop_lingering()
                self.finish()
            elif command is _SEND_HEAD:
                self._send_head(now)
            elif command is _ASK:
                self._send(fresh=False)
            elif command is Command.ASK_FRESH:
                self._send(fresh=True)
            elif command is Command.REFUSE:
                self.say_fault(fault, headers)
            elif command is Command.BREAK:
                self.break_off(fault)
            elif command is Command.CANCEL:
                self._cancel()
            elif command is Command.LINGER and self._ask is not None:
                self._linger = asyncio.get_running_loop().call_later(self.gateway.settings.linger, self._lingered)

    def _send(self, *, fresh: bool) -> None:
        provider, sent, plan = self.provider, self.sent, self.plan
        assert plan is not None
        if isinstance(provider, Demo):
            self._ask = ask = self.gateway.ask_demo(self.spec, plan.endpoint.operation, self.peek, not self._array_asked(), self)
        else:
            assert provider is not None
            assert sent is not None
            if self.uploading:
                self.sent = None  # what was sent as it came cannot be sent again
            # Nothing comes back before `ask` has returned.
            self._ask = ask = self.gateway.client.ask(
                provider.origin, sent, self, head_only=sent[0] == b"HEAD", uploading=self.uploading, fresh=fresh)
        if self._paused:
            ask.pause()

    def _array_asked(self) -> bool:
        asked = self.spec.array_asked
        return self.peek.stream and asked is not None and self.plan is not None and asked(self.plan.query)

    def _commit(self, now: float) -> None:
        """The head goes to the client; from here there is one answer."""
        self._do(self.machine.handle(_COMMIT), now)

    def _send_head(self, now: float) -> None:
        head, reply, plan, gateway = self.head, self.reply, self.plan, self.gateway
        assert head is not None
        assert plan is not None
        endpoint = plan.endpoint
        operation = endpoint.operation
        answer = Answer(
            operation, head.status, head.content_type, head.content_encoding, head.delimited, self.peek.stream, self._array_asked(),
            take_usage=self.take_usage, stored=endpoint.content)  # fmt: skip
        mode = compose(answer, self.spec, gateway.settings.limits, gateway.held, now)
        self.pipeline = mode.pipeline
        self._unknown_id = operation is Operation.RESPONSES
        entry = self.entry
        entry.status = head.status
        entry.streamed = mode.streamed
        headers = response_headers(head.headers, gateway.settings.drop_response_headers)
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
        if pipeline.state is _ENDED:
            self.outcome = pipeline.conclude(True, "")
            self._do(self.machine.handle(Input.TERMINAL), now)
        elif pipeline.state is State.BROKEN:
            self._cancel()
            self.answer_lost(Loss(LossKind.GARBAGE, "the provider's answer is not the gzip that it says it is"), now)

    # -- an answer that may be about what we added -------------------------------------------------------------------------------------

    def _hold(self, data: bytes, now: float) -> None:
        if self._judge is not None and not self._judge.hold(data):
            self._release(now)

    def _rule(self, now: float) -> None:
        again = self.again
        if again is not None and self._judge is not None and self._judge.is_about_usage():
            self.entry.retries = (self.entry.retries or 0) + 1
            self.sent, self.again, self._judge, self.take_usage, self._retried = again(), None, None, False, True
            self._do(self.machine.handle(Input.AGAIN), now)
            return
        self._release(now)
        self.answer_ended(now)

    def _release(self, now: float) -> None:
        held, self._judge = self._judge, None
        self._commit(now)
        for piece in held.pieces if held is not None else ():
            self.answer_body(piece, now)

    # -- the end -----------------------------------------------------------------------------------------------------------------------

    def _lingered(self) -> None:
        self._linger = None
        try:
            self._do(self.machine.handle(Input.LINGERED), monotonic())
        except Exception as error:
            self.fail(error)

    def _stop_lingering(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None

    def _cancel(self) -> None:
        self._stop_lingering()
        self.gateway.live.discard(self)
        ask, self._ask = self._ask, None
        if ask is not None:
            ask.cancel()

    def _settle(self, now: float) -> None:
        outcome = self.outcome or Outcome(Ending.UNVERIFIED, "no outcome was known: a mistake of the gateway", EndedBy.GATEWAY)
        pipeline = self.pipeline
        if pipeline is not None:
            if outcome is _GONE:
                pipeline.conclude(False, outcome.cause)  # what had come until then: the figures so far
            read(self.entry, pipeline, self.started)
        if self._ask is None:
            self.gateway.live.discard(self)
        self._close_row(outcome, now)

    def _close_row(self, outcome: Outcome, now: float) -> None:
        first = close_entry(self.entry, outcome, self.started, now)
        self._let_go()
        if first and self.gateway.on_settled is not None:
            self.gateway.on_settled(self.entry)
