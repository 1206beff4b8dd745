"""OpenAI's endpoints beside chat and responses, asked by its official client: the same answers, one exact row each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from penstock.lab.scripted import whole
from tests.support.gateway import run
from tests.support.sdk import Mode, each_mode, openai_sdk, page, pages, site, sse

USAGE = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}
TOKENS = {"input_tokens": 20, "output_tokens": 30, "total_tokens": 50}
FILE = {"id": "file-1", "object": "file", "bytes": 3, "created_at": 1, "filename": "a.jsonl", "purpose": "batch", "status": "processed"}
BATCH = {
    "id": "batch_1", "object": "batch", "endpoint": "/v1/chat/completions", "input_file_id": "file-1", "completion_window": "24h", "created_at": 1,
    "status": "validating",
}  # fmt: skip
RESPONSE: dict[str, Any] = {
    "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "gpt-x", "output": [], "parallel_tool_calls": True,
    "tool_choice": "auto", "tools": [], "error": None, "incomplete_details": None, "instructions": None, "metadata": {}, "temperature": 1, "top_p": 1,
    "usage": {
        "input_tokens": 5, "input_tokens_details": {"cached_tokens": 1}, "output_tokens": 7, "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 12,
    },
}  # fmt: skip
ITEM = {"id": "msg_1", "type": "message", "role": "user", "status": "completed", "content": [{"type": "input_text", "text": "x"}]}
IMAGE = {"created": 1, "data": [{"b64_json": "aGVsbG8="}], "usage": {**TOKENS, "input_tokens_details": {"text_tokens": 20, "image_tokens": 0}}}
TYPED = {"object": "text_completion", "id": "cmpl-1", "created": 1, "model": "gpt-t"}
COMPLETION = {**TYPED, "choices": [{"text": "hi", "index": 0, "logprobs": None, "finish_reason": "stop"}], "usage": USAGE}


def event(value: Mapping[str, Any]) -> bytes:
    return b"event: " + str(value["type"]).encode() + b"\ndata: " + json.dumps(value).encode() + b"\n\n"


TABLE = {
    "POST /v1/completions": page(COMPLETION),
    "POST /v1/embeddings": page(
        {
            "object": "list",
            "model": "embed-1",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -1.0]}],
            "usage": {"prompt_tokens": 4, "total_tokens": 4},
        }
    ),
    "POST /v1/moderations": page(
        {
            "id": "modr-1",
            "model": "omni",
            "results": [{"flagged": False, "categories": {}, "category_scores": {}, "category_applied_input_types": {}}],
        }
    ),
    "GET /v1/models/gpt-x": page({"id": "gpt-x", "object": "model", "created": 1, "owned_by": "o"}),
    "GET /v1/files": page({"object": "list", "data": [FILE], "has_more": False}),
    "GET /v1/files/file-1": page(FILE),
    "DELETE /v1/files/file-1": page({"id": "file-1", "object": "file", "deleted": True}),
    "POST /v1/files": page(FILE),
    "GET /v1/files/file-1/content": whole(b"\0\xff\r\n" * 9, 200, "content-type: application/octet-stream", "x-request-id: req_of_provider"),
    "POST /v1/batches": page(BATCH),
    "GET /v1/batches/batch_1": page(BATCH),
    "GET /v1/batches": page({"object": "list", "data": [BATCH], "has_more": False}),
    "POST /v1/batches/batch_1/cancel": page({**BATCH, "status": "cancelling"}),
    "POST /v1/audio/transcriptions": page({"text": "hello", "usage": {"type": "tokens", **TOKENS}}),
    "POST /v1/audio/translations": page({"text": "hello"}),
    "POST /v1/audio/speech": whole(b"ID3\0" * 9, 200, "content-type: audio/mpeg"),
    "POST /v1/images/generations": page(IMAGE),
    "POST /v1/images/edits": page(IMAGE),
    "GET /v1/responses/resp_1": page(RESPONSE),
    "DELETE /v1/responses/resp_1": whole(b"", 200),
    "POST /v1/responses/resp_1/cancel": page({**RESPONSE, "status": "cancelled"}),
    "GET /v1/responses/resp_1/input_items": page({"object": "list", "data": [ITEM], "has_more": False, "first_id": "msg_1", "last_id": "msg_1"}),
    "POST /v1/responses/input_tokens": page({"object": "response.input_tokens", "input_tokens": 42}),
}

Call = tuple[Callable[[Any], Any], str, dict[str, Any]]
NONE = {"usage_source": "none", "input_tokens": None, "output_tokens": None}
SPENT = {"usage_source": "reported", "input_tokens": 20, "output_tokens": 30}
ONE: dict[str, Call] = {
    "completion": (
        lambda c: c.completions.create(model="gpt-t", prompt="x"), "completions",
        {"requested_model": "gpt-t", "model": "gpt-t", "response_id": "cmpl-1", "stop_reason": "stop", "input_tokens": 11, "output_tokens": 3},
    ),
    "embedding": (
        lambda c: c.embeddings.create(model="embed", input="x"), "embeddings",
        {"requested_model": "embed", "model": "embed-1", "input_tokens": 4, "usage_source": "reported"},
    ),
    "embeddings as floats": (
        lambda c: c.embeddings.create(model="embed", input=["x", "y"], encoding_format="float"), "embeddings", {"input_tokens": 4},
    ),
    "moderation": (lambda c: c.moderations.create(input="x"), "moderations", {"model": "omni", "response_id": "modr-1", **NONE}),
    "model": (lambda c: c.models.retrieve("gpt-x"), "models", NONE),
    "file": (lambda c: c.files.retrieve("file-1"), "files", NONE),
    "file deleted": (lambda c: c.files.delete("file-1"), "files", {"method": "DELETE"}),
    "file made": (lambda c: c.files.create(file=("a.jsonl", b"{}\n"), purpose="batch"), "files", {"response_id": "file-1", "method": "POST"}),
    "batch made": (
        lambda c: c.batches.create(input_file_id="file-1", endpoint="/v1/chat/completions", completion_window="24h"), "batches",
        {"response_id": "batch_1"},
    ),
    "batch": (lambda c: c.batches.retrieve("batch_1"), "batches", NONE),
    "batch cancelled": (lambda c: c.batches.cancel("batch_1"), "batches", NONE),
    "transcription": (lambda c: c.audio.transcriptions.create(model="whisper", file=("a.wav", b"RIFF")), "audio", SPENT),
    "translation": (lambda c: c.audio.translations.create(model="whisper", file=("a.wav", b"RIFF")), "audio", NONE),
    "image": (lambda c: c.images.generate(model="image", prompt="x"), "images", {**SPENT, "requested_model": "image"}),
    "image edited": (lambda c: c.images.edit(model="image", prompt="x", image=("a.png", b"\x89PNG")), "images", SPENT),
    "response": (lambda c: c.responses.retrieve("resp_1"), "response_item", {"status": 200}),
    "response deleted": (lambda c: c.responses.delete("resp_1"), "response_item", {"method": "DELETE"}),
    "response cancelled": (lambda c: c.responses.cancel("resp_1"), "response_item", {"method": "POST"}),
    "input tokens": (lambda c: c.responses.input_tokens.count(model="gpt-x", input="x"), "count_tokens", {"requested_model": "gpt-x"}),
}  # fmt: skip
MANY: dict[str, tuple[Callable[[Any], Any], str]] = {
    "files": (lambda c: c.files.list(), "files"),
    "batches": (lambda c: c.batches.list(limit=1), "batches"),
    "input items": (lambda c: c.responses.input_items.list("resp_1"), "response_item"),
}


@each_mode
def test_whole_answers(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        async with site(tmp_path, pages(TABLE)) as here:
            for name, (call, operation, wanted) in ONE.items():

                async def ask(sdk: Any, call: Callable[[Any], Any] = call) -> Any:
                    return await sdk.one(call)

                found = await here.both(openai_sdk, mode, ask)
                row = await here.last_row()
                assert (row["outcome"], row["operation"], row["provider"]) == ("COMPLETE", operation, "openai"), (name, row["cause"])
                assert {column: row[column] for column in wanted} == wanted, name
                if name not in ("response deleted",):
                    assert found._request_id == row["upstream_request_id"] == "req_of_provider", name
                straight, relayed = here.upstream.log[-2:]
                assert (relayed.method, relayed.target) == (straight.method, straight.target)
                if b"boundary=" not in (relayed.header("content-type") or "").encode():
                    assert relayed.body == straight.body, name

    run(main())


@each_mode
def test_lists(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        async with site(tmp_path, pages(TABLE)) as here:
            for name, (call, operation) in MANY.items():

                async def ask(sdk: Any, call: Callable[[Any], Any] = call) -> Any:
                    return await sdk.many(call)

                assert len(await here.both(openai_sdk, mode, ask)) == 1, name
                assert here.upstream.log[-1].target == here.upstream.log[-2].target
                row = await here.last_row()
                assert (row["outcome"], row["operation"], row["usage_source"]) == ("COMPLETE", operation, "none"), name

    run(main())


@each_mode
def test_bytes(tmp_path: Path, mode: Mode) -> None:
    calls: dict[str, tuple[Callable[[Any], Any], bytes]] = {
        "files": (lambda c: c.files.content("file-1"), b"\0\xff\r\n" * 9),
        "audio": (lambda c: c.audio.speech.create(model="tts", voice="alloy", input="x"), b"ID3\0" * 9),
    }

    async def main() -> None:
        async with site(tmp_path, pages(TABLE)) as here, openai_sdk(here.url, mode) as sdk:
            for operation, (call, wanted) in calls.items():
                assert (await sdk.one(call)).content == wanted
                row = await here.last_row()
                assert (row["outcome"], row["operation"], row["bytes_out"], row["usage_source"]) == ("COMPLETE", operation, len(wanted), "none")

    run(main())


DONE = {"usage": {**TOKENS, "input_tokens_details": {"text_tokens": 20, "image_tokens": 0}}}
PARTIAL = {"b64_json": "aGk=", "created_at": 1, "size": "1024x1024", "quality": "low", "background": "auto", "output_format": "png"}
STREAMED: dict[str, tuple[str, Callable[[Any], Any], list[dict[str, Any]], str]] = {
    "transcription": (
        "POST /v1/audio/transcriptions", lambda c: c.audio.transcriptions.create(model="t", file=("a.wav", b"RIFF"), stream=True),
        [{"type": "transcript.text.delta", "delta": "he"}, {"type": "transcript.text.done", "text": "hello", "usage": {"type": "tokens", **TOKENS}}],
        "audio",
    ),
    "image": (
        "POST /v1/images/generations", lambda c: c.images.generate(model="i", prompt="x", stream=True, partial_images=1),
        [{"type": "image_generation.partial_image", "partial_image_index": 0, **PARTIAL}, {"type": "image_generation.completed", **PARTIAL, **DONE}],
        "images",
    ),
}  # fmt: skip


@each_mode
@pytest.mark.parametrize("kind", list(STREAMED))
def test_streams_of_media(tmp_path: Path, kind: str, mode: Mode) -> None:
    where, call, events, operation = STREAMED[kind]

    async def main() -> None:
        async with site(tmp_path, pages({where: sse(*map(event, events))})) as here:
            found = await here.both(openai_sdk, mode, lambda sdk: sdk.many(call))
            assert [e.type for e in found] == [e["type"] for e in events]
            row = await here.last_row()
            assert (row["outcome"], row["operation"], row["streamed"]) == ("COMPLETE", operation, True), row["cause"]
            assert (row["input_tokens"], row["output_tokens"], row["usage_source"]) == (20, 30, "reported")

    run(main())


@each_mode
def test_a_stream_of_completions(tmp_path: Path, mode: Mode) -> None:
    def frame(value: Any) -> bytes:
        return b"data: " + json.dumps({**TYPED, **value}).encode() + b"\n\n"

    frames = [
        frame({"choices": [{"text": "h", "index": 0, "finish_reason": None}]}),
        frame({"choices": [{"text": "i", "index": 0, "finish_reason": "length"}]}),
        frame({"choices": [], "usage": USAGE}), b"data: [DONE]\n\n",
    ]  # fmt: skip

    async def main() -> None:
        async with site(tmp_path, pages({"POST /v1/completions": sse(*frames)})) as here:
            found = await here.both(
                openai_sdk,
                mode,
                lambda sdk: sdk.many(lambda c: c.completions.create(model="gpt-t", prompt="x", stream=True, stream_options={"include_usage": True})),
            )
            assert "".join(e.choices[0].text for e in found[:-1]) == "hi"
            async with openai_sdk(here.url, mode) as sdk:
                unasked = await sdk.many(lambda c: c.completions.create(model="gpt-t", prompt="x", stream=True))
            assert len(unasked) == 2
            assert json.loads(here.last_asked().body)["stream_options"] == {"include_usage": True}
            for row in await here.running.rows():
                assert (row["outcome"], row["operation"], row["stop_reason"], row["response_id"]) == ("COMPLETE", "completions", "length", "cmpl-1")
                assert (row["input_tokens"], row["output_tokens"]) == (11, 3)

    run(main())


@each_mode
def test_a_response_is_streamed_again_from_where_it_broke_off(tmp_path: Path, mode: Mode) -> None:
    """`retrieve(stream=True, starting_after=...)`: a stream whose usage was counted when the response was made."""
    frames = [
        event({"type": "response.in_progress", "sequence_number": 3, "response": RESPONSE}),
        event({"type": "response.completed", "sequence_number": 4, "response": RESPONSE}),
    ]

    async def main() -> None:
        async with site(tmp_path, pages({"GET /v1/responses/resp_1": sse(*frames)})) as here:
            found = await here.both(openai_sdk, mode, lambda sdk: sdk.many(lambda c: c.responses.retrieve("resp_1", stream=True, starting_after=2)))
            assert [e.type for e in found] == ["response.in_progress", "response.completed"]
            assert here.last_asked().target == here.upstream.log[0].target == "/v1/responses/resp_1?starting_after=2&stream=true"
            row = await here.last_row()
            assert (row["outcome"], row["operation"], row["streamed"], row["response_id"]) == ("COMPLETE", "response_item", True, "resp_1"), row[
                "cause"
            ]

    run(main())
