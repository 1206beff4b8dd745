"""Who is asked for a price first: the configuration, then the installed lists. What they say is remembered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import NamedTuple

from penstock.pricing.counts import Counts
from penstock.pricing.lists import Found, Lists
from penstock.pricing.money import MOST_NANOS
from penstock.pricing.own import OwnPrice
from penstock.pricing.tariff import Rates, Tariff

_KEPT = 4096
"""Names of models that are remembered: clients can write any."""
_FREE = "demo"
_Key = tuple[str, str | None, str | None, str | None]
"""Provider, model, requested model, service tier."""


@dataclass(frozen=True, slots=True)
class Place:
    """A provider of the configuration, as far as it says whose prices hold."""

    kind: str | None = None
    base_url: str | None = None


@dataclass(slots=True)
class _Listed:
    """A model whose price depends on the time."""

    entry: Found
    steady_s: float
    factor: Decimal = Decimal(1)
    moment: int | None = None
    """The day (or minute) for which `tariff` holds: rows come in the order of time, nearly."""
    tariff: Tariff | None = None


class Price(NamedTuple):
    nanos: int
    source: str
    """The price list and its version, e.g. `genai-prices 0.2.3` or `own 1f2e3d4c`, or both where a discount was taken off a list."""
    saved: int | None
    """What the prompt cache saved, where that was asked for."""


class Prices:
    """The prices of one configuration. Used by one thread."""

    def __init__(self, own: Sequence[OwnPrice] = (), places: Mapping[str, Place] | None = None, lists: Lists | None = None) -> None:
        """`places`: by the provider's name. `lists`: those installed, unless given."""
        self._own = tuple(own)
        self._places = dict(places or {})
        self._lists = lists or Lists()
        self._makers: dict[str, str | None] = {}
        self._found: dict[_Key, _Listed | Tariff | None] = {}

    def price(
        self, provider: str | None, model: str | None, requested: str | None, tier: str | None, counts: Counts, at: float, *, saved: bool = False
    ) -> Price | None:
        """`None` where nobody knows what this model costs. `requested` is asked for where `model`, the provider's own word, says nothing.

        `at` is in seconds since the epoch. `tier`: the provider's word for how the answer was processed; one without a price of its own costs the
        ordinary price.
        """
        tariff = self.tariff(provider, model, requested, tier, at)
        if tariff is None:
            return None
        nanos = tariff.cost(counts)
        if nanos > MOST_NANOS:
            return None
        return Price(nanos, tariff.source, max(-MOST_NANOS, min(MOST_NANOS, tariff.saved(counts))) if saved else None)

    def tariff(self, provider: str | None, model: str | None, requested: str | None, tier: str | None, at: float) -> Tariff | None:
        """The rates that hold for such an answer at that time."""
        if provider is None or (model is None and requested is None):
            return None
        key = (provider, model, requested, tier)
        found = self._found.get(key)
        if found is None and key not in self._found:
            if len(self._found) >= _KEPT:
                self._found.clear()
            self._found[key] = found = self._find(*key)
        if not isinstance(found, _Listed):
            return found
        moment = int(at // found.steady_s)
        if moment != found.moment:
            found.tariff, found.moment = found.entry.tariff(tier, at, found.factor), moment
        return found.tariff

    def _find(self, provider: str, model: str | None, requested: str | None, tier: str | None) -> _Listed | Tariff | None:
        name = model or requested or ""
        own = next((entry for entry in self._own if entry.fits(provider, name, requested, tier)), None)
        if own is not None and (tariff := own.tariff()) is not None:
            return tariff
        if provider == _FREE:
            return Tariff.make("demo", {-1: Rates()})
        maker = own.like if own is not None and own.like is not None else self._maker(provider)
        if maker is None:
            return None
        found = self._lists.find(maker, name) or (self._lists.find(maker, requested) if requested is not None else None)
        if found is None:
            return None
        if own is None:
            return _Listed(found, found.steady_s)
        return _Listed(replace(found, source=f"{found.source}, {own.version}"), found.steady_s, own.factor)

    def _maker(self, provider: str) -> str | None:
        if provider not in self._makers:
            place = self._places.get(provider, Place())
            self._makers[provider] = self._lists.maker(provider, place.kind, place.base_url)
        return self._makers[provider]
