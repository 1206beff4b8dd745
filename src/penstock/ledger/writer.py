"""`Ledger`: what the exchange talks to, and the thread that writes.

An entry waits at most once: `open` and `settle` put it into the queue unless it is there already, and the writer reads its values when it
takes it out. So a short exchange is one INSERT, and a settle that comes while the row is being written is written again (the same row;
`store` makes that harmless). The writer sleeps while there is nothing to do, gathers for `linger_s` when there is, and writes in batches.

When the database does not take a batch, everything that waits goes to the spill file at once, because `kill -9` must not cost more than
the last 100 ms; the database is tried again every `retry_s` and the file drained. When spilling fails too, entries stay in memory, and once
`queue_entries` of them wait, `open` refuses. Entries already opened are kept whatever happens.

Threads: `open`, `settle` and `find_response` belong to the event loop's thread. `flush`, `close` and the counters may be used from any.
No lock is taken on the loop: what both threads touch is a deque, flags, and the order in which they are written (told where it matters).
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from penstock import __version__
from penstock.ledger.ascribe import Filler, filled_row
from penstock.ledger.entry import Entry, Maker
from penstock.ledger.errors import LedgerFull, StoreError
from penstock.ledger.lease import Instance
from penstock.ledger.rollup import Roller
from penstock.ledger.schema import ID_OPERATIONS, is_made
from penstock.ledger.settings import LedgerSettings
from penstock.ledger.spill import Spill
from penstock.ledger.store import Store
from penstock.ledger.upkeep import Upkeep

log = logging.getLogger("penstock.ledger")

_GRACE_S = 0.5
"""For what comes after the last row, when the time for a stop is over: the lease is released, and waits are given up."""
_ID_OPERATIONS = frozenset(ID_OPERATIONS)


@dataclass(slots=True)
class Counters:
    """Since the start. Each is written by one thread only."""

    opened: int = 0
    settled: int = 0
    late_settles: int = 0
    """Calls of `settle` on what was settled: each is a bug somewhere, and none changed a row."""
    refused: int = 0
    """Exchanges for which `open` raised `LedgerFull`."""
    written: int = 0
    """Rows that the database took from the queue (an exchange counts once or twice)."""
    spilled: int = 0
    drained: int = 0
    failures: int = 0
    """Tries that the database refused, and tries to spill that failed."""
    crashed: int = 0
    """Rows of dead instances that this one settled."""
    retired: int = 0
    """Rows that became daily sums."""


class Ledger:
    """The account of one process. Make it with `start`."""

    def __init__(
        self, settings: LedgerSettings, instance: Instance, store: Store, *, spill: Spill | None = None, clock: Callable[[], float] = time.monotonic,
        filler: Filler | None = None,
    ) -> None:  # fmt: skip
        """Without a thread: nothing is written until `launch`, or until `turn` is called in its place. `clock` is monotonic, in seconds.

        `filler`: whoever says what an exchange cost and whose it was; `None`: nobody.
        """
        self.instance = instance.id
        self.counters = Counters()
        self._settings = settings
        self._store = store
        self._spill = spill or Spill(settings.data_dir, instance.id)
        self._upkeep = Upkeep(settings, instance, store, self._spill, self.counters, clock)
        self._clock = clock
        self._filler = filler
        self._roller = Roller(settings, store)
        self.ahead: Callable[[], object] = lambda: None
        """Puts on file what must be there before any row of what was opened by then: on the writer's thread, before each write. Never raises."""
        self._queue: deque[Entry] = deque()
        self._retry: list[Entry] = []
        """Taken out of the queue and not yet written: the next try begins with them."""
        self._limit = settings.most_entries
        self._recent: OrderedDict[str, Maker] = OrderedDict()  # (the first of a plain dict is looked for behind all that were taken out)
        self._awake = False
        """The writer will look at the queue again without being told. Written False by the writer before its last look, True by whoever wakes it."""
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._turns = threading.Condition()
        self._begun = 0
        self._clear = 0
        """The last turn after which nothing that it found was left to write."""
        self._failing = False
        """The database did not take the last try: until `_retry_at` rows go to the spill file."""
        self._retry_at = 0.0
        self._spill_at = 0.0
        """When the spill file may be tried again, after it failed."""
        self._stop_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="penstock-ledger", daemon=True)

    @classmethod
    def start(cls, settings: LedgerSettings, instance: str, filler: Filler | None = None) -> Ledger:
        """Open the ledger, register the instance, settle what the dead left open, start the writer.

        Blocks for some milliseconds (the first start: some hundred, for the tables). Raises `LedgerError` with a sentence for the operator.
        """
        store = Store.open(settings)
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        ledger = cls(settings, Instance(instance, time.time(), socket.gethostname(), os.getpid(), __version__), store, filler=filler)
        try:
            ledger._upkeep.register()
        except StoreError as error:
            # Locked for the moment: the writer tries again, and exchanges wait in the queue.
            log.warning("ledger %s: %s", store.name, error)
        ledger.launch()
        return ledger

    def launch(self) -> None:
        """Start the writer's thread, and the one that sums hours up."""
        self._thread.start()
        self._roller.start()

    @property
    def notes(self) -> list[str]:
        """What the person who starts Penstock should know: sentences, often none."""
        return self._store.notes

    @property
    def queued(self) -> int:
        """Entries that wait in memory."""
        return len(self._queue) + len(self._retry)

    @property
    def failing(self) -> bool:
        """Rows do not reach the database now; they go to the spill file."""
        return self._failing

    @property
    def torn(self) -> int:
        """Lines of spill files that could not be read."""
        return self._spill.torn

    # On the event loop.

    def open(self, entry: Entry) -> None:
        """Begin the account of an exchange, before anything is asked of a provider. Never blocks.

        Raises `LedgerFull` where the row could be kept nowhere; then the entry is not the ledger's and the exchange must not begin.
        """
        if len(self._queue) >= self._limit:
            self.counters.refused += 1
            raise LedgerFull(f"the ledger {self._store.name} takes no rows and the spill file neither")
        entry.instance = self.instance
        entry.book = self
        entry.clip_request()
        self.counters.opened += 1
        entry.queued = True
        self._queue.append(entry)
        if not self._awake:
            self._awake = True
            self._wake.set()

    def note_settled(self, entry: Entry) -> None:
        """Called by `Entry.settle`."""
        self.counters.settled += 1
        id = entry.response_id
        if id is not None and entry.operation in _ID_OPERATIONS and entry.provider is not None and is_made(id, entry.method, entry.path):
            self.remember(id, Maker(entry.provider, entry.key_id, entry.user_id))
        self._enqueue(entry)

    def note_late(self, entry: Entry) -> None:
        """Called by `Entry.settle` when it was not the first call."""
        self.counters.late_settles += 1
        log.error("exchange %s was settled again: a mistake of the gateway; the first outcome stands", entry.id)
        self._enqueue(entry)

    def _enqueue(self, entry: Entry) -> None:
        if not entry.queued:
            entry.queued = True
            self._queue.append(entry)
            if not self._awake:
                self._awake = True
                self._wake.set()

    def remember(self, response_id: str, maker: Maker) -> None:
        """Who made this response; may also be told before the row is settled (a response is polled while it streams)."""
        recent = self._recent
        recent[response_id] = maker
        recent.move_to_end(response_id)
        if len(recent) > self._settings.recent_responses:
            recent.popitem(last=False)

    def find_response(self, response_id: str) -> Maker | None:
        """The maker of a response of this process, from memory; `None` where it is not (or no longer) known there."""
        return self._recent.get(response_id)

    async def maker_of(self, response_id: str) -> Maker | None:
        """The maker of a response, from memory or else from the database; `None` where neither knows, or the database does not answer now."""
        known = self._recent.get(response_id)
        if known is not None:
            return known
        try:
            found = await asyncio.to_thread(self._store.maker_of, response_id)
        except StoreError as error:
            log.warning("ledger %s: no look-up of a response: %s", self._store.name, error)
            return None
        if found is not None:
            self.remember(response_id, found)
        return found

    # From any thread.

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until the database has everything that was opened and settled before the call; False when that takes longer than `timeout` seconds."""
        with self._turns:
            after = self._begun
            self._hurry.set()
            self._wake.set()
            return self._turns.wait_for(lambda: self._clear > after, timeout)

    def stop_soon(self, timeout: float = 5.0) -> None:
        """Begin what `close` waits for. Nothing may be opened or settled afterwards."""
        self._limit = 0
        self._roller.stop_soon()
        self._store.end_by(time.monotonic() + timeout + _GRACE_S)
        self._stop_at = self._clock() + timeout
        self._hurry.set()
        self._wake.set()

    def close(self, timeout: float = 5.0) -> int:
        """Write what is left, spill what the database does not take within `timeout` seconds (from `stop_soon` on, where that was called), release
        the lease, stop.

        Returns how many rows could be saved nowhere (0, or the disk is full as well). Nothing may be opened or settled afterwards.
        """
        if self._stop_at is None:
            self.stop_soon(timeout)
        assert self._stop_at is not None
        if self._thread.is_alive():
            self._thread.join(timeout + 10.0)
        else:
            self._finish(self._stop_at)
        left = self.queued
        # At last: a database that does not answer keeps it for long, and no row may wait for that.
        self._roller.stop(max(0.0, self._stop_at + _GRACE_S - self._clock()))
        if not self._thread.is_alive():
            self._spill.close()
            self._store.close()
        return left

    # On the writer's thread.

    def _run(self) -> None:
        while self._stop_at is None:
            self._sleep()
            self.turn()
        self._finish(self._stop_at)

    def _finish(self, stop_at: float) -> None:
        self._limit = 0
        self._retry_at = self._spill_at = 0.0
        while not self.turn() and (self._queue or self._retry) and self._clock() < stop_at:
            time.sleep(0.01)
        self._spill_at = 0.0
        self._spill_all()
        try:
            self._upkeep.end()
        except StoreError as error:
            log.warning("ledger %s: the lease could not be released: %s", self._store.name, error)

    def _sleep(self) -> None:
        """Until there is work; then a little longer, so that more of it gathers (or until somebody is in a hurry)."""
        if not self._queue:
            self._awake = False
            # Looked at once more after the flag: whoever appended before it was lowered did not wake us.
            if not self._queue and self._stop_at is None:
                self._wake.wait(self._idle_s())
            self._awake = True
        if self._queue:
            self._hurry.wait(self._settings.linger_s)
        self._wake.clear()
        self._hurry.clear()

    def _idle_s(self) -> float:
        """How long there will be nothing to do, unless somebody comes."""
        if self._failing:
            return max(0.0, self._retry_at - self._clock())
        return 0.0 if self._spill.pending or self._retry else self._upkeep.sleep_s()

    def turn(self) -> bool:
        """What the thread does each time that it wakes; True when all that it found is in the database. Never raises."""
        with self._turns:
            self._begun += 1
            turn = self._begun
        begun = self._clock()
        try:
            well = self._turn()
        except (StoreError, OSError) as error:
            if not self._failing:
                log.warning("ledger %s: %s; rows wait in %s", self._store.name, error, self._settings.data_dir)
            well = self._fail(begun)
        except Exception:
            # A bug of ours must not end the thread: every exchange's account depends on it. What was being written is in `_retry`.
            log.exception("ledger %s: unexpected failure", self._store.name)
            well = self._fail(begun)
        if well:
            with self._turns:
                self._clear = turn
                self._turns.notify_all()
        return well

    def _fail(self, begun: float) -> bool:
        """The database did not take it. A try that took long (a host that does not answer) is followed by a longer pause."""
        now = self._clock()
        self.counters.failures += 1
        self._failing = True
        self._retry_at = now + max(self._settings.retry_s, min(30.0, 4 * (now - begun)))
        self._spill_all()
        return False

    def _turn(self) -> bool:
        """Write what is queued; True when the database has it and no spilled row waits. Raises `StoreError` or `OSError`."""
        if self._failing and self._clock() < self._retry_at:
            self._spill_all()
            return False
        self._upkeep.register(again=self._failing)
        self._write(len(self._queue))
        if self._failing:
            log.warning("ledger %s: writing again", self._store.name)
            self._failing = False
        if self._stop_at is None:
            self._limit = self._settings.most_entries
        self._upkeep.run()
        while self._spill.pending:
            self._drain()
            self._upkeep.run()
            if self._queue or (self._stop_at is not None and self._clock() >= self._stop_at):
                return not self._spill.pending
        return True

    def _write(self, waiting: int) -> None:
        """Write the `waiting` entries at the head of the queue, after those of a try that failed."""
        while self._retry or waiting > 0:
            if not self._retry:
                taken = min(waiting, self._settings.batch_entries)
                waiting -= taken
                self._retry = self._take(taken)
            self.ahead()
            # Read now, and at every try: what was settled meanwhile is written as settled.
            self._store.write([filled_row(entry, self._filler) for entry in self._retry])
            self.counters.written += len(self._retry)
            self._retry = []

    def _take(self, count: int) -> list[Entry]:
        popped = [self._queue.popleft() for _ in range(min(count, len(self._queue)))]
        for entry in popped:
            # Before its values are read: a settle after this line queues it again, one before it is seen.
            entry.queued = False
        return popped

    def _drain(self) -> None:
        """Write one batch of spilled rows."""
        if rows := self._spill.peek(self._settings.batch_entries):
            self.ahead()
            self._store.write(rows)
            self._spill.done()
            self.counters.drained += len(rows)

    def _spill_all(self) -> None:
        """Move what waits in memory to the spill file. When that fails it stays, and `open` refuses once the queue is full."""
        if self._clock() < self._spill_at:
            return
        try:
            while self._retry or self._queue:
                if not self._retry:
                    self._retry = self._take(self._settings.batch_entries)
                self._spill.append([filled_row(entry, self._filler) for entry in self._retry])
                self.counters.spilled += len(self._retry)
                self._retry = []
        except Exception as error:  # any: the thread must outlive a bug of ours here as well
            if not isinstance(error, OSError):
                log.exception("ledger %s: rows cannot be spilled", self._store.name)
            self.counters.failures += 1
            self._spill_at = self._clock() + self._settings.retry_s
            if self._limit > self._settings.queue_entries:
                log.error("ledger: %s cannot be written either (%s); a full queue refuses new exchanges", self._settings.data_dir, error)
                self._limit = self._settings.queue_entries
        else:
            if self._stop_at is None:
                self._limit = self._settings.most_entries
