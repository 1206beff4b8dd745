"""What an answer costs, for budgets of money: the ledger's prices, in the units that budgets count in."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import msgspec

from penstock.ledger.entry import Entry
from penstock.pricing import Prices, take_apart
from penstock.pricing.counts import Stated
from penstock.vocabulary.usage import Provenance, Usage

_MICRO = 1000
"""Billionths in a millionth."""
_Plain = cast("Callable[..., Stated]", msgspec.defstruct("_Plain", [*Stated.__annotations__], gc=False))
"""What a row would hold of usage without kinds, in the order in which `Stated` names it."""


class Costs:
    """Implements `admission.budget.charge.Pricing`."""

    __slots__ = ("_clock", "_prices")

    def __init__(self, prices: Prices, clock: Callable[[], float]) -> None:
        """`clock`: seconds since the epoch; prices change."""
        self._prices = prices
        self._clock = clock

    def __call__(self, provider: str, model: str | None, protocol: str, usage: Usage, requested: str | None, tier: str | None) -> int | None:
        """In millionths of a US dollar, a part of one counted as a whole; `None`: nobody knows what this model costs."""
        now = self._clock()
        if usage.kinds is None:
            stated = _Plain(
                usage.input, usage.output, usage.cache_read, usage.cache_write, usage.cache_write_5m, usage.cache_write_1h, usage.reasoning,
                usage.audio_input, usage.audio_output, usage.tool_use, usage.web_searches, None,
            )  # fmt: skip
        else:
            stated = Entry("", now)
            stated.account(usage, Provenance.REPORTED)
        counts = take_apart(protocol, stated)
        if counts is None:
            return 0
        price = self._prices.price(provider, model, requested, tier, counts, now)
        return None if price is None else -(-price.nanos // _MICRO)
