"""Retries over real sockets: how often the provider is asked, what each client gets, when the provider is let go, and what the rows say."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from penstock.lab.scripted import LAST_CHUNK, SSE_HEAD, ScriptedServer, Visit, chunk, whole
from penstock.vocabulary.ids import ProtocolId
from tests.edge.test_ledger_in_trouble import locked
from tests.support.answers import ANSWERS
from tests.support.gateway import providers_at, run
from tests.support.http import Answer, ask, read_answer, request
from tests.support.process import Process, Row, all_settled, rows_until, serving

MESSAGES = ANSWERS[ProtocolId.ANTHROPIC_MESSAGES]
BODY: dict[str, Any] = {"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
STREAM = {**BODY, "stream": True}
KEY = {"x-api-key": "sk-ant-client"}
AGAIN = {"x-stainless-retry-count": "1"}
HURRY = {"lease_s": 1.0, "renew_s": 0.2}
LONG = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"%b"}}\n\n' % (b"x" * 16384)


class Provider(ScriptedServer):
    """Tells an answer frame by frame, as far as it is let."""

    def __init__(self, frames: tuple[bytes, ...] = MESSAGES.frames) -> None:
        super().__init__(self._tell)
        self.frames = frames
        self.told = 0
        self._let = asyncio.Condition()
        self._upto = 0

    async def let(self, frames: int = 10_000) -> None:
        """Each answer may be told up to that frame."""
        async with self._let:
            self._upto = frames
            self._let.notify_all()

    async def _tell(self, visit: Visit) -> None:
        body = json.loads(await visit.body())
        if not body.get("stream"):
            async with self._let:
                await self._let.wait_for(lambda: self._upto >= len(self.frames))
            await visit.send(whole(MESSAGES.json))
            return
        await visit.send(SSE_HEAD)
        for number, frame in enumerate(self.frames, 1):
            async with self._let:
                await self._let.wait_for(lambda n=number: self._upto >= n)
            await visit.send(chunk(frame))
            self.told = number
        await visit.send(LAST_CHUNK)


@asynccontextmanager
async def between(tmp_path: Path, provider: Provider, more: dict[str, Any] | None = None) -> AsyncGenerator[Process]:
    port = await provider.start()
    try:
        async with serving(tmp_path, providers_at(port), more, hurry=HURRY) as gateway:
            yield gateway
    finally:
        provider.close()


class Client:
    """A request on a connection of its own, of which some is read."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.raw = b""

    @classmethod
    async def asks(cls, gateway: Process, body: dict[str, Any], headers: dict[str, str] | None = None, *, limit: int = 1 << 20) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=limit)
        writer.write(request("POST", "/v1/messages", json.dumps(body).encode(), {**KEY, **(headers or {})}))
        return cls(reader, writer)

    async def until(self, words: bytes) -> bytes:
        """All that came up to `words`, from the start."""
        async with asyncio.timeout(15):
            while words not in self.raw:
                piece = await self.reader.read(65536)
                assert piece, self.raw
                self.raw += piece
        return self.raw

    async def rest(self) -> bytes:
        """What came behind the last look, as it came on the wire; perhaps half an answer."""
        async with asyncio.timeout(15):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    async def body(self) -> bytes:
        """The whole body, the chunks taken apart."""
        reader = asyncio.StreamReader(limit=1 << 26)
        reader.feed_data(self.raw)

        async def pour() -> None:
            while piece := await self.reader.read(65536):
                reader.feed_data(piece)
            reader.feed_eof()

        pouring = asyncio.create_task(pour())
        try:
            async with asyncio.timeout(30):
                answer = await read_answer(reader)
        finally:
            pouring.cancel()
        assert answer.clean
        return answer.body

    async def answer(self) -> Answer:
        async with asyncio.timeout(30):
            return await read_answer(self.reader)

    def leave(self) -> None:
        self.writer.transport.abort()


async def settled(gateway: Process, number: int) -> list[Row]:
    rows = await rows_until(gateway.data_dir, lambda rows: len(rows) == number and all_settled(rows))
    return sorted(rows, key=lambda row: row["started_at"])


def test_a_turn_that_is_asked_three_times_costs_once(tmp_path: Path) -> None:
    """As Claude Code does it: a stream that breaks off, a stream again, and then without streaming."""

    async def main() -> None:
        provider = Provider()
        async with between(tmp_path, provider) as gateway:
            first = await Client.asks(gateway, STREAM)
            await provider.let(2)
            await first.until(b"content_block_start")
            first.leave()
            second = await Client.asks(gateway, STREAM, AGAIN)
            assert b"x-penstock-replay: join" in await second.until(b"content_block_start")
            await provider.let(4)
            await second.until(b"Hello, ")
            second.leave()
            third = await Client.asks(gateway, BODY, {"x-stainless-retry-count": "0"})
            await rows_until(gateway.data_dir, lambda rows: len(rows) == 3)
            await provider.let()
            answer = await third.answer()
            assert (answer.status, answer.clean, answer.json()) == (200, True, MESSAGES.body)
            assert answer.header("x-penstock-replay") == "join"
            again = await ask(gateway.port, "POST", "/v1/messages", BODY, {**KEY, **AGAIN})
            assert (again.json(), again.header("x-penstock-replay")) == (MESSAGES.body, "hit")
            assert provider.requests == 1
            rows = await settled(gateway, 4)
            leader = rows[0]
            assert [(row["outcome"], row["replay"], row["replay_of"]) for row in rows] == [
                ("CLIENT_GONE", None, None), ("CLIENT_GONE", "join", leader["id"]), ("COMPLETE", "join", leader["id"]),
                ("COMPLETE", "hit", leader["id"]),
            ]  # fmt: skip
            assert (leader["input_tokens"], leader["output_tokens"], leader["usage_source"]) == (*MESSAGES.usage, "reported")
            assert {(row["input_tokens"], row["output_tokens"], row["usage_source"]) for row in rows[1:]} == {(0, 0, "none")}
            assert await gateway.stop() == 0
            assert "Traceback" not in gateway.stderr

    run(main())


@pytest.mark.parametrize(("mode", "asked"), [("always", 1), ("retries", 100)])
def test_a_hundred_that_are_equal_are_one_only_where_that_is_wanted(tmp_path: Path, mode: str, asked: int) -> None:
    async def main() -> None:
        provider = Provider()
        async with between(tmp_path, provider, {"dedup": mode}) as gateway:
            clients = [await Client.asks(gateway, STREAM) for _ in range(100)]
            answers = [asyncio.create_task(client.answer()) for client in clients]
            await rows_until(gateway.data_dir, lambda rows: len(rows) == 100)
            await provider.let()
            told = await asyncio.gather(*answers)
            assert {(answer.status, answer.clean, answer.body) for answer in told} == {(200, True, MESSAGES.stream)}
            assert provider.requests == asked
            rows = await settled(gateway, 100)
            assert Counter(row["replay"] for row in rows) == ({None: 1, "join": 99} if asked == 1 else {None: 100})
            assert sum(row["output_tokens"] for row in rows) == MESSAGES.usage[1] * asked

    run(main())


def test_a_slow_follower_costs_the_leader_nothing_and_gets_all_of_it(tmp_path: Path) -> None:
    frames = (*MESSAGES.frames[:2], *[LONG] * 400, *MESSAGES.frames[3:])

    async def main() -> None:
        provider = Provider(frames)
        async with between(tmp_path, provider, {"limits": {"noted": "16MiB"}}) as gateway:
            fast = await Client.asks(gateway, STREAM)
            await provider.let(1)
            await fast.until(b"message_start")
            slow = await Client.asks(gateway, STREAM, AGAIN, limit=1024)
            await slow.until(b"\r\n\r\n")
            await provider.let()
            quick = await fast.body()
            assert quick.endswith(MESSAGES.frames[-1])
            rest = await slow.body()
            assert rest == b"".join(frames)
            assert provider.requests == 1
            assert {row["outcome"] for row in await settled(gateway, 2)} == {"COMPLETE"}

    run(main())


def test_the_provider_goes_on_for_who_follows_when_the_first_one_leaves(tmp_path: Path) -> None:
    async def main() -> None:
        provider = Provider()
        async with between(tmp_path, provider) as gateway:
            first = await Client.asks(gateway, STREAM)
            await provider.let(2)
            await first.until(b"content_block_start")
            second = await Client.asks(gateway, STREAM, AGAIN)
            await second.until(b"\r\n\r\n")
            first.leave()
            await asyncio.sleep(2.5)  # longer than a leader is read on for nobody
            await provider.let()
            assert await second.body() == MESSAGES.stream
            assert provider.requests == 1
            gone, whole_ = await settled(gateway, 2)
            assert (gone["outcome"], gone["output_tokens"], whole_["outcome"]) == ("CLIENT_GONE", MESSAGES.usage[1], "COMPLETE")

    run(main())


def test_nobody_comes_and_the_provider_is_let_go_after_the_grace(tmp_path: Path) -> None:
    async def main() -> None:
        provider = Provider()
        async with between(tmp_path, provider) as gateway:
            first = await Client.asks(gateway, STREAM)
            await provider.let(2)
            await first.until(b"content_block_start")
            asked = await provider.asked(1)
            first.leave()
            left_at = asyncio.get_running_loop().time()
            async with asyncio.timeout(15):
                await asked.over.wait()
            assert asked.lost_at is not None
            assert asked.lost_at - left_at > 1.9
            [row] = await settled(gateway, 1)
            assert (row["outcome"], row["cause"]) == ("CLIENT_GONE", "the client closed its connection")

    run(main())


def test_a_locked_database_delays_no_replay(tmp_path: Path) -> None:
    async def main() -> None:
        provider = Provider()
        async with between(tmp_path, provider, {"dedup": "always"}) as gateway:
            with locked(gateway.data_dir):
                first = await Client.asks(gateway, STREAM)
                await provider.let(2)
                await first.until(b"content_block_start")
                second = await Client.asks(gateway, STREAM)
                assert b"x-penstock-replay: join" in await second.until(b"content_block_start")
                await provider.let()
                assert (await first.body()).endswith(MESSAGES.frames[-1])
                await second.body()
                kept = await ask(gateway.port, "POST", "/v1/messages", BODY, KEY)
                assert (kept.json(), kept.header("x-penstock-replay")) == (MESSAGES.body, "hit")
            rows = await settled(gateway, 3)
            assert [row["replay"] for row in rows] == [None, "join", "hit"]
            assert provider.requests == 1

    run(main())


def test_kill_9_with_followers_and_kept_answers_leaves_the_rows_consistent_and_the_next_desk_empty(tmp_path: Path) -> None:
    async def main() -> None:
        provider = Provider()
        port = await provider.start()
        try:
            async with serving(tmp_path, providers_at(port), {"dedup": "always"}, hurry=HURRY) as gateway:
                await provider.let()
                assert (await ask(gateway.port, "POST", "/v1/messages", STREAM, KEY)).body == MESSAGES.stream
                assert (await ask(gateway.port, "POST", "/v1/messages", STREAM, KEY)).header("x-penstock-replay") == "hit"
                await provider.let(2)
                other = {**STREAM, "max_tokens": 10}
                clients = [await Client.asks(gateway, other) for _ in range(30)]
                for client in clients:
                    await client.until(b"content_block_start")
                await rows_until(gateway.data_dir, lambda rows: len(rows) == 32)
                await gateway.kill()
                for client in clients:
                    assert not (await client.rest()).endswith(MESSAGES.frames[-1])
            async with serving(tmp_path, providers_at(port), {"dedup": "always"}, hurry=HURRY) as successor:
                rows = await settled(successor, 32)
                assert Counter(row["outcome"] for row in rows) == {"COMPLETE": 2, "CRASHED": 30}
                assert Counter(row["replay"] for row in rows) == {None: 2, "hit": 1, "join": 29}
                assert {row["replay_of"] for row in rows if row["replay"]} == {row["id"] for row in rows if not row["replay"]}
                await provider.let()
                answer = await ask(successor.port, "POST", "/v1/messages", STREAM, KEY)
                assert (answer.body, answer.header("x-penstock-replay"), provider.requests) == (MESSAGES.stream, None, 3)
        finally:
            provider.close()

    run(main())
