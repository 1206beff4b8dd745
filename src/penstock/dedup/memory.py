"""Kept answers in the memory of one process."""

from __future__ import annotations

from collections import deque

import msgspec

from penstock.dedup.fingerprint import same_body
from penstock.dedup.store import CONFLICT, Claim, Conflict, Fields, Kept, Place, Wanted
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


class _Held(msgspec.Struct, eq=False, gc=False):
    kept: Kept
    body: bytes
    left: int
    at: float
    """When it was put."""
    weight: int
    """Bytes of the room that it holds."""
    digest: bytes | None = None
    """Of the body (`fingerprint.Comparable`)."""


class _Asked(msgspec.Struct, gc=False):
    body: bytes
    digest: bytes | None = None


_NONE: dict[str, _Held] = {}
_encode_into = msgspec.msgpack.Encoder().encode_into
_decode = msgspec.msgpack.Decoder(Kept).decode
_LARGE = 16 * 1024
"""Bytes of request and answer from which they are not packed: to copy them costs more than that saves."""
_Fresh = tuple[bytes | Kept, int, float, int]
"""An answer, `left`, `at` and `weight`. It is packed: each of the many that come and go is one piece of memory so, and what the next requests use
does not lie scattered between them."""


class MemoryAnswers:
    """Implements `AnswerStore` for one process. A restart forgets all."""

    def __init__(self, entries: int, room: Room, longest: float) -> None:
        """At most `entries`, within `room`. `longest`: seconds for which anything is kept at all."""
        self.owed = 0
        self._room = room
        room.answers = self
        self._free = entries
        """How many may be fresh: what the others leave."""
        self._lump = max(1, min(_AT_ONCE, entries // 16))
        self._longest = longest
        self._packed = bytearray()
        """Where one is packed; to let bytes grow takes half as long again."""
        self._fresh: deque[_Fresh] = deque()
        """Put since the last search: most are never looked for, and go as they came."""
        self._order: deque[_Held] = deque()
        """Those before them, which are in `_places` and `_keys`."""
        self._places: dict[Place, dict[str, _Held]] = {}
        self._keys: dict[tuple[bytes, bytes], _Held] = {}

    def __len__(self) -> int:
        return len(self._order) + len(self._fresh)

    @property
    def holds(self) -> bool:
        return bool(self._fresh or self._order)

    def put(self, kept: Fields, left: int, now: float) -> None:
        weight = len(kept[2]) + len(kept[6])
        if weight < _LARGE:
            packed = self._packed
            _encode_into(kept, packed)
            told = bytes(packed)
            weight = len(told)
        else:
            told = Kept(*kept)
        room, fresh = self._room, self._fresh
        used = room.used + weight
        if used <= room.total:
            room.used = used
        elif not room.take(weight):
            return
        fresh.append((told, left, now, weight))
        if left:
            self.owed += left
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
            fits = held.kept.place == wanted.place and wanted.fits.take(held.kept.form, held.kept.has_usage)
            return self._claimed(held) if fits else None
        best: _Held | None = None
        reads = wanted.reads
        for held in reversed(self._places.get(wanted.place, _NONE).values()):
            if not held.left and (wanted.only_left or best is not None):
                continue
            kept = held.kept
            if kept.key is not None or not _counts(held, wanted, now) or not wanted.fits.take(kept.form, kept.has_usage):
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
            told, left, at, weight = fresh.popleft()
            kept = told if isinstance(told, Kept) else _decode(told)
            held = _Held(kept, kept.body, left, at, weight)
            self._order.append(held)
            self._free -= 1
            place = places.get(kept.place)
            if place is None:
                places[kept.place] = {kept.id: held}
            else:
                place[kept.id] = held
            if kept.key is not None:
                self._keys[kept.place[0], kept.key] = held

    def _claimed(self, held: _Held) -> Claim:
        back = held.left > 0
        if back:
            held.left -= 1
            self.owed -= 1
        return Claim(held.kept, back)

    def left(self, place: Place, id: str) -> None:
        self._enter()
        held = self._places.get(place, _NONE).get(id)
        if held is not None:
            held.left += 1
            self.owed += 1

    def sweep(self, now: float) -> None:
        while (self._order or self._fresh) and now - (self._order[0].at if self._order else self._fresh[0][2]) >= self._longest:
            self.give_up()

    def _make_room(self) -> None:
        """For some more: many at a time are cheaper than one each time."""
        popleft, given = self._fresh.popleft, 0
        if self._order or self.owed:
            for _ in range(self._lump):
                self.give_up()
        else:
            for _ in range(self._lump):
                given += popleft()[3]
            self._room.used -= given

    def give_up(self) -> bool:
        """Forget the oldest; False where there is none."""
        if self._order:
            held = self._order.popleft()
            self._free += 1
            self._take_out(held)
            left, weight = held.left, held.weight
        elif self._fresh:
            _, left, _, weight = self._fresh.popleft()
        else:
            return False
        self.owed -= left
        self._room.used -= weight
        return True

    def _take_out(self, held: _Held) -> None:
        kept = held.kept
        place = self._places[kept.place]
        del place[kept.id]
        if not place:
            del self._places[kept.place]
        if kept.key is not None and self._keys.get((kept.place[0], kept.key)) is held:
            del self._keys[kept.place[0], kept.key]


def _counts(held: _Held, wanted: Wanted, now: float) -> bool:
    age = now - held.at
    return age < wanted.ttl or (age < wanted.tool_ttl and is_tool_turn(held.body))
