"""How rows are put into SQLite at the least cost: many rows in one statement, and no column named that none of them has a value for.

What costs (CPU, per value): sqlite3 spends 20 ns on a number, 75 on a text, and 270 on each value whose exact type it does not know: None,
bool, members of an enum. So it is given few of those: each batch is written by a shape, a statement's columns, that fits it closely. A new
shape costs some milliseconds once: it is only made for a batch that is worth it, and at most `MOST` are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, compress
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from penstock.ledger.entry import COLUMNS, KINDS
from penstock.ledger.rows import Row
from penstock.ledger.schema import exchanges
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.vocabulary.outcome import Ending

GROUPS = (16, 4, 1)
"""Rows per statement. sqlite3 gives the GIL away once per statement, and each time it must win it back from the event loop: with one row
per statement that costs more than the rows. Few sizes, and none beyond 16: SQLite holds 30 to 220 KiB for each statement that is prepared."""
MOST = 24
WORTH = 8
"""Rows of a batch for which a shape may be made."""
SPARE = 2
"""Columns that a shape may name in vain before a closer one is made."""

_OUTCOME = COLUMNS.index("outcome")
_rare = itemgetter(*(COLUMNS.index(name) for name in ("error_type", "error_code", "error_message", "timer", "tries", "tail", "tail_bytes")))
_NOTHING_RARE = (None,) * 7
_NOT_PLAIN = tuple(COLUMNS.index(name) for name in ("streamed", "operation", "client_protocol", "upstream_protocol"))
_FIXED = frozenset({"id", "instance", "started_at"})
"""Known when a row is opened and never changed: left out of updates, so that their indexes are left alone."""
_AT_OPENING = frozenset({
    "id", "instance", "started_at", "provider", "client_protocol", "upstream_protocol", "operation", "method", "path", "streamed",
    "requested_model", "bytes_in", "user_agent", "key_fingerprint", "late_settles", "route", "session_id", "client",
})
_SELDOM = frozenset({
    "cache_write_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "audio_input_tokens", "audio_output_tokens", "tool_use_tokens",
    "tool_requests", "error_type", "error_code", "error_message", "timer", "tries", "tail", "tail_bytes", "saved_nanousd", "service_tier",
    "web_searches", "user_id", "project", "effort", "preview", "origin",
    "key_id", "charged_input", "charged_output", "charged_micros", "rule", "findings", "held_chars", "held_ms", "replay", "replay_of",
    "avoided_nanousd", *KINDS,
})
Mask = tuple[bool, ...]
"""Which of `COLUMNS` have a value."""
_ALWAYS: tuple[Mask, ...] = (
    tuple(name in _AT_OPENING for name in COLUMNS), tuple(name not in _SELDOM for name in COLUMNS), (True,) * len(COLUMNS),
)  # fmt: skip
"""The shapes that are there from the start: of most rows when they are opened, of most when they are settled, of all."""
_CACHED = 512
"""Masks whose shape is kept in memory."""


def upsert(dialect: sa.Dialect, columns: Sequence[str] = COLUMNS) -> str:
    """INSERT of one row, overwriting an open one. What stands in the end does not depend on the order of writes:

    an ending stays, except that one told by the row's own instance replaces CRASHED, which was only concluded (`lease`).
    `columns`: those that are given, the others are NULL.
    """
    return _upsert(dialect.name == "postgresql", dialect.paramstyle, tuple(columns))


@lru_cache(maxsize=2 * MOST)
def _upsert(on_postgresql: bool, paramstyle: Any, columns: tuple[str, ...]) -> str:
    """Kept, because making one takes milliseconds: for every ledger that this process opens."""
    dialect: sa.Dialect = (postgresql if on_postgresql else sqlite).dialect(paramstyle=paramstyle)  # type: ignore[no-untyped-call]  # SQLAlchemy's
    insert = postgresql.insert(exchanges) if on_postgresql else sqlite.insert(exchanges)
    insert = insert.values({name: sa.bindparam(name, type_=exchanges.c[name].type) for name in columns})
    new, table = insert.excluded, exchanges.c
    crashed = sa.literal_column(f"'{Ending.CRASHED.value}'", sa.Text)
    statement = insert.on_conflict_do_update(
        index_elements=["id"],
        set_={name: new[name] for name in COLUMNS if name not in _FIXED},
        where=sa.or_(table.outcome.is_(None), sa.and_(table.outcome == crashed, new.outcome.is_not(None), table.instance == new.instance)),
    )
    compiled = statement.compile(dialect=dialect)
    assert list(compiled.positiontup or ()) == list(columns), "the statement must take a row as it is"
    return str(compiled)


class _Plain(dict[Any, Any]):
    """Looks a value up; one that is not listed stands for itself."""

    def __missing__(self, key: Any) -> Any:
        return str(key)


_PLAIN: dict[Any, Any] = _Plain({None: None, True: 1, False: 0} | {member.value: member.value for kind in (Operation, ProtocolId) for member in kind})


class Shape:
    """The statements for rows that have values in some columns only."""

    __slots__ = ("mask", "statements", "width")

    def __init__(self, dialect: sa.Dialect, mask: Mask) -> None:
        columns = tuple(compress(COLUMNS, mask))
        one = upsert(dialect, columns)
        slots = "(" + ", ".join("?" * len(columns)) + ")"
        self.mask = mask
        self.width = len(columns)
        self.statements = tuple((size, one.replace(slots, ", ".join([slots] * size), 1)) for size in GROUPS)


class Shapes:
    """Those that were needed so far. Used by one thread."""

    def __init__(self, dialect: sa.Dialect) -> None:
        self._dialect = dialect
        self._made = [Shape(dialect, mask) for mask in _ALWAYS]
        self._near: dict[Mask, Shape] = {}

    def write(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
        """Insert or overwrite the rows, within the caller's transaction. What is open, what ended well and what did not is written apart."""
        opened: list[Row] = []
        well: list[Row] = []
        badly: list[Row] = []
        for row in rows:
            (opened if row[_OUTCOME] is None else well if _rare(row) == _NOTHING_RARE else badly).append(row)
        for alike in (opened, well, badly):
            if alike:
                self._write(connection, alike)

    def _write(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
        columns: list[tuple[Any, ...]] = list(zip(*rows, strict=True))
        total = len(rows)
        # The first value tells of most columns; only a column that begins with None is looked through.
        shape = self._find(tuple([column[0] is not None or column.count(None) < total for column in columns]), total)
        for at in _NOT_PLAIN:
            columns[at] = tuple(map(_PLAIN.__getitem__, columns[at]))
        flat = list(chain.from_iterable(zip(*compress(columns, shape.mask), strict=True)))
        at = 0
        for size, sql in shape.statements:
            while total - at >= size:
                connection.execute(sql, flat[at * shape.width : (at + size) * shape.width])
                at += size

    def _find(self, used: Mask, rows: int) -> Shape:
        """The narrowest shape that has these columns. A closer one is made where that is worth it."""
        shape = self._near.get(used)
        if shape is None:
            wide = (made for made in self._made if all(has or not needs for has, needs in zip(made.mask, used, strict=True)))
            shape = min(wide, key=lambda made: made.width)  # the one with all columns is always there
            if len(self._near) >= _CACHED:
                self._near.clear()
            self._near[used] = shape
        if rows >= WORTH and shape.width - sum(used) > SPARE and len(self._made) < MOST:
            shape = Shape(self._dialect, used)
            self._made.append(shape)
            self._near = {used: shape}
        return shape
