"""A log of what all streams bring, in the order in which it comes: in segments of one size, the last in memory and those before it in a file.

Whatever comes is copied once, while it is at hand, behind what came before; nothing of it is looked at, and nothing held. That is the price of a note
that is never read. Each record names the one before it of its stream, so that a stream is read back from its last record on, and whoever brings them
need not remember more than that one.

A full segment is written by a thread, in one call: a disk may be busy, and the event loop never waits for it. The file has no name, and goes when the
process does, or when nothing lies in it; its places are written over by what comes later. What the file system does not take stays in memory, up to
a bound.

The oldest segment goes where there are too many (the *cleaner* of log-structured file systems): what streams that somebody holds have in it is handed
to them, and they pack it (`notes`). It goes without that where nobody needs it: all that lies in it is of streams that are over, and kept no more.

A record's place says in which segment it is, and each segment in the file begins with its number, which no other of this process ever has: a mistake
here ends in an error, and not in another's bytes.
"""

from __future__ import annotations

import errno
import os
import time
from collections import deque
from collections.abc import Callable
from io import BytesIO
from math import inf
from pathlib import Path
from struct import Struct
from struct import error as StructError
from typing import Final, Protocol
from weakref import ReferenceType, ref

from penstock.dedup.writer import Segment, SegmentWriter, view_of

SEGMENT: Final = 128 * 1024
"""Bytes of one."""
_FEWEST: Final = 4
"""Segments that there may be at least."""
_HEAD: Final = Struct("<QI")
"""Of a record: where the one before it of its stream lies (0: it is the first), and how many bytes it has."""
_HEAD_SIZE: Final = _HEAD.size
_pack: Final = _HEAD.pack
_FIRST: Final = _pack(0, 0)
_NUMBER: Final = 8
"""Bytes of a segment's number."""
_POOL: Final = 2
"""Empty buffers that are held for the next segments."""
_AT_ONCE: Final = 16
"""Segments that are cleaned in one turn at most: 4 ms."""
_WINDOW: Final = 16 * 1024
"""Bytes of the file that are read at a time."""
_SAMPLES: Final = 0.5
"""Seconds between two looks at what is needed."""
_REST: Final = 10.0
"""Seconds for which nothing is written after the file system took nothing."""
Write = Callable[[bytes], int]


class Holder(Protocol):
    """What of a stream may still be read."""

    tail: int
    """The last record that was moved, or the first of all where none was."""

    def move(self, data: bytes, at: int) -> None:
        """The record that lies `at`, the oldest of it, goes from there: it is the holder's from now on."""
        ...

    def lose(self) -> None:
        """Something of it cannot be read."""
        ...


class SegmentLog:
    """For one thread, but for `let_go`."""

    __slots__ = (
        "_at", "_directory", "_end", "_free", "_held", "_holders", "_marks", "_most", "_most_in_memory", "_newest", "_next_look",
        "_oldest", "_pool", "_rests_until", "_segments", "_size", "_slots", "_tell", "_trouble", "_window", "_write", "_writer",
    )  # fmt: skip

    def __init__(
        self, directory: Path | None, most: int, most_in_memory: int, tell: Callable[[str], None], segment: int = SEGMENT
    ) -> None:  # fmt: skip
        """A file of at most `most` bytes in `directory`, made when it is needed; without one all is in memory, as are at most `most_in_memory` bytes
        that the file system does not take (and a sixteenth of `most` for a while). `tell` is told a sentence when it begins to take nothing, and not
        each time that it is tried."""
        self._directory = directory
        self._size = segment
        self._most_in_memory = max(_FEWEST, most_in_memory // segment)
        self._most = max(_FEWEST, most // segment) if directory is not None else self._most_in_memory
        self._tell = tell
        self._segments: dict[int, Segment] = {}
        """By number: all from the oldest to the newest."""
        self._oldest, self._newest = 1, 0
        self._held = 0
        """Those in memory."""
        self._pool: list[BytesIO] = []
        self._writer: SegmentWriter | None = None
        self._free: list[int] = []
        """Slots."""
        self._slots = 0
        self._window = (0, 0, b"")
        """A segment's number, from where on, and what was read there last."""
        self._rests_until = -inf
        self._trouble = ""
        """Why the file system took nothing the last time."""
        self._holders: dict[int, ReferenceType[Holder]] = {}
        """By their tails."""
        self._marks: deque[tuple[float, int]] = deque()
        """When, and from where on something was needed then."""
        self._next_look = -inf
        self._at = self._end = 0
        """Where the next record lies, if it fits in front of the end."""
        self._write: Write = BytesIO().write

    @property
    def segment(self) -> int:
        """Bytes of one."""
        return self._size

    @property
    def floor(self) -> int:
        """What lies below it is gone."""
        return self._oldest * self._size

    @property
    def holds(self) -> bool:
        return bool(self._segments)

    @property
    def segments(self) -> int:
        return len(self._segments)

    @property
    def in_memory(self) -> int:
        """Segments of them."""
        return self._held

    # -- streams -------------------------------------------------------------------------------------------------------------------------

    def hold(self, holder: Holder) -> None:
        self._holders[holder.tail] = ref(holder)

    def let_go(self, holder: Holder) -> None:
        """In any thread: the garbage collector may come by there, when another holds the same already."""
        held = self._holders.get(holder.tail)
        if held is not None and held() in (None, holder):
            self._holders.pop(holder.tail, None)

    def holder(self, tail: int) -> Holder | None:
        held = self._holders.get(tail)
        return held() if held is not None else None

    # -- writing -------------------------------------------------------------------------------------------------------------------------

    def begin(self) -> int:
        """A stream: where its first record lies, which has nothing in it."""
        if self._at + _HEAD_SIZE > self._end:
            self._turn()
        at = self._at
        self._at = at + self._write(_FIRST)
        return at

    def add(self, before: int, data: bytes) -> int:
        """Where `data` lies as the record behind the one that lies at `before`; 0: nowhere, the segment has no room for it (see `add_slowly`), or
        `before` is 0. This runs for each read of each stream."""
        at = self._at
        size = len(data)
        end = at + _HEAD_SIZE + size
        if end > self._end or not before:
            return 0
        self._at = end
        write = self._write
        write(_pack(before, size))
        write(data)
        return at

    def add_slowly(self, before: int, data: bytes) -> int:
        """The same in another segment, or several: where the last record lies."""
        most = self._size - _NUMBER - _HEAD_SIZE
        for begin in range(0, len(data), most):
            piece = data[begin : begin + most]
            if self._at + _HEAD_SIZE + len(piece) > self._end:
                self._turn()
            at = self._at
            self._at = at + self._write(_pack(before, len(piece))) + self._write(piece)
            before = at
        return before

    def _turn(self) -> None:
        """Begin another segment."""
        self._look()
        last = self._segments.get(self._newest)
        if last is not None and not last.used:
            last.used = self._at - self._newest * self._size
            if self._held > _POOL and (buffer := last.to_pages()) is not None:  # else the heap would grow by many such
                self._pool.append(buffer)
            if self._directory is not None and time.monotonic() >= self._rests_until:
                self._hand_over(last, self._directory)
        self._at = self._end = (self._newest + 1) * self._size
        cleaned = 0
        # (Where the file system begins to take nothing, the oldest lie in the file, and leave no memory: so there may be more in it for a while.)
        while cleaned < _AT_ONCE and self._segments and (len(self._segments) >= self._most or self._held >= self._most_in_memory):
            self._clean()
            cleaned += 1
        buffer = self._pool.pop() if self._pool else BytesIO(bytes(self._size))
        buffer.seek(0)
        self._newest += 1
        self._segments[self._newest] = Segment(buffer)
        self._held += 1
        self._at += buffer.write(self._newest.to_bytes(_NUMBER, "little"))
        self._end += self._size
        self._write = buffer.write

    def _hand_over(self, segment: Segment, directory: Path) -> None:
        writer = self._writer
        if writer is None:
            writer = SegmentWriter(directory, self._size)
            try:
                writer.start()
            except RuntimeError as error:  # no thread can be had now (or the process ends)
                self._rest(str(error))
                return
            self._writer = writer
        if self._free:
            segment.slot = self._free.pop()
        else:
            segment.slot, self._slots = self._slots, self._slots + 1
        writer.put(segment)

    def _look(self) -> None:
        """What the thread has done."""
        writer = self._writer
        while writer is not None and writer.done:
            segment, why = writer.done.popleft()
            if why:
                self._rest(why)
                continue
            buffer, segment.buffer = segment.buffer, None
            if not segment.gone:  # else it may not have been tried
                self._held -= 1
                self._trouble = ""
            if isinstance(buffer, BytesIO) and len(self._pool) < _POOL:
                self._pool.append(buffer)

    def _rest(self, why: str) -> None:
        self._rests_until = time.monotonic() + _REST
        if why != self._trouble:  # else it is as it was, and has been told
            self._trouble = why
            self._tell(f"{self._directory}: notes of answers stay in memory: {why}")

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until what was handed over is written, or found to be none that can be; False when that takes longer than `timeout` seconds."""
        end = time.monotonic() + timeout
        while self._writer is not None and not self._writer.idle:
            if time.monotonic() > end:
                return False
            time.sleep(0.002)
        self._look()
        return True

    # -- what goes -----------------------------------------------------------------------------------------------------------------------

    def sweep(self, now: float, longest: float) -> None:
        """What nobody needs any more goes. `longest`: seconds for which something that is over may be asked for; 0: nothing can be."""
        self._look()
        marks = self._marks
        if now < self._next_look and self._holders:
            return
        self._next_look = now + _SAMPLES
        held = [holder for one in list(self._holders.values()) if (holder := one()) is not None]
        needed = min([holder.tail for holder in held], default=self._at)
        if not longest:
            marks.clear()
        else:
            # Whatever ended since a look was held then, or began later.
            marks.append((now, needed))
            while len(marks) > 1 and marks[1][0] <= now - longest:
                marks.popleft()
            then, before = marks[0]
            if then > now - longest:
                return
            needed = min(needed, before)
        while self._segments and (self._oldest + 1) * self._size <= needed:
            self._drop()
        if needed == self._at and not held:
            self._close()

    def _clean(self) -> None:
        number = self._oldest
        segment, base, holders = self._segments[number], number * self._size, self._holders
        offset = _NUMBER
        try:
            data = self._read(number, segment, 0, segment.used)
            while offset < len(data):
                before, size = _HEAD.unpack_from(data, offset)
                at = base + offset
                offset += _HEAD_SIZE + size
                held = holders.pop(before or at, None)
                holder = held() if held is not None else None
                if held is not None and holder is not None:
                    holders[at] = held
                    self._move(holder, data[offset - size : offset], at)
        except (OSError, StructError):
            for held in list(holders.values()):
                holder = held()
                if holder is not None and holder.tail < base + self._size:
                    holder.lose()
        self._drop()

    def _move(self, holder: Holder, data: bytes, at: int) -> None:
        try:
            holder.move(data, at)
        except Exception as error:  # a mistake of ours: it ends these notes, and not the exchange that needs the room
            self._tell(f"notes of an answer are lost: {type(error).__name__}")
            holder.lose()
            del self._holders[at]

    def _drop(self) -> None:
        """The oldest."""
        segment = self._segments.pop(self._oldest)
        self._oldest += 1
        segment.gone = True
        if segment.buffer is not None:
            self._held -= 1
            segment.buffer = None  # it may wait for a disk that hangs
        if segment.slot >= 0:
            self._free.append(segment.slot)

    def _close(self) -> None:
        """Nobody needs anything."""
        while self._segments:
            self._drop()
        self._at = self._end = (self._newest + 1) * self._size
        self._marks.clear()
        self._pool.clear()
        self._free.clear()
        self._slots = 0
        self._window = (0, 0, b"")
        self._write = BytesIO().write
        if self._writer is not None:
            self._writer.stop()
            self._writer = None

    def __del__(self) -> None:
        if self._writer is not None:
            self._writer.stop()

    # -- reading -------------------------------------------------------------------------------------------------------------------------

    def head(self, at: int) -> tuple[int, int]:
        """Of the record that lies there: where the one before it does, and how many bytes it has. Raises `OSError`, as all reading."""
        before, size = _HEAD.unpack(self._find(at, _HEAD_SIZE))
        if before >= at:
            raise gone()
        return before, size

    def body(self, at: int, size: int) -> bytes:
        return self._find(at + _HEAD_SIZE, size)

    def _find(self, at: int, size: int) -> bytes:
        number, offset = divmod(at, self._size)
        segment = self._segments.get(number)
        if segment is None:
            raise gone()
        return self._read(number, segment, offset, size)

    def _read(self, number: int, segment: Segment, offset: int, size: int) -> bytes:
        buffer = segment.buffer
        if buffer is not None:
            with view_of(buffer) as view:
                return _whole(bytes(view[offset : offset + size]), size)
        there, start, read = self._window
        if there != number or offset < start or offset + size > start + len(read):
            start = offset - offset % _WINDOW
            if self._writer is None:
                raise gone()
            fd, place = self._writer.fd, segment.slot * self._size
            length = max(0, min(max(_WINDOW, offset + size - start), self._size - start))
            read = os.pread(fd, length, place + start)
            if len(read) != length or os.pread(fd, _NUMBER, place) != number.to_bytes(_NUMBER, "little"):
                raise gone()
            self._window = (number, start, read)
        return _whole(read[offset - start : offset - start + size], size)


def _whole(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise gone()
    return data


def gone() -> OSError:
    return OSError(errno.EIO, "what was noted is not there any more")
