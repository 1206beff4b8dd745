"""Old rows become daily sums, and no sum changes by it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from penstock.ledger import query
from penstock.ledger.retention import DAY_S, cutoff
from penstock.ledger.settings import LedgerSettings
from penstock.ledger.store import Store
from tests.support.ledgers import COMPLETE, GONE, MIDNIGHT, make_row, put_empty_ledger

words = st.sampled_from([None, "", "a", "b"])
counts = st.one_of(st.none(), st.integers(0, 10**12))
rows = st.lists(
    st.fixed_dictionaries({
        "started_at": st.floats(MIDNIGHT, MIDNIGHT + 4 * DAY_S, allow_nan=False).map(lambda at: round(at, 6)),
        "provider": words,
        "model": words,
        "requested_model": words,
        "key_fingerprint": words,
        "operation": st.sampled_from(["chat", "messages", "count_tokens", "response_item", None]),
        "usage_source": st.sampled_from([None, "reported", "partial"]),
        "input_tokens": counts,
        "output_tokens": counts,
        "bytes_out": counts,
        "settled": st.sampled_from([None, COMPLETE, GONE]),
    }),
    max_size=14,
)


def _fill(store: Store, values: list[dict[str, Any]]) -> None:
    store.write([
        make_row(f"{at}", outcome=each["settled"], **{name: value for name, value in each.items() if name != "settled"})
        for at, each in enumerate(values)
    ])


def _sums(engine: sa.Engine, *, few: bool = False) -> list[list[dict[str, Any]]]:
    by: list[tuple[query.Group, ...]] = [(), *(() if few else ((name,) for name in query.GROUPS)), query.GROUPS]
    found = [query.usage(engine, group_by) for group_by in by]
    found.append(query.usage(engine, ("day", "model"), since=MIDNIGHT + DAY_S, until=MIDNIGHT + 3 * DAY_S))
    found.append(query.usage(engine, ("outcome",), provider="a", operation="chat"))
    return found


@given(values=rows, days=st.integers(0, 4), limit=st.integers(1, 7))
@profile(max_examples=6, deadline=None)
def test_no_sum_changes_when_rows_are_retired(values: list[dict[str, Any]], days: int, limit: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        settings = LedgerSettings(Path(directory))
        put_empty_ledger(settings)
        store = Store.open(settings)
        engine = query.connect(settings)
        _fill(store, values)
        before, brief = _sums(engine), _sums(engine, few=True)
        edge = MIDNIGHT + days * DAY_S
        retired = 0
        while taken := store.retire(edge, limit):
            assert taken <= limit
            retired += taken
            assert _sums(engine, few=True) == brief
        assert _sums(engine) == before
        assert retired == sum(1 for each in values if each["settled"] is not None and each["started_at"] < edge)
        left = query.exchanges(engine, 1000)
        assert all(row["started_at"] >= edge or row["outcome"] is None for row in left)
        engine.dispose()
        store.close()


@pytest.fixture
def store(any_settings: LedgerSettings) -> Iterator[Store]:
    store = Store.open(any_settings)
    yield store
    store.close()


def test_it_holds_in_each_database(any_settings: LedgerSettings, store: Store) -> None:
    kinds: list[dict[str, Any]] = [
        {"model": "a", "settled": COMPLETE},
        {"model": None, "settled": COMPLETE},
        {"model": "a", "operation": "count_tokens", "settled": GONE},
        {"settled": None},
    ]
    numbers = [{"started_at": MIDNIGHT + at * 10_000.25, "input_tokens": at, "output_tokens": None if at % 3 else 10**12} for at in range(40)]
    _fill(store, [kinds[at % 4] | each for at, each in enumerate(numbers)])
    engine = query.connect(any_settings)
    before = _sums(engine)
    while store.retire(MIDNIGHT + 3 * DAY_S, 5):
        assert _sums(engine) == before
    assert len(query.exchanges(engine, 1000)) < 40
    engine.dispose()


def test_the_edge_of_a_day_is_not_rounded_over(any_settings: LedgerSettings, store: Store) -> None:
    _fill(store, [{"started_at": MIDNIGHT - 0.0001, "settled": COMPLETE}, {"started_at": MIDNIGHT, "settled": COMPLETE}])
    engine = query.connect(any_settings)
    days = [(row["day"], row["exchanges"]) for row in query.usage(engine, ("day",))]
    engine.dispose()
    assert days == [("2023-11-14", 1), ("2023-11-15", 1)]


def test_the_cut_lies_at_midnight() -> None:
    assert cutoff(MIDNIGHT + 90 * DAY_S + 5.5, 90) == MIDNIGHT
    assert cutoff(MIDNIGHT + 90 * DAY_S - 0.5, 90) == MIDNIGHT - DAY_S
