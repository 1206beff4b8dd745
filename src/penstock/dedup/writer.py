"""The thread that writes full segments of the log (`segments`) to a file without a name: one call for each."""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from io import BytesIO
from mmap import MAP_PRIVATE, mmap
from pathlib import Path
from queue import SimpleQueue

from penstock.dedup.shelf import nameless


class Segment:
    """Of the log."""

    __slots__ = ("buffer", "gone", "slot", "used")

    def __init__(self, buffer: BytesIO) -> None:
        self.buffer: BytesIO | mmap | None = buffer
        """While it is in memory."""
        self.used = 0
        """Bytes."""
        self.slot = -1
        """Its place in the file, in segments."""
        self.gone = False
        """Nobody needs it."""

    def to_pages(self) -> BytesIO | None:
        """Into pages of the system's own, which has them back at once: the buffer where it was, for another."""
        buffer = self.buffer
        if not isinstance(buffer, BytesIO):
            return None
        with buffer.getbuffer() as view:
            self.buffer = pages = mmap(-1, len(view), flags=MAP_PRIVATE)
            pages.write(view)
        return buffer


def view_of(buffer: BytesIO | mmap) -> memoryview:
    return buffer.getbuffer() if isinstance(buffer, BytesIO) else memoryview(buffer)


class SegmentWriter:
    """The thread, and its file, which is made when it is needed. All but the thread's own is for one thread."""

    def __init__(self, directory: Path, size: int) -> None:
        self._directory = directory
        self._size = size
        self._queue: SimpleQueue[Segment | None] = SimpleQueue()
        self._asked = self._did = 0
        self.fd = -1
        self.done: deque[tuple[Segment, str]] = deque()
        """What is written, or why it is not."""

    @property
    def idle(self) -> bool:
        return self._asked == self._did

    def start(self) -> None:
        """Raises `RuntimeError` where there is no thread to be had."""
        threading.Thread(target=self._run, name="penstock-notes-log", daemon=True).start()

    def put(self, segment: Segment) -> None:
        self._asked += 1
        self._queue.put(segment)

    def stop(self) -> None:
        self._queue.put(None)

    def _run(self) -> None:
        try:
            while (segment := self._queue.get()) is not None:
                self.done.append((segment, self._write(segment)))
                self._did += 1
        finally:
            if self.fd >= 0:
                os.close(self.fd)

    def _write(self, segment: Segment) -> str:
        buffer = segment.buffer
        if segment.gone or buffer is None:
            return ""
        try:
            if self.fd < 0:
                self.fd = nameless(self._directory)
            with view_of(buffer) as view:
                if os.pwrite(self.fd, view, segment.slot * self._size) != self._size:
                    return os.strerror(errno.ENOSPC)
        except OSError as error:
            return error.strerror or str(error)
        except Exception as error:  # a mistake of ours: what waits stays in memory
            return type(error).__name__
        return ""
