"""Five hundred slow raw texts of legacy Argo at once: none waits for another, and what is added to the first word does not grow with their number.

All are open before the first word. The first words go one after the other, each when the client of the one before has its own; the pieces after
them in step, none before every client has the one before it. So a connection that was kept waiting, or a piece that was held back, would stop them
all. No assertion is about a clock; the times are printed.
"""

from __future__ import annotations

import asyncio
import json
import resource
import statistics
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from penstock.lab.scripted import LAST_CHUNK, ScriptedServer, Visit, chunk, head
from tests.support.argo import RAW_HEAD, argo
from tests.support.gateway import run
from tests.support.http import request
from tests.support.process import Process, rows_in, serving

ROUNDS = 10
PATHS = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
}


@pytest.fixture(autouse=True)
def many_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else 65536, hard))


class Steps:
    """`count` streams, their first words in a row and everything after them in step."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.open = 0
        self.most_open = 0
        self.had = [0] * (ROUNDS + 1)
        self.turns = [asyncio.Event() for _ in range(ROUNDS + 1)]
        self.sent: dict[str, float] = {}
        """When each stream's first piece went out, by its model."""
        self.waited: list[float] = []
        self.order: list[int] = []
        """In which the first words came."""
        self.mine = [asyncio.Event() for _ in range(count + 1)]
        self.bursts: list[float] = []
        """Seconds in which a piece of every stream went through, all at once."""
        self.began = 0.0

    async def answer(self, visit: Visit) -> None:
        if visit.asked.method == "GET":  # names that the gateway does not know are looked up, once
            await visit.send(head(200, "Content-Type: application/json", "Content-Length: 11") + b'{"data":[]}')
            return
        model = json.loads(await visit.body())["model"]
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        await visit.send(RAW_HEAD)
        self.have(0)
        for number in range(ROUNDS):
            await self.turns[number].wait()
            if number == 0:
                await self.mine[int(model[1:])].wait()
                self.sent[model] = monotonic()
            await visit.send(chunk(b"<%d>" % number))
        await self.turns[ROUNDS].wait()
        await visit.send(LAST_CHUNK)
        self.open -= 1

    def have(self, number: int) -> None:
        """One more has all pieces before `number`."""
        self.had[number] += 1
        if self.had[number] == self.count:
            now = monotonic()
            if number > 1:
                self.bursts.append(now - self.began)
            self.began = now
            self.turns[number].set()
            self.mine[0].set()

    async def client(self, port: int, index: int) -> None:
        path = list(PATHS)[index % len(PATHS)]
        body: dict[str, Any] = {"model": f"m{index}", "stream": True, **PATHS[path]}
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request("POST", path, json.dumps(body).encode()))
        for number in range(ROUNDS):
            await reader.readuntil(b"<%d>" % number)
            if number == 0:
                self.waited.append(monotonic() - self.sent[f"m{index}"])
                self.order.append(index)
                self.mine[index + 1].set()
            self.have(number + 1)
        await reader.readuntil(b"0\r\n\r\n")
        writer.close()


async def play(gateway: Process, upstream: ScriptedServer, count: int) -> Steps:
    steps = Steps(count)
    upstream.scripts[-1] = steps.answer
    async with asyncio.timeout(120):
        await asyncio.gather(*(steps.client(gateway.port, index) for index in range(count)))
    return steps


@pytest.mark.timeout(400)
def test_five_hundred_slow_streams(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        upstream = ScriptedServer([RAW_HEAD])
        port = await upstream.start()
        told: list[str] = []
        async with serving(tmp_path, argo(port)) as gateway:
            for count in (1, 50, 500):
                steps = await play(gateway, upstream, count)
                assert steps.most_open == count  # all at once
                assert steps.had == [count] * (ROUNDS + 1)
                assert steps.order == list(range(count))
                waited = sorted(steps.waited)
                last = waited[int(0.99 * (count - 1))]
                first = f"first word added {statistics.median(waited) * 1e3:.2f} ms (p50), {last * 1e3:.2f} ms (p99)"
                told.append(f"{count} open: {first}; a piece of each at once in {statistics.median(steps.bursts) * 1e3:.1f} ms")
            assert await gateway.stop() == 0
            rows = rows_in(gateway.data_dir)
            assert len(rows) == 551
            assert {(row["outcome"], row["usage_source"]) for row in rows} == {("COMPLETE", "estimated")}
        upstream.close()
        with capsys.disabled():
            print("\n" + "\n".join(told))

    run(main())
