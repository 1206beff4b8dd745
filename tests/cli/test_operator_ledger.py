"""What happened, as `penstock usage`, `penstock exchanges` and the admin API tell it, behind real recordings. Real processes, real sockets."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from penstock.ledger.schema import exchanges
from tests.support.corpus import COLUMNS, ROOT, Case, cases
from tests.support.operator import PENSTOCK, Operator, Serving, ask, replaying


@pytest.fixture(scope="module")
def recordings() -> Generator[dict[str, str]]:
    """The variables that lead to a provider that serves every recorded stream in pieces of seven bytes."""
    with replaying(str(ROOT), "--chunk", "7", "--pace", "fast") as port:
        base = f"http://127.0.0.1:{port}"
        yield {"OPENAI_BASE_URL": f"{base}/v1", "ANTHROPIC_BASE_URL": base, "GOOGLE_GEMINI_BASE_URL": base, "OPENAI_API_KEY": "sk-ours"}


def examples() -> list[Case]:
    """Of each protocol the first recording that ends well and states what it used."""
    found: dict[str, Case] = {}
    for case in cases():
        if case.expected.get("outcome", "COMPLETE") == "COMPLETE" and case.expected.get("usage") and len(case.body) < 40_000:
            found.setdefault(str(case.recording.protocol), case)
    return list(found.values())


def send(gateway: Serving, case: Case) -> bytes:
    path, body = case.request()
    return gateway.ask("POST", path, json.dumps(body).encode()).body


def numbers(case: Case) -> dict[str, Any]:
    return {COLUMNS[name]: value for name, value in case.expected["usage"].items() if name in COLUMNS}


def test_recordings_pass_unchanged_and_are_accounted_for_while_it_runs_and_after(operator: Operator, recordings: dict[str, str]) -> None:
    chosen = examples()
    assert len(chosen) == 4
    with operator.serve(env=recordings) as gateway:
        for case in chosen:
            assert send(gateway, case) == case.body, case.name
        running = operator.exchanges()
        by_api = ask(gateway.admin, "GET", "/api/exchanges", None, {"authorization": f"Bearer {operator.token()}"})
        assert gateway.end() == 0
    rows = operator.exchanges()
    assert running == rows == json.loads(by_api.body)["exchanges"]
    assert [row["outcome"] for row in rows] == ["COMPLETE"] * 4
    for row, case in zip(reversed(rows), chosen, strict=True):
        assert {name: row[name] for name in numbers(case)} == numbers(case), case.name
    sums = {row["provider"]: row["exchanges"] for row in operator.run("usage", "--by", "provider", "--json").rows()}
    assert sums == {"openai": 2, "anthropic": 1, "gemini": 1}


def test_json_is_one_object_a_line_named_as_the_columns(operator: Operator) -> None:
    with operator.serve() as gateway:
        gateway.chat()
        gateway.end()
    done = operator.run("exchanges", "--json")
    assert done.err == ""
    assert done.out.endswith("}\n")
    assert done.out.count("\n") == 1
    assert set(done.rows()[0]) == set(exchanges.c.keys()) - {"tail_bytes"}, "what may hold a body is shown by `explain --bytes` alone"
    assert operator.run("usage", "--json").rows()[0]["output_tokens"] > 0
    assert operator.run("usage", "--json", "--since", "2001-01-01", "--until", "2001-01-02").out == ""


def test_filters(operator: Operator, recordings: dict[str, str]) -> None:
    with operator.serve(env=recordings) as gateway:
        ids = [gateway.chat().header("x-penstock-id"), gateway.ask("GET", "/nothing").header("x-penstock-id")]
        for case in examples():
            send(gateway, case)
        gateway.end()

    def counted(*arguments: str) -> int:
        return len(operator.exchanges(*arguments))

    assert [counted(*words.split()) for words in (
        "", "--last 2", "--outcome refused", "--outcome COMPLETE,REFUSED --provider demo", "--provider anthropic --provider openai", "--model demo",
        "--since 1h", "--until yesterday", "--open", f"--id {ids[0]}", "--model nobody",
    )] == [6, 2, 1, 1, 2, 1, 6, 0, 0, 1, 0]  # fmt: skip
    refused = operator.exchanges("--outcome", "REFUSED")[0]
    assert (refused["id"], refused["status"], refused["ended_by"], refused["input_tokens"]) == (ids[1], 404, "gateway", None)
    assert {row["outcome"]: row["exchanges"] for row in operator.run("usage", "--by", "outcome", "--json").rows()} == {"COMPLETE": 5, "REFUSED": 1}
    assert len({(row["day"], row["provider"]) for row in operator.run("usage", "--by", "day", "--by", "provider", "--json").rows()}) == 5
    for wrong in (("exchanges", "--outcome", "FINE"), ("usage", "--by", "colour"), ("exchanges", "--since", "once"), ("exchanges", "--last", "0")):
        done = operator.run(*wrong)
        assert (done.code, done.out) == (2, "")
        assert "Traceback" not in done.err


def test_tables_are_for_people_and_a_closed_pipe_is_no_accident(operator: Operator) -> None:
    with operator.serve() as gateway:
        id = gateway.chat().header("x-penstock-id")
        for _ in range(300):
            gateway.ask("GET", "/nothing")
        gateway.end()
    lines = operator.run("exchanges", "--last", "301").out.splitlines()
    assert len(lines) == 302
    assert str(id) in lines[-1]
    assert "COMPLETE" in lines[-1]
    for command in ("exchanges --last 1000", "exchanges --last 1000 --json", "usage --json"):
        words = ["sh", "-c", f"{PENSTOCK} {command} | head -c 1"]
        done = subprocess.run(words, env=operator.environment(), capture_output=True, text=True, timeout=30, check=False)
        assert (len(done.stdout), done.stderr) == (1, "")


def test_an_official_client_streams_through_it(operator: Operator, recordings: dict[str, str]) -> None:
    case = next(case for case in examples() if str(case.recording.protocol) == "openai_chat")
    with operator.serve(env=recordings) as gateway:
        client = OpenAI(base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key="none-needed")
        chunks = list(client.chat.completions.create(model=f"replay/{case.name}", messages=[{"role": "user", "content": "x"}], stream=True))
        client.close()
        gateway.end()
    assert len(chunks) > 1
    assert all(chunk.usage is None or chunk.choices for chunk in chunks), "usage was not asked for by this client"
    row = operator.exchanges()[0]
    assert (row["outcome"], row["provider"], row["requested_model"]) == ("COMPLETE", "openai", f"replay/{case.name}")
    assert {name: row[name] for name in numbers(case)} == numbers(case)


def test_a_killed_gateway_loses_nothing_that_was_settled(operator: Operator, tmp_path: Path) -> None:
    with operator.serve() as gateway:
        ids = {gateway.chat().header("x-penstock-id") for _ in range(2)}
        assert {row["id"] for row in operator.exchanges()} == ids  # by now the last is older than 100 ms
        gateway.process.kill()
        gateway.process.wait(30)
    assert {row["id"]: row["outcome"] for row in operator.exchanges()} == dict.fromkeys(ids, "COMPLETE")
