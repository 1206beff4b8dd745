"""`penstock keys`: until when a key is good, and how long its old text is, as people write them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from penstock.cli import app

DAY = 86_400.0


def keys(cli: CliRunner, data: Path, *arguments: str) -> tuple[int, str, dict[str, Any]]:
    result = cli.invoke(app, ["keys", *arguments, "--data-dir", str(data), "--json"])
    return result.exit_code, result.output, json.loads(result.stdout) if result.exit_code == 0 else {}


@pytest.mark.parametrize(("text", "days"), [("90d", 90.0), ("12h", 0.5), ("today", None), ("9998-01-31", None), ("9998-01-31T10:00Z", None)])
def test_a_key_is_good_until_then(cli: CliRunner, tmp_path: Path, text: str, days: float | None) -> None:
    code, output, made = keys(cli, tmp_path, "create", "a", "--expires", text)
    assert code == 0, output
    assert made["expires_at"] > time.time() - 60
    assert days is None or made["expires_at"] == pytest.approx(time.time() + days * DAY, abs=60)


@pytest.mark.parametrize("text", ["2020-01-01", "2020-01-01T00:00Z", "2020-01-01T00:00:00Z", "yesterday", "999999w", "soon"])
def test_one_that_would_be_good_at_no_time_is_refused(cli: CliRunner, tmp_path: Path, text: str) -> None:
    """A moment that is over is none to come, however it is written."""
    code, output, _ = keys(cli, tmp_path, "create", "a", "--expires", text)
    assert (code, "Traceback" in output) == (2, False), output


def test_an_old_text_goes_on_for_a_while_and_not_until_a_day(cli: CliRunner, tmp_path: Path) -> None:
    assert keys(cli, tmp_path, "create", "a")[0] == 0
    code, output, rotated = keys(cli, tmp_path, "rotate", "a", "--grace", "24h")
    assert code == 0, output
    assert rotated["previous_until"] == pytest.approx(time.time() + DAY, abs=60)
    for text in ("2020-01-01", "9998-01-01", "today", "-1h"):
        assert keys(cli, tmp_path, "rotate", "a", "--grace", text)[0] == 2
