"""The schema's history: one file per revision in `versions`, brought to `schema.HEAD` when the ledger is opened.

In: a connection. Out: a database at HEAD, or `LedgerError`. Alembic (slow to import) is only loaded when the stored revision differs.
Rules: a revision is written by hand, stands alone (it does not import `schema`), and is never changed once released.
"""

from __future__ import annotations

import logging
from pathlib import Path

import sqlalchemy as sa

from penstock.ledger.errors import LedgerError
from penstock.ledger.patience import limit
from penstock.ledger.schema import HEAD

_LOCK = 0x70656E73746F6300


def revision(connection: sa.Connection) -> str | None:
    """The stored revision; `None` for a database that never held a ledger."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.scalar(sa.text("SELECT version_num FROM alembic_version"))


def upgrade(engine: sa.Engine, name: str) -> bool:
    """Bring the database to HEAD; True when something had to be done. Two processes may do this at once: the second waits and finds it done.

    `name` is how messages call the ledger. Raises `LedgerError` for a revision that this version does not know.
    """
    with engine.connect() as connection:
        if revision(connection) == HEAD:
            return False
    with engine.begin() as connection:  # SQLite: BEGIN IMMEDIATE, the write lock.
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL lock_timeout = '60s'")
            connection.exec_driver_sql("SET LOCAL statement_timeout = '600s'")
            limit(connection, 660.0)
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        found = revision(connection)
        if found == HEAD:
            return False
        _run(connection, found, name)
        return True


def is_known(found: str) -> bool:
    """Is it a revision of this version or of one before it? Told by the names of the files alone, for readers."""
    return any(file.name.startswith(f"{found}_") for file in (Path(__file__).parent / "versions").glob("*.py"))


def of_a_newer(found: str, name: str) -> str:
    """What is said of a revision that is not known here."""
    return (f"the ledger {name} was written by a newer Penstock (schema {found}, this one knows up to {HEAD}): "
            "install that version again, or choose another data_dir")


def _run(connection: sa.Connection, found: str | None, name: str) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise LedgerError(of_a_newer(found, name))
    logging.getLogger("alembic").setLevel(logging.WARNING)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
