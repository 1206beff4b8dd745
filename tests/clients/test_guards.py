"""Guards between the official clients and a provider: masked and rejected answers, streamed and whole, and requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from google.genai import errors as google

from penstock.vocabulary.ids import ProtocolId
from tests.support.gateway import run
from tests.support.guards import body_of, frames_saying
from tests.support.sdk import Maker, Mode, Page, Sdk, anthropic_sdk, each_mode, gemini_sdk, openai_sdk, page, pages, site, sse

KINDS = ("chat", "responses", "messages", "generate")
PROTOCOL: dict[str, ProtocolId] = {
    "chat": ProtocolId.OPENAI_CHAT, "responses": ProtocolId.OPENAI_RESPONSES, "messages": ProtocolId.ANTHROPIC_MESSAGES,
    "generate": ProtocolId.GEMINI,
}  # fmt: skip
MAKERS: dict[str, Maker] = {"chat": openai_sdk, "responses": openai_sdk, "messages": anthropic_sdk, "generate": gemini_sdk}
PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages"}
SECRET = "It is 4111 1111 1111 1111 and nothing else."
MASKED = "It is [CARD] and nothing else."
GUARDS = [
    {"name": "cards", "detect": ["card"]},
    {"name": "projects", "patterns": [r"\bPRJ-[0-9]{4,8}\b"], "action": "reject", "message": "Projects are secret."},
]


def provider_saying(kind: str, text: str, what: str = "text") -> dict[str, Page]:
    """A provider that says `text` in small pieces, streamed or whole."""
    frames = frames_saying(PROTOCOL[kind], [text[at : at + 3] for at in range(0, len(text), 3)], what)
    stream, whole = sse(*frames), page(body_of(PROTOCOL[kind], frames))
    if kind == "generate":
        return {"POST /v1/models/m:streamGenerateContent": stream, "POST /v1/models/m:generateContent": whole}

    async def either(visit: Any) -> None:
        asked = json.loads(await visit.body())
        await visit.send(stream if asked.get("stream") else whole)

    return {f"POST {PATHS[kind]}": either}


async def say(sdk: Sdk, kind: str, *, stream: bool, text: str = "x") -> Any:
    messages: Any = [{"role": "user", "content": text}]
    match kind:
        case "chat" if stream:
            return (await sdk.helped(lambda c: c.chat.completions.stream(model="m", messages=messages), lambda s: s.get_final_completion()))[1]
        case "chat":
            return await sdk.one(lambda c: c.chat.completions.create(model="m", messages=messages))
        case "responses" if stream:
            return (await sdk.helped(lambda c: c.responses.stream(model="m", input=text), lambda s: s.get_final_response()))[1]
        case "responses":
            return await sdk.one(lambda c: c.responses.create(model="m", input=text))
        case "messages" if stream:
            return (await sdk.helped(lambda c: c.messages.stream(model="m", messages=messages, max_tokens=9), lambda s: s.get_final_message()))[1]
        case "messages":
            return await sdk.one(lambda c: c.messages.create(model="m", messages=messages, max_tokens=9))
        case _ if stream:
            return await sdk.many(lambda c: c.models.generate_content_stream(model="m", contents=text))
        case _:
            return await sdk.one(lambda c: c.models.generate_content(model="m", contents=text))


def text_of(kind: str, answer: Any) -> str:
    match kind:
        case "chat":
            return answer.choices[0].message.content
        case "responses":
            return answer.output_text
        case "messages":
            return "".join(block.text for block in answer.content)
        case _:
            return "".join(part.text or "" for part in answer) if isinstance(answer, list) else answer.text  # pyright: ignore


def config(kind: str, guards: list[dict[str, Any]] = GUARDS) -> dict[str, Any]:
    provider = {"messages": "anthropic", "generate": "gemini"}.get(kind, "openai")
    return {"guards": guards, "routes": [{"model": "m", "provider": provider}]}


@each_mode
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_masked_answer(tmp_path: Path, kind: str, stream: bool, mode: Mode) -> None:
    async def main() -> None:
        async with site(tmp_path, pages(provider_saying(kind, SECRET)), more=config(kind)) as here, MAKERS[kind](here.url, mode) as sdk:
            assert text_of(kind, await say(sdk, kind, stream=stream)) == MASKED
            row = await here.last_row()
            assert (row["outcome"], row["output_tokens"], row["rule"]) == ("COMPLETE", 5, None)
            assert json.loads(row["findings"]) == [{"guard": "cards", "action": "mask", "where": "response", "hits": 1}]
            assert (row["held_chars"] or 0) > 0 if stream else row["held_chars"] is None

    run(main())


@each_mode
@pytest.mark.parametrize("kind", KINDS)
def test_a_rejected_stream(tmp_path: Path, kind: str, mode: Mode) -> None:
    async def main() -> None:
        said = pages(provider_saying(kind, "We call it PRJ-20417, as you know."))
        async with site(tmp_path, said, more=config(kind)) as here, MAKERS[kind](here.url, mode) as sdk:
            match kind:
                case "chat":
                    with pytest.raises(openai.ContentFilterFinishReasonError):
                        await say(sdk, kind, stream=True)
                    chunks = await sdk.many(lambda c: c.chat.completions.create(model="m", messages=[], stream=True))
                    assert chunks[-1].choices[0].finish_reason == "content_filter"
                    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "We call it "
                case "responses":
                    events = await sdk.many(lambda c: c.responses.create(model="m", input="x", stream=True))
                    assert events[-1].type == "response.incomplete"
                    assert events[-1].response.incomplete_details.reason == "content_filter"
                    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == "We call it "
                case "messages":
                    final = await say(sdk, kind, stream=True)
                    assert final.stop_reason == "refusal"
                    assert text_of(kind, final) == "We call it "
                case _:
                    parts = await say(sdk, kind, stream=True)
                    assert parts[-1].candidates[0].finish_reason.name == "SAFETY"
                    assert text_of(kind, parts) == "We call it "
            row = await here.last_row()
            assert (row["outcome"], row["rule"]) == ("CUT", "projects")
            assert "projects" in row["cause"]
            assert json.loads(row["findings"]) == [{"guard": "projects", "action": "reject", "where": "response", "hits": 1}]
            assert row["held_chars"] > 0

    run(main())


@each_mode
@pytest.mark.parametrize("kind", KINDS)
def test_a_rejected_body_and_a_rejected_request_are_errors_with_their_status(tmp_path: Path, kind: str, mode: Mode) -> None:
    async def main() -> None:
        said = pages(provider_saying(kind, "We call it PRJ-20417, as you know."))
        async with site(tmp_path, said, more=config(kind)) as here, MAKERS[kind](here.url, mode) as sdk:
            with pytest.raises((openai.PermissionDeniedError, anthropic.PermissionDeniedError, google.ClientError)) as raised:
                await say(sdk, kind, stream=False)
            assert "Projects are secret." in str(raised.value)
            assert (await here.last_row())["outcome"] == "CUT"
            asked = len(here.upstream.log)
            with pytest.raises((openai.PermissionDeniedError, anthropic.PermissionDeniedError, google.ClientError)) as raised:
                await say(sdk, kind, stream=True, text="What is PRJ-20417?")
            assert "Projects are secret." in str(raised.value)
            assert len(here.upstream.log) == asked
            row = await here.last_row()
            assert (row["outcome"], row["status"], row["rule"]) == ("REFUSED", 403, "projects")
            assert "projects" in row["cause"]
            assert json.loads(row["findings"]) == [{"guard": "projects", "action": "reject", "where": "request", "hits": 1}]

    run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_masked_request(tmp_path: Path, kind: str) -> None:
    async def main() -> None:
        async with site(tmp_path, pages(provider_saying(kind, "Yes.")), more=config(kind)) as here, MAKERS[kind](here.url, "sync") as sdk:
            await say(sdk, kind, stream=True, text="My card is 4111 1111 1111 1111.")
            sent = here.last_asked().body
            assert b"4111" not in sent
            assert b"My card is [CARD]." in sent

    run(main())


@pytest.mark.parametrize("kind", ["chat", "responses", "messages"])
def test_masked_arguments_of_a_call_are_json(tmp_path: Path, kind: str) -> None:
    async def main() -> None:
        said = pages(provider_saying(kind, 'card "4111 1111 1111 1111"\n', "arguments"))
        async with site(tmp_path, said, more=config(kind)) as here, MAKERS[kind](here.url, "sync") as sdk:
            for stream in (True, False):
                answer = await say(sdk, kind, stream=stream)
                match kind:
                    case "chat":
                        arguments = json.loads(answer.choices[0].message.tool_calls[0].function.arguments)
                    case "responses":
                        arguments = json.loads(answer.output[0].arguments)
                    case _:
                        arguments = answer.content[0].input
                assert arguments == {"to": 'card "[CARD]"\n', "n": 1}

    run(main())


def test_without_a_match_the_bytes_are_the_providers(tmp_path: Path) -> None:
    frames = frames_saying(ProtocolId.OPENAI_CHAT, ["Hello", " there", "."])

    async def main() -> None:
        async with site(tmp_path, pages({"POST /v1/chat/completions": sse(*frames)}), more=config("chat")) as here, openai_sdk(
            here.url, "sync") as sdk:
            raw = await sdk.one(lambda c: c.chat.completions.with_raw_response.create(
                model="m", messages=[], stream=True, stream_options={"include_usage": True}).http_response.read())
            assert raw == b"".join(frames)

    run(main())
