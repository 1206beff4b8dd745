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
    image_input: Decimal | None = None
    image_output: Decimal | None = None
    video_input: Decimal | None = None
    video_output: Decimal | None = None
    cache_read_audio: Decimal | None = None
    cache_read_image: Decimal | None = None
    cache_read_video: Decimal | None = None

    def scaled(self, factor: Decimal) -> Rates:
        return Rates(*(None if rate is None else rate * factor for rate in self))


class Tariff(msgspec.Struct, frozen=True):
    """Made once per model and kept: pricing a row is a multiplication for each part."""

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
        rates = Counts(*self._rates(counts))
        return round_to_nanos(
            counts.cache_read * (rates.input - rates.cache_read)
            + counts.cache_write_5m * (rates.input - rates.cache_write_5m)
            + counts.cache_write_1h * (rates.input - rates.cache_write_1h)
            + counts.cache_read_audio * (rates.audio_input - rates.cache_read_audio)
            + counts.cache_read_image * (rates.image_input - rates.cache_read_image)
            + counts.cache_read_video * (rates.video_input - rates.cache_read_video)
        )

    def _rates(self, counts: Counts) -> tuple[int, ...]:
        if self.tiers:
            context = counts.context
            for start, rates in self.tiers:
                if context > start:
                    return rates
        return self.base


def _per_token(rates: Rates) -> tuple[int, ...]:
    """What has no rate of its own costs what contains it: cached input and input of any kind as input, an hour's write as a short one, thoughts and
    output of any kind as output; what was cached of a kind as what is cached, or else as its kind."""
    plain = rates.input or Decimal(0)
    out = rates.output or Decimal(0)
    short = _first(rates.cache_write_5m, plain)
    sound, image, video = (_first(rate, plain) for rate in (rates.audio_input, rates.image_input, rates.video_input))
    own = (
        plain,
        _first(rates.cache_read, plain),
        short,
        _first(rates.cache_write_1h, short),
        sound,
        out,
        _first(rates.reasoning, out),
        _first(rates.audio_output, out),
        (rates.web_searches or Decimal(0)) * 1000,
        image,
        _first(rates.image_output, out),
        video,
        _first(rates.video_output, out),
        _first(rates.cache_read_audio, rates.cache_read, sound),
        _first(rates.cache_read_image, rates.cache_read, image),
        _first(rates.cache_read_video, rates.cache_read, video),
    )
    return tuple(per_token(rate) for rate in own)


def _first(*rates: Decimal | None) -> Decimal:
    """The first that there is; the last one always is."""
    return next(rate for rate in rates if rate is not None)
