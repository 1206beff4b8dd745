"""Which kept connection to use, and which to let go: decisions only, no I/O.

The last one used is used first, so that those not needed grow old and leave. A connection is kept for `idle` seconds, at most `most`
to one origin.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

C = TypeVar("C", bound=Hashable)


class Pool(Generic[C]):
    __slots__ = ("_idle", "_most", "_of")

    def __init__(self, idle: float, most: int) -> None:
        self._idle = idle
        self._most = most
        self._of: dict[Hashable, dict[C, float]] = {}

    def take(self, origin: Hashable, now: float) -> C | None:
        """The connection to use, no longer in the pool; `None`: dial."""
        kept = self._of.get(origin)
        if not kept:
            return None
        connection, since = kept.popitem()
        if now - since > self._idle:
            # The newest is too old, so all are; `expired` will name them.
            kept[connection] = since
            return None
        return connection

    def put(self, origin: Hashable, connection: C, now: float) -> C | None:
        """Keep `connection`; returns one to close instead, the oldest, where there are too many."""
        kept = self._of.setdefault(origin, {})
        kept[connection] = now
        if len(kept) > self._most:
            oldest = next(iter(kept))
            del kept[oldest]
            return oldest
        return None

    def drop(self, origin: Hashable, connection: C) -> None:
        """Forget a connection that closed by itself."""
        kept = self._of.get(origin)
        if kept is not None:
            kept.pop(connection, None)
            if not kept:
                del self._of[origin]

    def expired(self, now: float) -> list[C]:
        """The connections to close, no longer in the pool."""
        out: list[C] = []
        for origin, kept in list(self._of.items()):
            for connection, since in list(kept.items()):
                if now - since <= self._idle:
                    break
                out.append(connection)
                del kept[connection]
            if not kept:
                del self._of[origin]
        return out

    def clear(self) -> list[C]:
        """All of them, to be closed."""
        out = [c for kept in self._of.values() for c in kept]
        self._of.clear()
        return out

    def __len__(self) -> int:
        return sum(map(len, self._of.values()))
