"""uvicorn's HTTP/1.1 with what it lacks: a head has a size, and a request a time in which it must have come."""

from __future__ import annotations

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD: Final = 64 * 1024
"""Bytes of a request, besides its body, before its end: of a head, and of what stands around chunks and behind the last one."""
WHOLE: Final = 10.0
"""Seconds from a connection, or from a request's first byte, to that request's last: nothing large is sent here."""
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class AdminProtocol(HttpToolsProtocol):
    """One connection. Without these bounds a few hundred of whoever can connect would take the admin plane from all others, and memory from
    the gateway, before any token is looked at."""

    head_limit = HEAD
    whole_s = WHOLE
    _late: asyncio.TimerHandle | None = None
    _coming = _in_head = True
    _head = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # pyright: ignore[reportArgumentType]  # uvicorn narrows what asyncio gives; sockets give that
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._coming and not self.transport.is_closing():
            self._head += len(data)
            if self._head > self.head_limit:
                if self._in_head:
                    self.transport.write(_TOO_LARGE)
                self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._coming, self._in_head, self._head = True, True, 0
        self._expect()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._head -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._coming = False
        self._came()
        super().on_message_complete()

    def _expect(self) -> None:
        self._came()
        self._late = self.loop.call_later(self.whole_s, self._give_up)

    def _came(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        self.transport.close()
