"""Regular looks at the clock, in a process that may itself have stood still between two of them: suspended, starved of its processor, stopped.

What came meanwhile lies unread in the sockets, and the loop calls its timers before it reads. Whoever judged there would blame others for its own
absence: so a look that comes much too late only reads the clock, and the next one judges.
"""

from __future__ import annotations

HELD_UP = 0.2
"""Seconds by which a look that comes late has missed something. Of two that are so late in a row the second judges: a loop that is always
late is busy, and its others are timed all the same."""


class Looks:
    """One row of looks."""

    __slots__ = ("_due", "_excused")

    def __init__(self) -> None:
        self._due = 0.0
        self._excused = False

    def plan(self, due: float) -> None:
        """The next look is to be at `due`, on the clock whose `now` it will be given."""
        self._due = due

    def missed(self, now: float) -> bool:
        """The process stood still before this look: judge nobody, and look again."""
        self._excused = now - self._due > HELD_UP and not self._excused
        return self._excused
