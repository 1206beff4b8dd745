"""A client that leaves: what becomes of the provider's answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from penstock.exchange.conduct import Conduct, Retries
from penstock.exchange.contract import Headers
from penstock.exchange.gateway import LOOK
from penstock.pipeline.timers import Timers
from penstock.protocols import REGISTRY
from penstock.upstream.contract import LossKind
from penstock.vocabulary.ids import ProtocolId
from tests.laws.talk import DIALECTS, Dialect, sse
from tests.support.exchanges import CHUNK, DONE, SSE, STOP, USAGE, Asker, FakeAsk, House
from tests.support.relays import zipped

EACH = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.protocol.value)
PROTOCOL = pytest.mark.parametrize("protocol", list(REGISTRY), ids=lambda p: p.value)
CHAT = ProtocolId.OPENAI_CHAT
JSON: Headers = [(b"content-type", b"application/json")]
ENDS: dict[ProtocolId, bytes] = {
    CHAT: STOP + USAGE + DONE,
    ProtocolId.OPENAI_RESPONSES: sse(
        {"type": "response.completed", "response": {"id": "r", "status": "completed", "usage": {"input_tokens": 3, "output_tokens": 2}}},
        "response.completed",
    ),
    ProtocolId.ANTHROPIC_MESSAGES: sse(
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}, "message_delta"
    ) + sse({"type": "message_stop"}, "message_stop"),
    ProtocolId.GEMINI: sse(
        {"candidates": [{"finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2}}
    ),
}  # fmt: skip
"""How a stream goes on to its end, with what it used: 3 in, 2 out."""
BODIES: dict[ProtocolId, dict[str, Any]] = {
    CHAT: {"id": "x", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
    ProtocolId.OPENAI_RESPONSES: {"id": "x", "usage": {"input_tokens": 3, "output_tokens": 2}},
    ProtocolId.ANTHROPIC_MESSAGES: {"type": "message", "usage": {"input_tokens": 3, "output_tokens": 2}},
    ProtocolId.GEMINI: {"candidates": [], "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2}},
}


def draining(seconds: float | None = 60.0, tokens: int | None = None, **more: Any) -> House:
    return House(conduct=Conduct(on_disconnect="drain", drain_seconds=seconds, drain_tokens=tokens, **more))


def gone(house: House, asker: Asker, ask: FakeAsk, used: tuple[int | None, int | None] | None = (3, 2)) -> None:
    """It is over, as the client's doing, with what was used."""
    row = house.row()
    assert (row.outcome, row.ended_by, row.timer) == ("CLIENT_GONE", "client", None)
    if used is not None:
        assert (row.input_tokens, row.output_tokens) == used
    assert not ask.live
    assert asker.reply.over is None
    house.check_quiet()


@PROTOCOL
@pytest.mark.parametrize("stage", ["dialing", "head", "streaming"])
def test_by_default_the_provider_is_cancelled(house: House, protocol: ProtocolId, stage: str) -> None:
    dialect = next(d for d in DIALECTS if d.protocol is protocol)
    for ask_it in (house.stream, house.whole):
        asker, ask = ask_it(protocol)
        if stage != "dialing":
            ask.answer(200, SSE if ask_it == house.stream else JSON)
        if stage == "streaming":
            ask.body(dialect.head())
        asker.leave()
        assert ask.cancelled
    assert {row.outcome for row in house.book.settled} == {"CLIENT_GONE"}
    house.check_quiet()


@EACH
@pytest.mark.parametrize("stage", ["dialing", "head", "comments", "streaming", "paused", "early"])
def test_a_stream_is_read_on_to_its_end(dialect: Dialect, stage: str) -> None:
    with draining(early_head=1.0 if stage == "early" else None) as house:
        asker, ask = house.stream(dialect.protocol)
        if stage in ("head", "comments", "streaming", "paused"):
            ask.answer()
        if stage == "comments":
            ask.body(b": a\n\n")
        elif stage in ("streaming", "paused"):
            ask.body(dialect.head())
        elif stage == "early":
            house.loop.wait(1.2)
            assert asker.reply.status == 200
        if stage == "paused":
            house.run(asker.handler.client_paused)
        body = asker.reply.body
        asker.leave()
        assert not ask.cancelled
        assert not ask.paused, "nobody is waited for"
        assert not house.book.settled
        if not ask.began:
            ask.answer()
        if stage not in ("streaming", "paused"):
            ask.body(dialect.head())
        house.loop.wait(30.0)
        ask.body(dialect.text(), ENDS[dialect.protocol])
        if ask.live:
            ask.end()
        assert asker.reply.body == body
        gone(house, asker, ask)
        assert house.row().usage_source == "reported"


@PROTOCOL
@pytest.mark.parametrize("stage", ["dialing", "head", "body"])
@pytest.mark.parametrize("zip_it", [True, False])
def test_a_whole_body_is_read_on_too(protocol: ProtocolId, stage: str, zip_it: bool) -> None:
    body = json.dumps(BODIES[protocol]).encode()
    body = zipped(body) if zip_it else body
    head = [*JSON, (b"content-length", b"%d" % len(body)), *([(b"content-encoding", b"gzip")] if zip_it else [])]
    with draining() as house:
        asker, ask = house.whole(protocol)
        sent = 0
        if stage != "dialing":
            ask.answer(200, head)
        if stage == "body":
            ask.body(body[:9])
            sent = 9
        asker.leave()
        if stage == "dialing":
            ask.answer(200, head)
        ask.body(body[sent:]).end()
        gone(house, asker, ask)


@pytest.mark.parametrize("how", ["lost", "connect", "truncated", "error", "status", "shut down", "not gzip", "page"])
@pytest.mark.parametrize("early", [True, False])
def test_however_it_ends_it_was_the_client_who_left(how: str, early: bool) -> None:
    with draining(early_head=1.0 if early else None) as house:
        asker, ask = house.stream(CHAT)
        if early:
            house.loop.wait(1.2)
        asker.leave()
        match how:
            case "lost":
                ask.answer().body(CHUNK).lose()
            case "connect":
                ask.lose(LossKind.CONNECT, "refused")
            case "truncated":
                ask.answer().body(CHUNK).end()
            case "error":
                ask.answer().body(b'data: {"error":{"message":"m","type":"t"}}\n\n').end()
            case "status":
                ask.answer_json({"error": {"message": "m", "type": "t"}}, 500)
            case "not gzip":
                ask.answer(200, [*SSE, (b"content-encoding", b"gzip")]).body(b"\xff" * 40)
            case "page":
                ask.answer(502, [(b"content-type", b"text/html")]).body(b"<h1>").end()
            case _:
                ask.answer().body(CHUNK)
                house.run(house.gateway.shut_down)
        gone(house, asker, ask, None)
        assert (house.row().error_type == "t") is (how in ("error", "status"))
        assert len(house.asks) == 1, "nothing is tried again for nobody"


@pytest.mark.parametrize("again", [True, False])
@pytest.mark.parametrize("about", [True, False])
@pytest.mark.parametrize("early", [True, False])
def test_while_an_error_is_looked_at(again: bool, about: bool, early: bool) -> None:
    with draining(early_head=1.0 if early else None) as house:
        asker = house.post("/v1/chat/completions", {"model": "m", "stream": True, **({} if again else {"stream_options": {}})})
        ask = house.last
        if early:
            house.loop.wait(1.2)
        ask.answer(400, JSON if again else [(b"content-type", b"text/html")]).body(b'{"error":{"type":"t","message":')
        asker.leave()
        ask.body(b'"stream_options"}}' if about else b'"m"}}').end()
        gone(house, asker, ask, None)
        assert house.row().error_type == "t"
        assert len(house.asks) == 1


def test_a_kept_connection_that_died_is_replaced_for_nobody_too() -> None:
    with draining() as house:
        asker, ask = house.stream(CHAT)
        asker.leave()
        ask.lose(LossKind.STALE)
        assert len(house.asks) == 2
        house.last.answer().body(CHUNK + STOP + USAGE + DONE)
        gone(house, asker, house.last)


def test_in_the_pause_before_another_try_there_is_nothing_to_read() -> None:
    with draining(retries=Retries(connect=2)) as house:
        asker, ask = house.stream(CHAT)
        ask.lose(LossKind.CONNECT)
        asker.leave()
        gone(house, asker, ask, None)
        house.loop.wait(5.0)
        assert len(house.asks) == 1


def test_half_a_request_is_not_read_on() -> None:
    with draining() as house:
        asker = house.open("POST", "/openai/v1/files", length=4)
        asker.body(b"ab")
        asker.leave()
        assert house.last.cancelled
        asker = house.open("POST", "/v1/chat/completions", length=40)
        asker.body(b"{")
        asker.leave()
        assert {row.outcome for row in house.book.settled} == {"CLIENT_GONE"}
        house.check_quiet()


def test_behind_the_terminal_event_there_is_nothing_to_read_on() -> None:
    with draining() as house:
        asker, ask = house.stream(CHAT)
        ask.answer().body(CHUNK + STOP + DONE)
        asker.leave()
        assert ask.cancelled
        assert house.row().outcome == "COMPLETE"
        house.check_quiet()


def test_a_request_that_breaks_its_framing_is_no_leaving_client() -> None:
    with draining() as house:
        asker = house.open("POST", "/openai/v1/files", chunked=True)
        asker.body(b"ab")
        asker.stumble()
        assert house.last.cancelled
        assert house.row().outcome == "REFUSED"
        house.check_quiet()


# For how long.


@PROTOCOL
@pytest.mark.parametrize("whole", [True, False])
def test_for_some_seconds(protocol: ProtocolId, whole: bool) -> None:
    dialect = next(d for d in DIALECTS if d.protocol is protocol)
    with draining(3.0) as house:
        asker, ask = house.whole(protocol) if whole else house.stream(protocol)
        ask.answer(200, JSON if whole else SSE).body(b"{" if whole else dialect.head())
        house.loop.wait(5.0)
        asker.leave()
        took = house.until(lambda: house.book.settled, 5.0)
        assert 3.0 - 0.02 <= took <= 3.0 + LOOK + 0.02
        assert ask.cancelled
        gone(house, asker, ask, None)


def test_to_its_end_however_long() -> None:
    with draining(None, timers=Timers(first_content=None, idle=None, content=None)) as house:
        asker, ask = house.stream(CHAT)
        asker.leave()
        house.loop.wait(120.0)
        assert ask.live
        ask.answer().body(STOP + USAGE + DONE)
        gone(house, asker, ask)


def test_for_some_tokens_by_their_events() -> None:
    with draining(None, 5) as house:
        asker, ask = house.stream(CHAT)
        ask.answer().body(CHUNK * 20)
        asker.leave()
        ask.body(CHUNK * 4)
        house.loop.wait(1.0)
        assert ask.live
        ask.body(CHUNK)
        house.loop.wait(LOOK + 0.01)
        assert ask.cancelled
        gone(house, asker, ask, None)
        assert house.row().events == 25


def test_for_some_tokens_by_the_providers_count() -> None:
    with draining(None, 5) as house:
        asker, ask = house.stream(ProtocolId.GEMINI)

        def made(n: int) -> bytes:
            return sse({"candidates": [{"content": {"parts": [{"text": "x"}]}}], "usageMetadata": {"candidatesTokenCount": n}})

        ask.answer().body(made(100))
        asker.leave()
        ask.body(made(104))
        house.loop.wait(0.5)
        assert ask.live
        ask.body(made(105))
        house.loop.wait(0.2)
        assert ask.cancelled
        gone(house, asker, ask, (None, 105))


@pytest.mark.parametrize("timers", [Timers(idle=2.0), Timers(max_duration=2.0), Timers(content=2.0)])
def test_the_timers_run_on(timers: Timers) -> None:
    with draining(None, timers=timers) as house:
        asker, ask = house.stream(CHAT)
        ask.answer().body(CHUNK)
        asker.leave()
        house.loop.wait(2.2)
        assert ask.cancelled
        gone(house, asker, ask, None)


def test_nothing_is_kept_alive_for_nobody() -> None:
    with draining(keepalive=0.5, early_head=1.0) as house:
        asker, ask = house.stream(CHAT)
        ask.answer()
        asker.leave()
        house.loop.wait(5.0)
        assert (asker.reply.status, asker.reply.body) == (None, b"")
        ask.body(CHUNK + STOP + USAGE + DONE)
        gone(house, asker, ask)


def test_the_drain_of_the_gateway_ends_it_too() -> None:
    with draining(None, timers=Timers(drain=1.0)) as house:
        asker, ask = house.stream(CHAT)
        asker.leave()
        house.run(house.gateway.drain)
        house.loop.wait(1.2)
        gone(house, asker, ask, None)
