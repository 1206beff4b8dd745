"""Entries and rows for tests of the ledger and of those who use it."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from penstock.ledger.entry import Entry, row_of
from penstock.ledger.rows import Row
from penstock.ledger.settings import LedgerSettings
from penstock.ledger.store import Store
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
from penstock.vocabulary.usage import Provenance

COMPLETE = Outcome(Ending.COMPLETE, "the terminal event was seen", EndedBy.UPSTREAM)
GONE = Outcome(Ending.CLIENT_GONE, "the client closed its connection", EndedBy.CLIENT)
MIDNIGHT = 1_700_006_400.0
"""2023-11-15 00:00 UTC."""


def make_entry(id: str, started_at: float = MIDNIGHT, **values: Any) -> Entry:
    """An entry as an exchange would open it; `values` by column."""
    entry = Entry(id, started_at)
    entry.provider, entry.operation, entry.method, entry.path = "openai", "chat", "POST", "/v1/chat/completions"
    entry.requested_model = "gpt-4o"
    for name, value in values.items():
        setattr(entry, name, value)
    return entry


def make_row(id: str, *, instance: str = "i1", started_at: float = MIDNIGHT, outcome: Outcome | None = None, **values: Any) -> Row:
    """The row of such an entry, settled a second after it began when an outcome is given."""
    entry = make_entry(id, started_at, instance=instance, **values)
    if outcome is not None:
        if entry.usage_source is None and entry.input_tokens is not None:
            entry.usage_source = Provenance.REPORTED.value
        entry.settle(outcome, started_at + 1.0)
    return row_of(entry)


@cache
def _empty() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        settings = LedgerSettings(Path(directory))
        Store.open(settings).close()
        return settings.sqlite_path.read_bytes()


def put_empty_ledger(settings: LedgerSettings) -> None:
    """A ledger with its tables and nothing in them, without the time that migrations take: for tests that need hundreds. One that is there stays."""
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not settings.sqlite_path.exists():
        settings.sqlite_path.touch(mode=0o600)
        settings.sqlite_path.write_bytes(_empty())
