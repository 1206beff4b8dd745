"""Where limits are counted. Every decision is one call, so that a store that several gateways share can take this one's place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from penstock.admission.limits.spec import Limit, Measure
from penstock.admission.limits.window import Window

_REQUESTS, _STREAMS = Measure.REQUESTS, Measure.STREAMS  # an attribute of an Enum class costs fifty times a global
_MOST = 100_000
"""Counts that are kept. Beyond it, and when none can be forgotten, further values of a limit share one: outsiders choose addresses and claims."""
_REST = ("\0rest",)
_AGAIN = 10.0
"""Seconds between two searches for what can be forgotten: each looks at all of them."""


class Ask(msgspec.Struct, frozen=True, gc=False):
    """A share of one limit. `values`: those of its `by`, for this request."""

    limit: Limit
    values: tuple[str, ...]
    amount: int


class Line:
    """What one ask was given."""

    __slots__ = ("amount", "limit", "slot", "window")

    def __init__(self, limit: Limit, window: Window, amount: int, slot: int | None) -> None:
        self.limit = limit
        self.window = window
        self.amount = amount
        self.slot = slot
        """Of a request, which is booked at once; `None`: held until it is settled."""


class State(msgspec.Struct, frozen=True, gc=False):
    """How a limit stands, for headers."""

    limit: Limit
    left: int
    reset: float
    """Seconds until it is whole again."""


class Full(msgspec.Struct, frozen=True, gc=False):
    """A refusal: nothing was taken of any limit."""

    limit: Limit
    retry_after: float
    """Seconds."""
    states: tuple[State, ...]


class Grant:
    """Shares of several limits, until `settle` or `cancel`. Both may be called again and do nothing then."""

    __slots__ = ("lines",)

    def __init__(self, lines: list[Line]) -> None:
        self.lines: list[Line] = lines


class Used(msgspec.Struct, frozen=True, gc=False):
    """What an exchange is charged: tokens."""

    input: int
    output: int


class LimitStore(Protocol):
    def reserve(self, asks: Sequence[Ask], now: float) -> Grant | Full:
        """All of them or none."""
        ...

    def settle(self, grant: Grant, used: Used, now: float) -> None:
        """Give back what was held, and charge what was used."""
        ...

    def cancel(self, grant: Grant, now: float) -> tuple[State, ...]:
        """The request was refused after all: it never was. How its limits stand without it."""
        ...

    def states(self, grant: Grant, now: float) -> tuple[State, ...]: ...


class MemoryLimits:
    """Implements `LimitStore` for one process. Counts begin at 0 with it."""

    __slots__ = ("_search_at", "_windows")

    def __init__(self) -> None:
        self._windows: dict[tuple[str, tuple[str, ...]], Window] = {}
        self._search_at = float("-inf")

    def __len__(self) -> int:
        return len(self._windows)

    def reserve(self, asks: Sequence[Ask], now: float) -> Grant | Full:
        if len(self._windows) + len(asks) > _MOST and now >= self._search_at:
            self._forget(now)  # before any is looked up: what is still empty may be one that is about to be charged
        found = [self._window(ask) for ask in asks]
        for ask, window in zip(asks, found, strict=True):
            # A prompt that is larger than the whole limit gets all of it, and owes the rest afterwards.
            if min(ask.amount, window.limit) > window.left(now):
                states = tuple(_state(one.limit, each, now) for one, each in zip(asks, found, strict=True))
                wait = 1.0 if ask.limit.measure is _STREAMS else window.free_in(ask.amount, now)
                return Full(ask.limit, wait, states)
        lines: list[Line] = []
        for ask, window in zip(asks, found, strict=True):
            amount = min(ask.amount, window.limit)
            if ask.limit.measure is _REQUESTS:
                lines.append(Line(ask.limit, window, amount, window.charge(amount, now)))
            else:
                window.held += amount
                lines.append(Line(ask.limit, window, amount, None))
        return Grant(lines)

    def settle(self, grant: Grant, used: Used, now: float) -> None:
        lines, grant.lines = grant.lines, []
        for line in lines:
            if line.slot is not None:
                continue
            line.window.held -= line.amount
            match line.limit.measure:
                case Measure.TOKENS:
                    line.window.charge(used.input + used.output, now)
                case Measure.INPUT:
                    line.window.charge(used.input, now)
                case Measure.OUTPUT:
                    line.window.charge(used.output, now)
                case Measure.STREAMS | Measure.REQUESTS:
                    pass

    def cancel(self, grant: Grant, now: float) -> tuple[State, ...]:
        lines, grant.lines = grant.lines, []
        for line in lines:
            if line.slot is not None:
                line.window.refund(line.amount, line.slot)
            else:
                line.window.held -= line.amount
        return tuple([_state(line.limit, line.window, now) for line in lines])

    def states(self, grant: Grant, now: float) -> tuple[State, ...]:
        return tuple([_state(line.limit, line.window, now) for line in grant.lines])

    def held(self) -> int:
        """All that is reserved: 0 when nothing is under way."""
        return sum(window.held for window in self._windows.values())

    def spent(self, limit: Limit, values: tuple[str, ...], now: float) -> int:
        """What counts of one limit, as its window stands."""
        window = self._windows.get((limit.name, values))
        return 0 if window is None else window.spent(now)

    def _window(self, ask: Ask) -> Window:
        windows = self._windows
        key = (ask.limit.name, ask.values)
        window = windows.get(key)
        if window is None or window.limit != ask.limit.amount:
            if window is None and len(windows) >= _MOST:
                key = (ask.limit.name, _REST)
                window = windows.get(key)
            if window is None:
                window = windows[key] = Window(ask.limit.amount, ask.limit.seconds or 1.0)
            window.limit = ask.limit.amount  # changed for a key that is known: what was spent stays spent
        return window

    def _forget(self, now: float) -> None:
        self._search_at = now + _AGAIN
        for key in [key for key, window in self._windows.items() if window.empty(now)]:
            del self._windows[key]


def _state(limit: Limit, window: Window, now: float) -> State:
    return State(limit, window.left(now), 0.0 if limit.measure is _STREAMS else window.whole_in(now))
