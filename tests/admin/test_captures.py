"""Captures are turned on and off through the admin plane, by who has the token, with orders that make sense."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.admin import AdminListener, Deps, make_app
from penstock.capture import CaptureSettings, Phase, Recorder

TOKEN = "t" * 43
BEARER = {"authorization": f"Bearer {TOKEN}"}


def nothing(*_: Any, **__: Any) -> Any:
    raise AssertionError("the ledger has nothing to do with it")


@asynccontextmanager
async def serving(recorder: Recorder | None) -> AsyncGenerator[httpx.AsyncClient]:
    deps = Deps("1", "i1", TOKEN, nothing, nothing, nothing, draining=lambda: False, ledger_failing=lambda: False, capture=recorder)
    listener = AdminListener("127.0.0.1", 0)
    port = await listener.start(make_app(deps))
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10) as client:
            yield client
    finally:
        await listener.stop()


def run(recorder: Recorder | None, test: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20), serving(recorder) as client:
            await test(client)

    asyncio.run(bounded())
    if recorder is not None:
        recorder.close()


def test_on_off_and_how_it_is(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, CaptureSettings(), routes=[("gpt-*", "openai")])

    async def test(client: httpx.AsyncClient) -> None:
        state = (await client.get("/api/capture", headers=BEARER)).json()
        assert (state["on"], state["order"], state["kept"]) == (False, None, 0)
        order = {"phases": ["upstream_response"], "count": 3, "route": "0", "seconds": 60}
        answer = await client.post("/api/capture", headers=BEARER, json=order)
        assert answer.status_code == 200
        assert recorder.active
        state = answer.json()
        assert (state["on"], state["left"]) == (True, 3)
        assert {key: value for key, value in state["order"].items() if value is not None} == order
        assert 0 < state["seconds_left"] <= 60
        assert (await client.get("/api/capture", headers=BEARER)).json()["on"] is True
        assert (await client.delete("/api/capture", headers=BEARER)).json()["on"] is False
        assert not recorder.active

    run(recorder, test)


@pytest.mark.parametrize("phases", [["all"], ["upstream_response", "all"]])
def test_all_phases_have_a_word(tmp_path: Path, phases: list[str]) -> None:
    recorder = Recorder(tmp_path, CaptureSettings())

    async def test(client: httpx.AsyncClient) -> None:
        answer = await client.post("/api/capture", headers=BEARER, json={"phases": phases})
        assert (answer.status_code, answer.json()["order"]["phases"]) == (200, list(Phase))

    run(recorder, test)


def test_nobody_without_the_token_turns_anything_on(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, CaptureSettings())

    async def test(client: httpx.AsyncClient) -> None:
        for method in ("GET", "POST", "DELETE"):
            for headers in ({}, {"authorization": "Bearer wrong"}):
                assert (await client.request(method, "/api/capture", headers=headers, content=b"{}")).status_code == 401
            foreign = await client.request(method, "/api/capture", headers={**BEARER, "host": "evil.test"}, content=b"{}")
            assert foreign.status_code == 403
        answer = await client.put("/api/capture", headers=BEARER)
        assert answer.status_code == 405
        assert {"GET", "POST", "DELETE"} <= set(answer.headers["allow"].split(", "))

    run(recorder, test)
    assert not recorder.active


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not understood"),
        (b"[]", "Expected `object`"),
        (b'{"phases":["everything"]}', "everything"),
        (b'{"phases":[]}', "no phase is named"),
        (b'{"phases":["all","everything"]}', "everything"),
        (b'{"phases":["all",{}]}', "phases"),
        (b'{"phases":"all"}', "Expected `array`"),
        (b"[" * 2000, "not understood"),
        (b'{"count":0}', "count takes"),
        (b'{"count":"3"}', "Expected `int`"),
        (b'{"colour":"blue"}', "colour"),
        (b'{"route":"mine"}', "no routes"),
        (b'{"model":"a["}', "never closed"),
    ],
)
def test_an_order_that_is_not_understood_is_told_and_changes_nothing(tmp_path: Path, body: bytes, words: str) -> None:
    recorder = Recorder(tmp_path, CaptureSettings())

    async def test(client: httpx.AsyncClient) -> None:
        answer = await client.post("/api/capture", headers=BEARER, content=body)
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "bad_request")
        assert words.lower() in answer.json()["error"]["message"].lower()

    run(recorder, test)
    assert not recorder.active


def test_an_order_without_end_is_not_held(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, CaptureSettings())

    async def test(client: httpx.AsyncClient) -> None:
        answer = await client.post("/api/capture", headers=BEARER, content=b"[" * 200_000)
        assert (answer.status_code, answer.json()["error"]["type"]) == (413, "too_large")

    run(recorder, test)


def test_a_gateway_without_captures_has_nothing_there() -> None:
    async def test(client: httpx.AsyncClient) -> None:
        assert (await client.post("/api/capture", headers=BEARER, content=b"{}")).status_code == 404

    run(None, test)
