"""Names of members that only case tells apart from those whose texts are judged."""

from __future__ import annotations

import ast
import inspect
import json
import re
from typing import Any, cast

import pytest

from penstock.policy import beside, texts
from penstock.policy.alike import KNOWN, known_alike, names_in
from penstock.policy.asking import BodyJudge
from penstock.policy.bodies import guard_request
from penstock.policy.guards import Guard, Guards
from penstock.policy.matcher import Findings
from penstock.policy.outside import Outside
from penstock.policy.rules import Action, Terms, of_words
from penstock.vocabulary.ids import Operation, ProtocolId
from tests.policy.test_bodies import REQUESTS

CHAT, RESPONSES, MESSAGES, GEMINI = ProtocolId.OPENAI_CHAT, ProtocolId.OPENAI_RESPONSES, ProtocolId.ANTHROPIC_MESSAGES, ProtocolId.GEMINI
ALIKE: list[tuple[ProtocolId, Any, str]] = [
    (CHAT, {"messages": [], "Messages": [{"role": "user", "content": "zanzibar"}]}, "messages"),
    (CHAT, {"Messages": [{"role": "user", "content": "zanzibar"}]}, "messages"),
    (CHAT, {"me\u017f\u017fages": [{"role": "user", "content": "zanzibar"}]}, "messages"),
    (CHAT, {"messages": [{"role": "user", "content": "x", "CONTENT": "zanzibar"}]}, "content"),
    (CHAT, {"messages": [{"Role": "system", "content": "x"}]}, "role"),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "Text": "zanzibar"}]}]}, "text"),
    (CHAT, {"messages": [{"role": "assistant", "tool_calls": [{"function": {"Arguments": '{"a": "zanzibar"}'}}]}]}, "arguments"),
    (RESPONSES, {"model": "m", "Input": "zanzibar"}, "input"),
    (RESPONSES, {"input": [{"type": "message", "role": "user", "content": "x", "Content": "zanzibar"}]}, "content"),
    (MESSAGES, {"System": "zanzibar", "messages": []}, "system"),
    (MESSAGES, {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": "", "Content": "zanzibar"}]}]}, "content"),
    (GEMINI, {"contents": [{"role": "user", "parts": [{"text": "x", "TEXT": "zanzibar"}]}]}, "text"),
    (GEMINI, {"systeminstruction": {"parts": [{"text": "zanzibar"}]}, "contents": []}, "systemInstruction"),
]
FREE: list[tuple[ProtocolId, Any]] = [
    (CHAT, {"messages": [{"role": "user", "content": "x", "Name": "x"}], "Stream": False, "metadata": {"Messages": "x"}, "tools": [
        {"type": "function", "function": {"name": "f", "parameters": {"properties": {"Content": {"Type": "string"}, "content": {}}}}}]}),
    (CHAT, {"messages": [{"role": "user", "content": '{"Content": "x"}'}], "documents": [{"Text": "x"}]}),
    (MESSAGES, {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "input": {"Text": "x", "text": "x"}}]}]}),
    (GEMINI, {"contents": [{"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"Parts": "x"}}}]}],
              "generationConfig": {"responseSchema": {"properties": {"Title": {}}}}}),
]  # fmt: skip
OTHERS = {
    "Object", "_output", "_tool_result", "agent_message", "assistant", "authorAttribution", "blockReasonMessage", "candidates",
    "choices", "citationMetadata", "citationSources", "compaction", "customMetadata", "details", "developer", "document", "documentName", "domain",
    "encrypted_content", "encrypted_index", "encrypted_stdout", "explanation", "failed_generation", "fileSearchStore", "fileUri", "finishMessage",
    "googleMapsUri", "groundingChunks", "groundingMetadata", "groundingSupports", "image", "imageSearchQueries", "imageUri", "image_url", "images",
    "license", "link", "maps", "mcp_tool_use", "media", "metadata", "mimeType", "model", "modelStatus", "object", "origin_url", "output_text",
    "placeAnswerSources", "predictions", "promptFeedback", "ragChunk", "related_questions", "renderedContent", "retrievalQueries", "retrievedContext",
    "retrievedUrl", "review", "reviewSnippets", "searchEntryPoint", "search_result", "segment", "server_tool_use", "sourceUri", "stop_details",
    "stop_reason", "stop_sequence", "thought_signature", "thought_signatures", "tool", "tool_reference", "tool_result", "tool_use", "uri",
    "urlContextMetadata", "urlMetadata", "videos", "web", "webSearchQueries", "web_search", "x_groq",
}  # fmt: skip
"""Other words in `texts` and `beside`: values, and names in answers."""


def guards(*, closed: bool = True, action: Action = Action.MASK) -> Guards:
    return Guards([Guard("w", (of_words(["zanzibar"], Terms("w", action, closed=closed)),))])


@pytest.mark.parametrize(("protocol", "body", "known"), ALIKE)
def test_a_request_that_some_servers_read_otherwise_is_refused(protocol: ProtocolId, body: Any, known: str) -> None:
    sent = json.dumps(body).encode()
    findings = Findings()
    guard_request(protocol, Operation.CHAT, sent, guards().requests, findings)
    assert findings.rejection is not None
    assert (findings.rejection.guard, findings.rejection.bad_request) == ("w", True)
    assert repr(known) in findings.rejection.message
    outside = Guards([Guard("judge", outside=Outside("judge", "service"))])
    judge = BodyJudge("request", protocol, Operation.CHAT, sent, outside.ask_requests, outside.outsides, Findings())
    assert judge.done
    assert judge.findings.outside is not None
    assert (judge.findings.outside.guard, judge.findings.outside.bad_request, judge.wants()) == ("judge", True, [])


@pytest.mark.parametrize(("protocol", "body", "known"), ALIKE)
def test_open_guards_let_it_go_and_count_it(protocol: ProtocolId, body: Any, known: str) -> None:
    sent = json.dumps(body).encode()
    findings = Findings()
    assert json.loads(guard_request(protocol, Operation.CHAT, sent, guards(closed=False).requests, findings)) == body
    assert (findings.rejection, findings.let_go) == (None, {"w": 1}), known
    guard_request(protocol, Operation.CHAT, sent, guards(action=Action.AUDIT).requests, findings := Findings())
    assert (findings.rejection, findings.let_go) == (None, {})
    outside = Guards([Guard("judge", outside=Outside("judge", "service", closed=False))])
    judge = BodyJudge("request", protocol, Operation.CHAT, sent, outside.ask_requests, outside.outsides, Findings())
    assert (judge.findings.outside, judge.findings.let_go) == (None, {"judge": 1})


@pytest.mark.parametrize(("protocol", "body"), FREE)
def test_where_names_are_free_they_may_have_any_case(protocol: ProtocolId, body: Any) -> None:
    findings = Findings()
    sent = json.dumps(body).encode()
    assert guard_request(protocol, Operation.CHAT, sent, guards().requests, findings) == sent
    assert (findings.rejection, findings.let_go) == (None, {})


def test_requests_as_they_should_be_have_no_such_name() -> None:
    for protocol, operation, body, _ in REQUESTS:
        assert known_alike(protocol, operation, body, None) is None
        assert known_alike(protocol, operation, body, names_in(json.dumps(body).encode())) is None


def test_where_a_name_is_said_twice_the_others_are_looked_at_all_the_same() -> None:
    sent = b'{"a": 1, "a": 2, "Messages": [{"role": "user", "content": "zanzibar"}]}'
    assert names_in(sent) is None
    guard_request(CHAT, Operation.CHAT, sent, guards().requests, findings := Findings())
    assert findings.rejection is not None


def test_the_names_are_those_that_are_looked_for() -> None:
    """None that is asked for in a request is missing, and no two differ in case only."""
    asked: set[str] = set()

    class Noting(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
            asked.add(key)
            value = super().get(key, default)
            return [noting(item) for item in cast("list[Any]", value)] if isinstance(value, list) else noting(value)

    def noting(value: Any) -> Any:
        return Noting(cast("dict[str, Any]", value)) if isinstance(value, dict) else value

    for protocol, operation, body, _ in REQUESTS:
        for _place in texts.request_texts(protocol, operation, noting(body)):
            pass
    assert asked - {""} <= KNOWN
    trees = [ast.parse(inspect.getsource(module)) for module in (texts, beside)]
    constants = {node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    written = {word for word in constants if isinstance(word, str) and re.fullmatch("[A-Za-z_]+", word)}
    assert (written - KNOWN, KNOWN - written) == (OTHERS, set()), "a name that requests are looked through by is missing, or too many are there"
    assert len({name.casefold() for name in KNOWN}) == len(KNOWN)


@pytest.mark.parametrize("closed", [True, False])
def test_requests_within_requests_are_judged_or_refused_however_deep(closed: bool) -> None:
    """And no depth is a mistake of the gateway's."""
    inner, ended = '{"contents": [{"parts": [{"text": "zanzibar"}]}]}', set[str]()
    outside = Guards([Guard("judge", outside=Outside("judge", "service", closed=closed))])
    for depth in (*range(1, 1200, 37), 5000):
        sent = ('{"generateContentRequest": ' * depth + inner + "}" * depth).encode()
        findings = Findings()
        told = guard_request(ProtocolId.GEMINI, Operation.CHAT, sent, guards(closed=closed).requests, findings)
        judge = BodyJudge("request", ProtocolId.GEMINI, Operation.CHAT, sent, outside.ask_requests, outside.outsides, Findings())
        if b"zanzibar" in told:
            assert (findings.rejection is not None) is closed
            assert bool(findings.let_go) is not closed
            assert judge.wants() or (judge.findings.outside is not None) is closed
        ended.add("passed" if b"zanzibar" in told else "judged")
    assert ended == {"passed", "judged"}
