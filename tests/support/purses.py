"""Budgets on a database, as tests of `stores` keep them: gateways that die, databases whose word is lost, rows as the ledger writes them."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from penstock.admission.budget.account import Answer, Charge, Share, Shares, Wish
from penstock.admission.budget.spec import make_budget
from penstock.stores.budgets import Budgets, read_spent
from penstock.stores.schema import budget_held, budget_shares, instances
from penstock.stores.statements import Database, Running

NOW = 5000.0
"""What a gateway's clock says."""


def directly(function: Callable[..., object], *args: object) -> None:
    function(*args)


def gateway(engine: sa.Engine, name: str = "i1", lease: float = NOW + 100, tidy: float = 0.05) -> Budgets:
    with engine.begin() as connection:
        connection.execute(sa.text(
            "INSERT INTO instances (id, started_at, lease_until, host, pid, version) VALUES (:id, 0, :until, 'h', 1, 'v')"),
            {"id": name, "until": lease})  # fmt: skip
    made = Budgets(engine, name, directly, lambda: NOW, tidy=tidy)
    made.start()
    return made


COUNT = itertools.count()


def wish(amount: int, action: str = "block", limit: int = 100, name: str = "b", subject: str = "s", id: str | None = None) -> Wish:
    budget = make_budget("tokens", str(limit), "day", action, name=name)
    return Wish(budget, subject, "w", None, amount, id or f"x{next(COUNT)}", Charge(amount, 0, None))


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


def kill(engine: sa.Engine, name: str) -> None:
    """Its lease runs out."""
    with engine.begin() as connection:
        connection.execute(sa.update(instances).where(instances.c.id == name).values(lease_until=NOW - 1))


def write_row(engine: sa.Engine, id: str, outcome: str | None, charged: tuple[int, int, int | None] | None = None) -> None:
    """As the ledger writes it."""
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM exchanges WHERE id = :id"), {"id": id})
        values = dict(zip("iom", charged or (None, None, None), strict=True))
        connection.execute(sa.text(
            "INSERT INTO exchanges (id, instance, started_at, late_settles, outcome, charged_input, charged_output, charged_micros) "
            "VALUES (:id, 'dead', 1, 0, :outcome, :i, :o, :m)"), {"id": id, "outcome": outcome, **values})  # fmt: skip


def charged_in(engine: sa.Engine, id: str) -> tuple[int | None, ...]:
    with engine.connect() as connection:
        columns = sa.text("SELECT charged_input, charged_output, charged_micros FROM exchanges WHERE id = :id")
        return tuple(connection.execute(columns, {"id": id}).one())


def filed(engine: sa.Engine) -> list[tuple[str, int | None]]:
    with engine.connect() as connection:
        found = sa.select(budget_shares.c.exchange, budget_shares.c.used).order_by(budget_shares.c.exchange)
        return [tuple(row) for row in connection.execute(found)]


def quiet(engine: sa.Engine, name: str) -> Budgets:
    """A gateway that looks after the dead only when it is told to."""
    return gateway(engine, name, tidy=1e6)


class Deaf:
    """A database that does what it is told, and whose word of it is lost: `times` times."""

    def __init__(self, inside: Database, times: int) -> None:
        self.inside = inside
        self.times = times

    @contextmanager
    def begin(self) -> Generator[Running]:
        with self.inside.begin() as run:
            yield run
        if self.times:
            self.times -= 1
            raise OperationalError("COMMIT", None, Exception("the server does not answer"))

    def close(self) -> None:
        self.inside.close()


def deaf(budgets: Budgets, times: int = 1) -> Deaf:
    made = budgets._database = Deaf(budgets._database, times)  # pyright: ignore[reportPrivateUsage]
    return made


class Away:
    """A database that is away, or does not take what it is told: as often as there is something to say of it."""

    def __init__(self, inside: Database, *says: Exception) -> None:
        self.inside = inside
        self.says = list(says)

    def begin(self) -> AbstractContextManager[Running]:
        if self.says:
            raise self.says.pop(0)
        return self.inside.begin()

    def close(self) -> None:
        self.inside.close()


def away(budgets: Budgets, *says: Exception) -> None:
    budgets._database = Away(budgets._database, *says)  # pyright: ignore[reportPrivateUsage]


class Meanwhile:
    """A database during whose transactions something happens."""

    def __init__(self, inside: Database, happens: Callable[[], object]) -> None:
        self.inside = inside
        self.happens = happens

    @contextmanager
    def begin(self) -> Generator[Running]:
        with self.inside.begin() as run:
            yield run
            self.happens()

    def close(self) -> None:
        self.inside.close()


def meanwhile(budgets: Budgets, happens: Callable[[], object]) -> None:
    budgets._database = Meanwhile(budgets._database, happens)  # pyright: ignore[reportPrivateUsage]
