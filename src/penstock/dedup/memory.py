"""Kept answers in the memory of one process."""

from __future__ import annotations

from collections import deque
from typing import cast

import msgspec

from penstock.dedup.fingerprint import same_body
from penstock.dedup.record import Form, Headers, Place, Record
from penstock.dedup.store import CONFLICT, Claim, Conflict, Wanted
from penstock.dedup.tape import Reel
from penstock.dedup.turns import is_tool_turn
from penstock.wire.budget import Budget

_AT_ONCE = 32
"""Of those that are kept beyond the bound."""


class Room(Budget):
    """Bytes for what is under way and what is kept: the latter makes room for whatever comes, the oldest first."""

    __slots__ = ("answers",)

    def __init__(self, total: int) -> None:
        super().__init__(total)
        self.answers: MemoryAnswers | None = None

    def take(self, n: int) -> bool:
        if self.used + n <= self.total:
            self.used += n
            return True
        while n <= self.total and self.answers is not None and self.answers.give_up():
            if self.used + n <= self.total:
                self.used += n
                return True
        return False


class _Asked(msgspec.Struct, gc=False):
    body: bytes
    digest: bytes | None = None


_NONE: dict[str, Record] = {}
_LARGE = 64 * 1024
"""Bytes from which an answer is kept as it is."""
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[str, bytes, bytes | None, int, Headers | None, Reel | bytes, Form, bool]).decode
_Fresh = tuple[Place, bytes | Record, int, float, int]
"""Place, what else there is of it, `left`, `at` and `weight`. It is packed, unless it is large: each of the many answers that come and go is one
piece
of memory then, and what the next requests use does not lie scattered between them."""


class MemoryAnswers:
    """Implements `AnswerStore` for one process. A restart forgets all."""

    def __init__(self, entries: int, room: Room, longest: float) -> None:
        """At most `entries`, within `room`. `longest`: seconds for which anything is kept at all."""
        self.owed = 0
        self._room = room
        room.answers = self
        self._free = entries
        """Of fresh ones: what the others leave them."""
        self._lump = max(1, min(_AT_ONCE, entries // 16))
        self._longest = longest
        self._fresh: deque[_Fresh] = deque()
        """Put since the last search: most are never looked for, and go as they came."""
        self._order: deque[Record] = deque()
        """Those before them, which are in `_places` and `_keys`."""
        self._places: dict[Place, dict[str, Record]] = {}
        self._keys: dict[tuple[bytes, bytes], Record] = {}

    def __len__(self) -> int:
        return len(self._order) + len(self._fresh)

    @property
    def holds(self) -> bool:
        return bool(self._fresh or self._order)

    def put(self, record: Record, now: float) -> None:
        room, fresh, answer, packed = self._room, self._fresh, record.answer, record
        size = answer.size if isinstance(answer, Reel) else len(cast("bytes", answer))
        if size < _LARGE:
            packed = _encode((record.id, record.body, record.key, record.status, record.headers, answer, record.form, record.has_usage))
            weight = len(packed)
        else:
            weight = len(record.body) + size
        used = room.used + weight
        if used <= room.total:
            room.used = used
        elif not room.take(weight):
            return
        fresh.append((record.place, packed, record.left, now, weight))
        if record.left:
            self.owed += record.left
        if len(fresh) > self._free:
            self._make_room()

    def claim(self, wanted: Wanted, now: float) -> Claim | Conflict | None:
        self._enter()
        asked = _Asked(wanted.body)
        if wanted.key is not None:
            held = self._keys.get((wanted.place[0], wanted.key))
            if held is None or not _counts(held, wanted, now):
                return None
            if not same_body(held, asked):
                return CONFLICT
            fits = held.place == wanted.place and wanted.fits.take(held.form, held.has_usage)
            return self._claimed(held) if fits else None
        best: Record | None = None
        reads = wanted.reads
        for held in reversed(self._places.get(wanted.place, _NONE).values()):
            if not held.left and (wanted.only_left or best is not None):
                continue
            if held.key is not None or not _counts(held, wanted, now) or not wanted.fits.take(held.form, held.has_usage):
                continue
            if held.digest is None and held.body != asked.body:
                reads -= len(held.body)
                if reads < 0:
                    continue
            if same_body(held, asked):
                if held.left:
                    return self._claimed(held)
                best = held
        return self._claimed(best) if best is not None else None

    def _enter(self) -> None:
        """What is fresh is found from now on."""
        fresh, places = self._fresh, self._places
        while fresh:
            at_place, packed, left, at, weight = fresh.popleft()
            if isinstance(packed, Record):
                record = packed
            else:
                id, body, key, status, headers, answer, form, has_usage = _decode(packed)
                record = Record(id, at_place, body, key, status=status, headers=headers, answer=answer, form=form, has_usage=has_usage)
            record.left, record.at, record.weight = left, at, weight
            self._order.append(record)
            self._free -= 1
            place = places.get(record.place)
            if place is None:
                places[record.place] = {record.id: record}
            else:
                place[record.id] = record
            if record.key is not None:
                self._keys[record.place[0], record.key] = record

    def _claimed(self, held: Record) -> Claim:
        back = held.left > 0
        if back:
            held.left -= 1
            self.owed -= 1
        return Claim(held.kept(), back)

    def left(self, place: Place, id: str) -> None:
        self._enter()
        held = self._places.get(place, _NONE).get(id)
        if held is not None:
            held.left += 1
            self.owed += 1

    def sweep(self, now: float) -> None:
        while (self._order or self._fresh) and now - (self._order[0].at if self._order else self._fresh[0][3]) >= self._longest:
            self.give_up()

    def _make_room(self) -> None:
        """For some more: many at a time are cheaper than one each time."""
        popleft, given = self._fresh.popleft, 0
        for _ in range(self._lump):
            if self._order:
                self.give_up()
            else:
                _, _, left, _, weight = popleft()
                given += weight
                self.owed -= left
        self._room.used -= given

    def give_up(self) -> bool:
        """Forget the oldest; False where there is none."""
        if self._order:
            record = self._order.popleft()
            self._free += 1
            self._take_out(record)
            left, weight = record.left, record.weight
        elif self._fresh:
            _, _, left, _, weight = self._fresh.popleft()
        else:
            return False
        self.owed -= left
        self._room.used -= weight
        return True

    def _take_out(self, record: Record) -> None:
        place = self._places[record.place]
        del place[record.id]
        if not place:
            del self._places[record.place]
        if record.key is not None and self._keys.get((record.place[0], record.key)) is record:
            del self._keys[record.place[0], record.key]


def _counts(held: Record, wanted: Wanted, now: float) -> bool:
    age = now - held.at
    return age < wanted.ttl or (age < wanted.tool_ttl and is_tool_turn(held.body))
