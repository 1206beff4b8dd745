"""What waits for guards that are asked outside: windows of texts, and the frames that they stand in."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, NamedTuple

from penstock.policy.matcher import Rejection
from penstock.policy.outside import Outside
from penstock.policy.places import Kind, Object, Place
from penstock.policy.rules import Scope


class Window:
    """One question's text. `waits`: its guards that have not answered."""

    __slots__ = ("before", "closed", "holds", "kind", "length", "new", "opened_at", "part", "placed", "rejected", "scope", "text", "waits")

    def __init__(self, scope: Scope, kind: Kind, before: str, now: float, *, part: bool) -> None:
        self.scope, self.kind, self.before, self.opened_at = scope, kind, before, now
        self.text: str = ""
        self.length = 0
        self.new: str | None = None
        """What stands in its place; `None`: it stays."""
        self.waits: tuple[Outside, ...] = ()
        self.rejected: Rejection | None = None
        self.closed = self.holds = False
        self.placed = False
        self.part = part
        """It is not all of a text that can only be replaced as a whole."""

    @property
    def passed(self) -> bool:
        return self.closed and not self.waits


class Text:
    """One text that is open."""

    __slots__ = ("before", "digest", "kind", "open", "scope", "waiting", "windows")

    def __init__(self, scope: Scope, kind: Kind) -> None:
        self.scope, self.kind = scope, kind
        self.open: Window | None = None
        self.before = ""
        self.windows: list[Window] = []
        self.digest = blake2b(digest_size=16)
        self.waiting = 0
        """Characters of it that have not left."""


class Slot(NamedTuple):
    """Where text stands in a frame, and the windows that it is in."""

    place: Place
    parts: list[tuple[Window, str]]
    text: Text | None
    again: bool


class Held:
    """A frame that has not left."""

    __slots__ = ("at", "changed", "fields", "frame", "late", "name", "size", "slots")

    def __init__(self, frame: Any, name: bytes, size: int, fields: Object | None, slots: list[Slot], now: float, *, changed: bool = False) -> None:
        self.changed = changed
        """Not all of it is told, whatever becomes of its texts."""
        self.frame, self.name, self.size, self.fields, self.slots, self.at = frame, name, size, fields, slots, now
        self.late = False
