"""The observer against its rules, one test per rule or deviation, and against bytes of no kind (law 5)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.protocols.contract import CONTENT, ERROR, MALFORMED, STATED, TERMINAL, TOOL, USAGE_ONLY, Observer
from penstock.protocols.openai_chat import SPEC
from penstock.vocabulary.errors import UpstreamError
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
from penstock.vocabulary.usage import EMPTY_USAGE, Kinds, Provenance, Usage

DONE = b"[DONE]"


def new(sink: bool = False) -> Observer:
    observer = SPEC.observer(Operation.CHAT)
    if sink:
        observer.sink = []
    return observer


def chunk(delta: Any = None, *, index: Any = 0, finish: Any = None, **more: Any) -> bytes:
    """A chunk with one choice; `more` are fields of the top level."""
    choice: dict[str, Any] = {"index": index, "delta": {} if delta is None else delta, "logprobs": None, "finish_reason": finish}
    return json.dumps({"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": [choice], **more}).encode()


def call(index: Any, arguments: Any = None, call_id: Any = None, name: Any = None, choice: int = 0) -> bytes:
    entry: dict[str, Any] = {"function": {}}
    if index is not None:
        entry["index"] = index
    if call_id is not None:
        entry["id"] = call_id
    if name is not None:
        entry["function"]["name"] = name
    if arguments is not None:
        entry["function"]["arguments"] = arguments
    return chunk({"tool_calls": [entry]}, index=choice)


def see(observer: Observer, *frames: bytes, now: float = 1.0) -> int:
    """Observes the frames and gives the bits of the last."""
    bits = 0
    for data in frames:
        bits = observer.observe(b"", data, now)
    return bits


# Rules 1 and 2


@pytest.mark.parametrize("data", [b"[DONE]", b" [DONE]", b"[DONE]\n", b"\t[DONE] "])
def test_done_is_terminal_with_or_without_a_finish_reason(data: bytes) -> None:
    observer = new()
    assert see(observer, chunk({"content": "a"}), data) == TERMINAL
    assert (observer.terminal, observer.closable(), observer.stop_reason, observer.malformed) == (True, True, None, 0)


@pytest.mark.parametrize("text", ["[DONE]", "data: [DONE]\n\n", '"error"', '{"error": {"message": "x"}}', "event: error"])
def test_text_that_spells_protocol_words_is_text(text: str) -> None:
    observer = new()
    assert see(observer, chunk({"role": "assistant"}), chunk({"content": text})) == CONTENT
    assert not observer.terminal
    assert observer.error is None


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "a"},
        {"reasoning": "a"},
        {"reasoning_content": "a"},
        {"refusal": "a"},
        {"audio": {"data": "a"}},
        {"content": [{"type": "text", "text": "a"}]},
        {"images": [{"image_url": {"url": "data:"}}]},
        {"content": "", "reasoning": None, "reasoning_details": [{"type": "reasoning.encrypted"}]},
    ],
)
def test_content(delta: dict[str, Any]) -> None:
    assert see(new(), chunk(delta)) == CONTENT
    assert see(new(), chunk({"role": "assistant"}), chunk(delta)) == CONTENT
    assert see(new(True), chunk(delta)) == CONTENT


@pytest.mark.parametrize(
    "delta",
    [
        {},
        {"role": "assistant"},
        {"role": "assistant", "content": ""},
        {"content": None},
        {"refusal": "", "tool_calls": None, "images": [], "reasoning_details": None},
    ],
)
def test_no_content(delta: dict[str, Any]) -> None:
    assert see(new(), chunk(delta)) == 0
    assert see(new(), chunk({"content": "x"}), chunk(delta)) == 0


def test_content_hides_nothing_that_stands_beside_it() -> None:
    observer = new()
    see(observer, chunk({"content": "a"}))
    assert see(observer, chunk({"content": "a", "tool_calls": [{"index": 0, "id": "x", "function": {"name": "f"}}]})) == CONTENT | TOOL
    assert see(observer, chunk({"content": "a", "function_call": {"name": "g"}})) == CONTENT | TOOL
    assert observer.calls == 2
    two = [{"index": index, "delta": {"content": "a"}} for index in (0, 1)]
    assert see(observer, json.dumps({"choices": two}).encode()) == CONTENT
    assert observer.choices == 2
    assert see(observer, chunk({"content": "a"}, finish="stop")) == CONTENT | TOOL
    assert observer.stop_reason == "stop"
    failed = json.dumps({"choices": [{"index": 0, "delta": {"content": "a"}, "error": {"message": "m"}}]}).encode()
    assert see(observer, failed) == CONTENT | ERROR
    assert observer.error == UpstreamError("m")


def test_completions_text_is_content() -> None:
    observer = SPEC.observer(Operation.COMPLETIONS)
    data = b'{"id":"cmpl-1","object":"text_completion","choices":[{"text":"a","index":0,"logprobs":null,"finish_reason":null}],"model":"m"}'
    assert see(observer, data, data) == CONTENT
    assert see(observer, data.replace(b'"a"', b'""')) == 0
    assert see(observer, data.replace(b'"a"', b'""').replace(b'"finish_reason":null', b'"finish_reason":"length"'), DONE) == TERMINAL
    assert (observer.stop_reason, observer.response_id, observer.model) == ("length", "cmpl-1", "m")


def test_azure_chunks_with_empty_names_filter_results_and_no_delta() -> None:
    observer = new()
    first = b'{"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0}]}'
    late = b'{"id":"","model":"","choices":[{"index":0,"finish_reason":null,"content_filter_results":{}}],"usage":null}'
    assert see(observer, first) == 0
    assert observer.response_id is None
    assert see(observer, chunk({"content": "a"})) == CONTENT
    assert see(observer, late) == 0
    assert (observer.response_id, observer.model, observer.unknown, observer.malformed) == ("c1", "m", 0, 0)


def test_choices_are_told_apart_and_the_first_one_gives_the_stop_reason() -> None:
    observer = new()
    see(observer, chunk({"content": "a"}), chunk({"content": "b"}, index=1), chunk(index=1, finish="length"))
    assert observer.choices == 2
    see(observer, chunk(finish="stop"), chunk(index=1, finish="length"))
    assert observer.stop_reason == "stop"


# Rule 3: usage


def usage(read: int = 5, made: int = 3, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made, **more}


def test_usage_in_every_chunk_is_cumulative_and_final_only_at_the_end() -> None:
    observer = new()
    see(observer, chunk({"content": "a"}, usage=usage(5, 1)), chunk({"content": "b"}, usage=usage(5, 2)))
    assert (observer.usage, observer.final_usage, observer.provenance()) == (Usage(input=5, output=2), False, Provenance.PARTIAL)
    see(observer, chunk(finish="stop", usage=usage(5, 3)))
    assert (observer.usage.output, observer.final_usage) == (3, True)


def test_usage_is_not_final_while_a_choice_goes_on() -> None:
    observer = new()
    see(observer, chunk({"content": "a"}), chunk({"content": "b"}, index=1), chunk(finish="stop", usage=usage()))
    assert not observer.final_usage
    see(observer, chunk(index=1, finish="stop", usage=usage(5, 9)))
    assert observer.final_usage


def test_usage_is_final_no_more_when_another_choice_begins() -> None:
    observer = new()
    see(observer, chunk({"content": "a"}), chunk(finish="stop", usage=usage()))
    assert observer.final_usage
    see(observer, chunk({"content": "b"}, index=1))
    assert not observer.final_usage


def test_usage_before_the_finish_reason_is_final_with_the_terminal_event_only() -> None:
    observer = new()
    see(observer, chunk({"content": "a"}, usage=usage()), chunk(finish="stop"))
    assert not observer.final_usage
    see(observer, DONE)
    assert observer.final_usage


def test_no_usage_is_never_final() -> None:
    observer = new()
    see(observer, chunk({"content": "a"}, usage=None), chunk(finish="stop", usage={}), DONE)
    assert (observer.usage, observer.final_usage, observer.provenance()) == (EMPTY_USAGE, False, Provenance.NONE)


def test_details_and_spellings() -> None:
    observer = new()
    details = {
        "prompt_tokens_details": {"cached_tokens": 1, "audio_tokens": 2, "cache_write_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 4, "audio_tokens": 6.0, "accepted_prediction_tokens": 0},
    }
    see(observer, chunk(usage=usage(5.0, 3, **details)))  # type: ignore[arg-type]
    assert observer.usage == Usage(input=5, output=3, cache_read=1, cache_write=3, reasoning=4, audio_input=2, audio_output=6)
    observer = new()
    see(observer, chunk(usage=usage(5, 3, prompt_cache_hit_tokens=4, prompt_cache_miss_tokens=1)))
    assert observer.usage == Usage(input=5, output=3, cache_read=4)
    see(
        observer,
        chunk(
            usage={
                "prompt_tokens": "5",
                "completion_tokens": -1,
                "prompt_tokens_details": [],
                "completion_tokens_details": {"reasoning_tokens": True},
            }
        ),
    )
    assert observer.usage == Usage(input=5, output=3, cache_read=4), "what states no number replaces nothing"


@pytest.mark.parametrize("last", [usage(0, 0), {}, {"total_tokens": 8}, {"prompt_tokens": 0}])
def test_zeros_behind_figures_say_nothing(last: dict[str, Any]) -> None:
    """Proxies that count for themselves, and have not, put them behind the provider's own."""
    observer = new()
    see(observer, chunk({"content": "a"}), chunk(finish="stop", usage=usage(5, 3)), chunk(usage=last), DONE)
    assert (observer.usage, observer.final_usage) == (Usage(input=5, output=3), True)
    zeros = new()
    see(zeros, chunk({"content": "a"}), chunk(finish="stop", usage=usage(0, 0)), DONE)
    assert zeros.usage == Usage(input=0, output=0)


def test_a_later_figure_that_leaves_details_out_takes_none_away() -> None:
    observer = new()
    details = {"prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 2}}
    see(observer, chunk({"content": "a"}, usage=usage(5, 3, **details)), chunk(finish="stop", usage=usage(5, 9)))
    assert observer.usage == Usage(input=5, output=9, cache_read=4, reasoning=2)
    see(observer, chunk(usage={"completion_tokens": 11}), DONE)
    assert observer.usage == Usage(input=5, output=11, cache_read=4, reasoning=2)
    pictured = new()
    pictures = {"completion_tokens_details": {"image_tokens": 2}}
    see(pictured, chunk({"content": "a"}, usage=usage(5, 3, **pictures)), chunk(finish="stop", usage=usage(5, 9)), DONE)
    assert pictured.usage == Usage(input=5, output=9, kinds=Kinds(image_output=2))


def test_groq_states_usage_in_its_envelope() -> None:
    observer = new()
    see(observer, chunk({"role": "assistant"}, x_groq={"id": "req_1"}), chunk({"content": "a"}))
    assert see(observer, chunk({"content": "b"}, x_groq={"usage": usage(7, 1)})) == CONTENT | STATED
    assert observer.usage == Usage(input=7, output=1)
    bits = see(observer, chunk(finish="stop", x_groq={"id": "req_1", "usage": usage(7, 8, queue_time=0.1)}))
    assert (bits, observer.usage, observer.final_usage) == (0, Usage(input=7, output=8), True)


# Rule 4: usage-only frames

USAGE_FRAME: dict[str, Any] = {"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": [], "usage": usage()}


@pytest.mark.parametrize(
    "more", [{}, {"obfuscation": "x"}, {"service_tier": "default", "system_fingerprint": "fp"}, {"moderation": None}, {"citations": []}]
)
def test_usage_only(more: dict[str, Any]) -> None:
    assert see(new(), json.dumps({**USAGE_FRAME, **more}).encode()) == USAGE_ONLY


@pytest.mark.parametrize(
    "more",
    [{"usage": None}, {"usage": {}}, {"choices": None}, {"moderation": {"input": {}}}, {"prompt_filter_results": [1]}, {"error": {"message": "x"}}],
)
def test_not_usage_only(more: dict[str, Any]) -> None:
    assert not see(new(), json.dumps({**USAGE_FRAME, **more}).encode()) & USAGE_ONLY


def test_usage_beside_a_choice_is_not_usage_only() -> None:
    assert see(new(), chunk({}, finish="stop", usage=usage())) == 0


# Rule 5: errors in band


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        (b"", {"error": {"message": "m", "type": "t", "code": "c", "param": "p"}}, UpstreamError("m", "t", "c", "p")),
        (b"error", {"error": {"message": "m", "type": "t", "code": "c", "status_code": 400}}, UpstreamError("m", "t", "c", status=400)),
        (b"", {"error": {"message": "m", "code": 429}}, UpstreamError("m", code="429", status=429)),
        (b"", {"error": "overloaded"}, UpstreamError("overloaded")),
        (b"error", {"message": "m"}, UpstreamError("m")),
        (b"error", {"error": None}, UpstreamError()),
        (b"", {"object": "error", "message": "m", "type": "BadRequestError", "code": 400}, UpstreamError("m", "BadRequestError", "400", status=400)),
        (b"", {"id": "c", "choices": [], "x_groq": {"error": "m"}}, UpstreamError("m")),
        (b"", {"id": "c", "choices": [{"index": 0, "error": {"message": "m", "code": 502}}]}, UpstreamError("m", code="502", status=502)),
        (
            b"",
            {"id": "c", "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}], "error": {"message": "m"}},
            UpstreamError("m"),
        ),
    ],
)
def test_errors_in_band(name: bytes, data: Any, error: UpstreamError) -> None:
    observer = new()
    see(observer, chunk({"content": "a"}))
    assert observer.observe(name, json.dumps(data).encode(), 1.0) == ERROR
    assert (observer.error, observer.terminal, observer.closable()) == (error, False, False)


def test_an_event_named_error_need_not_be_json() -> None:
    observer = new()
    assert observer.observe(b"error", b"Internal Server Error", 1.0) == ERROR
    assert observer.error == UpstreamError("Internal Server Error")


@pytest.mark.parametrize("error", [None, False, "", {}])
def test_an_empty_error_is_none(error: Any) -> None:
    observer = new()
    assert see(observer, chunk({"content": "a"}), chunk({"content": "b"}, error=error)) == CONTENT
    assert observer.error is None


def test_the_first_error_counts_and_none_behind_the_end() -> None:
    observer = new()
    see(observer, b'{"error":{"message":"first"}}', b'{"error":{"message":"second"}}')
    assert observer.error == UpstreamError("first")
    assert see(observer, DONE) == TERMINAL
    late = new()
    see(late, chunk({"content": "a"}), DONE, b'{"error":{"message":"late"}}')
    assert late.error is None


# Odd frames


@pytest.mark.parametrize("choices", [None, [], [None], [{}], [{"delta": None}], [{"index": None, "delta": {"content": None}}]])
def test_odd_choices_are_no_content_and_not_malformed(choices: Any) -> None:
    observer = new()
    assert see(observer, json.dumps({"id": "c", "model": "m", "choices": choices}).encode()) == 0
    assert observer.malformed == 0


@pytest.mark.parametrize("index", [0.0, None, "0"])
def test_a_frame_of_unforeseen_types_is_read_as_far_as_it_goes(index: Any) -> None:
    observer = new()
    data = chunk({"content": "a", "tool_calls": "x", "images": [1]}, index=index, finish="stop", usage=usage(5.0), x_groq=5)  # type: ignore[arg-type]
    assert see(observer, data) == CONTENT | STATED
    assert (observer.usage.input, observer.stop_reason, observer.malformed, observer.response_id) == (5, "stop", 0, "c1")


def test_half_a_surrogate_pair_is_text() -> None:
    observer = new(True)
    assert see(observer, chunk({"content": "x"}).replace(b'"x"', b'"\\ud83d"')) == CONTENT
    assert observer.malformed == 0


def test_numeric_ids_and_an_empty_finish_reason() -> None:
    observer = new()
    see(observer, chunk({"content": "a"}, finish="", id=12))
    assert (observer.response_id, observer.stop_reason, observer.choices) == ("12", None, 1)


@pytest.mark.parametrize("data", [b"nope", b"[1]", b'"x"', b"null", b"{", b"\xff\xfe", b"[" * 5000, b"[DONE", b"1" * 5000])
def test_malformed_frames_are_told_and_counted(data: bytes) -> None:
    observer = new()
    assert see(observer, data, data) == MALFORMED
    assert observer.malformed == 2


@pytest.mark.parametrize("data", [b"", b"  ", b"\n"])
def test_an_empty_frame_is_nothing(data: bytes) -> None:
    observer = new()
    assert see(observer, data) == 0
    assert (observer.malformed, observer.unknown) == (0, 0)


def test_an_object_without_anything_of_a_chunk_is_unknown() -> None:
    observer = new()
    assert see(observer, b'{"type":"ping"}') == 0
    assert (observer.unknown, observer.malformed) == (1, 0)


NAMES = (
    "id model created choices index delta content reasoning tool_calls function custom name arguments finish_reason usage error code text "
    "prompt_tokens completion_tokens prompt_tokens_details cached_tokens x_groq function_call type message audio images"
)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["stop", "{", '"', "}"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(NAMES.split()),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@given(
    st.lists(st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()) | JSON.map(lambda value: chunk(value)), max_size=6),
    st.booleans(),
    st.data(),
)
def test_no_frames_make_it_raise(frames: list[bytes], sink: bool, data: st.DataObject) -> None:
    for operation in (Operation.CHAT, Operation.AUDIO):
        observer = SPEC.observer(operation)
        observer.sink = [] if sink else None
        for frame in frames:
            at = data.draw(st.integers(0, len(frame)))
            for piece in (frame, frame[:at], frame[at:]):
                assert 0 <= observer.observe(data.draw(st.sampled_from([b"", b"error", b"x"])), piece, 1.0) < 64
                SPEC.observer(operation).observe_body(piece)
                observer.observe_error(500, piece)
        assert len(observer.tools) <= observer.calls + 1


def test_memory_does_not_grow_with_the_stream() -> None:
    observer = new()
    for number in range(2000):
        see(observer, call(number, "{" * 50, f"id{number}", "f", choice=number % 300))
    assert observer.calls > 800
    assert len(observer.tools) <= 128
    assert observer.choices == 128
    see(observer, chunk({"content": "a"}, id="x" * 10_000))
    assert len(observer.response_id or "") < 600


# Neutral events


def test_events_in_order() -> None:
    observer = new(True)
    frames = [
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning_content": "hm"}),
        chunk({"content": "a"}),
        chunk({"content": "b"}),
        call(0, "", "call_1", "f"),
        call(0, "{}"),
        call(1, "{}", "call_2", "g"),
        chunk({"content": "c"}),
        chunk(finish="tool_calls"),
        json.dumps(USAGE_FRAME).encode(),
        DONE,
        DONE,
    ]
    see(observer, *frames)
    expected: list[Event] = [
        Started("c1", "m", 7),
        ReasoningDelta("hm", 0),
        TextDelta("a", 1),
        TextDelta("b", 1),
        ToolStarted(2, "call_1", "f"),
        ToolDelta(2, "{}"),
        ToolEnded(2),
        ToolStarted(3, "call_2", "g"),
        ToolDelta(3, "{}"),
        ToolEnded(3),
        TextDelta("c", 4),
        Stopped(StopReason.TOOL_CALLS, "tool_calls"),
        UsageSeen(Usage(input=5, output=3)),
        Ended(),
    ]
    assert observer.sink == expected


def test_events_of_lists_errors_and_several_choices() -> None:
    observer = new(True)
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "a"}]
    see(observer, chunk({"content": parts}), chunk({"refusal": "no"}, index=1), chunk(index=1, finish="weird"), b'{"error":{"message":"x"}}')
    expected: list[Event] = [
        Started("c1", "m", 7),
        ReasoningDelta("hm", 0),
        TextDelta("a", 1),
        TextDelta("no", 0, 1),
        Stopped(StopReason.OTHER, "weird", 1),
        Failed(UpstreamError("x")),
    ]
    assert observer.sink == expected
