"""Old rows become daily sums, in the same transaction, so that what `query.usage` adds up never changes.

Days are UTC days, and only whole days are retired: the cut lies at midnight. A row that is still open stays, however old.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from penstock.ledger import staying
from penstock.ledger.schema import COUNTS, DIMENSIONS, HOUR_S, OPEN, SUMS, daily, exchanges, hourly, rolled, utc_day
from penstock.vocabulary.ids import GENERATING
from penstock.vocabulary.outcome import Ending
from penstock.vocabulary.usage import Provenance

DAY_S = 86400

GENERATES = exchanges.c.operation.in_(sorted(operation.value for operation in GENERATING))
UNREPORTED = sa.case(
    (
        sa.and_(
            # The condition that seldom holds comes first: databases look no further.
            sa.func.coalesce(exchanges.c.usage_source, "") != Provenance.REPORTED.value,
            sa.func.coalesce(exchanges.c.outcome, "") != Ending.REFUSED.value,
            sa.func.coalesce(exchanges.c.upstream_status, 0) < 400,
            exchanges.c.replay.is_(None),  # nothing was used for it
            GENERATES,
        ),
        1,
    ),
    else_=0,
)
"""1 for an exchange that may have used tokens and whose provider did not give the final figures: sums lack them."""


UNPRICED = sa.case(
    (
        sa.and_(
            exchanges.c.cost_nanousd.is_(None),
            exchanges.c.usage_source.in_([Provenance.REPORTED.value, Provenance.PARTIAL.value, Provenance.ESTIMATED.value]),
            GENERATES,
        ),
        1,
    ),
    else_=0,
)
"""1 for an exchange that used tokens whose price nobody knows: costs lack it."""


def cutoff(now: float, days: int) -> float:
    """The midnight before which rows are retired, in seconds since the epoch."""
    return (now // DAY_S - days) * DAY_S


def retire(connection: sa.Connection, before: float, limit: int) -> int:
    """Sum and delete up to `limit` settled rows begun before that time; returns how many. 0 when none is left, when another process is at it, or
    where rows are to stay (`staying`; of SQLite's the caller knows)."""
    if connection.dialect.name == "postgresql" and not staying.may_retire(connection):
        return 0
    chosen = sa.select(exchanges.c.id).where(exchanges.c.started_at < before, ~OPEN).order_by(exchanges.c.started_at).limit(limit)
    # Named one by one and locked: what is summed is what is deleted, whoever writes meanwhile.
    ids = list(connection.execute(chosen.with_for_update()).scalars())
    if not ids:
        return 0
    those = exchanges.c.id.in_(ids)
    day = utc_day(exchanges.c.started_at)
    dimensions = [sa.func.coalesce(exchanges.c[name], "") for name in DIMENSIONS]
    summed = sa.select(
        day, *dimensions, sa.func.count(), sa.func.sum(UNREPORTED), sa.func.sum(UNPRICED),
        *(sa.cast(sa.func.sum(exchanges.c[name]), sa.BigInteger) for name in SUMS)
    ).where(those).group_by(day, *dimensions)  # fmt: skip
    insert = postgresql.insert(daily) if connection.dialect.name == "postgresql" else sqlite.insert(daily)
    insert = insert.from_select([column.name for column in daily.columns], summed)
    new = insert.excluded
    sums: dict[str, Any] = {name: daily.c[name] + new[name] for name in COUNTS}
    # Unknown and unknown stay unknown; unknown and a number give the number.
    sums |= {name: sa.func.coalesce(daily.c[name] + new[name], daily.c[name], new[name]) for name in SUMS}
    connection.execute(insert.on_conflict_do_update(index_elements=["day", *DIMENSIONS], set_=sums))
    connection.execute(sa.delete(exchanges).where(those))
    # The hours that these rows were in are not summed any more: what is left of them is read row by row.
    for table in (hourly, rolled):
        connection.execute(sa.delete(table).where(table.c.hour < before // HOUR_S, table.c.hour >= 0))
    return len(ids)
