"""How many connections each client has, by its address."""

from __future__ import annotations

from enum import Enum, auto
from typing import NoReturn

from penstock.exchange.contract import ClientRequest, Reply
from penstock.server.heads import Bad


class Place(Enum):
    """What becomes of a new connection."""

    INSIDE = auto()
    AT_THE_DOOR = auto()
    """Its client has as many as it may: the first request on it is refused, in the words of the protocol that it asks for."""
    OUTSIDE = auto()
    """And as many again at the door: it is closed without a word."""


class Crowd:
    """Connections by peer address. `enter` each, `leave` each that entered."""

    def __init__(self, most: int) -> None:
        """`most`: of one address inside."""
        self._most = most
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        """Addresses that are known."""
        return len(self._counts)

    def enter(self, address: str) -> Place:
        count = self._counts[address] = self._counts.get(address, 0) + 1
        if count <= self._most:
            return Place.INSIDE
        return Place.AT_THE_DOOR if count <= 2 * self._most else Place.OUTSIDE

    def leave(self, address: str) -> None:
        left = self._counts[address] - 1
        if left:
            self._counts[address] = left
        else:
            del self._counts[address]


class Full:
    """The `Front` of those at the door."""

    def open(self, request: ClientRequest, reply: Reply) -> NoReturn:
        raise Bad(503, "This client has as many connections to this gateway as it may have; try again.")


FULL = Full()
