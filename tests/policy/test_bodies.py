"""Whole requests and answers: whose texts are judged, and that nothing else changes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from penstock.policy.bodies import guard_answer, guard_request
from penstock.policy.guards import Guard, Guards
from penstock.policy.matcher import Findings
from penstock.policy.rules import Action, Scope, Terms, of_words
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
    (GEMINI, Operation.GENERATE, {"systemInstruction": {"parts": [{"text": "zanzibar"}]}}, {S}),
    (GEMINI, Operation.GENERATE, {"contents": [{"role": "user", "parts": [{"text": "zanzibar"}]}]}, {U}),
    (GEMINI, Operation.GENERATE, {"contents": [{"role": "model", "parts": [{"text": "zanzibar"}]}]}, {A}),
    (GEMINI, Operation.GENERATE, {"contents": [{"role": "model", "parts": [{"functionCall": {"args": {"a": "zanzibar"}}}]}]}, {T}),
    (GEMINI, Operation.GENERATE, {"contents": [{"role": "user", "parts": [{"functionResponse": {"response": {"r": "zanzibar"}}}]}]}, {O}),
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


def test_odd_numbers_and_halves_of_pairs_survive() -> None:
    sent = b'{"choices":[{"message":{"content":"zanzibar \\ud83d"}}],"n":123456789012345678901234567890,"f":5.0}'
    told = guard_answer(CHAT, Operation.CHAT, sent, guards_for(A).answers, Findings())
    assert json.loads(told) == {"choices": [{"message": {"content": "*** \ud83d"}}], "n": 123456789012345678901234567890, "f": 5.0}
