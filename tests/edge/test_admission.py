"""Admission over real sockets: keys, tokens, rules and limits in every protocol, a key's life from the command line, and a budget that two processes
share."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import forking
from tests.support.gateway import gateway, run
from tests.support.http import Answer, ask
from tests.support.process import all_settled, rows_in, rows_until, serving
from tests.support.tokens import ISS, jwk, jwks, sign

BODIES: dict[str, tuple[str, dict[str, Any], str]] = {
    "chat": ("/v1/chat/completions", {"model": "demo", "messages": [], "stream": True}, "authorization"),
    "responses": ("/v1/responses", {"model": "demo", "input": "x", "stream": True}, "authorization"),
    "messages": ("/v1/messages", {"model": "demo", "max_tokens": 9, "messages": [], "stream": True}, "x-api-key"),
    "gemini": ("/v1beta/models/demo:streamGenerateContent?alt=sse", {"contents": []}, "x-goog-api-key"),
}  # fmt: skip
PROTOCOL = pytest.mark.parametrize("protocol", list(BODIES))
NOBODY = {"openai": {"protocol": "openai", "base_url": "http://127.0.0.1:9"}}


async def chat(port: int, protocol: str, credential: str | None, **headers: str) -> Answer:
    path, body, header = BODIES[protocol]
    shown = {} if credential is None else {header: f"Bearer {credential}" if header == "authorization" else credential}
    return await ask(port, "POST", path, body, {**shown, **headers})


def keys(directory: Path, *arguments: str) -> str:
    code, out, err = forking.run("penstock", ["keys", *arguments, "--config", str(directory / "penstock.yaml")], {"HOME": str(directory)}, directory)
    assert code == 0, err
    return out.strip()


@PROTOCOL
def test_keys_tokens_and_rules(tmp_path: Path, protocol: str) -> None:
    admission = {
        "issuers": [{"issuer": ISS, "audiences": ["penstock"], "jwks": jwks(jwk("RSA", "k1"))}],
        "rules": [{"name": "house-rule", "deny": {"user": "mallory"}}],
        "limits": [{"requests": 3, "per": "hour", "by": ["user"]}],
    }

    async def main() -> None:
        async with gateway(tmp_path, NOBODY, {"admission": admission}) as running:
            good = await asyncio.to_thread(keys, tmp_path, "create", "laptop", "--owner", "ada")
            late = 10_000_000_000
            eve = sign({"iss": ISS, "aud": "penstock", "sub": "mallory", "exp": late}).decode()
            bob = sign({"iss": ISS, "aud": "penstock", "sub": "bob", "exp": late}).decode()
            house: Any = running.app._gatehouse  # pyright: ignore[reportPrivateUsage]
            await house.reload()  # it would look by itself within two seconds
            assert (await chat(running.port, protocol, good)).status == 200
            seen = [
                (await chat(running.port, protocol, credential)).status
                for credential in (None, "sk-pst-nobody", eve, bob, bob, bob, bob, bob[:-3] + "AAA")
            ]
            assert seen == [401, 401, 403, 200, 200, 200, 429, 401]
            path, body, _ = BODIES[protocol]
            beside = await ask(running.port, "POST", path, body, {"authorization": "Bearer own-login", "x-penstock-key": good})
            assert beside.status == 200
            rows = await running.rows()
            why = [row["cause"] for row in rows if row["outcome"] == "REFUSED"]
            assert any("'house-rule'" in cause for cause in why)
            assert any("limit 'requests per hour by user'" in cause for cause in why)
            assert {row["user_id"] for row in rows if row["outcome"] == "COMPLETE"} == {"ada", "bob"}
            assert good not in json.dumps(rows)

    run(main())


def test_the_life_of_a_key(tmp_path: Path) -> None:
    async def main() -> None:
        async with gateway(tmp_path, NOBODY) as running:
            house: Any = running.app._gatehouse  # pyright: ignore[reportPrivateUsage]

            async def status(key: str) -> int:
                await house.reload()  # it would look by itself within two seconds
                return (await chat(running.port, "chat", key)).status

            assert (await chat(running.port, "chat", None)).status == 200, "open, as long as there is no key"
            first = await asyncio.to_thread(keys, tmp_path, "create", "laptop", "--model", "demo*")
            assert (await status(first), (await chat(running.port, "chat", None)).status) == (200, 401)
            other = await asyncio.to_thread(keys, tmp_path, "create", "other", "--model", "gpt-*")
            await house.reload()
            for shown, listed, found in ((first, ["demo"], 200), (other, [], 404)):
                bearer = {"authorization": f"Bearer {shown}"}
                models = await ask(running.port, "GET", "/v1/models", None, bearer)
                assert [model["id"] for model in models.json()["data"]] == listed
                assert (await ask(running.port, "GET", "/v1/models/demo", None, bearer)).status == found
            await asyncio.to_thread(keys, tmp_path, "revoke", "other")
            second = await asyncio.to_thread(keys, tmp_path, "rotate", "laptop", "--grace", "1h")
            assert (await status(first), await status(second)) == (200, 200)
            third = await asyncio.to_thread(keys, tmp_path, "rotate", "laptop")
            assert (await status(first), await status(second), await status(third)) == (401, 401, 200)
            await asyncio.to_thread(keys, tmp_path, "revoke", "laptop")
            assert (await status(third), (await chat(running.port, "chat", None)).status) == (401, 401)
            from hashlib import sha256

            await asyncio.to_thread(keys, tmp_path, "import", "old", sha256(b"any form at all").hexdigest())
            assert await status("any form at all") == 200
            listed = [json.loads(line) for line in (await asyncio.to_thread(keys, tmp_path, "list", "--json")).splitlines()]
            assert [(one["name"], one["revoked_at"] is None) for one in listed] == [
                ("laptop", False), ("other", False), ("old", True)]
            assert third not in json.dumps(listed)

    run(main())


CHUNK = b'data: {"id":"c1","model":"m","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'


@asynccontextmanager
async def provider(lasting: float) -> AsyncGenerator[int]:
    """Makes as many tokens as it is allowed to, and states them."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(next(line for line in head.decode().lower().split("\r\n") if line.startswith("content-length")).split(":")[1])
            asked = json.loads(await reader.readexactly(length))
            made = int(asked["max_tokens"])
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
            for _ in range(made):
                writer.write(CHUNK)
                await writer.drain()
                await asyncio.sleep(lasting / made)
            usage: dict[str, Any] = {"id": "c1", "choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": made}}
            stop: dict[str, Any] = {"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
            for last in (json.dumps(stop).encode(), json.dumps(usage).encode(), b"[DONE]"):
                writer.write(b"data: " + last + b"\n\n")
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, RuntimeError):
            pass  # whoever asked is gone; uvloop says so with a RuntimeError
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.mark.parametrize(("action", "budget"), [("block", 2000), ("cut", 1500)])
def test_two_processes_share_a_budget(tmp_path: Path, action: str, budget: int) -> None:
    """Whoever asks whichever of them: what is spent in the end is the budget, and at most what was set aside when it ran out."""
    each = 40
    body: dict[str, Any] = {"model": "m", "stream": True, "messages": [], "max_tokens": each}
    # What one request sets aside: its output, and its input by its size.
    share = each + -(-len(json.dumps(body)) // 4)

    async def main() -> None:
        async with provider(0.3) as port:
            at = {"openai": {"protocol": "openai", "base_url": f"http://127.0.0.1:{port}", "api_key": "k"}}
            more = {"admission": {"budgets": [{"tokens": budget, "per": "total", "action": action, "name": "purse"}]}}
            async with serving(tmp_path, at, more) as one, serving(tmp_path, at, more) as two:

                async def client(number: int) -> list[int]:
                    to = (one, two)[number % 2].port
                    return [(await ask(to, "POST", "/v1/chat/completions", body)).status for _ in range(10)]

                statuses = [status for found in await asyncio.gather(*(client(number) for number in range(16))) for status in found]
                assert set(statuses) == {200, 429}
                assert await one.stop() == 0, one.stderr
                assert await two.stop() == 0, two.stderr
        rows = rows_in(tmp_path / "data")
        charged = [row["charged_input"] + row["charged_output"] for row in rows if row["charged_input"] is not None]
        (purse,) = rows_in(tmp_path / "data", "budget_spent")
        assert purse["spent"] == sum(charged), "exactly what the rows say"
        assert all(row["held"] == 0 for row in rows_in(tmp_path / "data", "budget_held"))
        assert len({row["instance"] for row in rows if row["charged_output"]}) == 2
        assert purse["spent"] >= budget - 16 * share, "what had been set aside when the others were refused was not all used"
        if action == "block":
            assert purse["spent"] < budget + share, "the last one that was let in, and no other"
        else:
            # A stream is cut with the frame after the one at which the answer came that there is no more.
            assert purse["spent"] <= budget + 16 * 3

    run(main())


@pytest.mark.parametrize("action", ["block", "cut"])
def test_a_kill_under_load_leaves_budgets_and_ledger_at_one(tmp_path: Path, action: str) -> None:
    """Whatever each stream was at when its gateway was killed: what budgets hold for spent is what the rows say, to the token."""
    body: dict[str, Any] = {"model": "m", "stream": True, "messages": [], "max_tokens": 60}
    hurry = {"lease_s": 1.0, "renew_s": 0.2}

    async def main() -> None:
        async with provider(0.4) as port:
            at = {"openai": {"protocol": "openai", "base_url": f"http://127.0.0.1:{port}", "api_key": "k"}}
            budgets = [
                {"tokens": 6000, "per": "total", "action": action, "name": "purse"},
                {"tokens": 10**9, "per": "total", "action": "audit", "name": "all", "by": ["model"]},
            ]
            more = {"admission": {"budgets": budgets}}
            async with serving(tmp_path, at, more, hurry) as killed:

                async def client(number: int) -> None:
                    await asyncio.sleep(number / 50)
                    with contextlib.suppress(ConnectionError, EOFError, ValueError, AssertionError):
                        while True:
                            await ask(killed.port, "POST", "/v1/chat/completions", body)

                clients = [asyncio.create_task(client(number)) for number in range(24)]
                await rows_until(tmp_path / "data", lambda rows: len(rows) > 24 and sum(row["outcome"] is None for row in rows) > 6)
                await killed.kill()
                for one in clients:
                    one.cancel()
                await asyncio.gather(*clients, return_exceptions=True)
            held = rows_in(tmp_path / "data", "budget_held")
            assert sum(row["held"] for row in held) > 0
            async with serving(tmp_path, at, more, hurry) as successor:
                await rows_until(tmp_path / "data", all_settled)
                await rows_until(tmp_path / "data", lambda rows: not any(row["held"] for row in rows), table="budget_held")
                assert await successor.stop() == 0, successor.stderr
                assert "Traceback" not in successor.stderr
        rows = rows_in(tmp_path / "data")
        crashed = [row for row in rows if row["outcome"] == "CRASHED"]
        assert crashed
        assert all(row["charged_input"] + row["charged_output"] > 0 for row in crashed)
        charged = sum((row["charged_input"] or 0) + (row["charged_output"] or 0) for row in rows)
        assert {row["budget"]: row["spent"] for row in rows_in(tmp_path / "data", "budget_spent")} == {"purse": charged, "all": charged}

    run(main())
