"""What a client of the gateway notices of the provider's rim: retries it never sees, true statuses where no answer came, uploads under
pressure, and providers behind TLS and proxies."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import trustme

from penstock.lab.scripted import LAST_CHUNK, SSE_HEAD, Do, Script, ScriptedServer, chunk, head, whole
from tests.support.gateway import Running, gateway, providers_at, run
from tests.support.http import Answer, ask, read_answer, request

MIB = 1 << 20
CHAT: dict[str, Any] = {"model": "m", "messages": []}
PATH = "/v1/chat/completions"
OK = whole(b'{"id":"c","object":"chat.completion","model":"gpt-x","choices":[{"index":0,"finish_reason":"stop","message":{"content":"x"}}]}')
TOO_LARGE = whole(b'{"error":{"message":"too large"}}', 413, "connection: close")


@asynccontextmanager
async def relay(directory: Path, *scripts: Script) -> AsyncGenerator[tuple[Running, ScriptedServer]]:
    server = ScriptedServer(*scripts)
    port = await server.start()
    try:
        async with gateway(directory, providers_at(port)) as running:
            yield running, server
            assert not any(task.get_name() == "penstock-dial" for task in asyncio.all_tasks())
    finally:
        server.close()


def raw_upload(size: int) -> bytes:
    return request("POST", "/v1/files", None, {"content-type": "application/octet-stream", "content-length": str(size)})


# -- kept connections --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [Do.CLOSE, Do.RESET])
def test_a_stale_connection_is_replaced_and_the_client_sees_nothing_of_it(tmp_path: Path, how: Do) -> None:
    async def work() -> None:
        async with relay(tmp_path, [Do.READ, OK], [Do.READ, how], [Do.READ, OK]) as (running, server):
            for _ in range(2):
                assert (await ask(running.port, "POST", PATH, CHAT)).status == 200
            assert [asked.connection for asked in server.log] == [1, 1, 2]
            assert server.log[1].body == server.log[2].body
            assert [row["outcome"] for row in await running.rows()] == ["COMPLETE", "COMPLETE"]

    run(work())


def test_only_once(tmp_path: Path) -> None:
    async def work() -> None:
        async with relay(tmp_path, [Do.READ, OK], [Do.READ, Do.CLOSE]) as (running, server):
            await ask(running.port, "POST", PATH, CHAT)
            assert (await ask(running.port, "POST", PATH, CHAT)).status == 502
            assert len(server.log) == 3
            assert (await running.rows())[-1]["outcome"] == "UPSTREAM_LOST"

    run(work())


@pytest.mark.parametrize("said", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n", SSE_HEAD[:30]])
def test_never_when_a_byte_came(tmp_path: Path, said: bytes) -> None:
    async def work() -> None:
        async with relay(tmp_path, [Do.READ, OK], [Do.READ, said, Do.CLOSE]) as (running, server):
            await ask(running.port, "POST", PATH, CHAT)
            assert (await ask(running.port, "POST", PATH, CHAT)).status == 502
            assert len(server.log) == 2

    run(work())


def test_an_upload_takes_a_new_connection_and_is_never_sent_again(tmp_path: Path) -> None:
    async def work() -> None:
        async with relay(tmp_path, [Do.READ, OK], [Do.READ, Do.CLOSE]) as (running, server):
            await ask(running.port, "POST", PATH, CHAT)
            answer = await ask(running.port, "POST", "/v1/files", raw=b"x" * 1000)
            assert answer.status == 502
            assert [asked.connection for asked in server.log] == [1, 2]

    run(work())


def test_streams_at_once_are_never_mixed(tmp_path: Path) -> None:
    """Each answer repeats its request; connections are kept, some are closed by the provider, some are left by their client."""

    async def echo(visit: Any) -> None:
        body: bytes = await visit.body()
        await visit.send(head(200, "content-type: application/octet-stream", "transfer-encoding: chunked"))
        for _ in range(20):
            await visit.send(chunk(body))
        await visit.send(LAST_CHUNK)
        if visit.asked.number % 7 == 0:
            visit.close()

    async def work() -> None:
        async with relay(tmp_path, echo) as (running, server):

            async def one(number: int) -> None:
                body = b'{"model":"m%d","messages":[]}' % number
                if number % 5 == 0:
                    _, writer = await asyncio.open_connection("127.0.0.1", running.port)
                    writer.write(request("POST", PATH, body))
                    await asyncio.sleep(number % 3 / 1000)
                    writer.close()
                    return
                answer = await ask(running.port, "POST", PATH, raw=body)
                assert (answer.status, answer.body) == (200, body * 20)

            for _ in range(4):
                await asyncio.gather(*(one(number) for number in range(50)))
            await running.quiet()
            assert server.connections < server.requests

    run(work())


# -- no answer ---------------------------------------------------------------------------------------------------------------------------


def test_true_statuses_where_no_answer_came(tmp_path: Path) -> None:
    async def work() -> None:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            closed = sock.getsockname()[1]
        hole = socket.create_server(("127.0.0.1", 0), backlog=0)  # full below: the kernel drops every further SYN (Linux)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(hole.getsockname())
        plain = ScriptedServer([Do.READ, OK])
        garbage = ScriptedServer([b"SSH-2.0-OpenSSH_9.7\r\n"])
        large = ScriptedServer([Do.READ, head(200, "x: " + "a" * 600_000, "content-length: 0")])
        ports = {"plain": await plain.start(), "garbage": await garbage.start(), "large": await large.start()}

        def at(port: int, scheme: str = "http") -> dict[str, Any]:
            return {"protocol": "openai", "base_url": f"{scheme}://127.0.0.1:{port}", "api_key": "k"}

        providers = {
            "refused": at(closed),
            "hole": at(hole.getsockname()[1]),
            "tls": at(ports["plain"], "https"),
            "garbage": at(ports["garbage"]),
            "large": at(ports["large"]),
            "name": {"protocol": "openai", "base_url": "http://no-such-host.invalid", "api_key": "k"},
        }
        async with gateway(tmp_path, providers, {"upstream": {"connect": 0.3}}) as running:
            expected = {"refused": 502, "hole": 504, "tls": 502, "garbage": 502, "large": 502}
            for name, status in expected.items():
                answer = await ask(running.port, "POST", f"/{name}{PATH}", CHAT)
                assert (name, answer.status) == (name, status)
                message = answer.json()["error"]["message"]
                assert "127.0.0.1" not in message
                assert name in message
            assert (await ask(running.port, "POST", f"/name{PATH}", CHAT)).status in (502, 504)  # 504: a name server that is silent
            rows = await running.rows()
            assert all(row["outcome"] == ("TIMED_OUT" if row["status"] == 504 else "UPSTREAM_LOST") for row in rows)
            assert not [row["cause"] for row in rows if "127.0.0.1" in row["cause"] or "invalid" in row["cause"].replace("not valid", "")]
            assert running.app.client.open == 0
        for server in (plain, garbage, large):
            server.close()
        for sock in (hole, *fillers):
            sock.close()

    run(work())


def test_what_came_before_the_garbage_reaches_the_client(tmp_path: Path) -> None:
    async def work() -> None:
        frame = b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
        async with relay(tmp_path, [Do.READ, SSE_HEAD, chunk(frame) + b"zz\r\nno chunk"]) as (running, _):
            answer = await ask(running.port, "POST", PATH, {**CHAT, "stream": True})
            assert answer.body.startswith(frame)
            assert b"error" in answer.body[len(frame) :]
            row = (await running.rows())[0]
            assert (row["outcome"], row["cause"]) == ("UPSTREAM_LOST", "the provider sent what is not valid HTTP (Invalid character in chunk size)")

    run(work())


# -- uploads -----------------------------------------------------------------------------------------------------------------------------


def test_an_early_refusal_of_an_upload_reaches_the_client(tmp_path: Path) -> None:
    """The provider answers 413 with the body unread, and closes."""

    async def work() -> None:
        async with relay(tmp_path, [TOO_LARGE, Do.CLOSE]) as (running, _):
            for _ in range(10):
                reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
                writer.write(raw_upload(8 * MIB))
                reading = asyncio.create_task(read_answer(reader), name="answer")
                for _ in range(128):
                    if reading.done():
                        break
                    writer.write(b"x" * 65536)
                    await asyncio.sleep(0)
                async with asyncio.timeout(5):
                    answer = await reading
                assert (answer.status, answer.json()) == (413, {"error": {"message": "too large"}})
                writer.close()
            assert running.app.client.idle == 0

    run(work())


class Sink(asyncio.Protocol):
    """A provider that reads when it may, counts, and answers when the whole request has come."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.size = 0
        self.expected: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        asyncio.get_running_loop().call_soon(self.transport.pause_reading)  # uvloop begins to read behind this call

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        if self.expected is None:
            data = data.partition(b"\r\n\r\n")[2]
            self.expected = 50 * MIB
        self.size += len(data)
        if self.size == self.expected:
            self.transport.write(OK)


def test_a_slow_provider_stops_the_client_that_uploads(tmp_path: Path) -> None:
    piece = b"x" * 65536

    async def work() -> None:
        sink = Sink()
        server = await asyncio.get_running_loop().create_server(lambda: sink, "127.0.0.1", 0)
        async with gateway(tmp_path, providers_at(server.sockets[0].getsockname()[1])) as running:
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            writer.write(raw_upload(50 * MIB))
            left = 50 * MIB // len(piece)
            stopped = False
            while left:
                writer.write(piece)
                left -= 1
                if not stopped:
                    try:
                        async with asyncio.timeout(0.5):
                            await writer.drain()
                    except TimeoutError:
                        stopped = True
                        assert sink.transport is not None
                        sink.transport.resume_reading()
                else:
                    await writer.drain()
            assert stopped, "sockets hold a few megabytes, and we hold nothing"
            async with asyncio.timeout(10):
                answer: Answer = await read_answer(reader)
            assert (answer.status, sink.size) == (200, 50 * MIB)
            writer.close()
            row = (await running.rows())[0]
            assert row["bytes_in"] == 50 * MIB
        server.close()

    run(work())


@pytest.mark.parametrize("finish", [True, False], ids=["stays", "leaves"])
def test_a_client_is_watched_while_the_answer_to_its_upload_runs(tmp_path: Path, finish: bool) -> None:
    """Its reading was paused for the provider's sake; with its last byte that is over, or nobody would see it leave."""

    async def work() -> None:
        go = asyncio.Event()

        async def slow(visit: Any) -> None:
            visit.link.pause()
            await asyncio.sleep(0.05)
            visit.link.resume()
            await visit.body()
            await visit.send(head(200, "content-type: application/octet-stream", "transfer-encoding: chunked") + chunk(b"part"))
            if finish:
                await visit.send(LAST_CHUNK)
            else:
                go.set()
                await visit.left()

        async with relay(tmp_path, slow) as (running, server):
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            size = 12 * MIB
            writer.write(raw_upload(size) + b"x" * size)
            if finish:
                assert (await read_answer(reader)).body == b"part"
                writer.write(request("GET", "/health"))
                assert (await read_answer(reader)).status == 200
                writer.close()
            else:
                async with asyncio.timeout(5):
                    await go.wait()
                await reader.readuntil(b"part")
                writer.transport.abort()
                async with asyncio.timeout(2):
                    await server.log[0].over.wait()
                assert (await running.rows())[0]["outcome"] == "CLIENT_GONE"

    run(work())


def test_a_request_that_breaks_behind_the_head_of_its_answer_keeps_the_status_that_was_told(tmp_path: Path) -> None:
    async def early(visit: Any) -> None:
        await visit.send(head(200, "content-type: application/octet-stream", "transfer-encoding: chunked") + chunk(b"part"))
        await visit.left()

    async def work() -> None:
        async with relay(tmp_path, early) as (running, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            writer.write(b"POST /v1/files HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            await reader.readuntil(b"part\r\n")
            writer.write(b"no chunk\r\n")
            async with asyncio.timeout(5):
                assert await reader.read() == b"", "its framing shows that it is not whole"
            [row] = await running.rows()
            assert (row["outcome"], row["status"]) == ("REFUSED", 200)
            writer.close()

    run(work())


# -- TLS and proxies ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)  # pyright: ignore[reportUnknownMemberType]  # it takes pyOpenSSL's too
    return context


@asynccontextmanager
async def tunnels(port: int) -> AsyncGenerator[tuple[int, list[bytes]]]:
    """A proxy that leads to one port, whatever it is asked for: its port, and the heads that it got."""
    heads: list[bytes] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        there, out = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, out), pump(there, writer), return_exceptions=True)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], heads
    finally:
        server.close()


def test_a_stream_from_a_provider_behind_a_proxy(tmp_path: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is resolved by the proxy alone; the certificate is checked through it."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    frames = [b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"%d"}}]}\n\n' % n for n in range(50)]
    frames += [b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n', b"data: [DONE]\n\n"]

    async def work() -> None:
        server = ScriptedServer([Do.READ, SSE_HEAD, *map(chunk, frames), LAST_CHUNK])
        port = await server.start(tls=server_context(authority, "provider.test"))
        async with tunnels(port) as (at, heads):
            for name in ("https_proxy", "HTTPS_PROXY"):
                monkeypatch.setenv(name, f"http://user:secret@127.0.0.1:{at}")
            for name in ("no_proxy", "NO_PROXY"):
                monkeypatch.delenv(name, raising=False)
            providers = {
                "openai": {"protocol": "openai", "base_url": "https://provider.test", "api_key": "k"},
                "wrong": {"protocol": "openai", "base_url": "https://other.test", "api_key": "k"},
            }
            async with gateway(tmp_path, providers, {"upstream": {"ca_file": str(tmp_path / "ca.pem")}}) as running:
                for _ in range(3):
                    answer = await ask(running.port, "POST", PATH, {**CHAT, "stream": True, "stream_options": {"include_usage": True}})
                    assert answer.body == b"".join(frames)
                assert server.connections == len(heads) == 1
                assert heads[0].startswith(b"CONNECT provider.test:443 HTTP/1.1\r\n")
                assert b"Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n" in heads[0]
                assert server.log[0].header("host") == "provider.test"
                wrong = await ask(running.port, "POST", f"/wrong{PATH}", CHAT)
                assert wrong.status == 502
                assert "it is for another host name" in wrong.json()["error"]["message"]
        server.close()

    run(work())
