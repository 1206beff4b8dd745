"""Neutral events of a stream: parts numbered as they begin, calls told whole, nothing made up."""

from __future__ import annotations

import json
from typing import Any

from penstock.protocols.contract import MALFORMED
from penstock.protocols.gemini.observe import GeminiObserver
from penstock.vocabulary.errors import UpstreamError
from penstock.vocabulary.events import (
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
from penstock.vocabulary.usage import Usage


def tell(*frames: dict[str, Any]) -> tuple[list[Event], int]:
    o = GeminiObserver()
    o.sink = []
    bits = 0
    for frame in frames:
        bits |= o.observe(b"", json.dumps(frame).encode(), 0.0)
    return o.sink, bits


def said(*parts: dict[str, Any], index: int = 0, **more: object) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": list(parts)}, "index": index, **more}]}


def test_an_answer_from_start_to_stop() -> None:
    events, bits = tell(
        {**said({"text": "hm", "thought": True}), "responseId": "r", "modelVersion": "m", "createTime": "2025-12-01T08:00:00.123456789Z"},
        said({"text": "a"}, {"text": ""}),
        said({"text": "b"}, {"executableCode": {"code": "1"}}, {"text": "c"}),
        said({"functionCall": {"name": "f", "id": "x", "args": {"k": [1]}}}, {"functionCall": {"name": "g"}}),
        {**said(index=1), "usageMetadata": {"promptTokenCount": 3}},
        said({"text": "z"}, index=1, finishReason="MAX_TOKENS"),
        {**said({"text": ""}, finishReason="STOP"), "usageMetadata": {"candidatesTokenCount": 4}},
    )
    assert events == [
        Started("r", "m", 1764576000),
        ReasoningDelta("hm", 0), TextDelta("a", 1), TextDelta("b", 1), TextDelta("c", 2),
        ToolStarted(3, "x", "f"), ToolDelta(3, '{"k": [1]}'), ToolEnded(3),
        ToolStarted(4, "call_r_0_4", "g"), ToolDelta(4, "{}"), ToolEnded(4),
        UsageSeen(Usage(input=3)),
        TextDelta("z", 0, 1), Stopped(StopReason.LENGTH, "MAX_TOKENS", 1),
        Stopped(StopReason.TOOL_CALLS, "STOP"), UsageSeen(Usage(input=3, output=4)),
    ]  # fmt: skip
    assert not bits & MALFORMED


def test_a_call_in_pieces_is_told_when_it_is_whole() -> None:
    events, bits = tell(
        said({"functionCall": {"name": "f", "id": "1", "willContinue": True}}),
        said({"functionCall": {"partialArgs": [{"jsonPath": "$.a", "stringValue": "x"}], "willContinue": True}}),
        said({"functionCall": {}}),
        said({"functionCall": {"name": "g", "id": "2", "partialArgs": [{"jsonPath": "$.b", "boolValue": True}]}}),
    )
    assert events[1:] == [
        ToolStarted(0, "1", "f"), ToolDelta(0, '{"a":"x"}'), ToolEnded(0), ToolStarted(1, "2", "g"), ToolDelta(1, '{"b":true}'), ToolEnded(1),
    ]  # fmt: skip
    assert not bits & MALFORMED


def test_a_call_that_does_not_end_or_fit_is_not_told_as_ended() -> None:
    begun = said({"functionCall": {"name": "f", "id": "1", "willContinue": True}})
    for rest in (
        said(finishReason="MAX_TOKENS"),
        said({"functionCall": {"name": "g", "id": "2", "args": {}}}),
        said({"functionCall": {"partialArgs": [{"jsonPath": "$.a[7]", "boolValue": True}]}}),
        said({"functionCall": {"partialArgs": 5}}),
    ):
        events, bits = tell(begun, rest)
        assert ToolStarted(0, "1", "f") in events
        assert not any(isinstance(e, ToolEnded) and e.part == 0 for e in events)
        assert bits & MALFORMED


def test_a_blocked_prompt_and_an_error() -> None:
    events, _ = tell({"promptFeedback": {"blockReason": "SAFETY"}})
    assert events == [Started(None, None), Stopped(StopReason.CONTENT_FILTER, "SAFETY")]
    events, _ = tell({"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED"}})
    assert events == [Failed(UpstreamError(message="m", type="RESOURCE_EXHAUSTED", status=429))]


def test_a_creation_time_without_a_zone_is_utc_and_a_bad_one_is_none() -> None:
    for told, seconds in (("2025-12-01T08:00:00", 1764576000), ("2025-12-01T09:00:00+01:00", 1764576000), ("yesterday", None), ("", None)):
        events, _ = tell({**said({"text": "a"}), "createTime": told})
        assert events[0] == Started(None, None, seconds)


def test_nothing_is_told_unless_asked() -> None:
    o = GeminiObserver()
    o.observe(b"", json.dumps(said({"text": "a"})).encode(), 0.0)
    assert o.sink is None
