"""`penstock usage --by key` and `--key`, as a table and for programs; the rule that refused, in `penstock exchanges`."""

from __future__ import annotations

import csv
import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from penstock.cli import app
from penstock.ledger.engine import open_engine
from penstock.ledger.settings import LedgerSettings
from penstock.ledger.store import Store
from penstock.stores.keys import Keys, Wanted
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
from tests.support.ledgers import COMPLETE, make_row

NOW = time.time()


@pytest.fixture
def made(tmp_path: Path) -> tuple[str, str, str]:
    """A data directory, and the id and fingerprint of the key that was used."""
    settings = LedgerSettings(tmp_path / "data")
    settings.data_dir.mkdir()
    store = Store.open(settings)
    engine = open_engine(settings)
    key, _ = Keys(engine, b"s" * 32).create(Wanted("laptop").key(1.0))
    engine.dispose()
    spent = Outcome(Ending.REFUSED, "budget 'purse' is spent", EndedBy.GATEWAY)
    store.write([
        make_row("a", started_at=NOW - 60, key_id=key.id, key_fingerprint="0" * 12, input_tokens=3, outcome=COMPLETE),
        make_row("b", started_at=NOW - 50, key_id=key.id, key_fingerprint=key.fingerprint, rule="purse", status=429, outcome=spent),
        make_row("c", started_at=NOW - 40, key_fingerprint="feedfeedfeed", input_tokens=4, outcome=COMPLETE),
    ])
    store.close()
    return str(settings.data_dir), key.id, key.fingerprint


def rows_of(cli: CliRunner, *arguments: str) -> list[dict[str, Any]]:
    result = cli.invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_by_key(cli: CliRunner, made: tuple[str, str, str]) -> None:
    data_dir, id, fingerprint = made
    by_key = ["usage", "--by", "key", "--data-dir", data_dir]
    told = [(row["key"], row["key_id"], row["key_fingerprint"], row["exchanges"]) for row in rows_of(cli, *by_key)]
    assert told == [("laptop", id, fingerprint, 2), ("feedfeedfeed", None, "feedfeedfeed", 1)]
    table = cli.invoke(app, by_key).stdout
    assert "laptop" in table
    assert id not in table
    rows = list(csv.DictReader(io.StringIO(cli.invoke(app, [*by_key, "--csv"]).stdout)))
    shown = [(row["key"], row["key_id"], row["key_fingerprint"]) for row in rows]
    assert shown == [("laptop", id, fingerprint), ("feedfeedfeed", "", "feedfeedfeed")]


@pytest.mark.parametrize(("key", "exchanges"), [("laptop", 2), ("ID", 2), ("FINGERPRINT", 2), ("feedfeedfeed", 1), ("nobody", 0)])
def test_of_one_key(cli: CliRunner, made: tuple[str, str, str], key: str, exchanges: int) -> None:
    data_dir, id, fingerprint = made
    shown = {"ID": id, "FINGERPRINT": fingerprint}.get(key, key)
    rows = rows_of(cli, "usage", "--by", "provider", "--key", shown, "--data-dir", data_dir)
    assert sum(row["exchanges"] for row in rows) == exchanges


def test_beside_the_week_before(cli: CliRunner, made: tuple[str, str, str]) -> None:
    data_dir, id, fingerprint = made
    rows = rows_of(cli, "usage", "--by", "key", "--compare", "week", "--data-dir", data_dir)
    assert {(row["key"], row["key_id"], row["key_fingerprint"], row["exchanges"], row["exchanges_before"]) for row in rows} == {
        ("laptop", id, fingerprint, 2, 0), ("feedfeedfeed", None, "feedfeedfeed", 1, 0)}  # fmt: skip
    assert cli.invoke(app, ["usage", "--by", "key", "--compare", "week", "--data-dir", data_dir]).exit_code == 0


def test_the_rule_that_refused_is_shown(cli: CliRunner, made: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    data_dir, _, _ = made
    heading, *_ = cli.invoke(app, ["exchanges", "--data-dir", data_dir]).stdout.splitlines()
    assert "rule" in heading.split()
    one = cli.invoke(app, ["exchanges", "--id", "b", "--data-dir", data_dir]).stdout
    assert ["rule", "purse"] in [line.split() for line in one.splitlines()]
    story = cli.invoke(app, ["explain", "b", "--data-dir", data_dir]).stdout
    assert "It was refused by the word of 'purse'." in " ".join(story.split())
    assert rows_of(cli, "explain", "b", "--data-dir", data_dir)[0]["rule"] == "purse"
    without = cli.invoke(app, ["exchanges", "--outcome", "COMPLETE", "--data-dir", data_dir]).stdout.splitlines()[0]
    assert "rule" not in without.split()
