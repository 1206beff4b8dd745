"""One client connection: HTTP/1.1 requests in, answers out, in order.

Requests that come before the answer to an earlier one wait, within bounds; so does the next one while the client does not read. A request
that is bad is refused in its turn, and nothing behind it is read. An answer that ends before its request is whole closes the connection.

A client that closes its sending side before its answer is whole counts as gone. Reading is paused only for a request body that
the provider takes more slowly; never while an answer runs, or its leaving would go unseen.

On uvloop a write raises once `connection_lost` was called, and a write after `close` is appended to what is still pending: so `_send` is
the transport's `write` only as long as something may be written, and `None` afterwards.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

from penstock.admission import is_loopback
from penstock.exchange.contract import Front, Headers
from penstock.server.farewell import Farewell
from penstock.server.heads import NOTHING, Bad, Incoming, Known, KnownHeads
from penstock.server.reader import Reader
from penstock.server.refusals import REASONS, write_refusal
from penstock.server.settings import Settings
from penstock.server.taking import untaken
from penstock.wire.chunked import SIZE_LINES

_STATUS_LINES = {code: b"HTTP/1.1 %d %b" % (code, phrase) for code, phrase in REASONS.items()}
_HEADER = b": ".join


class Connection(Reader, asyncio.Protocol):
    """Implements `exchange.contract.Reply` for the request whose turn it is."""

    __slots__ = ("_chunked", "_connections", "_current", "_farewell", "_front", "_left", "_opening", "_paused", "_queue", "_queued",
                 "_replying", "_send", "_stream", "_turns")

    def __init__(
        self, front: Front, connections: set[Connection], settings: Settings, *, local: bool = True, heads: KnownHeads | None = None
    ) -> None:
        """`local`: all that come this way are of this machine; else each is looked at. `heads`: shared by all that belong to one `front`."""
        super().__init__(settings, local, heads if heads is not None else KnownHeads())
        self._front = front
        self._connections = connections
        self._send: Callable[[bytes], None] | None = None
        self._stream: asyncio.Transport | None = None  # as long as all that is written is more chunks of an answer that has begun
        self._farewell: Farewell | None = None
        self._current: Incoming | None = None  # whose turn it is
        self._queue: deque[Incoming] | None = None
        self._queued = 0  # bytes of bodies that wait
        self._replying = False  # the head of the current answer was sent
        self._opening: bytes | None = None  # the head, until the first bytes of the body (one write for both); between two answers: see `end`
        self._chunked = False
        self._left: int | None = 0  # bytes of the body that may still be written; `None`: until the connection closes
        self._paused = False  # the client does not read
        self._turns = 0  # requests begun

    # -- asyncio -----------------------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = out = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self._send = out.write
        self._connections.add(self)
        if not self._local:
            peer = out.get_extra_info("peername")
            if peer and is_loopback(peer[0]):
                self._local, self._heads = True, self._heads.near
        out.set_write_buffer_limits(high=65536)

    def data_received(self, data: bytes) -> None:
        if self._farewell is not None:
            self._farewell.heard += len(data)
            return
        if self._current is None and self._headers is None and self._reading is None and not (self._queue or self._paused or self._deaf):
            recalled = self._heads.recall(data)
            if recalled is not None:
                self._take(*recalled)
                return
        self.feed(data)
        if self._held and self._reading is None:
            self.resume_upload()  # the body is whole; nothing else is held back

    def eof_received(self) -> bool:
        if self._current is not None or self._queue:
            if self._transport is not None:
                self._transport.abort()  # `connection_lost` would wait until the client has read what was written
            self._leave()
        else:
            self._close(linger=False)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._transport = self._parser = None  # the parser holds our methods, and would keep us alive
        self._leave()

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

    # -- turns -------------------------------------------------------------------------------------------------------------------------

    def _admit(self, incoming: Incoming) -> None:
        queue = self._queue
        if self._current is None and not queue and not self._paused:
            self._start(incoming)
            return
        if queue is None:
            queue = self._queue = deque()
        if len(queue) >= self._settings.pipelined_requests:
            raise Bad(429, "Too many requests were sent before the answer to an earlier one.")
        queue.append(incoming)

    def _keep(self, incoming: Incoming, body: bytes) -> None:
        self._queued += len(body)
        if self._queued > self._settings.pipelined_bytes:
            raise Bad(429, "Too much was sent before the answer to an earlier request.")
        if incoming.body is None:
            incoming.body = bytearray()
        incoming.body += body

    def _take(self, known: Known, length: int | None, body: bytes) -> None:
        """A whole request, in its turn."""
        self._open()
        self._current = incoming = Incoming(known, length, True, self._local)
        incoming.complete = True
        self._turns += 1
        self._replying = False
        try:
            handler = self._front.open(incoming.request, self)
        except Bad as bad:
            self._deaf = True
            self._refuse(incoming, known.path, incoming.head_only, bad)
            return
        if self._current is incoming:  # else it was answered at once
            incoming.handler = handler
            if self._paused:
                handler.client_paused()
            handler.client_whole(body)

    def _start(self, incoming: Incoming) -> None:
        self._open()
        self._current = incoming
        if incoming.body is not None:
            self._queued -= len(incoming.body)  # it waits no longer, whatever becomes of it
        self._turns += 1
        self._replying = False
        if incoming.refusal is not None:
            self._say_last(incoming.refusal)
            return
        try:
            handler = self._front.open(incoming.request, self)
        except Bad as bad:
            self._refuse(incoming, incoming.request.path, incoming.head_only, bad)
            return
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
        """Nobody has the turn: the next request gets it, as soon as the client reads."""
        queue = self._queue
        if queue:
            if self._paused or self._send is None:
                return
            self._open()
            self._current = incoming = queue.popleft()
            if not queue:
                self._queue = None
            # Not from inside the callback that ended the answer before.
            asyncio.get_running_loop().call_soon(self._turn, incoming)
        elif self._reading is None and self._headers is None and self._settings.draining():
            self._close(linger=False)

    def _turn(self, incoming: Incoming) -> None:
        if self._current is not incoming:
            return
        try:
            self._start(incoming)
        except BaseException:
            # A mistake of ours. In the callbacks of a transport the loop closes the connection; nobody else would here.
            if self._transport is not None:
                self._transport.abort()
            raise

    def _refuse(self, incoming: Incoming | None, path: str, head_only: bool, bad: Bad) -> None:
        current, queue = self._current, self._queue
        if current is not None and current is incoming:
            # Its own body broke. Where it has a head of an answer already, it gets no second one.
            handler, current.handler = current.handler, None
            self._current = None
            words = handler.client_bad(bad.status, bad.why) if handler is not None else self._settings.refusal(path, bad.status, bad.why)
            if self._replying:
                self._break_off()
            else:
                self._say_last(write_refusal(bad.status, *words, head_only=head_only))
            return
        refusal = write_refusal(bad.status, *self._settings.refusal(path, bad.status, bad.why), head_only=head_only)
        if current is None and not queue:
            self._say_last(refusal)
        else:
            if queue is None:
                queue = self._queue = deque()
            if queue and queue[-1] is incoming:
                queue.pop()
            turn = Incoming(NOTHING, None, keep_alive=False, local=False)
            turn.refusal = refusal
            queue.append(turn)

    # -- ends --------------------------------------------------------------------------------------------------------------------------

    def _say_last(self, answer: bytes) -> None:
        self._current = None
        self._open()
        if self._send is not None:
            self._send(answer)
        self._close(linger=True)

    def _leave(self) -> None:
        """The client has left, or must."""
        self._deaf = True
        self._stop_reading()
        current, self._current, self._queue, self._send, self._stream = self._current, None, None, None, None
        if current is not None and current.handler is not None:
            handler, current.handler = current.handler, None
            handler.client_gone()

    def _close(self, *, linger: bool, late: bool = False) -> None:
        """Close, after what was written has left; with `linger`, after the client had time to see it, whatever it still sends. `late`: it had its
        time to take that."""
        self._open()
        self._deaf = True
        self._stop_reading()
        self._send = self._stream = self._queue = None
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._farewell = Farewell(transport, self._settings.linger, 0.0 if late else self._settings.untaken_seconds)
        if linger:
            self._farewell.linger()
        else:
            self._farewell.close()

    def _break_off(self) -> None:
        """Close so that the framing shows that the answer is not whole; what was written leaves first, where the framing allows it."""
        self._open()
        bare = self._replying and self._left is None and not self._chunked
        if bare and self._transport is not None:
            Farewell(self._transport, self._settings.linger).reset()
        self._close(linger=False)

    # -- Reply -------------------------------------------------------------------------------------------------------------------------

    def head(self, status: int, headers: Headers, length: int | None) -> None:
        current, send = self._current, self._send
        if current is None or send is None or self._replying:
            return
        self._replying = True
        lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status]
        lines += map(_HEADER, headers)
        self._chunked = False
        self._stream = None
        self._left = 0
        if status == 204 or status == 304:
            pass
        elif length is not None:
            lines.append(b"content-length: %d" % length)
            if not current.head_only:
                self._left = length
        elif current.one_zero:
            current.keep_alive = False
            if not current.head_only:
                self._left = None
        else:
            lines.append(b"transfer-encoding: chunked")
            self._chunked = not current.head_only
        if not current.keep_alive or not current.complete or self._settings.draining():
            current.keep_alive = False  # the rest of the request is not waited for
            lines.append(b"connection: close")
        elif current.one_zero:
            lines.append(b"connection: keep-alive")
        lines.append(b"\r\n")
        self._opening = b"\r\n".join(lines)

    def _open(self, between: bool = False) -> None:
        if between and self._current is not None:
            return  # it is the next answer's head
        opening, self._opening = self._opening, None
        if opening is not None and self._send is not None:
            self._send(opening)

    def write(self, data: bytes) -> None:
        stream = self._stream
        if stream is not None:
            size = len(data)
            if size:  # none at all would be the last chunk
                stream.write(b"".join((SIZE_LINES[size] if size < 2048 else b"%x\r\n" % size, data, b"\r\n")))
            return
        send = self._send
        if send is None:
            return
        opening, self._opening = self._opening, None
        if self._chunked:
            self._stream = self._transport
            if opening is not None:
                send(b"%b%x\r\n%b\r\n" % (opening, len(data), data) if data else opening)
            elif data:
                send(b"%x\r\n%b\r\n" % (len(data), data))
            return
        left = self._left
        if left is not None:
            data = data[:left]
            self._left = left - len(data)
        send(data if opening is None else opening + data)

    def end(self) -> None:
        current, send = self._current, self._send
        if current is None or send is None:
            return
        self._current = current.handler = None
        self._open()
        if self._chunked:
            self._chunked = False
            self._stream, self._opening = None, b"0\r\n\r\n"
            if current.keep_alive and self._queue is None and not self._settings.draining():
                # It tells nothing that the answer did not: the tokens of other answers that are at hand go first.
                asyncio.get_running_loop().call_soon(self._open, True)
            else:
                self._open()
        elif self._left or not self._replying:
            self._break_off()  # fewer bytes than the head promised
            return
        self._left = 0
        if current.keep_alive:
            self._next()
        else:
            # A reset would take the answer away from a client that still sends.
            self._close(linger=not current.complete or self._queue is not None)

    def whole(self, status: int, headers: Headers, body: bytes) -> None:
        current, send = self._current, self._send
        if current is None or send is None or self._replying:
            return
        if not current.plain or not current.complete or status < 200 or status in (204, 304) or self._settings.draining():
            self.head(status, headers, len(body))
            if body:
                self.write(body)
            self.end()
            return
        self._current = current.handler = None
        line = _STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status
        send(b"%b\r\n%b\r\ncontent-length: %d\r\n\r\n%b" % (line, b"\r\n".join(map(_HEADER, headers)), len(body), body))
        if self._queue is not None:
            self._next()

    def abort(self) -> None:
        current = self._current
        if current is not None:
            self._current = current.handler = None
            self._break_off()

    def unsent(self) -> int:
        return untaken(self._transport) if self._transport is not None else 0

    def peer(self) -> str | None:
        found = self._transport.get_extra_info("peername") if self._transport is not None else None
        return found[0] if found else None

    # -- the listener ------------------------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """A request is being read or answered, or the connection is closing by itself."""
        return self._current is not None or self._reading is not None or self._headers is not None or self._queue is not None or self._deaf

    def close(self) -> None:
        """Close now; a running answer ends as one whose client is gone."""
        if self._current is not None:
            self._leave()
        self._close(linger=False)
