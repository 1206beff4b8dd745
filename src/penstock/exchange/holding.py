"""What is held before the commit: the head until the first frame with data, or the first bytes of a body; errors until they are understood.
Until then a true status is possible, and another try. Part of `drive`.
"""

from __future__ import annotations

from abc import abstractmethod

from penstock.exchange import faults
from penstock.exchange.compose_answer import course_of, headers_beside, headers_down, is_error, pace_behind
from penstock.exchange.contract import Headers
from penstock.exchange.judge import HELD, Judge, came_first
from penstock.exchange.machine import Command, Input, Phase
from penstock.exchange.stage import BODY, FLOWING, FRAME, GATHERED, JUDGED, NAMELESS, UNSEEN, WEIGHED
from penstock.exchange.telling import UNBUFFERED
from penstock.exchange.trying import Trying
from penstock.ledger.entry import Maker
from penstock.pipeline.body import Untouched
from penstock.pipeline.compose import DESCRIBED, Mode
from penstock.pipeline.contract import Pipeline, State
from penstock.pipeline.foreign import may_be_foreign, unframed, wrap_foreign
from penstock.pipeline.guarding import identify
from penstock.pipeline.stream import StreamRelay
from penstock.pipeline.unbegun import Unbegun
from penstock.protocols.statuses import fault_of
from penstock.upstream.contract import ResponseHead
from penstock.vocabulary.errors import Fault, UpstreamError
from penstock.vocabulary.ids import Operation
from penstock.vocabulary.outcome import Outcome

_RUNNING, _BROKEN, _CUT, _LOOK = State.RUNNING, State.BROKEN, State.CUT, State.LOOK
_DRAINING, _COMMIT, _RESPONSES = Phase.DRAINING, Input.COMMIT, Operation.RESPONSES
OURS = "the provider refused what the gateway had added to the request that it follows"


class Holding(Trying):
    _decoded = False  # a coding is taken off
    _last_words: tuple[int, Headers, bytes] | None = None  # the provider's own, in the client's shape, in the place of a fault of ours
    _retried = False  # without the field that we added

    @abstractmethod
    def _do(self, commands: tuple[Command, ...], now: float, fault: Fault = faults.SELF, headers: Headers = faults.NONE) -> None: ...

    @abstractmethod
    def _stopped(self, pipeline: Pipeline, now: float) -> None: ...

    @abstractmethod
    def pass_on(self, data: bytes, now: float) -> None:
        """`answer_body`, of what came there before."""

    @abstractmethod
    def lose_followers(self, cause: str, now: float) -> None:
        """Its client has left, and what comes is nothing for anybody else."""

    @abstractmethod
    def answer_ended(self, now: float) -> None: ...

    @abstractmethod
    def _gather(self, mode: Mode, now: float) -> None: ...

    @abstractmethod
    def _gather_on(self, data: bytes, now: float) -> None: ...

    @abstractmethod
    def _send_told_head(self) -> None: ...

    @abstractmethod
    def _weigh_on(self, pipeline: Pipeline, data: bytes, now: float) -> None: ...

    @abstractmethod
    def _after_bounce(self, judge: Judge, head: ResponseHead, now: float) -> bool: ...

    @abstractmethod
    def _is_bounce(self, judge: Judge, head: ResponseHead) -> bool: ...

    def _weigh(self, head: ResponseHead, now: float) -> None:
        """The head has come: what is waited for before anything goes to the client?"""
        plan = self.plan
        assert plan is not None
        pace = self.pace or (None if self._early is None or self.array_asked() else pace_behind(plan, head))
        course = course_of(self.gateway, plan, self.conduct, self.peek, head, take_usage=self.take_usage, folded=self.folded, pace=pace)
        recipe = course.recipe
        if self.pace is not None and self.streams_anyway is not recipe.framed:
            self.streams_anyway = recipe.framed
        pipeline = course.make(now)
        if self.conduct.guards is not None:
            identify(pipeline, self.quoted)
        if recipe.remade:
            self._gather(Mode(pipeline, recipe.streamed, recipe.decoded), now)
            return
        framed = recipe.framed
        early = self._early
        draining = self.machine.phase is _DRAINING
        if early is not None and not draining:
            # As long as it may be an error, it is `early` who keeps the client's side open and has the last word on it.
            if framed and not (course.array and head.content_type.startswith(b"text/event-stream")):
                self._go_on(early, pipeline, now)
            else:
                self._look_at(pipeline, head)
            return
        self.pipeline = pipeline
        if recipe.decoded is not self._decoded:  # (30 attributes of their own share one table; a stream sets no more than it must)
            self._decoded = recipe.decoded
        self.entry.streamed = recipe.streamed
        if draining:
            self._stage = UNSEEN
            if self._may_be_ours(head):
                self.lose_followers(OURS, now)
            return
        if course.foreign is not self._foreign:
            self._foreign = course.foreign
        # (Of what is gzipped it is not known how much it is.)
        held = head.status >= 400 and (recipe.decoded or self._over_failures() is not None)
        if held or course.foreign or course.error or self._may_be_ours(head):
            self._look_at(pipeline, head)
        elif framed:
            self._stage, self._held = FRAME, []
            if plan.endpoint.response_id is not None and pipeline.observer.response_id is None:
                # A stream that is gone on with does not begin once more: whose it is stands in the path.
                pipeline.observer.response_id = plan.endpoint.response_id
        else:
            self._stage = WEIGHED if pipeline.gathers else BODY

    def _may_be_ours(self, head: ResponseHead) -> bool:
        """An error about what we added, or about the form in which we asked: it is no answer to the client's request."""
        return self._may_be_about_usage(head) or (self.as_stream is not None and head.status >= 400)

    def _may_be_about_usage(self, head: ResponseHead) -> bool:
        return self.again is not None and head.status in (400, 422)

    def _look_at(self, pipeline: Pipeline, head: ResponseHead) -> None:
        """Hold the answer until it is whole."""
        self._stage, self._judge, self._aside = JUDGED, Judge(head.content_encoding), pipeline

    def _send_early(self, now: float) -> None:
        """The client gets a head of ours, and the first keep-alive."""
        plan, reply = self.plan, self.reply
        assert plan is not None
        assert reply is not None
        self.pipeline = self._early = early = Unbegun(self.spec, plan.endpoint.operation, now, array=self.array_asked())
        self.entry.status = 200
        self.entry.streamed = True
        headers: Headers = [(b"content-type", early.content_type), *UNBUFFERED]
        if self.admitted is not None:
            headers = self.admitted.headers_on(headers)
        reply.head(200, [*headers, *self.own()], None)
        self.say(early.keepalive(), now)

    def _go_on(self, early: Unbegun, pipeline: Pipeline, now: float) -> None:
        """The stream for a client that has a head of ours already: held until its first frame, if there might be another try until then."""
        pipeline.follow(early)
        self.pipeline = pipeline
        if self.conduct.retries.first_frame and self.can_try:
            self._stage, self._held = FRAME, []
        else:
            self._open_up(now)

    def _open_up(self, now: float) -> None:
        """The commit: from here there is one answer."""
        held, self._held = self._held, None
        if self._early is not None:
            self._early = None
        plan, pipeline = self.plan, self.pipeline
        assert plan is not None
        assert pipeline is not None
        self._stage = NAMELESS if plan.endpoint.operation is _RESPONSES and not self._is_named(pipeline) else FLOWING
        self._do(self.machine.handle(_COMMIT), now)
        self.head = None  # used up; a stream must not carry it along
        self.let_go()
        if held:
            self.say(held[0] if len(held) == 1 else b"".join(held), now)
        if pipeline.state is not _RUNNING:
            self._stopped(pipeline, now)

    def break_off(self, fault: Fault) -> None:
        if self._held:  # behind a head of ours
            self.say(b"".join(self._held), self.gateway.clock())
            self._held = None
        super().break_off(fault)

    def _is_named(self, pipeline: Pipeline) -> bool:
        """It has told its id, which is remembered."""
        id = pipeline.observer.response_id
        if id is None:
            return False
        self.gateway.ledger.remember(id, Maker(self.provider_name, self.entry.key_id, self.entry.user_id))
        return True

    def _send_head(self) -> None:
        head, reply, pipeline, stage = self.head, self.reply, self.pipeline, self._stage
        if stage is GATHERED or stage is WEIGHED:
            if stage is GATHERED:
                self._send_told_head()
            return  # of what was weighed it leaves with the body
        assert head is not None
        entry = self.entry
        entry.status = head.status
        streamed = entry.streamed is True
        if reply is not None:
            headers = headers_down(
                head, self.gateway.settings.drop_response_headers, decoded=self._decoded, streamed=streamed and isinstance(pipeline, StreamRelay),
                transparent=self.conduct.transparent,
            )  # fmt: skip
            if self.admitted is not None:
                headers = self.admitted.headers_on(headers)
            headers += self.own()
            reply.head(head.status, headers, None if streamed or self._decoded else head.content_length)

    def _hold(self, data: bytes, now: float) -> None:
        stage, pipeline = self._stage, self.pipeline
        assert pipeline is not None
        if stage is FRAME:
            held = self._held
            assert held is not None
            out = pipeline.feed(data, now)
            if out:
                held.append(out)
            if pipeline.state is _BROKEN:
                self._stopped(pipeline, now)
            elif pipeline.begun or pipeline.state is _CUT:
                error = pipeline.observer.error
                if error is None or not came_first(pipeline) or not self._told_first(pipeline, error, now):
                    self._open_up(now)
            elif pipeline.bytes_out > HELD:
                self._open_up(now)
        elif stage is BODY and self._decoded:
            out = pipeline.feed(data, now)
            if out:
                self._held = [out]
                self._open_up(now)
            elif pipeline.state is _BROKEN:
                self._stopped(pipeline, now)
        elif stage is BODY:
            self._open_up(now)
            self.pass_on(data, now)
        elif stage is GATHERED:
            self._gather_on(data, now)
        elif stage is NAMELESS:
            out = pipeline.feed(data, now)
            if self._is_named(pipeline):
                self._stage = FLOWING
            self.say(out, now)
            if pipeline.state is not _RUNNING and (self.machine.phase is Phase.STREAMING or pipeline.state is _LOOK):
                self._stopped(pipeline, now)
        elif stage is JUDGED:
            if self._judge is not None and not self._judge.hold(data):
                self._judged(now, whole=False)
        elif stage is WEIGHED:
            self._weigh_on(pipeline, data, now)
        else:  # nobody sees it
            pipeline.feed(data, now)
            if pipeline.state is _LOOK:
                self._stopped(pipeline, now)
            elif pipeline.state is not _RUNNING:
                self._do(self.machine.handle(Input.TERMINAL), now)

    def _told_first(self, pipeline: Pipeline, error: UpstreamError, now: float) -> bool:
        """The answer is nothing but an error: it gets its true status, or another try."""
        if self.conduct.transparent:
            return False
        assert self.head is not None
        self.outcome = pipeline.conclude(True, "")
        if not self._once_more_after_frame(self.outcome.cause):
            if self._early is not None:
                self.outcome = None
                return False  # it can be told in band only, as it came
            status, body = self.spec.error_of(self.shown(error), self.quoted)
            self._last_words = status, headers_beside(self.head, self.gateway.settings.drop_response_headers), body
            self._do(self.machine.handle(Input.FAILED), now)
            pipeline.close()
        return True

    def _is_empty_error(self) -> bool:
        """Its body has ended, and nothing of it has come."""
        head, plan = self.head, self.plan
        if head is None or plan is None or head.status < 400:
            return False
        judge = self._judge
        if self._stage is not BODY and (judge is None or judge.pieces or self._early is not None):
            return False
        return plan.endpoint.operation in DESCRIBED and not self.conduct.transparent and not self._bodiless()

    def _bodiless(self) -> bool:
        """Was the head alone asked for?"""
        return self.request is not None and self.request.method == "HEAD"

    def _await_judgement(self) -> None:
        assert self.head is not None
        assert self.pipeline is not None
        self._foreign = True
        self._look_at(self.pipeline, self.head)

    # -- errors that are looked at as a whole ------------------------------------------------------------------------------------------

    def _judged(self, now: float, *, whole: bool) -> None:
        """An answer that was held is whole, or larger than what is held."""
        judge, head, pipeline, again, spec = self._judge, self.head, self._aside, self.again, self.spec
        if judge is None or head is None or pipeline is None:
            return  # nobody waits any more
        self._judge = None
        if again is not None and whole and judge.is_about_usage():
            self.note_try(head.status, f"the provider answered {head.status} to stream_options.include_usage")
            self.sent, self.again, self.take_usage, self._retried = again(), None, False, True
            self._forget_answer()
            self._do(self.machine.handle(Input.AGAIN), now)
            return
        if self.as_stream is not None and (self._after_bounce(judge, head, now) if whole else self._again_after_status(head)):
            return
        over = Input.LOST if whole else Input.FAILED
        early = self._early
        foreign = not self._bodiless() and (self._foreign or (whole and self._is_told(head) and judge.is_no_json()))
        words: bytes | None = None
        if early is None and self.conduct.guards is not None and head.status >= 400:
            text = judge.all_text()
            if text is not None:
                words = self.failed_words(b"".join(unframed(head.content_type, head.content_encoding, [text])), head.status)
            elif not foreign:  # (of what is foreign no more is told than is looked at)
                words = self.failed_words(None, head.status)
        if early is None and words is None and (not foreign or self._is_bounce(judge, head)):
            if head.status >= 400 or not whole or not self._told_whole(judge, pipeline, now):
                self._pass_on(judge, now, whole=whole)
            return
        body = b"".join([pipeline.feed(piece, now) for piece in unframed(head.content_type, head.content_encoding, judge.pieces)])
        self.outcome = outcome = pipeline.conclude(whole, "the answer was longer than what is held of an error")
        error = pipeline.observer.error
        if early is not None:
            # The status can no longer be told; the words can.
            early.observer = pipeline.observer
            if error is None:
                self.outcome = faults.no_stream(outcome)
            fault = faults.truncated(self.outcome.cause, self.provider_name) if error is None else fault_of(self.shown(error))
            self._do(self.machine.handle(over), now, fault)
        elif head.status < 400:
            self.outcome = faults.PAGE
            self._do(self.machine.handle(over), now, faults.page(self.provider_name))
        else:
            told = words or wrap_foreign(spec, head.status, head.content_type, body, self.quoted, self.known()) or body
            told = words or self.failed_words(told, head.status) or told
            self._last_words = head.status, headers_beside(head, self.gateway.settings.drop_response_headers), told
            self._do(self.machine.handle(over), now)
        pipeline.close()

    def _is_told(self, head: ResponseHead) -> bool:
        """Is it an error of which somebody tells the client?"""
        return head.status >= 400 and self.plan is not None and not self.conduct.transparent and is_error(self.plan, head)

    def _told_whole(self, judge: Judge, pipeline: Pipeline, now: float) -> bool:
        """As `_told_first`, of a body in the place of a stream; or there is nothing to pass on. False: it is no error."""
        assert self.plan is not None
        if not judge.pieces:
            self._stage = BODY
            self.answer_ended(now)
            return True
        error = judge.error(self.spec.observer(self.plan.endpoint.operation))
        if error is None:
            return False
        for piece in judge.pieces:
            pipeline.feed(piece, now)
        return self._told_first(pipeline, error, now)

    def _judged_half(self, cause: str, now: float, over: Input = Input.LOST) -> bool:
        """An error that was held broke off, or nothing more came of it. What of it has come says its status, which the client gets; of half a JSON
        nothing can be read."""
        head = self.head
        judge, pipeline = (Judge(b""), self.pipeline) if self._stage is BODY else (self._judge, self._aside)
        if judge is None or head is None or pipeline is None or head.status < 400 or self._early is not None or self._may_be_about_usage(head):
            return False
        if self.as_stream is not None and self._again_after_status(head):
            return True  # it was put off until it was known whether the request is asked as a stream
        self._judge = None
        body = b"".join([pipeline.feed(piece, now) for piece in (judge.pieces if may_be_foreign(head.content_type) else [])])
        told = pipeline.conclude(False, cause)
        self.outcome = Outcome(told.ending, f"{told.cause}; {cause}", told.ended_by)
        words = wrap_foreign(self.spec, head.status, head.content_type, body, self.quoted, self.known()) or body
        words = self.failed_words(words, head.status) or words
        self._last_words = head.status, headers_beside(head, self.gateway.settings.drop_response_headers), words
        self._do(self.machine.handle(over), now)
        pipeline.close()
        return True

    def _pass_on(self, judge: Judge, now: float, *, whole: bool) -> None:
        head, pipeline = self.head, self.pipeline
        if pipeline is not None and pipeline.gathers:
            self._stage = WEIGHED  # its guards have seen nothing of it yet
        else:
            if head is not None and pipeline is not None and head.status >= 400 and self._decoded and (not whole or judge.is_long()):
                for piece in judge.pieces:
                    pipeline.feed(piece, now)
                self.pipeline, self._decoded = Untouched(pipeline, head.status, pipeline.conclude(False, ""), now), False
                pipeline.close()
            self._open_up(now)
        for piece in judge.pieces:
            self.pass_on(piece, now)
        if whole:
            self.answer_ended(now)
