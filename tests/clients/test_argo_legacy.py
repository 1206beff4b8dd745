"""The official client against legacy Argo: streams real and pseudo, with and without tools, bodies, embeddings, models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.support.argo import CHAT, EMBED, STREAM, TEXT, WEATHER, Legacy, argo
from tests.support.gateway import run
from tests.support.http import ask
from tests.support.sdk import Mode, Site, each_mode, openai_sdk, site

ASKED: dict[str, Any] = {"model": "argo:gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
REAL, PSEUDO = True, False
each_stream = pytest.mark.parametrize("real", [REAL, PSEUDO], ids=["real", "pseudo"])
TOOL = {"type": "function", **WEATHER["function"]}
FORCED = "asked for a whole body, told as a stream, because of its tools"


async def check_rows(here: Site, count: int, *, note: str = "") -> None:
    rows = await here.running.rows()
    assert len(rows) == count
    for row in rows:
        assert (row["outcome"], row["upstream_protocol"], row["usage_source"]) == ("COMPLETE", "argo_legacy", "estimated")
        assert row["input_tokens"] > 0
        assert row["output_tokens"] > 0
        assert row["cache_read_tokens"] is None
        assert (note in row["cause"]) == bool(note) or not note


@each_mode
@each_stream
def test_chat(tmp_path: Path, mode: Mode, real: bool) -> None:
    async def main() -> None:
        async with site(tmp_path, upstream := Legacy(), lambda port: argo(port, real_stream=real)) as here, openai_sdk(here.url, mode) as sdk:
            chunks = await sdk.many(lambda c: c.chat.completions.create(**ASKED, stream=True))
            assert all(chunk.choices for chunk in chunks)
            usual = await sdk.many(lambda c: c.chat.completions.create(**ASKED, stream=True, stream_options={"include_usage": True}))
            assert usual[-1].choices == []
            assert usual[-1].usage.total_tokens > 0
            assert len({chunk.id for chunk in chunks}) == 1
            assert [chunk.choices[0].delta.role for chunk in chunks] == ["assistant"] + [None] * (len(chunks) - 1)
            assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
            assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
            _, final = await sdk.helped(lambda c: c.chat.completions.stream(**ASKED), lambda s: s.get_final_completion())
            assert final.choices[0].message.content == TEXT
            assert upstream.paths() == [STREAM if real else CHAT] * 3
            assert {body["stream"] for body in upstream.bodies()} == {real}
            await check_rows(here, 3)

    run(main())


@each_mode
@each_stream
def test_completions(tmp_path: Path, mode: Mode, real: bool) -> None:
    async def main() -> None:
        async with site(tmp_path, upstream := Legacy(), lambda port: argo(port, real_stream=real)) as here, openai_sdk(here.url, mode) as sdk:
            chunks = await sdk.many(lambda c: c.completions.create(model="gpt-4o", prompt="hi", stream=True))
            assert "".join(chunk.choices[0].text for chunk in chunks) == TEXT
            assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
            assert {chunk.object for chunk in chunks} == {"text_completion"}
            assert len({chunk.id for chunk in chunks}) == 1
            assert upstream.paths() == [STREAM if real else CHAT]
            assert upstream.bodies()[0]["prompt"] == ["hi"]
            await check_rows(here, 1)

    run(main())


@each_mode
@each_stream
def test_responses(tmp_path: Path, mode: Mode, real: bool) -> None:
    async def main() -> None:
        async with site(tmp_path, upstream := Legacy(), lambda port: argo(port, real_stream=real)) as here, openai_sdk(here.url, mode) as sdk:
            plain = await sdk.many(lambda c: c.responses.create(model="gpt-4o", input="hi", instructions="be brief", stream=True))
            assert [event.sequence_number for event in plain] == list(range(len(plain)))
            assert plain[-1].response.usage.total_tokens > 0
            _, final = await sdk.helped(lambda c: c.responses.stream(model="gpt-4o", input="hi"), lambda s: s.get_final_response())
            assert (final.output_text, final.status, final.model) == (TEXT, "completed", "gpt-4o")
            assert upstream.paths() == [STREAM if real else CHAT] * 2
            assert upstream.bodies()[0]["messages"] == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
            await check_rows(here, 2)

    run(main())


@each_mode
@each_stream
@pytest.mark.parametrize("model", ["gpt-4o", "claude-sonnet-4", "gemini-2.5-pro", "llama-3"])
def test_tools_make_a_pseudo_stream_whatever_is_configured(tmp_path: Path, mode: Mode, real: bool, model: str) -> None:
    """Three families natively, the fourth in words; on Chat and on Responses."""

    async def main() -> None:
        async with site(tmp_path, upstream := Legacy(), lambda port: argo(port, real_stream=real)) as here, openai_sdk(here.url, mode) as sdk:
            asked = {**ASKED, "model": model, "tools": [WEATHER]}
            chunks = await sdk.many(lambda c: c.chat.completions.create(**asked, stream=True))
            said: list[list[Any]] = [chunk.choices[0].delta.tool_calls or [] for chunk in chunks]
            deltas = [call for calls in said for call in calls]
            opened = [(call.index, call.type, call.function.name) for call in deltas if call.id]
            assert opened == [(0, "function", "weather"), (1, "function", "weather")]
            arguments = ["".join(call.function.arguments or "" for call in deltas if call.index == index) for index in (0, 1)]
            assert [json.loads(text) for text in arguments] == [{"city": "Paris"}, {}]
            assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["tool_calls"]
            _, final = await sdk.helped(lambda c: c.chat.completions.stream(**asked), lambda s: s.get_final_completion())
            assert [json.loads(call.function.arguments) for call in final.choices[0].message.tool_calls] == [{"city": "Paris"}, {}]
            _, response = await sdk.helped(
                lambda c: c.responses.stream(model=model, input="hi", tools=[TOOL]), lambda s: s.get_final_response()
            )  # fmt: skip
            made = [item for item in response.output if item.type == "function_call"]
            assert [json.loads(item.arguments) for item in made] == [{"city": "Paris"}, {}]
            assert len({item.call_id for item in made}) == 2
            whole = await sdk.one(lambda c: c.chat.completions.create(**asked))
            assert [call.function.name for call in whole.choices[0].message.tool_calls] == ["weather", "weather"]
            assert whole.choices[0].finish_reason == "tool_calls"
            assert upstream.paths() == [CHAT] * 4
            assert not any(body.get("stream") for body in upstream.bodies())
            rows = await here.running.rows()
            assert [FORCED in row["cause"] for row in rows] == ([True] * 3 if real else [False] * 3) + [False]
            await check_rows(here, 4)

    run(main())


@each_mode
def test_bodies(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        async with site(tmp_path, upstream := Legacy(), argo) as here, openai_sdk(here.url, mode) as sdk:
            chat = await sdk.one(lambda c: c.chat.completions.create(**ASKED))
            assert (chat.choices[0].message.content, chat.choices[0].finish_reason, chat.object) == (TEXT, "stop", "chat.completion")
            assert chat.usage.total_tokens == chat.usage.prompt_tokens + chat.usage.completion_tokens
            completion = await sdk.one(lambda c: c.completions.create(model="gpt-4o", prompt="hi"))
            assert (completion.choices[0].text, completion.object) == (TEXT, "text_completion")
            response = await sdk.one(lambda c: c.responses.create(model="gpt-4o", input="hi"))
            assert (response.output_text, response.status) == (TEXT, "completed")
            assert upstream.paths() == [CHAT] * 3
            assert not any("stream" in body for body in upstream.bodies())
            await check_rows(here, 3)

    run(main())


@each_mode
def test_embeddings(tmp_path: Path, mode: Mode) -> None:
    """The client asks for base64 by itself, and unpacks it."""

    async def main() -> None:
        async with site(tmp_path, upstream := Legacy(), argo) as here, openai_sdk(here.url, mode) as sdk:
            made = await sdk.one(lambda c: c.embeddings.create(model="text-embedding-3-small", input=["hi", "you"]))
            assert [entry.embedding for entry in made.data] == [[0.5, -0.25, 2.0], [0.5, -0.25, 3.0]]
            assert made.usage.total_tokens == made.usage.prompt_tokens > 0
            plain = await sdk.one(lambda c: c.embeddings.create(model="v3large", input="hi", encoding_format="float"))
            assert plain.data[0].embedding == [0.5, -0.25, 2.0]
            assert upstream.paths() == [EMBED] * 2
            assert upstream.bodies() == [
                {"user": "ada", "model": "v3small", "prompt": ["hi", "you"]}, {"user": "ada", "model": "v3large", "prompt": ["hi"]},
            ]  # fmt: skip
            rows = await here.running.rows()
            assert [(row["usage_source"], row["output_tokens"]) for row in rows] == [("estimated", None)] * 2

    run(main())


@each_mode
def test_models_are_listed_and_then_known(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        async with site(tmp_path, upstream := Legacy(), argo) as here, openai_sdk(here.url, mode) as sdk:
            listed = [model.id for model in await sdk.many(lambda c: c.models.list())]
            assert {"argo:gpt-4o", "argo:claude-opus-4.1", "argo:claude-4.1-opus", "argo:text-embedding-3-large"} <= set(listed)
            for name in ("claude-opus-4-1-20250805", "argo:claude-4.1-opus", "mystery"):
                await sdk.one(lambda c, name=name: c.chat.completions.create(**{**ASKED, "model": name}))
            assert [body["model"] for body in upstream.bodies()] == ["claudeopus41", "claudeopus41", "mystery"]

    run(main())


def test_no_key_of_the_clients_reaches_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with site(tmp_path, Legacy(), argo) as here:
            await ask(here.port, "POST", "/v1/chat/completions", {**ASKED, "user": "mallory"}, {"authorization": "Bearer sk-client-own-key"})
            asked = here.last_asked()
            assert b"sk-client-own-key" not in repr(asked.headers).encode() + asked.body
            assert json.loads(asked.body)["user"] == "ada"
            assert sorted(name.lower() for name, _ in asked.headers) == [
                "accept-encoding", "content-length", "content-type", "host", "user-agent",
            ]  # fmt: skip

    run(main())


@each_mode
def test_its_errors_are_the_clients(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        async with site(tmp_path, Legacy(), lambda port: argo(port) | {"lost": {**argo(port)["argo"], "base_url": f"http://127.0.0.1:{port}/x"}},
                        {"routes": [{"model": "lost", "provider": "lost"}]}) as here, openai_sdk(here.url, mode) as sdk:  # fmt: skip
            for stream in (False, True):
                with pytest.raises(openai.NotFoundError) as caught:
                    await sdk.one(lambda c, stream=stream: c.chat.completions.create(**{**ASKED, "model": "lost"}, stream=stream))
                assert "Not Found" in str(caught.value.body)
            with pytest.raises(openai.NotFoundError, match="has nothing like /v1/moderations"):
                await sdk.one(lambda c: c.moderations.create(input="x", model="gpt-4o"))
            rows = await here.running.rows()
            assert [(row["outcome"], row["status"], row["error_message"]) for row in rows] == [
                ("UPSTREAM_ERROR", 404, "Not Found"), ("UPSTREAM_ERROR", 404, "Not Found"), ("REFUSED", 404, None),
            ]  # fmt: skip

    run(main())
