"""How a database is opened: files and their modes, the journal, who may wait for whom."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote, unquote

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DisconnectionError, NoSuchModuleError

from penstock.ledger.errors import LedgerError
from penstock.ledger.patience import make_patient
from penstock.ledger.settings import LedgerSettings

STATEMENTS = 256
"""Prepared statements that a SQLite connection keeps."""

SHARED = frozenset({
    "nfs", "nfs4", "lustre", "gpfs", "cifs", "smb3", "smbfs", "9p", "afs", "beegfs", "ceph", "glusterfs", "fuse.glusterfs", "fuse.sshfs",
})
"""File systems that several hosts may share. A WAL needs shared memory: there it seems to work and breaks with the second host."""


def locate(settings: LedgerSettings) -> tuple[URL | None, Path | None, str]:
    """`(url, path, name)`: the URL for PostgreSQL or the path for SQLite, and what to call the ledger in messages (no password).

    Raises `LedgerError` where the URL is none that we know.
    """
    if settings.url is None:
        return None, settings.sqlite_path, str(settings.sqlite_path)
    try:
        url = make_url(settings.url)
    except (ArgumentError, ValueError):  # of a port that is no number, the latter
        raise LedgerError("the ledger's URL cannot be read; write postgresql://user@host/database or sqlite:///path") from None
    backend = url.drivername.partition("+")[0]
    if backend == "sqlite" and url.database and url.database != ":memory:":
        # SQLAlchemy decodes a database's name since 2.1, and before that leaves `%20` in it.
        path = Path(unquote(settings.url.partition(":///")[2].partition("?")[0]) or url.database).expanduser()
        return None, path, str(path)
    if backend in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg"), None, _shown(url)
    raise LedgerError(f"the ledger cannot be kept at {_shown(url)}: write postgresql://user@host/database or sqlite:///path")


def _shown(url: URL) -> str:
    """For messages: without the password, and without the query, which may hold another (`?password=`, `?sslpassword=`)."""
    return url.set(query={}).render_as_string(hide_password=True)


def prepare_file(path: Path) -> None:
    """Make the file (0600) and its directory (0700) where they are missing; take rights of others from a file that is there."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite gives `-wal`, `-shm` and `-journal` the mode of the database itself.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_mode & 0o077:
                os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise LedgerError(f"the ledger {path} cannot be opened: {error.strerror}") from error


def choose_journal(path: Path) -> tuple[str, str | None]:
    """`("WAL", None)`, or `("DELETE", why)` where the file system cannot do WAL: tried on a scratch database beside the ledger."""
    kind = _file_system(path.parent)
    if kind in SHARED:
        return "DELETE", f"{path.parent} is on {kind}, which several hosts may share"
    try:
        with tempfile.TemporaryDirectory(prefix=".wal-", dir=path.parent) as scratch:
            return _try_wal(Path(scratch) / "try.db")
    except OSError as error:
        return "DELETE", f"{path.parent}: {error.strerror}"


def _try_wal(path: Path) -> tuple[str, str | None]:
    try:
        first = sqlite3.connect(path, isolation_level=None)
        try:
            mode = str(first.execute("PRAGMA journal_mode=WAL").fetchone()[0])
            if mode != "wal":
                return "DELETE", f"the file system of {path.parent.parent} gave journal mode {mode}"
            first.execute("PRAGMA synchronous=OFF")
            first.execute("CREATE TABLE t (x)")
            second = sqlite3.connect(path, isolation_level=None)
            try:
                second.execute("SELECT count(*) FROM t").fetchone()
            finally:
                second.close()
        finally:
            first.close()
    except sqlite3.Error as error:
        return "DELETE", f"the file system of {path.parent.parent} refused it ({error})"
    return "WAL", None


def _file_system(directory: Path) -> str | None:
    """The type of the file system that holds `directory`, where the system tells (Linux)."""
    with suppress(OSError, ValueError, IndexError):
        device = os.stat(directory).st_dev  # noqa: PTH116 - one look, no Path method says more
        wanted = f"{os.major(device)}:{os.minor(device)}"
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            fields, _, rest = line.partition(" - ")
            if fields.split()[2] == wanted:
                return rest.split()[0]
    return None


class _Connection(sqlite3.Connection):
    file: tuple[int, int] | None = None
    """What was at its path when it was opened."""


def identify(path: Path) -> tuple[int, int] | None:
    """Which file is at `path`; `None` where there is none that can be seen."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def sqlite_engine(path: Path, *, lock_wait_s: float, journal: str = "WAL", read_only: bool = False) -> sa.Engine:
    """An engine on an existing file. Its transactions begin with BEGIN IMMEDIATE, read-only ones with BEGIN.

    The driver's own transaction handling is off: it would begin late, and a transaction that reads first and writes then can fail with
    SQLITE_BUSY_SNAPSHOT, for which no waiting helps.

    SQLite itself goes on with a file that was removed or replaced, and what it writes there is lost. So each connection that is taken from the
    pool is asked for the file that it has open: one that is not at `path` any more is given up, and a new one fails where there is none.
    """
    target = f"file:{quote(str(path))}?mode=rw"

    def connect() -> sqlite3.Connection:
        file = identify(path)  # first: one that comes in between is found out at the checkout
        # As many prepared statements as `shapes` may have.
        connection = sqlite3.connect(
            target, uri=True, timeout=lock_wait_s, isolation_level=None, check_same_thread=False, cached_statements=STATEMENTS, factory=_Connection)
        connection.file = file
        # A rollback journal without WAL's checksums needs the full sync to be safe from a power cut.
        connection.execute(f"PRAGMA synchronous={'NORMAL' if journal == 'WAL' else 'FULL'}")
        connection.execute("PRAGMA journal_size_limit=67108864")
        # 16 MiB instead of 4: pages that grow row by row are copied from the WAL into the file less often.
        connection.execute("PRAGMA wal_autocheckpoint=4000")
        if read_only:
            # Opened for writing and held to reading: after a crash somebody must be able to roll a journal back.
            connection.execute("PRAGMA query_only=ON")
        else:
            # 160 KiB instead of 2 MiB: few of its pages are written twice, and the system has the others at hand.
            connection.execute("PRAGMA cache_size=-160")
        return connection

    engine = sa.create_engine("sqlite+pysqlite://", creator=connect, poolclass=sa.QueuePool, pool_size=4, max_overflow=4)
    begin = "BEGIN" if read_only else "BEGIN IMMEDIATE"

    @event.listens_for(engine, "checkout")
    def _(connection: _Connection, record: object, proxy: object) -> None:  # pyright: ignore[reportUnusedFunction]  # SQLAlchemy has it
        if connection.file != identify(path):
            raise DisconnectionError(f"{path} is gone, or another file")

    @event.listens_for(engine, "begin")
    def _(connection: sa.Connection) -> None:  # pyright: ignore[reportUnusedFunction]  # SQLAlchemy has it
        connection.exec_driver_sql(begin)

    return engine


def postgresql_engine(url: URL, *, read_only: bool = False, connect_s: int = 5, patience_s: float = 25.0) -> sa.Engine:
    """An engine whose every wait has a deadline: a server that hangs must not hang the writer for ever.

    `connect_s`: for a connection (2 at least). `patience_s`: for a statement or a COMMIT; longer than the server's own limit, so that as a rule it
    is the server that ends what takes too long.
    """
    options = "-c statement_timeout=20000 -c lock_timeout=5000 -c idle_in_transaction_session_timeout=60000"
    given = url.query.get("options")
    if given:
        options += f" {given if isinstance(given, str) else ' '.join(given)}"
    if read_only:
        options += " -c default_transaction_read_only=on"
    arguments = {"connect_timeout": connect_s, "tcp_user_timeout": 10000, "application_name": "penstock", "options": options}
    try:
        engine = sa.create_engine(url, connect_args=arguments, pool_size=2, max_overflow=2, pool_timeout=5)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise LedgerError("a ledger in PostgreSQL needs psycopg: pip install 'penstock[postgresql]'") from error
    make_patient(engine, patience_s)
    return engine


def open_engine(settings: LedgerSettings, *, lock_wait_s: float = 1.0, read_only: bool = False) -> sa.Engine:
    """An engine on a ledger that is there, for those who keep small tables of their own beside it, which requests wait for. Raises `LedgerError`."""
    url, path, _ = locate(settings)
    if path is None:
        assert url is not None
        return postgresql_engine(url, read_only=read_only, connect_s=2, patience_s=2.0)
    with closing(sqlite3.connect(path, timeout=lock_wait_s, isolation_level=None)) as connection:
        journal = str(connection.execute("PRAGMA journal_mode").fetchone()[0]).upper()
    return sqlite_engine(path, lock_wait_s=lock_wait_s, journal=journal, read_only=read_only)
