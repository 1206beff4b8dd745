"""Rows stay where they are while somebody needs them to: whoever holds this, nobody retires any (`retention`), in whichever process.

An import knows an answer again by its row, and a whole day by its sums; a row that becomes a part of sums in between would be neither. Several
may hold it at once. It ends with the process that holds it, however that ends.

PostgreSQL has locks for it. For SQLite it is a file beside the database, under flock: the database's own locks are for moments. Where a file system
has no such locks, nobody is kept from anything.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None

SUFFIX = "-stay"
"""Of the file beside the database."""
_LOCK = sa.literal(0x70656E73746F6301, sa.BigInteger) + sa.func.hashtext(sa.func.current_schema())
"""PostgreSQL's advisory lock, of this ledger among those in the database: two must not sum the same rows, and nobody those that are to stay."""


@contextmanager
def hold_server(engine: sa.Engine) -> Generator[sa.Connection]:
    """Rows stay. PostgreSQL: as long as the connection that it gives lives."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.select(sa.func.pg_advisory_lock_shared(_LOCK)))
        try:
            yield connection
        finally:
            with suppress(SQLAlchemyError):
                connection.execute(sa.select(sa.func.pg_advisory_unlock_shared(_LOCK)))
            connection.invalidate()  # never back to the pool with a lock


def may_retire(connection: sa.Connection) -> bool:
    """PostgreSQL: to the end of the transaction nobody holds rows, or retires others."""
    return bool(connection.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(_LOCK))))


@contextmanager
def hold_file(path: Path, *, retiring: bool = False) -> Generator[bool]:
    """Rows stay: `path` is SQLite's. Waits for those who are `retiring`; these do not wait, and get False where somebody holds it."""
    descriptor = None
    with suppress(OSError):
        descriptor = os.open(f"{path}{SUFFIX}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor is None or _lock(descriptor, retiring=retiring)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _lock(descriptor: int, *, retiring: bool) -> bool:
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB if retiring else fcntl.LOCK_SH)
        except BlockingIOError:
            return False
        except OSError:
            pass  # it has none
    return True
