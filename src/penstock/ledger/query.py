"""Reading the ledger, while a gateway writes to it and when none does. Nothing here changes a row.

Times are in seconds since the epoch; days are UTC days (`2025-01-31`), from midnight to midnight. Every function is synchronous and takes
the engine that `connect` gives: call them in a thread from the event loop. All raise `LedgerError` in words.

Sums reach past retention: rows that were retired are in `daily`, hours that are closed in `hourly` (`rollup`), all others are read row by row;
`usage` adds the three up in one statement (one snapshot). For retired days `since` and `until` mean the whole UTC day that they fall into, unless
periods are to lie side by side (`days="begun"`).
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from penstock.ledger import engine as engines
from penstock.ledger import schema
from penstock.ledger.errors import LedgerError
from penstock.ledger.migrations import is_known, of_a_newer, revision
from penstock.ledger.schema import COUNTS, HEAD
from penstock.ledger.settings import LedgerSettings
from penstock.ledger.sums import figures, of_days, of_hours, of_rows, summed
from penstock.ledger.whose import ROWS, OwnKeys, Whose
from penstock.vocabulary.outcome import Ending

Group = Literal[
    "day", "month", "provider", "model", "requested_model", "operation", "outcome", "key_fingerprint", "user_id", "project", "session_id", "client",
    "effort", "key_id", "key",
]
"""What `usage` can group by: the day, its month, the dimensions of the sums, and `key`: the gateway's own keys by their names, a rotated one in one
line, and credentials of others by their fingerprints; its rows have `key`, `key_id` and `key_fingerprint`."""
GROUPS: tuple[Group, ...] = get_args(Group)

_PARTS: Mapping[str, tuple[str, ...]] = {"month": ("day",), "key": ("key_id", "key_fingerprint")}
"""Groups that are made of others."""

INCOMPLETE = "incomplete"
"""The stop reason that is shown for a stream that was cut before its provider gave one. The column itself stays empty."""

_CUT = frozenset({
    Ending.TRUNCATED, Ending.UPSTREAM_ERROR, Ending.UPSTREAM_LOST, Ending.TIMED_OUT, Ending.CUT, Ending.CLIENT_GONE, Ending.SHUTDOWN,
    Ending.CRASHED,
})
_SHOWN = tuple(column for column in schema.exchanges.columns if column.name != "tail_bytes")
FAILED: tuple[str, ...] = tuple(ending for ending in Ending if ending not in (Ending.COMPLETE, Ending.UNVERIFIED))
"""Outcomes of exchanges that went wrong, whoever was to blame."""


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
        if not is_known(found):
            raise LedgerError(of_a_newer(found, name))
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
    user_id: str | None = None,
    project: str | None = None,
    session_id: str | None = None,
    client: str | None = None,
    effort: str | None = None,
    key_id: str | None = None,
    key: str | None = None,
    days: Literal["touched", "begun"] = "touched",
) -> list[dict[str, Any]]:
    """Sums of the exchanges begun in `since <= started_at < until`, one dict per group, largest count first (by day: in order of days).

    Keys: those of `group_by`; `exchanges` (all operations, open ones included: their outcome is `None`); `unreported` (those among them that
    may have used tokens and whose provider gave no final figures: the sums lack them); the columns of `schema.TOKENS`, in which only
    operations that generate count, as in `web_searches`; `bytes_in`, `bytes_out`; `cost_nanousd`, `saved_nanousd` and `avoided_nanousd`
    (billionths of a US dollar), and `unpriced` (exchanges whose tokens have no price: the costs lack them). A sum of nothing but unknowns
    is `None`. Without `group_by`: one total. `key`: the name, id or fingerprint of one of the gateway's own keys, or the fingerprint of
    somebody's credential. `days`: a retired day counts in a period that touches it, or only in the one that it begins in, so that
    periods side by side count no day twice.
    """
    for name in group_by:
        if name not in GROUPS:
            raise LedgerError(f"usage cannot be grouped by {name!r}; choose from {', '.join(GROUPS)}")
    own = OwnKeys(_fetch(engine, ROWS)) if key is not None or "key" in group_by else OwnKeys(())
    filters: dict[str, str | Whose | None] = {
        "provider": provider, "model": model, "requested_model": requested_model, "operation": operation, "outcome": outcome,
        "key_fingerprint": key_fingerprint, "user_id": user_id, "project": project, "session_id": session_id, "client": client,
        "effort": effort, "key_id": key_id, "key": None if key is None else own.named(key),
    }  # fmt: skip
    names = tuple(dict.fromkeys(part for name in group_by for part in _PARTS.get(name, (name,))))
    hours = summed(since, until)
    retired = of_days(names, filters, since, until, begun=days == "begun")
    parts = (of_rows(names, filters, since, until, hours), of_hours(names, filters, hours), retired)
    all_ = sa.union_all(*parts).subquery("all_")
    keys: dict[str, sa.ColumnElement[Any]] = {name: all_.c[name] for name in _PARTS["key"]} if "key" in group_by else {}
    keys |= {name: sa.func.substr(all_.c.day, 1, 7) if name == "month" else all_.c[name] for name in group_by if name != "key"}
    shown = [(key if name in ("day", "month") else sa.func.nullif(key, "")).label(name) for name, key in keys.items()]
    found = _fetch(engine, sa.select(*shown, *figures(all_)).group_by(*keys.values()))
    if "key" in group_by:
        found = own.gathered(found, [name for name in group_by if name != "key"])
    if not group_by:
        return [{**row, **{name: row[name] or 0 for name in COUNTS}} for row in found]

    def order(row: Mapping[str, Any]) -> tuple[Any, ...]:
        return (row.get("month") or "", row.get("day") or "", -row["exchanges"], *(row[name] or "" for name in group_by))

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
        conditions.append(table.id.startswith(id_prefix.lower(), autoescape=True))  # as ids are: only SQLite's LIKE takes either case
    if open_only:
        conditions.append(table.outcome.is_(None))
    statement = sa.select(*_SHOWN).where(*conditions).order_by(table.started_at.desc(), table.id.desc()).limit(max(0, last))
    return [_shown(row) for row in _fetch(engine, statement)]


def exchange(engine: sa.Engine, id: str) -> dict[str, Any] | None:
    """One exchange by its whole id; `None` where there is none (or it was retired)."""
    found = _fetch(engine, sa.select(*_SHOWN).where(schema.exchanges.c.id == id))
    return _shown(found[0]) if found else None


def by_request_id(engine: sa.Engine, told: str) -> dict[str, Any] | None:
    """The last exchange that a provider gave this id of its own; `None` where there is none."""
    table = schema.exchanges.c
    found = _fetch(engine, sa.select(*_SHOWN).where(table.upstream_request_id == told).order_by(table.started_at.desc()).limit(1))
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


def _fetch(engine: sa.Engine, statement: sa.Executable) -> list[dict[str, Any]]:
    try:
        with engine.connect() as connection:
            return [dict(row) for row in connection.execute(statement).mappings()]
    except (SQLAlchemyError, OverflowError) as error:  # the latter: of a number that no database takes
        raise LedgerError(f"the ledger cannot be read now: {_words(error)}") from error


def _words(error: Exception) -> str:
    origin = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return " ".join(str(origin).split())[:300]
