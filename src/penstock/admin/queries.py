"""Reads of the ledger, off the loop: a few threads of their own, a bounded line before them, a limit of time.

Of their own, because the loop's default threads look up names of hosts: a slow ledger must not delay a dial.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

THREADS: Final = 2
LINE: Final = 32
"""Reads that may wait or run at once."""


class Busy(Exception):
    """The read did not come to its end in time, or was not begun. Its text is a sentence for the client."""


class Queries:
    """On one loop. Threads begin when they are first needed."""

    __slots__ = ("_limit", "_pool", "_waiting")

    def __init__(self, limit: float) -> None:
        """`limit`: seconds for one read."""
        self._limit = limit
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="penstock-admin")
        self._waiting = 0

    async def run(self, read: Callable[[], bytes]) -> bytes:
        """What `read` returns. Raises `Busy`, and what `read` raises. A read that takes too long ends by itself, unheard."""
        if self._waiting >= LINE:
            raise Busy(f"{LINE} questions are being answered already")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._limit):
                return await asyncio.get_running_loop().run_in_executor(self._pool, read)
        except TimeoutError:
            raise Busy(f"the ledger did not answer within {self._limit:g} s") from None
        finally:
            self._waiting -= 1
