"""Who is alive: each process renews a lease in the database, and rows of those that did not are settled as CRASHED.

Rules
- A row is settled as CRASHED only when its instance's lease has run out, or when no such instance is known. Never one's own.
- Who finds that its own lease ran out (the machine slept, the clock jumped, the database was locked for long) judges nobody until it has
  held a lease for a full term: the others slept too.
- CRASHED is a judgement, an ending told by the row's own instance is knowledge. So whichever is written first, the owner's word stands in
  the end, and among everything else the first stands (`shapes.upsert`). The result does not depend on the order of writes.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from penstock.ledger.schema import OPEN, exchanges, instances
from penstock.vocabulary.outcome import EndedBy, Ending
from penstock.vocabulary.usage import Provenance

CAUSE = "the process that held it ended without settling it: its lease in the ledger ran out"


@dataclass(frozen=True, slots=True)
class Instance:
    """One process, as the ledger knows it. `started_at` in seconds since the epoch."""

    id: str
    started_at: float
    host: str
    pid: int
    version: str


class Lease:
    """One's own lease, as a policy without I/O. `now` is the database's clock, in seconds since the epoch."""

    __slots__ = ("judges_from", "term_s", "until")

    def __init__(self, term_s: float) -> None:
        self.term_s = term_s
        self.until: float | None = None
        self.judges_from = 0.0

    def renew(self, now: float) -> None:
        """The database holds the lease until `now` + term."""
        if self.until is not None and now > self.until:
            self.judges_from = now + self.term_s
        # A term at most: a clock that was ahead for a while and was set back must not keep it from judging until then.
        self.judges_from = min(self.judges_from, now + self.term_s)
        self.until = now + self.term_s

    def may_judge(self, now: float) -> bool:
        """May leases of others be held against them now?"""
        return self.until is not None and now <= self.until and now >= self.judges_from


def hold(connection: sa.Connection, instance: Instance, until: float) -> None:
    """Register the instance, or renew its lease."""
    insert = postgresql.insert(instances) if connection.dialect.name == "postgresql" else sqlite.insert(instances)
    connection.execute(
        insert.values(
            id=instance.id, started_at=instance.started_at, lease_until=until, host=instance.host, pid=instance.pid, version=instance.version
        ).on_conflict_do_update(index_elements=["id"], set_={"lease_until": until})
    )


def release(connection: sa.Connection, instance: str, now: float) -> None:
    """The instance ends by itself: whatever it left open is nobody's from now on."""
    connection.execute(sa.update(instances).where(instances.c.id == instance).values(lease_until=now - 0.001))


def settle_crashed(connection: sa.Connection, own: str, now: float) -> int:
    """Settle what dead instances left open; returns how many rows."""
    alive = sa.select(instances.c.id).where(instances.c.lease_until >= now)
    result = connection.execute(
        sa.update(exchanges)
        .where(OPEN, exchanges.c.instance != own, exchanges.c.instance.not_in(alive))
        .values(
            outcome=Ending.CRASHED.value,
            cause=CAUSE,
            ended_by=EndedBy.GATEWAY.value,
            settled_at=now,
            usage_source=sa.func.coalesce(exchanges.c.usage_source, Provenance.NONE.value),
        )
    )
    return result.rowcount


def alive(connection: sa.Connection, now: float) -> frozenset[str]:
    """The instances whose lease holds."""
    return frozenset(connection.execute(sa.select(instances.c.id).where(instances.c.lease_until >= now)).scalars())


def forget_dead(connection: sa.Connection, before: float) -> int:
    """Delete instances whose lease ran out before that and that own no row any more; returns how many."""
    owned = sa.exists().where(exchanges.c.instance == instances.c.id, OPEN)
    return connection.execute(sa.delete(instances).where(instances.c.lease_until < before, ~owned)).rowcount
