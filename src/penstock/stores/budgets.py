"""Budgets in the database: what was spent, and what each gateway has set aside for what it runs.

One thread, one transaction for all that waits. In it each budget that is asked for is read once, decided upon in memory, and written once; SQLite's
write lock and PostgreSQL's row locks keep gateways that do the same at the same time apart. So a decision sees every other one that was made.
What a gateway that died had set aside stops counting when its lease has run out.

What was used is never lost while the process lives: it is booked when the database takes it. `kill -9` may lose what the last hundredths of a second
used; it loses the same of the ledger.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from penstock.admission.budget.account import Answer, Share, Shares, Spent, Unknown, Wish, grant, grant_more
from penstock.stores.schema import budget_held, budget_spent, instances

log = logging.getLogger("penstock.budgets")
Place = tuple[str, str, str]
_WAIT = 2.0
"""Seconds for which an exchange waits for its share while the database does not answer."""
_PAUSE = 0.05
"""Between two tries."""
_KEPT = 400 * 86_400.0
"""Seconds for which windows that are over stay in the database."""


@dataclass(slots=True)
class _Reserve:
    wishes: Sequence[Wish]
    answer: Callable[[Answer], None]
    asked_at: float
    found: Answer | None = None


@dataclass(slots=True)
class _Extend:
    share: Share
    more: int
    answer: Callable[[int], None]
    asked_at: float
    found: int = 0


@dataclass(slots=True)
class _Settle:
    shares: Sequence[tuple[Share, int]]


_Work = _Reserve | _Extend | _Settle


@dataclass(slots=True)
class _State:
    """Of one budget in one window, within a transaction."""

    spent: int
    held: int
    """By everybody."""
    spent_by: int = 0
    """What this transaction adds."""
    held_by: int = 0


@dataclass(slots=True)
class Counters:
    transactions: int = 0
    failures: int = 0
    unanswered: int = 0
    """Exchanges that were told nothing in time."""


@dataclass(slots=True)
class _Batch:
    work: list[_Work] = field(default_factory=list[_Work])
    states: dict[Place, _State] = field(default_factory=dict[Place, _State])


class Budgets:
    """Implements `admission.budget.account.Keeper`. `tell` runs something on the loop (`call_soon_threadsafe`)."""

    def __init__(self, engine: sa.Engine, instance: str, tell: Callable[..., object], clock: Callable[[], float] = time.time) -> None:
        self.counters = Counters()
        self._engine = engine
        self._instance = instance
        self._tell = tell
        self._clock = clock
        self._insert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert
        self._lock = threading.Condition()
        self._queue: list[_Work] = []
        self._busy = False
        self._closing = False
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="penstock-budgets", daemon=True)

    def start(self) -> None:
        """Forget what the dead had set aside and windows that are long over, and begin. Raises what the database says."""
        now = self._clock()
        with self._engine.begin() as connection:
            living = sa.select(instances.c.id).where(instances.c.lease_until > now)
            connection.execute(sa.delete(budget_held).where(budget_held.c.instance.not_in(living)))
            over = (budget_spent.c.changed_at < now - _KEPT) & (budget_spent.c.period != "total")
            connection.execute(sa.delete(budget_spent).where(over))
        self._thread.start()

    # On the loop.

    def reserve(self, wishes: Sequence[Wish], answer: Callable[[Answer], None]) -> None:
        self._put(_Reserve(wishes, answer, time.monotonic()))

    def extend(self, share: Share, more: int, answer: Callable[[int], None]) -> None:
        self._put(_Extend(share, more, answer, time.monotonic()))

    def settle(self, shares: Sequence[tuple[Share, int]]) -> None:
        self._put(_Settle(list(shares)))

    def _put(self, work: _Work) -> None:
        with self._lock:
            self._queue.append(work)
            self._lock.notify()

    # From any thread.

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until all that was asked before is done."""
        with self._lock:
            return self._lock.wait_for(lambda: not self._queue and not self._busy, timeout)

    def close(self, timeout: float = 5.0) -> int:
        """Book what is left; how much could not be within `timeout` seconds."""
        with self._lock:
            self._closing = True
            self._lock.notify()
        if self._thread.is_alive():
            self._thread.join(timeout)
        return len(self._queue)

    # On the thread.

    def _run(self) -> None:
        given_up = 0.0
        while True:
            with self._lock:
                self._busy = False
                self._lock.notify_all()
                self._lock.wait_for(lambda: self._queue or self._closing)
                if not self._queue:
                    return
                work, self._queue, self._busy = self._queue, [], True
                if self._closing and not given_up:
                    given_up = time.monotonic() + 4.0
            left = self._turn(work)
            if left:
                with self._lock:
                    self._queue = left + self._queue
                if given_up and time.monotonic() > given_up:
                    return
                time.sleep(_PAUSE)

    def _turn(self, work: list[_Work]) -> list[_Work]:
        """Do it in one transaction; what is to be tried again."""
        batch = _Batch(work)
        try:
            with self._engine.begin() as connection:
                self._read(connection, batch)
                self._decide(batch)
                self._write(connection, batch)
        except Exception as error:  # whatever it is: the charges must not be lost, and nobody may wait for ever
            self.counters.failures += 1
            if not self._failing:
                self._failing = True
                known = isinstance(error, SQLAlchemyError)
                why = _reason(error) if known else type(error).__name__
                log.warning("budgets: %s; what is used meanwhile is booked later", why, exc_info=not known)
            return self._after_failure(work)
        if self._failing:
            self._failing = False
            log.warning("budgets: the database answers again")
        self.counters.transactions += 1
        for one in work:
            match one:
                case _Reserve():
                    self._say(one.answer, one.found)
                case _Extend():
                    one.share.amount += one.found
                    self._say(one.answer, one.found)
                case _Settle():
                    pass
        return []

    def _after_failure(self, work: list[_Work]) -> list[_Work]:
        now, left = time.monotonic(), list[_Work]()
        for one in work:
            match one:
                case _Settle():
                    left.append(one)
                case _Reserve() | _Extend() if now - one.asked_at < _WAIT and not self._closing:
                    left.append(one)
                case _Reserve():
                    self.counters.unanswered += 1
                    self._say(one.answer, Unknown("the budgets could not be read in time"))
                case _Extend():
                    self._say(one.answer, 0)
        return left

    def _say(self, answer: Callable[[object], None] | Callable[[Answer], None] | Callable[[int], None], found: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            self._tell(answer, found)

    def _read(self, connection: sa.Connection, batch: _Batch) -> None:
        """The state of each budget that is asked for, locked. In one order, so that no two gateways wait for each other."""
        places = sorted({wish.place for one in batch.work for wish in _wishes(one)})
        now = self._clock()
        living = sa.select(instances.c.id).where(instances.c.lease_until > now)
        for place in places:
            values = dict(zip(("budget", "subject", "period"), place, strict=True))
            connection.execute(self._insert(budget_spent).values(**values, spent=0, changed_at=now).on_conflict_do_nothing())
            there = sa.select(budget_spent.c.spent).where(*(budget_spent.c[name] == value for name, value in values.items()))
            spent = connection.scalar(there.with_for_update())
            counted = (budget_held.c.instance == self._instance) | budget_held.c.instance.in_(living)
            held = connection.scalar(
                sa.select(sa.func.coalesce(sa.func.sum(budget_held.c.held), 0))
                .where(*(budget_held.c[name] == value for name, value in values.items()), counted)
            )
            batch.states[place] = _State(int(spent or 0), int(held or 0))

    def _decide(self, batch: _Batch) -> None:
        states = batch.states
        # What was used first: it makes room.
        for one in sorted(batch.work, key=lambda one: not isinstance(one, _Settle)):
            match one:
                case _Settle():
                    for share, used in one.shares:
                        _change(states[share.wish.place], used, -share.amount)
                case _Extend():
                    state = states[one.share.wish.place]
                    one.found = grant_more(one.share.wish, state.spent, state.held, one.more)
                    _change(state, 0, one.found)
                case _Reserve():
                    one.found = _granted(one.wishes, states)

    def _write(self, connection: sa.Connection, batch: _Batch) -> None:
        now = self._clock()
        for place, state in batch.states.items():
            values = dict(zip(("budget", "subject", "period"), place, strict=True))
            if state.spent_by:
                where = [budget_spent.c[name] == value for name, value in values.items()]
                connection.execute(sa.update(budget_spent).where(*where).values(spent=state.spent, changed_at=now))
            if state.held_by:
                insert = self._insert(budget_held).values(instance=self._instance, **values, held=state.held_by)
                changed = insert.on_conflict_do_update(
                    index_elements=["instance", "budget", "subject", "period"], set_={"held": budget_held.c.held + insert.excluded.held})
                connection.execute(changed)


def _granted(wishes: Sequence[Wish], states: dict[Place, _State]) -> Answer:
    shares: list[Share] = []
    for wish in wishes:
        state = states[wish.place]
        amount = grant(wish, state.spent, state.held)
        if amount is None:
            return Spent(wish)
        shares.append(Share(wish, amount, state.spent))
    for share in shares:
        _change(states[share.wish.place], 0, share.amount)
    return Shares(shares)


def _change(state: _State, spent: int, held: int) -> None:
    state.spent += spent
    state.spent_by += spent
    state.held += held
    state.held_by += held


def _wishes(work: _Work) -> list[Wish]:
    match work:
        case _Reserve():
            return list(work.wishes)
        case _Extend():
            return [work.share.wish]
        case _Settle():
            return [share.wish for share, _ in work.shares]


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "orig", None) or type(error).__name__).split())[:300]


def read_spent(engine: sa.Engine) -> list[dict[str, object]]:
    """Every budget in every window that is kept, for people. Blocks."""
    with engine.begin() as connection:
        rows = connection.execute(sa.select(budget_spent).order_by(budget_spent.c.budget, budget_spent.c.period, budget_spent.c.subject)).mappings()
        return [dict(row) for row in rows]
