"""Bodies told as streams: by time, in whole frames, and with an error where there can be no stream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.pipeline.compose import Answer, Limits, compose
from penstock.pipeline.contract import State
from penstock.pipeline.pseudo import PORTION, Pace, Pseudo
from penstock.pipeline.stream import StreamRelay
from penstock.pipeline.timers import Timers
from penstock.pipeline.unbegun import Unbegun
from penstock.pipeline.watch import expired
from penstock.protocols import REGISTRY
from penstock.protocols.contract import CONTENT, Observer, ProtocolSpec
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.vocabulary.outcome import EndedBy, Ending
from penstock.wire.budget import Budget
from tests.laws.test_law_06_assemble_unfold import BODIES, assembled, recorded
from tests.support.relays import CUTS, FAULT, ID, OPERATIONS, cut, data_of, every, frames_of, zipped

CHAT, RESPONSES, MESSAGES, GEMINI = ProtocolId.OPENAI_CHAT, ProtocolId.OPENAI_RESPONSES, ProtocolId.ANTHROPIC_MESSAGES, ProtocolId.GEMINI
EACH = pytest.mark.parametrize("protocol", REGISTRY)
SIZES = st.none() | st.integers(1, 40)


def opened(
    protocol: ProtocolId, pace: Pace | None = None, *, array: bool = False, usage: bool = True, limits: Limits | None = None,
    budget: Budget | None = None, coding: bytes = b"", spec: ProtocolSpec | None = None,
) -> Pseudo:  # fmt: skip
    answer = Answer(
        OPERATIONS[protocol], 200, b"application/json", coding, True, stream_asked=True, array=array, pace=pace or Pace(), usage_told=usage
    )  # fmt: skip
    mode = compose(answer, spec or REGISTRY[protocol], limits or Limits(), budget or Budget(1 << 28), 0.0)
    assert isinstance(mode.pipeline, Pseudo)
    assert mode.pipeline.gathers
    assert mode.streamed
    return mode.pipeline


def fed(pseudo: Pseudo, *chunks: bytes) -> Pseudo:
    for chunk in chunks:
        assert pseudo.feed(chunk, 1.0) == b""
    return pseudo


def body_of(protocol: ProtocolId) -> bytes:
    return json.dumps(recorded(protocol)[0]).encode()


def started(protocol: ProtocolId, pace: Pace | None = None, body: bytes | None = None, **named: Any) -> Pseudo:
    """All of the body is there."""
    pseudo = fed(opened(protocol, pace, **named), body or body_of(protocol))
    assert pseudo.conclude(True, "").ending is Ending.COMPLETE
    assert pseudo.failure(ID) is None
    return pseudo


def ticks(pseudo: Pseudo) -> Iterator[bytes]:
    while (due := pseudo.deadline()) is not None:
        yield pseudo.tick(due)


def observed(protocol: ProtocolId, stream: bytes) -> Observer:
    observer = REGISTRY[protocol].observer(OPERATIONS[protocol])
    for frame in frames_of(stream):
        name, data = data_of(frame)
        if data:
            observer.observe(name, data, 0.0)
    return observer


# The stream.


@EACH
@given(data=st.data())
def test_a_body_comes_back_whatever_the_size_of_the_pieces(protocol: ProtocolId, data: st.DataObject) -> None:
    """Law 6, through the pipeline."""
    body = data.draw(BODIES[protocol] | st.sampled_from(recorded(protocol)))
    raw = json.dumps(body).encode()
    gzip = data.draw(st.booleans())
    budget = Budget(1 << 28)
    pace = Pace(data.draw(SIZES), data.draw(st.sampled_from([0.0, 0.1])))
    pseudo = fed(opened(protocol, pace, budget=budget, coding=b"gzip" if gzip else b""), *cut(zipped(raw) if gzip else raw, data.draw(CUTS)))
    assert pseudo.conclude(True, "").ending is Ending.COMPLETE
    assert pseudo.failure(ID) is None
    out = list(ticks(pseudo))
    assert json.loads(assembled(protocol, out)) == body
    assert (pseudo.bytes_out, budget.used, pseudo.state) == (sum(map(len, out)), 0, State.ENDED)
    assert pseudo.end(None, ID) == b""
    told = observed(protocol, b"".join(out))
    own = pseudo.observer
    assert (own.response_id, own.model, own.usage, own.stop_reason) == (told.response_id, told.model, told.usage, told.stop_reason)


SEVEN: list[tuple[ProtocolId, Any]] = [
    (CHAT, {"id": "c", "choices": [{"index": 0, "message": {"role": "assistant", "content": "abcdefg"}, "finish_reason": "stop"}]}),
    (MESSAGES, {"type": "message", "content": [{"type": "text", "text": "abcdefg"}], "stop_reason": "end_turn"}),
    (RESPONSES, {"object": "response", "status": "completed", "output": [
        {"type": "message", "id": "m", "content": [{"type": "output_text", "text": "abcdefg", "annotations": []}]}]}),
    (GEMINI, {"candidates": [{"content": {"parts": [{"text": "abcdefg"}], "role": "model"}, "finishReason": "STOP"}]}),
]  # fmt: skip


@pytest.mark.parametrize(("protocol", "body"), SEVEN)
def test_the_size_of_the_pieces_is_kept(protocol: ProtocolId, body: Any) -> None:
    stream = b"".join(ticks(started(protocol, Pace(3), json.dumps(body).encode())))
    observer = REGISTRY[protocol].observer(OPERATIONS[protocol])
    assert sum(bool(observer.observe(*data_of(frame), 0.0) & CONTENT) for frame in frames_of(stream)) == 3


@pytest.mark.parametrize("usage", [True, False])
def test_chat_tells_usage_to_those_who_asked(usage: bool) -> None:
    stream = b"".join(ticks(started(CHAT, usage=usage)))
    assert (b'"usage":{' in stream) is usage
    assert stream.endswith(b"data: [DONE]\n\n")


@EACH
def test_what_cannot_wait_gets_all_at_once(protocol: ProtocolId) -> None:
    wanted = b"".join(ticks(started(protocol)))
    pseudo = started(protocol, Pace(None, 60.0))
    first = pseudo.tick(pseudo.deadline() or 0.0)
    assert first
    assert first + pseudo.end(None, ID) == wanted
    assert (pseudo.deadline(), pseudo.state, pseudo.bytes_out) == (None, State.ENDED, len(wanted))


# Time.


@EACH
def test_with_an_interval_each_piece_waits_its_time(protocol: ProtocolId) -> None:
    pseudo = started(protocol, Pace(None, 0.25))
    assert pseudo.deadline() == 1.0, "the first goes at once"
    now, seen = 1.0, 0
    observer = REGISTRY[protocol].observer(OPERATIONS[protocol])
    while pseudo.deadline() is not None:
        assert pseudo.deadline() == now
        assert pseudo.tick(now - 0.01) == b"", "not before it is due"
        out = pseudo.tick(now)
        marks = [observer.observe(*data_of(frame), 0.0) & CONTENT for frame in frames_of(out)]
        assert sum(marks) == 1 or pseudo.deadline() is None
        assert marks[-1] or pseudo.deadline() is None, "what stands around a piece goes before it"
        seen += sum(marks)
        now += 0.25
    assert seen >= 3
    assert observer.closable()


def test_a_late_tick_is_not_made_up_for_by_a_burst() -> None:
    pseudo = started(MESSAGES, Pace(1, 1.0))
    pseudo.tick(1.0)
    pseudo.tick(2.3)
    assert pseudo.deadline() == 3.0, "small delays do not add up"
    pseudo.tick(60.0)
    assert pseudo.deadline() == 60.0
    pseudo.tick(60.0)
    assert pseudo.deadline() == 61.0


def test_the_provider_s_timers_do_not_run_out_while_it_is_told() -> None:
    timers = Timers(first_content=10.0, idle=5.0, content=5.0, tool_call=5.0)
    pseudo = opened(MESSAGES, Pace(1, 4.0))
    found = expired(timers, 0.0, pseudo, 11.0)
    assert found is not None
    assert found.timer == "first_content"
    pseudo.feed(body_of(MESSAGES), 9.0)
    assert pseudo.conclude(True, "").ending is Ending.COMPLETE
    for number in range(5):
        now = 9.0 + 4 * number
        assert expired(timers, 0.0, pseudo, now) is None
        assert pseudo.tick(now)


def test_a_long_answer_is_given_in_portions() -> None:
    text = "word " * 100_000
    body = {"type": "message", "content": [{"type": "text", "text": text}], "stop_reason": "end_turn"}
    out = list(ticks(started(MESSAGES, body=json.dumps(body).encode())))
    assert len(out) > 10
    assert max(map(len, out)) < PORTION + 1000
    assert json.loads(assembled(MESSAGES, out)) == body


# Errors.


@pytest.mark.parametrize(("body", "ending"), [
    (b"", Ending.TRUNCATED), (b"<html>", Ending.UPSTREAM_ERROR), (b"[]", Ending.UPSTREAM_ERROR), (b"{}x", Ending.UPSTREAM_ERROR),
])  # fmt: skip
@EACH
def test_what_is_no_body_is_an_error_with_its_status(protocol: ProtocolId, body: bytes, ending: Ending) -> None:
    budget = Budget(1 << 28)
    pseudo = fed(opened(protocol, budget=budget), body)
    assert pseudo.conclude(True, "").ending is ending
    assert (pseudo.deadline(), budget.used) == (None, 0)
    found = pseudo.failure(ID)
    assert found is not None
    assert found[0] == 502
    assert ID.encode() in found[1]
    assert pseudo.may_speak(), "for a client that has its head already"
    assert observed(protocol, pseudo.end(FAULT, ID)).error is not None


@pytest.mark.parametrize(("protocol", "body", "status"), [
    (MESSAGES, {"type": "error", "error": {"type": "overloaded_error", "message": "m"}}, 529),
    (CHAT, {"error": {"message": "m", "code": 429}}, 429),
    (GEMINI, {"error": {"code": 503, "message": "m", "status": "UNAVAILABLE"}}, 503),
])  # fmt: skip
def test_an_error_below_400_gets_its_status(protocol: ProtocolId, body: Any, status: int) -> None:
    pseudo = fed(opened(protocol), json.dumps(body).encode())
    outcome = pseudo.conclude(True, "")
    assert (outcome.ending, outcome.ended_by) == (Ending.UPSTREAM_ERROR, EndedBy.UPSTREAM)
    found = pseudo.failure(ID)
    assert found is not None
    assert found[0] == status


def test_a_failed_response_is_told_as_its_own_stream() -> None:
    body: dict[str, Any] = {"id": "r", "object": "response", "status": "failed", "error": {"code": "server_error", "message": "m"}, "output": []}
    pseudo = fed(opened(RESPONSES), json.dumps(body).encode())
    assert pseudo.conclude(True, "").ending is Ending.UPSTREAM_ERROR
    assert pseudo.failure(ID) is None
    assert [data_of(frame)[0] for frame in frames_of(b"".join(ticks(pseudo)))] == [
        b"response.created", b"response.in_progress", b"response.failed",
    ]  # fmt: skip


def test_a_body_that_is_lost_or_too_large() -> None:
    lost = fed(opened(CHAT), b'{"id"')
    assert lost.conclude(False, "reset").ending is Ending.UPSTREAM_LOST
    assert lost.failure(ID) is not None
    for limits, total in ((Limits(body=10), 1 << 20), (Limits(), 10)):
        budget = Budget(total)
        large = fed(opened(CHAT, limits=limits, budget=budget), *every(body_of(CHAT), 8))
        assert (large.state, budget.used) == (State.BROKEN, 0)
        assert large.conclude(False, "x").ending is Ending.CUT
        assert large.failure(ID) is not None
    coded = opened(CHAT, coding=b"br")
    assert coded.state is State.BROKEN
    assert coded.conclude(True, "").ending is Ending.UPSTREAM_ERROR
    torn = fed(opened(CHAT, coding=b"gzip"), zipped(body_of(CHAT))[:-9])
    assert torn.conclude(True, "").ending is Ending.UPSTREAM_LOST


@EACH
@given(given_ticks=st.integers(0, 30))
def test_an_error_can_be_told_between_any_two_frames(protocol: ProtocolId, given_ticks: int) -> None:
    budget = Budget(1 << 28)
    pseudo = started(protocol, Pace(3, 1.0), budget=budget)
    out: list[bytes] = []
    for _ in range(given_ticks):
        if (due := pseudo.deadline()) is not None:
            out += [pseudo.keepalive(), pseudo.tick(due)]
    if pseudo.deadline() is None:
        assert not pseudo.may_speak()
        assert pseudo.keepalive() == b""
        return
    error = pseudo.end(FAULT, ID)
    assert error
    assert (pseudo.deadline(), budget.used) == (None, 0)
    assert pseudo.bytes_out == len(b"".join(out) + error)
    stream = b"".join(out) + error
    observer = REGISTRY[protocol].observer(OPERATIONS[protocol])
    numbers: list[int] = []
    for frame in frames_of(stream.replace(b": keep-alive\n", b"")):
        name, data = data_of(frame)
        if data:
            observer.observe(name, data, 0.0)
            numbers += [json.loads(data)["sequence_number"]] if protocol is RESPONSES else []
    assert observer.error is not None
    assert not observer.closable() or protocol is RESPONSES
    assert numbers == list(range(len(numbers)))


@EACH
def test_a_mistake_of_ours_is_told_and_nothing_is_made_up(protocol: ProtocolId) -> None:
    spec = REGISTRY[protocol]

    def raising(operation: Operation, body: bytes, size: int | None = None, *, usage: bool = True) -> Iterator[bytes]:
        yield from list(spec.unfold(operation, body, size))[:2]
        raise RuntimeError

    pseudo = started(protocol, Pace(None, 1.0), spec=replace(spec, unfold=raising))
    while (due := pseudo.deadline()) is not None:
        pseudo.tick(due)
    assert (pseudo.state, pseudo.failures) == (State.BROKEN, 1)
    assert pseudo.conclude(True, "").ending is Ending.UNVERIFIED
    assert pseudo.may_speak()


# The array form.


@pytest.mark.parametrize("chars", [None, 1, 1000])
def test_an_array_gets_elements(chars: int | None) -> None:
    pseudo = started(GEMINI, Pace(chars), array=True)
    assert pseudo.content_type == b"application/json"
    events = [json.loads(data_of(frame)[1]) for frame in frames_of(b"".join(ticks(started(GEMINI, Pace(chars)))))]
    assert json.loads(pseudo.keepalive() + b"".join(ticks(pseudo))) == events


@pytest.mark.parametrize("given_ticks", [0, 1, 2])
def test_an_error_closes_the_array(given_ticks: int) -> None:
    pseudo = started(GEMINI, Pace(1, 1.0), array=True)
    out = [pseudo.tick(1.0 + number) for number in range(given_ticks)]
    array = json.loads(b"".join([*out, pseudo.keepalive(), pseudo.end(FAULT, ID)]))
    assert len(array) == given_ticks + 1
    assert array[-1]["error"]["code"] == FAULT.status


# Its place.


def test_it_goes_on_behind_a_stream_that_was_opened_early() -> None:
    early = Unbegun(REGISTRY[MESSAGES], Operation.MESSAGES, 0.0)
    before = early.keepalive()
    pseudo = opened(MESSAGES)
    pseudo.follow(early)
    fed(pseudo, body_of(MESSAGES)).conclude(True, "")
    out = b"".join(ticks(pseudo))
    assert pseudo.bytes_out == len(before) + len(out)
    assert observed(MESSAGES, before + out).closable()


def test_a_provider_that_streams_all_the_same_is_passed_on() -> None:
    answer = Answer(Operation.CHAT, 200, b"text/event-stream", b"", True, stream_asked=True, array=False, pace=Pace())
    assert type(compose(answer, REGISTRY[CHAT], Limits(), Budget(1), 0.0).pipeline) is StreamRelay


@EACH
@given(data=st.data())
def test_whatever_comes_there_is_a_stream_or_an_error(protocol: ProtocolId, data: st.DataObject) -> None:
    raw = body_of(protocol)
    at = data.draw(st.integers(0, len(raw)))
    budget = Budget(1 << 28)
    pseudo = fed(opened(protocol, budget=budget), raw[:at], data.draw(st.binary(max_size=4)), raw[at + data.draw(st.integers(0, 3)) :])
    outcome = pseudo.conclude(True, "")
    stream = b"".join(ticks(pseudo))
    assert bool(stream) == (pseudo.failure(ID) is None)
    if outcome.ending is Ending.COMPLETE:
        assert observed(protocol, stream).closable()
    assert (pseudo.failures, budget.used) == (0, 0)
