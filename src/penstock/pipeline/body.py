"""Whole bodies in the client's own protocol: own bytes, read on the way; and bytes that nobody here can read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from penstock.pipeline.contract import Pipeline, upstream_error
from penstock.pipeline.foreign import READ, words_of
from penstock.policy.matcher import Findings
from penstock.protocols.contract import Observer
from penstock.vocabulary.errors import Fault, UpstreamError
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
from penstock.wire.budget import Budget

ERRORS = 256 * 1024
"""Bytes of an error that are read: what it says stands at its beginning, and reading is one step of the loop that carries all streams."""
_WHOLE = Outcome(Ending.COMPLETE, "the whole body", EndedBy.UPSTREAM)


class BodyRelay(Pipeline):
    """Every chunk leaves as it comes. A copy of a JSON body is kept until its end, within `limit` and the shared budget, and read once. Of an error
    that is longer than `ERRORS` only the beginning is."""

    __slots__ = ("_awaited", "_budget", "_delimited", "_held", "_judged", "_keep", "_large", "_limit", "_parts", "_status")

    def __init__(
        self, observer: Observer, status: int, limit: int, budget: Budget, now: float, *, keep: bool, judged: bool, delimited: bool,
        awaited: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(observer, now)
        self._status = status
        self._limit = limit if status < 400 else min(limit, ERRORS)
        self._budget = budget
        self._parts: list[bytes] = []
        self._held = 0
        self._keep = keep
        self._large = False
        self._judged = judged
        """The protocol says what this body is: anything else is not understood."""
        self._delimited = delimited
        """The framing says where the body ends; a body that ends with its connection proves nothing by that."""
        self._awaited = awaited
        """Its client waits for a stream, which a whole body may come in the place of; nothing at all may not."""

    def feed(self, data: bytes, now: float) -> bytes:
        gap = now - self.last_at
        if gap > self.largest_gap:
            self.largest_gap = gap
        self.last_at = now
        if self.first_content_at is None:
            self.first_content_at = now
        if self._keep:
            n = len(data)
            if self._held + n > self._limit or not self._budget.take(n):
                self._too_large(data)
            else:
                self._held += n
                self._parts.append(data)
        self.bytes_out += len(data)
        return data

    def _too_large(self, data: bytes) -> None:
        """No copy is kept any more; of an error its beginning."""
        self._keep, self._large = False, True
        n = min(len(data), min(READ, self._limit) - self._held)
        if self._status < 400:
            self.close()
        elif n > 0 and self._budget.take(n):
            self._held += n
            self._parts.append(data[:n])

    def conclude(self, clean: bool, cause: str) -> Outcome:
        observer = self.observer
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        if self._status >= 400:
            self._guard(observer.observe_error, self._status, b"" if self._large else body)
            if body and (observer.error is None or observer.error.message is None):
                self._guard(self._quote, body)
            return Outcome(Ending.UPSTREAM_ERROR, f"the provider answered {self._status}", EndedBy.UPSTREAM)
        if not clean:
            return Outcome(Ending.UPSTREAM_LOST, cause, EndedBy.UPSTREAM)
        if self._keep and body:
            self._guard(observer.observe_body, body)
            if observer.error is not None:
                return upstream_error(observer, "in its answer")
        if self._awaited and self.first_content_at is None:
            return Outcome(Ending.TRUNCATED, "the body ended before its first event", EndedBy.UPSTREAM)
        if not self._judged or (self._keep and body and not observer.malformed) or self._status in (204, 304):
            return _WHOLE
        if not self._delimited:
            return Outcome(Ending.TRUNCATED, "the connection ended inside the body", EndedBy.UPSTREAM)
        why = "too large to be read" if self._large else "not what the protocol promises"
        return Outcome(Ending.UNVERIFIED, f"the body is {why}; it was passed on without being understood", EndedBy.UPSTREAM)

    def _quote(self, body: bytes) -> None:
        """The protocol finds no words in it; what it says all the same is told of it."""
        said = words_of(body[:READ] if self._large else body)
        self.observer.error = replace(self.observer.error or UpstreamError(status=self._status), message=said)

    def _guard(self, read: Callable[..., None], *given: object) -> None:
        try:
            read(*given)
        except Exception:  # Law 5: whatever the observer does, the bytes went on
            self.failures += 1

    def end(self, fault: Fault | None, request_id: str) -> bytes:
        self.close()
        return b""

    def close(self) -> None:
        self._parts.clear()
        if self._held:
            self._budget.give(self._held)
            self._held = 0


class Untouched(BodyRelay):
    """An error of which enough was `read`, with that `outcome`: all of it goes on as it came, coding and all."""

    __slots__ = ("_outcome",)

    def __init__(self, read: Pipeline, status: int, outcome: Outcome, now: float) -> None:
        super().__init__(read.observer, status, 0, Budget(0), now, keep=False, judged=False, delimited=True)
        self._outcome = outcome

    def conclude(self, clean: bool, cause: str) -> Outcome:
        return self._outcome


class OpaqueRelay(BodyRelay):
    """Bytes in a coding that we do not know: passed on as they are, nothing claimed, nothing put in."""

    __slots__ = ("_coding", "findings")
    findings: Findings
    """Where there are guards, all of them open."""

    def __init__(self, observer: Observer, status: int, coding: str, budget: Budget, now: float) -> None:
        super().__init__(observer, status, 0, budget, now, keep=False, judged=False, delimited=True)
        self._coding = coding

    def conclude(self, clean: bool, cause: str) -> Outcome:
        if self._status >= 400:
            return super().conclude(clean, cause)
        how = "" if clean else f"; {cause}"
        return Outcome(Ending.UNVERIFIED, f"the answer came in the coding {self._coding!r}, which was passed on unread{how}", EndedBy.UPSTREAM)
