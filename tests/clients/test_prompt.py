"""Each event reaches the client when its provider made it: the next one is only made once the client has seen this one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.lab.scripted import SSE_HEAD, head
from tests.support.gateway import run
from tests.support.sdk import Lockstep, Maker, Mode, anthropic_sdk, case, check_row, each_mode, gemini_sdk, openai_sdk, pages, site, steps_of

TEXT: dict[str, Any] = {"model": "m", "messages": [], "max_tokens": 9}
USAGE: dict[str, Any] = {"include_usage": True}

STREAMS: dict[str, tuple[Maker, str, str, str, Callable[[Any], Any], Callable[[bytes, bytes], bool]]] = {
    "chat": (
        openai_sdk, "openai_chat/test_dbos_agent_run_stream_0", "/v1/chat/completions", "chat",
        lambda c: c.chat.completions.create(**TEXT, stream=True, stream_options=USAGE), lambda _, data: data != b"[DONE]",
    ),
    "chat tools": (
        openai_sdk, "openai_chat/test_complex_agent_run_in_workflow_1", "/v1/chat/completions", "chat",
        lambda c: c.chat.completions.create(**TEXT, stream=True, stream_options=USAGE), lambda _, data: data != b"[DONE]",
    ),
    "responses": (
        openai_sdk, "openai_responses/test_openai_responses_stream_1", "/v1/responses", "responses",
        lambda c: c.responses.create(model="m", input="x", stream=True), lambda _, data: True,
    ),
    "messages": (
        anthropic_sdk, "anthropic_messages/test_anthropic_native_tool_search_streaming_0", "/v1/messages", "messages",
        lambda c: c.messages.create(**TEXT, stream=True), lambda name, _: name != b"ping",
    ),
    "generate": (
        gemini_sdk, "gemini/test_google_model_thinking_part_iter_0", "/v1/models/m:streamGenerateContent", "generate",
        lambda c: c.models.generate_content_stream(model="m", contents="x"), lambda _, data: True,
    ),
}  # fmt: skip


@each_mode
@pytest.mark.parametrize("kind", list(STREAMS))
def test_events_come_one_by_one(tmp_path: Path, kind: str, mode: Mode) -> None:
    make, name, path, operation, call, shows = STREAMS[kind]
    wanted = case(name)

    async def main() -> None:
        steps = steps_of(wanted, shows)
        assert len(steps) > 4
        paced = Lockstep(SSE_HEAD, steps)
        async with site(tmp_path, pages({f"POST {path}": paced})) as here, make(here.url, mode) as sdk:
            events = await sdk.many(call, paced.seen)
            assert len(events) == steps[-1][1]
            assert paced.waits >= len(steps) // 2  # the page really had to wait for the client, time and again
            check_row(await here.last_row(), wanted, operation, streamed=True)

    run(main())


HELPERS: dict[str, tuple[Maker, str, str, Callable[[Any], Any]]] = {
    "chat": (openai_sdk, STREAMS["chat"][1], "/v1/chat/completions", lambda c: c.chat.completions.stream(**TEXT, stream_options=USAGE)),
    "responses": (openai_sdk, STREAMS["responses"][1], "/v1/responses", lambda c: c.responses.stream(model="m", input="x")),
    "messages": (anthropic_sdk, STREAMS["messages"][1], "/v1/messages", lambda c: c.messages.stream(**TEXT)),
}


@each_mode
@pytest.mark.parametrize("kind", list(HELPERS))
def test_helpers_give_the_first_event_before_the_second_is_made(tmp_path: Path, kind: str, mode: Mode) -> None:
    make, name, path, call = HELPERS[kind]
    frames = case(name).recording.frames

    async def main() -> None:
        paced = Lockstep(SSE_HEAD, [(frames[0].raw, 1), (b"".join(f.raw for f in frames[1:]), 1)])
        async with site(tmp_path, pages({f"POST {path}": paced})) as here, make(here.url, mode) as sdk:
            events, _ = await sdk.helped(call, lambda _: None, paced.seen)
            assert len(events) > 3
            assert paced.waits == 1
            assert (await here.last_row())["outcome"] == "COMPLETE"

    run(main())


@each_mode
def test_events_that_come_in_pieces_are_given_whole(tmp_path: Path, mode: Mode) -> None:
    """The head alone, then half an event: nothing can be seen. The other half completes it, at once."""
    frames = case(STREAMS["chat"][1]).recording.frames

    async def main() -> None:
        first = frames[0].raw
        paced = Lockstep(
            SSE_HEAD,
            [
                (first[:20], 0),
                (first[20:-1], 0),
                (first[-1:] + frames[1].raw[:9], 1),
                (frames[1].raw[9:], 2),
                (b"".join(f.raw for f in frames[2:]), 2),
            ],
        )
        async with site(tmp_path, pages({"POST /v1/chat/completions": paced})) as here, openai_sdk(here.url, mode) as sdk:
            assert len(await sdk.many(STREAMS["chat"][4], paced.seen)) == len(frames) - 1
            assert paced.waits == 2

    run(main())


@each_mode
def test_a_body_that_is_no_stream_passes_as_it_is_made(tmp_path: Path, mode: Mode) -> None:
    """Speech: the first bytes can be heard before the last are made."""

    async def main() -> None:
        paced = Lockstep(head(200, "content-type: audio/mpeg", "transfer-encoding: chunked"), [(b"a" * 700, 1), (b"b" * 700, 2), (b"c" * 700, 3)])
        async with site(tmp_path, pages({"POST /v1/audio/speech": paced})) as here, openai_sdk(here.url, mode) as sdk:
            client = sdk.client.audio.speech.with_streaming_response
            heard: list[bytes] = []

            def open_speech(_: Any) -> Any:
                return client.create(model="tts", voice="alloy", input="x")

            if mode == "sync":

                def listen() -> None:
                    with open_speech(None) as answer:
                        for piece in answer.iter_bytes():
                            heard.append(piece)
                            paced.seen()

                await asyncio.to_thread(listen)
            else:
                async with open_speech(None) as answer:
                    async for piece in answer.iter_bytes():
                        heard.append(piece)
                        paced.seen()
            assert b"".join(heard) == b"a" * 700 + b"b" * 700 + b"c" * 700
            assert paced.waits == 3
            row = await here.last_row()
            assert (row["outcome"], row["operation"], row["bytes_out"]) == ("COMPLETE", "audio", 2100)
            assert json.loads(here.last_asked().body)["voice"] == "alloy"

    run(main())
