"""How answers end, through Anthropic's client: its own error class for each bad ending, and nothing for what only keeps a stream open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anthropic
from anthropic import APIStatusError

from tests.support.endings_plays import BEFORE, BEHIND, LATE, WHOLE
from tests.support.endings_sdk import AWAKE, DRAINED, Met, Way, awake_and_asleep, meet, shut_down, stage
from tests.support.gateway import run
from tests.support.sdk import Mode, anthropic_sdk, each_mode, plain

HELLO: list[dict[str, str]] = [{"role": "user", "content": "hello"}]
ASKED: dict[str, Any] = {"messages": HELLO, "max_tokens": 9}
STREAMS = [
    Way("stream", lambda c, model: c.messages.create(model=model, stream=True, **ASKED), "many"),
    Way("helper", lambda c, model: c.messages.stream(model=model, **ASKED), "helped", lambda s: s.get_final_message()),
    Way("beta", lambda c, model: c.beta.messages.stream(model=model, **ASKED), "helped", lambda s: s.get_final_message()),
]
ONE = [Way("whole", lambda c, model: c.messages.create(model=model, **ASKED), "one")]
CLASSES: dict[int, type[APIStatusError]] = {
    400: anthropic.BadRequestError, 401: anthropic.AuthenticationError, 403: anthropic.PermissionDeniedError, 404: anthropic.NotFoundError,
    409: anthropic.ConflictError, 413: anthropic.ContentTooLargeError, 422: anthropic.UnprocessableEntityError, 429: anthropic.RateLimitError,
    503: anthropic.ServiceUnavailableError, 504: anthropic.GatewayTimeoutError, 529: anthropic.OverloadedError,
}  # fmt: skip
IN_BAND: dict[str, str] = {"error-event": "overloaded_error", "late-status-400": "invalid_request_error", "late-status-429": "rate_limit_error",
                           "late-status-529": "overloaded_error", "late-first-limited": "rate_limit_error", "hold": "overloaded_error"}  # fmt: skip
"""The error's type, where it is not `api_error` (`timeout_error` for timers)."""


def check_before(met: Met) -> None:
    error, status = met.error, met.play.status
    assert isinstance(error, APIStatusError), met.about
    assert type(error) is CLASSES.get(status, anthropic.InternalServerError if status >= 500 else APIStatusError), met.about
    assert error.status_code == met.row["status"] == status, met.about
    body: Any = error.body
    assert body["type"] == "error", met.about
    assert met.play.words in body["error"]["message"], met.about
    assert body["error"]["type"], met.about
    if met.name.startswith("status-") or met.name == "plain-503":
        assert error.response.headers["retry-after"] == "7", met.about
    if met.name.startswith("status-"):
        assert error.request_id == met.row["upstream_request_id"] == "req_up", met.about
    else:
        assert error.request_id == body["request_id"] == met.row["id"], met.about


def check_behind(met: Met) -> None:
    error = met.error
    assert isinstance(error, APIStatusError), met.about
    body: Any = error.body
    assert body["type"] == "error", met.about
    assert met.play.words in body["error"]["message"], met.about
    wanted = IN_BAND.get(met.name, "timeout_error" if met.play.timer else "api_error")
    assert error.type == body["error"]["type"] == wanted, met.about
    assert met.row["status"] == 200, met.about


@each_mode
def test_before_the_first_byte(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        async with stage(tmp_path, anthropic_sdk, mode) as (here, sdk):
            for met in await meet(here, sdk, STREAMS, BEFORE):
                check_before(met)

    run(main())


@each_mode
def test_without_a_stream(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        async with stage(tmp_path, anthropic_sdk, mode) as (here, sdk):
            for met in await meet(here, sdk, ONE, WHOLE):
                check_before(met)

    run(main())


@each_mode
def test_behind_the_first_byte(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        async with stage(tmp_path, anthropic_sdk, mode) as (here, sdk):
            for met in await meet(here, sdk, STREAMS, BEHIND):
                check_behind(met)

    run(main())


@each_mode
def test_behind_an_early_head(tmp_path: Path, mode: Mode) -> None:
    """What could have had a status, had it come at once, is told in band."""

    async def main() -> None:
        async with stage(tmp_path, anthropic_sdk, mode, AWAKE) as (here, sdk):
            for met in await meet(here, sdk, STREAMS, [f"late-{name}" for name in LATE]):
                check_behind(met)

    run(main())


@each_mode
def test_a_shutdown(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        async with stage(tmp_path, anthropic_sdk, mode, DRAINED) as (here, sdk):
            for met in await shut_down(here, sdk, STREAMS, ONE):
                (check_before if met.name == "hold-head" else check_behind)(met)

    run(main())


@each_mode
def test_keepalives_and_early_heads_are_no_events(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        for awake, asleep in await awake_and_asleep(tmp_path, anthropic_sdk, mode, STREAMS):
            assert awake.error is None, awake.about
            assert len(awake.events) > 5, awake.about
            assert plain(awake.events) == plain(asleep.events), awake.about

    run(main())


@each_mode
def test_a_body_that_breaks_off(tmp_path: Path, mode: Mode) -> None:
    """It came in the place of the stream that was asked for, so it is held until it is whole, and its status is true."""

    async def main() -> None:
        async with stage(tmp_path, anthropic_sdk, mode) as (here, sdk):
            [met] = await meet(here, sdk, ONE, ["half-body"])
        assert isinstance(met.error, APIStatusError), met.about
        assert (met.error.status_code, met.row["status"], met.row["outcome"]) == (502, 502, "UPSTREAM_LOST"), met.about

    run(main())
