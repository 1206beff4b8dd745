"""What stands beside the texts of an answer is judged as they are, in a body and on a stream: names of files, where pages are, words of errors."""

from __future__ import annotations

import json
from typing import Any

import pytest

from penstock.policy.bodies import guard_answer, guard_request
from penstock.policy.editing import Editor
from penstock.policy.editors import EDITORS
from penstock.policy.guards import Guard, Guards
from penstock.policy.matcher import Findings, Hold
from penstock.policy.rules import Action, Terms, of_words
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.wire.sse import parse
from tests.support.guards import frames_saying, split_frames

CHAT, RESPONSES, MESSAGES, GEMINI = ProtocolId.OPENAI_CHAT, ProtocolId.OPENAI_RESPONSES, ProtocolId.ANTHROPIC_MESSAGES, ProtocolId.GEMINI
FILE = "zanzibar.pdf"
PAGE = "https://x/zanzibar"


def chat(**message: Any) -> tuple[ProtocolId, Any, list[Any]]:
    return (CHAT, {"choices": [{"index": 0, "message": {"content": "x", **message}}]},
            [{"choices": [{"index": 0, "delta": {"content": "x", **message}}]}, {"choices": [{"index": 0, "message": {"content": "x", **message}}]}])


def chat_chunk(**more: Any) -> tuple[ProtocolId, Any, list[Any]]:
    return (CHAT, {"choices": [{"index": 0, "message": {"content": "x"}}], **more},
            [{"choices": [{"index": 0, "delta": {"content": "x"}}], **more}, {"choices": [], **more}])


def noted(**note: Any) -> tuple[ProtocolId, Any, list[Any]]:
    part = {"type": "output_text", "text": "x", "annotations": [note]}
    _, body, frames = item(type="message", role="assistant", content=[part])
    return RESPONSES, body, [
        {"type": "response.output_text.annotation.added", "output_index": 0, "annotation": note},
        {"type": "response.content_part.added", "output_index": 0, "part": {**part, "text": ""}},
        {"type": "response.content_part.done", "output_index": 0, "part": part}, *frames]


def item(**item: Any) -> tuple[ProtocolId, Any, list[Any]]:
    return RESPONSES, {"object": "response", "output": [item]}, [
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {"output": [item]}}]


def block(**block: Any) -> tuple[ProtocolId, Any, list[Any]]:
    return MESSAGES, {"content": [block]}, [{"type": "content_block_start", "index": 3, "content_block": block}]


def cited(**citation: Any) -> tuple[ProtocolId, Any, list[Any]]:
    protocol, body, frames = block(type="text", text="x", citations=[citation])
    return protocol, body, [*frames, {"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": citation}}]


def part(**part: Any) -> tuple[ProtocolId, Any, list[Any]]:
    body = {"candidates": [{"index": 0, "content": {"role": "model", "parts": [part]}}]}
    return GEMINI, body, [body]


def candidate(**more: Any) -> tuple[ProtocolId, Any, list[Any]]:
    body = {"candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": "x"}]}, **more}]}
    return GEMINI, body, [body]


def failing(protocol: ProtocolId, event: str = "error", **error: Any) -> tuple[ProtocolId, Any, list[Any]]:
    return protocol, {"error": error}, [{"type": event, "error": error}]


CASES: dict[str, tuple[ProtocolId, Any, list[Any]]] = {
    "chat, a page": chat(annotations=[{"type": "url_citation", "url_citation": {"title": "t", "url": PAGE}}]),
    "chat, a page, flat": chat(annotations=[{"type": "url_citation", "title": "t", "url": PAGE}]),
    "chat, a file": chat(annotations=[{"type": "file_citation", "file_citation": {"file_id": "f", "filename": FILE}}]),
    "chat, a file, flat": chat(annotations=[{"type": "file_citation", "filename": FILE}]),
    "chat, a made file": chat(annotations=[{"container_file_citation": {"filename": FILE}}]),
    "chat, a read file": chat(annotations=[{"type": "file", "file": {"name": FILE, "content": [{"type": "text", "text": "in zanzibar"}]}}]),
    "chat, own data": chat(context={"citations": [{"title": "t", "filepath": FILE, "url": PAGE}]}),
    "chat, a part with a page": chat(content=[{"type": "tool_reference", "title": "zanzibar", "url": PAGE, "description": "zanzibar"}]),
    "chat, a part with a file": chat(content=[{"type": "file", "file": {"filename": FILE}}, {"type": "document_url", "document_name": FILE}]),
    "chat, thoughts of a proxy's": chat(provider_specific_fields={"reasoning_content": "zanzibar ", "citations": [[{"cited_text": "zanzibar"}]]}),
    "chat, a block of a proxy's": chat(provider_specific_fields={"thinking_blocks": [{"type": "thinking", "thinking": "zanzibar "}]}),
    "chat, pages": chat_chunk(citations=["https://y", PAGE]),
    "chat, found": chat_chunk(search_results=[{"title": "t", "url": PAGE}]),
    "chat, asked next": chat_chunk(related_questions=["where is zanzibar?"]),
    "chat, pictures": chat_chunk(images=[{"title": "zanzibar", "image_url": PAGE, "origin_url": PAGE}]),
    "chat, searched": chat_chunk(web_search=[{"title": "zanzibar", "link": PAGE, "content": "zanzibar"}]),
    "chat, stopped": (CHAT, {"choices": [{"message": {"content": "x"}, "finish_reason": "stop", "stop_reason": "zanzibar"}]}, [
        {"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop", "stop_reason": "zanzibar"}]},
        {"choices": [{"index": 0, "delta": {"content": "x"}, "stop_reason": "zanzibar"}]}]),
    "chat, failed": failing(CHAT, message="no zanzibar", failed_generation="<f>zanzibar</f>", metadata={"raw": "zanzibar"}),
    "chat, failed at groq's": chat_chunk(x_groq={"id": "r", "error": "no zanzibar"}),
    "chat, failed in words": (CHAT, {"error": "no zanzibar"}, [{"error": "no zanzibar"}]),
    "chat, a choice failed": (CHAT, {"choices": [{"message": {"content": "x"}, "error": {"message": "no zanzibar"}}]}, [
        {"choices": [{"index": 0, "delta": {"content": "x"}, "error": {"message": "no zanzibar"}}]}]),
    "responses, a made file": noted(type="container_file_citation", container_id="c", file_id="f", filename=FILE),
    "responses, a file": noted(type="file_citation", file_id="f", index=1, filename=FILE),
    "responses, a page": noted(type="url_citation", title="t", url=PAGE),
    "responses, found in a file": item(type="file_search_call", id="i", queries=["q"], results=[{"file_id": "f", "filename": FILE, "score": 1}]),
    "responses, a made picture": item(type="code_interpreter_call", id="i", code="1", outputs=[{"type": "image", "url": PAGE}]),
    "responses, found": item(type="web_search_call", id="i", results=[{"title": "zanzibar", "url": PAGE, "snippet": "in zanzibar"}]),
    "responses, mcp failed": item(type="mcp_call", id="i", name="n", arguments="{}", error="no zanzibar"),
    "responses, no tools": item(type="mcp_list_tools", id="i", server_label="s", tools=[], error="no zanzibar"),
    "responses, a check": item(type="computer_call", id="i", pending_safety_checks=[{"id": "1", "message": "at zanzibar"}]),
    "responses, thoughts": (RESPONSES, {"output": []}, [
        {"type": "response.reasoning_part.added", "output_index": 0, "part": {"type": "reasoning_text", "text": "zanzibar "}},
        {"type": "response.reasoning_part.done", "output_index": 0, "part": {"type": "reasoning_text", "text": "zanzibar"}},
        {"type": "response.reasoning.delta", "output_index": 0, "delta": "zanzibar "}, {"type": "response.reasoning.done", "text": "zanzibar"}]),
    "responses, failed": (RESPONSES, {"object": "response", "output": [], "error": {"code": "c", "message": "no zanzibar"}}, [
        {"type": "response.failed", "response": {"output": [], "error": {"code": "server_error", "message": "no zanzibar"}}},
        {"type": "error", "code": "c", "message": "no zanzibar"}, {"type": "error", "error": {"message": "no zanzibar"}}]),
    "responses, nobody's message": item(type="message", content=[{"type": "output_text", "text": "in zanzibar"}]),
    "responses, other ends": (RESPONSES, {"output": []}, [
        {"type": "response.canceled", "response": {"output": [{"type": "message", "content": [{"type": "output_text", "text": "in zanzibar"}]}]}},
        {"type": "response.error", "message": "no zanzibar"}, {"type": "response.new_words.delta", "output_index": 0, "delta": "zanzibar "},
        {"type": "response.new_words.done", "output_index": 0, "text": "zanzibar"}]),
    "messages, a page": cited(type="web_search_result_location", url=PAGE, title="t", cited_text="c"),
    "messages, found": cited(type="search_result_location", source=FILE, title="t", cited_text="c"),
    "messages, a result": block(type="search_result", source=FILE, title="t", content=[]),
    "messages, code": block(type="code_execution_tool_result", content={"stdout": "", "content": [{"file_id": FILE}]}),
    "messages, an editor": block(type="text_editor_code_execution_tool_result", content={"file_type": "text", "content": "x", "path": FILE}),
    "messages, words of a tool": block(type="mcp_tool_result", content=["zanzibar"]),
    "messages, stopped": (MESSAGES, {"content": [], "stop_sequence": "zanzibar"}, [
        {"type": "message_start", "message": {"content": [], "stop_sequence": "zanzibar"}},
        {"type": "message_delta", "delta": {"stop_reason": "stop_sequence", "stop_sequence": "zanzibar"}}]),
    "messages, failed": failing(MESSAGES, type="overloaded_error", message="no zanzibar"),
    "gemini, a file": part(fileData={"mimeType": "text/csv", "displayName": FILE, "fileUri": PAGE}),
    "gemini, a picture": part(inlineData={"mimeType": "image/png", "data": "AAAA", "displayName": FILE}),
    "gemini, a tool's file": part(functionResponse={"name": "f", "response": {}, "parts": [{"inlineData": {"displayName": FILE}}]}),
    "gemini, a page": candidate(groundingMetadata={"groundingChunks": [{"web": {"uri": PAGE, "title": "t", "domain": "zanzibar"}}]}),
    "gemini, a document": candidate(groundingMetadata={"groundingChunks": [{"retrievedContext": {
        "uri": PAGE, "documentName": FILE, "fileSearchStore": "zanzibar", "customMetadata": [{"key": "k", "stringValue": "zanzibar"}]}}]}),
    "gemini, a read page": candidate(urlContextMetadata={"urlMetadata": [{"retrievedUrl": PAGE}]}),
    "gemini, a source": candidate(citationMetadata={"citationSources": [{"uri": PAGE, "license": "zanzibar"}]}),
    "gemini, failed": failing(GEMINI, code=500, message="no zanzibar", details=[{"detail": "zanzibar"}]),
}  # fmt: skip


def guards(action: Action = Action.MASK) -> Guards:
    return Guards([Guard("house", (of_words(["zanzibar"], Terms("house", action, mask="***")),))])


def begun(protocol: ProtocolId, action: Action) -> Editor:
    """One that has read the beginning of an answer."""
    editor = EDITORS[protocol](guards(action).answers, Findings(), Hold())
    for frame in split_frames(b"".join(frames_saying(protocol, ["Hello. ", "And. "])[:6])):
        name, data = parse(frame)
        if data and b"stop" not in data.lower() and b"completed" not in data:
            editor.edit(name, data, 100.0)
    return editor


@pytest.mark.parametrize("name", list(CASES))
def test_what_stands_beside_texts_is_judged(name: str) -> None:
    protocol, body, frames = CASES[name]
    told = guard_answer(protocol, Operation.CHAT, json.dumps(body).encode(), guards().answers, Findings())
    assert json.loads(told) == json.loads(json.dumps(body).replace("zanzibar", "***"))
    guard_answer(protocol, Operation.CHAT, json.dumps(body).encode(), guards(Action.REJECT).answers, findings := Findings())
    assert (findings.rejection is not None) is ("zanzibar" in json.dumps(body))
    for frame in frames:
        data = json.dumps(frame).encode()
        edit = begun(protocol, Action.MASK).edit(frame.get("type", "").encode(), data, 101.0)
        assert edit is not None
        assert json.loads(edit.data or b"") == json.loads(data.replace(b"zanzibar", b"***"))
        editor = begun(protocol, Action.REJECT)
        editor.edit(frame.get("type", "").encode(), data, 101.0)
        assert editor.findings.rejection is not None


@pytest.mark.parametrize("sealed", [{"thought_signatures": ["zanzibar"]}, {"thought_signature": "zanzibar"}])
def test_sealed_thoughts_that_a_proxy_hands_on_stay_as_they_are(sealed: Any) -> None:
    """Their maker wants them back to the byte."""
    _, body, frames = chat(provider_specific_fields=sealed)
    data = json.dumps(body).encode()
    assert guard_answer(CHAT, Operation.CHAT, data, guards().answers, Findings()) is data
    asked = json.dumps({"model": "m", "messages": [{"role": "assistant", "content": "x", "provider_specific_fields": sealed}]}).encode()
    assert guard_request(CHAT, Operation.CHAT, asked, guards().requests, Findings()) is asked
    for frame in frames:
        assert begun(CHAT, Action.MASK).edit(b"", json.dumps(frame).encode(), 101.0) is None


def test_thoughts_that_a_proxy_tells_again_are_each_one_text() -> None:
    """However they are cut, and what is held leaves where it stood."""
    editor = begun(CHAT, Action.MASK)
    told: list[Any] = []
    for text in ("it is zanz", "ibar", " now"):
        again = {"reasoning_content": text, "thinking_blocks": [{"type": "thinking", "thinking": text}]}
        data = json.dumps({"choices": [{"index": 0, "delta": {"reasoning_content": text, "provider_specific_fields": again}}]}).encode()
        edit = editor.edit(b"", data, 101.0)
        told += [data] if edit is None else [*(one for _, one in edit.before), edit.data or data]
    edit = editor.edit(b"", b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}', 101.0)
    told += [] if edit is None else [one for _, one in edit.before]
    deltas = [json.loads(data)["choices"][0]["delta"] for data in told]
    beside = [delta.get("provider_specific_fields", {}) for delta in deltas]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "it is *** now"
    assert "".join(fields.get("reasoning_content", "") for fields in beside) == "it is *** now"
    assert "".join(one["thinking"] for fields in beside for one in fields.get("thinking_blocks", [])) == "it is *** now"


def test_a_text_of_responses_that_nobody_knows_is_one_text() -> None:
    editor = begun(RESPONSES, Action.MASK)
    told: list[Any] = []
    for kind, more in (("delta", {"delta": "in zanz"}), ("delta", {"delta": "ibar"}), ("done", {"text": "in zanzibar"})):
        data = json.dumps({"type": f"response.new_words.{kind}", "output_index": 7, "content_index": 0, **more}).encode()
        edit = editor.edit(f"response.new_words.{kind}".encode(), data, 101.0)
        told += [json.loads(one) for one in ([data] if edit is None else [*(data for _, data in edit.before), edit.data or data])]
    assert "".join(one.get("delta", "") for one in told) == "in ***"
    assert told[-1]["text"] == "in ***"
    sound = b'{"type":"response.audio.delta","delta":"zanzibar"}'
    assert editor.edit(b"response.audio.delta", sound, 102.0) is None
