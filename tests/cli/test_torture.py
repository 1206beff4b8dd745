"""`penstock torture` as a process of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import forking

PENSTOCK = str(Path(sys.executable).with_name("penstock"))


def torture(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.CompletedProcess(arguments, *forking.run(PENSTOCK, ["torture", *arguments], os.environ, Path.cwd()))
    assert "Traceback" not in done.stderr
    return done


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_handful_of_cells_against_a_gateway_of_its_own() -> None:
    faults = "plain,one-byte-writes,eof-mid-stream,clean-end-inside-a-frame,status-429,html-error"
    done = torture("--self", "--only", faults, "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row for row in rows if not row["passed"]] == []
    assert done.returncode == 0, done.stderr
    assert len(rows) == 6 * 5
    assert set(rows[0]) == {"fault", "protocol", "passed", "expected", "saw", "seconds"}


def test_a_target_that_repairs_nothing_fails_and_the_table_says_why() -> None:
    """The target is the scripted provider itself: a connection that passes everything."""
    port = free_port()
    place = ("--target", f"http://127.0.0.1:{port}", "--listen", f"127.0.0.1:{port}")
    options = (*place, "--only", "plain,clean-end-mid-stream", "--protocol", "openai_chat")
    done = torture(*options)
    assert done.returncode == 1
    assert f"http://127.0.0.1:{port}/v1" in done.stderr
    assert "✗ clean-end-mid-stream, chat" in done.stdout
    assert "saw:      a clean end without an error" in done.stdout
    assert "1 of 2 cells passed" in done.stdout
    done = torture(*options, "--markdown")
    assert "| `plain` | A usual stream, one frame a write; it must arrive byte for byte. | ✓ | · | · | · | · |" in done.stdout


def test_a_target_that_keeps_every_promise_that_was_asked_for_passes() -> None:
    port = free_port()
    done = torture("--target", f"http://127.0.0.1:{port}", "--listen", f"127.0.0.1:{port}", "--only", "plain", "--only", "gzip",
                   "--header", "authorization: Bearer mine", "--path", "gemini=/v1beta/models/{model}:streamGenerateContent",
                   "--model-prefix", "vendor/", "--rewritten")  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "10 of 10 cells passed" in done.stdout


def test_faults_are_listed() -> None:
    done = torture("--list")
    assert done.returncode == 0
    assert "stall-in-parallel-tool-calls" in done.stdout
    row = json.loads(torture("--list", "--json", "--only", "cr").stdout)
    assert row["fault"] == "cr"
    assert "array" not in row["protocols"]


@pytest.mark.parametrize(("arguments", "words"), [
    (("--only", "no-such-fault"), "there is no fault no-such-fault"),
    (("--protocol", "smtp"), "there is no protocol smtp; there are chat"),
    (("--only", "cr", "--protocol", "array"), "makes sense"),
    (("--self", "--target", "http://127.0.0.1:1"), "exclude each other"),
    (("--only", "plain", "--header", "authorization: Bearer x"), "--header is about a gateway that runs: say which with --target"),
    (("--only", "plain", "--self", "--rewritten"), "--rewritten is about a gateway that runs"),
    (("--target", "ftp://x"), "is no gateway's address"),
    (("--target", "http://x", "--listen", "nowhere"), "--listen: "),
    (("--target", "http://x", "--header", "nonsense"), "is no header"),
    (("--target", "http://x", "--path", "chat"), "write PROTOCOL=/PATH"),
    (("--jobs", "0"), "--jobs"),
])  # fmt: skip
def test_mistakes_of_the_command_line_are_said(arguments: tuple[str, ...], words: str) -> None:
    done = torture(*arguments)
    assert done.returncode == 2
    assert words in done.stderr


def test_a_port_that_is_taken_is_said() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        done = torture("--target", "http://127.0.0.1:1", "--listen", f"127.0.0.1:{port}", "--only", "plain")
    assert done.returncode == 1
    assert f"127.0.0.1:{port} is in use" in done.stderr
    assert "penstock torture --listen" in done.stderr


def test_a_target_that_is_not_there_is_said_once() -> None:
    port = free_port()
    done = torture("--target", f"http://127.0.0.1:{port}", "--listen", "127.0.0.1:0", "--only", "plain")
    assert done.returncode == 1
    assert f"--target: no gateway takes connections at 127.0.0.1:{port}: " in done.stderr
    assert "cells passed" not in done.stdout
