"""Reading: sums by anything, the last exchanges by any filter, with a gateway running or without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from penstock.ledger import query
from penstock.ledger.entry import COLUMNS, row_of
from penstock.ledger.errors import LedgerError
from penstock.ledger.retention import DAY_S
from penstock.ledger.settings import LedgerSettings
from penstock.ledger.store import Store
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
from tests.support.ledgers import COMPLETE, GONE, MIDNIGHT, make_entry, make_row


@pytest.fixture
def reader(any_settings: LedgerSettings) -> Iterator[sa.Engine]:
    store = Store.open(any_settings)
    store.write([
        make_row("a1", started_at=MIDNIGHT, model="gpt-4o-2024", input_tokens=10, output_tokens=5, bytes_out=100, outcome=COMPLETE),
        make_row("a2", started_at=MIDNIGHT + 1, model="gpt-4o-2024", input_tokens=1, usage_source="partial", bytes_out=50, outcome=GONE),
        make_row("b1", started_at=MIDNIGHT + 2, provider="anthropic", operation="count_tokens", input_tokens=999, outcome=COMPLETE),
        make_row("b2", started_at=MIDNIGHT + DAY_S, provider="anthropic", operation="messages", requested_model="claude"),
        make_row("c%", started_at=MIDNIGHT + DAY_S + 1, outcome=Outcome(Ending.REFUSED, "no route", EndedBy.GATEWAY)),
    ])
    engine = query.connect(any_settings)
    yield engine
    engine.dispose()
    store.close()


def _ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in rows]


def test_usage_counts_everything_and_sums_only_what_generates(reader: sa.Engine) -> None:
    [total] = query.usage(reader, ())
    assert (total["exchanges"], total["input_tokens"], total["output_tokens"], total["bytes_out"], total["reasoning_tokens"]) == (5, 11, 5, 150, None)
    # a2 (partial) and b2 (open) may have used tokens that nobody reported; counting tokens and refusals use none.
    assert total["unreported"] == 2


def test_usage_by_group(reader: sa.Engine) -> None:
    by_provider = {row["provider"]: (row["exchanges"], row["input_tokens"]) for row in query.usage(reader, ("provider",))}
    assert by_provider == {"openai": (3, 11), "anthropic": (2, None)}
    by_outcome = {row["outcome"]: row["exchanges"] for row in query.usage(reader, ("outcome",))}
    assert by_outcome == {"COMPLETE": 2, "CLIENT_GONE": 1, "REFUSED": 1, None: 1}
    by_day = [(row["day"], row["operation"], row["exchanges"]) for row in query.usage(reader, ("day", "operation"))]
    assert by_day == [("2023-11-15", "chat", 2), ("2023-11-15", "count_tokens", 1), ("2023-11-16", "chat", 1), ("2023-11-16", "messages", 1)]
    assert [row["model"] for row in query.usage(reader, ("model",))] == [None, "gpt-4o-2024"]


def test_usage_in_a_time(reader: sa.Engine) -> None:
    assert query.usage(reader, (), since=MIDNIGHT + 1, until=MIDNIGHT + DAY_S)[0]["exchanges"] == 2
    assert query.usage(reader, (), outcome="COMPLETE", provider="openai")[0]["exchanges"] == 1
    assert query.usage(reader, ("model",), since=MIDNIGHT + 9 * DAY_S) == []
    assert query.usage(reader, (), since=MIDNIGHT + 9 * DAY_S)[0]["exchanges"] == 0


def test_an_unknown_group_is_named(reader: sa.Engine) -> None:
    with pytest.raises(LedgerError, match="cannot be grouped by 'colour'; choose from day, month, provider"):
        query.usage(reader, cast("Any", ("colour",)))


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["c%", "b2", "b1", "a2", "a1"]),
        ({"last": 2}, ["c%", "b2"]),
        ({"outcome": "COMPLETE"}, ["b1", "a1"]),
        ({"outcome": ["COMPLETE", "CLIENT_GONE"]}, ["b1", "a2", "a1"]),
        ({"provider": "anthropic"}, ["b2", "b1"]),
        ({"model": "gpt-4o-2024"}, ["a2", "a1"]),
        ({"model": "claude"}, ["b2"]),
        ({"operation": "count_tokens"}, ["b1"]),
        ({"since": MIDNIGHT + 1, "until": MIDNIGHT + DAY_S}, ["b1", "a2"]),
        ({"id_prefix": "a"}, ["a2", "a1"]),
        ({"id_prefix": "A"}, ["a2", "a1"]),
        ({"id_prefix": "c%"}, ["c%"]),
        ({"id_prefix": "%"}, []),
        ({"open_only": True}, ["b2"]),
        ({"last": 0}, []),
    ],
)
def test_the_last_exchanges_by_filter(reader: sa.Engine, filters: dict[str, Any], expected: list[str]) -> None:
    assert _ids(query.exchanges(reader, **filters)) == expected


def test_rows_are_keyed_as_the_columns_are(reader: sa.Engine) -> None:
    row = query.exchange(reader, "a1")
    assert row is not None
    assert tuple(row) == tuple(name for name in COLUMNS if name != "tail_bytes"), "what a model wrote is only read on demand"
    assert (row["outcome"], row["cause"], row["ended_by"], row["input_tokens"], row["streamed"]) == ("COMPLETE", COMPLETE.cause, "upstream", 10, None)
    assert query.exchange(reader, "zz") is None


@pytest.mark.parametrize(
    ("values", "outcome", "shown"),
    [
        ({"streamed": True, "status": 200}, GONE, "incomplete"),
        ({"streamed": True, "status": 200, "stop_reason": "length"}, GONE, "length"),
        ({"streamed": True, "status": 200}, COMPLETE, None),
        ({"streamed": True, "status": 502}, Outcome(Ending.UPSTREAM_LOST, "refused", EndedBy.UPSTREAM), None),
        ({"streamed": True, "status": 200}, Outcome(Ending.UNVERIFIED, "too large", EndedBy.GATEWAY), None),
        ({"streamed": True}, GONE, None),
        ({"streamed": False, "status": 200}, GONE, None),
        ({"streamed": True, "status": 200}, None, None),
    ],
)
def test_a_cut_stream_without_a_stop_reason_reads_incomplete(
    settings: LedgerSettings, values: dict[str, Any], outcome: Outcome | None, shown: str | None
) -> None:
    store = Store.open(settings)
    store.write([make_row("a", outcome=outcome, **values)])
    row = query.exchange(query.connect(settings), "a")
    store.close()
    assert row is not None
    assert row["stop_reason"] == shown


def test_a_reader_changes_nothing(any_settings: LedgerSettings, reader: sa.Engine) -> None:
    with pytest.raises(DBAPIError, match=r"read-?only"), reader.begin() as connection:
        connection.exec_driver_sql("DELETE FROM exchanges")


def test_where_there_is_no_ledger_none_is_made(tmp_path: Path) -> None:
    with pytest.raises(query.LedgerMissing, match="penstock serve"):
        query.connect(LedgerSettings(tmp_path))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "ledger.db").touch()
    with pytest.raises(query.LedgerMissing):
        query.connect(LedgerSettings(tmp_path))


def test_what_a_model_wrote_is_in_no_list_and_read_by_name(any_settings: LedgerSettings) -> None:
    store = Store.open(any_settings)
    entry = make_entry("a", instance="i1")
    entry.keep_bytes(b"\x00\xff half a call")
    entry.settle(COMPLETE, MIDNIGHT)
    store.write([row_of(entry), make_row("b")])
    store.close()
    reader = query.connect(any_settings)
    assert "tail_bytes" not in query.exchanges(reader)[0]
    assert [query.kept_bytes(reader, id) for id in ("a", "b", "zz")] == [b"\x00\xff half a call", None, None]
    reader.dispose()
