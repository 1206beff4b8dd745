"""The commands through Typer's runner: which is meant, what configurations and times they take, what `--json` prints."""

from __future__ import annotations

import io
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

import penstock
from penstock import __version__
from penstock.cli import app, complete, main
from penstock.ledger.entry import Entry
from penstock.ledger.settings import LedgerSettings
from penstock.ledger.writer import Ledger
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
from penstock.vocabulary.usage import Provenance, Usage

DAY = 1_738_281_600.0
"""2025-01-31, midnight UTC."""


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CliRunner:
    """A runner with a home of its own and no Penstock variable set."""
    for name in [name for name in os.environ if name.startswith(("PENSTOCK_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return CliRunner()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data directory whose ledger has three settled exchanges and an open one."""
    where = tmp_path / "data"
    ledger = Ledger.start(LedgerSettings(where), "0123456789ab")
    rows = [
        ("a1", DAY + 60, "gpt-4o", "openai", Outcome(Ending.COMPLETE, "all of it came", EndedBy.UPSTREAM), Usage(input=10, output=5)),
        ("a2", DAY + 90_000, "gpt-4o", "openai", Outcome(Ending.TRUNCATED, "no terminal event came", EndedBy.UPSTREAM), Usage(input=7)),
        ("b1", DAY + 90_001, "claude", "anthropic", Outcome(Ending.COMPLETE, "all of it came", EndedBy.UPSTREAM), Usage(input=1, output=0)),
        ("c1", DAY + 90_002, "claude", "anthropic", None, None),
    ]  # fmt: skip
    for id, at, model, provider, outcome, usage in rows:
        entry = Entry(id, at)
        entry.provider, entry.model, entry.operation, entry.streamed = provider, model, "chat", True
        ledger.open(entry)
        if outcome is not None and usage is not None:
            entry.status = 200
            entry.account(usage, Provenance.REPORTED)
            entry.settle(outcome, at + 1)
    ledger.close()
    return where


@pytest.mark.parametrize(("given", "meant"), [
    ([], ["serve"]),
    (["--listen", "127.0.0.1:1"], ["serve", "--listen", "127.0.0.1:1"]),
    (["--help"], ["--help"]), (["-h"], ["-h"]), (["--version"], ["--version"]),
    (["usage", "--json"], ["usage", "--json"]),
    (["nonsense"], ["nonsense"]),
])  # fmt: skip
def test_penstock_alone_serves(given: list[str], meant: list[str]) -> None:
    assert complete(given) == meant


def test_the_version_and_the_commands_are_told(cli: CliRunner) -> None:
    assert cli.invoke(app, ["--version"]).output == f"penstock {__version__}\n"
    helped = cli.invoke(app, ["--help"]).output
    assert all(name in helped for name in ("serve", "check", "usage", "exchanges", "replay"))


def test_every_command_takes_config() -> None:
    def walk(command: Any, name: str) -> Iterator[tuple[str, set[str]]]:
        options = {option for parameter in command.params for option in parameter.opts}
        subs: dict[str, Any] = getattr(command, "commands", {})
        if not subs or options - {"--help", "--version"}:
            yield name, options
        for sub, each in subs.items():
            yield from walk(each, f"{name} {sub}")

    told = dict(walk(typer.main.get_command(app), "penstock"))
    assert len(told) > 20
    assert [name for name, options in told.items() if "--config" not in options] == []


@pytest.mark.parametrize("command", ["serve", "check", "usage", "exchanges"])
def test_every_error_of_a_configuration_is_printed_with_its_place(cli: CliRunner, tmp_path: Path, command: str) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("listn: 127.0.0.1:1\nproviders:\n  openai: {protocol: openai, api_key: ''}\nroutes:\n  - {model: x, provider: nobody}\n")
    result = cli.invoke(app, [command, "--config", str(file)])
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert [line.split(": ")[0] for line in lines] == [f"{file}:1", f"{file}:3", f"{file}:5"]
    assert "listn" in lines[0]
    assert "nobody" in lines[2]
    assert result.stdout == ""


def test_check_tells_a_file_that_is_right(cli: CliRunner, tmp_path: Path) -> None:
    file = tmp_path / "right.yaml"
    file.write_text("providers:\n  openai: {protocol: openai}\n")
    for arguments in (["check", str(file)], ["check", "--config", str(file)]):
        result = cli.invoke(app, arguments)
        assert (result.exit_code, result.stdout) == (0, f"{file}: fine: 1 provider (openai), 0 routes\n")
    assert cli.invoke(app, ["check"]).exit_code == 0, "without any file the defaults hold"
    assert cli.invoke(app, ["check", str(file), "--config", "other"]).exit_code == 2


@pytest.mark.parametrize("command", ["usage", "exchanges"])
def test_no_ledger_is_said(cli: CliRunner, tmp_path: Path, command: str) -> None:
    result = cli.invoke(app, [command, "--data-dir", str(tmp_path / "none")])
    assert result.exit_code == 1
    assert "there is no ledger" in result.stderr


class TestUsage:
    def rows(self, cli: CliRunner, data_dir: Path, *arguments: str) -> list[dict[str, object]]:
        result = cli.invoke(app, ["usage", "--json", "--data-dir", str(data_dir), *arguments])
        assert result.exit_code == 0, result.output
        return [json.loads(line) for line in result.stdout.splitlines()]

    def test_json_is_one_object_a_line_by_model_unless_told(self, cli: CliRunner, data_dir: Path) -> None:
        found = {row["model"]: (row["exchanges"], row["input_tokens"], row["output_tokens"]) for row in self.rows(cli, data_dir)}
        assert found == {"gpt-4o": (2, 17, 5), "claude": (2, 1, 0)}

    @pytest.mark.parametrize("by", [["--by", "day", "--by", "outcome"], ["--by", "day,outcome"]])
    def test_groups_are_repeated_or_joined(self, cli: CliRunner, data_dir: Path, by: list[str]) -> None:
        found = {(row["day"], row["outcome"]) for row in self.rows(cli, data_dir, *by)}
        assert found == {("2025-01-31", "COMPLETE"), ("2025-02-01", "TRUNCATED"), ("2025-02-01", "COMPLETE"), ("2025-02-01", None)}

    def test_a_day_is_meant_whole(self, cli: CliRunner, data_dir: Path) -> None:
        assert [row["exchanges"] for row in self.rows(cli, data_dir, "--by", "provider", "--since", "2025-01-31", "--until", "2025-01-31")] == [1]
        assert [row["exchanges"] for row in self.rows(cli, data_dir, "--by", "provider", "--since", "2025-02-01", "--provider", "openai")] == [1]

    def test_the_table_shows_no_column_that_says_nothing(self, cli: CliRunner, data_dir: Path) -> None:
        output = cli.invoke(app, ["usage", "--data-dir", str(data_dir)]).stdout
        assert "gpt-4o" in output
        assert "17" in output
        assert "cache" not in output

    def test_a_wrong_group_or_time_is_refused(self, cli: CliRunner, data_dir: Path) -> None:
        wrong = cli.invoke(app, ["usage", "--by", "colour", "--data-dir", str(data_dir)])
        assert wrong.exit_code == 2
        assert "colour" in wrong.stderr
        assert cli.invoke(app, ["usage", "--since", "someday"]).exit_code == 2


class TestExchanges:
    def rows(self, cli: CliRunner, data_dir: Path, *arguments: str) -> list[dict[str, object]]:
        result = cli.invoke(app, ["exchanges", "--json", "--data-dir", str(data_dir), *arguments])
        assert result.exit_code == 0, result.output
        return [json.loads(line) for line in result.stdout.splitlines()]

    @pytest.mark.parametrize(("filters", "ids"), [
        ([], ["c1", "b1", "a2", "a1"]),
        (["--last", "2"], ["c1", "b1"]),
        (["--outcome", "truncated"], ["a2"]),
        (["--outcome", "truncated,COMPLETE"], ["b1", "a2", "a1"]),
        (["--provider", "anthropic"], ["c1", "b1"]),
        (["--model", "gpt-4o"], ["a2", "a1"]),
        (["--since", "2025-02-01"], ["c1", "b1", "a2"]),
        (["--id", "a"], ["a2", "a1"]),
        (["--open"], ["c1"]),
    ])  # fmt: skip
    def test_filters(self, cli: CliRunner, data_dir: Path, filters: list[str], ids: list[str]) -> None:
        assert [row["id"] for row in self.rows(cli, data_dir, *filters)] == ids

    def test_json_is_named_as_the_columns(self, cli: CliRunner, data_dir: Path) -> None:
        row = self.rows(cli, data_dir, "--id", "a2")[0]
        assert (row["outcome"], row["cause"], row["stop_reason"]) == ("TRUNCATED", "no terminal event came", "incomplete")

    def test_the_table_has_a_line_for_each_and_one_id_is_spread_out(self, cli: CliRunner, data_dir: Path) -> None:
        table = cli.invoke(app, ["exchanges", "--data-dir", str(data_dir)]).stdout.splitlines()
        assert len(table) == 5
        assert "2025-02-01 01:00:00" in table[3]
        assert "no terminal event came" in table[3]
        spread = cli.invoke(app, ["exchanges", "--data-dir", str(data_dir), "--id", "a1"]).stdout
        assert "input_tokens" in spread
        assert "2025-01-31 00:01:00 UTC" in spread

    def test_an_unknown_outcome_is_refused_with_those_that_there_are(self, cli: CliRunner) -> None:
        result = cli.invoke(app, ["exchanges", "--outcome", "FINE"])
        assert result.exit_code == 2
        assert "CLIENT_GONE" in result.stderr


NOW = DAY + 3600 * 14


class TestExpiry:
    @pytest.mark.parametrize(("text", "told"), [
        ("yesterday", "expired already"), ("2020-01-01T00:00Z", "expired already"), ("2020-01-01", "expired already"), ("999999w", "year 9999"),
    ])  # fmt: skip
    def test_a_moment_that_is_over_or_that_no_calendar_has_makes_no_key(self, cli: CliRunner, tmp_path: Path, text: str, told: str) -> None:
        result = cli.invoke(app, ["keys", "create", "k", "--expires", text, "--data-dir", str(tmp_path / "d")])
        assert result.exit_code == 2, (result.output, result.exception)
        assert told in result.stderr

    @pytest.mark.parametrize("text", ["90d", "12H", "9999-12-31"])
    def test_what_is_to_come_does_and_can_be_listed(self, cli: CliRunner, tmp_path: Path, text: str) -> None:
        data = str(tmp_path / "d")
        assert cli.invoke(app, ["keys", "create", "k", "--expires", text, "--data-dir", data]).exit_code == 0
        listed = cli.invoke(app, ["keys", "list", "--data-dir", data])
        assert listed.exit_code == 0
        assert "good" in listed.stdout

    def test_a_day_is_no_span_in_which_an_old_text_is_still_taken(self, cli: CliRunner, tmp_path: Path) -> None:
        data = str(tmp_path / "d")
        assert cli.invoke(app, ["keys", "create", "k", "--data-dir", data]).exit_code == 0
        result = cli.invoke(app, ["keys", "rotate", "k", "--grace", "2027-01-31", "--data-dir", data])
        assert result.exit_code == 2
        assert "no span of time" in result.stderr


def test_sums_until_the_last_of_all_days(cli: CliRunner, data_dir: Path) -> None:
    for text in ("9999-12-31", "9999-12-31T23:59:59-23:59", "5\u017f"):
        result = cli.invoke(app, ["usage", "--until", text, "--data-dir", str(data_dir)])
        assert result.exit_code in (0, 2), result.exception
    assert "2025" in cli.invoke(app, ["exchanges", "--since", "999999w", "--data-dir", str(data_dir)]).stdout


class TestWords:
    def run(self, monkeypatch: pytest.MonkeyPatch, encoding: str, *words: str) -> tuple[object, bytes]:
        """The exit code of `penstock` at a shell, and what its standard output was given."""
        out = io.BytesIO()
        monkeypatch.setattr(sys, "argv", ["penstock", *words])
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding))
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, out.getvalue()

    @pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
    @pytest.mark.parametrize("command", ["exchanges", "usage", "explain"])
    def test_a_model_of_any_name_is_told_in_any_encoding(
        self, cli: CliRunner, data_dir: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, command: str
    ) -> None:
        del cli
        with closing(sqlite3.connect(data_dir / "ledger.db")) as connection, connection:
            connection.execute("update exchanges set model = '\u6a21\u578b', cause = 'nothing \u2014 at all'")
        code, out = self.run(monkeypatch, encoding, command, *(["a2"] if command == "explain" else []), "--data-dir", str(data_dir))
        assert code == 0
        word = "\u2014" if command == "explain" else "\u6a21"
        assert word.encode(encoding, "backslashreplace") in out

    @pytest.mark.parametrize("words", [("exchanges", "--id"), ("explain",), ("exchanges", "--model"), ("usage", "--key"), ("keys", "create")])
    def test_a_word_that_is_no_text_is_refused(
        self, cli: CliRunner, data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
    ) -> None:
        del cli
        code, _ = self.run(monkeypatch, "utf-8", *words, "a\udcff", "--data-dir", str(data_dir))
        assert code == 2
        assert "no UTF-8" in capsys.readouterr().err

    def test_more_rows_than_there_can_be_are_refused(self, cli: CliRunner, data_dir: Path) -> None:
        for command in (["exchanges"], ["logs", "collect", "-o", str(data_dir / "x.tgz")]):
            result = cli.invoke(app, [*command, "--last", "9" * 20, "--data-dir", str(data_dir)])
            assert result.exit_code == 2, result.exception


@pytest.mark.parametrize("width", [20, 80, 120])
def test_on_a_narrow_terminal_no_id_is_cut_and_no_column_is_left_out(
    cli: CliRunner, data_dir: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    for name in ("laptop", "a-longer-name"):
        assert cli.invoke(app, ["keys", "create", name, "--owner", "somebody", "--data-dir", str(data_dir)]).exit_code == 0
    monkeypatch.setattr("penstock.cli.tables.open_console", lambda: Console(highlight=False, width=width))
    listed = cli.invoke(app, ["keys", "list", "--data-dir", str(data_dir)]).stdout
    assert re.findall(r"key_[0-9a-f]{12} .*\bsomebody .*\bgood ", listed)[1:]
    told = cli.invoke(app, ["exchanges", "--data-dir", str(data_dir)]).stdout
    assert "2025-02-01 01:00:00" in told
    for word in ("TRUNCATED", "openai", "gpt-4o", "chat", "terminal", "operation"):
        assert word in told
    assert "\u2026" not in listed + told


def test_an_interrupt_while_it_is_read_in_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt")
    path = os.pathsep.join([str(tmp_path), str(Path(penstock.__file__).parent.parent)])
    done = subprocess.run(
        [sys.executable, "-c", "from penstock.cli import main"], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "penstock: interrupted\n")
