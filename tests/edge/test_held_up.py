"""A gateway that itself stood still for longer than its timers (a machine that is suspended or overloaded): what came meanwhile lies unread in its
sockets, and nobody was silent.

Providers and clients are threads, and the loop is stopped inside the callback of a socket: it calls its timers before it reads any more.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from penstock.lab.scripted import LAST_CHUNK, SSE_HEAD, chunk
from penstock.lab.torture.speakers import Chat
from tests.support.gateway import gateway, providers_at, run
from tests.support.http import request
from tests.support.process import Row

BODY = json.dumps({"model": "m", "stream": True, "stream_options": {"include_usage": True}, "messages": []}).encode()
SHORT_S, STILL_S = 0.5, 1.2
QUIET: dict[str, Any] = {"keepalive": "off", "early_head": "off"}


@contextmanager
def still() -> Generator[Callable[[], None]]:
    """Stops the running loop for a while, when it is called from another thread; that thread goes on in the midst of it."""
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()

    def stand() -> None:
        here.recv(1)
        time.sleep(STILL_S)

    def stop() -> None:
        there.send(b".")
        time.sleep(STILL_S / 2)

    loop.add_reader(here, stand)
    try:
        yield stop
    finally:
        loop.remove_reader(here)
        here.close()
        there.close()


@contextmanager
def provider(act: Callable[[socket.socket], None]) -> Generator[int]:
    """One connection, in a thread of its own; the port. It goes as soon as its peer does."""

    def serve() -> None:
        listening.settimeout(20)
        peer, _ = listening.accept()
        with peer:
            peer.settimeout(20)
            while not peer.recv(65536).endswith(BODY):
                pass
            with suppress(ConnectionError):
                act(peer)
                while peer.recv(65536):
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(20)
        assert not thread.is_alive()


def ask(port: int, *pieces: bytes, between: Callable[[], None] = lambda: None) -> bytes:
    """All that comes until the gateway closes; `between`: what is done before each piece but the first."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        for number, piece in enumerate(pieces):
            if number:
                between()
            client.sendall(piece)
        while data := client.recv(65536):
            got += data
    return got


def whole() -> bytes:
    return request("POST", "/v1/chat/completions", BODY, {"connection": "close"})


def streamed(tmp_path: Path, timer: str, act: Callable[[socket.socket, Callable[[], None]], None]) -> Row:
    """The row of a stream whose provider does this."""

    async def main() -> Row:
        with still() as stop, provider(lambda peer: act(peer, stop)) as port:
            async with gateway(tmp_path, providers_at(port), {"timers": {timer: SHORT_S}, **QUIET}) as running:
                await asyncio.to_thread(ask, running.port, whole())
                [row] = await running.rows()
            return row

    return run(main())


@pytest.mark.parametrize("timer", ["idle", "tool_call"])
def test_it_does_not_blame_its_provider(tmp_path: Path, timer: str) -> None:
    chat = Chat()
    start, more = [*chat.opening(), *chat.text("It is ")], chat.text("fine")
    if timer == "tool_call":
        start, more = [*start, *chat.call(0), *chat.arguments(0, '{"q')], chat.arguments(0, '": 1}')

    def act(peer: socket.socket, stop: Callable[[], None]) -> None:
        peer.sendall(SSE_HEAD + chunk(b"".join(start)))
        time.sleep(0.15)  # it is read, and looked at
        stop()
        peer.sendall(chunk(b"".join([*more, *chat.finish(), *chat.terminal()])) + LAST_CHUNK)

    row = streamed(tmp_path, timer, act)
    assert (row["outcome"], row["cause"]) == ("COMPLETE", "terminal event")


def test_who_is_silent_is_timed_all_the_same(tmp_path: Path) -> None:
    """One look is left out, not more of them."""
    chat = Chat()

    def act(peer: socket.socket, stop: Callable[[], None]) -> None:
        peer.sendall(SSE_HEAD + chunk(b"".join([*chat.opening(), *chat.text("It is ")])))
        time.sleep(0.15)
        stop()

    row = streamed(tmp_path, "idle", act)
    assert (row["outcome"], row["timer"]) == ("TIMED_OUT", "idle")


@pytest.mark.parametrize("part", ["head", "body"])
def test_it_does_not_blame_its_client(tmp_path: Path, part: str) -> None:
    chat = Chat()
    answer = chunk(b"".join([*chat.opening(), *chat.text("It is "), *chat.finish(), *chat.terminal()])) + LAST_CHUNK
    at = 20 if part == "head" else len(whole()) - 10

    async def main() -> bytes:
        with still() as stop, provider(lambda peer: peer.sendall(SSE_HEAD + answer)) as port:

            def between() -> None:
                time.sleep(0.15)  # it is seen waiting
                stop()

            more = {"limits": {"head_time": SHORT_S, "body_gap": SHORT_S}, **QUIET}
            async with gateway(tmp_path, providers_at(port), more) as running:
                return await asyncio.to_thread(lambda: ask(running.port, whole()[:at], whole()[at:], between=between))

    assert run(main()).startswith(b"HTTP/1.1 200")
