"""The last events of a running stream, and its last bytes: what is looked at when it ended badly.

An event is kept as its time, its type and its size, packed into one block of 576 bytes a stream: tuples would take 15 times as much, and this
is there for every stream. The type is the event's name, where its protocol names events; else it is what the observer said of it.
Names are numbered once for the whole process; an outsider who makes up names fills the table and from then on reads `other`.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from penstock.protocols.contract import CONTENT, ERROR, MALFORMED, STATED, TERMINAL, TOOL, USAGE_ONLY

EVENTS: Final = 64
BYTES: Final = 16 * 1024
NAMES: Final = 250
"""Types that are told apart; more than the protocols have together."""
_NAME_LIMIT: Final = 64

_ROW = struct.Struct("=fIB")
"""Time in seconds since the stream's beginning (to a quarter of a millisecond in its first hour), size in bytes, type. Packed in `StreamRelay.feed`,
without a call."""
pack_row = _ROW.pack_into
ROW: Final = _ROW.size
RING: Final = EVENTS * ROW
LAST_ROW: Final = RING - ROW

_ODD = re.compile(rb"[^A-Za-z0-9_.:/-]+")


def _word_of(mark: int) -> str:
    if mark & ERROR:
        return "error"
    if mark & TERMINAL:
        return "terminal"
    if mark & MALFORMED:
        return "malformed"
    if mark & TOOL:
        return "tool"
    if mark & USAGE_ONLY:
        return "usage"
    return "content" if mark & CONTENT else "event"


_MARKS = 2 * STATED  # all the bits below
_OTHER = "other"
_words: list[str] = ["", _OTHER]
"""Types by number; 0 is a row that was never written."""


def _number(word: str) -> int:
    if word not in _words:
        _words.append(word)
    return _words.index(word)


BY_MARK: Final = [_number(_word_of(mark)) for mark in range(_MARKS)]
"""The number of an event without a name, by the bits that the observer returned."""
COMMENT: Final = _number("comment")
PIECE: Final = _number("piece")
"""Bytes of a frame over the limit."""
BY_NAME: Final[dict[bytes, int]] = {}


def number_of(name: bytes) -> int:
    """The number of a name that is not in `BY_NAME`; from now on it is, while there is room."""
    if len(_words) >= NAMES:
        return 1
    word = _ODD.sub(b"?", name[:_NAME_LIMIT]).decode("ascii") or _OTHER
    number = _number(word)
    if len(BY_NAME) < 4 * NAMES and len(name) <= _NAME_LIMIT:
        BY_NAME[name] = number
    return number


def rows_of(ring: bytearray, next_row: int, after: float) -> list[tuple[int, str, int]]:
    """The events in `ring`, oldest first: milliseconds since a moment that was `after` seconds before the stream's beginning, type, size in bytes.
    `next_row`: where the next one would go."""
    rows = [*_ROW.iter_unpack(ring)]
    cut = next_row // ROW
    return [(round((at + after) * 1000), _words[number], size) for at, size, number in rows[cut:] + rows[:cut] if number]


class TailBytes:
    """The last 16 KiB of what was added."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = bytearray()

    def add(self, data: bytes) -> None:
        held = self._held
        if len(data) >= BYTES:
            held[:] = data[-BYTES:]
            return
        held += data
        if len(held) > 2 * BYTES:
            del held[:-BYTES]

    def get(self) -> bytes:
        return bytes(self._held[-BYTES:])
