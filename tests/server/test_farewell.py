"""How long a closed connection may stay, on a clock of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from penstock.server.farewell import LONGEST, Farewell
from tests.support.rim import Wire


class Clock:
    """A loop of which only the clock and the timers are used."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[..., None], *args: Any) -> None:
        self.timers.append((self.now + delay, lambda: callback(*args)))

    def tick(self) -> None:
        """Let the next timer come."""
        self.timers.sort(key=lambda timer: timer[0])
        self.now, callback = self.timers.pop(0)
        callback()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: made)
    return made


def test_a_client_that_says_nothing_more_is_closed_after_its_patience(clock: Clock) -> None:
    wire = Wire()
    Farewell(wire, 1.0).linger()
    assert wire.eof
    assert not wire.closing
    clock.tick()
    assert (clock.now, wire.aborted, clock.timers) == (1.0, True, [])


def test_a_client_that_sends_on_is_heard_out_but_not_for_ever(clock: Clock) -> None:
    wire = Wire()
    wire.reading = False  # the upload was paused
    farewell = Farewell(wire, 1.0)
    farewell.linger()
    assert wire.reading
    while not wire.aborted:
        farewell.heard += 1000
        clock.tick()
    assert LONGEST <= clock.now <= LONGEST + 1


def test_a_client_that_reads_gets_all_of_it(clock: Clock) -> None:
    wire = Wire()
    wire.unsent = 100
    Farewell(wire, 1.0).close()
    assert wire.closing
    for _ in range(99):
        wire.unsent -= 1
        clock.tick()
    assert not wire.aborted
    assert clock.now > LONGEST
    clock.tick()
    assert wire.aborted


def test_a_client_that_sends_and_does_not_read_is_closed(clock: Clock) -> None:
    wire = Wire()
    wire.unsent = 100
    farewell = Farewell(wire, 1.0)
    farewell.linger()
    farewell.heard += 1
    clock.tick()
    assert wire.aborted


@pytest.mark.parametrize("lingers", [False, True])
def test_what_it_was_told_is_kept_for_it_while_its_network_is_down(clock: Clock, lingers: bool) -> None:
    wire = Wire()
    wire.unsent = 100
    farewell = Farewell(wire, 1.0, 30.0)
    if lingers:
        farewell.linger()
    else:
        farewell.close()
    while clock.now < 25:
        clock.tick()
    assert not wire.aborted
    wire.unsent = 50
    while clock.now < 50:
        clock.tick()
    assert not wire.aborted
    while not wire.aborted:
        clock.tick()
    assert 55 <= clock.now <= 57


def test_nothing_is_watched_where_all_has_left(clock: Clock) -> None:
    wire = Wire()
    Farewell(wire, 1.0).close()
    assert wire.closing
    assert not clock.timers


def test_a_reset_is_one(clock: Clock) -> None:
    wire = Wire()
    Farewell(wire, 1.0).reset()
    assert wire.reset
    assert wire.aborted
    assert not clock.timers
