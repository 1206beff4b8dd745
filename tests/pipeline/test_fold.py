"""Streams folded into bodies: all or nothing, with a status, bounded."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.pipeline.body import BodyRelay
from penstock.pipeline.compose import Answer, Limits, compose
from penstock.pipeline.contract import State
from penstock.pipeline.fold import Fold
from penstock.pipeline.timers import Timers
from penstock.pipeline.watch import expired, next_deadline
from penstock.protocols import REGISTRY
from penstock.protocols.anthropic_messages import MessagesObserver
from penstock.protocols.contract import Observer, ProtocolSpec
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.vocabulary.outcome import EndedBy, Ending
from penstock.wire.budget import Budget
from penstock.wire.sse import Scanner, parse
from tests.support.corpus import Case
from tests.support.relays import CUTS, FAULT, ID, OPERATIONS, cut, every, frames_of, zipped
from tests.support.streams import COMPLETE, as_array, complete_at, damaged, few, named, small

CHAT, RESPONSES, MESSAGES, GEMINI = ProtocolId.OPENAI_CHAT, ProtocolId.OPENAI_RESPONSES, ProtocolId.ANTHROPIC_MESSAGES, ProtocolId.GEMINI
SMALL = tuple(case for case in small() if case in COMPLETE)


def opened(
    protocol: ProtocolId, *, limits: Limits | None = None, budget: Budget | None = None, coding: bytes = b"", repaired: bool = False,
    kind: bytes = b"text/event-stream", spec: ProtocolSpec | None = None,
) -> Fold:  # fmt: skip
    answer = Answer(OPERATIONS[protocol], 200, kind, coding, True, stream_asked=False, array=False, folded=True, repaired=repaired)
    mode = compose(answer, spec or REGISTRY[protocol], limits or Limits(), budget or Budget(1 << 28), 0.0)
    assert isinstance(mode.pipeline, Fold)
    assert mode.pipeline.gathers
    assert not mode.streamed
    return mode.pipeline


def fed(fold: Fold, *chunks: bytes) -> Fold:
    for number, chunk in enumerate(chunks):
        assert fold.feed(chunk, float(number)) == b""
    return fold


def sse(*events: Any) -> bytes:
    return b"".join(b"data: " + (event if isinstance(event, bytes) else json.dumps(event).encode()) + b"\n\n" for event in events)


def assembled(case: Case) -> Any:
    assembler = REGISTRY[case.recording.protocol].assembler(OPERATIONS[case.recording.protocol])
    for frame in frames_of(case.body):
        name, data = parse(frame)
        if data is not None:
            assembler.feed(name, data)
    return json.loads(assembler.body())


def failed(fold: Fold, status: int) -> str:
    """Its error, which is all that there is; in the protocol's shape."""
    assert fold.whole() is None
    found = fold.failure(ID)
    assert found is not None
    assert found[0] == status
    observer = fold._spec.observer(Operation.CHAT)  # pyright: ignore[reportPrivateUsage]
    observer.observe_error(status, found[1])
    assert observer.error is not None
    assert fold.end(None, ID) == b""
    return observer.error.message or ""


MESSAGE: list[Any] = [
    {"type": "message_start", "message": {"id": "m", "type": "message", "content": [], "usage": {"input_tokens": 7, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"a":1'}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 9}},
    {"type": "message_stop"},
]


# Whole.


@pytest.mark.parametrize(**named(SMALL))
def test_the_body_comes_at_the_end_and_at_once(case: Case) -> None:
    budget = Budget(1 << 28)
    fold = fed(opened(case.recording.protocol, budget=budget), *every(case.body, 100))
    assert fold.bytes_out == 0
    assert fold.whole() is None
    assert fold.failure(ID) is None, "nothing is known before the end"
    assert budget.used > 0
    assert fold.conclude(True, "").ending is Ending.COMPLETE
    assert fold.conclude(False, "asked again") == fold.conclude(True, ""), "and it stays so"
    body = fold.whole()
    assert body is not None
    assert json.loads(body) == assembled(case)
    assert fold.failure(ID) is None
    assert fold.end(None, ID) == body
    assert (fold.bytes_out, budget.used) == (len(body), 0)
    assert fold.observer.response_id == case.expected["response_id"]
    wanted: dict[str, int] = case.expected["usage"] or {}
    assert {name: getattr(fold.observer.usage, name) for name in wanted} == wanted
    assert fold.tail_rows(0.0)


@few
@pytest.mark.parametrize("gzip", [False, True])
@given(data=st.data())
def test_no_cut_into_chunks_changes_it(gzip: bool, data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(SMALL))
    stream = zipped(case.body) if gzip else case.body
    fold = fed(opened(case.recording.protocol, coding=b"gzip" if gzip else b""), *cut(stream, data.draw(CUTS)))
    assert fold.conclude(True, "").ending is Ending.COMPLETE
    assert json.loads(fold.whole() or b"") == assembled(case)


def test_an_array_in_the_place_of_events_is_taken_too() -> None:
    case = next(case for case in SMALL if case.recording.protocol is GEMINI)
    for answer in (as_array(case.body), json.dumps(assembled(case)).encode()):
        fold = fed(opened(GEMINI, kind=b"application/json"), *every(answer, 50))
        assert fold.conclude(True, "").ending is Ending.COMPLETE
        assert json.loads(fold.whole() or b"") == assembled(case)
    fold = fed(opened(GEMINI, kind=b"application/json"), b"nothing of the kind")
    assert fold.state is State.BROKEN
    assert fold.conclude(True, "").ending is Ending.UPSTREAM_ERROR
    failed(fold, 502)


def test_a_stream_that_is_repaired_is_whole() -> None:
    chunk = {"id": "c", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}
    fold = fed(opened(CHAT, repaired=True), sse(chunk))
    assert fold.conclude(True, "").ending is Ending.COMPLETE
    assert json.loads(fold.whole() or b"")["choices"][0]["message"] == {"role": "assistant", "content": "hi"}
    fold = fed(opened(CHAT), sse(chunk))
    assert fold.conclude(True, "").ending is Ending.TRUNCATED
    failed(fold, 502)


def test_pages_errors_and_what_has_no_body_are_not_put_together() -> None:
    for status, kind in ((200, b"text/html; charset=utf-8"), (529, b"text/event-stream"), (204, b""), (302, b"application/json")):
        answer = Answer(Operation.MESSAGES, status, kind, b"", True, stream_asked=False, array=False, folded=True)
        assert type(compose(answer, REGISTRY[MESSAGES], Limits(), Budget(1), 0.0).pipeline) is BodyRelay


def test_a_body_in_the_place_of_the_stream_is_held_and_given_out_whole() -> None:
    body = json.dumps({"id": "m", "type": "message", "content": [], "usage": {"input_tokens": 7, "output_tokens": 1}}).encode()
    budget = Budget(1 << 20)
    fold = fed(opened(MESSAGES, kind=b"text/plain", budget=budget), b"\xef\xbb", b"\xbf\n ", *every(body, 3))
    assert (fold.is_body, fold.begun, fold.tells_content, budget.used) == (True, True, False, len(body))
    assert fold.conclude(True, "").ending is Ending.COMPLETE
    assert fold.whole() == fold.end(None, ID) == body
    assert (fold.observer.usage.input, budget.used, fold.bytes_out) == (7, 0, len(body))
    fold = fed(opened(MESSAGES, kind=b"text/plain", budget=budget), body)
    assert fold.conclude(False, "reset").ending is Ending.UPSTREAM_LOST
    failed(fold, 502)
    assert budget.used == 0


def test_an_observer_that_fails_takes_nothing_from_the_client() -> None:
    class Failing(MessagesObserver):
        def observe(self, name: bytes, data: bytes, now: float) -> int:
            raise RuntimeError

    def failing(operation: Operation) -> Observer:
        return Failing()

    case = next(case for case in SMALL if case.recording.protocol is MESSAGES)
    fold = fed(opened(MESSAGES, spec=replace(REGISTRY[MESSAGES], observer=failing)), case.body)
    assert fold.conclude(True, "").ending is Ending.UNVERIFIED
    assert json.loads(fold.whole() or b"") == assembled(case)
    assert fold.failure(ID) is None
    fold = fed(opened(MESSAGES, spec=replace(REGISTRY[MESSAGES], observer=failing)), case.body)
    assert fold.conclude(False, "reset").ending is Ending.UPSTREAM_LOST
    failed(fold, 502)


# Nothing.


@few
@given(data=st.data())
def test_a_stream_that_is_cut_short_gives_nothing(data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(SMALL))
    budget = Budget(1 << 28)
    clean = data.draw(st.booleans())
    at = data.draw(st.integers(0, complete_at(case) - 1))
    fold = fed(opened(case.recording.protocol, budget=budget), *cut(case.body[:at], data.draw(CUTS)))
    outcome = fold.conclude(clean, "the connection was reset")
    assert outcome.ending is (Ending.TRUNCATED if clean else Ending.UPSTREAM_LOST)
    assert outcome.cause in failed(fold, 502)
    assert budget.used == 0


@pytest.mark.parametrize(
    ("protocol", "event", "status", "message"),
    [
        (MESSAGES, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, 529, "Overloaded"),
        (MESSAGES, {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}, 400, "no"),
        (CHAT, {"error": {"message": "slow down", "type": "t", "code": "rate_limit_exceeded"}}, 429, "slow down"),
        (RESPONSES, {"type": "response.failed", "response": {"id": "r", "status": "failed", "error": {"code": "server_error", "message": "m"}}}, 500,
         "m"),
        (RESPONSES, {"type": "error", "code": "rate_limit_exceeded", "message": "m", "sequence_number": 3}, 429, "m"),
        (GEMINI, {"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}, 503, "overloaded"),
    ],
)
@pytest.mark.parametrize("after", [0, 3])
def test_an_error_in_band_becomes_a_status(protocol: ProtocolId, event: Any, status: int, message: str, after: int) -> None:
    case = next(case for case in SMALL if case.recording.protocol is protocol)
    budget = Budget(1 << 28)
    begun = b"".join(frames_of(case.body)[: min(after, len(frames_of(case.body)) - 1)])
    fold = fed(opened(protocol, budget=budget), begun, sse(event))
    assert fold.state is State.ENDED, "whoever waits need not wait for more"
    assert budget.used == 0
    assert fold.conclude(True, "").ending is Ending.UPSTREAM_ERROR
    assert failed(fold, status) == message


def test_half_a_tool_input_is_no_answer_and_its_usage_is_known() -> None:
    budget = Budget(1 << 28)
    fold = fed(opened(MESSAGES, budget=budget), sse(*MESSAGE[:4]))
    assert fold.state is State.RUNNING, "read to its end"
    assert budget.used == 0, "but not held"
    fed(fold, sse(*MESSAGE[4:]))
    assert fold.state is State.ENDED
    outcome = fold.conclude(True, "")
    assert (outcome.ending, outcome.ended_by) == (Ending.UPSTREAM_ERROR, EndedBy.UPSTREAM)
    assert "not JSON" in outcome.cause
    assert "not JSON" in failed(fold, 502)
    assert (fold.observer.usage.input, fold.observer.usage.output, fold.observer.final_usage) == (7, 9, True)


def test_what_is_larger_than_may_be_held_breaks_off() -> None:
    case = max(SMALL, key=lambda case: len(case.body))
    budget = Budget(1 << 28)
    fold = fed(opened(case.recording.protocol, limits=Limits(assembly=2000), budget=budget), *every(case.body, 500))
    assert fold.state is State.BROKEN
    assert budget.used == 0
    outcome = fold.conclude(False, "not this")
    assert (outcome.ending, outcome.ended_by) == (Ending.CUT, EndedBy.GATEWAY)
    assert "2000 bytes" in failed(fold, 502)


def test_what_the_gateway_has_no_room_for_breaks_off() -> None:
    case = max(SMALL, key=lambda case: len(case.body))
    budget = Budget(3000)
    fold = fed(opened(case.recording.protocol, budget=budget), *every(case.body, 500))
    assert fold.state is State.BROKEN
    assert budget.used == 0
    assert fold.conclude(True, "").ending is Ending.CUT
    failed(fold, 502)


def test_a_frame_over_the_limit_breaks_off() -> None:
    fold = fed(opened(CHAT, limits=Limits(frame=100)), sse({"choices": [], "x": "y" * 200}))
    assert fold.state is State.BROKEN
    assert fold.conclude(True, "").ending is Ending.CUT
    assert "larger" in failed(fold, 502)


def test_foreign_codings_are_refused() -> None:
    fold = opened(MESSAGES, coding=b"br")
    assert fold.state is State.BROKEN
    assert fold.conclude(True, "").ending is Ending.UPSTREAM_ERROR
    assert "'br'" in failed(fold, 502)
    fold = fed(opened(MESSAGES, coding=b"gzip"), b"no gzip")
    assert fold.state is State.BROKEN
    assert fold.conclude(False, "the provider's answer is not the gzip that it says it is").ending is Ending.UPSTREAM_LOST
    failed(fold, 502)


@few
@pytest.mark.parametrize("protocol", REGISTRY)
@given(data=st.data())
def test_whatever_comes_there_is_a_body_or_an_error(protocol: ProtocolId, data: st.DataObject) -> None:
    stream, clean = data.draw(damaged(protocol)), data.draw(st.booleans())
    budget = Budget(1 << 20)
    limits = Limits(frame=20_000, assembly=data.draw(st.sampled_from([500, 1 << 20])))
    fold = fed(opened(protocol, budget=budget, limits=limits), *cut(stream, data.draw(CUTS)))
    outcome = fold.conclude(clean, "reset")
    assert (fold.whole() is None) == (fold.failure(ID) is not None) == (outcome.ending is not Ending.COMPLETE)
    if fold.whole() is not None:
        json.loads(fold.whole() or b"")
    assert fold.failures == 0
    fold.end(None, ID)
    assert budget.used == 0
    fold.close()
    assert budget.used == 0


# On the way.


def test_its_timers_are_those_of_a_stream() -> None:
    fold = opened(MESSAGES)
    timers = Timers(first_content=10.0, idle=5.0, content=7.0, tool_call=6.0)
    assert fold.tells_content
    fold.feed(sse(MESSAGE[0]), 3.0)
    assert next_deadline(timers, 0.0, fold) == 10.0
    fold.feed(sse(*MESSAGE[1:3]), 4.0)
    assert next_deadline(timers, 0.0, fold) == 9.0
    for now in (6.0, 8.0, 9.9):
        fold.feed(b'event: ping\ndata: {"type": "ping"}\n\n', now)
    found = expired(timers, 0.0, fold, 10.5)
    assert found is not None
    assert found.timer == "tool_call"


def test_nothing_is_put_in() -> None:
    fold = fed(opened(MESSAGES), sse(MESSAGE[0]))
    assert fold.keepalive() == b""
    assert not fold.may_speak()
    assert fold.end(FAULT, ID) == b""


@pytest.mark.parametrize(**named(COMPLETE))
def test_what_is_held_is_not_counted_too_low(case: Case) -> None:
    """Nor by more than what came."""
    assembler = REGISTRY[case.recording.protocol].assembler(OPERATIONS[case.recording.protocol])
    for name, data, _ in Scanner(1 << 26, Budget(1 << 28)).feed(case.body):
        if data is not None:
            assembler.feed(name, data)
    assert len(assembler.body()) <= assembler.held <= 2 * len(case.body)
