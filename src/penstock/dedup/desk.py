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
- Of several equal requests one is taken whose client left; then one that is under way before one that is kept; and of those the newest. One whose
  answer cannot be told to whoever asks does not count.
- Whole answers are kept for `Rules.ttl` from their end, or for `tool_ttl` where the turn is made only of tool results, in a store (`store`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Literal

from penstock.dedup.fingerprint import same_body
from penstock.dedup.memory import MemoryAnswers, Room
from penstock.dedup.notes import Notes, opened
from penstock.dedup.record import Leader, Record
from penstock.dedup.segments import SEGMENT, SegmentLog
from penstock.dedup.shelf import Shelf
from penstock.dedup.store import CONFLICT, AnswerStore, Conflict, Fits, Form, Headers, Kept, Place, Wanted
from penstock.dedup.tape import Reel
from penstock.wire.budget import Budget
from penstock.wire.encoding import READABLE, coding_of

_FAILED = 60.0
"""Seconds after which an answer that failed no longer explains another try; clients seldom wait longer."""
_FAILURES = 256
"""Of them, of one place and of all."""
_READ = 4 * 1024 * 1024
"""Bytes of bodies that are read in one search, to be compared: a busy client's retry must not hold everybody up. What was read once is known."""
_SMALL_SEGMENT = 4096
"""Bytes of one where there is little room."""
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
    told: Record | Kept
    """Under way, or kept."""
    evidence: Evidence
    back: bool = False
    """One of the clients that left it is taken to have come back with this; see `Desk.give_back`."""


class Desk:
    """What is under way in this process, and the store of what was. `budget`: bytes for the former. `log` and `shelf`: where notes of streams lie."""

    def __init__(self, store: AnswerStore, budget: Budget, log: SegmentLog, shelf: Shelf | None = None) -> None:
        self.store = store
        self.budget = budget
        self.log = log
        self.shelf = shelf
        self._fresh: dict[str, Record] = {}
        """Under way, by id, and not looked for yet: most never are."""
        self._places: dict[Place, Record] = {}
        """The newest of each; it knows the others."""
        self._keys: dict[tuple[bytes, bytes], Record] = {}
        self._owed = 0
        self._failed: dict[Place, deque[float]] = {}

    @property
    def owed(self) -> int:
        """Clients that may come back, all requests together."""
        return self._owed + self.store.owed

    @property
    def holds(self) -> bool:
        """Is there anything that will have to go?"""
        return self.store.holds or self.log.holds

    def sweep(self, now: float) -> None:
        """Forget what is older than anything is kept."""
        store = self.store
        store.sweep(now)
        if self.log.holds:
            self.log.sweep(now, store.longest if store.holds else 0.0)

    # -- what is noted -----------------------------------------------------------------------------------------------------------------

    def notes(self, limit: int) -> Notes:
        """Of an answer, up to so many bytes of it."""
        return Notes(limit, self.log, self.budget, self.shelf)

    def opened(self, kept: Kept) -> Notes | bytes:
        """Its answer, to be read."""
        return kept.answer if isinstance(kept.answer, bytes) else opened(kept.answer, self.log, self.shelf)

    # -- a request comes ---------------------------------------------------------------------------------------------------------------

    def find(self, asked: Record, rules: Rules, now: float, *, again: bool, fits: Fits) -> Match | Conflict | None:
        """`again`: the head says that it is another try. `fits`: what can be told to it. A match is its own from then on."""
        if asked.key is not None:
            return self._find_key(asked, rules, now, fits)
        always = rules.mode == "always"
        if not (always or again or self.owed):
            return None
        self._enter()
        only_left = not (always or again)
        best, reads = self._search(asked, fits, only_left=only_left)
        explained = False
        if best is None or not best.left:
            explained = again and self._explained(asked.place, now)
            kept = self._claim(asked, rules, now, fits, reads, again=again, only_left=only_left or explained or best is not None)
            if kept is not None:
                return kept
            if explained:
                self._failed[asked.place].popleft()  # each says so once
        if best is None or explained:
            return None
        back = best.left > 0
        if back:
            best.left -= 1
            self._owed -= 1
        return Match(best, Evidence.TRIES if again else Evidence.LEFT if back else Evidence.NONE, back)

    def _search(self, asked: Record, fits: Fits, *, only_left: bool) -> tuple[Record | None, int]:
        """Among what is under way; and how many bytes of bodies may still be read."""
        best: Record | None = None
        reads = _READ
        following = self._places.get(asked.place)
        while following is not None:
            record, following = following, following.older
            if (not record.left and (only_left or best is not None)) or record.key is not None or not _fits(record, fits):
                continue
            if record.digest is None and record.body != asked.body:
                left = reads - len(record.body)
                if left < 0:
                    continue
                reads = left
            if same_body(record, asked):
                if record.left:
                    return record, reads
                best = record
        return best, reads

    def _claim(
        self, asked: Record, rules: Rules, now: float, fits: Fits, reads: int, *, again: bool, only_left: bool
    ) -> Match | None:  # fmt: skip
        """Of what is kept."""
        claim = self.store.claim(Wanted(asked.place, asked.body, None, fits, rules.ttl, rules.tool_ttl, only_left, reads), now)
        if claim is None or isinstance(claim, Conflict):
            return None
        return Match(claim.kept, Evidence.TRIES if again else Evidence.LEFT if claim.back else Evidence.NONE, claim.back)

    def _explained(self, place: Place, now: float) -> bool:
        """Does an answer that failed say why it is asked again?"""
        failed = self._failed.get(place)
        while failed and now - failed[0] >= _FAILED:
            failed.popleft()
        if not failed:
            self._failed.pop(place, None)
        return bool(failed)

    def _find_key(self, asked: Record, rules: Rules, now: float, fits: Fits) -> Match | Conflict | None:
        assert asked.key is not None
        self._enter()
        record = self._keys.get((asked.place[0], asked.key))
        if record is None:
            claim = self.store.claim(Wanted(asked.place, asked.body, asked.key, fits, rules.ttl, rules.tool_ttl, False, _READ), now)
            return claim if claim is None or isinstance(claim, Conflict) else Match(claim.kept, Evidence.KEY, claim.back)
        if not same_body(record, asked):
            return CONFLICT
        if record.place != asked.place or not _fits(record, fits):
            return None
        back = record.left > 0
        if back:
            record.left -= 1
            self._owed -= 1
        return Match(record, Evidence.KEY, back)

    def give_back(self, match: Match) -> None:
        """It is not told after all."""
        if match.back:
            self.left(match.told)

    # -- the life of a record ----------------------------------------------------------------------------------------------------------

    def open(self, record: Record, leader: Leader) -> None:
        """A request is under way. Whoever has it holds its body, and counts it, until the desk is to (`hold`)."""
        record.leader = leader
        self._fresh[record.id] = record

    def open_simple(self, id: str, place: Place, body: bytes, leader: Leader) -> Record | None:
        """The same for a new record without a key. `None`: a client that left may have come back with it; see `find` then."""
        if self._owed or self.store.owed:
            return None
        self._fresh[id] = record = Record(id, place, body, None, leader)
        return record

    def hold(self, record: Record) -> None:
        """Its body is held by the desk alone from now on. Where there is no room for it, it is found no more."""
        if record.leader is not None and not record.weight:
            if self.budget.take(len(record.body)):
                record.weight = len(record.body)
            else:
                self.drop(record)

    def _enter(self) -> None:
        """What is fresh is found from now on."""
        places = self._places
        for record in self._fresh.values():
            place = record.place
            older = places.get(place)
            if older is not None:
                record.older, older.newer = older, record
            places[place] = record
            if record.key is not None:
                self._keys[(place[0], record.key)] = record
        self._fresh.clear()

    def keep(
        self, record: Record, status: int, headers: Headers, answer: Reel | bytes, now: float, form: Form = Form.BODY, has_usage: bool = True
    ) -> None:  # fmt: skip
        """Its answer is whole, and is told again from now on; it is no longer under way. Nothing, where it was not on the desk."""
        left = record.left
        if left or record.answer is not None or self._fresh.pop(record.id, None) is None:
            gone = record.leader is None
            self.drop(record)
            if gone:
                return
        else:  # the usual
            record.leader = None
            if record.weight:
                self.budget.give(record.weight)
                record.weight = 0
        self.store.put((record.id, record.place, record.body, record.key, status, headers, answer, form, has_usage), left, now)

    def fail(self, record: Record, now: float) -> None:
        """Its answer failed, and its client knows: if it asks again, it is for one of its own."""
        self.drop(record)
        if record.key is None:
            self.explain(record.place, now)

    def explain(self, place: Place, now: float) -> None:
        """A client knows that its answer failed, whoever had asked for it: its next try has its reason in that."""
        self._failed.setdefault(place, deque(maxlen=_FAILURES)).append(now)
        if len(self._failed) > _FAILURES:
            del self._failed[next(iter(self._failed))]

    def left(self, told: Record | Kept) -> None:
        """A client left it before its end."""
        if isinstance(told, Record) and told.leader is not None:
            told.left += 1
            self._owed += 1
        else:
            self.store.left(told.place, told.id)

    def drop(self, record: Record) -> None:
        """It is found no more, and what was noted of its answer is over. May be called more than once."""
        if isinstance(record.answer, Notes):
            record.answer.close()
        if record.leader is None:
            return
        if self._fresh.pop(record.id, None) is None:
            self._take_out(record)
        if record.left:
            self._owed -= record.left
            record.left = 0
        self.budget.used -= record.weight
        record.weight = 0
        record.leader = None

    def _take_out(self, record: Record) -> None:
        older, newer = record.older, record.newer
        if newer is not None:
            newer.older, record.newer = older, None
        elif older is None:
            del self._places[record.place]
        else:
            self._places[record.place] = older
        if older is not None:
            older.newer, record.older = newer, None
        if record.key is not None and self._keys.get((record.place[0], record.key)) is record:
            del self._keys[(record.place[0], record.key)]


def _fits(record: Record, fits: Fits) -> bool:
    leader = record.leader
    if leader is None or (isinstance(record.answer, Notes) and record.answer.torn):
        return False
    form, has_usage = leader.form()
    # (What comes in a coding that is not read here passes as it comes, or not at all. None of it is kept: nobody knows whether it was whole.)
    return fits.take(form, has_usage) and (form is fits.forms[0] or coding_of(record.headers or []) in READABLE)


def make_desk(directory: Path | None, total: int, answers: int, longest: float, tell: Callable[[str], None]) -> Desk:
    """Requests, answers in one piece and what is packed of streams take at most `total` bytes of memory; streams up to four times as many in files
    without names in `directory`, or, without one, half of the `total`. At most `answers` whole ones are kept, for `longest` seconds. `tell` is told
    when the file system takes nothing."""
    segment = min(SEGMENT, max(_SMALL_SEGMENT, total // 16))
    if directory is None:
        room, shelf = Room(total // 2), None
        log = SegmentLog(None, 0, total // 2, tell, segment)
    else:
        room, shelf = Room(total), Shelf(directory, total, tell)
        log = SegmentLog(directory, 3 * total, total // 4, tell, segment)
    return Desk(MemoryAnswers(answers, room, longest, shelf, log), room, log, shelf)
