"""Money: whole billionths of a US dollar (`nanos`), because that is fine enough for one token of the cheapest model and sums of it stay exact
(a millionth would round a short embedding to nothing). Prices, which are given per million tokens, are kept as whole 10^-18 of a dollar per
token: every price list's figures are exact in that, discounts of a few digits included.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

NANOS: Final = 10**9
"""To the dollar."""
ATTOS: Final = 10**9
"""To the nano."""
MOST_NANOS: Final = 10**15
"""A million dollars: a cost beyond it is a mistake in somebody's figures; and sums over nine thousand such rows stay within 64 bits."""


def per_token(usd_per_million: Decimal) -> int:
    """10^-18 dollars per token. What is finer than that (a price with more than twelve decimals) is rounded half to even."""
    return int((usd_per_million * 10**12).to_integral_value())


def round_to_nanos(attos: int) -> int:
    """Half to even, so that a million rows do not lean to one side."""
    nanos, rest = divmod(attos, ATTOS)
    return nanos + (rest * 2 > ATTOS or (rest * 2 == ATTOS and nanos % 2 == 1))


def to_usd(nanos: int) -> Decimal:
    """Dollars, exact, without trailing zeros."""
    usd = Decimal(nanos).scaleb(-9).normalize()
    return usd.quantize(Decimal(1)) if usd == usd.to_integral_value() else usd


def show_usd(nanos: int) -> str:
    """For people: `$12.34`, `$0.0123`, `$0.000042`. Cents, or as many decimals as show three digits."""
    usd = Decimal(abs(nanos)).scaleb(-9)
    sign = "-" if nanos < 0 else ""
    if usd >= 1 or usd == 0:
        return f"{sign}${usd:,.2f}"
    places = min(9, 2 - usd.adjusted())
    return f"{sign}${usd:.{places}f}"
