"""One count in a window that slides: what was spent, what is reserved, and what is owed.

The window is cut into `SLOTS` slots; a slot counts until it lies wholly outside of the window, so in no stretch of the window's length is
more let in than the limit (a slot's width, 1/32 of the window, longer is the price). What is charged beyond the limit is a debt: it is booked
into the windows to come, a limit's worth into each, so that in the long run no more is used than the limit, whoever overspent by however much.
"""

from __future__ import annotations

SLOTS = 32
_FARTHEST = 64
"""Windows into which a debt is booked; what is owed beyond that is booked into the last of them."""
_SOON = 1.0
"""Seconds, as for streams (`store`)."""


class Window:
    """Amounts are whole numbers. `now` in seconds, never going back."""

    __slots__ = ("_pruned", "_slots", "_spent", "_width", "held", "limit")

    def __init__(self, limit: int, seconds: float) -> None:
        self.limit = limit
        self.held = 0
        """Reserved and not settled: does not slide."""
        self._width = seconds / SLOTS
        self._slots: dict[int, int] = {}
        self._spent = 0
        self._pruned = -1

    def spent(self, now: float) -> int:
        """Within the window that ends now, debts included; what is held is not."""
        self._prune(int(now // self._width))
        return self._spent

    def left(self, now: float) -> int:
        """What may be reserved now; 0 at least."""
        return max(0, self.limit - self.spent(now) - self.held)

    def empty(self, now: float) -> bool:
        """Nothing is held and nothing counts: it may be forgotten."""
        return not self.held and not self.spent(now)

    def charge(self, amount: int, now: float) -> int:
        """Book what was used; returns the slot."""
        slot = int(now // self._width)
        self._prune(slot)
        first = slot
        last = slot + _FARTHEST * (SLOTS + 1)
        while amount > 0:
            part = amount if slot >= last else min(amount, self.limit - self._load(slot))
            if part > 0:
                self._slots[slot] = self._slots.get(slot, 0) + part
                self._spent += part
                amount -= part
            slot += SLOTS + 1
        return first

    def refund(self, amount: int, slot: int) -> None:
        """Take back what `charge` booked into this slot, as far as it still counts."""
        found = self._slots.get(slot, 0)
        taken = min(found, amount)
        if taken:
            self._spent -= taken
            if taken == found:
                del self._slots[slot]
            else:
                self._slots[slot] = found - taken

    def free_in(self, amount: int, now: float) -> float:
        """Seconds until `amount` may be reserved, if nothing else is; what is held counts as if it stayed. Where that alone stands in the
        way, `_SOON`: what is under way ends at any moment, and mostly comes to less than was reserved."""
        slot = int(now // self._width)
        self._prune(slot)
        over = self._spent + self.held + min(amount, self.limit) - self.limit
        if over <= 0:
            return 0.0
        if over <= self.held:
            return min(_SOON, self._width)
        for one in sorted(self._slots):
            over -= self._slots[one]
            if over <= 0:
                return (one + SLOTS + 1) * self._width - now
        return self._width

    def whole_in(self, now: float) -> float:
        """Seconds until nothing counts any more; what is held counts as if it were used now."""
        slot = int(now // self._width)
        self._prune(slot)
        last = max(self._slots, default=slot - SLOTS - 1)
        return max(0.0, (max(last, slot if self.held else last) + SLOTS + 1) * self._width - now)

    def _load(self, slot: int) -> int:
        """What counts in the window that begins or ends around `slot`, as a debt is booked."""
        return sum(amount for one, amount in self._slots.items() if slot - SLOTS <= one <= slot + SLOTS)

    def _prune(self, slot: int) -> None:
        if slot == self._pruned:
            return
        self._pruned = slot
        gone = [one for one in self._slots if one < slot - SLOTS]
        for one in gone:
            self._spent -= self._slots.pop(one)
