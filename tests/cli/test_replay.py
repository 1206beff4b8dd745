"""`penstock replay` as a process of its own, and what commands import."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

PENSTOCK = str(Path(sys.executable).with_name("penstock"))
CORPUS = Path(__file__).parents[1] / "corpus"


@contextmanager
def replaying(*arguments: str) -> Generator[tuple[str, subprocess.Popen[str]], None, None]:
    """A running `penstock replay` and its URL."""
    command = [PENSTOCK, "replay", "--listen", "127.0.0.1:0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+", process.stdout.readline())
            assert found, process.stderr and process.stderr.read()
            yield found[0], process
        finally:
            process.kill()


def test_it_serves_what_was_recorded_and_ends_on_a_signal() -> None:
    with replaying(str(CORPUS / "gemini"), "--pace", "fast", "--chunk", "7") as (base, process):
        recording = next((CORPUS / "gemini").glob("*.sse"))
        url = f"{base}/v1beta/models/replay/{recording.stem}:streamGenerateContent?alt=sse"
        with urllib.request.urlopen(urllib.request.Request(url, b"{}"), timeout=10) as answer:
            assert answer.read() == recording.read_bytes()
        with urllib.request.urlopen(f"{base}/v1beta/models", timeout=10) as answer:
            assert len(json.load(answer)["models"]) == len(list((CORPUS / "gemini").glob("*.sse")))
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(urllib.request.Request(f"{base}/v1/chat/completions", b"{}"), timeout=10)
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate(timeout=10)
        assert process.returncode == 0, errors
        assert f"-> 200 gemini/{recording.stem}" in rest


@pytest.mark.parametrize(("arguments", "code", "words"), [
    (["no-such-directory"], 1, "no-such-directory is not a directory"),
    ([str(CORPUS), "--pace", "slow"], 2, "is no pace"),
    ([str(CORPUS), "--chunk", "0"], 2, "is no way to cut"),
    ([str(CORPUS), "--listen", "nowhere"], 2, "--listen: "),
])  # fmt: skip
def test_what_cannot_be_served_is_said(arguments: list[str], code: int, words: str) -> None:
    done = subprocess.run([PENSTOCK, "replay", *arguments], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_asking_for_help_imports_nothing_heavy() -> None:
    script = "import sys, penstock.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True).stdout.split()
    assert not {"sqlalchemy", "alembic", "rich", "uvloop", "uvicorn", "starlette", "httptools", "penstock.app"} & set(loaded)
