"""Rows without a price get the one that is known now; those with one keep it; and every sum is the sum of the rows."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.ledger import query
from penstock.ledger import reprice as module
from penstock.ledger.entry import row_of
from penstock.ledger.reprice import reprice
from penstock.ledger.rollup import Roller, put, sum_up
from penstock.ledger.schema import HOUR_S, rolled
from penstock.ledger.settings import LedgerSettings
from penstock.ledger.store import Store
from penstock.pricing import OwnPrice, Prices, Rates, take_apart
from penstock.routing import Glob
from penstock.vocabulary.usage import Kinds, Provenance, Usage
from tests.support.ledgers import COMPLETE, GONE, MIDNIGHT, make_entry, make_row

NOW = MIDNIGHT + 100 * HOUR_S
MINE = OwnPrice(model=Glob("mine"), rates=Rates(input=Decimal(1), output=Decimal(2)))
PRICES = Prices([MINE])
SPENT: dict[str, Any] = {"model": "mine", "input_tokens": 10, "output_tokens": 5, "usage_source": "reported"}
"""20 millionths of a dollar."""
PARTLY: dict[str, Any] = {**SPENT, "usage_source": "partial"}
UNNAMED: dict[str, Any] = {**SPENT, "model": None}
UNKNOWN: dict[str, Any] = {**SPENT, "model": "nobody-knows-it"}


@pytest.fixture
def store(any_settings: LedgerSettings) -> Iterator[Store]:
    made = Store.open(any_settings, clock=lambda: NOW)
    yield made
    made.close()


def priced(store: Store) -> dict[str, tuple[int | None, str | None]]:
    columns = sa.text("SELECT id, cost_nanousd, price_version FROM exchanges")
    return {row[0]: (row[1], row[2]) for row in store.read(lambda connection: list(connection.execute(columns)))}


def totals(settings: LedgerSettings) -> tuple[Any, ...]:
    reader = query.connect(settings)
    [total] = query.usage(reader, ())
    reader.dispose()
    return total["exchanges"], total["cost_nanousd"], total["unpriced"]


def test_only_what_has_no_price_gets_one(store: Store, any_settings: LedgerSettings) -> None:
    store.write([
        make_row("a", outcome=COMPLETE, **SPENT),
        make_row("b", started_at=MIDNIGHT + 1, outcome=GONE, **PARTLY),
        make_row("dear", outcome=COMPLETE, cost_nanousd=7, price_version="old list", **SPENT),
        make_row("free", outcome=COMPLETE, cost_nanousd=0, price_version="old list", **SPENT),
        make_row("other", outcome=COMPLETE, requested_model="x", **UNKNOWN),
        make_row("asked", outcome=COMPLETE, requested_model="mine", **UNNAMED),
        make_row("counted", operation="count_tokens", outcome=COMPLETE, **SPENT),
        make_row("replayed", outcome=COMPLETE, replay="hit", **SPENT),
        make_row("nothing", outcome=COMPLETE, model="mine", usage_source="none"),
        make_row("open", **SPENT),
    ])
    before = priced(store)
    done = reprice(store, PRICES, NOW)
    assert (done.priced, done.nanousd, done.unknown) == (3, 60_000, 1)
    after = priced(store)
    assert {id: found for id, found in after.items() if found != before[id]} == dict.fromkeys(("a", "b", "asked"), (20_000, MINE.version))
    assert after["dear"] == (7, "old list")
    assert totals(any_settings)[1] == 60_007
    again = reprice(store, Prices([OwnPrice(model=Glob("mine"), rates=Rates(input=Decimal(9)))]), NOW)
    assert (again.priced, priced(store)) == (0, after), "a price stays, whatever is known later"


def test_kinds_of_tokens_get_their_own_rates_later_too(store: Store) -> None:
    """Whoever reads the row later finds what whoever wrote it knew."""
    rates = Rates(Decimal(1), Decimal("0.5"), audio_input=Decimal(3), output=Decimal(2), image_output=Decimal(30), cache_read_audio=Decimal(2))
    entry = make_entry("picture", MIDNIGHT, instance="i1", model="mine", client_protocol="gemini", operation="generate")
    entry.account(Usage(100, 1303, 50, audio_input=40, kinds=Kinds(image_output=1290, cache_read_audio=10)), Provenance.REPORTED)
    entry.settle(COMPLETE, MIDNIGHT + 1)
    store.write([row_of(entry)])
    done = reprice(store, Prices([OwnPrice(model=Glob("mine"), rates=rates)]), NOW)
    cost = (20 * 1 + 30 * 3 + 10 * 2) * 1000 + 40 * 500 + (13 * 2 + 1290 * 30) * 1000
    assert (done.priced, done.nanousd) == (1, cost)
    counts = take_apart("gemini", entry)
    assert counts is not None
    found = Prices([OwnPrice(model=Glob("mine"), rates=rates)]).price("p", "mine", None, None, counts, NOW)
    assert found is not None
    assert found.nanos == cost


def test_in_a_time_and_over_many_batches(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    store.write([make_row(f"x{n}", started_at=MIDNIGHT + n // 3, outcome=COMPLETE, **SPENT) for n in range(12)])
    assert reprice(store, PRICES, NOW, since=MIDNIGHT + 1, until=MIDNIGHT + 3).priced == 6
    assert sorted(id for id, (cost, _) in priced(store).items() if cost) == ["x3", "x4", "x5", "x6", "x7", "x8"]
    assert reprice(store, PRICES, NOW).priced == 6


def test_hours_that_were_summed_are_void_and_summed_again(store: Store, any_settings: LedgerSettings) -> None:
    store.write([make_row(f"x{n}", started_at=MIDNIGHT + n * HOUR_S, outcome=COMPLETE, **SPENT) for n in range(3)])
    store.write([make_row("dear", started_at=MIDNIGHT + 5 * HOUR_S, outcome=COMPLETE, cost_nanousd=1, **SPENT)])
    roller = Roller(any_settings, store)
    assert roller.look() == 4
    assert totals(any_settings) == (4, 1, 3)
    reprice(store, PRICES, NOW, until=MIDNIGHT + 2 * HOUR_S)
    assert totals(any_settings) == (4, 40_001, 1), "the rows are read"
    assert roller.look() == 2, "the hours of the two, and no other"
    assert totals(any_settings) == (4, 40_001, 1)


def test_an_hour_that_is_being_summed_meanwhile_is_not_put_in(store: Store, any_settings: LedgerSettings) -> None:
    store.write([make_row("x", outcome=COMPLETE, **SPENT)])
    hour = int(MIDNIGHT // HOUR_S)
    for _ in range(2):  # the first time there is no mark yet
        found = store.read(lambda connection: sum_up(connection, hour))
        assert found is not None
        store.change(lambda connection: connection.execute(sa.text("UPDATE exchanges SET cost_nanousd = NULL")))
        assert reprice(store, PRICES, NOW).priced == 1
        assert not store.change(lambda connection, found=found: put(connection, hour, *found))
    assert totals(any_settings) == (1, 20_000, 0)
    assert Roller(any_settings, store).look() == 1
    store.retire(MIDNIGHT - HOUR_S, 10)
    assert store.read(lambda connection: connection.scalar(sa.select(sa.func.count()).select_from(rolled).where(rolled.c.hour < 0))) == 1
    assert totals(any_settings) == (1, 20_000, 0)
