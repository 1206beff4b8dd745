"""Budgets: how they are written, their windows, their shares, and what an exchange is charged."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import astuple

from penstock.admission.budget.account import NOTHING, Wish, grant, grant_more
from penstock.admission.budget.charge import Made, tokens_of
from penstock.admission.budget.spec import Action, BadBudget, Budget, budgets_of, make_budget, parse_budget, spell_budget, window_of
from penstock.vocabulary.usage import Kinds, Usage


@pytest.mark.parametrize(("text", "amount"), [
    ("tokens=1000000/day,block", 1000000), ("money=12.50/month,cut", 12_500_000), ("money=0.000001/total,audit", 1), ("tokens=5/week,warn", 5),
])  # fmt: skip
def test_budgets_of_keys_as_they_are_written(text: str, amount: int) -> None:
    budget = parse_budget(text)
    assert (budget.amount, spell_budget(budget), budget.by) == (amount, text, ("key",))


def test_to_block_goes_without_saying() -> None:
    assert parse_budget("tokens=5/day").action is Action.BLOCK


@pytest.mark.parametrize(("text", "why"), [
    ("5/day", "is no budget"), ("tokens=5", "is no budget"), ("tokens=5/fortnight", "is no window"), ("tokens=1.5/day", "whole numbers"),
    ("tokens=0/day", "no amount"), ("money=0.00/day", "no amount"), ("tokens=5/day,stop", "is no action"), ("euros=5/day", "is no budget"),
])  # fmt: skip
def test_what_is_no_budget(text: str, why: str) -> None:
    with pytest.raises(BadBudget, match=why):
        parse_budget(text)


def test_what_is_wrong_of_several_is_named() -> None:
    with pytest.raises(BadBudget, match=r"^tokens=5/fortnight: 'fortnight' is no window"):
        parse_budget("tokens=5/fortnight")


@pytest.mark.parametrize(("per", "at", "window", "ends"), [
    ("day", "2027-01-31T23:59:59", "day 2027-01-31", "2027-02-01"), ("day", "2027-02-01T00:00:00", "day 2027-02-01", "2027-02-02"),
    ("week", "2027-01-31T12:00:00", "week 2027-01-25", "2027-02-01"), ("week", "2027-02-01T00:00:00", "week 2027-02-01", "2027-02-08"),
    ("month", "2027-01-31T12:00:00", "month 2027-01-01", "2027-02-01"), ("month", "2027-12-31T12:00:00", "month 2027-12-01", "2028-01-01"),
    ("month", "2028-02-29T12:00:00", "month 2028-02-01", "2028-03-01"), ("total", "2027-01-31T12:00:00", "total", None),
])  # fmt: skip
def test_windows_of_the_calendar(per: str, at: str, window: str, ends: str | None) -> None:
    def seconds(text: str) -> float:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()

    assert window_of(per, seconds(at)) == (window, None if ends is None else seconds(ends))


def wish(action: str, amount: int = 100, wanted: int = 30) -> Wish:
    return Wish(make_budget("tokens", str(amount), "day", action), "", "w", None, wanted, "x", NOTHING)


@pytest.mark.parametrize(("action", "spent", "held", "share"), [
    ("block", 0, 0, 30), ("block", 80, 0, 30), ("block", 80, 19, 30), ("block", 80, 20, None), ("block", 100, 0, None), ("block", 500, 0, None),
    ("cut", 0, 0, 30), ("cut", 80, 0, 20), ("cut", 80, 19, 1), ("cut", 80, 20, None), ("audit", 500, 500, 30), ("warn", 500, 0, 30),
])  # fmt: skip
def test_shares(action: str, spent: int, held: int, share: int | None) -> None:
    assert grant(wish(action), spent, held) == share


@given(amount=st.integers(1, 1000), wants=st.lists(st.tuples(st.integers(0, 300), st.booleans()), max_size=30))
def test_a_budget_is_overshot_by_no_more_than_one_share(amount: int, wants: list[tuple[int, bool]]) -> None:
    """Everybody uses what was set aside for them, some while the others still run."""
    spent = held = 0
    running: list[int] = []
    for wanted, ends in wants:
        one = grant(wish("block", amount, wanted), spent, held)
        if one is not None:
            held += one
            running.append(one)
            assert spent + held - max(running) < amount
        if ends and running:
            done = running.pop(0)
            held, spent = held - done, spent + done
    cut = grant(wish("cut", amount, 10**6), spent, held)
    assert cut is None or spent + held + cut <= amount
    assert spent + held + grant_more(wish("cut", amount), spent, held, 10**6) <= max(amount, spent + held)


def made(protocol: str = "openai_chat", **more: Any) -> Made:
    given: dict[str, Any] = {
        "usage": Usage(), "final": False, "events": 0, "bytes_in": 0, "bytes_out": 0, "streamed": True, "failed": False, **more}
    return Made(protocol, **given)


@pytest.mark.parametrize(("what", "tokens"), [
    (made(usage=Usage(input=10, output=5, cache_read=4, reasoning=2), final=True), (10, 5)),
    (made("anthropic_messages", usage=Usage(input=10, output=5, cache_read=4, cache_write=3), final=True), (17, 5)),
    (made("gemini", usage=Usage(input=10, output=5, reasoning=7, tool_use=2), final=True), (12, 12)),
    # An answer that broke off: an event a token, four bytes of the request a token, unless the provider said more.
    (made(events=20, bytes_in=41), (11, 20)),
    (made("anthropic_messages", usage=Usage(input=10, output=1), events=20, bytes_in=400), (10, 20)),
    (made("gemini", usage=Usage(input=10, output=90), events=20), (10, 90)),
    (made(streamed=False, bytes_out=80, bytes_in=8), (2, 20)),
    # A Messages stream opens with 0 where it is not known yet; with all of it cached, 0 is the truth.
    (made("anthropic_messages", usage=Usage(input=0, output=0), events=20, bytes_in=400), (100, 20)),
    (made("anthropic_messages", usage=Usage(input=0, cache_read=70), events=20, bytes_in=400), (70, 20)),
    # An error, or nothing at all.
    (made(failed=True, events=3, bytes_in=100), (0, 0)), (made(failed=True, usage=Usage(input=9)), (9, 0)),
    (made(usage=Usage(output=0), final=True), (0, 0)),
])  # fmt: skip
def test_what_is_charged(what: Made, tokens: tuple[int, int]) -> None:
    found = tokens_of(what)
    assert (found.input, found.output) == tokens


@pytest.mark.parametrize("protocol", ["openai_chat", "anthropic_messages", "gemini"])
@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize("most", [2**63 - 1, 10**13])
def test_what_nobody_can_have_used_is_no_count(protocol: str, final: bool, most: int) -> None:
    """It could not be added up: the keeper of budgets would try again for ever."""
    usage = Usage(input=most, output=most, cache_read=most, cache_write=5, reasoning=most, tool_use=most, kinds=Kinds(image_output=most))
    found = tokens_of(made(protocol, usage=usage, final=final, events=20))
    assert (found.input, found.output) == (tokens_of(made(protocol, usage=Usage(cache_write=5), events=20)).input, 20)
    assert max(value or 0 for value in astuple(found.usage)) < 10**12


def test_money_is_priced_in_the_provider_s_own_way_of_counting() -> None:
    found = tokens_of(made("anthropic_messages", usage=Usage(input=10, cache_read=4), events=20))
    assert found.usage == Usage(input=10, output=20, cache_read=4)


def test_budget_binds() -> None:
    def binds(action: str) -> bool:
        found: Budget = wish(action).budget
        return found.binds

    assert [binds(action) for action in Action] == [False, False, True, True]


def test_a_key_s_budgets_of_one_kind() -> None:
    """Each is kept apart from the others; of two that differ in their amount alone the smaller one counts."""
    found = budgets_of(["tokens=10/day", "tokens=5/day,warn", "tokens=7/day", "money=1/day"])
    assert sorted((budget.name, budget.amount) for budget in found) == [
        ("the key's own money day", 1_000_000), ("the key's own tokens day", 7), ("the key's own tokens day (warn)", 5)]  # fmt: skip
