"""What a request gets: the recording that it names, the next in turn, a list, or a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from penstock.lab.recordings import load_recordings
from penstock.lab.replies import Chooser, Reply
from penstock.vocabulary.ids import Operation, ProtocolId

RECORDINGS = load_recordings(Path(__file__).parents[1] / "corpus").recordings
GEMINI = next(r for r in RECORDINGS if r.protocol is ProtocolId.GEMINI)
CHAT = [r for r in RECORDINGS if r.operation is Operation.CHAT]


def ask(path: str, body: object = None, *, chooser: Chooser | None = None, method: str = "POST", query: str = "", version: str = "") -> Reply:
    headers = [("anthropic-version", version)] if version else []
    return (chooser or Chooser(RECORDINGS)).reply(method, path, query, headers, json.dumps({} if body is None else body).encode())


def told(reply: Reply) -> Any:
    return json.loads(b"".join(reply.events))


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat/completions", "/v1/chat/completions/"])
def test_a_stream_is_chosen_by_its_model(path: str) -> None:
    for recording in CHAT:
        reply = ask(path, {"model": f"replay/{recording.name}", "stream": True})
        assert (reply.status, reply.recording, reply.content_type) == (200, recording, "text/event-stream")


def test_other_models_get_the_streams_in_turn_and_each_operation_has_its_own() -> None:
    chooser = Chooser(RECORDINGS)
    got = [ask("/v1/chat/completions", {"model": "gpt-4o", "stream": True}, chooser=chooser).recording for _ in range(len(CHAT) + 1)]
    assert got == [*CHAT, CHAT[0]]
    reply = ask("/v1/messages", {"model": "claude", "stream": True}, chooser=chooser)
    assert reply.recording == next(r for r in RECORDINGS if r.operation is Operation.MESSAGES)


@pytest.mark.parametrize("model", [f"replay/{GEMINI.name}", f"replay%2F{GEMINI.name}", f"replay/gemini/{GEMINI.name}"])
def test_gemini_names_its_model_in_the_path(model: str) -> None:
    reply = ask(f"/v1beta/models/{model}:streamGenerateContent", query="alt=sse")
    assert (reply.recording, b"".join(reply.events)) == (GEMINI, GEMINI.body)


def test_gemini_without_sse_gets_one_array_element_by_element() -> None:
    reply = ask(f"/v1beta/models/replay/{GEMINI.name}:streamGenerateContent")
    assert (reply.content_type, reply.streamed) == ("application/json", True)
    assert told(reply) == [json.loads(frame.data) for frame in GEMINI.frames]
    assert len(reply.events) == len(GEMINI.frames) + 1


@pytest.mark.parametrize(("path", "body", "status", "words"), [
    ("/v1/chat/completions", {"model": "replay/nothing", "stream": True}, 404, "is called 'nothing'; there is replay/openai_chat/"),
    ("/v1/messages", {"model": f"replay/{CHAT[0].name}", "stream": True}, 404, "there is replay/anthropic_messages/"),
    ("/v1/completions", {"model": "x", "stream": True}, 404, "no recorded stream answers completions"),
    ("/v1/embeddings", {}, 404, "/v1/embeddings is none of the paths"),
    ("/v1/chat/completions", [], 400, "not a JSON object"),
])
def test_what_cannot_be_served_is_said(path: str, body: object, status: int, words: str) -> None:
    reply = ask(path, body)
    assert reply.status == status
    assert words in told(reply)["error"]["message"]


def test_what_is_not_json_and_not_post_is_said() -> None:
    assert Chooser(RECORDINGS).reply("POST", "/v1/messages", "", [], b"{").status == 400
    assert ask("/v1/messages", method="GET").status == 405


def test_models_are_listed_in_the_shape_that_the_client_reads() -> None:
    openai = told(ask("/v1/models", method="GET"))
    assert openai["object"] == "list"
    assert {m["id"] for m in openai["data"]} == {f"replay/{r.name}" for r in RECORDINGS if r.protocol.value.startswith("openai")}
    anthropic = told(ask("/v1/models", method="GET", version="2023-06-01"))
    assert anthropic["data"][0]["type"] == "model"
    assert anthropic["first_id"] == anthropic["data"][0]["id"]
    gemini = told(ask("/v1beta/models", method="GET"))
    assert f"models/replay/{GEMINI.name}" in {m["name"] for m in gemini["models"]}
    for listed in openai["data"]:
        path = "/v1/chat/completions" if any(f"replay/{r.name}" == listed["id"] for r in CHAT) else "/v1/responses"
        assert ask(path, {"model": listed["id"], "stream": True}).status == 200


def test_without_stream_every_recording_is_one_body_or_its_providers_error() -> None:
    paths = {Operation.CHAT: "/v1/chat/completions", Operation.RESPONSES: "/v1/responses", Operation.MESSAGES: "/v1/messages"}
    errors: dict[str, int] = {}
    for recording in RECORDINGS:
        path = paths.get(recording.operation, f"/v1beta/models/replay/{recording.name}:generateContent")
        reply = ask(path, {"model": f"replay/{recording.protocol}/{recording.name}"})
        assert not reply.streamed
        body = told(reply)
        if reply.status == 200:
            assert not {"choices", "output", "content", "candidates"}.isdisjoint(body)
        else:
            errors[recording.name] = reply.status
            assert body["error"]["message"]
    # Groq's two recordings end in an error event that states its status.
    assert errors == dict.fromkeys((r.name for r in CHAT if r.name.startswith("test_tool_use_failed")), 400)


@pytest.mark.parametrize("body", [b"", b"[" * 100_000, b'{"model":"\xff"}', b"[]"])
def test_what_is_no_request_is_refused_in_words(body: bytes) -> None:
    assert Chooser(RECORDINGS).reply("POST", "/v1/chat/completions", "", [], body).status == 400
