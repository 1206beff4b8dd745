"""Kept answers in the memory of one process; what is long lies on its shelf."""

from __future__ import annotations

from collections import deque
from math import inf

import msgspec

from penstock.dedup.fingerprint import same_body
from penstock.dedup.notes import is_there
from penstock.dedup.segments import SegmentLog
from penstock.dedup.shelf import Piece, Shelf
from penstock.dedup.store import CONFLICT, Claim, Conflict, Fields, Kept, Place, Wanted
from penstock.dedup.tape import Reel
from penstock.dedup.turns import is_tool_turn
from penstock.wire.budget import Budget

_AT_ONCE = 32
"""Of those that are packed together."""


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
        answers = self.answers
        if answers is None or self.used - answers.weight + n > self.total:
            return False  # what is under way leaves too little, and nothing has to go for that
        while self.used + n > self.total and answers.give_up():
            pass
        self.used += n
        return True


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
_encoder = msgspec.msgpack.Encoder()
_encode, _encode_into = _encoder.encode, _encoder.encode_into
_LARGE = 16 * 1024
"""Bytes of request and answer from which they are not packed: to copy them costs more than that saves. And of a request, from which it is not put on
the shelf: all of them are read there at the next search, in one go."""
_Put = tuple[float, int, Fields]
"""When, how much of the room it holds, and what."""
_decode = msgspec.msgpack.Decoder(list[tuple[float, int, Kept]]).decode
_Pack = tuple[bytes | Piece | Kept, int, float, int, int, tuple[Piece, ...]]
"""A list of `_Put`, or one answer by itself; `left`, when the last was put, how much of the room it holds, how many they are, and what lies on the
shelf of the one. What comes and goes by the thousand is one piece of memory by the dozen so, and what the next requests use does not lie scattered
between it."""


class MemoryAnswers:
    """Implements `AnswerStore` for one process. A restart forgets all."""

    def __init__(self, entries: int, room: Room, longest: float, shelf: Shelf | None = None, log: SegmentLog | None = None) -> None:
        """At most `entries`, within `room`. `longest`: seconds for which anything is kept at all. `shelf` and `log`: for those whose
        streams lie there."""
        self.owed = 0
        self._shelf = shelf
        self._log = log
        self._room = room
        room.answers = self
        self._free = entries
        """How many may be among `_fresh` and `_packs`: what the others leave."""
        self._lump = max(1, min(_AT_ONCE, entries // 16))
        self.longest = longest
        self._buffer = bytearray()
        """Where they are packed: to let new bytes grow takes longer."""
        self._fresh: list[_Put] = []
        """Put last: most are never looked for, and go as they came."""
        self._packs: deque[_Pack] = deque()
        """Those before them."""
        self._packed = 0
        """How many are in `_packs`."""
        self._weight = 0
        """Bytes of the room that all but the fresh ones hold."""
        self._order: deque[_Held] = deque()
        """Those before them, since a search: they are in `_places` and `_keys`."""
        self._places: dict[Place, dict[str, _Held]] = {}
        self._keys: dict[tuple[bytes, bytes], _Held] = {}

    def __len__(self) -> int:
        return len(self._order) + self._packed + len(self._fresh)

    @property
    def holds(self) -> bool:
        return bool(self._fresh or self._packs or self._order)

    @property
    def weight(self) -> int:
        """Bytes of the room that all hold."""
        return self._weight + sum([weight for _, weight, _ in self._fresh])

    def put(self, kept: Fields, left: int, now: float) -> None:
        weight = len(kept[2]) + len(kept[6])
        room = self._room
        used = room.used + weight
        if used <= room.total:
            room.used = used
        elif not room.take(weight):
            return
        fresh, answer = self._fresh, kept[6]
        pieces = answer.pieces if isinstance(answer, Reel) else ()
        if pieces or weight >= _LARGE or left:
            if fresh:
                self._pack()
            if pieces and not left and len(kept[2]) < _LARGE:
                self._packs.append((self._alone(kept, now, weight, pieces), 0, now, weight, 1, pieces))
            else:
                self._packs.append((Kept(*kept), left, now, weight, 1, ()))
            self._packed += 1
            self._weight += weight
            self.owed += left
            self._make_room()
            return
        fresh.append((now, weight, kept))
        if len(fresh) >= self._lump:
            self._pack()

    def _alone(self, kept: Fields, now: float, weight: int, pieces: tuple[Piece, ...]) -> Piece | bytes:
        """All of it but its `pieces`, packed: the last of the stream among it."""
        id, place, body, key, status, headers, answer, form, has_usage = kept
        assert isinstance(answer, Reel)
        bare = msgspec.structs.replace(answer, pieces=())
        packed = _encode([(now, weight, (id, place, body, key, status, headers, bare, form, has_usage))])
        return packed if self._shelf is None else self._shelf.put(packed)

    def _pack(self) -> None:
        """What is fresh, in one piece."""
        fresh, self._fresh = self._fresh, []
        room, buffer = self._room, self._buffer
        room.used -= sum([weight for _, weight, _ in fresh])
        while fresh:
            _encode_into(fresh, buffer)
            size = len(buffer)
            if room.take(size):
                self._packs.append((bytes(buffer), 0, fresh[-1][0], size, len(fresh), ()))
                self._packed += len(fresh)
                self._weight += size
                break
            del fresh[: (len(fresh) + 1) // 2]  # a small room, and large heads: without the older ones, then
        self._make_room()

    def _make_room(self) -> None:
        """For as many as come before this is asked again."""
        while self._packed > self._free - self._lump + 1 and self.give_up():
            pass

    def claim(self, wanted: Wanted, now: float) -> Claim | Conflict | None:
        self._enter()
        asked = _Asked(wanted.body)
        if wanted.key is not None:
            held = self._keys.get((wanted.place[0], wanted.key))
            if held is None or not _counts(held, wanted, now) or not self._is_there(held):
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
            if kept.key is not None or not _counts(held, wanted, now) or not wanted.fits.take(kept.form, kept.has_usage) or not self._is_there(held):
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

    def _is_there(self, held: _Held) -> bool:
        answer = held.kept.answer
        return self._log is None or isinstance(answer, bytes) or is_there(answer, self._log)

    def _enter(self) -> None:
        """All are found from now on."""
        packs = self._packs
        while packs:
            told, left, at, weight, count, pieces = packs.popleft()
            self._packed -= count
            if isinstance(told, Kept):
                self._hold(told, left, at, weight)
                continue
            try:
                packed = _decode(told.read() if isinstance(told, Piece) else told)
            except (OSError, msgspec.DecodeError):  # it is kept no more
                self._weight -= weight
                self._room.used -= weight
                continue
            each, rest = divmod(weight, count)
            for at, _, kept in packed:
                self._hold(_with(kept, pieces) if pieces else kept, 0, at, each + rest)  # among them what their pack weighs
                rest = 0
        for at, weight, kept in self._fresh:
            self._hold(Kept(*kept), 0, at, weight)
            self._weight += weight
        self._fresh.clear()
        self._make_room()

    def _hold(self, kept: Kept, left: int, at: float, weight: int) -> None:
        held = _Held(kept, kept.body, left, at, weight)
        self._order.append(held)
        self._free -= 1
        place = self._places.get(kept.place)
        if place is None:
            self._places[kept.place] = {kept.id: held}
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
        before = now - self.longest
        while self._oldest() <= before:
            self.give_up()

    def _oldest(self) -> float:
        """When it was put; of a pack, the last of it."""
        if self._order:
            return self._order[0].at
        if self._packs:
            return self._packs[0][2]
        return self._fresh[0][0] if self._fresh else inf

    def give_up(self) -> bool:
        """Forget the oldest, and what is packed with it; False where there is none."""
        left = 0
        if self._order:
            held = self._order.popleft()
            self._free += 1
            self._take_out(held)
            left, weight = held.left, held.weight
        elif self._packs:
            _, left, _, weight, count, _ = self._packs.popleft()
            self._packed -= count
        elif self._fresh:
            weight = self._fresh.pop(0)[1]
            self._weight += weight  # (it was not in it)
        else:
            return False
        self.owed -= left
        self._weight -= weight
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


def _with(kept: Kept, pieces: tuple[Piece, ...]) -> Kept:
    answer = kept.answer
    assert isinstance(answer, Reel)
    return msgspec.structs.replace(kept, answer=msgspec.structs.replace(answer, pieces=pieces))


def _counts(held: _Held, wanted: Wanted, now: float) -> bool:
    age = now - held.at
    return age < wanted.ttl or (age < wanted.tool_ttl and is_tool_turn(held.body))
