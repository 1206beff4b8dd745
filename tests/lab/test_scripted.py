"""The scripted provider: what a script says is what is on the wire, nothing more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import pytest
import uvloop

from penstock.lab.http1 import Gone
from penstock.lab.scripted import LAST_CHUNK, SSE_HEAD, Do, ScriptedServer, Sleep, Visit, chunk, head, whole

P = ParamSpec("P")
ASK = b"POST /v1/x HTTP/1.1\r\nhost: lab\r\ncontent-length: 2\r\n\r\n"


def on_uvloop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        uvloop.run(test(*args, **kwargs))

    return run


@on_uvloop
async def test_steps_are_sent_as_they_are_and_scripts_take_turns() -> None:
    server = ScriptedServer(
        [Do.READ, SSE_HEAD, chunk(b"data: 1\n\n"), Sleep(0.001), chunk(b"data: 2\n\n"), LAST_CHUNK],
        [whole(b"{}", 429, "retry-after: 1")],
        [b"not HTTP at all", Do.CLOSE],
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", await server.start())
    writer.write(ASK + b"{}")
    stream = SSE_HEAD + b"9\r\ndata: 1\n\n\r\n9\r\ndata: 2\n\n\r\n0\r\n\r\n"
    assert await reader.readexactly(len(stream)) == stream
    writer.write(ASK + b"{}")
    refusal = b"HTTP/1.1 429 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\nretry-after: 1\r\n\r\n{}"
    assert await reader.readexactly(len(refusal)) == refusal
    writer.write(ASK + b"{}")
    assert await reader.read() == b"not HTTP at all"
    assert [a.body for a in server.log] == [b"{}"] * 3
    assert server.connections == 1
    server.close()


@on_uvloop
async def test_a_handler_may_answer_before_the_body_came() -> None:
    seen: list[bytes] = []

    async def early(visit: Visit) -> None:
        seen.append(visit.asked.body)
        await visit.send(head(401, "content-length: 0", reason="No"))
        seen.append(await visit.body())

    server = ScriptedServer(early)
    reader, writer = await asyncio.open_connection("127.0.0.1", await server.start())
    writer.write(ASK)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 401 No\r\n")
    writer.write(b"{}")
    asked = await server.asked(1)
    await asyncio.wait_for(asked.over.wait(), 5)
    assert seen == [b"", b"{}"]
    server.close()


@on_uvloop
async def test_a_reset_comes_after_what_was_sent() -> None:
    server = ScriptedServer([SSE_HEAD, chunk(b"x" * 100_000), Do.RESET])
    reader, writer = await asyncio.open_connection("127.0.0.1", await server.start(), limit=1 << 20)
    writer.write(ASK + b"{}")
    expected = len(SSE_HEAD) + len(chunk(b"x" * 100_000))
    assert len(await reader.readexactly(expected)) == expected
    with pytest.raises(ConnectionResetError):
        await reader.read()
    server.close()


@on_uvloop
async def test_a_client_that_leaves_is_noticed_and_cannot_be_sent_to() -> None:
    after: list[str] = []

    async def wait(visit: Visit) -> None:
        await visit.send(SSE_HEAD)
        try:
            await visit.left()
            await visit.send(b"late")
        except Gone:
            after.append("gone")
            raise
        except asyncio.CancelledError:
            after.append("cancelled")
            raise

    server = ScriptedServer(wait)
    reader, writer = await asyncio.open_connection("127.0.0.1", await server.start())
    writer.write(ASK + b"{}")
    await reader.readuntil(b"\r\n\r\n")
    writer.close()
    asked = await server.asked(1)
    await asyncio.wait_for(asked.over.wait(), 5)
    await asyncio.sleep(0)
    assert asked.lost_at is not None
    assert after
    server.close()


@on_uvloop
async def test_an_assert_in_a_handler_fails_its_test_and_hangs_nobody() -> None:
    async def wrong(visit: Visit) -> None:
        raise AssertionError("the gateway sent what it should not")

    server = ScriptedServer(wrong)
    reader, writer = await asyncio.open_connection("127.0.0.1", await server.start())
    writer.write(ASK + b"{}")
    with pytest.raises(ConnectionResetError):
        await reader.read()
    with pytest.raises(BaseExceptionGroup) as failures:
        server.close()
    assert failures.group_contains(AssertionError, match="should not")


@on_uvloop
async def test_pipelined_requests_are_answered_in_order() -> None:
    server = ScriptedServer([Do.READ, Sleep(0.002), b"first;"], [b"second;"])
    reader, writer = await asyncio.open_connection("127.0.0.1", await server.start())
    writer.write((ASK + b"{}") * 2)
    assert await reader.readexactly(13) == b"first;second;"
    server.close()


@on_uvloop
async def test_it_listens_on_unix_sockets_too(tmp_path: Path) -> None:
    server = ScriptedServer([b"hello", Do.CLOSE])
    await server.start_unix(str(tmp_path / "s"))
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
    writer.write(ASK + b"{}")
    assert await reader.read() == b"hello"
    server.close()


def test_a_server_without_a_script_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a script"):
        ScriptedServer()
