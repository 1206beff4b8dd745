"""Budgets in the database: decisions that see each other, whoever makes them; charges that are not lost."""

from __future__ import annotations

import sqlite3
import threading
import time
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec.structs import replace
from sqlalchemy.exc import IntegrityError, OperationalError

from penstock.admission.budget.account import Answer, Charge, Share, Shares, Spent, Unknown
from penstock.admission.budget.spec import make_budget
from penstock.ledger.engine import open_engine
from penstock.ledger.settings import LedgerSettings
from penstock.ledger.store import Store
from penstock.stores import budgets as module
from penstock.stores import shares as on_file
from penstock.stores.budgets import Budgets
from penstock.stores.deciding import Batch
from penstock.stores.schema import budget_held
from penstock.stores.turns import Work
from tests.support.purses import NOW, ask, away, charged_in, deaf, directly, filed, gateway, held, kill, quiet, shares, spent, wish, write_row


def test_set_aside_booked_and_given_back(engine: sa.Engine) -> None:
    budgets = gateway(engine)
    (share,) = shares(ask(budgets, wish(60)))
    assert (share.amount, share.spent, held(engine)) == (60, 0, 60)
    budgets.settle([(share, 35)])
    assert budgets.flush()
    assert (held(engine), spent(engine)) == (0, {"b": 35})
    assert budgets.close() == 0


def test_all_of_them_or_none(engine: sa.Engine) -> None:
    budgets = gateway(engine)
    shares(ask(budgets, wish(100, name="small")))
    answer = ask(budgets, wish(5, name="large", limit=1000), wish(1, name="small"))
    assert isinstance(answer, Spent)
    assert answer.wish.budget.name == "small"
    assert held(engine) == 100
    budgets.close()


def test_two_gateways_see_each_other(engine: sa.Engine) -> None:
    one, two = gateway(engine, "i1"), gateway(engine, "i2")
    (share,) = shares(ask(one, wish(100)))
    assert isinstance(ask(two, wish(1)), Spent)
    one.settle([(share, 40)])
    assert one.flush()
    (rest,) = shares(ask(two, wish(500, "cut")))
    assert rest.amount == 60
    one.close()
    two.close()


def test_what_the_dead_had_set_aside_counts_until_it_is_judged(engine: sa.Engine) -> None:
    dead, living = quiet(engine, "dead"), quiet(engine, "living")
    shares(ask(dead, wish(100, id="open")))
    write_row(engine, "open", None)
    assert isinstance(ask(living, wish(1)), Spent)
    kill(engine, "dead")
    assert living.tidy() == 0, "the ledger has not said that it crashed"
    assert isinstance(ask(living, wish(1)), Spent)
    write_row(engine, "open", "CRASHED")
    assert living.tidy() == 1
    assert (held(engine), spent(engine), charged_in(engine, "open")) == (0, {"b": 100}, (100, 0, None))
    assert living.tidy() == 0
    dead.close()
    living.close()


def test_what_has_no_row_is_not_charged(engine: sa.Engine) -> None:
    dead = quiet(engine, "dead")
    (one, two) = (*shares(ask(dead, wish(60, id="reserved"))), *shares(ask(dead, wish(10, id="booked"))))
    dead.settle([(two, 7)], Charge(7, 0, None))
    assert dead.flush()
    kill(engine, "dead")
    living = quiet(engine, "living")  # looks when it starts
    assert (one.amount, held(engine), spent(engine)) == (60, 0, {"b": 0})
    dead.close()
    living.close()


def test_what_was_booked_or_written_alone_is_brought_together(engine: sa.Engine) -> None:
    """Killed between the two: the charge was booked and the row was not settled, or the other way round."""
    dead = quiet(engine, "dead")
    (booked,) = shares(ask(dead, wish(20, id="booked")))
    shares(ask(dead, wish(20, id="written")))
    dead.settle([(booked, 7)], Charge(4, 3, 9))
    assert dead.flush()
    write_row(engine, "booked", "CRASHED")
    write_row(engine, "written", "COMPLETE", (5, 6, None))
    kill(engine, "dead")
    living = quiet(engine, "living")
    assert (held(engine), spent(engine)) == (0, {"b": 18})
    assert charged_in(engine, "booked") == (4, 3, 9)
    assert filed(engine) == [("booked", 7)], "what was concluded stays on file: its own gateway may say otherwise"
    dead.close()
    living.close()


def test_of_several_budgets_each_is_charged_what_the_row_says(engine: sa.Engine) -> None:
    """A budget that cuts bounds what the stream can have used; money is charged in its own unit."""
    dead = quiet(engine, "dead")
    charge = Charge(30, 50, 800)
    money = make_budget("money", "1", "day", name="money")
    wishes = [wish(80, "cut", 60, "small", id="x"), wish(80, "block", 1000, "large", id="x"), replace(wish(800, id="x"), budget=money)]
    given = shares(ask(dead, *(replace(one, charge=charge) for one in wishes)))
    assert [share.amount for share in given] == [60, 80, 800]
    write_row(engine, "x", "CRASHED")
    kill(engine, "dead")
    living = quiet(engine, "living")
    assert (held(engine), spent(engine)) == (0, {"small": 60, "large": 60, "money": 800})
    assert charged_in(engine, "x") == (30, 30, 800)
    dead.close()
    living.close()


def test_who_had_only_slept_has_the_last_word(engine: sa.Engine) -> None:
    sleeper = quiet(engine, "dead")
    (share,) = shares(ask(sleeper, wish(40, "cut", id="x")))
    write_row(engine, "x", "CRASHED")
    kill(engine, "dead")
    living = quiet(engine, "living")
    assert (held(engine), spent(engine)) == (0, {"b": 40})
    more: list[int] = []
    sleeper.extend(share, 10, more.append)
    sleeper.settle([(share, 13)], Charge(10, 3, None))
    assert sleeper.flush()
    assert (more, held(engine), spent(engine)) == ([0], 0, {"b": 13})
    write_row(engine, "x", "COMPLETE", (10, 3, None))
    assert living.tidy() == 1
    assert (spent(engine), filed(engine)) == ({"b": 13}, [])
    sleeper.close()
    living.close()


def test_a_spill_file_that_is_read_later_has_the_last_word(engine: sa.Engine) -> None:
    dead = quiet(engine, "dead")
    shares(ask(dead, wish(40, id="none"), wish(40, id="none", name="c")))
    kill(engine, "dead")
    living = quiet(engine, "living")
    assert spent(engine) == {"b": 0, "c": 0}
    write_row(engine, "none", "TRUNCATED", (11, 2, None))
    assert living.tidy() == 1
    assert (held(engine), spent(engine), filed(engine)) == (0, {"b": 13, "c": 13}, [])
    dead.close()
    living.close()


def test_what_the_ledger_tells_of_goes_off_the_file(engine: sa.Engine) -> None:
    budgets = quiet(engine, "i1")
    for id, used in (("written", 3), ("not yet", 4), ("nothing", 0)):
        (share,) = shares(ask(budgets, wish(10, id=id)))
        budgets.settle([(share, used)], Charge(used, 0, None))
    shares(ask(budgets, wish(10, id="running")))
    write_row(engine, "written", "COMPLETE", (3, 0, None))
    write_row(engine, "running", None)
    assert budgets.flush()
    budgets.tidy()
    assert filed(engine) == [("not yet", 4), ("running", None)]
    assert (held(engine), spent(engine)) == (10, {"b": 7})
    budgets.close()


def test_what_is_asked_for_at_the_end_is_not_set_aside_for_ever(engine: sa.Engine) -> None:
    """A stream asks for more and ends before it is answered."""
    budgets = quiet(engine, "i1")
    (share,) = shares(ask(budgets, wish(10, "cut")))
    more: list[int] = []
    with budgets.turns.lock:  # both in one turn
        budgets.extend(share, 10, more.append)
        budgets.settle([(share, 5)], Charge(5, 0, None))
    assert budgets.flush()
    assert (more, held(engine), spent(engine)) == ([0], 0, {"b": 5})
    budgets.close()


def test_two_budgets_of_one_name_are_kept_as_one(engine: sa.Engine) -> None:
    budgets = quiet(engine, "i1")
    both = shares(ask(budgets, wish(10, id="x"), wish(10, "warn", id="x")))
    assert held(engine) == 10
    budgets.settle([(share, 4) for share in both], Charge(4, 0, None))
    assert budgets.flush()
    assert (held(engine), spent(engine)) == (0, {"b": 4})
    budgets.close()


def test_it_is_there_after_a_restart(engine: sa.Engine) -> None:
    first = gateway(engine, "i1")
    (share,) = shares(ask(first, wish(10)))
    first.settle([(share, 99)])
    assert first.close() == 0
    second = gateway(engine, "i2")
    (share,) = shares(ask(second, wish(10)))
    assert share.spent == 99
    second.close()


def test_more_for_one_that_runs(engine: sa.Engine) -> None:
    budgets = gateway(engine)
    (share,) = shares(ask(budgets, wish(60, "cut")))
    found: list[int] = []
    budgets.extend(share, 30, found.append)
    budgets.extend(share, 30, found.append)
    budgets.extend(share, 30, found.append)
    assert budgets.flush()
    assert (found, share.amount, held(engine)) == ([30, 10, 0], 100, 100)
    budgets.settle([(share, 104)])
    assert budgets.flush()
    assert (held(engine), spent(engine)) == (0, {"b": 104})
    budgets.close()


def test_kept_apart_by_subject_and_window(engine: sa.Engine) -> None:
    budgets = gateway(engine)
    shares(ask(budgets, wish(100)))
    shares(ask(budgets, wish(100, subject="t")))
    later = replace(wish(100), window="w2")
    shares(ask(budgets, later))
    budgets.close()


def test_many_at_once_from_many_threads_never_set_aside_more_than_there_is(engine: sa.Engine) -> None:
    """Whoever asks with what wish: what a budget that cuts sets aside is at most the budget, to the token."""
    gateways = [gateway(engine, f"i{n}") for n in range(3)]
    got: list[int] = []
    lock = threading.Lock()

    def many(budgets: Budgets, wanted: int) -> None:
        for _ in range(15):
            answer = ask(budgets, wish(wanted, "cut", 200))
            if isinstance(answer, Shares):
                with lock:
                    got.append(answer.shares[0].amount)

    threads = [threading.Thread(target=many, args=(budgets, n + 3)) for n, budgets in enumerate(gateways) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(got) == 200
    assert held(engine) == 200
    for budgets in gateways:
        budgets.close()


def test_a_database_that_does_not_answer(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who ask are told so in time; what was used is booked when it answers again."""
    monkeypatch.setattr(module, "_WAIT", 0.1)
    monkeypatch.setattr(module, "_PAUSE", 0.01)
    budgets = gateway(engine)
    (share,) = shares(ask(budgets, wish(10)))
    broken = threading.Event()
    broken.set()
    decide = Batch.decide

    def maybe(batch: Any) -> None:
        if broken.is_set():
            raise OperationalError("x", {}, Exception("the disk is gone"))
        decide(batch)

    monkeypatch.setattr(Batch, "decide", maybe)
    more: list[int] = []
    budgets.extend(share, 5, more.append)
    budgets.settle([(share, 7)])
    assert isinstance(ask(budgets, wish(1)), Unknown)
    assert not budgets.flush(0.05)
    broken.clear()
    assert budgets.flush()
    assert (more, held(engine), spent(engine)) == ([0], 0, {"b": 7})
    assert budgets.counters.unanswered == 1
    budgets.close()


@pytest.mark.parametrize("action", ["block", "cut", "warn"])
def test_what_was_set_aside_and_not_said_is_set_aside_once(engine: sa.Engine, action: str) -> None:
    budgets = gateway(engine)
    deaf(budgets)
    found = shares(ask(budgets, wish(100, action), wish(7, action, name="other")))
    assert [share.amount for share in found] == [100, 7], "its own share is not in its way"
    assert held(engine) == 107
    deaf(budgets)
    budgets.settle([(share, 35) for share in found])
    assert budgets.flush()
    assert (held(engine), spent(engine)) == (0, {"b": 35, "other": 35})
    assert budgets.close() == 0


@pytest.mark.parametrize("action", ["block", "warn"])
def test_what_was_set_aside_for_somebody_who_was_told_nothing_is_given_back(engine: sa.Engine, action: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.stores.budgets._WAIT", 0.0)
    budgets = gateway(engine)
    deaf(budgets)
    wanted = wish(60, action)
    assert isinstance(ask(budgets, wanted), Unknown)
    # Where nothing binds it goes on without a share, and may be at its end before anything is given back.
    used = 20 if action == "warn" else 0
    if used:
        budgets.settle([(Share(wanted, 0, 0), used)], Charge(used, 0, None))
    assert budgets.flush()
    assert (held(engine), spent(engine)) == (0, {"b": used})
    assert filed(engine) == ([(wanted.exchange, used)] if used else [])
    assert budgets.close() == 0


def test_what_was_booked_and_not_said_is_booked_once_though_its_row_is_written(engine: sa.Engine) -> None:
    budgets = gateway(engine, tidy=0.02)
    (share,) = shares(ask(budgets, wish(60)))
    write_row(engine, share.wish.exchange, "COMPLETE", (35, 0, None))
    deaf(budgets)
    budgets.settle([(share, 35)], Charge(35, 0, None))
    assert budgets.flush()
    assert (held(engine), spent(engine)) == (0, {"b": 35})
    assert budgets.close() == 0


def test_what_the_database_cannot_take_keeps_nobody_else_waiting(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a turn is one transaction; a number beyond 64 bits made everybody wait who asked beside it, and lose."""
    monkeypatch.setattr(module, "_WAIT", 0.1)
    monkeypatch.setattr(module, "_PAUSE", 0.01)
    budgets = gateway(engine)
    (share,) = shares(ask(budgets, wish(10)))
    found: list[Answer] = []
    with budgets.turns.lock:  # so that they are of one turn
        for amount in (10**30, 20):
            budgets.reserve([wish(amount)], found.append)
        budgets.settle([(share, 7)])
    assert budgets.flush()
    assert sorted(type(answer).__name__ for answer in found) == ["Shares", "Unknown"]
    assert (held(engine), spent(engine)) == (20, {"b": 7})
    budgets.close()


@pytest.mark.parametrize("error", [OperationalError("x", {}, Exception("locked")), sqlite3.OperationalError("database is locked")])
def test_a_database_that_is_away_is_tried_once_for_all_who_wait(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Not once for each: every try may take as long as a lock is waited for."""
    monkeypatch.setattr(module, "_PAUSE", 0.01)
    budgets = gateway(engine)
    decide = Batch.decide
    tries: list[int] = []

    def second(batch: Any) -> None:
        tries.append(1)
        if len(tries) == 1:
            raise error
        decide(batch)

    monkeypatch.setattr(Batch, "decide", second)
    found: list[Answer] = []
    with budgets.turns.lock:
        for amount in (10, 20, 30):
            budgets.reserve([wish(amount)], found.append)
    assert budgets.flush()
    assert [type(answer).__name__ for answer in found] == ["Shares"] * 3
    assert (len(tries), budgets.counters.failures) == (2, 1)
    budgets.close()


def test_windows_long_over_are_forgotten(engine: sa.Engine) -> None:
    budgets = gateway(engine)
    (share,) = shares(ask(budgets, wish(1)))
    budgets.settle([(share, 5)])
    budgets.close()
    late = Budgets(engine, "late", directly, lambda: NOW + 500 * 86_400)
    late.start()
    late.close()
    assert spent(engine) == {}


def test_a_turn_that_fails_leaves_nothing_behind_and_the_next_one_works(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it had written is taken back, and nobody else is locked out."""
    monkeypatch.setattr(module, "_PAUSE", 0.01)
    budgets = quiet(engine, "i1")
    (share,) = shares(ask(budgets, wish(10)))
    write = budgets._write  # pyright: ignore[reportPrivateUsage]
    failed = threading.Event()

    def once(run: Any, batch: Any) -> None:
        write(run, batch)
        if not failed.is_set():
            failed.set()
            raise OperationalError("x", {}, Exception("the disk is full"))

    monkeypatch.setattr(budgets, "_write", once)
    budgets.settle([(share, 7)], Charge(7, 0, None))
    assert budgets.flush()
    assert failed.is_set()
    assert (held(engine), spent(engine), budgets.counters.failures) == (0, {"b": 7}, 1)
    other = quiet(engine, "i2")
    assert shares(ask(other, wish(10)))[0].spent == 7
    other.close()
    budgets.close()


def test_sums_of_nothing_are_not_kept(engine: sa.Engine) -> None:
    """Each decision looks through all sums there are; subjects may be as many as outsiders like."""
    budgets = quiet(engine, "i1")
    found = [shares(ask(budgets, wish(5, subject=f"s{n}")))[0] for n in range(5)]
    budgets.settle([(share, 3) for share in found[1:]], Charge(3, 0, None))
    assert budgets.flush()
    budgets.tidy()
    with engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(budget_held)) == 1
    assert held(engine) == 5
    shares(ask(budgets, wish(5, subject="s1", limit=50)))
    assert held(engine) == 10
    budgets.close()


def test_what_is_spent_goes_to_the_file_that_is_at_the_path_by_now(settings: LedgerSettings) -> None:
    Store.open(settings).close()
    engine = open_engine(settings)
    budgets = gateway(engine, tidy=100)
    (share,) = shares(ask(budgets, wish(50)))
    for path in settings.data_dir.glob("ledger.db*"):
        path.rename(path.with_name(f"old-{path.name}"))
    assert isinstance(ask(budgets, wish(1)), Unknown)
    assert not settings.sqlite_path.exists(), "a disk that vanished may come back"
    Store.open(settings).close()
    budgets.settle([(share, 40)], Charge(40, 0, None))
    assert budgets.flush()
    other = open_engine(settings)
    assert spent(other) == {"b": 40}
    other.dispose()
    assert budgets.close() == 0
    engine.dispose()


def test_whose_own_clock_is_ahead_takes_nobody_for_dead(engine: sa.Engine) -> None:
    """Leases are held by the database's clock where there is one: by that alone somebody is dead whose row is not written yet."""
    one = gateway(engine, tidy=100)
    (share,) = shares(ask(one, wish(10, "cut")))
    ahead = Budgets(engine, "i2", directly, lambda: NOW + 3600, tidy=100, lease_clock=lambda _: NOW)
    assert ahead.tidy() == 0
    given: list[int] = []
    one.extend(share, 5, given.append)
    assert one.flush()
    assert given == [5]
    assert one.close() == 0
    with engine.connect() as connection:
        assert abs(on_file.lease_now(connection) - time.time()) < 60


def test_what_is_put_in_just_before_the_end_is_booked(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread had just looked."""
    budgets = gateway(engine, "i1", tidy=0.05)
    (share,) = shares(ask(budgets, wish(10)))
    real = budgets.turns.take

    def take(until: float) -> list[Work]:
        work = real(until)
        if not work and not budgets.turns.closing:
            budgets.settle([(share, 7)])
            budgets.stop_soon()
        return work

    monkeypatch.setattr(budgets.turns, "take", take)
    deadline = time.monotonic() + 10
    while not budgets.turns.closing and time.monotonic() < deadline:
        time.sleep(0.01)
    assert budgets.close() == 0
    assert (held(engine), spent(engine)) == (0, {"b": 7})


def test_of_several_one_of_which_nobody_knows_is_booked_once(engine: sa.Engine) -> None:
    """What it has on file, by which that is known, is not taken off before."""
    budgets = gateway(engine, tidy=0.01)
    (one,), (other,) = shares(ask(budgets, wish(10, id="one"))), shares(ask(budgets, wish(10, id="other")))
    write_row(engine, "one", "COMPLETE", (7, 0, None))
    deaf(budgets)
    away(budgets, IntegrityError("INSERT", None, Exception("not one of these")))
    with budgets.turns.lock:
        budgets.settle([(one, 7)])
        budgets.settle([(other, 1)])
    assert budgets.flush()
    assert (budgets.close(), held(engine), spent(engine)) == (0, 0, {"b": 8})


def test_whoever_was_taken_for_dead_books_before_it_forgets(engine: sa.Engine) -> None:
    """Its row is written by then."""
    sleeper = quiet(engine, "dead")
    (share,) = shares(ask(sleeper, wish(10, id="one")))
    write_row(engine, "one", "CRASHED")
    kill(engine, "dead")
    living = quiet(engine, "living")
    assert (spent(engine), filed(engine)) == ({"b": 10}, [("one", 10)])
    write_row(engine, "one", "COMPLETE", (3, 0, None))
    with sleeper.turns.lock:
        sleeper.settle([(share, 3)], Charge(3, 0, None))
        sleeper._tidy_at = 0.0  # pyright: ignore[reportPrivateUsage]
    assert sleeper.flush()
    assert spent(engine) == {"b": 3}
    for budgets in (sleeper, living):
        budgets.close()
