"""Law 9: opened = settled, once, under any interleaving of opening, settling, late settling, writing, failing disks, crashes and restarts.

Two processes share one SQLite ledger. They are stepped by hand (no threads), their clocks are the test's, and database and spill file
fail as the test says, before their work or after it was done.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings as profile
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from penstock.ledger.entry import Entry
from penstock.ledger.errors import LedgerFull, StoreError
from penstock.ledger.lease import Instance
from penstock.ledger.rows import Row
from penstock.ledger.settings import LedgerSettings
from penstock.ledger.spill import Spill
from penstock.ledger.store import Store
from penstock.ledger.writer import Ledger
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
from tests.support.ledgers import put_empty_ledger

T = TypeVar("T")
FAULTS = st.sampled_from(["well", "well", "before", "after"])
ENDINGS = st.sampled_from([ending for ending in Ending if ending is not Ending.CRASHED])


class Clock:
    """Wall clock and monotonic clock in one; it also says what fails."""

    now = 1_700_006_400.0
    store = "well"
    spill = "well"

    def __call__(self) -> float:
        return self.now


CLOCK = Clock()


class FaultyStore(Store):
    """Fails before the transaction, or after it was committed and before anybody heard of it."""

    def _fault(self, act: Callable[[], T]) -> T:
        if CLOCK.store == "before":
            raise StoreError("failed before")
        done = act()
        if CLOCK.store == "after":
            raise StoreError("failed after")
        return done

    def write(self, rows: Sequence[Row]) -> None:
        self._fault(lambda: super(FaultyStore, self).write(rows))

    def hold(self, instance: Instance, until: float) -> None:
        self._fault(lambda: super(FaultyStore, self).hold(instance, until))

    def settle_crashed(self, own: str, now: float) -> int:
        return self._fault(lambda: super(FaultyStore, self).settle_crashed(own, now))


class FaultySpill(Spill):
    def append(self, rows: list[Row]) -> None:
        if CLOCK.spill == "before":
            raise OSError(28, "No space left on device")
        super().append(rows)
        if CLOCK.spill == "after":
            raise OSError(5, "Input/output error")


class Process:
    """One gateway's ledger, with what it knows for sure."""

    def __init__(self, settings: LedgerSettings, name: str) -> None:
        self.spill = FaultySpill(settings.data_dir, name)
        self.store = FaultyStore.open(settings, clock=CLOCK)
        self.ledger = Ledger(settings, Instance(name, CLOCK.now, "host", 1, "0"), self.store, spill=self.spill, clock=CLOCK)
        self.entries: list[Entry] = []


class Once(RuleBasedStateMachine):
    """`outcomes`: the first ending that each entry was told. `safe`: what must be in database or file, whatever happens next."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.settings = LedgerSettings(Path(self.directory.name), retry_s=1.0, queue_entries=6, batch_entries=3, retention_days=None)
        put_empty_ledger(self.settings)
        CLOCK.now, CLOCK.store, CLOCK.spill = Clock.now, "well", "well"
        self.processes: list[Process] = []
        self.serial = 0
        self.outcomes: dict[str, str] = {}
        self.safe: dict[str, str | None] = {}
        self.lost: set[str] = set()

    def _process(self) -> Process:
        self.serial += 1
        return Process(self.settings, f"p{self.serial}")

    @initialize()
    def begin(self) -> None:
        self.processes = [self._process(), self._process()]

    @rule(which=st.integers(0, 1), count=st.integers(1, 8), ending=st.none() | ENDINGS)
    def open(self, which: int, count: int, ending: Ending | None) -> None:
        """Exchanges begin; some are over before the writer has looked."""
        process = self.processes[which]
        for _ in range(count):
            self.serial += 1
            entry = Entry(f"e{self.serial}", CLOCK.now)
            try:
                process.ledger.open(entry)
            except LedgerFull:
                assert process.ledger.queued >= self.settings.queue_entries
                return
            process.entries.append(entry)
            if ending is not None:
                assert entry.settle(Outcome(ending, "it ended", EndedBy.UPSTREAM), CLOCK.now)
                self.outcomes[entry.id] = ending.value

    @rule(which=st.integers(0, 1), ending=st.none() | ENDINGS, faults=st.lists(st.tuples(FAULTS, FAULTS), min_size=1, max_size=3))
    def live(self, which: int, ending: Ending | None, faults: list[tuple[str, str]]) -> None:
        """Exchanges that begin, are written as open, and go on, with the disk as it likes."""
        self.open(which, 4, None)
        self.turn(which, 2.0, "well", "well")
        if ending is not None:
            for entry in self.processes[which].entries[-3:]:
                if entry.settle(Outcome(ending, "it ended", EndedBy.UPSTREAM), CLOCK.now):
                    self.outcomes[entry.id] = ending.value
        for store, spill in faults:
            self.turn(which, 2.0, store, spill)

    @precondition(lambda self: any(process.entries for process in self.processes))
    @rule(which=st.integers(0, 1), data=st.data(), ending=ENDINGS)
    def settle(self, which: int, data: st.DataObject, ending: Ending) -> None:
        process = self.processes[which]
        if process.entries:
            entry = data.draw(st.sampled_from(process.entries))
            first = entry.settle(Outcome(ending, "it ended", EndedBy.UPSTREAM), CLOCK.now)
            assert first == (entry.id not in self.outcomes)
            self.outcomes.setdefault(entry.id, ending.value)

    @rule(which=st.integers(0, 1), seconds=st.sampled_from([0.04, 2.0]), store=FAULTS, spill=FAULTS)
    def turn(self, which: int, seconds: float, store: str, spill: str) -> None:
        CLOCK.now += seconds
        CLOCK.store, CLOCK.spill = store, spill
        process = self.processes[which]
        known = {entry.id: entry.outcome for entry in process.entries}
        if process.ledger.turn() or process.ledger.queued == 0:
            # In the database, or the spill file.
            self.safe |= known

    @rule(seconds=st.sampled_from([6.0, 20.0, 100.0]))
    def wait(self, seconds: float) -> None:
        CLOCK.now += seconds

    @precondition(lambda self: any(process.entries for process in self.processes))
    @rule(which=st.integers(0, 1))
    def kill(self, which: int) -> None:
        """`kill -9`, and another process in its place."""
        process = self.processes[which]
        process.spill.close()
        process.store.close()
        self.lost |= {entry.id for entry in process.entries}
        self.processes[which] = self._process()

    @precondition(lambda self: any(process.entries for process in self.processes))
    @rule(which=st.integers(0, 1), store=FAULTS, spill=FAULTS)
    def stop(self, which: int, store: str, spill: str) -> None:
        """A graceful stop, which settles everything first."""
        CLOCK.store, CLOCK.spill = store, spill
        process = self.processes[which]
        for entry in process.entries:
            if entry.settle(Outcome(Ending.SHUTDOWN, "the gateway stops", EndedBy.GATEWAY), CLOCK.now):
                self.outcomes[entry.id] = Ending.SHUTDOWN.value
        if process.ledger.close(timeout=0.0) == 0:
            self.safe |= {entry.id: entry.outcome for entry in process.entries}
        else:
            assert CLOCK.store != "well"
            assert CLOCK.spill != "well"
            self.lost |= {entry.id for entry in process.entries}
        self.processes[which] = self._process()

    def _rows(self) -> dict[str, str | None]:
        with sqlite3.connect(self.settings.sqlite_path) as connection:
            found: list[tuple[str, Any]] = connection.execute("SELECT id, outcome FROM exchanges").fetchall()
        assert len(found) == len(dict(found))
        return dict(found)

    @invariant()
    def no_row_says_what_never_happened(self) -> None:
        if self.processes:
            for id, outcome in self._rows().items():
                assert outcome in (None, "CRASHED", self.outcomes.get(id)), id

    def teardown(self) -> None:
        try:
            if not self.processes:
                return
            CLOCK.store = CLOCK.spill = "well"
            for process in self.processes:
                for entry in process.entries:
                    if entry.settle(Outcome(Ending.COMPLETE, "it ended", EndedBy.UPSTREAM), CLOCK.now):
                        self.outcomes[entry.id] = Ending.COMPLETE.value
            # Long enough for every lease of the dead to run out, with the living renewing theirs.
            for _ in range(12):
                CLOCK.now += 5.0
                for process in self.processes:
                    process.ledger.turn()
            rows = self._rows()
            living = {entry.id for process in self.processes for entry in process.entries}
            assert all(rows[id] == self.outcomes[id] for id in living), "every ending of a living process is told"
            for id, outcome in self.safe.items():
                assert id in rows, "a row that was safe is never dropped"
                if id not in self.lost:
                    assert rows[id] == self.outcomes[id]
                elif outcome is not None:
                    assert rows[id] == outcome, "an ending that was safe is never replaced"
            assert None not in rows.values(), "opened = settled"
            assert not list(self.settings.data_dir.glob("spill-*.jsonl"))
            for process in self.processes:
                assert process.ledger.close() == 0
        finally:
            self.directory.cleanup()


TestOnce = Once.TestCase
TestOnce.settings = profile(max_examples=15, stateful_step_count=25, deadline=None)
TestOnce = pytest.mark.timeout(300)(TestOnce)  # Shrinking a failure takes longer than finding it.
