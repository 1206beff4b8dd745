"""Answers that come in another form than their client asked for: gathered until they are whole, then given out as a body, or told as a stream.
Part of `drive`; how the provider is asked for them: `modes`.

Rules
-----
- A body that is made of a stream: the client hears nothing before the end. Until then every status is possible, and what fails has its true
  one. There is no early head.
- A stream that is made of a body: nothing is told before the end either, but a client that waits long gets its head and keep-alives, and then
  hears of failures in band. What has been gathered goes out by time, and waits for a client that reads slowly.
- Another try after a failure is possible as for any answer: before its first event.
- A refusal to answer without streaming is held until it is understood, written down, and answered by asking for a stream.
"""

from __future__ import annotations

from time import time

from penstock.capture import Dump
from penstock.dedup import Fits, Form
from penstock.exchange import faults
from penstock.exchange.compose_answer import headers_beside, headers_down
from penstock.exchange.contract import Headers
from penstock.exchange.gateway import Demo
from penstock.exchange.guarding import Guarding
from penstock.exchange.judge import Judge, came_first
from penstock.exchange.machine import Input, Phase
from penstock.exchange.stage import FLOWING, GATHERED, UNSEEN
from penstock.pipeline.compose import PROMISED, Mode
from penstock.pipeline.contract import Pipeline, State
from penstock.pipeline.fold import Fold
from penstock.pipeline.guarded import fault_of_rejection
from penstock.pipeline.guarded_body import Weighed
from penstock.pipeline.pseudo import Pace, Pseudo
from penstock.protocols.statuses import fault_of
from penstock.upstream.contract import Loss, ResponseHead
from penstock.vocabulary.outcome import Ending, Outcome

_NOT_GZIP = "the provider's answer is not the gzip that it says it is"
_UNBEGUN = frozenset({Ending.TRUNCATED, Ending.UPSTREAM_LOST})


class Gathering(Guarding):
    # -- an answer comes -------------------------------------------------------------------------------------------------------------

    def _gather(self, mode: Mode, now: float) -> None:
        """Its head has come, and says that it is what was asked for."""
        early, self._early = self._early, None
        self.pipeline, self._decoded = mode.pipeline, mode.decoded
        self.entry.streamed = mode.streamed
        if self.machine.phase is Phase.DRAINING:
            self._stage = UNSEEN
            return
        self._stage = GATHERED
        if early is not None:
            mode.pipeline.follow(early)
            self._do(self.machine.handle(Input.COMMIT), now)

    def _gather_on(self, data: bytes, now: float) -> None:
        pipeline = self._gatherer()
        pipeline.feed(data, now)
        if pipeline.state is not State.RUNNING:
            self._gathered(now, clean=pipeline.state is State.ENDED, cause=_NOT_GZIP)
        elif self.sent is not None and pipeline.begun:
            self.let_go()  # there is no other try, and it may take long

    def _gathering_lost(self, loss: Loss, now: float) -> None:
        if not self._gatherer().begun and self.can_try:
            assert self.head is not None
            if self._once_more(self.tries.after_loss(loss.kind, self.gateway.dice()), self.head.status, loss.cause):
                return
        self._gathered(now, clean=False, cause=loss.cause, over=True)

    def _gathered(self, now: float, *, clean: bool = True, cause: str = "", over: bool = False) -> None:
        """All of it has come that will. `over`: the provider has ended its answer."""
        pipeline = self._gatherer()
        if self.conduct.guards is not None and self._ask_outside(pipeline, clean, cause, lambda later: self._gathered(
            later, clean=clean, cause=cause, over=over)):  # fmt: skip
            return
        outcome = pipeline.conclude(clean, cause)
        failure = pipeline.failure(self.quoted)
        if failure is not None:
            self._fail_gathered(pipeline, outcome, failure, now, over=over)
        elif isinstance(pipeline, Fold):
            self._give_body(pipeline, outcome, now)
        else:
            pipeline.first_content_at = now  # for its client; nothing had come before
            self.open_told(now)
            self._tell(now)

    def _fail_gathered(self, pipeline: Pipeline, outcome: Outcome, failure: tuple[int, bytes], now: float, *, over: bool) -> None:
        error = pipeline.observer.error
        unbegun = came_first(pipeline) if error is not None else outcome.ending in _UNBEGUN and not pipeline.begun
        if unbegun and self._once_more_after_frame(outcome.cause):
            return
        self.outcome = outcome
        rejection = pipeline.findings.rejection if isinstance(pipeline, Weighed) else None
        if rejection is not None:
            fault = fault_of_rejection(rejection)
        else:
            fault = faults.truncated(outcome.cause, self.provider_name)
            if error is not None:
                error = self.shown(error)
                fault, failure = fault_of(error), self.spec.error_of(error, self.quoted)
        if self.machine.phase is Phase.HEAD_HELD:
            status, body = failure
            self._last_words = status, self._beside(), body
        self._do(self.machine.handle(Input.LOST if over else Input.FAILED), now, fault)
        pipeline.close()

    def _gatherer(self) -> Pipeline:
        assert self.pipeline is not None
        return self.pipeline

    def _beside(self) -> Headers:
        """The provider's headers for an answer of ours in the place of one that was gathered."""
        if self._stage is not GATHERED or self.head is None:
            return faults.NONE
        return headers_beside(self.head, self.gateway.settings.drop_response_headers)

    # -- a body for its client -------------------------------------------------------------------------------------------------------

    def _give_body(self, fold: Fold, outcome: Outcome, now: float) -> None:
        assert self.head is not None
        status, headers = self.head.status, self._beside()
        how = "" if fold.is_body else "; the stream was put together to a body"
        self.outcome = Outcome(outcome.ending, outcome.cause + how, outcome.ended_by)
        self._do(self.machine.handle(Input.COMMIT), now)
        self._stage = FLOWING
        self.head = None
        self.let_go()
        self.give_permits()  # whoever has the whole body may ask again at once, although the provider's stream may have an end to come
        self.say_whole(status, headers, fold.end(None, self.id))
        self._do(self.machine.handle(Input.TERMINAL), now)

    # -- a stream for its client -----------------------------------------------------------------------------------------------------

    def open_told(self, now: float) -> None:
        """Its head goes out, if it has not, and what keeps it open meanwhile."""
        pipeline = self._gatherer()
        if self.machine.phase is not Phase.HEAD_HELD or not isinstance(pipeline, Pseudo):
            return
        self._do(self.machine.handle(Input.COMMIT), now)
        self.let_go()
        if pipeline.deadline() is None:
            self.say(pipeline.keepalive(), now)  # a head leaves with what follows it

    def _send_told_head(self) -> None:
        pipeline = self.pipeline
        if isinstance(pipeline, Pseudo) and self.reply is not None:
            assert self.head is not None
            self.entry.status = self.head.status
            drops = self.gateway.settings.drop_response_headers
            headers = headers_down(self.head, drops, decoded=True, streamed=True, transparent=False)
            headers = [(b"content-type", pipeline.content_type), *(pair for pair in headers if pair[0].lower() != b"content-type")]
            self.reply.head(self.head.status, [*headers, *self.own()], None)

    def _tell(self, now: float) -> None:
        """What is due of it; and when the next is."""
        pipeline = self._gatherer()
        if self.paused_at is not None or pipeline.waiting:
            return  # until the client reads again, or its guards have answered
        self.say(pipeline.tick(now), now)
        due = pipeline.deadline()
        if pipeline.state is State.BROKEN:
            self.outcome = pipeline.conclude(True, "")
            self._do(self.machine.handle(Input.FAILED), now)
        elif due is None:
            self.outcome = pipeline.conclude(True, "")
            self._do(self.machine.handle(Input.ENDED), now)
        else:
            self.tell_later(due - now)

    def tell_later(self, pause: float) -> None:
        if self._pausing is None and self.paused_at is None and self.machine.phase is Phase.STREAMING:
            self.wait(max(0.0, pause), self._tell_again)

    def _tell_again(self) -> None:
        self._pausing = None
        try:
            self._tell(self.gateway.clock())
        except Exception as error:  # as in every callback
            self.fail(error)

    # -- an answer for several clients -----------------------------------------------------------------------------------------------

    def form(self) -> tuple[Form, bool]:
        """In which form the provider was asked, or answers all the same, and whether the usage is in it that Chat tells on demand."""
        if self.pace is not None:  # whoever streams all the same was not asked for usage; what is told of raw text has it always
            return (self._asked_form(), self.legacy is not None) if self.streams_anyway else (Form.BODY, True)
        if self.folded:
            return Form.EVENTS, not (self._retried or self.lean)
        return self._asked_form(), self.take_usage or self.peek.usage_asked or not self.peek.stream

    def fits(self) -> Fits:
        """Which answers can be told to its client."""
        wanted, plan, peek = self._asked_form(), self.plan, self.peek
        assert plan is not None
        forms = (wanted,)
        if not plan.endpoint.verbatim and plan.endpoint.operation in PROMISED:
            forms = tuple(Form) if wanted is Form.BODY else (wanted, Form.BODY)
        return Fits(forms, self.spec.ask_usage is not None and peek.stream and peek.usage_asked)

    def fit(self, form: Form, has_usage: bool, is_read: bool) -> bool:
        fits = self.fits()
        if not fits.take(form, has_usage) or not (is_read or form is fits.forms[0]):
            return False
        wanted, stream, asks = self._asked_form(), self.peek.stream, self.spec.ask_usage is not None
        other = form is not wanted
        # Nothing is set before it is known that it fits: otherwise it asks by itself, as it came.
        self.folded, self.pace = other and wanted is Form.BODY, Pace() if other and form is Form.BODY else None
        self.take_usage = asks and stream and not other and has_usage and not self.peek.usage_asked
        return True

    def _asked_form(self) -> Form:
        """By the client."""
        if not self.peek.stream:
            return Form.BODY
        return Form.ARRAY if self.array_asked() else Form.EVENTS

    # -- a refusal to answer without streaming ---------------------------------------------------------------------------------------

    def _is_bounce(self, judge: Judge, head: ResponseHead) -> bool:
        """To a request that could have asked otherwise."""
        bounced = self.spec.bounced
        return bounced is not None and head.status >= 400 and not self.peek.stream and bounced(head.status, judge.text())

    def _after_bounce(self, judge: Judge, head: ResponseHead, now: float) -> bool:
        """An error that may be one is whole. True: there is another try."""
        as_stream = self.as_stream
        sent = as_stream(True) if as_stream is not None and self._is_bounce(judge, head) else None
        if sent is None or as_stream is None:
            return self._again_after_status(head)  # it was put off until this was known; the next answer may be one
        self.as_stream = None
        self._dump(judge, head)
        self.note_try(head.status, f"the provider answered {head.status}: it does not answer this without streaming")
        without = as_stream(False)
        self.again = None if without is None or without == sent else lambda: without
        self.sent, self.folded = sent, True
        self._forget_answer()
        self._do(self.machine.handle(Input.AGAIN), now)
        return True

    def _dump(self, judge: Judge, head: ResponseHead) -> None:
        dumps, provider, sent = self.gateway.dumps, self.provider, self.sent
        if dumps is None or sent is None or provider is None or isinstance(provider, Demo):
            return
        origin = provider.origin
        where = f"{origin.scheme}://{origin.host_header}" if origin.socket_path is None else f"unix:{origin.socket_path}:"
        body = sent[2].partition(b"\r\n\r\n")[2]
        dumps.put(Dump(self.id, time(), where + sent[1].decode("latin-1"), head.status, judge.text(), body))
