"""The queue and its thread: short exchanges are one write, no caller waits, and nothing is lost between memory, file and database."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest
import sqlalchemy as sa

from penstock.ledger import query
from penstock.ledger.entry import Entry, Maker
from penstock.ledger.errors import LedgerFull, StoreError
from penstock.ledger.lease import Instance
from penstock.ledger.rows import Row
from penstock.ledger.settings import LedgerSettings
from penstock.ledger.spill import Spill
from penstock.ledger.store import Store
from penstock.ledger.writer import Ledger
from tests.support.ledgers import COMPLETE, GONE, MIDNIGHT, make_entry, make_row

ME = Instance("i1", 0.0, "host", 1, "0")


@pytest.fixture
def ledger(settings: LedgerSettings) -> Iterator[Ledger]:
    ledger = Ledger.start(settings, "i1")
    yield ledger
    ledger.close()


@pytest.fixture
def reader(settings: LedgerSettings, ledger: Ledger) -> Iterator[sa.Engine]:
    engine = query.connect(settings)
    yield engine
    engine.dispose()


def _stepped(
    settings: LedgerSettings, store: Store | None = None, spill: Spill | None = None, clock: Callable[[], float] = time.monotonic
) -> Ledger:
    """A ledger without a thread: the test takes its turns."""
    store = store or Store.open(settings)
    return Ledger(settings, ME, store, spill=spill, clock=clock)


def _outcomes(settings: LedgerSettings) -> dict[str, str | None]:
    with sqlite3.connect(settings.sqlite_path) as connection:
        return dict(connection.execute("SELECT id, outcome FROM exchanges").fetchall())


def _until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_opened_then_settled_are_both_visible(ledger: Ledger, reader: sa.Engine) -> None:
    entry = make_entry("a")
    ledger.open(entry)
    assert ledger.flush()
    assert [(row["id"], row["instance"], row["outcome"]) for row in query.exchanges(reader)] == [("a", "i1", None)]
    entry.settle(COMPLETE, MIDNIGHT + 1)
    assert ledger.flush()
    assert [(row["id"], row["outcome"]) for row in query.exchanges(reader)] == [("a", "COMPLETE")]


def test_it_is_written_without_being_asked(ledger: Ledger, settings: LedgerSettings) -> None:
    ledger.open(make_entry("a"))
    _until(lambda: _outcomes(settings) == {"a": None})
    assert ledger.queued == 0


def test_a_short_exchange_is_one_entry_and_one_write(settings: LedgerSettings) -> None:
    ledger = _stepped(settings)
    entries = [make_entry(str(at)) for at in range(100)]
    for entry in entries:
        ledger.open(entry)
        entry.settle(COMPLETE, MIDNIGHT)
    assert ledger.queued == 100
    assert ledger.turn()
    assert ledger.counters.written == 100
    for entry in entries:
        entry.settle(GONE, MIDNIGHT)
        entry.settle(GONE, MIDNIGHT)
    assert ledger.queued == 100
    ledger.close()
    assert set(_outcomes(settings).values()) == {"COMPLETE"}
    assert (ledger.counters.opened, ledger.counters.settled, ledger.counters.late_settles) == (100, 100, 200)


class Meddling(Store):
    """Lets something happen while rows are being written."""

    meanwhile: Callable[[], None] = staticmethod(lambda: None)

    def write(self, rows: list[Row]) -> None:  # type: ignore[override]
        act, self.meanwhile = self.meanwhile, lambda: None
        act()
        super().write(rows)


def test_a_settle_during_the_write_is_written_again(settings: LedgerSettings) -> None:
    store = Meddling.open(settings)
    assert isinstance(store, Meddling)
    ledger = _stepped(settings, store)
    entry = make_entry("a")

    def settle() -> None:
        entry.settle(COMPLETE, MIDNIGHT)

    store.meanwhile = settle
    ledger.open(entry)
    assert ledger.turn()
    assert (_outcomes(settings), ledger.queued) == ({"a": None}, 1)
    assert ledger.turn()
    assert _outcomes(settings) == {"a": "COMPLETE"}
    ledger.close()


def test_opening_never_waits_for_the_database(settings: LedgerSettings) -> None:
    inside, leave, left = threading.Event(), threading.Event(), threading.Event()

    def hang() -> None:
        inside.set()
        leave.wait(10)
        left.set()

    store = Meddling.open(settings)
    assert isinstance(store, Meddling)
    store.meanwhile = hang
    ledger = _stepped(settings, store)
    ledger.launch()
    ledger.open(make_entry("first"))
    assert inside.wait(5)
    for at in range(500):
        entry = make_entry(str(at))
        ledger.open(entry)
        entry.settle(COMPLETE, MIDNIGHT)
    assert not left.is_set()
    assert not ledger.flush(0.01)
    leave.set()
    assert ledger.flush()
    ledger.close()
    assert len(_outcomes(settings)) == 501


def test_a_locked_database_sends_rows_to_the_spill_file_and_back(settings: LedgerSettings, caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger.start(settings, "i1")
    blocker = sqlite3.connect(settings.sqlite_path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    entries = [make_entry(str(at)) for at in range(50)]
    with caplog.at_level(logging.WARNING):
        for entry in entries[:30]:
            ledger.open(entry)
        _until(lambda: ledger.counters.spilled >= 30)
        for entry in entries[30:]:
            ledger.open(entry)
        for entry in entries[:40]:
            entry.settle(COMPLETE, MIDNIGHT)
        _until(lambda: ledger.queued == 0)
        assert list(settings.data_dir.glob("spill-*"))
        assert not ledger.flush(0.05)
        blocker.execute("ROLLBACK")
        assert ledger.flush()
    blocker.close()
    assert _outcomes(settings) == {str(at): "COMPLETE" if at < 40 else None for at in range(50)}
    assert not list(settings.data_dir.glob("spill-*"))
    assert ledger.counters.drained == ledger.counters.spilled
    assert "database is locked" in caplog.text
    assert "writing again" in caplog.text
    ledger.close()


def test_what_is_spilled_survives_a_restart(settings: LedgerSettings) -> None:
    ledger = Ledger.start(settings, "i1")
    blocker = sqlite3.connect(settings.sqlite_path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    for at in range(20):
        entry = make_entry(str(at))
        ledger.open(entry)
        entry.settle(COMPLETE, MIDNIGHT)
    assert ledger.close(timeout=0.1) == 0
    blocker.execute("ROLLBACK")
    blocker.close()
    assert _outcomes(settings) == {}
    # The lock also kept the lease from being released: it must run out first.
    second = Ledger.start(settings, "i2")
    _until(lambda: len(_outcomes(settings)) == 20)
    assert second.flush()
    second.close()
    assert set(_outcomes(settings).values()) == {"COMPLETE"}
    assert not list(settings.data_dir.glob("spill-*"))


class Deaf(Store):
    deaf = True

    def write(self, rows: list[Row]) -> None:  # type: ignore[override]
        if self.deaf:
            raise StoreError("it does not listen")
        super().write(rows)


class Full(Spill):
    full = True

    def append(self, rows: list[Row]) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        super().append(rows)


def test_when_nothing_takes_rows_new_exchanges_are_refused_and_old_ones_kept(settings: LedgerSettings) -> None:
    settings = replace(settings, queue_entries=5)
    now = 0.0
    store = Deaf.open(settings)
    assert isinstance(store, Deaf)
    spill = Full(settings.data_dir, "i1")
    ledger = _stepped(settings, store, spill, lambda: now)
    entries = [make_entry(str(at)) for at in range(20)]
    for entry in entries:
        ledger.open(entry)
    assert not ledger.turn()
    for entry in entries:
        entry.settle(COMPLETE, MIDNIGHT)
    refused = make_entry("refused")
    with pytest.raises(LedgerFull):
        ledger.open(refused)
    assert (refused.book, ledger.counters.refused, ledger.counters.opened) == (None, 1, 20)
    now += 1.0
    assert not ledger.turn()
    # The disk is well again: rows go to the file, and exchanges may begin.
    spill.full = False
    now += 1.0
    assert not ledger.turn()
    assert ledger.queued == 0
    ledger.open(make_entry("later"))
    store.deaf = False
    assert not ledger.turn(), "not yet tried again"
    now += 1.0
    assert ledger.turn()
    assert ledger.close() == 0
    assert _outcomes(settings) == {str(at): "COMPLETE" for at in range(20)} | {"later": None}


def test_close_says_what_could_be_saved_nowhere(settings: LedgerSettings) -> None:
    store = Deaf.open(settings)
    ledger = _stepped(settings, store, Full(settings.data_dir, "i1"))
    ledger.open(make_entry("a"))
    assert ledger.close(timeout=0.05) == 1


def test_a_bug_does_not_end_the_writer(settings: LedgerSettings, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise RuntimeError("a bug")

    store = Meddling.open(settings)
    assert isinstance(store, Meddling)
    store.meanwhile = fail
    ledger = _stepped(settings, store)
    ledger.launch()
    ledger.open(make_entry("a"))
    assert ledger.flush()
    ledger.close()
    assert _outcomes(settings) == {"a": None}
    assert "a bug" in caplog.text


def test_a_bug_while_rows_are_spilled_does_not_end_the_writer(settings: LedgerSettings, caplog: pytest.LogCaptureFixture) -> None:
    class Buggy(Spill):
        broken = True

        def append(self, rows: list[Row]) -> None:
            if self.broken:
                raise RuntimeError("another bug")
            super().append(rows)

    def fail() -> None:
        raise RuntimeError("a bug")

    store, spill = Meddling.open(settings), Buggy(settings.data_dir, "i1")
    assert isinstance(store, Meddling)
    store.meanwhile = fail
    ledger = _stepped(settings, store, spill)
    ledger.open(make_entry("a"))
    assert not ledger.turn()
    assert ledger.queued == 1, "it is kept"
    spill.broken = False
    ledger.launch()
    assert ledger.flush()
    ledger.close()
    assert _outcomes(settings) == {"a": None}
    assert "another bug" in caplog.text


def test_closing_writes_what_is_left_and_refuses_what_comes_after(settings: LedgerSettings) -> None:
    ledger = Ledger.start(replace(settings, linger_s=5.0), "i1")
    entries = [make_entry(str(at)) for at in range(2000)]
    for entry in entries:
        ledger.open(entry)
        entry.settle(COMPLETE, MIDNIGHT)
    assert ledger.close() == 0
    assert len(_outcomes(settings)) == 2000
    with pytest.raises(LedgerFull):
        ledger.open(make_entry("late"))
    assert ledger.close() == 0


def test_an_idle_writer_sleeps(ledger: Ledger) -> None:
    assert ledger.flush()
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.1


def test_responses_are_found_in_memory_then_in_the_database(settings: LedgerSettings) -> None:
    ledger = Ledger.start(replace(settings, recent_responses=3), "i1")
    for at in range(5):
        entry = make_entry(str(at), operation="responses", response_id=f"resp_{at}", provider=f"p{at}", key_id="key_1", user_id="ada")
        ledger.open(entry)
        entry.settle(COMPLETE, MIDNIGHT)
    chat = make_entry("chat", response_id="chatcmpl-1")
    ledger.open(chat)
    chat.settle(COMPLETE, MIDNIGHT)
    assert [ledger.find_response(f"resp_{at}") for at in range(5)] == [None, None, *(Maker(f"p{at}", "key_1", "ada") for at in (2, 3, 4))]
    assert ledger.find_response("chatcmpl-1") is None
    assert ledger.flush()
    assert asyncio.run(ledger.maker_of("resp_0")) == Maker("p0", "key_1", "ada")
    assert ledger.find_response("resp_0") == Maker("p0", "key_1", "ada")
    assert asyncio.run(ledger.maker_of("resp_9")) is None
    ledger.close()


def test_who_only_asks_for_a_file_is_not_remembered_as_its_maker(settings: LedgerSettings) -> None:
    ledger = Ledger.start(settings, "i1")
    asked = [("GET", "/openai/v1/files/file-1", "key_2"), ("POST", "/v1/files", "key_1"), ("GET", "/v1/files/file-1", "key_2")]
    for at, (method, path, key) in enumerate(asked):
        entry = make_entry(str(at), operation="files", response_id="file-1", provider="openai", method=method, path=path, key_id=key)
        ledger.open(entry)
        entry.settle(COMPLETE, MIDNIGHT)
        assert ledger.find_response("file-1") == (Maker("openai", "key_1") if at else None)
    ledger.close()


def test_a_look_up_that_fails_finds_nothing(settings: LedgerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger.start(settings, "i1")

    def fail(self: Store, response_id: str) -> Maker | None:
        raise StoreError("gone")

    monkeypatch.setattr(Store, "maker_of", fail)
    assert asyncio.run(ledger.maker_of("resp_0")) is None
    ledger.close()


def test_old_rows_are_retired_while_it_runs(settings: LedgerSettings) -> None:
    settings = replace(settings, retention_batch=7, retention_days=30)
    store = Store.open(settings)
    store.write([make_row(str(at), outcome=COMPLETE, input_tokens=1) for at in range(50)])
    store.close()
    ledger = Ledger.start(settings, "i1")
    fresh = Entry("fresh", time.time())
    ledger.open(fresh)
    _until(lambda: ledger.counters.retired == 50)
    assert ledger.flush()
    engine = query.connect(settings)
    assert [row["id"] for row in query.exchanges(engine)] == ["fresh"]
    [total] = query.usage(engine, (), operation="chat")
    assert (total["exchanges"], total["input_tokens"]) == (50, 50)
    engine.dispose()
    ledger.close()


def test_it_works_on_postgresql(settings: LedgerSettings, postgres_url: str) -> None:
    settings = replace(settings, url=postgres_url)
    ledger = Ledger.start(settings, "i1")
    entries = [make_entry(str(at)) for at in range(300)]
    for entry in entries:
        ledger.open(entry)
    assert ledger.flush()
    for entry in entries[:200]:
        entry.settle(COMPLETE, MIDNIGHT)
        entry.settle(GONE, MIDNIGHT)
    assert ledger.flush()
    engine = query.connect(settings)
    assert {row["outcome"]: row["exchanges"] for row in query.usage(engine, ("outcome",))} == {"COMPLETE": 200, None: 100}
    row = query.exchange(engine, "0")
    assert row is not None
    assert row["late_settles"] == 1
    engine.dispose()
    assert ledger.close() == 0


def _remove(settings: LedgerSettings) -> None:
    for path in settings.data_dir.glob("ledger.db*"):
        path.unlink()


def test_a_file_that_is_gone_takes_no_rows_and_none_is_lost(settings: LedgerSettings) -> None:
    ledger = Ledger.start(replace(settings, retry_s=0.01), "i1")
    ledger.open(make_entry("a"))
    assert ledger.flush()
    moved = settings.sqlite_path.with_name("away.db")
    settings.sqlite_path.rename(moved)
    b = make_entry("b")
    ledger.open(b)
    _until(lambda: ledger.failing and ledger.counters.spilled == 1)
    assert not settings.sqlite_path.exists(), "a disk that vanished may come back"
    moved.rename(settings.sqlite_path)
    b.settle(COMPLETE, MIDNIGHT + 1)
    assert ledger.flush()
    assert not ledger.failing
    assert _outcomes(settings) == {"a": None, "b": "COMPLETE"}
    ledger.close()


@pytest.mark.parametrize("copy", ["empty", "ledger"])
def test_rows_go_to_the_file_that_is_at_the_ledgers_place_by_now(settings: LedgerSettings, copy: str, caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger.start(replace(settings, retry_s=0.01, renew_s=0.05), "i1")
    ledger.open(make_entry("a"))
    assert ledger.flush()
    reader = query.connect(settings)
    assert len(query.exchanges(reader)) == 1
    _remove(settings)
    if copy == "empty":
        _until(lambda: ledger.failing)  # by its lease: nothing else is written
        ledger.open(make_entry("b"))
        _until(lambda: ledger.counters.spilled == 1)
        settings.sqlite_path.touch(0o600)
    else:
        other = replace(settings, data_dir=settings.data_dir / "other")
        Store.open(other).close()
        other.sqlite_path.rename(settings.sqlite_path)
        ledger.open(make_entry("b"))
    _until(lambda: settings.sqlite_path.stat().st_size > 0 and not ledger.failing and ledger.flush() and [*_outcomes(settings)] == ["b"])
    assert [row["id"] for row in query.exchanges(reader)] == ["b"], "readers too"
    _until(lambda: "i1" in {str(row["id"]) for row in query.instances(reader)})  # with the next renewal, 0.05 s later
    reader.dispose()
    ledger.close()
    assert len([r for r in caplog.records if "writing again" in r.getMessage()]) <= 1


def test_what_keeps_failing_is_told_once(settings: LedgerSettings, caplog: pytest.LogCaptureFixture) -> None:
    """Also where nothing is left to write but what was spilled."""
    ledger = Ledger.start(replace(settings, retry_s=0.005, lock_wait_s=0.001), "i1")
    with sqlite3.connect(settings.sqlite_path, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        ledger.open(make_entry("a"))
        _until(lambda: ledger.counters.failures > 10)
        other.execute("ROLLBACK")
    assert ledger.flush()
    ledger.close()
    assert len([r for r in caplog.records if r.name == "penstock.ledger" and r.levelno == logging.WARNING]) == 2


def test_what_must_be_on_file_before_a_row_is_seen_to_before_every_write(settings: LedgerSettings) -> None:
    """Before a row that is tried again, and one out of the spill file, too."""
    said: list[str] = []

    class Fickle(Store):
        away = True

        def write(self, rows: Sequence[Row]) -> None:
            said.append("write")
            if self.away:
                raise StoreError("away")
            super().write(rows)

    clock = iter(range(0, 10_000, 100))
    store, spill = Fickle.open(settings), Full(settings.data_dir, ME.id)
    ledger = _stepped(settings, store, spill, lambda: float(next(clock)))
    ledger.ahead = lambda: said.append("ahead")
    ledger.open(make_entry("a"))
    assert not ledger.turn()
    assert (ledger.queued, said) == (1, ["ahead", "write"]), "it waits in memory"
    spill.full = False
    assert not ledger.turn()
    assert (ledger.counters.spilled, said[2:]) == (1, ["ahead", "write"])
    Fickle.away = False
    assert ledger.turn()
    assert (ledger.counters.drained, said[4:]) == (1, ["ahead", "write"])
    ledger.close()
