"""Where lines go: a file that may be moved away, a descriptor, or a stream of Python's. Used by the log's thread alone.

Descriptors are written without a buffer of Python's in between: what a failed write left in one would come again in the middle of a later
line, and a thread that is stuck in one holds a lock that the interpreter wants at its end.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, TextIO

_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
"""Not blocking: a pipe without a reader in the file's place must not hold up the start."""
_AGAIN: Final = 0.02
"""Seconds until a full pipe is tried again, where it does not block."""

Wait = Callable[[float], bool]
"""Sleep so many seconds; True: do not wait any longer, the process ends."""


class Unwritten(Exception):
    """Of the data, only the first `written` bytes left. Its text is a few words of the operating system's."""

    def __init__(self, written: int, why: str) -> None:
        super().__init__(why)
        self.written = written


class Sink(Protocol):
    terminal: bool

    def open(self) -> None:
        """Raises `OSError`."""
        ...

    def write(self, data: bytes, wait: Wait) -> None:
        """Whole lines. Raises `Unwritten`, and nothing else."""
        ...

    def close(self) -> None: ...


class FileSink:
    """Appends to `path`, made with mode 0600 where it is not there. Looked at before each write: when the file was moved away or removed, a new
    one is begun, so logrotate needs neither a signal nor `copytruncate` (which works too)."""

    terminal = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None
        self._own: tuple[int, int] | None = None  # device and inode
        self._out = _Descriptor()

    def open(self) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self._path, _FLAGS, 0o600)
        found = os.fstat(fd)
        if stat.S_ISDIR(found.st_mode):  # not on Linux, where the open fails
            os.close(fd)
            raise IsADirectoryError(f"{self._path} is a directory")
        self.close()
        self._fd, self._own = fd, (found.st_dev, found.st_ino)

    def write(self, data: bytes, wait: Wait) -> None:
        try:
            fd = self._follow()
        except OSError as error:
            raise Unwritten(0, error.strerror or str(error)) from error
        self._out.write(fd, data, wait)

    def close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _follow(self) -> int:
        """The descriptor of what is at the path now."""
        fd = self._fd
        try:
            found = self._path.stat()
            moved = (found.st_dev, found.st_ino) != self._own
        except OSError:
            moved = True
        if fd is None or moved:
            try:
                self.open()
                self._out.torn = False
            except OSError:
                if fd is None or os.fstat(fd).st_nlink == 0:
                    raise
                return fd  # where the file was moved to, lines are still found
        assert self._fd is not None
        return self._fd


class StreamSink:
    """A stream that others use too, standard error above all; it is not closed. Its descriptor is written where it has one."""

    def __init__(self, out: TextIO | None) -> None:
        """`None`: the process was started without one; every line is lost."""
        self._stream = out
        self._fd: int | None = None
        self._out = _Descriptor()
        try:
            self.terminal = out is not None and out.isatty()
        except ValueError:
            self.terminal = False  # closed

    def open(self) -> None:
        if self._stream is None or self._fd is not None:
            return
        try:
            # One of our own: the number of theirs may be something else's once they have closed it.
            self._fd = os.dup(self._stream.fileno())
        except (OSError, ValueError):
            self._fd = None  # a stream in memory, or closed

    def write(self, data: bytes, wait: Wait) -> None:
        if self._fd is not None:
            self._out.write(self._fd, data, wait)
            return
        if self._stream is None:
            raise Unwritten(0, "there is no standard error")
        try:
            self._stream.write(data.decode())
            self._stream.flush()
        except (OSError, ValueError) as error:
            raise Unwritten(0, str(error)) from error

    def close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


class _Descriptor:
    """Whole lines to a descriptor. A line that a full disk has cut is ended before the next one begins."""

    def __init__(self) -> None:
        self.torn = False

    def write(self, fd: int, data: bytes, wait: Wait) -> None:
        if self.torn:
            data = b"\n" + data
        ended = int(self.torn)
        view = memoryview(data)
        written = 0
        try:
            while written < len(data):
                try:
                    written += os.write(fd, view[written:])
                except BlockingIOError as error:
                    if wait(_AGAIN):
                        raise Unwritten(max(0, written - ended), "its reader is too slow") from error
        except OSError as error:
            raise Unwritten(max(0, written - ended), error.strerror or str(error)) from error
        finally:
            if written:
                self.torn = data[written - 1] != 10
