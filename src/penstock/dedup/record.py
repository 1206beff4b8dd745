"""One request whose answer others may have: while it is made, and for a while afterwards."""

from __future__ import annotations

from enum import Enum, auto
from typing import Protocol

import msgspec

from penstock.dedup.tape import Reel, Tape

Headers = list[tuple[bytes, bytes]]
Place = tuple[bytes, str, str | None]
"""The digest of a head, the provider, the model as it is asked there: what must be equal before bodies are compared at all."""


class Form(Enum):
    """In which an answer comes from its provider."""

    BODY = auto()
    EVENTS = auto()
    ARRAY = auto()
    """A stream as a JSON array (Gemini)."""


class Leader(Protocol):
    """The exchange that asked."""

    def form(self) -> tuple[Form, bool]:
        """In which form its answer comes, and whether the usage is in it that Chat tells on demand. It may still change before the answer does."""
        ...


class Kept(msgspec.Struct, frozen=True, gc=False):
    """A request, and its answer: whole, and good."""

    id: str
    """Of the exchange that asked the provider; no other of any process has it."""
    place: Place
    body: bytes
    """Of the request. What is compared is `fingerprint.digest_of_body` of it; a turn of tool results is known by it (`turns.is_tool_turn`)."""
    key: bytes | None
    """The idempotency key."""
    status: int
    """Of the answer, as the provider sent it."""
    headers: Headers
    answer: Reel | bytes
    """What came behind them."""
    form: Form
    has_usage: bool
    """It has the usage that Chat tells on demand."""


class Record(msgspec.Struct, eq=False):
    """One request. It is made for every request that may be repeated, and is as cheap as it can be: so it is also what is kept of it."""

    id: str
    """Of its exchange."""
    place: Place
    body: bytes
    key: bytes | None = None
    """The idempotency key."""
    digest: bytes | None = None
    """Of the body (`fingerprint.Comparable`)."""
    leader: Leader | None = None
    """While it is on the desk."""
    status: int = 0
    """Of the answer, as the provider sent it; 0: none has come."""
    headers: Headers | None = None
    answer: Tape | Reel | bytes | None = None
    """What came behind them; no tape any more once it is whole."""
    form: Form = Form.BODY
    """Of a whole answer, as `has_usage`."""
    has_usage: bool = True
    left: int = 0
    """Clients that left before the end of it, and did not come back."""
    weight: int = 0
    """Bytes of a budget that it holds, besides its tape's: of the desk's, and then of the store's (`memory`)."""
    at: float = 0.0
    """When it was put into the store."""
    older: Record | None = None
    """The one before it on the desk, in the same place."""
    newer: Record | None = None

    def kept(self) -> Kept:
        """What there is of it, once its answer is whole."""
        answer = self.answer
        assert isinstance(answer, (Reel, bytes))
        return Kept(self.id, self.place, self.body, self.key, self.status, self.headers or [], answer, self.form, self.has_usage)
