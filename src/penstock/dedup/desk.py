"""Which earlier request's answer a request may have. Time is an argument, in seconds.

Rules
-----
- `retries`: only on evidence of a retry, which is one of: the same `Idempotency-Key`; a count of tries above 0 from an official SDK; a client that
  left the earlier request before its end (each such client comes back once: the next like it is a request of its own). Equal requests without
  evidence are sent on purpose (sampling, best of n, evaluations) and are asked each. A try whose reason is known, because an equal request's answer
  failed, is no evidence either: it does not take another's answer.
- `always`: whatever is equal.
- An idempotency key stands for the body, under one identity, method and path: with another body it is refused, while the first is under way or
  kept. A request with a key and one without are never the same.
- Whole answers are kept for `Rules.ttl` from their end, or for `tool_ttl` where the turn is made only of tool results; as many and as large ones
  as the desk has room for, the oldest go first.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

from penstock.dedup.record import Place, Record
from penstock.dedup.tape import Tape
from penstock.dedup.turns import is_tool_turn
from penstock.wire.budget import Budget

_FAILED = 60.0
"""Seconds after which an answer that failed no longer explains another try; clients seldom wait longer."""
_FAILURES = 256
"""Of them, of one place and of all."""
_AT_ONCE = 32
"""Of those that are kept beyond the bound."""
_READ = 4 * 1024 * 1024
"""Bytes of bodies that are read in one search, to be compared: a busy client's retry must not hold everybody up. What was read once is known."""
_NONE: dict[Record, None] = {}
Mode = Literal["retries", "always", "off"]


@dataclass(frozen=True, slots=True)
class Rules:
    """Seconds."""

    mode: Mode = "retries"
    ttl: float = 5.0
    tool_ttl: float = 15.0
    """Tools may run for a while before their results are sent again."""


class Evidence(Enum):
    KEY = auto()
    TRIES = auto()
    LEFT = auto()
    NONE = auto()
    """`always` needs none."""


@dataclass(frozen=True, slots=True)
class Match:
    record: Record
    evidence: Evidence


class Conflict:
    """The idempotency key was used for another body."""


CONFLICT = Conflict()


class _Room(Budget):
    """What is kept makes room for what comes."""

    __slots__ = ("_desk",)

    def __init__(self, total: int, desk: Desk) -> None:
        super().__init__(total)
        self._desk = desk

    def take(self, n: int) -> bool:
        if self.used + n <= self.total:
            self.used += n
            return True
        while n <= self.total and self._desk.give_up():
            if self.used + n <= self.total:
                self.used += n
                return True
        return False


class Desk:
    """Of one process. `entries` and `total` (bytes) bound what is kept; requests under way are bounded by the same bytes. Behind these few calls a
    store that several processes share could stand."""

    def __init__(self, entries: int, total: int, longest: float) -> None:
        """`longest`: seconds for which anything is kept at all."""
        self.budget: Budget = _Room(total, self)
        self._entries = entries
        self._lump = max(1, min(_AT_ONCE, entries // 16))
        self._longest = longest
        self._places: dict[Place, dict[Record, None]] = {}
        self._keys: dict[tuple[bytes, bytes], Record] = {}
        self._kept: deque[Record] = deque()
        self.owed = 0
        """Clients that may come back, all records together."""
        self._failed: dict[Place, deque[float]] = {}

    @property
    def holds(self) -> bool:
        """Is anything kept that will have to go?"""
        return bool(self._kept)

    def find(self, asked: Record, rules: Rules, now: float, *, again: bool) -> Match | Conflict | None:
        """`again`: the head says that it is another try."""
        if asked.key is not None:
            return self._find_key(asked, rules, now)
        always = rules.mode == "always"
        if not (always or again or self.owed):
            return None
        best: Record | None = None
        left = _READ
        for record in reversed(self._places.get(asked.place, _NONE)):
            if (always or again or record.left) and record.key is None and self._holds(record, rules, now):
                if record.unread and record.body != asked.body:
                    left -= len(record.body)
                    if left < 0:
                        continue
                if record.same_body(asked):
                    if record.left or not again:
                        return Match(record, Evidence.TRIES if again else Evidence.LEFT if record.left else Evidence.NONE)
                    best = best or record  # whoever comes again most likely left; the others' clients may still be there
        explained = again and self._explained(asked.place, now)
        return Match(best, Evidence.TRIES) if best is not None and not explained else None

    def _explained(self, place: Place, now: float) -> bool:
        """Does an answer that failed say why it is asked again? Each says so once."""
        failed = self._failed.get(place)
        while failed and now - failed[0] >= _FAILED:
            failed.popleft()
        if not failed:
            self._failed.pop(place, None)
            return False
        failed.popleft()
        return True

    def _find_key(self, asked: Record, rules: Rules, now: float) -> Match | Conflict | None:
        assert asked.key is not None
        record = self._keys.get((asked.place[0], asked.key))
        if record is None or not self._holds(record, rules, now):
            return None
        if not record.same_body(asked):
            return CONFLICT
        return Match(record, Evidence.KEY) if record.place == asked.place else None

    def _holds(self, record: Record, rules: Rules, now: float) -> bool:
        kept = record.kept_at
        if kept is None:
            return True
        age = now - kept
        return age < rules.ttl or (age < rules.tool_ttl and is_tool_turn(record.body))

    # -- the life of a record ----------------------------------------------------------------------------------------------------------

    def open(self, record: Record) -> bool:
        """A request is under way. False: there is no room for it, and it will not be found."""
        weight, budget = len(record.body), self.budget
        if budget.used + weight <= budget.total:
            budget.used += weight
        elif not budget.take(weight):
            return False
        record.weight = weight
        place = self._places.get(record.place)
        if place is None:
            self._places[record.place] = {record: None}
        else:
            place[record] = None
        if record.key is not None:
            self._keys[(record.place[0], record.key)] = record
        return True

    def keep(self, record: Record, now: float) -> None:
        """Its answer is whole, and is told again from now on. Nothing, where it is no longer on the desk."""
        if record.weight < 0:
            return
        kept, answer, budget = self._kept, record.answer, self.budget
        if isinstance(answer, bytes):
            weight = len(answer)
            if budget.used + weight <= budget.total:
                budget.used += weight
            elif not budget.take(weight):
                self.drop(record)
                return
            record.weight += weight
        record.kept_at = now
        kept.append(record)
        if len(kept) > self._entries:
            for _ in range(self._lump):  # many at a time are cheaper than one each time
                self.drop(kept.popleft())

    def give_up(self) -> bool:
        """Forget the oldest of what is kept; False where nothing is."""
        if not self._kept:
            return False
        self.drop(self._kept.popleft())
        return True

    def fail(self, record: Record, now: float) -> None:
        """Its answer failed, and its client knows: if it asks again, it is for one of its own."""
        self.drop(record)
        if record.key is None:
            self._failed.setdefault(record.place, deque(maxlen=_FAILURES)).append(now)
            if len(self._failed) > _FAILURES:
                del self._failed[next(iter(self._failed))]

    def left(self, record: Record) -> None:
        """A client left it before its end."""
        if record.weight >= 0:  # else nobody can find it
            record.left += 1
            self.owed += 1

    def came_back(self, record: Record) -> None:
        if record.left:
            record.left -= 1
            self.owed -= 1

    def sweep(self, now: float) -> None:
        """Forget what is older than anything is kept."""
        kept = self._kept
        while kept and (kept[0].kept_at is None or now - kept[0].kept_at >= self._longest):
            self.drop(kept.popleft())

    def drop(self, record: Record) -> None:
        """It is found no more. May be called more than once."""
        if record.weight < 0:
            return
        places = self._places
        place = places.get(record.place)
        if place is not None:
            place.pop(record, None)
            if not place:
                del places[record.place]
        if record.key is not None and self._keys.get((record.place[0], record.key)) is record:
            del self._keys[(record.place[0], record.key)]
        if record.left:
            self.owed -= record.left
            record.left = 0
        self.budget.used -= record.weight
        record.weight = -1
        if isinstance(record.answer, Tape):
            record.answer.close()
