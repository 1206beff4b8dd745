"""One connection to a provider: HTTP/1.1 over llhttp in its strict mode, one request at a time, pushed from `data_received`.

What llhttp does not do is done here: interim answers (1xx) are skipped; answers to HEAD have no body; an answer without
Content-Length and without chunks ends with its connection; trailers are not headers; bytes behind an answer close the connection.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from time import monotonic
from typing import cast

import httptools

from penstock.upstream.contract import Headers, Loss, LossKind, Receiver, ResponseHead

HEAD_LIMIT = 256 * 1024
"""Bytes of header names and values that an answer may have."""


class Connection(asyncio.Protocol):
    __slots__ = ("_body", "_closing", "_ended", "_fresh_head", "_head", "_head_size", "_headers", "_more", "_no_body", "_on_gone", "_on_idle",
                 "_parser", "_receiver", "_reusable", "_sent_all", "_uploading", "absolute", "bytes_seen", "origin", "transport", "used")

    def __init__(self, on_idle: Callable[[Connection], None], on_gone: Callable[[Connection], None]) -> None:
        self._on_idle = on_idle
        self._on_gone = on_gone
        self.transport: asyncio.Transport | None = None
        self.origin: object = None
        self.absolute = b""
        """Put before the request's target where a proxy wants absolute targets."""
        self.used = 0
        """Requests sent on it so far."""
        self._receiver: Receiver | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: Headers = []
        self._head: ResponseHead | None = None
        self._fresh_head = False
        self._head_size = 0
        self._body: bytes | None = None
        self._more: list[bytes] | None = None
        self._ended = False
        self._no_body = False
        self._sent_all = True
        self._uploading = False
        self._reusable = False
        self._closing = False
        self.bytes_seen = False

    # -- asyncio ---------------------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        receiver = self._receiver
        if receiver is None:
            # Nobody asked: a provider that talks out of turn, or says that it closes.
            self.close()
            return
        now = monotonic()
        self.bytes_seen = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._lose(LossKind.GARBAGE, "the provider switched protocols unasked", now)
            return
        except httptools.HttpParserError as error:
            self._deliver(receiver, now)
            if self._receiver is receiver:
                if self._ended:
                    self._finish(receiver, now, reusable=False)
                else:
                    self._lose(LossKind.GARBAGE, f"the provider's answer is not valid HTTP ({_short(error)})", now)
            return
        self._deliver(receiver, now)
        if self._ended and self._receiver is receiver:
            self._finish(receiver, now, reusable=self._reusable)

    def _deliver(self, receiver: Receiver, now: float) -> None:
        """Hand on what one read brought: head, then body. The receiver may cancel in between."""
        if self._fresh_head:
            self._fresh_head = False
            receiver.answer_began(cast(ResponseHead, self._head), now)
            if self._receiver is not receiver:
                return
        body = self._body
        if body is not None:
            self._body = None
            if self._more is not None:
                body = b"".join([body, *self._more])
                self._more = None
            receiver.answer_body(body, now)

    def eof_received(self) -> bool:
        return False  # close; connection_lost tells

    def connection_lost(self, exc: Exception | None) -> None:
        receiver = self._receiver
        self._on_gone(self)
        self.transport = None
        if receiver is None:
            return
        now = monotonic()
        head = self._head
        if head is not None and not self._fresh_head and exc is None and not head.delimited and not self._no_body:
            self._finish(receiver, now, reusable=False)
        elif not self.bytes_seen and self.used > 1:
            self._lose(LossKind.STALE, "a kept connection was closed by the provider", now)
        elif isinstance(exc, ssl.SSLError):
            self._lose(LossKind.TLS, f"TLS failed ({exc.reason or 'unknown reason'})", now)
        elif exc is not None:
            self._lose(LossKind.RESET, "the provider reset the connection" + ("" if head is None else " inside its answer"), now)
        else:
            self._lose(LossKind.EOF, "the provider closed the connection " + ("before its answer" if head is None else "inside its answer"), now)

    def pause_writing(self) -> None:
        if self._receiver is not None and not self._sent_all:
            self._receiver.upload_paused()

    def resume_writing(self) -> None:
        if self._receiver is not None and not self._sent_all:
            self._receiver.upload_resumed()

    # -- llhttp ----------------------------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._ended:
            # A second answer to one request. Whatever it is, it is not ours to read.
            raise httptools.HttpParserError("bytes behind the answer")
        self._headers = []
        self._head_size = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head is None:
            self._head_size += len(name) + len(value)
            if self._head_size > HEAD_LIMIT:
                raise httptools.HttpParserError("the head is too large")
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            return
        self._reusable = self._parser.should_keep_alive()
        self._head = ResponseHead(status, self._headers)
        self._fresh_head = True
        if self._no_body:
            self._reusable = self._head.content_length in (None, 0) and not self._head.chunked
            self._ended = True

    def on_body(self, body: bytes) -> None:
        if self._no_body:
            return
        if self._body is None:
            self._body = body
        elif self._more is None:
            self._more = [body]
        else:
            self._more.append(body)

    def on_message_complete(self) -> None:
        if self._head is not None:
            self._ended = True

    # -- the one who asks ------------------------------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        return self._receiver is None and self.transport is not None and not self.transport.is_closing()

    def send(self, receiver: Receiver, request: bytes, *, head_only: bool, uploading: bool) -> None:
        """Send one request: its head, and its body unless `uploading`. `head_only`: the method was HEAD."""
        if self.used:
            self._parser = httptools.HttpResponseParser(self) if self._no_body else self._parser
        self.used += 1
        self._receiver = receiver
        self._head = None
        self._fresh_head = self._ended = self.bytes_seen = False
        self._no_body = head_only
        self._uploading = uploading
        self._sent_all = not uploading
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(request)

    def upload(self, data: bytes) -> None:
        transport = self.transport
        if transport is not None and not transport.is_closing() and self._receiver is not None:
            transport.write(data)

    def upload_end(self) -> None:
        self._sent_all = True

    def pause(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def resume(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def cancel(self, receiver: Receiver) -> None:
        """Close at once, where the request under way is still `receiver`'s; nothing is called any more."""
        if self._receiver is receiver:
            self._receiver = None
            self.close()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def _finish(self, receiver: Receiver, now: float, *, reusable: bool) -> None:
        self._receiver = None
        if reusable and self._sent_all and self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()
            self._on_idle(self)
        else:
            self.close()
        receiver.answer_ended(now)

    def _lose(self, kind: LossKind, cause: str, now: float) -> None:
        receiver = self._receiver
        self._receiver = None
        self.close()
        if receiver is not None:
            receiver.answer_lost(Loss(kind, cause), now)


def _short(error: Exception) -> str:
    return str(error).partition("\n")[0][:80]
