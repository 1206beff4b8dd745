"""The way through a proxy to a TLS origin: CONNECT (RFC 9110, 9.3.6), and what the proxy says to it."""

from __future__ import annotations

import asyncio
from typing import Final, cast

HEAD_LIMIT: Final = 64 * 1024
"""Bytes of the proxy's answer."""
_BLANK: Final = b"\r\n\r\n"


class TunnelError(Exception):
    """The proxy did not let us through. Its text is one clause, without addresses."""


class Tunnel(asyncio.Protocol):
    """The connection to the proxy until TLS takes its transport over. The proxy sends nothing behind its head before we have spoken."""

    __slots__ = ("_answer", "_head", "transport")

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._head = b""

    async def open(self, authority: str, authorization: bytes) -> asyncio.Transport:
        """Ask for a way to `authority` (host and port). Returns the transport, at whose other end the origin is. Raises `TunnelError`."""
        transport = self.transport
        if transport is None or transport.is_closing():
            raise TunnelError("the proxy closed the connection")
        at = authority.encode("ascii")
        transport.write(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (at, at, authorization))
        answer = await self._answer
        if answer is None:
            raise TunnelError("the proxy closed the connection")
        status = _status(answer)
        if status[:1] == "2" and answer.endswith(_BLANK):
            return transport
        if status[:1] in ("", "2"):
            raise TunnelError("the proxy's answer to CONNECT is not HTTP")  # or goes on behind its head
        raise TunnelError(f"the proxy answered {status} to CONNECT")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance

    def data_received(self, data: bytes) -> None:
        self._head += data
        if not self._answer.done() and (_BLANK in self._head or len(self._head) > HEAD_LIMIT):
            self._answer.set_result(self._head if _BLANK in self._head else b"")

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if not self._answer.done():
            self._answer.set_result(None)


def _status(head: bytes) -> str:
    """The status; empty where this is no head of HTTP/1.x."""
    words = head.partition(b"\r\n")[0].split(b" ", 2)
    if len(words) > 1 and words[0] in (b"HTTP/1.1", b"HTTP/1.0") and len(words[1]) == 3 and words[1].isdigit():
        return words[1].decode("ascii")
    return ""
