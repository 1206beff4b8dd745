"""A thread that takes one thing after the other out of a line, and looks now and then whether something is too old."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

UPKEEP = 3600.0
"""Seconds between two looks at what is kept."""
GOODBYE = 5.0
"""Seconds that what waits has at the end of the process."""

T = TypeVar("T")


class Line(Generic[T]):
    """`start`, `put`, `flush` and `close` belong to one thread, the event loop's; `keep` and `prune` are called on the line's own."""

    def __init__(self, name: str, keep: Callable[[T], None], prune: Callable[[], None]) -> None:
        """`keep` and `prune` must not raise."""
        self._name = name
        self._keep = keep
        self._prune = prune
        self._waiting: SimpleQueue[T | _Reached | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        """What waits."""
        return self._waiting.qsize()

    def start(self) -> None:
        """Harmless where it runs."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def put(self, item: T) -> None:
        """Never waits."""
        self._waiting.put(item)
        self.start()

    def flush(self, timeout: float = GOODBYE) -> bool:
        """Wait until nothing waits; False where that took too long. For the end of a process and for tests."""
        if self._thread is None:
            return True
        reached = _Reached()
        self._waiting.put(reached)
        return reached.wait(timeout)

    def close(self) -> None:
        """Take what waits, for `GOODBYE` seconds at most."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._waiting.put(None)
            thread.join(GOODBYE)

    def _run(self) -> None:
        self._prune()
        while True:
            try:
                item = self._waiting.get(timeout=UPKEEP)
            except Empty:
                self._prune()
                continue
            if item is None:
                return
            if isinstance(item, _Reached):
                item.set()
            else:
                self._keep(item)
                self._prune()


class _Reached(threading.Event):
    """Put into the line to hear that all before it was taken."""
