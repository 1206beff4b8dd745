"""What a recorded stream is charged in each protocol, however it ends, over real sockets: what its provider stated, or what came of it by then; once;
and a budget is left exactly where the rows say."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from penstock.lab.scripted import LAST_CHUNK, SSE_HEAD, ScriptedServer, Visit, chunk, whole
from penstock.vocabulary.ids import ProtocolId
from tests.support.corpus import COLUMNS, Case, cases
from tests.support.endings import End, How, verdict
from tests.support.gateway import Running, gateway, providers_at, run
from tests.support.http import read_answer, request
from tests.support.process import Row, rows_in

ALL = {case.name: case for case in cases()}
WHOLE = {
    "openai_chat/test_complex_agent_run_0": (364, 40),
    "openai_responses/test_openai_responses_stream_0": (255, 16),
    "anthropic_messages/test_anthropic_model_thinking_part_stream_0": (43, 282),
    "gemini/test_google_model_thinking_part_iter_0": (34, 469 + 787),
}
"""What each comes to, by hand: input and output; Gemini counts its thoughts beside its output."""
EACH = pytest.mark.parametrize("name", WHOLE, ids=lambda name: name.split("/")[0])
PURSE = {"admission": {"budgets": [{"tokens": 1_000_000_000, "per": "total", "action": "block", "name": "purse"}]}}
BAD_ENDS = {How.EOF: "UPSTREAM_LOST", How.RESET: "UPSTREAM_LOST", How.CLEAN: "TRUNCATED", How.STALL: "TIMED_OUT"}


@dataclass(frozen=True)
class Part:
    """The first half of a recording."""

    case: Case

    @property
    def frames(self) -> int:
        return len(self.case.recording.frames) // 2

    @property
    def body(self) -> bytes:
        return b"".join(frame.raw for frame in self.case.recording.frames[: self.frames])

    @property
    def figures(self) -> dict[str, int]:
        """What is stated in it."""
        return dict(verdict(End(0, self.case, len(self.body), How.EOF)).figures)

    def charge(self, asked: int) -> tuple[int, int]:
        """A token for each event, where less is stated; four bytes of the request for one, where nothing is. `asked`: bytes of it."""
        stated, is_gemini = self.figures, self.case.recording.protocol is ProtocolId.GEMINI
        events = sum(bool(frame.data) for frame in self.case.recording.frames[: self.frames])
        output = max(stated.get("output", 0), events) + (stated.get("reasoning", 0) if is_gemini else 0)
        return stated.get("input", -(-asked // 4)), output


class Provider(ScriptedServer):
    """Does with a recording what the header `x-fate` says."""

    def __init__(self, case: Case) -> None:
        super().__init__(self._play)
        self.asked_for: Counter[str] = Counter()
        self._case = case
        self.go_on = asyncio.Event()

    async def _play(self, visit: Visit) -> None:
        await visit.body()
        fate = visit.asked.header("x-fate") or ""
        self.asked_for[fate] += 1
        if fate == "refused" or (fate == "busy, then whole" and self.asked_for[fate] == 1):
            await visit.send(whole(b'{"error":{"message":"no"}}', 400 if fate == "refused" else 503, "retry-after: 0"))
            return
        await visit.send(SSE_HEAD)
        if fate == "empty, then whole" and self.asked_for[fate] == 1:
            await visit.reset()
            return
        part = Part(self._case).body
        await visit.send(chunk(part))
        if fate == "left":
            await visit.left()
        elif fate == How.RESET:
            await visit.reset()
        elif fate == How.EOF:
            visit.close()
        elif fate == How.CLEAN:
            await visit.send(LAST_CHUNK)
        elif fate == How.STALL:
            await visit.left()
        else:
            if fate == "left, and read on":
                await self.go_on.wait()
            await visit.send(chunk(self._case.body[len(part) :]) + LAST_CHUNK)


@asynccontextmanager
async def house(directory: Path, case: Case, more: dict[str, Any]) -> AsyncGenerator[tuple[Running, Provider]]:
    provider = Provider(case)
    port = await provider.start()
    try:
        async with gateway(directory, providers_at(port), {**PURSE, "keepalive": "off", "early_head": "off", **more}) as running:
            yield running, provider
    finally:
        provider.close()


async def stream(running: Running, case: Case, fate: str, *, rest: bool = False) -> bytes:
    """The body as its client has it in the end; who leaves does so when it has the part (`rest`: it does not leave)."""
    path, body = case.request()
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    try:
        writer.write(request("POST", path, json.dumps(body).encode(), {"x-fate": fate, "x-penstock-session": fate}))
        async with asyncio.timeout(15):
            if not fate.startswith("left") or rest:
                return (await read_answer(reader)).body
            await reader.readuntil(b"\r\n\r\n")
            part, seen = Part(case).body, b""
            while part not in seen:
                seen += (await reader.readexactly(int(await reader.readuntil(b"\r\n"), 16) + 2))[:-2]
            return seen
    finally:
        writer.transport.abort()


async def rows_of(running: Running) -> dict[str, list[Row]]:
    """By fate."""
    found: dict[str, list[Row]] = {}
    for row in await running.rows():
        found.setdefault(row["session_id"], []).append(row)
    return found


def charge(row: Row) -> tuple[int, int]:
    return row["charged_input"], row["charged_output"]


def figures(row: Row) -> dict[str, int]:
    return {word: row[column] for word, column in COLUMNS.items() if row[column] is not None}


def check_purse(directory: Path, rows: dict[str, list[Row]]) -> None:
    """The database has what the rows sum up to, and nothing is set aside any more."""
    [purse] = rows_in(directory / "data", "budget_spent")
    assert purse["spent"] == sum(sum(charge(row)) for each in rows.values() for row in each if row["charged_input"] is not None)
    assert sum(row["held"] for row in rows_in(directory / "data", "budget_held")) == 0


@EACH
def test_however_a_stream_ends_it_is_charged_what_came_of_it(tmp_path: Path, name: str) -> None:
    case, part = ALL[name], Part(ALL[name])

    async def main() -> None:
        more = {"dedup": False, "retries": {"status": 1, "first_frame": 1}, "timers": {"idle": "500ms", "first_content": "500ms"}}
        async with house(tmp_path, case, more) as (running, provider):
            fates = ["whole", "busy, then whole", "empty, then whole", "refused", "left", *BAD_ENDS]
            told = dict(zip(fates, await asyncio.gather(*(stream(running, case, fate) for fate in fates)), strict=True))
            rows = {fate: row for fate, [row] in (await rows_of(running)).items()}
            for fate in ("whole", "busy, then whole", "empty, then whole"):
                assert told[fate] == case.body
                assert (rows[fate]["outcome"], figures(rows[fate]), charge(rows[fate])) == ("COMPLETE", case.expected["usage"], WHOLE[name])
                assert rows[fate]["usage_source"] == "reported"
            for fate, outcome in {"left": "CLIENT_GONE", **BAD_ENDS}.items():
                row = rows[fate]
                assert told[fate].startswith(part.body)
                assert (row["outcome"], figures(row), charge(row)) == (outcome, part.figures, part.charge(row["bytes_in"])), fate
            assert (rows["refused"]["outcome"], figures(rows["refused"]), charge(rows["refused"])) == ("UPSTREAM_ERROR", {}, (0, 0))
            assert {fate for fate, asked in provider.asked_for.items() if asked == 2} == {"busy, then whole", "empty, then whole"}
        check_purse(tmp_path, {fate: [row] for fate, row in rows.items()})

    run(main())


@EACH
def test_what_is_read_on_is_charged_whole_and_what_is_told_again_is_not_charged(tmp_path: Path, name: str) -> None:
    case = ALL[name]

    async def main() -> None:
        async with house(tmp_path, case, {"dedup": "always", "on_disconnect": "drain"}) as (running, provider):
            assert [await stream(running, case, "whole") for _ in range(3)] == [case.body] * 3
            joining = [asyncio.create_task(stream(running, case, "left, and read on")) for _ in range(2)]
            await asyncio.gather(*joining)
            provider.go_on.set()
            rows = await rows_of(running)
            first, *others = rows["whole"]
            assert (charge(first), figures(first)) == (WHOLE[name], case.expected["usage"])
            left, joined = rows["left, and read on"]
            assert (left["outcome"], charge(left), figures(left)) == ("CLIENT_GONE", WHOLE[name], case.expected["usage"])
            assert [row["replay"] for row in (first, *others, left, joined)] == [None, "hit", "hit", None, "join"]
            for row in (*others, joined):
                assert (sum(filter(None, charge(row))), row["input_tokens"], row["output_tokens"]) == (0, 0, 0)
            assert provider.asked_for == {"whole": 1, "left, and read on": 1}
        check_purse(tmp_path, rows)

    run(main())


@pytest.mark.parametrize("name", ["openai_chat/test_crusoe_model_streaming_0", "anthropic_messages/test_anthropic_model_thinking_part_stream_0"])
def test_what_a_guard_cuts_at_its_first_word_is_charged_what_had_come_by_then(tmp_path: Path, name: str) -> None:
    case = ALL[name]
    guards = {"guards": [{"name": "no words", "patterns": [r"[^\s{}]"], "on": ["answer"], "action": "reject"}]}

    async def main() -> None:
        async with house(tmp_path, case, {"dedup": False, **guards}) as (running, provider):
            told = await stream(running, case, "left, and read on", rest=True)  # there is more of it, which nobody waits for
            rows = await rows_of(running)
            [row] = rows["left, and read on"]
            assert not told.startswith(Part(case).body)
            stated = figures(row)
            assert (row["outcome"], row["ended_by"], row["rule"], row["ttft_ms"]) == ("CUT", "gateway", "no words", None)
            assert charge(row) == (stated.get("input", -(-row["bytes_in"] // 4)), max(stated.get("output", 0), row["events"]))
            assert min(charge(row)) > 0
            assert provider.asked_for.total() == 1
        check_purse(tmp_path, rows)

    run(main())
