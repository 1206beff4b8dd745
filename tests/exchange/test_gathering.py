"""A stream put together for a client that wants a body: all of it with a true status, or an error with one; never half."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from penstock.exchange.conduct import Conduct, Retries
from penstock.exchange.contract import Headers
from penstock.exchange.gateway import Settings
from penstock.pipeline.compose import Limits
from penstock.pipeline.timers import Timers
from penstock.protocols import REGISTRY
from penstock.vocabulary.ids import ProtocolId
from tests.exchange.test_holding import ERRORS, NAMED, kept_headers
from tests.laws.talk import sse
from tests.support.answers import ANSWERS, CHAT, MESSAGES
from tests.support.exchanges import SSE, Asker, FakeAsk, House, told_whole
from tests.support.relays import every, zipped

PROTOCOL = pytest.mark.parametrize("protocol", list(REGISTRY), ids=lambda p: p.value)
FORCE = Conduct(nonstream="force")


@pytest.fixture
def forced() -> Any:
    with House(conduct=FORCE) as house:
        yield house


def check_body(asker: Asker, protocol: ProtocolId) -> None:
    reply = asker.reply
    assert (reply.status, reply.over, reply.length) == (200, "ended", len(reply.body))
    assert reply.header(b"content-type") == b"application/json"
    assert reply.json() == ANSWERS[protocol].body


@PROTOCOL
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_the_client_gets_the_body_that_it_would_have_had(forced: House, protocol: ProtocolId, size: int) -> None:
    asker, ask = forced.whole(protocol)
    ask.answer(200, [*SSE, *NAMED, (b"x-accel-buffering", b"no")])
    for piece in every(ANSWERS[protocol].stream, size):
        assert asker.reply.status is None, "nothing before the end"
        ask.body(piece)
    if ask.live:
        ask.end()
    check_body(asker, protocol)
    kept_headers(asker.reply)
    assert asker.reply.header(b"x-penstock-id") is not None
    assert asker.reply.header(b"transfer-encoding") is None
    row = forced.row()
    assert (row.outcome, row.status, row.upstream_status, row.streamed, row.retries) == ("COMPLETE", 200, 200, False, 0)
    assert (row.input_tokens, row.output_tokens) == ANSWERS[protocol].usage
    assert row.bytes_out == len(asker.reply.body)
    assert (row.cause or "").endswith("; the stream was put together to a body")
    forced.loop.wait(3.0)
    forced.check_quiet()


def test_the_terminal_event_is_enough_and_the_connection_may_linger(forced: House) -> None:
    asker, ask = forced.whole(MESSAGES)
    ask.answer().body(ANSWERS[MESSAGES].stream)
    check_body(asker, MESSAGES)
    assert not ask.cancelled
    ask.end()
    forced.check_quiet()

    asker, ask = forced.whole(MESSAGES)
    ask.answer().body(ANSWERS[MESSAGES].stream + b": behind it\n\n")
    ask.body(sse({"type": "ping"}, "ping"))
    forced.loop.wait(2.3)
    assert ask.cancelled
    forced.check_quiet()


def test_a_gzipped_stream_is_one_too(forced: House) -> None:
    asker, ask = forced.whole(MESSAGES)
    ask.answer(200, [*SSE, (b"content-encoding", b"gzip")]).body(*every(zipped(ANSWERS[MESSAGES].stream), 11))
    check_body(asker, MESSAGES)
    assert asker.reply.header(b"content-encoding") is None


def test_a_provider_that_answers_with_the_body_all_the_same_is_passed_on(forced: House) -> None:
    asker, ask = forced.whole(MESSAGES)
    ask.answer_json(ANSWERS[MESSAGES].body)
    assert asker.reply.body == ANSWERS[MESSAGES].json
    assert forced.row().outcome == "COMPLETE"
    forced.check_quiet()


@PROTOCOL
def test_no_head_goes_out_early_and_no_keep_alive(protocol: ProtocolId) -> None:
    with House(conduct=replace(FORCE, early_head=1.0, keepalive=1.0)) as house:
        asker, ask = house.whole(protocol)
        house.loop.wait(5.0)
        ask.answer().body(ANSWERS[protocol].frames[0])
        house.loop.wait(5.0)
        assert (asker.reply.status, asker.reply.body) == (None, b"")
        ask.body(*ANSWERS[protocol].frames[1:])
        if ask.live:
            ask.end()
        check_body(asker, protocol)


# Failures. Each is the whole answer, with its status, in the client's shape.

_START = b"".join(ANSWERS[MESSAGES].frames[:2])
_TOOL = b"".join([
    ANSWERS[MESSAGES].frames[0],
    sse({"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}}},
        "content_block_start"),
    sse({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"a": '}}, "content_block_delta"),
    sse({"type": "content_block_stop", "index": 0}, "content_block_stop"),
    *ANSWERS[MESSAGES].frames[-2:],
])  # fmt: skip


def _error(kind: str) -> bytes:
    return sse({"type": "error", "error": {"type": kind, "message": "the provider's words"}}, "error")


FAILURES: dict[str, tuple[Callable[[FakeAsk], Any], int, str, str]] = {
    "eof": (lambda ask: ask.body(_START).end(), 502, "TRUNCATED", "terminal event"),
    "eof at once": (lambda ask: ask.end(), 502, "TRUNCATED", "before its first event"),
    "eof inside a frame": (lambda ask: ask.body(_START + b"event: mess").end(), 502, "TRUNCATED", "inside a frame"),
    "reset": (lambda ask: ask.body(_START).lose(), 502, "UPSTREAM_LOST", "reset"),
    "no json": (lambda ask: ask.body(_TOOL), 502, "UPSTREAM_ERROR", "JSON"),
    "out of order": (lambda ask: ask.body(_START + ANSWERS[MESSAGES].frames[0] + ANSWERS[MESSAGES].stream), 502, "UPSTREAM_ERROR", "put together"),
    **{kind: (lambda ask, kind=kind: ask.body(_START + _error(kind)), status, "UPSTREAM_ERROR", "the provider's words") for kind, status in {
        "overloaded_error": 529, "rate_limit_error": 429, "api_error": 500, "invalid_request_error": 400, "authentication_error": 401,
        "permission_error": 403, "not_found_error": 404, "request_too_large": 413, "timeout_error": 504, "billing_error": 402, "new_error": 502,
    }.items()},
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_what_fails_has_its_own_status(forced: House, name: str) -> None:
    play, status, outcome, word = FAILURES[name]
    asker, ask = forced.whole(MESSAGES)
    play(ask.answer(200, [*SSE, *NAMED]))
    if ask.live and not ask.cancelled:
        ask.end()
    assert asker.reply.status == status
    error = told_whole(MESSAGES, asker.reply)
    kept_headers(asker.reply)
    row = forced.row()
    assert (row.outcome, row.status) == (outcome, status)
    assert word in error["message"]
    if name.endswith("_error"):
        assert error["type"] == name
    if name == "no json":
        assert (row.stop_reason, row.output_tokens) == ("end_turn", 4), "it is read to its end for its account"
    forced.loop.wait(3.0)
    forced.check_quiet()


@PROTOCOL
def test_an_error_event_is_an_error_in_every_protocol(forced: House, protocol: ProtocolId) -> None:
    frame, status = ERRORS[protocol]
    asker, ask = forced.whole(protocol)
    ask.answer(200, [*SSE, *NAMED]).body(ANSWERS[protocol].frames[0], frame)
    assert asker.reply.status == status
    assert told_whole(protocol, asker.reply)["message"] == "Slow down."
    assert ask.cancelled
    assert forced.row().outcome == "UPSTREAM_ERROR"
    forced.check_quiet()


@PROTOCOL
@pytest.mark.parametrize("how", ["eof", "reset"])
def test_half_an_answer_is_none_in_any_protocol(forced: House, protocol: ProtocolId, how: str) -> None:
    asker, ask = forced.whole(protocol)
    ask.answer().body(*ANSWERS[protocol].frames[:1])
    ask.end() if how == "eof" else ask.lose()
    assert asker.reply.status == 502
    told_whole(protocol, asker.reply)
    forced.check_quiet()


def test_an_assembly_beyond_its_limit_is_given_up_with_the_cause() -> None:
    with House(Settings(limits=Limits(assembly=2000)), conduct=FORCE) as house:
        asker, ask = house.whole(MESSAGES)
        ask.answer().body(_START)
        for _ in range(100):
            if ask.cancelled:
                break
            ask.body(sse({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x" * 100}}, "content_block_delta"))
        assert ask.cancelled
        assert asker.reply.status == 502
        assert "larger than the 2000 bytes that may be held of it" in told_whole(MESSAGES, asker.reply)["message"]
        assert (house.row().outcome, house.row().ended_by) == ("CUT", "gateway")
        house.check_quiet()


def test_all_assemblies_together_share_one_budget() -> None:
    with House(conduct=FORCE, held=6000) as house:
        first, one = house.whole(MESSAGES)
        second, other = house.whole(MESSAGES)
        delta = sse({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x" * 900}}, "content_block_delta")
        one.answer().body(_START, *[delta] * 4)
        other.answer().body(_START, *[delta] * 4)
        assert (first.reply.status, second.reply.status) == (None, 502)
        assert "as many bytes of answers as it may" in told_whole(MESSAGES, second.reply)["message"]
        one.body(*ANSWERS[MESSAGES].frames[-3:])
        assert first.reply.status == 200
        one.end()
        house.check_quiet()


def test_gzip_that_is_none_is_a_broken_answer(forced: House) -> None:
    asker, ask = forced.whole(MESSAGES)
    ask.answer(200, [*SSE, (b"content-encoding", b"gzip")]).body(b"no gzip at all")
    assert (asker.reply.status, ask.cancelled) == (502, True)
    assert "gzip" in told_whole(MESSAGES, asker.reply)["message"]
    forced.check_quiet()


# Time

WAITS: dict[str, tuple[list[bytes], bytes]] = {
    "first_content": (list(ANSWERS[MESSAGES].frames[:2]), sse({"type": "ping"}, "ping")),
    "idle": (list(ANSWERS[MESSAGES].frames[:4]), b""),
    "content": (list(ANSWERS[MESSAGES].frames[:4]), sse({"type": "ping"}, "ping")),
    "tool_call": ([ANSWERS[MESSAGES].frames[0], _TOOL[len(ANSWERS[MESSAGES].frames[0]) : _TOOL.index(b"event: content_block_stop")]],
                  sse({"type": "ping"}, "ping")),
}  # fmt: skip


@pytest.mark.parametrize("timer", WAITS)
def test_the_timers_hold_while_it_is_gathered_and_a_stall_is_504(timer: str) -> None:
    timers = Timers(**{**dict.fromkeys(("first_content", "idle", "content", "tool_call"), 60.0), timer: 3.0})
    with House(conduct=replace(FORCE, timers=timers)) as house:
        asker, ask = house.whole(MESSAGES)
        frames, still = WAITS[timer]
        ask.answer(200, [*SSE, *NAMED]).body(*frames)
        for _ in range(20):
            if ask.cancelled:
                break
            house.loop.wait(0.5)
            if still and not ask.cancelled:
                ask.body(still)
        assert ask.cancelled
        assert asker.reply.status == 504
        assert told_whole(MESSAGES, asker.reply)["type"] == "timeout_error"
        kept_headers(asker.reply)
        row = house.row()
        assert (row.outcome, row.timer, row.status) == ("TIMED_OUT", timer, 504)
        house.check_quiet()


@PROTOCOL
def test_607_seconds_with_a_frame_every_100_pass(protocol: ProtocolId) -> None:
    """With every timer at its default."""
    with House(conduct=FORCE) as house:
        asker, ask = house.whole(protocol)
        frames = ANSWERS[protocol].frames
        pieces = [*[b": still here\n\n"] * (7 - len(frames)), *frames[:6], b"".join(frames[6:])] if len(frames) != 7 else list(frames)
        pieces = [piece for piece in pieces if piece]
        assert len(pieces) == 7
        house.loop.wait(7.0)
        ask.answer()
        for number, piece in enumerate(pieces):
            if number:
                house.loop.wait(100.0, 0.5)
            assert ask.live, number
            ask.body(piece)
        if ask.live:
            ask.end()
        check_body(asker, protocol)
        assert house.book.settled[0].duration_ms == pytest.approx(607_000, abs=200)  # pyright: ignore[reportUnknownMemberType]


# Who leaves, and who tries again


@pytest.mark.parametrize("frames", [0, 1, 5])
def test_a_client_that_leaves_cancels_the_provider(forced: House, frames: int) -> None:
    asker, ask = forced.whole(MESSAGES)
    ask.answer().body(*ANSWERS[MESSAGES].frames[:frames])
    asker.leave()
    assert ask.cancelled
    row = forced.row()
    assert (row.outcome, row.input_tokens) == ("CLIENT_GONE", 3 if frames else None)
    forced.check_quiet()


def test_or_it_is_read_on_for_its_usage() -> None:
    with House(conduct=replace(FORCE, on_disconnect="drain")) as house:
        asker, ask = house.whole(MESSAGES)
        ask.answer().body(*ANSWERS[MESSAGES].frames[:3])
        asker.leave()
        assert not ask.cancelled
        ask.body(*ANSWERS[MESSAGES].frames[3:])
        row = house.row()
        assert (row.outcome, row.output_tokens, row.stop_reason) == ("CLIENT_GONE", 4, "end_turn")
        assert asker.reply.status is None
        house.check_quiet()

        asker, ask = house.whole(MESSAGES)
        asker.leave()
        ask.answer().body(ANSWERS[MESSAGES].stream)
        assert house.book.settled[-1].output_tokens == 4
        house.check_quiet()


@pytest.mark.parametrize("how", ["eof", "error", "reset"])
def test_before_its_first_event_another_try_is_possible(how: str) -> None:
    with House(conduct=replace(FORCE, retries=Retries(first_frame=1))) as house:
        asker, ask = house.whole(MESSAGES)
        ask.answer()
        {"eof": ask.end, "reset": ask.lose, "error": lambda: ask.body(_error("overloaded_error"))}[how]()
        house.loop.wait(1.0)
        assert len(house.asks) == 2
        assert json.loads(house.last.sent_body)["stream"] is True
        house.last.answer().body(ANSWERS[MESSAGES].stream).end()
        check_body(asker, MESSAGES)
        assert house.row().retries == 1
        house.check_quiet()


@pytest.mark.parametrize("how", ["eof", "error", "reset"])
def test_and_behind_it_not(how: str) -> None:
    with House(conduct=replace(FORCE, retries=Retries(first_frame=3))) as house:
        asker, ask = house.whole(MESSAGES)
        ask.answer().body(ANSWERS[MESSAGES].frames[0])
        assert house.gateway.peeked.used == 0, "so its request is let go"
        {"eof": ask.end, "reset": ask.lose, "error": lambda: ask.body(_error("overloaded_error"))}[how]()
        house.loop.wait(20.0)
        assert len(house.asks) == 1
        assert asker.reply.status == (529 if how == "error" else 502)
        house.check_quiet()


def test_a_status_is_passed_on_as_it_came(forced: House) -> None:
    body: dict[str, Any] = {"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}, "request_id": "req_1"}
    asker, ask = forced.whole(MESSAGES)
    ask.answer_json(body, 429)
    assert (asker.reply.status, asker.reply.json()) == (429, body)
    assert len(forced.asks) == 1
    forced.check_quiet()


def test_the_gateway_may_be_stopped_meanwhile(forced: House) -> None:
    asker, ask = forced.whole(MESSAGES)
    ask.answer().body(_START)
    forced.run(forced.gateway.shut_down)
    assert (asker.reply.status, asker.reply.header(b"retry-after"), ask.cancelled) == (503, b"1", True)
    assert forced.row().outcome == "SHUTDOWN"
    forced.check_quiet()


def test_chat_without_done_is_whole_where_that_is_known() -> None:
    headers: Headers = SSE
    for terminal, status in (("event", 502), ("finish_reason", 200)):
        with House(conduct=replace(FORCE, terminal=terminal)) as house:
            asker, ask = house.whole(CHAT)
            ask.answer(200, headers).body(*ANSWERS[CHAT].frames[:-1]).end()
            assert asker.reply.status == status
            house.check_quiet()


def test_and_where_the_provider_stays_connected_behind_it() -> None:
    with House(conduct=replace(FORCE, terminal="finish_reason")) as house:
        asker, ask = house.whole(CHAT)
        ask.answer(200, SSE).body(*ANSWERS[CHAT].frames[:-1])
        house.until(lambda: asker.reply.over, 20.0)
        assert (asker.reply.status, asker.reply.over, ask.cancelled) == (200, "ended", True)
        assert house.row().outcome == "COMPLETE"
        house.check_quiet()
