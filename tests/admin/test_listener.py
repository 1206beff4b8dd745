"""The admin plane's socket."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
from collections.abc import Awaitable, Callable

import httpx
import pytest
import uvloop
from starlette.types import Receive, Scope, Send

from penstock.admin import AdminListener


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"  # no lifespan comes
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


def run(test: Callable[[], Awaitable[None]], loop: Callable[[], asyncio.AbstractEventLoop] | None = None) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(bounded())


async def get(port: int, host: str = "127.0.0.1") -> str:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(f"http://{host}:{port}/")).text


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_it_listens_on_a_free_port_and_is_gone_after_stop(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def test() -> None:
        listener = AdminListener("127.0.0.1", 0)
        port = await listener.start(hello)
        assert port == listener.port > 0
        assert await get(port) == "hello"
        await listener.stop()
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED
        await listener.stop()
        again = AdminListener("127.0.0.1", port)
        assert await again.start(hello) == port
        await again.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(test, loop)


def test_signals_stay_the_gateways() -> None:
    async def test() -> None:
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        listener = AdminListener("127.0.0.1", 0)
        await listener.start(hello)
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
        await listener.stop()

    run(test)


@pytest.mark.parametrize("listening", [True, False])
def test_a_port_in_use_is_an_os_error_that_names_it(listening: bool) -> None:
    async def test() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            if listening:
                taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(OSError) as told:
                await AdminListener("127.0.0.1", port).bind()
            assert told.value.errno == errno.EADDRINUSE
            assert told.value.filename == f"127.0.0.1:{port}"
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(test)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_ours_is_an_os_error_too(host: str) -> None:
    async def test() -> None:
        with pytest.raises(OSError) as told:
            await AdminListener(host, 0).bind()
        assert told.value.filename == f"{host}:0"

    run(test)


def test_localhost_is_every_address_of_it() -> None:
    async def test() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        listener = AdminListener("localhost", port)
        assert await listener.start(hello) == port
        assert await get(port) == "hello"
        await listener.stop()

    run(test)


def test_stop_waits_for_nothing_where_nobody_is_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(delay: float, result: object = None) -> None:
        slept.append(delay)

    async def test() -> None:
        listener = AdminListener("127.0.0.1", 0)
        port = await listener.start(hello)
        monkeypatch.setattr(asyncio, "sleep", sleep)
        await listener.stop()
        assert slept == []
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED

    run(test)


def test_stop_lets_a_running_answer_end() -> None:
    async def test() -> None:
        begun, go = asyncio.Event(), asyncio.Event()

        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            begun.set()
            await go.wait()
            await hello(scope, receive, send)

        listener = AdminListener("127.0.0.1", 0)
        answer = asyncio.create_task(get(await listener.start(slow)))
        await begun.wait()
        stopping = asyncio.create_task(listener.stop())
        await asyncio.sleep(0.15)
        assert not stopping.done()
        go.set()
        assert await answer == "hello"
        await stopping

    run(test)


async def _told(port: int, *pieces: bytes) -> bytes:
    """All that comes until the listener closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return await reader.read()
    except OSError:
        return b"reset"
    finally:
        writer.close()


def test_a_head_has_a_size() -> None:
    async def test() -> None:
        listener = AdminListener("127.0.0.1", 0)
        port = await listener.start(hello)
        field = b"x: " + b"a" * 10_000 + b"\r\n"
        told = await _told(port, b"GET / HTTP/1.1\r\nhost: localhost\r\n", *[field] * 100)
        assert told.startswith(b"HTTP/1.1 431 ") or told == b"reset"
        assert (await _told(port, b"GET / HTTP/1.0\r\n" + field * 2 + b"\r\n")).endswith(b"hello")
        await listener.stop()

    run(test, uvloop.new_event_loop)


def test_what_stands_behind_a_body_has_a_size_and_a_body_as_much_as_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.admin.protocol.AdminProtocol.whole_s", 1000.0)

    async def read(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await hello(scope, receive, send)

    async def test() -> None:
        listener = AdminListener("127.0.0.1", 0)
        port = await listener.start(read)
        head, piece = b"POST / HTTP/1.1\r\nhost: localhost\r\n%b\r\n", b"a" * 10_000
        async with asyncio.timeout(8):
            told = await _told(port, head % b"transfer-encoding: chunked\r\n" + b"1\r\na\r\n0\r\nx: ", *[piece] * 100)
            assert told in (b"", b"reset")
            chunk = b"2710\r\n%b\r\n" % piece
            for framing, pieces in (b"content-length: 1000000\r\n", [piece] * 100), (b"transfer-encoding: chunked\r\n", [chunk] * 100):
                last = b"" if framing[:1] == b"c" else b"0\r\n\r\n"
                assert (await _told(port, head % (framing + b"connection: close\r\n"), *pieces, last)).endswith(b"hello")
        await listener.stop()

    run(test, uvloop.new_event_loop)


@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: localhost\r\n", b"POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\n{"])
def test_a_request_that_does_not_come_holds_no_place(monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    monkeypatch.setattr("penstock.admin.protocol.AdminProtocol.whole_s", 0.05)

    async def test() -> None:
        listener = AdminListener("127.0.0.1", 0)
        port = await listener.start(hello)
        async with asyncio.timeout(3):
            await asyncio.gather(*(_told(port, begun) for _ in range(250)))
        assert await get(port) == "hello"
        await listener.stop()

    run(test, uvloop.new_event_loop)


def test_an_answer_may_take_longer_than_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.admin.protocol.AdminProtocol.whole_s", 0.05)

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.2)
        await hello(scope, receive, send)

    async def test() -> None:
        listener = AdminListener("127.0.0.1", 0)
        port = await listener.start(slow)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n" * 3)
        for _ in range(3):
            assert b"200 OK" in await reader.readuntil(b"hello")
        writer.close()
        await listener.stop()

    run(test, uvloop.new_event_loop)
