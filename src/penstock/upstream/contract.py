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


@dataclass(frozen=True, slots=True)
class Loss:
    """How an answer was lost. `cause` is one clause for the ledger, without addresses."""

    kind: LossKind
    cause: str


class ResponseHead:
    """The head of an answer. Names as they came."""

    __slots__ = ("chunked", "content_encoding", "content_length", "content_type", "headers", "status")

    def __init__(self, status: int, headers: Headers) -> None:
        self.status = status
        self.headers = headers
        self.content_length: int | None = None
        self.chunked = False
        self.content_type = b""
        self.content_encoding = b""
        for name, value in headers:
            n = len(name)
            # By length first: most names are none of these four.
            if n == 12:
                if name.lower() == b"content-type":
                    self.content_type = value.lower()
            elif n == 14:
                if name.lower() == b"content-length" and value.isdigit():
                    self.content_length = int(value)
            elif n == 16:
                if name.lower() == b"content-encoding":
                    self.content_encoding = value.strip().lower()
            elif n == 17 and name.lower() == b"transfer-encoding":
                self.chunked = value.strip().lower().endswith(b"chunked")

    @property
    def delimited(self) -> bool:
        """The framing says where the body ends."""
        return self.chunked or self.content_length is not None


class Receiver(Protocol):
    """Whoever asked. All calls come on the loop; exactly one of `answer_ended` and `answer_lost` comes, last."""

    def answer_began(self, head: ResponseHead, now: float) -> None: ...

    def answer_body(self, data: bytes, now: float) -> None: ...

    def answer_ended(self, now: float) -> None: ...

    def answer_lost(self, loss: Loss, now: float) -> None: ...

    def upload_paused(self) -> None:
        """The provider reads the request's body more slowly than it comes."""
        ...

    def upload_resumed(self) -> None: ...


class Ask(Protocol):
    """A request under way, as its receiver holds it."""

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
