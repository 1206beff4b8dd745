"""A whole body told as the stream in which it would have come: for clients that asked for a stream, where the provider was asked for the body.

While the body comes, nothing goes out but keep-alives; a status is possible until then. At its end, `conclude`: where `failure` has nothing to
say, frames go out by time. `deadline` says when the next ones are due and `tick` gives them; when there are no more, `deadline` is `None` and
the stream is complete. Whoever cannot wait gets all that is left from `end`.

Rules
-----
- With an interval, each tick gives the frames up to the next that has content (the frames that stand around it go with it), and the next tick is
  due an interval later. Without one, ticks are due at once, and each gives about `PORTION` bytes: the whole stream of a long answer is several
  times its body, and is never held.
- The account (usage, ids, stop reason) is the body's, and known at `conclude`, however much of the stream goes out. Its events are those that the
  client was told.
- Between two frames our own words may still be said: keep-alives, and an error in band, in the state that the client's stream is in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from penstock.pipeline.contract import Pipeline, State, failure_of, upstream_error
from penstock.pipeline.fold import FULL
from penstock.pipeline.unbegun import SPACE
from penstock.protocols.contract import CONTENT, BodyError, ProtocolSpec
from penstock.vocabulary.errors import Fault
from penstock.vocabulary.ids import Operation
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
from penstock.wire.budget import Budget
from penstock.wire.sse import parse

PORTION = 256 * 1024


@dataclass(frozen=True, slots=True)
class Pace:
    """How a body is told as a stream."""

    chars: int | None = None
    """Characters of one piece of text; `None`: by words."""
    interval: float = 0.0
    """Seconds between two pieces."""


class Pseudo(Pipeline):
    """See the rules above. Memory: the body, within `limit` and the shared budget, and what `unfold` makes of it at once."""

    __slots__ = (
        "_ahead", "_array", "_budget", "_by", "_due", "_element", "_frames", "_held", "_limit", "_operation", "_outcome", "_pace", "_parts", "_spec",
        "_told", "_usage", "_why",
    )  # fmt: skip

    def __init__(
        self, spec: ProtocolSpec, operation: Operation, pace: Pace, limit: int, budget: Budget, now: float, *, array: bool = False, usage: bool = True
    ) -> None:
        """`array`: the client asked for the protocol's array form. `usage`: it asked for the frame of usage, where that is on demand."""
        super().__init__(spec.observer(operation), now)
        self._spec = spec
        self._operation = operation
        self._pace = pace
        self._limit = limit
        self._budget = budget
        self._array = array
        self._usage = usage
        self._parts: list[bytes] = []
        self._held = 0
        self._why = ""
        self._by = EndedBy.UPSTREAM
        self._outcome: Outcome | None = None
        self._frames: Iterator[bytes] | None = None
        self._ahead: bytes | None = None  # the next frame: the last one is to be known as such
        self._due = 0.0
        self._element = False  # an element of the array was given out
        self._told = spec.observer(operation)
        """What the client has been told: errors in band go on from there."""

    @property
    def content_type(self) -> bytes:
        """Of the head that the client gets."""
        return b"application/json" if self._array else b"text/event-stream"

    @property
    def gathers(self) -> bool:
        return True

    @property
    def begun(self) -> bool:
        return self.first_content_at is not None

    def refuse(self, why: str) -> None:
        """Read nothing of it. `why`: what stands against it."""
        self._break(why, EndedBy.UPSTREAM)

    # -- the body comes ---------------------------------------------------------------------------------------------------------------

    def feed(self, data: bytes, now: float) -> bytes:
        gap = now - self.last_at
        if gap > self.largest_gap:
            self.largest_gap = gap
        self.last_at = now
        if self.first_content_at is None:
            self.first_content_at = now
        if self._why or self._outcome is not None:
            return b""
        n = len(data)
        if self._held + n > self._limit:
            self._break(f"it is larger than the {self._limit} bytes that may be held of it", EndedBy.GATEWAY)
        elif not self._budget.take(n):
            self._break(FULL, EndedBy.GATEWAY)
        else:
            self._held += n
            self._parts.append(data)
        return b""

    def _break(self, why: str, by: EndedBy) -> None:
        self._why, self._by = why, by
        self.close()
        self.state = State.BROKEN

    def conclude(self, clean: bool, cause: str) -> Outcome:
        """The first call counts; the frames that go out afterwards change nothing in what the provider did."""
        if self._outcome is None:
            self._outcome = self._conclude(clean, cause)
        return self._outcome

    def _conclude(self, clean: bool, cause: str) -> Outcome:
        if self._why:
            ending = Ending.UPSTREAM_ERROR if self._by is EndedBy.UPSTREAM else Ending.CUT
            return Outcome(ending, f"the body could not be told as a stream: {self._why}", self._by)
        if not clean:
            self.close()
            return Outcome(Ending.UPSTREAM_LOST, cause, EndedBy.UPSTREAM)
        body = b"".join(self._parts)
        self._parts.clear()
        observer = self.observer
        self._account(body)
        try:
            self._frames = iter(self._spec.unfold(self._operation, body, self._pace.chars, usage=self._usage))
            self._ahead = next(self._frames, None)
        except BodyError as error:
            self._why = str(error)
        except Exception:  # our bug: the client hears of it before anything else
            self.failures += 1
            self._why, self._by = "a mistake of the gateway", EndedBy.GATEWAY
        self._due = self.last_at
        if self._ahead is None:
            self.close()
        if observer.error is not None:
            return upstream_error(observer, "in its answer")
        if self._why:
            if not body:
                return Outcome(Ending.TRUNCATED, "the body ended before it began", EndedBy.UPSTREAM)
            return self._conclude(clean, cause)
        return Outcome(Ending.COMPLETE, "the whole body, told as a stream", EndedBy.UPSTREAM)

    def _account(self, body: bytes) -> None:
        """What the provider said and what it costs."""
        try:
            self.observer.observe_body(body)
        except Exception:  # Law 5: whatever the observer does, the answer goes on
            self.failures += 1

    def failure(self, request_id: str) -> tuple[int, bytes] | None:
        if self._outcome is None or self._frames is not None or self.state is State.ENDED:
            return None
        return failure_of(self._spec, self.observer.error, self._outcome, request_id)

    # -- the stream goes --------------------------------------------------------------------------------------------------------------

    def deadline(self) -> float | None:
        return None if self._ahead is None else self._due

    def tick(self, now: float) -> bytes:
        if self._ahead is None or now < self._due:
            return b""
        self.last_at = now  # what is silent from now on is not the provider
        interval = self._pace.interval
        self._due = max(self._due + interval, now)
        return self._give(one=interval > 0)

    def _give(self, *, one: bool) -> bytes:
        """Frames: up to the next with content (`one`), or a portion."""
        out: list[bytes] = []
        size = 0
        frame = self._ahead
        try:
            while frame is not None and self._frames is not None:
                self._ahead = next(self._frames, None)
                name, data = parse(frame)
                mark = self._observe_told(name, data)
                self.events += 1
                if self._array:
                    frame = (b",\r\n" if self._element else b"[") + (data or b"null") + (b"]" if self._ahead is None else b"")
                    self._element = True
                out.append(frame)
                size += len(frame)
                frame = self._ahead
                if size >= PORTION or (one and mark & CONTENT):
                    break
        except Exception:  # Our bug, inside a stream: what is left is not given out, and the end tells.
            self.failures += 1
            self._ahead = None
            self._break("a mistake of the gateway", EndedBy.GATEWAY)
            self._outcome = Outcome(Ending.UNVERIFIED, "the body could not be told to its end: a mistake of the gateway", EndedBy.GATEWAY)
        if self._ahead is None and self.state is State.RUNNING:
            self.state = State.ENDED
            self.close()
        self.bytes_out += size
        return out[0] if len(out) == 1 else b"".join(out)

    def _observe_told(self, name: bytes, data: bytes | None) -> int:
        if data is None:
            return 0
        try:
            return self._told.observe(name, data, self.last_at)
        except Exception:  # law 5, as above
            self.failures += 1
            return CONTENT

    def may_speak(self) -> bool:
        return self.state is not State.ENDED

    def keepalive(self) -> bytes:
        if not self.may_speak():
            return b""
        out = SPACE if self._array else self._spec.keepalive
        self.bytes_out += len(out)
        return out

    def end(self, fault: Fault | None, request_id: str) -> bytes:
        """All that is left of the stream; or `fault`, behind what the client has of it."""
        if fault is None:
            pieces: list[bytes] = []
            while self._ahead is not None:
                pieces.append(self._give(one=False))
            return b"".join(pieces)
        out = b""
        element = self._spec.error_element
        if not self.may_speak():
            pass
        elif self._array and element is not None:
            out = (b"," if self._element else b"[") + element(fault, request_id) + b"]"
        else:
            out = self._spec.error_frame(fault, request_id, self._told)
        self._ahead = self._frames = None
        self.bytes_out += len(out)
        self.close()
        return out

    def close(self) -> None:
        self._parts.clear()
        if self._held:
            self._budget.give(self._held)
            self._held = 0
