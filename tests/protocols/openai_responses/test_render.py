"""Neutral events and faults in this dialect: the order of frames, the official SDK, and the way there and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai import APIError, BadRequestError, OpenAI
from openai.types.responses import Response, ResponseFailedEvent, ResponseStreamEvent
from pydantic import TypeAdapter

from penstock.protocols.contract import ERROR, TERMINAL
from penstock.protocols.openai_responses import SPEC
from penstock.protocols.openai_responses.observe import ResponsesObserver
from penstock.protocols.openai_responses.render import ResponsesRenderer, error_body, error_frame
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

CORPUS = Path(__file__).parents[2] / "corpus" / "openai_responses"
RECORDINGS = sorted(CORPUS.glob("*.sse"))
FAULT = Fault(FaultKind.UPSTREAM_BROKEN, 502, "The provider closed the connection.")
STRICT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def frames(raw: bytes) -> list[tuple[bytes, bytes]]:
    return [(name, data) for name, data in (parse(part) for part in raw.split(b"\n\n")) if data is not None]


def render(*events: Event) -> bytes:
    renderer = ResponsesRenderer()
    return b"".join(renderer.render(event) for event in events)


def observe(raw: bytes) -> list[Event]:
    observer = ResponsesObserver()
    observer.sink = []
    for name, data in frames(raw):
        observer.observe(name, data, 0.0)
    assert (observer.malformed, observer.unknown, observer.untyped) == (0, 0, 0)
    return observer.sink


def client(stream: bytes, status: int = 200, kind: str = "text/event-stream") -> OpenAI:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, headers={"content-type": kind}, content=stream)

    return OpenAI(api_key="x", base_url="http://test/v1", http_client=httpx2.Client(transport=httpx2.MockTransport(answer)), max_retries=0)


DIALOGUE: tuple[Event, ...] = (
    Started("chatcmpl-5", "gpt", 17),
    ReasoningDelta("Let me ", 0),
    ReasoningDelta("think.", 0),
    TextDelta("Hel", 1),
    TextDelta("lo", 1),
    ToolStarted(2, "call_1", "f"),
    ToolDelta(2, '{"a":'),
    ToolStarted(3, "call_2", "g"),
    ToolDelta(3, "{}"),
    ToolDelta(2, "1}"),
    ToolEnded(2),
    ToolEnded(3),
    UsageSeen(Usage(input=3, output=4, cache_read=1, reasoning=2)),
    Stopped(StopReason.TOOL_CALLS, "tool_calls"),
    Ended(),
)


def test_order_of_frames() -> None:
    told = frames(render(*DIALOGUE))
    assert [name.decode() for name, _ in told] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]
    events: list[dict[str, Any]] = [json.loads(data) for _, data in told]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    final = events[-1]["response"]
    assert final["id"] == "resp_chatcmpl-5"
    assert [(item["type"], item["id"]) for item in final["output"]] == [
        ("reasoning", "rs_chatcmpl-5_0"),
        ("message", "msg_chatcmpl-5_1"),
        ("function_call", "fc_chatcmpl-5_2"),
        ("function_call", "fc_chatcmpl-5_3"),
    ]
    assert final["output"][2]["arguments"] == '{"a":1}'
    assert final["usage"] == {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 1},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 7,
    }


def test_every_frame_is_what_the_sdk_declares() -> None:
    for _, data in frames(render(*DIALOGUE)):
        event: dict[str, Any] = json.loads(data)
        if "response" in event and event["response"]["usage"] is not None:
            # The newest SDK declares cache writes as required; where nobody stated them we do not either.
            event["response"]["usage"]["input_tokens_details"].setdefault("cache_write_tokens", 0)
        STRICT.validate_python(event)


def test_the_sdk_helper_accumulates_it() -> None:
    with client(render(*DIALOGUE)).responses.stream(model="m", input="x") as stream:
        response = stream.get_final_response()
    assert response.output_text == "Hello"
    assert [item.arguments for item in response.output if item.type == "function_call"] == ['{"a":1}', "{}"]
    assert response.usage is not None
    assert response.usage.total_tokens == 7


def test_there_and_back() -> None:
    expected = [event for event in DIALOGUE if not isinstance(event, (Started, Stopped))]
    seen = observe(render(*DIALOGUE))
    assert [event for event in seen if not isinstance(event, (Started, Stopped))] == expected
    assert seen[0] == Started("resp_chatcmpl-5", "gpt", 17)
    assert seen[-2] == Stopped(StopReason.TOOL_CALLS, "completed")


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_recordings_there_and_back(path: Path) -> None:
    events = observe(path.read_bytes())
    assert observe(render(*events)) == [
        Started(event.response_id if (event.response_id or "").startswith("resp_") else f"resp_{event.response_id}", event.model, event.created)
        if isinstance(event, Started)
        else event
        for event in events
    ]


@pytest.mark.parametrize(
    ("stopped", "end", "reason"),
    [
        (Stopped(StopReason.STOP, "stop"), "completed", None),
        (Stopped(StopReason.STOP_SEQUENCE, "stop_sequence"), "completed", None),
        (Stopped(StopReason.LENGTH, "length"), "incomplete", "max_output_tokens"),
        (Stopped(StopReason.CONTENT_FILTER, "SAFETY"), "incomplete", "content_filter"),
        (Stopped(StopReason.PAUSE, "pause_turn"), "incomplete", "pause"),
        (Stopped(StopReason.OTHER, "steered"), "incomplete", "steered"),
        (Stopped(StopReason.OTHER), "incomplete", "other"),
    ],
)
def test_stop_reasons(stopped: Stopped, end: str, reason: str | None) -> None:
    raw = render(Started("resp_1", "m"), TextDelta("x"), stopped, Ended())
    name, data = frames(raw)[-1]
    response = json.loads(data)["response"]
    assert (name.decode(), response["status"]) == (f"response.{end}", end)
    assert response["incomplete_details"] == (reason and {"reason": reason})
    back = observe(raw)[-2]
    assert isinstance(back, Stopped)
    assert back.reason is (StopReason.STOP if stopped.reason is StopReason.STOP_SEQUENCE else stopped.reason)


def test_failure_is_the_last_frame() -> None:
    renderer = ResponsesRenderer()
    renderer.render(TextDelta("x"))
    name, data = frames(renderer.render(Failed(UpstreamError("m", "t", "c", "p"))))[-1]
    assert name == b"response.failed"
    assert json.loads(data)["response"]["error"] == {"code": "c", "message": "m", "type": "t", "param": "p"}
    assert renderer.render(TextDelta("y")) == b""
    assert renderer.render(Ended()) == b""


def test_text_after_a_call_goes_on_in_a_new_item() -> None:
    events = observe(render(TextDelta("a", 0), ToolStarted(1, "c", "f"), TextDelta("b", 0), ToolEnded(1), Ended()))
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["a", "b"]


def test_other_choices_are_left_out() -> None:
    assert b"second" not in render(TextDelta("first"), TextDelta("second", choice=1), Ended())


EVENTS = st.lists(
    st.builds(TextDelta, st.text(), st.integers(0, 3), st.integers(0, 1))
    | st.builds(ReasoningDelta, st.text(), st.integers(0, 3))
    | st.builds(ToolStarted, st.integers(0, 3), st.text(), st.text(min_size=1))
    | st.builds(ToolDelta, st.integers(0, 3), st.text())
    | st.builds(ToolEnded, st.integers(0, 3))
    | st.builds(Stopped, st.sampled_from(StopReason))
    | st.builds(UsageSeen, st.builds(Usage, input=st.none() | st.integers(0, 9), output=st.none() | st.integers(0, 9)))
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.builds(Started, st.none() | st.text(), st.none() | st.text(), st.none() | st.integers(0, 2**33)), EVENTS)
def test_any_events_make_a_stream_that_the_sdk_reads(started: Started, events: list[Event]) -> None:
    raw = render(started, *events, Stopped(StopReason.STOP), Ended())
    with client(raw).responses.stream(model="m", input="x") as stream:
        response = stream.get_final_response()
    assert response.output_text == "".join(event.text for event in events if isinstance(event, TextDelta) and event.choice == 0)


# Errors.


@pytest.mark.parametrize("seen", [0, 1, 3, 8])
@pytest.mark.parametrize("path", [RECORDINGS[0], RECORDINGS[1], RECORDINGS[-3]], ids=lambda path: path.stem)
def test_error_frame_ends_a_cut_stream_for_the_sdk(path: Path, seen: int) -> None:
    observer = ResponsesObserver()
    parts = path.read_bytes().split(b"\n\n")[:seen]
    for part in parts:
        name, data = parse(part)
        assert data is not None
        observer.observe(name, data, 0.0)
    last = observer.sequence_number
    raw = b"".join(part + b"\n\n" for part in parts) + error_frame(FAULT, "req_1", observer)
    with client(raw).responses.stream(model="m", input="x") as stream:
        events = list(stream)
    failed = events[-1]
    assert isinstance(failed, ResponseFailedEvent)
    assert failed.response.status == "failed"
    assert failed.response.error is not None
    assert (failed.response.error.code, failed.response.error.message) == ("server_error", "The provider closed the connection.")
    assert failed.sequence_number == last + (2 if seen == 0 else 1)
    assert failed.response.id == (observer.response_id or "resp_req_1")
    assert sum(event.type == "response.created" for event in events) == 1
    assert observer.observe(b"", frames(raw)[-1][1], 0.0) == TERMINAL | ERROR


def test_error_frame_is_what_the_sdk_declares() -> None:
    for name, data in frames(error_frame(FAULT, "req_1", ResponsesObserver())):
        event = STRICT.validate_json(data)
        assert event.type.encode() == name
        assert isinstance(event.response, Response)


def test_error_frame_names_what_was_asked_for_where_nobody_named_anything() -> None:
    observer = ResponsesObserver()
    observer.assume("gpt-asked", 1_700_000_000)
    for _, data in frames(error_frame(FAULT, "req_1", observer)):
        response = json.loads(data)["response"]
        assert (response["model"], response["created_at"]) == ("gpt-asked", 1_700_000_000)
    assert observer.model is None
    told = {"id": "resp_1", "model": "gpt-told", "created_at": 17}
    observer.observe(b"", json.dumps({"type": "response.created", "response": told}).encode(), 0.0)
    response = json.loads(frames(error_frame(FAULT, "req_1", observer))[-1][1])["response"]
    assert (response["model"], response["created_at"]) == ("gpt-told", 17)


def test_error_frame_keeps_the_providers_words() -> None:
    fault = Fault(FaultKind.UPSTREAM_BROKEN, 502, "Quota.", type="insufficient_quota", code="insufficient_quota", param="input")
    error = json.loads(frames(error_frame(fault, "req_1", ResponsesObserver()))[-1][1])["response"]["error"]
    assert error == {"code": "insufficient_quota", "message": "Quota.", "type": "insufficient_quota", "param": "input", "request_id": "req_1"}


def test_error_frame_survives_odd_numbers() -> None:
    for number in (10**30, -(10**30)):
        observer = ResponsesObserver()
        observer.observe(b"response.output_text.delta", b'{"delta":"x","sequence_number":%d}' % number, 0.0)
        assert len(frames(error_frame(FAULT, "req_1", observer))) == 1


@pytest.mark.parametrize("kind", FaultKind)
def test_error_bodies_are_read_by_the_sdk(kind: FaultKind) -> None:
    body = error_body(Fault(kind, 400, "Because."), "req_1")
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code", "request_id"}
    with pytest.raises(BadRequestError) as caught:
        client(body, 400, "application/json").responses.create(model="m", input="x")
    assert caught.value.type == error["type"]
    assert "Because." in caught.value.message


def test_every_kind_of_fault_has_a_frame() -> None:
    for kind in FaultKind:
        name, data = frames(error_frame(Fault(kind, 500, "x"), "r", ResponsesObserver()))[-1]
        assert name == b"response.failed"
        assert json.loads(data)["response"]["error"]["code"] in ("server_error", "rate_limit_exceeded", "invalid_prompt")


def test_plain_sdk_stream_gets_the_failure_as_an_event() -> None:
    raw = error_frame(FAULT, "req_1", ResponsesObserver())
    try:
        events = list(client(raw).responses.create(model="m", input="x", stream=True))
    except APIError as error:  # pragma: no cover
        pytest.fail(f"the SDK took it for a broken stream: {error}")
    assert [event.type for event in events] == ["response.created", "response.failed"]


def test_spec_is_whole() -> None:
    assert SPEC.ask_usage is None
    assert isinstance(SPEC.observer(Operation.RESPONSES), ResponsesObserver)
    assert SPEC.renderer(Operation.RESPONSES).render(Started("r", "m"))
    assert SPEC.assembler(Operation.RESPONSES) is not SPEC.assembler(Operation.RESPONSES)
