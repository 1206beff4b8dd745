"""The recorded-stream server over real sockets: the recording's own bytes, cut as asked, and faults at the byte that was named."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import Any, ParamSpec

import pytest
import uvloop

from penstock.lab.recordings import Recording, load_recordings
from penstock.lab.server import Chunk, Cut, ReplayServer, parse_chunk, parse_pace
from penstock.vocabulary.ids import ProtocolId

RECORDINGS = load_recordings(Path(__file__).parents[1] / "corpus").recordings
SMALL = next(r for r in RECORDINGS if r.name.startswith("test_snowflake"))
PATHS = {
    ProtocolId.OPENAI_CHAT: "/v1/chat/completions",
    ProtocolId.OPENAI_RESPONSES: "/v1/responses",
    ProtocolId.ANTHROPIC_MESSAGES: "/v1/messages",
}
P = ParamSpec("P")


def on_uvloop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        uvloop.run(test(*args, **kwargs))

    return run


class Answer:
    """One answer, read to its end, however it ended."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.pieces: list[bytes] = []
        self.ending = ""
        """`last chunk`, `length`, `eof` or `reset`."""

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, path: str, body: bytes | None = None, method: str = "POST", *headers: str) -> Answer:
        length = () if body is None else (f"content-length: {len(body)}",)
        self.writer.write("\r\n".join((f"{method} {path} HTTP/1.1", "host: lab", *length, *headers, "", "")).encode() + (body or b""))
        return await self.read(method)

    async def read(self, method: str = "POST") -> Answer:
        answer = Answer()
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        status, *lines = head.rstrip().split("\r\n")
        answer.status = int(status.split()[1])
        answer.headers = dict(line.split(": ", 1) for line in lines)
        try:
            if method == "HEAD":
                answer.ending = "length"
            elif "content-length" in answer.headers:
                answer.pieces.append(await self.reader.readexactly(int(answer.headers["content-length"])))
                answer.ending = "length"
            else:
                while size := int(await self.reader.readuntil(b"\r\n"), 16):
                    answer.pieces.append(await self.reader.readexactly(size))
                    assert await self.reader.readexactly(2) == b"\r\n"
                assert await self.reader.readexactly(2) == b"\r\n"
                answer.ending = "last chunk"
        except asyncio.IncompleteReadError as short:
            answer.pieces.append(short.partial)
            answer.ending = "eof"
        except ConnectionResetError:
            answer.ending = "reset"
        return answer


Connect = Callable[[], Coroutine[Any, Any, Client]]


@asynccontextmanager
async def serving(*recordings: Recording, chunk: Chunk = "whole", seed: int = 0) -> AsyncGenerator[tuple[ReplayServer, Connect], None]:
    server = ReplayServer(recordings or RECORDINGS, "fast", chunk, seed)
    port = await server.start()
    clients: list[Client] = []

    async def connect() -> Client:
        clients.append(Client(*await asyncio.open_connection("127.0.0.1", port)))
        return clients[-1]

    try:
        yield server, connect
    finally:
        for client in clients:
            client.writer.transport.abort()
        server.close()


def request_for(recording: Recording, *, stream: bool = True) -> tuple[str, bytes]:
    model = f"replay/{recording.protocol}/{recording.name}"
    if recording.protocol is ProtocolId.GEMINI:
        return f"/v1beta/models/{model}:" + ("streamGenerateContent?alt=sse" if stream else "generateContent"), b"{}"
    return PATHS[recording.protocol], json.dumps({"model": model, "stream": stream}).encode()


@on_uvloop
async def test_every_stream_comes_out_as_it_was_recorded_on_one_connection() -> None:
    async with serving() as (server, connect):
        client = await connect()
        for recording in RECORDINGS:
            answer = await client.ask(*request_for(recording))
            assert (answer.status, answer.ending, answer.body) == (200, "last chunk", recording.body), recording.name
            assert answer.headers["content-type"] == "text/event-stream"
        assert server.connections == 1
        assert all(asked.answered and asked.sent == len(r.body) for asked, r in zip(server.log, RECORDINGS, strict=True))


@pytest.mark.parametrize("chunk", [1, 7, "random"])
@on_uvloop
async def test_the_body_is_cut_as_asked(chunk: Chunk) -> None:
    async with serving(SMALL, chunk=chunk) as (_, connect):
        answer = await (await connect()).ask(*request_for(SMALL))
        assert answer.body == SMALL.body
        sizes = {len(piece) for piece in answer.pieces[:-1]}
        assert sizes == {chunk} if isinstance(chunk, int) else len(sizes) > 5


@on_uvloop
async def test_the_same_seed_cuts_the_same_and_another_one_otherwise() -> None:
    cuts: list[list[bytes]] = []
    for seed in (1, 1, 2):
        async with serving(SMALL, chunk="random", seed=seed) as (_, connect):
            cuts.append((await (await connect()).ask(*request_for(SMALL))).pieces)
    assert cuts[0] == cuts[1] != cuts[2]


@on_uvloop
async def test_a_pace_sends_each_event_by_itself_and_waits_between(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        if seconds:
            waits.append(seconds)
        await real(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    async with serving(SMALL) as (server, connect):
        server.pace = 1e9
        answer = await (await connect()).ask(*request_for(SMALL))
    assert answer.pieces == [frame.raw for frame in SMALL.frames]
    # Each is due so long after the first, whatever sending takes; here no time passes, so the waits grow.
    assert [round(wait / 1e6) for wait in waits] == list(range(1, len(SMALL.frames)))


class TestFaults:
    @pytest.mark.parametrize("how", ["eof", "reset", "clean"])
    @pytest.mark.parametrize("at", [0, 1, 100, len(SMALL.body)])
    @on_uvloop
    async def test_a_cut_gives_exactly_the_bytes_before_it(self, how: Cut, at: int) -> None:
        async with serving(SMALL, chunk=7) as (server, connect):
            server.cut_at, server.cut_how = at, how
            answer = await (await connect()).ask(*request_for(SMALL))
            assert answer.ending == ("last chunk" if how == "clean" else how)
            assert answer.body == SMALL.body[:at]
            assert server.log[0].sent == at
            assert server.log[0].answered is (how == "clean")
            assert server.log[0].lost_at is None, "nobody left: we cut"

    @on_uvloop
    async def test_a_cut_beyond_the_end_is_none(self) -> None:
        async with serving(SMALL) as (server, connect):
            server.cut_at, server.cut_how = len(SMALL.body) + 1, "reset"
            assert (await (await connect()).ask(*request_for(SMALL))).ending == "last chunk"

    @on_uvloop
    async def test_a_stalled_stream_waits_until_the_client_leaves_and_notices_it_at_once(self) -> None:
        async with serving(SMALL) as (server, connect):
            server.stall_at = 50
            client = await connect()
            path, body = request_for(SMALL)
            client.writer.write(f"POST {path} HTTP/1.1\r\nhost: lab\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
            got = await client.reader.readuntil(SMALL.body[30:50])
            assert got.endswith(SMALL.body[:50])
            asked = await server.asked(1)
            assert not asked.over.is_set()
            left_at = asyncio.get_running_loop().time()
            client.writer.close()
            await asyncio.wait_for(asked.over.wait(), 5)
            assert asked.lost_at is not None
            assert asked.lost_at - left_at < 0.1
            assert not asked.answered

    @on_uvloop
    async def test_gzip_is_flushed_with_every_event_and_unpacks_to_the_recording(self) -> None:
        async with serving(SMALL) as (server, connect):
            server.gzip, server.pace = True, 0.1
            answer = await (await connect()).ask(*request_for(SMALL))
            assert answer.headers["content-encoding"] == "gzip"
            unpacker = zlib.decompressobj(wbits=31)
            events = [unpacker.decompress(piece) for piece in answer.pieces]
            assert [e for e in events if e] == [frame.raw for frame in SMALL.frames]
            assert unpacker.eof

    @on_uvloop
    async def test_a_close_is_announced_and_done(self) -> None:
        async with serving(SMALL) as (server, connect):
            server.connection_close = True
            client = await connect()
            answer = await client.ask(*request_for(SMALL))
            assert answer.headers["connection"] == "close"
            assert answer.ending == "last chunk"
            assert await client.reader.read() == b""

    @on_uvloop
    async def test_whole_bodies_are_cut_too(self) -> None:
        async with serving(SMALL) as (server, connect):
            server.cut_at = 3
            answer = await (await connect()).ask("/v1/models", None, "GET")
            assert (answer.ending, len(answer.body)) == ("eof", 3)


@on_uvloop
async def test_requests_are_logged_with_all_that_came() -> None:
    async with serving(SMALL) as (server, connect):
        first, second = await connect(), await connect()
        await first.ask("/v1/chat/completions?x=1", b'{"stream":true}', "POST", "X-Twice: a", "X-Twice: b")
        await second.ask("/v1/models", None, "GET")
        await first.ask("/v1/nowhere", b"{}")
        one, two, three = server.log
        assert (one.method, one.path, one.query, one.body) == ("POST", "/v1/chat/completions", "x=1", b'{"stream":true}')
        assert [v for n, v in one.headers if n == "x-twice"] == ["a", "b"]
        assert [one.connection, two.connection, three.connection] == [1, 2, 1]
        assert one.note == f"200 openai_chat/{SMALL.name}"
        assert all(a.at <= b.at for a, b in pairwise(server.log))


@on_uvloop
async def test_expect_continue_and_head_and_rubbish_are_answered() -> None:
    async with serving(SMALL) as (_, connect):
        client = await connect()
        path, body = request_for(SMALL)
        client.writer.write(f"POST {path} HTTP/1.1\r\nhost: lab\r\nexpect: 100-continue\r\ncontent-length: {len(body)}\r\n\r\n".encode())
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        client.writer.write(body)
        assert (await client.read()).body == SMALL.body
        assert (await client.ask("/v1/models", None, "HEAD")).status == 200
        assert (await client.ask("/v1/models", None, "GET")).status == 200, "HEAD had no body"
        client.writer.write(b"this is no HTTP\r\n\r\n")
        assert (await client.read()).status == 400


@pytest.mark.parametrize(("text", "pace"), [("original", "original"), ("fast", "fast"), ("0", 0.0), ("12.5", 12.5)])
def test_paces(text: str, pace: object) -> None:
    assert parse_pace(text) == pace


@pytest.mark.parametrize("text", ["", "slow", "-1", "nan", "inf"])
def test_what_is_no_pace_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no pace"):
        parse_pace(text)


def test_chunks() -> None:
    assert [parse_chunk(t) for t in ("whole", "random", "7")] == ["whole", "random", 7]
    for text in ("0", "-3", "1.5", "some", "²"):
        with pytest.raises(ValueError, match="is no way to cut"):
            parse_chunk(text)
