"""One provider's list of models, asked for and collected: bounded, and never raising anything but `FetchError`."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from penstock import __version__
from penstock.exchange.contract import Headers
from penstock.providers import Kind, Origin, Provider
from penstock.upstream.contract import Ask, Loss, LossKind, Receiver, ResponseHead
from penstock.wire.encoding import EncodingError, Gunzip

BODY_LIMIT: Final = 8 << 20
"""Bytes of one provider's list."""

# The largest page; more than a thousand models are shown by nobody who pages.
_PAGES: dict[Kind, tuple[str, str]] = {
    "openai": ("/v1/models", ""), "anthropic": ("/v1/models", "limit=1000"), "gemini": ("/v1beta/models", "pageSize=1000"),
}  # fmt: skip

Request = tuple[bytes, bytes, bytes]
"""Method, target, and the rest from the first header line on."""


class Asker(Protocol):
    """What is needed of `upstream.client.Client`."""

    def ask(self, origin: Origin, request: Request, receiver: Receiver, *, head_only: bool, uploading: bool, fresh: bool) -> Ask: ...


class FetchError(Exception):
    """A provider's list could not be had. Its text is one clause for people, without addresses and secrets."""


def list_request(provider: Provider, headers: Headers, query: str) -> Request:
    """The request for a provider's list. `headers` and `query`: what of the client's goes with it."""
    path, page = _PAGES[provider.kind]
    sent, lent = provider.headers(headers, query)
    lines = [b"Host: %b\r\n" % provider.host_header.encode("latin-1")]
    lines += [b"%b: %b\r\n" % pair for pair in sent]
    lines.append(b"Accept: application/json\r\nAccept-Encoding: identity\r\nUser-Agent: penstock/%b\r\n\r\n" % __version__.encode())
    return b"GET", provider.target(path, "&".join(part for part in (page, lent) if part)).encode("ascii"), b"".join(lines)


async def fetch(client: Asker, origin: Origin, request: Request) -> bytes:
    """The body of a good answer. Raises `FetchError`. Has no time limit of its own; cancelled, it closes the connection."""
    fresh = False
    while True:
        taker = _Taker()
        ask = client.ask(origin, request, taker, head_only=False, uploading=False, fresh=fresh)
        try:
            return await taker.body
        except _Stale:
            if fresh:
                raise FetchError("the provider closed the connection") from None
            fresh = True
        finally:
            ask.cancel()


class _Stale(Exception):
    """A kept connection was gone: worth one more try."""


class _Taker:
    """Collects one answer. Implements `upstream.contract.Receiver`."""

    __slots__ = ("_gzip", "_parts", "_size", "body")

    def __init__(self) -> None:
        self.body: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._parts: list[bytes] = []
        self._size = 0
        self._gzip: Gunzip | None = None

    def answer_began(self, head: ResponseHead, now: float) -> None:
        if head.status != 200:
            self._fail(FetchError(f"the provider answered {head.status}"))
        elif head.content_encoding in (b"gzip", b"x-gzip"):
            self._gzip = Gunzip()
        elif head.content_encoding not in (b"", b"identity"):
            self._fail(FetchError("the list came in a coding that was not asked for"))

    def answer_body(self, data: bytes, now: float) -> None:
        if self.body.done():
            return
        try:
            for piece in (data,) if self._gzip is None else self._gzip.feed(data):
                self._size += len(piece)
                if self._size > BODY_LIMIT:
                    self._fail(FetchError(f"the list is over {BODY_LIMIT >> 20} MiB"))
                    return
                self._parts.append(piece)
        except EncodingError as error:
            self._fail(FetchError(f"the list is {error}"))

    def answer_ended(self, now: float) -> None:
        if not self.body.done():
            self.body.set_result(b"".join(self._parts))

    def answer_whole(self, head: ResponseHead, body: bytes, now: float) -> None:
        self.answer_began(head, now)
        self.answer_body(body, now)
        self.answer_ended(now)

    def answer_lost(self, loss: Loss, now: float) -> None:
        self._fail(_Stale() if loss.kind is LossKind.STALE else FetchError(loss.cause))

    def upload_paused(self) -> None: ...

    def upload_resumed(self) -> None: ...

    def _fail(self, error: Exception) -> None:
        self._parts.clear()
        if not self.body.done():
            self.body.set_exception(error)
