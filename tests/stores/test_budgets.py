"""Budgets in the database: decisions that see each other, whoever makes them; charges that are not lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from penstock.admission.budget.account import Answer, Share, Shares, Spent, Unknown, Wish
from penstock.admission.budget.spec import make_budget
from penstock.ledger.engine import open_engine
from penstock.ledger.settings import LedgerSettings
from penstock.ledger.store import Store
from penstock.stores import budgets as module
from penstock.stores.budgets import Budgets, read_spent
from penstock.stores.schema import budget_held, instances

NOW = 5000.0


def directly(function: Callable[..., object], *args: object) -> None:
    function(*args)


@pytest.fixture
def engine(any_settings: LedgerSettings) -> Iterator[sa.Engine]:
    Store.open(any_settings).close()
    made = open_engine(any_settings)
    yield made
    made.dispose()


def gateway(engine: sa.Engine, name: str = "i1", lease: float = NOW + 100) -> Budgets:
    with engine.begin() as connection:
        connection.execute(sa.text(
            "INSERT INTO instances (id, started_at, lease_until, host, pid, version) VALUES (:id, 0, :until, 'h', 1, 'v')"),
            {"id": name, "until": lease})  # fmt: skip
    made = Budgets(engine, name, directly, lambda: NOW)
    made.start()
    return made


def wish(amount: int, action: str = "block", limit: int = 100, name: str = "b", subject: str = "s") -> Wish:
    return Wish(make_budget("tokens", str(limit), "day", action, name=name), subject, "w", None, amount)


def ask(budgets: Budgets, *wishes: Wish) -> Answer:
    found: list[Answer] = []
    there = threading.Event()

    def answer(one: Answer) -> None:
        found.append(one)
        there.set()

    budgets.reserve(wishes, answer)
    assert there.wait(10)
    return found[0]


def shares(answer: Answer) -> list[Share]:
    assert isinstance(answer, Shares)
    return answer.shares


def held(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(sa.select(sa.func.coalesce(sa.func.sum(budget_held.c.held), 0))) or 0)


def spent(engine: sa.Engine) -> dict[str, Any]:
    return {str(row["budget"]): row["spent"] for row in read_spent(engine)}


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


def test_what_the_dead_had_set_aside_does_not_count(engine: sa.Engine) -> None:
    dead = gateway(engine, "dead")
    shares(ask(dead, wish(100)))
    living = gateway(engine, "living")
    assert isinstance(ask(living, wish(1)), Spent)
    with engine.begin() as connection:
        connection.execute(sa.update(instances).where(instances.c.id == "dead").values(lease_until=NOW - 1))
    shares(ask(living, wish(1)))
    gateway(engine, "newcomer").close()
    assert held(engine) == 1, "and is forgotten at the next start"
    dead.close()
    living.close()


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
    later = Wish(wish(1).budget, "s", "w2", None, 100)
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
    decide = budgets._decide  # pyright: ignore[reportPrivateUsage]

    def maybe(batch: Any) -> None:
        if broken.is_set():
            raise OperationalError("x", {}, Exception("the disk is gone"))
        decide(batch)

    monkeypatch.setattr(budgets, "_decide", maybe)
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


def test_windows_long_over_are_forgotten(engine: sa.Engine) -> None:
    budgets = gateway(engine)
    (share,) = shares(ask(budgets, wish(1)))
    budgets.settle([(share, 5)])
    budgets.close()
    late = Budgets(engine, "late", directly, lambda: NOW + 500 * 86_400)
    late.start()
    late.close()
    assert spent(engine) == {}
