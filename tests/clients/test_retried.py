"""The official clients' own retries: an upstream that is slow to begin is asked once, and what the client ends up with is right."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from google import genai
from google.genai import types

from penstock.lab.scripted import LAST_CHUNK, SSE_HEAD, ScriptedServer, Visit, chunk, whole
from penstock.vocabulary.ids import ProtocolId
from tests.clients.test_accumulators import HELLO
from tests.support.answers import ANSWERS, TEXT
from tests.support.gateway import run
from tests.support.sdk import KEY, Mode, Sdk, anthropic_sdk, each_mode, openai_sdk, site

pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
CHAT, RESPONSES, MESSAGES, GEMINI = ProtocolId.OPENAI_CHAT, ProtocolId.OPENAI_RESPONSES, ProtocolId.ANTHROPIC_MESSAGES, ProtocolId.GEMINI
PATIENCE_S = 1.0
"""Of a client, with one try."""
OPTIONS = {"include_usage": True}


class Slow(ScriptedServer):
    """Answers once `ready` is set."""

    def __init__(self) -> None:
        super().__init__(self._tell)
        self.ready = asyncio.Event()

    async def _tell(self, visit: Visit) -> None:
        body = json.loads(await visit.body())
        path = visit.asked.path
        found = next(p for part, p in (("chat", CHAT), ("responses", RESPONSES), ("messages", MESSAGES), ("enerate", GEMINI)) if part in path)
        await self.ready.wait()
        if body.get("stream") or "streamGenerate" in path:
            await visit.send(SSE_HEAD)
            for frame in ANSWERS[found].frames:
                await visit.send(chunk(frame))
            await visit.send(LAST_CHUNK)
        else:
            await visit.send(whole(ANSWERS[found].json))


def gemini(base: str, mode: Mode) -> Sdk:
    tries = types.HttpRetryOptions(attempts=4, initial_delay=0.1)
    client: Any = genai.Client(api_key=KEY, http_options=types.HttpOptions(base_url=base, timeout=int(PATIENCE_S * 1000), retry_options=tries))
    return Sdk(client, mode, client.close) if mode == "sync" else Sdk(client.aio, mode, client.aio.aclose)


async def chat_stream(sdk: Sdk) -> tuple[str, int]:
    chunks = await sdk.many(lambda c: c.chat.completions.create(model="m", messages=HELLO, stream=True, stream_options=OPTIONS))
    return "".join(one.choices[0].delta.content or "" for one in chunks if one.choices), chunks[-1].usage.completion_tokens


async def chat_body(sdk: Sdk) -> tuple[str, int]:
    found = await sdk.one(lambda c: c.chat.completions.create(model="m", messages=HELLO))
    return found.choices[0].message.content, found.usage.completion_tokens


async def responses_stream(sdk: Sdk) -> tuple[str, int]:
    events = await sdk.many(lambda c: c.responses.create(model="m", input="x", stream=True))
    return "".join(event.delta for event in events if event.type == "response.output_text.delta"), events[-1].response.usage.output_tokens


async def responses_body(sdk: Sdk) -> tuple[str, int]:
    found = await sdk.one(lambda c: c.responses.create(model="m", input="x"))
    return found.output_text, found.usage.output_tokens


async def messages_stream(sdk: Sdk) -> tuple[str, int]:
    _, final = await sdk.helped(lambda c: c.messages.stream(model="m", max_tokens=9, messages=HELLO), lambda s: s.get_final_message())
    return final.content[0].text, final.usage.output_tokens


async def messages_body(sdk: Sdk) -> tuple[str, int]:
    found = await sdk.one(lambda c: c.messages.create(model="m", max_tokens=9, messages=HELLO))
    return found.content[0].text, found.usage.output_tokens


async def gemini_stream(sdk: Sdk) -> tuple[str, int]:
    chunks = await sdk.many(lambda c: c.models.generate_content_stream(model="m", contents="x"))
    return "".join(one.text for one in chunks), chunks[-1].usage_metadata.candidates_token_count


async def gemini_body(sdk: Sdk) -> tuple[str, int]:
    found = await sdk.one(lambda c: c.models.generate_content(model="m", contents="x"))
    return found.text, found.usage_metadata.candidates_token_count


Ask = Callable[[Sdk], Coroutine[Any, Any, tuple[str, int]]]
ASKS: dict[str, tuple[Any, Ask, ProtocolId]] = {
    "chat, a stream": (openai_sdk, chat_stream, CHAT), "chat, a body": (openai_sdk, chat_body, CHAT),
    "responses, a stream": (openai_sdk, responses_stream, RESPONSES), "responses, a body": (openai_sdk, responses_body, RESPONSES),
    "messages, a stream": (anthropic_sdk, messages_stream, MESSAGES), "messages, a body": (anthropic_sdk, messages_body, MESSAGES),
    "gemini, a stream": (gemini, gemini_stream, GEMINI), "gemini, a body": (gemini, gemini_body, GEMINI),
}  # fmt: skip


@each_mode
@pytest.mark.parametrize("what", ASKS)
def test_a_slow_upstream_is_asked_once_and_the_client_gets_its_answer(tmp_path: Path, what: str, mode: Mode) -> None:
    make, ask, protocol = ASKS[what]
    more = {} if make is gemini else {"timeout": PATIENCE_S, "max_retries": 3}

    async def main() -> None:
        upstream = Slow()
        async with site(tmp_path, upstream) as here, make(here.url, mode, **more) as client:
            asking = asyncio.create_task(ask(client))
            async with asyncio.timeout(20):
                while here.running.app.gateway.count < 2:  # noqa: ASYNC110 - until the client has come again
                    await asyncio.sleep(0.01)
            upstream.ready.set()
            assert await asking == (TEXT, ANSWERS[protocol].usage[1])
            assert upstream.requests == 1
            first, *others = await here.running.rows()
            assert first["outcome"] == "CLIENT_GONE"
            assert (first["input_tokens"], first["output_tokens"]) == ANSWERS[protocol].usage
            assert {row["replay_of"] for row in others} == {first["id"]}
            assert (others[-1]["outcome"], others[-1]["output_tokens"]) == ("COMPLETE", 0)

    run(main())


@each_mode
@pytest.mark.parametrize("first", ["a body", "a stream"])
@pytest.mark.parametrize("protocol", ["chat", "responses", "messages", "gemini"])
def test_a_kept_answer_is_taken_in_the_other_form(tmp_path: Path, protocol: str, first: str, mode: Mode) -> None:
    """By clients that check what they get: the helpers that put streams together, and the models of bodies."""
    then = "a stream" if first == "a body" else "a body"
    make, _, kind = ASKS[f"{protocol}, a body"]

    async def main() -> None:
        upstream = Slow()
        upstream.ready.set()
        async with site(tmp_path, upstream, more={"dedup": "always"}) as here, make(here.url, mode) as client:
            for form in (first, then):
                assert await ASKS[f"{protocol}, {form}"][1](client) == (TEXT, ANSWERS[kind].usage[1])
            assert upstream.requests == 1
            assert [row["replay"] for row in await here.running.rows()] == [None, "hit"]

    run(main())
