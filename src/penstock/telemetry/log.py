"""One line per exchange at its end, and the process's own messages, written by a thread of their own."""

from __future__ import annotations

import logging
import threading
import traceback
from collections import deque
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Protocol, TextIO

from penstock.vocabulary.outcome import Ending

BOUND = 20_000
"""Lines that may wait."""
PAUSE = 0.1
"""Seconds between two writes: lines are gathered, one write takes them all."""


class Settled(Protocol):
    """What a line needs of a settled entry; `ledger.entry.Entry` is one."""

    id: str
    started_at: float
    settled_at: float | None
    outcome: str | None
    cause: str | None
    ended_by: str | None
    status: int | None
    method: str | None
    path: str | None
    provider: str | None
    model: str | None
    requested_model: str | None
    input_tokens: int | None
    output_tokens: int | None
    ttft_ms: float | None
    duration_ms: float | None


def line(entry: Settled) -> str:
    """`entry` for people: time, id, outcome, who and what, figures, and the cause where it is not an ordinary end."""
    at = entry.settled_at or entry.started_at
    out = f"{_second(int(at))}.{int(at * 1000) % 1000:03d}Z {entry.id} {entry.outcome} {entry.status or '-'} {entry.method} {_plain(entry.path)}"
    if entry.provider:
        out += f" provider={entry.provider}"
    model = entry.model or entry.requested_model
    if model:
        out += f" model={_plain(model)}"
    if entry.input_tokens is not None or entry.output_tokens is not None:
        out += f" tokens={_count(entry.input_tokens)}/{_count(entry.output_tokens)}"
    if entry.ttft_ms is not None:
        out += f" ttft={entry.ttft_ms:.0f}ms"
    if entry.duration_ms is not None:
        out += f" took={entry.duration_ms:.0f}ms"
    if entry.cause and entry.outcome != Ending.COMPLETE:
        out += f" by={entry.ended_by} cause={_plain(entry.cause)!r}"
    return out


@lru_cache(maxsize=4)
def _second(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _count(n: int | None) -> str:
    return "?" if n is None else str(n)


def _plain(text: str | None) -> str:
    """Without control characters: an outsider must not be able to write lines of its own."""
    if not text:
        return ""
    if len(text) <= 300 and text.isprintable():
        return text
    return "".join(c if c.isprintable() else "?" for c in text[:300])


class Log:
    """Takes settled entries on the loop and lets a thread write them. `close` writes what waits."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._waiting: deque[Settled | str] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="penstock-log", daemon=True)
        self.dropped = 0
        """Lines lost to a reader that was too slow."""

    def start(self) -> None:
        self._thread.start()

    def note(self, entry: Settled) -> None:
        """One exchange is over. Never blocks."""
        if len(self._waiting) >= BOUND:
            self.dropped += 1
        else:
            self._waiting.append(entry)

    def say(self, text: str) -> None:
        """A message of the process itself. Never blocks."""
        if len(self._waiting) >= BOUND:
            self.dropped += 1
        else:
            self._waiting.append(text)

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2.0)

    def _run(self) -> None:
        while not self._stop.wait(PAUSE):
            self._write()
        self._write()

    def _write(self) -> None:
        lines: list[str] = []
        while self._waiting:
            item = self._waiting.popleft()
            lines.append(_plain(item) if isinstance(item, str) else line(item))
        if lines:
            try:
                self._out.write("\n".join(lines) + "\n")
                self._out.flush()
            except (OSError, ValueError):  # nobody reads any more
                self.dropped += len(lines)


class Handler(logging.Handler):
    """Brings the rooms' own log records (warnings and worse) into the same stream."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        text = f"{record.levelname.lower()}: {record.name}: {record.getMessage()}"
        if record.exc_info and record.exc_info[2] is not None:
            # Where it happened; not the exception's text, which may quote what a client sent.
            frame = traceback.extract_tb(record.exc_info[2])[-1]
            text += f" (at {Path(frame.filename).name}:{frame.lineno})"
        self._log.say(text)
