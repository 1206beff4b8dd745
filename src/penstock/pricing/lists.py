"""The tariffs of `genai-prices`, which its keepers read off the makers' price lists.

Whose list is asked: the maker that the provider's address belongs to; else the maker that the provider is named after (somebody who calls a
provider `groq` means Groq); else, for Anthropic's and Gemini's protocols, theirs: a gateway in between changes no name of a model, and a
server that imitates the protocol has models that are not on that list. An unknown host that speaks OpenAI's protocol may be anybody and
may call its models anything (`gpt-oss-20b`): no list, unless the provider is named `openai`.

Nothing is fetched: the list is the one that is installed, and its version is in every row. Its import takes a quarter of a second and so
is left to `load`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from penstock.pricing.tariff import Rates, Tariff

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider

_PARTS: Mapping[str, str] = {
    "input": "input_mtok", "cache_read": "cache_read_mtok", "cache_write_5m": "cache_write_mtok", "cache_write_1h": "cache_write_1h_mtok",
    "audio_input": "input_audio_mtok", "output": "output_mtok", "reasoning": "output_reasoning_mtok", "audio_output": "output_audio_mtok",
    "web_searches": "web_searches_kcount", "image_input": "input_image_mtok", "image_output": "output_image_mtok",
    "video_input": "input_video_mtok", "video_output": "output_video_mtok", "cache_read_audio": "cache_audio_read_mtok",
    "cache_read_image": "cache_image_read_mtok", "cache_read_video": "cache_video_read_mtok",
}  # fmt: skip
"""Our parts by the list's keys. A write is listed without its lifetime where it is the five minutes that are the default."""
_OF_KIND: Mapping[str, str] = {"anthropic": "anthropic", "gemini": "google"}
_MINUTE, _DAY = 60.0, 86400.0
_PROCESSING = frozenset({"batch"})
_SPEEDS = frozenset({"fast"})


@dataclass(frozen=True, slots=True)
class Found:
    """A model on a list."""

    maker: Provider
    model: ModelInfo
    source: str

    @property
    def steady_s(self) -> float:
        """For how many seconds of the clock (whole days, or whole minutes) a price holds at least."""
        prices = self.model.prices
        limits = [priced.constraint for priced in prices] if isinstance(prices, list) else []
        limits += [variant.constraint for variant in self.model.price_variants or ()]
        return _MINUTE if any(limit is not None and not hasattr(limit, "start_date") for limit in limits) else _DAY

    def tariff(self, tier: str | None, at: float, factor: Decimal) -> Tariff | None:
        """At a time in seconds since the epoch. `None` where its price is per second or per letter, which no usage tells."""
        prices = self.model.get_prices(datetime.fromtimestamp(at, UTC), context(tier) if self._own(tier) else None)
        stated = {key: value for key, value in prices.__dict__.items() if value is not None and not key.startswith("_")}
        if stated and not any(key.endswith("_mtok") for key in stated):
            return None
        requests = _at(prices.requests_kcount, -1)  # Perplexity's searches
        return Tariff.make(
            self.source, {start: rates.scaled(factor) for start, rates in _tiers(prices).items()}, None if requests is None else requests * factor)

    def _own(self, tier: str | None) -> bool:
        """Variants are of the maker's own models, not of those that it resells under another list."""
        return tier is not None and any(self.model is model for model in self.maker.models)


class Lists:
    """The installed lists."""

    def __init__(self) -> None:
        """Imports them."""
        import genai_prices
        from genai_prices.data_snapshot import get_snapshot

        self.version = f"genai-prices {genai_prices.__version__}"
        self._snapshot = get_snapshot()

    def maker(self, name: str, kind: str | None, base_url: str | None) -> str | None:
        """The id of the maker whose list holds for a provider of ours; `None` where none does."""
        for by_url, word in ((True, base_url), (False, name), (False, _OF_KIND.get(kind or ""))):
            if word is not None:
                try:
                    return self._snapshot.find_provider(None, None if by_url else word, word if by_url else None).id
                except LookupError:
                    continue
        return None

    @property
    def makers(self) -> list[str]:
        """Their ids."""
        return [provider.id for provider in self._snapshot.providers]

    def has(self, maker: str) -> bool:
        """Does anybody's list go by this name?"""
        try:
            self._snapshot.find_provider(None, maker, None)
        except LookupError:
            return False
        return True

    def find(self, maker: str, model: str) -> Found | None:
        try:
            provider, found = self._snapshot.find_provider_model(model, None, maker, None)
        except LookupError:
            return None
        return Found(provider, found, self.version)


def context(tier: str | None) -> dict[str, str] | None:
    """A service tier in the list's words."""
    if tier is None:
        return None
    if tier in _PROCESSING:
        return {"processing": tier}
    return {"service_tier": tier, "speed": tier} if tier in _SPEEDS else {"service_tier": tier}


def _tiers(prices: ModelPrice) -> dict[int, Rates]:
    stated = {part: getattr(prices, key) for part, key in _PARTS.items()}
    starts = {-1} | {tier.start for price in stated.values() for tier in getattr(price, "tiers", ())}
    return {start: Rates(**{part: _at(price, start) for part, price in stated.items()}) for start in starts}


def _at(price: object, start: int) -> Decimal | None:
    """The price in contexts that are a little longer than `start`."""
    if price is None or isinstance(price, Decimal):
        return price
    found: Decimal = getattr(price, "base")  # noqa: B009  # TieredPrices, whose module is not imported here
    for tier in getattr(price, "tiers"):  # noqa: B009
        if start >= tier.start:
            found = tier.price
    return found
