"""A stream that is opened before its provider has begun: what a client is told that had to wait long for a head."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from penstock.exchange.conduct import Conduct, Retries
from penstock.exchange.contract import Headers
from penstock.pipeline.timers import Timers
from penstock.protocols import REGISTRY
from penstock.upstream.contract import LossKind
from penstock.vocabulary.events import TextDelta
from penstock.vocabulary.ids import ProtocolId
from tests.laws.talk import DIALECTS, Dialect, sse
from tests.support.answers import ANSWERS, TEXT
from tests.support.exchanges import CHUNK, DONE, REQUESTS, SSE, STOP, Asker, FakeAsk, House, told_last, told_whole
from tests.support.relays import neutral, zipped

EACH = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.protocol.value)
PROTOCOL = pytest.mark.parametrize("protocol", list(REGISTRY), ids=lambda p: p.value)
CONDUCT = Conduct(keepalive=1.0, early_head=2.0)
JSON: Headers = [(b"content-type", b"application/json")]
ARRAY = "/v1beta/models/m:streamGenerateContent"


def opened(house: House, protocol: ProtocolId, **more: Any) -> tuple[Asker, FakeAsk]:
    """A client that has waited long enough for a head."""
    asker, ask = house.stream(protocol, **more)
    house.loop.wait(2.2)
    assert (asker.reply.status, asker.reply.header(b"content-type")) == (200, b"text/event-stream")
    assert asker.reply.header(b"x-accel-buffering") == b"no"
    assert b"no-transform" in (asker.reply.header(b"cache-control") or b"")
    assert asker.reply.body == REGISTRY[protocol].keepalive
    return asker, ask


@pytest.fixture
def waiting() -> Any:
    with House(conduct=CONDUCT) as house:
        yield house


@EACH
def test_the_real_stream_goes_on_behind_it(waiting: House, dialect: Dialect) -> None:
    still = REGISTRY[dialect.protocol].keepalive
    asker, ask = opened(waiting, dialect.protocol)
    waiting.loop.wait(2.0)
    assert asker.reply.body == still * 3
    ask.answer().body(b"\xef\xbb\xbf" + dialect.head())
    waiting.loop.wait(1.2)
    assert asker.reply.body == still * 3 + dialect.head() + still
    finish = STOP if dialect.protocol is ProtocolId.OPENAI_CHAT else b""
    pieces = [dialect.text(), finish, dialect.terminal() or sse({"candidates": [{"finishReason": "S"}]})]
    ask.body(*pieces).end()
    assert asker.reply.body == still * 3 + dialect.head() + still + b"".join(pieces)
    assert asker.reply.over == "ended"
    row = waiting.row()
    assert (row.outcome, row.status, row.upstream_status, row.streamed) == ("COMPLETE", 200, 200, True)
    assert (row.bytes_out, row.events) == (len(asker.reply.body), 3 + (dialect.protocol is ProtocolId.OPENAI_CHAT))
    waiting.check_quiet()


def test_a_failure_for_nothing_names_the_model_that_was_asked_for(waiting: House) -> None:
    asker, ask = opened(waiting, ProtocolId.OPENAI_RESPONSES)
    ask.lose()
    failed = json.loads(asker.reply.body.split(b"data: ")[-1])["response"]
    row = waiting.row()
    assert (failed["status"], failed["model"], failed["created_at"]) == ("failed", row.requested_model, int(row.started_at))
    assert row.requested_model
    assert row.model is None


def test_it_comes_in_time_and_not_before() -> None:
    with House(conduct=CONDUCT) as house:
        asker, _ = house.stream(ProtocolId.OPENAI_CHAT)
        assert 2.0 <= house.until(lambda: asker.reply.status) <= 2.12
        asker.leave()
        house.check_quiet()


@PROTOCOL
def test_a_head_that_waits_for_its_first_frame_is_the_providers_own(waiting: House, protocol: ProtocolId) -> None:
    asker, ask = waiting.stream(protocol)
    ask.answer(200, [*SSE, (b"x-request-id", b"req_1")])
    waiting.loop.wait(2.2)
    assert (asker.reply.status, asker.reply.header(b"x-request-id")) == (200, b"req_1")
    assert asker.reply.body == REGISTRY[protocol].keepalive
    ask.lose()
    assert "was lost" in told_last(protocol, asker.reply)["message"]
    waiting.check_quiet()


def test_comments_that_waited_leave_with_it(waiting: House) -> None:
    asker, ask = waiting.stream(ProtocolId.OPENAI_CHAT)
    ask.answer().body(b": a\n\n")
    waiting.loop.wait(2.2)
    assert asker.reply.body == b": a\n\n"
    ask.body(b": b\n\n" + CHUNK + STOP + DONE).end()
    assert asker.reply.body == b": a\n\n: b\n\n" + CHUNK + STOP + DONE
    assert waiting.row().outcome == "COMPLETE"


def test_without_keepalives_a_head_leaves_all_the_same() -> None:
    """A listener sends a head with what follows it."""
    with House(conduct=Conduct(keepalive=None, early_head=2.0)) as house:
        for answers in (True, False):
            asker, ask = house.stream(ProtocolId.OPENAI_CHAT)
            if answers:
                ask.answer()
            house.loop.wait(9.0)
            assert (asker.reply.status, asker.reply.body) == (200, REGISTRY[ProtocolId.OPENAI_CHAT].keepalive)
            asker.leave()
        house.check_quiet()


@pytest.mark.parametrize("conduct", [Conduct(early_head=None, keepalive=1.0), Conduct(keepalive=1.0, early_head=50.0)])
def test_off(conduct: Conduct) -> None:
    with House(conduct=conduct) as house:
        asker, ask = house.stream(ProtocolId.OPENAI_CHAT)
        house.loop.wait(20.0)
        assert asker.reply.status is None
        ask.answer_json({"error": {"message": "m"}}, 429)
        assert asker.reply.status == 429


@PROTOCOL
def test_whole_bodies_wait_for_their_own(waiting: House, protocol: ProtocolId) -> None:
    asker, ask = waiting.whole(protocol)
    waiting.loop.wait(5.0)
    assert asker.reply.status is None
    ask.answer_json({"error": {"message": "m"}}, 500)
    assert asker.reply.status == 500


def test_an_error_that_is_looked_at_keeps_its_status_however_slow(waiting: House) -> None:
    asker, ask = waiting.stream(ProtocolId.OPENAI_CHAT)
    ask.answer(503, [(b"content-type", b"text/html")]).body(b"<h1>Sorry")
    waiting.loop.wait(5.0)
    ask.end()
    assert (asker.reply.status, told_whole(ProtocolId.OPENAI_CHAT, asker.reply)["message"]) == (503, "Sorry")


# What can no longer be told by a status.


def body_of(protocol: ProtocolId) -> dict[str, Any]:
    said = {"message": "Slow down.", "type": "rate_limit_error", "code": "rate_limit_exceeded", "param": None}
    if protocol is ProtocolId.ANTHROPIC_MESSAGES:
        return {"type": "error", "error": {"type": "rate_limit_error", "message": "Slow down."}, "request_id": "req_1"}
    if protocol is ProtocolId.GEMINI:
        return {"error": {"code": 429, "message": "Slow down.", "status": "RESOURCE_EXHAUSTED"}}
    return {"error": said}


@PROTOCOL
@pytest.mark.parametrize("zip_it", [True, False])
def test_a_status_is_told_in_band_with_the_providers_own_words(waiting: House, protocol: ProtocolId, zip_it: bool) -> None:
    asker, ask = opened(waiting, protocol)
    body = json.dumps(body_of(protocol)).encode()
    body = zipped(body) if zip_it else body
    ask.answer(429, [*JSON, *([(b"content-encoding", b"gzip")] if zip_it else [])]).body(body[:20])
    waiting.loop.wait(3.0)
    still = REGISTRY[protocol].keepalive
    assert asker.reply.body == still * (len(asker.reply.body) // len(still)), "kept open while the words come"
    assert len(asker.reply.body) >= 3 * len(still)
    ask.body(body[20:]).end()
    told = told_last(protocol, asker.reply)
    assert told["message"] == "Slow down."
    assert told.get("type" if protocol is not ProtocolId.GEMINI else "status") in ("rate_limit_error", "RESOURCE_EXHAUSTED")
    row = waiting.row()
    assert (row.outcome, row.ended_by, row.status, row.upstream_status, row.error_message) == ("UPSTREAM_ERROR", "upstream", 200, 429, "Slow down.")
    assert (row.bytes_out, row.streamed) == (len(asker.reply.body), True)
    waiting.check_quiet()


@PROTOCOL
@pytest.mark.parametrize("body", [b"", b"<h1>Bad Gateway</h1>", b"x" * 90_000])
def test_a_status_in_nobodys_shape(waiting: House, protocol: ProtocolId, body: bytes) -> None:
    asker, ask = opened(waiting, protocol)
    ask.answer(503, [(b"content-type", b"text/html")]).body(*[body[i : i + 9000] for i in range(0, len(body), 9000)])
    if ask.live:
        ask.end()
    assert told_last(protocol, asker.reply)["message"]
    assert (waiting.row().outcome, waiting.row().upstream_status) == ("UPSTREAM_ERROR", 503)
    waiting.check_quiet()


@PROTOCOL
def test_a_whole_body_in_the_place_of_a_stream(waiting: House, protocol: ProtocolId) -> None:
    """It was made and is paid for, and the client's stream is open: it is told as one."""
    asker, ask = opened(waiting, protocol)
    before = asker.reply.body
    ask.answer_json(ANSWERS[protocol].body)
    frames = neutral(protocol, asker.reply.body[len(before) :])[0]
    assert "".join(event.text for event in frames if isinstance(event, TextDelta)) == TEXT
    row = waiting.row()
    assert (row.outcome, row.input_tokens, row.output_tokens, row.streamed) == ("COMPLETE", *ANSWERS[protocol].usage, True)
    assert (row.bytes_out, asker.reply.over) == (len(asker.reply.body), "ended")
    waiting.check_quiet()


@PROTOCOL
def test_a_body_that_is_no_answer(waiting: House, protocol: ProtocolId) -> None:
    asker, ask = opened(waiting, protocol)
    ask.answer_json({"detail": "of another shape"})
    assert "could not be told as a stream" in told_last(protocol, asker.reply)["message"]
    assert waiting.row().outcome == "UPSTREAM_ERROR"
    waiting.check_quiet()


@pytest.mark.parametrize(("headers", "good"), [([], True), ([(b"content-type", b"text/html")], False), ([*SSE, (b"content-encoding", b"br")], False)])
def test_other_heads(waiting: House, headers: Headers, good: bool) -> None:
    """A stream that does not say that it is one is one where one was asked for."""
    asker, ask = opened(waiting, ProtocolId.OPENAI_CHAT)
    before = asker.reply.body
    ask.answer(200, headers).body(CHUNK, STOP + DONE).end()
    if good:
        assert (asker.reply.body, waiting.row().outcome) == (before + CHUNK + STOP + DONE, "COMPLETE")
    else:
        told = told_last(ProtocolId.OPENAI_CHAT, asker.reply)
        assert "passed on" not in told["message"]
        assert (waiting.row().outcome, b"choices" in asker.reply.body) == ("TRUNCATED", False)
    assert asker.reply.over == "ended"
    waiting.check_quiet()


END: dict[str, tuple[Callable[[House, FakeAsk], None], str, str]] = {
    "lost": (lambda house, ask: ask.lose(LossKind.RESET, "it broke"), "it broke", "UPSTREAM_LOST"),
    "unmade": (lambda house, ask: ask.lose(LossKind.CONNECT, "nobody there"), "nobody there", "UPSTREAM_LOST"),
    "too late": (lambda house, ask: house.loop.wait(8.0), "first_content", "TIMED_OUT"),
    "shut down": (lambda house, ask: house.run(house.gateway.shut_down), "shutting down", "SHUTDOWN"),
}
STAGES = ["nothing", "a stream's head", "half an error", "half a body"]


@PROTOCOL
@pytest.mark.parametrize("how", END)
@pytest.mark.parametrize("stage", STAGES)
def test_every_end_is_told_in_band(protocol: ProtocolId, how: str, stage: str) -> None:
    end, words, outcome = END[how]
    if how == "unmade" and stage != "nothing":
        return
    timer = "idle" if stage == "half a body" else "first_content"  # a body that has begun is content
    if how == "too late":
        words = timer
    conduct = Conduct(keepalive=1.0, early_head=2.0, retries=Retries(connect=0), timers=Timers(first_content=8.0, idle=5.0))
    with House(conduct=conduct) as house:
        asker, ask = opened(house, protocol)
        match stage:
            case "a stream's head":
                ask.answer()
            case "half an error":
                ask.answer(500, JSON).body(b'{"error":')
            case "half a body":
                ask.answer(200, JSON).body(b'{"id":')
            case _:
                pass
        end(house, ask)
        assert words in told_last(protocol, asker.reply)["message"]
        assert not ask.live
        row = house.row()
        assert (row.outcome, row.status, row.streamed) == (outcome, 200, True)
        assert row.timer == (timer if outcome == "TIMED_OUT" else None)
        house.check_quiet()


@PROTOCOL
def test_an_error_event_comes_as_it_is(waiting: House, protocol: ProtocolId) -> None:
    frame = sse(body_of(protocol), "error" if protocol is ProtocolId.ANTHROPIC_MESSAGES else "")
    asker, ask = opened(waiting, protocol)
    ask.answer().body(frame)
    assert asker.reply.body == REGISTRY[protocol].keepalive + frame
    if ask.live:
        ask.end()
    assert asker.reply.over == "ended"
    waiting.check_quiet()


def test_the_client_leaves(waiting: House) -> None:
    for stage in STAGES:
        asker, ask = opened(waiting, ProtocolId.OPENAI_CHAT)
        if stage != "nothing":
            ask.answer(500 if "error" in stage else 200, SSE if "stream" in stage else JSON)
        asker.leave()
        assert ask.cancelled
    assert {row.outcome for row in waiting.book.settled} == {"CLIENT_GONE"}
    waiting.check_quiet()


# Further tries behind an early head.


def test_a_connection_is_tried_again_unseen(waiting: House) -> None:
    asker, ask = opened(waiting, ProtocolId.OPENAI_CHAT)
    before = asker.reply.body
    ask.lose(LossKind.CONNECT, "refused")
    waiting.loop.wait(0.5)
    assert waiting.last is not ask
    waiting.last.answer().body(CHUNK + STOP + DONE).end()
    assert asker.reply.body == before + CHUNK + STOP + DONE
    assert (waiting.row().outcome, waiting.row().retries) == ("COMPLETE", 1)
    waiting.check_quiet()


def test_and_so_is_a_status_where_that_is_wanted() -> None:
    with House(conduct=Conduct(keepalive=1.0, early_head=2.0, retries=Retries(status=1))) as house:
        asker, ask = opened(house, ProtocolId.OPENAI_CHAT)
        ask.answer(503, [*JSON, (b"retry-after", b"3")])
        assert ask.cancelled
        before = asker.reply.body
        house.loop.wait(2.5)
        assert len(house.asks) == 1
        assert asker.reply.body.startswith(before + REGISTRY[ProtocolId.OPENAI_CHAT].keepalive), "kept open through the pause"
        house.loop.wait(1.0)
        house.last.answer_json({"error": {"message": "still"}}, 503)
        assert told_last(ProtocolId.OPENAI_CHAT, asker.reply)["message"] == "still"
        assert house.row().retries == 1
        house.check_quiet()


def framed(protocol: ProtocolId) -> bytes:
    return sse(body_of(protocol), "error" if protocol is ProtocolId.ANTHROPIC_MESSAGES else "")


DIES: dict[str, Callable[[FakeAsk, ProtocolId], object]] = {
    "lost": lambda ask, _: ask.answer().lose(),
    "ended": lambda ask, _: ask.answer().body(b": a\n\n").end(),
    "half a frame": lambda ask, _: ask.answer().body(b"data: {").lose(),
    "an error first": lambda ask, protocol: ask.answer().body(framed(protocol)),
    "no gzip": lambda ask, _: ask.answer(200, [*SSE, (b"content-encoding", b"gzip")]).body(b"no gzip"),
}


@pytest.fixture
def trying() -> Any:
    timers = Timers(first_content=20.0)
    with House(conduct=Conduct(keepalive=1.0, early_head=2.0, timers=timers, retries=Retries(first_frame=1))) as house:
        yield house


@pytest.mark.parametrize("how", DIES)
@EACH
def test_what_dies_before_its_first_frame_is_tried_again_unseen(trying: House, dialect: Dialect, how: str) -> None:
    still = REGISTRY[dialect.protocol].keepalive
    asker, ask = opened(trying, dialect.protocol)
    trying.loop.wait(1.0)
    DIES[how](ask, dialect.protocol)
    trying.loop.wait(1.2)
    assert (len(trying.asks), ask.live) == (2, False)
    finish = STOP if dialect.protocol is ProtocolId.OPENAI_CHAT else b""
    pieces = [dialect.head(), dialect.text(), finish, dialect.terminal() or sse({"candidates": [{"finishReason": "S"}]})]
    trying.last.answer().body(b": b\n\n")
    trying.loop.wait(1.2)
    before = asker.reply.body
    assert before == still * (len(before) // len(still)), "nothing of the provider's was sent yet"
    trying.last.body(*[piece for piece in pieces if piece]).end()
    assert asker.reply.body == before + b": b\n\n" + b"".join(pieces)
    row = trying.row()
    assert (row.outcome, row.retries, row.status, row.upstream_status) == ("COMPLETE", 1, 200, 200)
    assert row.bytes_out == len(asker.reply.body)
    trying.check_quiet()


@pytest.mark.parametrize("how", DIES)
@PROTOCOL
def test_and_where_there_is_no_further_try_it_is_told_in_band(trying: House, protocol: ProtocolId, how: str) -> None:
    still = REGISTRY[protocol].keepalive
    asker, ask = opened(trying, protocol)
    DIES[how](ask, protocol)
    trying.loop.wait(1.0)
    before = asker.reply.body
    DIES[how](trying.last, protocol)
    assert len(trying.asks) == 2
    if trying.last.live:
        trying.last.end()
    assert asker.reply.body.startswith(before + {"ended": b": a\n\n", "an error first": framed(protocol)}.get(how, b""))
    assert before.startswith(still)
    assert how == "an error first" or told_last(protocol, asker.reply)["message"]  # (that comes as it is)
    assert asker.reply.over == "ended"
    row = trying.row()
    assert row.outcome == {"ended": "TRUNCATED", "an error first": "UPSTREAM_ERROR"}.get(how, "UPSTREAM_LOST")
    assert (row.retries, row.bytes_out) == (1, len(asker.reply.body))
    trying.check_quiet()


@pytest.mark.parametrize("how", ["too late", "shut down", "left"])
def test_other_ends_of_a_stream_that_is_held_there(trying: House, how: str) -> None:
    asker, ask = opened(trying, ProtocolId.OPENAI_CHAT)
    ask.answer().body(b": a\n\n")
    trying.loop.wait(1.0)
    assert b": a" not in asker.reply.body
    match how:
        case "too late":
            trying.loop.wait(20.0)
        case "shut down":
            trying.run(trying.gateway.shut_down)
        case _:
            asker.leave()
    row = trying.row()
    assert row.outcome == {"too late": "TIMED_OUT", "shut down": "SHUTDOWN"}.get(how, "CLIENT_GONE")
    if how != "left":
        assert b": a\n\n" in asker.reply.body
        assert told_last(ProtocolId.OPENAI_CHAT, asker.reply)["message"]
        assert row.bytes_out == len(asker.reply.body)
    assert (len(trying.asks), ask.live) == (1, False)
    trying.check_quiet()


def test_an_array_that_dies_before_its_first_element_is_tried_again(trying: House) -> None:
    asker, ask = array(trying)
    ask.answer(200, JSON).body(b"[").lose()
    trying.loop.wait(1.2)
    trying.last.answer(200, JSON).body(b'[{"candidates":[{"finishReason":"STOP"}]}]').end()
    assert (len(trying.asks), len(asker.reply.json()), trying.row().outcome) == (2, 1, "COMPLETE")
    trying.check_quiet()


def test_a_field_of_ours_is_taken_back_behind_it(waiting: House) -> None:
    path, body = REQUESTS[ProtocolId.OPENAI_CHAT]
    asker = waiting.post(path, {"model": body["model"], "stream": True})
    waiting.loop.wait(2.2)
    before = asker.reply.body
    waiting.last.answer_json({"error": {"message": "unknown: stream_options"}}, 400)
    waiting.last.answer().body(CHUNK + STOP + DONE).end()
    assert asker.reply.body == before + CHUNK + STOP + DONE
    assert (waiting.row().outcome, waiting.row().retries) == ("COMPLETE", 1)
    waiting.check_quiet()


def test_another_refusal_is_told_in_band(waiting: House) -> None:
    path, body = REQUESTS[ProtocolId.OPENAI_CHAT]
    asker = waiting.post(path, {"model": body["model"], "stream": True})
    waiting.loop.wait(2.2)
    waiting.last.answer_json({"error": {"message": "no such thing"}}, 400)
    assert told_last(ProtocolId.OPENAI_CHAT, asker.reply)["message"] == "no such thing"
    assert len(waiting.asks) == 1
    waiting.check_quiet()


# Gemini's array form.


def array(house: House) -> tuple[Asker, FakeAsk]:
    asker = house.post(ARRAY, {"contents": []})
    house.loop.wait(2.2)
    assert (asker.reply.status, asker.reply.header(b"content-type")) == (200, b"application/json")
    assert not asker.reply.body.strip()
    assert asker.reply.body
    return asker, house.last


def test_an_array_goes_on_behind_white_space(waiting: House) -> None:
    asker, ask = array(waiting)
    waiting.loop.wait(2.0)
    ask.answer(200, JSON).body(b'[{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}')
    waiting.loop.wait(2.0)
    ask.body(b',{"candidates":[{"finishReason":"STOP"}]}]').end()
    assert len(asker.reply.json()) == 2
    assert (asker.reply.over, waiting.row().outcome) == ("ended", "COMPLETE")
    waiting.check_quiet()


@pytest.mark.parametrize("how", ["lost", "status", "a stream of events", "shut down"])
def test_an_array_that_fails_is_an_array_of_an_error(waiting: House, how: str) -> None:
    asker, ask = array(waiting)
    match how:
        case "lost":
            ask.lose()
        case "status":
            ask.answer_json(body_of(ProtocolId.GEMINI), 429)
        case "shut down":
            waiting.run(waiting.gateway.shut_down)
        case _:
            ask.answer().body(sse({"candidates": []})).end()
    (told,) = asker.reply.json()
    assert told["error"]["code"] == {"lost": 502, "status": 429, "shut down": 503}.get(how, 502)
    assert asker.reply.over == "ended"
    waiting.check_quiet()
