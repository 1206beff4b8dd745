"""Where `query.usage` takes its figures from, each as a SELECT of the same columns: retired days, closed hours, and rows for all that is in neither.

The columns: what is grouped by, the operation (`OPERATION`), `schema.COUNTS`, `schema.SUMS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from math import ceil, floor
from typing import Any

import sqlalchemy as sa

from penstock.ledger.retention import UNPRICED, UNREPORTED
from penstock.ledger.rollup import holding
from penstock.ledger.schema import COUNTS, HOUR_S, SUMS, TOKENS, daily, exchanges, hourly, rolled, utc_day
from penstock.ledger.whose import Whose
from penstock.vocabulary.ids import GENERATING

Filters = Mapping[str, str | Whose | None]
_GENERATED = (*TOKENS, "web_searches")
_GENERATING = sorted(operation.value for operation in GENERATING)
OPERATION = "of_operation"
_EVER = 1e15
"""Seconds: before and after all rows."""


def day_of(seconds: float) -> str:
    """The UTC day of a time in seconds since the epoch, as `YYYY-MM-DD`."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%d")


def of_rows(names: Sequence[str], filters: Filters, since: float | None, until: float | None, hours: sa.CTE) -> sa.Select[Any]:
    """Of the rows in the gaps between summed hours."""
    gap = _gaps(since, until, hours)
    start = exchanges.c.started_at
    keys = {name: utc_day(start) if name == "day" else sa.func.coalesce(exchanges.c[name], "") for name in names}
    wanted = _wanted(lambda name: sa.func.coalesce(exchanges.c[name], ""), filters)
    counts = (sa.func.count(), sa.func.sum(UNREPORTED), sa.func.sum(UNPRICED))
    return _summed_by(keys, exchanges, counts).select_from(gap.join(exchanges, sa.and_(start >= gap.c.begin, start < gap.c.end))).where(*wanted)


def of_hours(names: Sequence[str], filters: Filters, hours: sa.CTE) -> sa.Select[Any]:
    """Of the summed hours."""
    start = hourly.c.hour * float(HOUR_S)
    keys = {name: utc_day(start) if name == "day" else hourly.c[name] for name in names}
    wanted = _wanted(lambda name: hourly.c[name], filters)
    return _summed_by(keys, hourly).select_from(hours.join(hourly, hourly.c.hour == hours.c.hour)).where(*wanted)


def of_days(names: Sequence[str], filters: Filters, since: float | None, until: float | None, *, begun: bool) -> sa.Select[Any]:
    """Of rows that are retired. `begun`: only of days whose midnight lies in the time."""
    conditions = _wanted(lambda name: daily.c[name], filters)
    if since is not None:
        conditions.append(daily.c.day > day_of(since) if begun and since % 86400 else daily.c.day >= day_of(since))
    if until is not None:
        # `until` at midnight sharp leaves that day out.
        last = day_of(until)
        conditions.append(daily.c.day < last if until % 86400 == 0 else daily.c.day <= last)
    return _summed_by({name: daily.c[name] for name in names}, daily).where(*conditions)


def _wanted(column: Callable[[str], sa.ColumnElement[Any]], filters: Filters) -> list[sa.ColumnElement[bool]]:
    given = [(name, value) for name, value in filters.items() if value is not None]
    return [value.holds(column) if isinstance(value, Whose) else column(name) == value for name, value in given]


def figures(parts: sa.Subquery) -> list[sa.ColumnElement[Any]]:
    """The sums over all parts, by name. Tokens count only where something was generated."""
    generates = parts.c[OPERATION].in_(_GENERATING)
    summed = {name: sa.case((generates, parts.c[name])) if name in _GENERATED else parts.c[name] for name in (*COUNTS, *SUMS)}
    return [sa.cast(sa.func.sum(column), sa.BigInteger).label(name) for name, column in summed.items()]  # PostgreSQL sums to numeric.


def _summed_by(keys: Mapping[str, sa.ColumnElement[Any]], table: sa.Table, counts: Sequence[Any] | None = None) -> sa.Select[Any]:
    """Summed by keys and operation: what depends on the operation is then asked once per sum and not once per row."""
    operation: sa.ColumnElement[str] = sa.func.coalesce(table.c.operation, "")
    if counts is None:
        counts = [sa.func.sum(table.c[name]) for name in COUNTS]
    sums = [*(count.label(name) for name, count in zip(COUNTS, counts, strict=True)), *(sa.func.sum(table.c[name]).label(name) for name in SUMS)]
    statement: sa.Select[Any] = sa.select(*(key.label(name) for name, key in keys.items()), operation.label(OPERATION), *sums)
    return statement.group_by(*keys.values(), operation)


def summed(since: float | None, until: float | None) -> sa.CTE:
    """The summed hours that lie in the time as a whole."""
    conditions = [holding()]
    if since is not None:
        conditions.append(rolled.c.hour >= ceil(since / HOUR_S))
    if until is not None:
        conditions.append(rolled.c.hour < floor(until / HOUR_S))
    return sa.select(rolled.c.hour).where(*conditions).cte("summed")


def _gaps(since: float | None, until: float | None, hours: sa.CTE) -> sa.Subquery:
    """`begin` and `end` of the times between summed hours. (Each hour ends one gap and begins the next.)"""
    first, last = -_EVER if since is None else since, _EVER if until is None else until
    hour = float(HOUR_S)
    edges = sa.union_all(
        sa.select(sa.literal(first, sa.Double).label("begin"), sa.literal(first, sa.Double).label("ended")),
        sa.select(((hours.c.hour + 1) * hour).label("begin"), (hours.c.hour * hour).label("ended")),
    ).subquery("edges")
    end = sa.func.coalesce(sa.func.lead(edges.c.ended).over(order_by=edges.c.begin), sa.literal(last, sa.Double)).label("end")
    gaps = sa.select(edges.c.begin, end).subquery("gaps")
    return sa.select(gaps.c.begin, gaps.c.end).where(gaps.c.begin < gaps.c.end).subquery("gap")
