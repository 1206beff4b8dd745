"""Closed hours are summed, and no sum changes by it, whatever is written, replaced or retired afterwards."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st
from sqlalchemy import event

from penstock.ledger import query
from penstock.ledger.rollup import SETTLING_S, Roller
from penstock.ledger.schema import HOUR_S, hourly, rolled
from penstock.ledger.settings import LedgerSettings
from penstock.ledger.store import Store
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
from tests.support.ledgers import COMPLETE, GONE, MIDNIGHT, make_row, put_empty_ledger

CRASHED = Outcome(Ending.CRASHED, "its process died", EndedBy.GATEWAY)
words = st.sampled_from([None, "", "a", "b"])
counts = st.one_of(st.none(), st.integers(0, 10**9))
rows = st.lists(
    st.fixed_dictionaries({
        "started_at": st.one_of(st.integers(0, 30 * HOUR_S).map(float), st.sampled_from([0.0, HOUR_S - 0.001, float(HOUR_S), 24.0 * HOUR_S])),
        "provider": words, "model": words, "user_id": words, "session_id": words, "client": words, "effort": words, "project": words,
        "operation": st.sampled_from(["chat", "messages", "count_tokens", None]),
        "usage_source": st.sampled_from([None, "reported", "partial"]),
        "image_output_tokens": counts,
        "input_tokens": counts, "cost_nanousd": counts, "saved_nanousd": st.one_of(st.none(), st.integers(-(10**9), 10**9)), "bytes_out": counts,
        "settled": st.sampled_from([COMPLETE, COMPLETE, COMPLETE, GONE, CRASHED, None]),
    }),
    max_size=20,
)  # fmt: skip


def fill(store: Store, values: list[dict[str, Any]], prefix: str) -> None:
    store.write([
        make_row(f"{prefix}{at}", outcome=each["settled"],
                 **{name: MIDNIGHT + value if name == "started_at" else value for name, value in each.items() if name != "settled"})
        for at, each in enumerate(values)
    ])  # fmt: skip


def sums(engine: sa.Engine) -> list[list[dict[str, Any]]]:
    by: list[tuple[query.Group, ...]] = [(), ("day", "model"), ("user_id", "project", "session_id", "client", "effort", "outcome")]
    found = [query.usage(engine, names) for names in by]
    spans: tuple[tuple[int, int | None], ...] = ((HOUR_S, 3 * HOUR_S), (1800, 5 * HOUR_S + 1), (HOUR_S, None))
    for since, until in spans:
        found.append(query.usage(
            engine, ("model",), since=MIDNIGHT + since, until=None if until is None else MIDNIGHT + until))
    found.append(query.usage(engine, (), user_id="a", operation="chat"))
    return found


def held(store: Store) -> set[int]:
    return store.read(lambda connection: set(connection.execute(sa.select(rolled.c.hour)).scalars()))


@given(first=rows, later=rows)
@profile(max_examples=3, deadline=None)
def test_no_sum_changes_when_hours_are_summed(first: list[dict[str, Any]], later: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        settings = LedgerSettings(Path(directory))
        put_empty_ledger(settings)
        store = Store.open(settings)
        engine = query.connect(settings)
        roller = Roller(settings, store)
        fill(store, first, "a")
        before = sums(engine)
        roller.look()
        assert sums(engine) == before
        fill(store, later, "b")  # into hours that are summed already
        exact = [row["exchanges"] for row in query.usage(engine, ())]
        assert exact == [len(first) + len(later)]
        before = sums(engine)
        Roller(settings, store).look()
        assert sums(engine) == before
        store.retire(MIDNIGHT + 24 * HOUR_S, 10_000)
        assert sums(engine)[0] == before[0]
        engine.dispose()
        store.close()


def test_it_holds_in_each_database(any_settings: LedgerSettings) -> None:
    store = Store.open(any_settings)
    engine = query.connect(any_settings)
    fill(store, [
        {"started_at": at * 1000.0, "model": "ab"[at % 2], "operation": "chat", "input_tokens": at, "cost_nanousd": at, "settled": COMPLETE}
        for at in range(12)
    ], "a")  # fmt: skip
    before = sums(engine)
    assert Roller(any_settings, store).look() == 4
    assert sums(engine) == before
    assert Roller(any_settings, store).look() == 0, "what is summed is left alone"
    fill(store, [{"started_at": 10.0, "model": "a", "operation": "chat", "input_tokens": 1000, "cost_nanousd": 1, "settled": GONE}], "b")
    [total] = query.usage(engine, ())
    assert (total["exchanges"], total["input_tokens"], total["cost_nanousd"]) == (13, 66 + 1000, 66 + 1)
    assert Roller(any_settings, store).look() == 1
    [again] = query.usage(engine, ())
    assert again == total
    engine.dispose()
    store.close()


@pytest.mark.parametrize("outcome", [None, CRASHED])
def test_an_hour_with_rows_that_may_change_is_left_alone(settings: LedgerSettings, outcome: Outcome | None) -> None:
    store = Store.open(settings)
    engine = query.connect(settings)
    fill(store, [{"started_at": 1.0, "settled": COMPLETE}, {"started_at": 2.0, "settled": outcome}], "a")
    roller = Roller(settings, store)
    assert roller.look() == 0
    assert held(store) == set()
    store.write([make_row("a1", started_at=MIDNIGHT + 2.0, outcome=GONE, input_tokens=7)])
    assert query.usage(engine, ())[0]["input_tokens"] == 7
    assert Roller(settings, store).look() == 1
    assert query.usage(engine, ())[0]["input_tokens"] == 7
    engine.dispose()
    store.close()


def test_an_hour_is_summed_when_it_is_over(settings: LedgerSettings) -> None:
    now = MIDNIGHT + HOUR_S + SETTLING_S - 1
    store = Store.open(settings, clock=lambda: now)
    fill(store, [{"started_at": 1.0, "settled": COMPLETE}, {"started_at": float(HOUR_S), "settled": COMPLETE}], "a")
    roller = Roller(settings, store)
    assert roller.look() == 0
    now += 2
    assert roller.look() == 1
    assert held(store) == {int(MIDNIGHT // HOUR_S)}
    store.close()


def test_retired_hours_are_forgotten(settings: LedgerSettings) -> None:
    store = Store.open(settings)
    fill(store, [{"started_at": 1.0, "settled": COMPLETE}, {"started_at": 25.0 * HOUR_S, "settled": COMPLETE}], "a")
    assert Roller(settings, store).look() == 2
    store.retire(MIDNIGHT + 24 * HOUR_S, 10)
    assert held(store) == {int(MIDNIGHT // HOUR_S) + 25}
    assert store.read(lambda connection: connection.scalar(sa.select(sa.func.count()).select_from(hourly))) == 1
    store.close()


def test_the_plan_reads_no_row_of_a_summed_hour(settings: LedgerSettings) -> None:
    """SQLite looks rows up by the index of their times, gap by gap; a scan of the table would read them all."""
    store = Store.open(settings)
    fill(store, [{"started_at": 1.0, "settled": COMPLETE}], "a")
    Roller(settings, store).look()
    store.close()
    engine = query.connect(settings)
    asked: list[tuple[str, Any]] = []

    @event.listens_for(engine, "before_cursor_execute")
    def _(_c: Any, _u: Any, statement: str, parameters: Any, _x: Any, _m: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        asked.append((statement, parameters))

    query.usage(engine, ("model", "day"))
    with engine.connect() as connection:
        statement, parameters = next(pair for pair in asked if "exchanges" in pair[0])
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
    engine.dispose()
    assert not [line for line in plan if line.startswith("SCAN exchanges")], plan
    assert [line for line in plan if "exchanges_started_at" in line]
