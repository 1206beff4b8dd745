"""A running stream held against its share of a budget that cuts.

`Meter` stands between a provider's answer and the exchange, and only where there is such a budget: what is not metered costs nothing. After each
chunk it compares the number of events with the one at which it wants to look again; a look works out what was used so far. An event counts for one
token until the provider states more, so of tokens it is known in advance at which event to look, and only what the provider states anew moves that.
When a quarter of the share is left it asks for more, which takes a moment; when all of it is used and there is no more to be had, the answer ends
with the frame that was just given out.
"""

from __future__ import annotations

from penstock.admission.budget.account import Share
from penstock.admission.budget.charge import Made
from penstock.admission.subject import By
from penstock.exchange.admitting import Pass
from penstock.exchange.at_once import AtOnce
from penstock.exchange.machine import Input, Phase
from penstock.pipeline.contract import Pipeline
from penstock.pipeline.stream import StreamRelay
from penstock.protocols.contract import Closer, ProtocolSpec
from penstock.upstream.contract import Loss, Receiver, ResponseHead
from penstock.vocabulary.errors import Fault, FaultKind
from penstock.vocabulary.events import StopReason
from penstock.vocabulary.ids import Operation
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
from penstock.vocabulary.usage import EMPTY_USAGE, Usage

_LEAST = 32
"""The least that is asked for besides; and events between two looks, where money is counted as well."""
_NEVER = 1 << 62
_CUT = Fault(FaultKind.CUT, 429, "The budget is spent; the answer was ended.")


class Metering(AtOnce):
    """Part of `drive`: an exchange whose answer a policy may end."""

    def metered(self, receiver: Receiver, held: Pass) -> Receiver:
        plan = self.plan
        assert plan is not None
        entry = self.entry
        return Meter(self, receiver, held, self.spec, plan.endpoint.operation, self.provider_name, entry.bytes_in or 0)

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

    __slots__ = ("_asking", "_at", "_bytes_in", "_closer", "_inner", "_operation", "_pass", "_provider", "_refused", "_spec", "_usage", "exchange")

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
        self._closer: Closer | None = None
        self._at = 1
        """The number of events at which it looks again."""
        self._usage = EMPTY_USAGE
        """What the provider had stated at the last look."""
        self._asking = False
        self._refused = False

    def answer_began(self, head: ResponseHead, now: float) -> None:
        self._inner.answer_began(head, now)
        pipeline = self.exchange.pipeline
        self._closer, self._at, self._usage = None, 1, EMPTY_USAGE
        if self._spec.closer is not None and isinstance(pipeline, StreamRelay):
            self._closer = self._spec.closer(self._operation)
            pipeline.close_with(self._closer)

    def answer_body(self, data: bytes, now: float) -> None:
        self._inner.answer_body(data, now)
        pipeline = self.exchange.pipeline
        if pipeline is not None and (pipeline.events >= self._at or pipeline.observer.usage is not self._usage):
            self._look(pipeline, now)

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

    def _look(self, pipeline: Pipeline, now: float) -> None:
        observer = pipeline.observer
        self._usage = observer.usage
        if self._at >= _NEVER:
            return
        if self._pass.closed or observer.stop_reason is not None or observer.terminal or observer.error is not None:
            self._at = _NEVER  # the provider has ended it by itself
            return
        made = Made(self._spec.id.value, observer.usage, False, pipeline.events, self._bytes_in, pipeline.bytes_out, True, False)
        found = self._pass.over(self._provider, observer.model, made, observer.service_tier)
        if found is None:
            self._at = _NEVER
            return
        share, lack = found
        if lack >= 0 and self._refused:
            self._end(share, observer.usage, pipeline, now)
            return
        left, low = -lack, max(_LEAST, share.amount // 4)
        # Nobody knows the pace at which money is used up.
        if share.wish.budget.money:
            self._at = pipeline.events + 1
        elif self._pass.cuts_money:
            self._at = pipeline.events + max(1, min(left // 4, _LEAST))
        else:
            self._at = pipeline.events + max(1, left - low if left > low else left)
        if not self._asking and not self._refused and left <= low:
            self._asking = True
            self._pass.extend(share, max(_LEAST, share.amount // 2), lambda more: self._extended(share, more))

    def _extended(self, share: Share, more: int) -> None:
        self._asking = False
        self._refused = more <= 0
        self._at = 0

    def _end(self, share: Share, usage: Usage, pipeline: Pipeline, now: float) -> None:
        self._at = _NEVER
        words = None
        if self._closer is not None and not pipeline.observer.tools and pipeline.may_speak():
            known = usage if usage != EMPTY_USAGE and (usage.output or 0) >= pipeline.events else Usage(input=usage.input, output=pipeline.events)
            words = self._closer.close(StopReason.LENGTH, known)
        name = share.wish.budget.name
        self.exchange.cut(_CUT, f"budget {name!r} is spent", now, words, By.BUDGET, name)
