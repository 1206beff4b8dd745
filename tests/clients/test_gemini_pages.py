"""Google's endpoints beside the generating ones, asked by its official client, which writes `/v1` unless told otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.genai import types

from tests.support.gateway import run
from tests.support.http import ask
from tests.support.sdk import Mode, Sdk, case, check_row, each_mode, gemini_sdk, openai_sdk, page, pages, plain, recorded, site

VERSIONS = ["v1", "v1beta"]
MODEL = {"name": "models/gemini-x", "displayName": "Gemini X", "supportedGenerationMethods": ["generateContent"], "inputTokenLimit": 9}
FILE = {"name": "files/abc", "mimeType": "text/plain", "sizeBytes": "3", "state": "ACTIVE", "uri": "https://x/files/abc"}


def table(version: str) -> dict[str, bytes]:
    return {
        f"POST /{version}/models/gemini-x:countTokens": page({"totalTokens": 42}),
        f"POST /{version}/models/embed:batchEmbedContents": page({"embeddings": [{"values": [0.5, -1.0]}]}),
        f"POST /{version}/models/embed:embedContent": page({"embedding": {"values": [0.5, -1.0]}}),
        f"GET /{version}/models": page({"models": [MODEL]}),
        f"GET /{version}/models/gemini-x": page(MODEL),
        f"GET /{version}/files": page({"files": [FILE]}),
        f"GET /{version}/files/abc": page(FILE),
        f"DELETE /{version}/files/abc": page({}),
    }


CALLS: dict[str, tuple[Callable[[Any], Any], str, str]] = {
    "count": (lambda c: c.models.count_tokens(model="gemini-x", contents="x"), "one", "count_tokens"),
    "embed": (lambda c: c.models.embed_content(model="embed", contents="x"), "one", "embeddings"),
    "model": (lambda c: c.models.get(model="gemini-x"), "one", "models"),
    "files": (lambda c: c.files.list(), "many", "files"),
    "file": (lambda c: c.files.get(name="files/abc"), "one", "files"),
    "file deleted": (lambda c: c.files.delete(name="files/abc"), "one", "files"),
}


@each_mode
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("names", [["count", "embed"], ["model"], ["files", "file", "file deleted"]], ids=" ".join)
def test_same_answers_one_row_each(tmp_path: Path, names: list[str], version: str, mode: Mode) -> None:
    async def main() -> None:
        async with site(tmp_path, pages(table(version))) as here:
            for name in names:
                call, how, operation = CALLS[name]

                async def ask(sdk: Sdk, call: Callable[[Any], Any] = call, how: str = how) -> Any:
                    return await (sdk.one(call) if how == "one" else sdk.many(call))

                await here.both(gemini_sdk, mode, ask, api_version=version)
                straight, relayed = here.upstream.log[-2:]
                assert (relayed.method, relayed.target, relayed.body) == (straight.method, straight.target, straight.body)
                row = await here.last_row()
                assert (row["outcome"], row["operation"], row["provider"], row["client_protocol"]) == ("COMPLETE", operation, "gemini", "gemini"), (
                    name
                )

    run(main())


@each_mode
@pytest.mark.parametrize("version", VERSIONS)
def test_models_are_listed_in_the_clients_shape(tmp_path: Path, version: str, mode: Mode) -> None:
    async def main() -> None:
        async with site(tmp_path, pages(table("v1beta"))) as here, gemini_sdk(here.url, mode, api_version=version) as sdk:
            found = {m.name: m for m in await sdk.many(lambda c: c.models.list())}
            assert "models/demo" in found
            assert found["models/gemini-x"].display_name == "Gemini X"
            assert found["models/gemini-x"].input_token_limit == 9
            assert (await here.last_row())["client_protocol"] == "gemini"

    run(main())


@each_mode
def test_openais_client_still_gets_openais_list(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        async with site(tmp_path, recorded()) as here, openai_sdk(here.url, mode) as relayed, openai_sdk(here.upstream_url, mode) as direct:
            found = {m.id: m for m in await relayed.many(lambda c: c.models.list())}
            own = await direct.many(lambda c: c.models.list())
            assert own
            assert all(found[m.id] == m for m in own)
            assert "demo" in found
            assert (await here.last_row())["client_protocol"] == "openai_chat"

    run(main())


@pytest.mark.parametrize("name", ["gemini/test_google_model_thinking_part_iter_0", "gemini/test_google_streaming_tool_call_thought_signature_0"])
def test_the_array_form_says_what_the_events_say(tmp_path: Path, name: str) -> None:
    """The official client always writes `alt=sse`; its types read the elements of the array all the same."""
    wanted = case(name)

    async def main() -> None:
        async with site(tmp_path, recorded()) as here:
            async with gemini_sdk(here.url, "async") as sdk:
                events = await sdk.many(lambda c: c.models.generate_content_stream(model=f"replay/{wanted.name}", contents="x"))
            path = f"/v1beta/models/replay/{wanted.name}:streamGenerateContent"
            relayed = await ask(here.port, "POST", path, {"contents": []})
            straight = await ask(int(here.upstream_url.rpartition(":")[2]), "POST", path, {"contents": []})
            assert relayed.clean
            assert relayed.body == straight.body
            assert relayed.header("content-type") == straight.header("content-type")
            assert plain([types.GenerateContentResponse.model_validate(e) for e in json.loads(relayed.body)]) == plain(events)
            check_row(await here.last_row(), wanted, "generate", streamed=True)

    run(main())
