"""What comes with 200 in the place of what was asked for, to clients that wait for a whole body or for a stream that is made of one: an answer in
another form is one, and nothing else ever has the status of one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from penstock.exchange.conduct import Conduct, Retries
from penstock.exchange.contract import Headers
from penstock.exchange.gateway import Settings
from penstock.pipeline.compose import Limits
from penstock.pipeline.pseudo import Pace
from penstock.pipeline.timers import Timers
from penstock.protocols import REGISTRY
from penstock.vocabulary.ids import ProtocolId
from tests.exchange.test_gathering import PROTOCOL, check_body
from tests.exchange.test_holding import NAMED, kept_headers
from tests.support.answers import ANSWERS, CHAT, GEMINI, MESSAGES, RESPONSES
from tests.support.exchanges import Asker, FakeAsk, House, told_last, told_whole
from tests.support.guards import REJECTING
from tests.support.relays import every, zipped

FORCE, PSEUDO = Conduct(nonstream="force"), Conduct(pace=Pace())
MODES = pytest.mark.parametrize("conduct", [FORCE, PSEUDO], ids=["force", "pseudo"])
ERROR_BODIES: dict[ProtocolId, tuple[Any, int]] = {
    CHAT: ({"error": {"message": "Slow down.", "type": "t", "code": "rate_limit_exceeded"}}, 429),
    RESPONSES: ({"error": {"message": "Slow down.", "type": "t", "code": "rate_limit_exceeded"}}, 429),
    MESSAGES: ({"type": "error", "error": {"type": "overloaded_error", "message": "Slow down."}}, 529),
    GEMINI: ({"error": {"code": 429, "message": "Slow down.", "status": "RESOURCE_EXHAUSTED"}}, 429),
}
NOTHING: dict[str, tuple[bytes, bytes, str]] = {
    "nothing": (b"", b"", "TRUNCATED"),
    "nothing, as JSON": (b"application/json", b"", "TRUNCATED"),
    "nothing, as a stream": (b"text/event-stream", b"", "TRUNCATED"),
    "white space": (b"application/json", b" \r\n\n", "TRUNCATED"),
    "words": (b"text/plain", b"Bad gateway", "UPSTREAM_ERROR"),
    "words, as JSON": (b"application/json", b"None", "UPSTREAM_ERROR"),
    "a page, as JSON": (b"application/json", b"<html><body>Log in</body></html>", "UPSTREAM_ERROR"),
    "a page": (b"text/html", b"<html><body>Log in</body></html>", "TRUNCATED"),
    "half a body": (b"application/json", b'{"id": "x", "choices": [{"ind', "UPSTREAM_ERROR"),
    "another object": (b"application/json", b'{"detail": "try later"}', "UPSTREAM_ERROR"),
    "another object, as words": (b"text/plain", b'\n{"detail": "try later"}', "UPSTREAM_ERROR"),
    "a list": (b"application/json", b"[1, 2]", "UPSTREAM_ERROR"),
    "words that begin like a stream": (b"text/plain", b"error: the model is down\n\n", "TRUNCATED"),
}
"""What it is said to be, what it is, and what the record calls it where a stream was asked for."""


def asked(house: House, protocol: ProtocolId) -> tuple[Asker, FakeAsk]:
    return house.whole(protocol) if house.gateway.conduct.pace is None else house.stream(protocol)


def typed(kind: bytes, *more: tuple[bytes, bytes]) -> Headers:
    return [*([(b"content-type", kind)] if kind else []), *NAMED, *more]


def given(ask: FakeAsk, kind: bytes, body: bytes, *more: tuple[bytes, bytes], size: int = 10_000) -> None:
    ask.answer(200, typed(kind, *more)).body(*every(body, size))
    if ask.live and not ask.cancelled:
        ask.end()


# Another form of the answer.


@PROTOCOL
@pytest.mark.parametrize("kind", [b"text/plain; charset=utf-8", b"application/octet-stream", b"application/json", b""])
@pytest.mark.parametrize("size", [1, 10_000])
def test_a_stream_is_known_by_its_bytes(protocol: ProtocolId, kind: bytes, size: int) -> None:
    with House(conduct=FORCE) as house:
        asker, ask = house.whole(protocol)
        given(ask, kind, b"\r\n: here it comes\n\n" + ANSWERS[protocol].stream, size=size)
        check_body(asker, protocol)
        kept_headers(asker.reply)
        assert (house.row().outcome, house.row().output_tokens) == ("COMPLETE", 4)
        house.check_quiet()


@PROTOCOL
@pytest.mark.parametrize("kind", [b"application/json", b"text/plain", b"text/event-stream", b""])
@pytest.mark.parametrize("gzip", [True, False], ids=["gzip", "plain"])
@pytest.mark.parametrize("size", [1, 10_000])
def test_a_body_is_passed_on_whole_and_with_its_length(protocol: ProtocolId, kind: bytes, gzip: bool, size: int) -> None:
    with House(conduct=FORCE) as house:
        asker, ask = house.whole(protocol)
        data = b" \n" + ANSWERS[protocol].json
        given(ask, kind, zipped(data) if gzip else data, *([(b"content-encoding", b"gzip")] if gzip else []), size=size)
        check_body(asker, protocol)
        assert protocol is GEMINI or asker.reply.body == ANSWERS[protocol].json, "byte for byte, unless it is a stream of one"
        assert asker.reply.header(b"content-encoding") is None
        row = house.row()
        assert (row.outcome, row.streamed, row.bytes_out) == ("COMPLETE", False, len(asker.reply.body))
        assert (row.input_tokens, row.output_tokens) == ANSWERS[protocol].usage
        assert protocol is GEMINI or row.cause == "the whole body, though a stream was asked for"
        house.check_quiet()


def test_an_answer_in_one_read_too() -> None:
    with House(conduct=FORCE) as house:
        asker, ask = house.whole(MESSAGES)
        ask.answer_json(ANSWERS[MESSAGES].body)
        check_body(asker, MESSAGES)
        assert house.row().ttft_ms is not None


# No answer.


@PROTOCOL
@MODES
@pytest.mark.parametrize("name", NOTHING)
@pytest.mark.parametrize("gzip", [True, False], ids=["gzip", "plain"])
def test_what_is_no_answer_is_502_with_the_cause(protocol: ProtocolId, conduct: Conduct, name: str, gzip: bool) -> None:
    kind, body, outcome = NOTHING[name]
    with House(conduct=conduct) as house:
        asker, ask = asked(house, protocol)
        if conduct is PSEUDO and b"event-stream" in kind:
            kind = b""
        given(ask, kind, zipped(body) if gzip else body, *([(b"content-encoding", b"gzip")] if gzip else []))
        assert asker.reply.status == 502
        told = told_whole(protocol, asker.reply)
        row = house.row()
        assert row.outcome in ("TRUNCATED", "UPSTREAM_ERROR")
        assert row.outcome == outcome or conduct is PSEUDO or protocol is GEMINI
        assert (row.status, row.upstream_status, row.ended_by) == (502, 200, "upstream")
        assert row.cause
        assert "Log in" not in told["message"]
        if kind != b"text/html":  # of pages, not even the headers
            kept_headers(asker.reply)
        house.check_quiet()


@pytest.mark.parametrize("name", ["words", "another object", "half a body", "nothing"])
def test_the_words_of_the_record_say_what_it_was(name: str) -> None:
    words = {
        "words": "neither a stream of events nor JSON", "another object": "no content", "half a body": "not a JSON object", "nothing": "first event",
    }  # fmt: skip
    with House(conduct=FORCE) as house:
        asker, ask = house.whole(MESSAGES)
        given(ask, *NOTHING[name][:2])
        assert words[name] in (house.row().cause or "")
        assert words[name] in told_whole(MESSAGES, asker.reply)["message"]


@PROTOCOL
@MODES
@pytest.mark.parametrize("kind", [b"application/json", b"text/plain"])
def test_an_error_has_its_own_status(protocol: ProtocolId, conduct: Conduct, kind: bytes) -> None:
    error, status = ERROR_BODIES[protocol]
    with House(conduct=conduct) as house:
        asker, ask = asked(house, protocol)
        given(ask, kind, json.dumps(error).encode())
        assert asker.reply.status == status
        assert told_whole(protocol, asker.reply)["message"] == "Slow down."
        kept_headers(asker.reply)
        row = house.row()
        assert (row.outcome, row.status, row.upstream_status, row.error_message) == ("UPSTREAM_ERROR", status, 200, "Slow down.")
        house.check_quiet()


@MODES
@pytest.mark.parametrize("kind", [b"application/json", b"text/event-stream", b"text/html", b"text/plain"])
def test_a_coding_that_nobody_asked_for_is_no_answer(conduct: Conduct, kind: bytes) -> None:
    if conduct is PSEUDO and kind == b"text/event-stream":
        return  # a stream, passed on as one
    with House(conduct=conduct) as house:
        asker, ask = asked(house, MESSAGES)
        given(ask, kind, b"\x0b\x02\x80", (b"content-encoding", b"br"))
        assert asker.reply.status == 502
        assert "'br'" in told_whole(MESSAGES, asker.reply)["message"]
        assert house.row().outcome == "UPSTREAM_ERROR"
        house.check_quiet()


@pytest.mark.parametrize("status", [204, 302])
def test_what_has_no_body_passes(status: int) -> None:
    with House(conduct=FORCE) as house:
        asker, ask = house.whole(MESSAGES)
        ask.answer(status, [(b"location", b"https://elsewhere.test/"), (b"content-length", b"0")]).end()
        assert (asker.reply.status, asker.reply.over, asker.reply.header(b"location")) == (status, "ended", b"https://elsewhere.test/")
        house.check_quiet()


def test_a_body_beyond_the_limit_is_given_up_with_the_cause() -> None:
    with House(Settings(limits=Limits(assembly=100)), conduct=FORCE) as house:
        asker, ask = house.whole(MESSAGES)
        ask.answer(200, typed(b"application/json")).body(ANSWERS[MESSAGES].json)
        assert (asker.reply.status, ask.cancelled) == (502, True)
        assert "larger than the 100 bytes" in told_whole(MESSAGES, asker.reply)["message"]
        assert (house.row().outcome, house.row().ended_by) == ("CUT", "gateway")
        house.check_quiet()


def test_words_without_an_end_are_given_up_at_once() -> None:
    with House(conduct=FORCE) as house:
        asker, ask = house.whole(MESSAGES)
        ask.answer(200, typed(b"text/plain")).body(b"Bad gateway")
        assert (asker.reply.status, ask.cancelled) == (502, True)
        house.check_quiet()


def test_a_guard_judges_a_body_that_comes_in_the_place_of_a_stream() -> None:
    message = {"role": "assistant", "content": "4111 1111 1111 1111"}
    body = {**ANSWERS[CHAT].body, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    with House(conduct=replace(FORCE, guards=REJECTING)) as house:
        asker, ask = house.whole(CHAT)
        given(ask, b"application/json", json.dumps(body).encode())
        assert asker.reply.status == 403
        assert "4111" not in asker.reply.body.decode()
        assert house.row().outcome == "CUT"
        house.check_quiet()


# Who leaves, what breaks, and who tries again.


@pytest.mark.parametrize("body", [b"", b'{"id": "msg', b"data: {"])
def test_a_client_that_leaves_cancels_the_provider(body: bytes) -> None:
    with House(conduct=FORCE) as house:
        asker, ask = house.whole(MESSAGES)
        ask.answer(200, typed(b"application/json")).body(body)
        asker.leave()
        assert (ask.cancelled, house.row().outcome) == (True, "CLIENT_GONE")
        house.check_quiet()


def test_or_it_is_read_on_for_its_usage() -> None:
    with House(conduct=replace(FORCE, on_disconnect="drain")) as house:
        asker, ask = house.whole(MESSAGES)
        ask.answer(200, typed(b"application/json")).body(ANSWERS[MESSAGES].json[:20])
        asker.leave()
        assert not ask.cancelled
        ask.body(ANSWERS[MESSAGES].json[20:]).end()
        assert (house.row().outcome, house.row().output_tokens, house.row().stop_reason) == ("CLIENT_GONE", 4, "end_turn")
        house.check_quiet()


@pytest.mark.parametrize("body", [b"", b'{"id": "msg'])
def test_a_connection_that_breaks_is_502(body: bytes) -> None:
    with House(conduct=FORCE) as house:
        asker, ask = house.whole(MESSAGES)
        ask.answer(200, typed(b"application/json")).body(body).lose()
        assert (asker.reply.status, house.row().outcome) == (502, "UPSTREAM_LOST")
        told_whole(MESSAGES, asker.reply)
        house.check_quiet()


@PROTOCOL
@MODES
@pytest.mark.parametrize("how", ["nothing", "an error", "a reset"])
def test_before_anything_of_an_answer_another_try_is_possible(protocol: ProtocolId, conduct: Conduct, how: str) -> None:
    with House(conduct=replace(conduct, retries=Retries(first_frame=1))) as house:
        asker, ask = asked(house, protocol)
        if how == "a reset":
            ask.answer(200, typed(b"application/json")).lose()
        else:
            given(ask, b"application/json", b"" if how == "nothing" else json.dumps(ERROR_BODIES[protocol][0]).encode())
        house.loop.wait(1.0)
        if how == "an error" and (conduct.pace is not None or protocol is not GEMINI):
            # It is known as one at its end only, and its request has been let go by then.
            assert (len(house.asks), asker.reply.status) == (1, ERROR_BODIES[protocol][1])
        else:
            assert len(house.asks) == 2
            house.last.answer_json(ANSWERS[protocol].body)
            house.loop.wait(1.0)
            assert (asker.reply.status, asker.reply.over, house.row().retries) == (200, "ended", 1)
        house.check_quiet()


@pytest.mark.parametrize("name", NOTHING)
def test_behind_an_early_head_it_is_told_in_band(name: str) -> None:
    kind, body, _ = NOTHING[name]
    if b"event-stream" in kind:
        return
    with House(conduct=replace(PSEUDO, early_head=1.0, keepalive=None)) as house:
        asker, ask = house.stream(MESSAGES)
        house.loop.wait(1.2)
        assert asker.reply.status == 200
        given(ask, kind, body)
        told_last(MESSAGES, asker.reply)
        house.check_quiet()


def test_the_timers_are_those_of_a_body() -> None:
    with House(conduct=replace(FORCE, timers=Timers(first_content=60.0, idle=3.0, content=1.0))) as house:
        asker, ask = house.whole(MESSAGES)
        ask.answer(200, typed(b"application/json")).body(b"{")
        house.loop.wait(2.0)
        assert asker.reply.status is None
        house.loop.wait(1.3)
        assert (asker.reply.status, ask.cancelled, house.row().timer) == (504, True, "idle")
        house.check_quiet()


def test_after_a_refusal_to_answer_without_streaming_nothing_else_is_an_answer_either() -> None:
    words = "Streaming is required for operations that may take longer than 10 minutes"
    with House(conduct=Conduct(nonstream="retry")) as house:
        asker, ask = house.whole(MESSAGES)
        ask.answer_json({"type": "error", "error": {"type": "api_error", "message": words}}, 500)
        assert len(house.asks) == 2
        given(house.last, b"application/json", b'{"detail": "no"}')
        assert asker.reply.status == 502
        house.check_quiet()


def test_every_protocol_is_here() -> None:
    assert set(ERROR_BODIES) == set(REGISTRY)
