"""One database behind a few verbs, each one transaction. Used by the writer's thread alone, `provider_of` excepted (any thread)."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from itertools import chain, compress
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from penstock.ledger import engine as engines
from penstock.ledger import lease, migrations, retention
from penstock.ledger.entry import COLUMNS
from penstock.ledger.errors import LedgerError, StoreError
from penstock.ledger.rows import Row, clean, late
from penstock.ledger.schema import ID_KEPT, exchanges
from penstock.ledger.settings import LedgerSettings
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.vocabulary.outcome import Ending

T = TypeVar("T")

GROUPS = (32, 8, 1)
"""Rows per SQLite statement. sqlite3 gives the GIL away once per statement, and each time it must win it back from the event loop: with one
row per statement that costs more than the rows. Beyond 32 nothing is gained, and the GIL is held longer at a stretch."""

_AT_OPENING = frozenset({
    "id", "instance", "started_at", "provider", "client_protocol", "upstream_protocol", "operation", "method", "path", "streamed",
    "requested_model", "bytes_in", "user_agent", "key_fingerprint", "late_settles",
})
_SELDOM = frozenset({
    "cache_write_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "audio_input_tokens", "audio_output_tokens", "tool_use_tokens",
    "tool_requests", "error_type", "error_code", "error_message",
})
SHAPES: tuple[tuple[str, ...], ...] = (
    tuple(name for name in COLUMNS if name in _AT_OPENING),
    tuple(name for name in COLUMNS if name not in _SELDOM),
    COLUMNS,
)
"""Which columns a SQLite statement names: those of a row that was just opened, those of most that are settled, all. sqlite3 spends 20 ns on a
number, 75 on a text, and 270 on each value whose exact type it does not know: None, bool, members of an enum. So it gets few of those."""
_NOT_PLAIN = frozenset({"streamed", "operation", "client_protocol", "upstream_protocol"})

_OUTCOME = exchanges.c.outcome
_FIXED = frozenset({"id", "instance", "started_at"})
"""Known when a row is opened and never changed: left out of updates, so that their indexes are left alone."""


def _upsert(dialect: sa.Dialect, columns: Sequence[str] = COLUMNS) -> str:
    """INSERT of one row, overwriting an open one. What stands in the end does not depend on the order of writes:

    an ending stays, except that one told by the row's own instance replaces CRASHED, which was only concluded (`lease`).
    `columns`: those that are given, the others are NULL.
    """
    insert = postgresql.insert(exchanges) if dialect.name == "postgresql" else sqlite.insert(exchanges)
    insert = insert.values({name: sa.bindparam(name, type_=exchanges.c[name].type) for name in columns})
    new = insert.excluded
    crashed = sa.literal_column(f"'{Ending.CRASHED.value}'", sa.Text)
    statement = insert.on_conflict_do_update(
        index_elements=["id"],
        set_={name: new[name] for name in COLUMNS if name not in _FIXED},
        where=sa.or_(_OUTCOME.is_(None), sa.and_(exchanges.c.outcome == crashed, new.outcome.is_not(None), exchanges.c.instance == new.instance)),
    )
    compiled = statement.compile(dialect=dialect)
    assert list(compiled.positiontup or ()) == list(columns), "the statement must take a row as it is"
    return str(compiled)


class Store:
    """An opened ledger. Every verb either does all of its work or raises `StoreError` and has done nothing."""

    def __init__(self, engine: sa.Engine, reader: sa.Engine, name: str, *, clock: Callable[[], float] = time.time, notes: Sequence[str] = ()) -> None:
        self.name = name
        """The file or the URL without its password, for messages."""
        self.notes: list[str] = list(notes)
        """What the person who starts Penstock should know."""
        self._engine = engine
        self._reader = reader
        self._clock = clock
        self._postgresql = engine.dialect.name == "postgresql"
        dialect = postgresql.dialect(paramstyle="format") if self._postgresql else sqlite.dialect(paramstyle="qmark")  # type: ignore[no-untyped-call]
        self._one = _upsert(dialect)
        self._shapes = () if self._postgresql else tuple(_Shape(dialect, columns) for columns in SHAPES)

    @classmethod
    def open(cls, settings: LedgerSettings, *, clock: Callable[[], float] = time.time) -> Store:
        """Open, and make or upgrade, the ledger that the settings name. Raises `LedgerError` with a sentence that names it."""
        url, path, name = engines.locate(settings)
        if path is None:
            assert url is not None
            engine, reader = engines.postgresql_engine(url), engines.postgresql_engine(url, read_only=True)
            return cls._ready(engine, reader, name, clock, [])
        engines.prepare_file(path)
        journal, why = engines.choose_journal(path)
        notes: list[str] = []
        if why is not None:
            notes.append(f"the ledger {path} uses a rollback journal instead of WAL ({why}): safe, but slower")
        _set_journal(path, journal)
        engine = engines.sqlite_engine(path, lock_wait_s=settings.lock_wait_s, journal=journal)
        reader = engines.sqlite_engine(path, lock_wait_s=1.0, read_only=True)
        return cls._ready(engine, reader, name, clock, notes)

    @classmethod
    def _ready(cls, engine: sa.Engine, reader: sa.Engine, name: str, clock: Callable[[], float], notes: list[str]) -> Store:
        try:
            _patiently(lambda: migrations.upgrade(engine, name))
            return cls(engine, reader, name, clock=clock, notes=notes)
        except SQLAlchemyError as error:
            raise LedgerError(f"the ledger {name} cannot be used: {_reason(error)}") from error

    def write(self, rows: Sequence[Row]) -> None:
        """Insert or overwrite the rows. A batch with a value that no database takes is cleaned and written once more."""
        try:
            self._write(rows)
        except OperationalError as error:
            raise StoreError(_reason(error)) from error
        except (SQLAlchemyError, sqlite3.Error, UnicodeError, OverflowError, ValueError, TypeError):
            try:
                self._write([clean(row) for row in rows])
            except SQLAlchemyError as error:
                raise StoreError(_reason(error)) from error

    def _write(self, rows: Sequence[Row]) -> None:
        again = late(rows)
        with self._engine.begin() as connection:
            if self._postgresql:
                connection.exec_driver_sql(self._one, list(rows))
            else:
                for shape in self._shapes:
                    rows = shape.write(connection, rows)
            for count, id in again:
                # An ending that is written is not touched again, only this count of it.
                connection.execute(
                    sa.update(exchanges).where(exchanges.c.id == id, exchanges.c.late_settles < count).values(late_settles=count)
                )

    def now(self) -> float:
        """The clock by which leases are held: the server's for PostgreSQL, because hosts disagree. Seconds since the epoch."""
        if not self._postgresql:
            return self._clock()
        with _told(), self._reader.connect() as connection:
            return float(connection.scalar(sa.text("SELECT extract(epoch FROM clock_timestamp())")) or 0.0)

    def hold(self, instance: lease.Instance, until: float) -> None:
        self._do(lambda connection: lease.hold(connection, instance, until))

    def release(self, instance: str, now: float) -> None:
        self._do(lambda connection: lease.release(connection, instance, now))

    def settle_crashed(self, own: str, now: float) -> int:
        return self._do(lambda connection: lease.settle_crashed(connection, own, now))

    def alive(self, now: float) -> frozenset[str]:
        return self._do(lambda connection: lease.alive(connection, now))

    def forget_dead(self, before: float) -> int:
        return self._do(lambda connection: lease.forget_dead(connection, before))

    def retire(self, before: float, limit: int) -> int:
        return self._do(lambda connection: retention.retire(connection, before, limit))

    def provider_of(self, response_id: str) -> str | None:
        """The provider that made the response (file, batch) with this id, the latest where several did; `None` where no row says so."""
        query = (
            sa.select(exchanges.c.provider)
            .where(exchanges.c.response_id == response_id, ID_KEPT, exchanges.c.provider.is_not(None))
            .order_by(exchanges.c.started_at.desc())
            .limit(1)
        )
        with _told(), self._reader.connect() as connection:
            return connection.scalar(query)

    def close(self) -> None:
        self._engine.dispose()
        self._reader.dispose()

    def _do(self, act: Callable[[sa.Connection], T]) -> T:
        with _told(), self._engine.begin() as connection:
            return act(connection)


class _told:
    """Turns what the database says into `StoreError`."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, SQLAlchemyError):
            raise StoreError(_reason(error)) from error


class _Plain(dict[Any, Any]):
    """Looks a value up; one that is not listed stands for itself."""

    def __missing__(self, key: Any) -> Any:
        return str(key)


_PLAIN: dict[Any, Any] = _Plain({None: None, True: 1, False: 0} | {member.value: member.value for kind in (Operation, ProtocolId) for member in kind})


class _Shape:
    """How SQLite is given the rows that have values in these columns only."""

    def __init__(self, dialect: sa.Dialect, columns: Sequence[str]) -> None:
        one = _upsert(dialect, columns)
        slots = "(" + ", ".join("?" * len(columns)) + ")"
        self._statements = tuple((size, one.replace(slots, ", ".join([slots] * size), 1)) for size in GROUPS)
        self._width = len(columns)
        self._plain = tuple(at for at, name in enumerate(columns) if name in _NOT_PLAIN)
        rest = [at for at, name in enumerate(COLUMNS) if name not in columns]
        self._rest = itemgetter(*rest) if rest else None
        self._nothing = (None,) * len(rest)
        self._pick = itemgetter(*(COLUMNS.index(name) for name in columns))

    def write(self, connection: sa.Connection, rows: Sequence[Row]) -> Sequence[Row]:
        """Write the rows that fit; returns the others."""
        rest, nothing = self._rest, self._nothing
        if rest is None:
            mine, others = rows, ()
        else:
            fits = [rest(row) == nothing for row in rows]
            mine = [self._pick(row) for row in compress(rows, fits)]
            others = [row for row, fit in zip(rows, fits, strict=True) if not fit] if len(mine) < len(rows) else ()
        at, total = 0, len(mine)
        for size, sql in self._statements:
            while total - at >= size:
                connection.exec_driver_sql(sql, self._flat(mine[at : at + size]))
                at += size
        return others

    def _flat(self, rows: Sequence[Row]) -> tuple[Any, ...]:
        flat = list(chain.from_iterable(rows))
        for column in self._plain:
            flat[column :: self._width] = map(_PLAIN.__getitem__, flat[column :: self._width])
        return tuple(flat)


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
