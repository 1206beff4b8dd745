"""Streams that a budget cuts, through the official clients: an answer that was stopped at its length, or, with a tool call open, an error."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from google.genai import errors as google

from penstock.lab.http1 import Gone
from penstock.lab.scripted import SSE_HEAD, Visit, chunk
from penstock.vocabulary.ids import ProtocolId
from tests.laws.talk import Dialect
from tests.support.gateway import run
from tests.support.guards import frames_saying
from tests.support.sdk import Maker, Mode, Page, Sdk, anthropic_sdk, each_mode, gemini_sdk, openai_sdk, pages, site

PROTOCOL: dict[str, ProtocolId] = {
    "chat": ProtocolId.OPENAI_CHAT, "responses": ProtocolId.OPENAI_RESPONSES, "messages": ProtocolId.ANTHROPIC_MESSAGES,
    "generate": ProtocolId.GEMINI,
}  # fmt: skip
MAKERS: dict[str, Maker] = {"chat": openai_sdk, "responses": openai_sdk, "messages": anthropic_sdk, "generate": gemini_sdk}
PATHS = {
    "chat": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages", "generate": "/v1/models/m:streamGenerateContent",
}  # fmt: skip
KINDS = pytest.mark.parametrize("kind", list(PATHS))
CUT = {"admission": {"budgets": [{"tokens": 120, "per": "total", "action": "cut", "name": "purse"}]}}
HELLO: Any = [{"role": "user", "content": "hello"}]


def speaks(kind: str, what: str) -> Iterator[bytes]:
    """The frames of an answer without end, of text or of a call's arguments."""
    if kind == "generate" and what == "arguments":
        talk = Dialect(ProtocolId.GEMINI)
        yield from (talk.head(), talk.open(0))
        yield from repeat(talk.arguments(0, "a"))
    frames = frames_saying(PROTOCOL[kind], ["word "] * 3, what)
    at = next(number for number, frame in enumerate(frames) if b"word " in frame)
    yield from frames[:at]
    yield from repeat(frames[at])


def endless(kind: str, what: str) -> Page:
    async def answer(visit: Visit) -> None:
        await visit.body()
        try:
            await visit.send(SSE_HEAD)
            for frame in speaks(kind, what):
                await visit.send(chunk(frame))
        except Gone:
            return

    return answer


def events(sdk: Sdk, kind: str) -> Any:
    """Of the plain stream."""
    match kind:
        case "chat":
            return sdk.many(lambda c: c.chat.completions.create(model="m", messages=HELLO, stream=True))
        case "responses":
            return sdk.many(lambda c: c.responses.create(model="m", input="x", stream=True))
        case "messages":
            return sdk.many(lambda c: c.messages.create(model="m", messages=HELLO, max_tokens=9, stream=True))
        case _:
            return sdk.many(lambda c: c.models.generate_content_stream(model="m", contents="x"))


def helped(sdk: Sdk, kind: str) -> Any:
    """What the client's own helper makes of the whole."""
    match kind:
        case "chat":
            return sdk.helped(lambda c: c.chat.completions.stream(model="m", messages=HELLO), lambda s: s.get_final_completion())
        case "responses":
            return sdk.helped(lambda c: c.responses.stream(model="m", input="x"), lambda s: s.get_final_response())
        case _:
            return sdk.helped(lambda c: c.messages.stream(model="m", messages=HELLO, max_tokens=9), lambda s: s.get_final_message())


def check_row(row: dict[str, Any]) -> None:
    assert (row["outcome"], row["rule"], row["cause"], row["ended_by"]) == ("CUT", "purse", "budget 'purse' is spent", "gateway")
    assert row["charged_input"] + row["charged_output"] >= 120


@each_mode
@KINDS
def test_an_answer_that_was_stopped_at_its_length(tmp_path: Path, kind: str, mode: Mode) -> None:
    async def main() -> None:
        async with site(tmp_path, pages({f"POST {PATHS[kind]}": endless(kind, "text")}), more=CUT) as here, MAKERS[kind](here.url, mode) as sdk:
            found = await events(sdk, kind)
            check_row(await here.last_row())
            match kind:
                case "chat":
                    assert [e.choices[0].finish_reason for e in found if e.choices[0].finish_reason] == ["length"]
                    text = "".join(e.choices[0].delta.content or "" for e in found)
                case "responses":
                    last = found[-1].response
                    assert (found[-1].type, last.status, last.incomplete_details.reason) == ("response.incomplete", "incomplete", "max_output_tokens")
                    assert [event.sequence_number for event in found][-1] == max(event.sequence_number for event in found)
                    text = last.output_text
                    assert text == "".join(event.delta for event in found if event.type == "response.output_text.delta")
                case "messages":
                    stopped = next(event for event in found if event.type == "message_delta")
                    assert (stopped.delta.stop_reason, found[-1].type) == ("max_tokens", "message_stop")
                    text = "".join(event.delta.text for event in found if event.type == "content_block_delta")
                case _:
                    assert found[-1].candidates[0].finish_reason.name == "MAX_TOKENS"
                    text = "".join(event.text or "" for event in found)
            assert set(text.split()) == {"word"}
            assert len(text.split()) > 40

    run(main())


@each_mode
@pytest.mark.parametrize("kind", ["chat", "responses", "messages"])
def test_the_helpers_take_it_for_what_it_is(tmp_path: Path, kind: str, mode: Mode) -> None:
    async def main() -> None:
        async with site(tmp_path, pages({f"POST {PATHS[kind]}": endless(kind, "text")}), more=CUT) as here, MAKERS[kind](here.url, mode) as sdk:
            if kind == "responses":
                # Whatever is not completed has no final response for this helper; it tells so for OpenAI's own as well.
                with pytest.raises(RuntimeError, match=r"response\.completed"):
                    await helped(sdk, kind)
            elif kind == "chat":
                # The helper has an error of its own for this finish, whoever gives it; the answer is in it.
                with pytest.raises(openai.LengthFinishReasonError) as caught:
                    await helped(sdk, kind)
                choice = caught.value.completion.choices[0]
                assert choice.finish_reason == "length"
                assert (choice.message.content or "").startswith("word word ")
            else:
                _, whole = await helped(sdk, kind)
                assert whole.stop_reason == "max_tokens"
                assert whole.content[0].text.startswith("word word ")
            check_row(await here.last_row())

    run(main())


@each_mode
@KINDS
def test_with_a_tool_call_open_it_is_the_client_s_own_error(tmp_path: Path, kind: str, mode: Mode) -> None:
    """Nobody may run half a call."""

    async def main() -> None:
        async with site(tmp_path, pages({f"POST {PATHS[kind]}": endless(kind, "arguments")}), more=CUT) as here, MAKERS[kind](here.url, mode) as sdk:
            match kind:
                case "responses":
                    found = await events(sdk, kind)
                    assert (found[-1].type, found[-1].response.status) == ("response.failed", "failed")
                    assert "budget" in found[-1].response.error.message
                    assert not [event for event in found if event.type in ("response.completed", "response.incomplete")]
                case "chat":
                    with pytest.raises(openai.APIError, match="budget is spent"):
                        await events(sdk, kind)
                case "messages":
                    with pytest.raises(anthropic.APIStatusError, match="budget is spent"):
                        await events(sdk, kind)
                case _:
                    with pytest.raises(google.APIError, match="budget is spent") as caught:
                        await events(sdk, kind)
                    assert caught.value.code == 429
            check_row(await here.last_row())

    run(main())
