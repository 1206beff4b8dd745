"""A shared bound on bytes that are held, whoever holds them."""

from __future__ import annotations


class Budget:
    """`take(n)` succeeds while the sum of what is out stays within `total` bytes; whoever took gives back."""

    __slots__ = ("total", "used")

    def __init__(self, total: int) -> None:
        self.total: int = total
        self.used: int = 0

    def take(self, n: int) -> bool:
        if self.used + n > self.total:
            return False
        self.used += n
        return True

    def give(self, n: int) -> None:
        self.used -= n
