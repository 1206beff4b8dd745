"""What the ledger must be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FILE = "ledger.db"


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """Times are in seconds. The defaults are meant for use; tests make them small."""

    data_dir: Path
    """Holds the SQLite file and the spill files. Made with mode 0700 where it is missing."""
    url: str | None = None
    """`postgresql://...` or `sqlite:///...`; `None`: `ledger.db` in the data directory."""
    retention_days: int | None = 90
    """Rows of days before that are replaced by their daily sums; `None` keeps every row."""
    queue_entries: int = 10_000
    """Entries that may wait in memory when neither the database nor the spill file takes them; then new exchanges are refused."""
    batch_entries: int = 128
    """Entries per transaction: few enough that the event loop never waits long for the GIL (0.1 ms), enough that more would save little."""
    linger_s: float = 0.04
    """How long the writer gathers before it writes: the larger part of what `kill -9` can lose."""
    lock_wait_s: float = 0.05
    """How long one try waits for another process's lock (SQLite)."""
    retry_s: float = 0.25
    """How long rows go to the spill file before the database is tried again."""
    lease_s: float = 15.0
    renew_s: float = 5.0
    retention_every_s: float = 3600.0
    retention_batch: int = 1000
    """Rows summed and deleted per transaction."""
    rollup_every_s: float | None = 60.0
    """How often closed hours are summed; `None`: never (rows are summed when somebody asks)."""
    recent_responses: int = 4096
    """Response ids whose provider is kept in memory."""

    @property
    def most_entries(self) -> int:
        """Entries that may wait in memory while the writer is well: a burst between two of its turns, or a disk that hangs."""
        return self.queue_entries + 10_000

    @property
    def sqlite_path(self) -> Path:
        """Where the SQLite file is when no URL is given."""
        return self.data_dir / FILE
