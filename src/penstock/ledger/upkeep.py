"""What the writer's thread does besides writing: hold the lease, settle the rows of the dead, adopt their spill files, retire old rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from penstock.ledger.lease import Instance, Lease
from penstock.ledger.retention import DAY_S, cutoff
from penstock.ledger.settings import LedgerSettings
from penstock.ledger.spill import Spill
from penstock.ledger.store import Store

_FORGET_S = 7 * DAY_S
"""How long an instance that ended is remembered in the table."""


class Tally(Protocol):
    crashed: int
    retired: int


class Upkeep:
    """A clockwork without a thread: `run` does what is due. `clock` is monotonic, in seconds."""

    def __init__(self, settings: LedgerSettings, instance: Instance, store: Store, spill: Spill, tally: Tally, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._instance = instance
        self._store = store
        self._spill = spill
        self._tally = tally
        self._clock = clock
        self._lease = Lease(settings.lease_s)
        self._renew_at = clock()
        self._retire_at = clock()
        self._registered = False

    def register(self, *, again: bool = False) -> None:
        """Before the first row of this instance is written: a row of an unknown instance counts as a dead one's. Raises `StoreError`.

        `again`: whatever was done before; it may be another database by now, and it tells whether this one is well.
        """
        if again or not self._registered:
            self._renew()
            self._registered = True

    def sleep_s(self) -> float:
        """How long the writer may sleep when there is nothing to write."""
        due = self._renew_at if self._settings.retention_days is None else min(self._renew_at, self._retire_at)
        return max(0.0, due - self._clock())

    def run(self) -> None:
        """Do what is due. Raises `StoreError`; what failed is due again after `retry_s`."""
        if self._clock() >= self._renew_at:
            self._renew()
        if self._settings.retention_days is not None and self._clock() >= self._retire_at:
            self._retire(self._settings.retention_days)

    def end(self) -> None:
        """Release the lease. Raises `StoreError`."""
        self._store.release(self._instance.id, self._store.now())

    def _renew(self) -> None:
        self._renew_at = self._clock() + self._settings.retry_s
        now = self._store.now()
        self._store.hold(self._instance, now + self._settings.lease_s)
        self._lease.renew(now)
        if self._lease.may_judge(now):
            self._tally.crashed += self._store.settle_crashed(self._instance.id, now)
            # After the rows: a spill file that settles one of them wins over CRASHED all the same.
            self._spill.adopt(self._store.alive(now))
            self._store.forget_dead(now - _FORGET_S)
        self._renew_at = self._clock() + self._settings.renew_s

    def _retire(self, days: int) -> None:
        """One batch, so that fresh rows never wait long; at once again while there is more."""
        self._retire_at = self._clock() + self._settings.retry_s
        limit = self._settings.retention_batch
        retired = self._store.retire(cutoff(self._store.now(), days), limit)
        self._tally.retired += retired
        self._retire_at = self._clock() + (self._settings.retention_every_s if retired < limit else 0.0)
