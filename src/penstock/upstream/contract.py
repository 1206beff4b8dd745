"""What an upstream answer is to whoever asked for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

Headers = list[tuple[bytes, bytes]]


class LossKind(StrEnum):
    CONNECT = "connect"
    """No connection was made."""
    CONNECT_TIMEOUT = "connect_timeout"
    TLS = "tls"
    STALE = "stale"
    """A kept connection died before a byte of the answer: the request may be sent again."""
    RESET = "reset"
    EOF = "eof"
    """The connection ended before the framing said that the answer was whole."""
    GARBAGE = "garbage"
    """What came is not HTTP/1.1."""
    UNUSABLE = "unusable"
    """All of it came, and it cannot be told to the client."""


@dataclass(frozen=True, slots=True)
class Loss:
    """How an answer was lost. `cause` is one clause for the ledger, without addresses."""

    kind: LossKind
    cause: str


_TOLD = frozenset({12, 14, 16, 17})  # the lengths of the four names that are looked at


class ResponseHead:
    """The head of an answer. Names as they came."""

    __slots__ = ("chunked", "content_encoding", "content_length", "content_type", "headers", "status", "transfer_coding")

    def __init__(self, status: int, headers: Headers) -> None:
        self.status = status
        self.headers = headers
        self.content_length: int | None = None
        self.content_type = b""
        self.content_encoding = b""
        self.transfer_coding = b""
        """In lower case; of several headers, all."""
        for name, value in headers:
            # By length first: most names are none of these four.
            n = len(name)
            if n not in _TOLD:
                continue
            name = name.lower()
            if name == b"content-type":
                self.content_type = value.lower()
            elif name == b"content-length":
                if value.isdigit():
                    self.content_length = int(value)
            elif name == b"content-encoding":
                self.content_encoding = value.strip().lower()
            elif name == b"transfer-encoding":
                value = value.strip().lower()
                self.transfer_coding = b"%b, %b" % (self.transfer_coding, value) if self.transfer_coding else value
        self.chunked = self.transfer_coding == b"chunked"

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

    def cancel(self) -> None:
        """Close the connection at once; nothing is called any more."""
        ...

    def upload(self, data: bytes) -> None:
        """More of a body that is sent as it comes."""
        ...

    def upload_end(self) -> None: ...
