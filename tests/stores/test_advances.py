"""What a busy gateway sets aside in advance: requests need no turn of their own then, and no budget is overshot for it."""

from __future__ import annotations

import itertools
import random
import time
from itertools import pairwise

import pytest
import sqlalchemy as sa
from msgspec.structs import replace
from sqlalchemy.exc import IntegrityError, OperationalError

from penstock.admission.budget.account import Answer, Charge, Share, Shares, Spent, Wish
from penstock.admission.budget.spec import Budget, make_budget
from penstock.stores import advances as module
from penstock.stores.budgets import Budgets
from penstock.stores.schema import budget_held, budget_shares, budget_spent
from penstock.stores.turns import Work
from tests.support.purses import ask, away, charged_in, deaf, filed, gateway, held, kill, meanwhile, quiet, shares, spent, wish, write_row

LARGE = 100_000


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No advance goes back because these tests run slowly."""
    monkeypatch.setattr(module, "_BUSY", 60.0)


def of(budget: Budget, amount: int, id: str, subject: str = "s") -> Wish:
    return Wish(budget, subject, "w", None, amount, id, Charge(amount, 0, None))


@pytest.fixture(params=["block", "cut", "warn"])
def large(request: pytest.FixtureRequest) -> Budget:
    return make_budget("tokens", str(LARGE), "day", request.param, name="b")


def busy(budgets: Budgets, budget: Budget, amount: int = 100) -> list[Share]:
    """Requests that come close upon another: two of them."""
    return [shares(ask(budgets, of(budget, amount, f"busy{n}")))[0] for n in range(2)]


def of_advances(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        held = sa.select(sa.func.coalesce(sa.func.sum(budget_shares.c.held), 0))
        return int(connection.scalar(held.where(budget_shares.c.exchange.like("advance-%"), budget_shares.c.used.is_(None))) or 0)


def taken(budgets: Budgets, *wishes: Wish) -> list[Share]:
    found = budgets.take_ahead(wishes)
    assert isinstance(found, Shares)
    return found.shares


def test_a_busy_gateway_answers_without_a_turn(engine: sa.Engine, large: Budget) -> None:
    budgets = quiet(engine, "i1")
    first = busy(budgets, large)
    assert (held(engine), of_advances(engine)) == (600, 400), "four times what the last turn was asked for"
    before = budgets.counters.transactions
    some = [share for n in range(4) for share in taken(budgets, of(large, 100, f"ahead{n}"))]
    assert budgets.take_ahead([of(large, 100, "late")]) is None, "it is all given out"
    assert [share.amount for share in some] == [100] * 4
    assert (budgets.counters.transactions, held(engine)) == (before, 600)
    assert budgets.flush()
    assert budgets.counters.transactions == before + 1, "one turn for all of them"
    assert [id for id, _ in filed(engine) if id.startswith("ahead")] == ["ahead0", "ahead1", "ahead2", "ahead3"]
    assert (held(engine), of_advances(engine)) == (600 + 1600, 1600)
    budgets.settle([(share, 30) for share in (*first, *some)], Charge(30, 0, None))
    assert budgets.flush()
    assert (held(engine), spent(engine)) == (1600, {"b": 180})
    assert budgets.close() == 0
    assert (held(engine), of_advances(engine), spent(engine)) == (0, 0, {"b": 180})


def test_who_comes_alone_sets_nothing_aside_for_others(engine: sa.Engine, large: Budget, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BUSY", 0.05)
    budgets = quiet(engine, "i1")
    for n in range(3):
        shares(ask(budgets, of(large, 100, f"x{n}")))
        time.sleep(0.1)
    assert (held(engine), of_advances(engine)) == (300, 0)
    budgets.close()


def test_near_its_end_a_budget_is_asked_each_time(engine: sa.Engine) -> None:
    """So that nobody is refused for what somebody else has set aside and does not need."""
    budgets = quiet(engine, "i1")
    budget = make_budget("tokens", "1000", "day", "block", name="b")
    for n in range(10):
        assert budgets.take_ahead([of(budget, 100, f"x{n}")]) is None
        shares(ask(budgets, of(budget, 100, f"x{n}")))
    assert isinstance(ask(budgets, of(budget, 1, "last")), Spent)
    assert held(engine) == 1000
    budgets.close()


def test_it_grows_less_with_what_is_left(engine: sa.Engine) -> None:
    """Also where its gateway goes on taking a little: others are not refused for what was much when there was much."""
    one, other = quiet(engine, "i1"), quiet(engine, "i2")
    budget = make_budget("tokens", "10000", "day", "cut", name="b")
    busy(one, budget)
    shares(ask(other, of(budget, 9000, "most")))
    assert (held(engine), of_advances(engine)) == (9600, 400)
    taken(one, of(budget, 100, "ahead"))
    assert one.flush()
    assert (held(engine), of_advances(engine)) == (9300 + 43, 43), "a sixteenth"
    (rest,) = shares(ask(other, of(budget, 1000, "rest")))
    assert rest.amount == 657
    for budgets in (one, other):
        assert budgets.close() == 0
    assert (held(engine), of_advances(engine)) == (9957, 0)


def test_an_advance_does_not_stand_in_its_own_gateways_way(engine: sa.Engine) -> None:
    budgets = quiet(engine, "i1")
    budget = make_budget("tokens", "10000", "day", "cut", name="b")
    busy(budgets, budget)
    assert of_advances(engine) == 400
    (rest,) = shares(ask(budgets, of(budget, 20_000, "all")))
    assert (rest.amount, held(engine), of_advances(engine)) == (9800, 10_000, 0)
    budgets.close()


def test_more_for_one_that_runs_comes_out_of_it_too(engine: sa.Engine, large: Budget) -> None:
    budgets = quiet(engine, "i1")
    one, two = busy(budgets, large)
    (ahead,) = taken(budgets, of(large, 100, "ahead"))
    found: list[int] = []
    before = budgets.counters.transactions
    budgets.extend(ahead, 50, found.append)
    budgets.extend(one, 50, found.append)
    assert (found, ahead.amount, one.amount, budgets.counters.transactions) == ([50, 50], 150, 150, before)
    assert budgets.flush()
    assert (budgets.counters.transactions, budgets.counters.failures) == (before + 1, 0)
    assert held(engine) - of_advances(engine) == 150 + 150 + 100
    budgets.extend(two, LARGE, found.append)
    assert budgets.flush()
    if large.binds:
        assert (found[2], held(engine)) == (LARGE - 400, LARGE)
    budgets.settle([(one, 1), (two, 2), (ahead, 3)])
    budgets.close()
    assert (held(engine), spent(engine)) == (0, {"b": 6})


def test_what_was_used_is_told_before_it_is_booked(engine: sa.Engine, large: Budget) -> None:
    budgets = quiet(engine, "i1")
    one, two = busy(budgets, large)
    budgets.settle([(one, 7)])
    (ahead,) = taken(budgets, of(large, 100, "ahead"))
    assert ahead.spent == 7
    assert budgets.flush()
    budgets.settle([(two, 8), (ahead, 9)])
    (after,) = taken(budgets, of(large, 100, "after"))
    assert (after.spent, spent(engine)) == (24, {"b": 7})
    assert budgets.flush()
    (last,) = taken(budgets, of(large, 100, "last"))
    assert (last.spent, spent(engine)) == (24, {"b": 24})
    budgets.close()


def test_begun_and_over_within_one_turn(engine: sa.Engine, large: Budget) -> None:
    budgets = quiet(engine, "i1")
    busy(budgets, large)
    (used,) = taken(budgets, of(large, 100, "used"))
    (unused,) = taken(budgets, of(large, 100, "unused"))
    budgets.settle([(used, 5)], Charge(5, 0, None))
    budgets.settle([(unused, 0)])
    assert budgets.flush()
    assert [row for row in filed(engine) if row[0].endswith("used")] == [("used", 5)]
    budgets.close()
    assert (held(engine), spent(engine)) == (200, {"b": 5}), "of those two that nobody has settled"


def test_of_several_budgets_all_or_nothing(engine: sa.Engine, large: Budget) -> None:
    budgets = quiet(engine, "i1")
    small = make_budget("tokens", "500", "day", "block", name="small")
    for n in range(2):
        shares(ask(budgets, of(large, 100, f"x{n}"), of(small, 100, f"x{n}")))
    assert of_advances(engine) == 400
    assert budgets.take_ahead([of(large, 100, "y"), of(small, 100, "y")]) is None
    assert [share.amount for share in taken(budgets, of(large, 400, "z"))] == [400], "nothing of it is gone"
    budgets.close()


def test_what_is_left_at_the_end_is_counted_by_its_charges(engine: sa.Engine, large: Budget) -> None:
    budgets = quiet(engine, "i1")
    one, _ = busy(budgets, large)
    deaf(budgets, 12)
    budgets.stop_soon(0.2)
    with budgets.turns.lock:
        budgets.settle([(one, 1)])
        budgets.turns.closing = False
        taken(budgets, of(large, 100, "ahead"))
        budgets.turns.closing = True
    assert budgets.close() == 1
    budgets._thread.join(10)  # pyright: ignore[reportPrivateUsage]
    assert (budgets.close(), spent(engine)) == (0, {"b": 1})


def test_a_budget_that_was_set_anew_is_asked(engine: sa.Engine, large: Budget) -> None:
    budgets = quiet(engine, "i1")
    busy(budgets, large)
    less = make_budget("tokens", "150", "day", "block", name="b")
    assert budgets.take_ahead([of(less, 100, "x")]) is None
    assert isinstance(ask(budgets, of(less, 100, "x")), Spent)
    budgets.close()


def test_what_is_not_needed_goes_back(engine: sa.Engine, large: Budget, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BUSY", 0.8)
    budgets = gateway(engine, "i1", tidy=0.05)
    busy(budgets, large)
    assert of_advances(engine) == 400
    deadline = time.monotonic() + 10
    while of_advances(engine) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (held(engine), of_advances(engine), len(budgets.turns.advances)) == (200, 0, 0)
    assert budgets.take_ahead([of(large, 100, "late")]) is None
    budgets.close()


def test_what_ends_keeps_no_advance(engine: sa.Engine, large: Budget, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody comes any more, of this budget or in this window; many streams that began before are settled one after another."""
    monkeypatch.setattr(module, "_BUSY", 0.8)
    budgets = gateway(engine, "i1", tidy=0.05)
    many = [shares(ask(budgets, of(large, 10, f"x{n}")))[0] for n in range(100)]
    assert of_advances(engine) == 40
    for share in many:
        budgets.settle([(share, 1)], Charge(1, 0, None))
        time.sleep(0.02)
        if not of_advances(engine):
            break
    assert (of_advances(engine), len(budgets.turns.advances)) == (0, 0)
    budgets.close()


def test_of_a_window_that_is_over_nothing_stays_set_aside(engine: sa.Engine, large: Budget, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the next one is busy, what began in the old one goes on, ends there, and asks there for more."""
    monkeypatch.setattr(module, "_BUSY", 0.8)
    budgets = gateway(engine, "i1", tidy=0.05)
    many = [shares(ask(budgets, of(large, 10, f"x{n}")))[0] for n in range(100)]
    old, found = many[0].wish.place, list[int]()
    budgets.extend(many[0], 7, found.append)
    while len(many) > 1 and budgets.turns.advances.at(old) is not None:
        new = replace(of(large, 10, f"y{len(many)}"), window="next")
        if budgets.take_ahead([new]) is None:
            ask(budgets, new)
        budgets.settle([(many.pop(), 1)], Charge(1, 0, None))
        time.sleep(0.02)
    budgets.settle([(share, 1) for share in many], Charge(1, 0, None))
    assert budgets.flush()
    with engine.connect() as connection:
        held_there = sa.select(sa.func.sum(budget_held.c.held)).where(budget_held.c.period == "w")
        assert not connection.scalar(held_there)
    assert (found, of_advances(engine) > 0) == ([7], True), "of the window that runs"
    budgets.close()


def test_what_goes_back_keeps_nobody_waiting(engine: sa.Engine, large: Budget, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many subjects, not all at once; at the end as well, when what was used comes first."""
    monkeypatch.setattr(module, "_BUSY", 0.5)
    budgets = gateway(engine, "i1", tidy=0.02)
    most: list[int] = []
    real = budgets.turns.take

    def take(until: float) -> list[Work]:
        most.append(len(budgets.turns.advances))
        return real(until)

    monkeypatch.setattr(budgets.turns, "take", take)
    for round in range(2):
        for n in range(100):
            budgets.reserve([of(large, 10, f"x{round}-{n}", f"s{n}")], lambda _: None)
        assert budgets.flush()
    assert len(budgets.turns.advances) == 100
    deadline = time.monotonic() + 10
    while len(budgets.turns.advances) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert of_advances(engine) == 0
    assert max(before - after for before, after in pairwise(most)) <= 32
    for n in range(2):
        ask(budgets, *[of(large, 10, f"last{n}", f"s{subject}") for subject in range(100)])
    assert len(budgets.turns.advances) == 100
    assert budgets.close() == 0
    assert (len(budgets.turns.advances), of_advances(engine)) == (0, 0)
    assert max(before - after for before, after in pairwise(most)) <= 32


def test_what_could_not_go_back_goes_back_later(engine: sa.Engine, large: Budget, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database was away when it was to go, and nothing else waited."""
    monkeypatch.setattr(module, "_BUSY", 0.1)
    budgets = gateway(engine, "i1", tidy=0.05)
    busy(budgets, large)
    assert budgets.flush()
    real, looks = budgets.turns.take, itertools.count()

    def take(until: float) -> list[Work]:
        next(looks)
        return real(until)

    monkeypatch.setattr(budgets.turns, "take", take)
    away(budgets, OperationalError("BEGIN", None, Exception("the server is away")))
    deadline = time.monotonic() + 10
    while not budgets.counters.failures and time.monotonic() < deadline:
        time.sleep(0.01)
    before = next(looks)
    time.sleep(0.5)
    assert next(looks) - before < 50, "it does not look all the time"
    deadline = time.monotonic() + 10
    while of_advances(engine) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (held(engine), of_advances(engine)) == (200, 0)
    budgets.close()


@pytest.mark.parametrize("times", [1, 3])
def test_a_turn_of_which_nobody_knows_is_done_once(engine: sa.Engine, large: Budget, times: int) -> None:
    budgets = quiet(engine, "i1")
    one, _ = busy(budgets, large)
    found: list[int] = []
    (ahead,) = taken(budgets, of(large, 100, "ahead"))
    (used,) = taken(budgets, of(large, 100, "used"))
    budgets.extend(ahead, 20, found.append)
    deaf(budgets, times)
    budgets.settle([(one, 10), (used, 11)], Charge(10, 0, None))
    assert budgets.flush()
    assert budgets.counters.failures == times
    assert (found, held(engine) - of_advances(engine), spent(engine)) == ([20], 220, {"b": 21})
    budgets.settle([(ahead, 1)])
    assert budgets.close() == 0
    assert (held(engine), of_advances(engine), spent(engine)) == (100, 0, {"b": 22})


def test_what_was_given_back_is_not_put_on_file_afterwards(engine: sa.Engine, large: Budget) -> None:
    """The database does not take one of them, and then it does."""
    budgets = quiet(engine, "i1")
    busy(budgets, large)
    away(budgets, *[IntegrityError("INSERT", None, Exception("not this one"))] * 2)
    with budgets.turns.lock:
        (ahead,) = taken(budgets, of(large, 100, "ahead"))
        budgets.settle([(ahead, 0)])
    assert budgets.flush()
    assert (held(engine) - of_advances(engine), budgets.close(), held(engine)) == (200, 0, 200)


@pytest.mark.parametrize("times", [1, 3])
def test_an_advance_of_whose_beginning_nobody_knows_is_one(engine: sa.Engine, large: Budget, times: int) -> None:
    budgets = quiet(engine, "i1")
    shares(ask(budgets, of(large, 100, "one")))
    deaf(budgets, times)
    shares(ask(budgets, of(large, 100, "two")))
    assert budgets.counters.failures == times
    assert (held(engine), of_advances(engine)) == (600, 400)
    assert budgets.close() == 0
    assert (held(engine), of_advances(engine)) == (200, 0)


def test_while_the_database_is_away_nothing_is_given_out(engine: sa.Engine, large: Budget) -> None:
    budgets = quiet(engine, "i1")
    busy(budgets, large)
    away = deaf(budgets, 1000)
    taken(budgets, of(large, 100, "ahead"))
    found: list[Answer] = []
    budgets.reserve([of(large, 500, "asked")], found.append)
    deadline = time.monotonic() + 10
    while not budgets.counters.failures and time.monotonic() < deadline:
        time.sleep(0.002)
    assert budgets.take_ahead([of(large, 1, "y")]) is None
    assert budgets.take_ahead([of(large, 0, "z")]) is None, "nor that which costs nothing"
    away.times = 0
    assert budgets.flush()
    assert (len(found), held(engine) - of_advances(engine)) == (1, 200 + 100 + 500)
    budgets.close()


def test_what_the_dead_had_in_advance_goes_back(engine: sa.Engine, large: Budget) -> None:
    dead = quiet(engine, "dead")
    busy(dead, large)
    taken(dead, of(large, 100, "ahead"))
    dead.file_ahead(8)
    write_row(engine, "ahead", "CRASHED")
    assert held(engine) == 300 + of_advances(engine)
    kill(engine, "dead")
    living = quiet(engine, "living")
    assert (held(engine), spent(engine), charged_in(engine, "ahead")) == (0, {"b": 100}, (100, 0, None))
    living.close()
    dead.close()


def test_whoever_was_taken_for_dead_has_nothing_left_of_it(engine: sa.Engine, large: Budget) -> None:
    """It had slept. What came out of its advance afterwards is set aside for itself."""
    sleeper = quiet(engine, "dead")
    busy(sleeper, large)
    kill(engine, "dead")
    living = quiet(engine, "living")
    assert held(engine) == 0
    some = [share for n in range(3) for share in taken(sleeper, of(large, 100, f"ahead{n}"))]
    assert sleeper.flush()
    assert sleeper.take_ahead([of(large, 100, "x")]) is None
    assert (held(engine), of_advances(engine)) == (300, 0)
    sleeper.settle([(share, 9) for share in some], Charge(9, 0, None))
    assert sleeper.flush()
    assert (held(engine), spent(engine)) == (0, {"b": 27})
    sleeper.close()
    living.close()


def test_what_waits_is_on_file_before_a_row_is(engine: sa.Engine, large: Budget) -> None:
    budgets = quiet(engine, "i1")
    busy(budgets, large)
    taken(budgets, of(large, 100, "ahead"))
    budgets.file_ahead(8)
    assert "ahead" in dict(filed(engine))
    before = budgets.counters.transactions
    budgets.file_ahead(8)
    assert budgets.counters.transactions == before, "nothing waits"
    budgets.close()


def test_a_row_does_not_wait_for_what_comes_later(engine: sa.Engine, large: Budget) -> None:
    """Where work comes faster than turns are done, the queue is never empty."""
    budgets = quiet(engine, "i1")
    one, _ = busy(budgets, large)
    going_on = True
    meanwhile(budgets, lambda: going_on and budgets.settle([(one, 1)]))
    taken(budgets, of(large, 100, "ahead"))
    began = time.monotonic()
    budgets.file_ahead(8)
    assert time.monotonic() - began < 4
    assert "ahead" in dict(filed(engine))
    going_on = False
    assert budgets.close() == 0


def test_what_came_out_of_an_advance_that_is_given_up_is_waited_for(engine: sa.Engine, large: Budget) -> None:
    sleeper = quiet(engine, "dead")
    one, _ = busy(sleeper, large)
    kill(engine, "dead")
    living = quiet(engine, "living")
    some = iter(["between"])
    meanwhile(sleeper, lambda: [taken(sleeper, of(large, 100, id)) for id in some])
    sleeper.settle([(one, 1)])
    while not sleeper.counters.transactions > 2:
        time.sleep(0.002)
    sleeper.file_ahead(8)
    assert "between" in dict(filed(engine))
    for budgets in (sleeper, living):
        budgets.close()


def test_rows_do_not_wait_long_in_memory(engine: sa.Engine, large: Budget) -> None:
    """They have another place to go where the database is away; a kill must not cost more."""
    budgets = quiet(engine, "i1")
    busy(budgets, large)
    deaf(budgets, 8)
    taken(budgets, of(large, 100, "ahead"))
    began = time.monotonic()
    budgets.file_ahead()
    assert 0.05 < time.monotonic() - began < 0.8
    assert budgets.flush()
    budgets.close()


def test_nothing_is_waited_for_when_nobody_files_it(engine: sa.Engine) -> None:
    budgets, large = quiet(engine, "i1"), make_budget("tokens", str(LARGE), "day", name="b")
    busy(budgets, large)
    taken(budgets, of(large, 100, "ahead"))
    deaf(budgets, 1_000_000)
    budgets.stop_soon()
    began = time.monotonic()
    budgets.file_ahead(9)
    assert time.monotonic() - began < 7, "it is given up after four seconds"
    budgets.file_ahead(9)
    assert time.monotonic() - began < 7
    budgets.close()


@pytest.mark.parametrize("seed", range(12))
def test_several_gateways_that_do_whatever_comes(engine: sa.Engine, seed: int) -> None:
    """What is set aside of a budget that cuts is never more than there is, what was used is booked to the token, and at the end nothing is held."""
    chance = random.Random(seed)
    amount = chance.choice([3000, 20_000, 200_000])
    budgets = [make_budget("tokens", str(amount), "day", "cut", name=name) for name in ("b", "c")]
    gateways = [quiet(engine, f"i{n}") for n in range(2)]
    running: list[list[list[Share]]] = [[], []]
    used, ahead = 0, 0
    for step in range(150):
        which = chance.randrange(2)
        mine = gateways[which]
        match chance.randrange(6):
            case 0 | 1 | 2:
                wishes = [of(budget, chance.choice([10, 100, 150]), f"x{step}") for budget in budgets]
                answer = mine.take_ahead(wishes)
                ahead += answer is not None
                answer = answer or ask(mine, *wishes)
                if isinstance(answer, Shares):
                    running[which].append(answer.shares)
            case 3 if running[which]:
                mine.extend(chance.choice(running[which])[0], chance.choice([1, 50]), lambda _: None)
            case 4 | 5 if running[which]:
                over = running[which].pop(chance.randrange(len(running[which])))
                assert mine.flush()
                some = chance.randint(0, min(share.amount for share in over))
                used += some
                mine.settle([(share, some) for share in over], Charge(some, 0, None))
            case _:
                assert mine.flush()
        with engine.connect() as connection:
            for name in ("b", "c"):
                out = sa.select(sa.func.coalesce(sa.func.sum(budget_held.c.held), 0)).where(budget_held.c.budget == name)
                gone = sa.select(budget_spent.c.spent).where(budget_spent.c.budget == name)
                both = connection.execute(sa.select(out.scalar_subquery(), gone.scalar_subquery())).one()  # at one moment
                assert both[0] + (both[1] or 0) <= amount
    assert ahead or amount == 3000
    for which, mine in enumerate(gateways):
        for over in running[which]:
            mine.settle([(share, 1) for share in over], Charge(1, 0, None))
            used += 1
        assert mine.close() == 0
    assert (held(engine), of_advances(engine), spent(engine)) == (0, 0, {"b": used, "c": used})


def test_an_open_wish_of_nothing(engine: sa.Engine) -> None:
    """Money without a price: it is asked for each time, and disturbs nobody."""
    budgets = quiet(engine, "i1")
    money = make_budget("money", "10", "day", "block", name="money")
    for n in range(3):
        assert budgets.take_ahead([of(money, 0, f"m{n}")]) is None
        shares(ask(budgets, of(money, 0, f"m{n}"), wish(10, limit=LARGE)))
    budgets.close()


def test_more_for_one_that_has_a_share_of_nothing(engine: sa.Engine, large: Budget) -> None:
    """Its price was not known when it began."""
    budgets = quiet(engine, "i1")
    (nothing,) = shares(ask(budgets, of(large, 0, "nothing")))
    busy(budgets, large)
    found: list[int] = []
    budgets.extend(nothing, 50, found.append)
    assert budgets.flush()
    assert (found, nothing.amount, held(engine) - of_advances(engine), budgets.counters.failures) == ([50], 50, 250, 0)
    budgets.close()
