"""Every recorded stream, stalled at every frame (cut and reset there: `test_endings_cut`): the client is told in its protocol's own words, the ledger
has one row with the right outcome, and the provider is left.

Recordings of up to `endings.EVERY` frames break before and inside of each of their frames. Longer ones repeat themselves hundreds of times, and
break only where the kind of frame changes, once before and once inside of each run of like frames.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from penstock.vocabulary.ids import ProtocolId
from tests.support.corpus import COLUMNS, cases
from tests.support.endings import LATE_S, TIMERS, End, How, check_time, check_told, elements, places, play, telling, verdict
from tests.support.gateway import run

CUTS = (How.CLEAN, How.EOF, How.RESET)


def gather(how: How) -> list[End]:
    """Between every two frames, and inside of every third (of three ways to be cut, each frame gets one)."""
    numbers = count()
    out: list[End] = []
    mine = CUTS.index(how) if how in CUTS else 0
    for case in telling():
        for turn, (whole, inside) in enumerate(places(case)):
            out.append(End(next(numbers), case, whole, how))
            if turn % len(CUTS) == mine:
                out.append(End(next(numbers), case, inside, how))
        out.append(End(next(numbers), case, len(case.body), how))
    return out


def gather_arrays(hows: Sequence[How]) -> list[End]:
    numbers = count()
    out: list[End] = []
    for case in cases():
        if case.recording.protocol != ProtocolId.GEMINI:
            continue
        at = 0
        for piece in elements(case):
            out += [End(next(numbers), case, at + inside, how, array=True) for how in hows for inside in (0, len(piece) // 2)]
            at += len(piece)
        out += [End(next(numbers), case, at, how, array=True) for how in hows]
    return out


def check(end: End, row: dict[str, Any]) -> None:
    wanted = verdict(end)
    about = (*end.about, wanted, row["outcome"], row["cause"], row["duration_ms"])
    check_told(end, wanted, row)
    assert row["outcome"] == wanted.outcome, about
    assert (row["status"], row["upstream_status"]) == (wanted.status, 200), about
    assert (row["timer"], row["late_settles"]) == (wanted.timer, 0), about
    assert row["ended_by"] == ("gateway" if wanted.timer else "upstream"), about
    assert {word: row[column] for word, column in COLUMNS.items() if row[column] is not None} == wanted.figures, about
    if wanted.status == 200:
        assert row["bytes_out"] == len(end.answer.body), about
    if wanted.timer is not None:
        check_time(row, wanted, about)


@pytest.mark.parametrize("how", [How.STALL, How.PINGS])
def test_stalled_at_every_frame(tmp_path: Path, how: How) -> None:
    """Silent, and with pings that hide the stall from whoever counts bytes."""

    async def main() -> None:
        ends = gather(how)
        if how is How.PINGS:  # inside of a frame a ping is a part of it; and what comes behind the terminal event is passed on
            ends = [end for end in ends if verdict(end).kept == end.at and verdict(end).outcome != "COMPLETE"]
        rows = await play(tmp_path, ends, at_once=160)
        for end in ends:
            check(end, rows[end.model])
        timers = {verdict(end).timer for end in ends}
        assert timers - {None} == {"first_content", "tool_call", "idle" if how is How.STALL else "content"}

    run(main())


def test_arrays_at_every_element(tmp_path: Path) -> None:
    """Gemini's array form: what the client has in the end is still one JSON array, and its last element is the error."""

    async def main() -> None:
        ends = gather_arrays([How.CLEAN, How.EOF, How.RESET, How.STALL])
        rows = await play(tmp_path, ends, at_once=50)
        for end in ends:
            check(end, rows[end.model])

    run(main())


def test_stalls_are_ended_in_time(tmp_path: Path) -> None:
    """Three of four within 250 ms of their timer, and of what the machine kept this loop from running; the others are bounded above."""

    async def main() -> None:
        ends = [end for end in gather(How.STALL) if verdict(end).timer is not None][::20]
        kept = 0.0

        async def watch() -> None:
            nonlocal kept
            while True:
                before = asyncio.get_running_loop().time()
                await asyncio.sleep(0.005)
                kept = max(kept, asyncio.get_running_loop().time() - before - 0.005)

        watching = asyncio.create_task(watch())
        rows = await play(tmp_path, ends, at_once=20)
        watching.cancel()
        late = sorted(rows[end.model]["duration_ms"] / 1e3 - TIMERS[verdict(end).timer or ""] for end in ends)
        assert late[0] >= 0
        assert late[len(late) * 3 // 4] <= LATE_S + kept, (late, kept)

    run(main())
