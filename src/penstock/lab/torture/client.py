"""A client on a raw socket: it asks, reads as fast or as slowly as it is told to, leaves when it is told to, and writes down what came and when.

Nothing is retried, nothing is interpreted. Times are the event loop's clock.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import zlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import cast
from urllib.parse import urlsplit

import httptools

from penstock.lab.torture.tally import Tally, tally


class End(StrEnum):
    """How an answer was over, as its framing and its connection tell."""

    CLEAN = "ended cleanly"
    BROKEN = "the connection was closed in the middle of the answer"
    RESET = "the connection was reset"
    GARBAGE = "what came was not HTTP"
    SILENT = "nothing more came"
    LEFT = "the client left"


@dataclass(eq=False, slots=True)
class Answer:
    """What one request got."""

    asked_at: float
    status: int = 0
    """0: no head came."""
    headers: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Names in lower case."""
    body: Tally = field(default_factory=Tally)
    """After the transfer coding was taken off."""
    end: End = End.SILENT
    head_at: float | None = None
    last_at: float = 0.0
    """When the last bytes came; the request, where none did."""
    over_at: float = 0.0
    largest_gap: float = 0.0
    """Seconds for which nothing came, at most."""
    began: asyncio.Event = field(default_factory=asyncio.Event)
    """Set with the head."""
    came: asyncio.Event = field(default_factory=asyncio.Event)
    """Set with the first byte of the body."""
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    def decoded(self) -> Tally:
        """The body without `content-encoding`; what cannot be decoded is left out."""
        if self.header("content-encoding") != "gzip":
            return self.body
        try:
            return tally(zlib.decompressobj(wbits=31).decompress(self.body.kept))
        except zlib.error:
            return Tally()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a gateway listens."""

    host: str
    port: int
    base: str = ""
    """A path before every path, without a slash at its end."""
    tls: bool = False

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def read_place(url: str) -> Place:
    """A gateway's URL. Raises `ValueError` with a sentence."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is no gateway's address: write http://HOST:PORT, with a path if everything lies below one")
    tls = parts.scheme == "https"
    return Place(parts.hostname, parts.port or (443 if tls else 80), parts.path.rstrip("/"), tls)


class Client(asyncio.Protocol):
    """One connection with one request. Make it with `ask`."""

    def __init__(self, request: bytes) -> None:
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self.answer = Answer(now, last_at=now)
        self._request = request
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._complete = False
        self._delimited = False

    # What behaviours call.

    def pause(self) -> None:
        """Read nothing until `resume`."""
        if self._transport is not None and not self.answer.over.is_set():
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self.answer.over.is_set():
            self._transport.resume_reading()

    def shrink(self, size: int) -> None:
        """Let the kernel hold about so many bytes of what is not read. (With a few thousand nothing flows any more, whoever reads.)"""
        if self._transport is not None:
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)

    def leave(self, *, reset: bool = False) -> None:
        """Close the connection: with FIN, or RST."""
        self._end(End.LEFT)
        transport = self._transport
        if transport is None:
            return
        if reset:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        else:
            transport.close()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.answer.asked_at = self.answer.last_at = self._loop.time()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        answer = self.answer
        if answer.over.is_set():
            return
        now = self._loop.time()
        answer.largest_gap = max(answer.largest_gap, now - answer.last_at)
        answer.last_at = now
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._end(End.GARBAGE)
            self._drop()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if exc is not None:
            self._end(End.RESET)
        elif self.answer.status and not self._delimited:
            self._end(End.CLEAN)  # HTTP/1.1's oldest framing: the end of the connection is the end of the body
        else:
            self._end(End.BROKEN)

    def _end(self, end: End) -> None:
        if not self.answer.over.is_set():
            self.answer.end = end
            self.answer.over_at = self._loop.time()
            for event in (self.answer.over, self.answer.began, self.answer.came):
                event.set()

    def _drop(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # What httptools calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        self.answer.headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        answer = self.answer
        if self._parser.get_status_code() < 200:
            answer.headers.clear()
            return
        answer.status = self._parser.get_status_code()
        answer.head_at = self._loop.time()
        self._delimited = answer.header("content-length") is not None or answer.header("transfer-encoding") is not None
        answer.began.set()

    def on_body(self, body: bytes) -> None:
        self.answer.body.add(body)
        self.answer.came.set()

    def on_message_complete(self) -> None:
        if self.answer.status:
            self._end(End.CLEAN)
            self._drop()


async def ask(place: Place, request: bytes) -> Client:
    """Connect and ask. Raises `OSError` where nobody listens."""
    context = ssl.create_default_context() if place.tls else None
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(lambda: Client(request), place.host, place.port, ssl=context)
    return client
