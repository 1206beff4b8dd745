"""What waits for a turn of the budgets, and when the turn is due.

A turn costs much and each piece of work in it little, so turns are shared. A request's share is due at once where there was no turn just before, so
an idle gateway delays nobody. More for a stream that runs is due at once. What was used can wait for a turn that somebody else needs: until then all
that was set aside for it counts, so nobody is let in by the delay who would not have been without it. So can a share that came out of an `Advance`,
which is set aside already.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import msgspec
from msgspec.structs import replace

from penstock.admission.budget.account import Answer, Charge, Share, Shares, Wish
from penstock.stores.advances import Advance, Advances

REST = 0.005
"""Seconds from the beginning of one turn to that of the next which only requests wait for: those that come meanwhile share it."""
LATER = 0.1
"""Seconds for which what was used waits, and what came out of an advance."""


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


class Take(msgspec.Struct, gc=False):
    """A share, or more of one, that came out of an advance, to be put on file."""

    wish: Wish
    advance: Advance
    amount: int
    """What came out of it."""
    held: int
    """What is set aside for the exchange, with that."""
    asked_at: float
    grown: bool = False
    """There was a share before."""
    tried: bool = False
    """In a turn of which nobody knows whether the database did it."""


class Recall(msgspec.Struct):
    """What is left of an advance goes back."""

    advance: Advance


Work = Reserve | Extend | Settle | Take | Recall


def due_at(work: Work, turned_at: float) -> float:
    """When it is to be done at the latest; the last turn began at `turned_at`."""
    match work:
        case Reserve():
            return max(work.asked_at, turned_at + REST)
        case Extend():
            return work.asked_at
        case Settle() | Take():
            return work.asked_at + LATER
        case Recall():
            return turned_at


def wishes_of(work: Work) -> list[Wish]:
    match work:
        case Reserve():
            return list(work.wishes)
        case Extend():
            return [work.share.wish]
        case Settle():
            return [share.wish for share, _ in work.shares]
        case Take():
            return [work.wish]
        case Recall():
            return [work.advance.wish]


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
        self.advances = Advances()
        """Under `lock`."""
        self._taken = self._filed = 0
        """How many shares came out of advances, and how many of these are on file."""
        self._ended = False

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def charges(self) -> int:
        """How many of them are of what was used."""
        return sum(isinstance(one, Settle) for one in self._queue)

    def put(self, work: Work) -> None:
        with self.lock:
            if isinstance(work, Settle):
                self.advances.use(work.shares)
            self._put(work)

    def _put(self, work: Work) -> None:
        self._queue.append(work)
        due = due_at(work, self._turned_at)
        if self._due is None or due < self._due:
            self._due = due
            self.lock.notify_all()

    def note_filed(self, count: int) -> None:
        """So many `Take` are on file. Under the lock."""
        self._filed += count
        if count and self._hurried:
            self.lock.notify_all()

    def count_unbooked(self) -> None:
        """Count anew what was used and is not booked. Under the lock."""
        self.advances.forget_used()
        for one in self._queue:
            if isinstance(one, Settle):
                self.advances.use(one.shares)

    def take_ahead(self, wishes: Sequence[Wish]) -> Shares | None:
        """All of them out of advances, or nothing of any."""
        with self.lock:
            now = self._clock()
            found = None if self.closing else self.advances.take(wishes, now)
            if found is None:
                return None
            self._taken += len(found)
            for advance, share in found:
                self._put(Take(share.wish, advance, share.amount, share.amount, now))
            return Shares([share for _, share in found])

    def grow_ahead(self, share: Share, more: int) -> bool:
        """So much more of it out of an advance, or nothing."""
        with self.lock:
            now = self._clock()
            found = None if self.closing else self.advances.take([replace(share.wish, amount=more)], now)
            if found is None:
                return False
            share.amount += more
            self._taken += 1
            self._put(Take(share.wish, found[0][0], more, share.amount, now, grown=True))
            return True

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
        """Wait until nothing that was put in waits."""
        return self._hurry(lambda: not self._queue and not self._busy, timeout)

    def file_ahead(self, timeout: float) -> bool:
        """Wait until what came out of advances before is on file, whatever is put in meanwhile; or until there is nobody to do it."""
        upto = self._taken
        return self._filed >= upto or self._hurry(lambda: self._filed >= upto or self._ended, timeout)

    def _hurry(self, done: Callable[[], bool], timeout: float) -> bool:
        with self.lock:
            self._hurried += 1
            self.lock.notify_all()
            try:
                return self.lock.wait_for(done, timeout)
            finally:
                self._hurried -= 1

    def end(self) -> None:
        """Nobody takes anything out any more."""
        with self.lock:
            self._ended = True
            self.lock.notify_all()

    def close(self) -> None:
        """Nothing waits any more."""
        with self.lock:
            self.closing = True
            self.lock.notify_all()
