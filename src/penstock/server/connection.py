"""One client connection: HTTP/1.1 requests in, answers out, in order.

What is refused beyond llhttp's strict mode is in `heads`. Trailers are not headers. An offered h2c upgrade is ignored (RFC 9113 dropped it):
the body is read and answered in HTTP/1.1; llhttp would leave it unread, so it is shown the framing once more.

Requests that come before the answer to an earlier one wait, within bounds; so does the next one while the client does not read. A request
that is bad is refused in its turn, and nothing behind it is read. An answer that ends before its request is whole closes the connection,
but not before the client had time to see it: what it still sends is read and dropped (RFC 9112, 9.6).

A client that closes its sending side before its answer is whole counts as gone. Reading is paused only for a request body that
the provider takes more slowly; never while an answer runs, or its leaving would go unseen.

On uvloop a write raises once `connection_lost` was called, and a write after `close` is appended to what is still pending: so `_send` is
the transport's `write` only as long as an answer may be written, and `None` afterwards.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import cast

import httptools

from penstock.exchange.contract import ClientRequest, Front, Headers
from penstock.server.heads import Bad, Incoming, read_head
from penstock.server.refusals import REASONS, write_refusal
from penstock.server.settings import Settings

_STATUS_LINES = {code: b"HTTP/1.1 %d %b" % (code, phrase) for code, phrase in REASONS.items()}
_SIZES = [b"%x\r\n" % size for size in range(2048)]
"""The first lines of chunks as they mostly are."""
_BROKEN = "The request is not valid HTTP/1.1"
_LONG_HEAD = "The request's head is too large."
LINGER = 30.0
"""Seconds for which a client may go on sending to a connection that was closed for it."""


class _Enough(Exception):
    """Stops the parser: what follows is not read."""


class Connection(asyncio.Protocol):
    """Implements `exchange.contract.Reply` for the request whose turn it is."""

    __slots__ = ("_chunked", "_connections", "_current", "_deaf", "_fed", "_front", "_headers", "_left", "_local", "_parser", "_paused", "_pieces",
                 "_queue", "_queued", "_quiet", "_reading", "_replying", "_send", "_settings", "_transport", "_upgrading", "_url")

    def __init__(self, front: Front, connections: set[Connection], settings: Settings, *, local: bool = True) -> None:
        self._front = front
        self._connections = connections
        self._settings = settings
        self._local = local
        self._transport: asyncio.Transport | None = None
        self._send: Callable[[bytes], None] | None = None
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: Headers | None = None  # of the head that is being read
        self._fed = 0  # bytes since the message began, or more
        self._quiet = 0  # bytes that came without the parser telling anything, the read in which it last did excepted
        self._reading: Incoming | None = None  # whose body comes
        self._pieces: list[bytes] | None = None  # of a chunked body, from this read
        self._upgrading: Incoming | None = None  # whose framing llhttp is to be shown again
        self._current: Incoming | None = None  # whose turn it is
        self._queue: deque[Incoming] | None = None
        self._queued = 0  # bytes of bodies in it
        self._replying = False  # the head of the current answer was sent
        self._chunked = False
        self._left: int | None = 0  # bytes of the body that may still be written; `None`: until the connection closes
        self._deaf = False  # what comes is no request any more
        self._paused = False

    # -- asyncio ---------------------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = out = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self._send = out.write
        self._connections.add(self)
        out.set_write_buffer_limits(high=65536)

    def data_received(self, data: bytes) -> None:
        if self._headers is None and self._reading is None:
            self._fed = len(data)
        else:
            self._fed += len(data)
            self._quiet += len(data)
        if self._deaf:
            self._fed += 1
            return
        parser = self._parser
        if parser is None:
            return
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on(data, upgrade.args[0])
        except httptools.HttpParserError as error:
            self._stumbled(error)
        if self._headers is not None or self._reading is not None:
            self._is_midway()

    def eof_received(self) -> bool:
        transport = self._transport
        if transport is not None:
            if self._current is not None or self._queue:
                transport.abort()  # what it does not read would else keep the connection open
                self._gone()
            else:
                self._watch(transport)
        return False  # close, when what was written has left

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = self._parser = None  # the parser holds our methods, and would keep us alive
        self._connections.discard(self)
        self._gone()

    def pause_writing(self) -> None:
        self._paused = True
        if self._current is not None and self._current.handler is not None:
            self._current.handler.client_paused()

    def resume_writing(self) -> None:
        self._paused = False
        if self._current is None:
            self._next()
        elif self._current.handler is not None:
            self._current.handler.client_resumed()

    # -- what the parser cannot do ------------------------------------------------------------------------------------------------------

    def _go_on(self, data: bytes, offset: int) -> None:
        """An upgrade was offered. The parser stopped behind the head, body or not: show it the framing again, and what follows."""
        parser = self._parser
        rest = memoryview(data)
        try:
            while parser is not None:
                if self._upgrading is None:
                    raise Bad(400, f"{_BROKEN}.")
                request = self._upgrading.request
                framing = b"transfer-encoding: chunked\r\n" if request.chunked else b"content-length: %d\r\n" % (request.content_length or 0)
                rest = rest[offset:]
                parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % framing)
                try:
                    parser.feed_data(rest)
                    return
                except httptools.HttpParserUpgrade as another:
                    offset = another.args[0]
        except httptools.HttpParserError as error:
            self._stumbled(error)
        except Bad as bad:
            self._refuse(bad.status, bad.why)

    def _stumbled(self, error: httptools.HttpParserError) -> None:
        """Raises what a callback raised, unless it is our own word for a bad request."""
        if isinstance(error, httptools.HttpParserCallbackError):
            cause = error.__context__
            if isinstance(cause, Bad):
                self._refuse(cause.status, cause.why)
            elif not isinstance(cause, _Enough):
                raise cause or error
        elif not self._deaf:
            self._refuse(400, f"{_BROKEN}: {error}.")

    def _is_midway(self) -> None:
        """A read ended inside a request. httptools hides a header until the next one begins, and extensions and trailers wholly."""
        limit = self._settings.head_bytes
        headers, reading = self._headers, self._reading
        if headers is not None:
            fields = self._settings.head_fields
            if self._quiet > limit or len(headers) > fields or (self._fed > limit and _size(self._url, headers) > limit):
                self._refuse(431, _LONG_HEAD)
        elif reading is not None and reading.chunked:
            self._pass_pieces(reading)
            if self._quiet > limit:
                self._refuse(400, "Too much came between two pieces of the request's body.")

    # -- llhttp ----------------------------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._deaf:
            raise _Enough
        self._url = b""
        self._headers = []
        self._quiet = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        headers = self._headers
        if headers is not None:  # else a trailer
            headers.append((name, value))

    def on_headers_complete(self) -> None:
        headers, parser, settings = self._headers, self._parser, self._settings
        assert headers is not None
        assert parser is not None
        incoming = self._upgrading
        if incoming is None:
            if len(headers) > settings.head_fields or (self._fed > settings.head_bytes and _size(self._url, headers) > settings.head_bytes):
                raise Bad(431, _LONG_HEAD)
            incoming = read_head(parser, self._url, headers, self._local)
            if incoming.upgrade and parser.should_upgrade():
                self._upgrading = incoming
                self._headers = None
                return
        else:
            self._upgrading = None
        self._headers = None
        self._reading = incoming
        if not incoming.bodiless:
            self._admit(incoming)

    def on_body(self, body: bytes) -> None:
        incoming = self._reading
        if incoming is None:
            return
        self._quiet = 0
        if incoming.chunked:  # perhaps in a thousand pieces
            if self._pieces is None:
                self._pieces = []
            self._pieces.append(body)
        else:
            self._take(incoming, body)

    def on_message_complete(self) -> None:
        incoming = self._reading
        if incoming is None:
            return  # llhttp's idea of an upgrade, or a request that was answered before it was whole
        if incoming.chunked:
            self._pass_pieces(incoming)
            if self._reading is not incoming:
                return
        self._reading = None
        incoming.complete = True
        if not incoming.keep_alive:
            self._deaf = True
        if incoming.bodiless:
            self._admit(incoming)
        elif incoming is self._current and incoming.handler is not None:
            incoming.handler.client_end()

    def _pass_pieces(self, incoming: Incoming) -> None:
        pieces, self._pieces = self._pieces, None
        if pieces:
            self._take(incoming, pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def _take(self, incoming: Incoming, body: bytes) -> None:
        if incoming.handler is not None:
            incoming.handler.client_body(body)
            return
        self._queued += len(body)
        if self._queued > self._settings.pipelined_bytes:
            raise Bad(429, "Too much was sent before the answer to an earlier request.")
        if incoming.body is None:
            incoming.body = bytearray()
        incoming.body += body

    # -- turns -----------------------------------------------------------------------------------------------------------------------

    def _admit(self, incoming: Incoming) -> None:
        """A request that somebody may take now: its head is there, and where it has no body it is whole."""
        queue = self._queue
        if self._current is None and not queue and not self._paused:
            self._start(incoming)
            return
        if queue is None:
            queue = self._queue = deque()
        if len(queue) >= self._settings.pipelined_requests:
            raise Bad(429, "Too many requests were sent before the answer to an earlier one.")
        queue.append(incoming)

    def _start(self, incoming: Incoming) -> None:
        self._current = incoming
        self._replying = False
        if incoming.refusal is not None:
            self._last(incoming.refusal)
            return
        handler = self._front.open(incoming.request, self)
        if self._current is not incoming:
            return  # it was answered at once
        incoming.handler = handler
        if self._paused:
            handler.client_paused()
        if incoming.expects and not incoming.complete and incoming.body is None and not self._replying and self._send is not None:
            self._send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if incoming.body is not None:
            body, incoming.body = bytes(incoming.body), None
            handler.client_body(body)
        if incoming.complete and self._current is incoming:
            handler.client_end()

    def _next(self) -> None:
        """Nobody has the turn: the next request in the queue gets it, as soon as the client reads."""
        queue = self._queue
        if queue:
            if self._paused or self._send is None:
                return
            self._current = incoming = queue.popleft()
            if not queue:
                self._queue = None
                self._queued = 0
            # Not from inside the callback that ended the answer before.
            asyncio.get_running_loop().call_soon(self._turn, incoming)
        elif self._reading is None and self._settings.draining():
            self._close(linger=False)

    def _turn(self, incoming: Incoming) -> None:
        if self._current is not incoming or self._send is None:
            return
        try:
            self._start(incoming)
        except BaseException:
            # Our mistake. In the parser's callbacks the loop closes the connection; here nobody else would.
            if self._transport is not None:
                self._transport.abort()
            raise

    def _refuse(self, status: int, why: str) -> None:
        """The request that is being read is bad in its form."""
        self._deaf = True
        incoming, self._reading, self._headers, self._pieces, self._upgrading = self._reading or self._upgrading, None, None, None, None
        current, queue = self._current, self._queue
        path, head_only = self._url.partition(b"?")[0].decode("latin-1"), False
        if incoming is not None:
            path, head_only = incoming.request.path, incoming.head_only
        elif path and self._parser is not None:
            head_only = self._parser.get_method() == b"HEAD"
        refusal = write_refusal(status, *self._settings.refusal(path, status, why), head_only=head_only)
        if current is not None and current is incoming:
            # Its own body broke. Its head may have been answered: no second answer.
            if current.handler is not None:
                self._current = None
                current.handler.client_gone()
            if self._replying:
                self._abort()
            else:
                self._last(refusal)
        elif current is None and not queue:
            self._last(refusal)
        else:
            if queue is None:
                queue = self._queue = deque()
            if incoming is not None and queue and queue[-1] is incoming:
                queue.pop()
            turn = Incoming(ClientRequest("", "", "", [], None, False, self._local), False, False, False, False)
            turn.complete, turn.refusal = True, refusal
            queue.append(turn)

    def _last(self, answer: bytes) -> None:
        """Send this whole answer, and close."""
        self._current = None
        if self._send is not None:
            self._send(answer)
        self._close(linger=True)

    # -- ends ------------------------------------------------------------------------------------------------------------------------

    def _gone(self) -> None:
        """The client has left, or must."""
        self._deaf = True
        current = self._current
        self._send = self._current = self._reading = self._headers = self._pieces = self._queue = None
        if current is not None and current.handler is not None:
            current.handler.client_gone()

    def _close(self, *, linger: bool) -> None:
        """Close, after what was written has left; with `linger`, after the client had time to see it, whatever it still sends."""
        self._deaf = True
        self._send = self._reading = self._headers = self._pieces = self._queue = None
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if not linger:
            transport.close()
            self._watch(transport)
            return
        transport.resume_reading()  # it may have been paused for the request's body
        transport.write_eof()
        loop = asyncio.get_running_loop()
        loop.call_later(self._settings.linger, self._wait, loop.time() + LINGER, (self._fed, transport.get_write_buffer_size()))

    def _watch(self, transport: asyncio.Transport) -> None:
        """`transport` is closing. What a client does not read must not keep it for ever."""
        size = transport.get_write_buffer_size()
        if size:
            loop = asyncio.get_running_loop()
            loop.call_later(self._settings.linger, self._wait, loop.time() + LINGER, (self._fed, size))

    def _wait(self, until: float, before: tuple[int, int]) -> None:
        transport = self._transport
        if transport is None:
            return
        loop = asyncio.get_running_loop()
        now = (self._fed, transport.get_write_buffer_size())
        reads = now[1] != before[1]
        sends = now[0] != before[0] and loop.time() < until
        if reads or (sends and not now[1]):
            loop.call_later(self._settings.linger, self._wait, until, now)
        else:
            transport.abort()

    def _abort(self) -> None:
        """Close so that the framing shows that the answer is not whole. What was written leaves first, unless nothing but a reset can show it."""
        transport = self._transport
        bare = self._replying and self._left is None and not self._chunked
        self._current = None
        if bare and transport is not None and not transport.is_closing():
            sock = transport.get_extra_info("socket")
            if sock is not None and sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() resets (socket(7))
            transport.abort()
        self._close(linger=False)

    # -- Reply -----------------------------------------------------------------------------------------------------------------------

    def head(self, status: int, headers: Headers, length: int | None) -> None:
        current, send = self._current, self._send
        if current is None or send is None or self._replying:
            return
        self._replying = True
        lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status]
        lines += [b": ".join(pair) for pair in headers]
        self._chunked = False
        if status == 204 or status == 304:
            self._left = 0
        elif length is not None:
            self._left = 0 if current.head_only else length
            lines.append(b"content-length: %d" % length)
        elif current.one_zero:
            self._left = 0 if current.head_only else None
            current.keep_alive = False
        else:
            self._left = 0
            self._chunked = not current.head_only
            lines.append(b"transfer-encoding: chunked")
        if not current.keep_alive or not current.complete or self._settings.draining():
            current.keep_alive = False  # the rest of the request is not waited for
            lines.append(b"connection: close")
        elif current.one_zero:
            lines.append(b"connection: keep-alive")
        lines.append(b"\r\n")
        send(b"\r\n".join(lines))

    def write(self, data: bytes) -> None:
        send = self._send
        if send is None:
            return
        if self._chunked:
            size = len(data)
            if size:  # none at all would be the last chunk
                send(b"".join((_SIZES[size] if size < 2048 else b"%x\r\n" % size, data, b"\r\n")))
            return
        left = self._left
        if left is not None:
            data = data[:left]
            self._left = left - len(data)
        send(data)

    def end(self) -> None:
        current, send = self._current, self._send
        if current is None or send is None:
            return
        if self._chunked:
            self._chunked = False
            send(b"0\r\n\r\n")
        elif self._left or not self._replying:
            self._abort()  # fewer bytes than the head promised
            return
        self._left = 0
        self._current = None
        if current.keep_alive:
            self._next()
        else:
            # Whoever may still be sending would have its answer taken away by a reset.
            self._close(linger=not current.complete or self._queue is not None)

    def abort(self) -> None:
        if self._current is not None:
            self._abort()

    def pause_upload(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_upload(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    # -- the listener ------------------------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """A request is being read or answered, or the connection closes by itself."""
        return self._current is not None or self._reading is not None or bool(self._queue) or self._deaf

    def close(self) -> None:
        """Close now; a running answer ends as one whose client is gone."""
        self._gone()
        self._close(linger=False)


def _size(url: bytes, headers: Headers) -> int:
    return len(url) + sum([len(name) + len(value) + 4 for name, value in headers])
