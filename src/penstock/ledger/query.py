"""Reading the ledger, while a gateway writes to it and when none does. Nothing here changes a row.

Times are in seconds since the epoch; days are UTC days (`2025-01-31`), from midnight to midnight. Every function is synchronous and takes
the engine that `connect` gives: call them in a thread from the event loop. All raise `LedgerError` in words.

Sums reach past retention: rows that were retired are in `daily`, and `usage` adds both up in one statement (one snapshot). For retired days
`since` and `until` mean the whole UTC day that they fall into.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from penstock.ledger import engine as engines
from penstock.ledger import schema
from penstock.ledger.errors import LedgerError
from penstock.ledger.migrations import revision
from penstock.ledger.retention import UNREPORTED
from penstock.ledger.schema import DIMENSIONS, HEAD, SUMS, TOKENS, daily, utc_day
from penstock.ledger.settings import LedgerSettings
from penstock.vocabulary.ids import GENERATING
from penstock.vocabulary.outcome import Ending

Group = Literal["day", "provider", "model", "requested_model", "operation", "outcome", "key_fingerprint"]
"""What `usage` can group by: the day, and the dimensions of the daily sums."""
GROUPS: tuple[Group, ...] = get_args(Group)

INCOMPLETE = "incomplete"
"""The stop reason that is shown for a stream that was cut before its provider gave one. The column itself stays empty."""

_CUT = frozenset({
    Ending.TRUNCATED, Ending.UPSTREAM_ERROR, Ending.UPSTREAM_LOST, Ending.TIMED_OUT, Ending.CUT, Ending.CLIENT_GONE, Ending.SHUTDOWN,
    Ending.CRASHED,
})
_SHOWN = tuple(column for column in schema.exchanges.columns if column.name != "tail_bytes")
FAILED: tuple[str, ...] = tuple(ending for ending in Ending if ending not in (Ending.COMPLETE, Ending.UNVERIFIED))
"""Outcomes of exchanges that went wrong, whoever was to blame."""
_GENERATING = tuple(sorted(operation.value for operation in GENERATING))


class LedgerMissing(LedgerError):
    """There is no ledger yet: no gateway has run with this data directory."""


def connect(settings: LedgerSettings) -> sa.Engine:
    """A reader's engine. Raises `LedgerMissing`, or `LedgerError` where the ledger is damaged or of another version."""
    url, path, name = engines.locate(settings)
    if path is not None:
        if not path.exists():
            raise LedgerMissing(f"there is no ledger at {path} yet: `penstock serve` makes it")
        engine = engines.sqlite_engine(path, lock_wait_s=5.0, read_only=True)
    else:
        assert url is not None
        engine = engines.postgresql_engine(url, read_only=True)
    try:
        with engine.connect() as connection:
            found = revision(connection)
    except SQLAlchemyError as error:
        engine.dispose()
        raise LedgerError(f"the ledger {name} cannot be read: {_words(error)}") from error
    if found is None:
        engine.dispose()
        raise LedgerMissing(f"there is no ledger at {name} yet: `penstock serve` makes it")
    if found != HEAD:
        engine.dispose()
        raise LedgerError(f"the ledger {name} has schema {found}, this version reads {HEAD}: start the gateway of the newer version once")
    return engine


def usage(
    engine: sa.Engine,
    group_by: Sequence[Group] = ("model",),
    *,
    since: float | None = None,
    until: float | None = None,
    provider: str | None = None,
    model: str | None = None,
    requested_model: str | None = None,
    operation: str | None = None,
    outcome: str | None = None,
    key_fingerprint: str | None = None,
) -> list[dict[str, Any]]:
    """Sums of the exchanges begun in `since <= started_at < until`, one dict per group, largest count first (by day: in order of days).

    Keys: those of `group_by`; `exchanges` (all operations, open ones included: their outcome is `None`); `unreported` (those among them that
    may have used tokens and whose provider gave no final figures: the sums lack them); the columns of `schema.TOKENS`, in which only
    operations that generate count; `bytes_in`, `bytes_out`. A sum of nothing but unknowns is `None`. Without `group_by`: one total.
    """
    for name in group_by:
        if name not in GROUPS:
            raise LedgerError(f"usage cannot be grouped by {name!r}; choose from {', '.join(GROUPS)}")
    filters = {
        "provider": provider, "model": model, "requested_model": requested_model, "operation": operation, "outcome": outcome,
        "key_fingerprint": key_fingerprint,
    }  # fmt: skip
    both = sa.union_all(_of_rows(filters, since, until), _of_days(filters, since, until)).subquery("both")
    generating = both.c.operation.in_(_GENERATING)
    sums: list[sa.ColumnElement[Any]] = [_whole(sa.func.sum(both.c.exchanges), "exchanges"), _whole(sa.func.sum(both.c.unreported), "unreported")]
    sums += [_whole(sa.func.sum(sa.case((generating, both.c[name]))), name) for name in TOKENS]
    sums += [_whole(sa.func.sum(both.c[name]), name) for name in ("bytes_in", "bytes_out")]
    keys = [both.c.day.label("day") if name == "day" else sa.func.nullif(both.c[name], "").label(name) for name in group_by]
    statement = sa.select(*keys, *sums).group_by(*(both.c[name] for name in group_by))
    found = _fetch(engine, statement)
    if not group_by:
        return [{**row, "exchanges": row["exchanges"] or 0, "unreported": row["unreported"] or 0} for row in found]

    def order(row: Mapping[str, Any]) -> tuple[Any, ...]:
        return (row.get("day") or "", -row["exchanges"], *(row[name] or "" for name in group_by))

    return sorted(found, key=order)


def exchanges(
    engine: sa.Engine,
    last: int = 50,
    *,
    outcome: str | Iterable[str] | None = None,
    provider: str | None = None,
    model: str | None = None,
    operation: str | None = None,
    since: float | None = None,
    until: float | None = None,
    id_prefix: str | None = None,
    open_only: bool = False,
) -> list[dict[str, Any]]:
    """The last exchanges that fit all of the filters, the newest first: one dict each, keyed as the columns are.

    What a model wrote is not among them (`tail_bytes`: see `kept_bytes`).
    `model` fits the requested or the actual model. `stop_reason` reads `incomplete` where a stream was cut before one was given.
    """
    table = schema.exchanges.c
    conditions: list[sa.ColumnElement[bool]] = []
    if outcome is not None:
        conditions.append(table.outcome.in_([outcome] if isinstance(outcome, str) else list(outcome)))
    if provider is not None:
        conditions.append(table.provider == provider)
    if model is not None:
        conditions.append(sa.or_(table.model == model, table.requested_model == model))
    if operation is not None:
        conditions.append(table.operation == operation)
    if since is not None:
        conditions.append(table.started_at >= since)
    if until is not None:
        conditions.append(table.started_at < until)
    if id_prefix is not None:
        conditions.append(table.id.startswith(id_prefix, autoescape=True))
    if open_only:
        conditions.append(table.outcome.is_(None))
    statement = sa.select(*_SHOWN).where(*conditions).order_by(table.started_at.desc(), table.id.desc()).limit(max(0, last))
    return [_shown(row) for row in _fetch(engine, statement)]


def exchange(engine: sa.Engine, id: str) -> dict[str, Any] | None:
    """One exchange by its whole id; `None` where there is none (or it was retired)."""
    found = _fetch(engine, sa.select(*_SHOWN).where(schema.exchanges.c.id == id))
    return _shown(found[0]) if found else None


def kept_bytes(engine: sa.Engine, id: str) -> bytes | None:
    """The last bytes of a stream that ended badly, where its route keeps them; `None` where there are none."""
    found = _fetch(engine, sa.select(schema.exchanges.c.tail_bytes).where(schema.exchanges.c.id == id))
    text = found[0]["tail_bytes"] if found else None
    if text is None:
        return None
    try:
        return b64decode(text, validate=True)
    except ValueError:
        return None


def notes(engine: sa.Engine) -> list[str]:
    """How the database is kept, one clause each: for reports."""
    with engine.connect() as connection:
        said = [f"schema {revision(connection)}", f"{engine.dialect.name} {'.'.join(map(str, engine.dialect.server_version_info or ()))}"]
        if engine.dialect.name == "sqlite":
            said += [f"{name} {connection.exec_driver_sql(f'PRAGMA {name}').scalar()}" for name in ("journal_mode", "page_count", "freelist_count")]
    return said


def instances(engine: sa.Engine) -> list[dict[str, Any]]:
    """The processes that the ledger knows, the latest first: one dict each, keyed as the table's columns are."""
    return _fetch(engine, sa.select(schema.instances).order_by(schema.instances.c.started_at.desc()))


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    began = row["streamed"] and row["status"] is not None and row["status"] < 400
    if row["stop_reason"] is None and began and row["outcome"] in _CUT:
        return {**row, "stop_reason": INCOMPLETE}
    return row


def _of_rows(filters: Mapping[str, str | None], since: float | None, until: float | None) -> sa.Select[Any]:
    conditions = [sa.func.coalesce(schema.exchanges.c[name], "") == value for name, value in filters.items() if value is not None]
    if since is not None:
        conditions.append(schema.exchanges.c.started_at >= since)
    if until is not None:
        conditions.append(schema.exchanges.c.started_at < until)
    dimensions = [sa.func.coalesce(schema.exchanges.c[name], "").label(name) for name in DIMENSIONS]
    day = utc_day(schema.exchanges.c.started_at)
    counts = [sa.literal_column("1", sa.BigInteger).label("exchanges"), UNREPORTED.label("unreported")]
    return sa.select(day.label("day"), *dimensions, *counts, *(schema.exchanges.c[name] for name in SUMS)).where(*conditions)


def _of_days(filters: Mapping[str, str | None], since: float | None, until: float | None) -> sa.Select[Any]:
    conditions = [daily.c[name] == value for name, value in filters.items() if value is not None]
    if since is not None:
        conditions.append(daily.c.day >= day_of(since))
    if until is not None:
        # `until` at midnight sharp leaves that day out.
        last = day_of(until)
        conditions.append(daily.c.day < last if until % 86400 == 0 else daily.c.day <= last)
    return sa.select(*daily.columns).where(*conditions)


def day_of(seconds: float) -> str:
    """The UTC day of a time in seconds since the epoch, as `YYYY-MM-DD`."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%d")


def _whole(expression: sa.ColumnElement[Any], name: str) -> sa.ColumnElement[Any]:
    return sa.cast(expression, sa.BigInteger).label(name)  # PostgreSQL sums to numeric.


def _fetch(engine: sa.Engine, statement: sa.Executable) -> list[dict[str, Any]]:
    try:
        with engine.connect() as connection:
            return [dict(row) for row in connection.execute(statement).mappings()]
    except SQLAlchemyError as error:
        raise LedgerError(f"the ledger cannot be read now: {_words(error)}") from error


def _words(error: SQLAlchemyError) -> str:
    origin = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return " ".join(str(origin).split())[:300]
