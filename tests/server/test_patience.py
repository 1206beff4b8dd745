"""Who is overdue, with time as an argument."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.server.patience import LONGEST, SHORTEST, Wait, Watch, limit_of, period, too_long
from penstock.server.settings import Settings


def test_a_wait_counts_from_the_look_that_saw_it_first() -> None:
    watch, head = Watch(), [(b"Host", b"x")]
    assert [watch.waited(Wait.HEAD, head, now) for now in (5.0, 6.0, 9.5)] == [0.0, 1.0, 4.5]


def test_a_head_is_the_same_one_however_much_of_it_came() -> None:
    watch, head = Watch(), list[tuple[bytes, bytes]]()
    watch.waited(Wait.HEAD, head, 1.0)
    head.append((b"A", b"b"))
    assert watch.waited(Wait.HEAD, head, 3.0) == 2.0


def test_two_heads_that_look_alike_are_two() -> None:
    watch = Watch()
    watch.waited(Wait.HEAD, [], 1.0)
    assert watch.waited(Wait.HEAD, [], 3.0) == 0.0


@pytest.mark.parametrize("wait", [Wait.BODY, Wait.NEXT])
def test_progress_begins_anew(wait: Wait) -> None:
    watch = Watch()
    assert [watch.waited(wait, mark, now) for mark, now in ((1, 1.0), (1, 3.0), (2, 4.0), (2, 4.5))] == [0.0, 2.0, 0.0, 0.5]


def test_what_comes_between_begins_anew() -> None:
    watch, head = Watch(), list[object]()
    watch.waited(Wait.HEAD, head, 1.0)
    assert watch.waited(None, None, 2.0) == 0.0
    assert watch.waited(Wait.HEAD, head, 3.0) == 0.0
    assert watch.waited(Wait.BODY, head, 9.0) == 0.0


LOOKS = st.lists(st.tuples(st.sampled_from([*Wait, None]), st.integers(0, 2), st.floats(0, 5)), max_size=40)


@given(LOOKS)
def test_never_longer_than_it_was_so(looks: list[tuple[Wait | None, int, float]]) -> None:
    """Seconds since the first of the last looks that all saw the same."""
    watch, now = Watch(), 0.0
    heads = [list[object]() for _ in range(3)]
    first, before = 0.0, None
    for wait, mark, later in looks:
        now += later
        if (wait, mark) != before or wait is None:
            first = now
        before = (wait, mark)
        assert watch.waited(wait, heads[mark] if wait is Wait.HEAD else mark, now) == now - first


def test_limits_are_the_settings() -> None:
    settings = Settings(head_seconds=1, body_seconds=2, idle_seconds=3)
    assert [limit_of(wait, settings) for wait in Wait] == [1, 2, 3]
    assert limit_of(Wait.NEXT, Settings(idle_seconds=None)) is None


def test_what_holds_unless_told_otherwise() -> None:
    settings = Settings()
    assert (settings.head_bytes, settings.head_fields, settings.client_connections) == (32 * 1024, 100, None)
    assert [limit_of(wait, settings) for wait in Wait] == [10, 60, 75]


@pytest.mark.parametrize(("shortest", "seconds"), [(0.001, SHORTEST), (0.1, SHORTEST), (0.8, 0.1), (4, LONGEST), (100, LONGEST)])
def test_looks_are_as_near_together_as_the_shortest_wait_needs(shortest: float, seconds: float) -> None:
    assert period(Settings(head_seconds=shortest, body_seconds=200, idle_seconds=None)) == seconds
    assert period(Settings(head_seconds=200, body_seconds=200, idle_seconds=shortest)) == seconds


@given(st.floats(0.01, 1000), st.floats(0.01, 1000), st.none() | st.floats(0.01, 1000))
def test_two_looks_are_less_than_a_quarter_of_a_second_for_what_is_short(head: float, body: float, idle: float | None) -> None:
    between = period(Settings(head_seconds=head, body_seconds=body, idle_seconds=idle))
    shortest = min(limit for limit in (head, body, idle) if limit is not None)
    assert SHORTEST <= between <= LONGEST
    assert 2 * between <= max(2 * SHORTEST, shortest / 4)


def test_the_client_is_told_what_was_too_long() -> None:
    assert too_long(Wait.HEAD, 10.0) == "The request's head was not whole within 10 s."
    assert too_long(Wait.BODY, 0.25) == "Nothing came of the request's body for 0.25 s."
