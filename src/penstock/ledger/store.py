"""One database behind a few verbs, each one transaction. Used by the writer's thread alone; `maker_of`, `read` and `change` by any."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from penstock.ledger import engine as engines
from penstock.ledger import lease, migrations, retention, shapes, staying
from penstock.ledger.entry import Maker
from penstock.ledger.errors import LedgerError, StoreError
from penstock.ledger.patience import end_by, limit
from penstock.ledger.rows import Row, clean, late
from penstock.ledger.schema import ID_KEPT, MADE, exchanges
from penstock.ledger.settings import LedgerSettings

T = TypeVar("T")

QUICK_S = 5.0
"""How long PostgreSQL may take for a statement that fresh rows wait for: meanwhile they are nowhere but in memory."""
_COUNT_LATE = "UPDATE exchanges SET late_settles = ? WHERE id = ? AND late_settles < ?"


class Store:
    """An opened ledger. Every verb either does all of its work or raises `StoreError` and has done nothing."""

    def __init__(
        self, engine: sa.Engine, reader: sa.Engine, name: str, *, clock: Callable[[], float] = time.time, notes: Sequence[str] = (),
        path: Path | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        """The file or the URL without its password, for messages."""
        self.notes: list[str] = list(notes)
        """What the person who starts Penstock should know."""
        self._engine = engine
        self._reader = reader
        self._clock = clock
        self._postgresql = engine.dialect.name == "postgresql"
        # SQLAlchemy leaves both without types.
        dialect = postgresql.dialect(paramstyle="format") if self._postgresql else sqlite.dialect(paramstyle="qmark")  # type: ignore[no-untyped-call]
        self._one = shapes.upsert(dialect)
        self._shapes = None if self._postgresql else shapes.Shapes(dialect)
        self._held: sa.PoolProxiedConnection | None = None
        """SQLite: the connection that rows are written on, below SQLAlchemy, which would cost more per batch than a small batch itself."""
        self._path = path
        self._file = engines.identify(path) if path is not None else None
        """The file that was opened."""
        self._lost = False
        """It was removed or replaced, and what is there now has not been looked at."""

    @classmethod
    def open(cls, settings: LedgerSettings, *, clock: Callable[[], float] = time.time) -> Store:
        """Open, and make or upgrade, the ledger that the settings name. Raises `LedgerError` with a sentence that names it."""
        url, path, name = engines.locate(settings)
        if path is None:
            assert url is not None
            engine, reader = engines.postgresql_engine(url), engines.postgresql_engine(url, read_only=True)
            return cls._ready(engine, reader, name, clock, [], None)
        engines.prepare_file(path)
        journal, why = engines.choose_journal(path)
        notes: list[str] = []
        if why is not None:
            notes.append(f"the ledger {path} uses a rollback journal instead of WAL ({why}): safe, but slower")
        _set_journal(path, journal)
        engine = engines.sqlite_engine(path, lock_wait_s=settings.lock_wait_s, journal=journal)
        reader = engines.sqlite_engine(path, lock_wait_s=1.0, read_only=True)
        return cls._ready(engine, reader, name, clock, notes, path)

    @classmethod
    def _ready(
        cls, engine: sa.Engine, reader: sa.Engine, name: str, clock: Callable[[], float], notes: list[str], path: Path | None,
    ) -> Store:  # fmt: skip
        try:
            _patiently(lambda: migrations.upgrade(engine, name))
            return cls(engine, reader, name, clock=clock, notes=notes, path=path)
        except SQLAlchemyError as error:
            raise LedgerError(f"the ledger {name} cannot be used: {_reason(error)}") from error

    def write(self, rows: Sequence[Row]) -> None:
        """Insert or overwrite the rows. A batch with a value that no database takes is cleaned and written once more.

        Where the database's file is gone it raises `StoreError`, until one is there again: none is made, for a disk that vanished may come back.
        """
        try:
            self._write(rows)
        except (OperationalError, sqlite3.OperationalError) as error:
            raise StoreError(_reason(error)) from error
        except (SQLAlchemyError, sqlite3.Error, UnicodeError, OverflowError, ValueError, TypeError):
            try:
                self._write([clean(row) for row in rows])
            except (SQLAlchemyError, sqlite3.Error) as error:
                raise StoreError(_reason(error)) from error

    def _write(self, rows: Sequence[Row]) -> None:
        again = late(rows)
        if self._shapes is None:
            with self._engine.begin() as connection:
                limit(connection, QUICK_S)
                connection.exec_driver_sql(self._one, list(rows))
                for count, id in again:
                    # An ending that is written is not touched again, only this count of it.
                    connection.exec_driver_sql(_COUNT_LATE.replace("?", "%s"), (count, id, count))
            return
        connection = self._writing()
        connection.execute("BEGIN IMMEDIATE")
        try:
            self._shapes.write(connection, rows)
            connection.executemany(_COUNT_LATE, [(count, id, count) for count, id in again])
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # some errors roll it back themselves
                connection.execute("ROLLBACK")
            raise

    def _writing(self) -> sqlite3.Connection:
        self._attend()
        if self._held is None:
            self._held = self._engine.raw_connection()
        connection = self._held.driver_connection
        assert isinstance(connection, sqlite3.Connection)
        return connection

    def _attend(self) -> None:
        """Let a file go that is not at its path any more, and look at the one in its place: it may be an older copy.

        Raises `StoreError` where that is no ledger of ours.
        """
        if self._path is None:
            return
        found = engines.identify(self._path)
        if found != self._file:
            if self._held is not None:
                self._held.close()
                self._held = None
            self._file, self._lost = found, True
        if self._lost and found is not None:
            try:
                with _told():
                    migrations.upgrade(self._engine, self.name)
            except LedgerError as error:
                raise StoreError(str(error)) from error
            self._lost = False

    def now(self) -> float:
        """The clock by which leases are held: the server's for PostgreSQL, because hosts disagree. Seconds since the epoch."""
        if not self._postgresql:
            return self._clock()
        with _told(), self._reader.connect() as connection:
            limit(connection, QUICK_S)
            return float(connection.scalar(sa.text("SELECT extract(epoch FROM clock_timestamp())")) or 0.0)

    def hold(self, instance: lease.Instance, until: float) -> None:
        self._attend()
        self._do(lambda connection: lease.hold(connection, instance, until), QUICK_S)

    def release(self, instance: str, now: float) -> None:
        self._do(lambda connection: lease.release(connection, instance, now), QUICK_S)

    def settle_crashed(self, own: str, now: float) -> int:
        return self._do(lambda connection: lease.settle_crashed(connection, own, now))

    def alive(self, now: float) -> frozenset[str]:
        return self._do(lambda connection: lease.alive(connection, now))

    def forget_dead(self, before: float) -> int:
        return self._do(lambda connection: lease.forget_dead(connection, before))

    def retire(self, before: float, limit: int) -> int:
        if self._path is None:
            return self._do(lambda connection: retention.retire(connection, before, limit))
        with staying.hold_file(self._path, retiring=True) as free:
            return self._do(lambda connection: retention.retire(connection, before, limit)) if free else 0

    @contextmanager
    def stay(self) -> Generator[Callable[[], object]]:
        """No row is retired meanwhile, by nobody. What it gives raises `StoreError` where that is no longer so. From any thread."""
        if self._path is not None:
            with staying.hold_file(self._path):
                yield lambda: None
            return
        with _told(), staying.hold_server(self._engine) as connection:
            yield lambda: self._ask(connection)

    def _ask(self, connection: sa.Connection) -> None:
        with _told():
            connection.execute(sa.text("SELECT 1"))

    def read(self, look: Callable[[sa.Connection], T]) -> T:
        """In one snapshot. From any thread."""
        with _told(), self._reader.connect() as connection:
            return look(connection)

    def change(self, act: Callable[[sa.Connection], T]) -> T:
        """In one transaction. From any thread."""
        return self._do(act)

    def maker_of(self, response_id: str) -> Maker | None:
        """Who made the response (file, batch) with this id, and for whom: the latest where several did; `None` where no row says so. Where rows only
        tell of somebody who asked for it, it is known where it is and not whose."""
        query = (
            sa.select(exchanges.c.provider, sa.case((MADE, exchanges.c.key_id)), sa.case((MADE, exchanges.c.user_id)))
            .where(exchanges.c.response_id == response_id, ID_KEPT, exchanges.c.provider.is_not(None))
            .order_by(MADE.desc(), exchanges.c.started_at.desc())
            .limit(1)
        )
        with _told(), self._reader.connect() as connection:
            row = connection.execute(query).first()
        return None if row is None else Maker(*row)

    def end_by(self, at: float) -> None:
        """PostgreSQL is not waited for beyond that moment (of `time.monotonic`), whatever is under way. From any thread."""
        for engine in (self._engine, self._reader):
            end_by(engine, at)

    def close(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None
        self._engine.dispose()
        self._reader.dispose()

    def _do(self, act: Callable[[sa.Connection], T], patience_s: float | None = None) -> T:
        with _told(), self._engine.begin() as connection:
            if patience_s is not None:
                limit(connection, patience_s)
            return act(connection)


class _told:
    """Turns what the database says into `StoreError`."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, SQLAlchemyError):
            raise StoreError(_reason(error)) from error


def _reason(error: Exception) -> str:
    """The driver's own words, without SQLAlchemy's (they hold statements, parameters and links)."""
    origin = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return " ".join(str(origin).split())[:300] or type(origin).__name__


def _patiently(act: Callable[[], object], tries: int = 60) -> None:
    """Again while another process holds the lock: at the start both of two processes may want to make the tables."""
    for left in range(tries, -1, -1):
        try:
            act()
        except OperationalError as error:
            if "locked" not in str(error.orig) or left == 0:
                raise
            time.sleep(0.05)
        else:
            return


def _set_journal(path: Path, journal: str) -> None:
    """Write the journal mode into the file. Raises `LedgerError` where the file is no database of SQLite's, or cannot be read."""
    for left in range(60, -1, -1):
        try:
            connection = sqlite3.connect(path, timeout=0.25, isolation_level=None)
            try:
                if journal != "WAL":
                    # A file that says WAL can only be opened without shared memory by one who locks everybody else out.
                    connection.execute("PRAGMA locking_mode=EXCLUSIVE")
                mode = str(connection.execute("PRAGMA journal_mode").fetchone()[0])
                if mode.upper() != journal:
                    connection.execute(f"PRAGMA journal_mode={journal}").fetchone()
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            finally:
                connection.close()
        except sqlite3.Error as error:
            # Changing the mode does not wait for locks as other statements do.
            if "locked" in str(error) and left:
                time.sleep(0.05)
                continue
            advice = "Move the file away to start a new one, or restore it from a copy"
            raise LedgerError(f"the ledger {path} cannot be used: {error}. {advice}") from error
        else:
            return
