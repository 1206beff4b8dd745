"""The tables. `migrations/` makes them; a test holds that both say the same.

Times are in seconds since the epoch (UTC) as double precision, durations in milliseconds, sizes in bytes. What each column means:
`docs/ledger.md`.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import ColumnElement

from penstock.ledger.entry import KINDS, TOKENS_LIMIT

HEAD = "0007"
"""The revision that this code reads and writes: the newest in `migrations/versions`."""

metadata = sa.MetaData()

_CHECKED: tuple[str, ...] = (
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens",
    "reasoning_tokens", "audio_input_tokens", "audio_output_tokens", "tool_use_tokens", "tool_requests",
)  # fmt: skip
"""Those that the table bounds; `Entry` bounds `KINDS`, because to add a check to a table is to read all of it."""

TOKENS: tuple[str, ...] = (*_CHECKED, *KINDS)
"""What a provider states: sums of usage, and nothing that we measured."""

ID_OPERATIONS: tuple[str, ...] = ("responses", "files", "batches")
"""Operations whose `response_id` clients come back with."""


def _texts(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.Text) for name in names]


def _counts(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.BigInteger) for name in names]


def _reals(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.Double) for name in names]


TOKENS_CHECK = " AND ".join(f"({name} IS NULL OR {name} BETWEEN 0 AND {TOKENS_LIMIT})" for name in _CHECKED)

exchanges = sa.Table(
    "exchanges",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("instance", sa.Text, nullable=False),
    sa.Column("started_at", sa.Double, nullable=False),
    *_reals("settled_at"),
    *_texts("outcome", "cause", "ended_by"),
    sa.Column("status", sa.Integer),
    sa.Column("upstream_status", sa.Integer),
    *_texts("provider", "client_protocol", "upstream_protocol", "operation", "method", "path"),
    sa.Column("streamed", sa.Boolean),
    *_texts("response_id", "requested_model", "model", "stop_reason", "usage_source"),
    *_counts(*_CHECKED),
    *_reals("ttft_ms", "duration_ms", "largest_gap_ms"),
    *_counts("events", "bytes_in", "bytes_out", "retries"),
    *_texts("upstream_request_id", "user_agent", "key_fingerprint", "error_type", "error_code", "error_message"),
    *_counts("malformed"),
    sa.Column("late_settles", sa.BigInteger, nullable=False),
    *_texts("timer", "route"),
    *_reals("dial_ms", "head_ms"),
    *_texts("tries", "tail", "tail_bytes"),
    *_counts("cost_nanousd", "saved_nanousd"),
    *_texts("price_version", "service_tier"),
    *_counts("web_searches"),
    *_texts("user_id", "project", "session_id", "client", "effort", "preview", "origin"),
    *_texts("key_id"),
    *_counts("charged_input", "charged_output", "charged_micros"),
    *_texts("rule", "findings"),
    *_counts("held_chars"),
    *_reals("held_ms"),
    *_texts("replay", "replay_of"),
    *_counts("avoided_nanousd", *KINDS),
    sa.CheckConstraint(TOKENS_CHECK, name="credible_counts"),
)

OPEN = exchanges.c.outcome.is_(None)

ID_KEPT = sa.literal_column("operation IN ({})".format(", ".join(f"'{name}'" for name in ID_OPERATIONS)), sa.Boolean)
"""Spelled out in the index and in the query alike: a planner only uses a partial index whose condition it finds word for word."""

_READING = ("GET", "HEAD", "DELETE")


def is_made(id: str, method: str | None, path: str | None) -> bool:
    """Did an exchange make what has this id, rather than ask for it? (Whoever looks at a file is not who put it there.)"""
    return method not in _READING and id not in (path or "")


MADE = sa.and_(
    sa.func.coalesce(exchanges.c.method, "").not_in(_READING),
    ~sa.func.coalesce(exchanges.c.path, "").contains(exchanges.c.response_id),
)
"""`is_made` of a row that has a `response_id`."""

sa.Index("exchanges_started_at", exchanges.c.started_at)
sa.Index("exchanges_open", exchanges.c.instance, sqlite_where=sa.text("outcome IS NULL"), postgresql_where=sa.text("outcome IS NULL"))
sa.Index("exchanges_response_id", exchanges.c.response_id, sqlite_where=ID_KEPT, postgresql_where=ID_KEPT)

instances = sa.Table(
    "instances",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("started_at", sa.Double, nullable=False),
    sa.Column("lease_until", sa.Double, nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("pid", sa.BigInteger, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
)

DIMENSIONS: tuple[str, ...] = (
    "provider", "model", "requested_model", "operation", "outcome", "key_fingerprint", "user_id", "project", "session_id", "client", "effort",
    "key_id",
)  # fmt: skip
"""What sums tell apart, besides the time. Unknown is the empty text there, because a key's columns cannot be null. PostgreSQL takes 2,700 bytes
of a key: what writes these columns bounds them."""

COUNTS: tuple[str, ...] = ("exchanges", "unreported", "unpriced")
"""Rows; those whose sums lack tokens; those whose tokens lack a price."""

SUMS: tuple[str, ...] = (*TOKENS, "bytes_in", "bytes_out", "web_searches", "cost_nanousd", "saved_nanousd", "avoided_nanousd")


def _sums() -> list[sa.Column[Any]]:
    return [*(sa.Column(name, sa.BigInteger, nullable=False) for name in COUNTS), *_counts(*SUMS)]


daily = sa.Table(
    "daily",
    metadata,
    sa.Column("day", sa.Text, primary_key=True),
    *(sa.Column(name, sa.Text, primary_key=True) for name in DIMENSIONS),
    *_sums(),
)
"""Of rows that are retired."""

HOUR_S = 3600

hourly = sa.Table(
    "hourly",
    metadata,
    sa.Column("hour", sa.BigInteger, nullable=False),
    *(sa.Column(name, sa.Text, nullable=False) for name in DIMENSIONS),
    *_sums(),
)
"""Of rows that are there: an hour is the time since the epoch in whole hours. What is in it counts only as `rolled` says."""

sa.Index("hourly_hour", hourly.c.hour)

rolled = sa.Table(
    "rolled",
    metadata,
    sa.Column("hour", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
)
"""The hours that `hourly` sums, each with the number of rows that were summed. See `rollup`."""


class utc_day(ColumnElement[str]):
    """`utc_day(seconds)`: the UTC day as `YYYY-MM-DD`. Whole seconds are taken first, so no rounding carries 23:59:59.9999 into the next day."""

    inherit_cache = True
    type = sa.Text()

    def __init__(self, seconds: ColumnElement[float]) -> None:
        self.seconds = seconds

    _traverse_internals = [("seconds", sa.sql.visitors.InternalTraversal.dp_clauseelement)]


@compiles(utc_day, "sqlite")
def _day_in_sqlite(element: utc_day, compiler: Any, **options: Any) -> str:
    return f"date(CAST({compiler.process(element.seconds, **options)} AS INTEGER), 'unixepoch')"


@compiles(utc_day, "postgresql")
def _day_in_postgresql(element: utc_day, compiler: Any, **options: Any) -> str:
    return f"to_char(to_timestamp(floor({compiler.process(element.seconds, **options)})) AT TIME ZONE 'UTC', 'YYYY-MM-DD')"
