"""Money for programs: exact decimals, named in dollars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NANO, USD = "_nanousd", "_usd"


def with_usd(row: Mapping[str, Any]) -> dict[str, Any]:
    """`row` with `..._usd`, an exact decimal, beside each `..._nanousd`."""
    from penstock.pricing import to_usd

    out: dict[str, Any] = {}
    for name, value in row.items():
        out[name] = value
        if NANO in name:
            out[name.replace(NANO, USD)] = None if value is None else to_usd(value)
    return out
