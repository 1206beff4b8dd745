"""Guards that are asked outside, driven: one exchange's questions, and what waits for their answers. Only where there are such guards.

`Hearing` stands between a provider's answer and the exchange. After each chunk it asks what the pipeline wants to know; when as much waits as may, it
stops reading the provider; and an end of the answer that comes while text of it still waits is passed on when nothing waits any more. A whole
body or request is put before its guards by `weigh`, and goes on when they have answered. All questions are given up when the exchange ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from penstock.pipeline.awaited import AwaitedStream
from penstock.pipeline.watch import excuse
from penstock.policy.outside import Question, Verdict
from penstock.stores.guard_calls import Judges
from penstock.stores.guard_formats import About
from penstock.upstream.contract import Loss, Receiver, ResponseHead

if TYPE_CHECKING:
    from penstock.exchange.guarding import Guarding

AT_ONCE = 128
"""Questions of one exchange that are with its guards; the rest waits here, so that one large frame leaves room for the questions of others."""


class Judged(Protocol):
    """What is judged as a whole."""

    @property
    def done(self) -> bool: ...

    def wants(self) -> list[Question]: ...

    def verdict(self, id: int, verdict: Verdict) -> None: ...


class Consulting:
    """The questions of one exchange that are not answered."""

    __slots__ = ("_about", "_calls", "_count", "_judges", "_later", "over")

    def __init__(self, judges: Judges, about: About) -> None:
        self._judges = judges
        self._about = about
        self._calls: dict[int, Callable[[], None]] = {}
        self._later: deque[tuple[Question, Callable[[Verdict], None]]] = deque()
        self._count = 0
        self.over = False

    def put(self, question: Question, answered: Callable[[Verdict], None]) -> None:
        if len(self._calls) >= AT_ONCE:
            self._later.append((question, answered))
            return
        self._count += 1
        number = self._count

        def told(verdict: Verdict) -> None:
            self._calls.pop(number, None)
            if not self.over:
                answered(verdict)
            if self._later and len(self._calls) < AT_ONCE:
                self.put(*self._later.popleft())

        self._calls[number] = self._judges.ask(question, self._about, told)

    def weigh(self, judged: Judged, then: Callable[[], None]) -> None:
        """Ask all that `judged` wants; `then`, when it is done: now, or when its last question is answered."""
        if judged.done:
            self.drop()
            then()
            return
        for question in judged.wants():
            self.put(question, lambda verdict, id=question.id: self._weighed(judged, id, verdict, then))

    def _weighed(self, judged: Judged, id: int, verdict: Verdict, then: Callable[[], None]) -> None:
        if not judged.done:
            judged.verdict(id, verdict)
            self.weigh(judged, then)

    def drop(self) -> None:
        """Give up what is asked."""
        calls, self._calls = self._calls, {}
        self._later.clear()
        for give_up in calls.values():
            give_up()

    def end(self) -> None:
        """Nothing is asked or told any more."""
        self.over = True
        self.drop()


class Hearing:
    """Implements `upstream.contract.Receiver` in the exchange's place."""

    __slots__ = ("_ending", "_exchange", "_full_since", "_inner")

    def __init__(self, exchange: Guarding, inner: Receiver) -> None:
        self._exchange = exchange
        self._inner = inner
        self._ending: Callable[[float], None] | None = None
        """How the answer ended, while text of it waits."""
        self._full_since = 0.0

    def answer_began(self, head: ResponseHead, now: float) -> None:
        self._ending = None
        self._inner.answer_began(head, now)
        pipeline, consulting = self._exchange.pipeline, self._exchange.consulting
        if isinstance(pipeline, AwaitedStream) and consulting is not None and consulting.over:
            pipeline.unheard()  # the client left before it began

    def answer_body(self, data: bytes, now: float) -> None:
        self._inner.answer_body(data, now)
        self.look(now)

    def answer_ended(self, now: float) -> None:
        self._end(now, self._inner.answer_ended)

    def answer_lost(self, loss: Loss, now: float) -> None:
        self._end(now, lambda later: self._inner.answer_lost(loss, later))

    def answer_whole(self, head: ResponseHead, body: bytes, now: float) -> None:
        ask = self._exchange.asked
        self.answer_began(head, now)
        if self._exchange.asked is ask:  # else this try is over
            self.answer_body(body, now)
            if self._exchange.asked is ask:
                self.answer_ended(now)

    def upload_paused(self) -> None:
        self._inner.upload_paused()

    def upload_resumed(self) -> None:
        self._inner.upload_resumed()

    def leave(self) -> None:
        """The client has left, and the answer is read on: nothing is judged any more."""
        pipeline = self._exchange.pipeline
        if isinstance(pipeline, AwaitedStream):
            pipeline.unheard()
        self._exchange.consult().end()
        self._exchange.full = False

    def _end(self, now: float, end: Callable[[float], None]) -> None:
        """The answer has ended; `end` tells the exchange so, once nothing waits any more."""
        pipeline = self._exchange.pipeline
        if isinstance(pipeline, AwaitedStream) and self._exchange.streams:
            try:
                self._exchange.heard(pipeline.over(now), now)
                self.look(now)
            except Exception as error:  # as in every callback
                self._exchange.fail(error)
                return
            if pipeline.waiting:
                self._ending = end
                self._exchange.asked_no_more()
                return
        end(now)

    def look(self, now: float) -> None:
        """Ask what is to be asked, and stop reading, or go on."""
        exchange = self._exchange
        pipeline, consulting = exchange.pipeline, exchange.consulting
        if not isinstance(pipeline, AwaitedStream) or consulting is None or consulting.over:
            return
        for question in pipeline.wants():
            consulting.put(question, lambda verdict, id=question.id: self._answered(pipeline, id, verdict))
        if not exchange.full:
            if pipeline.full:
                exchange.full, self._full_since = True, now
                exchange.read_or_not()
        elif pipeline.eased:
            exchange.full = False
            excuse(pipeline, now - self._full_since)
            exchange.read_or_not()

    def _answered(self, pipeline: AwaitedStream, id: int, verdict: Verdict) -> None:
        exchange = self._exchange
        try:
            now = exchange.gateway.clock()
            exchange.heard(pipeline.verdict(id, verdict, now), now)
            self.look(now)
            ending = self._ending
            if ending is not None and not pipeline.waiting:
                self._ending = None
                ending(now)
        except Exception as error:  # as in every callback
            exchange.fail(error)
