"""One small answer, asked for and collected: bounded, and never raising anything but `CollectError`."""

from __future__ import annotations

import asyncio
from typing import Protocol

from penstock.providers.contract import Origin
from penstock.upstream.contract import Ask, Loss, LossKind, Receiver, ResponseHead
from penstock.wire.encoding import GZIPPED, PLAIN, EncodingError, Gunzip

Request = tuple[bytes, bytes, bytes]
"""Method, target, and the rest from the first header line on."""


class Asker(Protocol):
    """What is needed of `upstream.client.Client`."""

    def ask(self, origin: Origin, request: Request, receiver: Receiver, *, head_only: bool, uploading: bool, fresh: bool) -> Ask: ...


class CollectError(Exception):
    """There was no answer to be had. Its text is one clause for people, without addresses and secrets."""


async def collect(client: Asker, origin: Origin, request: Request, limit: int, name: str = "the answer") -> tuple[int, bytes]:
    """Status and body, which `name` names in errors; of an answer that is not 200 the body is empty. Raises `CollectError`. Has no time limit
    of its own; cancelled, it closes the connection. `limit`: bytes of the body."""
    fresh = False
    while True:
        taker = _Taker(limit, name)
        ask = client.ask(origin, request, taker, head_only=False, uploading=False, fresh=fresh)
        try:
            return await taker.found
        except _Stale:
            if fresh:
                raise CollectError("the provider closed the connection") from None
            fresh = True
        finally:
            ask.cancel()


class _Stale(Exception):
    """A kept connection was gone: worth one more try."""


class _Taker:
    """Collects one answer. Implements `upstream.contract.Receiver`."""

    __slots__ = ("_gzip", "_limit", "_name", "_parts", "_size", "_status", "found")

    def __init__(self, limit: int, name: str) -> None:
        self.found: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self._limit = limit
        self._name = name
        self._status = 0
        self._parts: list[bytes] = []
        self._size = 0
        self._gzip: Gunzip | None = None

    def answer_began(self, head: ResponseHead, now: float) -> None:
        self._status = head.status
        if head.status != 200:
            if not self.found.done():
                self.found.set_result((head.status, b""))
        elif head.content_encoding in GZIPPED:
            self._gzip = Gunzip()
        elif head.content_encoding not in PLAIN:
            self._fail(CollectError(f"{self._name} came in a coding that was not asked for"))

    def answer_body(self, data: bytes, now: float) -> None:
        if self.found.done():
            return
        try:
            for piece in (data,) if self._gzip is None else self._gzip.feed(data):
                self._size += len(piece)
                if self._size > self._limit:
                    self._fail(CollectError(f"{self._name} is over {self._limit >> 20} MiB"))
                    return
                self._parts.append(piece)
        except EncodingError as error:
            self._fail(CollectError(f"{self._name} is {error}"))

    def answer_ended(self, now: float) -> None:
        if not self.found.done():
            self.found.set_result((self._status, b"".join(self._parts)))

    def answer_whole(self, head: ResponseHead, body: bytes, now: float) -> None:
        self.answer_began(head, now)
        self.answer_body(body, now)
        self.answer_ended(now)

    def answer_lost(self, loss: Loss, now: float) -> None:
        self._fail(_Stale() if loss.kind is LossKind.STALE else CollectError(loss.cause))

    def upload_paused(self) -> None: ...

    def upload_resumed(self) -> None: ...

    def _fail(self, error: Exception) -> None:
        self._parts.clear()
        if not self.found.done():
            self.found.set_exception(error)
