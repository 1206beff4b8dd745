"""The observer: rules and table of `observe.py`, the recordings' index, and law 5 (no bytes make it raise)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from penstock.protocols.anthropic_messages import SPEC
from penstock.protocols.contract import CONTENT, ERROR, MALFORMED, TERMINAL, TOOL, Observer
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
from penstock.vocabulary.usage import EMPTY_USAGE, Provenance, Usage
from penstock.wire.sse import parse
from tests.support.corpus import figures

CORPUS = Path(__file__).parents[2] / "corpus" / "anthropic_messages"
INDEX: list[dict[str, Any]] = yaml.safe_load((CORPUS / "index.yaml").read_text("utf-8"))
NAMES = [str(entry["name"]) for entry in INDEX]


def frames(raw: bytes) -> list[tuple[bytes, bytes]]:
    return [(name, data) for part in raw.split(b"\n\n") for name, data in [parse(part + b"\n\n")] if data is not None]


def recording(name: str) -> list[tuple[bytes, bytes]]:
    return frames((CORPUS / f"{name}.sse").read_bytes())


def observer() -> Observer:
    return SPEC.observer(Operation.MESSAGES)


def see(seer: Observer, event: dict[str, Any] | bytes, now: float = 0.0, name: bytes | None = None) -> int:
    if isinstance(event, bytes):
        return seer.observe(name or b"", event, now)
    return seer.observe(str(event.get("type", "")).encode() if name is None else name, json.dumps(event).encode(), now)


def start(**usage: object) -> dict[str, object]:
    return {"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}}


def block(index: int, **fields: object) -> dict[str, object]:
    return {"type": "content_block_start", "index": index, "content_block": fields}


def delta(index: int, **fields: object) -> dict[str, object]:
    return {"type": "content_block_delta", "index": index, "delta": fields}


def stop(index: int) -> dict[str, object]:
    return {"type": "content_block_stop", "index": index}


END = {"type": "message_stop"}


def test_the_index_lists_every_recording() -> None:
    assert sorted(NAMES) == sorted(path.stem for path in CORPUS.glob("*.sse"))
    assert all(entry["shows"] for entry in INDEX)


@pytest.mark.parametrize("entry", INDEX, ids=NAMES)
def test_a_recording_is_read_as_its_index_says(entry: dict[str, Any]) -> None:
    seer = observer()
    bits = [seer.observe(name, data, float(at)) for at, (name, data) in enumerate(recording(entry["name"]))]
    assert seer.terminal is (entry["outcome"] == "COMPLETE")
    assert (seer.error is not None) is (entry["outcome"] == "UPSTREAM_ERROR")
    assert [bit for bit in bits if bit & TERMINAL] == [TERMINAL]
    assert bits[-1] == TERMINAL
    assert (seer.response_id, seer.model, seer.stop_reason) == (entry["response_id"], entry["model"], entry["stop_reason"])
    assert figures(seer.usage) == entry["usage"]
    assert seer.calls == entry["tools"]
    assert (seer.tools, seer.malformed, seer.unknown) == ({}, 0, 0)
    assert seer.provenance() is Provenance.REPORTED


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_cut_at_any_frame_is_not_complete(name: str) -> None:
    seer = observer()
    for at, (event, data) in enumerate(recording(name)[:-1]):
        seer.observe(event, data, float(at))
        assert not seer.terminal
        assert not seer.closable()


def test_only_message_stop_is_terminal() -> None:
    seer = observer()
    assert see(seer, start(input_tokens=3, output_tokens=1)) == 0
    assert seer.provenance() is Provenance.PARTIAL
    assert see(seer, {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}) == 0
    assert (seer.terminal, seer.final_usage, seer.stop_reason) == (False, True, "end_turn")
    assert see(seer, END) == TERMINAL


def test_behind_the_end_nothing_counts() -> None:
    seer = observer()
    see(seer, END)
    assert see(seer, {"type": "error", "error": {"type": "api_error", "message": "late"}}) == 0
    assert see(seer, b"[DONE]") == 0
    assert (seer.error, seer.malformed) == (None, 0)


def test_text_that_spells_a_terminal_word_is_text() -> None:
    seer = observer()
    assert see(seer, delta(0, type="text_delta", text='{"type":"message_stop"}')) == CONTENT
    assert not seer.terminal


def test_an_error_is_told_and_not_terminal() -> None:
    seer = observer()
    see(seer, start(input_tokens=1))
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded", "details": None}, "request_id": "req_1"}
    assert see(seer, error) == ERROR
    assert seer.error == UpstreamError(message="Overloaded", type="overloaded_error")
    assert not seer.terminal
    assert seer.provenance() is Provenance.PARTIAL


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"error":{"message":"bad gateway"}}', UpstreamError(message="bad gateway")),
        (b'{"type":"error","error":"out of memory"}', UpstreamError(message="out of memory")),
        (b'{"type":"error","error":{"type":7,"message":"odd"}}', UpstreamError(message="odd")),
        (b'{"type":"error"}', UpstreamError()),
    ],
)
def test_errors_of_other_shapes(data: bytes, expected: UpstreamError) -> None:
    seer = observer()
    assert see(seer, data) == ERROR
    assert seer.error == expected


def test_the_name_counts_only_without_a_type() -> None:
    seer = observer()
    assert see(seer, END, name=b"ping") == TERMINAL
    seer = observer()
    assert see(seer, {"index": 0, "delta": {"type": "text_delta", "text": "a"}}, name=b"content_block_delta") == CONTENT
    assert see(seer, {}, name=b"message_stop") == TERMINAL


def test_pings_and_unknown_events_mean_nothing() -> None:
    seer = observer()
    assert see(seer, {"type": "ping"}) == 0
    assert see(seer, b"", name=b"ping") == 0
    assert (seer.unknown, seer.malformed) == (0, 0)
    assert see(seer, {"type": "weather", "delta": 5}) == 0
    assert seer.unknown == 1


@pytest.mark.parametrize("data", [b"", b"[DONE]", b"[1]", b"null", b"5", b'{"type":', b'{"type":"text"\xff', b"[" * 100_000, b'{"a":' + b"[" * 5000])
def test_what_is_no_object_is_malformed(data: bytes) -> None:
    seer = observer()
    assert see(seer, data) == MALFORMED
    assert seer.malformed == 1


def test_a_later_figure_replaces_an_earlier_and_absence_keeps() -> None:
    seer = observer()
    creation = {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 6}
    see(seer, start(input_tokens=100, cache_read_input_tokens=7, cache_creation_input_tokens=10, cache_creation=creation, output_tokens=1))
    see(seer, {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 5, "input_tokens": None}})
    details = {"thinking_tokens": 30}
    tools = {"web_search_requests": 2, "web_fetch_requests": 1, "future_requests": 4, "note": "x", "odd_requests": None}
    usage = {"output_tokens": 50, "input_tokens": 120, "output_tokens_details": details, "server_tool_use": tools}
    see(seer, {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage})
    assert seer.usage == Usage(
        input=120, output=50, cache_read=7, cache_write=10, cache_write_5m=4, cache_write_1h=6, reasoning=30, tool_requests=7,
        web_searches=2,
    )


def test_unknown_is_none_and_a_stated_zero_is_zero() -> None:
    seer = observer()
    see(seer, start(input_tokens=0, server_tool_use={}))
    assert seer.usage == Usage(input=0)
    see(seer, END)
    assert seer.provenance() is Provenance.REPORTED
    silent = observer()
    see(silent, {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {}})
    see(silent, END)
    assert silent.usage == EMPTY_USAGE
    assert silent.provenance() is Provenance.NONE


def test_figures_of_odd_types_are_read_where_they_can_be() -> None:
    seer = observer()
    odd = {"input_tokens": 5.0, "output_tokens": "12", "cache_read_input_tokens": -1, "cache_creation_input_tokens": 2**80, "cache_creation": 3}
    assert see(seer, start(**odd)) == 0
    assert seer.usage == Usage(input=5)
    assert (seer.response_id, seer.malformed) == ("msg_1", 0)
    assert see(seer, {"type": "content_block_delta", "index": 0.0, "delta": {"type": "text_delta", "text": ["a"]}}) == CONTENT
    assert see(seer, b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\\ud83d"}}') == CONTENT


def test_a_tool_call_is_open_from_its_start_to_its_stop() -> None:
    seer = observer()
    assert see(seer, block(1, type="tool_use", id="t", name="look", input={}), 1.0) == CONTENT | TOOL
    call = seer.tools[1]
    assert (call.name, call.kind, call.arguments_at) == ("look", "function", 1.0)
    assert see(seer, {"type": "ping"}, 2.0) == 0
    see(seer, block(2, type="server_tool_use", id="s", name="web_search", input={}), 3.0)
    assert see(seer, delta(2, type="input_json_delta", partial_json="{"), 4.0) == CONTENT | TOOL
    assert (seer.tools[1].arguments_at, seer.tools[2].arguments_at, seer.tools[2].kind) == (1.0, 4.0, "server")
    see(seer, block(3, type="mcp_tool_use", id="s", name="m", server_name="x", input={}), 5.0)
    assert seer.tools[3].kind == "mcp"
    assert [see(seer, stop(index)) for index in (1, 2, 3, 4)] == [TOOL, TOOL, TOOL, 0]
    assert (seer.tools, seer.calls) == ({}, 3)


@pytest.mark.parametrize(
    ("fields", "bits"),
    [
        ({"type": "text_delta", "text": ""}, 0), ({"type": "thinking_delta", "thinking": "", "estimated_tokens": 9}, CONTENT),
        ({"type": "input_json_delta", "partial_json": ""}, 0), ({"type": "input_json_delta"}, 0),
        ({"type": "text_delta", "text": " "}, CONTENT), ({"type": "thinking_delta", "thinking": "x"}, CONTENT),
        ({"type": "signature_delta", "signature": "x"}, CONTENT), ({"type": "later_delta"}, CONTENT),
    ],
)  # fmt: skip
def test_an_empty_delta_is_no_progress(fields: dict[str, Any], bits: int) -> None:
    seer = observer()
    see(seer, block(1, type="tool_use", id="t", name="look", input={}), 1.0)
    assert see(seer, delta(1, **fields), 2.0) == bits
    assert seer.tools[1].arguments_at == 1.0


def test_the_stop_reason_ends_calls_that_were_never_stopped() -> None:
    seer = observer()
    see(seer, block(1, type="tool_use", id="t", name="look", input={}))
    assert see(seer, {"type": "message_delta", "delta": {"stop_reason": None}, "usage": {"output_tokens": 1}}) == 0
    assert list(seer.tools) == [1]
    assert see(seer, {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 1}}) == TOOL
    assert see(seer, {"type": "message_delta", "delta": {"stop_reason": "tool_use"}}) == 0
    assert (seer.tools, seer.calls) == ({}, 1)


def test_open_calls_are_bounded() -> None:
    seer = observer()
    for index in range(2000):
        see(seer, block(index, type="tool_use", id="t", name="n", input={}))
    assert seer.calls == 2000
    assert len(seer.tools) == 256


@pytest.mark.parametrize(
    ("fields", "bits"),
    [
        ({"type": "text", "text": ""}, 0),
        ({"type": "text", "text": "Hello"}, CONTENT),
        ({"type": "thinking", "thinking": "", "signature": ""}, 0),
        ({"type": "redacted_thinking", "data": "x"}, CONTENT),
        ({"type": "web_search_tool_result", "tool_use_id": "s", "content": []}, CONTENT),
        ({"type": "compaction", "content": None}, 0),
        ({"type": "something_new", "text": {"a": 1}}, CONTENT),
    ],
)
def test_the_start_of_a_block_is_progress_where_it_brings_something(fields: dict[str, object], bits: int) -> None:
    assert see(observer(), block(0, **fields)) == bits


@pytest.mark.parametrize("kind", ["text_delta", "thinking_delta", "signature_delta", "citations_delta", "compaction_delta", "some_new_delta"])
def test_every_delta_is_progress(kind: str) -> None:
    assert see(observer(), delta(0, type=kind, text="a")) == CONTENT


def test_a_fallback_block_names_the_model_that_answers() -> None:
    seer = observer()
    see(seer, start())
    see(seer, {"type": "content_block_start", "index": 0, "content_block": {"type": "fallback", "from": {"model": "m"}, "to": {"model": "n"}}})
    assert seer.model == "n"


def test_a_stream_in_neutral_events() -> None:
    seer = observer()
    seer.sink = sink = list[Event]()
    for event in [
        start(input_tokens=3, output_tokens=1),
        block(0, type="thinking", thinking="", signature=""),
        delta(0, type="thinking_delta", thinking="hm"),
        delta(0, type="signature_delta", signature="s"),
        stop(0),
        block(1, type="server_tool_use", id="s", name="web_search", input={}),
        delta(1, type="input_json_delta", partial_json='{"q":1}'),
        stop(1),
        block(2, type="text", text=""),
        delta(2, type="text_delta", text="Hi"),
        stop(2),
        block(3, type="tool_use", id="t1", name="look", input={}),
        delta(3, type="input_json_delta", partial_json=""),
        delta(3, type="input_json_delta", partial_json='{"a":'),
        delta(3, type="input_json_delta", partial_json="1}"),
        stop(3),
        block(4, type="tool_use", id="t2", name="go", input={}),
        stop(4),
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
        END,
    ]:
        see(seer, event)
    assert sink == [
        Started("msg_1", "m"),
        UsageSeen(Usage(input=3, output=1)),
        ReasoningDelta("hm", 0),
        TextDelta("Hi", 1),
        ToolStarted(2, "t1", "look"),
        ToolDelta(2, '{"a":'),
        ToolDelta(2, "1}"),
        ToolEnded(2),
        ToolStarted(3, "t2", "go"),
        ToolDelta(3, "{}"),
        ToolEnded(3),
        Stopped(StopReason.TOOL_CALLS, "tool_use"),
        UsageSeen(Usage(input=3, output=9)),
        Ended(),
    ]


def test_a_failure_in_neutral_events() -> None:
    seer = observer()
    seer.sink = sink = list[Event]()
    see(seer, {"type": "error", "error": {"type": "overloaded_error", "message": "no"}})
    assert sink == [Failed(UpstreamError(message="no", type="overloaded_error"))]


@pytest.mark.parametrize("name", NAMES)
def test_neutral_events_hold_the_whole_text(name: str) -> None:
    seer = observer()
    seer.sink = sink = list[Event]()
    expected = ""
    for event, data in recording(name):
        seer.observe(event, data, 0.0)
        read = json.loads(data)
        if read["type"] == "content_block_delta" and read["delta"]["type"] == "text_delta":
            expected += read["delta"]["text"]
    assert "".join(event.text for event in sink if isinstance(event, TextDelta)) == expected
    assert sink[-1] == Ended()


def test_a_whole_message() -> None:
    seer = observer()
    body = {
        "id": "msg_9",
        "type": "message",
        "model": "m",
        "content": [{"type": "text", "text": "x"}],
        "stop_reason": "max_tokens",
        "usage": {"input_tokens": 5, "output_tokens": 7, "cache_creation": {"ephemeral_1h_input_tokens": 2}},
    }
    seer.observe_body(json.dumps(body).encode())
    assert (seer.response_id, seer.model, seer.stop_reason) == ("msg_9", "m", "max_tokens")
    assert seer.usage == Usage(input=5, output=7, cache_write_1h=2)
    assert seer.provenance() is Provenance.REPORTED


def test_a_token_count() -> None:
    seer = SPEC.observer(Operation.COUNT_TOKENS)
    seer.observe_body(b'{"input_tokens": 2095, "context_management": null}')
    assert seer.usage == Usage(input=2095)
    assert (seer.response_id, seer.malformed) == (None, 0)


@pytest.mark.parametrize(
    "body",
    [
        b'{"data":[{"type":"model","id":"claude"}],"has_more":false}',
        b"{}",
    ],
)
def test_other_bodies_set_nothing(body: bytes) -> None:
    seer = observer()
    seer.observe_body(body)
    assert (seer.response_id, seer.usage, seer.error, seer.malformed) == (None, EMPTY_USAGE, None, 0)
    assert seer.provenance() is Provenance.NONE


@pytest.mark.parametrize(
    ("body", "known"),
    [
        (b'{"id":"msgbatch_1","type":"message_batch","processing_status":"ended","request_counts":{"succeeded":2}}', "msgbatch_1"),
        (b'{"id":"file_1","type":"file","size_bytes":7}', "file_1"),
    ],
)
def test_files_and_batches_are_known_by_their_id(body: bytes, known: str) -> None:
    seer = observer()
    seer.observe_body(body)
    assert (seer.response_id, seer.usage, seer.error, seer.malformed) == (known, EMPTY_USAGE, None, 0)


def test_a_body_that_is_not_understood_sets_only_that() -> None:
    seer = observer()
    seer.observe_body(b"<html>")
    assert (seer.response_id, seer.usage, seer.error, seer.malformed) == (None, EMPTY_USAGE, None, 1)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            b'{"type":"error","error":{"type":"not_found_error","message":"no such model"},"request_id":"req_1"}',
            UpstreamError(message="no such model", type="not_found_error", status=404),
        ),
        (b"<html>", UpstreamError(status=404)),
        (b'{"error":"nothing here"}', UpstreamError(message="nothing here", status=404)),
        (b"", UpstreamError(status=404)),
    ],
)
def test_an_error_body(body: bytes, expected: UpstreamError) -> None:
    seer = observer()
    seer.observe_error(404, body)
    assert seer.error == expected


# Law 5: total.

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
KINDS = (
    *("message_start", "content_block_start", "content_block_delta", "content_block_stop"),
    *("message_delta", "message_stop", "ping", "error", "x", ""),
)
FIELDS = ("index", "delta", "content_block", "message", "usage", "error", "type")
INNER_FIELDS = (
    *("type", "id", "model", "text", "thinking", "input", "partial_json"),
    *("stop_reason", "usage", "to", "cache_creation", "input_tokens"),
)
WORDS = ("tool_use", "text", "input_json_delta", "fallback")
INNER: st.SearchStrategy[Any] = st.dictionaries(st.sampled_from(INNER_FIELDS), JSON | st.sampled_from(WORDS), max_size=5)


TYPES: st.SearchStrategy[Any] = st.sampled_from(KINDS) | JSON
MEMBERS: st.SearchStrategy[dict[str, Any]] = st.dictionaries(st.sampled_from(FIELDS), JSON | INNER, max_size=4)


@st.composite
def wild_events(draw: st.DrawFn) -> dict[str, Any]:
    return {"type": draw(TYPES)} | draw(MEMBERS)


def hold(name: bytes, data: bytes) -> None:
    for sink in (None, list[Event]()):
        seer = observer()
        seer.sink = sink
        assert isinstance(seer.observe(name, data, 1.0), int)
        assert isinstance(seer.observe(b"", data, 2.0), int)
        other = observer()
        other.observe_body(data)
        other.observe_error(500, data)


@given(name=st.sampled_from([b"", b"content_block_delta", b"message_start", b"\xff"]), data=st.binary(max_size=80))
def test_no_bytes_make_it_raise(name: bytes, data: bytes) -> None:
    hold(name, data)


@given(events=st.lists(wild_events(), min_size=1, max_size=8))
def test_no_events_make_it_raise(events: list[dict[str, Any]]) -> None:
    seer, telling = observer(), observer()
    telling.sink = list[Event]()
    for event in events:
        data = json.dumps(event).encode()
        assert seer.observe(b"", data, 0.0) == telling.observe(b"", data, 0.0)
        hold(b"", data)


@given(name=st.sampled_from(NAMES), data=st.data())
def test_mutated_recordings_do_not_make_it_raise(name: str, data: st.DataObject) -> None:
    events = recording(name)
    seer = observer()
    seer.sink = list[Event]()
    for _ in range(6):
        event, raw = events[data.draw(st.integers(0, len(events) - 1))]
        at = data.draw(st.integers(0, min(len(raw), 400)))
        cut = data.draw(st.integers(0, 12))
        seer.observe(event, raw[:at] + data.draw(st.binary(max_size=4)) + raw[at + cut :], 0.0)


def test_deep_nesting_does_not_make_it_raise() -> None:
    for depth in (100, 400, 3000, *range(900, 1001)):
        deep = b"[" * depth + b"]" * depth
        hold(b"", b'{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","input":' + deep + b"}}")
        hold(b"", b'{"type":"content_block_start","index":{},"content_block":{"type":"tool_use","input":' + deep + b"}}")


def test_compactions_are_added_to_the_totals_once() -> None:
    """`usage.iterations` of the beta: the tokens of its `compaction` entries are not among the totals and are billed."""
    seer = observer()
    see(seer, start(input_tokens=100, output_tokens=1))
    steps = [{"type": "compaction", "input_tokens": 7, "output_tokens": 3, "cache_creation_input_tokens": 4,
              "cache_creation": {"ephemeral_5m_input_tokens": 4}}, {"type": "message", "input_tokens": 100, "output_tokens": 50},
             {"type": "compaction", "input_tokens": 1, "output_tokens": 1, "cache_read_input_tokens": 9}]  # fmt: skip
    delta = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 50, "iterations": steps}}
    see(seer, delta)
    told = Usage(input=108, output=54, cache_read=9, cache_write=4, cache_write_5m=4)
    assert seer.usage == told
    see(seer, delta)
    assert seer.usage == told, "stated again is not added again"
    whole = observer()
    usage = {"input_tokens": 100, "output_tokens": 50, "iterations": [*steps, None, 5], "service_tier": "batch"}
    whole.observe_body(json.dumps({"type": "message", "id": "m", "usage": usage}).encode())
    assert (whole.usage, whole.service_tier) == (told, "batch")


@pytest.mark.parametrize(("stated", "tier"), [
    ({"service_tier": "standard"}, "standard"), ({"service_tier": "priority", "speed": "standard"}, "priority"),
    ({"service_tier": "standard", "speed": "fast"}, "fast"), ({}, None), ({"service_tier": 5}, None),
])  # fmt: skip
def test_how_it_was_processed(stated: dict[str, object], tier: str | None) -> None:
    seer = observer()
    see(seer, start(input_tokens=1, **stated))
    assert seer.service_tier == tier
