"""How answers end, through Google's client: its own error class for each bad ending, and nothing for what only keeps a stream open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from google.genai import errors

from tests.support.endings_plays import BEFORE, BEHIND, LATE, MESSAGE, WHOLE
from tests.support.endings_sdk import AWAKE, DRAINED, Met, Way, awake_and_asleep, meet, shut_down, stage
from tests.support.gateway import run
from tests.support.sdk import Mode, each_mode, gemini_sdk, plain

STREAM = [Way("stream", lambda c, model: c.models.generate_content_stream(model=model, contents="hello"), "many")]
ONE = [Way("whole", lambda c, model: c.models.generate_content(model=model, contents="hello"), "one")]
IN_BAND = {"error-event": 503, "late-status-400": 400, "late-status-429": 429, "late-status-529": 529, "late-first-limited": 429, "hold": 503}
"""The error's code, where it is not 502 (504 for timers)."""


def check(met: Met, status: int) -> None:
    error: Any = met.error
    assert error.__class__ is (errors.ClientError if status < 500 else errors.ServerError), met.about
    assert error.code == status, met.about
    assert met.play.words in error.message, met.about
    assert error.status, met.about
    if met.play.words != MESSAGE:
        assert met.row["id"] in json.dumps(error.details), met.about


def check_before(met: Met) -> None:
    check(met, met.play.status)
    assert met.row["status"] == met.play.status, met.about
    if met.name.startswith("status-") or met.name == "plain-503":
        assert met.error.response.headers["retry-after"] == "7", met.about


def check_behind(met: Met) -> None:
    check(met, IN_BAND.get(met.name, 504 if met.play.timer else 502))
    assert met.row["status"] == 200, met.about


@each_mode
def test_before_the_first_byte(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        async with stage(tmp_path, gemini_sdk, mode) as (here, sdk):
            for met in await meet(here, sdk, STREAM, BEFORE):
                check_before(met)

    run(main())


@each_mode
def test_without_a_stream(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        async with stage(tmp_path, gemini_sdk, mode) as (here, sdk):
            for met in await meet(here, sdk, ONE, WHOLE):
                check_before(met)

    run(main())


@each_mode
def test_behind_the_first_byte(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        async with stage(tmp_path, gemini_sdk, mode) as (here, sdk):
            for met in await meet(here, sdk, STREAM, BEHIND):
                check_behind(met)

    run(main())


@each_mode
def test_behind_an_early_head(tmp_path: Path, mode: Mode) -> None:
    """What could have had a status, had it come at once, is told in band."""

    async def main() -> None:
        async with stage(tmp_path, gemini_sdk, mode, AWAKE) as (here, sdk):
            for met in await meet(here, sdk, STREAM, [f"late-{name}" for name in LATE]):
                check_behind(met)

    run(main())


@each_mode
def test_a_shutdown(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        async with stage(tmp_path, gemini_sdk, mode, DRAINED) as (here, sdk):
            for met in await shut_down(here, sdk, STREAM, ONE):
                (check_before if met.name == "hold-head" else check_behind)(met)

    run(main())


@each_mode
def test_keepalives_and_early_heads_are_no_chunks(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        for awake, asleep in await awake_and_asleep(tmp_path, gemini_sdk, mode, STREAM):
            assert awake.error is None, awake.about
            assert len(awake.events) > 5, awake.about
            assert plain(awake.events) == plain(asleep.events), awake.about

    run(main())
