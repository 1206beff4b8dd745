"""One answer of a history, and the entry that it becomes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path, PurePath, PureWindowsPath

from penstock.attribution.bodies import clear
from penstock.ledger.entry import Entry
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
from penstock.vocabulary.usage import Provenance, Usage

_INSTANCE = "import"
_TOLD = Outcome(Ending.COMPLETE, "told by a history", EndedBy.UPSTREAM)


@dataclass(frozen=True, slots=True)
class Found:
    """Times in seconds since the epoch."""

    origin: str
    """`claude-code`, `codex` or `tokencost`."""
    key: str
    """What the answer is called where it has no response id: the same whenever the same file is read."""
    at: float
    provider: str
    protocol: ProtocolId
    operation: Operation
    model: str | None
    usage: Usage
    response_id: str | None = None
    session: str | None = None
    project: str | None = None
    client: str | None = None
    effort: str | None = None
    stop_reason: str | None = None
    service_tier: str | None = None
    duration_ms: float | None = None
    outcome: Outcome = field(default=_TOLD)

    @property
    def id(self) -> str:
        """The row's. By the response id alone where there is one: two histories may tell of one answer."""
        name = f"response:{self.response_id}" if self.response_id is not None else f"{self.origin}:{self.key}"
        return f"im-{sha256(name.encode('utf-8', 'replace')).hexdigest()[:24]}"

    def entry(self) -> Entry:
        """Settled, without a price."""
        entry = Entry(self.id, self.at)
        entry.instance, entry.origin = _INSTANCE, self.origin
        entry.provider, entry.operation = clear(self.provider), self.operation.value
        entry.client_protocol = entry.upstream_protocol = self.protocol.value
        entry.model, entry.response_id, entry.stop_reason, entry.service_tier = self.model, self.response_id, self.stop_reason, self.service_tier
        entry.session_id, entry.project, entry.duration_ms = self.session, self.project, self.duration_ms
        entry.account(self.usage, Provenance.REPORTED if self.outcome.ending is Ending.COMPLETE else Provenance.PARTIAL)
        entry.settle(self.outcome, self.at + (self.duration_ms or 0.0) / 1e3)
        return entry


LONGEST = 1 << 24
"""Bytes of a line that is read. Those that count are short: what a client pasted in may be longer, and says nothing of use."""
_PIECE = 1 << 20


def lines_of(path: Path, told: Callable[[int], None]) -> Iterator[bytes]:
    """The lines of a file, without those over `LONGEST`, of which no more than that is ever kept. `told` hears of all bytes. Raises `OSError`."""
    with path.open("rb") as file:
        while line := file.readline(LONGEST):
            told(len(line))
            if line.endswith(b"\n") or len(line) < LONGEST:
                yield line
                continue
            while (piece := file.readline(_PIECE)) and not piece.endswith(b"\n"):
                told(len(piece))
            told(len(piece))


def seconds_of(timestamp: object) -> float | None:
    """Of a time as ISO 8601 writes it; UTC where no zone is written. `None` where it is none."""
    if not isinstance(timestamp, str):
        return None
    try:
        at = datetime.fromisoformat(timestamp.strip())
    except ValueError:
        return None
    seconds = (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
    return seconds if 0 < seconds < 1e11 else None


def project_of(directory: object) -> str | None:
    """A project is called as its directory is."""
    if not isinstance(directory, str) or not directory:
        return None
    path = PureWindowsPath(directory) if "\\" in directory else PurePath(directory)
    return path.name or None
