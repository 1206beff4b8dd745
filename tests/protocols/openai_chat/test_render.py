"""Neutral events as chunks, read back by our own observer and by OpenAI's types; errors in both shapes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletionChunk

from penstock.protocols.openai_chat import SPEC
from penstock.vocabulary.errors import Fault, FaultKind, UpstreamError
from penstock.vocabulary.events import (
    Ended,
    Event,
    Failed,
    ReasoningDelta,
    Started,
    Stopped,
    StopReason,
    TextDelta,
    ToolDelta,
    ToolEnded,
    ToolStarted,
    UsageSeen,
)
from penstock.vocabulary.ids import Operation
from penstock.vocabulary.usage import Usage

ANSWER: list[Event] = [
    Started("r", "m", 7),
    ReasoningDelta("hm", 0),
    TextDelta("a", 1),
    TextDelta("b", 1),
    ToolStarted(2, "call_1", "f"),
    ToolDelta(2, '{"x":'),
    ToolDelta(2, "1}"),
    ToolEnded(2),
    ToolStarted(3, "call_2", "g"),
    ToolDelta(3, "{}"),
    ToolEnded(3),
    Stopped(StopReason.TOOL_CALLS, "tool_calls"),
    UsageSeen(Usage(input=5, output=2)),
    UsageSeen(Usage(input=5, output=3, cache_read=1, cache_write=0, reasoning=2)),
    Ended(),
]


def render(events: list[Event], operation: Operation = Operation.CHAT) -> list[Any]:
    renderer = SPEC.renderer(operation)
    frames = b"".join(renderer.render(event) for event in events).split(b"\n\n")
    assert frames.pop() == b""
    assert all(frame.startswith(b"data: ") for frame in frames)
    return [frame[6:] if frame == b"data: [DONE]" else json.loads(frame[6:]) for frame in frames]


def test_an_answer_comes_back_through_the_observer() -> None:
    observer = SPEC.observer(Operation.CHAT)
    observer.sink = []
    for chunk in render(ANSWER):
        observer.observe(b"", chunk if isinstance(chunk, bytes) else json.dumps(chunk).encode(), 1.0)
    assert observer.sink == [event for event in ANSWER if event != UsageSeen(Usage(input=5, output=2))], "only the last usage is told"
    assert (observer.malformed, observer.unknown, observer.final_usage) == (0, 0, True)


def test_chunks_are_what_openai_defines() -> None:
    *chunks, done = render(ANSWER)
    assert done == b"[DONE]"
    read = [ChatCompletionChunk.model_validate(chunk) for chunk in chunks]
    assert {(chunk.id, chunk.created, chunk.model) for chunk in read} == {("r", 7, "m")}
    assert [chunk.choices[0].delta.role for chunk in read if chunk.choices].count("assistant") == 1
    assert [chunk.choices[0].finish_reason for chunk in read if chunk.choices and chunk.choices[0].finish_reason] == ["tool_calls"]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == {
        "prompt_tokens": 5,
        "completion_tokens": 3,
        "total_tokens": 8,
        "prompt_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    indexes = [chunk.choices[0].delta.tool_calls[0].index for chunk in read if chunk.choices and chunk.choices[0].delta.tool_calls]
    assert indexes == [0, 0, 0, 1, 1]


def test_each_event_leaves_at_once() -> None:
    renderer = SPEC.renderer(Operation.CHAT)
    silent = (ToolEnded, UsageSeen)
    assert all(bool(renderer.render(event)) is not isinstance(event, silent) for event in ANSWER)


def test_completions() -> None:
    *chunks, done = render([Stopped(StopReason.LENGTH) if isinstance(event, Stopped) else event for event in ANSWER], Operation.COMPLETIONS)
    assert done == b"[DONE]"
    for chunk in chunks:
        Completion.model_validate(
            {**chunk, "choices": [{**choice, "finish_reason": choice["finish_reason"] or "stop"} for choice in chunk["choices"]]}
        )
    assert [choice for chunk in chunks for choice in chunk["choices"]] == [
        {"index": 0, "text": "a", "logprobs": None, "finish_reason": None},
        {"index": 0, "text": "b", "logprobs": None, "finish_reason": None},
        {"index": 0, "text": "", "logprobs": None, "finish_reason": "length"},
    ]
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}


def test_several_choices_have_their_own_roles_calls_and_ends() -> None:
    stop = Stopped(StopReason.STOP, choice=1)
    chunks = render(
        [Started("r", "m"), TextDelta("a", 0, 0), TextDelta("b", 0, 1), ToolStarted(1, "x", "f", 1), Stopped(StopReason.LENGTH), stop, stop, Ended()]
    )
    choices = [(choice["index"], choice["delta"], choice["finish_reason"]) for chunk in chunks[:-1] for choice in chunk["choices"]]
    role = {"role": "assistant", "content": ""}
    call = {"index": 0, "id": "x", "type": "function", "function": {"name": "f", "arguments": ""}}
    assert choices == [
        (0, role, None),
        (0, {"content": "a"}, None),
        (1, role, None),
        (1, {"content": "b"}, None),
        (1, {"tool_calls": [call]}, None),
        (0, {}, "length"),
        (1, {}, "stop"),
    ]


@pytest.mark.parametrize(
    ("reason", "raw", "word"),
    [
        (StopReason.STOP, "end_turn", "stop"),
        (StopReason.LENGTH, "max_tokens", "length"),
        (StopReason.TOOL_CALLS, "tool_use", "tool_calls"),
        (StopReason.CONTENT_FILTER, "SAFETY", "content_filter"),
        (StopReason.STOP_SEQUENCE, "stop_sequence", "stop"),
        (StopReason.PAUSE, "pause_turn", "stop"),
        (StopReason.OTHER, "MALFORMED_FUNCTION_CALL", "MALFORMED_FUNCTION_CALL"),
        (StopReason.OTHER, None, "stop"),
    ],
)
def test_stop_reasons(reason: StopReason, raw: str | None, word: str) -> None:
    chunks = render([Started("r", "m"), Stopped(reason, raw)])
    assert chunks[-1]["choices"][0]["finish_reason"] == word


def test_unknown_usage_is_left_out_and_not_called_0() -> None:
    assert render([UsageSeen(Usage(output=3)), Ended()])[0]["usage"] == {"completion_tokens": 3}
    assert render([Ended()]) == [b"[DONE]"]


def test_a_failure_is_an_error_and_nothing_is_made_up() -> None:
    chunks = render([Started("r", "m", 7), TextDelta("a"), Failed(UpstreamError("broke", "t", "c", status=502))])
    assert chunks[-1] == {"error": {"message": "broke", "type": "t", "param": None, "code": "c", "status_code": 502}}


@pytest.mark.parametrize("kind", FaultKind)
def test_error_bodies(kind: FaultKind) -> None:
    error = json.loads(SPEC.error_body(Fault(kind, 400, "A \u00e4 sentence."), "req-1"))["error"]
    assert set(error) == {"message", "type", "param", "code", "request_id"}
    assert (error["message"], error["param"], error["request_id"]) == ("A \u00e4 sentence.", None, "req-1")
    assert error["type"].endswith("_error")


@pytest.mark.parametrize(
    ("kind", "word", "code"),
    [
        (FaultKind.BAD_REQUEST, "invalid_request_error", None),
        (FaultKind.UNAUTHENTICATED, "authentication_error", "invalid_api_key"),
        (FaultKind.RATE_LIMITED, "rate_limit_error", "rate_limit_exceeded"),
        (FaultKind.UPSTREAM_BROKEN, "server_error", None),
    ],
)
def test_words_of_errors(kind: FaultKind, word: str, code: str | None) -> None:
    error = json.loads(SPEC.error_body(Fault(kind, 400, "m"), "r"))["error"]
    assert (error["type"], error["code"]) == (word, code)


def test_what_a_provider_said_is_kept() -> None:
    error = json.loads(SPEC.error_body(Fault(FaultKind.UPSTREAM_BROKEN, 502, "m", "t", "c", "p"), "r"))["error"]
    assert error == {"message": "m", "type": "t", "code": "c", "param": "p", "request_id": "r"}


def test_an_error_frame_is_read_as_an_error_and_ends_nothing_cleanly() -> None:
    observer = SPEC.observer(Operation.CHAT)
    frame = SPEC.error_frame(Fault(FaultKind.UPSTREAM_BROKEN, 502, "line\nbreak"), "r", observer)
    assert frame.startswith(b"data: {")
    assert frame.endswith(b"}\n\n")
    assert frame.count(b"\n") == 2
    observer.observe(b"", frame[6:-2], 1.0)
    assert observer.error == UpstreamError("line\nbreak", "server_error")
    assert not observer.closable()
