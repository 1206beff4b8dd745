"""Prices and discounts of the configuration: the first entry that fits a row holds, like a route."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256
from typing import Protocol

from penstock.pricing.tariff import Rates, Tariff
from penstock.vocabulary.usage import Kinds


class Names(Protocol):
    """A pattern of names (`routing.Glob`)."""

    text: str

    def matches(self, model: str) -> bool: ...


class _Any:
    text = "*"

    def matches(self, model: str) -> bool:
        return True


EVERYTHING: Names = _Any()


@dataclass(frozen=True, slots=True)
class OwnPrice:
    """One entry. It fits by provider, model and service tier; then it sets `rates`, or takes the list's times `factor`."""

    provider: Names = EVERYTHING
    """Of the provider's name in the configuration."""
    model: Names = EVERYTHING
    """Of the model's name, as the provider said it or as it was asked for."""
    tier: str | None = None
    """Only answers of this service tier (`batch`, `priority`, `flex`, ...); `None`: of any."""
    rates: Rates | None = None
    """`None`: the list's."""
    above: int | None = None
    """The context length in tokens above which `long` holds."""
    long: Rates | None = None
    like: str | None = None
    """The price list of this maker (`anthropic`, `openai`, `google`, ...), for a provider that is none of those by its address."""
    factor: Decimal = Decimal(1)
    """What is left after a discount: 0.85 for 15 %."""

    def fits(self, provider: str, model: str, requested: str | None, tier: str | None) -> bool:
        return (
            self.provider.matches(provider)
            and (self.model.matches(model) or (requested is not None and self.model.matches(requested)))
            and (self.tier is None or self.tier == tier)
        )

    @property
    def version(self) -> str:
        """Tells entries apart, whatever they are called: the same text for the same content."""
        rates, long = _spelt(self.rates), _spelt(self.long)
        content = repr((self.provider.text, self.model.text, self.tier, rates, self.above, long, self.like, self.factor))
        return f"own {sha256(content.encode()).hexdigest()[:8]}"

    def tariff(self) -> Tariff | None:
        """Of an entry that sets its rates."""
        if self.rates is None:
            return None
        tiers = {-1: self.rates.scaled(self.factor)}
        if self.above is not None and self.long is not None:
            filled = Rates(*(base if rate is None else rate for base, rate in zip(self.rates, self.long, strict=True)))
            tiers[self.above] = filled.scaled(self.factor)
        return Tariff.make(self.version, tiers)


class _Spelt(str):
    """Shown as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _spelt(rates: Rates | None) -> _Spelt:
    """As the `repr` of rates was before there were kinds in them: no entry of old gets another fingerprint."""
    known = None if rates is None else [
        f"{part}={rate!r}" for part, rate in rates._asdict().items() if rate is not None or part not in Kinds.__struct_fields__]
    return _Spelt(None if known is None else f"Rates({', '.join(known)})")
