"""`penstock capture`: the running gateway is told what to record; the files are looked at with or without one."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from penstock.admin import AdminListener, Deps, load_token, make_app
from penstock.capture import CaptureSettings, Order, Phase, Recorder
from penstock.capture.store import Store
from penstock.cli import app
from penstock.lab.recordings import load_recordings
from tests.support.captures import BEGAN, CHAT, answer, begin, make, subject
from tests.support.operator import free_port


def nothing(*_: Any, **__: Any) -> Any:
    raise AssertionError("the ledger has nothing to do with it")


class Shell:
    """Somebody at a shell, with a data directory of their own."""

    def __init__(self, data_dir: Path) -> None:
        self.data = data_dir
        self.admin = f"127.0.0.1:{free_port()}"

    def __call__(self, *arguments: str, code: int = 0) -> Result:
        options = ["--data-dir", str(self.data)]
        if arguments[0] in ("on", "off", "status"):
            options += ["--admin", self.admin]
        done = CliRunner().invoke(app, ["capture", *arguments, *options], env={"PENSTOCK_CONFIG": None, "HOME": str(self.data), "COLUMNS": "200"})
        assert done.exit_code == code, done.output + repr(done.exception)
        return done


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "data")


@contextmanager
def running(shell: Shell, token: str | None = None) -> Generator[Recorder]:
    """A gateway's admin plane on a thread of its own."""
    recorder = Recorder(shell.data, CaptureSettings(), routes=[("gpt-*", "openai")], providers=["openai"])
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    deps = Deps(
        "1", "i1", token or load_token(shell.data), nothing, nothing, nothing, draining=lambda: False, ledger_failing=lambda: False, capture=recorder)
    listener = AdminListener("127.0.0.1", 0)
    try:
        port = asyncio.run_coroutine_threadsafe(listener.start(make_app(deps)), loop).result(10)
        shell.admin = f"127.0.0.1:{port}"
        yield recorder
    finally:
        asyncio.run_coroutine_threadsafe(listener.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
        recorder.close()


def captured(shell: Shell, *exchanges: str, body: bytes = CHAT, outcome: str = "COMPLETE") -> list[str]:
    """Captures without a gateway; their ids, the newest first."""
    recorder = make(shell.data)
    recorder.turn_on(Order(count=100))
    for number, exchange in enumerate(exchanges):
        recording = recorder.begin(subject(exchange, began=BEGAN + 86400 * number))
        assert recording is not None
        recording.inbound("POST", "/v1/chat/completions?key=abc", [(b"Authorization", b"Bearer very-secret-1")], b'{"model":"gpt-4o"}', 100.0)
        answer(recording, [body[:30], body[30:]], outcome=outcome)
    recorder.close()
    return [item.id for item in Store(shell.data).items()]


# On and off.


def test_on_off_and_status_reach_the_running_gateway(shell: Shell) -> None:
    with running(shell) as recorder:
        said = shell("on", "--phase", "upstream_response", "--count", "3", "--route", "0", "--for", "60").stdout
        assert said == "capturing the next 3 exchanges of route 0: upstream_response, for 60 s at most\n"
        assert recorder.active
        assert json.loads(shell("status", "--json").stdout)["order"]["phases"] == ["upstream_response"]
        assert shell("off").stdout == "capturing is off\n"
        assert not recorder.active
        said = shell("on", "--model", "gpt-4*", "--provider", "openai", "--key", "0123ABCD", "--max-bytes", "1000").stdout
        assert said.startswith("capturing the next exchange of model gpt-4*, provider openai, key 0123abcd: inbound_request, ")
        begin(recorder, Order())
        assert shell("status").stdout == "capturing is off; 1 under way\n"


@pytest.mark.parametrize(
    ("phases", "meant"),
    [([], list(Phase)), (["all"], list(Phase)), (["upstream-response,inbound_request"], [Phase.INBOUND_REQUEST, Phase.UPSTREAM_RESPONSE])],
)
def test_phases_may_be_named_in_every_way(shell: Shell, phases: list[str], meant: list[str]) -> None:
    with running(shell):
        options = [word for phase in phases for word in ("--phase", phase)]
        assert json.loads(shell("on", "--json", *options).stdout)["order"]["phases"] == meant


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--phase", "everything"], "there is no phase everything; there are inbound_request"),
        (["--key", "xyz"], "digits of its fingerprint"),
        (["--model", "a["], "never closed"),
        (["--for", "0"], "seconds takes"),
        (["--route", "mine"], "no route 'mine'; there are 0 (gpt-*)"),
        (["--provider", "me"], "no provider 'me'"),
    ],
)
def test_what_makes_no_sense_is_said(shell: Shell, arguments: list[str], words: str) -> None:
    with running(shell) as recorder:
        assert words in shell("on", *arguments, code=2).stderr
        assert not recorder.active


@pytest.mark.parametrize("command", ["on", "off", "status"])
def test_without_a_gateway_that_is_said(shell: Shell, command: str) -> None:
    assert "no gateway runs on" in shell(command, code=1).stderr
    load_token(shell.data)
    said = shell(command, code=1).stderr
    assert f"no gateway runs: nothing listens at {shell.admin}" in said
    shell.admin = "127.0.0.1:0"
    assert "--admin HOST:PORT" in shell(command, code=1).stderr


def test_a_gateway_with_another_data_directory_is_said(shell: Shell) -> None:
    load_token(shell.data)
    with running(shell, token="x" * 43):
        said = shell("on", code=1).stderr
    assert "does not take the token of" in said


# The files.


def test_list_shows_what_there_is(shell: Shell) -> None:
    assert shell("list").stdout == "none\n"
    second, first = captured(shell, "px-1", "px-2")
    said = shell("list").stdout.splitlines()
    assert [line.split()[0] for line in said] == ["id", second, first]
    assert "2023-11-15 00:00:01  px-1      COMPLETE  openai    gpt-4o  inbound_request, upstream_response" in said[2]
    rows = [json.loads(line) for line in shell("list", "--json").stdout.splitlines()]
    assert [(row["id"], row["exchange"], row["outcome"], row["size"]) for row in rows] == [
        (second, "px-2", "COMPLETE", len(CHAT) + 18), (first, "px-1", "COMPLETE", len(CHAT) + 18)]
    (Store(shell.data).directory / first / "capture.json").write_text("{")
    assert "damaged" in shell("list").stdout
    assert json.loads(shell("list", "--json").stdout.splitlines()[1]) == {"id": first, "damaged": True}


def test_show_prints_heads_and_chunks_with_their_times_and_no_secret(shell: Shell) -> None:
    (id,) = captured(shell, "px-1")
    said = shell("show", id[:12]).stdout
    assert said == shell("show", "px-1").stdout
    for line in (
        "POST /v1/chat/completions?key=***", "Authorization: Bearer ***", "content-type: text/event-stream", "+0.500000 s  30 B", "+0.510000 s",
        "  data: [DONE]", "outcome   COMPLETE",
    ):  # fmt: skip
        assert line in said
    assert "very-secret" not in said
    only = shell("show", id, "--phase", "inbound_request").stdout
    assert '{"model":"gpt-4o"}' in only
    assert "DONE" not in only


def test_show_raw_prints_the_bytes_of_one_phase(shell: Shell) -> None:
    (id,) = captured(shell, "px-1")
    assert shell("show", id, "--raw", "--phase", "upstream_response").stdout_bytes == CHAT
    assert "--raw prints one phase" in shell("show", id, "--raw", code=2).stderr
    assert "has nothing of outbound_response" in shell("show", id, "--phase", "outbound_response", code=1).stderr


def test_what_a_terminal_would_obey_is_shown_and_not_sent(shell: Shell) -> None:
    captured(shell, "px-1", body=b"data: \x1b]0;owned\x07 \x9b31m \xe2\x80\xae padding [bold]x[/bold]\r\n\n\xff\n")
    said = shell("show", "px-1").stdout
    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\r"} & set(said)
    assert r"\x1b]0;owned\x07" in said
    assert "[bold]x[/bold]" in said
    assert r"\xff" in said


def test_a_character_over_two_chunks_stands_in_the_second(shell: Shell) -> None:
    captured(shell, "px-1", body=b"x" * 29 + "é".encode() + b"y")
    assert f"  {'x' * 29}\n+0.510000 s  2 B\n  éy\n" in shell("show", "px-1").stdout


def test_what_is_no_text_is_told_and_not_printed(shell: Shell) -> None:
    captured(shell, "px-1", body=bytes(range(256)) * 2)
    assert "512 bytes that are no text" in shell("show", "px-1").stdout


def test_export_writes_what_replay_serves(shell: Shell, tmp_path: Path) -> None:
    (id,) = captured(shell, "px-1")
    target = tmp_path / "out"
    said = shell("export", id, str(target)).stdout
    assert f"penstock replay {target}, model replay/{id}" in said
    (recording,) = load_recordings(target).recordings
    assert (recording.name, recording.body, recording.request) == (id, CHAT, b'{"model":"gpt-4o"}')
    assert "is there already" in shell("export", id, str(target), code=1).stderr


def test_delete_takes_one_or_all_and_nothing_by_mistake(shell: Shell) -> None:
    third, second, first = captured(shell, "px-1", "px-2", "px-3")
    assert "name one capture, or --all" in shell("delete", code=2).stderr
    assert "name one capture, or --all" in shell("delete", first, "--all", code=2).stderr
    assert "could be any of 3" in shell("delete", "2023", code=1).stderr
    assert shell("delete", second).stdout == f"deleted {second}\n"
    assert [item.id for item in Store(shell.data).items()] == [third, first]
    assert shell("delete", "--all").stdout == "deleted 2 captures\n"
    assert shell("delete", "--all").stdout == "none\n"


@pytest.mark.parametrize("command", ["show", "export", "delete"])
@pytest.mark.parametrize("id", ["..", "../..", "/etc", "", "20231115-000001-ffffff"])
def test_no_id_leads_out_of_the_folder(shell: Shell, tmp_path: Path, command: str, id: str) -> None:
    captured(shell, "px-1")
    before = sorted(path for path in shell.data.rglob("*"))
    said = shell(command, id, *([str(tmp_path / "out")] if command == "export" else []), code=1).stderr
    assert "no capture" in said
    assert sorted(path for path in shell.data.rglob("*")) == before
    assert not (tmp_path / "out").exists()
