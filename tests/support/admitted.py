"""Admission for a gateway without sockets: its keeper of budgets, its issuer and its clock are in the test's hands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock.admission.budget.account import NOTHING, Answer, Charge, Share, Shares, Spent, Unknown, Wish, grant, grant_more
from penstock.admission.door import Door
from penstock.admission.issuers import Issuer, KeySet
from penstock.admission.keys import Ring, VirtualKey, hash_of, seal
from penstock.admission.limits.store import MemoryLimits
from penstock.admission.settings import AdmissionSettings
from penstock.exchange.admitting import Admission
from penstock.vocabulary.usage import Usage
from tests.support.exchanges import House

SECRET = b"s" * 32
KEY = "sk-pst-good"
NOW = 1_800_000_000.0
"""What the wall clock says when a house opens."""


def key(id: str = "key_1", **more: Any) -> VirtualKey:
    said: dict[str, Any] = {"id": id, "name": id, "fingerprint": "f" * 12, "created_at": 0.0, **more}
    return VirtualKey(**said)


def ring_of(keys: Mapping[str, VirtualKey]) -> Ring:
    return Ring(SECRET, [(seal(hash_of(text.encode()), SECRET), one) for text, one in keys.items()])


@dataclass
class FakeKeeper:
    """Decides as the real one does, and answers when it is told to: at once, or with `answer_all`."""

    house: House
    at_once: bool = True
    fails: bool = False
    ahead: bool = False
    """All that there is may be taken without asking, and more for what runs is given within the call."""
    took_ahead: list[str] = field(default_factory=list[str])
    """The exchanges that did."""
    spent: dict[tuple[str, str, str], int] = field(default_factory=dict[tuple[str, str, str], int])
    held: dict[tuple[str, str, str], int] = field(default_factory=dict[tuple[str, str, str], int])
    waiting: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])

    def take_ahead(self, wishes: Sequence[Wish]) -> Shares | None:
        found = self._decide(wishes) if self.ahead else None
        if not isinstance(found, Shares):
            return None
        self.took_ahead.append(wishes[0].exchange)
        return found

    def reserve(self, wishes: Sequence[Wish], answer: Callable[[Answer], None]) -> None:
        self._later(lambda: answer(self._decide(wishes)))

    def extend(self, share: Share, more: int, answer: Callable[[int], None]) -> None:
        def act() -> None:
            place = share.wish.place
            found = grant_more(share.wish, self.spent.get(place, 0), self.held.get(place, 0), more)
            self.held[place] = self.held.get(place, 0) + found
            share.amount += found
            answer(found)

        if self.ahead:
            act()
        else:
            self._later(act)

    def settle(self, shares: Sequence[tuple[Share, int]], charge: Charge = NOTHING) -> None:
        def act() -> None:
            for share, used in shares:
                place = share.wish.place
                self.held[place] = self.held.get(place, 0) - share.amount
                self.spent[place] = self.spent.get(place, 0) + used
                assert self.held[place] >= 0

        if self.waiting:
            self.waiting.append(act)  # what was asked before is decided before, as in the real one's queue
        else:
            act()

    def answer_all(self) -> None:
        waiting, self.waiting = self.waiting, []
        for one in waiting:
            self.house.run(one)

    @property
    def total(self) -> int:
        return sum(self.spent.values())

    @property
    def set_aside(self) -> int:
        return sum(self.held.values())

    def _later(self, act: Callable[[], None]) -> None:
        if self.at_once:
            asyncio.get_running_loop().call_soon(act)
        else:
            self.waiting.append(act)

    def _decide(self, wishes: Sequence[Wish]) -> Answer:
        if self.fails:
            return Unknown("the database does not answer")
        shares: list[Share] = []
        for wish in wishes:
            amount = grant(wish, self.spent.get(wish.place, 0), self.held.get(wish.place, 0))
            if amount is None:
                return Spent(wish)
            shares.append(Share(wish, amount, self.spent.get(wish.place, 0)))
        for share in shares:
            self.held[share.wish.place] = self.held.get(share.wish.place, 0) + share.amount
        return Shares(shares)


class Admitted:
    """A house, and who may enter it."""

    def __init__(
        self, settings: AdmissionSettings | None = None, keys: Mapping[str, VirtualKey] | None = None, *, house: House | None = None,
        issuers: Mapping[str, KeySet] | None = None, price: int | None = None, **more: Any,
    ) -> None:  # fmt: skip
        """`price`: millionths per token; `None`: there are no prices."""
        self.house = house or House(**more)
        self.keeper = FakeKeeper(self.house)
        self.limits = MemoryLimits()
        self.refreshed: list[Issuer] = []
        self.door = Door(settings or AdmissionSettings(), ring_of({} if keys is None else keys), issuers)
        self.new_keys: KeySet | None = None
        self.takes = 0.0
        """Seconds for which an issuer is asked."""

        def pricing(provider: str, model: str | None, protocol: str, usage: Usage, requested: str | None, tier: str | None) -> int | None:
            return None if price is None else price * ((usage.input or 0) + (usage.output or 0))

        loop = self.house.loop
        began = loop.now
        self.house.gateway.admission = self.admission = Admission(
            self.door, self.limits, self._refresh, self.keeper, pricing, wall=lambda: NOW + loop.now - began)

    async def _refresh(self, issuer: Issuer) -> bool:
        self.refreshed.append(issuer)
        await asyncio.sleep(self.takes)
        if self.new_keys is None:
            return False
        self.door.replace_keys(issuer, self.new_keys)
        return True

    def __enter__(self) -> Admitted:
        return self

    def __exit__(self, *error: object) -> None:
        self.house.close()

    def check(self) -> None:
        """Nothing is held for anybody, and what was charged is what the rows say."""
        assert self.limits.held() == 0
        assert self.keeper.set_aside == 0
        rows = self.house.book.settled
        asked = [row for row in rows if row.upstream_status is not None and row.provider is not None and row.replay is None]
        assert all(row.charged_input is not None for row in asked)
        assert all(row.charged_input is None for row in rows if row.replay is not None), "nothing was used"
