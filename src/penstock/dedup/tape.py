"""The bytes of a stream as they came, in little room, to be read again from any read on.

What comes again and again in one stream is kept once: two reads of it are mostly the same but for a number and a word. So reads are kept in runs with
a common front and back, and perhaps a common part behind a number that counts up, and of each read only what stands between them. A tape of the usual
stream takes a sixth of its bytes, and adding to it costs a few comparisons and a copy of some bytes. Whatever does not fit begins a run of its own;
a stream in which nothing recurs is kept as it is.

A `Tape` is written, in this process; what is on it when nothing more comes is a `Reel`, plain data.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
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
_SEALED: Final = 400
"""Bytes of pieces at which a run is sealed, and another like it begun. With what comes before anybody looks they stay below 512, and the interpreter
keeps such in pools of its own: hundreds of streams that grow side by side in larger blocks would leave holes between them."""
_SEALED_PLAIN: Final = 8192
"""The same where nothing recurs: these are few, and large."""
_RUN: Final = 130
"""Bytes that a run takes besides, about."""
_FAR: Final = 255
"""A length from here on takes four bytes behind this one."""


class Run(msgspec.Struct, frozen=True, gc=False):
    """Reads with the same fixed parts. Nothing is added any more."""

    first: int
    """The number of its first read."""
    front: bytes
    second: bytes
    """Empty, or stands behind a number behind `front`: then each read has two pieces."""
    back: bytes
    pieces: bytes
    """What stands between the fixed parts, one behind the other, each behind its length: a byte, or 255 and four bytes, big-endian."""


class Reel(msgspec.Struct, frozen=True, gc=False):
    """What is on a tape that is over."""

    runs: tuple[Run, ...]
    count: int
    """Reads on it."""
    size: int
    """Bytes that it takes, about."""

    def read(self, start: int, most: int) -> tuple[bytes, int]:
        """See `Tape.read`."""
        return _read(self.runs, None, self.count, start, most)


class Tape:
    """Adding stops for good once the tape would take more than `limit` bytes, or the budget has no more: `torn` then, and what is on it can
    still be read. Whoever made it closes it."""

    __slots__ = (
        "_back", "_budget", "_first", "_front", "_left", "_limit", "_mark", "_paid", "_pieces", "_room", "_runs", "_second", "_size", "count", "torn",
    )  # fmt: skip

    def __init__(self, limit: int, budget: Budget) -> None:
        self._limit = limit
        self._budget = budget
        self._paid = 0
        self._size = 0  # of sealed runs
        self._left = _TRIES
        self.count = 0
        """Reads on it."""
        self.torn = False
        self._runs: list[Run] = []
        # The run that is written.
        self._first = 0
        self._front = self._second = self._back = b""
        self._pieces = bytearray()
        self._mark = 0  # where its last read begins in its pieces, where nothing recurs in it
        self._room = 0
        """Bytes of pieces up to which nobody need look."""

    def add(self, reads: Sequence[bytes]) -> None:
        """In this order."""
        if not self.torn:
            self._add(reads)
            if len(self._pieces) > self._room:
                self._pay()

    def _add(self, reads: Sequence[bytes]) -> None:
        front, second, back, pieces = self._front, self._second, self._back, self._pieces
        edge, edges = len(front), len(front) + len(back)
        count = self.count
        for data in reads:
            end = len(data) - edges + edge
            if edges and end >= edge and data.startswith(front) and data.endswith(back):
                at = mark = edge
                if second:
                    mark = len(pieces)
                    at = data.find(second, edge, edge + _NUMBER + len(second))
                    if at < 0 or at + len(second) > end:
                        at = -1
                    else:
                        pieces.append(at - edge)
                        pieces += data[edge:at]
                        at += len(second)
                if at >= 0:
                    if end - at >= edges and front and back and (joint := back + front) in data[at:end]:
                        # Frames that came together: each is kept as if it had come alone.
                        if second:
                            del pieces[mark:]
                        self.count = count
                        self._add(_apart(data, joint, len(back)))
                        count = self.count
                        front, second, back, pieces = self._front, self._second, self._back, self._pieces
                        edge, edges = len(front), len(front) + len(back)
                        continue
                    if end - at < _FAR:
                        pieces.append(end - at)
                        pieces += data[at:end]
                    else:
                        _put(pieces, data[at:end])
                    count += 1
                    continue
            self.count = count
            self._add_any(data)
            count += 1
            front, second, back, pieces = self._front, self._second, self._back, self._pieces
            edge, edges = len(front), len(front) + len(back)
        self.count = count

    def _add_any(self, data: bytes) -> None:
        """A read that does not fit into the run."""
        size = len(data)
        fixed = (b"", b"", b"")
        if self._left and self.count and 2 * _LEAST < size <= _LONGEST:
            before = self._before()
            if len(before) <= _LONGEST:
                fixed = _common(before, data)
        front, second, back = fixed
        if len(front) + len(second) + len(back) >= _LEAST:
            self._left -= 1
            self._begin(front, second, back)
            edge, end = len(front), size - len(back)
            if second:
                at = data.index(second, edge)
                _put(self._pieces, data[edge:at])
                edge = at + len(second)
            _put(self._pieces, data[edge:end])
        else:
            if self._front or self._back:
                self._begin(b"", b"", b"")
            self._mark = len(self._pieces)
            _put(self._pieces, data)
        self.count += 1

    def _before(self) -> bytes:
        """The last read."""
        if self._front or self._back or self.count == self._first:
            return self.read_one(self.count - 1)
        at = self._mark
        return bytes(self._pieces[at + (1 if self._pieces[at] < _FAR else 5) :])

    def _begin(self, front: bytes, second: bytes, back: bytes) -> None:
        """Seal the run that is written: what grew in steps, with room to grow, is put into just the room that it takes."""
        if self._pieces:
            run = Run(self._first, self._front, self._second, self._back, bytes(self._pieces))
            self._size += len(run.pieces) + _RUN
            self._runs.append(run)
        self._first, self._front, self._second, self._back = self.count, front, second, back
        self._pieces = bytearray()
        self._room = 0

    def _pay(self) -> None:
        used = self._size + len(self._pieces) + _RUN
        lacks = used + LUMP // 2 - self._paid
        if lacks > 0:
            lump = max(LUMP, lacks)
            if used > self._limit or not self._budget.take(lump):
                self.torn = True
                return
            self._paid += lump
        sealed = _SEALED if self._front or self._back else _SEALED_PLAIN
        if len(self._pieces) >= sealed:
            self._begin(*self._learned())
        self._room = min(len(self._pieces) + LUMP // 2, sealed - 1)

    def _learned(self) -> tuple[bytes, bytes, bytes]:
        """The fixed parts of the next run. Those of the run that is full, unless it has few reads of many bytes: it may have begun with a read that
        was unlike all others, as the first of a stream is, and then its last two have more in common."""
        known = self._front, self._second, self._back
        reads = self.count - self._first
        if not self._left or reads < 3 or len(self._pieces) < reads * 2 * _LEAST or not (self._front or self._back):
            return known
        one, other = self.read_one(self.count - 2), self.read_one(self.count - 1)
        if max(len(one), len(other)) > _LONGEST:
            return known
        self._left -= 1
        found = _common(one, other)
        return found if sum(map(len, found)) >= sum(map(len, known)) + _LEAST else known

    def _written(self) -> Run:
        return Run(self._first, self._front, self._second, self._back, bytes(self._pieces))

    def read_one(self, index: int) -> bytes:
        """The read of that number, as it came."""
        run = self._written() if index >= self._first else self._runs[bisect_right(self._runs, index, key=_first) - 1]
        for number, data in enumerate(_reads(run), run.first):
            if number == index:
                return data
        raise IndexError(index)

    def read(self, start: int, most: int) -> tuple[bytes, int]:
        """The bytes from read `start` on, as many whole reads as fit into `most` bytes and at least one; and the number of the read behind them."""
        return _read(self._runs, self._written(), self.count, start, most)

    def reel(self) -> Reel:
        """What is on it, where nothing more comes."""
        written = self._written()
        runs = (*self._runs, written) if written.pieces else tuple(self._runs)
        return Reel(runs, self.count, self._size + len(written.pieces) + _RUN)

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


def _first(run: Run) -> int:
    return run.first


def _apart(data: bytes, joint: bytes, back: int) -> list[bytes]:
    """The frames in `data`: a joint is the back (so many bytes) of one and the front of the next."""
    frames: list[bytes] = []
    start = 0
    while (at := data.find(joint, start)) >= 0:
        frames.append(data[start : at + back])
        start = at + back
    frames.append(data[start:])
    return frames


def _put(pieces: bytearray, piece: bytes) -> None:
    if len(piece) < _FAR:
        pieces.append(len(piece))
    else:
        pieces.append(_FAR)
        pieces += len(piece).to_bytes(4, "big")
    pieces += piece


def _reads(run: Run) -> Iterator[bytes]:
    front, second, back, pieces = run.front, run.second, run.back, run.pieces
    at, end = 0, len(pieces)
    number = b""
    waits = False
    while at < end:
        size = pieces[at]
        at += 1
        if size == _FAR:
            size = int.from_bytes(pieces[at : at + 4], "big")
            at += 4
        piece = pieces[at : at + size]
        at += size
        if not second:
            yield b"%b%b%b" % (front, piece, back)
        elif waits:
            waits = False
            yield b"%b%b%b%b%b" % (front, number, second, piece, back)
        else:
            number, waits = piece, True


def _read(runs: Sequence[Run], last: Run | None, count: int, start: int, most: int) -> tuple[bytes, int]:
    pieces: list[bytes] = []
    size, index = 0, start
    at = len(runs) if last is not None and start >= last.first else bisect_right(runs, start, key=_first) - 1
    while index < count:
        run = runs[at] if at < len(runs) else last
        assert run is not None
        at += 1
        for number, piece in enumerate(_reads(run), run.first):
            if number < start:
                continue
            if pieces and size + len(piece) > most:
                return b"".join(pieces), index
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
