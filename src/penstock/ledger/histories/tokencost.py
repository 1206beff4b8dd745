"""TokenCost's `tracker.db`: a SQLite table `requests`, one row per answer.

`ts` is ISO 8601 in UTC, of the end of an answer that was requested `duration_ms` before. The counts are Anthropic's for Anthropic's models and
OpenAI's for those that are named `provider/model`, `msg_uuid` is the response's id where it was known, `stop_reason` `incomplete` stands for an
answer that was cut. Its own costs are not taken: they are of another price list. Columns came over time, so those that a file lacks are unknown.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from penstock.attribution import client_of
from penstock.ledger.histories.found import Found, seconds_of
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
from penstock.vocabulary.usage import Usage

ORIGIN = "tokencost"
_COLUMNS = (
    "id", "ts", "source", "model", "input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_tokens", "cache_creation_1h_tokens",
    "duration_ms", "status", "user_agent", "stop_reason", "effort", "msg_uuid",
)  # fmt: skip
_LONGEST_MS = 86_400_000.0
_WHOLE = Outcome(Ending.COMPLETE, "told by a history", EndedBy.UPSTREAM)
_CUT = Outcome(Ending.TRUNCATED, "told by a history: the answer was cut", EndedBy.UPSTREAM)
_FAILED = Outcome(Ending.UPSTREAM_ERROR, "told by a history: the provider failed", EndedBy.UPSTREAM)


def read(path: Path, told: Callable[[int], None]) -> Iterator[Found]:
    """What is found in a file, in order. `told` hears of the bytes that were read, about. Raises `OSError`; also where it is no such database."""
    try:
        yield from _read(path, told)
    except sqlite3.Error as error:
        raise OSError(f"{path} is no database of TokenCost's: {error}") from error


def _read(path: Path, told: Callable[[int], None]) -> Iterator[Found]:
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)
    try:
        there = {row[1] for row in connection.execute("PRAGMA table_info(requests)")}
        if not {"ts", "model", "input_tokens", "output_tokens"} <= there:
            raise OSError(f"{path} is no database of TokenCost's: it has no table of requests")
        total = connection.execute("SELECT count(*) FROM requests").fetchone()[0]
        share = path.stat().st_size // max(1, total)
        columns = ", ".join(name if name in there else "NULL" for name in _COLUMNS)
        for values in connection.execute(f"SELECT {columns} FROM requests ORDER BY ts"):
            told(share)
            found = _found(dict(zip(_COLUMNS, values, strict=True)))
            if found is not None:
                yield found
    finally:
        connection.close()


def _found(row: dict[str, object]) -> Found | None:
    at = seconds_of(row["ts"])
    model = row["model"]
    counts = {name: _count(row[name]) for name in _COLUMNS if name.endswith("_tokens")}
    if at is None or not isinstance(model, str) or not any(counts.values()):
        return None
    provider, slash, name = model.partition("/")
    written, hour = counts["cache_creation_tokens"], counts["cache_creation_1h_tokens"]
    usage = Usage(counts["input_tokens"], counts["output_tokens"], counts["cache_read_tokens"], written, cache_write_1h=hour)
    uuid, agent, status = row["msg_uuid"], row["user_agent"], _count(row["status"])
    took = row["duration_ms"]
    duration = float(took) if isinstance(took, (int, float)) and 0 <= took < _LONGEST_MS else None
    return Found(
        ORIGIN,
        f"{row['id']}:{row['ts']}",
        at - (duration or 0.0) / 1e3,
        provider if slash else "anthropic",
        ProtocolId.OPENAI_CHAT if slash else ProtocolId.ANTHROPIC_MESSAGES,
        Operation.CHAT if slash else Operation.MESSAGES,
        name if slash else model,
        usage,
        uuid if isinstance(uuid, str) and uuid else None,
        client=client_of(agent if isinstance(agent, str) and agent else row["source"] if isinstance(row["source"], str) else None),
        effort=row["effort"] if isinstance(row["effort"], str) else None,
        stop_reason=row["stop_reason"] if isinstance(row["stop_reason"], str) and row["stop_reason"] != "incomplete" else None,
        duration_ms=duration,
        outcome=_FAILED if status is not None and status >= 400 else _CUT if row["stop_reason"] == "incomplete" else _WHOLE,
    )


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and 0 <= value < 1 << 62 else None
