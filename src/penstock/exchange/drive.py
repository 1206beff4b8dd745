"""One exchange, driven: what the machine says is done here, on the loop, in the callbacks that bring it about.

Per chunk: `answer_body` -> `pipeline.feed` -> `reply.write`. Nothing is awaited and no task is switched there. A mistake of ours in any
callback ends this exchange, with a row, and reaches no other.
"""

from __future__ import annotations

import logging
from typing import cast

from penstock.exchange import faults
from penstock.exchange.compose_answer import names_of
from penstock.exchange.contract import ClientRequest, Headers, Reply
from penstock.exchange.gateway import Gateway
from penstock.exchange.joining import Joining
from penstock.exchange.leaving import GONE as _GONE
from penstock.exchange.machine import Command, Input, Phase
from penstock.exchange.metering import Metering
from penstock.exchange.settle import close_entry, read, read_tail
from penstock.exchange.stage import BODY, FLOWING, FRAME, GATHERED, JUDGED, WEIGHED
from penstock.pipeline.contract import Pipeline, State
from penstock.pipeline.stream import StreamRelay
from penstock.upstream.contract import Loss, LossKind, ResponseHead
from penstock.vocabulary.errors import Fault
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome

log = logging.getLogger(__name__)
# Members of enumerations by names of their own: an attribute of an Enum class costs six times a global, and this runs per chunk.
_RUNNING, _ENDED, _LOOK = State.RUNNING, State.ENDED, State.LOOK
_OPENED, _DIALING, _HEAD_HELD, _EARLY, _STREAMING, _SETTLED = (
    Phase.OPENED, Phase.DIALING, Phase.HEAD_HELD, Phase.EARLY, Phase.STREAMING, Phase.SETTLED)
_DRAINING, _BY_CLIENT = Phase.DRAINING, EndedBy.CLIENT
_SETTLE, _FINISH, _ASK, _SEND_HEAD = Command.SETTLE, Command.FINISH, Command.ASK, Command.SEND_HEAD
_CANCEL, _LINGER, _TERMINAL, _COMPLETE = Command.CANCEL, Command.LINGER, Input.TERMINAL, Ending.COMPLETE
_HEAD, _COMMIT, _ROUTED, _UPSTREAM_ENDED = Input.HEAD, Input.COMMIT, Input.ROUTED, Input.ENDED
_NOT_WHOLE = frozenset({Ending.TRUNCATED, Ending.UPSTREAM_LOST})
_TRYING = frozenset({Phase.DIALING, Phase.HEAD_HELD, Phase.EARLY})


class Exchange(Metering, Joining):
    """From routed request to settled row. Implements `upstream.contract.Receiver`; `intake` takes the request in before that."""

    def __init__(self, gateway: Gateway, request: ClientRequest, reply: Reply) -> None:
        super().__init__(gateway, request, reply)
        self._stage = FLOWING
        gateway.watch(self)

    # -- the provider's answer -------------------------------------------------------------------------------------------------------

    def answer_began(self, head: ResponseHead, now: float) -> None:
        try:
            self.machine.handle(_HEAD)
            self.head = head
            record = self.record
            if record is not None:
                record.status, record.headers = head.status, head.headers
                self.start_notes(record)
            entry = self.entry
            entry.head_ms = (now - self.started) * 1e3
            dialed = self._ask.dialed_at if self._ask is not None else None
            if dialed is not None:
                entry.dial_ms = (dialed - self.started) * 1e3
            entry.upstream_status = status = head.status
            entry.upstream_request_id = names_of(head, self.gateway.settings.drop_response_headers).request_id(head.headers)
            if status < 400:
                if self._retried:
                    self.gateway.note_no_usage_field(self.provider_name, self.peek.model)
            elif self.as_stream is None and self._again_after_status(head):
                return
            self._weigh(head, now)
        except Exception as error:
            self.fail(error)

    def answer_body(self, data: bytes, now: float) -> None:
        try:
            noted = self.noted
            if noted is not None:
                self.noted = self.gateway.note(noted, data) or self.note_slowly(data)
            pipeline = self.pipeline
            if self._stage or pipeline is None:
                self._hold(data, now)
                return
            out = pipeline.feed(data, now)
            reply = self.reply
            if out and reply is not None:
                self.last_out = now
                reply.write(out)
            if pipeline.state is not _RUNNING and (self.machine.phase is _STREAMING or pipeline.state is _LOOK):
                self._stopped(pipeline, now)
        except Exception as error:
            self.fail(error)

    def answer_ended(self, now: float) -> None:
        try:
            self._ask = None
            if self.record is not None or self.flight is not None:
                self.end_notes(True, now)
            if self._is_empty_error():
                self._await_judgement()
            stage, pipeline = self._stage, self.pipeline
            if stage is JUDGED:
                self._judged(now, whole=True)
                return
            if stage is GATHERED or stage is WEIGHED:
                self._gathered(now, over=True) if stage is GATHERED else self._give_weighed(now)
                return
            phase = self.machine.phase
            if pipeline is not None and phase is not _SETTLED and phase is not _DRAINING:
                self.outcome = outcome = pipeline.conclude(True, "")
                if outcome.ending in _NOT_WHOLE or (outcome.ending is not _COMPLETE and stage is FLOWING and pipeline.mute):
                    if (stage is not FRAME and stage is not BODY) or not self._once_more_after_frame(outcome.cause):
                        self._do(self.machine.handle(Input.LOST), now, faults.truncated(outcome.cause, self.provider_name))
                    return
                if stage is BODY or stage is FRAME:
                    self._open_up(now)
            elif pipeline is not None and phase is _DRAINING:
                self._whole = pipeline.conclude(True, "").ending is Ending.COMPLETE  # and for its figures
            self._do(self.machine.handle(_UPSTREAM_ENDED), now)
        except Exception as error:
            self.fail(error)

    def answer_lost(self, loss: Loss, now: float) -> None:
        try:
            self._ask = None
            phase, pipeline, stage = self.machine.phase, self.pipeline, self._stage
            if phase is _SETTLED:
                self.end_notes(loss, now)
                self._do(self.machine.handle(Input.LOST), now)
                return
            if loss.kind is LossKind.STALE and self.head is None and self.sent is not None:
                self.note_try(None, loss.cause)
                self._do(self.machine.handle(Input.STALE), now)
                return
            if self.record is not None:
                self.end_notes(loss, now)
            if stage is GATHERED:
                self._gathering_lost(loss, now)
                return
            if phase is _DRAINING:
                pass  # the client left before
            elif (stage is JUDGED or stage is BODY) and self._judged_half(loss.cause, now):
                return
            elif pipeline is not None and (self._early is None or stage is FRAME) and stage is not JUDGED:
                self.outcome = pipeline.conclude(False, loss.cause)
                if self.outcome.ending is Ending.COMPLETE:
                    # The provider said all that it had to say, and then the line broke.
                    self._do(self.machine.handle(_UPSTREAM_ENDED), now)
                    return
            else:
                self.outcome = faults.outcome_of(loss)
                if self.outcome.ending is Ending.TIMED_OUT:
                    self.entry.timer = "connect"
            status = self.head.status if self.head is not None else None
            if phase in _TRYING and self.can_try and self._once_more(self.tries.after_loss(loss.kind, self.gateway.dice()), status, loss.cause):
                return
            self._do(self.machine.handle(Input.LOST), now, faults.lost(loss, self.provider_name))
        except Exception as error:
            self.fail(error)

    def noticed(self, text: str, now: float) -> None:
        """What came with 200 is a notice of the provider's, and no answer."""
        try:
            if self.machine.phase not in (_DRAINING, _SETTLED):
                self.outcome = faults.NOTICE
            self.entry.upstream_status = 200
            self._do(self.machine.handle(Input.FAILED), now, faults.notice(text, self.provider_name, self.known()))
        except Exception as error:
            self.fail(error)

    # -- the client ------------------------------------------------------------------------------------------------------------------

    def client_gone(self, outcome: Outcome = _GONE) -> None:
        """The client left; or, with another outcome, was sent away by the listener."""
        if outcome is _GONE and (self.record is not None or self.source is not None):
            self._note_left()
        if self._reads_on(outcome):
            return
        self.reply = self._judge = None
        if self.machine.phase is _OPENED:
            self.open_row()
        if self.outcome is None:
            self.outcome = self._said() or outcome
        self._do(self.machine.handle(Input.CLIENT_GONE), self.gateway.clock())
        if self.pipeline is not None:
            self.pipeline.close()

    def client_paused(self) -> None:
        self.stall(self.gateway.clock())
        self.read_or_not()

    def client_resumed(self) -> None:
        self.excuse(self.gateway.clock())
        if self._ask is not None:
            self.read_or_not()
        elif self._stage is GATHERED:
            self.tell_later(0.0)

    def shut_down(self) -> None:
        """The gateway ends this exchange."""
        if self.machine.phase is _OPENED:
            self.open_row()
        now = self.gateway.clock()
        if self.outcome is None:
            if self._ended_for_it(now):
                return
            self.outcome = Outcome(Ending.SHUTDOWN, "the gateway shut down", EndedBy.GATEWAY)
        self._judge = None
        self._do(self.machine.handle(Input.SHUTDOWN), now, faults.DRAINING, faults.SOON)

    # -- steps -----------------------------------------------------------------------------------------------------------------------

    def ask(self, now: float) -> None:
        """Routed: ask the provider. `sent` (and `again`, `take_usage`) are set."""
        self.due = 0.0
        self._do(self.machine.handle(_ROUTED), now)

    def refuse(self, fault: Fault, cause: str, headers: Headers | None = None) -> None:
        """Answer with an error of ours, before anything was asked."""
        if self.machine.phase is not _OPENED:
            return
        self.outcome = Outcome(Ending.REFUSED, cause, EndedBy.GATEWAY)
        if not self.open_row():
            fault, headers = faults.FULL, faults.SOON
        self._do(self.machine.handle(Input.REFUSED), self.gateway.clock(), fault, headers or [])

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
        self._do(self.machine.handle(Input.ANSWERED), self.gateway.clock())

    def expire(self, timer: str, cause: str, now: float, ended_by: EndedBy = EndedBy.GATEWAY) -> None:
        """A timer ran out."""
        if ended_by is EndedBy.CLIENT and self.reply is not None:  # it takes no last word either
            if self.record is not None or self.source is not None:
                self._note_left()
            reply, self.reply = self.reply, None
            reply.abort()
        if self._ended_for_it(now, stalled=timer == "client_stall"):
            return
        if self.machine.phase is not _DRAINING:
            self.entry.timer = timer
            outcome = Outcome(Ending.TIMED_OUT, cause, ended_by)
            if self.followed and self._reads_on(outcome):
                return
            if self._stage in (JUDGED, BODY) and self.reply is not None and self._judged_half(cause, now, Input.FAILED):
                return
            self.outcome = outcome
        self._do(self.machine.handle(Input.FAILED), now, faults.timed_out(cause, self.provider_name), self._beside())

    def open_early(self, now: float) -> None:
        """The client has waited long enough for a head."""
        if self.machine.phase is _HEAD_HELD and self._stage is FRAME:
            self._open_up(now)
            if not self.last_out and self.pipeline is not None:
                self.say(self.pipeline.keepalive(), now)  # a head leaves with what follows it
        elif self._stage is FLOWING:
            self._do(self.machine.handle(Input.EARLY), now)
        elif self._stage is GATHERED:
            self.open_told(now)

    def fail(self, error: Exception) -> None:
        """A mistake of ours: end this exchange, whatever its phase, and reach nobody else."""
        log.error("exchange %s: %s", self.id, type(error).__name__, exc_info=error)
        began = self.machine.phase in (_STREAMING, _EARLY) or (self.machine.phase is _SETTLED and self.pipeline is not None)
        self.machine.phase = _SETTLED
        self._judge = None
        self.cancel()
        self.open_row()
        if self.pipeline is not None:
            self.pipeline.close()
        if self.reply is not None:
            if began:
                reply, self.reply = self.reply, None
                reply.abort()
            else:
                self.say_fault(faults.SELF, [])
        self.leave()
        ending = Ending.UNVERIFIED if began else Ending.REFUSED
        outcome = Outcome(ending, f"a mistake of the gateway ({type(error).__name__})", EndedBy.GATEWAY)
        self._close_row(outcome, self.gateway.clock())

    def _do(self, commands: tuple[Command, ...], now: float, fault: Fault = faults.SELF, headers: Headers = faults.NONE) -> None:
        for command in commands:
            if command is _SETTLE:
                self._settle(now)
            elif command is _FINISH:
                self.stop_waiting()
                self.leave()
                self.finish()
            elif command is _SEND_HEAD:
                self._send_head()
            elif command is _ASK:
                self.send(self, fresh=False)
            elif command is _LINGER:
                if self._ask is not None:
                    self.lingers_until = self.due = now + self.gateway.settings.linger
            elif command is _CANCEL:
                self.cancel()
                self.leave()
            elif command is Command.ASK_FRESH:
                self.send(self, fresh=True)
            elif command is Command.REFUSE:
                self.say_whole(*self._last_words) if self._last_words is not None else self.say_fault(fault, headers)
            elif command is Command.BREAK:
                self.break_off(fault)
            elif command is Command.SEND_EARLY:
                self._send_early(now)

    # -- the end -----------------------------------------------------------------------------------------------------------------------

    def _stopped(self, pipeline: Pipeline, now: float) -> None:
        if pipeline.state is _LOOK:
            cast("StreamRelay", pipeline).look(now)
        elif self.machine.phase is _DRAINING:
            self._do(self.machine.handle(_TERMINAL), now)
        elif pipeline.state is _ENDED:
            self.outcome = pipeline.conclude(True, "")
            self._do(self.machine.handle(_TERMINAL), now)
        elif pipeline.state is State.CUT:
            self._end_as_said(pipeline.conclude(False, ""), now)
        elif pipeline.state is State.BROKEN:
            self.cancel()
            self.answer_lost(Loss(LossKind.GARBAGE, "the provider's answer is not the gzip that it says it is"), now)

    def send_again(self) -> None:
        """Another try; the pause before it is over."""
        self._pausing = None
        try:
            self.send(self, fresh=False)
        except Exception as error:
            self.fail(error)

    def lingered(self, now: float) -> None:
        """The provider did not end its answer."""
        self._do(self.machine.handle(Input.LINGERED), now)

    def _settle(self, now: float) -> None:
        outcome = self.outcome or Outcome(Ending.UNVERIFIED, "no outcome was known: a mistake of the gateway", EndedBy.GATEWAY)
        pipeline = self.pipeline
        if outcome.ending is not _COMPLETE:
            self.known()
        if pipeline is not None:
            if outcome.ended_by is _BY_CLIENT:
                self._whole = pipeline.conclude(False, outcome.cause).ending is Ending.COMPLETE or self._whole  # and the figures so far
            read(self.entry, pipeline, self.started)
            if outcome.ending is not _COMPLETE:
                read_tail(self.entry, pipeline, self.started, now if self.paused_at is None else None)
            if self.reply is None:
                pipeline.close()  # nothing of it goes to anybody any more
        if self._ask is None:
            self.leave()
        self._close_row(outcome, now)

    def _close_row(self, outcome: Outcome, now: float) -> None:
        if self.legacy is not None:
            outcome = self.legacy.account(self.entry, outcome)
        if self.conduct.guards is not None:
            self.end_guards()
        if self.admitted is not None:
            self.admitted.settle(self.entry, now)
        first = close_entry(self.entry, outcome, self.started, now)
        if self.record is not None:
            self.settle_notes(self.record, outcome, now, whole=outcome.ending is _COMPLETE or (outcome.ended_by is _BY_CLIENT and self._whole))
        elif self.source is not None:
            self.source.over(outcome, now)
            self.source = None  # it holds the notes
        self.let_go()
        recording = self.recording
        if recording is not None:
            self.recording = None
            recording.end(outcome.ending, outcome.cause, now)
        if first and self.gateway.on_settled is not None:
            self.gateway.on_settled(self.entry)


# CPython learns the attributes of a class from its first instances and keeps the names of 30 in one table (PEP 412); an instance that is given others
# later has a table of its own, of 1.6 KiB. So the first one has those that many have, at their end too, where their clients leave all at once.
_first = object.__new__(Exchange)
for _name in (
    "due", "plan", "peek", "moved_at", "waits_since", "taken", "provider", "sent", "record", "noted", "_opened", "_ask", "take_usage", "again",
    "as_stream", "head", "pipeline", "_held", "last_out", "outcome", "lingers_until", "admitted", "flight", "_judge", "_left_at", "_left_tokens",
    "_whole", "paused_at", "_pausing", "folded",
):  # fmt: skip
    object.__setattr__(_first, _name, None)
