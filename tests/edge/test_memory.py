"""Memory does not depend on how long a stream is, how large a frame, or how slow a client: a gateway process watched from outside."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httptools

from penstock.lab.scripted import LAST_CHUNK, SSE_HEAD, Handler, ScriptedServer, Visit, chunk, head
from tests.support.gateway import providers_at, run
from tests.support.http import request
from tests.support.process import Process, Row, all_settled, rows_until, serving

MIB = 1 << 20
QUESTION: dict[str, Any] = {"model": "m", "stream": True, "stream_options": {"include_usage": True}, "messages": []}
USAGE = {"prompt_tokens": 11, "completion_tokens": 22, "total_tokens": 33}
DONE = b"data: [DONE]\n\n"
PIECE = 256 * 1024
"""Bytes per write of a large frame."""


def frame(content: str, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    told = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-x", "choices": [choice]}
    return f"data: {json.dumps({**told, **more})}\n\n".encode()


def last_frames() -> bytes:
    return frame("", "stop") + frame("", choices=[], usage=USAGE) + DONE


class Drain(asyncio.Protocol):
    """A client that keeps only a hash of the body, its size, and how it ended."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()
        self.size = 0
        self.status = 0
        self.clean = False
        self.over = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.over.done():
            self.over.set_result(None)

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.hash.update(body)
        self.size += len(body)

    def on_message_complete(self) -> None:
        self.clean = True
        if not self.over.done():
            self.over.set_result(None)


async def drain(
    port: int, *, slow: asyncio.Event | None = None, body: Mapping[str, Any] = QUESTION, leave: asyncio.Event | None = None
) -> Drain:
    """Ask, and read everything. `slow`: read nothing until it is set. `leave`: do so when it is set."""
    transport, client = await asyncio.get_running_loop().create_connection(Drain, "127.0.0.1", port)
    if slow is not None:
        transport.pause_reading()
    transport.write(request("POST", "/v1/chat/completions", json.dumps(body).encode()))
    if slow is not None:
        await slow.wait()
        transport.resume_reading()
    async with asyncio.timeout(50):
        await (client.over if leave is None else leave.wait())
    transport.abort()
    return client


class Source:
    """A provider of one stream, which knows what it has sent."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()
        self.size = 0

    async def send(self, visit: Visit, data: bytes) -> None:
        self.hash.update(data)
        self.size += len(data)
        await visit.send(chunk(data))

    async def send_frame(self, visit: Visit, data: bytes) -> None:
        for at in range(0, len(data), PIECE):
            await self.send(visit, data[at : at + PIECE])


@asynccontextmanager
async def at_work(tmp_path: Path, handler: Handler, more: Mapping[str, Any] | None = None) -> AsyncGenerator[Process]:
    server = ScriptedServer(handler)
    port = await server.start()
    try:
        async with serving(tmp_path, providers_at(port), more, anew=True) as gateway:
            yield gateway
    finally:
        server.close()


async def settled(gateway: Process, count: int) -> list[Row]:
    rows = await rows_until(gateway.data_dir, lambda rows: len(rows) == count and all_settled(rows))
    return sorted(rows, key=lambda row: row["started_at"])


def test_a_stream_of_200_mb_leaves_memory_where_it_was(tmp_path: Path) -> None:
    total = 0
    sources: list[Source] = []

    async def talk(visit: Visit) -> None:
        sources.append(source := Source())
        await visit.send(SSE_HEAD)
        burst = frame("x" * 2000) * 32
        while source.size < total:
            await source.send(visit, burst)
        await source.send(visit, last_frames())
        await visit.send(LAST_CHUNK)

    async def main() -> None:
        nonlocal total
        async with at_work(tmp_path, talk) as gateway:
            total = 5 * MIB
            await drain(gateway.port)  # so that everything is loaded and warm
            before = gateway.resident()
            total = 200_000_000
            reading = asyncio.create_task(drain(gateway.port))
            most = 0
            while not reading.done():
                most = max(most, gateway.resident())
                await asyncio.sleep(0.05)
            client = await reading
            assert (client.size, client.hash.digest(), client.clean) == (sources[1].size, sources[1].hash.digest(), True)
            assert most - before < 8 * MIB
            assert gateway.resident() - before < 4 * MIB
            row = (await settled(gateway, 2))[1]
            assert (row["outcome"], row["input_tokens"], row["output_tokens"]) == ("COMPLETE", 11, 22)
            assert row["bytes_out"] == client.size

    run(main())


def test_a_client_that_does_not_read_holds_its_provider_up_and_nothing_else(tmp_path: Path) -> None:
    sources: list[Source] = []

    async def talk(visit: Visit) -> None:
        sources.append(source := Source())
        await visit.send(SSE_HEAD)
        burst = frame("x" * 2000) * 32
        while source.size < 60_000_000:
            await source.send(visit, burst)
        await source.send(visit, last_frames())
        await visit.send(LAST_CHUNK)

    async def main() -> None:
        async with at_work(tmp_path, talk) as gateway:
            go_on = asyncio.Event()
            before = gateway.resident()
            reading = asyncio.create_task(drain(gateway.port, slow=go_on))
            sent = -1
            async with asyncio.timeout(20):
                while not sources or sources[0].size != sent:
                    sent = sources[0].size if sources else -1
                    await asyncio.sleep(0.3)
            assert sent < 30_000_000, "somebody holds what the client has not read"
            assert gateway.resident() - before < 8 * MIB
            go_on.set()
            client = await reading
            assert (client.size, client.hash.digest(), client.clean) == (sources[0].size, sources[0].hash.digest(), True)
            [row] = await settled(gateway, 1)
            assert row["outcome"] == "COMPLETE"

    run(main())


def test_frames_below_and_above_the_limit(tmp_path: Path) -> None:
    size, clean = 0, True
    sources: list[Source] = []

    async def talk(visit: Visit) -> None:
        sources.append(source := Source())
        await visit.send(SSE_HEAD)
        await source.send_frame(visit, frame("x" * size, "stop", usage=USAGE))
        if clean:
            await source.send(visit, DONE)
            await visit.send(LAST_CHUNK)
        else:
            await visit.link.flush()
            visit.close()

    async def main() -> None:
        nonlocal size, clean
        async with at_work(tmp_path, talk) as gateway:
            before = gateway.resident()

            async def ask() -> None:
                client = await drain(gateway.port)
                assert (client.size, client.hash.digest()) == (sources[-1].size, sources[-1].hash.digest())
                assert client.clean is clean
                async with asyncio.timeout(10):
                    while gateway.resident() - before > 12 * MIB:  # noqa: ASYNC110
                        await asyncio.sleep(0.02)

            size = 60 * MIB
            await ask()
            size = 70 * MIB
            await ask()
            clean = False
            await ask()
            whole, beyond, broken = await settled(gateway, 3)
            assert (whole["outcome"], whole["input_tokens"], whole["output_tokens"], whole["stop_reason"]) == ("COMPLETE", 11, 22, "stop")
            assert (beyond["outcome"], beyond["usage_source"]) == ("UNVERIFIED", "none")
            assert (broken["outcome"], broken["usage_source"]) == ("UNVERIFIED", "none")

    run(main())


def test_whatever_was_held_is_given_back_however_it_ends(tmp_path: Path) -> None:
    """Three of five MiB are held when each of these comes to its end; one that kept its share would leave too little for the frame behind it."""
    held = b"data: " + b"x" * (3 * MIB)
    body = head(200, "content-type: application/json", "content-length: 4000000")

    leave = asyncio.Event()

    async def stay(visit: Visit) -> None:
        await asyncio.sleep(0.05)  # the gateway's kernel has it all; the gateway shall have it, too
        leave.set()
        await visit.left()

    async def reset(visit: Visit) -> None:
        await visit.reset()

    async def close(visit: Visit) -> None:
        await visit.link.flush()
        visit.close()

    async def finish(visit: Visit) -> None:
        await visit.send(LAST_CHUNK)

    async def overflow(visit: Visit) -> None:
        await visit.send(chunk(b"x" * (2 * MIB)) + LAST_CHUNK)

    async def garbage(visit: Visit) -> None:
        await visit.send(b"no chunk at all\r\n")
        await visit.left()

    ends: list[tuple[bool, Handler, str]] = [
        (True, stay, "CLIENT_GONE"), (True, reset, "UPSTREAM_LOST"), (True, close, "UPSTREAM_LOST"), (True, finish, "TRUNCATED"),
        (True, overflow, "UNVERIFIED"), (True, garbage, "UPSTREAM_LOST"), (False, stay, "CLIENT_GONE"), (False, reset, "UPSTREAM_LOST"),
        (False, close, "UPSTREAM_LOST"),
    ]  # fmt: skip
    turn = -1

    async def talk(visit: Visit) -> None:
        if turn < 0:
            data = frame("x" * (4 * MIB - 1000), "stop", usage=USAGE) + DONE
            await visit.send(SSE_HEAD + chunk(data) + LAST_CHUNK)
            return
        stream, end, _ = ends[turn]
        await visit.send(SSE_HEAD + chunk(frame("a") + held) if stream else body + b"{" + b" " * (3 * MIB))
        await visit.link.flush()
        await end(visit)

    async def main() -> None:
        nonlocal turn
        limits = {"limits": {"max_frame": "4MiB", "held_total": "5MiB"}, "dedup": "off"}  # (nobody joins a stream that its client left)
        async with at_work(tmp_path, talk, limits) as gateway:
            expected: list[str] = []
            for turn in range(len(ends)):
                stream, end, outcome = ends[turn]
                leave.clear()
                await drain(gateway.port, leave=leave if end is stay else None, body=QUESTION if stream else {"model": "m", "messages": []})
                turn = -1
                await drain(gateway.port)
                expected += [outcome, "COMPLETE"]
            rows = await settled(gateway, len(expected))
            assert [row["outcome"] for row in rows] == expected

    run(main())
