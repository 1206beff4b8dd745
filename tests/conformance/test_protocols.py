"""What every registered protocol promises (`protocols/contract.py`). A new protocol adds its line to `REGISTRY`, a row to `SAMPLES`, and passes."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.protocols import REGISTRY
from penstock.protocols.contract import (
    CONTENT,
    ERROR,
    MALFORMED,
    TERMINAL,
    TOOL,
    USAGE_ONLY,
    Assembler,
    BadRequest,
    BodyError,
    Observer,
    ProtocolSpec,
    Renderer,
)
from penstock.vocabulary.errors import Fault, FaultKind, UpstreamError
from penstock.vocabulary.events import (
    Ended,
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
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.vocabulary.outcome import Ending
from penstock.vocabulary.usage import EMPTY_USAGE, Provenance, Usage
from penstock.wire.budget import Budget
from penstock.wire.sse import Scanner
from tests.support.corpus import cases
from tests.support.neutral import answers
from tests.support.relays import data_of, frames_of, relayed
from tests.support.streams import COMPLETE, of

ROOT = Path(__file__).parents[2]
BITS = CONTENT | TERMINAL | ERROR | USAGE_ONLY | TOOL | MALFORMED
SPECS = pytest.mark.parametrize("spec", REGISTRY.values(), ids=lambda spec: spec.id.value)


@dataclass(frozen=True)
class Sample:
    """How a client asks."""

    operation: Operation
    path: str
    streamed: dict[str, Any]
    """A body that asks for a stream."""
    plain: dict[str, Any]
    plain_path: str | None = None

    def asked(self, stream: bool) -> tuple[str, bytes]:
        return (self.path if stream else self.plain_path or self.path), json.dumps(self.streamed if stream else self.plain).encode()


SAMPLES = {
    ProtocolId.OPENAI_CHAT: Sample(
        Operation.CHAT, "/v1/chat/completions", {"messages": [], "model": "m-1", "stream": True}, {"messages": [], "model": "m-1"}
    ),
    ProtocolId.OPENAI_RESPONSES: Sample(
        Operation.RESPONSES, "/v1/responses", {"model": "m-1", "stream": True, "input": "a"}, {"model": "m-1", "input": "a"}
    ),
    ProtocolId.ANTHROPIC_MESSAGES: Sample(Operation.MESSAGES, "/v1/messages", {"model": "m-1", "stream": True}, {"model": "m-1", "stream": False}),
    ProtocolId.GEMINI: Sample(
        Operation.GENERATE, "/v1beta/models/m-1:streamGenerateContent", {"contents": []}, {"contents": []}, "/v1beta/models/m-1:generateContent"
    ),
}
ANY = st.binary(max_size=60) | st.dictionaries(
    st.sampled_from(["model", "stream", "stream_options", "x"]), st.none() | st.integers() | st.text(max_size=3) | st.lists(st.none())
).map(lambda value: json.dumps(value).encode())


def operation_of(spec: ProtocolSpec) -> Operation:
    return SAMPLES[spec.id].operation


def fault(kind: FaultKind = FaultKind.UPSTREAM_BROKEN, status: int = 502) -> Fault:
    return Fault(kind, status, f'A sentence about {kind.value}, with "quotes" and an é.')


# Where it stands.


def test_the_samples_are_whole() -> None:
    assert set(SAMPLES) == set(REGISTRY) == set(ProtocolId)


@SPECS
def test_its_place(spec: ProtocolSpec) -> None:
    assert REGISTRY[spec.id] is spec
    room = importlib.import_module(f"penstock.protocols.{spec.id.value}")
    assert room.SPEC is spec
    assert room.__doc__
    assert "Not here" in room.__doc__, "the room card says what is not here"
    assert (ROOT / "docs" / "protocols" / f"{spec.id.value}.md").is_file()
    assert (ROOT / "tests" / "corpus" / spec.id.value / "index.yaml").is_file()
    assert len([case for case in cases() if case.recording.protocol is spec.id]) >= 3


@SPECS
def test_every_recording_says_what_it_shows(spec: ProtocolSpec) -> None:
    for case in cases():
        if case.recording.protocol is spec.id:
            assert case.expected["shows"]
            assert case.expected["outcome"] in set(Ending)


# Requests.


@SPECS
@pytest.mark.parametrize("stream", [True, False])
def test_peek(spec: ProtocolSpec, stream: bool) -> None:
    path, body = SAMPLES[spec.id].asked(stream)
    peek = spec.peek(operation_of(spec), path, "", body)
    assert (peek.model, peek.stream) == ("m-1", stream)
    assert peek.usage_asked is (spec.ask_usage is None or not stream)


@SPECS
@given(body=ANY, operation=st.sampled_from(Operation))
def test_peek_reads_anything_or_says_why_not(spec: ProtocolSpec, body: bytes, operation: Operation) -> None:
    for path in (SAMPLES[spec.id].path, "/", "/v1/x:y"):
        try:
            peek = spec.peek(operation, path, "a=b", body)
        except BadRequest as error:
            said = str(error)
        else:
            said = "."
            assert peek.model is None or peek.model
            assert isinstance(peek.stream, bool)
        assert said.endswith("."), "a sentence for the client"


@SPECS
@given(model=st.text(min_size=1, max_size=12).filter(lambda name: "/" not in name))
def test_rename_is_seen_by_peek_and_changes_nothing_else(spec: ProtocolSpec, model: str) -> None:
    path, body = SAMPLES[spec.id].asked(True)
    new_path, new_body = spec.rename(operation_of(spec), path, body, model)
    peek = spec.peek(operation_of(spec), new_path, "", new_body)
    assert (peek.model, peek.stream) == (model, True)
    assert (new_path == path) or (new_body == body), "the model stands in one place"
    if new_path == path:
        assert json.loads(new_body) == {**json.loads(body), "model": model}
    assert spec.rename(operation_of(spec), new_path, new_body, "m-1") == (path, body)


@SPECS
def test_usage_is_asked_for_once(spec: ProtocolSpec) -> None:
    if spec.ask_usage is None:
        return
    path, body = SAMPLES[spec.id].asked(True)
    asked = spec.ask_usage(body)
    assert spec.peek(operation_of(spec), path, "", asked).usage_asked
    assert spec.ask_usage(asked) == asked


# Observers.


@SPECS
@pytest.mark.parametrize("operation", Operation)
def test_a_new_observer_knows_nothing(spec: ProtocolSpec, operation: Operation) -> None:
    one, other = spec.observer(operation), spec.observer(operation)
    assert one is not other
    assert isinstance(one, Observer)
    assert (one.response_id, one.model, one.stop_reason, one.error, one.sink) == (None, None, None, None, None)
    assert (one.usage, one.final_usage, one.terminal) == (EMPTY_USAGE, False, False)
    assert (one.calls, one.choices, one.malformed, one.unknown, one.tools) == (0, 0, 0, 0, {})
    assert one.provenance() is Provenance.NONE
    assert one.tools is not other.tools
    assert not hasattr(one, "__dict__"), "slots, in every class: there are thousands of them"
    if operation is operation_of(spec):
        assert not one.closable()


@SPECS
def test_the_bits_of_recordings(spec: ProtocolSpec) -> None:
    for case in of(spec.id):
        observer = spec.observer(operation_of(spec))
        calls = 0
        for number, frame in enumerate(frames_of(case.body)):
            name, data = data_of(frame)
            if not data:
                continue
            bits = observer.observe(name, data, float(number))
            assert bits & ~BITS == 0
            assert not bits & MALFORMED
            assert observer.terminal == bool(bits & TERMINAL) or (observer.terminal and bits & ~TERMINAL == 0)
            assert (observer.error is not None) or not bits & ERROR
            assert bits & TOOL or observer.calls == calls, "a call does not begin in silence"
            calls = observer.calls
            for tool in observer.tools.values():
                assert tool.arguments_at <= number
                assert tool.kind in {"function", "custom", "mcp", "shell", "code_interpreter", "server"}
        assert observer.tools == {}
        assert observer.final_usage is (observer.usage != EMPTY_USAGE)
        if case in COMPLETE:
            assert observer.closable()


@SPECS
def test_a_tool_call_opens_and_its_arguments_move_its_time(spec: ProtocolSpec) -> None:
    """From neutral events, so that it holds for dialects that write calls in pieces; one that says them whole never has one open."""
    renderer, observer = spec.renderer(operation_of(spec)), spec.observer(operation_of(spec))
    opened = False
    for now, event in enumerate(
        [
            Started("r", "m"),
            ToolStarted(0, "c1", "f"),
            ToolDelta(0, '{"a":'),
            ToolDelta(0, "1"),
            ToolDelta(0, "}"),
            ToolEnded(0),
            Stopped(StopReason.TOOL_CALLS),
            Ended(),
        ]
    ):
        for frame in frames_of(renderer.render(event)):
            observer.observe(*data_of(frame), float(now))
        if observer.tools:
            opened = True
            [call] = observer.tools.values()
            assert (call.name, call.kind) == ("f", "function")
            assert call.arguments_at <= now
            if isinstance(event, ToolDelta):
                assert call.arguments_at == now
    assert observer.calls == 1
    assert observer.tools == {}
    assert opened or spec.id is ProtocolId.GEMINI


@SPECS
@pytest.mark.parametrize("status", [400, 401, 429, 500, 529])
@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"[]", b'{"error":"a sentence"}', b"\xff"])
def test_an_error_that_is_not_understood_has_its_status(spec: ProtocolSpec, status: int, body: bytes) -> None:
    observer = spec.observer(operation_of(spec))
    observer.observe_error(status, body)
    assert observer.error is not None
    assert observer.error.status == status


# Errors of ours.


@SPECS
@pytest.mark.parametrize("kind", FaultKind)
def test_an_error_body_is_read_by_its_own_observer(spec: ProtocolSpec, kind: FaultKind) -> None:
    said = fault(kind, 503)
    body = spec.error_body(said, "px-77")
    assert b"px-77" in body
    observer = spec.observer(operation_of(spec))
    observer.observe_error(503, body)
    assert observer.error is not None
    assert (observer.error.message, observer.error.status) == (said.message, 503)
    assert observer.error.type or observer.error.code, "clients tell errors apart by it"


@SPECS
@pytest.mark.parametrize("kind", FaultKind)
def test_an_error_frame_ends_a_stream_badly_wherever_it_stands(spec: ProtocolSpec, kind: FaultKind) -> None:
    case = next(case for case in of(spec.id) if case in COMPLETE)
    frames = frames_of(case.body)
    for count in {0, 1, 2, len(frames) // 2, len(frames) - 1}:
        observer = spec.observer(operation_of(spec))
        for frame in frames[:count]:
            observer.observe(*data_of(frame), 0.0)
        said = spec.error_frame(fault(kind), "px-77", observer)
        assert b"".join(frames_of(said)) == said, "whole frames"
        for clean in (True, False):
            relay = relayed(spec.id, [*frames[:count], said], clean=clean)
            assert relay.outcome is not None
            assert relay.outcome.ending is Ending.UPSTREAM_ERROR
            assert relay.seen.error is not None
            assert relay.seen.error.message == fault(kind).message
            assert relay.seen.malformed == 0


@SPECS
def test_a_keep_alive_means_nothing(spec: ProtocolSpec) -> None:
    """Neither to our observer nor between the lines of what comes behind it."""
    scanner, observer = Scanner(1 << 16, Budget(1 << 16)), spec.observer(operation_of(spec))
    last = spec.error_frame(fault(), "px-1", observer)
    marks = [observer.observe(name, data, 0.0) for name, data, _ in scanner.feed(spec.keepalive * 3 + last) if data is not None]
    assert spec.keepalive.endswith(b"\n")
    assert not any(marks[:-2])
    assert marks[-1] & ERROR
    assert (observer.malformed, observer.unknown) == (0, 0)


@SPECS
def test_a_closing_frame_closes_what_is_finished(spec: ProtocolSpec) -> None:
    observer = spec.observer(operation_of(spec))
    assert not observer.finished()
    if not spec.closing:
        return
    [case, *_] = [case for case in of(spec.id) if case in COMPLETE]
    frames = frames_of(case.body)
    for frame in frames[:-1]:
        observer.observe(*data_of(frame), 0.0)
    assert observer.finished()
    assert not observer.closable()
    assert frames_of(spec.closing) == [spec.closing]
    assert observer.observe(*data_of(spec.closing), 0.0) & TERMINAL


@SPECS
@pytest.mark.parametrize("status", [None, 400, 418, 429, 503, 599, 200])
def test_an_error_of_the_providers_is_told_with_a_status(spec: ProtocolSpec, status: int | None) -> None:
    found, body = spec.error_of(UpstreamError(message="m", status=status), "px-1")
    assert found == (status if status not in (None, 200) else 502)
    observer = spec.observer(operation_of(spec))
    observer.observe_error(found, body)
    assert observer.error is not None
    assert (observer.error.message, observer.error.status) == ("m", found)


@SPECS
def test_a_providers_own_words_are_kept(spec: ProtocolSpec) -> None:
    said = Fault(FaultKind.RATE_LIMITED, 429, "Slow down.", type="RESOURCE_EXHAUSTED", code="the_code", param="p")
    body = spec.error_body(said, "px-1")
    assert b"RESOURCE_EXHAUSTED" in body
    bare = spec.error_body(Fault(FaultKind.RATE_LIMITED, 429, "Slow down."), "px-1")
    assert b"the_code" not in bare


@SPECS
def test_the_array_form_is_whole_or_absent(spec: ProtocolSpec) -> None:
    assert (spec.array_asked is None) == (spec.error_element is None)
    if spec.error_element is not None:
        assert json.loads(spec.error_element(fault(), "px-1"))["error"]["message"] == fault().message


# Assembling, unfolding, rendering.


@SPECS
def test_an_assembler_gives_no_body_before_the_end(spec: ProtocolSpec) -> None:
    for case in of(spec.id):
        assembler = spec.assembler(operation_of(spec))
        assert isinstance(assembler, Assembler)
        frames = [data_of(frame) for frame in frames_of(case.body)]
        with pytest.raises(BodyError):
            assembler.body()
        if case not in COMPLETE:
            with pytest.raises(BodyError):
                fed(assembler, frames).body()
            continue
        with pytest.raises(BodyError):
            fed(assembler, frames[:-1]).body()
        assert isinstance(json.loads(fed(assembler, frames[-1:]).body()), dict)


def fed(assembler: Assembler, frames: list[tuple[bytes, bytes]]) -> Assembler:
    for name, data in frames:
        if data:
            assembler.feed(name, data)
    return assembler


@SPECS
@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b"\xff", b'{"error":{"message":"m"}}'])
def test_unfold_refuses_before_its_first_frame(spec: ProtocolSpec, body: bytes) -> None:
    try:
        frames = spec.unfold(operation_of(spec), body)
    except BodyError:
        return
    relay = relayed(spec.id, list(frames))
    assert relay.outcome is not None
    assert relay.outcome.ending is Ending.UPSTREAM_ERROR, "a failed Response is a whole one, and unfolds into a failed stream"


@SPECS
@given(answer=answers())
def test_a_rendered_answer_is_a_whole_stream(spec: ProtocolSpec, answer: list[Any]) -> None:
    renderer = spec.renderer(operation_of(spec))
    assert isinstance(renderer, Renderer)
    frames = [renderer.render(event) for event in answer]
    for frame in frames:
        assert b"".join(frames_of(frame)) == frame, "whole frames, at once"
    relay = relayed(spec.id, frames)
    assert relay.outcome is not None
    assert relay.outcome.ending is Ending.COMPLETE
    assert (relay.seen.malformed, relay.seen.unknown, relay.seen.error, relay.seen.tools) == (0, 0, None, {})
    short = relayed(spec.id, frames[:-1])
    assert short.outcome is not None
    assert short.outcome.ending is Ending.TRUNCATED, "and it is not whole before it has ended"
    assembler = spec.assembler(operation_of(spec))
    for frame in frames_of(b"".join(frames)):
        assembler.feed(*data_of(frame))
    assert isinstance(json.loads(assembler.body()), dict)


@SPECS
def test_a_failure_never_ends_well(spec: ProtocolSpec) -> None:
    renderer = spec.renderer(operation_of(spec))
    frames = [renderer.render(event) for event in (Started("r", "m"), TextDelta("a"), Failed(UpstreamError("it broke", "t", "c", None, 503)))]
    relay = relayed(spec.id, frames)
    assert relay.outcome is not None
    assert relay.outcome.ending is Ending.UPSTREAM_ERROR
    assert relay.seen.error is not None
    assert relay.seen.error.message == "it broke"


@SPECS
def test_deltas_leave_with_their_event(spec: ProtocolSpec) -> None:
    renderer = spec.renderer(operation_of(spec))
    renderer.render(Started("r", "m"))
    for event in (ReasoningDelta("why", 0), TextDelta("so", 1), TextDelta("!", 1)):
        assert event.text.encode() in renderer.render(event)


@SPECS
def test_usage_is_told_with_the_figures_as_they_are(spec: ProtocolSpec) -> None:
    usage = Usage(input=1001, output=2002, cache_read=303, reasoning=404)
    renderer = spec.renderer(operation_of(spec))
    frames = [renderer.render(event) for event in (Started("r", "m"), TextDelta("a"), Stopped(StopReason.STOP), UsageSeen(usage), Ended())]
    seen = relayed(spec.id, frames).seen
    assert (seen.usage, seen.final_usage, seen.provenance()) == (usage, True, Provenance.REPORTED)


@SPECS
def test_renderers_are_fresh(spec: ProtocolSpec) -> None:
    used = spec.renderer(operation_of(spec))
    first = [used.render(event) for event in (Started("r", "m"), TextDelta("a"), Ended())]
    again = spec.renderer(operation_of(spec))
    assert [again.render(event) for event in (Started("r", "m"), TextDelta("a"), Ended())] == first
