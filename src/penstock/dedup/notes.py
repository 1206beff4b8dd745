"""What is noted of one stream, so that others can be told it: what came last is in the log of all streams (`segments`), and what the log had no more
room for is packed (`tape`).

Most streams are over, and forgotten, before the log is full: nothing of them is ever packed. What one is that is kept is a `Reel`, plain data; to be
read it becomes `Notes` again (`opened`), so that the log knows that somebody needs it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import Final

import msgspec

from penstock.dedup.segments import SegmentLog, gone
from penstock.dedup.shelf import Shelf
from penstock.dedup.tape import Reel, Tape
from penstock.wire.budget import Budget

_TOGETHER: Final = 6
"""Reads that are packed together: so many are put on the tape for little more than the price of one."""
_MUCH: Final = 8192
"""Bytes of a read that does not wait for that."""
_FREE: Final = Budget(1 << 60)
"""For what is noted no more, and only read."""
_ENDLESS: Final = 1 << 60
_NO_EXAMPLE: Final = ((0, b""),)
_LEAST: Final = 64
"""Bytes that what is kept takes, about, if all of it lies in the log."""
_FEW: Final = 8
"""Segments: what may have fewer is counted to the byte, as it comes; what may have more is counted when it seems to have much."""
_COUNTS: Final = 8
"""How often, until it has all that it may."""


class Notes:
    """Adding stops for good once they are more than `limit` bytes (about, where that is much), or there is no room for what the log had no more room
    for: `torn` then, and what is noted can still be read. Whoever made them closes them.

    Whoever writes them adds to the log itself, as long as that has room and nobody reads, and says so before anything else is done: `last` is his."""

    __slots__ = (
        "__weakref__", "_budget", "_counted_at", "_found", "_heavy", "_limit", "_log", "_packed", "_shelf", "_size", "counted", "last", "tail",
        "torn",
    )  # fmt: skip

    def __init__(self, limit: int, log: SegmentLog, budget: Budget, shelf: Shelf | None = None, reel: Reel | None = None) -> None:
        """`budget` and `shelf`: for what the log has no more room for. `reel`: what is noted already."""
        self._log = log
        self._limit = limit
        self._budget = budget
        self._shelf = shelf
        self.counted = limit < _FEW * log.segment
        """Each byte of it is: whoever writes it has to add it here."""
        self._size = self._counted_at = 0
        """Bytes that it has; where not each is counted, as far as this record."""
        self._heavy = 0
        """Bytes that it has had since then, by how often it was the one to fill a segment."""
        self._packed = _Packed(Tape.of(reel, budget, shelf)) if reel is not None and reel.packed else None
        self._found: _Found | None = None
        """From the first time that it is read on."""
        self.torn = False
        self.last = self.tail = 0
        """Where the last record lies; and the last that was moved, or the first of all, which has nothing in it."""
        if reel is None:
            self.last = self.tail = log.begin()
        elif reel.last:
            self.last, self.tail = reel.last, reel.tail
        if self.tail:
            log.hold(self)

    def add(self, data: bytes) -> bytes:
        """What is not noted of it: all, where they are torn."""
        if self.counted and not self.torn:
            self._size += len(data)
            self.torn = self._size > self._limit
        at = 0 if self.torn else self._log.add(self.last, data)
        if at:
            self.last = at
            return b""
        return self.add_slowly(data)

    def add_slowly(self, data: bytes) -> bytes:
        """The same where the log had no room for it as it was."""
        if not self.counted and not self.torn:
            self._heavy += max(self._log.segment, len(data))
            if self._heavy > min(self._limit // _COUNTS, self._limit - self._size):
                self.torn = self._count() + len(data) > self._limit
        if self.torn:
            return data
        self.last = self._log.add_slowly(self.last, data)
        return b""

    def _count(self) -> int:
        """Bytes of the stream, exactly. (Streams that go in step fill segments by turns that may be anything but fair.)"""
        at, known = self.last, self._counted_at
        size, before = self._size, known
        if known < self.tail:
            before, size = self.tail, self._packed.length if self._packed is not None else 0
        try:
            while at > before:
                at, more = self._log.head(at)
                size += more
        except OSError:
            self.torn = True
        self._size, self._counted_at, self._heavy = size, self.last, 0
        return size

    # -- for the log ---------------------------------------------------------------------------------------------------------------------

    def move(self, data: bytes, at: int) -> None:
        self.tail = at
        if not data:
            return
        packed = self._packed
        if packed is None:
            self._packed = packed = _Packed(Tape(_ENDLESS, self._budget, self._shelf))
        packed.add(data)
        if packed.tape.torn:  # there is no room for it: what comes now is noted no more, and what has come is lost when its segment goes
            self.torn = True

    def lose(self) -> None:
        if self._packed is None:
            self._packed = _Packed(Tape(_ENDLESS, _FREE))
        self._packed.lost = True
        self.torn = True

    # -- reading -------------------------------------------------------------------------------------------------------------------------

    def read(self, start: int, most: int) -> tuple[bytes, int]:
        """The stream's bytes from `start` on, at most `most` or what was noted in one piece, nothing where there is no more; and how many come before
        what follows them. Raises `OSError` where they cannot be read."""
        packed = self._packed
        if packed is not None and (packed.lost or start < packed.length):
            return packed.read(start, most)
        while not self.ready(_ENDLESS):
            pass
        found = self._found
        assert found is not None
        places, begins, reach = found.places, found.begins, found.reach
        index = bisect_right(begins, start) - 1
        told: list[bytes] = []
        size, at = 0, start
        while at < reach:
            begin = begins[index]
            end = begins[index + 1] if index + 1 < len(begins) else reach
            size += end - at
            if told and size > most:
                break
            told.append(self._log.body(places[index], end - begin)[at - begin :])
            at = end
            index += 1
        return b"".join(told), at

    def ready(self, steps: int) -> bool:
        """May it be read at once? False: after so many steps it is not yet known where all of it lies; say this again. A step takes a microsecond or
        two. Raises `OSError` where it cannot be read."""
        found = self._found
        if found is None:
            self._found = found = _Found()
        fresh, log = found.fresh, self._log
        while True:
            known = found.places[-1] if found.places else 0
            if known <= self.tail:
                known = self.tail
                found.reach = self._packed.length if self._packed is not None else 0
            while fresh and fresh[-1][0] <= known:  # it was moved meanwhile
                fresh.pop()
            at = fresh[-1][2] if fresh else self.last
            while at > known and steps > 0:
                before, size = log.head(at)
                fresh.append((at, size, before))
                at, steps = before, steps - 1
            if at > known:
                return False
            if at != known:
                raise gone()
            if not fresh:
                return True
            for at, size, _ in reversed(fresh):
                found.places.append(at)
                found.begins.append(found.reach)
                found.reach += size
            fresh.clear()

    @property
    def sound(self) -> bool:
        """Can all that is noted be read, as far as is known?"""
        try:
            self.read(0, 1)
        except Exception:  # of whatever kind
            return False
        return self._packed is None or self._packed.sound

    def whole(self) -> bytes:
        """All that is noted. Raises `OSError` where it cannot be read."""
        told: list[bytes] = []
        data, at = self.read(0, _ENDLESS)
        while data:
            told.append(data)
            data, at = self.read(at, _ENDLESS)
        return b"".join(told)

    # -- its end -------------------------------------------------------------------------------------------------------------------------

    def reel(self) -> Reel | None:
        """What is noted, where nothing more comes; `None`: nothing."""
        packed, tail, last = self._packed, self.tail, self.last
        first = max(tail, self._log.floor)  # what was moved is in no segment any more
        if packed is None:
            return Reel((), _NO_EXAMPLE, _LEAST, 0, 0, (), first, tail, last) if last != tail else None
        reel = packed.reel()
        return msgspec.structs.replace(reel, first=first, tail=tail, last=last) if last != tail else reel

    def close(self) -> None:
        """Give back what is held of the budget. What is noted stays readable for who still has it; nothing is added any more."""
        self.torn = True
        self._budget = _FREE
        if self._packed is not None:
            self._packed.close(self._shelf)

    def __del__(self) -> None:
        self._log.let_go(self)


class _Found:
    """What lies in the log of one stream: as far as it was read."""

    __slots__ = ("begins", "fresh", "places", "reach")

    def __init__(self) -> None:
        self.places = array("Q")
        """Where records lie."""
        self.begins = array("Q")
        """How many bytes of the stream come before each."""
        self.reach = 0
        """And before what is not among them yet."""
        self.fresh: list[tuple[int, int, int]] = []
        """Of that, the newest first: where it lies, how many bytes it has, and where the one before it lies."""


class _Packed:
    """What the log had no more room for: the first of the stream."""

    __slots__ = ("_missing", "_waiting", "lost", "tape")

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self._waiting: list[bytes] = []
        self._missing = 0
        """Bytes for which there was no room: its last. Who has been told them needs them no more."""
        self.lost = False
        """Nobody knows how much of it is missing."""

    @property
    def length(self) -> int:
        """Bytes of the stream."""
        return self.tape.length + sum(map(len, self._waiting)) + self._missing

    @property
    def sound(self) -> bool:
        return not self._missing and not self.lost

    def add(self, data: bytes) -> None:
        if self.tape.torn:
            self._missing += len(data)
            return
        self._waiting.append(data)
        if len(self._waiting) >= _TOGETHER or len(data) > _MUCH:
            self._pack()

    def _pack(self) -> None:
        if self._waiting:
            self.tape.add(self._waiting)
            self._waiting.clear()

    def read(self, start: int, most: int) -> tuple[bytes, int]:
        if self.lost:
            raise gone()
        if start < self.tape.length:
            return self.tape.read(start, most)
        rest = b"".join(self._waiting)[start - self.tape.length :]
        if not rest:
            raise gone()
        return rest, start + len(rest)

    def reel(self) -> Reel:
        self._pack()
        return self.tape.reel()

    def close(self, shelf: Shelf | None) -> None:
        """From now on it takes nothing of a budget, so there is room for what still comes."""
        self.tape.close()
        if self.tape.torn and not self._missing:
            self.tape = Tape.of(self.tape.reel(), _FREE, shelf)


def opened(reel: Reel, log: SegmentLog, shelf: Shelf | None) -> Notes:
    """What is kept, to be read, by as many as want to. It takes nothing of a budget."""
    held = log.holder(reel.tail)
    return held if isinstance(held, Notes) and held.last == reel.last else Notes(_ENDLESS, log, _FREE, shelf, reel)


def is_there(reel: Reel, log: SegmentLog) -> bool:
    """Nothing of it has gone since it was kept."""
    return not reel.last or reel.first >= log.floor
