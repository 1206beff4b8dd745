"""Bytes that lie outside of memory: in one file without a name, which goes when the process does.

Notes of streams grow with the streams, and few are ever read. A file's pages are the system's: it keeps what is used at hand, and writes the rest to
the disk when memory is short. What is given back is written over by what comes next, the last first, so most of it never reaches the disk at all.

Whoever holds a `Piece` can read it; the place in the file is free again when nobody does. Each piece begins with a number that no other has, so
that a mistake here ends in an error and not in somebody else's bytes.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

_UNIT: Final = 512
"""Places are so many bytes, or several times as many."""
_EXACT: Final = 32
"""Units from which a place has the next power of two of them."""
_NUMBER: Final = 8
"""Bytes of the number."""
_AT_BITS: Final = 30
"""Of a place: half a TiB of units."""
_SIZE_BITS: Final = 30
_REST: Final = 1000
"""Pieces that are not tried after one that could not be written."""
_SMALL: Final = 1024 * 1024
"""Bytes that the file keeps while nothing lies in it."""


class Piece:
    """Some bytes of a shelf. (There are some for each stream, so it is three fields.)"""

    __slots__ = ("_place", "_shelf", "mark")

    def __init__(self, shelf: Shelf, place: int, mark: int) -> None:
        self._shelf = shelf
        self._place = place
        self.mark = mark
        """Whatever its owner wants to know of it."""

    def read(self) -> bytes:
        """Raises `OSError` where the file cannot be read."""
        return self._shelf.read(self._place)

    def __del__(self) -> None:
        # In any thread: the garbage collector may come by there.
        self._shelf.returned.append(self._place)


class Shelf:
    """Used by one thread. The file is made when it is first needed."""

    __slots__ = ("_directory", "_end", "_fd", "_free", "_most", "_number", "_out", "_rest", "_tell", "returned")

    def __init__(self, directory: Path | None, most: int, tell: Callable[[str], None]) -> None:
        """At most `most` bytes in `directory`; `None`: nothing is ever put. `tell` is told a sentence where the file system takes nothing."""
        self._directory = directory
        self._most = min(most, _UNIT << _AT_BITS)
        self._tell = tell
        self._fd = -1
        self._end = 0
        self._out = 0
        """Pieces that somebody holds."""
        self._free: dict[int, list[int]] = {}
        """Places by their units."""
        self.returned: deque[int] = deque()
        """The places of pieces that nobody holds any more."""
        self._number = 0
        self._rest = 0

    @property
    def pieces(self) -> int:
        """How many somebody holds."""
        return self._out - len(self.returned)

    def put(self, data: bytes, mark: int = 0) -> Piece | None:
        """`None`: it does not take them; they are to be held otherwise."""
        if self._directory is None:
            return None
        if self._rest:
            self._rest -= 1
            return None
        self._take_back()
        self._number = number = self._number + 1
        size = len(data) + _NUMBER
        if size >= 1 << _SIZE_BITS:
            return None
        units = _units(size)
        free = self._free.get(units)
        if free:
            at = free.pop()
        elif self._end + units * _UNIT <= self._most:
            at = self._end
            self._end += units * _UNIT
        else:
            return None
        self._out += 1
        piece = Piece(self, (number << _SIZE_BITS | size) << _AT_BITS | at // _UNIT, mark)  # from here on its place is given back, whatever happens
        try:
            if self._fd < 0:
                self._fd = _open(self._directory)
            if os.pwrite(self._fd, number.to_bytes(_NUMBER, "little") + data, at) != size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._rest = _REST
            self._tell(f"{self._directory}: notes of answers stay in memory: {error.strerror or error}")
            return None
        return piece

    def read(self, place: int) -> bytes:
        """For `Piece`."""
        number, size, at = _told(place)
        data = os.pread(self._fd, size, at)
        if len(data) != size or int.from_bytes(data[:_NUMBER], "little") != number:
            raise OSError(errno.EIO, "what was noted is not there any more")
        return data[_NUMBER:]

    def _take_back(self) -> None:
        returned = self.returned
        while returned:
            _, size, at = _told(returned.popleft())
            units = _units(size)
            self._out -= 1
            free = self._free.get(units)
            if free is None:
                self._free[units] = [at]
            else:
                free.append(at)
        if not self._out and self._end > _SMALL:
            self._end = 0
            self._free.clear()
            try:
                os.ftruncate(self._fd, 0)
            except OSError:  # it takes its room until it is used again
                return

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def _units(size: int) -> int:
    units = -(-size // _UNIT)
    return units if units <= _EXACT else 1 << (units - 1).bit_length()


def _told(place: int) -> tuple[int, int, int]:
    """A piece's number, its size and where it begins, in bytes."""
    head = place >> _AT_BITS
    return head >> _SIZE_BITS, head & ((1 << _SIZE_BITS) - 1), (place & ((1 << _AT_BITS) - 1)) * _UNIT


def _open(directory: Path) -> int:
    """A file without a name, readable by this user alone, and not by what this process starts."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=directory, prefix="notes-", buffering=0) as file:
        return os.dup(file.fileno())
