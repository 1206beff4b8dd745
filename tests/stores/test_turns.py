"""When a turn of the budgets is due, and what is in it. The clock is ours."""

from __future__ import annotations

import threading

from penstock.admission.budget.account import NOTHING, Answer, Share, Wish
from penstock.admission.budget.spec import make_budget
from penstock.stores.turns import LATER, REST, Extend, Reserve, Settle, Turns, Work

WISH = Wish(make_budget("tokens", "100", "day", "cut"), "", "w", None, 10, "x", NOTHING)
SHARE = Share(WISH, 10, 0)


def nobody(answer: Answer | int) -> None:
    del answer


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def reserve(clock: Clock) -> Work:
    return Reserve([WISH], nobody, clock.now)


def extend(clock: Clock) -> Work:
    return Extend(SHARE, 5, nobody, clock.now)


def settle(clock: Clock) -> Work:
    return Settle([(SHARE, 3)], NOTHING, clock.now)


def put(turns: Turns, *work: Work) -> list[Work]:
    for one in work:
        turns.put(one)
    return list(work)


def test_nobody_waits_where_nobody_has_asked_just_before() -> None:
    clock = Clock()
    turns = Turns(clock)
    asked = put(turns, reserve(clock))
    assert turns.take(clock.now + 1) == asked


def test_requests_behind_a_turn_share_the_next() -> None:
    clock = Clock()
    turns = Turns(clock)
    put(turns, reserve(clock))
    turns.take(clock.now + 1)
    clock.now += REST / 4
    asked = put(turns, reserve(clock))
    assert turns.take(clock.now) == [], "it rests"
    clock.now += REST / 4
    asked += put(turns, reserve(clock))
    assert turns.take(clock.now) == []
    clock.now += REST / 2
    assert turns.take(clock.now + 1) == asked


def test_more_for_a_stream_is_asked_for_at_once_and_takes_everybody_along() -> None:
    clock = Clock()
    turns = Turns(clock)
    put(turns, reserve(clock))
    turns.take(clock.now + 1)
    asked = put(turns, reserve(clock), settle(clock), extend(clock))
    assert turns.take(clock.now + 1) == asked


def test_what_was_used_waits_for_somebody_else_but_not_for_ever() -> None:
    clock = Clock()
    turns = Turns(clock)
    asked = put(turns, settle(clock))
    clock.now += LATER / 2
    asked += put(turns, settle(clock))
    assert turns.take(clock.now) == []
    clock.now += LATER / 2
    assert turns.take(clock.now + 1) == asked, "the older is due, the younger comes along"
    asked = put(turns, settle(clock))
    clock.now += REST
    asked += put(turns, reserve(clock))
    assert turns.take(clock.now + 1) == asked


def test_what_could_not_be_done_comes_first_and_at_once() -> None:
    clock = Clock()
    turns = Turns(clock)
    first = put(turns, reserve(clock))
    assert turns.take(clock.now + 1) == first
    then = put(turns, settle(clock))
    turns.put_back(first)
    assert turns.take(clock.now + 1) == first + then


def test_at_the_end_nothing_waits() -> None:
    clock = Clock()
    turns = Turns(clock)
    asked = put(turns, settle(clock))
    turns.close()
    assert turns.take(clock.now + 1) == asked
    assert turns.take(clock.now + 1) == []


def test_whoever_waits_for_all_of_it_hurries_it() -> None:
    """And waits until it is done, not only taken."""
    clock = Clock()
    turns = Turns(clock)
    asked = put(turns, settle(clock))
    taken: list[list[Work]] = []

    def work() -> None:
        while not turns.closing:
            taken.append(turns.take(clock.now + 3600))

    thread = threading.Thread(target=work)
    thread.start()
    assert turns.flush(10.0)
    turns.close()
    thread.join()
    assert taken[0] == asked
    assert len(turns) == 0
