"""The built-in model `demo`, asked in every protocol by the client that speaks it: nothing is configured and nobody else is asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from google.genai import types

from tests.support.gateway import run
from tests.support.http import ask
from tests.support.sdk import Maker, Mode, Site, anthropic_sdk, each_mode, gemini_sdk, openai_sdk, recorded, site

TEXT = "Hello from Penstock!"
CHAT: dict[str, Any] = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}
MESSAGES: dict[str, Any] = {**CHAT, "max_tokens": 99}
RESPONSES: dict[str, Any] = {"model": "demo", "input": "hi"}
GEMINI: dict[str, Any] = {"model": "demo", "contents": "hi"}

WHOLE: dict[str, tuple[Maker, Callable[[Any], Any], Callable[[Any], tuple[Any, ...]]]] = {
    "chat": (
        openai_sdk, lambda c: c.chat.completions.create(**CHAT),
        lambda r: (r.choices[0].message.content, r.choices[0].finish_reason, r.usage.prompt_tokens, r.usage.completion_tokens),
    ),
    "completions": (
        openai_sdk, lambda c: c.completions.create(model="demo", prompt="hi"),
        lambda r: (r.choices[0].text, r.choices[0].finish_reason, r.usage.prompt_tokens, r.usage.completion_tokens),
    ),
    "responses": (
        openai_sdk, lambda c: c.responses.create(**RESPONSES),
        lambda r: (r.output_text, "stop" if r.status == "completed" else r.status, r.usage.input_tokens, r.usage.output_tokens),
    ),
    "messages": (
        anthropic_sdk, lambda c: c.messages.create(**MESSAGES),
        lambda r: (r.content[0].text, "stop" if r.stop_reason == "end_turn" else r.stop_reason, r.usage.input_tokens, r.usage.output_tokens),
    ),
    "generate": (
        gemini_sdk, lambda c: c.models.generate_content(**GEMINI),
        lambda r: (r.text, r.candidates[0].finish_reason.value.lower(), r.usage_metadata.prompt_token_count, r.usage_metadata.candidates_token_count),
    ),
}  # fmt: skip

STREAMS: dict[str, tuple[Maker, Callable[[Any], Any], Callable[[Any], str | None]]] = {
    "chat": (openai_sdk, lambda c: c.chat.completions.create(**CHAT, stream=True), lambda e: e.choices[0].delta.content),
    "completions": (openai_sdk, lambda c: c.completions.create(model="demo", prompt="hi", stream=True), lambda e: e.choices[0].text),
    "responses": (
        openai_sdk,
        lambda c: c.responses.create(**RESPONSES, stream=True),
        lambda e: e.delta if e.type == "response.output_text.delta" else None,
    ),
    "messages": (
        anthropic_sdk,
        lambda c: c.messages.create(**MESSAGES, stream=True),
        lambda e: e.delta.text if e.type == "content_block_delta" else None,
    ),
    "generate": (gemini_sdk, lambda c: c.models.generate_content_stream(**GEMINI), lambda e: e.text),
}

HELPERS: dict[str, tuple[Maker, Callable[[Any], Any], Callable[[Any], Any], Callable[[Any], str]]] = {
    "chat": (openai_sdk, lambda c: c.chat.completions.stream(**CHAT), lambda s: s.get_final_completion(), lambda f: f.choices[0].message.content),
    "responses": (openai_sdk, lambda c: c.responses.stream(**RESPONSES), lambda s: s.get_final_response(), lambda f: f.output_text),
    "messages": (anthropic_sdk, lambda c: c.messages.stream(**MESSAGES), lambda s: s.get_final_message(), lambda f: f.content[0].text),
}


@each_mode
def test_demo_in_every_protocol(tmp_path: Path, mode: Mode) -> None:
    ids: list[str] = []

    async def whole(here: Site, kind: str) -> str:
        make, call, read = WHOLE[kind]
        async with make(here.url, mode) as sdk:
            answer = await sdk.one(call)
            ids.append(getattr(answer, "id", None) or answer.response_id)
            text, stop, given, made = read(answer)
            assert (stop, given) == ("stop", 8)
            assert made == len(text.split())
            return text

    async def stream(here: Site, kind: str) -> str:
        make, call, read = STREAMS[kind]
        async with make(here.url, mode) as sdk:
            pieces = [piece for event in await sdk.many(call) if (piece := read(event))]
            assert len(pieces) > 20
            return "".join(pieces)

    async def helper(here: Site, kind: str) -> str:
        make, call, finish, read = HELPERS[kind]
        async with make(here.url, mode) as sdk:
            events, final = await sdk.helped(call, finish)
            assert len(events) > 20
            ids.append(final.id)
            return read(final)

    async def main() -> None:
        async with site(tmp_path, recorded()) as here:
            texts = await asyncio.gather(
                *(whole(here, kind) for kind in WHOLE), *(stream(here, kind) for kind in STREAMS), *(helper(here, kind) for kind in HELPERS)
            )
            assert len(set(texts)) == 1
            assert texts[0].startswith(TEXT)
            rows = await here.running.rows()
            assert len(rows) == len(texts)
            assert not here.upstream.log
            assert {row["provider"] for row in rows} == {"demo"}
            assert {(row["outcome"], row["requested_model"], row["model"], row["usage_source"]) for row in rows} == {
                ("COMPLETE", "demo", "demo", "reported")
            }
            assert {(row["input_tokens"], row["output_tokens"]) for row in rows} == {(8, len(texts[0].split()))}
            assert {row["operation"] for row in rows} == set(WHOLE)
            told = [row["response_id"] for row in rows]
            assert len({*told}) == len(rows)
            assert len(ids) == len(WHOLE) + len(HELPERS)
            assert {*ids} < {*told}

    run(main())


@each_mode
def test_demo_is_listed_and_counts_tokens(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        async with site(tmp_path, recorded()) as here:
            async with openai_sdk(here.url, mode) as sdk:
                assert "demo" in [m.id for m in await sdk.many(lambda c: c.models.list())]
            async with anthropic_sdk(here.url, mode) as sdk:
                assert "demo" in [m.id for m in await sdk.many(lambda c: c.models.list())]
                assert (await sdk.one(lambda c: c.messages.count_tokens(model="demo", messages=[]))).input_tokens == 8
            async with gemini_sdk(here.url, mode) as sdk:
                assert (await sdk.one(lambda c: c.models.count_tokens(model="demo", contents="hi"))).total_tokens == 8
            async with gemini_sdk(here.url, mode, api_version="v1beta") as sdk:
                assert "models/demo" in [m.name for m in await sdk.many(lambda c: c.models.list())]

    run(main())


@each_mode
def test_what_is_listed_can_be_retrieved(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        async with site(tmp_path, recorded()) as here:
            async with openai_sdk(here.url, mode) as sdk:
                assert (await sdk.one(lambda c: c.models.retrieve("demo"))).id == "demo"
            async with anthropic_sdk(here.url, mode) as sdk:
                assert (await sdk.one(lambda c: c.models.retrieve("demo"))).id == "demo"
            async with gemini_sdk(here.url, mode, api_version="v1beta") as sdk:
                assert (await sdk.one(lambda c: c.models.get(model="demo"))).name == "models/demo"

    run(main())


def test_the_array_form_says_what_the_events_say(tmp_path: Path) -> None:
    """`streamGenerateContent` without `alt=sse`: one JSON array, whose elements the client's own types can read."""

    async def main() -> None:
        async with site(tmp_path, recorded()) as here:
            async with gemini_sdk(here.url, "async") as sdk:
                wanted = await sdk.many(lambda c: c.models.generate_content_stream(**GEMINI))
            answer = await ask(here.port, "POST", "/v1beta/models/demo:streamGenerateContent", {"contents": []})
            assert answer.clean
            assert (answer.header("content-type") or "").startswith("application/json")
            assert len(answer.chunks) >= len(wanted)
            found = [types.GenerateContentResponse.model_validate(element) for element in json.loads(answer.body)]
            assert [e.text for e in found] == [e.text for e in wanted]
            assert found[-1].usage_metadata == wanted[-1].usage_metadata
            row = await here.last_row()
            assert (row["outcome"], row["stop_reason"], row["input_tokens"], row["streamed"]) == ("COMPLETE", "STOP", 8, True)

    run(main())
