"""The person whom the tests of the commands are about."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.operator import Operator, Provider, replaying


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    """Somebody who has just installed Penstock: nothing in their home, nothing in their environment."""
    home = tmp_path / "home"
    home.mkdir()
    return Operator(home)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CliRunner:
    """A runner with a home of its own and nothing set that a command would read."""
    for name in [name for name in os.environ if name.startswith(("PENSTOCK_", "XDG_", "OPENAI_", "ANTHROPIC_", "GEMINI_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    for name in ("VISUAL", "EDITOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return CliRunner()


@pytest.fixture
def replayed(tmp_path: Path) -> Generator[int]:
    """The port of a provider whose one recording, `long`, takes ten minutes."""
    directory = tmp_path / "long"
    directory.mkdir()
    chunk = b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"word "}}]}\n\n'
    (directory / "long.sse").write_bytes(chunk * 3000)
    with replaying(str(directory), "--pace", "200") as port:
        yield port


@pytest.fixture
def provider() -> Generator[Provider]:
    """A provider on this machine that says what a test tells it to."""
    with Provider() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
