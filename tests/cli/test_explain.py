"""`penstock explain`: which exchange is meant, and what is said of it, on a terminal and to a program."""

from __future__ import annotations

import json
import os
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from penstock.cli import app
from penstock.cli.explain import escape
from penstock.ledger.entry import Found
from penstock.ledger.settings import LedgerSettings
from penstock.ledger.writer import Ledger
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
from tests.support.ledgers import COMPLETE, MIDNIGHT, make_entry

HUNG = Outcome(Ending.TIMED_OUT, "tool_call: 240 s without progress of the arguments of tool call 'edit'", EndedBy.GATEWAY)
HALF = b'data: {"x":"\xff\x1b[2J\n\ndata: [half'


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    where = tmp_path / "data"
    ledger = Ledger.start(LedgerSettings(where, retention_days=None), "0123456789ab")
    hung = make_entry("px-aa1", provider="anthropic", upstream_protocol="anthropic_messages", streamed=True, status=200, upstream_status=200)
    hung.timer, hung.route, hung.duration_ms, hung.events = "tool_call", "claude-*", 243_000.0, 412
    hung.keep_tail([(1000.0 * at, "content_block_delta", 80) for at in range(40)])
    hung.keep_bytes(HALF)
    hung.upstream_request_id = "req_theirs"
    for entry, outcome in ((hung, HUNG), (make_entry("px-aa2", MIDNIGHT + 5), COMPLETE), (make_entry("px-b", MIDNIGHT + 6), None)):
        ledger.open(entry)
        if outcome is not None:
            entry.settle(outcome, MIDNIGHT + 1)
    ledger.close()
    return where


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CliRunner:
    for name in [name for name in os.environ if name.startswith(("PENSTOCK_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return CliRunner()


def _explain(cli: CliRunner, data_dir: Path, *arguments: str) -> Result:
    return cli.invoke(app, ["explain", "--data-dir", str(data_dir), *arguments])


def _object(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    [line] = result.stdout.splitlines()
    return json.loads(line)


@pytest.mark.parametrize(("arguments", "found"), [
    (["px-aa1"], "px-aa1"), (["px-aa2"], "px-aa2"), (["px-b"], "px-b"), (["req_theirs"], "px-aa1"), (["px-"], None),
    (["--last"], "px-b"), (["--last-failed"], "px-aa1"),
])  # fmt: skip
def test_it_is_found_by_id_by_its_beginning_and_as_the_last(cli: CliRunner, data_dir: Path, arguments: list[str], found: str | None) -> None:
    result = _explain(cli, data_dir, *arguments, "--json")
    if found is None:
        assert (result.exit_code, result.stdout) == (1, "")
        assert "more than one" in result.stderr
        assert "px-b, px-aa2, px-aa1" in result.stderr
    else:
        assert _object(result)["id"] == found


@pytest.mark.parametrize("arguments", [[], ["px-b", "--last"], ["--last", "--last-failed"]])
def test_one_must_be_meant(cli: CliRunner, data_dir: Path, arguments: list[str]) -> None:
    result = _explain(cli, data_dir, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "say which exchange" in result.stderr


@pytest.mark.parametrize("id", ["nobody", "%", "", "px-aa1x"])
def test_one_that_is_not_there_is_said(cli: CliRunner, data_dir: Path, id: str) -> None:
    result = _explain(cli, data_dir, id)
    assert result.exit_code == 1
    assert "no exchange has an id" in result.stderr


def test_where_nothing_went_wrong_that_is_said(cli: CliRunner, tmp_path: Path) -> None:
    Ledger.start(LedgerSettings(tmp_path / "data"), "0123456789ab").close()
    for option, said in (("--last", "there is no exchange yet"), ("--last-failed", "no exchange has gone wrong")):
        result = _explain(cli, tmp_path / "data", option)
        assert (result.exit_code, result.stderr) == (1, f"penstock: {said}\n")
    assert "there is no ledger" in _explain(cli, tmp_path / "none", "--last").stderr


def test_a_page_says_verdict_cause_and_what_to_change(cli: CliRunner, data_dir: Path) -> None:
    page = _explain(cli, data_dir, "px-aa1").stdout
    for words in ("px-aa1", "TIMED_OUT", "hung inside the call", "the event `message_stop`", "this gateway, by the timer tool_call",
                  "`tool_call` (on route `claude-*`, on provider `anthropic`, or at the top", "412 events", "400 events up to here", "243.0 s"):
        assert words in page, words
    assert page.count("content_block_delta (80 bytes") == 12 + 1
    assert _explain(cli, data_dir, "px-aa1", "--events").stdout.count("content_block_delta (80 bytes") == 40 + 1
    assert "[half" not in page, "what a model wrote is only shown when it is asked for"


def test_programs_get_the_same_as_one_object(cli: CliRunner, data_dir: Path) -> None:
    told = _object(_explain(cli, data_dir, "--last-failed", "--json"))
    assert (told["case"], told["outcome"], told["timer"], told["row"]["route"]) == ("timed_out.tool_call", "TIMED_OUT", "tool_call", "claude-*")
    assert told["tail"][-1] == [39_000.0, "content_block_delta", 80]
    assert "tail_bytes" not in json.dumps(told)
    told = _object(_explain(cli, data_dir, "px-aa1", "--json", "--bytes"))
    assert b64decode(told["tail_bytes"]) == HALF


def test_kept_bytes_are_shown_escaped_and_only_on_demand(cli: CliRunner, data_dir: Path) -> None:
    page = _explain(cli, data_dir, "px-aa1", "--bytes").stdout
    assert f"the last {len(HALF)} bytes from the provider:\n  data: {{\"x\":\"\\xff\\x1b[2J\\n\n  \\n\n  data: [half\n" in page
    assert "\x1b" not in page
    assert "no bytes were kept" in _explain(cli, data_dir, "px-aa2", "--bytes").stdout


@pytest.mark.parametrize(("data", "shown"), [
    (b"plain \xc3\xa4\xe4\xbd\xa0", "plain \u00e4\u4f60"), (b"\x00\x7f\r\n", "\\x00\\x7f\\r\\n"), (b"\xc3", "\\xc3"), ("\u202e".encode(), "\\u202e"),
])  # fmt: skip
def test_bytes_are_escaped_so_that_a_terminal_only_shows_them(data: bytes, shown: str) -> None:
    assert escape(data) == shown


def test_what_guards_found_is_in_the_story_and_in_the_table(cli: CliRunner, tmp_path: Path) -> None:
    where = tmp_path / "data"
    ledger = Ledger.start(LedgerSettings(where, retention_days=None), "0123456789ab")
    entry = make_entry("px-g1")
    entry.keep_findings([Found("cards", "mask", "request", 1), Found("cards", "mask", "response", 2)])
    ledger.open(entry)
    entry.settle(COMPLETE, MIDNIGHT + 1)
    ledger.close()
    assert "Guard `cards` masked 2 matches in the answer." in _explain(cli, where, "px-g1").stdout
    assert _object(_explain(cli, where, "px-g1", "--json"))["findings"][1] == {"guard": "cards", "action": "mask", "where": "response", "hits": 2}
    assert "cards: mask 3" in cli.invoke(app, ["exchanges", "--data-dir", str(where)]).stdout
