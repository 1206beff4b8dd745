"""One client connection: HTTP/1.1 requests in, answers out, in order.

Refused here, beyond llhttp's strict mode (RFC 9112): a missing or second `Host`, Transfer-Encoding on HTTP/1.0, codings before `chunked`,
heads over the limit. Ignored: an offered h2c upgrade (RFC 9113 dropped it); the body is read and answered in HTTP/1.1. Trailers are
not headers.

A client that closes its sending side before its answer is whole counts as gone. Reading is paused only for a request body that
the provider takes more slowly; never while an answer runs, or its leaving would go unseen.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections import deque
from http import HTTPStatus
from typing import cast

import httptools

from penstock.exchange.contract import ClientRequest, Front, Handler, Headers
from penstock.server.settings import Settings

_REASONS = {s.value: s.phrase.encode() for s in HTTPStatus}
_STATUS_LINES = {code: b"HTTP/1.1 %d %b\r\n" % (code, phrase) for code, phrase in _REASONS.items()}
_TCP_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", 25)
LINGER = 1.0
"""Seconds for which a connection that is to be closed reads on, so that the client sees our answer and not a reset (RFC 9112, 9.6)."""


class _Incoming:
    """A request that is being read, or that waits for the answer before it."""

    __slots__ = ("body", "complete", "expects", "handler", "head_only", "keep_alive", "one_zero", "request")

    def __init__(self, request: ClientRequest, *, keep_alive: bool, one_zero: bool, expects: bool) -> None:
        self.request = request
        self.keep_alive = keep_alive
        self.one_zero = one_zero
        self.expects = expects
        self.head_only = request.method == "HEAD"
        self.body: list[bytes] = []
        self.complete = False
        self.handler: Handler | None = None


class Bad(Exception):
    """A request that is refused for its form."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Connection(asyncio.Protocol):
    """Implements `exchange.contract.Reply` for the request whose turn it is."""

    __slots__ = ("_chunked", "_closing", "_connections", "_current", "_front", "_head_size", "_headers", "_left", "_local", "_paused", "_parser", "_queue",
                 "_queued", "_reading", "_replying", "_settings", "_transport", "_url")

    def __init__(self, front: Front, connections: set[Connection], settings: Settings) -> None:
        self._front = front
        self._connections = connections
        self._settings = settings
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: Headers = []
        self._head_size = 0
        self._reading: _Incoming | None = None  # whose body comes
        self._current: _Incoming | None = None  # whose answer goes
        self._queue: deque[_Incoming] | None = None
        self._queued = 0
        self._replying = False  # the head of the current answer was sent
        self._chunked = False
        self._left: int | None = None  # bytes of a Content-Length that are still to be written
        self._closing = False  # nothing is read any more; the connection closes after what was written
        self._paused = False
        self._local = False

    # -- asyncio ---------------------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                # Else the kernel takes megabytes before back-pressure is felt.
                sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, 16384)
            except OSError:  # not on this platform
                pass
            peer = transport.get_extra_info("peername")
            host = peer[0] if peer else ""
            self._local = host.startswith("127.") or host in ("::1", "::ffff:127.0.0.1")
        else:
            self._local = True
        self._transport.set_write_buffer_limits(high=65536)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # An upgrade was offered and the request is whole: go on in HTTP/1.1 with what follows it.
            self._parser = httptools.HttpRequestParser(self)
            rest = data[upgrade.args[0] :]
            if rest:
                self.data_received(rest)
        except httptools.HttpParserCallbackError as error:
            bad = error.__context__
            if not isinstance(bad, Bad):
                raise
            self._refuse(bad.status, str(bad))
        except httptools.HttpParserError:
            self._refuse(400, "The request is not valid HTTP/1.1.")

    def eof_received(self) -> bool:
        return False  # connection_lost follows: a half-closed client is a client gone

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._connections.discard(self)
        self._closing = True
        current, self._current, self._reading, self._queue = self._current, None, None, None
        if current is not None and current.handler is not None:
            current.handler.client_gone()

    def pause_writing(self) -> None:
        self._paused = True
        if self._current is not None and self._current.handler is not None:
            self._current.handler.client_paused()

    def resume_writing(self) -> None:
        self._paused = False
        if self._current is not None and self._current.handler is not None:
            self._current.handler.client_resumed()

    # -- llhttp ----------------------------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = []
        self._head_size = 0

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._reading is None:
            self._count(len(name) + len(value) + 4)
            self._headers.append((name, value))

    def _count(self, n: int) -> None:
        self._head_size += n
        if self._head_size > self._settings.head_bytes or len(self._headers) >= self._settings.head_fields:
            raise Bad(431, "The request's head is too large.")

    def on_headers_complete(self) -> None:
        parser = self._parser
        one_zero = parser.get_http_version() == "1.0"
        hosts = 0
        length: int | None = None
        chunked = expects = False
        for name, value in self._headers:
            n = len(name)
            if n == 4:
                hosts += name.lower() == b"host"
            elif n == 14:
                if name.lower() == b"content-length":
                    length = int(value)
            elif n == 17:
                if name.lower() == b"transfer-encoding":
                    if one_zero or value.strip().lower() != b"chunked" or chunked:
                        raise Bad(400, "This transfer coding is not taken; use chunked alone, or Content-Length.")
                    chunked = True
            elif n == 6 and name.lower() == b"expect":
                expects = value.strip().lower() == b"100-continue"
        if hosts != 1 and not (one_zero and hosts == 0):
            raise Bad(400, "A request needs exactly one Host header.")
        try:
            target = self._url.decode("ascii")
        except UnicodeDecodeError:
            raise Bad(400, "The request's target must be percent-encoded ASCII.") from None
        method = parser.get_method().decode("ascii")
        if method == "CONNECT":
            raise Bad(405, "This is no forward proxy.")
        if not target.startswith("/"):
            # The absolute form (RFC 9112, 3.2.2), which servers must accept; the Host header tells nothing else.
            if target == "*" or "://" not in target:
                raise Bad(400, "The request's target must begin with a slash.")
            target = "/" + target.partition("://")[2].partition("/")[2]
        path, _, query = target.partition("?")
        request = ClientRequest(method, path, query, self._headers, length, chunked, self._local)
        incoming = _Incoming(request, keep_alive=parser.should_keep_alive(), one_zero=one_zero, expects=expects)
        self._reading = incoming
        if self._current is None:
            self._start(incoming)
        else:
            if self._queue is None:
                self._queue = deque()
            self._queue.append(incoming)

    def on_body(self, body: bytes) -> None:
        incoming = self._reading
        if incoming is None:
            return
        if incoming.handler is not None and incoming is self._current:
            incoming.handler.client_body(body)
        elif incoming is not self._current:
            self._queued += len(body)
            if self._queued > self._settings.pipelined_bytes:
                # Too much for one who does not wait: the answers before it still go, then the connection closes.
                incoming.keep_alive = False
                raise Bad(413, "Too much was sent before the answer to an earlier request.")
            incoming.body.append(body)

    def on_message_complete(self) -> None:
        incoming, self._reading = self._reading, None
        if incoming is None:
            return
        incoming.complete = True
        if incoming is self._current and incoming.handler is not None:
            incoming.handler.client_end()

    # -- turns -----------------------------------------------------------------------------------------------------------------------

    def _start(self, incoming: _Incoming) -> None:
        self._current = incoming
        self._replying = False
        handler = self._front.open(incoming.request, self)
        if self._current is not incoming:
            return  # it was answered at once
        incoming.handler = handler
        if incoming.expects and not incoming.body and not incoming.complete and not self._replying and not incoming.one_zero:
            self._send(b"HTTP/1.1 100 Continue\r\n\r\n")
        for piece in incoming.body:
            if self._current is incoming:
                handler.client_body(piece)
        incoming.body.clear()
        if incoming.complete and self._current is incoming:
            handler.client_end()

    def _next(self) -> None:
        """The current answer is whole: the next request, or the end."""
        done, self._current = self._current, None
        self._left = None
        if done is None or self._transport is None:
            return
        if not done.complete or not done.keep_alive or self._closing:
            self._finish()
            return
        if self._queue:
            incoming = self._queue.popleft()
            if not self._queue:
                self._queue = None
                self._queued = 0
            # Not from inside the callback that ended the answer before.
            asyncio.get_running_loop().call_soon(self._turn, incoming)
            self._current = incoming
        elif self._settings.draining():
            self._finish()

    def _turn(self, incoming: _Incoming) -> None:
        if self._current is incoming and self._transport is not None:
            self._start(incoming)

    def _finish(self) -> None:
        """Close, after what was written has left; read on a little, so that the client sees it."""
        self._closing = True
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._reading is None:
            transport.close()
            return
        self._reading = None
        asyncio.get_running_loop().call_later(LINGER, transport.close)

    def _refuse(self, status: int, why: str) -> None:
        """A request whose form is refused. Its protocol is not known yet; this shape is the one that most clients read."""
        current = self._current
        if current is not None:
            # An answer before it is still running, or its own body broke: no second head may be written.
            handler, self._current = current.handler, None
            self._closing = True
            if handler is not None:
                handler.client_gone()
            if self._replying:
                self._abort()
                return
        body = json.dumps({"error": {"message": why, "type": "invalid_request_error", "param": None, "code": None}}).encode()
        self._send(
            b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (status, _REASONS.get(status, b"Bad Request"), len(body), body)
        )
        self._reading = None
        self._finish()

    # -- Reply -----------------------------------------------------------------------------------------------------------------------

    def head(self, status: int, headers: Headers, length: int | None) -> None:
        current = self._current
        if current is None:
            return
        self._replying = True
        if not current.complete:
            current.keep_alive = False  # the rest of the request is not waited for
        parts = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status]
        parts += [b"%b: %b\r\n" % header for header in headers]
        self._chunked = False
        if status in (204, 304):
            self._left = 0
        elif length is not None:
            self._left = None if current.head_only else length
            parts.append(b"content-length: %d\r\n" % length)
        elif current.one_zero:
            self._left = None
            current.keep_alive = False
        else:
            self._left = None
            self._chunked = not current.head_only
            parts.append(b"transfer-encoding: chunked\r\n")
        if not current.keep_alive or self._settings.draining():
            current.keep_alive = False
            parts.append(b"connection: close\r\n")
        elif current.one_zero:
            parts.append(b"connection: keep-alive\r\n")
        parts.append(b"\r\n")
        self._send(b"".join(parts))

    def write(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._chunked:
            transport.write(b"%x\r\n%b\r\n" % (len(data), data))
            return
        current = self._current
        if current is None or current.head_only:
            return
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        transport.write(data)

    def end(self) -> None:
        if self._chunked:
            self._chunked = False
            self._send(b"0\r\n\r\n")
        elif self._left:
            self._abort()  # fewer bytes than the head promised
            return
        self._next()

    def abort(self) -> None:
        self._current = None
        self._abort()

    def pause_upload(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_upload(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    @property
    def busy(self) -> bool:
        """A request is being read or answered."""
        return self._current is not None or self._reading is not None

    def close(self) -> None:
        """Close now; a running answer ends as one whose client is gone."""
        self._abort()

    def _send(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _abort(self) -> None:
        self._closing = True
        if self._transport is not None:
            # What was written leaves first; the framing shows that it is not all.
            self._transport.close()
