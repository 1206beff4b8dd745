"""What waits for a turn of the budgets, and when the turn is due.

A turn costs much and each piece of work in it little, so turns are shared. A request's share is due at once where there was no turn just before, so
an idle gateway delays nobody. More for a stream that runs is due at once. What was used can wait for a turn that somebody else needs: until then all
that was set aside for it counts, so nobody is let in by the delay who would not have been without it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import msgspec

from penstock.admission.budget.account import Answer, Charge, Share, Wish

REST = 0.005
"""Seconds from the beginning of one turn to that of the next which only requests wait for: those that come meanwhile share it."""
LATER = 0.1
"""Seconds for which what was used waits."""


class Reserve(msgspec.Struct):
    wishes: Sequence[Wish]
    answer: Callable[[Answer], None]
    asked_at: float
    found: Answer | None = None
    tried: bool = False
    """In a turn of which nobody knows whether the database did it."""


class Extend(msgspec.Struct):
    share: Share
    more: int
    answer: Callable[[int], None]
    asked_at: float
    found: int = 0


class Settle(msgspec.Struct, gc=False):
    shares: Sequence[tuple[Share, int]]
    charge: Charge
    asked_at: float


Work = Reserve | Extend | Settle


def due_at(work: Work, turned_at: float) -> float:
    """When it is to be done at the latest; the last turn began at `turned_at`."""
    match work:
        case Reserve():
            return max(work.asked_at, turned_at + REST)
        case Extend():
            return work.asked_at
        case Settle():
            return work.asked_at + LATER


def wishes_of(work: Work) -> list[Wish]:
    match work:
        case Reserve():
            return list(work.wishes)
        case Extend():
            return [work.share.wish]
        case Settle():
            return [share.wish for share, _ in work.shares]


class Turns:
    """A queue that any thread puts work into and one takes it from, all of it at a time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.lock = threading.Condition()
        self.closing = False
        self._clock = clock
        self._queue: list[Work] = []
        self._due: float | None = None
        """When the first of the queue is; `None`: nothing waits."""
        self._turned_at = -REST
        self._busy = False
        self._hurried = 0
        """Who waits for all that was put in."""

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, work: Work) -> None:
        with self.lock:
            self._queue.append(work)
            due = due_at(work, self._turned_at)
            if self._due is None or due < self._due:
                self._due = due
                self.lock.notify_all()

    def put_back(self, left: list[Work]) -> None:
        """What was taken and could not be done: it comes first."""
        with self.lock:
            self._queue = left + self._queue
            self._due = self._clock()

    def take(self, until: float) -> list[Work]:
        """What was taken before is done. Waits for a turn, and takes all that there is; empty: it is `until`, or the end."""
        with self.lock:
            self._busy = False
            if self._hurried:
                self.lock.notify_all()
            while not self.closing and not (self._hurried and self._queue):
                now = self._clock()
                at = until if self._due is None else min(self._due, until)
                if at <= now:
                    break
                self.lock.wait(at - now)
            now = self._clock()
            if not self._queue or not (self.closing or self._hurried or (self._due is not None and self._due <= now)):
                return []
            work, self._queue, self._due = self._queue, [], None
            self._turned_at, self._busy = now, True
            return work

    def flush(self, timeout: float) -> bool:
        """Wait until all that was put in before is done."""
        with self.lock:
            self._hurried += 1
            self.lock.notify_all()
            try:
                return self.lock.wait_for(lambda: not self._queue and not self._busy, timeout)
            finally:
                self._hurried -= 1

    def close(self) -> None:
        """Nothing waits any more."""
        with self.lock:
            self.closing = True
            self.lock.notify_all()
