"""When somebody is to look at a stream that runs, behind which of its events.

A stream counts its events, and compares them with nothing. Each 64th goes the thorough way, where it is seen whether the next look is less than as
many events away: only then each event is compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from penstock.pipeline.contract import State
from penstock.pipeline.tail import EVENTS
from penstock.protocols.contract import Observe, Observer
from penstock.vocabulary.usage import EMPTY_USAGE

NEVER: Final = 1 << 62
_RUNNING = State.RUNNING
Look = Callable[[float], None]


class Counting(Protocol):
    """A stream that counts its events."""

    events: int
    observer: Observer
    state: State

    def observe_with(self, observe: Observe | None) -> None:
        """`None`: the observer itself."""
        ...


class Cue:
    """Of one stream: the next look at it."""

    __slots__ = ("_near", "at", "look", "seen", "under")

    def __init__(self, look: Look, under: Observe | None) -> None:
        """`under`: who sees the frames of the stream."""
        self.look = look
        self.under = under
        self.at = NEVER
        """The number of the event."""
        self.seen = EMPTY_USAGE
        """What the provider had stated at the last look."""
        self._near = False

    def heed(self, stream: Counting) -> bool:
        """To be called where an event is read thoroughly, and when `at` is set. Is it time?"""
        ahead = self.at - stream.events
        if self._near != (ahead <= EVENTS):
            self._near = ahead <= EVENTS
            stream.observe_with(self._counting(stream) if self._near else self.under)
        return ahead <= 0 or stream.observer.usage is not self.seen

    def _counting(self, stream: Counting) -> Observe:
        under = self.under or stream.observer.observe

        def observe(name: bytes, data: bytes, now: float) -> int:
            if stream.events >= self.at and stream.state is _RUNNING:  # what has ended stays so
                stream.state = State.LOOK
            return under(name, data, now)

        return observe
