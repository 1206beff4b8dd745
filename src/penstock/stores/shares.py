"""What each exchange has set aside, on file: `budgets` writes it; here is booked by it what a gateway that died had set aside.

A charge and the row that tells of it are written by two threads, in two transactions. A gateway that is killed between the two leaves them at odds;
so what was set aside or booked stays on file until the row is settled, and whoever lives brings the two together (`reckon`):

- Its row is settled: the budgets are charged what the row says, whether that was booked or not.
- Its row is CRASHED: nobody knows what the answer came to. Row and budgets are charged what was set aside for it, the most that it can have come to:
  of budgets that cut, what the stream had of them by then. So a budget that binds is not overshot because a gateway dies.
- It has no row (none was written before the kill): there is nothing to be charged.

A gateway that had only been suspended settles its exchanges after that; its word replaces ours, in the ledger and here, and so does what is found in
its spill file later. What was concluded stays on file as long as the ledger remembers the gateway.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from time import time
from typing import Any

import sqlalchemy as sa

from penstock.admission.budget.account import Charge
from penstock.stores.schema import budget_held, budget_shares, budget_spent, exchanges, instances
from penstock.stores.statements import Key, Place
from penstock.vocabulary.outcome import Ending

PLACE = ("budget", "subject", "period")
_CRASHED = Ending.CRASHED.value
_AT_ONCE = 500
"""Exchanges of one transaction: the lock is not held for long."""
_of = {name: budget_shares.c[name] == sa.bindparam(f"its_{name}") for name in ("exchange", *PLACE)}
_CHANGE = sa.update(budget_shares).where(*_of.values())
_REMOVE = sa.delete(budget_shares).where(*_of.values())
_KNOWN = (
    sa.update(exchanges)
    .where(exchanges.c.id == sa.bindparam("its_id"), exchanges.c.outcome == _CRASHED, exchanges.c.charged_input.is_(None))
    .values(charged_input=sa.bindparam("its_input"), charged_output=sa.bindparam("its_output"), charged_micros=sa.bindparam("its_micros"))
)


def key_of(row: Mapping[str, Any]) -> Key:
    return row["exchange"], row["budget"], row["subject"], row["period"]


def at(place: Place, table: sa.Table) -> list[sa.ColumnElement[bool]]:
    """The condition for the rows of a budget in a window."""
    return [table.c[name] == value for name, value in zip(PLACE, place, strict=True)]


def find(connection: sa.Connection, ids: Iterable[str]) -> dict[Key, dict[str, Any]]:
    """What these exchanges have on file."""
    wanted = sorted(set(ids))
    if not wanted:
        return {}
    rows = [dict(row) for row in connection.execute(sa.select(budget_shares).where(budget_shares.c.exchange.in_(wanted))).mappings()]
    return {key_of(row): row for row in rows}


def _write(connection: sa.Connection, changed: Sequence[Mapping[str, Any]], gone: Sequence[Key]) -> None:
    if changed:
        used: dict[str, Any] = {"used": sa.bindparam("new_used")}
        connection.execute(_CHANGE.values(used), [{**_named(key_of(row)), "new_used": row["used"]} for row in changed])
    if gone:
        connection.execute(_REMOVE, [_named(key) for key in gone])


def _named(key: Key) -> dict[str, Any]:
    return dict(zip(("its_exchange", *(f"its_{name}" for name in PLACE)), key, strict=True))


def lease_now(connection: sa.Connection) -> float:
    """The clock by which the ledger holds leases: the server's for PostgreSQL, because hosts disagree. Seconds since the epoch."""
    if connection.dialect.name != "postgresql":
        return time()
    return float(connection.scalar(sa.text("SELECT extract(epoch FROM clock_timestamp())")) or 0.0)


def forget_told(connection: sa.Connection, own: str) -> int:
    """Take out what this gateway has booked and its ledger has written, and its sums of nothing, for a decision looks through all sums; returns how
    many of the former."""
    connection.execute(sa.delete(budget_held).where(budget_held.c.instance == own, budget_held.c.held == 0))
    told = sa.exists().where(exchanges.c.id == budget_shares.c.exchange, exchanges.c.outcome.is_not(None), exchanges.c.outcome != _CRASHED)
    return connection.execute(sa.delete(budget_shares).where(budget_shares.c.instance == own, budget_shares.c.used.is_not(None), told)).rowcount


def reckon(connection: sa.Connection, own: str, now: float) -> int:
    """Bring the budgets and the rows of the dead together, for some hundred exchanges at most; returns of how many. What is open in the ledger is
    left until the ledger has judged it."""
    living = sa.select(instances.c.id).where(instances.c.lease_until > now)
    dead = (budget_shares.c.instance != own) & budget_shares.c.instance.not_in(living)
    said = exchanges.c.outcome.is_not(None) & ((exchanges.c.outcome != _CRASHED) | exchanges.c.charged_input.is_(None))
    lost = exchanges.c.id.is_(None) & (sa.func.coalesce(budget_shares.c.used, -1) != 0)
    due = sa.or_(said, lost, budget_shares.c.used.is_(None) & exchanges.c.outcome.is_not(None))
    beside = budget_shares.outerjoin(exchanges, exchanges.c.id == budget_shares.c.exchange)
    ids = list(connection.execute(sa.select(budget_shares.c.exchange).distinct().select_from(beside).where(dead, due).limit(_AT_ONCE)).scalars())
    if not ids:
        _forget_dead(connection, own, living)
        return 0
    _lock(connection, sorted({key[1:] for key in find(connection, ids)}))
    columns = (exchanges.c.id, exchanges.c.outcome, exchanges.c.charged_input, exchanges.c.charged_output, exchanges.c.charged_micros)
    rows = {row["id"]: dict(row) for row in connection.execute(sa.select(*columns).where(exchanges.c.id.in_(ids))).mappings()}
    kept: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for share in find(connection, ids).values():  # once more: behind the lock
        kept[share["exchange"]].append(share)
    spent: dict[Place, int] = defaultdict(int)
    released: dict[tuple[str, Place], int] = defaultdict(int)
    known: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    gone: list[Key] = []
    for id, shares in kept.items():
        row = rows.get(id)
        final = row is not None and row["outcome"] not in (None, _CRASHED)
        charge = _charge(row, shares, known)
        for share in shares:
            place = share["budget"], share["subject"], share["period"]
            target = (charge.micros or 0) if share["money"] else charge.input + charge.output
            spent[place] += target - (share["used"] or 0)
            if share["used"] is None:
                released[share["instance"], place] += share["held"]
            if final:
                gone.append(key_of(share))
            else:
                changed.append({**share, "used": target})
    # Few statements, however many exchanges: the lock is held meanwhile, and whoever streams on another thread waits for what Python does here.
    _write(connection, changed, gone)
    if known:
        connection.execute(_KNOWN, known)
    for (instance, place), held in released.items():
        _release(connection, instance, place, held)
    for place, more in spent.items():
        if more:
            connection.execute(sa.update(budget_spent).where(*at(place, budget_spent)).values(spent=budget_spent.c.spent + more, changed_at=now))
    return len(kept)


def _charge(row: Mapping[str, Any] | None, shares: Sequence[Mapping[str, Any]], known: list[dict[str, Any]]) -> Charge:
    """What is charged of the exchange; what is concluded is to go into its row (`known`)."""
    if row is None or row["outcome"] is None:
        return Charge(0, 0, None)
    if row["outcome"] != _CRASHED or row["charged_input"] is not None:
        return Charge(row["charged_input"] or 0, row["charged_output"] or 0, row["charged_micros"])
    found = concluded(shares)
    known.append({"its_id": row["id"], "its_input": found.input, "its_output": found.output, "its_micros": found.micros})
    return found


def concluded(shares: Sequence[Mapping[str, Any]]) -> Charge:
    """What an exchange is charged that nobody saw the end of, by what it has on file of each of its budgets."""
    one = shares[0]
    known = Charge(one["input"], one["output"], one["micros"])
    if one["used"] is not None:
        return known  # it had been charged already; only its row was lost
    had = {money: [share["held"] for share in shares if share["cuts"] and share["money"] is money] for money in (False, True)}
    tokens = min(had[False], default=known.input + known.output)
    micros = None if known.micros is None else min(had[True], default=known.micros)
    return Charge(min(known.input, tokens), max(0, tokens - known.input), micros)


def _lock(connection: sa.Connection, places: Sequence[Place]) -> None:
    """In the order in which every gateway takes them."""
    for place in places:
        connection.execute(sa.select(budget_spent.c.spent).where(*at(place, budget_spent)).with_for_update())


def _release(connection: sa.Connection, instance: str, place: Place, held: int) -> None:
    mine = (budget_held.c.instance == instance, *at(place, budget_held))
    connection.execute(sa.update(budget_held).where(*mine).values(held=budget_held.c.held - held))


def _forget_dead(connection: sa.Connection, own: str, living: sa.Select[Any]) -> None:
    """Sums of the dead that nothing stands behind any more, and what was concluded of those that the ledger has forgotten."""
    behind = sa.exists().where(budget_shares.c.instance == budget_held.c.instance, budget_shares.c.used.is_(None))
    connection.execute(sa.delete(budget_held).where(budget_held.c.instance != own, budget_held.c.instance.not_in(living), ~behind))
    known = sa.select(instances.c.id)
    gone = (budget_shares.c.instance != own) & budget_shares.c.instance.not_in(known) & budget_shares.c.used.is_not(None)
    connection.execute(sa.delete(budget_shares).where(gone))
