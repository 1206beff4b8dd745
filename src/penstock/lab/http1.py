"""HTTP/1.1 as our test providers speak it: requests are parsed for them, every byte of a response is their own.

A connection answers its requests one after the other, in a task of its own. When the peer goes away, whether or not an answer was under way,
it is noted at once in the request's `lost_at`, and the task is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import httptools


class Gone(ConnectionError):
    """The peer has left; nothing can be sent to it any more."""


@dataclass(eq=False, slots=True)
class Asked:
    """One request as it came, and what became of it. Times are the event loop's clock, in seconds."""

    number: int
    """1 for the server's first request."""
    connection: int
    """1 for the server's first connection; requests on one kept-alive connection share it."""
    at: float
    method: str = ""
    target: str = ""
    """Path and query as they were on the wire."""
    headers: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """In order; names in lower case, values decoded as Latin-1."""
    body: bytes = b""
    keep_alive: bool = True
    note: str = ""
    """What the server chose to answer, for people."""
    sent: int = 0
    """Bytes of the answer's body that were handed to the socket, before chunked coding."""
    answered: bool = False
    """The answer was written to its end (a deliberate fault is not an end)."""
    lost_at: float | None = None
    """When the peer's leaving was noticed, during the answer or after it (the connection's last request has it then); `None` while
    the connection stands, and where we closed it ourselves."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the whole body is in `body`."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it is answered or its connection is gone, whoever ended it."""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> str:
        return urlsplit(self.target).query

    def header(self, name: str) -> str | None:
        """The first header of that name (lower case)."""
        return next((v for n, v in self.headers if n == name), None)


class Link(asyncio.Protocol):
    """One connection. Servers get it with each request and write to it."""

    def __init__(self, server: LabServer, number: int) -> None:
        self.number = number
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._reading: Asked | None = None
        self._last: Asked | None = None
        self._waiting: deque[Asked] = deque()
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._closing = False
        self.lost = asyncio.Event()
        """Set once the connection is gone."""

    # What servers call.

    async def write(self, data: bytes) -> None:
        """Send bytes as they are, after what was sent before; waits while the peer does not read. Raises `Gone`."""
        transport = self._transport
        if transport is None or self._closing or transport.is_closing():
            raise Gone(f"connection {self.number} is closed")
        transport.write(data)
        if not self._writable.is_set():
            await self._writable.wait()

    async def flush(self) -> None:
        """Wait until the peer's kernel has acknowledged everything (Linux; elsewhere: until ours has taken it), at most a second."""
        deadline = self._loop.time() + 1.0
        # Polled, because the kernel tells nobody when an acknowledgement comes.
        while self._transport is not None and not self.lost.is_set() and self._unsent() and self._loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.0005)

    def close(self) -> None:
        """Send what is pending, then FIN."""
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """RST, now: what the peer's kernel has not acknowledged is lost. Call `flush` first where it shall not be."""
        self._closing = True
        if self._transport is not None:
            sock = self._transport.get_extra_info("socket")
            if sock is not None and sock.family != getattr(socket, "AF_UNIX", None):
                # Linger of zero seconds: close() answers with RST and not with FIN (socket(7)).
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()

    def pause(self) -> None:
        """Stop reading from the peer. Its leaving goes unnoticed until `resume`."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def _unsent(self) -> int:
        assert self._transport is not None
        waiting = self._transport.get_write_buffer_size()
        if waiting or sys.platform != "linux":
            return waiting
        import fcntl
        import termios

        try:
            # SIOCOUTQ has TIOCOUTQ's number: bytes that the peer has not acknowledged (tcp(7)).
            answer = fcntl.ioctl(self._transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
        except OSError:
            return 0
        return int(struct.unpack("i", answer)[0])

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by inheritance
        self._server.links.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.close()
        except httptools.HttpParserError:
            if self._transport is not None and not self._transport.is_closing():
                self._transport.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        now = self._loop.time()
        self._server.links.discard(self)
        self._transport = None
        self.lost.set()
        self._writable.set()
        for asked in (*self._waiting, self._last):
            if asked is not None:
                asked.lost_at = None if self._closing else now
                asked.over.set()
        if self._task is not None and not self._closing:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # What httptools calls.

    def on_message_begin(self) -> None:
        self._reading = Asked(0, self.number, self._loop.time())

    def on_url(self, url: bytes) -> None:
        assert self._reading is not None
        self._reading.target += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        assert self._reading is not None
        self._reading.headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        asked = self._reading
        assert asked is not None
        asked.method = self._parser.get_method().decode("latin-1")
        asked.keep_alive = self._parser.should_keep_alive()
        self._server.note(asked)
        self._waiting.append(asked)
        self._last = asked
        if self._task is None:
            self._task = self._loop.create_task(self._answer_all(), name=f"lab connection {self.number}")
            self._server.keep(self._task)

    def on_body(self, body: bytes) -> None:
        assert self._reading is not None
        self._reading.body += body

    def on_message_complete(self) -> None:
        assert self._reading is not None
        self._reading.arrived.set()
        self._reading = None

    async def _answer_all(self) -> None:
        try:
            while self._waiting and not self._closing:
                asked = self._waiting[0]
                await self._server.answer(self, asked)
                if not self._closing:
                    asked.answered = True
                    await asked.arrived.wait()  # the next request begins where this one's body ends
                    if not asked.keep_alive:
                        self.close()
                asked.over.set()
                self._waiting.popleft()
                if self._server.on_over is not None:
                    self._server.on_over(asked)
        except Gone:
            pass
        except BaseException:
            self.reset()  # whoever waits for this answer shall not wait for ever
            raise
        finally:
            self._task = None


class LabServer(ABC):
    """A listening socket, its connections, and the log of what was asked. Belongs to the event loop in which it was started."""

    def __init__(self) -> None:
        self.log: list[Asked] = []
        """Every request whose head was complete, in the order in which they came."""
        self.requests = 0
        """Requests so far."""
        self.remember = True
        """False: nothing is logged, for servers that run long."""
        self.on_over: Callable[[Asked], None] | None = None
        """Called with each request when its answer came to its end."""
        self.links: set[Link] = set()
        """The connections that stand."""
        self.connections = 0
        """Connections accepted so far."""
        self.failures: list[BaseException] = []
        """What `answer` raised: mistakes of the server's or of a test's script."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._news = asyncio.Event()

    @abstractmethod
    async def answer(self, link: Link, asked: Asked) -> None:
        """Answer one request. Its head is complete, its body may not be. Cancelled when the peer goes away."""

    async def start(self, host: str = "127.0.0.1", port: int = 0, *, tls: ssl.SSLContext | None = None) -> int:
        """Listen; returns the port (the system's choice for 0)."""
        self._server = await asyncio.get_running_loop().create_server(self._accept, host, port, ssl=tls, backlog=4096)
        return int(self._server.sockets[0].getsockname()[1])

    async def start_unix(self, path: str) -> None:
        """Listen on a unix socket."""
        self._server = await asyncio.get_running_loop().create_unix_server(self._accept, path)

    async def asked(self, number: int, timeout: float = 5.0) -> Asked:
        """The request of that number, the first being 1; waits for it at most `timeout` seconds (`TimeoutError`)."""
        async with asyncio.timeout(timeout):
            while len(self.log) < number:
                self._news.clear()
                await self._news.wait()
        return self.log[number - 1]

    def close(self) -> None:
        """Stop listening and drop every connection. Raises what `answer` raised, so that an assert in a script fails its test."""
        if self._server is not None:
            self._server.close()
        for link in list(self.links):
            link.reset()
        for task in self._tasks:
            task.cancel()
        failures, self.failures = self.failures, []
        if failures:
            raise BaseExceptionGroup("a request could not be answered", failures)

    def note(self, asked: Asked) -> None:
        """Called by a connection with each request, once its head is complete."""
        self.requests += 1
        asked.number = self.requests
        if self.remember:
            self.log.append(asked)
            self._news.set()

    def keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._note)

    def _accept(self) -> Link:
        self.connections += 1
        return Link(self, self.connections)

    def _note(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        with contextlib.suppress(asyncio.CancelledError):
            if (failure := task.exception()) is not None:
                self.failures.append(failure)
