"""Who is alive: rows are settled as CRASHED only against a lease that ran out, and only by those whose own holds."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from penstock.ledger import query
from penstock.ledger.lease import Instance, Lease
from penstock.ledger.settings import LedgerSettings
from penstock.ledger.store import Store
from penstock.ledger.writer import Ledger
from tests.support.ledgers import COMPLETE, make_entry, make_row


def _instance(id: str) -> Instance:
    return Instance(id, 0.0, "host", 1, "0")


def test_who_holds_a_lease_may_judge() -> None:
    lease = Lease(15.0)
    assert not lease.may_judge(100.0)
    lease.renew(100.0)
    assert lease.may_judge(100.0)
    lease.renew(105.0)
    assert lease.may_judge(120.0)
    assert not lease.may_judge(120.1), "its own lease ran out"


def test_who_slept_through_its_own_lease_judges_nobody_for_a_term() -> None:
    lease = Lease(15.0)
    lease.renew(100.0)
    lease.renew(4000.0)
    assert not lease.may_judge(4000.0)
    for now in (4005.0, 4010.0):
        lease.renew(now)
        assert not lease.may_judge(now)
    lease.renew(4015.0)
    assert lease.may_judge(4015.0)


def test_a_clock_that_was_ahead_and_is_set_back_keeps_nobody_from_judging() -> None:
    lease = Lease(15.0)
    lease.renew(100.0)
    lease.renew(31_536_000.0)
    for now in (105.0, 110.0, 115.0):
        lease.renew(now)
    lease.renew(120.0)
    assert lease.may_judge(120.0)


@pytest.fixture
def store(any_settings: LedgerSettings) -> Iterator[Store]:
    store = Store.open(any_settings)
    yield store
    store.close()


@pytest.fixture
def reader(any_settings: LedgerSettings, store: Store) -> Iterator[sa.Engine]:
    engine = query.connect(any_settings)
    yield engine
    engine.dispose()


def test_only_open_rows_of_the_dead_and_the_unknown_are_settled(store: Store, reader: sa.Engine) -> None:
    for id, until in (("own", 50.0), ("alive", 100.0), ("dead", 99.9)):
        store.hold(_instance(id), until)
    store.write([make_row(id, instance=id) for id in ("own", "alive", "dead", "unknown")])
    store.write([make_row("settled", instance="dead", outcome=COMPLETE)])
    assert store.settle_crashed("own", 100.0) == 2
    found = {row["id"]: (row["outcome"], row["ended_by"], row["settled_at"]) for row in query.exchanges(reader)}
    crashed = ("CRASHED", "gateway", 100.0)
    still_open = (None, None, None)
    assert found.pop("settled")[0] == "COMPLETE"
    assert found == {"own": still_open, "alive": still_open, "dead": crashed, "unknown": crashed}
    assert "lease" in query.exchanges(reader, outcome="CRASHED")[0]["cause"]
    assert store.settle_crashed("own", 100.0) == 0


def test_a_renewed_lease_holds_and_a_released_one_does_not(store: Store) -> None:
    store.hold(_instance("a"), 10.0)
    store.hold(_instance("a"), 20.0)
    assert store.alive(15.0) == {"a"}
    store.release("a", 15.0)
    assert store.alive(15.0) == set()


def test_dead_instances_are_forgotten_when_they_own_nothing(store: Store) -> None:
    for id in ("owner", "idle", "fresh"):
        store.hold(_instance(id), 90.0 if id == "fresh" else 10.0)
    store.write([make_row("x", instance="owner"), make_row("y", instance="idle", outcome=COMPLETE)])
    assert store.forget_dead(50.0) == 1
    assert store.alive(0.0) == {"owner", "fresh"}


CHILD = """
import sys, time
from pathlib import Path
from penstock.ledger.entry import Entry
from penstock.ledger.settings import LedgerSettings
from penstock.ledger.writer import Ledger
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
directory, url, name = sys.argv[1:4]
ledger = Ledger.start(LedgerSettings(Path(directory), url or None, linger_s=0.005, lease_s=1.5, renew_s=0.1), name)
entries = []
for at in range(30):
    entry = Entry(f"{name}-{at}", time.time())
    entry.operation = "chat"
    ledger.open(entry)
    entries.append(entry)
for entry in entries[:10]:
    entry.settle(Outcome(Ending.COMPLETE, "done", EndedBy.UPSTREAM), time.time())
assert ledger.flush(10)
print("ready", flush=True)
for line in sys.stdin:
    for entry in entries[10:]:
        entry.settle(Outcome(Ending.COMPLETE, "done", EndedBy.UPSTREAM), time.time())
    break
print(ledger.close(), flush=True)
"""


def _child(settings: LedgerSettings, name: str) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", CHILD, str(settings.data_dir), settings.url or "", name]
    return subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_two_processes_never_touch_each_others_rows_and_the_killed_ones_are_settled(any_settings: LedgerSettings) -> None:
    one, two = _child(any_settings, "one"), _child(any_settings, "two")
    try:
        assert (_line(one), _line(two)) == ("ready", "ready")
        reader = query.connect(any_settings)

        def counts() -> dict[tuple[str, str | None], int]:
            found: dict[tuple[str, str | None], int] = {}
            for row in query.exchanges(reader, 1000):
                key = (row["instance"], row["outcome"])
                found[key] = found.get(key, 0) + 1
            return found

        both = {("one", "COMPLETE"): 10, ("one", None): 20, ("two", "COMPLETE"): 10, ("two", None): 20}
        # Longer than a lease, which is long enough for a process that a busy machine keeps waiting: both renew, both look for the dead.
        until = time.monotonic() + 1.9
        while time.monotonic() < until:
            assert counts() == both
            time.sleep(0.1)
        os.kill(one.pid, signal.SIGKILL)
        one.wait()
        until = time.monotonic() + 10
        while counts() == both and time.monotonic() < until:
            time.sleep(0.05)
        assert counts() == {("one", "COMPLETE"): 10, ("one", "CRASHED"): 20, ("two", "COMPLETE"): 10, ("two", None): 20}
        assert two.stdin is not None
        two.stdin.write("go\n")
        two.stdin.flush()
        assert _line(two) == "0"
        two.wait(10)
        assert counts() == {("one", "COMPLETE"): 10, ("one", "CRASHED"): 20, ("two", "COMPLETE"): 30}
        reader.dispose()
    finally:
        for process in (one, two):
            process.kill()
            process.wait()


def test_a_restart_settles_what_a_graceful_stop_left_open_at_once(any_settings: LedgerSettings) -> None:
    first = Ledger.start(any_settings, "first")
    first.open(make_entry("a"))
    assert first.close() == 0
    second = Ledger.start(any_settings, "second")
    reader = query.connect(any_settings)
    row = query.exchange(reader, "a")
    reader.dispose()
    second.close()
    assert row is not None
    assert row["outcome"] == "CRASHED"
    assert second.counters.crashed == 1


KILLED = """
import sys, time
from pathlib import Path
from penstock.ledger.entry import Entry
from penstock.ledger.settings import LedgerSettings
from penstock.ledger.writer import Ledger
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
ledger = Ledger.start(LedgerSettings(Path(sys.argv[1])), "killed")
assert ledger.flush(10)
print("ready", flush=True)
sys.stdin.readline()
for at in range(200):
    entry = Entry(f"e{at}", time.time())
    ledger.open(entry)
    entry.settle(Outcome(Ending.COMPLETE, "done", EndedBy.UPSTREAM), time.time())
print("settled", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("locked", [False, True])
def test_a_kill_loses_nothing_that_was_settled_a_moment_ago(settings: LedgerSettings, locked: bool) -> None:
    """The promise is 100 ms; a busy machine gets some more. While another process holds the lock, rows are in the spill file by then."""
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(settings.data_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert _line(process) == "ready"
        blocker = sqlite3.connect(settings.sqlite_path, isolation_level=None)
        if locked:
            blocker.execute("BEGIN IMMEDIATE")
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        assert _line(process) == "settled"
        time.sleep(0.4)
    finally:
        process.kill()
        process.wait()
    count = "SELECT count(*) FROM exchanges WHERE outcome = 'COMPLETE'"
    assert blocker.execute(count).fetchone() == (0 if locked else 200,)
    if locked:
        blocker.execute("ROLLBACK")
        # As if the lease of the killed process had run out.
        blocker.execute("UPDATE instances SET lease_until = 0")
        ledger = Ledger.start(settings, "next")
        assert ledger.flush()
        ledger.close()
        assert blocker.execute(count).fetchone() == (200,)
    blocker.close()
