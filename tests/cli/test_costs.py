"""`penstock usage` with costs, two times compared, as CSV; `penstock prices`; `penstock usage import`."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from penstock.cli import app
from penstock.cli.usage import beside, change
from penstock.ledger.settings import LedgerSettings
from penstock.ledger.store import Store
from tests.support.histories import claude_line, write_lines
from tests.support.ledgers import COMPLETE, make_row

NOW = time.time()
DAY_S = 86400.0


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CliRunner:
    for name in [name for name in os.environ if name.startswith(("PENSTOCK_", "XDG_", "CLAUDE_", "CODEX_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return CliRunner()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    settings = LedgerSettings(tmp_path / "data")
    settings.data_dir.mkdir()
    store = Store.open(settings)
    rows: list[tuple[str, float, dict[str, Any]]] = [
        ("a", 1, {"model": "gpt-4o", "user_id": "=ann", "cost_nanousd": 1_500_000_001, "input_tokens": 10, "output_tokens": 1}),
        ("b", 2, {"model": "gpt-4o", "user_id": "bob", "cost_nanousd": 500_000_000, "input_tokens": 20, "output_tokens": 2}),
        ("c", 8, {"model": "gpt-4o", "user_id": "bob", "cost_nanousd": 1_000_000_000, "input_tokens": 5, "output_tokens": 3}),
        ("d", 1, {"model": "mystery-1", "requested_model": "mystery-1", "user_id": "bob", "input_tokens": 7, "output_tokens": 4}),
    ]
    store.write([make_row(id, started_at=NOW - days * DAY_S, outcome=COMPLETE, **values) for id, days, values in rows])
    store.close()
    return settings.data_dir


def rows_of(cli: CliRunner, *arguments: str) -> list[dict[str, Any]]:
    result = cli.invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_costs_are_exact_and_their_sums_too(cli: CliRunner, data_dir: Path) -> None:
    [gpt, mystery] = rows_of(cli, "usage", "--data-dir", str(data_dir))
    assert (gpt["cost_nanousd"], gpt["cost_usd"], gpt["unpriced"]) == (3_000_000_001, 3.000000001, 0)
    assert (mystery["cost_nanousd"], mystery["cost_usd"], mystery["unpriced"]) == (None, None, 1)
    assert '"cost_usd":3.000000001' in cli.invoke(app, ["usage", "--json", "--data-dir", str(data_dir)]).stdout
    for by in ("user", "key", "day", "month", "project", "session", "app", "effort", "provider,model"):
        found = rows_of(cli, "usage", "--by", by, "--data-dir", str(data_dir))
        assert sum(row["cost_nanousd"] or 0 for row in found) == 3_000_000_001, by
        assert sum(row["exchanges"] for row in found) == 4
    assert [row["exchanges"] for row in rows_of(cli, "usage", "--user", "bob", "--data-dir", str(data_dir))] == [2, 1]
    table = cli.invoke(app, ["usage", "--data-dir", str(data_dir)]).stdout
    assert "$3.00" in table
    assert "unpriced" in table


ODD = "[/x] [red]m\x1b]0;title\x07\nnext"


@pytest.mark.parametrize("command", [
    ["exchanges"], ["exchanges", "--id", "odd"], ["usage"], ["usage", "--compare", "week", "--by", "model"], ["prices", "--unknown"],
])  # fmt: skip
def test_what_outsiders_wrote_is_only_shown(cli: CliRunner, tmp_path: Path, command: list[str]) -> None:
    """It is no markup, and steers no terminal."""
    store = Store.open(LedgerSettings(tmp_path / "data"))
    names = dict.fromkeys(("provider", "model", "requested_model", "stop_reason"), ODD)
    store.write([make_row("odd", started_at=NOW - 5, outcome=COMPLETE, input_tokens=1, user_agent=ODD, **names)])
    store.close()
    result = cli.invoke(app, [*command, "--data-dir", str(tmp_path / "data")])
    assert result.exit_code == 0, (result.output, result.exception)
    assert "[/x] [red]m?]0;title??next" in result.stdout
    assert result.stdout.replace("\n", "").isprintable()


@pytest.mark.parametrize("arguments", [
    ["usage", "--since", "999999w"], ["usage", "--since", "0900-01-01", "--until", "9999-12-30"], ["usage", "--compare", "day"],
    ["exchanges", "--since", "999999w"], ["exchanges", "--until", "0001-01-01"],
])  # fmt: skip
def test_any_time_can_be_asked_for(cli: CliRunner, data_dir: Path, arguments: list[str]) -> None:
    assert cli.invoke(app, [*arguments, "--data-dir", str(data_dir)]).exit_code == 0


@pytest.mark.parametrize("arguments", [["usage"], ["exchanges"], ["prices", "--unknown"], ["prices", "--reprice"]])
@pytest.mark.parametrize("times", [("today", "yesterday"), ("2025-02-02", "2025-02-01"), ("1h", "2h")])
def test_a_time_that_ends_before_it_begins_is_refused(cli: CliRunner, data_dir: Path, arguments: list[str], times: tuple[str, str]) -> None:
    since, until = times
    result = cli.invoke(app, [*arguments, "--since", since, "--until", until, "--data-dir", str(data_dir)])
    assert (result.exit_code, result.stderr) == (2, "penstock: --since must be before --until\n")


def test_csv(cli: CliRunner, data_dir: Path) -> None:
    result = cli.invoke(app, ["usage", "--by", "user", "--csv", "--data-dir", str(data_dir)])
    found = {row["user_id"]: row for row in csv.DictReader(io.StringIO(result.stdout))}
    assert found["'=ann"]["cost_usd"] == "1.500000001", "no spreadsheet takes it for a formula"
    assert (found["bob"]["cost_usd"], found["bob"]["saved_usd"], found["bob"]["input_tokens"]) == ("1.5", "", "32")
    assert cli.invoke(app, ["usage", "--csv", "--json"]).exit_code == 2


@pytest.mark.parametrize("begins", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_no_cell_of_a_csv_begins_as_a_formula_may(cli: CliRunner, tmp_path: Path, begins: str) -> None:
    store = Store.open(LedgerSettings(tmp_path / "data"))
    store.write([make_row("odd", started_at=NOW - 5, outcome=COMPLETE, model=f"{begins}1,\"x\"")])
    store.close()
    result = cli.invoke(app, ["usage", "--csv", "--data-dir", str(tmp_path / "data")])
    [row] = csv.DictReader(io.StringIO(result.stdout_bytes.decode(), newline=""))
    assert row["model"] == f"'{begins}1,\"x\""


def test_nothing_in_csv_or_json_steers_a_terminal(cli: CliRunner, tmp_path: Path) -> None:
    store = Store.open(LedgerSettings(tmp_path / "data"))
    store.write([make_row("odd", started_at=NOW - 5, outcome=COMPLETE, model="\x1b]0;title\x07\x9b2J\x08=1 é\tx")])
    store.close()
    result = cli.invoke(app, ["usage", "--csv", "--data-dir", str(tmp_path / "data")])
    [row] = csv.DictReader(io.StringIO(result.stdout_bytes.decode(), newline=""))
    assert row["model"] == "?]0;title??2J?=1 é\tx"
    told = cli.invoke(app, ["usage", "--json", "--data-dir", str(tmp_path / "data")]).stdout
    assert "\x9b" not in told
    assert json.loads(told)["model"] == "\x1b]0;title\x07\x9b2J\x08=1 é\tx", "the same, escaped"


def test_the_last_week_beside_the_one_before(cli: CliRunner, data_dir: Path) -> None:
    by_user = {row["user_id"]: row for row in rows_of(cli, "usage", "--compare", "week", "--by", "user", "--data-dir", str(data_dir))}
    assert (by_user["bob"]["cost_usd"], by_user["bob"]["cost_usd_before"]) == (0.5, 1)
    assert (by_user["=ann"]["exchanges"], by_user["=ann"]["exchanges_before"], by_user["=ann"]["cost_nanousd_before"]) == (1, 0, None)
    [total] = rows_of(cli, "usage", "--compare", "week", "--data-dir", str(data_dir))
    assert (total["exchanges"], total["exchanges_before"], total["cost_nanousd"]) == (3, 1, 2_000_000_001)
    table = cli.invoke(app, ["usage", "--compare", "week", "--data-dir", str(data_dir)]).stdout
    assert "+100 %" in table
    assert cli.invoke(app, ["usage", "--compare", "year"]).exit_code == 2
    assert cli.invoke(app, ["usage", "--compare", "week", "--since", "1d"]).exit_code == 2


def test_nothing_in_one_of_two_times_is_told_alike_with_and_without_groups(cli: CliRunner, tmp_path: Path) -> None:
    store = Store.open(LedgerSettings(tmp_path / "data"))
    store.write([make_row("now", started_at=NOW - 5, outcome=COMPLETE, input_tokens=1)])
    store.close()
    compare = ["usage", "--compare", "week", "--data-dir", str(tmp_path / "data")]
    told = [rows_of(cli, *compare), rows_of(cli, *compare, "--by", "model")]
    assert [[(row["exchanges"], row["exchanges_before"], row["input_tokens_before"]) for row in rows] for rows in told] == [[(1, 0, None)]] * 2
    assert [row["exchanges"] for row in beside(("model",), [], [{"model": "gone", "exchanges": 2}])] == [0]


def test_a_retired_day_is_in_one_of_the_two_times(cli: CliRunner, data_dir: Path) -> None:
    """The day at which they meet is not counted on both sides; rows of it would not be either."""
    store = Store.open(LedgerSettings(data_dir))
    store.write([make_row(f"e{days}", started_at=NOW - days * DAY_S + 60, outcome=COMPLETE, input_tokens=1) for days in range(3, 14)])
    store.retire((NOW // DAY_S - 2) * DAY_S, 1000)
    store.close()
    [total] = rows_of(cli, "usage", "--compare", "week", "--data-dir", str(data_dir))
    assert total["exchanges"] + total["exchanges_before"] == 15


def test_changes() -> None:
    assert [change(3, 2), change(1, 2), change(2, 2), change(5, 0), change(None, 2), change(1, None)] == ["+50 %", "-50 %", "+0 %", "-", "-", "-"]
    assert [row["model"] for row in beside(("model",), [{"model": "a", "cost_nanousd": 1}], [{"model": "b", "cost_nanousd": 2}])] == ["b", "a"]


def test_models_that_nobody_knows(cli: CliRunner, data_dir: Path) -> None:
    [row] = rows_of(cli, "prices", "--unknown", "--data-dir", str(data_dir))
    assert (row["provider"], row["model"], row["unpriced"], row["input_tokens"]) == ("openai", "mystery-1", 1, 7)
    assert "mystery-1" in cli.invoke(app, ["prices", "--unknown", "--data-dir", str(data_dir)]).stdout


def test_prices(cli: CliRunner, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("prices:\n  - {model: mine, input: 1, output: 2, long: {above: 9, input: 3}}\nproviders:\n  openai: {}\n")
    file.chmod(0o600)
    [row] = rows_of(cli, "prices", "mine", "--config", str(file))
    assert (row["provider"], row["input"], row["output"], row["longer"]) == ("openai", 1, 2, [9])
    assert row["source"].startswith("own ")
    [row] = rows_of(cli, "prices", "gpt-4o", "--config", str(file), "--tier", "batch")
    assert (row["input"], row["output"]) == (1.25, 5)
    assert "gpt-4o" in cli.invoke(app, ["prices", "gpt-4o", "--config", str(file)]).stdout
    [row] = rows_of(cli, "prices", "sonar", "--config", str(file), "--provider", "perplexity")
    assert (row["input"], row["output"], row["requests"]) == (1, 1, 12)
    some = cli.invoke(app, ["prices", "gpt-4o", "nonsense-1", "--json", "--config", str(file)])
    assert (some.exit_code, some.stderr) == (1, "penstock: nobody knows what nonsense-1 costs\n")
    assert '"model":"gpt-4o"' in some.stdout
    unknown = cli.invoke(app, ["prices", "nonsense-1", "--config", str(file)])
    assert unknown.exit_code == 1
    assert "nobody knows what nonsense-1 costs; write it into the configuration" in unknown.output
    assert cli.invoke(app, ["prices", "--config", str(file)]).exit_code == 2


def test_pictures_have_columns_where_there_are_any(cli: CliRunner, data_dir: Path, tmp_path: Path) -> None:
    where = ["--data-dir", str(data_dir)]
    assert "images" not in cli.invoke(app, ["usage", *where], env={"COLUMNS": "200"}).stdout
    store = Store.open(LedgerSettings(data_dir))
    store.write([make_row("px-picture", started_at=NOW - 60, outcome=COMPLETE, model="painter", image_output_tokens=1290, output_tokens=1303)])
    store.close()
    table = cli.invoke(app, ["usage", *where], env={"COLUMNS": "200"}).stdout
    assert "images out" in table
    assert "1,290" in table
    [row] = [row for row in rows_of(cli, "usage", *where) if row["model"] == "painter"]
    assert (row["output_tokens"], row["image_output_tokens"], row["image_input_tokens"]) == (1303, 1290, None)
    told = list(csv.DictReader(io.StringIO(cli.invoke(app, ["usage", "--csv", *where]).stdout)))
    assert [each["image_output_tokens"] for each in told if each["model"] == "painter"] == ["1290"]
    shown = cli.invoke(app, ["exchanges", "--id", "px-picture", *where]).stdout
    assert ["image_output_tokens", "1,290"] in [line.split() for line in shown.splitlines()]
    file = tmp_path / "p.yaml"
    file.write_text("providers:\n  gemini: {}\n")
    file.chmod(0o600)
    [row] = rows_of(cli, "prices", "gemini-2.5-flash-image", "--config", str(file))
    assert (row["input"], row["output"], row["image_output"]) == (0.3, 2.5, 30)


def test_a_history_is_brought_in_once(cli: CliRunner, tmp_path: Path) -> None:
    path = write_lines(tmp_path / ".claude" / "projects" / "p" / "s.jsonl", [
        claude_line("msg_1", "2025-11-18T22:00:00Z", input_tokens=1_000_000, output_tokens=0),
        claude_line("msg_2", "2025-11-18T22:00:01Z", model="claude-nobody-knows", input_tokens=1, output_tokens=0),
    ])  # fmt: skip
    os.utime(path, (NOW - 4000, NOW - 4000))
    where = str(tmp_path / "new")
    told = cli.invoke(app, ["usage", "import", "claude-code", "--data-dir", where])
    assert told.exit_code == 0, told.output
    assert told.stderr == "", "a bar is for a terminal"
    assert "2 answers in 1 file: 2 new; 1 have a model whose price is not known" in told.stdout
    [again] = rows_of(cli, "usage", "import", str(path), "--data-dir", where)
    assert (again["new"], again["known"]) == (0, 2)
    rows = {row["model"]: row for row in rows_of(cli, "usage", "--data-dir", where)}
    assert rows["claude-sonnet-4-5-20250929"]["cost_usd"] == 6, "a million tokens are a long context"
    assert rows["claude-nobody-knows"]["cost_usd"] is None
    missing = cli.invoke(app, ["usage", "import", "codex", "--data-dir", where])
    assert missing.exit_code == 1
    assert "there is no history of Codex's" in missing.output


def test_prices_that_are_known_later(cli: CliRunner, data_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(f"data_dir: {data_dir}\nproviders:\n  openai: {{}}\n")
    file.chmod(0o600)
    told = cli.invoke(app, ["prices", "--reprice", "--config", str(file)])
    assert told.stdout == "0 exchanges got a price, $0.00 in all; 1 still have none (`penstock prices --unknown`)\n", told.output
    file.write_text(file.read_text() + "prices:\n  - {model: 'mystery-*', input: 1, output: 2}\n")
    assert "0 exchanges" in cli.invoke(app, ["prices", "--reprice", "--since", "1h", "--config", str(file)]).stdout
    [done] = rows_of(cli, "prices", "--reprice", "--config", str(file))
    assert (done["priced"], done["cost_nanousd"], done["cost_usd"], done["unknown"]) == (1, 15_000, 0.000015, 0)
    [gpt, mystery] = rows_of(cli, "usage", "--config", str(file))
    assert (gpt["cost_nanousd"], mystery["cost_nanousd"], mystery["unpriced"]) == (3_000_000_001, 15_000, 0)
    none = cli.invoke(app, ["prices", "--reprice", "--data-dir", str(tmp_path / "none")])
    assert none.exit_code == 1
    assert "there is no ledger" in none.output
    assert not (tmp_path / "none").exists()


def test_what_replays_avoided_is_summed_and_counts_as_nothing_that_is_missing(cli: CliRunner, tmp_path: Path) -> None:
    settings = LedgerSettings(tmp_path / "replays")
    settings.data_dir.mkdir()
    store = Store.open(settings)
    asked: dict[str, Any] = {
        "model": "gpt-4o", "cost_nanousd": 5_000_000, "input_tokens": 10, "output_tokens": 1, "usage_source": "reported", "upstream_status": 200,
    }  # fmt: skip
    told: dict[str, Any] = {**asked, "cost_nanousd": 0, "input_tokens": 0, "output_tokens": 0, "usage_source": "none", "replay_of": "a"}
    unknown: dict[str, Any] = {**told, "cost_nanousd": None}
    store.write([
        make_row("a", started_at=NOW, outcome=COMPLETE, operation="chat", **asked),
        make_row("b", started_at=NOW, outcome=COMPLETE, operation="chat", replay="join", avoided_nanousd=5_000_000, **told),
        make_row("c", started_at=NOW, outcome=COMPLETE, operation="chat", replay="hit", avoided_nanousd=5_000_000, **told),
        make_row("d", started_at=NOW, outcome=COMPLETE, operation="chat", replay="hit", **unknown),
    ])  # fmt: skip
    store.close()
    [row] = rows_of(cli, "usage", "--data-dir", str(settings.data_dir))
    assert (row["exchanges"], row["unreported"], row["unpriced"], row["input_tokens"]) == (4, 0, 0, 10)
    assert (row["cost_usd"], row["avoided_nanousd"], row["avoided_usd"]) == (0.005, 10_000_000, 0.01)
    shown = cli.invoke(app, ["usage", "--data-dir", str(settings.data_dir)], env={"COLUMNS": "200"}).output
    assert ("avoided" in shown, "$0.01" in shown) == (True, True)
    listed = cli.invoke(app, ["exchanges", "--data-dir", str(settings.data_dir)], env={"COLUMNS": "250"}).output
    assert [line.split().count("join") + line.split().count("hit") for line in listed.splitlines()[1:]] == [1, 1, 1, 0]
    assert "replay" in listed.splitlines()[0]
    told_of = cli.invoke(app, ["explain", "b", "--data-dir", str(settings.data_dir)], env={"COLUMNS": "200"}).output
    assert "the answer to a was joined while it was made: nothing was asked of a provider, it would have cost $0.005" in told_of
