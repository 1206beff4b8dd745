"""The observer: the corpus, the rules one by one, and law 5 (no bytes make it raise)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.protocols.contract import CONTENT, ERROR, MALFORMED, TERMINAL, TOOL
from penstock.protocols.openai_responses.calls import LIMIT
from penstock.protocols.openai_responses.observe import ResponsesObserver
from penstock.vocabulary import events
from penstock.vocabulary.errors import UpstreamError
from penstock.vocabulary.usage import EMPTY_USAGE, Provenance, Usage
from penstock.wire.sse import parse

CORPUS = Path(__file__).parents[2] / "corpus" / "openai_responses"
INDEX: list[dict[str, Any]] = yaml.safe_load((CORPUS / "index.yaml").read_text())
NAMES: list[str] = [entry["name"] for entry in INDEX]


def frames(raw: bytes) -> list[tuple[bytes, bytes]]:
    return [(name, data) for name, data in (parse(part) for part in raw.split(b"\n\n")) if data is not None]


def recording(name: str) -> list[tuple[bytes, bytes]]:
    return frames((CORPUS / f"{name}.sse").read_bytes())


def see(observer: ResponsesObserver, kind: str, *, name: bytes | None = None, now: float = 0.0, **members: object) -> int:
    return observer.observe(kind.encode() if name is None else name, json.dumps({"type": kind, **members}).encode(), now)


def watch(*, sink: bool = False) -> ResponsesObserver:
    observer = ResponsesObserver()
    if sink:
        observer.sink = []
    return observer


# The corpus.


def test_index_names_every_recording() -> None:
    assert sorted(NAMES) == sorted(path.stem for path in CORPUS.glob("*.sse"))


@pytest.mark.parametrize("entry", INDEX, ids=NAMES)
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("sink", [True, False])
def test_corpus(entry: dict[str, Any], named: bool, sink: bool) -> None:
    observer = watch(sink=sink)
    content = 0
    recorded = recording(entry["name"])
    for index, (name, data) in enumerate(recorded):
        assert not observer.closable()
        bits = observer.observe(name if named else b"", data, float(index))
        assert bool(bits & TERMINAL) == (index == len(recorded) - 1)
        content += bool(bits & CONTENT)
    assert observer.terminal
    assert observer.closable()
    assert (observer.error is not None) == (entry["outcome"] == "UPSTREAM_ERROR")
    assert observer.stop_reason == entry["stop_reason"]
    assert observer.response_id == entry["response_id"]
    assert observer.model == entry["model"]
    assert observer.usage == Usage(**entry["usage"])
    assert observer.provenance() is Provenance.REPORTED
    assert observer.calls == entry["tools"]
    assert observer.tools == {}
    assert (observer.malformed, observer.unknown, observer.untyped) == (0, 0, 0)
    assert content == sum(json.loads(data).get("delta", "") != "" for _, data in recorded)


@pytest.mark.parametrize("name", NAMES)
def test_corpus_as_neutral_events(name: str) -> None:
    observer = watch(sink=True)
    recorded = recording(name)
    for event, data in recorded:
        observer.observe(event, data, 0.0)
    assert observer.sink is not None
    told = observer.sink
    final: dict[str, Any] = json.loads(recorded[-1][1])["response"]
    texts = [part["text"] for item in final["output"] if item["type"] == "message" for part in item["content"]]
    assert "".join(event.text for event in told if isinstance(event, events.TextDelta)) == "".join(texts)
    calls = [item for item in final["output"] if item["type"] == "function_call"]
    started = [event for event in told if isinstance(event, events.ToolStarted)]
    assert [(event.call_id, event.name) for event in started] == [(call["call_id"], call["name"]) for call in calls]
    for event, call in zip(started, calls, strict=True):
        assert "".join(delta.arguments for delta in told if isinstance(delta, events.ToolDelta) and delta.part == event.part) == call["arguments"]
    assert sum(isinstance(event, events.ToolEnded) for event in told) == len(calls)
    assert isinstance(told[0], events.Started)
    assert [type(event) for event in told[-3:]] == [events.UsageSeen, events.Stopped, events.Ended]
    assert told[-2] == events.Stopped(events.StopReason.TOOL_CALLS if calls else events.StopReason.STOP, "completed")


@pytest.mark.parametrize("name", NAMES)
def test_cut_before_the_end_is_never_closable(name: str) -> None:
    observer = watch()
    for event, data in recording(name)[:-1]:
        assert not observer.observe(event, data, 0.0) & TERMINAL
        assert not observer.closable()


@pytest.mark.parametrize("entry", INDEX, ids=NAMES)
def test_final_body_says_the_same(entry: dict[str, Any]) -> None:
    response = json.loads(recording(entry["name"])[-1][1])["response"]
    observer = watch()
    observer.observe_body(json.dumps(response).encode())
    assert (observer.response_id, observer.model, observer.stop_reason) == (entry["response_id"], entry["model"], entry["stop_reason"])
    assert observer.usage == Usage(**entry["usage"])
    assert observer.provenance() is Provenance.REPORTED
    assert observer.calls == entry["tools"]


# Ends.


@pytest.mark.parametrize(
    ("kind", "response", "bits", "stop", "error"),
    [
        ("response.completed", {"status": "completed"}, TERMINAL, "completed", None),
        ("response.completed", {}, TERMINAL, "completed", None),
        ("response.completed", {"status": "in_progress"}, TERMINAL, "completed", None),
        ("response.incomplete", {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, TERMINAL, "max_output_tokens", None),
        ("response.incomplete", {"status": "incomplete"}, TERMINAL, "incomplete", None),
        (
            "response.failed",
            {"status": "failed", "error": {"code": "server_error", "message": "no"}},
            TERMINAL | ERROR,
            "failed",
            UpstreamError(code="server_error", message="no"),
        ),
        ("response.failed", {"error": None}, TERMINAL | ERROR, "failed", UpstreamError()),
        ("response.failed", {"error": {"code": 429}}, TERMINAL | ERROR, "failed", UpstreamError(code="429", status=429)),
        ("response.completed", {"status": "failed", "error": {"message": "no"}}, TERMINAL | ERROR, "failed", UpstreamError(message="no")),
        ("response.cancelled", {"status": "cancelled"}, TERMINAL | ERROR, "cancelled", UpstreamError(code="cancelled")),
    ],
)
def test_ends(kind: str, response: dict[str, Any], bits: int, stop: str, error: UpstreamError | None) -> None:
    observer = watch()
    assert see(observer, kind, response={"id": "resp_1", **response}) == bits
    assert (observer.terminal, observer.stop_reason, observer.error) == (True, stop, error)


def test_nothing_is_read_behind_the_end() -> None:
    observer = watch()
    see(observer, "response.completed", response={"id": "resp_1"})
    assert see(observer, "error", message="late") == 0
    assert observer.observe(b"", b"[DONE]", 0.0) == 0
    assert observer.observe(b"x", b"{", 0.0) == 0
    assert (observer.error, observer.malformed, observer.unknown) == (None, 0, 0)


def test_done_marker_is_no_end() -> None:
    observer = watch()
    assert observer.observe(b"", b"[DONE]", 0.0) == 0
    assert (observer.closable(), observer.unknown, observer.malformed) == (False, 1, 0)


@pytest.mark.parametrize("word", ["response.completed", 'event: response.completed\ndata: {"type":"response.completed"}', "[DONE]"])
@pytest.mark.parametrize("sink", [True, False])
def test_text_that_spells_an_end_is_text(word: str, sink: bool) -> None:
    observer = watch(sink=sink)
    assert see(observer, "response.output_text.delta", delta=word) == CONTENT
    assert see(observer, "response.output_text.done", text=word) == 0
    assert see(observer, "response.function_call_arguments.done", arguments=word, item_id="fc_1") == TOOL
    assert not observer.terminal


def test_type_wins_over_the_name() -> None:
    observer = watch()
    assert see(observer, "response.output_text.delta", name=b"response.completed", delta="x") == CONTENT
    assert see(observer, "response.output_text.delta", name=b"response.function_call_arguments.delta", delta="x") == CONTENT
    assert see(observer, "response.function_call_arguments.delta", name=b"response.output_text.delta", item_id="fc_1", delta="{") == CONTENT | TOOL
    other = b"response.function_call_arguments.delta"
    assert see(observer, "response.custom_tool_call_input.delta", name=other, item_id="c", delta="x") == CONTENT | TOOL
    assert observer.tools["c"].kind == "custom"
    assert see(observer, "response.completed", name=b"response.output_text.delta", response={}) == TERMINAL


def test_name_serves_where_the_type_is_missing() -> None:
    observer = watch()
    assert observer.observe(b"response.output_text.delta", b'{"delta":"x"}', 0.0) == CONTENT
    assert observer.observe(b"response.completed", b'{"response":{"id":"r"}}', 0.0) == TERMINAL
    assert observer.response_id == "r"


# Errors.


@pytest.mark.parametrize(
    "members",
    [
        {"code": "insufficient_quota", "message": "no money", "param": None},
        {"error": {"type": "insufficient_quota", "code": "insufficient_quota", "message": "no money", "param": None}},
    ],
)
def test_error_event_is_not_the_end_and_failed_follows(members: dict[str, Any]) -> None:
    observer = watch(sink=True)
    assert see(observer, "error", sequence_number=2, **members) == ERROR
    assert not observer.terminal
    assert observer.error is not None
    assert (observer.error.code, observer.error.message) == ("insufficient_quota", "no money")
    failed = {"id": "r", "status": "failed", "error": {"code": "insufficient_quota", "message": "no money"}}
    assert see(observer, "response.failed", sequence_number=3, response=failed) == TERMINAL | ERROR
    assert sum(isinstance(event, events.Failed) for event in observer.sink or ()) == 1
    assert not any(isinstance(event, events.Ended) for event in observer.sink or ())


def test_failed_without_details_keeps_what_the_error_event_said() -> None:
    observer = watch()
    see(observer, "error", status=429, error={"type": "t", "code": "c", "message": "m", "param": "p"})
    see(observer, "response.failed", response={"error": None})
    assert observer.error == UpstreamError("m", "t", "c", "p", 429)


def test_error_without_type_or_name() -> None:
    observer = watch()
    assert observer.observe(b"", b'{"error":{"message":"m"}}', 0.0) == ERROR
    assert observer.observe(b"error", b'{"error":"text"}', 0.0) == ERROR
    assert observer.error == UpstreamError(message="text")


def test_completed_after_an_error_is_complete() -> None:
    observer = watch()
    see(observer, "error", message="retrying")
    see(observer, "response.completed", response={})
    assert observer.error is None


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"error":{"message":"m","type":"t","param":"p","code":"c"}}', UpstreamError("m", "t", "c", "p", 400)),
        (b'{"error":"m"}', UpstreamError("m", status=400)),
        (b'{"detail":"m"}', UpstreamError("m", status=400)),
        (b'{"message":"m","code":7}', UpstreamError("m", code="7", status=400)),
        (b"<html>", UpstreamError(status=400)),
        (b"[]", UpstreamError(status=400)),
    ],
)
def test_error_bodies(body: bytes, error: UpstreamError) -> None:
    observer = watch()
    observer.observe_error(400, body)
    assert observer.error == error


# Heads and continuation.


def test_heads_tell_who_and_have_no_content() -> None:
    observer = watch()
    for number, kind in enumerate(["created", "queued", "in_progress"]):
        response = {"id": "resp_1", "model": "gpt", "created_at": 17.0, "usage": None}
        assert see(observer, f"response.{kind}", sequence_number=number, response=response) == 0
    assert (observer.response_id, observer.model, observer.created_at, observer.sequence_number) == ("resp_1", "gpt", 17, 2)
    assert observer.created_seen
    assert observer.provenance() is Provenance.NONE


def test_keepalive_is_known_and_begins_nothing() -> None:
    observer = watch()
    assert see(observer, "keepalive", sequence_number=3, model="gpt") == 0
    assert (observer.sequence_number, observer.created_seen, observer.unknown) == (3, False, 0)


@pytest.mark.parametrize("at", [3, 5, 9, 16])
def test_stream_taken_up_in_its_middle(at: int) -> None:
    observer = watch(sink=True)
    for name, data in recording("test_background_mode_streaming_continuation_vcr_0")[at:]:
        observer.observe(name, data, 0.0)
        assert observer.created_seen
    assert observer.terminal
    assert observer.response_id == "resp_078b21da0e109d4800699cc4c6b1ac8193b47f01da738fad41"
    assert observer.sequence_number == 16
    assert observer.usage.output == 9


# Tool calls.


@pytest.mark.parametrize(
    ("item", "prefix", "kind"),
    [
        ("function_call", "function_call_arguments", "function"),
        ("custom_tool_call", "custom_tool_call_input", "custom"),
        ("mcp_call", "mcp_call_arguments", "mcp"),
        ("code_interpreter_call", "code_interpreter_call_code", "code_interpreter"),
        ("apply_patch_call", "apply_patch_call_operation_diff", "custom"),
    ],
)
def test_tool_call_is_open_while_its_arguments_come(item: str, prefix: str, kind: str) -> None:
    observer = watch()
    announced = {"type": item, "id": "i", "name": "f", "status": "in_progress", "arguments": "", "input": "", "code": None}
    assert see(observer, "response.output_item.added", output_index=0, item=announced, now=1.0) == TOOL
    tool = observer.tools["i"]
    assert (tool.name, tool.kind, tool.arguments_at, observer.calls) == ("f", kind, 1.0, 0), "open, and not yet counted"
    assert see(observer, f"response.{prefix}.delta", item_id="i", output_index=0, delta="", now=1.5) == TOOL
    assert (tool.arguments_at, observer.calls) == (1.0, 1), "an empty delta is no progress"
    assert see(observer, f"response.{prefix}.delta", item_id="i", output_index=0, delta="{", now=2.0) == CONTENT | TOOL
    assert observer.tools == {"i": tool}
    assert tool.arguments_at == 2.0
    see(observer, "keepalive", now=3.0)
    see(observer, "response.output_text.delta", delta="x", now=3.0)
    assert tool.arguments_at == 2.0
    assert see(observer, f"response.{prefix}.delta", item_id="i", output_index=0, delta="}", now=4.0) == CONTENT | TOOL
    assert tool.arguments_at == 4.0
    assert see(observer, f"response.{prefix}.done", item_id="i", output_index=0, arguments="{}") == TOOL
    assert observer.tools == {}
    assert see(observer, "response.output_item.done", output_index=0, item={"type": item, "id": "i", "name": "f"}) == 0
    assert observer.calls == 1


@pytest.mark.parametrize(
    ("kind", "whole"),
    [
        ("function_call", {"arguments": '{"a":1}'}), ("custom_tool_call", {"input": "x"}), ("code_interpreter_call", {"code": "1"}),
        ("mcp_call", {"arguments": "{}"}), ("local_shell_call", {"status": "completed"}),
    ],
)  # fmt: skip
def test_a_call_that_is_announced_whole_is_not_open(kind: str, whole: dict[str, str]) -> None:
    observer = watch()
    assert see(observer, "response.output_item.added", output_index=0, item={"type": kind, "id": "i", "name": "f", **whole}) == 0
    assert observer.tools == {}
    see(observer, "response.output_item.done", output_index=0, item={"type": kind, "id": "i", "name": "f", **whole})
    assert (observer.tools, observer.calls) == ({}, 1)


@pytest.mark.parametrize(
    ("kind", "event"),
    [
        ("code_interpreter_call", "response.code_interpreter_call.interpreting"),
        ("code_interpreter_call", "response.code_interpreter_call.completed"),
        ("mcp_call", "response.mcp_call.completed"),
        ("mcp_call", "response.mcp_call.failed"),
    ],
)
def test_a_call_that_is_run_writes_no_more_arguments(kind: str, event: str) -> None:
    observer = watch()
    see(observer, "response.output_item.added", output_index=0, item={"type": kind, "id": "i", "name": "f"})
    assert see(observer, event.rpartition(".")[0] + ".in_progress", item_id="i", output_index=0) == 0
    assert list(observer.tools) == ["i"]
    assert see(observer, event, item_id="i", output_index=0) == TOOL
    assert observer.tools == {}


def test_end_of_the_item_ends_the_call() -> None:
    observer = watch()
    see(observer, "response.function_call_arguments.delta", item_id="i", output_index=4, delta="{")
    assert see(observer, "response.output_item.done", output_index=4, item={"type": "function_call", "id": "i"}) == TOOL
    assert (observer.tools, observer.calls) == ({}, 1)


def test_two_calls_side_by_side() -> None:
    observer = watch()
    for index in (0, 1):
        see(observer, "response.output_item.added", output_index=index, item={"type": "function_call", "id": f"i{index}", "name": f"f{index}"})
    for index in (0, 1, 0, 1):
        see(observer, "response.function_call_arguments.delta", item_id=f"i{index}", output_index=index, delta="x")
    assert {key: tool.name for key, tool in observer.tools.items()} == {"i0": "f0", "i1": "f1"}
    see(observer, "response.function_call_arguments.done", item_id="i0", output_index=0)
    assert list(observer.tools) == ["i1"]


def test_item_ids_that_change_are_known_by_their_index() -> None:
    observer = watch()
    see(observer, "response.output_item.added", output_index=1, item={"type": "function_call", "id": "a", "name": "f"})
    see(observer, "response.function_call_arguments.delta", item_id="b", output_index=1, delta="x")
    see(observer, "response.function_call_arguments.delta", item_id="c", output_index=1, delta="x")
    assert [tool.name for tool in observer.tools.values()] == ["f"]
    see(observer, "response.function_call_arguments.done", item_id="d", output_index=1)
    see(observer, "response.output_item.done", output_index=1, item={"type": "function_call", "id": "e"})
    assert (observer.tools, observer.calls) == ({}, 1)


def test_shell_commands_are_one_call() -> None:
    observer = watch()
    see(observer, "response.output_item.added", output_index=0, item={"type": "shell_call", "id": "sh", "call_id": "c"})
    for command in (0, 1):
        assert see(observer, "response.shell_call_command.added", output_index=0, command_index=command, command="") == TOOL
        assert see(observer, "response.shell_call_command.delta", output_index=0, command_index=command, delta="ls") == CONTENT | TOOL
        assert observer.tools["sh"].kind == "shell"
        assert see(observer, "response.shell_call_command.done", output_index=0, command_index=command, command="ls") == TOOL
        assert observer.tools == {}
    assert see(observer, "response.shell_call_output_content.delta", item_id="sh", delta={"stdout": "x"}) == CONTENT
    assert observer.calls == 1


@pytest.mark.parametrize("sink", [True, False])
def test_call_that_comes_whole(sink: bool) -> None:
    observer = watch(sink=sink)
    item = {"type": "function_call", "id": "i", "call_id": "c", "name": "f", "arguments": '{"a":1}'}
    see(observer, "response.output_item.added", output_index=0, item={**item, "arguments": ""})
    assert see(observer, "response.output_item.done", output_index=0, item=item) & TOOL
    assert (observer.tools, observer.calls) == ({}, 1)
    if sink:
        assert observer.sink == [events.ToolStarted(0, "c", "f"), events.ToolDelta(0, '{"a":1}'), events.ToolEnded(0)]


@pytest.mark.parametrize("kind", ["web_search_call", "file_search_call", "image_generation_call", "computer_call", "message", "compaction"])
def test_items_without_arguments_open_nothing(kind: str) -> None:
    observer = watch()
    assert see(observer, "response.output_item.added", output_index=0, item={"type": kind, "id": "i"}) == 0
    assert see(observer, "response.output_item.done", output_index=0, item={"type": kind, "id": "i"}) == 0
    assert observer.calls == 0


def test_calls_that_never_end_do_not_pile_up() -> None:
    observer = watch()
    for index in range(LIMIT + 500):
        see(observer, "response.function_call_arguments.delta", item_id=f"i{index}", output_index=index, delta="x")
    assert len(observer.tools) == LIMIT
    assert observer.calls == LIMIT + 500


@pytest.mark.parametrize("output", [[], [{"type": "function_call"}], None])
def test_a_call_makes_the_stop_a_call_for_tools(output: list[Any] | None) -> None:
    observer = watch(sink=True)
    see(observer, "response.output_item.added", output_index=0, item={"type": "function_call", "id": "i", "call_id": "c", "name": "f"})
    see(observer, "response.function_call_arguments.delta", item_id="i", output_index=0, delta="{}")
    see(observer, "response.completed", response={"status": "completed", "output": output})
    assert (observer.sink or [])[-3:] == [events.ToolEnded(0), events.Stopped(events.StopReason.TOOL_CALLS, "completed"), events.Ended()]


# Odd shapes.


def test_media_and_deltas_are_content() -> None:
    observer = watch()
    assert see(observer, "response.image_generation_call.partial_image", partial_image_b64="AA==") == CONTENT
    assert see(observer, "response.audio.delta", delta="AA==") == CONTENT
    assert see(observer, "response.refusal.delta", delta="no") == CONTENT
    assert see(observer, "response.reasoning_text.delta", delta="hm") == CONTENT
    assert see(observer, "response.output_text.delta", delta="") == 0


def test_unknown_events_are_counted_and_harmless() -> None:
    observer = watch()
    assert see(observer, "response.new_thing.delta", delta="x", sequence_number=9) == 0
    assert (observer.unknown, observer.malformed, observer.terminal) == (1, 0, False)


@pytest.mark.parametrize("data", [b"", b"{", b"null", b"[]", b'"x"', b'{"delta":"x"', b"\xff", b"{}"])
def test_malformed(data: bytes) -> None:
    observer = watch()
    name = b"" if data == b"{}" else b"response.output_text.delta"
    assert observer.observe(name, data, 0.0) == MALFORMED
    assert observer.malformed == 1


@pytest.mark.parametrize("told", ["-5", "-5.0", "1" + "0" * 400, "1e30"])
def test_what_can_be_no_count_is_unknown(told: str) -> None:
    """Not taken for a count: it would be priced, and charged to budgets."""
    details = f'"input_tokens_details": {{"cached_tokens": {told}}}, "output_tokens_details": {{"reasoning_tokens": {told}}}'
    response = f'{{"id": "r", "status": "completed", "usage": {{"input_tokens": {told}, "output_tokens": 7, {details}}}}}'
    body = ResponsesObserver()
    body.observe_body(response.encode())
    assert body.usage == Usage(output=7)
    stream = ResponsesObserver()
    stream.observe(b"response.completed", f'{{"type": "response.completed", "sequence_number": 1, "response": {response}}}'.encode(), 1.0)
    assert stream.usage == Usage(output=7)
    counted = ResponsesObserver()
    counted.observe_body(f'{{"object": "response.input_tokens", "input_tokens": {told}}}'.encode())
    assert counted.usage == Usage()


def test_counts_as_floats_and_odd_members_are_read_untyped() -> None:
    observer = watch()
    usage = {"input_tokens": 5.0, "output_tokens": 7, "input_tokens_details": None, "output_tokens_details": {"reasoning_tokens": 2.0}}
    see(observer, "response.completed", sequence_number=4.0, response={"id": 5, "model": "m", "output": {}, "usage": usage})
    assert (observer.usage, observer.model, observer.response_id) == (Usage(input=5, output=7, reasoning=2), "m", None)
    assert (observer.untyped, observer.malformed, observer.sequence_number) == (1, 0, 4)


def test_half_a_surrogate_pair_is_text() -> None:
    observer = watch(sink=True)
    assert observer.observe(b"response.output_text.delta", rb'{"type":"response.output_text.delta","delta":"a\ud83d"}', 0.0) == CONTENT
    assert observer.sink == [events.TextDelta("a\ufffd", 0)]


def test_strings_that_are_kept_are_clipped() -> None:
    observer = watch()
    see(observer, "response.failed", response={"id": "r" * 10**6, "model": "m" * 10**6, "error": {"message": "e" * 10**6}})
    assert observer.response_id is not None
    assert observer.model is not None
    assert observer.error is not None
    assert observer.error.message is not None
    assert len(observer.response_id) + len(observer.model) + len(observer.error.message) < 10_000


@pytest.mark.parametrize(
    ("body", "stop", "usage", "error"),
    [
        ({"id": "r", "status": "in_progress", "usage": None, "error": None}, None, EMPTY_USAGE, False),
        ({"id": "r", "status": "queued"}, None, EMPTY_USAGE, False),
        ({"id": "r", "status": "failed", "error": {"code": "c", "message": "m"}}, "failed", EMPTY_USAGE, True),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}, "usage": {"input_tokens": 1}}, "content_filter", Usage(1), 0),
        ({"id": "r", "status": "cancelled"}, "cancelled", EMPTY_USAGE, False),
        ({"id": "r", "object": "response", "deleted": True}, None, EMPTY_USAGE, False),
        ({"object": "response.input_tokens", "input_tokens": 11}, None, Usage(input=11), False),
    ],
)
def test_bodies(body: dict[str, Any], stop: str | None, usage: Usage, error: bool) -> None:
    observer = watch()
    observer.observe_body(json.dumps(body).encode())
    assert (observer.response_id, observer.stop_reason, observer.usage) == (body.get("id"), stop, usage)
    assert (observer.error is not None) == error
    assert observer.malformed == 0


def test_list_body_sets_nothing() -> None:
    observer = watch()
    observer.observe_body(b'{"object":"list","data":[{"id":"msg_1"}],"first_id":"msg_1","has_more":false}')
    assert (observer.response_id, observer.malformed) == (None, 0)
    observer.observe_body(b"[]")
    assert observer.malformed == 1


# Law 5.

LAW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

WORDS = st.sampled_from([name for name, _ in recording(NAMES[1])] + [b"", b"error", b"response.failed", b"response.shell_call_command.delta"])
NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["message", "function_call", "failed", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
MEMBERS = st.dictionaries(
    st.sampled_from(
        ["type", "delta", "item_id", "output_index", "response", "item", "error", "code", "status", "sequence_number", "id", "usage", "output"]
    ),
    NESTED,
)


@LAW
@given(st.lists(st.tuples(WORDS | st.binary(), st.binary() | MEMBERS.map(lambda value: json.dumps(value).encode()))), st.booleans())
def test_no_bytes_make_it_raise(stream: list[tuple[bytes, bytes]], sink: bool) -> None:
    observer = watch(sink=sink)
    for name, data in stream:
        observer.observe(name, data, 0.0)
        body = ResponsesObserver()
        body.observe_body(data)
        body.observe_error(500, data)
    for value in (observer.response_id, observer.model, observer.stop_reason, observer.error and observer.error.message):
        assert value is None or value.encode() is not None


@LAW
@given(st.data())
def test_mutated_recordings_do_not_make_it_raise(data: st.DataObject) -> None:
    recorded = recording(data.draw(st.sampled_from(NAMES[:6] + NAMES[10:13])))
    observer = watch(sink=data.draw(st.booleans()))
    for name, frame in recorded[-12:]:
        at = data.draw(st.integers(0, len(frame)))
        until = data.draw(st.integers(at, min(len(frame), at + 20)))
        observer.observe(name, frame[:at] + data.draw(st.binary(max_size=4)) + frame[until:], 0.0)


def test_deep_nesting_does_not_make_it_raise() -> None:
    deep = b"[" * 200_000
    observer = watch()
    for data in (deep, b'{"type":"response.completed","response":' + deep, b'{"x":' + deep + b"]" * 200_000 + b"}"):
        assert observer.observe(b"response.completed", data, 0.0) == MALFORMED
        observer.observe_body(data)
        observer.observe_error(500, data)
