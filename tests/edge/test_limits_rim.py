"""The limits of the rim towards clients, over real sockets, with an exchange and a ledger behind it; times in milliseconds."""

from __future__ import annotations

import asyncio
import json
import select
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from penstock.exchange.front import Front
from penstock.lab.scripted import Do, Script, ScriptedServer, Sleep, Step, whole
from penstock.server.listener import Listener
from penstock.server.settings import Settings
from tests.support.gateway import Running, gateway, providers_at, run
from tests.support.http import Answer, read_answer, request

MESSAGES, FILES = "/v1/messages", "/openai/v1/files"
BODY = json.dumps({"model": "m", "max_tokens": 9, "messages": []}).encode()
PLAIN: list[Step] = [Do.READ, whole(b'{"id":"msg_1","type":"message","role":"assistant","content":[],"stop_reason":"end_turn"}')]
LATE = 0.25
"""Seconds that a limit may be late by."""
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class House:
    def __init__(self, running: Running, upstream: ScriptedServer, provider: int, listener: Listener, path: str | None) -> None:
        self.running, self.upstream, self.provider, self.listener, self._path = running, upstream, provider, listener, path

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[Streams]:
        opened = asyncio.open_unix_connection(self._path) if self._path else asyncio.open_connection("127.0.0.1", self.listener.port)
        reader, writer = await opened
        try:
            async with asyncio.timeout(20):
                yield reader, writer
        finally:
            writer.close()

    async def only_row(self) -> dict[str, Any]:
        (row,) = await self.running.rows()
        return row


def in_house(*scripts: Script, unix: bool = False, **limits: Any) -> Callable[[Callable[[House], Awaitable[None]]], Callable[[Path], None]]:
    """The test gets a gateway with one more listener, which has `limits`."""

    def decorate(test: Callable[[House], Awaitable[None]]) -> Callable[[Path], None]:
        def inside(tmp_path: Path) -> None:
            async def main() -> None:
                upstream = ScriptedServer(*(scripts or (PLAIN,)))
                port = await upstream.start()
                path = str(tmp_path / "p.sock") if unix else None
                try:
                    async with gateway(tmp_path, providers_at(port), {}) as running:
                        front = Front(running.app.gateway)
                        listener = Listener(front, Settings(port=0, socket_path=path, refusal=front.refuse, **limits))
                        await listener.start()
                        try:
                            await test(House(running, upstream, port, listener, path))
                        finally:
                            listener.close()
                finally:
                    upstream.close()

            run(main())

        inside.__name__, inside.__doc__ = test.__name__, test.__doc__  # pyright: ignore[reportAttributeAccessIssue]
        return inside

    return decorate


async def seconds(waiting: Awaitable[Any]) -> tuple[Any, float]:
    loop = asyncio.get_running_loop()
    began = loop.time()
    return await waiting, loop.time() - began


def is_anthropic(answer: Answer, status: int) -> None:
    assert answer.status == status
    assert answer.json()["type"] == "error"
    assert answer.header("connection") == "close"


@in_house(head_seconds=0.1)
async def test_a_head_that_trickles(house: House) -> None:
    """A byte now and then is not enough: the head must be whole."""

    async def trickle(writer: asyncio.StreamWriter) -> None:
        for _ in range(1000):
            writer.write(b"a")
            await asyncio.sleep(0.01)

    async with house.client() as (reader, writer):
        writer.write(request("POST", MESSAGES, BODY)[:60] + b"\r\nX-Long: ")
        slowly = asyncio.create_task(trickle(writer), name="trickle")
        answer, waited = await seconds(read_answer(reader))
        slowly.cancel()
        is_anthropic(answer, 408)
        assert 0.1 <= waited <= 0.1 + LATE
        assert await reader.read() == b"", "and no more: the connection is closed"
    row = await house.only_row()
    assert (row["status"], row["outcome"], row["path"]) == (408, "REFUSED", MESSAGES)
    assert row["ended_by"] == "gateway"


@in_house(head_seconds=0.3)
async def test_a_head_in_time(house: House) -> None:
    async with house.client() as (reader, writer):
        data = request("POST", MESSAGES, BODY)
        for at in range(0, len(data), len(data) // 4 + 1):
            writer.write(data[at : at + len(data) // 4 + 1])
            await asyncio.sleep(0.02)
        assert (await read_answer(reader)).status == 200


@in_house(idle_seconds=0.1)
async def test_a_kept_connection_is_closed_without_a_word(house: House) -> None:
    async with house.client() as (reader, writer):
        for _ in range(3):
            writer.write(request("POST", MESSAGES, BODY))
            assert (await read_answer(reader)).status == 200
        rest, waited = await seconds(reader.read())
        assert rest == b""
        assert 0.1 <= waited <= 0.1 + LATE
    async with house.client() as (reader, writer):
        rest, waited = await seconds(reader.read())
        assert rest == b"", "nor has one that never asked"
        assert 0.1 <= waited <= 0.1 + LATE
    assert len(await house.running.rows()) == 3, "nobody was refused"


@in_house(body_seconds=0.1)
async def test_a_body_that_is_read_and_stops(house: House) -> None:
    async with house.client() as (reader, writer):
        writer.write(request("POST", MESSAGES, BODY)[:-7])
        answer, waited = await seconds(read_answer(reader))
        is_anthropic(answer, 408)
        assert 0.1 <= waited <= 0.1 + LATE
    assert house.upstream.log == []
    row = await house.only_row()
    assert (row["status"], row["outcome"]) == (408, "REFUSED")
    assert "body" in row["cause"]


@in_house([Do.READ, whole(b"{}")], body_seconds=0.1)
async def test_a_body_that_is_passed_on_and_stops(house: House) -> None:
    async with house.client() as (reader, writer):
        writer.write(request("POST", FILES, b"x" * 100_000)[:-7])
        answer, waited = await seconds(read_answer(reader))
        assert answer.status == 408
        assert answer.json()["error"]["message"].startswith("Nothing came of the request's body")
        assert waited >= 0.1
    row = await house.only_row()
    assert (row["status"], row["outcome"]) == (408, "REFUSED")
    async with asyncio.timeout(5):
        while not house.upstream.log or house.upstream.log[0].lost_at is None:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@in_house(body_seconds=0.1)
async def test_a_provider_that_does_not_read_is_not_the_clients_fault(house: House) -> None:
    size = 24 << 20

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.6)
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(size)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    house.upstream.close()
    provider = await asyncio.start_server(slow, "127.0.0.1", house.provider, limit=1 << 16)
    try:
        async with house.client() as (reader, writer):
            writer.write(request("POST", FILES, b"x" * size))
            assert (await read_answer(reader)).status == 200
        assert (await house.only_row())["outcome"] == "COMPLETE"
    finally:
        provider.close()


@pytest.mark.skipif(not hasattr(select, "POLLRDHUP"), reason="only Linux tells")
@pytest.mark.parametrize("abrupt", [True, False])
def test_who_leaves_while_its_body_is_not_read_is_seen(tmp_path: Path, abrupt: bool) -> None:
    @in_house(body_seconds=0.1)
    async def test(house: House) -> None:
        size = 1 << 30

        async def deaf(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.pause_reading()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
            await asyncio.sleep(5)

        house.upstream.close()
        provider = await asyncio.start_server(deaf, "127.0.0.1", house.provider, limit=1 << 16)
        try:
            async with house.client() as (_, writer):
                sent = request("POST", FILES, None, {"content-length": str(size)})
                held = 0
                while held < 10:  # so that what it still has to send fits between the two
                    writer.write(sent)
                    await asyncio.sleep(0.01)
                    held = held + 1 if any(c._held for c in house.listener.connections) else 0  # pyright: ignore[reportPrivateUsage]
                    sent = b"x" if held else b"x" * 262_144
                (writer.transport.abort if abrupt else writer.close)()
            async with asyncio.timeout(4):
                assert (await house.only_row())["outcome"] == "CLIENT_GONE"
            assert not house.listener.connections
        finally:
            provider.close()

    test(tmp_path)


@in_house(client_connections=2)
async def test_one_connection_too_many(house: House) -> None:
    async with house.client() as (one, write_one), house.client() as (two, write_two), house.client() as (three, write_three):
        for writer in (write_one, write_two, write_three):
            writer.write(request("POST", MESSAGES, BODY))
        assert [(await read_answer(reader)).status for reader in (one, two)] == [200, 200]
        answer = await read_answer(three)
        is_anthropic(answer, 503)
        assert answer.header("retry-after") == "1"
        assert await three.read() == b""
    rows = await house.running.rows()
    assert sorted((row["status"], row["outcome"]) for row in rows) == [(200, "COMPLETE"), (200, "COMPLETE"), (503, "REFUSED")]
    while house.listener.connections:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    async with house.client() as (reader, writer):
        writer.write(request("POST", MESSAGES, BODY))
        assert (await read_answer(reader)).status == 200, "those who have left make room"


@in_house(client_connections=1)
async def test_one_connection_too_many_that_asks_without_a_body(house: House) -> None:
    async with house.client():
        for method, path in (("GET", "/health"), ("GET", "/v1/models"), ("HEAD", "/v1/models"), ("OPTIONS", "/v1/messages")):
            async with house.client() as (reader, writer):
                writer.write(request(method, path) * 2)
                assert (await read_answer(reader, method)).status == 503
                assert await reader.read() == b""
            while len(house.listener.connections) > 1:  # noqa: ASYNC110
                await asyncio.sleep(0.001)


@in_house(client_connections=1)
async def test_a_flood_of_connections(house: House) -> None:
    async with house.client(), house.client(), house.client() as (reader, _):
        try:
            rest = await reader.read()
        except ConnectionResetError:
            rest = b""
        assert rest == b""
    assert await house.running.rows() == []


@in_house(unix=True, client_connections=1)
async def test_unix_sockets_have_no_such_limit(house: House) -> None:
    async with house.client() as one, house.client() as two, house.client() as three:
        for reader, writer in (one, two, three):
            writer.write(request("POST", MESSAGES, BODY))
            assert (await read_answer(reader)).status == 200


@in_house(unix=True, head_seconds=0.1)
async def test_a_slow_head_on_a_unix_socket(house: House) -> None:
    async with house.client() as (reader, writer):
        writer.write(b"POST /v1/messages HTTP/1.1\r\n")
        is_anthropic(await read_answer(reader), 408)


@in_house([Do.READ, Sleep(0.5), PLAIN[-1]], head_seconds=0.1, body_seconds=0.1, idle_seconds=0.1)
async def test_a_slow_answer_is_no_slow_client(house: House) -> None:
    async with house.client() as (reader, writer):
        writer.write(request("POST", MESSAGES, BODY))
        assert (await read_answer(reader)).status == 200


def test_the_built_in_model_has_the_top_s_limit_of_streams(tmp_path: Path) -> None:
    body = json.dumps({"model": "demo", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}).encode()

    async def main() -> None:
        async with gateway(tmp_path, providers_at(1), {"max_streams": 1}) as running:
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            writer.write(request("POST", "/v1/chat/completions", body=body))
            await reader.readuntil(b"\r\n\r\n")
            other, second = await asyncio.open_connection("127.0.0.1", running.port)
            second.write(request("POST", "/v1/chat/completions", body=body))
            answer = await read_answer(other)
            assert answer.status == 503
            writer.close()
            second.close()

    run(main())
