"""One connection to a provider: HTTP/1.1 over llhttp in its strict mode, one request at a time, pushed from `data_received`.

What llhttp does not do is done here. Interim answers (1xx) are skipped, bodies and all. An answer to HEAD has no body, and its connection is
not kept, because a server that sends one all the same would answer the next request with it. An answer without Content-Length and
without chunks ends with its connection, and only a clean end is one: over TLS that is `close_notify` (RFC 9112, 9.8). Transfer codings
that nobody asked for are refused, and so are versions that are not 1.x. Trailers are not headers. Bytes behind an answer close the connection.

A connection serves one *asker* after the other. Calls of an asker whose turn is over do nothing.
"""

from __future__ import annotations

import asyncio
import select
from time import monotonic
from typing import Protocol, cast

import httptools

from penstock.upstream.contract import STALE_WITHIN, Headers, Loss, LossKind, Receiver, ResponseHead
from penstock.upstream.dial import DIRECT, Via
from penstock.upstream.losses import STALE, TOO_LARGE, Garbage, loss_of, short
from penstock.upstream.reading import MUCH, make_poll, settle_tls_reading, take_breath
from penstock.wire.chunked import LENGTHS, LINES_BY_LENGTH, ends_a_chunk

HEAD_LIMIT = 256 * 1024
"""Bytes of header names and values that an answer may have; also of anything else that comes and is no body (interim answers, trailers)."""
_BIG = 64 * 1024  # bytes of a request from which on copying costs more than a second buffer


class Keeper(Protocol):
    """Whoever owns connections."""

    def keep(self, connection: Connection) -> None:
        """Its request is over and it can take another one."""
        ...

    def gone(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    __slots__ = ("_answering", "_asker", "_began", "_between", "_dry", "_ended", "_full", "_head", "_headers", "_held", "_keeper", "_news",
                 "_no_body", "_parser", "_parts", "_paused", "_poll", "_receiver", "_reusable", "_sent_all", "_sent_at", "_tls", "_transport",
                 "_unwritten", "on_body", "origin", "used", "via")  # fmt: skip

    def __init__(self, keeper: Keeper, origin: object) -> None:
        self.origin = origin
        self.via: Via = DIRECT
        self.used = 0
        """Requests sent on it so far."""
        self._keeper = keeper
        self._transport: asyncio.Transport | None = None
        self._tls = False
        self._poll: select.poll | None = None
        self._asker: object = None
        self._receiver: Receiver | None = None
        # The answer. llhttp's callback for the body is the list's own `append`: no frame of ours per chunk.
        self._parts: list[bytes] = []
        self.on_body = self._parts.append
        self._headers: Headers = []
        self._head: ResponseHead | None = None
        self._news = False  # the next read may be something else than more of a body
        self._between = False  # llhttp waits for a chunk: whole ones need not pass through it
        self._answering = self._began = self._ended = False  # a byte has come; the head was told; the answer is whole
        self._no_body = False
        self._reusable = False
        self._dry = 0  # bytes read since something came of them
        self._paused = False
        # The request.
        self._sent_all = True
        self._full = False  # the transport takes no more
        self._held = False  # and the receiver was told so
        self._unwritten: list[bytes] | None = None
        self._parser = httptools.HttpResponseParser(self)

    # -- asyncio ---------------------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self._tls = transport.get_extra_info("ssl_object") is not None

    def data_received(self, data: bytes) -> None:
        receiver = self._receiver
        if receiver is None:
            self.close()  # a provider that talks out of turn
            return
        if self._between:
            size = len(data)
            if size < LENGTHS:
                line = LINES_BY_LENGTH[size]
                if data.startswith(line) and data.endswith(b"\r\n"):
                    receiver.answer_body(data[len(line) : -2], monotonic())
                    return
            self._between = False
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._break(receiver, error)
            return
        if self._news:
            self._tell(receiver, len(data))
            return
        if len(data) > MUCH and not self._tls:
            take_breath(self._transport, lambda: self._paused)
        parts = self._parts
        if len(parts) == 1:
            body = parts.pop()
            self._between = ends_a_chunk(data, body)
            receiver.answer_body(body, monotonic())
        elif parts:
            body = b"".join(parts)
            parts.clear()
            receiver.answer_body(body, monotonic())
        else:
            self._wait(len(data))
            return
        if self._dry:
            self._dry = 0

    def eof_received(self) -> bool:
        # Decided here and not in `connection_lost`, which waits for what is still to be written, and which does not tell a clean end of TLS
        # from a cut one: for the cut one this is never called.
        receiver, head = self._receiver, self._head
        if receiver is None:
            self.close()
        elif head is not None and self._began and not head.delimited:
            self._finish(reusable=False)
            receiver.answer_ended(monotonic())
        else:
            self._lose(self._what(None), monotonic())
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = self._poll = None
        self._keeper.gone(self)
        if self._receiver is not None:
            self._lose(self._what(exc), monotonic())

    def pause_writing(self) -> None:
        self._full = True
        if not self._held and not self._sent_all and self._receiver is not None:
            self._held = True
            self._receiver.upload_paused()

    def resume_writing(self) -> None:
        self._full = False
        self._let_upload()

    # -- llhttp ----------------------------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._ended:
            # A second answer to one request. Whatever it is, it is not ours to read.
            raise Garbage("bytes behind the answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head is None:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        status = parser.get_status_code()
        if status < 200:
            if status < 100:
                raise Garbage("a status below 100")
            self._headers = []
            return
        head = ResponseHead(status, self._headers)
        keeps = parser.should_keep_alive()
        # To llhttp only HTTP/1.1 goes on without a word about it: mostly the version need not be spelled out.
        version = "1.1" if keeps and not head.shape.connection else parser.get_http_version()
        if version != "1.1" and version != "1.0":
            raise Garbage("not HTTP/1.1")
        self._parts.clear()  # an interim answer's
        if head.transfer_coding and not head.chunked:
            raise Garbage("a transfer coding that was not asked for")
        self._head = head
        # HTTP/1.0 knows no chunks; where they come, the connection is not kept (RFC 9112, 6.1).
        self._reusable = keeps and not self._no_body and not (head.chunked and version == "1.0")
        self._ended = self._ended or self._no_body

    def on_message_complete(self) -> None:
        if self._head is not None:
            self._ended = self._news = True

    # -- the answer ------------------------------------------------------------------------------------------------------------------

    def _tell(self, receiver: Receiver, size: int) -> None:
        """Hand on what a read of `size` bytes brought that was not only more body. The receiver may cancel in each call."""
        self._answering = True
        head = self._head
        if head is None:
            self._parts.clear()
            self._wait(size)
            return
        now, parts = monotonic(), self._parts
        if not self._began:
            if self._dry + size > HEAD_LIMIT and sum(len(name) + len(value) for name, value in head.headers) > HEAD_LIMIT:
                self._lose(TOO_LARGE, now)
                return
            self._began = True
            self._dry = 0
            if self._ended and parts and not self._no_body:
                body = b"".join(parts)
                parts.clear()
                self._finish(reusable=self._reusable)
                receiver.answer_whole(head, body, now)
                return
            receiver.answer_began(head, now)
        if parts:
            if not self._no_body and self._receiver is receiver:
                receiver.answer_body(parts[0] if len(parts) == 1 else b"".join(parts), now)
            parts.clear()
        if not self._ended:
            self._news = False
        elif self._receiver is receiver:
            self._finish(reusable=self._reusable)
            receiver.answer_ended(now)

    def _wait(self, size: int) -> None:
        """`size` bytes have come and nothing was whole."""
        self._dry += size
        if self._dry > HEAD_LIMIT:
            self._lose(TOO_LARGE, monotonic())

    def _break(self, receiver: Receiver, error: Exception) -> None:
        """What came is not HTTP. What was understood of it is handed on; bytes behind a whole answer are its connection's end only."""
        why = error
        if isinstance(error, httptools.HttpParserCallbackError):
            if not isinstance(error.__context__, Garbage):
                raise error
            why = error.__context__
        self._reusable, self._news = False, True  # and nothing is handed over: the loss is told behind what was understood
        if self._head is not None:
            self._tell(receiver, 0)
        if self._receiver is receiver:
            what = "switched protocols unasked" if isinstance(error, httptools.HttpParserUpgrade) else f"sent what is not valid HTTP ({short(why)})"
            self._lose(Loss(LossKind.GARBAGE, f"the provider {what}"), monotonic())

    def _what(self, exc: Exception | None) -> Loss:
        """What the end of the connection is to the answer under way."""
        if not self._answering and self.used > 1 and monotonic() - self._sent_at <= STALE_WITHIN:
            return STALE
        return loss_of(exc, "before" if self._head is None else "inside")

    def _finish(self, *, reusable: bool) -> None:
        """The answer is whole: who waits for it is to be told next. A provider that has not read all before it may never read a next request."""
        transport = self._transport
        reusable = reusable and self._sent_all and not (self._full or self._unwritten) and transport is not None and not transport.is_closing()
        self._release()
        if reusable:
            if self._paused:
                self._read_on()
            self._keeper.keep(self)
        else:
            self.close()

    def _lose(self, loss: Loss, now: float) -> None:
        receiver = self._receiver
        self._release()
        self.close()
        if receiver is not None:
            receiver.answer_lost(loss, now)

    def _release(self) -> None:
        """This turn is over."""
        self._let_upload()
        self._receiver = self._asker = self._head = self._unwritten = None
        self._headers = []
        self._sent_all = True

    # -- the one who asks ------------------------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def ready(self) -> bool:
        """Nobody's turn, open, and nothing to read: bytes or an end that came unasked must not be taken for the next answer."""
        transport = self._transport
        return self._receiver is None and transport is not None and not transport.is_closing() and not self._readable()

    def send(
        self, asker: object, receiver: Receiver, request: tuple[bytes, bytes, bytes], *, head_only: bool, uploading: bool, held: bool = False
    ) -> None:
        """Send one request: method, target, and the rest from the first header line on, its body being the end of it unless `uploading`.

        `head_only`: the method is HEAD. `held`: the receiver has been told to pause its upload; see `ease`. Where the connection is gone
        already, the receiver is told so before this returns.
        """
        transport = self._transport
        self.used += 1
        self._asker, self._receiver = asker, receiver
        self._sent_at = monotonic() if self.used > 1 else 0.0  # asked for on a kept connection only
        self._news = True
        self._between = self._answering = self._began = self._ended = False
        self._no_body = head_only
        self._dry = 0
        self._sent_all = not uploading
        self._held = held
        if transport is None or transport.is_closing():
            self._lose(self._what(None), monotonic())
            return
        method, target, rest = request
        via = self.via
        line = b"%b %b HTTP/1.1\r\n" % (method, target) if via is DIRECT else b"%b %b%b HTTP/1.1\r\n%b" % (method, via.absolute, target, via.lines)
        # One system call either way.
        if len(rest) < _BIG:
            transport.write(line + rest)
        else:
            transport.writelines((line, rest))

    def upload(self, asker: object, data: bytes) -> None:
        transport = self._transport
        if self._asker is not asker or transport is None or transport.is_closing():
            return
        if self._unwritten is not None:
            self._unwritten.append(data)
        elif not self._paused and self._readable():
            # Read before writing: a provider that has answered early and closed resets what is written now, and a failed write takes the
            # transport away with the answer unread. In two turns of the loop the sockets have been looked at.
            self._unwritten = [data]
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._write_late, asker)
        else:
            transport.write(data)

    def _write_late(self, asker: object) -> None:
        late, transport = self._unwritten, self._transport
        if self._asker is asker and late is not None:
            self._unwritten = None
            if transport is not None and not transport.is_closing():
                transport.write(b"".join(late))

    def upload_end(self, asker: object) -> None:
        if self._asker is asker:
            self._sent_all = True
            self._let_upload()  # nothing more comes that would have to wait, and the client must be read on or its leaving goes unseen

    def ease(self, asker: object) -> None:
        """What had been held back was uploaded: the receiver may go on, as soon as the transport takes more."""
        if self._asker is asker and not self._full:
            self._let_upload()

    def _let_upload(self) -> None:
        if self._held:
            self._held = False
            if self._receiver is not None:
                self._receiver.upload_resumed()

    def hand_over(self, asker: object, receiver: Receiver) -> bool:
        """Whatever comes is told to this receiver instead; False: not now, for more is told of the read that is under way."""
        now = self._asker is asker and not self._news
        self._receiver = receiver if now else self._receiver
        return now

    def pause(self, asker: object) -> None:
        transport = self._transport
        if self._asker is asker and not self._paused and transport is not None and not transport.is_closing():
            self._paused = True
            transport.pause_reading()
            if self._tls:
                asyncio.get_running_loop().call_soon(self._settle_reading)

    def resume(self, asker: object) -> None:
        if self._asker is asker and self._paused:
            self._read_on()

    def _read_on(self) -> None:
        self._paused = False
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.resume_reading()
            if self._tls:
                asyncio.get_running_loop().call_soon(self._settle_reading)

    def _settle_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            settle_tls_reading(self._transport, paused=self._paused)

    def cancel(self, asker: object) -> None:
        """Close at once where it is still `asker`'s turn; nothing is called on its receiver any more."""
        if self._asker is asker:
            self.drop()

    def drop(self) -> None:
        """Close at once, telling nobody."""
        self._receiver = None
        self._release()
        self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _readable(self) -> bool:
        """There is something to read: bytes, or the end."""
        if self._poll is None and self._transport is not None:
            self._poll = make_poll(self._transport)
        return self._poll is not None and bool(self._poll.poll(0))
