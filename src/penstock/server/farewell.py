"""Closing a connection so that its client sees the last answer, and no client keeps it open for ever."""

from __future__ import annotations

import asyncio
import socket
import struct

from penstock.server.taking import untaken

LONGEST = 30.0
"""Seconds for which a client may go on sending to a connection that was closed for it."""


class Farewell:
    """A connection that is to be closed. `heard` counts what its client still sends, which is dropped."""

    __slots__ = ("_patience", "_since", "_transport", "_untaken", "_until", "heard")

    def __init__(self, transport: asyncio.Transport, patience: float, untaken: float = 0.0) -> None:
        """`patience`: seconds for which the client may do nothing, neither read nor send. `untaken`: for which it may take nothing of what waits for
        it, if that is more."""
        self._transport = transport
        self._patience = patience
        self._untaken = untaken
        self._since = 0.0  # it has taken nothing
        self._until = 0.0
        self.heard = 0

    def close(self) -> None:
        """Close, after what was written has left."""
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._watch()

    def linger(self) -> None:
        """Say that nothing more comes, and close when the client has: a close over its unread bytes would be a reset, and take away the
        answer that it has not read (RFC 9112, 9.6)."""
        self._transport.resume_reading()  # it may have been paused for the request's body
        self._transport.write_eof()
        self._watch()

    def reset(self) -> None:
        """RST: the only way to show that an answer without framing is not whole."""
        sock = self._transport.get_extra_info("socket")
        if sock is not None and sock.family != getattr(socket, "AF_UNIX", None):
            # Linger of zero seconds: close() answers with RST and not with FIN (socket(7)).
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        self._since = loop.time()
        self._until = self._since + LONGEST
        loop.call_later(self._patience, self._look, self.heard, untaken(self._transport))

    def _look(self, heard: int, unsent: int) -> None:
        loop, left = asyncio.get_running_loop(), untaken(self._transport)
        now = loop.time()
        reads = left != unsent
        if reads:
            self._since = now
        sends = self.heard != heard and now < self._until
        if reads or (left and now - self._since < self._untaken) or (sends and not left):
            loop.call_later(self._patience, self._look, self.heard, left)
        else:
            self._transport.abort()  # nothing happens where it is closed already
