"""What a turn of `budgets` asks of the database, as text: SQLAlchemy takes five times as long to build these as SQLite to run them, and every request
under a budget waits for a turn. Both databases know all of it but the marks of parameters and `FOR UPDATE`.

SQLite is told through its driver, on one connection that is kept (`Sqlite`): SQLAlchemy takes five times as long to begin and end a transaction as
SQLite does. What goes wrong there is an `sqlite3.Error` and no `SQLAlchemyError`. PostgreSQL may be gone, which SQLAlchemy must see (`Postgresql`).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Protocol, cast

import sqlalchemy as sa

from penstock.admission.budget.account import Charge, Wish
from penstock.admission.budget.spec import Action

Place = tuple[str, str, str]
Key = tuple[str, str, str, str]
"""Exchange and place."""
Values = tuple[Any, ...]

_HERE = "budget = ? AND subject = ? AND period = ?"
_SPENT = f"SELECT spent FROM budget_spent WHERE {_HERE}"
_MAKE = "INSERT INTO budget_spent (budget, subject, period, spent, changed_at) VALUES (?, ?, ?, 0, ?) ON CONFLICT DO NOTHING"
_BOTH = f"SELECT spent, (SELECT coalesce(sum(held), 0) FROM budget_held WHERE {_HERE}) FROM budget_spent WHERE {_HERE}"
_HELD = f"SELECT coalesce(sum(held), 0) FROM budget_held WHERE {_HERE}"
_SPEND = f"UPDATE budget_spent SET spent = ?, changed_at = ? WHERE {_HERE}"
_HOLD = (
    "INSERT INTO budget_held (instance, budget, subject, period, held) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (instance, budget, subject, period) DO UPDATE SET held = budget_held.held + excluded.held")
_FIND = "SELECT exchange, budget, subject, period, held, used FROM budget_shares WHERE exchange IN ({})"
_FILE = (
    "INSERT INTO budget_shares (exchange, budget, subject, period, instance, money, cuts, held, used, input, output, micros) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
_CHANGE = f"UPDATE budget_shares SET held = ?, used = ?, input = ?, output = ?, micros = ? WHERE exchange = ? AND {_HERE}"
_GROW = f"UPDATE budget_shares SET held = ? WHERE exchange = ? AND {_HERE}"
_REMOVE = f"DELETE FROM budget_shares WHERE exchange = ? AND {_HERE}"
_AT_ONCE = 500


class Running(Protocol):
    """A transaction that runs."""

    def ask(self, text: str, values: Values) -> Sequence[Any]:
        """The rows."""
        ...

    def one(self, text: str, values: Values) -> None: ...

    def all(self, text: str, values: Sequence[Values]) -> None: ...


class Database(Protocol):
    """For one thread."""

    def begin(self) -> AbstractContextManager[Running]:
        """A transaction for what is done inside; an exception takes it back."""
        ...

    def close(self) -> None: ...


class Sqlite:
    """Implements `Database` and `Running`. The connection that is kept is let go where another file, or none, is at its path: SQLite itself would
    go on with the file that was removed, and what is spent there nobody else sees."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._kept: sa.PoolProxiedConnection | None = None
        self._driver: sqlite3.Connection | None = None
        self._path = ""
        self._file: tuple[int, int] | None = None
        """What was at the path when the connection was taken."""

    @contextmanager
    def begin(self) -> Generator[Running]:
        if self._driver is not None and _identify(self._path) != self._file:
            self.close()
        driver = self._driver
        if driver is None:
            self._kept = self._engine.raw_connection()  # the engine looks by itself
            self._driver = driver = cast("sqlite3.Connection", self._kept.driver_connection)
            self._path = driver.execute("PRAGMA database_list").fetchone()[2]
            self._file = _identify(self._path)
        try:
            driver.execute("BEGIN IMMEDIATE")
            yield self
            driver.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # its own word is the one before
                if driver.in_transaction:
                    driver.execute("ROLLBACK")
            self.close()
            raise

    def close(self) -> None:
        kept, self._kept, self._driver = self._kept, None, None
        if kept is not None:
            kept.close()

    def ask(self, text: str, values: Values) -> Sequence[Any]:
        assert self._driver is not None
        return self._driver.execute(text, values).fetchall()

    def one(self, text: str, values: Values) -> None:
        assert self._driver is not None
        self._driver.execute(text, values)

    def all(self, text: str, values: Sequence[Values]) -> None:
        assert self._driver is not None
        self._driver.executemany(text, values)


def _identify(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - once per turn
    except OSError:
        return None
    return status.st_dev, status.st_ino


class Postgresql:
    """Implements `Database`."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    @contextmanager
    def begin(self) -> Generator[Running]:
        with self._engine.begin() as connection:
            yield _OnPostgresql(connection)

    def close(self) -> None: ...


class _OnPostgresql:
    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def ask(self, text: str, values: Values) -> Sequence[Any]:
        text = text + " FOR UPDATE" if text is _SPENT else text
        return self._connection.exec_driver_sql(text.replace("?", "%s"), values).all()

    def one(self, text: str, values: Values) -> None:
        self._connection.exec_driver_sql(text.replace("?", "%s"), values)

    def all(self, text: str, values: Sequence[Values]) -> None:
        self._connection.exec_driver_sql(text.replace("?", "%s"), list(values))


def database_of(engine: sa.Engine) -> Database:
    return Postgresql(engine) if engine.dialect.name == "postgresql" else Sqlite(engine)


class Filed:
    """What one exchange has on file of one budget. `used`: `None` while it runs; `held` then counts."""

    __slots__ = ("charge", "held", "used")

    def __init__(self, held: int, used: int | None, charge: Charge | None = None) -> None:
        self.held = held
        self.used = used
        self.charge = charge
        """`None`: as it is there."""


class Statements:
    """Of one gateway, on one kind of database. Each method is within the caller's transaction."""

    def __init__(self, dialect: str, instance: str) -> None:
        self._instance = instance
        self._postgresql = dialect == "postgresql"

    def read(self, run: Running, place: Place, now: float) -> tuple[int, int]:
        """What is spent and what is held of a budget, which is there and locked afterwards."""
        if not self._postgresql:  # whose lock is one for all, and was taken before anything is read
            for spent, held in run.ask(_BOTH, (*place, *place)):
                return spent, held
            run.one(_MAKE, (*place, now))
            ((held,),) = run.ask(_HELD, place)
            return 0, held
        found = run.ask(_SPENT, place)
        if not found:
            run.one(_MAKE, (*place, now))
            found = run.ask(_SPENT, place)
        ((held,),) = run.ask(_HELD, place)
        return int(found[0][0]), int(held)

    def spend(self, run: Running, place: Place, spent: int, now: float) -> None:
        run.one(_SPEND, (spent, now, *place))

    def hold(self, run: Running, place: Place, more: int) -> None:
        run.one(_HOLD, (self._instance, *place, more))

    def find(self, run: Running, ids: Iterable[str]) -> dict[Key, Filed]:
        """What these exchanges have on file."""
        wanted, found = sorted(set(ids)), dict[Key, Filed]()
        for first in range(0, len(wanted), _AT_ONCE):
            some = tuple(wanted[first : first + _AT_ONCE])
            # As many marks as the next power of two: few texts, which the driver knows then.
            some += some[-1:] * ((1 << (len(some) - 1).bit_length()) - len(some))
            for row in run.ask(_FIND.format(", ".join("?" * len(some))), some):
                found[row[0], row[1], row[2], row[3]] = Filed(row[4], row[5])
        return found

    def file(self, run: Running, new: Sequence[tuple[Wish, Filed]]) -> None:
        rows = [
            (wish.exchange, *wish.place, self._instance, wish.budget.money, wish.budget.action is Action.CUT, one.held, one.used, *_charge(one))
            for wish, one in new
        ]
        if rows:
            run.all(_FILE, rows)

    def change(self, run: Running, changed: Sequence[tuple[Key, Filed]]) -> None:
        """What it holds and used; what it is charged, where that is known now."""
        settled = [(one.held, one.used, *_charge(one), *key) for key, one in changed if one.charge is not None]
        if settled:
            run.all(_CHANGE, settled)
        running = [(one.held, *key) for key, one in changed if one.charge is None]
        if running:
            run.all(_GROW, running)

    def remove(self, run: Running, gone: Sequence[Key]) -> None:
        if gone:
            run.all(_REMOVE, gone)


def _charge(one: Filed) -> tuple[int, int, int | None]:
    assert one.charge is not None
    return one.charge.input, one.charge.output, one.charge.micros
