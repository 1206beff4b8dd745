"""One line per exchange, for people, that nobody outside can forge, and that never slows the loop."""

from __future__ import annotations

import io
import logging
import sys

from penstock.ledger.entry import Entry
from penstock.telemetry import log as room
from penstock.telemetry.log import Handler, Log, line
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome


def settled(ending: Ending = Ending.COMPLETE, cause: str = "terminal event") -> Entry:
    entry = Entry("px-1", 1_700_000_000.5)
    entry.method, entry.path, entry.provider, entry.model, entry.status = "POST", "/v1/messages", "anthropic", "claude", 200
    entry.input_tokens, entry.duration_ms = 7, 12.4
    entry.settle(Outcome(ending, cause, EndedBy.UPSTREAM), 1_700_000_001.25)
    return entry


def test_an_ordinary_end() -> None:
    assert line(settled()) == (
        "2023-11-14T22:13:21.250Z px-1 COMPLETE 200 POST /v1/messages provider=anthropic model=claude tokens=7/? took=12ms"
    )


def test_another_end_tells_its_cause() -> None:
    assert line(settled(Ending.TRUNCATED, "the body ended")).endswith("took=12ms by=upstream cause='the body ended'")


def test_an_outsider_writes_no_line_of_its_own() -> None:
    entry = settled()
    entry.model = "x\n2023 px-2 COMPLETE \x1b[31m" + "y" * 1000
    text = line(entry)
    assert "\n" not in text
    assert "\x1b" not in text
    assert len(text) < 500


def test_lines_are_written_in_order_and_all_of_them_at_the_end() -> None:
    out = io.StringIO()
    log = Log(out)
    log.start()
    for _ in range(3):
        log.note(settled())
    log.say("bye")
    log.close()
    assert [text.rpartition("Z ")[2][:4] for text in out.getvalue().splitlines()] == ["px-1"] * 3 + ["bye"]


def test_past_the_bound_lines_are_dropped_and_counted() -> None:
    log = Log(io.StringIO())
    for _ in range(room.BOUND + 5):
        log.note(settled())
    assert log.dropped == 5


def test_a_reader_that_is_gone_costs_lines_and_nothing_else() -> None:
    out = io.StringIO()
    log = Log(out)
    log.note(settled())
    out.close()
    log.start()
    log.close()
    assert log.dropped == 1


def test_the_rooms_own_records_tell_where_and_not_what() -> None:
    out = io.StringIO()
    log = Log(out)
    log.start()
    try:
        raise ValueError("sk-secret")
    except ValueError:
        Handler(log).handle(logging.LogRecord("penstock", logging.ERROR, "f", 1, "broke", None, sys.exc_info()))
    log.close()
    assert "error: penstock: broke (at test_log.py:" in out.getvalue()
    assert "sk-secret" not in out.getvalue()
