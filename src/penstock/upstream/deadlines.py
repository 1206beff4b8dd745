"""Waits with deadlines that share one timer.

`asyncio.timeout` arms a timer for each and takes it down again, which on uvloop costs a third of a dial. Nearly no dial needs its own: here the timer
stands at the earliest deadline that there was when it was set, and when it runs out it is set to the earliest that there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


class _Wait:
    __slots__ = ("cancels", "due", "over", "task")

    def __init__(self, task: asyncio.Task[object], due: float) -> None:
        self.task = task
        self.due = due
        self.cancels = task.cancelling()
        """How often others have asked for the task's end before."""
        self.over = False


class Deadlines:
    """On one loop."""

    __slots__ = ("_at", "_timer", "_waits")

    def __init__(self) -> None:
        self._waits: set[_Wait] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._at = 0.0

    async def within(self, seconds: float, work: Awaitable[T]) -> T:
        """What `work` comes to. Raises `TimeoutError`, and cancels it, where that takes longer than `seconds`; as `asyncio.timeout` does, and in a
        task like that."""
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        wait = _Wait(task, loop.time() + seconds)
        self._waits.add(wait)
        if self._timer is None or wait.due < self._at:
            self._set(loop, wait.due)
        try:
            return await work
        except asyncio.CancelledError:
            if wait.over and task.uncancel() <= wait.cancels:
                raise TimeoutError from None
            raise
        finally:
            self._waits.discard(wait)

    def _set(self, loop: asyncio.AbstractEventLoop, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._at = at
        self._timer = loop.call_at(at, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        for wait in [wait for wait in self._waits if wait.due <= now and not wait.over]:
            wait.over = True
            wait.task.cancel()
        due = min((wait.due for wait in self._waits if not wait.over), default=None)
        if due is not None:
            self._set(loop, due)
