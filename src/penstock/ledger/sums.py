"""Where `query.usage` takes its figures from, each as a SELECT of the same columns: retired days, closed hours, and rows for all that is in neither.

The columns: what is grouped by, `schema.COUNTS`, `schema.SUMS`. Tokens are only counted of operations that generate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from math import ceil, floor
from typing import Any

import sqlalchemy as sa

from penstock.ledger.retention import UNPRICED, UNREPORTED
from penstock.ledger.rollup import holding
from penstock.ledger.schema import COUNTS, HOUR_S, SUMS, TOKENS, daily, exchanges, hourly, rolled, utc_day
from penstock.vocabulary.ids import GENERATING

Filters = Mapping[str, str | None]
_GENERATED = (*TOKENS, "web_searches")
_GENERATING = sorted(operation.value for operation in GENERATING)
_EVER = 1e15
"""Seconds: before and after all rows."""


def day_of(seconds: float) -> str:
    """The UTC day of a time in seconds since the epoch, as `YYYY-MM-DD`."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%d")


def of_rows(names: Sequence[str], filters: Filters, since: float | None, until: float | None, hours: sa.CTE) -> sa.Select[Any]:
    """Of the rows in the gaps between summed hours."""
    gap = _gaps(since, until, hours)
    start = exchanges.c.started_at
    keys = [utc_day(start).label("day") if name == "day" else sa.func.coalesce(exchanges.c[name], "").label(name) for name in names]
    wanted = [sa.func.coalesce(exchanges.c[name], "") == value for name, value in filters.items() if value is not None]
    counts = (sa.literal_column("1", sa.BigInteger), UNREPORTED, UNPRICED)
    return (
        sa.select(*keys, *(count.label(name) for name, count in zip(COUNTS, counts, strict=True)), *_figures(exchanges))
        .select_from(gap.join(exchanges, sa.and_(start >= gap.c.begin, start < gap.c.end)))
        .where(*wanted)
    )


def of_hours(names: Sequence[str], filters: Filters, hours: sa.CTE) -> sa.Select[Any]:
    """Of the summed hours."""
    start = hourly.c.hour * float(HOUR_S)
    keys = [utc_day(start).label("day") if name == "day" else hourly.c[name] for name in names]
    wanted = [hourly.c[name] == value for name, value in filters.items() if value is not None]
    return (
        sa.select(*keys, *(hourly.c[name] for name in COUNTS), *_figures(hourly))
        .select_from(hours.join(hourly, hourly.c.hour == hours.c.hour))
        .where(*wanted)
    )


def of_days(names: Sequence[str], filters: Filters, since: float | None, until: float | None) -> sa.Select[Any]:
    """Of rows that are retired."""
    conditions = [daily.c[name] == value for name, value in filters.items() if value is not None]
    if since is not None:
        conditions.append(daily.c.day >= day_of(since))
    if until is not None:
        # `until` at midnight sharp leaves that day out.
        last = day_of(until)
        conditions.append(daily.c.day < last if until % 86400 == 0 else daily.c.day <= last)
    return sa.select(*(daily.c[name] for name in names), *(daily.c[name] for name in COUNTS), *_figures(daily)).where(*conditions)


def _figures(table: sa.Table) -> list[sa.ColumnElement[Any]]:
    generates = table.c.operation.in_(_GENERATING)
    return [sa.case((generates, table.c[name])).label(name) if name in _GENERATED else table.c[name].label(name) for name in SUMS]


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
