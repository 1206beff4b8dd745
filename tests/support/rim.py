"""A client connection without a socket: bytes in, bytes out, and an exchange that does what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any

import uvloop

from penstock.exchange.contract import ClientRequest, Headers, Reply
from penstock.server.connection import Connection
from penstock.server.heads import KnownHeads
from penstock.server.refusals import shape
from penstock.server.settings import Settings

HEADS = KnownHeads()


def on_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """The test, run on a loop of its own."""

    @wraps(test)
    def inside(*args: Any, **named: Any) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(test(*args, **named))

    return inside


class Wire(asyncio.Transport):
    """A transport with uvloop's manners: a write after the end raises, one after `close` would be appended to what is pending."""

    def __init__(self) -> None:
        super().__init__()
        self.out = bytearray()
        self.late: list[bytes] = []
        """What was written after `close` or `write_eof`: a mistake."""
        self.closing = self.aborted = self.eof = self.reset = False
        self.lost = False
        self.reading = True
        self.unsent = 0

    def write(self, data: Any) -> None:
        if self.lost:
            raise RuntimeError("the handler is closed")
        if self.closing or self.eof:
            self.late.append(bytes(data))
            return
        assert isinstance(data, bytes)
        self.out += data

    def write_eof(self) -> None:
        self.eof = True

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True
        self.unsent = 0

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self if name == "socket" else default

    # as a socket
    family = 2

    def fileno(self) -> int:
        return -1

    def setsockopt(self, *_: Any) -> None:
        self.reset = True


@dataclass(eq=False)
class Talk:
    """One request as the exchange sees it. `events`: `body:...`, `end`, `gone`, `paused`, `resumed`."""

    request: ClientRequest
    reply: Reply
    act: Callable[[Talk, str], None]
    events: list[str] = field(default_factory=list[str])
    body: bytes = b""
    pieces: int = 0

    def _did(self, event: str) -> None:
        self.events.append(event)
        self.act(self, event)

    def client_body(self, data: bytes) -> None:
        assert data
        assert isinstance(data, bytes)
        self.body += data
        self.pieces += 1
        self._did("body")

    def client_end(self) -> None:
        self._did("end")

    def client_whole(self, body: bytes) -> None:
        if body:
            self.client_body(body)
        self.client_end()

    def client_gone(self) -> None:
        self._did("gone")

    def client_bad(self, status: int, why: str) -> tuple[Headers, bytes]:
        self._did("gone")
        return shape(self.request.path, status, why)

    def client_paused(self) -> None:
        self._did("paused")

    def client_resumed(self) -> None:
        self._did("resumed")

    def answer(self, body: bytes = b"ok", status: int = 200) -> None:
        self.reply.head(status, [(b"content-type", b"text/plain")], len(body))
        self.reply.write(body)
        self.reply.end()


def nothing(talk: Talk, event: str) -> None:
    """Never answer."""


def at_end(talk: Talk, event: str) -> None:
    """Answer with what was asked, once all of it is there."""
    if event == "end":
        talk.answer(talk.request.method.encode() + b" " + talk.request.path.encode() + b" " + talk.body)


def at_once(talk: Talk, event: str) -> None:
    """Answer inside `open`."""
    if event == "open":
        talk.answer(b"at once")


class Rim:
    """A connection, its wire, and what it told."""

    def __init__(
        self, act: Callable[[Talk, str], None] = at_end, settings: Settings | None = None, heads: KnownHeads | None = None, **more: Any
    ) -> None:
        """`heads`: that are known; most connections of the tests share theirs."""
        self.talks: list[Talk] = []
        self.wire = Wire()
        self.connections: set[Connection] = set()
        self._act = act
        self.connection = Connection(self, self.connections, replace(settings or Settings(), **more), heads=heads if heads is not None else HEADS)
        self.connection.connection_made(self.wire)

    def open(self, request: ClientRequest, reply: Reply) -> Talk:
        talk = Talk(request, reply, self._act)
        self.talks.append(talk)
        self._act(talk, "open")
        return talk

    def feed(self, *pieces: bytes) -> Rim:
        for piece in pieces:
            if self.wire.reading and not self.wire.closing:
                self.connection.data_received(piece)
        return self

    async def turns(self) -> Rim:
        """Let everything that was put off until the next turn of the loop happen."""
        for _ in range(300):
            await asyncio.sleep(0)
        return self

    def lose(self) -> Rim:
        """The socket is gone."""
        self.connection.connection_lost(None)
        self.wire.lost = True
        return self

    def answers(self, *methods: str) -> list[Told]:
        assert not self.wire.late, self.wire.late
        return read_answers(bytes(self.wire.out), methods)


@dataclass(frozen=True)
class Told:
    status: int
    headers: Headers
    body: bytes
    whole: bool

    def header(self, name: bytes) -> bytes | None:
        found = [v for n, v in self.headers if n == name]
        assert len(found) < 2, found
        return found[0] if found else None


def read_answers(data: bytes, methods: tuple[str, ...] = ()) -> list[Told]:
    """The answers in a connection's bytes; the last one may not be whole. Anything that is no answer fails."""
    out: list[Told] = []
    asked = list(methods)
    while data:
        head, sep, data = data.partition(b"\r\n\r\n")
        assert sep, head
        lines = head.split(b"\r\n")
        version, status, _ = lines[0].split(b" ", 2)
        assert version == b"HTTP/1.1"
        headers = [(n, v) for n, _, v in (line.partition(b": ") for line in lines[1:])]
        named = dict(headers)
        assert len(named) == len(headers)
        code = int(status)
        if code == 100:
            out.append(Told(code, headers, b"", True))
            continue
        method = asked.pop(0) if asked else "POST"
        body, whole = b"", True
        if method == "HEAD" or code in (204, 304):
            pass
        elif named.get(b"transfer-encoding") == b"chunked":
            assert b"content-length" not in named
            whole = False
            while data:
                size, sep, data = data.partition(b"\r\n")
                assert sep
                length = int(size, 16)
                assert data[length: length + 2] == b"\r\n"
                body, data = body + data[:length], data[length + 2:]
                if not length:
                    whole = True
                    break
        elif b"content-length" in named:
            length = int(named[b"content-length"])
            body, data = data[:length], data[length:]
            whole = len(body) == length
        else:
            body, data = data, b""
        assert whole or not data
        out.append(Told(code, headers, body, whole))
    return out


def post(path: str = "/p", body: bytes = b"", *headers: str, version: str = "1.1", method: str = "POST") -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "Host: x", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def get(path: str = "/g", *headers: str, version: str = "1.1", method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: x", *headers, "", ""]).encode("latin-1")


def chunked(path: str = "/c", *pieces: bytes, trailers: str = "", ext: str = "") -> bytes:
    body = b"".join(b"%x%b\r\n%b\r\n" % (len(p), ext.encode(), p) for p in pieces)
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + body + b"0\r\n" + trailers.encode() + b"\r\n"
