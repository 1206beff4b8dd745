"""One line per exchange at its end, and the process's own messages, in one stream, written by a thread of their own.

A slow reader, a full disk or a closed pipe costs lines, which are counted, and nothing else: the loop never waits for a write, and what is
counted for `/metrics` is counted whether its line is written or not.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

from penstock.telemetry.lines import Message, Settled, exchange_json, exchange_text, level_of, message_json, message_text
from penstock.telemetry.metrics import Metrics
from penstock.telemetry.sinks import FileSink, Sink, StreamSink, Unwritten

BOUND = 20_000
"""Lines that may wait."""
PAUSE = 0.1
"""Seconds between two writes: lines are gathered, one write takes them all."""
BATCH = 128
"""Lines of one write at most: so long the thread may keep the interpreter from the loop, half a millisecond or so."""
FRAMES = 4
"""Of a traceback, the innermost."""
_ARGUMENTS = re.compile(r"\(.*\)")
"""Of callbacks, as asyncio shows them: they may be bytes of a stream."""
LAST = 1.5
"""Seconds that a slow reader has for the last lines."""
LEVELS: Mapping[str, int] = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


@dataclass(frozen=True, slots=True)
class LogSettings:
    """The configuration's `log`."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Exchanges are `info`, those that did not come to their proper end `warning`. `debug` concerns the rooms' own messages."""
    format: Literal["auto", "human", "json"] = "auto"
    """`auto`: for people on a terminal, else JSON."""
    file: Path | None = None
    """`None`: standard error."""


class Log:
    """Takes settled entries on the loop and lets a thread count and write them. `close` writes what waits."""

    def __init__(
        self, out: TextIO | None = None, settings: LogSettings = LogSettings(), metrics: Metrics | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:  # fmt: skip
        """`out`: where lines go without a file, e.g. standard error. `metrics`: where settled entries are counted."""
        self.settings = settings
        self.metrics = metrics or Metrics()
        self._sink: Sink = FileSink(settings.file) if settings.file is not None else StreamSink(out)
        human = settings.format == "human" or (settings.format == "auto" and self._sink.terminal)
        # https://no-color.org: set and not empty, whatever its value.
        self._colour = human and self._sink.terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb" and sys.platform != "win32"
        self._human = human
        self._least = LEVELS[settings.level]
        self._waiting: deque[Settled | Message] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="penstock-log", daemon=True)
        self._until = 0.0
        self._dropping = threading.Lock()
        self.dropped = 0
        """Lines lost: to a reader that was too slow, to a disk or a pipe that did not take them."""
        self._untold = 0  # of them, those that the log itself has not told of
        self._why = ""  # the last were lost
        self._failing = False  # the last write lost lines

    def start(self) -> None:
        """Raises `OSError`, with the file as its `filename`, where it cannot be written."""
        self._sink.open()
        self._thread.start()

    def note(self, entry: Settled) -> None:
        """One exchange is over. Never blocks, never raises."""
        if len(self._waiting) >= BOUND:
            self._drop(1, "its reader is too slow")
            self._count((entry,))  # here, because the thread is stuck in a write, or nearly
        else:
            self._waiting.append(entry)

    def say(self, text: str, level: str = "info", logger: str = "penstock", where: str | None = None, at: float | None = None) -> None:
        """A message of the process itself. From any thread; never blocks. `at` in seconds since the epoch; `None`: now."""
        if LEVELS.get(level, logging.ERROR) < self._least:
            return
        if len(self._waiting) >= BOUND:
            self._drop(1, "its reader is too slow")
        else:
            self._waiting.append(Message(time.time() if at is None else at, level, logger, text, where))

    def close(self) -> None:
        """Write what waits, for two seconds at most."""
        self._until = time.monotonic() + LAST
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(LAST + 0.5)
        if not self._thread.is_alive():
            self._sink.close()

    def _count(self, entries: Sequence[Settled]) -> None:
        try:
            self.metrics.note(entries)
        except Exception as error:  # a mistake of ours; neither an exchange nor the log's thread may end by it
            self.say(f"exchanges were not counted ({type(error).__name__})", "error", "penstock.log")

    # On the log's thread.

    def _run(self) -> None:
        while not self._stop.wait(PAUSE):
            self._write()
        self._write()
        self._write()  # what the last but one had to say of itself

    def _write(self) -> None:
        """All that waits now; what comes meanwhile has its turn later."""
        left = len(self._waiting)
        while left > 0:
            batch = [self._waiting.popleft() for _ in range(min(left, BATCH))]
            left -= len(batch)
            self._count([item for item in batch if not isinstance(item, Message)])
            self._put([line for item in batch if (line := self._line(item)) is not None])
        if self._untold and not self._failing and self._least <= logging.WARNING:
            self._tell_loss()

    def _line(self, item: Settled | Message) -> bytes | None:
        """`None`: nobody wants it."""
        try:
            if isinstance(item, Message):
                return message_text(item, self._colour) if self._human else message_json(item)
            if self._least > logging.INFO and LEVELS[level_of(item)] < self._least:
                return None
            return exchange_text(item, self._colour) if self._human else exchange_json(item)
        except Exception as error:  # a mistake of ours costs one line; the thread must not end by it
            self._drop(1, f"it could not be written out ({type(error).__name__})")
            return None

    def _put(self, lines: list[bytes]) -> bool:
        if not lines:
            return True
        data = b"\n".join([*lines, b""])
        try:
            self._sink.write(data, self._sleep)
        except Unwritten as error:
            self._failing = True
            self._drop(data.count(b"\n", error.written), str(error))
            return False
        self._failing = False
        return True

    def _sleep(self, seconds: float) -> bool:
        if not self._stop.is_set():
            self._stop.wait(seconds)
            return False
        time.sleep(seconds)
        return time.monotonic() >= self._until

    def _tell_loss(self) -> None:
        """In its place: between the last line before it and the first after it."""
        with self._dropping:
            lost, self._untold, why = self._untold, 0, self._why
        line = self._line(Message(time.time(), "warning", "penstock.log", f"{lost} lines of this log were lost: {why}"))
        if line is not None and not self._put([line]):
            with self._dropping:
                self._untold += lost

    def _drop(self, lines: int, why: str) -> None:
        with self._dropping:
            self.dropped += lines
            self._untold += lines
            self._why = why


class Handler(logging.Handler):
    """Brings the rooms' own log records, and warnings of whatever runs in the process, into the same stream."""

    def __init__(self, log: Log) -> None:
        super().__init__(LEVELS[log.settings.level])
        self._log = log

    def attach(self) -> None:
        """From now on, until `detach`. Levels below `warning` concern our own rooms alone: others' would show what they carry."""
        logging.getLogger().addHandler(self)
        logging.getLogger("penstock").setLevel(self.level)
        logging.captureWarnings(True)

    def detach(self) -> None:
        logging.captureWarnings(False)
        logging.getLogger("penstock").setLevel(logging.NOTSET)
        logging.getLogger().removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception:  # its words and its arguments do not fit; a record must never harm whoever made it
            text = str(record.msg)
        if record.name == "asyncio":
            text = _ARGUMENTS.sub("()", text)
        where: str | None = None
        if record.exc_info and record.exc_info[0] is not None:
            # What and where; not the exception's text, which may quote what a client sent.
            frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(record.exc_info[2])][-FRAMES:]
            where = " > ".join([record.exc_info[0].__name__, *(f"{Path(name).name}:{line}" for name, line in frames)])
        self._log.say(text, _name(record.levelno), record.name, where, record.created)


def _name(level: int) -> str:
    return next((name for name in ("error", "warning", "info") if level >= LEVELS[name]), "debug")
