"""From files to rows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from penstock.attribution.bodies import clear
from penstock.ledger.ascribe import Ascriber
from penstock.ledger.entry import row_of
from penstock.ledger.errors import StoreError
from penstock.ledger.histories import claude_code
from penstock.ledger.histories.found import Found
from penstock.ledger.histories.places import Source
from penstock.ledger.schema import daily, exchanges
from penstock.ledger.store import Store
from penstock.ledger.sums import day_of

BATCH = 500
FRESH_S = 120.0
"""A file that was written to so shortly ago may be in the middle of an answer: its last one is left for the next time."""
UNENDED_S = 3600.0
"""The same where the last one of Claude Code's has no stop reason yet: it is written block by block, each with the usage so far, and a block may take
long."""
_NEAR_S = 86400.0
"""How far apart the clocks and ideas of a beginning may be of a gateway and a history: an answer may take hours."""
_TRIES = 50


@dataclass(slots=True)
class Tally:
    """Answers."""

    files: int = 0
    found: int = 0
    new: int = 0
    known: int = 0
    """That were imported before, or are told by another history."""
    relayed: int = 0
    """That went through a gateway and are in the ledger as its own."""
    summed: int = 0
    """Of days that are only kept as sums."""
    unpriced: int = 0
    """Among the new ones: nobody knows what their model costs."""
    failed: list[str] = field(default_factory=list[str])
    """Files that could not be read, each with why."""


def load(
    store: Store, ascriber: Ascriber, sources: Sequence[Source], told: Callable[[int], None], *, now: float, since: float | None = None
) -> Tally:
    """Bring in what the files tell. `told` hears of the bytes that were read. Raises `StoreError` where the ledger does not take it for long."""
    tally = Tally()
    # A row that became a part of sums between two looks would be counted again.
    with store.stay() as sure:
        summed = store.read(_Summed)
        for source in sources:
            sure()
            _bring(store, ascriber, source, told, tally, summed, now, since)
    return tally


def _bring(
    store: Store, ascriber: Ascriber, source: Source, told: Callable[[int], None], tally: Tally, summed: _Summed, now: float, since: float | None
) -> None:  # fmt: skip
    tally.files += 1
    try:
        found = list(source.read(source.path, told))
    except OSError as error:
        tally.failed.append(str(error))
        return
    if found and now - source.modified < _may_go_on_s(found[-1]):
        found.pop()
    found = [each for each in found if since is None or each.at >= since]
    tally.found += len(found)
    if not found:
        return
    kept = [each for each in found if not summed.hold(each)]
    tally.summed += len(found) - len(kept)
    if kept:
        fresh = _not_relayed(store, kept)
        tally.relayed += len(kept) - len(fresh)
        for at in range(0, len(fresh), BATCH):
            _write(store, ascriber, fresh[at : at + BATCH], tally)


def _may_go_on_s(last: Found) -> float:
    return UNENDED_S if last.origin == claude_code.ORIGIN and last.stop_reason is None else FRESH_S


class _Summed:
    """The days that are only kept as sums, and what is known of whose they are. Providers of a gateway may be called anything."""

    def __init__(self, connection: sa.Connection) -> None:
        names = ("provider", "client", "session_id")
        self._known = {name: {(day, word) for day, word in connection.execute(sa.select(daily.c.day, daily.c[name]).distinct())} for name in names}

    def hold(self, each: Found) -> bool:
        """May it be in them?"""
        said = {"provider": each.provider, "client": each.client, "session_id": clear(each.session)}
        day = day_of(each.at)
        return any(word is not None and (day, word) in self._known[name] for name, word in said.items())


def _not_relayed(store: Store, found: Sequence[Found]) -> list[Found]:
    """Without those that a gateway has rows of: the same response, or where none is named one of the same session with the same figures."""
    first, last = min(each.at for each in found) - _NEAR_S, max(each.at for each in found) + _NEAR_S
    table = exchanges.c
    named = sa.or_(table.response_id.is_not(None), table.session_id.is_not(None))
    statement = sa.select(table.response_id, table.session_id, table.input_tokens, table.output_tokens).where(
        table.started_at >= first, table.started_at <= last, table.origin.is_(None), named)
    wanted = {each.response_id for each in found if each.response_id is not None}
    sessions = {session for each in found if each.response_id is None and (session := clear(each.session)) is not None}

    def look(connection: sa.Connection) -> tuple[set[str], Counter[tuple[str | None, int | None, int | None]]]:
        """Only what is asked for is kept of the rows, of which there may be millions."""
        responses, same = set[str](), Counter[tuple[str | None, int | None, int | None]]()
        for response, session, took, made in connection.execution_options(yield_per=BATCH).execute(statement):
            if response in wanted:
                responses.add(response)
            if session in sessions:
                same[session, took, made] += 1
        return responses, same

    responses, same = store.read(look)
    fresh: list[Found] = []
    for each in found:
        figures = (clear(each.session), each.usage.input, each.usage.output)
        if each.response_id is not None:
            if each.response_id not in responses:
                fresh.append(each)
        elif same[figures] > 0:
            same[figures] -= 1
        else:
            fresh.append(each)
    return fresh


def _write(store: Store, ascriber: Ascriber, found: Sequence[Found], tally: Tally) -> None:
    ids = [each.id for each in found]
    there = set(store.read(lambda connection: list(connection.execute(sa.select(exchanges.c.id).where(exchanges.c.id.in_(ids))).scalars())))
    new = {each.id: each for each in found if each.id not in there}
    tally.known += len(found) - len(new)
    entries = [each.entry() for each in new.values()]
    for entry, each in zip(entries, new.values(), strict=True):
        ascriber.fill(entry)
        entry.client, entry.effort = each.client, clear(each.effort)
        tally.unpriced += entry.cost_nanousd is None
    if entries:
        _patiently(store, [row_of(entry) for entry in entries])
        tally.new += len(entries)


def _patiently(store: Store, rows: list[tuple[object, ...]]) -> None:
    """A gateway that runs holds the lock again and again, each time for a moment."""
    for left in range(_TRIES, -1, -1):
        try:
            store.write(rows)
        except StoreError:
            if not left:
                raise
            time.sleep(0.1)
        else:
            return
