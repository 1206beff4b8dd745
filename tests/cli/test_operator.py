"""What a person sees who runs Penstock: it serves from nothing, says where, and ends in good order. Real processes, real sockets."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.needs import lacking
from tests.support.operator import ASK, PENSTOCK, STREAM, Operator, Serving, ask, free_port


@pytest.fixture
def curl() -> None:
    if shutil.which("curl") is None:
        lacking("no curl here; on Debian: apt-get install curl")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def until_accepted(port: int, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        with suppress(ConnectionRefusedError):
            return socket.create_connection(("127.0.0.1", port), 5).close()
        time.sleep(0.02)
    raise AssertionError("it did not begin to serve")


def run_curl(operator: Operator, serving: Serving, env: dict[str, str] | None = None) -> str:
    """What the banner's line prints, run by a shell as it stands there."""
    done = subprocess.run(
        ["sh", "-c", serving.curl + " -sS"], env=operator.environment(env), cwd="/", capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class TestFromNothing:
    def test_penstock_alone_serves_and_its_banner_is_true(self, operator: Operator) -> None:
        with operator.serve(command=(), anew=True) as gateway:
            assert "Penstock" in gateway.banner
            for name, host in (("openai", "api.openai.com"), ("anthropic", "api.anthropic.com"), ("gemini", "generativelanguage.googleapis.com")):
                assert re.search(rf"^ *{name} +{name} +{re.escape(host)} +client's key", gateway.banner, re.MULTILINE)
            assert str(operator.data) in gateway.banner
            answer = gateway.ask("POST", "/v1/chat/completions", STREAM)
            assert answer.status == 200
            assert answer.body.rstrip().endswith(b"data: [DONE]")
            assert ask(gateway.admin, "GET", "/health").status == gateway.ask("GET", "/health").status == 200
            assert gateway.end() == 0
        row = operator.exchanges()[0]
        assert (row["outcome"], row["provider"], row["id"]) == ("COMPLETE", "demo", answer.header("x-penstock-id"))

    def test_not_even_a_home_is_needed(self, operator: Operator, tmp_path: Path) -> None:
        if (Path.home() / ".config" / "penstock").exists():
            lacking("without HOME the password database's is taken, and that one has a configuration")
        command = [PENSTOCK, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir", str(tmp_path / "d")]
        with subprocess.Popen(command, env={}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            said = next((line for line in process.stdout if line.startswith("clients")), "nothing")
            try:
                assert ask(int(said.rpartition(":")[2]), "POST", "/v1/chat/completions", ASK).status == 200
            finally:
                process.terminate()
                process.communicate(timeout=30)
        assert process.returncode == 0

    @pytest.mark.usefixtures("curl")
    def test_the_line_to_copy_streams(self, operator: Operator) -> None:
        with operator.serve() as gateway:
            assert "data: [DONE]" in run_curl(operator, gateway)

    @pytest.mark.usefixtures("curl")
    def test_the_line_to_copy_holds_a_place_for_a_key_where_one_is_asked_for(self, operator: Operator) -> None:
        key = operator.run("keys", "create", "laptop").out.strip()
        with operator.serve() as gateway:
            assert "data: [DONE]" in run_curl(operator, gateway, {"KEY": key})
            assert "authentication_error" in run_curl(operator, gateway, {"KEY": "none"})

    @pytest.mark.usefixtures("curl")
    def test_the_line_of_the_readme_streams_too(self, operator: Operator) -> None:
        readme = (Path(__file__).parents[2] / "README.md").read_text()
        line = next(block for block in re.findall(r"```sh\n(.*?)```", readme, re.DOTALL) if block.startswith("curl "))
        with operator.serve() as gateway:
            mine = line.strip().replace("127.0.0.1:4270", f"127.0.0.1:{gateway.port}")
            done = subprocess.run(["sh", "-c", mine], env=operator.environment(), capture_output=True, text=True, timeout=30, check=False)
        assert mine != line.strip()
        assert "data: [DONE]" in done.stdout

    @pytest.mark.parametrize("streams", [">&-", "<&- >&- 2>&-", ">/dev/full 2>/dev/full"])
    def test_nobody_has_to_listen_to_what_it_prints(self, operator: Operator, streams: str) -> None:
        if "full" in streams and not Path("/dev/full").exists():
            lacking("no /dev/full here")
        port = free_port()
        command = f"exec {PENSTOCK} serve --listen 127.0.0.1:{port} --admin 127.0.0.1:0 {streams}"
        with subprocess.Popen(["sh", "-c", command], env=operator.environment(), cwd=operator.home) as process:
            try:
                until_accepted(port, process)
                assert ask(port, "POST", "/v1/chat/completions", ASK).status == 200
            finally:
                process.terminate()
                process.wait(30)
        assert process.returncode == 0
        assert [row["outcome"] for row in operator.exchanges()] == ["COMPLETE"]

    def test_keys_come_from_the_environment(self, operator: Operator) -> None:
        keys = {"OPENAI_API_KEY": "sk-of-the-operator", "GOOGLE_API_KEY": "AIza-of-the-operator"}
        with operator.serve(env=keys, anew=True) as gateway:
            lines = {line.split()[0]: line for line in gateway.banner.splitlines() if line.split()}
            assert lines["openai"].rstrip().endswith("own key")
            assert lines["gemini"].rstrip().endswith("own key")
            assert lines["anthropic"].rstrip().endswith("client's key")
            assert not any(key in gateway.banner + gateway.log for key in keys.values())

    def test_what_is_kept_is_its_owners_alone(self, operator: Operator) -> None:
        with operator.serve("--token", "auto") as gateway:
            gateway.chat({"authorization": f"Bearer {operator.token('token')}"})
            found = {path.name: mode(path) for path in operator.data.iterdir()}
            assert {"token", "admin.token", "ledger.db"} <= set(found)
            assert set(found.values()) == {0o600}
            assert mode(operator.data) == 0o700


class TestWhereItListens:
    @pytest.mark.usefixtures("curl")
    def test_a_token_of_its_own_is_in_the_line_to_copy(self, operator: Operator) -> None:
        with operator.serve("--token", "auto") as gateway:
            assert gateway.chat().status == 401
            assert operator.token("token") not in gateway.banner
            assert "data: [DONE]" in run_curl(operator, gateway)

    @pytest.mark.usefixtures("curl")
    def test_a_token_of_the_operators_is_asked_for_in_the_line_to_copy(self, operator: Operator) -> None:
        with operator.serve("--token", "a-token-of-ours") as gateway:
            assert "a-token-of-ours" not in gateway.banner
            assert "data: [DONE]" in run_curl(operator, gateway, {"TOKEN": "a-token-of-ours"})

    @pytest.mark.usefixtures("curl")
    def test_a_unix_socket_is_the_owners_alone_and_stands_in_the_line_to_copy(self, operator: Operator) -> None:
        where = operator.home / "a gate.sock"
        with operator.serve("--socket", str(where)) as gateway:
            assert stat.S_ISSOCK(where.stat().st_mode)
            assert mode(where) == 0o600
            assert str(where) in gateway.banner
            assert "data: [DONE]" in run_curl(operator, gateway)
            assert gateway.end() == 0
        assert not where.exists()

    def test_a_socket_left_behind_is_replaced_and_a_live_one_is_not(self, operator: Operator) -> None:
        where = operator.home / "s"
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(where))
        with operator.serve("--socket", str(where)):
            second = operator.run("serve", "--socket", str(where), "--admin", "127.0.0.1:0")
            assert second.code == 1
            assert f"{where} is in use" in second.err
            assert "--socket" in second.err
            assert "Traceback" not in second.err
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(where))  # the first one still answers
            connection.close()

    @pytest.mark.parametrize(("option", "line"), [("--listen", "clients"), ("--admin", "admin")])
    def test_a_port_in_use_is_named_with_who_has_it_and_what_to_write(self, operator: Operator, option: str, line: str) -> None:
        with operator.serve() as gateway:
            gateway.chat()
            port = gateway.port if line == "clients" else gateway.admin
            before = instances(operator)
            other = "--admin" if option == "--listen" else "--listen"
            second = operator.run("serve", other, "127.0.0.1:0", option, f"127.0.0.1:{port}")
            assert second.code == 1
            assert second.out == ""
            assert f"127.0.0.1:{port} is in use by process {gateway.process.pid} (" in second.err
            assert f"penstock serve {option} 127.0.0.1:{port + 10}" in second.err
            assert "Traceback" not in second.err
            assert instances(operator) == before, "a start that fails leaves no trace in the ledger"

    def test_an_address_that_is_not_ours_is_said(self, operator: Operator) -> None:
        done = operator.run("serve", "--listen", "192.0.2.1:4270", "--admin", "127.0.0.1:0", "--token", "t" * 20)
        assert done.code == 1
        assert "192.0.2.1:4270" in done.err
        assert "Traceback" not in done.err
        assert not (operator.data / "ledger.db").exists()


def instances(operator: Operator) -> list[tuple[object, ...]]:
    """Every process that ever opened the ledger."""
    connection = sqlite3.connect(f"file:{operator.data / 'ledger.db'}?mode=ro", uri=True)
    try:
        return connection.execute("SELECT id FROM instances ORDER BY id").fetchall()
    finally:
        connection.close()


def until_refused(port: int) -> None:
    with suppress(ConnectionRefusedError):
        while True:
            with suppress(ConnectionResetError):  # it was queued when the listener closed
                socket.create_connection(("127.0.0.1", port), 5).close()


class TestTheEnd:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_lets_the_answer_finish_and_the_ledger_has_it(self, operator: Operator, number: signal.Signals) -> None:
        with operator.serve(anew=True) as gateway:
            connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
            connection.request("POST", "/v1/chat/completions", STREAM, {"content-type": "application/json"})
            answer = connection.getresponse()
            first = answer.read(10)
            gateway.process.send_signal(number)
            rest = answer.read()
            gateway.process.wait(30)
            connection.close()
            assert gateway.process.returncode == 0, gateway.log
        assert (first + rest).rstrip().endswith(b"data: [DONE]")
        assert [row["outcome"] for row in operator.exchanges()] == ["COMPLETE"]
        assert operator.exchanges("--open") == []
        assert "Traceback" not in gateway.log

    def test_the_second_signal_ends_what_runs_with_an_error_and_a_row(self, operator: Operator, replayed: int) -> None:
        with operator.serve(env={"OPENAI_BASE_URL": f"http://127.0.0.1:{replayed}/v1"}) as gateway:
            connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
            body = json.dumps({"model": "replay/long", "stream": True, "messages": []})
            connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
            answer = connection.getresponse()
            assert answer.read(5) == b"data:"
            gateway.process.send_signal(signal.SIGINT)
            until_refused(gateway.port)  # then the first signal has come
            gateway.process.send_signal(signal.SIGINT)
            rest = answer.read()
            gateway.process.wait(30)
            connection.close()
            assert gateway.process.returncode == 0, gateway.log
        assert b"[DONE]" not in rest
        assert b'"error"' in rest
        assert [row["outcome"] for row in operator.exchanges()] == ["SHUTDOWN"]

    def test_a_signal_while_nothing_runs_ends_it_at_once(self, operator: Operator) -> None:
        with operator.serve() as gateway:
            kept = socket.create_connection(("127.0.0.1", gateway.port), 5)
            assert gateway.end() == 0
            assert kept.recv(1) == b""
            kept.close()


class TestTwoGateways:
    def test_share_a_data_directory_and_keep_their_rows_apart(self, operator: Operator) -> None:
        with operator.serve() as one, operator.serve() as two:
            ids = [gateway.chat().header("x-penstock-id") for gateway in (one, two, one)]
            assert one.end() == 0
            ids.append(two.chat().header("x-penstock-id"))
            assert two.end() == 0
        rows = operator.exchanges()
        assert sorted(row["id"] for row in rows) == sorted(str(id) for id in ids)
        assert {row["outcome"] for row in rows} == {"COMPLETE"}
        assert len({row["instance"] for row in rows}) == 2

    def test_on_ports_that_the_operator_names(self, operator: Operator) -> None:
        listen, admin = free_port(), free_port()
        with operator.serve(ports=False, env={"PENSTOCK_LISTEN": f"127.0.0.1:{listen}", "PENSTOCK_ADMIN": f"127.0.0.1:{admin}"}, command=()) as one:
            assert (one.port, one.admin) == (listen, admin)
            with operator.serve() as two:
                assert two.port != listen
