"""What a busy gateway has set aside of budgets in advance, so that a request need not wait for a turn of its own.

An advance is on file like the share of an exchange, under an id of its own that no row has: it counts for every gateway as set aside, and what one
that died had left of it goes back by itself (`shares`). There is one only where requests come close upon another, and only of a budget of which
much more is left: near its end each request asks, and gets what is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from uuid import uuid4

from msgspec.structs import replace

from penstock.admission.budget.account import NOTHING, Share, Wish
from penstock.admission.budget.spec import Budget
from penstock.stores.statements import Key, Place

_BUSY = 1.0
"""Seconds within which requests come close upon another; for as long an advance is good without a turn."""
_TURNS = 4
"""Turns like the last for which an advance is meant to last."""
_PART = 16
"""What is left of the budget must be this many times the advance."""
_MOST_PLACES = 4096
"""Of which it is remembered when they were asked for."""


def most_of(room: int) -> int:
    """How much there may be of an advance where `room` is left of the budget."""
    return max(0, room // _PART)


class Advance:
    """Of one budget in one window."""

    __slots__ = ("good_until", "left", "on_the_way", "spent", "unbooked", "wish")

    def __init__(self, wish: Wish) -> None:
        """`wish`: of any exchange."""
        self.wish = replace(wish, amount=0, exchange=f"advance-{uuid4().hex}", charge=NOTHING)
        self.left = 0
        self.on_the_way = 0
        """Given out of it, and not on file yet as somebody's."""
        self.good_until = 0.0
        self.spent = 0
        """Of the whole budget, by everybody, at the last turn."""
        self.unbooked = 0
        """Used since."""

    def set_anew(self, budget: Budget) -> None:
        """It is the same, of which other words may have been said since."""
        if self.wish.budget is not budget:
            self.wish = replace(self.wish, budget=budget)

    @property
    def key(self) -> Key:
        return self.wish.exchange, *self.wish.place


class Advances:
    """Of one gateway. `now`: seconds of one clock that never goes back."""

    def __init__(self) -> None:
        self._kept: dict[Place, Advance] = {}
        self._asked: dict[Place, float] = {}
        """When each was last asked for."""

    def __len__(self) -> int:
        return len(self._kept)

    def take(self, wishes: Sequence[Wish], now: float) -> list[tuple[Advance, Share]] | None:
        """All of them, or nothing of any."""
        kept = self._kept
        if not kept:
            return None
        out: list[tuple[Advance, Share]] = []
        for wish in wishes:
            advance = kept.get(wish.place)
            if advance is None or advance.good_until < now or advance.left < wish.amount or advance.wish.budget is not wish.budget:
                for lender, share in out:
                    lender.left += share.amount
                    lender.on_the_way -= share.amount
                return None
            advance.left -= wish.amount
            advance.on_the_way += wish.amount
            out.append((advance, Share(wish, wish.amount, advance.spent + advance.unbooked)))
        return out

    def use(self, shares: Iterable[tuple[Share, int]]) -> None:
        """What was used of them will be booked."""
        if self._kept:
            for share, used in shares:
                if (advance := self._kept.get(share.wish.place)) is not None:
                    advance.unbooked += used

    def forget_used(self) -> None:
        for advance in self._kept.values():
            advance.unbooked = 0

    def at(self, place: Place) -> Advance | None:
        return self._kept.get(place)

    def wanted(self, place: Place, demand: int, room: int, now: float) -> int:
        """How much there should be of an advance, where requests for `demand` came for a turn and `room` is left of the budget."""
        before = self._asked.get(place)
        if len(self._asked) >= _MOST_PLACES:
            self._asked.clear()
        self._asked[place] = now
        most = most_of(room)
        if before is None or now - before > _BUSY or demand > most:
            return 0
        return min(_TURNS * demand, most)

    def add(self, advance: Advance) -> None:
        """Of a place that has none. There is nothing in it yet."""
        self._kept[advance.wish.place] = advance

    def keep(self, advance: Advance, now: float) -> None:
        """As it was decided on just now, for somebody who came."""
        advance.good_until = now + _BUSY

    def close(self, advance: Advance) -> None:
        advance.left = 0
        if self._kept.get(advance.wish.place) is advance:
            del self._kept[advance.wish.place]

    def void(self) -> None:
        """Nobody knows how the budgets stand: nothing more is given out of any. What is on file is put right by the next turn of each."""
        for advance in self._kept.values():
            advance.left = 0
            advance.good_until = 0.0  # (there may be wishes of nothing)

    def idle(self, now: float, most: int) -> list[Advance]:
        return list(islice((advance for advance in self._kept.values() if advance.good_until < now), most))
