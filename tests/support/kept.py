"""Stores of kept answers: the memory's, and one that knows nothing but bytes, as one that several processes share would."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import msgspec

from penstock.dedup import AnswerStore, Claim, Conflict, Desk, Fields, Fits, Form, Kept, MemoryAnswers, Place, Record, Reel, Room, Shelf, Wanted
from penstock.dedup.fingerprint import digest_of_body
from penstock.dedup.notes import opened
from penstock.dedup.segments import SEGMENT, SegmentLog
from penstock.dedup.store import CONFLICT
from penstock.dedup.turns import is_tool_turn

T = TypeVar("T")
ANY = Fits(tuple(Form))
BODY = (Form.BODY, True)


class Full(AnswerStore, Protocol):
    def __len__(self) -> int: ...


Make = Callable[[int, Room, float], Full]
"""Of how many entries at most, in which room, for how long at most."""


def failing(fault: str) -> Callable[[int, bytes | memoryview, int], int]:
    """In the place of `os.pwrite`."""

    def write(fd: int, data: bytes | memoryview, at: int) -> int:
        if fault == "mistake":
            raise ValueError("of ours")
        if fault == "half":
            return len(data) // 2
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return write


class Leading:
    """Somebody who leads, and whose answer comes in this form."""

    def __init__(self, form: Form = Form.BODY, *, has_usage: bool = True) -> None:
        self.told = form, has_usage

    def form(self) -> tuple[Form, bool]:
        return self.told


def log_in_memory(most: int = 1 << 24, segment: int = SEGMENT) -> SegmentLog:
    return SegmentLog(None, 0, most, print, segment)


def desk_of(
    entries: int, total: int, longest: float = 15.0, make: Make = MemoryAnswers, shelf: Shelf | None = None, log: SegmentLog | None = None
) -> Desk:  # fmt: skip
    room = Room(total)
    if log is None:
        log = log_in_memory(total, min(SEGMENT, max(256, total // 16)))
    store = MemoryAnswers(entries, room, longest, shelf, log) if make is MemoryAnswers else make(entries, room, longest)
    if isinstance(store, BytesAnswers):
        store.log = log
    return Desk(store, room, log, shelf)


def wanted(
    record: Record, ttl: float = 5.0, tool_ttl: float = 15.0, *, fits: Fits = ANY, only_left: bool = False, reads: int = 1 << 22
) -> Wanted:  # fmt: skip
    return Wanted(record.place, record.body, record.key, fits, ttl, tool_ttl, only_left, reads)


def _encoded(value: Any) -> bytes:
    return msgspec.msgpack.encode(value)


def _decoded(data: bytes, cls: type[T]) -> T:
    return msgspec.msgpack.decode(data, type=cls)


class _Row(msgspec.Struct):
    """As it would stand in a table."""

    data: bytes
    place: bytes
    key: bytes
    digest: bytes
    exact: bytes
    is_tool_turn: bool
    form: Form
    has_usage: bool
    at: float
    left: int


class BytesAnswers:
    """Implements `AnswerStore`. What it is given it turns to bytes at once, and what it tells it makes of them; bodies are read when they come."""

    def __init__(self, entries: int, room: Room, longest: float) -> None:
        self._entries = entries
        self.longest = longest
        self.log = log_in_memory()
        self._most = room.total  # in a place of its own
        self._table: list[bytes] = []

    def __len__(self) -> int:
        return len(self._table)

    @property
    def holds(self) -> bool:
        return bool(self._table)

    @property
    def owed(self) -> int:
        return sum(row.left for row in self._rows())

    def _rows(self) -> list[_Row]:
        return [_decoded(data, _Row) for data in self._table]

    def put(self, kept: Fields, left: int, now: float) -> None:
        told = Kept(*kept)
        answer = told.answer
        self._put(msgspec.structs.replace(told, answer=opened(answer, self.log, None).whole()) if isinstance(answer, Reel) else told, left, now)

    def _put(self, kept: Kept, left: int, now: float) -> None:
        body = kept.body
        self._table.append(_encoded(_Row(
            _encoded(kept), _encoded(kept.place), _encoded((kept.place[0], kept.key)) if kept.key is not None else b"", digest_of_body(body), body,
            is_tool_turn(body), kept.form, kept.has_usage, now, left,
        )))  # fmt: skip
        while len(self._table) > self._entries or sum(map(len, self._table)) > self._most:
            del self._table[0]

    def claim(self, wanted: Wanted, now: float) -> Claim | Conflict | None:
        wanted = _decoded(_encoded(wanted), Wanted)
        digest, best = digest_of_body(wanted.body), -1
        rows = self._rows()
        for at in range(len(rows) - 1, -1, -1):
            row = rows[at]
            same = row.exact == wanted.body or (row.digest == digest and digest != b"")
            fits = row.place == _encoded(wanted.place) and wanted.fits.take(row.form, row.has_usage)
            counts = now - row.at < (max(wanted.ttl, wanted.tool_ttl) if row.is_tool_turn else wanted.ttl)
            if wanted.key is not None:
                if row.key != _encoded((wanted.place[0], wanted.key)):
                    continue
                if not counts:
                    return None
                if not same:
                    return CONFLICT
                return self._claimed(at, row) if fits else None
            if not row.key and same and fits and counts:
                if row.left:
                    return self._claimed(at, row)
                if best < 0 and not wanted.only_left:
                    best = at
        return self._claimed(best, rows[best]) if best >= 0 else None

    def _claimed(self, at: int, row: _Row) -> Claim:
        back = row.left > 0
        row.left -= back
        self._table[at] = _encoded(row)
        return Claim(_decoded(row.data, Kept), back)

    def left(self, place: Place, id: str) -> None:
        for at, row in enumerate(self._rows()):
            if _decoded(row.data, Kept).id == id and row.place == _encoded(place):
                row.left += 1
                self._table[at] = _encoded(row)

    def sweep(self, now: float) -> None:
        self._table = [_encoded(row) for row in self._rows() if now - row.at < self.longest]


STORES: dict[str, Make] = {"memory": MemoryAnswers, "bytes": BytesAnswers}
