"""The rim towards clients, in a whole gateway and over real sockets: who leaves, who is slow, who sends what no client should."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import struct
import tracemalloc
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from penstock.lab.http1 import Asked
from penstock.lab.scripted import LAST_CHUNK, SSE_HEAD, Do, Script, ScriptedServer, Visit, chunk, head, whole
from tests.support.gateway import Running, gateway, providers_at, run
from tests.support.http import Answer, read_answer, request

CHAT = "/v1/chat/completions"
BODY = json.dumps({"model": "m", "stream": True, "stream_options": {"include_usage": True}, "messages": []}).encode()
DELTA = b'data: {"id":"c1","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}\n\n'
STOP = b'data: {"id":"c1","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
STREAM: Script = [Do.READ, SSE_HEAD, chunk(DELTA), chunk(STOP + DONE), LAST_CHUNK]
LONG_BODY = b'{"id":"m","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"%b"}],"stop_reason":"end_turn",' % (
    b"x" * 400_000) + b'"stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}'
PLAIN: Script = [Do.READ, whole(b'{"id":"c1","object":"chat.completion","model":"m","choices":[],"usage":null}')]


async def begin(visit: Visit) -> None:
    """A stream that begins and does not go on until the peer leaves."""
    await visit.body()
    await visit.send(SSE_HEAD + chunk(DELTA))
    await visit.left()


@dataclass
class House:
    running: Running
    upstream: ScriptedServer

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.running.port, limit=1 << 26)
        try:
            async with asyncio.timeout(20):
                yield reader, writer
        finally:
            writer.close()


def in_house(*scripts: Script, **config: Any) -> Callable[[Callable[[House], Awaitable[None]]], Callable[[Path], None]]:
    """The test gets a gateway whose providers all play `scripts`."""

    def decorate(test: Callable[[House], Awaitable[None]]) -> Callable[[Path], None]:
        def inside(tmp_path: Path) -> None:
            async def main() -> None:
                upstream = ScriptedServer(*(scripts or (PLAIN,)))
                port = await upstream.start()
                try:
                    async with gateway(tmp_path, providers_at(port), config) as running:
                        await test(House(running, upstream))
                finally:
                    upstream.close()

            run(main())

        inside.__name__, inside.__doc__ = test.__name__, test.__doc__  # pyright: ignore[reportAttributeAccessIssue]
        return inside

    return decorate


def close(writer: asyncio.StreamWriter) -> None:
    writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def soon(what: Callable[[], Any], seconds: float = 5.0) -> float:
    """Wait until `what` is true; how long that took, in seconds."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(seconds):
        while not what():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    return loop.time() - began


def lost(asked: Asked) -> bool:
    return asked.lost_at is not None


# -- requests ------------------------------------------------------------------------------------------------------------------------------


@in_house(PLAIN, STREAM, PLAIN)
async def test_one_connection_for_many_requests(house: House) -> None:
    async with house.client() as (reader, writer):
        for path in (CHAT, CHAT, CHAT, "/health", "/nowhere", CHAT):
            writer.write(request("GET" if path == "/health" else "POST", path, None if path == "/health" else BODY))
            answer = await read_answer(reader)
            assert answer.clean
            assert answer.status == (404 if path == "/nowhere" else 200)
            assert answer.header("connection") is None
        writer.write(request("OPTIONS", CHAT))
        answer = await read_answer(reader)
        assert (answer.status, answer.header("connection")) == (204, None)
        writer.write(request("HEAD", "/health"))
        answer = await read_answer(reader, "HEAD")
        assert (answer.status, answer.body, int(answer.header("content-length") or 0) > 0) == (200, b"", True)
        writer.write(request("GET", "/health"))
        assert (await read_answer(reader)).json()["status"] == "ok"
    assert len(house.running.app.listener.connections) <= 1


@in_house(STREAM, PLAIN, PLAIN)
async def test_pipelined_requests(house: House) -> None:
    second = request("POST", CHAT, BODY.replace(b'"stream": true', b'"stream": false'))
    async with house.client() as (reader, writer):
        writer.write(request("POST", CHAT, BODY) + second[:-20])
        first = await read_answer(reader)
        writer.write(second[-20:] + request("GET", "/health") + request("POST", CHAT, BODY))
        rest = [await read_answer(reader) for _ in range(3)]
    assert first.body == DELTA + STOP + DONE
    assert [a.status for a in rest] == [200] * 3
    assert "status" in rest[1].json()
    assert house.upstream.log[1].body == BODY.replace(b'"stream": true', b'"stream": false')
    assert len(await house.running.rows()) == 3


@in_house(PLAIN)
async def test_byte_by_byte(house: House) -> None:
    async with house.client() as (reader, writer):
        writer.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request("POST", CHAT, BODY):
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert (await read_answer(reader)).status == 200
    assert house.upstream.log[0].body == BODY


@in_house(PLAIN)
async def test_an_upgrade_is_offered_with_a_body(house: House) -> None:
    upgrade = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "AAMAAABkAAQAoAAAAAIAAAAA"}
    async with house.client() as (reader, writer):
        writer.write(request("POST", CHAT, BODY, upgrade) + request("GET", "/health"))
        assert (await read_answer(reader)).status == 200
        assert (await read_answer(reader)).json() == {"status": "ok"}
    assert house.upstream.log[0].body == BODY
    assert house.upstream.log[0].header("upgrade") is None


@pytest.mark.parametrize("data", [
    b"GARBAGE\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,
    b"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 300_000,
])
def test_garbage_is_answered_once_and_asks_nobody(tmp_path: Path, data: bytes) -> None:
    @in_house(PLAIN)
    async def test(house: House) -> None:
        async with house.client() as (reader, writer):
            writer.write(data)
            answer = await read_answer(reader)
            assert answer.status in (400, 431)
            assert answer.clean
            assert answer.header("connection") == "close"
            assert "error" in answer.json()
            if b"/v1/messages" in data:
                assert answer.json()["type"] == "error"
            assert await reader.read() == b""
        assert house.upstream.log == []
        await soon(lambda: not house.running.app.listener.connections)

    test(tmp_path)


@in_house(PLAIN)
async def test_the_host_that_counts_is_the_one_in_the_target(house: House) -> None:
    async with house.client() as (reader, writer):
        for target, host, status in (
            ("", "127.0.0.1", 200), ("", "evil.example", 403), ("http://evil.example", "127.0.0.1", 403), ("http://localhost:1", "evil.example", 200),
        ):
            writer.write(request("POST", target + CHAT, BODY, {"host": host}))
            answer = await read_answer(reader)
            assert (answer.status, answer.clean) == (status, True), (target, host)


@in_house(PLAIN, token="sesame")
async def test_the_token(house: House) -> None:
    async with house.client() as (reader, writer):
        for value, status in (("", 401), ("Bearer wrong", 401), ("Bearer sesame", 200)):
            writer.write(request("POST", CHAT, BODY, {"authorization": value}))
            answer = await read_answer(reader)
            assert (answer.status, answer.clean, answer.header("connection")) == (status, True, None)
    assert all("sesame" not in str(asked.headers) for asked in house.upstream.log)


@in_house(PLAIN, STREAM)
async def test_http_1_0(house: House) -> None:
    async with house.client() as (reader, writer):
        writer.write(request("POST", CHAT, BODY, {"connection": "keep-alive"}).replace(b"HTTP/1.1", b"HTTP/1.0"))
        answer = await read_answer(reader)
        assert (answer.status, answer.clean, answer.header("connection")) == (200, True, "keep-alive")
        writer.write(request("POST", CHAT, BODY, {"connection": "keep-alive"}).replace(b"HTTP/1.1", b"HTTP/1.0"))
        answer = await read_answer(reader)
        assert answer.header("transfer-encoding") is None
        assert answer.header("connection") == "close"
        assert answer.body == DELTA + STOP + DONE


@in_house(PLAIN)
async def test_expect_100_continue(house: House) -> None:
    async with house.client() as (reader, writer):
        data = request("POST", CHAT, BODY, {"expect": "100-continue"})
        writer.write(data[: -len(BODY)])
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(BODY)
        assert (await read_answer(reader)).status == 200
        writer.write(request("POST", CHAT, BODY)[: -len(BODY)].replace(b"content-length", b"expect: 100-continue\r\ncontent-length: 900000000\r\nx"))
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 413")  # and nobody is asked to send 900 MB


# -- leaving -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["fin", "half", "reset"])
@pytest.mark.parametrize("when", ["waiting", "streaming"])
def test_a_client_that_leaves_takes_the_upstream_with_it(tmp_path: Path, how: str, when: str) -> None:
    @in_house(begin if when == "streaming" else [Do.READ, Do.WAIT_FOR_CLIENT], dedup="off")  # no retry is waited for
    async def test(house: House) -> None:
        async with house.client() as (reader, writer):
            writer.write(request("POST", CHAT, BODY))
            asked = await house.upstream.asked(1)
            if when == "streaming":
                await reader.readuntil(DELTA)
            if how == "half":
                writer.write_eof()
            elif how == "fin":
                writer.close()
            else:
                reset(writer)
            assert await soon(lambda: lost(asked)) < 0.1
        (row,) = await house.running.rows()
        assert (row["outcome"], row["bytes_out"]) == ("CLIENT_GONE", len(DELTA) if when == "streaming" else None)
        await soon(lambda: not house.running.app.listener.connections)

    test(tmp_path)


@in_house(PLAIN)
async def test_a_client_that_leaves_inside_its_request(house: House) -> None:
    for how in (reset, close):
        async with house.client() as (_, writer):
            writer.write(request("POST", CHAT, BODY)[:-5])
            await soon(lambda: house.running.app.gateway.live)
            how(writer)
            await soon(lambda: not house.running.app.listener.connections)
    rows = await house.running.rows()
    assert [row["outcome"] for row in rows] == ["CLIENT_GONE"] * 2
    assert house.upstream.log == []
    assert house.running.app.gateway.peeked.used == 0


@in_house([Do.READ, SSE_HEAD, chunk(DELTA), chunk(STOP + DONE), Do.WAIT_FOR_CLIENT])
async def test_a_client_that_leaves_behind_the_terminal_event(house: House) -> None:
    async with house.client() as (reader, writer):
        writer.write(request("POST", CHAT, BODY))
        await reader.readuntil(DONE)
        reset(writer)
        assert await soon(lambda: lost(house.upstream.log[0])) < 0.1
    assert [row["outcome"] for row in await house.running.rows()] == ["COMPLETE"]


@in_house(begin, dedup="off")
async def test_a_stalled_client_that_closes_its_side_is_gone(house: House) -> None:
    """What it has not read would keep the connection open."""
    pieces = chunk(DELTA * 500)

    async def pour(visit: Visit) -> None:
        await visit.send(SSE_HEAD)
        while True:
            await visit.send(pieces)

    house.upstream.scripts = [pour]
    async with house.client() as (reader, writer):
        reader._transport.pause_reading()  # type: ignore[attr-defined]  # pyright: ignore
        writer.write(request("POST", CHAT, BODY))
        asked = await house.upstream.asked(1)
        await stalled(house)
        writer.write_eof()
        assert await soon(lambda: lost(asked)) < 0.1
        assert not house.running.app.listener.connections or await soon(lambda: not house.running.app.listener.connections) < 0.1


async def stalled(house: House) -> None:
    """Wait until the gateway takes nothing more from the provider."""
    link = next(iter(house.upstream.links))
    quiet = 0
    async with asyncio.timeout(10):
        while quiet < 10:
            before = link._transport.get_write_buffer_size()  # type: ignore[union-attr]  # pyright: ignore
            await asyncio.sleep(0.02)
            quiet = quiet + 1 if before and before == link._transport.get_write_buffer_size() else 0  # type: ignore[union-attr]  # pyright: ignore


# -- slow readers --------------------------------------------------------------------------------------------------------------------------


PICTURE = DELTA.replace(b"hi", b"x" * 16_000_000)


async def picture(visit: Visit) -> None:
    """A frame of 16 MB, as image models send them, and more of the stream only later."""
    await visit.body()
    await visit.send(SSE_HEAD + chunk(PICTURE))
    await asyncio.sleep(1.5)
    await visit.send(chunk(STOP + DONE) + LAST_CHUNK)


@in_house(picture, timers={"client_stall": "400ms"})
async def test_a_large_frame_may_be_taken_for_longer_than_a_client_may_take_nothing(house: House) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", house.running.port))
        await loop.sock_sendall(sock, request("POST", CHAT, BODY))
        got, tail, began = 0, b"", loop.time()
        async with asyncio.timeout(60):
            while not tail.endswith(LAST_CHUNK) and (piece := await loop.sock_recv(sock, 300_000)):
                got, tail = got + len(piece), (tail + piece)[-200:]
                await asyncio.sleep(0.02)
    assert got > len(PICTURE), "it was given up"
    assert tail.endswith(LAST_CHUNK)
    assert loop.time() - began > 1.0, "slowly"
    assert (await house.running.last_row())["outcome"] == "COMPLETE"


@in_house(begin)
async def test_a_slow_reader_pauses_the_upstream_and_gets_every_byte(house: House) -> None:
    total = 60 << 20
    piece = DELTA * 400
    sent = 0

    async def pour(visit: Visit) -> None:
        nonlocal sent
        await visit.body()
        await visit.send(SSE_HEAD)
        while sent < total:
            await visit.send(chunk(piece))
            sent += len(piece)
        await visit.send(chunk(STOP + DONE) + LAST_CHUNK)

    house.upstream.scripts = [pour]
    async with house.client() as (reader, writer):
        reader._transport.pause_reading()  # type: ignore[attr-defined]  # pyright: ignore
        writer.write(request("POST", CHAT, BODY))
        await house.upstream.asked(1)
        tracemalloc.start()
        try:
            await stalled(house)
            gc.collect()
            held = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert sent < total // 2  # the rest is with the provider, or in the kernel's buffers
        assert held < 3 << 20
        reader._transport.resume_reading()  # type: ignore[attr-defined]  # pyright: ignore
        await reader.readuntil(b"\r\n\r\n")
        got = 0
        while size := int(await reader.readuntil(b"\r\n"), 16):
            got += len(await reader.readexactly(size + 2)) - 2
        assert got == sent + len(STOP + DONE)
    (row,) = await house.running.rows()
    assert (row["outcome"], row["bytes_out"]) == ("COMPLETE", got)


@in_house([Do.READ, whole(LONG_BODY)], anthropic_stream_mode="force")
async def test_who_reads_nothing_for_a_while_gets_the_rest_of_an_answer_behind_which_its_connection_closes(house: House) -> None:
    """By `force` a body leaves in one piece, and the exchange has ended with it."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.setblocking(False)
    await asyncio.get_running_loop().sock_connect(narrow, ("127.0.0.1", house.running.port))
    reader, writer = await asyncio.open_connection(sock=narrow, limit=4096)
    async with asyncio.timeout(20):
        writer.write(request("POST", "/v1/messages", b'{"model":"m","max_tokens":9,"messages":[]}', {"connection": "close"}))
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(2.5)
        told = b""
        while piece := await reader.read(65536):
            told += piece
    assert told == LONG_BODY
    writer.close()


@in_house()
async def test_pipelining_without_reading_does_not_pile_up(house: House) -> None:
    async with house.client() as (reader, writer):
        reader._transport.pause_reading()  # type: ignore[attr-defined]  # pyright: ignore
        await soon(lambda: house.running.app.listener.connections)
        (connection,) = house.running.app.listener.connections
        many = request("GET", "/health") * 1000
        for _ in range(200):
            writer.write(many)
            await asyncio.sleep(0.001)
            transport = connection._transport  # pyright: ignore[reportPrivateUsage]
            assert transport is None or transport.get_write_buffer_size() < 1 << 18
            if connection.busy:
                break
        else:
            pytest.fail("it was read and answered without end")


# -- early and broken answers ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["here", "provider"])
def test_an_early_answer_is_seen_while_the_upload_goes_on(tmp_path: Path, where: str) -> None:
    @in_house([whole(b'{"error":{"message":"too large"}}', 413, "connection: close"), Do.FLUSH, Do.CLOSE])
    async def test(house: House) -> None:
        loop = asyncio.get_running_loop()
        size = 90 << 20
        start = request("POST", "/v1/files" if where == "provider" else CHAT, b"", {"content-type": "application/octet-stream"})
        start = start.replace(b"content-length: 0", b"content-length: %d" % size)
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", house.running.port))
            await loop.sock_sendall(sock, start)

            async def upload() -> None:
                for _ in range(size >> 16):
                    await loop.sock_sendall(sock, b"x" * (1 << 16))

            # A client that reads nothing before it has sent everything: a reset would fail the upload, and throw the answer away.
            async with asyncio.timeout(20):
                await upload()
                got = b""
                while piece := await loop.sock_recv(sock, 65536):
                    got += piece
        assert got.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in got.lower()
        assert got.endswith(b"}")
        assert len(await house.running.rows()) == 1
        await soon(lambda: not house.running.app.listener.connections)

    test(tmp_path)


@in_house([Do.READ, head(200, "content-type: application/octet-stream", "transfer-encoding: chunked"), chunk(b"x" * 100), Do.RESET])
async def test_a_broken_chunked_answer_has_no_last_chunk(house: House) -> None:
    async with house.client() as (reader, writer):
        writer.write(request("GET", "/openai/v1/files/f/content"))
        answer = await read_answer(reader)
        assert (answer.status, answer.body, answer.clean) == (200, b"x" * 100, False)


@in_house([Do.READ, head(200, "content-type: application/octet-stream", "content-length: 1000"), b"x" * 100, Do.RESET])
async def test_a_broken_answer_with_a_length_comes_short(house: House) -> None:
    async with house.client() as (reader, writer):
        writer.write(request("GET", "/openai/v1/files/f/content"))
        answer = await read_answer(reader)
        assert (answer.status, answer.body, answer.clean) == (200, b"x" * 100, False)
        assert answer.header("content-length") == "1000"


@in_house([Do.READ, head(200, "content-type: application/octet-stream", "transfer-encoding: chunked"), chunk(b"x" * 100), Do.FLUSH, Do.RESET])
async def test_a_broken_answer_without_framing_is_reset(house: House) -> None:
    async with house.client() as (reader, writer):
        writer.write(request("GET", "/openai/v1/files/f/content").replace(b"HTTP/1.1", b"HTTP/1.0"))
        with pytest.raises(ConnectionResetError):
            await reader.read()


@in_house([Do.READ, head(204, "x-a: b"), Do.READ], PLAIN)
async def test_204_has_no_body_and_the_connection_goes_on(house: House) -> None:
    async with house.client() as (reader, writer):
        writer.write(request("DELETE", "/openai/v1/files/f"))
        answer = await read_answer(reader)
        assert (answer.status, answer.header("content-length"), answer.header("transfer-encoding")) == (204, None, None)
        writer.write(request("POST", CHAT, BODY))
        assert (await read_answer(reader)).status == 200


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "p.sock"

    @in_house(STREAM, socket=str(path))
    async def test(house: House) -> None:
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(request("POST", CHAT, BODY, {"host": "anything"}))
        answer: Answer = await read_answer(reader)
        assert answer.body == DELTA + STOP + DONE
        writer.close()

    test(tmp_path)
    assert not path.exists()
