"""What a turn of `budgets` asks of the database, as text: SQLAlchemy takes five times as long to build these as SQLite to run them, and every request
under a budget waits for a turn. Both databases know all of it but the marks of parameters and `FOR UPDATE`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from penstock.admission.budget.account import Charge, Wish
from penstock.admission.budget.spec import Action

Place = tuple[str, str, str]
Key = tuple[str, str, str, str]
"""Exchange and place."""

_HERE = "budget = ? AND subject = ? AND period = ?"
_SPENT = f"SELECT spent FROM budget_spent WHERE {_HERE}"
_MAKE = "INSERT INTO budget_spent (budget, subject, period, spent, changed_at) VALUES (?, ?, ?, 0, ?) ON CONFLICT DO NOTHING"
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
_REMOVE = f"DELETE FROM budget_shares WHERE exchange = ? AND {_HERE}"
_AT_ONCE = 500


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
        self._spent = _SPENT + (" FOR UPDATE" if self._postgresql else "")

    def read(self, connection: sa.Connection, place: Place, now: float) -> tuple[int, int]:
        """What is spent and what is held of a budget, which is there and locked afterwards."""
        spent = self._run(connection, self._spent, place).scalar()
        if spent is None:
            self._run(connection, _MAKE, (*place, now))
            spent = self._run(connection, self._spent, place).scalar()
        return int(spent or 0), int(self._run(connection, _HELD, place).scalar() or 0)

    def spend(self, connection: sa.Connection, place: Place, spent: int, now: float) -> None:
        self._run(connection, _SPEND, (spent, now, *place))

    def hold(self, connection: sa.Connection, place: Place, more: int) -> None:
        self._run(connection, _HOLD, (self._instance, *place, more))

    def find(self, connection: sa.Connection, ids: Iterable[str]) -> dict[Key, Filed]:
        """What these exchanges have on file."""
        wanted, found = sorted(set(ids)), dict[Key, Filed]()
        for first in range(0, len(wanted), _AT_ONCE):
            some = tuple(wanted[first : first + _AT_ONCE])
            # As many marks as the next power of two: few texts, which the driver knows then.
            some += some[-1:] * ((1 << (len(some) - 1).bit_length()) - len(some))
            rows: Sequence[Any] = self._run(connection, _FIND.format(", ".join("?" * len(some))), some).all()
            for row in rows:
                found[row[0], row[1], row[2], row[3]] = Filed(row[4], row[5])
        return found

    def file(self, connection: sa.Connection, new: Sequence[tuple[Wish, Filed]]) -> None:
        rows = [
            (wish.exchange, *wish.place, self._instance, wish.budget.money, wish.budget.action is Action.CUT, one.held, one.used, *_charge(one))
            for wish, one in new
        ]
        if rows:
            connection.exec_driver_sql(self._text(_FILE), rows)

    def change(self, connection: sa.Connection, changed: Sequence[tuple[Key, Filed]]) -> None:
        """What it holds and used; what it is charged, where that is known now."""
        settled = [(one.held, one.used, *_charge(one), *key) for key, one in changed if one.charge is not None]
        if settled:
            connection.exec_driver_sql(self._text(_CHANGE), settled)
        running = [(one.held, *key) for key, one in changed if one.charge is None]
        if running:
            connection.exec_driver_sql(self._text(f"UPDATE budget_shares SET held = ? WHERE exchange = ? AND {_HERE}"), running)

    def remove(self, connection: sa.Connection, gone: Sequence[Key]) -> None:
        if gone:
            connection.exec_driver_sql(self._text(_REMOVE), list(gone))

    def _run(self, connection: sa.Connection, text: str, values: tuple[Any, ...]) -> sa.CursorResult[Any]:
        return connection.exec_driver_sql(self._text(text), values)

    def _text(self, text: str) -> str:
        return text.replace("?", "%s") if self._postgresql else text


def _charge(one: Filed) -> tuple[int, int, int | None]:
    assert one.charge is not None
    return one.charge.input, one.charge.output, one.charge.micros
