"""Long streams over real sockets, whose notes lie in the data directory: whoever joins, and whenever, gets its own stream, byte for byte."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from penstock.lab.scripted import LAST_CHUNK, SSE_HEAD, ScriptedServer, Visit, chunk
from tests.support.gateway import Running, gateway, providers_at, run
from tests.support.http import Answer, ask, read_answer, request
from tests.support.process import serving

KEY = {"authorization": "Bearer sk-client"}
AGAIN = {**KEY, "x-stainless-retry-count": "1"}
DONE = b"data: [DONE]\n\n"


def frame(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return b"data: %b\n\n" % json.dumps({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}).encode()


def frames_of(number: int) -> list[bytes]:
    """Those of one question: few or many, small, large, alike, or such as cannot be packed."""
    dice = Random(number)
    texts = [
        lambda: "a word",
        lambda: dice.randbytes(dice.choice((4, 400, 1500))).hex(),
        lambda: dice.randbytes(dice.choice((10, 3000, 40_000))).hex(),
        lambda: dice.randbytes(70_000).hex(),
    ]
    kind = number % 4
    count = dice.randint(*((300, 2000), (100, 600), (20, 60), (2, 8))[kind])
    return [*(frame(f"{number}/{at} {texts[kind]()}") for at in range(count)), frame("", "stop"), DONE]


def question(number: int) -> dict[str, Any]:
    return {"model": "m", "stream": True, "messages": [{"role": "user", "content": str(number)}]}


class Provider(ScriptedServer):
    """Answers each question with its own stream, in pieces of any size."""

    def __init__(self, pause: float = 0.0) -> None:
        super().__init__(self._tell)
        self.asked_of: Counter[int] = Counter()
        self._pause = pause

    async def _tell(self, visit: Visit) -> None:
        number = int(json.loads(await visit.body())["messages"][0]["content"])
        self.asked_of[number] += 1
        dice, whole, at = Random(number), b"".join(frames_of(number)), 0
        await visit.send(SSE_HEAD)
        while at < len(whole):
            size = dice.choice((100, 1000, 10_000, 100_000))
            await visit.send(chunk(whole[at : at + size]))
            at += size
            if dice.random() < 0.1:
                await asyncio.sleep(self._pause)
        await visit.send(LAST_CHUNK)


async def asks(port: int, number: int, headers: dict[str, str], dice: Random, how: str) -> Answer | None:
    """`how`: `fast`, `slow`, `stops` for a while, or `leaves`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2048 if how in ("slow", "stops") else 1 << 26)
    try:
        writer.write(request("POST", "/v1/chat/completions", json.dumps(question(number)).encode(), {**headers, "connection": "close"}))
        if how == "leaves":
            await reader.read(dice.randrange(1, 60_000))
            return None
        if how != "fast":
            kept = asyncio.StreamReader(limit=1 << 26)
            stopped = False
            while piece := await reader.read(dice.choice((100, 5000, 1 << 20))):
                kept.feed_data(piece)
                if how == "slow" and dice.random() < 0.05:
                    await asyncio.sleep(0.02)
                if how == "stops" and not stopped:
                    stopped = True
                    await asyncio.sleep(2.5)
            kept.feed_eof()
            reader = kept
        async with asyncio.timeout(30):
            return await read_answer(reader)
    finally:
        writer.transport.abort()


def check(answer: Answer, number: int, *, may_lag: bool = False) -> None:
    whole = b"".join(frames_of(number))
    assert answer.status == 200
    if may_lag and b"too far behind" in answer.body:
        told, _, _ = answer.body.rpartition(b"\n\ndata: {\"error\"")
        assert whole.startswith(told)
        return
    assert answer.clean
    assert answer.body == whole


async def emptied(gw: Running) -> None:
    """Wait until nothing is kept any more, and see that nothing is left of it."""
    desk = gw.app.gateway.desk
    assert desk is not None
    assert desk.shelf is not None
    await gw.quiet()
    async with asyncio.timeout(10):
        while desk.holds:  # noqa: ASYNC110  # nobody tells; the wait is bounded
            await asyncio.sleep(0.05)
    assert (desk.shelf.pieces, desk.budget.used, desk.owed) == (0, 0, 0)


@pytest.mark.parametrize("limits", [{}, {"noted": "48KiB", "noted_total": "400KiB"}, {"noted_answers": 1}], ids=["usual", "small", "one kept"])
def test_each_of_many_streams_side_by_side_is_told_as_it_is_to_whoever_joins(tmp_path: Path, limits: dict[str, Any]) -> None:
    dice = Random(7)

    async def main() -> None:
        provider = Provider(0.02)
        more = {"dedup": "always", "dedup_ttl": "1s", "dedup_tool_ttl": "1s", "limits": limits}
        async with gateway(tmp_path, providers_at(await provider.start()), more) as gw:
            told: list[tuple[int, Answer]] = []

            async def one(number: int, delay: float, how: str) -> None:
                await asyncio.sleep(delay)
                keyed = {"idempotency-key": f"key {number}"} if number % 3 == 0 else {}
                answer = await asks(gw.port, number, {**AGAIN, **keyed}, dice, how)
                if answer is not None:
                    told.append((number, answer))

            clients = [one(number, 0.02 * number, dice.choice(("fast", "slow", "stops", "leaves"))) for number in range(32)]
            for number in range(32):
                hows = dice.choices(("fast", "slow", "stops", "leaves"), k=3)
                clients += [one(number, 0.02 * number + dice.random() * dice.choice((0.05, 1.5)), how) for how in hows]
            await asyncio.gather(*clients)
            for number, answer in told:
                check(answer, number, may_lag=True)
            replays = Counter(answer.header("x-penstock-replay") for _, answer in told)
            assert replays["join"] > 5
            assert replays["hit"] > 5 or limits
            await emptied(gw)
        provider.close()

    run(main())


def notes_of(pid: int, directory: Path) -> list[Path]:
    """The open files of a process that lie in a directory without a name."""
    found = [fd for fd in Path(f"/proc/{pid}/fd").iterdir() if str(fd.readlink()).startswith(str(directory))]
    return [fd for fd in found if fd.stat().st_nlink == 0]


def test_a_full_disk_leaves_notes_in_memory_and_a_kill_leaves_none_at_all(tmp_path: Path) -> None:
    async def main() -> None:
        provider = Provider()
        port = await provider.start()
        async with serving(tmp_path, providers_at(port), {"dedup": "always"}, hurry={"lease_s": 1.0, "renew_s": 0.2}) as process:
            names = {path.name for path in process.data_dir.iterdir()}
            assert not notes_of(process.pid, process.data_dir)
            for number in (0, 4):
                if number:
                    while not any(file.stat().st_size > 1000 for file in notes_of(process.pid, process.data_dir)):  # noqa: ASYNC110  # a thread writes it
                        await asyncio.sleep(0.01)
                    process.fill_disk()
                for kind in (None, "hit"):
                    answer = await ask(process.port, "POST", "/v1/chat/completions", question(number), KEY)
                    check(answer, number)
                    assert answer.header("x-penstock-replay") == kind
            await process.said("notes of answers stay in memory")
            process.free_disk()
            [notes] = notes_of(process.pid, process.data_dir)
            assert notes.stat().st_size > 1000
            await process.kill()
            left = {path.name for path in process.data_dir.iterdir()} - names
            assert not [name for name in left if not name.startswith(("ledger.db-", "spill-"))], "those are the ledger's"
        provider.close()

    run(main())


def test_a_gateway_that_is_stopped_while_notes_are_read_ends_without_a_word_too_many(tmp_path: Path) -> None:
    dice = Random(1)

    async def main() -> None:
        provider = Provider()
        port = await provider.start()
        async with serving(tmp_path, providers_at(port), {"dedup": "always", "drain": "200ms"}) as process:
            check(await ask(process.port, "POST", "/v1/chat/completions", question(0), KEY), 0)
            slow = [asyncio.create_task(asks(process.port, 0, KEY, dice, "stops")) for _ in range(3)]
            await asyncio.sleep(0.3)
            assert await process.stop() == 0
            assert "Traceback" not in process.stderr
            assert "Exception ignored" not in process.stderr
            await asyncio.gather(*slow, return_exceptions=True)
        provider.close()

    run(main())
