"""One line per exchange, in the form that its reader wants, and nothing that happens to it slows the loop or goes uncounted."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import sys
import threading
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

import pytest

from penstock.ledger.entry import Entry
from penstock.telemetry import log as room
from penstock.telemetry.log import Handler, Log, LogSettings
from penstock.telemetry.metrics import Metrics
from penstock.telemetry.sinks import Unwritten, Wait
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome


def settled(ending: Ending = Ending.COMPLETE, id: str = "px-1") -> Entry:
    entry = Entry(id, 1_700_000_000.5)
    entry.method, entry.path, entry.provider, entry.status = "POST", "/v1/messages", "anthropic", 200
    entry.settle(Outcome(ending, "why", EndedBy.UPSTREAM), 1_700_000_001.25)
    return entry


def counted(metrics: Metrics) -> float:
    return sum(sample.value for family in metrics.families() if family.name == "penstock_exchanges_total" for sample in family.samples)


def objects(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def told(out: TextIO, settings: LogSettings | None = None, environ: dict[str, str] | None = None) -> None:
    log = Log(out, settings or LogSettings(), environ=environ or {})
    log.start()
    log.note(settled())
    log.say("hello", "warning", "penstock.x")
    log.close()


def test_a_terminal_gets_colour_and_a_pipe_json() -> None:
    terminal, pipe = Terminal(), io.StringIO()
    told(terminal)
    told(pipe)
    assert "\x1b[32mCOMPLETE\x1b[0m 200 POST /v1/messages" in terminal.getvalue()
    assert "\x1b[33mwarning\x1b[0m penstock.x: hello\n" in terminal.getvalue()
    exchange, message = objects(pipe)
    assert (exchange["id"], exchange["outcome"]) == ("px-1", "COMPLETE")
    assert (message["logger"], message["message"]) == ("penstock.x", "hello")


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_none_is_wanted(environ: dict[str, str]) -> None:
    out = Terminal()
    told(out, environ=environ)
    assert "\x1b" not in out.getvalue()
    assert "px-1 COMPLETE 200" in out.getvalue()


def test_an_empty_no_color_says_nothing() -> None:
    out = Terminal()
    told(out, environ={"NO_COLOR": ""})
    assert "\x1b" in out.getvalue()


def test_a_form_that_is_asked_for_is_given() -> None:
    terminal, pipe = Terminal(), io.StringIO()
    told(terminal, LogSettings(format="json"))
    told(pipe, LogSettings(format="human"))
    assert len(objects(terminal)) == 2
    assert "px-1 COMPLETE" in pipe.getvalue()
    assert "\x1b" not in pipe.getvalue()


def test_a_file_gets_json_and_standard_error_nothing(tmp_path: Path) -> None:
    out, path = Terminal(), tmp_path / "penstock.log"
    told(out, LogSettings(file=path))
    assert out.getvalue() == ""
    assert [json.loads(line)["level"] for line in path.read_text().splitlines()] == ["info", "warning"]
    told(out, LogSettings(file=path, format="human"))
    assert "\x1b" not in path.read_text()


def test_a_file_that_cannot_be_had_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    log = Log(None, LogSettings(file=tmp_path / "x" / "log"))
    with pytest.raises(OSError):
        log.start()
    log.close()


@pytest.mark.parametrize(("level", "ids", "words"), [
    ("debug", ["px-1", "px-2"], ["d", "i", "w", "e"]), ("info", ["px-1", "px-2"], ["i", "w", "e"]),
    ("warning", ["px-2"], ["w", "e"]), ("error", [], ["e"]),
])  # fmt: skip
def test_levels(level: Any, ids: list[str], words: list[str]) -> None:
    out, metrics = io.StringIO(), Metrics()
    log = Log(out, LogSettings(level=level), metrics)
    log.start()
    log.note(settled())
    log.note(settled(Ending.TRUNCATED, "px-2"))
    for word in ("debug", "info", "warning", "error"):
        log.say(word[0], word)
    log.close()
    assert [line["id"] for line in objects(out) if "id" in line] == ids
    assert [line["message"] for line in objects(out) if "message" in line] == words
    assert counted(metrics) == 2  # what is not wanted as a line counts all the same
    assert log.dropped == 0


def test_lines_are_written_in_order_and_all_of_them_at_the_end() -> None:
    out, metrics, many = io.StringIO(), Metrics(), 3 * room.BATCH + 1
    log = Log(out, metrics=metrics)
    for number in range(many):
        log.note(settled(id=f"px-{number}"))
    log.say("bye")
    log.start()
    log.close()
    *exchanges, last = objects(out)
    assert [line["id"] for line in exchanges] == [f"px-{number}" for number in range(many)]
    assert last["message"] == "bye"
    assert counted(metrics) == many


def test_past_the_bound_lines_are_dropped_and_told_of_and_exchanges_are_counted() -> None:
    out, metrics = io.StringIO(), Metrics()
    log = Log(out, metrics=metrics)
    for _ in range(room.BOUND + 5):
        log.note(settled())
    log.say("one more")
    assert log.dropped == 6
    assert counted(metrics) == 5
    log.start()
    log.close()
    assert counted(metrics) == room.BOUND + 5
    assert objects(out)[-1]["message"] == "6 lines of this log were lost: its reader is too slow"


def test_a_reader_that_is_gone_costs_lines_and_nothing_else() -> None:
    out, metrics = io.StringIO(), Metrics()
    log = Log(out, metrics=metrics)
    log.note(settled())
    out.close()
    log.start()
    log.close()
    assert log.dropped == 1
    assert counted(metrics) == 1


def test_a_stuck_reader_holds_up_neither_the_loop_nor_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LAST", 0.01)
    monkeypatch.setattr(room, "BOUND", 1000)
    reading, writing = os.pipe()
    metrics = Metrics()
    with os.fdopen(writing, "w") as out:
        log = Log(out, metrics=metrics)
        log.start()
        for _ in range(3000):
            log.note(settled())
        log.close()
        assert log.dropped >= 1000
        os.close(reading)  # lets the thread go: it is stuck in a write
        log.close()


class Slow:
    """A sink that takes what it is given at the third try, or only the first of its lines."""

    terminal = False

    def __init__(self, *, all: bool) -> None:
        self.taken = b""
        self._all = all

    def open(self) -> None: ...
    def close(self) -> None: ...

    def write(self, data: bytes, wait: Wait) -> None:
        for _ in range(3):
            if wait(0.001):
                raise Unwritten(0, "slow")
        written = len(data) if self._all else data.index(b"\n") + 3
        self.taken += data[:written]
        if not self._all:
            raise Unwritten(written, "slow")


@pytest.mark.parametrize("all", [True, False])
def test_a_slow_reader_has_a_moment_for_the_last_lines_and_only_what_it_did_not_take_is_lost(monkeypatch: pytest.MonkeyPatch, all: bool) -> None:
    log, sink = Log(), Slow(all=all)
    monkeypatch.setattr(log, "_sink", sink)
    for number in range(3):
        log.note(settled(id=f"px-{number}"))
    log.start()
    log.close()
    assert log.dropped == (0 if all else 2)
    assert sink.taken.count(b"\n") == (3 if all else 1)


def test_a_full_disk_costs_lines_that_are_told_of_once_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    full = [True]

    class Disk(io.StringIO):
        def write(self, s: str) -> int:
            if full[0]:
                tried.set()
                raise OSError(28, "No space left on device")
            return super().write(s)

    tried = threading.Event()
    monkeypatch.setattr(room, "PAUSE", 0.001)
    out = Disk()
    log = Log(out)
    log.start()
    log.note(settled(id="px-lost"))
    assert tried.wait(5)
    full[0] = False
    log.note(settled(id="px-kept"))
    log.close()
    kept, loss = objects(out)
    assert kept["id"] == "px-kept"
    assert (loss["level"], loss["logger"]) == ("warning", "penstock.log")
    assert loss["message"].startswith("1 lines of this log were lost: ")
    assert log.dropped == 1


def test_a_mistake_of_ours_costs_one_line_and_not_the_thread() -> None:
    out = io.StringIO()
    log = Log(out)
    bad = settled()
    bad.settled_at = bad.duration_ms = cast(float, "soon")
    log.note(bad)
    log.note(settled(id="px-2"))
    log.start()
    log.close()
    kept, loss, mistake = objects(out)
    assert kept["id"] == "px-2"
    assert log.dropped == 1
    assert "(ValueError)" in loss["message"] or "(TypeError)" in loss["message"]
    assert (mistake["level"], mistake["message"]) == ("error", "exchanges were not counted (TypeError)")


# The rooms' own records.


@contextmanager
def attached(settings: LogSettings | None = None) -> Generator[io.StringIO]:
    out = io.StringIO()
    log = Log(out, settings or LogSettings())
    handler = Handler(log)
    log.start()
    handler.attach()
    try:
        yield out
    finally:
        handler.detach()
        log.close()


def test_the_rooms_own_records_tell_where_and_not_what() -> None:
    with attached() as out:
        try:
            raise ValueError("sk-secret")
        except ValueError:
            logging.getLogger("penstock.room").exception("it broke: %s", "here")
    (line,) = objects(out)
    assert (line["level"], line["logger"], line["message"]) == ("error", "penstock.room", "it broke: here")
    assert line["error"].startswith("ValueError > test_log.py:")
    assert "sk-secret" not in out.getvalue()


def test_levels_below_warning_are_our_own_rooms_alone() -> None:
    with attached(LogSettings(level="debug")) as out:
        for name in ("penstock.room", "somebody.else"):
            for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.CRITICAL):
                logging.getLogger(name).log(level, "x")
    assert [(line["logger"], line["level"]) for line in objects(out)] == [
        ("penstock.room", "debug"), ("penstock.room", "info"), ("penstock.room", "warning"), ("penstock.room", "error"),
        ("somebody.else", "warning"), ("somebody.else", "error"),
    ]  # fmt: skip
    assert logging.getLogger("penstock").level == logging.NOTSET
    with attached(LogSettings(level="error")) as out:
        logging.getLogger("penstock").warning("x")
    assert out.getvalue() == ""


def test_warnings_of_libraries_come_in_the_same_stream() -> None:
    with warnings.catch_warnings(), attached() as out:
        warnings.simplefilter("always")
        warnings.warn("old ways", UserWarning, stacklevel=1)
    (line,) = objects(out)
    assert (line["logger"], line["level"]) == ("py.warnings", "warning")
    assert "old ways" in line["message"]


def test_a_failing_callback_shows_no_bytes_of_a_stream() -> None:
    def take(data: bytes) -> None:
        raise RuntimeError("a prompt")

    async def main() -> None:
        asyncio.get_running_loop().call_soon(take, b"a prompt")
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    with attached() as out:
        asyncio.run(main())
    (line,) = objects(out)
    assert line["logger"] == "asyncio"
    assert "prompt" not in out.getvalue()
    assert "take()" in line["message"]
    assert line["error"].startswith("RuntimeError > ")


def test_a_record_whose_words_do_not_fit_harms_nobody() -> None:
    out = io.StringIO()
    log = Log(out)
    log.start()
    Handler(log).handle(logging.LogRecord("penstock", logging.WARNING, "f", 1, "%d lines", ("many",), None))
    log.close()
    assert objects(out)[0]["message"] == "%d lines"


def test_standard_error_is_not_closed() -> None:
    told(sys.stderr)
    assert not sys.stderr.closed
