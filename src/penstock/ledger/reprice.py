"""Prices for rows that got none: a newer list, or prices of one's own, know the model by now.

A row that has a price keeps it, whatever lists say today; a row without one gets what it would get today for its own time. The hour that it stands
in is void at once and summed again. What was retired is only kept as sums and stays as it is, and so does what budgets were charged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import sqlalchemy as sa

from penstock.ledger.entry import KINDS
from penstock.ledger.retention import UNPRICED
from penstock.ledger.rollup import void
from penstock.ledger.schema import HOUR_S, exchanges
from penstock.ledger.store import Store
from penstock.pricing import Prices, Stated, take_apart
from penstock.vocabulary.usage import NO_KINDS, Kinds

BATCH = 500
"""Rows of one transaction."""
_COUNTED = tuple(name for name in Stated.__annotations__ if name != "kinds")
_READ = ("id", "started_at", "provider", "model", "requested_model", "service_tier", "upstream_protocol", "client_protocol", *_COUNTED, *KINDS)


@dataclass(slots=True)
class Repriced:
    """What became of the rows without a price."""

    priced: int = 0
    nanousd: int = 0
    """What they cost, in billionths of a US dollar."""
    unknown: int = 0
    """Those that still have none."""


def reprice(store: Store, prices: Prices, now: float, *, since: float | None = None, until: float | None = None) -> Repriced:
    """`since`, `until`, `now`: seconds since the epoch. Blocks; raises `StoreError`."""
    total, after = Repriced(), (float("-inf") if since is None else since, "")
    while rows := store.read(lambda connection, after=after: _unpriced(connection, after, until)):
        found = [(row, price) for row in rows if (price := _price(prices, row)) is not None]
        if found:
            done = store.change(lambda connection, found=found: _write(connection, found, now))
            total.priced += done.priced
            total.nanousd += done.nanousd
        total.unknown += len(rows) - len(found)
        after = rows[-1]["started_at"], rows[-1]["id"]
    return total


def _unpriced(connection: sa.Connection, after: tuple[float, str], until: float | None) -> list[Any]:
    """The next of them, in order of time. One that was replayed cost nothing of its own."""
    table = exchanges.c
    conditions = [UNPRICED == 1, table.outcome.is_not(None), table.replay.is_(None), sa.tuple_(table.started_at, table.id) > after]
    if until is not None:
        conditions.append(table.started_at < until)
    statement = sa.select(*(table[name] for name in _READ)).where(*conditions).order_by(table.started_at, table.id).limit(BATCH)
    return [dict(row) for row in connection.execute(statement).mappings()]


def _price(prices: Prices, row: dict[str, Any]) -> tuple[int, str] | None:
    kinds = Kinds(*(row[name] for name in KINDS))
    stated = SimpleNamespace(**{name: row[name] for name in _COUNTED}, kinds=None if kinds == NO_KINDS else kinds)
    counts = take_apart(row["upstream_protocol"] or row["client_protocol"], cast("Stated", stated))
    if counts is None:
        return None
    found = prices.price(row["provider"], row["model"], row["requested_model"], row["service_tier"], counts, row["started_at"])
    return None if found is None else (found.nanos, found.source)


def _write(connection: sa.Connection, found: Sequence[tuple[dict[str, Any], tuple[int, str]]], now: float) -> Repriced:
    done, hours = Repriced(), set[int]()
    for row, (nanos, source) in found:
        there = (exchanges.c.id == row["id"], exchanges.c.cost_nanousd.is_(None))
        if connection.execute(sa.update(exchanges).where(*there).values(cost_nanousd=nanos, price_version=source)).rowcount:
            done.priced += 1
            done.nanousd += nanos
            hours.add(int(row["started_at"] // HOUR_S))
    void(connection, hours, now)
    return done
