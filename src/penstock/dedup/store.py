"""Whole answers that are kept, as plain data, and where they are. Every decision is one call, so that a store that several gateways share can take
the memory's place (`memory`): it is told nothing and tells nothing that another process would not understand.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Protocol

import msgspec

from penstock.dedup.tape import Reel

Headers = list[tuple[bytes, bytes]]
Place = tuple[bytes, str, str | None]
"""The digest of a head, the provider, the model as it is asked there: what must be equal before bodies are compared at all."""


class Form(Enum):
    """In which an answer comes from its provider."""

    BODY = auto()
    EVENTS = auto()
    ARRAY = auto()
    """A stream as a JSON array (Gemini)."""


class Fits(msgspec.Struct, frozen=True, gc=False):
    """Answers that can be told to whoever asks."""

    forms: tuple[Form, ...]
    """The first as it comes, the others put into that."""
    usage: bool = False
    """Only with the usage that Chat tells on demand."""

    def take(self, form: Form, has_usage: bool) -> bool:
        return form in self.forms and (has_usage or not self.usage)


class Kept(msgspec.Struct, frozen=True, gc=False, array_like=True):
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
    """What came behind them. (For a store that others share: `Notes.whole` of what is `opened`.)"""
    form: Form
    has_usage: bool
    """It has the usage that Chat tells on demand."""


Fields = tuple[str, Place, bytes, bytes | None, int, Headers, Reel | bytes, Form, bool]
"""Those of a `Kept`, in its order. Most of what is put is never claimed, and a plain tuple costs a fifth."""


class Wanted(msgspec.Struct, frozen=True, gc=False):
    """An answer for whoever asks this."""

    place: Place
    body: bytes
    key: bytes | None
    """With a key, the answer is the key's, if it is the same request: what was left does not matter."""
    fits: Fits
    ttl: float
    """Seconds from its end for which an answer counts, by the rules of whoever asks."""
    tool_ttl: float
    """The same for a turn made only of tool results."""
    only_left: bool
    """Only one that a client left before its end."""
    reads: int
    """Bytes of bodies that may be read in this search; what would take more is not found."""


class Claim(msgspec.Struct, frozen=True, gc=False):
    kept: Kept
    back: bool
    """One of the clients that left it has come back with this, and is no longer missed."""


class Conflict:
    """The idempotency key was used for another body."""


CONFLICT = Conflict()


class AnswerStore(Protocol):
    """`now`: seconds, on one clock for all who share the store. Calls about an answer that is not there (any more) do nothing."""

    longest: float
    """Seconds for which anything is kept."""

    @property
    def holds(self) -> bool:
        """Is anything kept that will have to go?"""
        ...

    @property
    def owed(self) -> int:
        """Clients that may come back, of all that is kept. While it is 0, nothing is claimed without other evidence; it may be a moment old."""
        ...

    def put(self, kept: Fields, left: int, now: float) -> None:
        """Told again from now on, as long as there is room for it. `left`: clients that left it before its end, and did not come back."""
        ...

    def claim(self, wanted: Wanted, now: float) -> Claim | Conflict | None:
        """Of several equal requests' answers one whose client left, and then the one that was put last. A request with a key and one without
        are never equal. A `Conflict`: the key, under the head's digest, was last used for another body."""
        ...

    def left(self, place: Place, id: str) -> None:
        """A client left it before the end, or what was claimed for one that came back is not told after all."""
        ...

    def sweep(self, now: float) -> None:
        """Forget what is older than anything is kept."""
        ...
