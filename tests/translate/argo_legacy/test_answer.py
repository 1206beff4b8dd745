"""What the gateway's bodies say, in each family's form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.translate.argo_legacy import AnswerError, told_error
from penstock.translate.argo_legacy.answer import Answer, Call, events_of, read_answer
from penstock.vocabulary.events import Stopped, StopReason, TextDelta, ToolDelta, ToolEnded, ToolStarted
from tests.support.argo import CALLS, IN_WORDS

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda below: st.lists(below, max_size=3)
    | st.dictionaries(st.sampled_from(["response", "content", "tool_calls", "function", "name", "input", "args", "id", "type", "text"]), below),
    max_leaves=12,
)


def read(value: Any, **more: Any) -> Answer:
    return read_answer(json.dumps(value).encode(), "x", **more)


def test_a_text_is_a_text() -> None:
    assert read({"response": "hi"}) == Answer("hi")
    assert read({"response": ""}) == Answer("")
    assert read({"response": {"content": "hi", "tool_calls": None}}) == Answer("hi")
    assert read({"response": {"content": None, "tool_calls": []}}) == Answer("")


@pytest.mark.parametrize("family", CALLS)
def test_each_familys_calls(family: str) -> None:
    answer = read({"response": {"content": None, "tool_calls": CALLS[family]}})
    assert [(call.name, json.loads(call.arguments)) for call in answer.calls] == [("weather", {"city": "Paris"}), ("weather", {})]
    ids = [call.call_id for call in answer.calls]
    assert ids == {"gpt": ["call_a", "call_b"], "claude": ["toolu_a", "toolu_b"], "gemini": ["call_x_0", "call_x_1"]}[family]


def test_one_call_without_a_list_is_a_call() -> None:
    answer = read({"response": {"content": None, "tool_calls": CALLS["gemini"][0]}})
    assert [(call.name, json.loads(call.arguments)) for call in answer.calls] == [("weather", {"city": "Paris"})]


def test_claudes_blocks() -> None:
    blocks = [{"type": "text", "text": "a"}, {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}}, {"type": "text", "text": "b"}]
    assert read({"response": {"content": blocks, "tool_calls": []}}) == Answer("ab", (Call("t", "f", '{"x":1}'),))
    assert read({"response": ["a", {"type": "text", "text": "b"}, None, "c"]}) == Answer("abc")
    with_both = read({"response": {"content": blocks, "tool_calls": [{"id": "t", "name": "f", "input": {"x": 1}}]}})
    assert [call.call_id for call in with_both.calls] == ["t"]


def test_calls_in_words() -> None:
    assert read({"response": IN_WORDS}, in_words=True) == Answer(
        "Let me see.", (Call("call_x_0", "weather", '{"city":"Paris"}'), Call("call_x_1", "weather", "{}"))
    )
    assert read({"response": IN_WORDS}).text == IN_WORDS


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "empty"), (b"None", "not JSON"), (b"<html>", "not JSON"), (b"[1]", "no JSON object"), (b"{}", "no response"),
        (b'{"response":null}', "no response"),
        (b'{"response":5}', "no text"), (b'{"response":{}}', "neither"), (b'{"response":{"content":{"a":1}}}', "no text"),
        (b'{"response":{"tool_calls":[{"id":"a"}]}}', "no name"), (b'{"detail":"user is not known"}', "user is not known"),
        (b'{"error":{"message":"too\\n  long"}}', "too long"),
    ],
)  # fmt: skip
def test_what_is_no_answer_says_why(body: bytes, why: str) -> None:
    with pytest.raises(AnswerError, match=why):
        read_answer(body, "x")


def test_a_secret_in_its_place_is_masked() -> None:
    with pytest.raises(AnswerError) as caught:
        read({"error": "key sk-proj-abcdefghijklmnopqrstuvwxyz0123456789 is wrong"})
    assert "abcdefghij" not in str(caught.value)


@given(JSON, st.booleans())
def test_no_body_breaks_it(value: Any, in_words: bool) -> None:
    try:
        answer = read({"response": value}, in_words=in_words)
    except AnswerError:
        return
    assert all(call.name and call.call_id for call in answer.calls)


def test_events_are_whole_and_in_order() -> None:
    answer = Answer("one two", (Call("a", "f", "{}"), Call("b", "g", '{"x":1}')))
    assert list(events_of(answer, silent=False)) == [
        TextDelta("one two"), ToolStarted(1, "a", "f"), ToolDelta(1, "{}"), ToolEnded(1), ToolStarted(2, "b", "g"),
        ToolDelta(2, '{"x":1}'), ToolEnded(2), Stopped(StopReason.TOOL_CALLS),
    ]  # fmt: skip
    assert list(events_of(answer, silent=True)) == [TextDelta("one two"), Stopped(StopReason.STOP)]
    assert list(events_of(Answer(""), silent=False)) == [Stopped(StopReason.STOP)]


@pytest.mark.parametrize(
    ("body", "message", "type_", "code"),
    [
        (b'{"error":"no such user"}', "no such user", None, None),
        (b'{"error":{"message":"slow down","type":"rate_limit_error","code":"busy"}}', "slow down", "rate_limit_error", "busy"),
        (b'{"detail":[{"loc":["body","model"],"msg":"unknown"}]}', '[{"loc":["body","model"],"msg":"unknown"}]', None, None),
        (b'{"object":"error","message":"down","type":"upstream_error"}', "down", "upstream_error", None),
        (b"{}", None, None, None), (b"[1]", None, None, None), (b'"down"', "down", None, None), (b"nothing", None, None, None),
    ],
)  # fmt: skip
def test_errors_in_all_their_forms(body: bytes, message: str | None, type_: str | None, code: str | None) -> None:
    error = told_error(429, body)
    assert (error.message, error.type, error.code, error.status) == (message, type_, code, 429)
