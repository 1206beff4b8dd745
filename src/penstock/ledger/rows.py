"""One row as a tuple: made clean for any database, and written as one line of the spill file. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Any

import msgspec
import sqlalchemy as sa

from penstock.ledger.entry import COLUMNS, LINE, TAIL_BYTES, TOKENS_LIMIT
from penstock.ledger.schema import TOKENS, exchanges
from penstock.pricing.money import MOST_NANOS

Row = tuple[Any, ...]
"""Values in the order of `COLUMNS`."""

_WHOLE = 2**63 - 1
_LIMITS: dict[str, int] = {
    **dict.fromkeys(TOKENS, TOKENS_LIMIT), **dict.fromkeys(("status", "upstream_status"), 2**31 - 1),
    **dict.fromkeys(("cost_nanousd", "saved_nanousd", "avoided_nanousd"), MOST_NANOS),
}  # fmt: skip
_WHOLE_TEXTS = {"tries": 32 * 1024, "findings": 32 * 1024, "tail": 32 * 1024, "tail_bytes": 4 * (TAIL_BYTES // 3 + 1)}
"""Characters. Texts that are of no use in part: one that is longer becomes unknown."""
_SIGNED = frozenset({"saved_nanousd"})
_PLAN: tuple[tuple[type, int, int], ...] = tuple(
    (bool, 0, 0) if isinstance(column.type, sa.Boolean)
    else (int, _LIMITS.get(column.name, _WHOLE), -MOST_NANOS if column.name in _SIGNED else 0) if isinstance(column.type, sa.Integer)
    else (float, 0, 0) if isinstance(column.type, sa.Double)
    else (str, _WHOLE_TEXTS.get(column.name, LINE), 0)
    for column in exchanges.columns
)  # fmt: skip
_LATE = COLUMNS.index("late_settles")
_STARTED = COLUMNS.index("started_at")


def clean(row: Row) -> Row:
    """`row` as every database takes it: what a provider or client made unstorable becomes unknown (`None`), text loses only what cannot be stored.

    Needed seldom (a count of 10^30, half of a surrogate pair, a NUL, NaN), so the hot path does not look: the database refuses, and
    then the batch is cleaned.
    """
    values = [_clean(value, kind, limit, least) for value, (kind, limit, least) in zip(row, _PLAN, strict=True)]
    values[_LATE] = values[_LATE] or 0
    values[_STARTED] = values[_STARTED] or 0.0
    return tuple(values)


def _clean(value: Any, kind: type, limit: int, least: int) -> Any:
    if value is None:
        return None
    if kind is str:
        text = str(value).encode("utf-8", "replace").decode().replace("\0", "")
        return text[:LINE] if limit == LINE else text if len(text) <= limit else None
    if kind is bool:
        return bool(value)
    if not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer beyond 10^308
        return None
    if not isfinite(number):
        return None
    if kind is float:
        return number
    return int(value) if least <= value <= limit else None


def spell(rows: Iterable[Row]) -> bytes:
    """The rows as JSON lines: an object by column name, unknown columns left out, each ended by LF."""
    lines = [msgspec.json.encode({name: value for name, value in zip(COLUMNS, clean(row), strict=True) if value is not None}) for row in rows]
    return b"".join(line + b"\n" for line in lines)


def read(line: bytes) -> Row | None:
    """The row of one line; `None` where it is torn or is no row. Columns that are not known here are left out, missing ones are unknown."""
    try:
        values = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not (isinstance(values.get("id"), str) and isinstance(values.get("instance"), str) and isinstance(values.get("started_at"), (int, float))):
        return None
    return clean(tuple(values.get(name) for name in COLUMNS))


def late(rows: Sequence[Row]) -> list[tuple[int, str]]:
    """`(late_settles, id)` of the rows that were settled more than once."""
    return [(row[_LATE], row[0]) for row in rows if row[_LATE]]
