"""A connection, watched: how many its client may have, and how long it may take over what it alone can do.

While a request's body is not read, because its provider is slow, nobody would see the client leave: so it is looked for.

A connection over its client's limit is refused with the first request that comes on it, for only that tells which protocol is spoken; it
has as long to come as a head may take. What is over twice the limit is closed without a word.
"""

from __future__ import annotations

import asyncio
import select
from typing import cast

from penstock.exchange.contract import Front
from penstock.server.connection import Connection
from penstock.server.crowd import FULL, Crowd, Place
from penstock.server.heads import Bad, KnownHeads
from penstock.server.patience import Wait, Watch, limit_of, too_long
from penstock.server.settings import Settings
from penstock.server.taking import untaken

_ENDED = getattr(select, "POLLRDHUP", 0)
"""Linux tells of the end behind bytes that wait; others do not."""


class Guest(Connection):
    """To be looked at every `patience.period`."""

    __slots__ = ("_address", "_crowd", "_watch")

    def __init__(
        self, front: Front, guests: set[Guest], settings: Settings, *, local: bool = True, heads: KnownHeads | None = None,
        crowd: Crowd | None = None,
    ) -> None:
        """As a connection is made. `crowd`: where it is counted."""
        super().__init__(front, cast("set[Connection]", guests), settings, local=local, heads=heads)
        self._watch = Watch()
        self._crowd = crowd
        self._address: str | None = None  # under which it is counted

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._crowd is not None:
            peer = transport.get_extra_info("peername")
            if peer:  # else it is gone already
                self._address = peer[0]
                place = self._crowd.enter(peer[0])
                if place is Place.AT_THE_DOOR:
                    self._front = FULL
                elif place is Place.OUTSIDE:
                    self._leave()
                    cast(asyncio.Transport, transport).abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._crowd is not None and self._address is not None:
            self._crowd.leave(self._address)
            self._address = None
        super().connection_lost(exc)

    def look(self, now: float) -> None:
        """Send the client away where it has let us wait for too long. `now` in seconds."""
        if self._held and self._has_left() and self._transport is not None:
            self._transport.abort()
            self._leave()
            return
        wait, mark = self._waits()
        waited = self._watch.waited(wait, mark, now)
        if wait is None or not waited:
            return
        settings = self._settings
        limit = settings.head_seconds if self._front is FULL else limit_of(wait, settings)
        if limit is None or waited < limit:
            return
        if wait is Wait.NEXT:
            self._close(linger=False, late=True)
            return
        try:
            self._turn_away(Bad(408, too_long(wait, limit)))
        except BaseException:
            # A mistake of ours. In the callbacks of a transport the loop closes the connection; nobody else would here.
            if self._transport is not None:
                self._transport.abort()
            raise

    def _has_left(self) -> bool:
        """It has ended its side, or reset it, behind what is not read yet. (Where much is unsent at its side, that says no word of it.)"""
        sock = self._transport.get_extra_info("socket") if self._transport is not None else None
        if sock is None or not _ENDED or sock.fileno() < 0:
            return False
        poll = select.poll()
        poll.register(sock.fileno(), _ENDED)
        return bool(poll.poll(0))

    def _waits(self) -> tuple[Wait | None, object]:
        """What we wait for our client to do, and a mark that is another one wherever it has done it."""
        if self._deaf:
            return None, None
        headers, reading, current = self._headers, self._reading, self._current
        if headers is not None:
            return Wait.HEAD, headers
        if reading is not None:
            # A body that we do not read because the provider is slow, that we have not asked for yet, or that nobody needs any more, is
            # not what the client is late with.
            ours = self._held or (self._replying if current is reading else reading.expects)
            return (None, None) if ours else (Wait.BODY, (reading, self._fed))
        if current is None and (self._paused or not self._queue) and self._transport is not None:
            return Wait.NEXT, (self._turns, untaken(self._transport))
        return None, None
