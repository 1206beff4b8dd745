"""What a budget is: so many tokens, or so much money, in a window of the calendar, for each value of what it is kept by."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import Any

from penstock.admission.facts import BadField, check_field
from penstock.admission.rules import Condition

MICRO = 1_000_000
"""Units of money in one: sums stay whole numbers."""
PERIODS: tuple[str, ...] = ("day", "week", "month", "total")
"""In UTC; a week begins on Monday."""
_SPEC = re.compile(r"(tokens|money)=([0-9]{1,15}(?:\.[0-9]{1,6})?)/([a-z]+)(?:,([a-z]+))?\Z")


class Action(StrEnum):
    AUDIT = "audit"
    """It is recorded, and told in a header."""
    WARN = "warn"
    """And in the log."""
    BLOCK = "block"
    """Nothing new is let in once it is spent."""
    CUT = "cut"
    """And what runs is ended when it crosses it."""


ACTIONS: tuple[str, ...] = tuple(action.value for action in Action)


class BadBudget(ValueError):
    """What was written is no budget. Its text is a sentence for whoever wrote it."""


@dataclass(frozen=True, slots=True)
class Budget:
    name: str
    amount: int
    """Tokens, or millionths of the currency."""
    money: bool
    per: str
    """One of `PERIODS`."""
    action: Action = Action.BLOCK
    by: tuple[str, ...] = ()
    """The fields by whose values it is kept apart, as of a limit."""
    when: Condition | None = None

    @property
    def binds(self) -> bool:
        """Is anything refused for it?"""
        return self.action in (Action.BLOCK, Action.CUT)


def make_budget(
    measure: str, amount: str, per: str, action: str = "block", by: Sequence[str] = (), name: str = "", when: Condition | None = None
) -> Budget:  # fmt: skip
    """Raises `BadBudget`."""
    money = measure == "money"
    if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,6})?", amount) or Decimal(amount) <= 0:
        raise BadBudget(f"{amount!r} is no amount above 0; write a number, like {'12.50' if money else '1000000'}")
    if not money and "." in amount:
        raise BadBudget("tokens are whole numbers")
    if per not in PERIODS:
        raise BadBudget(f"{per!r} is no window; there is {', '.join(PERIODS)}" if per else f"has no window; add one of {', '.join(PERIODS)}")
    if action not in ACTIONS:
        raise BadBudget(f"{action!r} is no action; there is {', '.join(ACTIONS)}")
    for field in by:
        try:
            check_field(field)
        except BadField as error:
            raise BadBudget(str(error)) from None
    whole = int(Decimal(amount) * MICRO) if money else int(amount)
    named = name or " ".join([measure, "per" if per != "total" else "in", per, *(["by", ", ".join(by)] if by else [])])
    return Budget(named, whole, money, per, Action(action), tuple(by), when)


def parse_budget(text: str) -> Budget:
    """`tokens=1000000/day`, `money=12.50/month,cut`: a key's own budget, kept by that key. Raises `BadBudget`."""
    found = _SPEC.match(text.strip().lower())
    if found is None:
        forms = "tokens=NUMBER/WINDOW or money=NUMBER/WINDOW, with an action behind a comma, like money=12.50/month,cut"
        raise BadBudget(f"{text!r} is no budget; write {forms}")
    measure, per, action = found[1], found[3], found[4] or "block"
    beside = "" if action == "block" else f" ({action})"
    try:
        return make_budget(measure, found[2], per, action, ("key",), f"the key's own {measure} {per}{beside}")
    except BadBudget as error:
        raise BadBudget(f"{text}: {error}") from None


def spell_budget(budget: Budget) -> str:
    """What `parse_budget` reads."""
    return f"{'money' if budget.money else 'tokens'}={spell_amount(budget, budget.amount)}/{budget.per},{budget.action.value}"


def spell_amount(budget: Budget, amount: int) -> str:
    if not budget.money:
        return str(amount)
    text = f"{Decimal(amount) / MICRO:.6f}".rstrip("0")
    whole, _, rest = text.partition(".")
    return f"{whole}.{rest.ljust(2, '0')}"


def budgets_of(texts: Any) -> tuple[Budget, ...]:
    """Of a key as it is stored; of two that differ in their amount alone the smaller one counts. Raises `BadBudget`."""
    found: dict[str, Budget] = {}
    for budget in sorted((parse_budget(str(text)) for text in texts or ()), key=lambda budget: budget.amount):
        found.setdefault(budget.name, budget)
    return tuple(found.values())


def window_of(per: str, now: float) -> tuple[str, float | None]:
    """The name of the window that `now` (seconds since the epoch) lies in, and when it ends; `None`: never."""
    return _window(per, int(now // 86_400))


@lru_cache(maxsize=16)
def _window(per: str, days: int) -> tuple[str, float | None]:
    """Every window begins and ends with a day of UTC, so the day decides. `days`: since the epoch."""
    if per == "total":
        return "total", None
    day = datetime.fromtimestamp(days * 86_400, UTC)
    match per:
        case "day":
            first, after = day, day + timedelta(days=1)
        case "week":
            first = day - timedelta(days=day.weekday())
            after = first + timedelta(days=7)
        case _:
            first = day.replace(day=1)
            after = (first + timedelta(days=32)).replace(day=1)
    return f"{per} {first:%Y-%m-%d}", after.timestamp()
