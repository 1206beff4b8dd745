"""What a limit is: so much of something, in a window that slides, for each value of what it is kept by."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from penstock.admission.facts import BadField, check_field
from penstock.admission.rules import Condition


class Measure(StrEnum):
    REQUESTS = "requests"
    TOKENS = "tokens"
    """Input and output together."""
    INPUT = "input_tokens"
    OUTPUT = "output_tokens"
    STREAMS = "streams"
    """Exchanges under way at the same time; has no window."""


PERIODS: Mapping[str, float] = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0, "week": 604_800.0, "month": 2_592_000.0}
"""Seconds. A month is 30 days: the window slides and knows no calendar (budgets do)."""
MEASURES: tuple[str, ...] = tuple(measure.value for measure in Measure)
_SPEC = re.compile(r"([a-z_]+)=([0-9]{1,15})(?:/([a-z]+))?\Z")


class BadLimit(ValueError):
    """What was written is no limit. Its text is a sentence for whoever wrote it."""


@dataclass(frozen=True, slots=True)
class Limit:
    name: str
    """In refusals' causes and in the ledger; never told to clients."""
    measure: Measure
    amount: int
    per: str
    """One of `PERIODS`; empty for streams."""
    by: tuple[str, ...] = ()
    """The fields (`facts.FIELDS`) by whose values it is kept apart; empty: one for all. A request that has no value for one of them shares
    a count with all others that have none."""
    when: Condition | None = None
    """Only requests for which this holds; one for which it cannot be told counts."""

    @property
    def seconds(self) -> float:
        return PERIODS.get(self.per, 0.0)


def make_limit(measure: str, amount: int, per: str, by: Sequence[str] = (), name: str = "", when: Condition | None = None) -> Limit:
    """Raises `BadLimit`."""
    if measure not in MEASURES:
        raise BadLimit(f"{measure!r} cannot be limited; there is {', '.join(MEASURES)}")
    kind = Measure(measure)
    if kind is Measure.STREAMS:
        if per:
            raise BadLimit("streams are counted while they are open; leave the period out")
    elif per not in PERIODS:
        raise BadLimit(f"{per!r} is no period; there is {', '.join(PERIODS)}" if per else f"has no period; add one of {', '.join(PERIODS)}")
    if amount <= 0:
        raise BadLimit("must be above 0")
    for field in by:
        try:
            check_field(field)
        except BadField as error:
            raise BadLimit(str(error)) from None
    return Limit(name or _name(measure, per, by), kind, amount, per, tuple(by), when)


def _name(measure: str, per: str, by: Sequence[str]) -> str:
    return " ".join([measure, *(["per", per] if per else []), *(["by", ", ".join(by)] if by else [])])


def parse_limit(text: str) -> Limit:
    """`requests=60/minute`, `output_tokens=100000/day`, `streams=5`: a key's own limit, kept by that key. Raises `BadLimit`."""
    found = _SPEC.match(text.strip().lower())
    if found is None:
        raise BadLimit(f"{text!r} is no limit; write MEASURE=NUMBER/PERIOD, like requests=60/minute or tokens=1000000/day, or streams=5")
    measure, per = found[1], found[3] or ""
    try:
        return make_limit(measure, int(found[2]), per, ("key",), f"the key's own {measure}{f' per {per}' if per else ''}")
    except BadLimit as error:
        raise BadLimit(f"{text}: {error}") from None


def spell_limit(limit: Limit) -> str:
    """What `parse_limit` reads."""
    return f"{limit.measure.value}={limit.amount}{f'/{limit.per}' if limit.per else ''}"


def limits_of(texts: Any) -> tuple[Limit, ...]:
    """Of a key as it is stored; of two that differ in their amount alone the smaller one counts: they would be counted as one. Raises `BadLimit`."""
    found: dict[str, Limit] = {}
    for limit in map(parse_limit, map(str, texts or ())):
        other = found.get(limit.name)
        if other is None or limit.amount < other.amount:
            found[limit.name] = limit
    return tuple(found.values())
