"""A body told as a stream for a client that wants one: at its pace, kept alive while it is waited for, with errors in shape."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from penstock.exchange.conduct import Conduct, Retries
from penstock.exchange.contract import Headers
from penstock.exchange.gateway import Settings
from penstock.pipeline.compose import Limits
from penstock.pipeline.pseudo import PORTION, Pace
from penstock.pipeline.timers import Timers
from penstock.protocols import REGISTRY
from penstock.vocabulary.ids import ProtocolId
from penstock.wire.budget import Budget
from penstock.wire.sse import Scanner
from tests.exchange.test_holding import NAMED, kept_headers
from tests.support.answers import ANSWERS, CHAT, GEMINI, MESSAGES, TEXT
from tests.support.exchanges import House, told_last, told_whole
from tests.support.relays import OPERATIONS, data_of, every, frames_of, zipped

PROTOCOL = pytest.mark.parametrize("protocol", list(REGISTRY), ids=lambda p: p.value)
PSEUDO = Conduct(pace=Pace())
JSON: Headers = [(b"content-type", b"application/json")]


@pytest.fixture
def pseudo() -> Any:
    with House(conduct=PSEUDO) as house:
        yield house


def folded(protocol: ProtocolId, stream: bytes) -> Any:
    """The body that it comes to."""
    assembler = REGISTRY[protocol].assembler(OPERATIONS[protocol])
    for name, data, _ in Scanner(1 << 24, Budget(1 << 28)).feed(stream):
        if data is not None:
            assembler.feed(name, data)
    return json.loads(assembler.body())


def sized(protocol: ProtocolId) -> tuple[bytes, Headers]:
    data = ANSWERS[protocol].json
    return data, [*JSON, (b"content-length", b"%d" % len(data)), *NAMED]


@PROTOCOL
def test_the_client_gets_the_stream_and_the_record_its_account(pseudo: House, protocol: ProtocolId) -> None:
    asker, ask = pseudo.stream(protocol)
    data, headers = sized(protocol)
    ask.answer(200, headers).body(*every(data, 50))
    assert asker.reply.status is None
    ask.end()
    pseudo.loop.settle()
    reply = asker.reply
    assert (reply.status, reply.over, reply.length) == (200, "ended", None)
    assert (reply.header(b"content-type"), reply.header(b"x-accel-buffering")) == (b"text/event-stream", b"no")
    assert reply.header(b"content-length") is None
    kept_headers(reply)
    assert folded(protocol, reply.body) == ANSWERS[protocol].body
    row = pseudo.row()
    assert (row.outcome, row.streamed, row.status, row.bytes_out) == ("COMPLETE", True, 200, len(reply.body))
    assert (row.input_tokens, row.output_tokens) == ANSWERS[protocol].usage
    assert row.cause == "the whole body, told as a stream"
    pseudo.check_quiet()


def test_words_are_the_pieces_and_all_goes_at_once(pseudo: House) -> None:
    asker, ask = pseudo.stream(MESSAGES)
    ask.answer_json(ANSWERS[MESSAGES].body)
    pieces = [json.loads(data_of(frame)[1])["delta"].get("text") for frame in frames_of(asker.reply.body) if b"content_block_delta" in frame]
    assert "".join(pieces) == TEXT
    assert len(pieces) == 3
    assert asker.reply.over == "ended"


def test_a_pace_is_kept(pseudo: House) -> None:
    with House(conduct=Conduct(pace=Pace(4, 0.5))) as house:
        asker, ask = house.stream(MESSAGES)
        ask.answer_json(ANSWERS[MESSAGES].body)
        for number in range(1, 5):
            assert asker.reply.body.count(b"event: content_block_delta") == number
            assert asker.reply.over is None
            house.loop.wait(0.5)
        house.loop.wait(0.5)
        assert asker.reply.over == "ended"
        assert folded(MESSAGES, asker.reply.body) == ANSWERS[MESSAGES].body
        assert house.row().duration_ms == pytest.approx(2000, abs=600)  # pyright: ignore[reportUnknownMemberType]
        house.check_quiet()


@pytest.mark.parametrize("asked", [True, False])
def test_the_frame_of_usage_is_told_to_who_asked_for_it(pseudo: House, asked: bool) -> None:
    asker, ask = pseudo.stream(CHAT, **({} if asked else {"stream_options": None}))
    ask.answer_json(ANSWERS[CHAT].body)
    assert (b'"usage":{' in asker.reply.body.replace(b" ", b"")) is asked
    assert asker.reply.body.endswith(b"data: [DONE]\n\n")
    assert pseudo.row().output_tokens == 4


def test_an_array_is_told_as_one(pseudo: House) -> None:
    asker = pseudo.post("/v1beta/models/m:streamGenerateContent", {"contents": []})
    assert pseudo.last.target == b"/v1beta/models/m:generateContent"
    pseudo.last.answer_json(ANSWERS[GEMINI].body)
    assert asker.reply.header(b"content-type") == b"application/json"
    parts = [part["text"] for element in asker.reply.json() for part in element["candidates"][0]["content"]["parts"]]
    assert "".join(parts) == TEXT
    pseudo.check_quiet()


def test_a_gzipped_body_is_one_too(pseudo: House) -> None:
    asker, ask = pseudo.stream(MESSAGES)
    ask.answer(200, [*JSON, (b"content-encoding", b"gzip")]).body(*every(zipped(ANSWERS[MESSAGES].json), 9)).end()
    assert folded(MESSAGES, asker.reply.body) == ANSWERS[MESSAGES].body
    assert asker.reply.header(b"content-encoding") is None


def test_a_provider_that_streams_all_the_same_is_passed_on(pseudo: House) -> None:
    asker, ask = pseudo.stream(MESSAGES)
    ask.answer().body(ANSWERS[MESSAGES].stream).end()
    assert asker.reply.body == ANSWERS[MESSAGES].stream
    pseudo.check_quiet()


# While it is waited for


@PROTOCOL
@pytest.mark.parametrize("head", [True, False], ids=["head", "no head"])
def test_a_client_that_waits_is_kept_alive(protocol: ProtocolId, head: bool) -> None:
    still = REGISTRY[protocol].keepalive
    with House(conduct=replace(PSEUDO, early_head=2.0, keepalive=1.0)) as house:
        asker, ask = house.stream(protocol)
        data, headers = sized(protocol)
        if head:
            ask.answer(200, headers).body(data[:10])
        house.loop.wait(2.2)
        assert (asker.reply.status, asker.reply.body) == (200, still)
        assert asker.reply.header(b"content-type") == b"text/event-stream"
        house.loop.wait(2.0)
        assert asker.reply.body == still * 3
        if not head:
            ask.answer(200, headers).body(data[:10])
        house.loop.wait(1.1)
        assert asker.reply.body == still * 4
        ask.body(data[10:])
        if ask.live:
            ask.end()
        house.loop.settle()
        assert asker.reply.body.startswith(still * 4)
        assert folded(protocol, asker.reply.body.removeprefix(still * 4)) == ANSWERS[protocol].body
        assert (asker.reply.over, house.row().outcome, house.row().bytes_out) == ("ended", "COMPLETE", len(asker.reply.body))
        house.check_quiet()


@PROTOCOL
@pytest.mark.parametrize("early", [True, False], ids=["told in band", "a status"])
@pytest.mark.parametrize("how", ["eof", "reset", "garbage", "page", "error"])
def test_what_fails_is_told_in_the_shape_that_is_left(protocol: ProtocolId, early: bool, how: str) -> None:
    with House(conduct=replace(PSEUDO, early_head=1.0, keepalive=None)) as house:
        asker, ask = house.stream(protocol)
        data, headers = sized(protocol)
        ask.answer(200, headers if how in ("eof", "reset") else [(b"content-type", b"application/json")])
        if early:
            house.loop.wait(1.2)
            assert asker.reply.status == 200
        match how:
            case "eof":
                ask.body(data[:30]).end()
            case "reset":
                ask.body(data[:30]).lose()
            case "garbage":
                ask.body(data[:-3]).end()
            case "page":
                ask.body(b"<html>busy</html>").end()
            case _:
                ask.body(b'{"error":{"message":"busy","type":"overloaded_error","code":503,"status":"UNAVAILABLE"},"type":"error"}').end()
        if early:
            told_last(protocol, asker.reply)
        else:
            assert (asker.reply.status or 0) >= 500
            told_whole(protocol, asker.reply)
        assert house.row().outcome in ("UPSTREAM_ERROR", "UPSTREAM_LOST", "TRUNCATED")
        house.check_quiet()


@pytest.mark.parametrize("early", [True, False])
def test_a_status_is_told_too(early: bool) -> None:
    body = {"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}}
    with House(conduct=replace(PSEUDO, early_head=1.0)) as house:
        asker, ask = house.stream(MESSAGES)
        if early:
            house.loop.wait(1.2)
        ask.answer_json(body, 429)
        if early:
            assert told_last(MESSAGES, asker.reply)["message"] == "slow"
        else:
            assert (asker.reply.status, asker.reply.json()) == (429, body)
        house.check_quiet()


def test_a_body_beyond_the_limit_is_given_up_with_the_cause() -> None:
    with House(Settings(limits=Limits(body=100)), conduct=PSEUDO) as house:
        asker, ask = house.stream(MESSAGES)
        ask.answer(200, JSON).body(ANSWERS[MESSAGES].json)
        assert (asker.reply.status, ask.cancelled) == (502, True)
        assert "larger than the 100 bytes" in told_whole(MESSAGES, asker.reply)["message"]
        assert house.row().outcome == "CUT"
        house.check_quiet()


def test_a_stall_is_504() -> None:
    with House(conduct=replace(PSEUDO, timers=Timers(first_content=60.0, idle=3.0))) as house:
        asker, ask = house.stream(MESSAGES)
        ask.answer(200, JSON).body(b"{")
        house.loop.wait(3.3)
        assert (asker.reply.status, ask.cancelled, house.row().timer) == (504, True, "idle")
        house.check_quiet()


def test_before_the_body_begins_another_try_is_possible() -> None:
    with House(conduct=replace(PSEUDO, retries=Retries(first_frame=1))) as house:
        asker, ask = house.stream(MESSAGES)
        ask.answer(200, JSON).lose()
        house.loop.wait(1.0)
        house.last.answer_json(ANSWERS[MESSAGES].body)
        assert (len(house.asks), asker.reply.over) == (2, "ended")
        house.check_quiet()


# While it is told

LONG = {**ANSWERS[MESSAGES].body, "content": [{"type": "text", "text": "word " * 30_000}]}


def test_a_client_that_reads_slowly_is_waited_for(pseudo: House) -> None:
    asker, ask = pseudo.stream(MESSAGES)
    pseudo.run(asker.handler.client_paused)
    ask.answer(200, JSON).body(json.dumps(LONG).encode())
    ask.end()
    pseudo.loop.wait(5.0)
    assert asker.reply.body == b""
    pseudo.run(asker.handler.client_resumed)
    while asker.reply.over is None:
        pseudo.loop.settle()
    assert folded(MESSAGES, asker.reply.body) == LONG
    assert asker.reply.over == "ended"
    pseudo.check_quiet()


def test_a_long_answer_goes_in_portions_and_others_have_their_turn_in_between(pseudo: House) -> None:
    asker, ask = pseudo.stream(MESSAGES)
    sizes: list[int] = []
    write = asker.reply.write

    def noted(data: bytes) -> None:
        sizes.append(len(data))
        write(data)

    asker.reply.write = noted  # pyright: ignore[reportAttributeAccessIssue]
    ask.answer(200, JSON).body(json.dumps(LONG).encode()).end()
    pseudo.loop.settle()
    while asker.reply.over is None:
        pseudo.loop.settle()
    assert len(sizes) > 5
    assert max(sizes) < 2 * PORTION
    pseudo.check_quiet()


def test_a_client_that_never_reads_is_given_up() -> None:
    with House(conduct=replace(PSEUDO, timers=Timers(client_stall=3.0))) as house:
        asker, ask = house.stream(MESSAGES)
        house.run(asker.handler.client_paused)
        ask.answer_json(ANSWERS[MESSAGES].body)
        house.loop.wait(3.3)
        assert (asker.reply.over, house.row().timer) == ("aborted", "client_stall")
        house.check_quiet()


@pytest.mark.parametrize("conduct", ["cancel", "drain"])
@pytest.mark.parametrize("paused", [True, False])
def test_a_client_that_leaves_while_it_is_told_is_gone(conduct: Any, paused: bool) -> None:
    with House(conduct=replace(PSEUDO, pace=Pace(1, 1.0), on_disconnect=conduct)) as house:
        asker, ask = house.stream(MESSAGES)
        ask.answer_json(ANSWERS[MESSAGES].body)
        house.loop.wait(2.0)
        if paused:
            house.run(asker.handler.client_paused)
            house.loop.wait(2.0)
        asker.leave()
        row = house.row()
        assert (row.outcome, row.output_tokens, row.stop_reason) == ("CLIENT_GONE", 4, "end_turn")
        told = len(asker.reply.body)
        house.loop.wait(30.0)
        assert len(asker.reply.body) == told
        house.check_quiet()


@pytest.mark.parametrize("conduct", ["cancel", "drain"])
def test_and_while_it_is_gathered(conduct: Any) -> None:
    with House(conduct=replace(PSEUDO, on_disconnect=conduct)) as house:
        asker, ask = house.stream(MESSAGES)
        data, headers = sized(MESSAGES)
        ask.answer(200, headers).body(data[:20])
        asker.leave()
        assert ask.cancelled is (conduct == "cancel")
        if ask.live:
            ask.body(data[20:]).end()
        assert (house.row().outcome, house.row().output_tokens) == ("CLIENT_GONE", None if conduct == "cancel" else 4)
        house.check_quiet()


def test_no_timer_of_the_provider_s_runs_while_it_is_told() -> None:
    with House(conduct=replace(PSEUDO, pace=Pace(4, 5.0), timers=Timers(first_content=2.0, idle=2.0, content=2.0), keepalive=2.0)) as house:
        asker, ask = house.stream(MESSAGES)
        ask.answer_json(ANSWERS[MESSAGES].body)
        house.loop.wait(26.0)
        assert (asker.reply.over, house.row().outcome) == ("ended", "COMPLETE")
        assert asker.reply.body.count(b"event: ping") >= 4
        house.check_quiet()


def test_the_gateway_may_be_stopped_while_it_is_told() -> None:
    with House(conduct=replace(PSEUDO, pace=Pace(1, 1.0))) as house:
        asker, ask = house.stream(MESSAGES)
        ask.answer_json(ANSWERS[MESSAGES].body)
        house.loop.wait(2.0)
        house.run(house.gateway.shut_down)
        told_last(MESSAGES, asker.reply)
        assert house.row().outcome == "SHUTDOWN"
        house.loop.wait(5.0)
        house.check_quiet()


def test_a_mistake_of_ours_while_it_is_told_ends_it_visibly(monkeypatch: pytest.MonkeyPatch) -> None:
    with House(conduct=replace(PSEUDO, pace=Pace(1, 1.0))) as house:
        asker, ask = house.stream(MESSAGES)
        ask.answer_json(ANSWERS[MESSAGES].body)
        house.loop.wait(2.0)

        def broken(frame: bytes) -> Any:
            raise RuntimeError("a bug")

        monkeypatch.setattr("penstock.pipeline.pseudo.parse", broken)
        house.loop.wait(2.0)
        told_last(MESSAGES, asker.reply)
        assert (house.row().outcome, house.row().ended_by) == ("UNVERIFIED", "gateway")
        house.check_quiet()


