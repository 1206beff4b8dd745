"""`penstock check`: notes are no errors, errors come all at once, and the page's own examples are right."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from penstock.cli import app

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CliRunner:
    for name in [name for name in os.environ if name.startswith(("PENSTOCK_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return CliRunner()


def test_what_forestalls_what_is_a_note(cli: CliRunner, tmp_path: Path) -> None:
    file = tmp_path / "penstock.yaml"
    file.write_text("providers:\n  openai:\n    content: 200\n    tool_call: 100\n")
    result = cli.invoke(app, ["check", str(file)])
    assert (result.exit_code, result.stderr) == (0, "")
    first, second = result.stdout.splitlines()
    assert first == f"{file}: fine, with a note: 1 provider (openai), 0 routes"
    assert second.startswith(f"note: {file}:3: providers.openai.content: idle (270 s, the default) can never fire: ")
    file.write_text("content: 200\nkeepalive: 90\ntool_call: 100\n")
    assert cli.invoke(app, ["check", str(file)]).stdout.startswith(f"{file}: fine, with 2 notes: 3 providers ")


def test_a_wrong_file_gets_its_errors_and_no_notes(cli: CliRunner, tmp_path: Path) -> None:
    file = tmp_path / "penstock.yaml"
    file.write_text("content: 200\nkeepalive: 0\nretries: {status: many}\ntool_call: 1\ntool_calls: {timeout_secs: 1}\n")
    result = cli.invoke(app, ["check", str(file)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == ["keepalive", "retries.status", "tool_calls.timeout_secs"]


def test_the_page_s_examples_are_right(cli: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) >= 2
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    (tmp_path / "groq.key").write_text("k")
    for text in examples:
        file = tmp_path / "penstock.yaml"
        file.write_text(text)
        file.chmod(0o600)
        result = cli.invoke(app, ["check", str(file)])
        assert (result.exit_code, result.stderr) == (0, ""), text
        assert "note:" not in result.stdout, text
