"""A client that leaves, at every place where it can: CLIENT_GONE with what was known by then, and the provider's connection closed at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from penstock.lab.http1 import Asked
from penstock.lab.scripted import SSE_HEAD, Do, ScriptedServer, Steps, chunk, head
from tests.support.gateway import providers_at, run
from tests.support.http import request
from tests.support.process import Process, Row, all_settled, rows_until, serving
from tests.support.storm import leave

AT_ONCE_S = 2.0
"""Less than any timer that could do the same, and more than a busy machine takes. How quick it is: `test_under_fire`."""
MESSAGE: dict[str, Any] = {
    "type": "message_start",
    "message": {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": [], "stop_reason": None,
                "usage": {"input_tokens": 25, "cache_read_input_tokens": 7, "output_tokens": 1}},
}  # fmt: skip
TEXT = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}}
STOPPED = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 12}}
CHAT = {
    "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-x",
    "choices": [{"index": 0, "delta": {"content": "Hello"}, "finish_reason": None}],
}  # fmt: skip
GEMINI = {
    "candidates": [{"content": {"parts": [{"text": "Hello"}], "role": "model"}, "index": 0}],
    "usageMetadata": {"promptTokenCount": 4, "totalTokenCount": 4}, "modelVersion": "gemini-x", "responseId": "r1",
}  # fmt: skip
RESPONSE: dict[str, Any] = {
    "type": "response.created",
    "response": {"id": "resp_1", "object": "response", "model": "gpt-x", "status": "in_progress", "output": [], "usage": None},
}


def frame(data: Any) -> bytes:
    name = f"event: {data['type']}\n" if "type" in data else ""
    return f"{name}data: {json.dumps(data)}\n\n".encode()


BODY = json.dumps({"id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-x", "choices": [], "usage": {"prompt_tokens": 3}}).encode()
ASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"model": "m", "stream": True, "messages": []}),
    "responses": ("/v1/responses", {"model": "m", "stream": True, "input": "x"}),
    "messages": ("/v1/messages", {"model": "m", "stream": True, "max_tokens": 9, "messages": []}),
    "gemini": ("/v1beta/models/m:streamGenerateContent?alt=sse", {"contents": []}),
    "body": ("/v1/chat/completions", {"model": "m", "messages": []}),
}


@dataclass(frozen=True)
class Scene:
    """What the provider sends before it waits, how much of it reaches the client, and what the row must say besides CLIENT_GONE."""

    asks: str
    says: Steps
    seen: bytes
    """What the client waits for before it leaves; empty: until the provider has the request."""
    row: dict[str, Any]


NOTHING = {"usage_source": "none", "input_tokens": None, "output_tokens": None, "stop_reason": None}
KNOWN = {"usage_source": "partial", "input_tokens": 25, "cache_read_tokens": 7, "output_tokens": 1, "response_id": "msg_1", "model": "claude-x"}
SCENES = {
    "before the head": Scene("chat", [], b"", {**NOTHING, "status": None}),
    "inside the head": Scene("messages", [SSE_HEAD[:40]], b"", {**NOTHING, "status": None}),
    "behind the head": Scene("gemini", [SSE_HEAD], b"", {**NOTHING, "status": None, "upstream_status": 200}),
    "inside the first frame": Scene("messages", [SSE_HEAD, chunk(frame(MESSAGE)[:50])], b"", NOTHING),
    "chat, midway": Scene("chat", [SSE_HEAD, chunk(frame(CHAT))], b"Hello", {**NOTHING, "model": "gpt-x", "events": 1}),
    "responses, midway": Scene("responses", [SSE_HEAD, chunk(frame(RESPONSE))], b"resp_1", {**NOTHING, "response_id": "resp_1"}),
    "gemini, midway": Scene(
        "gemini", [SSE_HEAD, chunk(frame(GEMINI))], b"Hello", {"usage_source": "partial", "input_tokens": 4, "output_tokens": None}),
    "messages, after its start": Scene("messages", [SSE_HEAD, chunk(frame(MESSAGE))], b"msg_1", {**KNOWN, "stop_reason": None}),
    "messages, inside a frame": Scene("messages", [SSE_HEAD, chunk(frame(MESSAGE) + frame(TEXT)[:20])], b"msg_1", KNOWN),
    "messages, before its last frame": Scene(
        "messages", [SSE_HEAD, chunk(frame(MESSAGE) + frame(TEXT) + frame(STOPPED))], b"end_turn",
        {**KNOWN, "output_tokens": 12, "usage_source": "reported", "stop_reason": "end_turn"}),
    "inside a JSON body": Scene(
        "body", [head(200, "content-type: application/json", f"content-length: {len(BODY)}"), BODY[:60]], b"chatcmpl-1", NOTHING),
    "inside an error's body": Scene(
        "body", [head(429, "content-type: application/json", "content-length: 99"), b'{"error":{"mess'], b"",
        {"status": None, "upstream_status": 429}),
}  # fmt: skip


@asynccontextmanager
async def waiting(tmp_path: Path) -> AsyncGenerator[tuple[Process, ScriptedServer]]:
    server = ScriptedServer([Do.WAIT_FOR_CLIENT])
    port = await server.start()
    try:
        async with serving(tmp_path, providers_at(port), {"dedup": False}) as gateway:  # no retry is waited for
            yield gateway, server
    finally:
        server.close()


async def leave_midway(gateway: Process, server: ScriptedServer, scene: Scene, *, abrupt: bool) -> Asked:
    """Ask, wait for what is to be seen, leave; the request as the provider had it, whose connection was closed by then."""
    server.scripts[-1] = [Do.READ, *scene.says, Do.WAIT_FOR_CLIENT]
    path, body = ASKS[scene.asks]
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    number = server.requests + 1
    writer.write(request("POST", path, json.dumps(body).encode()))
    asked = await server.asked(number)
    await asked.arrived.wait()
    seen = b""
    async with asyncio.timeout(10):
        while scene.seen not in seen:
            piece = await reader.read(65536)
            assert piece, seen
            seen += piece
    if not scene.seen:
        await asyncio.sleep(0.01)  # what the provider has said shall be with the gateway
    left_at = asyncio.get_running_loop().time()
    leave(writer, abrupt=abrupt)
    async with asyncio.timeout(5):
        await asked.over.wait()
    assert asked.lost_at is not None
    assert asked.lost_at - left_at < AT_ONCE_S
    return asked


@pytest.mark.parametrize("abrupt", [False, True], ids=["FIN", "RST"])
def test_each_place_to_leave_at(tmp_path: Path, abrupt: bool) -> None:
    async def main() -> None:
        async with waiting(tmp_path) as (gateway, server):
            for _ in range(2):
                for scene in SCENES.values():
                    await leave_midway(gateway, server, scene, abrupt=abrupt)
            assert await gateway.stop() == 0
            rows = sorted(await rows_until(gateway.data_dir, all_settled), key=lambda row: row["started_at"])
            assert len(rows) == 2 * len(SCENES)
            for row, (name, scene) in zip(rows, [*SCENES.items(), *SCENES.items()], strict=True):
                check_gone(row, name)
                assert {column: row[column] for column in scene.row} == scene.row, name

    run(main())


def check_gone(row: Row, name: str) -> None:
    assert (row["outcome"], row["ended_by"], row["late_settles"]) == ("CLIENT_GONE", "client", 0), (name, row["cause"])


def test_one_that_only_closes_its_sending_side_is_gone_as_well(tmp_path: Path) -> None:
    async def main() -> None:
        async with waiting(tmp_path) as (gateway, server):
            server.scripts[-1] = [Do.READ, SSE_HEAD, chunk(frame(MESSAGE)), Do.WAIT_FOR_CLIENT]
            path, body = ASKS["messages"]
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(request("POST", path, json.dumps(body).encode()))
            await reader.readuntil(b"msg_1")
            left_at = asyncio.get_running_loop().time()
            writer.write_eof()
            asked = await server.asked(1)
            async with asyncio.timeout(5):
                await asked.over.wait()
            assert asked.lost_at is not None
            assert asked.lost_at - left_at < AT_ONCE_S
            writer.close()
            [row] = await rows_until(gateway.data_dir, lambda rows: len(rows) == 1 and all_settled(rows))
            check_gone(row, "half-close")
            assert row["input_tokens"] == 25

    run(main())


def test_one_that_leaves_inside_its_own_request_asks_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        async with waiting(tmp_path) as (gateway, server):
            path, body = ASKS["chat"]
            whole = request("POST", path, json.dumps(body).encode())
            _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(whole[:-10])
            await asyncio.sleep(0.05)
            leave(writer, abrupt=False)
            [row] = await rows_until(gateway.data_dir, lambda rows: len(rows) == 1 and all_settled(rows))
            check_gone(row, "inside its request")
            assert row["provider"] is None
            assert server.requests == 0

    run(main())
