"""What an upstream answer is to whoever asked for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from operator import itemgetter
from typing import Any, Protocol

Headers = list[tuple[bytes, bytes]]


class LossKind(StrEnum):
    CONNECT = "connect"
    """No connection was made."""
    CONNECT_TIMEOUT = "connect_timeout"
    TLS = "tls"
    STALE = "stale"
    """A kept connection died before a byte of the answer, and within `STALE_WITHIN` of the request: it was dead before, and the request may be
    sent again."""
    RESET = "reset"
    EOF = "eof"
    """The connection ended before the framing said that the answer was whole."""
    GARBAGE = "garbage"
    """What came is not HTTP/1.1."""
    LEFT = "left"
    """It is another exchange's, which was ended."""
    UNUSABLE = "unusable"
    """All of it came, and it cannot be told to the client."""


STALE_WITHIN = 5.0
"""Seconds from a request on a kept connection. The end of one that the other side has given up shows within a round trip; one that dies later
took the request, perhaps, and worked at it. (No error of the socket says otherwise: ETIMEDOUT comes from keep-alive probes too, and they begin
when all was acknowledged.)"""


@dataclass(frozen=True, slots=True)
class Loss:
    """How an answer was lost. `cause` is one clause for the ledger, without addresses."""

    kind: LossKind
    cause: str


class HeadShape:
    """What the names of an answer's headers say, in their order. Providers send the same names in the same order again and again, so it is
    worked out once and shared by all heads that have them (`shape_of`); it holds nothing of one answer."""

    __slots__ = ("coding", "codings", "connection", "kind", "length", "memos", "transfer")

    def __init__(self, names: tuple[bytes, ...]) -> None:
        low = [name.lower() for name in names]
        where = {name: index for index, name in enumerate(low)}  # the last of each
        self.kind = where.get(b"content-type", -1)
        self.length = where.get(b"content-length", -1)
        self.codings = tuple(index for index, name in enumerate(low) if name == b"content-encoding")
        self.coding = self.codings[0] if len(self.codings) == 1 else -1
        self.connection = b"connection" in where or b"proxy-connection" in where  # llhttp reads both
        self.transfer = tuple(index for index, name in enumerate(low) if name == b"transfer-encoding")
        self.memos: dict[object, Any] = {}
        """What others have found out from the names alone, each under a key of its own."""


_MOST = 512
_LONGEST = 100  # headers of a head whose shape is remembered
_shapes: dict[tuple[bytes, ...], HeadShape] = {}
_first = itemgetter(0)
_CHUNKED = b"chunked"


def shape_of(headers: Headers) -> HeadShape:
    names = tuple(map(_first, headers))
    shape = _shapes.get(names)
    if shape is None:
        shape = HeadShape(names)
        if len(names) <= _LONGEST and sum(map(len, names)) <= 64 * _LONGEST:
            if len(_shapes) >= _MOST:
                _shapes.clear()
            _shapes[names] = shape
    return shape


class ResponseHead:
    """The head of an answer. Names as they came."""

    __slots__ = ("chunked", "content_encoding", "content_length", "content_type", "headers", "shape", "status", "transfer_coding")

    def __init__(self, status: int, headers: Headers) -> None:
        self.status = status
        self.headers = headers
        self.shape = shape = shape_of(headers)
        index = shape.length
        self.content_length: int | None = None
        if index >= 0:
            length = headers[index][1]
            if length.isdigit() or length.rstrip().isdigit():  # llhttp goes by the number, and leaves the blanks behind values where they are
                self.content_length = int(length)
        index = shape.kind
        self.content_type = headers[index][1].lower() if index >= 0 else b""
        index = shape.coding
        if index >= 0:
            self.content_encoding = headers[index][1].strip().lower()
        elif shape.codings:  # several headers are one list (RFC 9110, 5.3)
            self.content_encoding = b", ".join([headers[index][1].strip().lower() for index in shape.codings])
        else:
            self.content_encoding = b""
        transfer = shape.transfer
        coding = b""
        if transfer:
            coding = headers[transfer[0]][1]
            if coding != _CHUNKED or len(transfer) > 1:  # as nearly all spell it
                coding = b", ".join([headers[index][1].strip().lower() for index in transfer])
        self.transfer_coding = coding
        """In lower case; of several headers, all."""
        self.chunked = coding == _CHUNKED

    @property
    def delimited(self) -> bool:
        """The framing says where the body ends."""
        return self.chunked or self.content_length is not None


class Receiver(Protocol):
    """Whoever asked. All calls come on the loop; exactly one of `answer_ended` and `answer_lost` comes, last, unless it cancels."""

    def answer_began(self, head: ResponseHead, now: float) -> None: ...

    def answer_body(self, data: bytes, now: float) -> None:
        """`data` is never empty."""
        ...

    def answer_ended(self, now: float) -> None: ...

    def answer_whole(self, head: ResponseHead, body: bytes, now: float) -> None:
        """`answer_began`, `answer_body` and `answer_ended` in one, where the answer came in one read. `body` is not empty."""
        ...

    def answer_lost(self, loss: Loss, now: float) -> None: ...

    def upload_paused(self) -> None:
        """The provider reads the request's body more slowly than it comes. `upload_resumed` follows, at the latest before the last call."""
        ...

    def upload_resumed(self) -> None: ...


class Ask(Protocol):
    """A request under way, as its receiver holds it. After the last call on the receiver nothing here does anything."""

    @property
    def dialed_at(self) -> float | None:
        """When a connection was made for it, on the monotonic clock; `None`: it went out on a kept one, or has none yet."""
        ...

    def pause(self) -> None:
        """Stop reading the answer."""
        ...

    def resume(self) -> None: ...

    def hand_over(self, receiver: Receiver) -> bool:
        """Let `receiver` be told whatever comes after the call that runs; False: the first one goes on being told."""
        ...

    def cancel(self) -> None:
        """Close the connection at once; nothing is called any more."""
        ...

    def upload(self, data: bytes) -> None:
        """More of a body that is sent as it comes."""
        ...

    def upload_end(self) -> None: ...
