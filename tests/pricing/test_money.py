"""Money: exact, rounded once, shown so that people see three digits."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.pricing.money import ATTOS, NANOS, per_token, round_to_nanos, show_usd, to_usd


@given(st.integers(-(10**30), 10**30))
def test_rounding_is_half_to_even(attos: int) -> None:
    assert round_to_nanos(attos) == (Decimal(attos) / ATTOS).quantize(Decimal(1), ROUND_HALF_EVEN)


@given(st.integers(-(10**15), 10**15))
def test_dollars_are_exact(nanos: int) -> None:
    assert to_usd(nanos) * NANOS == nanos


def test_a_price_per_million_is_exact_per_token() -> None:
    assert per_token(Decimal("0.0375")) * 10**6 == Decimal("0.0375") * 10**18
    assert round_to_nanos(per_token(Decimal("3")) * 10**6) == 3 * NANOS


@pytest.mark.parametrize(("nanos", "shown"), [
    (0, "$0.00"), (1_234_567_890_123, "$1,234.57"), (1_000_000_000, "$1.00"), (123_456_789, "$0.123"), (12_345_678, "$0.0123"),
    (42_000, "$0.0000420"), (1, "$0.000000001"), (-12_345_678, "-$0.0123"), (-5_000_000_000, "-$5.00"),
])  # fmt: skip
def test_shown(nanos: int, shown: str) -> None:
    assert show_usd(nanos) == shown
