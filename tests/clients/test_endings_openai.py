"""How answers end, through OpenAI's client: its own error class for each bad ending, and nothing for what only keeps a stream open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest

from tests.support.endings_plays import BEFORE, BEHIND, LATE, MESSAGE, WHOLE
from tests.support.endings_sdk import AWAKE, DRAINED, Met, Way, awake_and_asleep, meet, shut_down, stage
from tests.support.gateway import run
from tests.support.sdk import Mode, each_mode, openai_sdk, plain

HELLO: list[dict[str, str]] = [{"role": "user", "content": "hello"}]
TOOLS = [
    {"type": "function", "function": {"name": "look_up", "strict": True, "parameters": {
        "type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"], "additionalProperties": False}}},
]  # fmt: skip
CHAT = [
    Way("chat-stream", lambda c, model: c.chat.completions.create(model=model, messages=HELLO, stream=True), "many"),
    Way("chat-helper", lambda c, m: c.chat.completions.stream(model=m, messages=HELLO, tools=TOOLS), "helped", lambda s: s.get_final_completion()),
]
COMPLETIONS = Way("completions", lambda c, model: c.completions.create(model=model, prompt="hello", stream=True), "many")
RESPONSES = [
    Way("responses-stream", lambda c, model: c.responses.create(model=model, input="hello", stream=True), "many"),
    Way("responses-helper", lambda c, model: c.responses.stream(model=model, input="hello"), "helped"),
]
FINAL = Way("responses-final", lambda c, model: c.responses.stream(model=model, input="hello"), "helped", lambda s: s.get_final_response())
ONE = [
    Way("chat", lambda c, model: c.chat.completions.create(model=model, messages=HELLO), "one"),
    Way("responses", lambda c, model: c.responses.create(model=model, input="hello"), "one"),
]
CLASSES: dict[int, type[openai.APIStatusError]] = {
    400: openai.BadRequestError, 401: openai.AuthenticationError, 403: openai.PermissionDeniedError, 404: openai.NotFoundError,
    409: openai.ConflictError, 422: openai.UnprocessableEntityError, 429: openai.RateLimitError,
}  # fmt: skip


def check_before(met: Met) -> None:
    error, status = met.error, met.play.status
    assert error.__class__ is CLASSES.get(status, openai.InternalServerError if status >= 500 else openai.APIStatusError), met.about
    assert error.status_code == met.row["status"] == status, met.about
    assert met.play.words in error.message, met.about
    assert error.type, met.about
    if met.name.startswith("status-") or met.name == "plain-503":
        assert error.response.headers["retry-after"] == "7", met.about
    if met.name.startswith("status-"):
        assert error.request_id == met.row["upstream_request_id"] == "req_up", met.about
    else:
        assert error.request_id == error.body["request_id"] == met.row["id"], met.about
        assert "<" not in error.message, met.about


def check_chat(met: Met) -> None:
    error = met.error
    assert error.__class__ is openai.APIError, met.about
    assert met.play.words in error.message, met.about
    assert error.body.keys() >= {"message", "type", "param", "code"}, met.about
    assert error.type, met.about
    assert met.row["status"] == 200, met.about


def check_responses(met: Met) -> None:
    """No error is raised for an event; it is there to be read."""
    assert met.error is None, met.about
    events: list[Any] = [event for event in met.events if event is not None]
    assert events[0].type == "response.created", met.about
    assert [event.sequence_number for event in events] == list(range(len(events))), met.about
    last = events[-1]
    if met.name == "error-event":
        assert (last.type, last.message) == ("error", MESSAGE), met.about
        return
    assert [event.type for event in events].count("response.failed") == 1, met.about
    assert last.type == "response.failed", met.about
    response = last.response
    assert (response.status, response.id) == ("failed", events[0].response.id), met.about
    assert response.error.code, met.about
    assert met.play.words in response.error.message, met.about


def check_final(met: Met) -> None:
    assert type(met.error) is RuntimeError, met.about
    assert "response.completed" in str(met.error), met.about


@each_mode
def test_before_the_first_byte(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        async with stage(tmp_path, openai_sdk, mode) as (here, sdk):
            for met in await meet(here, sdk, [*CHAT, *RESPONSES, FINAL], BEFORE):
                check_before(met)

    run(main())


@each_mode
def test_without_a_stream(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        async with stage(tmp_path, openai_sdk, mode) as (here, sdk):
            for met in await meet(here, sdk, ONE, WHOLE):
                check_before(met)

    run(main())


@each_mode
def test_behind_the_first_byte(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        async with stage(tmp_path, openai_sdk, mode) as (here, sdk):
            found = await meet(here, sdk, [*CHAT, *RESPONSES, FINAL], BEHIND)
        for met in found:
            (check_final if met.way is FINAL else check_responses if met.way in RESPONSES else check_chat)(met)

    run(main())


@each_mode
def test_behind_an_early_head(tmp_path: Path, mode: Mode) -> None:
    """What could have had a status, had it come at once, is told in band; a Response begins before it fails."""

    async def main() -> None:
        async with stage(tmp_path, openai_sdk, mode, AWAKE) as (here, sdk):
            found = await meet(here, sdk, [*CHAT, *RESPONSES, FINAL], [f"late-{name}" for name in LATE])
        for met in found:
            if met.name == "late-first-limited" and met.way in (*RESPONSES, FINAL):
                # The provider's own event, as it came; the helper wants a beginning before it.
                assert met.error is None or "response.created" in str(met.error), met.about
                assert [event.type for event in met.events] == ([] if met.error else ["error"]), met.about
            else:
                (check_final if met.way is FINAL else check_responses if met.way in RESPONSES else check_chat)(met)

    run(main())


@each_mode
def test_a_shutdown(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        async with stage(tmp_path, openai_sdk, mode, DRAINED) as (here, sdk):
            found = await shut_down(here, sdk, [*CHAT, *RESPONSES], ONE)
        for met in found:
            if met.name == "hold-head":
                check_before(met)
            else:
                (check_responses if met.way in RESPONSES else check_chat)(met)

    run(main())


@each_mode
def test_keepalives_and_early_heads_are_no_events(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        for awake, asleep in await awake_and_asleep(tmp_path, openai_sdk, mode, [*CHAT, *RESPONSES, FINAL]):
            assert awake.error is None, awake.about
            assert len(awake.events) > 5, awake.about
            assert plain(awake.events) == plain(asleep.events), awake.about

    run(main())


@each_mode
def test_a_body_that_breaks_off(tmp_path: Path, mode: Mode) -> None:
    """Its status is out; the framing shows that it is not whole."""

    async def main() -> None:
        async with stage(tmp_path, openai_sdk, mode) as (here, sdk):
            for met in await meet(here, sdk, ONE, ["half-body"]):
                assert type(met.error) is openai.APIConnectionError, met.about

    run(main())


@pytest.mark.parametrize("word", ["clean", "eof", "stall-text"])
def test_completions(tmp_path: Path, word: str) -> None:
    """The old form: the error is Chat's."""

    async def main() -> None:
        async with stage(tmp_path, openai_sdk, "async") as (here, sdk):
            [met] = await meet(here, sdk, [COMPLETIONS], [word])
        check_chat(met)

    run(main())
