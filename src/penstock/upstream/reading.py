"""What asyncio's transports do not do about reading: seeing that something is there, and truly stopping below TLS."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Protocol, cast

MUCH = 250_000
"""Bytes of a read that fills the loop's buffer, nearly: there is more."""


class _TlsTransport(Protocol):
    """What asyncio's and uvloop's TLS transports have, and their common type does not tell."""

    def set_read_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...


def make_poll(transport: asyncio.BaseTransport) -> select.poll | None:
    """Its `poll(0)` says whether there is something to read, bytes or the end (0.4 us). `None` where the system or the transport has none."""
    sock = transport.get_extra_info("socket")
    if sock is None or not hasattr(select, "poll"):
        return None
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return poll


def settle_tls_reading(transport: asyncio.Transport, *, paused: bool) -> None:
    """Let the socket below a TLS transport follow `pause_reading` and `resume_reading`.

    TLS reads ahead, up to 256 KiB by default, and an end of the connection that is read ahead takes what was not yet decrypted with it: a
    slow client would lose the end of its answer. To be called by `call_soon` behind either of the two: the TLS layer looks at its limits
    once more when the callback returns that paused, and its next read, which resuming schedules, comes first.
    """
    tls = cast("_TlsTransport", transport)
    tls.set_read_buffer_limits()  # reads, where little is waiting
    if paused:
        tls.set_read_buffer_limits(0)  # and from that state it surely stops


def take_breath(transport: asyncio.Transport | None, is_paused: Callable[[], bool]) -> None:
    """Read no more in this turn of the loop. Where reads fill its buffer, libuv makes up to 32 of them at once, and what was written out of one is
    let go only behind the last: 8 MiB of one stream. To be called where `MUCH` came; not for TLS, which reads ahead while it is paused."""
    if transport is not None and not is_paused() and not transport.is_closing():
        transport.pause_reading()
        asyncio.get_running_loop().call_soon(lambda: is_paused() or transport.is_closing() or transport.resume_reading())
