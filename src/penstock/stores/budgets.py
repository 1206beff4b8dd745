"""Budgets in the database: what was spent, and what each gateway has set aside for what it runs.

One thread, one transaction (a turn) for all that waits; `turns` says for how long. In it each budget that is asked for is read once, decided upon in
memory (`deciding`), and written once; SQLite's write lock and PostgreSQL's row locks keep gateways that do the same at the same time apart. So a
decision sees every other one that was made. Where requests come close upon another, a turn sets something aside for the next ones (`advances`).

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
from dataclasses import dataclass
from functools import partial
from math import inf

import sqlalchemy as sa
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from penstock.admission.budget.account import NOTHING, Answer, Charge, Share, Shares, Unknown, Wish
from penstock.stores import shares as on_file
from penstock.stores.deciding import Batch, State
from penstock.stores.schema import budget_held, budget_shares, budget_spent
from penstock.stores.statements import Running, Statements, database_of
from penstock.stores.turns import Extend, Recall, Reserve, Settle, Take, Turns, Work, wishes_of

log = logging.getLogger("penstock.budgets")
TIDY = 2.0
"""Seconds between two looks at what the dead have left."""
_WAIT = 2.0
"""Seconds for which an exchange waits for its share while the database does not answer."""
_PAUSE = 0.05
"""Between two tries."""
_AHEAD = 0.1
"""Seconds for which rows wait for shares: in memory, and where the database is away they belong into the spill file."""
_RECALLED = 32
"""Advances that go back in one turn: requests wait for it."""
_KEPT = 400 * 86_400.0
"""Seconds for which windows that are over stay in the database."""


@dataclass(slots=True)
class Counters:
    transactions: int = 0
    failures: int = 0
    unanswered: int = 0
    """Exchanges that were told nothing in time."""


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

    def take_ahead(self, wishes: Sequence[Wish]) -> Shares | None:
        return self.turns.take_ahead(wishes)

    def reserve(self, wishes: Sequence[Wish], answer: Callable[[Answer], None]) -> None:
        self.turns.put(Reserve(wishes, answer, time.monotonic()))

    def extend(self, share: Share, more: int, answer: Callable[[int], None]) -> None:
        if self.turns.grow_ahead(share, more):
            answer(more)
        else:
            self.turns.put(Extend(share, more, answer, time.monotonic()))

    def settle(self, shares: Sequence[tuple[Share, int]], charge: Charge = NOTHING) -> None:
        self.turns.put(Settle(list(shares), charge, time.monotonic()))

    # From any thread.

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until all that was asked before is done."""
        return self.turns.flush(timeout)

    def file_ahead(self, timeout: float = _AHEAD) -> None:
        """What was taken ahead before the call is on file afterwards, where the database takes it within `timeout` seconds."""
        self.turns.file_ahead(timeout)

    def stop_soon(self, timeout: float = 5.0) -> None:
        """Begin what `close` waits for."""
        self._stop_at = self._stop_at or time.monotonic() + timeout
        self.turns.close()

    def close(self, timeout: float = 5.0) -> int:
        """Book what is left; how much could not be within `timeout` seconds (from `stop_soon` on, where that was called)."""
        self.stop_soon(timeout)
        if self._thread.is_alive():
            self._thread.join(max(0.0, self._stop_at - time.monotonic()))
        return self.turns.charges

    # On the thread.

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self.turns.end()
            self._database.close()

    def _work(self) -> None:
        given_up, turns, recalls = 0.0, self.turns, False
        while True:
            closing = turns.closing  # before it looks: what is put in before the end is never left
            work = turns.take(0.0 if recalls else self._tidy_at)
            if closing:
                given_up = given_up or time.monotonic() + 4.0
                recalls = not work  # what was used comes first
                if recalls and (not turns.advances or time.monotonic() > given_up):
                    return
            if recalls:
                some = turns.advances.idle(inf if closing else time.monotonic(), _RECALLED)
                work += map(Recall, some)
                recalls = len(some) == _RECALLED and not self._failing
            left = self._turn(work) if work else []
            if left:
                turns.put_back(left)
            if left or (given_up and self._failing):
                if given_up and time.monotonic() > given_up:
                    return
                time.sleep(_PAUSE)
            # After what was used is booked: what is on file of it tells how much of it had been.
            if not closing and time.monotonic() >= self._tidy_at and not self._unsure:
                self._tidy_quietly()
                recalls = True

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
        batch = Batch(work, self.turns)
        try:
            with self._database.begin() as run:
                self._read(run, batch)
                batch.decide()
                self._write(run, batch)
        except Exception as error:  # whatever it is: the charges must not be lost, and nobody may wait for ever
            self._unsure = isinstance(error, OperationalError | InterfaceError | sqlite3.OperationalError)
            if len(work) > 1 and not self._unsure:
                # It is not the database that is away: what it does not take is one of these, and the others need not wait for that.
                return self._one_by_one(work)
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
        batch.done()
        told: list[Callable[[], None]] = []
        for one in work:
            match one:
                case Reserve():
                    assert one.found is not None
                    told.append(partial(one.answer, one.found))
                case Extend():
                    one.share.amount += one.found
                    told.append(partial(one.answer, one.found))
                case Settle() | Take() | Recall():
                    pass
        self._say(told)
        return []

    def _one_by_one(self, work: list[Work]) -> list[Work]:
        """Of one exchange nothing is done before what came before it: what it was given back would be set aside afterwards."""
        left, behind, unsure = list[Work](), set[str](), False
        for one in work:
            of = {wish.exchange for wish in wishes_of(one)}
            again = self._turn([one]) if behind.isdisjoint(of) else [one]
            if again:
                left += again
                behind |= of
                unsure |= self._unsure
        self._unsure = unsure
        return left

    def _after_failure(self, work: list[Work]) -> list[Work]:
        now, left, told = time.monotonic(), list[Work](), list[Callable[[], None]]()
        with self.turns.lock:
            self.turns.advances.void()
        for one in work:
            match one:
                case Settle():
                    left.append(one)
                case Take():
                    one.tried = True
                    left.append(one)
                case Recall():
                    pass  # comes again
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
        self._unsure = self._unsure and bool(left)
        return left

    def _say(self, told: list[Callable[[], None]]) -> None:
        """The loop is woken once for all answers of a turn."""
        if told:
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                self._tell(_answer_all, told)

    def _read(self, run: Running, batch: Batch) -> None:
        """The state of each budget that is asked for, locked. In one order, so that no two gateways wait for each other."""
        now = self._clock()
        for place in batch.places:
            batch.states[place] = State(*self._statements.read(run, place, now))
        batch.filed = self._statements.find(run, batch.known())

    def _write(self, run: Running, batch: Batch) -> None:
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


def _reason(error: Exception) -> str:
    said = error if isinstance(error, sqlite3.Error) else getattr(error, "orig", None)
    return " ".join(str(said or type(error).__name__).split())[:300]


def read_spent(engine: sa.Engine) -> list[dict[str, object]]:
    """Every budget in every window that is kept, for people. Blocks."""
    with engine.begin() as connection:
        rows = connection.execute(sa.select(budget_spent).order_by(budget_spent.c.budget, budget_spent.c.period, budget_spent.c.subject)).mappings()
        return [dict(row) for row in rows]
