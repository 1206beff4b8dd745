"""Statements that name few columns: whatever a batch looks like, the table holds what the rows say, and statements stay few."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st
from sqlalchemy.dialects import sqlite

from penstock.ledger import shapes
from penstock.ledger.engine import STATEMENTS
from penstock.ledger.entry import COLUMNS
from penstock.ledger.rows import Row
from penstock.ledger.schema import exchanges, metadata
from penstock.ledger.shapes import GROUPS, MOST, WORTH, Shapes

DIALECT = sqlite.dialect(paramstyle="qmark")  # type: ignore[no-untyped-call]
FIXED = ("id", "instance", "started_at", "late_settles")
KINDS = {column.name: column.type.python_type for column in exchanges.columns}


@pytest.fixture
def table() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    engine = sa.create_engine("sqlite://", creator=lambda: connection, poolclass=sa.StaticPool)
    metadata.create_all(engine, tables=[exchanges])
    yield connection
    connection.close()


def _row(at: int, *given: str) -> Row:
    values: dict[str, Any] = {name: KINDS[name](at + 1) for name in given}
    values |= {"id": f"{at:04}", "instance": "i1", "started_at": float(at), "late_settles": 0}
    return tuple(values.get(name) for name in COLUMNS)


def _held(table: sqlite3.Connection) -> list[Row]:
    return table.execute(f"SELECT {', '.join(COLUMNS)} FROM exchanges ORDER BY id").fetchall()


@profile(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(masks=st.lists(st.sets(st.sampled_from([name for name in COLUMNS if name not in FIXED]), max_size=12), min_size=1, max_size=80))
def test_any_batch_is_stored_as_it_is(table: sqlite3.Connection, masks: list[set[str]]) -> None:
    table.execute("DELETE FROM exchanges")
    rows = [_row(at, *mask) for at, mask in enumerate(masks)]
    Shapes(DIALECT).write(table, rows)
    assert _held(table) == rows


class Counting:
    """A connection that tells what it was asked."""

    def __init__(self, table: sqlite3.Connection) -> None:
        self.table = table
        self.asked: list[tuple[str, int]] = []

    def execute(self, sql: str, values: list[Any]) -> None:
        self.asked.append((sql, sum(value is None for value in values)))
        self.table.execute(sql, values)


def test_a_column_that_no_row_of_a_batch_has_is_not_named(table: sqlite3.Connection) -> None:
    counting = Counting(table)
    made = Shapes(DIALECT)
    made.write(counting, [_row(at, "outcome", "model", "input_tokens") for at in range(WORTH)])  # pyright: ignore[reportArgumentType]
    made.write(counting, [_row(at + 100, "outcome", "model") for at in range(17)])  # pyright: ignore[reportArgumentType]
    assert [empty for _, empty in counting.asked] == [0, 0, 16, 1], "a column more is not worth a shape"
    assert len({sql for sql, _ in counting.asked}) == 3
    assert max(sql.count("?") for sql, _ in counting.asked) == 16 * 7


def test_shapes_stay_few_however_batches_look_and_small_ones_make_none(table: sqlite3.Connection) -> None:
    made = Shapes(DIALECT)
    before = len(made._made)  # pyright: ignore[reportPrivateUsage]
    rare = [name for name in COLUMNS if name not in FIXED]
    for at, name in enumerate(rare * 3):
        made.write(table, [_row(at * 100 + k, "outcome", name) for k in range(WORTH - 1)])
    assert len(made._made) == before  # pyright: ignore[reportPrivateUsage]
    for at, name in enumerate(rare):
        for other in rare:
            made.write(table, [_row(10_000 * at + k, "outcome", name, other, "model") for k in range(WORTH)])
    assert len(made._made) == MOST  # pyright: ignore[reportPrivateUsage]
    assert MOST * len(GROUPS) <= STATEMENTS
    assert len(made._near) <= shapes._CACHED  # pyright: ignore[reportPrivateUsage]


def test_one_row_that_ended_badly_does_not_widen_the_batch(table: sqlite3.Connection) -> None:
    counting = Counting(table)
    rows = [_row(at, "outcome", "model") for at in range(16)]
    bad = _row(50, "outcome", "tail", "timer", "error_message", "tries")
    Shapes(DIALECT).write(counting, [*rows, bad])  # pyright: ignore[reportArgumentType]
    assert counting.asked[0][0].count("?") == 16 * 6
    assert _held(table) == [*rows, bad]
