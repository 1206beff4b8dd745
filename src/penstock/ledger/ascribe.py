"""What the ledger's thread adds to an entry: whose it was, and what it cost. The event loop pays nothing for either.

Both are done once per entry, right before its row is first written in that state: whose it was with the opening, what it cost with the ending.
"""

from __future__ import annotations

import logging
from typing import Protocol

from penstock.attribution import ascribe, client_of, preview_of
from penstock.attribution.bodies import clear
from penstock.ledger.entry import COLUMNS, Entry, row_of
from penstock.ledger.rows import Row
from penstock.pricing import Prices, take_apart
from penstock.vocabulary.ids import GENERATING

log = logging.getLogger("penstock.ledger")

_GENERATING = frozenset(operation.value for operation in GENERATING)
_OUTCOME = COLUMNS.index("outcome")
_TIER = 32
"""Characters of a service tier."""
_SEARCHES = 10**6
"""More in one answer are no count."""


class Filler(Protocol):
    """Whoever completes entries. Must not raise."""

    def fill(self, entry: Entry) -> None: ...


class Ascriber:
    """Completes entries by the prices and rules of one configuration. Used by one thread."""

    def __init__(self, prices: Prices, preview: int | None = None) -> None:
        """`preview`: characters of the last user message that are kept; `None`: none are."""
        self._prices = prices
        self._preview = preview

    def fill(self, entry: Entry) -> None:
        """Never raises: a row without a price is better than no row."""
        try:
            if not entry.ascribed:
                entry.ascribed = True
                self._ascribe(entry)
            if entry.outcome is not None and not entry.priced:
                entry.priced = True
                self._price(entry)
        except Exception:
            log.exception("exchange %s: whose it was or what it cost is not known: a mistake of the gateway", entry.id)

    def _ascribe(self, entry: Entry) -> None:
        entry.client = client = client_of(entry.user_agent)
        user, project, session = entry.user_id, entry.project, entry.session_id
        if user is not None or project is not None or session is not None:
            entry.user_id, entry.project, entry.session_id = user, project, session = clear(user), clear(project), clear(session)
        said, entry.said = entry.said, None
        if said is not None:
            found = ascribe(said, client)
            # What a header says was said on purpose, and so beats the body.
            entry.user_id, entry.project, entry.session_id = user or found.user, project or found.project, session or found.session
            entry.effort = found.effort
        prompt = entry.prompt
        if prompt is not None:
            entry.prompt = None
            if self._preview is not None:
                entry.preview = preview_of(prompt, self._preview)

    def _price(self, entry: Entry) -> None:
        tier = entry.service_tier
        if tier is not None and len(tier) > _TIER:
            tier = entry.service_tier = tier[:_TIER]
        if entry.web_searches is not None and entry.web_searches > _SEARCHES:
            entry.web_searches = None
        if entry.operation not in _GENERATING:
            return
        spared = entry.spared
        counts = take_apart(entry.upstream_protocol or entry.client_protocol, entry if spared is None else spared)
        if counts is None:
            return
        price = self._prices.price(entry.provider, entry.model, entry.requested_model, tier, counts, entry.started_at, saved=entry.marked)
        if price is not None and spared is not None:
            entry.cost_nanousd, entry.price_version, entry.avoided_nanousd = 0, price.source, price.nanos
        elif price is not None:
            entry.cost_nanousd, entry.price_version = price.nanos, price.source
            if price.saved is not None:
                entry.saved_nanousd = price.saved


def filled_row(entry: Entry, filler: Filler | None) -> Row:
    """The entry's row, complete. One that is settled while this runs is either not settled in it, or has its price."""
    if filler is None:
        return row_of(entry)
    filler.fill(entry)
    row = row_of(entry)
    if not entry.priced and row[_OUTCOME] is not None:
        filler.fill(entry)
        row = row_of(entry)
    return row
