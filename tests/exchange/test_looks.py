"""Looks at the clock that come too late."""

from __future__ import annotations

from penstock.exchange.looks import HELD_UP, Looks


def test_one_that_is_in_time_judges() -> None:
    looks = Looks()
    looks.plan(10.0)
    assert not looks.missed(10.0 + HELD_UP)


def test_one_that_is_much_too_late_does_not_and_the_next_does() -> None:
    looks = Looks()
    looks.plan(10.0)
    assert looks.missed(10.5)
    looks.plan(10.6)
    assert not looks.missed(10.6)
    looks.plan(10.7)
    assert looks.missed(12.0)


def test_of_two_in_a_row_the_second_judges() -> None:
    looks = Looks()
    found: list[bool] = []
    for now in (1.0, 2.0, 3.0, 4.0):
        looks.plan(now - 0.5)
        found.append(looks.missed(now))
    assert found == [True, False, True, False]
