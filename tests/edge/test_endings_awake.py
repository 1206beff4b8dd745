"""Streams that stall while they are kept alive: what keeps the client's side open re-arms no timer of ours, is never put inside of a frame, and
is no part of the answer. A stream that has not begun is opened early, and then fails in band.

Recordings of all protocols, at each of their frames; the client takes the keep-alives out again where the protocol says that they mean nothing.
"""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from penstock.protocols import REGISTRY
from penstock.vocabulary.ids import ProtocolId
from tests.support.corpus import Case
from tests.support.endings import End, How, check_gemini, check_time, check_words, elements, places, play, telling, verdict
from tests.support.gateway import run

TURNS = 3
"""A machine that stands still for three tenths of a second leaves no time for two keep-alives, and that is no fault of the gateway: those that were
told too few are played again."""
AWAKE: dict[str, Any] = {"keepalive": 0.1, "early_head": 1.0, "log": {"level": "error"}}


def some() -> list[Case]:
    """Of each protocol the shortest two, and the shortest two with tool calls."""
    out: list[Case] = []
    for protocol in ProtocolId:
        mine = sorted((case for case in telling() if case.recording.protocol == protocol), key=lambda case: len(case.recording.frames))
        mine = [case for case in mine if case.expected["outcome"] == "COMPLETE"]
        out += {case.name: case for case in (*mine[:2], *[case for case in mine if case.expected["tools"]][:2])}.values()
    return out


@pytest.mark.parametrize("how", [How.STALL, How.PINGS])
def test_keepalives_hide_no_stall(tmp_path: Path, how: How) -> None:
    async def main() -> None:
        numbers = count()
        ends = [End(next(numbers), case, at, how) for case in some() for place in places(case) for at in place]
        ends = [end for end in ends if verdict(end).outcome != "COMPLETE" and (how is How.STALL or verdict(end).kept == end.at)]
        assert len(ends) > 100
        left = ends
        for turn in range(TURNS):
            rows, seldom = await play(place_in(tmp_path, turn), left, at_once=120, more=AWAKE), list[End]()
            for end in left:
                row, wanted, answer = rows[end.model], verdict(end), end.answer
                about = (*end.about, row["cause"], answer.body[-400:])
                still = REGISTRY[end.case.recording.protocol].keepalive
                assert (answer.status, answer.clean) == (200, True), about
                assert (row["outcome"], row["timer"], row["bytes_out"]) == ("TIMED_OUT", wanted.timer, len(answer.body)), about
                check_time(row, wanted, about)
                kept = end.body[: wanted.kept]
                words, before, behind = strip(answer.body, kept, still)
                seldom += [end] * (before + behind <= (how is How.STALL))  # with pings of the provider's own none are needed
                assert wanted.kept or row["status"] == 200, about
                check_words(end.case.recording.protocol, kept, words, row["id"])
            left = seldom
            if len(left) <= len(ends) // 10:
                break
        assert len(left) <= len(ends) // 10

    run(main())


def place_in(directory: Path, turn: int) -> Path:
    place = directory / str(turn)
    place.mkdir()
    return place


def strip(body: bytes, kept: bytes, still: bytes) -> tuple[bytes, int, int]:
    """The words behind what was kept, and how many keep-alives (and pings) stood before it and behind it."""
    counts: list[int] = []
    for piece in (kept, b""):
        found = 0
        while not piece or not body.startswith(piece):
            for word in (still, b": still here\n\n"):
                if body.startswith(word):
                    body = body[len(word) :]
                    found += 1
                    break
            else:
                break
        assert body.startswith(piece), (body[:300], piece[:300])
        body = body[len(piece) :]
        counts.append(found)
    return body, counts[0], counts[1]


def test_arrays_are_kept_open_with_white_space(tmp_path: Path) -> None:
    """One JSON array in the end, whatever was put between its elements."""

    async def main() -> None:
        numbers = count()
        ends: list[End] = []
        for case in some():
            if case.recording.protocol == ProtocolId.GEMINI:
                at = 0
                for piece in elements(case):
                    ends += [End(next(numbers), case, at + inside, How.STALL, array=True) for inside in (0, len(piece) // 2)]
                    at += len(piece)
        left = ends
        for turn in range(TURNS):
            rows, seldom = await play(place_in(tmp_path, turn), left, at_once=40, more=AWAKE), list[End]()
            for end in left:
                row, wanted, answer = rows[end.model], verdict(end), end.answer
                assert (answer.status, answer.clean, row["outcome"], row["timer"]) == (200, True, "TIMED_OUT", wanted.timer), end.about
                check_time(row, wanted, end.about)
                found = json.loads(answer.body)
                assert found[:-1] == json.loads(end.body[: wanted.kept] + b"]" if wanted.kept else b"[]"), end.about
                check_gemini(found[-1], row["id"])
                seldom += [end] * (answer.body.count(b"\n") == end.body[: wanted.kept].count(b"\n"))
            left = seldom
            if len(left) <= len(ends) // 10:
                break
        assert len(left) <= len(ends) // 10

    run(main())
