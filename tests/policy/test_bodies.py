"""Whole requests and answers: whose texts are judged, and that nothing else changes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from penstock.policy.alike import names_in
from penstock.policy.asking import BodyJudge
from penstock.policy.bodies import guard_answer, guard_request
from penstock.policy.edit_gemini import GeminiEditor
from penstock.policy.edit_responses import ResponsesEditor
from penstock.policy.editors import EDITORS
from penstock.policy.guards import Guard, Guards
from penstock.policy.matcher import Findings, Hold
from penstock.policy.outside import Outside
from penstock.policy.rules import Action, Scope, Terms, built_in, of_words
from penstock.vocabulary.ids import Operation, ProtocolId

CHAT, RESPONSES, MESSAGES, GEMINI = ProtocolId.OPENAI_CHAT, ProtocolId.OPENAI_RESPONSES, ProtocolId.ANTHROPIC_MESSAGES, ProtocolId.GEMINI
S, U, A, R, T, O = Scope.SYSTEM, Scope.USER, Scope.ASSISTANT, Scope.REASONING, Scope.TOOL_ARGUMENTS, Scope.TOOL_RESULTS  # noqa: E741
ARGUMENTS = '{"a": "zanzibar", "n": 1}'
REQUESTS: list[tuple[ProtocolId, Operation, Any, set[Scope]]] = [
    (CHAT, Operation.CHAT, {"model": "zanzibar", "messages": [{"role": "system", "content": "zanzibar"}]}, {S}),
    (CHAT, Operation.CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": "zanzibar"}, {"type": "image_url"}]}]}, {U}),
    (CHAT, Operation.CHAT, {"messages": [{"role": "assistant", "content": "zanzibar"}]}, {A}),
    (CHAT, Operation.CHAT, {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": ARGUMENTS}}]}]}, {T}),
    (CHAT, Operation.CHAT, {"messages": [{"role": "tool", "content": "zanzibar"}]}, {O}),
    (CHAT, Operation.CHAT, {"messages": [{"role": "assistant", "reasoning_content": "zanzibar"}]}, {R}),
    (CHAT, Operation.COMPLETIONS, {"prompt": ["zanzibar", "x"]}, {U}),
    (CHAT, Operation.EMBEDDINGS, {"input": "zanzibar"}, {U}),
    (RESPONSES, Operation.RESPONSES, {"instructions": "zanzibar", "input": "x"}, {S}),
    (RESPONSES, Operation.RESPONSES, {"input": "zanzibar"}, {U}),
    (RESPONSES, Operation.RESPONSES, {"input": [{"role": "developer", "content": [{"type": "input_text", "text": "zanzibar"}]}]}, {S}),
    (RESPONSES, Operation.RESPONSES, {"input": [{"type": "function_call", "arguments": ARGUMENTS}]}, {T}),
    (RESPONSES, Operation.RESPONSES, {"input": [{"type": "function_call_output", "output": "zanzibar"}]}, {O}),
    (RESPONSES, Operation.RESPONSES, {"input": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "zanzibar"}]}]}, {R}),
    (MESSAGES, Operation.MESSAGES, {"system": [{"type": "text", "text": "zanzibar"}]}, {S}),
    (MESSAGES, Operation.COUNT_TOKENS, {"messages": [{"role": "user", "content": "zanzibar"}]}, {U}),
    (MESSAGES, Operation.MESSAGES, {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "input": {"a": ["zanzibar"]}}]}]}, {T}),
    (MESSAGES, Operation.MESSAGES, {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": "zanzibar"}]}]}, {O}),
    (MESSAGES, Operation.MESSAGES, {"messages": [{"role": "assistant", "content": [{"type": "thinking", "thinking": "zanzibar"}]}]}, {R}),
    (CHAT, Operation.CHAT, {"messages": [{"role": "assistant", "content": [
        {"type": "thinking", "thinking": [{"type": "text", "text": "zanzibar"}]}]}]}, {R}),
    (RESPONSES, Operation.RESPONSES, {"input": [{"type": "file_search_call", "queries": ["x", "zanzibar"]}]}, {T}),
    (RESPONSES, Operation.RESPONSES, {"input": [{"type": "file_search_call", "results": [{"text": "zanzibar"}]}]}, {O}),
    (RESPONSES, Operation.RESPONSES, {"input": [{"type": "code_interpreter_call", "outputs": [{"type": "logs", "logs": "zanzibar"}]}]}, {O}),
    (RESPONSES, Operation.RESPONSES, {"input": [{"type": "mcp_approval_response", "approve": False, "reason": "zanzibar"}]}, {U}),
    (MESSAGES, Operation.MESSAGES, {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": [
        {"type": "search_result", "source": "x", "title": "t", "content": [{"type": "text", "text": "zanzibar"}]}]}]}]}, {O}),
    (MESSAGES, Operation.MESSAGES, {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": [
        {"type": "document", "source": {"type": "text", "data": "zanzibar"}}]}]}]}, {O}),
    (GEMINI, Operation.COUNT_TOKENS, {"generate_content_request": {"contents": [{"parts": [{"text": "zanzibar"}]}]}}, {U}),
    (GEMINI, Operation.GENERATE, {"contents": [{"role": "model", "parts": [{"toolCall": {"args": {"queries": ["zanzibar"]}}}]}]}, {T}),
    (GEMINI, Operation.GENERATE, {"contents": [{"role": "user", "parts": [{"toolResponse": {"response": {"r": "zanzibar"}}}]}]}, {O}),
    (GEMINI, Operation.GENERATE, {"systemInstruction": {"parts": [{"text": "zanzibar"}]}}, {S}),
    (GEMINI, Operation.GENERATE, {"contents": [{"role": "user", "parts": [{"text": "zanzibar"}]}]}, {U}),
    (GEMINI, Operation.GENERATE, {"contents": [{"role": "model", "parts": [{"text": "zanzibar"}]}]}, {A}),
    (GEMINI, Operation.GENERATE, {"contents": {"role": "user", "parts": {"text": "zanzibar"}}}, {U}),  # as Google's own examples write it
    (GEMINI, Operation.GENERATE, {"contents": [], "system_instruction": {"parts": {"text": "zanzibar"}}}, {S}),
    (GEMINI, Operation.EMBEDDINGS, {"contents": [], "content": {"parts": [{"text": "zanzibar"}]}}, {U}),
    (GEMINI, Operation.EMBEDDINGS, {"requests": {"content": {"parts": [{"text": "zanzibar"}]}}}, {U}),
    (RESPONSES, Operation.RESPONSES, {"input": [{"type": "image_generation_call", "revised_prompt": "zanzibar"}]}, {T}),
    (GEMINI, Operation.GENERATE, {"contents": [{"role": "model", "parts": [{"functionCall": {"args": {"a": "zanzibar"}}}]}]}, {T}),
    (GEMINI, Operation.GENERATE, {"contents": [{"role": "user", "parts": [{"functionResponse": {"response": {"r": "zanzibar"}}}]}]}, {O}),
    (GEMINI, Operation.OTHER, {"instances": [{"prompt": "zanzibar", "image": {"bytesBase64Encoded": "aGk="}}]}, {U}),
    (GEMINI, Operation.OTHER, {"instances": [{"@requestFormat": "chatCompletions", "messages": [
        {"role": "user", "content": "x"}, {"role": "system", "content": [{"type": "text", "text": "zanzibar"}]}]}]}, {S}),
    (GEMINI, Operation.OTHER, {"instances": [{"inputs": "zanzibar"}, {"text": "zanzibar"}, {"prompt": "zanzibar"}]}, {U}),
    (GEMINI, Operation.OTHER, {"instances": {"content": "zanzibar"}, "parameters": {"negativePrompt": "zanzibar", "sampleCount": 1}}, {U}),
    (GEMINI, Operation.OTHER, {"contents": [], "inlinePassages": {"passages": [{"content": {"parts": [{"text": "zanzibar"}]}}]}}, {O}),
    (CHAT, Operation.CHAT, {"messages": [], "documents": [{"title": "t", "text": "zanzibar"}]}, {U}),
    (CHAT, Operation.CHAT, {"messages": [{"role": "user", "content": [{"type": "file", "file": {"filename": "zanzibar.pdf"}}]}]}, {U}),
    (CHAT, Operation.CHAT, {"messages": [{"role": "user", "content": [{"type": "document_url", "document_name": "zanzibar"}]}]}, {U}),
    (RESPONSES, Operation.RESPONSES, {"input": [{"role": "user", "content": [{"type": "input_file", "filename": "zanzibar.pdf"}]}]}, {U}),
    (RESPONSES, Operation.RESPONSES, {"input": [{"type": "function_call_output", "output": [{"type": "input_file", "filename": "zanzibar"}]}]}, {O}),
    (MESSAGES, Operation.MESSAGES, {"messages": [{"role": "user", "content": [
        {"type": "document", "title": "zanzibar", "context": "zanzibar", "source": {"type": "file", "file_id": "f"}}]}]}, {U}),
    *((GEMINI, Operation.GENERATE, {"contents": [{"role": "user", "parts": [part]}]}, {whose}) for part, whose in (
        ({"inlineData": {"displayName": "zanzibar", "data": "aGk="}}, U), ({"file_data": {"display_name": "zanzibar"}}, U),
        ({"functionResponse": {"parts": [{"inlineData": {"displayName": "zanzibar"}}]}}, O))),
]


def guards_for(*scopes: Scope, action: Action = Action.MASK, closed: bool = True) -> Guards:
    return Guards([Guard("w", (of_words(["zanzibar"], Terms("w", action, "***", closed)),), frozenset(scopes))])


@pytest.mark.parametrize(("protocol", "operation", "body", "scopes"), REQUESTS)
def test_whose_text_is_judged(protocol: ProtocolId, operation: Operation, body: Any, scopes: set[Scope]) -> None:
    sent = json.dumps(body).encode()
    wanted = json.loads(json.dumps(body).replace("zanzibar", "***"))
    if "model" in body:
        wanted["model"] = body["model"]
    for scope in Scope:
        told = guard_request(protocol, operation, sent, guards_for(scope).requests, Findings())
        if scope in scopes:
            assert json.loads(told) == wanted
        else:
            assert told is sent


@pytest.mark.parametrize(("protocol", "body"), [
    (CHAT, {"object": "list", "data": [{"object": "chat.completion", "choices": [{"message": {"content": "zanzibar"}}]}]}),
    (RESPONSES, {"object": "list", "data": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "zanzibar"}]}]}),
    (RESPONSES, {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "zanzibar"}]}),
])  # fmt: skip
def test_answers_that_were_stored(protocol: ProtocolId, body: Any) -> None:
    told = guard_answer(protocol, Operation.RESPONSE_ITEM, json.dumps(body).encode(), guards_for(A).answers, Findings())
    assert json.loads(told) == json.loads(json.dumps(body).replace("zanzibar", "***"))


def gemini(parts: list[Any], **more: Any) -> bytes:
    return json.dumps({"candidates": [{"content": {"parts": parts}, "index": 0, **more}]}).encode()


def test_parts_of_one_kind_are_one_text_as_on_a_stream() -> None:
    thought = {"text": "or zanzi", "thought": True}
    body = gemini([{"text": "to zan"}, {"text": "zibar"}, thought, {"text": "bar", "thought": True}, {"text": "bar"}])
    told = guard_answer(GEMINI, Operation.GENERATE, body, guards_for(A, R).answers, Findings())
    parts = json.loads(told)["candidates"][0]["content"]["parts"]
    assert parts == [{"text": "to ***"}, {"text": ""}, {"text": "or ***", "thought": True}, {"text": "", "thought": True}, {"text": "bar"}]
    editor = GeminiEditor(guards_for(A, R).answers, Findings(), Hold())
    edit = editor.edit(b"", body, 0.0)
    assert edit is not None
    assert edit.data is not None
    said = json.loads(edit.data)["candidates"][0]["content"]["parts"]
    for kind in (None, True):
        one, other = ("".join(part["text"] for part in side if part.get("thought") is kind) for side in (parts, said))
        assert one == other


def test_what_repeats_pieces_of_an_answer_is_judged_with_it() -> None:
    grounding = {"groundingSupports": [{"segment": {"endIndex": 11, "text": "to zanzibar"}}], "webSearchQueries": ["zanzibar"]}
    body = gemini([{"text": "to zanzibar"}], groundingMetadata=grounding)
    told = guard_answer(GEMINI, Operation.GENERATE, body, guards_for(A, T).answers, Findings())
    assert b"zanzibar" not in told
    findings = Findings()
    editor = GeminiEditor(guards_for(A, T).answers, findings, Hold())
    said = b""
    for frame in (gemini([{"text": "to zan"}]), gemini([{"text": "zibar."}]), gemini([{"text": " So"}], groundingMetadata=grounding)):
        edit = editor.edit(b"", frame, 0.0)
        said += frame if edit is None else b"".join([data for _, data in edit.before]) + (frame if edit.data is None else edit.data)
    assert b"zan" not in said
    assert findings.hits["w", "mask"] == 2, "what is told again is counted once"


def test_a_number_among_pieces_of_arguments_is_judged() -> None:
    piece = {"jsonPath": "$.card", "numberValue": 4111111111111111}
    frame = gemini([{"functionCall": {"name": "pay", "partialArgs": [piece, {"jsonPath": "$.n", "numberValue": 5}], "willContinue": True}}])
    guards = Guards([Guard("w", (built_in("card", Terms("w")),))])
    edit = GeminiEditor(guards.answers, Findings(), Hold()).edit(b"", frame, 0.0)
    assert edit is not None
    assert edit.data is not None
    told = json.loads(edit.data)["candidates"][0]["content"]["parts"][0]["functionCall"]["partialArgs"]
    assert told == [{"jsonPath": "$.card", "stringValue": "[CARD]"}, {"jsonPath": "$.n", "numberValue": 5}]


@pytest.mark.parametrize("frame", [
    {"type": "response.content_part.added", "output_index": 0, "part": {"type": "output_text", "text": "zanzibar"}},
    {"type": "response.created", "response": {"id": "r", "output": [{"type": "message", "role": "assistant", "content": [{"text": "zanzibar"}]}]}},
])  # fmt: skip
def test_responses_that_begin_with_text(frame: Any) -> None:
    edit = ResponsesEditor(guards_for(A).answers, Findings(), Hold()).edit(frame["type"].encode(), json.dumps(frame).encode(), 0.0)
    assert edit is not None
    assert edit.data is not None
    assert json.loads(edit.data) == json.loads(json.dumps(frame).replace("zanzibar", "***"))


def test_an_answer_loses_what_spells_it_out() -> None:
    body = {"choices": [{"message": {"content": "to zanzibar"}, "logprobs": {"content": [{"token": "zanzibar"}]}}], "x": 1.5}
    told = guard_answer(CHAT, Operation.CHAT, json.dumps(body).encode(), guards_for(A).answers, Findings())
    assert json.loads(told) == {"choices": [{"message": {"content": "to ***"}, "logprobs": None}], "x": 1.5}


def test_a_rejection_is_found() -> None:
    findings = Findings()
    guard_answer(CHAT, Operation.CHAT, b'{"choices":[{"message":{"content":"zanzibar"}}]}', guards_for(A, action=Action.REJECT).answers, findings)
    assert findings.rejection is not None
    assert findings.rejection.guard == "w"


@pytest.mark.parametrize("closed", [True, False])
def test_what_cannot_be_read(closed: bool) -> None:
    findings = Findings()
    assert guard_request(CHAT, Operation.CHAT, b"{zanzibar", guards_for(U, closed=closed).requests, findings) == b"{zanzibar"
    assert (findings.rejection is not None) is closed
    assert findings.let_go == ({} if closed else {"w": 1})
    guards = Guards([Guard("judge", outside=Outside("judge", "service", closed=closed))])
    findings = Findings()
    assert BodyJudge("request", CHAT, Operation.CHAT, b"{zanzibar", guards.ask_requests, guards.outsides, findings).done
    assert (findings.outside is not None, findings.let_go) == ((True, {}) if closed else (False, {"judge": 1}))
    editor = EDITORS[CHAT](guards_for(A, closed=closed).answers, findings := Findings(), Hold())
    assert editor.edit(b"", b"{zanzibar", 0.0) is None
    assert (findings.rejection is not None, findings.let_go) == ((True, {}) if closed else (False, {"w": 1}))


def test_odd_numbers_and_halves_of_pairs_survive() -> None:
    sent = b'{"choices":[{"message":{"content":"zanzibar \\ud83d"}}],"n":123456789012345678901234567890,"f":5.0}'
    told = guard_answer(CHAT, Operation.CHAT, sent, guards_for(A).answers, Findings())
    assert json.loads(told) == {"choices": [{"message": {"content": "*** \ud83d"}}], "n": 123456789012345678901234567890, "f": 5.0}


def cited(citation: Any) -> Any:
    return {"type": "text", "text": "x", "citations": [citation]}


_WEB = {"type": "url_citation", "url": "https://x", "title": "zanzibar"}
_PAGE = {"type": "web_search_result_location", "cited_text": "y", "title": "zanzibar"}
_REFUSED = {"type": "refusal", "category": "cyber", "explanation": "no zanzibar"}
BESIDE: list[tuple[ProtocolId, Any, list[Any], Scope]] = [
    (CHAT, {"choices": [{"message": {"content": "x", "annotations": [{"url_citation": _WEB}]}}]},
     [{"choices": [{"index": 0, "delta": {"content": "x", "annotations": [{"url_citation": _WEB}]}}]}], O),
    (CHAT, {"choices": [], "search_results": [{"title": "zanzibar"}]}, [{"choices": [], "search_results": [{"title": "zanzibar"}]}], O),
    (CHAT, {"choices": [{"message": {"context": {"citations": [{"title": "zanzibar"}]}}}]},
     [{"choices": [{"index": 0, "delta": {"context": {"citations": [{"title": "zanzibar"}]}}}]}], O),
    (RESPONSES, {"output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x", "annotations": [_WEB]}]}]}, [
        {"type": "response.output_text.annotation.added", "output_index": 0, "annotation": _WEB},
        {"type": "response.content_part.added", "output_index": 0, "part": {"type": "output_text", "text": "", "annotations": [_WEB]}},
        {"type": "response.content_part.done", "output_index": 0, "part": {"type": "output_text", "text": "x", "annotations": [_WEB]}},
        {"type": "response.output_item.done", "output_index": 0, "item": {"type": "message", "content": [{"text": "x", "annotations": [_WEB]}]}},
        {"type": "response.completed", "response": {"output": [{"type": "message", "content": [{"text": "x", "annotations": [_WEB]}]}]}},
    ], O),
    (MESSAGES, {"content": [cited(_PAGE)]}, [
        {"type": "content_block_start", "index": 0, "content_block": cited(_PAGE)},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": _PAGE}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": {"document_title": "zanzibar"}}},
    ], A),
    (MESSAGES, {"content": [cited({"type": "char_location", "cited_text": "zanzibar", "document_title": "zanzibar"})]}, [], A),
    (MESSAGES, {"content": [], "stop_reason": "refusal", "stop_details": _REFUSED}, [
        {"type": "message_start", "message": {"content": [], "stop_details": _REFUSED}},
        {"type": "message_delta", "delta": {"stop_reason": "refusal", "stop_details": _REFUSED}, "usage": {"output_tokens": 1}},
    ], A),
    *((GEMINI, body, [body], O) for body in (
        {"candidates": [{"content": {"parts": [{"text": "x"}]}, "index": 0, "citationMetadata": {"citations": [{"title": "zanzibar"}]}}]},
        *({"candidates": [{"index": 0, "groundingMetadata": {"groundingChunks": [{key: {"title": "zanzibar"}}]}}]}
          for key in ("web", "image", "retrievedContext", "maps")))),
    *((GEMINI, body, [body], A) for body in (
        {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT", "blockReasonMessage": "no zanzibar"}},
        {"candidates": [{"content": {"parts": [{"text": "x"}]}, "index": 0}], "promptFeedback": {"blockReasonMessage": "zanzibar"}})),
]  # fmt: skip


@pytest.mark.parametrize(("protocol", "body", "frames", "scope"), BESIDE)
def test_what_an_answer_rests_on_and_why_it_ended_are_judged(protocol: ProtocolId, body: Any, frames: list[Any], scope: Scope) -> None:
    for one in (A, O):
        told = guard_answer(protocol, Operation.CHAT, json.dumps(body).encode(), guards_for(one).answers, Findings())
        assert json.loads(told) == (json.loads(json.dumps(body).replace("zanzibar", "***")) if one is scope else body)
        editor = EDITORS[protocol](guards_for(one).answers, Findings(), Hold())
        editor.edit(b"", b'{"candidates":[{"content":{"parts":[{"text":"It is "}]},"index":0}]}' if protocol is GEMINI else b"{}", 0.0)
        for frame in frames:
            data = json.dumps(frame).encode()
            edit = editor.edit(frame.get("type", "").encode(), data, 0.0)
            said = data if edit is None or edit.data is None else edit.data
            assert json.loads(said) == (json.loads(json.dumps(frame).replace("zanzibar", "***")) if one is scope else frame)


TWICE: list[tuple[bytes, Any]] = [
    (b'{"messages":[{"content":"zanzibar"}],"messages":[]}', {"messages": []}),
    (b'{"messages":[{"role":"user","content":"zanzibar","content":"x"}]}', {"messages": [{"role": "user", "content": "x"}]}),
    (b'{"messages":[{"content":"zanzibar"}],"mess\\u0061ges":[]}', {"messages": []}),
    (b'{"messages":[{"content":"x","content":"zanzibar"}]}', {"messages": [{"content": "***"}]}),
]


@pytest.mark.parametrize(("sent", "wanted"), TWICE)
def test_of_what_a_request_says_twice_only_what_was_judged_goes_out(sent: bytes, wanted: Any) -> None:
    told = guard_request(CHAT, Operation.CHAT, sent, guards_for(U).requests, Findings())
    assert json.loads(told, object_pairs_hook=list) == json.loads(json.dumps(wanted), object_pairs_hook=list)


@pytest.mark.parametrize(("sent", "wanted"), TWICE[:3])
def test_the_same_with_guards_outside(sent: bytes, wanted: Any) -> None:
    guards = Guards([Guard("judge", outside=Outside("judge", "service"))])
    judge = BodyJudge("request", CHAT, Operation.CHAT, sent, guards.ask_requests, guards.outsides, Findings())
    assert "zanzibar" not in str(judge.wants())
    assert json.loads(judge.body, object_pairs_hook=list) == json.loads(json.dumps(wanted), object_pairs_hook=list)


@pytest.mark.parametrize("body", [
    b'{"a":{"b":1,"c":{"b":1}},"b":[{"a":1},{"a":1}],"B":1e999,"n":' + b"9" * 5000 + b"}", b'"a"', b"[]", b'{"a":"\xff\x00"}',
])  # fmt: skip
def test_what_is_said_once(body: bytes) -> None:
    assert names_in(body) is not None
