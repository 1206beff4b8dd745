"""Closed hours are summed once, so that questions over months do not read every row.

An hour may be summed when it is over and every row of it has an ending that stays (neither open nor CRASHED, which may yet be replaced). A row is
never changed after that, except that one without a price may get one, which makes its hour void (`void`). So the sums of an hour hold exactly as long
as the hour has as many rows as were summed, which an index counts in no time. That is looked at with every question (`holding`), in the same
snapshot: an import into an old hour, a row that came late from a spill file, a retired row make its sums void, and the rows themselves are read
until it is summed again. Nothing needs to tell anybody, and writing a row costs nothing more.

The thread reads beside the writer and holds the database's lock only while it puts the sums of one hour in.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from penstock.ledger.errors import StoreError
from penstock.ledger.retention import UNPRICED, UNREPORTED
from penstock.ledger.schema import COUNTS, DIMENSIONS, HOUR_S, OPEN, SUMS, exchanges, hourly, rolled
from penstock.ledger.settings import LedgerSettings
from penstock.ledger.store import Store
from penstock.vocabulary.outcome import Ending

log = logging.getLogger("penstock.ledger")

SETTLING_S = 60.0
"""How long after its end an hour is left alone: rows are written a little late."""
_LOCK = 0x70656E73746F6302
"""PostgreSQL's advisory lock: two gateways must not put the same hour in."""
_CHANGING = sa.or_(OPEN, exchanges.c.outcome == Ending.CRASHED.value)
_MARK = -1
"""An hour in which nothing can have happened: its row in `rolled` is another one after every `void`."""
_LATER = 60
"""Looks for which an hour with changing rows is left alone."""


def begun_in(hour: Any) -> sa.ColumnElement[bool]:
    """Rows begun in that hour."""
    start = exchanges.c.started_at
    return sa.and_(start >= hour * float(HOUR_S), start < (hour + 1) * float(HOUR_S))


def holding() -> sa.ColumnElement[bool]:
    """Of a row of `rolled`: its sums are those of the rows that are there."""
    return rolled.c.rows == sa.select(sa.func.count()).select_from(exchanges).where(begun_in(rolled.c.hour)).scalar_subquery()


def next_hour(connection: sa.Connection, after: int) -> int | None:
    """The first hour from `after` on that has a row."""
    at = connection.scalar(sa.select(sa.func.min(exchanges.c.started_at)).where(exchanges.c.started_at >= after * float(HOUR_S)))
    return None if at is None else int(at // HOUR_S)


def is_summed(connection: sa.Connection, hour: int) -> bool:
    return connection.scalar(sa.select(rolled.c.hour).where(rolled.c.hour == hour, holding())) is not None


def void(connection: sa.Connection, hours: Collection[int], now: float) -> None:
    """Rows of these hours were changed in this transaction: what was summed of them, and what is being summed now, does not hold."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    mark = max(_mark(connection) + 1, int(now * 1e6))
    for table in (hourly, rolled):
        connection.execute(sa.delete(table).where(table.c.hour.in_([_MARK, *sorted(hours)])))
    connection.execute(sa.insert(rolled).values(hour=_MARK, rows=mark))


def _mark(connection: sa.Connection) -> int:
    return connection.scalar(sa.select(rolled.c.rows).where(rolled.c.hour == _MARK)) or 0


def sum_up(connection: sa.Connection, hour: int) -> tuple[int, int, list[dict[str, Any]]] | None:
    """How many rows an hour has, their sums, and the mark before them; `None` while some of them may change."""
    mark = _mark(connection)
    changing = sa.func.coalesce(sa.func.sum(sa.case((_CHANGING, 1), else_=0)), 0)
    count, open_rows = connection.execute(sa.select(sa.func.count(), changing).where(begun_in(hour))).one()
    if open_rows:
        return None
    dimensions = [sa.func.coalesce(exchanges.c[name], "").label(name) for name in DIMENSIONS]
    counts = (sa.func.count(), sa.func.sum(UNREPORTED), sa.func.sum(UNPRICED))
    statement = sa.select(
        sa.literal(hour, sa.BigInteger).label("hour"), *dimensions, *(count.label(name) for name, count in zip(COUNTS, counts, strict=True)),
        *(sa.cast(sa.func.sum(exchanges.c[name]), sa.BigInteger).label(name) for name in SUMS),
    ).where(begun_in(hour)).group_by(*dimensions)  # fmt: skip
    return count, mark, [dict(row) for row in connection.execute(statement).mappings()]


def put(connection: sa.Connection, hour: int, count: int, mark: int, sums: list[dict[str, Any]]) -> bool:
    """Replace the sums of an hour; False where its rows are not those that were summed, or somebody else is at it."""
    if connection.dialect.name == "postgresql" and not connection.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(_LOCK))):
        return False
    if _mark(connection) != mark or connection.scalar(sa.select(sa.func.count()).select_from(exchanges).where(begun_in(hour))) != count:
        return False
    connection.execute(sa.delete(hourly).where(hourly.c.hour == hour))
    connection.execute(sa.delete(rolled).where(rolled.c.hour == hour))
    if sums:
        connection.execute(sa.insert(hourly), sums)
    connection.execute(sa.insert(rolled).values(hour=hour, rows=count))
    return True


class Roller:
    """A thread that sums closed hours, one after the other."""

    def __init__(self, settings: LedgerSettings, store: Store) -> None:
        self._every = settings.rollup_every_s
        self._store = store
        self._stopping = threading.Event()
        self._left: dict[int, int] = {}
        """Hours with changing rows, and the looks for which they are left alone."""
        self._thread = threading.Thread(target=self._run, name="penstock-rollup", daemon=True)

    def start(self) -> None:
        if self._every is not None:
            self._thread.start()

    def stop_soon(self) -> None:
        """No other hour is begun."""
        self._stopping.set()

    def stop(self, timeout: float) -> None:
        """Waits for the hour that is being summed; one that takes longer is given up, and summed by whoever comes next."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        assert self._every is not None
        while not self._stopping.wait(self._every):
            try:
                self.look()
            except StoreError as error:
                log.debug("ledger %s: hours are summed later: %s", self._store.name, error)
            except Exception:
                log.exception("ledger %s: unexpected failure while hours were summed", self._store.name)

    def look(self) -> int:
        """Sum every closed hour that is not; returns how many were. Raises `StoreError`."""
        closed = int((self._store.now() - SETTLING_S) // HOUR_S)
        self._left = {hour: left - 1 for hour, left in self._left.items() if left > 1}
        done, hour = 0, self._store.read(lambda connection: next_hour(connection, 0))
        while hour is not None and hour < closed and not self._stopping.is_set():
            if hour not in self._left and not self._store.read(lambda connection, hour=hour: is_summed(connection, hour)):
                done += self._sum(hour)
            hour = self._store.read(lambda connection, after=hour + 1: next_hour(connection, after))
        return done

    def _sum(self, hour: int) -> int:
        found = self._store.read(lambda connection: sum_up(connection, hour))
        if found is None:
            self._left[hour] = _LATER
            return 0
        return int(self._store.change(lambda connection: put(connection, hour, *found)))
