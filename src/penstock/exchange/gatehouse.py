"""What stands behind the door: keys and budgets in the database, issuers' keys; opened at the start, looked after while the gateway runs, closed.

Keys are made and revoked by other processes too (`penstock keys`), so the database is asked every `LOOK` seconds whether one has changed. As long as
nothing is configured and there is no key, `Gateway.admission` stays `None`, and nobody pays for any of this.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from penstock.admission.budget.charge import Pricing
from penstock.admission.door import Door
from penstock.admission.issuers import Issuer, KeySet, read_keys
from penstock.admission.keys import Ring, VirtualKey
from penstock.admission.limits.store import MemoryLimits
from penstock.admission.settings import AdmissionSettings, Mode
from penstock.exchange.admitting import Admission
from penstock.exchange.gateway import Gateway
from penstock.ledger.patience import end_by
from penstock.stores.budgets import Budgets, read_spent
from penstock.stores.errors import StoreError
from penstock.stores.jwks import Fetch, Jwks
from penstock.stores.keys import Keys, Wanted, shown
from penstock.stores.shares import lease_now

T = TypeVar("T")
log = logging.getLogger("penstock.admission")
LOOK = 2.0
"""Seconds between two looks for changed keys: what a key that was revoked elsewhere may still live."""


class Gatehouse:
    """Of one gateway."""

    def __init__(
        self, settings: AdmissionSettings, gateway: Gateway, engine: sa.Engine, reader: sa.Engine, secret: bytes, fetch: Callable[[], Fetch],
        pricing: Pricing | None = None,
    ) -> None:  # fmt: skip
        """`engine`: on the ledger's database, whose tables are there; `reader`: the same for reading. Both are closed here."""
        self._settings = settings
        self._gateway = gateway
        self._engine = engine
        self._reader = reader
        self._keys = Keys(engine, secret, reader)
        self._change = 0
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="penstock-keys")
        self._door = Door(settings, Ring(secret), {one.issuer: read_keys(one.jwks, one) for one in settings.issuers if one.jwks is not None})
        urls = [issuer for issuer in settings.issuers if issuer.jwks_url is not None]
        fetched = fetch() if urls else None
        self._jwks: dict[str, Jwks] = {one.issuer: Jwks(one, self._put, fetched) for one in urls} if fetched is not None else {}
        tell = asyncio.get_running_loop().call_soon_threadsafe
        self.budgets = Budgets(engine, gateway.instance, tell, reader=reader, lease_clock=lease_now)
        self._admission = Admission(self._door, MemoryLimits(), self._refresh, self.budgets, pricing)

    @property
    def strict(self) -> bool:
        """Does everybody have to show a key or a token, where no route says otherwise?"""
        return self._door.mode is Mode.STRICT

    def start(self) -> Callable[[], None]:
        """What the ledger is to do before it writes rows: an exchange whose row tells that it began has on file what was set aside for it, so that it
        is charged should we die. Blocks for some milliseconds. Raises `StoreError`."""
        try:
            self.budgets.start()
        except SQLAlchemyError as error:
            raise StoreError(f"the budgets cannot be had: {' '.join(str(getattr(error, 'orig', error)).split())[:300]}") from error
        self._take(self._keys.ring())
        return self.budgets.file_ahead

    async def run(self) -> None:
        """Look after keys and issuers, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for jwks in self._jwks.values():
                tasks.create_task(_keep_fresh(jwks), name="penstock-jwks")
            while True:
                await asyncio.sleep(LOOK)
                await self._look()

    async def reload(self) -> None:
        """A key was changed here: take it over at once. Raises `StoreError`."""
        self._take(await self._inside(self._keys.ring))

    def stop_soon(self, timeout: float = 5.0) -> None:
        """Begin what `close` waits for, and be done with it in `timeout` seconds."""
        for engine in (self._engine, self._reader):
            end_by(engine, time.monotonic() + timeout)
        self.budgets.stop_soon(timeout)

    def close(self) -> int:
        """Book what is left; how many charges the database did not take in time."""
        left = self.budgets.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
        for jwks in self._jwks.values():
            jwks.close()
        self._engine.dispose()
        self._reader.dispose()
        return left

    # -- for the admin plane -----------------------------------------------------------------------------------------------------------

    async def list(self) -> list[dict[str, Any]]:
        return [shown(key) for key in await self._inside(self._keys.all)]

    async def create(self, wanted: Wanted) -> tuple[dict[str, Any], str]:
        """Raises `KeyProblem`, as the others do."""
        key, text = await self._changed(lambda: self._keys.create(wanted.key(self._admission.wall())))
        return shown(key), text

    async def adopt(self, wanted: Wanted, sha: bytes) -> dict[str, Any]:
        return shown(await self._changed(lambda: self._keys.adopt(wanted.key(self._admission.wall()), sha)))

    async def rotate(self, id: str, grace: float) -> tuple[dict[str, Any], str]:
        key, text = await self._changed(lambda: self._keys.rotate(id, self._admission.wall(), grace))
        return shown(key), text

    async def revoke(self, id: str) -> dict[str, Any]:
        key: VirtualKey = await self._changed(lambda: self._keys.revoke(id, self._admission.wall()))
        return shown(key)

    async def spent(self) -> Sequence[dict[str, object]]:
        return await self._inside(lambda: read_spent(self._reader))

    # -- inside ------------------------------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        try:
            if await self._inside(self._keys.change) != self._change:
                await self.reload()
        except StoreError as error:
            log.warning("%s; those that were known stay in use", error)

    async def _changed(self, act: Callable[[], T]) -> T:
        done = await self._inside(act)
        await self.reload()
        return done

    async def _inside(self, act: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, act)

    def _take(self, found: tuple[Ring, int, int]) -> None:
        ring, self._change, foreign = found
        self._door.replace_ring(ring)
        if foreign:
            why = "were made under another secret and are not known here; give this gateway the same admission.keys_secret"
            log.warning("%d keys in the database %s", foreign, why)
        if self._gateway.admission is None and (ring or not self._settings.says_nothing):
            self._gateway.admission = self._admission

    def _put(self, issuer: Issuer, keys: KeySet) -> None:
        self._door.replace_keys(issuer, keys)

    async def _refresh(self, issuer: Issuer) -> bool:
        jwks = self._jwks.get(issuer.issuer)
        return await jwks.look_again() if jwks is not None else False


async def _keep_fresh(jwks: Jwks) -> None:
    while True:
        await asyncio.sleep(jwks.due_in)
        await jwks.refresh()
