"""A PostgreSQL that is there and does not answer: nobody waits for ever, no row is lost, none is there twice."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from penstock.admission.budget.account import Answer, Charge, Share, Shares, Unknown, Wish
from penstock.admission.budget.spec import make_budget
from penstock.app import App
from penstock.config.load import load
from penstock.ledger import engine as engines
from penstock.ledger import store as store_module
from penstock.ledger.patience import end_by, limit
from penstock.ledger.settings import LedgerSettings
from penstock.ledger.store import Store
from penstock.ledger.writer import Ledger
from penstock.stores.budgets import Budgets, read_spent
from tests.support.gateway import providers_at, run, write_config
from tests.support.ice import Ice, freezable
from tests.support.ledgers import COMPLETE, MIDNIGHT, make_entry


@pytest.fixture
def frozen(settings: LedgerSettings, postgres_url: str) -> Iterator[tuple[LedgerSettings, Ice]]:
    """A ledger in PostgreSQL, behind a wire that can be frozen."""
    url = sa.make_url(postgres_url)
    with freezable(url.host or "127.0.0.1", url.port or 5432) as ice:
        through = url.set(host="127.0.0.1", port=ice.port).render_as_string(hide_password=False)
        made = replace(settings, url=through)
        Store.open(made).close()
        yield made, ice


def engine_of(settings: LedgerSettings, patience_s: float) -> sa.Engine:
    url, _, _ = engines.locate(settings)
    assert url is not None
    return engines.postgresql_engine(url, connect_s=2, patience_s=patience_s)


def rows_of(settings: LedgerSettings) -> dict[str, str | None]:
    engine = engine_of(settings, 10.0)
    with engine.connect() as connection:
        found = connection.execute(sa.text("SELECT id, outcome FROM exchanges")).all()
    engine.dispose()
    return {row[0]: row[1] for row in found}


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_wait_has_an_end_and_what_comes_later_is_well(frozen: tuple[LedgerSettings, Ice]) -> None:
    settings, ice = frozen
    engine = engine_of(settings, 0.3)
    with engine.connect() as connection:
        limit(connection, 5.0)
        connection.exec_driver_sql("SELECT pg_sleep(0.5)")
    began = time.monotonic()
    ice.freeze()
    # It was lengthened for that connection until it went back.
    with engine.connect() as connection, pytest.raises(OperationalError, match="does not answer"):
        connection.exec_driver_sql("SELECT 1")
    assert time.monotonic() - began < 5.0
    ice.thaw()
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1
        with pytest.raises(OperationalError, match="does not answer"):
            connection.exec_driver_sql("SELECT pg_sleep(5)")
    engine.dispose()


def test_rows_are_spilled_and_come_back_once(frozen: tuple[LedgerSettings, Ice], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "QUICK_S", 0.3)
    settings, ice = frozen
    ledger = Ledger.start(settings, "i1")
    running = make_entry("running")
    ledger.open(running)
    assert ledger.flush()
    ice.freeze()
    for number in range(20):
        entry = make_entry(f"x{number}")
        ledger.open(entry)
        entry.settle(COMPLETE, MIDNIGHT + 1)
    running.settle(COMPLETE, MIDNIGHT + 1)
    until(lambda: ledger.counters.spilled == 21)
    assert ledger.failing
    ice.thaw()
    assert ledger.flush(20.0)
    assert rows_of(settings) == {"running": "COMPLETE"} | {f"x{number}": "COMPLETE" for number in range(20)}
    assert ledger.close() == 0
    assert not list(settings.data_dir.glob("spill-*"))


def test_a_stop_leaves_the_rows_to_the_next_start(frozen: tuple[LedgerSettings, Ice], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "QUICK_S", 0.3)
    settings, ice = frozen
    ledger = Ledger.start(settings, "i1")
    assert ledger.flush()
    ice.freeze()
    entry = make_entry("x")
    ledger.open(entry)
    entry.settle(COMPLETE, MIDNIGHT + 1)
    assert ledger.close(timeout=0.1) == 0
    ice.thaw()
    ledger = Ledger.start(settings, "i2")
    until(lambda: rows_of(settings) == {"x": "COMPLETE"})
    assert ledger.close() == 0


def test_a_stop_does_not_wait_for_hours_that_are_being_summed(frozen: tuple[LedgerSettings, Ice], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "QUICK_S", 0.3)
    settings, ice = frozen
    ledger = Ledger.start(replace(settings, rollup_every_s=0.01), "i1")
    assert ledger.flush()
    read, begun, frozen_now = Store.read, threading.Event(), threading.Event()

    def read_later(store: Store, *given: Any) -> Any:
        begun.set()
        frozen_now.wait(10)
        return read(store, *given)

    monkeypatch.setattr(Store, "read", read_later)
    assert begun.wait(10)
    ice.freeze()
    frozen_now.set()
    entry = make_entry("x")
    ledger.open(entry)
    began = time.monotonic()
    assert ledger.close(timeout=0.1) == 0
    assert list(settings.data_dir.glob("spill-*"))
    assert time.monotonic() - began < 15.0, "its patience is 25 seconds"
    ice.thaw()


def test_at_a_stop_all_waits_end_together_also_those_that_have_begun(frozen: tuple[LedgerSettings, Ice]) -> None:
    settings, ice = frozen
    engine = engine_of(settings, 600.0)
    said: list[str] = []
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
        ice.freeze()

        def ask() -> None:
            with pytest.raises(OperationalError) as told:
                connection.exec_driver_sql("SELECT 2")
            said.append(str(told.value.orig))

        asking = threading.Thread(target=ask)
        asking.start()
        end_by(engine, time.monotonic() + 0.3)
        end_by(engine, time.monotonic() + 600.0)  # the first word counts
        asking.join(30)
        assert said == ["the server does not answer"]
    with pytest.raises(OperationalError, match="not waited for any more"):
        engine.connect()
    ice.thaw()
    other = engine_of(settings, 600.0)
    with other.connect() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1, "of another engine nothing is said"
    engine.dispose()
    other.dispose()


def test_a_stop_saves_the_rows_of_a_statement_that_would_be_waited_for_longer(
    frozen: tuple[LedgerSettings, Ice], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(store_module, "QUICK_S", 600.0)
    settings, ice = frozen
    ledger = Ledger.start(settings, "i1")
    assert ledger.flush()
    ice.freeze()
    entry = make_entry("x")
    ledger.open(entry)
    until(lambda: not entry.queued)
    entry.settle(COMPLETE, MIDNIGHT + 1)
    ledger.stop_soon(0.3)
    assert ledger.close(timeout=600.0) == 0, "it is the first word that counts"
    assert list(settings.data_dir.glob("spill-*"))
    ice.thaw()
    monkeypatch.setattr(store_module, "QUICK_S", 5.0)
    ledger = Ledger.start(settings, "i2")
    until(lambda: rows_of(settings) == {"x": "COMPLETE"})
    assert ledger.close() == 0


def test_a_gateway_that_stops_waits_for_all_of_it_at_the_same_time(
    frozen: tuple[LedgerSettings, Ice], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr("penstock.app.LAST_SECONDS", 0.3)
    monkeypatch.setattr("penstock.app.LAST_WORDS", 0.0)
    monkeypatch.setattr(store_module, "QUICK_S", 600.0)
    settings, ice = frozen
    admission = {"budgets": [{"tokens": 9, "per": "day", "by": ["model"]}]}
    file = write_config(tmp_path, providers_at(9), {"ledger": {"url": settings.url}, "admission": admission})

    async def serve() -> App:
        app = App(load(file, environ={"HOME": str(tmp_path)}))
        await app.start()
        assert await asyncio.to_thread(app.ledger.flush)
        work = asyncio.create_task(app.run())
        await asyncio.sleep(0)
        ice.freeze()
        entry = make_entry("x")
        app.ledger.open(entry)
        keeper = app.gateway.admission.keeper if app.gateway.admission is not None else None
        assert keeper is not None
        charge = Charge(5, 0, None)
        keeper.settle([(Share(Wish(make_budget("tokens", "9", "day", "block", name="b"), "s", "w", None, 5, "x", charge), 0, 0), 5)], charge)
        app.stop()
        await work
        return app

    app = run(serve())
    began = time.monotonic()
    assert app.close() == 0
    assert time.monotonic() - began < 5.0, "one after the other they take 15 seconds and more"
    assert list(app.config.data_dir.glob("spill-*"))
    ice.thaw()


def test_a_question_to_the_budgets_is_answered_and_nothing_is_booked_twice(
    frozen: tuple[LedgerSettings, Ice], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("penstock.stores.budgets._WAIT", 0.2)
    settings, ice = frozen
    engine = engine_of(settings, 0.3)
    def directly(function: Callable[..., object], *given: object) -> None:
        function(*given)

    budgets = Budgets(engine, "i1", directly, tidy=1e6)
    budgets.start()
    budget = make_budget("tokens", "100", "day", "block", name="b")

    def ask(id: str, amount: int) -> Answer:
        found: list[Answer] = []
        there = threading.Event()

        def answer(one: Answer) -> None:
            found.append(one)
            there.set()

        budgets.reserve([Wish(budget, "s", "w", None, amount, id, Charge(amount, 0, None))], answer)
        assert there.wait(10)
        return found[0]

    before = ask("before", 60)
    assert isinstance(before, Shares)
    ice.freeze()
    assert isinstance(ask("frozen", 10), Unknown)
    budgets.settle([(before.shares[0], 35)], Charge(35, 0, None))
    time.sleep(0.5)
    ice.thaw()
    assert budgets.flush(20.0)
    assert [row["spent"] for row in read_spent(engine)] == [35]
    assert isinstance(ask("after", 65), Shares), "nothing is set aside for what was refused"
    assert budgets.close() == 0
    engine.dispose()
