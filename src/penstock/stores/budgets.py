"""Budgets in the database: what was spent, and what each gateway has set aside for what it runs.

One thread, one transaction (a turn) for all that waits; `turns` says for how long. In it each budget that is asked for is read once, decided upon in
memory, and written once; SQLite's write lock and PostgreSQL's row locks keep gateways that do the same at the same time apart. So a decision sees
every other one that was made.

What was used is never lost while the process lives: it is booked when the database takes it. A turn whose COMMIT was not answered may have been done
or not. So each is done again in such a way that twice is once: by what its exchanges have on file (`Filed`). What a gateway that died had set aside
counts until the ledger has judged its exchanges; then it is charged, to the budgets and in the rows, by whoever looks first (`shares`): every `TIDY`
seconds.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import sqlalchemy as sa
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from penstock.admission.budget.account import NOTHING, Answer, Charge, Share, Shares, Spent, Unknown, Wish, grant, grant_more
from penstock.stores import shares as on_file
from penstock.stores.schema import budget_held, budget_shares, budget_spent
from penstock.stores.statements import Filed, Key, Place, Running, Statements, database_of
from penstock.stores.turns import Extend, Reserve, Settle, Turns, Work, wishes_of

log = logging.getLogger("penstock.budgets")
TIDY = 2.0
"""Seconds between two looks at what the dead have left."""
_WAIT = 2.0
"""Seconds for which an exchange waits for its share while the database does not answer."""
_PAUSE = 0.05
"""Between two tries."""
_KEPT = 400 * 86_400.0
"""Seconds for which windows that are over stay in the database."""


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
    work: list[Work] = field(default_factory=list[Work])
    states: dict[Place, _State] = field(default_factory=dict[Place, _State])
    filed: dict[Key, Filed] = field(default_factory=dict[Key, Filed])
    """What the exchanges of this batch have on file: as it is there, then as it is to be."""
    new: dict[Key, Wish] = field(default_factory=dict[Key, Wish])
    changed: dict[Key, None] = field(default_factory=dict[Key, None])
    gone: dict[Key, None] = field(default_factory=dict[Key, None])


class Budgets:
    """Implements `admission.budget.account.Keeper`. `tell` runs something on the loop (`call_soon_threadsafe`)."""

    def __init__(
        self, engine: sa.Engine, instance: str, tell: Callable[..., object], clock: Callable[[], float] = time.time, reader: sa.Engine | None = None,
        tidy: float = TIDY, lease_clock: Callable[[sa.Connection], float] | None = None,
    ) -> None:  # fmt: skip
        """`reader`: an engine for reading, which takes no lock; left out: the same. `lease_clock`: by which others are dead; left out: `clock`."""
        self.counters = Counters()
        self._engine = engine
        self._reader = reader or engine
        self._tidy = tidy
        self._tidy_at = 0.0
        self._instance = instance
        self._tell = tell
        self._clock = clock
        self._lease_clock = lease_clock
        self._database = database_of(engine)
        self._statements = Statements(engine.dialect.name, instance)
        self.turns = Turns()
        self._stop_at = 0.0
        self._failing = False
        self._unsure = False
        """Of what waits some may be done already: until it is done again nothing is taken off the file, by which that is known."""
        self._thread = threading.Thread(target=self._run, name="penstock-budgets", daemon=True)

    def start(self) -> None:
        """Forget windows that are long over, charge what the dead had set aside, and begin. Raises what the database says."""
        now = self._clock()
        with self._engine.begin() as connection:
            over = (budget_spent.c.changed_at < now - _KEPT) & (budget_spent.c.period != "total")
            connection.execute(sa.delete(budget_spent).where(over))
        self.tidy()
        self._thread.start()

    # On the loop.

    def reserve(self, wishes: Sequence[Wish], answer: Callable[[Answer], None]) -> None:
        self.turns.put(Reserve(wishes, answer, time.monotonic()))

    def extend(self, share: Share, more: int, answer: Callable[[int], None]) -> None:
        self.turns.put(Extend(share, more, answer, time.monotonic()))

    def settle(self, shares: Sequence[tuple[Share, int]], charge: Charge = NOTHING) -> None:
        self.turns.put(Settle(list(shares), charge, time.monotonic()))

    # From any thread.

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until all that was asked before is done."""
        return self.turns.flush(timeout)

    def stop_soon(self, timeout: float = 5.0) -> None:
        """Begin what `close` waits for."""
        self._stop_at = self._stop_at or time.monotonic() + timeout
        self.turns.close()

    def close(self, timeout: float = 5.0) -> int:
        """Book what is left; how much could not be within `timeout` seconds (from `stop_soon` on, where that was called)."""
        self.stop_soon(timeout)
        if self._thread.is_alive():
            self._thread.join(max(0.0, self._stop_at - time.monotonic()))
        return len(self.turns)

    # On the thread.

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._database.close()

    def _work(self) -> None:
        given_up, turns = 0.0, self.turns
        while True:
            work = turns.take(self._tidy_at)
            if turns.closing:
                if not work:
                    return
                given_up = given_up or time.monotonic() + 4.0
            elif time.monotonic() >= self._tidy_at and not self._unsure:
                self._tidy_quietly()
            left = self._turn(work) if work else []
            if left:
                turns.put_back(left)
                if given_up and time.monotonic() > given_up:
                    return
                time.sleep(_PAUSE)

    def tidy(self) -> int:
        """Take off the file what the ledger tells of, and charge what the dead had set aside; returns of how many exchanges. Raises what the
        database says."""
        self._tidy_at = time.monotonic() + self._tidy
        with self._reader.connect() as connection:
            anything = connection.scalar(sa.select(sa.exists().select_from(budget_shares) | sa.exists().select_from(budget_held)))
        if not anything:
            return 0
        reckoned = 0
        with self._engine.begin() as connection:
            on_file.forget_told(connection, self._instance)
        while True:
            with self._engine.begin() as connection:
                now = self._lease_clock(connection) if self._lease_clock is not None else self._clock()
                some = on_file.reckon(connection, self._instance, now)
            if not some:
                return reckoned
            reckoned += some

    def _tidy_quietly(self) -> None:
        try:
            reckoned = self.tidy()
        except Exception as error:  # the next look comes soon
            log.debug("budgets: %s; what the dead have left is looked at later", _reason(error), exc_info=not isinstance(error, SQLAlchemyError))
        else:
            if reckoned:
                log.warning("budgets: %d exchanges of a gateway that died were charged", reckoned)

    def _turn(self, work: list[Work]) -> list[Work]:
        """Do it in one transaction; what is to be tried again."""
        batch = _Batch(work)
        try:
            with self._database.begin() as run:
                self._read(run, batch)
                self._decide(batch)
                self._write(run, batch)
        except Exception as error:  # whatever it is: the charges must not be lost, and nobody may wait for ever
            self._unsure = isinstance(error, OperationalError | InterfaceError | sqlite3.OperationalError)
            if len(work) > 1 and not self._unsure:
                # It is not the database that is away: what it does not take is one of these, and the others need not wait for that.
                return [left for one in work for left in self._turn([one])]
            self.counters.failures += 1
            if not self._failing:
                self._failing = True
                known = isinstance(error, SQLAlchemyError | sqlite3.Error)
                why = _reason(error) if known else type(error).__name__
                log.warning("budgets: %s; what is used meanwhile is booked later", why, exc_info=not known)
            return self._after_failure(work)
        self._unsure = False
        if self._failing:
            self._failing = False
            log.warning("budgets: the database answers again")
        self.counters.transactions += 1
        told: list[Callable[[], None]] = []
        for one in work:
            match one:
                case Reserve():
                    assert one.found is not None
                    told.append(partial(one.answer, one.found))
                case Extend():
                    one.share.amount += one.found
                    told.append(partial(one.answer, one.found))
                case Settle():
                    pass
        self._say(told)
        return []

    def _after_failure(self, work: list[Work]) -> list[Work]:
        now, left, told = time.monotonic(), list[Work](), list[Callable[[], None]]()
        for one in work:
            match one:
                case Settle():
                    left.append(one)
                case Reserve() | Extend() if now - one.asked_at < _WAIT and not self.turns.closing:
                    if isinstance(one, Reserve):
                        one.tried = True
                    left.append(one)
                case Reserve():
                    self.counters.unanswered += 1
                    if not self.turns.closing:  # should it have been set aside all the same: nobody asks for it any more
                        left.append(Settle([(Share(wish, 0, 0), 0) for wish in one.wishes], NOTHING, now))
                    told.append(partial(one.answer, Unknown("the budgets could not be read in time")))
                case Extend():
                    told.append(partial(one.answer, 0))
        self._say(told)
        return left

    def _say(self, told: list[Callable[[], None]]) -> None:
        """The loop is woken once for all answers of a turn."""
        if told:
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                self._tell(_answer_all, told)

    def _read(self, run: Running, batch: _Batch) -> None:
        """The state of each budget that is asked for, locked. In one order, so that no two gateways wait for each other."""
        now = self._clock()
        for place in sorted({wish.place for one in batch.work for wish in wishes_of(one)}):
            batch.states[place] = _State(*self._statements.read(run, place, now))
        known = (wish.exchange for one in batch.work if not isinstance(one, Reserve) or one.tried for wish in wishes_of(one))
        batch.filed = self._statements.find(run, known)

    def _decide(self, batch: _Batch) -> None:
        states, filed = batch.states, batch.filed
        # What was used first: it makes room.
        for one in sorted(batch.work, key=lambda one: not isinstance(one, Settle)):
            match one:
                case Settle():
                    for share, used in one.shares:
                        self._book(batch, share, used, one.charge)
                case Extend():
                    wish, key = one.share.wish, _key(one.share.wish)
                    row, state = filed.get(key), states[wish.place]
                    # One that is over, by our own word or by somebody's who took us for dead, gets nothing more.
                    running = row is not None and row.used is None
                    one.found = grant_more(wish, state.spent, state.held, one.more) if running else 0
                    if row is not None and one.found:
                        row.held += one.found
                        batch.changed[key] = None
                        _change(state, 0, one.found)
                case Reserve() if one.tried and any(_key(wish) in filed for wish in one.wishes):
                    # It had been set aside, all of it.
                    one.found = Shares([Share(wish, filed[_key(wish)].held, states[wish.place].spent) for wish in one.wishes])
                case Reserve():
                    one.found = _granted(one.wishes, states)
                    if isinstance(one.found, Shares):
                        for share in one.found.shares:
                            key = _key(share.wish)
                            if key not in filed:  # two budgets of one name are kept as one
                                filed[key] = Filed(share.amount, None, share.wish.charge)
                                batch.new[key] = share.wish
                                _change(states[share.wish.place], 0, share.amount)

    def _book(self, batch: _Batch, share: Share, used: int, charge: Charge) -> None:
        key, state = _key(share.wish), batch.states[share.wish.place]
        row = batch.filed.get(key)
        booked = row.used if row is not None else None
        _change(state, used - (booked or 0), -row.held if row is not None and booked is None else 0)
        if row is None and not used:
            return
        batch.filed[key] = Filed(row.held if row is not None else 0, used, charge)
        if row is None:  # it was let in without a share, because the budgets could not be asked
            batch.new[key] = share.wish
        elif used:
            batch.changed[key] = None
            batch.gone.pop(key, None)  # it was given back as what nobody asks for any more
        else:
            batch.changed.pop(key, None)
            batch.gone[key] = None

    def _write(self, run: Running, batch: _Batch) -> None:
        now, statements, filed = self._clock(), self._statements, batch.filed
        for place, state in batch.states.items():
            if state.spent_by:
                statements.spend(run, place, state.spent, now)
            if state.held_by:
                statements.hold(run, place, state.held_by)
        statements.file(run, [(wish, filed[key]) for key, wish in batch.new.items()])
        statements.change(run, [(key, filed[key]) for key in batch.changed])
        statements.remove(run, list(batch.gone))


def _answer_all(told: Sequence[Callable[[], None]]) -> None:
    for answer in told:
        try:
            answer()
        except Exception as error:  # a mistake of one exchange's is no other's
            log.error("budgets: %s while an answer was told", type(error).__name__, exc_info=error)


def _granted(wishes: Sequence[Wish], states: dict[Place, _State]) -> Answer:
    shares: list[Share] = []
    for wish in wishes:
        state = states[wish.place]
        amount = grant(wish, state.spent, state.held)
        if amount is None:
            return Spent(wish)
        shares.append(Share(wish, amount, state.spent))
    return Shares(shares)


def _change(state: _State, spent: int, held: int) -> None:
    state.spent += spent
    state.spent_by += spent
    state.held += held
    state.held_by += held


def _key(wish: Wish) -> Key:
    return wish.exchange, *wish.place


def _reason(error: Exception) -> str:
    said = error if isinstance(error, sqlite3.Error) else getattr(error, "orig", None)
    return " ".join(str(said or type(error).__name__).split())[:300]


def read_spent(engine: sa.Engine) -> list[dict[str, object]]:
    """Every budget in every window that is kept, for people. Blocks."""
    with engine.begin() as connection:
        rows = connection.execute(sa.select(budget_spent).order_by(budget_spent.c.budget, budget_spent.c.period, budget_spent.c.subject)).mappings()
        return [dict(row) for row in rows]
