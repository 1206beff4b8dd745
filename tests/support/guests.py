"""A watched connection without a socket, and without a clock: the test says how late it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from penstock.server.crowd import Crowd
from penstock.server.guest import Guest
from penstock.server.heads import KnownHeads
from penstock.server.settings import Settings
from tests.support.rim import Rim, Talk, Wire, at_end


class _From(Wire):
    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = address

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return (self._address, 50000) if name == "peername" else super().get_extra_info(name, default)


class GuestRim(Rim):
    """As `Rim`. `wait` looks at the connection as a listener does, once a second unless told otherwise."""

    def __init__(
        self, act: Callable[[Talk, str], None] = at_end, *, address: str = "127.0.0.1", crowd: Crowd | None = None, local: bool = True,
        heads: KnownHeads | None = None, **more: Any,
    ) -> None:  # fmt: skip
        self.talks = []
        self.wire = _From(address)
        self.connections = set()
        self._act = act
        self.now = 1000.0
        guests: set[Guest] = set()
        self.connection = self.guest = Guest(self, guests, replace(Settings(), **more), local=local, heads=heads, crowd=crowd)
        self.connection.connection_made(self.wire)
        self.guest.look(self.now)

    def feed(self, *pieces: bytes) -> GuestRim:
        super().feed(*pieces)
        return self

    def look(self, now: float) -> GuestRim:
        self.now = now
        if not self.wire.lost:  # a listener would not know it any more
            self.guest.look(now)
        return self

    def wait(self, seconds: float, step: float = 1.0, each: Callable[[], object] | None = None) -> GuestRim:
        """`each`: done before every look."""
        until = self.now + seconds
        while self.now < until:
            if each is not None:
                each()
            self.look(min(until, self.now + step))
        return self

    @property
    def statuses(self) -> list[int]:
        return [answer.status for answer in self.answers(*(talk.request.method for talk in self.talks))]
