"""Bytes that lie outside of memory: in one file without a name, which goes when the process does, or when nothing lies in it.

Notes of streams grow with the streams, and few are ever read. A file's pages are the system's: it keeps what is used at hand, and writes the rest to
the disk when memory is short. What is given back is written over by what comes later, so most of it never reaches the disk at all.

Writing may take long where a disk is busy, so a thread does it; until then a piece is in memory, and for good where the file system takes nothing.
What has gathered is written side by side in one call: after each the thread has to win the interpreter's lock back from the event loop. Reading is
seldom, and mostly of what the system has at hand: whoever needs it reads.

Whoever holds a `Piece` can read it; the place in the file is free again when nobody does. Each piece begins with a number that no other has, so
that a mistake here ends in an error and not in somebody else's bytes.
"""

from __future__ import annotations

import errno
import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from math import inf
from pathlib import Path
from sys import getrefcount
from typing import Final

_UNIT: Final = 512
"""Places are so many bytes, or several times as many."""
_AT_ONCE: Final = 32 * 1024
"""Bytes that are written in one call, about."""
_NUMBER: Final = 8
"""Bytes of the number."""
_AT_BITS: Final = 30
"""Of a place: half a TiB of units."""
_SIZE_BITS: Final = 30
GATHER: Final = 0.03
"""Seconds for which pieces are gathered before they are written."""
_IDLE: Final = 0.2
"""Seconds between two looks while nothing comes and something lies there."""
_REST: Final = 10.0
"""Seconds for which nothing is written after the file system took nothing."""


class Piece:
    """Some bytes of a shelf. (There are some for each stream, so it has few fields.)"""

    __slots__ = ("_place", "_shelf", "mark")

    def __init__(self, shelf: Shelf, data: bytes, mark: int) -> None:
        self._shelf = shelf
        self._place: bytes | int = data
        """Where it lies; the bytes themselves as long as they are in memory."""
        self.mark = mark
        """Whatever its owner wants to know of it."""

    def read(self) -> bytes:
        """Raises `OSError` where the file cannot be read."""
        place = self._place
        return place if isinstance(place, bytes) else self._shelf.read(place)

    @property
    def in_memory(self) -> bool:
        return isinstance(self._place, bytes)

    @property
    def size(self) -> int:
        """Bytes, about."""
        place = self._place
        return len(place) if isinstance(place, bytes) else _told(place)[1]

    def lie_at(self, place: int) -> None:
        """For the shelf."""
        self._place = place

    def __del__(self) -> None:
        # In any thread: the garbage collector may come by there.
        place = self._place
        self._shelf.returned.append(-1 if isinstance(place, bytes) else place)


class Shelf:
    """`put` and `Piece.read` are for one thread; the other is its own, and is there while something lies here."""

    __slots__ = (
        "_directory", "_fd", "_from", "_gone", "_lock", "_made", "_most", "_number", "_queue", "_rests_until", "_runs", "_taken", "_tell", "_trouble",
        "_writing", "returned",
    )  # fmt: skip

    def __init__(self, directory: Path, most: int, tell: Callable[[str], None]) -> None:
        """A file of at most `most` bytes in `directory`, made when it is needed. `tell` is told a sentence when the file system begins to take
        nothing, and not each time that it is tried."""
        self._directory = directory
        self._most = min(most // _UNIT, 1 << _AT_BITS)
        """Units."""
        self._tell = tell
        self._lock = threading.Lock()
        """For whether the thread runs."""
        self._runs = False
        self._queue: deque[Piece] = deque()
        """To be written."""
        self._made = 0
        """Pieces, ever."""
        self.returned: deque[int] = deque()
        """The places of pieces that nobody holds any more; -1: it lay nowhere."""
        # What follows is the thread's.
        self._gone = 0
        """Those that were taken out of `returned`."""
        self._writing = False
        self._fd = -1
        self._taken = bytearray()
        """A byte for each unit of the file: 1 where something lies."""
        self._from = 0
        """The unit from which places are looked for."""
        self._number = 0
        self._rests_until = -inf
        self._trouble = ""
        """Why the file system took nothing the last time."""

    @property
    def pieces(self) -> int:
        """How many somebody holds, or are to be written."""
        return self._made - self._gone - len(self.returned)

    def put(self, data: bytes, mark: int = 0) -> Piece:
        """In memory until it is written. Never blocks. `data`: less than a GiB."""
        piece = Piece(self, data, mark)
        self._made += 1
        self._queue.append(piece)
        if not self._runs:
            self._start()
        return piece

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until what was put before is written, or found to be none that can be; False when that takes longer than `timeout` seconds."""
        end = time.monotonic() + timeout
        while self._queue or self._writing:
            if time.monotonic() > end:
                return False
            time.sleep(0.002)
        return True

    def read(self, place: int) -> bytes:
        """For `Piece`."""
        number, size, at = _told(place)
        data = os.pread(self._fd, size, at)
        if len(data) != size or int.from_bytes(data[:_NUMBER], "little") != number:
            raise OSError(errno.EIO, "what was noted is not there any more")
        return data[_NUMBER:]

    def _start(self) -> None:
        with self._lock:
            if not self._runs:
                try:
                    threading.Thread(target=self._run, name="penstock-notes", daemon=True).start()
                except RuntimeError:  # no thread can be had now (or the process ends): what is put stays in memory, and is tried again with the next
                    return
                self._runs = True

    # -- on the thread -------------------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause = GATHER
        while True:
            time.sleep(pause)
            pause = GATHER if self._queue else _IDLE
            try:
                self._turn()
            except Exception as error:  # a mistake of ours: what waits stays in memory
                self._rest(type(error).__name__)
            with self._lock:
                self._runs = False  # before the look: who puts something afterwards starts another thread
                if self._queue or self.pieces:
                    self._runs = True
                    continue
                fd = self._forget()
            if fd >= 0:
                os.close(fd)
            return

    def _turn(self) -> None:
        self._take_back()
        queue = self._queue
        try:
            while queue:
                self._writing = True
                some: list[Piece] = []
                size = 0
                while queue and size < _AT_ONCE:
                    piece = queue.popleft()
                    if getrefcount(piece) > 2:  # else nobody has it but this
                        some.append(piece)
                        size += piece.size
                if some and time.monotonic() >= self._rests_until:
                    self._write(some)
        finally:
            self._writing = False

    def _write(self, some: list[Piece]) -> None:
        parts: list[bytes] = []
        places: list[int] = []
        units = 0
        for piece in some:
            data = piece.read()
            size = len(data) + _NUMBER
            self._number = number = self._number + 1
            places.append((number << _SIZE_BITS | size) << _AT_BITS | units)
            parts += (number.to_bytes(_NUMBER, "little"), data, bytes(-size % _UNIT))
            units += _units(size)
        at = self._find(units)
        if at is None:
            if len(some) > 1:  # there is no room for all side by side
                for piece in some:
                    self._write([piece])
            return
        whole = b"".join(parts)
        try:
            if self._fd < 0:
                self._fd = nameless(self._directory)
            if os.pwrite(self._fd, whole, at * _UNIT) != len(whole):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._rest(error.strerror or str(error))
        else:
            self._trouble = ""
            self._taken[at : at + units] = b"\1" * units
            for piece, place in zip(some, places, strict=True):
                piece.lie_at(place + at)

    def _find(self, units: int) -> int | None:
        """So many free units side by side; behind those that were found last, where there are some."""
        taken, gap = self._taken, bytes(units)
        at = taken.find(gap, self._from)
        if at < 0 and self._from:
            at = taken.find(gap, 0)
        if at < 0:
            at = len(taken.rstrip(b"\0"))
            if at + units > self._most:
                return None
            taken.extend(bytes(at + units - len(taken)))
        self._from = at + units
        return at

    def _rest(self, why: str) -> None:
        self._rests_until = time.monotonic() + _REST
        if why != self._trouble:  # else it is as it was, and has been told
            self._trouble = why
            self._tell(f"{self._directory}: notes of answers stay in memory: {why}")

    def _take_back(self) -> None:
        returned = self.returned
        while returned:
            place = returned.popleft()
            self._gone += 1
            if place >= 0:
                _, size, at = _told(place)
                self._taken[at // _UNIT : at // _UNIT + _units(size)] = bytes(_units(size))

    def _forget(self) -> int:
        """Nothing lies in the file: the descriptor to close."""
        self._take_back()
        fd, self._fd = self._fd, -1
        self._taken.clear()
        self._from = 0
        return fd


def _units(size: int) -> int:
    return -(-size // _UNIT)


def _told(place: int) -> tuple[int, int, int]:
    """A piece's number, its size and where it begins, in bytes."""
    head = place >> _AT_BITS
    return head >> _SIZE_BITS, head & ((1 << _SIZE_BITS) - 1), (place & ((1 << _AT_BITS) - 1)) * _UNIT


def nameless(directory: Path) -> int:
    """The descriptor of a file without a name, readable by this user alone, and not by what this process starts."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=directory, prefix="notes-", buffering=0) as file:
        return os.dup(file.fileno())
