"""From bytes to requests: what a connection does with llhttp.

Trailers are not headers. An offered h2c upgrade is ignored (RFC 9113 dropped it): llhttp leaves the body of such a request unread, so
it is shown the request's framing once more, and reads on. llhttp and httptools keep a header to themselves until the next one
begins, and trailers and chunk extensions wholly, so what comes without their telling anything is counted here.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import cast

import httptools

from penstock.exchange.contract import Headers
from penstock.server.heads import LONG_HEAD, Bad, Incoming, Known, KnownHeads, path_of, read_head
from penstock.server.settings import Settings
from penstock.server.stray import StrayLine

_BROKEN = "The request is not valid HTTP/1.1"
_RTSP = "Invalid method for HTTP"
"""llhttp's words for a method of RTSP's."""
_PREFACE = "Pause on PRI/Upgrade"
"""Its words for a connection that begins as HTTP/2 does."""
_HANDSHAKE = b"\x16"
"""With what TLS begins; no request does."""


class _Enough(Exception):
    """Stops the parser: what follows is not read."""


class Reader(ABC):
    """`feed` bytes; requests, bodies and refusals come out through the abstract methods, in the order of the bytes.

    `Incoming.handler` is told of the body directly, as long as there is one. No bytes make `feed` raise; it raises what the methods
    raised.
    """

    __slots__ = ("_alone", "_deaf", "_fed", "_headers", "_heads", "_held", "_known", "_length", "_local", "_parser", "_pieces", "_quiet", "_reading",
                 "_settings", "_transport", "_upgrading", "_url")
    _turns: int
    """Requests begun."""

    def __init__(self, settings: Settings, local: bool, heads: KnownHeads) -> None:
        self._settings = settings
        self._heads = heads
        self._local = local
        self._parser: httptools.HttpRequestParser | None = None  # while a request comes: it knows nothing between two, and takes 1 KiB
        self._url = b""
        self._headers: Headers | None = None  # of the head that is being read, `Content-Length` apart
        self._length: int | None = None  # the value of that
        self._alone = True  # no head has come in this read
        self._known: Known | None = None  # the only one that has
        self._fed = 0  # bytes since this message began, or more
        self._quiet = 0  # bytes of whole reads in which the parser told nothing
        self._reading: Incoming | None = None  # whose body comes
        self._pieces: list[bytes] | None = None  # of a chunked body, from this read
        self._upgrading: Incoming | None = None  # whose framing llhttp is to be shown again
        self._deaf = False  # what comes is no request any more
        self._transport: asyncio.Transport | None = None
        self._held = False  # we do not read

    # -- what comes out ----------------------------------------------------------------------------------------------------------------

    @abstractmethod
    def _admit(self, incoming: Incoming) -> None:
        """Its head is there; where it has no body, it is whole. May raise `Bad`."""

    @abstractmethod
    def _keep(self, incoming: Incoming, body: bytes) -> None:
        """A part of the body of a request that nobody handles yet. May raise `Bad`."""

    @abstractmethod
    def _refuse(self, incoming: Incoming | None, path: str, head_only: bool, bad: Bad) -> None:
        """A request is bad in its form; nothing follows. `incoming`, where its head was good; `path`, as far as it is known."""

    # -- uploads -----------------------------------------------------------------------------------------------------------------------

    def pause_upload(self) -> None:
        if self._transport is not None and self._reading is not None:
            self._held = True
            self._transport.pause_reading()

    def resume_upload(self) -> None:
        if self._transport is not None and self._held:
            self._held = False
            self._transport.resume_reading()

    # -- bytes -------------------------------------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        if self._deaf:
            return
        parser = self._parser
        if parser is None:
            self._parser = parser = httptools.HttpRequestParser(self)
        fresh = self._headers is None and self._reading is None
        if fresh:
            self._fed = len(data)
            self._alone, self._known = True, None
        else:
            self._fed += len(data)
            self._quiet += len(data)
            if not self._url:
                self._alone = True  # this read goes on inside a method, or before it
        offset = None
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            offset = upgrade.args[0]
        except httptools.HttpParserError as error:
            self._stumble(error, data)
        except Bad as bad:  # a stray line's
            self._turn_away(bad)
        if offset is not None:
            # Not inside the handler above: httptools tells of an exception in a callback by `__context__`, which would be the handled one.
            self._read_on(parser, data, offset)
        if self._headers is not None or self._reading is not None:
            self._stop_midway()
            return
        self._parser = None
        if fresh and self._known is not None and not self._deaf:
            self._heads.learn(data, self._known, self._length)

    def _read_on(self, parser: httptools.HttpRequestParser, data: bytes, offset: int) -> None:
        """The parser stopped behind the head of a request that offers an upgrade, at `offset` of `data`."""
        rest = memoryview(data)
        try:
            while self._upgrading is not None:
                request = self._upgrading.request
                framing = b"transfer-encoding: chunked" if request.chunked else b"content-length: %d" % (request.content_length or 0)
                rest = rest[offset:]
                if not self._upgrading.keep_alive:  # behind such a head it takes nothing any more
                    self._parser = parser = httptools.HttpRequestParser(self)
                parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % framing)
                try:
                    parser.feed_data(rest)
                except httptools.HttpParserUpgrade as another:
                    offset = another.args[0]
        except httptools.HttpParserError as error:
            self._stumble(error)

    def _stumble(self, error: httptools.HttpParserError, data: bytes = b"") -> None:
        if isinstance(error, httptools.HttpParserCallbackError):
            cause = error.__context__
            if isinstance(cause, Bad):
                self._turn_away(cause)
            elif not isinstance(cause, _Enough):
                raise cause or error
        elif not self._deaf:
            why = f"{_BROKEN}: {'this gateway does not speak HTTP/2' if str(error) == _PREFACE else error}."
            if data[:1] == _HANDSHAKE and self._fed == len(data):
                self._turn_away(Bad(400, f"{_BROKEN}: it is TLS, which this listener does not speak; its URL begins with http://."))
            elif self._alone and not self._turns and isinstance(error, httptools.HttpParserInvalidMethodError):
                self._stray(data, why, begun=self._fed > len(data))
            elif str(error).startswith(_RTSP):
                url, self._url = self._url, b""
                self._stray(b" %b HTTP/1.1\r\n" % url, why, begun=True)
            else:
                self._turn_away(Bad(400, why))

    def _stray(self, data: bytes, why: str, *, begun: bool) -> None:
        """The method that `data` begins with, or goes on with, is none of HTTP's. (Of a connection's first request only: behind another one in
        the same read it is not found, and what a client is told must not depend on how its bytes were cut.)"""
        stray = StrayLine(self.on_url, why, self._settings.head_bytes, begun=begun)
        self._parser = cast(httptools.HttpRequestParser, stray)  # no head comes of it, so nothing else of a parser is asked for
        try:
            stray.feed_data(data)
        except Bad as bad:
            self._turn_away(bad)

    def _turn_away(self, bad: Bad) -> None:
        incoming = self._reading or self._upgrading
        self._deaf = True
        self._stop_reading()
        if incoming is not None:
            self._refuse(incoming, incoming.request.path, incoming.head_only, bad)
        else:
            head_only = self._parser is not None and bool(self._url) and self._parser.get_method() == b"HEAD"
            self._refuse(None, path_of(self._url), head_only, bad)

    def _stop_reading(self) -> None:
        self._reading = self._headers = self._pieces = self._upgrading = None

    def _stop_midway(self) -> None:
        """A read ended inside a request."""
        limit = self._settings.head_bytes
        headers, reading = self._headers, self._reading
        try:
            if headers is not None:
                if self._quiet > limit or len(headers) > self._settings.head_fields or (self._fed > limit and self._is_long(headers)):
                    raise Bad(431, LONG_HEAD)
            elif reading is not None and reading.chunked:
                self._pass_pieces(reading)
                if self._quiet > limit:
                    raise Bad(400, "Too much came between two pieces of the request's body.")
        except Bad as bad:
            self._turn_away(bad)

    def _is_long(self, headers: Headers) -> bool:
        return len(self._url) + sum([len(name) + len(value) + 4 for name, value in headers]) > self._settings.head_bytes

    # -- llhttp ------------------------------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._deaf:
            raise _Enough
        self._url = b""
        self._headers = []
        self._length = None
        self._quiet = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        headers = self._headers
        if headers is not None:  # else a trailer
            if len(name) == 14 and name.lower() == b"content-length":
                self._length = int(value)  # llhttp has seen that these are digits, and that there is one
            else:
                headers.append((name, value))

    def on_headers_complete(self) -> None:
        headers, parser = self._headers, self._parser
        if headers is None or parser is None:
            raise _Enough
        incoming, self._upgrading = self._upgrading, None
        if incoming is None:
            settings = self._settings
            # The second is mostly known without counting.
            if len(headers) > settings.head_fields or (self._fed > settings.head_bytes and self._is_long(headers)):
                raise Bad(431, LONG_HEAD)
            known = read_head(parser, self._url, headers, self._heads)
            incoming = Incoming(known, self._length, parser.should_keep_alive(), self._local)
            self._known = known if self._alone and incoming.keep_alive else None
            self._alone = False
            if incoming.upgrade and parser.should_upgrade():
                self._upgrading = incoming
                self._headers = None
                return
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
        elif incoming.handler is not None:
            incoming.handler.client_body(body)
        else:
            self._keep(incoming, body)

    def on_message_complete(self) -> None:
        incoming = self._reading
        if incoming is None:
            return  # llhttp's end of a request with an upgrade, or of one that was answered before it was whole
        if incoming.chunked:
            self._pass_pieces(incoming)
            if self._reading is None:
                return
        self._reading = None
        incoming.complete = True
        if not incoming.keep_alive:
            self._deaf = True
        if incoming.bodiless:
            self._admit(incoming)
        elif incoming.handler is not None:
            incoming.handler.client_end()

    def _pass_pieces(self, incoming: Incoming) -> None:
        pieces, self._pieces = self._pieces, None
        if pieces:
            body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            if incoming.handler is not None:
                incoming.handler.client_body(body)
            else:
                self._keep(incoming, body)
