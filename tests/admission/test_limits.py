"""Limits: windows that slide, debts that are paid off, grants that cannot leak; all of it by a clock in the test's hands."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.admission.limits.estimate import MOST_OUTPUT, UNKNOWN, Averages, goes_on, input_of, stated_output
from penstock.admission.limits.headers import limit_headers, retry_after, without_theirs
from penstock.admission.limits.spec import PERIODS, BadLimit, Limit, limits_of, make_limit, parse_limit, spell_limit
from penstock.admission.limits.store import Ask, Full, Grant, MemoryLimits, State, Used
from penstock.admission.limits.window import SLOTS, Window

MINUTE = 60.0
SLOT = MINUTE / SLOTS


def limit(measure: str = "requests", amount: int = 3, per: str = "minute", **more: Any) -> Limit:
    return make_limit(measure, amount, "" if measure == "streams" else per, **more)


# One window.


def test_what_was_used_slides_out_of_the_window() -> None:
    window = Window(10, MINUTE)
    window.charge(4, 0.0)
    window.charge(6, 30.0)
    assert (window.left(30.0), window.left(59.9)) == (0, 0)
    assert window.left(MINUTE + SLOT) == 4
    assert window.left(30.0 + MINUTE + SLOT) == 10


def test_a_debt_is_paid_off_window_by_window() -> None:
    window = Window(10, MINUTE)
    window.charge(35, 0.0)
    assert window.spent(0.0) == 35
    left = [window.left(float(at)) for at in range(400)]
    free = next(at for at in range(400) if left[at])
    assert free >= 3 * MINUTE, "35 are three windows and a half"
    assert (left[free], left[300]) == (5, 10)


def test_when_to_come_again_is_when_there_is_room() -> None:
    window = Window(10, MINUTE)
    window.charge(7, 0.0)
    window.charge(3, 20.0)
    assert window.whole_in(21.0) == pytest.approx(20.0 + MINUTE + SLOT - 21.0, abs=SLOT)
    wait = window.free_in(5, 21.0)
    assert window.left(21.0 + wait - 0.01) < 5 <= window.left(21.0 + wait)
    assert window.free_in(5, 200.0) == 0.0


def test_what_is_held_is_not_whole_and_may_be_free_soon() -> None:
    """`remaining` counts what is under way, so `reset` must too; and nobody is sent away for a day because of a stream that ends in a moment."""
    window = Window(100, 86_400.0)
    window.held = 60
    assert (window.left(1000.0), window.free_in(40, 1000.0), window.free_in(50, 1000.0)) == (40, 0.0, 1.0)
    assert window.whole_in(1000.0) == pytest.approx(86_400.0, abs=2 * 86_400 / SLOTS)
    window.charge(80, 1000.0)
    assert window.free_in(30, 2000.0) > 80_000, "what was used is in the way as well"
    assert window.free_in(10, 2000.0) == 1.0
    window.held = 0
    assert window.whole_in(80_000.0) < 10_000


def test_a_huge_debt_costs_little_time_and_is_not_forgotten() -> None:
    window = Window(1, 1.0)
    window.charge(10**12, 0.0)
    assert window.spent(0.0) == 10**12
    assert window.left(60.0) == 0
    assert len(window._slots) < 100  # pyright: ignore[reportPrivateUsage]


@given(
    amount=st.integers(1, 20), seconds=st.sampled_from([1.0, 60.0, 3600.0]),
    steps=st.lists(st.tuples(st.floats(0, 0.3), st.integers(1, 8)), min_size=1, max_size=60),
)
def test_in_no_stretch_of_a_window_s_length_more_than_the_limit(amount: int, seconds: float, steps: list[tuple[float, int]]) -> None:
    window, now, taken = Window(amount, seconds), 1000.0, list[tuple[float, int]]()
    for wait, wanted in steps:
        now += wait * seconds
        if wanted <= window.left(now):
            window.charge(wanted, now)
            taken.append((now, wanted))
    for at, _ in taken:
        assert sum(n for when, n in taken if at - seconds < when <= at) <= amount


@given(charges=st.lists(st.tuples(st.floats(0, 3), st.integers(0, 100)), max_size=20), amount=st.integers(1, 30))
def test_in_the_long_run_no_more_than_the_limit_whatever_is_charged(charges: list[tuple[float, int]], amount: int) -> None:
    window, now, total = Window(amount, 1.0), 0.0, 0
    for wait, used in charges:
        now += wait
        if window.left(now) > 0:
            window.charge(used, now)
            total += used
    # Until something may be used again, the time has passed in which all of it would have been used at the limit's pace.
    while window.spent(now) > 0:
        now += 0.25
        assert now < 10_000
    assert now + 1.0 >= min(64.0, total / amount), "a debt is booked into 64 windows at most"


# The store.


def test_all_limits_or_none() -> None:
    store = MemoryLimits()
    many, few = limit("requests", 5), limit("requests", 1, "hour")
    first = store.reserve([Ask(many, (), 1), Ask(few, (), 1)], 0.0)
    assert isinstance(first, Grant)
    full = store.reserve([Ask(many, (), 1), Ask(few, (), 1)], 1.0)
    assert isinstance(full, Full)
    assert full.limit is few
    assert full.retry_after > 3500
    assert store.spent(many, (), 1.0) == 1, "what is refused does not count"


def test_kept_apart_by_values() -> None:
    store, one = MemoryLimits(), limit("requests", 1, by=("key",))
    assert isinstance(store.reserve([Ask(one, ("a",), 1)], 0.0), Grant)
    assert isinstance(store.reserve([Ask(one, ("b",), 1)], 0.0), Grant)
    assert isinstance(store.reserve([Ask(one, ("a",), 1)], 0.0), Full)


def test_tokens_are_reserved_and_settled_by_what_was_used() -> None:
    store, tokens = MemoryLimits(), limit("tokens", 100)
    grant = store.reserve([Ask(tokens, (), 60)], 0.0)
    assert isinstance(grant, Grant)
    assert isinstance(store.reserve([Ask(tokens, (), 60)], 0.0), Full)
    store.settle(grant, Used(10, 5), 1.0)
    assert (store.held(), store.spent(tokens, (), 1.0)) == (0, 15)
    store.settle(grant, Used(10, 5), 1.0)
    assert store.spent(tokens, (), 1.0) == 15, "once"
    assert isinstance(store.reserve([Ask(tokens, (), 85)], 1.0), Grant)


def test_what_is_held_outlives_the_window() -> None:
    store, tokens = MemoryLimits(), limit("output_tokens", 100)
    store.reserve([Ask(tokens, (), 100)], 0.0)
    assert isinstance(store.reserve([Ask(tokens, (), 1)], 1000.0), Full), "the stream runs still"


def test_a_request_larger_than_its_limit_may_run_alone_and_owes_the_rest() -> None:
    store, tokens = MemoryLimits(), limit("tokens", 100)
    grant = store.reserve([Ask(tokens, (), 5000)], 0.0)
    assert isinstance(grant, Grant)
    store.settle(grant, Used(400, 100), 10.0)
    assert isinstance(store.reserve([Ask(tokens, (), 1)], 10 + 4 * MINUTE - 2), Full)
    assert isinstance(store.reserve([Ask(tokens, (), 1)], 10 + 5 * (MINUTE + SLOT)), Grant)


def test_open_streams() -> None:
    store, streams = MemoryLimits(), limit("streams", 2)
    first = store.reserve([Ask(streams, (), 1)], 0.0)
    store.reserve([Ask(streams, (), 1)], 0.0)
    assert isinstance(store.reserve([Ask(streams, (), 1)], 99.0), Full)
    assert isinstance(first, Grant)
    store.settle(first, Used(5, 5), 99.0)
    assert isinstance(store.reserve([Ask(streams, (), 1)], 99.0), Grant)


def test_strangers_do_not_make_it_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.admission.limits.store._MOST", 50)
    store, one = MemoryLimits(), limit("requests", 1, "second", by=("address",))
    answers = [isinstance(store.reserve([Ask(one, (str(n),), 1)], 0.0), Grant) for n in range(200)]
    assert len(store) <= 51
    assert sum(answers) == 51, "the others share one count"
    assert isinstance(store.reserve([Ask(one, ("new",), 1)], 10.0), Grant), "those that count nothing are forgotten"


def test_where_there_is_no_room_every_limit_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A count that is still empty is not forgotten between its look-up and its charge."""
    monkeypatch.setattr("penstock.admission.limits.store._MOST", 50)
    store, first, second = MemoryLimits(), limit("requests", 3, by=("address",)), limit("requests", 1000, "hour", by=("address",))
    for n in range(50):
        store.reserve([Ask(second, (f"old {n}",), 1)], 0.0)
    answers = [isinstance(store.reserve([Ask(first, (str(n),), 1), Ask(second, (str(n),), 1)], 1.0), Grant) for n in range(20)]
    assert sum(answers) == 3


def test_where_there_is_no_room_strangers_cost_no_search_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.admission.limits.store._MOST", 50)
    searched: list[float] = []
    empty = Window.empty

    def counted(self: Window, now: float) -> bool:
        searched.append(now)
        return empty(self, now)

    monkeypatch.setattr(Window, "empty", counted)
    store, one = MemoryLimits(), limit("requests", 5, "hour", by=("address",))
    for n in range(1000):
        store.reserve([Ask(one, (str(n),), 1)], n / 1000)
    assert len(searched) <= 51


LIMITS = [
    limit("requests", 5, "minute"), limit("requests", 2, "second", by=("key",)), limit("tokens", 300, "minute", by=("key",)),
    limit("input_tokens", 500, "hour"), limit("output_tokens", 200, "minute"), limit("streams", 4), limit("streams", 2, by=("key",)),
]  # fmt: skip


class Limits(RuleBasedStateMachine):
    """Reserve, settle, cancel, in any order and any time: what is held is what is under way, and what counts is what was used."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryLimits()
        self.now = 100.0
        self.out: list[tuple[Grant, list[Ask]]] = []

    @rule(wait=st.floats(0, 40))
    def wait(self, wait: float) -> None:
        self.now += wait

    @rule(who=st.sampled_from("ab"), tokens=st.integers(0, 400), some=st.lists(st.sampled_from(LIMITS), min_size=1, unique=True))
    def reserve(self, who: str, tokens: int, some: list[Limit]) -> None:
        asks = [Ask(one, (who,) if one.by else (), 1 if one.measure in ("requests", "streams") else tokens) for one in some]
        before = self.store.held()
        found = self.store.reserve(asks, self.now)
        if isinstance(found, Grant):
            self.out.append((found, asks))
        else:
            assert self.store.held() == before
            assert found.retry_after >= 0

    @precondition(lambda self: self.out)
    @rule(data=st.data(), used=st.tuples(st.integers(0, 500), st.integers(0, 500)))
    def settle(self, data: st.DataObject, used: tuple[int, int]) -> None:
        grant, _ = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        self.store.settle(grant, Used(*used), self.now)
        self.store.settle(grant, Used(*used), self.now)

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        grant, asks = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        before = [self.store.spent(ask.limit, ask.values, self.now) for ask in asks]
        stood = self.store.states(grant, self.now)
        stated = self.store.cancel(grant, self.now)
        after = [self.store.spent(ask.limit, ask.values, self.now) for ask in asks]
        assert all(now <= then for now, then in zip(after, before, strict=True))
        assert all(then.left <= now.left for then, now in zip(stood, stated, strict=True))

    @invariant()
    def held_is_what_is_under_way(self) -> None:
        held = sum(min(ask.amount, ask.limit.amount) for _, asks in self.out for ask in asks if ask.limit.measure != "requests")
        assert self.store.held() == held

    @invariant()
    def no_more_streams_than_may_be(self) -> None:
        for one in LIMITS[-2:]:
            for values in {ask.values for _, asks in self.out for ask in asks if ask.limit is one}:
                assert sum(ask.limit is one and ask.values == values for _, asks in self.out for ask in asks) <= one.amount

    def teardown(self) -> None:
        for grant, _ in self.out:
            self.store.settle(grant, Used(0, 0), self.now)
        assert self.store.held() == 0


TestStore = Limits.TestCase


# How it is written, estimated and told.


@pytest.mark.parametrize("text", ["requests=60/minute", "tokens=1000000/day", "input_tokens=5/second", "output_tokens=7/month", "streams=5"])
def test_limits_of_keys_as_they_are_written(text: str) -> None:
    assert spell_limit(parse_limit(text)) == text
    assert parse_limit(text).by == ("key",)


@pytest.mark.parametrize(("text", "why"), [
    ("60/minute", "is no limit"), ("request=5/minute", "cannot be limited"), ("requests=5", "has no period"),
    ("requests=5/fortnight", "is no period"),
    ("streams=5/minute", "leave the period out"), ("requests=0/minute", "above 0"), ("requests=-1/minute", "is no limit"), ("", "is no limit"),
])  # fmt: skip
def test_what_is_no_limit(text: str, why: str) -> None:
    with pytest.raises(BadLimit, match=why):
        parse_limit(text)


def test_what_is_wrong_of_several_is_named() -> None:
    """Two may be written on one command line."""
    with pytest.raises(BadLimit, match=r"^requests=3: has no period; add one of second, "):
        parse_limit("requests=3")


def test_periods() -> None:
    assert list(PERIODS) == ["second", "minute", "hour", "day", "week", "month"]


@pytest.mark.parametrize(("body", "output"), [
    (None, None), (b"", None), (b"not json", None), (b"[]", None), (b"{}", None), (b'{"max_tokens": 7}', 7), (b'{"max_tokens": "7"}', None),
    (b'{"max_tokens": 7, "max_completion_tokens": 9}', 9), (b'{"max_output_tokens": 7}', 7), (b'{"max_tokens": 7, "n": 3}', 21),
    (b'{"generationConfig": {"maxOutputTokens": 7, "candidateCount": 2}}', 14), (b'{"max_tokens": 0}', None), (b'{"max_tokens": 7, "n": -1}', 7),
    (b'{"max_tokens": true}', None), (b'{"max_tokens": 7, "best_of": 3}', 21), (b'{"max_tokens": %d}' % 10**30, MOST_OUTPUT),
    (b'{"max_tokens": %d, "n": 128}' % MOST_OUTPUT, MOST_OUTPUT), (b'{"generation_config": {"max_output_tokens": 7, "candidate_count": 2}}', 14),
    (rb'{"max_t\u006fk\u0065ns": 7}', 7), (rb'{"\u006d\u0061\u0078_\u0074\u006f\u006b\u0065\u006e\u0073": 7}', 7),
])  # fmt: skip
def test_the_output_that_is_asked_for(body: bytes | None, output: int | None) -> None:
    assert stated_output(body) == output


@pytest.mark.parametrize(("protocol", "body", "output"), [
    ("openai_chat", b'{"max_completion_tokens": 1, "max_tokens": 9000}', 9000),
    ("openai_chat", b'{"max_tokens": 9, "max_output_tokens": 1, "generationConfig": {"maxOutputTokens": 1}}', 9),
    ("openai_chat", b'{"max_output_tokens": 1}', None), ("anthropic_messages", b'{"max_tokens": 9000, "max_completion_tokens": 1}', 9000),
    ("openai_responses", b'{"max_output_tokens": 9, "max_tokens": 1}', 9), ("openai_responses", b'{"max_tokens": 1}', None),
    ("gemini", b'{"generationConfig": {"maxOutputTokens": 1}, "generation_config": {"max_output_tokens": 9}, "max_tokens": 1}', 9),
])  # fmt: skip
def test_a_bound_that_its_provider_does_not_know_bounds_nothing(protocol: str, body: bytes, output: int | None) -> None:
    """Else whoever asks for much would set little aside."""
    assert stated_output(body, protocol) == output


def test_averages_follow_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.admission.limits.estimate._MOST", 3)
    means = Averages()
    assert means.output_of("a") == UNKNOWN
    means.learn("a", 100)
    assert means.output_of("a") == 100
    for _ in range(50):
        means.learn("a", 10)
    assert 10 <= means.output_of("a") <= 11
    for name in "bcd":
        means.learn(name, 5)
    assert means.output_of("a") == UNKNOWN
    assert input_of(9) == 3


def test_headers_in_each_style() -> None:
    tight, loose = State(limit("requests", 10), 1, 6.2), State(limit("requests", 100, "hour"), 90, 3000.0)
    tokens = State(limit("input_tokens", 1000), 500, 0.25)
    found = dict(limit_headers([loose, tight, tokens, State(limit("streams", 3), 1, 0.0)], 0.0, anthropic=False))
    assert found == {
        b"x-ratelimit-limit-requests": b"10", b"x-ratelimit-remaining-requests": b"1", b"x-ratelimit-reset-requests": b"7s",
        b"x-ratelimit-limit-input-tokens": b"1000", b"x-ratelimit-remaining-input-tokens": b"500", b"x-ratelimit-reset-input-tokens": b"250ms",
    }
    found = dict(limit_headers([loose], 0.0, anthropic=True))
    assert found == {
        b"anthropic-ratelimit-requests-limit": b"100", b"anthropic-ratelimit-requests-remaining": b"90",
        b"anthropic-ratelimit-requests-reset": b"1970-01-01T00:50:00Z",
    }
    assert dict(limit_headers([State(limit("tokens", 5, "month"), 5, 86_461.0)], 0.0, anthropic=False))[b"x-ratelimit-reset-tokens"] == b"24h1m1s"
    assert [retry_after(seconds) for seconds in (0.0, 1.2)] == [(b"retry-after", b"1"), (b"retry-after", b"2")]
    theirs = [(b"X-RateLimit-Limit-Requests", b"9"), (b"anthropic-ratelimit-tokens-reset", b"x"), (b"a", b"1")]
    assert without_theirs(theirs) == [(b"a", b"1")]


def test_a_key_s_limits_of_one_kind() -> None:
    """They would be counted as one: of two that differ in their amount alone the smaller one counts, wherever it stands."""
    found = limits_of(["requests=1000/minute", "requests=2/minute", "requests=5/hour", "streams=3", "requests=30/minute", "streams=4"])
    assert [spell_limit(limit) for limit in found] == ["requests=2/minute", "requests=5/hour", "streams=3"]


@pytest.mark.parametrize("depth", [900, 1100, 100_000])
def test_of_what_is_nested_too_deeply_nothing_is_known(depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    assert stated_output(b'{"max_tokens":5,"x":' + deep + b"}") in (5, None)
    assert stated_output(b'{"max_tokens":' + deep + b"}") is None
    assert goes_on(b'{"background":true,"x":' + deep + b"}") in (True, False)
