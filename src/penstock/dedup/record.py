"""One request whose answer others may have while it is made. Of this process only; what is kept of it afterwards is `store.Kept`."""

from __future__ import annotations

from typing import Protocol

import msgspec

from penstock.dedup.notes import Notes
from penstock.dedup.store import Form, Headers, Place


class Leader(Protocol):
    """The exchange that asked."""

    def form(self) -> tuple[Form, bool]:
        """In which form its answer comes, and whether the usage is in it that Chat tells on demand. It may still change before the answer does."""
        ...


class Record(msgspec.Struct, eq=False):
    """One request. It is made for every request that may be repeated, and is as cheap as it can be."""

    id: str
    """Of its exchange."""
    place: Place
    body: bytes
    key: bytes | None = None
    """The idempotency key."""
    leader: Leader | None = None
    """While it is on the desk."""
    digest: bytes | None = None
    """Of the body (`fingerprint.Comparable`)."""
    status: int = 0
    """Of the answer, as the provider sent it; 0: none has come."""
    headers: Headers | None = None
    answer: Notes | bytes | None = None
    """What came behind them."""
    left: int = 0
    """Clients that left before the end of it, and did not come back."""
    weight: int = 0
    """Bytes of the desk's budget that it holds, besides its notes'."""
    older: Record | None = None
    """The one before it on the desk, in the same place."""
    newer: Record | None = None
