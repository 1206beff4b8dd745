"""Speaking the dialect: streams that the official SDK reads, and errors in both shapes."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.protocols.anthropic_messages import SPEC
from penstock.protocols.contract import ERROR
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
from penstock.wire.sse import parse

Object = dict[str, Any]

ANSWER: list[Event] = [
    Started("msg_7", "m"),
    ReasoningDelta("let me ", 0),
    ReasoningDelta("see", 0),
    TextDelta("Hello ", 1),
    TextDelta("you", 1),
    ToolStarted(2, "t1", "look"),
    ToolDelta(2, '{"a":'),
    ToolDelta(2, "1}"),
    ToolEnded(2),
    ToolStarted(3, "t2", "go"),
    ToolDelta(3, "{}"),
    ToolEnded(3),
    Stopped(StopReason.TOOL_CALLS, "tool_calls"),
    UsageSeen(Usage(input=3, output=9, cache_read=1, reasoning=4)),
    Ended(),
]


def render(events: list[Event]) -> list[bytes]:
    renderer = SPEC.renderer(Operation.MESSAGES)
    return [renderer.render(event) for event in events]


def read(frames: bytes) -> list[Object]:
    found = [parse(part + b"\n\n") for part in frames.split(b"\n\n")]
    assert all(name.decode() == json.loads(data)["type"] for name, data in found if data is not None)
    return [json.loads(data) for _, data in found if data is not None]


def fold(frames: bytes) -> Object:
    assembler = SPEC.assembler(Operation.MESSAGES)
    for event in read(frames):
        assembler.feed(b"", json.dumps(event).encode())
    return json.loads(assembler.body())


def client(status: int, content: bytes, kind: str = "text/event-stream") -> anthropic.Anthropic:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, headers={"content-type": kind}, content=content)

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    return anthropic.Anthropic(api_key="none", base_url="http://upstream.test", http_client=http, max_retries=0)


def ask(speaker: anthropic.Anthropic) -> Object:
    with speaker.messages.stream(model="m", max_tokens=1, messages=[{"role": "user", "content": "x"}]) as stream:
        return stream.get_final_message().to_dict(mode="json", exclude_none=True)


def test_an_answer() -> None:
    frames = b"".join(render(ANSWER))
    assert [event["type"] for event in read(frames)][-3:] == ["content_block_stop", "message_delta", "message_stop"]
    expected: Object = {
        "id": "msg_7",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [
            {"type": "thinking", "thinking": "let me see", "signature": ""},
            {"type": "text", "text": "Hello you"},
            {"type": "tool_use", "id": "t1", "name": "look", "input": {"a": 1}},
            {"type": "tool_use", "id": "t2", "name": "go", "input": {}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 3, "output_tokens": 9, "cache_read_input_tokens": 1, "output_tokens_details": {"thinking_tokens": 4}},
    }
    assert fold(frames) == expected | {"stop_sequence": None}
    assert ask(client(200, frames)) == expected


def test_neutral_events_come_back() -> None:
    seer = SPEC.observer(Operation.MESSAGES)
    seer.sink = sink = list[Event]()
    for event in read(b"".join(render(ANSWER))):
        seer.observe(b"", json.dumps(event).encode(), 0.0)
    kinds = (TextDelta, ReasoningDelta, ToolStarted, ToolDelta, ToolEnded)
    assert [event for event in sink if isinstance(event, kinds)] == [event for event in ANSWER if isinstance(event, kinds)]
    assert seer.usage == Usage(input=3, output=9, cache_read=1, reasoning=4)
    assert (sink[-1], seer.stop_reason) == (Ended(), "tool_use")


def test_each_event_leaves_at_once() -> None:
    frames = render(ANSWER)
    for event, out in zip(ANSWER, frames, strict=True):
        assert bool(out) is not isinstance(event, (Stopped, UsageSeen))


@st.composite
def answers(draw: st.DrawFn) -> list[Event]:
    """Answers whose parts interleave as other dialects may send them."""
    events: list[Event] = [Started("m1", "m")] if draw(st.booleans()) else []
    calls: set[int] = set()
    for part in draw(st.lists(st.integers(0, 5), max_size=12)):
        if part < 2:
            events.append(TextDelta(draw(st.text(max_size=3)), part))
        elif part < 3:
            events.append(ReasoningDelta("r", part))
        elif part in calls:
            events.append(draw(st.sampled_from([ToolDelta(part, ""), ToolDelta(part, " ")])))
        else:
            calls.add(part)
            events += [ToolStarted(part, f"t{part}", "n"), ToolDelta(part, "{}")]
        if part in calls and draw(st.integers(0, 3)) == 0 and not any(isinstance(event, ToolEnded) and event.part == part for event in events):
            events.append(ToolEnded(part))
    return [*events, Stopped(StopReason.STOP), Ended()]


@given(events=answers())
def test_blocks_open_and_close_properly(events: list[Event]) -> None:
    told = read(b"".join(render(events)))
    assert [told[0]["type"], told[-2]["type"], told[-1]["type"]] == ["message_start", "message_delta", "message_stop"]
    assert sum(event["type"] == "message_start" for event in told) == 1
    seen: list[int] = []
    open_blocks: set[int] = set()
    flowing: set[int] = set()
    for event in told:
        match event["type"]:
            case "content_block_start":
                assert event["index"] == len(seen)
                assert not flowing & open_blocks, "a text or a thought closes before anything else begins"
                if event["content_block"]["type"] in ("text", "thinking"):
                    flowing.add(event["index"])
                seen.append(event["index"])
                open_blocks.add(event["index"])
            case "content_block_delta":
                assert event["index"] in open_blocks
            case "content_block_stop":
                open_blocks.remove(event["index"])
            case "message_delta":
                assert not open_blocks
            case _:
                pass
    content = fold(b"".join(render(events)))["content"]
    assert "".join(block["text"] for block in content if block["type"] == "text") == "".join(e.text for e in events if isinstance(e, TextDelta))
    assert sum(block["type"] == "tool_use" for block in content) == sum(isinstance(event, ToolStarted) for event in events)


@pytest.mark.parametrize(
    ("stopped", "word"),
    [
        (Stopped(StopReason.STOP, "stop"), "end_turn"),
        (Stopped(StopReason.LENGTH, "length"), "max_tokens"),
        (Stopped(StopReason.LENGTH, "model_context_window_exceeded"), "model_context_window_exceeded"),
        (Stopped(StopReason.CONTENT_FILTER, "SAFETY"), "refusal"),
        (Stopped(StopReason.PAUSE, "compaction"), "compaction"),
        (Stopped(StopReason.STOP_SEQUENCE), "stop_sequence"),
        (Stopped(StopReason.OTHER, "MALFORMED_FUNCTION_CALL"), "MALFORMED_FUNCTION_CALL"),
        (Stopped(StopReason.OTHER), None),
    ],
)
def test_stop_reasons(stopped: Stopped, word: str | None) -> None:
    assert fold(b"".join(render([Started("m1", "m"), stopped, Ended()])))["stop_reason"] == word


def test_no_stop_reason_is_made_up() -> None:
    assert fold(b"".join(render([Started("m1", "m"), TextDelta("a"), Ended()])))["stop_reason"] is None


def test_nothing_follows_the_end_or_a_failure() -> None:
    assert render([Started("m1", "m"), Ended(), TextDelta("late"), Ended()])[2:] == [b"", b""]
    failed = render([Started("m1", "m"), Failed(UpstreamError(message="no", type="overloaded_error")), Ended()])
    assert read(failed[1]) == [{"type": "error", "error": {"type": "overloaded_error", "message": "no"}}]
    assert failed[2] == b""


def test_alternative_answers_have_no_word_here() -> None:
    call: list[Event] = [ToolStarted(1, "t", "n", 1), ToolDelta(1, "{}", 1), ToolEnded(1, 1)]
    events: list[Event] = [TextDelta("b", 0, 1), ReasoningDelta("c", 0, 1), *call, Stopped(StopReason.LENGTH, "length", 1)]
    assert b"".join(render(events)) == b""


# Errors.

FAULTS = [
    (FaultKind.BAD_REQUEST, 400, "invalid_request_error", anthropic.BadRequestError),
    (FaultKind.UNAUTHENTICATED, 401, "authentication_error", anthropic.AuthenticationError),
    (FaultKind.FORBIDDEN, 403, "permission_error", anthropic.PermissionDeniedError),
    (FaultKind.NOT_FOUND, 404, "not_found_error", anthropic.NotFoundError),
    (FaultKind.METHOD_NOT_ALLOWED, 405, "invalid_request_error", anthropic.APIStatusError),
    (FaultKind.TOO_LARGE, 413, "request_too_large", anthropic.APIStatusError),
    (FaultKind.RATE_LIMITED, 429, "rate_limit_error", anthropic.RateLimitError),
    (FaultKind.INTERNAL, 500, "api_error", anthropic.InternalServerError),
    (FaultKind.UPSTREAM_BROKEN, 502, "api_error", anthropic.InternalServerError),
    (FaultKind.UPSTREAM_BROKEN, 529, "overloaded_error", anthropic.InternalServerError),
    (FaultKind.UPSTREAM_TIMEOUT, 504, "timeout_error", anthropic.InternalServerError),
    (FaultKind.OVERLOADED, 503, "overloaded_error", anthropic.InternalServerError),
    (FaultKind.BAD_REQUEST, 402, "billing_error", anthropic.APIStatusError),
]


@pytest.mark.parametrize(("kind", "status", "word", "raised"), FAULTS)
def test_an_error_body(kind: FaultKind, status: int, word: str, raised: type[anthropic.APIStatusError]) -> None:
    body = SPEC.error_body(Fault(kind, status, "No such thing."), "pk_1")
    assert json.loads(body) == {"type": "error", "error": {"type": word, "message": "No such thing."}, "request_id": "pk_1"}
    with pytest.raises(raised, match="No such thing") as caught:
        ask(client(status, body, "application/json"))
    assert caught.value.status_code == status


@pytest.mark.parametrize("kind", FaultKind)
def test_every_kind_has_a_word(kind: FaultKind) -> None:
    assert json.loads(SPEC.error_body(Fault(kind, 418, "x"), ""))["error"]["type"].endswith(("_error", "too_large"))


def test_a_providers_own_words_are_kept() -> None:
    fault = Fault(FaultKind.UPSTREAM_BROKEN, 529, "Overloaded", type="overloaded_error")
    odd = Fault(FaultKind.RATE_LIMITED, 429, "slow", type="insufficient_quota")
    assert json.loads(SPEC.error_body(fault, "r"))["error"] == {"type": "overloaded_error", "message": "Overloaded"}
    assert json.loads(SPEC.error_body(odd, "r"))["error"] == {"type": "insufficient_quota", "message": "slow"}


def test_an_error_frame_ends_a_stream_for_the_sdk_wherever_it_stands() -> None:
    seer = SPEC.observer(Operation.MESSAGES)
    frame = SPEC.error_frame(Fault(FaultKind.UPSTREAM_BROKEN, 502, "The provider's stream ended too early."), "pk_2", seer)
    assert frame.startswith(b"event: error\ndata: {")
    before = b"".join(render(ANSWER))
    cuts = [0, before.index(b"event: content_block_delta"), before.index(b"event: message_delta"), before.index(b"event: message_stop")]
    for cut in cuts:
        with pytest.raises(anthropic.APIStatusError, match="ended too early"):
            ask(client(200, before[:cut] + frame))
    name, data = parse(frame)
    assert seer.observe(name, data or b"", 0.0) == ERROR
    assert seer.error == UpstreamError(message="The provider's stream ended too early.", type="api_error")
