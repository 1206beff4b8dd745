"""Shares of budgets: what is asked of whoever keeps them, and what comes back. Pure; the keeper is `stores.budgets`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from penstock.admission.budget.spec import Action, Budget


class Charge(msgspec.Struct, frozen=True, gc=False):
    """What an exchange is charged; of one that runs, what it may come to."""

    input: int
    output: int
    micros: int | None
    """Millionths of the currency; `None`: there is no price."""


NOTHING = Charge(0, 0, None)


class Wish(msgspec.Struct, frozen=True, gc=False):
    """A share of one budget in one window."""

    budget: Budget
    subject: str
    """The values that it is kept by, as one text."""
    window: str
    ends: float | None
    """When the window is over, in seconds since the epoch; `None`: never."""
    amount: int
    """What the exchange may come to, in the budget's units."""
    exchange: str
    """The id of its row."""
    charge: Charge
    """What it may come to, in every unit."""

    @property
    def place(self) -> tuple[str, str, str]:
        return self.budget.name, self.subject, self.window


class Share(msgspec.Struct, gc=False):
    """What is set aside."""

    wish: Wish
    amount: int
    spent: int
    """Of the whole budget, by everybody, when this was set aside; what others have set aside is not in it."""

    @property
    def crossed(self) -> bool:
        return self.spent >= self.wish.budget.amount


class Shares(msgspec.Struct, frozen=True, gc=False):
    """All wishes were granted."""

    shares: list[Share]


class Spent(msgspec.Struct, frozen=True, gc=False):
    """A budget that binds is spent: nothing was set aside of any."""

    wish: Wish


class Unknown(msgspec.Struct, frozen=True, gc=False):
    """The budgets could not be asked in time. Nothing was set aside."""

    why: str


Answer = Shares | Spent | Unknown


class Keeper(Protocol):
    """Every decision is one transaction; what a gateway has set aside in advance is given out without another one. Answers come on the loop,
    and exactly once, that of `extend` perhaps within the call; no call blocks."""

    def take_ahead(self, wishes: Sequence[Wish]) -> Shares | None:
        """A share for each wish, as `reserve` would answer, out of what is set aside in advance; `None`: there is not enough of each, so nothing was
        taken of any, and `reserve` is to be asked."""
        ...

    def reserve(self, wishes: Sequence[Wish], answer: Callable[[Answer], None]) -> None: ...

    def extend(self, share: Share, more: int, answer: Callable[[int], None]) -> None:
        """Set aside up to `more` besides; the answer is how much of it: 0 where the budget is spent, or could not be asked. `share.amount` has
        grown by then."""
        ...

    def settle(self, shares: Sequence[tuple[Share, int]], charge: Charge = NOTHING) -> None:
        """Give back what was set aside, and book what was used. `charge`: the same, as the exchange's row has it."""
        ...


def grant(wish: Wish, spent: int, held: int) -> int | None:
    """How much is set aside for `wish` where `spent` is spent and `held` set aside for others; `None`: nothing may be."""
    left = wish.budget.amount - spent - held
    if not wish.budget.binds:
        return wish.amount
    if left <= 0:
        return None
    # A stream that can be cut needs no more than there is; one that cannot keeps all that it may come to from the others.
    return min(wish.amount, left) if wish.budget.action is Action.CUT else wish.amount


def grant_more(wish: Wish, spent: int, held: int, more: int) -> int:
    """`held`: all that is set aside, this share too."""
    return max(0, min(more, wish.budget.amount - spent - held))
