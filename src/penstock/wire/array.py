"""The elements of a JSON array, as they come: the other framing of Gemini's streams (`streamGenerateContent` without `alt=sse`).

Speaks as `wire.sse.Scanner` does, so that a pipeline need not know which of the two it has: same `feed`, same frames (the name is always
empty), same laws.

Rules
-----
The input is one JSON array. An element leaves in the feed that completes it. What stands between elements (the opening bracket, commas,
white space) travels in front of the next element's bytes and is not part of its data: so after any frame that left, an error element of
our own may follow, with its comma. The closing bracket and all that comes behind it travel as frames without data (`pipeline.array_relay`
holds the bracket of an answer that has no proper end).

An object in the place of the array (Google answers some errors so) is one element; behind it, as behind the closing bracket, all is over.
Only brackets and strings are looked at: whether an element is good JSON is its reader's question. A number or a word as an element is
complete with the delimiter behind it, since more of it could come.

What does not begin as an array or an object, or has a stray bracket between elements, is not understood: `understood` falls, and
everything from there on passes in pieces.

A frame over `limit` (its delimiters included), or one for which the shared budget has no room, is passed on in pieces, without data; after
its end elements are understood again. `overflowed` then stays set. The scan of an incomplete element goes on where it stopped, and every
step of it is one jump over all that is closed: linear in the input, whatever the chunking.
"""

from __future__ import annotations

import re
from enum import Enum, auto

import msgspec

from penstock.wire.budget import Budget
from penstock.wire.sse import Frame

# Everything up to the next bracket, strings and small closed values included (two levels: one jump over `{"k": [1, 2]}`); stops before
# what does not end in this chunk. Possessive, so that nothing is tried more often than once a level.
_FLAT = rb'[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+"'
_SMALL = rb"%b|[\[{](?:%b)*+[\]}]" % (_FLAT, _FLAT)
_RUN = re.compile(rb"(?:%b|[\[{](?:%b)*+[\]}])*+" % (_FLAT, _SMALL), re.DOTALL)
_STRING_REST = re.compile(rb'(?:[^"\\]++|\\.)*+"', re.DOTALL)
_GAP = re.compile(rb"[ \t\r\n,]*+")
_START = re.compile(rb"[ \t\r\n\xef\xbb\xbf]*+")  # a BOM is no JSON, but it is no reason to be blind either
_SCALAR_END = re.compile(rb"[ \t\r\n,\[\]{}]")
_QUOTE = ord('"')
_OPENING = frozenset(b"[{")
_CLOSING = frozenset(b"]}")


class _Anything(msgspec.Struct):
    """A JSON object, its fields skipped unread."""


_is_object = msgspec.json.Decoder(_Anything).decode


class _Place(Enum):
    START = auto()
    BETWEEN = auto()
    ELEMENT = auto()
    SCALAR = auto()
    CLOSED = auto()
    LOST = auto()


class ArraySplitter:
    """Finds the elements of one array. See the rules above."""

    __slots__ = (
        "_budget", "_depth", "_escaped", "_in_string", "_lead", "_parts", "_passing", "_place", "_single",
        "behind", "elements", "held", "limit", "overflowed", "whole",
    )  # fmt: skip

    idle = False
    """Of `Scanner`: what comes here is never wholly told by its own bytes."""

    def __init__(self, limit: int, budget: Budget) -> None:
        self.limit = limit
        self._budget = budget
        self._parts = bytearray()
        self._lead = 0  # bytes of delimiters in front of the element that is being read
        self._depth = 0
        self._in_string = False
        self._escaped = False  # the last byte of the last feed was a backslash whose pair has not come
        self._passing = False  # inside a frame over the limit
        self._place = _Place.START
        self._single = False  # an object stood in the place of the array
        self.elements = 0
        """Elements completed so far, those passed on in pieces included. While it is 0, no opening bracket has left."""
        self.behind = 0
        """Bytes given out behind the last element, the closing bracket among them, since that came."""
        self.held = 0
        self.overflowed = False
        self.whole = True
        """The raws that the last feed returned are, together, exactly the data that it was given."""

    @property
    def closed(self) -> bool:
        """The array (or the one object) has ended: nothing may be put behind it, and the body may end."""
        return self._place is _Place.CLOSED

    @property
    def single(self) -> bool:
        """An object stood in the place of the array."""
        return self._single

    @property
    def understood(self) -> bool:
        """False from the first byte that cannot stand in such a body."""
        return self._place is not _Place.LOST

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes, in order. The raws of all feeds and `tail()` are, together, the input."""
        frames: list[Frame] = []
        self.whole = not self._parts
        start = at = 0  # the first byte that has not left; the first that was not looked at
        size = len(data)
        while at < size:
            place = self._place
            if place is _Place.ELEMENT or place is _Place.SCALAR:
                end = self._scan(data, at, alone=not start) if place is _Place.ELEMENT else self._scan_scalar(data, at)
                if end < 0:
                    break
                self._give(data[start:end] if start or end < size else data, frames)
                start = at = end
                self._place = _Place.CLOSED if self._single else _Place.BETWEEN
            elif place is _Place.BETWEEN or place is _Place.START:
                at = self._match_end(_GAP if place is _Place.BETWEEN else _START, data, at)
                if at < size:
                    self._lead = self.held + at - start
                    if self._lead > self.limit:
                        self.overflowed = True
                    at = self._leave_gap(data[at], at) if place is _Place.BETWEEN else self._open(data[at], at)
            else:
                self._pass(data[start:] if start else data, frames)
                return frames
        if self._place is _Place.CLOSED or self._place is _Place.LOST:
            if start < size:
                self._pass(data[start:] if start else data, frames)
        elif start < size:
            self._hold(data[start:] if start else data, frames)
        return frames

    def tail(self) -> bytes:
        """The bytes that are held: delimiters, and the beginning of an element that has not ended."""
        return bytes(self._parts)

    def close(self) -> None:
        """Forget the tail and give its share of the budget back."""
        self._parts.clear()
        if self.held:
            self._budget.give(self.held)
            self.held = 0

    @staticmethod
    def _match_end(pattern: re.Pattern[bytes], data: bytes, at: int) -> int:
        found = pattern.match(data, at)
        return at if found is None else found.end()

    def _open(self, byte: int, at: int) -> int:
        """The first byte of the body that is not white space; returns the index to go on from."""
        if byte == ord("["):
            self._place = _Place.BETWEEN
            return at + 1
        if byte == ord("{"):
            self._single = True
            return self._begin(at)
        self._place = _Place.LOST
        return at

    def _leave_gap(self, byte: int, at: int) -> int:
        """The first byte behind the delimiters; returns the index to go on from."""
        if byte == ord("]"):
            self._place = _Place.CLOSED
            return at + 1
        if byte == ord("}"):
            self._place = _Place.LOST
            return at
        if byte in _OPENING or byte == _QUOTE:
            return self._begin(at)
        self._place = _Place.SCALAR
        return at

    def _begin(self, at: int) -> int:
        self._depth = 0
        self._place = _Place.ELEMENT
        return at

    def _scan(self, data: bytes, at: int, *, alone: bool) -> int:
        """Where the element ends that is being read at `at`, or -1 where it does not end in `data`. `alone`: none has ended there before it."""
        size = len(data)
        if alone and not self._depth and not self._in_string and data[at] == ord("{"):
            # The ordinary case: one chunk is one element. What a JSON reader takes for a whole object is one by the rules here too. It is tried
            # once: each try goes over all that is left.
            end = data.rfind(b"}", at) + 1
            try:
                _is_object(data[at:end])
            except (ValueError, RecursionError):
                pass
            else:
                return end
        while at < size:
            if self._in_string:
                if self._escaped:
                    self._escaped = False
                    at += 1
                found = _STRING_REST.match(data, at)
                if found is None:
                    rest = data[at:]
                    self._escaped = (len(rest) - len(rest.rstrip(b"\\"))) % 2 == 1
                    return -1
                self._in_string = False
                at = found.end()
                if not self._depth:
                    return at
            if self._depth:  # outside of everything a jump could leap over the end
                at = self._match_end(_RUN, data, at)
                if at >= size:
                    return -1
            byte = data[at]
            at += 1
            if byte == _QUOTE:
                self._in_string = True
            elif byte in _CLOSING:
                self._depth -= 1
                if not self._depth:
                    return at
            else:
                self._depth += 1
        return -1

    @staticmethod
    def _scan_scalar(data: bytes, at: int) -> int:
        found = _SCALAR_END.search(data, at)
        return -1 if found is None else found.start()

    def _give(self, piece: bytes, frames: list[Frame]) -> None:
        """End the frame whose last bytes are `piece`."""
        self.elements += 1
        if self._passing:
            self._passing = False
            frames.append((b"", None, piece))
            return
        if self.held + len(piece) > self.limit:
            self.overflowed = True
            if self._parts:
                frames.append((b"", None, bytes(self._parts)))
                self.close()
            frames.append((b"", None, piece))
            return
        raw = piece
        if self._parts:
            self._parts += piece
            raw = bytes(self._parts)
            self.close()
        frames.append((b"", raw[self._lead :] if self._lead else raw, raw))

    def _pass(self, piece: bytes, frames: list[Frame]) -> None:
        """Give out what is held and `piece`: bytes without meaning."""
        self._passing = False
        if self._parts:
            self._parts += piece
            piece = bytes(self._parts)
            self.close()
        self.behind += len(piece)
        frames.append((b"", None, piece))

    def _hold(self, piece: bytes, frames: list[Frame]) -> None:
        """Keep `piece`, the end of the data, or pass it on where it may not be kept."""
        if self._passing:
            frames.append((b"", None, piece))
            return
        n = len(piece)
        if self.held + n > self.limit or not self._budget.take(n):
            self.overflowed = self._passing = True
            if self._parts:
                frames.append((b"", None, bytes(self._parts)))
                self.close()
            frames.append((b"", None, piece))
            return
        self.held += n
        self._parts += piece
        self.whole = False
