"""Every recorded stream through a running gateway: healthy, cut, and reset."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from penstock.lab.server import Chunk, Cut, ReplayServer
from penstock.vocabulary.ids import ProtocolId
from tests.support.corpus import COLUMNS, Case, cases, distinct
from tests.support.gateway import Running, gateway, providers_at, run
from tests.support.http import Answer, ask

SHORT = 8192
CUTS: tuple[Cut, ...] = ("eof", "reset", "clean")


@asynccontextmanager
async def relay(directory: Path, chunk: Chunk = "whole") -> AsyncGenerator[tuple[Running, ReplayServer]]:
    server = ReplayServer([c.recording for c in cases()], chunk=chunk, seed=7)
    port = await server.start("127.0.0.1", 0)
    try:
        async with gateway(directory, providers_at(port), {"keepalive": "off", "early_head": "off"}) as running:
            yield running, server
    finally:
        server.close()


async def stream(running: Running, case: Case) -> Answer:
    path, body = case.request()
    return await ask(running.port, "POST", path, body)


def check_row(row: dict[str, Any], case: Case) -> None:
    expected = case.expected
    assert row["outcome"] == expected["outcome"], row["cause"]
    assert row["status"] == 200
    assert row["streamed"]
    assert row["stop_reason"] == expected["stop_reason"] or (row["stop_reason"] == "incomplete" and expected["outcome"] != "COMPLETE")
    assert row["response_id"] == expected["response_id"]
    assert row["model"] == expected["model"]
    usage: dict[str, int] = expected["usage"] or {}
    for word, column in COLUMNS.items():
        assert row[column] == usage.get(word), column
    assert row["usage_source"] == ("none" if not usage else "reported" if expected["outcome"] == "COMPLETE" else row["usage_source"])
    assert row["bytes_out"] == len(case.body)
    assert row["ttft_ms"] is None or 0 < row["ttft_ms"] <= row["duration_ms"]


@pytest.mark.parametrize("chunk", ["whole", 1, 7, "random"])
def test_byte_identical_with_one_exact_row(tmp_path: Path, chunk: Chunk) -> None:
    """Byte by byte only where that is not ten thousand reads: what a stream's rooms do with them is proved without sockets, for all."""

    async def main() -> None:
        mine = [case for case in cases() if chunk != 1 or len(case.body) <= SHORT]
        assert {case.recording.protocol for case in mine} == {case.recording.protocol for case in cases()}
        async with relay(tmp_path, chunk) as (running, _):
            answers: list[Answer] = []
            for some in _batches(mine, 8):
                answers += await asyncio.gather(*(stream(running, case) for case in some))
            rows = {row["requested_model"].removeprefix("replay/"): row for row in await running.rows()}
            assert len(rows) == len(mine)
            for case, answer in zip(mine, answers, strict=True):
                assert answer.clean, case.name
                assert answer.body == case.body, case.name
                check_row(rows[case.name], case)

    run(main())


def _batches(some: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [some[i : i + size] for i in range(0, len(some), size)]


def _cuts(case: Case) -> list[int]:
    """Every frame boundary, and a place inside every frame; before what completes the stream."""
    out: list[int] = []
    at = 0
    frames = case.recording.frames
    for number, frame in enumerate(frames):
        end = at + len(frame.raw)
        if frame.data and number < len(frames):
            # Before the last byte of the empty line; where that is CRLF, its CR alone ends the frame already.
            out += [at + (len(frame.raw) * (number % 7 + 1)) // 9, end - (2 if frame.raw.endswith(b"\r\n") else 1)]
        at = end
        if number < len(frames) - 1:
            out.append(at)
    return sorted({0, *out} - {len(case.body)})


@pytest.mark.parametrize("how", CUTS)
def test_cut_short_is_never_complete(tmp_path: Path, how: Cut) -> None:
    """Of the three ways to be cut, each place has one; each frame boundary has all three in `test_endings_cut`."""

    async def main() -> None:
        async with relay(tmp_path) as (running, server):
            server.cut_how = how
            wanted = 0
            for case in distinct():
                frames = case.recording.frames
                terminal = sum(len(f.raw) for f in frames[:-1])
                for at in _cuts(case)[CUTS.index(how) :: 3]:
                    if how == "clean" and at >= _finished(case) and _boundary(case, at) == at:
                        continue  # Gemini: a finish reason, and then a clean end of the body, is complete
                    server.cut_at = at
                    answer = await stream(running, case)
                    wanted += 1
                    # What the client has is what came in whole frames, and then words of ours.
                    boundary = _boundary(case, at)
                    if answer.status == 200:
                        assert answer.body.startswith(case.body[:boundary]), (case.name, at)
                        told = answer.body[boundary:]
                        if case.expected["outcome"] == "COMPLETE" and at < terminal:
                            assert b"error" in told or b"response.failed" in told, (case.name, at, told)
                            assert answer.clean, (case.name, at)
                    else:
                        assert answer.status == 502
            rows = await running.rows()
            assert len(rows) == wanted
            wrong = [(r["requested_model"], r["cause"]) for r in rows if r["outcome"] not in ("TRUNCATED", "UPSTREAM_LOST", "UPSTREAM_ERROR")]
            assert not wrong, wrong[:3]
            assert running.app.client.open == 0 or how == "clean"
            assert running.app.gateway.held.used == 0
            assert running.app.gateway.peeked.used == 0

    run(main())


def _boundary(case: Case, at: int) -> int:
    end = 0
    for frame in case.recording.frames:
        if end + len(frame.raw) > at:
            break
        end += len(frame.raw)
    return end


def _finished(case: Case) -> int:
    """Where a Gemini stream has its finish reason; beyond the end for protocols with a terminal event."""
    if case.recording.protocol != ProtocolId.GEMINI:
        return len(case.body)
    end = 0
    for frame in case.recording.frames:
        end += len(frame.raw)
        if b'"finishReason"' in frame.raw:
            break
    return end
