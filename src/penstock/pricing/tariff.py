"""What one model costs: rates per part of `Counts`, by the length of the context where that matters.

A tier by context length holds for the whole request: with one token more than its start in the context, all tokens of the request cost its
rates (Anthropic, "Long context pricing"; Google, "prompts > 200k tokens"; OpenAI alike).
"""

from __future__ import annotations

from decimal import Decimal
from operator import mul
from typing import NamedTuple

import msgspec

from penstock.pricing.counts import Counts
from penstock.pricing.money import per_token, round_to_nanos


class Rates(NamedTuple):
    """US dollars per million tokens (`web_searches`: per thousand calls). `None`: no rate of its own; it costs what contains it (`_per_token`)."""

    input: Decimal | None = None
    cache_read: Decimal | None = None
    cache_write_5m: Decimal | None = None
    cache_write_1h: Decimal | None = None
    audio_input: Decimal | None = None
    output: Decimal | None = None
    reasoning: Decimal | None = None
    audio_output: Decimal | None = None
    web_searches: Decimal | None = None

    def scaled(self, factor: Decimal) -> Rates:
        return Rates(*(None if rate is None else rate * factor for rate in self))


class Tariff(msgspec.Struct, frozen=True):
    """Made once per model and kept: pricing a row is nine multiplications."""

    source: str
    """Which price list, and its version."""
    rates: Rates
    """As given, of the shortest context."""
    base: tuple[int, ...]
    """The same per token, nothing left open."""
    tiers: tuple[tuple[int, tuple[int, ...]], ...] = ()
    """`(contexts longer than this many tokens, rates per token)`, the longest first."""
    request: int = 0
    """What each request costs besides, in 10^-18 dollars."""

    @classmethod
    def make(cls, source: str, tiers: dict[int, Rates], requests: Decimal | None = None) -> Tariff:
        """`tiers` by the context length above which they hold; there must be one for -1. `requests`: US dollars per thousand of them."""
        longer = sorted(((start, rates) for start, rates in tiers.items() if start >= 0), reverse=True)
        request = 0 if requests is None else per_token(requests * 1000)
        return cls(source, tiers[-1], _per_token(tiers[-1]), tuple((start, _per_token(rates)) for start, rates in longer), request)

    def cost(self, counts: Counts) -> int:
        """In nanos, rounded once."""
        return round_to_nanos(sum(map(mul, counts, self._rates(counts)), self.request))

    def saved(self, counts: Counts) -> int:
        """Nanos that the prompt cache saved: what the same tokens would have cost without it, less what they cost. Negative where more
        was written than read."""
        rates = self._rates(counts)
        plain = rates[0]
        return round_to_nanos(
            counts.cache_read * (plain - rates[1]) + counts.cache_write_5m * (plain - rates[2]) + counts.cache_write_1h * (plain - rates[3]))

    def _rates(self, counts: Counts) -> tuple[int, ...]:
        if self.tiers:
            context = counts.context
            for start, rates in self.tiers:
                if context > start:
                    return rates
        return self.base


def _per_token(rates: Rates) -> tuple[int, ...]:
    """What has no rate of its own costs what contains it: cached and spoken input as input, an hour's write as a short one, thoughts and
    speech as output."""
    plain = rates.input or Decimal(0)
    out = rates.output or Decimal(0)
    short = plain if rates.cache_write_5m is None else rates.cache_write_5m
    own = (
        plain,
        plain if rates.cache_read is None else rates.cache_read,
        short,
        short if rates.cache_write_1h is None else rates.cache_write_1h,
        plain if rates.audio_input is None else rates.audio_input,
        out,
        out if rates.reasoning is None else rates.reasoning,
        out if rates.audio_output is None else rates.audio_output,
        (rates.web_searches or Decimal(0)) * 1000,
    )
    return tuple(per_token(rate) for rate in own)
