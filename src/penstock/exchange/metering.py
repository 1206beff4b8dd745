"""A running stream held against its share of a budget that cuts.

`Meter` stands between a provider's answer and the exchange, and only where there is such a budget: what is not metered costs nothing. After each
chunk it compares the number of events with the one at which it wants to look again; a look works out what was used so far. An event counts for one
token until the provider states more, so of tokens it is known in advance at which event to look, and only what the provider states anew moves that.
A stream that can say by itself when that is (`StreamRelay.cue`) is left to itself once its text has begun. Raw text has no events of its own (what
comes in one read is one): there the tokens that are estimated of it stand in their place.
When a quarter of a share is left it asks for more of that, which takes a moment; when all of it is used and there is no more to be had, the answer
ends with the frame that was just given out.
"""

from __future__ import annotations

from functools import partial

from penstock.admission.budget.account import Share
from penstock.admission.budget.charge import Made
from penstock.admission.subject import By
from penstock.exchange.admitting import Pass
from penstock.exchange.at_once import AtOnce
from penstock.exchange.machine import Input, Phase
from penstock.pipeline.contract import Pipeline
from penstock.pipeline.cues import NEVER as _NEVER
from penstock.pipeline.stream import StreamRelay
from penstock.protocols.contract import Closer, ProtocolSpec
from penstock.upstream.contract import Loss, Receiver, ResponseHead
from penstock.vocabulary.errors import Fault, FaultKind
from penstock.vocabulary.events import StopReason
from penstock.vocabulary.ids import Operation
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
from penstock.vocabulary.usage import EMPTY_USAGE, Usage

_LEAST = 32
"""The least that is asked for besides; and events between two looks at money, of which it is known that they do not use it up."""
_CUT = Fault(FaultKind.CUT, 429, "The budget is spent; the answer was ended.")


class Metering(AtOnce):
    """Part of `drive`: an exchange whose answer a policy may end."""

    def metered(self, receiver: Receiver, held: Pass) -> Receiver:
        plan = self.plan
        assert plan is not None
        entry = self.entry
        meter = Meter(self, receiver, held, self.spec, plan.endpoint.operation, self.provider_name, entry.bytes_in or 0)
        if self._gate is not None:
            self._gate.begun = meter.began
        return meter

    def cut(self, fault: Fault, cause: str, now: float, words: list[tuple[bytes, bytes]] | None, by: By, rule: str) -> None:
        """A policy, the `rule`, ends the answer: with `words`, in the protocol's own way to stop one, where there are any, else with `fault`."""
        phase, pipeline = self.machine.phase, self.pipeline
        if phase is Phase.SETTLED or phase is Phase.OPENED:
            return
        if phase is not Phase.DRAINING:
            self.outcome = Outcome(Ending.CUT, cause, EndedBy.GATEWAY)
            self.entry.refused_by, self.entry.rule = by.value, rule
        if words is not None and phase is Phase.STREAMING and isinstance(pipeline, StreamRelay):
            self.cancel()
            self.say(pipeline.stop(words), now)
            self._do(self.machine.handle(Input.ENDED), now)
        else:
            self._do(self.machine.handle(Input.FAILED), now, fault)


class Meter:
    """Implements `upstream.contract.Receiver` in the exchange's place. One per exchange; its answer may begin again with another try."""

    __slots__ = (
        "_asking", "_at", "_bytes_in", "_closer", "_inner", "_legacy", "_operation", "_pass", "_provider", "_refused", "_spec", "_stays", "_usage",
        "exchange",
    )  # fmt: skip

    def __init__(
        self, exchange: Metering, inner: Receiver, held: Pass, spec: ProtocolSpec, operation: Operation, provider: str, bytes_in: int
    ) -> None:
        self.exchange = exchange
        self._inner = inner
        self._pass = held
        self._spec = spec
        self._operation = operation
        self._provider = provider
        self._bytes_in = bytes_in
        self._legacy = exchange.legacy
        self._closer: Closer | None = None
        self._at = 1
        """The number of events (`_count`) at which it looks again."""
        self._usage = EMPTY_USAGE
        """What the provider had stated at the last look."""
        self._asking: set[int] = set()
        """The shares of which more is asked for; each budget has its own unit and its own answer."""
        self._refused: set[int] = set()
        """Those of which there is no more."""
        self._stays = exchange.legacy is not None
        """It is told of every chunk to the end."""

    def answer_began(self, head: ResponseHead, now: float) -> None:
        self._inner.answer_began(head, now)
        self.began()

    def began(self) -> None:
        """The exchange has been told the head; or, where it is held for now, will be, and this is called once more."""
        pipeline = self.exchange.pipeline
        self._closer, self._at, self._usage, self._stays = None, 1, EMPTY_USAGE, self._legacy is not None
        if self._spec.closer is not None and isinstance(pipeline, StreamRelay):
            self._closer = self._spec.closer(self._operation)
            pipeline.close_with(self._closer)

    def answer_body(self, data: bytes, now: float) -> None:
        self._inner.answer_body(data, now)
        pipeline = self.exchange.pipeline
        if pipeline is None:
            return
        count = pipeline.events if self._legacy is None else self._legacy.made
        if count >= self._at or pipeline.observer.usage is not self._usage:
            self._look(pipeline, now)
        if not self._stays and pipeline.first_content_at is not None:
            self._step_aside(pipeline)

    def _step_aside(self, pipeline: Pipeline) -> None:
        """Its text runs: let it say itself when to look, where it can."""
        asked = self.exchange.asked
        if asked is None or not isinstance(pipeline, StreamRelay) or not pipeline.can_cue:
            self._stays = True
        elif asked.hand_over(self._inner):
            self._stays = True
            pipeline.cue(self._look_again, self._at)

    def _look_again(self, now: float) -> None:
        pipeline = self.exchange.pipeline
        if isinstance(pipeline, StreamRelay):
            self._look(pipeline, now)
            pipeline.cue_at(self._at)

    def answer_ended(self, now: float) -> None:
        self._inner.answer_ended(now)

    def answer_whole(self, head: ResponseHead, body: bytes, now: float) -> None:
        self._inner.answer_whole(head, body, now)

    def answer_lost(self, loss: Loss, now: float) -> None:
        self._inner.answer_lost(loss, now)

    def upload_paused(self) -> None:
        self._inner.upload_paused()

    def upload_resumed(self) -> None:
        self._inner.upload_resumed()

    def _count(self, pipeline: Pipeline) -> int:
        return pipeline.events if self._legacy is None else self._legacy.made

    def _look(self, pipeline: Pipeline, now: float) -> None:
        observer = pipeline.observer
        self._usage = observer.usage
        if self._at >= _NEVER:
            return
        if self._pass.closed or observer.stop_reason is not None or observer.terminal or observer.error is not None:
            self._at = _NEVER  # the provider has ended it by itself
            return
        found = self._over(pipeline, 0)
        for share, lack in found:
            if lack >= 0 and id(share) in self._refused:
                self._end(share, observer.usage, pipeline, now)
                return
        # What money the next events come to is known as well, if the provider states nothing anew.
        soon = [lack for _, lack in self._over(pipeline, _LEAST)] if self._pass.cuts_money else []
        self._at = _NEVER
        for index, (share, lack) in enumerate(found):
            left, low = -lack, max(_LEAST, share.amount // 4)
            if share.wish.budget.money:
                ahead = _LEAST if -soon[index] > low else 1
            else:
                ahead = max(1, left - low if left > low else left)
            self._at = min(self._at, self._count(pipeline) + ahead)
            if left <= low and id(share) not in self._asking and id(share) not in self._refused:
                self._asking.add(id(share))
                self._pass.extend(share, max(_LEAST, share.amount // 2), partial(self._extended, share))

    def _over(self, pipeline: Pipeline, ahead: int) -> list[tuple[Share, int]]:
        """What each share lacks, so many events from now."""
        observer = pipeline.observer
        count = self._count(pipeline) + ahead
        usage = observer.usage if self._legacy is None else Usage(input=self._legacy.asked.input_tokens)
        made = Made(self._spec.id.value, usage, False, count, self._bytes_in, pipeline.bytes_out, True, False)
        return self._pass.over(self._provider, observer.model, made, observer.service_tier)

    def _extended(self, share: Share, more: int) -> None:
        self._asking.discard(id(share))
        if more <= 0:
            self._refused.add(id(share))
        self._at = 0
        pipeline = self.exchange.pipeline
        if isinstance(pipeline, StreamRelay):
            pipeline.cue_at(0)

    def _end(self, share: Share, usage: Usage, pipeline: Pipeline, now: float) -> None:
        self._at = _NEVER
        words = None
        if self._closer is not None and not pipeline.observer.tools and pipeline.may_speak():
            count = self._count(pipeline)
            known = usage if usage != EMPTY_USAGE and (usage.output or 0) >= count else Usage(input=usage.input, output=count)
            words = self._closer.close(StopReason.LENGTH, known)
        name = share.wish.budget.name
        self.exchange.cut(_CUT, f"budget {name!r} is spent", now, words, By.BUDGET, name)
