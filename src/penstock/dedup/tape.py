"""The bytes of a stream as they came, in little room, to be read again from any read on.

What comes again and again in one stream is kept once: two reads of it are mostly the same but for a number and a word. So reads are kept in runs with
a common front and back, and perhaps a common part behind a number that counts up, and of each read only what stands between them. A tape of the usual
stream takes a fifth of its bytes, and adding to it costs a few comparisons and a copy of some bytes. Whatever does not fit begins a run of its own;
a stream in which nothing recurs is kept as it is.

A `Tape` is written, in this process; what is on it when nothing more comes is a `Reel`, plain data.
"""

from __future__ import annotations

import re
import sys
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

import msgspec

from penstock.wire.budget import Budget

LUMP: Final = 2048
"""Bytes for which the budget is asked at a time."""
_LEAST: Final = 24
"""Bytes that must recur for a run to be worth it."""
_LONGEST: Final = 4096
"""Longer reads are not looked at for what recurs in them."""
_TRIES: Final = 32
"""Runs after which reads that do not fit are kept as they are: nothing recurs in this stream."""
_NUMBER: Final = 16
"""Bytes that a number with its colon may take."""
_AT_NUMBER: Final = re.compile(rb":\s*[0-9]{1,12}")
_SEALED: Final = 1024
"""Bytes of pieces at which a run is sealed, and another like it begun: hundreds of streams that grow side by side in memory would leave holes."""
_RUN: Final = 200
"""Bytes that a run takes besides, about."""


class Run(msgspec.Struct, frozen=True, gc=False):
    """Reads with the same fixed parts: what stands between those, one behind the other, and where each piece ends (two of a read where there is a
    `second` part, between which and `front` the number stands). Nothing is added any more."""

    first: int
    """The number of its first read."""
    front: bytes
    second: bytes
    back: bytes
    pieces: bytes
    ends: bytes
    """Little-endian, two bytes each; four, where there are 64 KiB of pieces."""


class Reel(msgspec.Struct, frozen=True, gc=False):
    """What is on a tape that is over."""

    runs: tuple[Run, ...]
    count: int
    """Reads on it."""
    size: int
    """Bytes that it takes, about."""

    def read(self, start: int, most: int) -> tuple[bytes, int]:
        """See `Tape.read`."""
        return _read(self.runs, self.count, start, most)


class _Open:
    """A run that is written, or read."""

    __slots__ = ("back", "ends", "first", "front", "pieces", "second")

    def __init__(self, first: int, front: bytes, second: bytes, back: bytes) -> None:
        self.first = first
        self.front = front
        self.second = second
        self.back = back
        self.pieces: bytearray | bytes = bytearray()
        self.ends = array("I")

    def seal(self) -> None:
        """Nothing more comes: what grew in steps, with room to grow, is put into just the room that it takes."""
        self.pieces = bytes(self.pieces)
        self.ends = array(_width(self.pieces), self.ends)

    def plain(self) -> Run:
        if isinstance(self.pieces, bytearray):
            self.seal()
        return Run(self.first, self.front, self.second, self.back, bytes(self.pieces), _swapped(self.ends).tobytes())

    def read(self, index: int) -> bytes:
        at = (index - self.first) * 2 if self.second else index - self.first
        pieces, ends = self.pieces, self.ends
        start, end = ends[at - 1] if at else 0, ends[at]
        if not self.second:
            return b"%b%b%b" % (self.front, pieces[start:end], self.back)
        return b"%b%b%b%b%b" % (self.front, pieces[start:end], self.second, pieces[end : ends[at + 1]], self.back)


class Tape:
    """Adding stops for good once the tape would take more than `limit` bytes, or the budget has no more: `torn` then, and what is on it can
    still be read. Whoever made it closes it."""

    __slots__ = ("_budget", "_left", "_limit", "_paid", "_room", "_run", "_runs", "_size", "count", "torn")

    def __init__(self, limit: int, budget: Budget) -> None:
        self._limit = limit
        self._budget = budget
        self._paid = 0
        self._size = 0  # of closed runs
        self._left = _TRIES
        self.count = 0
        """Reads on it."""
        self.torn = False
        self._run = _Open(0, b"", b"", b"")
        self._runs = [self._run]
        self._room = 0
        """Bytes of pieces up to which this run is paid for."""

    def add(self, reads: Sequence[bytes]) -> None:
        """In this order."""
        if self.torn:
            return
        run = self._run
        front, second, back, pieces, end = run.front, run.second, run.back, run.pieces, run.ends.append
        edge, edges = len(front), len(front) + len(back)
        for data in reads:
            size = len(data)
            if edges and size >= edges and data.startswith(front) and data.endswith(back):
                if not second:
                    pieces += data[edge : size - edges + edge]
                    end(len(pieces))
                    self.count += 1
                    continue
                at = data.find(second, edge, edge + _NUMBER + len(second))
                behind = at + len(second)
                if at >= 0 and behind <= size - edges + edge:
                    pieces += data[edge:at]
                    end(len(pieces))
                    pieces += data[behind : size - edges + edge]
                    end(len(pieces))
                    self.count += 1
                    continue
            self._add_any(data, size)
            run = self._run
            front, second, back, pieces, end = run.front, run.second, run.back, run.pieces, run.ends.append
            edge, edges = len(front), len(front) + len(back)
        if len(pieces) > self._room:
            self._pay()

    def _add_any(self, data: bytes, size: int) -> None:
        """A read that does not fit into the run."""
        run = self._run
        fixed = (b"", b"", b"")
        if self._left and self.count and 2 * _LEAST < size <= _LONGEST:
            before = self.read_one(self.count - 1)
            if len(before) <= _LONGEST:
                fixed = _common(before, data)
        front, second, back = fixed
        if len(front) + len(second) + len(back) >= _LEAST:
            self._left -= 1
            run = self._begin(front, second, back)
            if second:
                at = data.index(second, len(front))
                run.pieces += data[len(front) : at]
                run.ends.append(len(run.pieces))
                run.pieces += data[at + len(second) : size - len(back)]
            else:
                run.pieces += data[len(front) : size - len(back)]
        else:
            if run.front or run.back:
                run = self._begin(b"", b"", b"")
            run.pieces += data
        run.ends.append(len(run.pieces))
        self.count += 1

    def _begin(self, front: bytes, second: bytes, back: bytes) -> _Open:
        self._size += len(self._run.pieces) + 4 * len(self._run.ends) + _RUN
        self._run = run = _Open(self.count, front, second, back)
        self._runs.append(run)
        self._room = 0
        return run

    def _pay(self) -> None:
        run = self._run
        used = self._size + len(run.pieces) + 4 * len(run.ends) + _RUN
        lacks = used + LUMP // 2 - self._paid
        if lacks > 0:
            lump = max(LUMP, lacks)
            if used > self._limit or not self._budget.take(lump):
                self.torn = True
                return
            self._paid += lump
        if len(run.pieces) >= (_SEALED if run.front or run.back else 8 * _SEALED):
            run.seal()
            self._begin(run.front, run.second, run.back)
        self._room = len(self._run.pieces) + LUMP // 2

    def read_one(self, index: int) -> bytes:
        """The read of that number, as it came."""
        return self._runs[bisect_right(self._runs, index, key=_first) - 1].read(index)

    def read(self, start: int, most: int) -> tuple[bytes, int]:
        """The bytes from read `start` on, as many whole reads as fit into `most` bytes and at least one; and the number of the read behind them."""
        return _read(self._runs, self.count, start, most)

    def reel(self) -> Reel:
        """What is on it, where nothing more comes."""
        run = self._run
        size = self._size + len(run.pieces) + 4 * len(run.ends) + _RUN
        return Reel(tuple([run.plain() for run in self._runs]), self.count, size)

    @property
    def size(self) -> int:
        """Bytes that it was given of the budget."""
        return self._paid

    def close(self) -> None:
        """Give them back. What is on it stays readable for who still has it; nothing is added any more."""
        self.torn = True
        if self._paid:
            self._budget.give(self._paid)
            self._paid = 0


def _first(run: Run | _Open) -> int:
    return run.first


def _width(pieces: bytes) -> str:
    return "H" if len(pieces) < 1 << 16 else "I"


def _swapped(ends: array[int]) -> array[int]:
    """Little-endian, or back."""
    if sys.byteorder == "big":
        ends = array(ends.typecode, ends)
        ends.byteswap()
    return ends


def _opened(run: Run | _Open) -> _Open:
    """To be read."""
    if isinstance(run, _Open):
        return run
    opened = _Open(run.first, run.front, run.second, run.back)
    opened.pieces = run.pieces
    ends: array[int] = array(_width(run.pieces))
    ends.frombytes(run.ends)
    opened.ends = _swapped(ends)
    return opened


def _read(runs: Sequence[Run | _Open], count: int, start: int, most: int) -> tuple[bytes, int]:
    pieces: list[bytes] = []
    size, at, index = 0, bisect_right(runs, start, key=_first) - 1, start
    run = _opened(runs[at])
    while index < count:
        if at + 1 < len(runs) and index >= runs[at + 1].first:
            at += 1
            run = _opened(runs[at])
            continue
        piece = run.read(index)
        if pieces and size + len(piece) > most:
            break
        pieces.append(piece)
        size += len(piece)
        index += 1
    return b"".join(pieces), index


def _common(one: bytes, other: bytes) -> tuple[bytes, bytes, bytes]:
    """Front, second part and back that both have, without overlap, each cut back to a quotation mark: words that happen to begin alike would not
    recur. There is a second part only behind a number that follows the front in both."""
    front = _front(one, other)
    most = min(len(one), len(other)) - len(front)
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if one[len(one) - middle :] == other[len(other) - middle :]:
            low = middle
        else:
            high = middle - 1
    back = other[len(other) - low :]
    quote = back.find(b'"')
    back = back[quote:] if quote >= 0 else b""
    edge = len(front)
    ones, others = _AT_NUMBER.match(one, edge, len(one) - len(back)), _AT_NUMBER.match(other, edge, len(other) - len(back))
    if front and ones is not None and others is not None:
        second = _front(one[ones.end() : len(one) - len(back)], other[others.end() : len(other) - len(back)])
        if len(second) >= _LEAST and second not in other[edge : others.end()]:
            return front, second, back
    return front, b"", back


def _front(one: bytes, other: bytes) -> bytes:
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return other[: other.rfind(b'"', 0, low) + 1]
