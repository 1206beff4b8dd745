"""One request whose answer others may have: while it is made, and for a while when it is whole. Plain data."""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

from penstock.dedup.fingerprint import digest_of_body
from penstock.dedup.tape import Tape

Place = tuple[bytes, str, str | None]
"""The digest of a head, the provider, the model as it is asked there: what must be equal before bodies are compared at all."""


class Form(Enum):
    """In which an answer comes from its provider."""

    BODY = auto()
    EVENTS = auto()
    ARRAY = auto()
    """A stream as a JSON array (Gemini)."""


class Record:
    """One request. It is made for every request that may be repeated, and is as cheap as it can be."""

    __slots__ = ("_canonical", "answer", "body", "form", "has_usage", "head", "id", "kept_at", "key", "leader", "left", "place", "weight")

    def __init__(self, id: str, place: Place, body: bytes, key: bytes | None) -> None:
        self.id = id
        """Of its exchange."""
        self.place = place
        self.body = body
        self.key = key
        """The idempotency key."""
        self._canonical: bytes | None = None
        self.leader: Any = None
        """The exchange, while it runs."""
        self.head: Any = None
        """Of the answer, as the provider sent it: `upstream.contract.ResponseHead`."""
        self.answer: Tape | bytes | None = None
        """What came behind it."""
        self.form = Form.BODY
        self.has_usage = True
        """It has the usage that Chat tells on demand."""
        self.kept_at: float | None = None
        """Since when the answer is whole and may be told again (seconds, the caller's clock)."""
        self.left = 0
        """Clients that left before the end of it, and did not come back."""
        self.weight = -1
        """Bytes of the desk's budget that it holds, besides its tape's; -1: it is not on the desk."""

    def same_body(self, other: Record) -> bool:
        return self.body == other.body or (self.canonical == other.canonical and self.canonical != b"")

    @property
    def unread(self) -> bool:
        """To compare it with others takes reading it."""
        return self._canonical is None

    @property
    def canonical(self) -> bytes:
        """A digest of the body; empty where it cannot be read."""
        if self._canonical is None:
            self._canonical = digest_of_body(self.body)
        return self._canonical
