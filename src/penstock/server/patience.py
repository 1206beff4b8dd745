"""How long a client may take over what it alone can do: to send a head, a body, its next request. Pure: time is an argument.

Nothing is timed where requests are handled. Now and then somebody looks at every connection, says what it waits for its client to do, and a
mark that is another one wherever the client has done it; what has been so, with the same mark, at look after look for as long as it may
be, is overdue. So a wait counts from the first look that saw it: it ends late by up to two looks, and never early.
"""

from __future__ import annotations

from enum import Enum, auto

from penstock.server.settings import Settings

SHORTEST, LONGEST = 0.02, 0.5
"""Seconds between two looks, at least and at most."""
_LOOKS = 8
"""For which the shortest of the waits lasts, within these bounds."""


class Wait(Enum):
    """What a connection waits for its client to do."""

    HEAD = auto()
    """To bring to its end a head that it has begun. More bytes of it are not enough."""
    BODY = auto()
    """To send more of a request's body."""
    NEXT = auto()
    """To ask something, or to take the rest of the answer that it was given."""


class Watch:
    """What one connection was seen waiting for, and since when."""

    __slots__ = ("_mark", "_since", "_wait")

    def __init__(self) -> None:
        self._wait: Wait | None = None
        self._mark: object = None
        self._since = 0.0

    def waited(self, wait: Wait | None, mark: object, now: float) -> float:
        """Seconds for which it has been seen waiting for this, with this mark; 0 where it does not wait.

        `mark`: of a head, an object that it alone has; else a value.
        """
        if wait is None:
            self._wait = self._mark = None
            return 0.0
        if wait is self._wait and (mark is self._mark if wait is Wait.HEAD else mark == self._mark):
            return now - self._since
        self._wait, self._mark, self._since = wait, mark, now
        return 0.0


def limit_of(wait: Wait, settings: Settings) -> float | None:
    """Seconds; `None`: for ever."""
    if wait is Wait.HEAD:
        return settings.head_seconds
    if wait is Wait.BODY:
        return settings.body_seconds
    return settings.idle_seconds


def too_long(wait: Wait, seconds: float) -> str:
    """Why a request is refused, for its client."""
    if wait is Wait.HEAD:
        return f"The request's head was not whole within {seconds:g} s."
    return f"Nothing came of the request's body for {seconds:g} s."


def period(settings: Settings) -> float:
    """Seconds from one look at all connections to the next."""
    limits = [limit for wait in Wait if (limit := limit_of(wait, settings)) is not None]
    return min(LONGEST, max(SHORTEST, min(limits) / _LOOKS))
