"""One exchange from its upstream request to its row: heads, endings, retries, and what the client is told."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

import pytest

from penstock.exchange.contract import Headers
from penstock.exchange.gateway import Settings
from penstock.upstream.contract import LossKind
from penstock.vocabulary.ids import ProtocolId
from tests.support.exchanges import CHUNK, DONE, SSE, STOP, USAGE, Asker, FakeAsk, House
from tests.support.relays import zipped

REFUSES = {"error": {"message": "Extra inputs are not permitted: stream_options", "type": "invalid_request_error"}}


def chat(house: House, **more: Any) -> tuple[Asker, FakeAsk]:
    return house.chat(**more), house.last


def outcome(house: House) -> tuple[str | None, str | None]:
    row = house.row()
    return row.outcome, row.ended_by


# Heads and framing.


def test_a_stream_leaves_as_it_comes_chunk_by_chunk(house: House) -> None:
    asker, ask = chat(house)
    ask.answer()
    assert (asker.reply.status, asker.reply.length, asker.reply.over) == (None, None, None), "the head is held until the first frame"
    for chunk in (CHUNK, STOP, USAGE):
        before = asker.reply.body
        ask.body(chunk)
        assert asker.reply.body == before + chunk
    ask.body(DONE).end()
    assert asker.reply.over == "ended"
    assert outcome(house) == ("COMPLETE", "upstream")
    house.check_quiet()


def test_the_providers_head_is_the_clients_but_for_what_is_this_hops(house: House) -> None:
    asker, ask = chat(house)
    headers: Headers = [
        (b"Content-Type", b"application/json"), (b"Content-Length", b"2"), (b"X-Request-Id", b"req_9"), (b"x-ratelimit-remaining", b"3"),
        (b"Set-Cookie", b"a=b"), (b"Connection", b"keep-alive, x-hop"), (b"x-hop", b"1"), (b"Access-Control-Allow-Origin", b"*"),
        (b"x-penstock-id", b"forged"),
    ]  # fmt: skip
    ask.answer(201, headers).body(b"{}").end()
    assert (asker.reply.status, asker.reply.length) == (201, 2)
    row = house.row()
    assert asker.reply.headers == [
        (b"Content-Type", b"application/json"), (b"X-Request-Id", b"req_9"), (b"x-ratelimit-remaining", b"3"), (b"x-penstock-id", row.id.encode()),
    ]  # fmt: skip
    assert (row.status, row.upstream_status, row.upstream_request_id, row.streamed) == (201, 201, "req_9", False)


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 529])
def test_the_providers_errors_pass_as_they_are(house: House, status: int) -> None:
    asker, ask = chat(house)
    error = {"error": {"message": "no sk-abcdefghijklmnop1234567890", "type": "t", "code": "c"}}
    ask.answer_json(error, status)
    assert (asker.reply.status, asker.reply.json(), asker.reply.over) == (status, error, "ended")
    row = house.row()
    assert (row.outcome, row.error_type, row.error_code, row.status) == ("UPSTREAM_ERROR", "t", "c", status)
    assert "abcdefghijklmnop" not in (row.error_message or "")


def test_gzip_is_taken_off(house: House) -> None:
    asker, ask = chat(house)
    body = CHUNK + STOP + USAGE + DONE
    packed = zipped(body)
    ask.answer(200, [(b"content-type", b"text/event-stream"), (b"Content-Encoding", b"gzip"), (b"content-length", b"%d" % len(packed))])
    assert asker.reply.length is None
    assert asker.reply.header(b"content-encoding") is None
    for i in range(0, len(packed), 9):
        ask.body(packed[i : i + 9])
    assert asker.reply.body == body
    if ask.live:
        ask.end()
    assert outcome(house) == ("COMPLETE", "upstream")


def test_a_coding_that_nobody_here_knows(house: House) -> None:
    asker, ask = chat(house)
    ask.answer(200, [*SSE, (b"content-encoding", b"br")]).body(b"\x8b\x02").end()
    assert (asker.reply.body, asker.reply.header(b"content-encoding"), asker.reply.over) == (b"\x8b\x02", b"br", "ended")
    assert outcome(house) == ("UNVERIFIED", "upstream")


def test_gzip_that_is_none(house: House) -> None:
    asker, ask = chat(house)
    ask.answer(200, [*SSE, (b"content-encoding", b"gzip")]).body(zipped(CHUNK)[:-9], b"\xff" * 40)
    assert ask.cancelled
    assert asker.reply.body.startswith(CHUNK)
    assert outcome(house) == ("UPSTREAM_LOST", "upstream")
    house.check_quiet()


@pytest.mark.parametrize("body", [b"\xff" * 40, zipped(b"{}")[:10], zipped(b"{}")[:10] + b"\xff" * 40])
def test_a_gzipped_body_of_which_nothing_can_be_read_is_no_answer_of_200(house: House, body: bytes) -> None:
    asker = house.post("/v1/chat/completions", b'{"model":"gpt-4o","messages":[]}')
    ask = house.last.answer(200, [(b"content-type", b"application/json"), (b"content-encoding", b"gzip")]).body(body)
    if ask.live:
        assert asker.reply.status is None, "nothing of it has come yet"
        ask.end()
    assert (asker.reply.status, asker.reply.over) == (502, "ended")
    assert "gzip" in asker.reply.json()["error"]["message"]
    assert outcome(house) == ("UPSTREAM_LOST", "upstream")
    house.check_quiet()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_head(house: House, method: str) -> None:
    asker = house.get("/openai/v1/models", method=method)
    assert house.last.head_only is (method == "HEAD")
    assert house.last.method == method.encode()
    house.last.answer(200, [(b"content-length", b"0")]).end()
    assert asker.reply.over == "ended"


# Endings. What the client is told, and what the row says.


def told(asker: Asker) -> Any:
    """The error that ends the stream, behind whole frames."""
    last = asker.reply.body.split(b"\n\n")[-2]
    return json.loads(last.removeprefix(b"data: "))["error"]


def test_an_end_without_the_terminal_event(house: House) -> None:
    asker, ask = chat(house)
    ask.answer().body(CHUNK, b'data: {"half').end()
    assert asker.reply.body.startswith(CHUNK)
    assert b"half" not in asker.reply.body
    assert told(asker)["request_id"] == house.row().id
    assert asker.reply.over == "ended"
    assert outcome(house) == ("TRUNCATED", "upstream")
    house.check_quiet()


@pytest.mark.parametrize("kind", [LossKind.RESET, LossKind.EOF, LossKind.GARBAGE, LossKind.TLS])
def test_a_line_that_breaks(house: House, kind: LossKind) -> None:
    asker, ask = chat(house)
    ask.answer().body(CHUNK).lose(kind, "it broke")
    assert "openai" in told(asker)["message"]
    assert asker.reply.over == "ended"
    row = house.row()
    assert (row.outcome, row.cause, row.stop_reason, row.usage_source) == ("UPSTREAM_LOST", "it broke", None, "none")


def test_what_was_used_until_then_is_partial(house: House) -> None:
    asker = house.post("/v1/messages", {"model": "m", "stream": True})
    start = {"type": "message_start", "message": {"id": "msg_1", "model": "claude", "usage": {"input_tokens": 9, "output_tokens": 1}}}
    house.last.answer().body(b"event: message_start\ndata: " + json.dumps(start).encode() + b"\n\n").lose()
    row = house.row()
    assert (row.input_tokens, row.output_tokens, row.usage_source, row.model) == (9, 1, "partial", "claude")
    assert asker.reply.body.split(b"\n\n")[-2].startswith(b"event: error\n")


def test_a_line_that_breaks_inside_a_body_shows_in_the_framing(house: House) -> None:
    asker, ask = chat(house, stream=False)
    ask.answer(200, [(b"content-type", b"application/json"), (b"content-length", b"20")]).body(b'{"id":').lose(LossKind.EOF)
    assert (asker.reply.body, asker.reply.over) == (b'{"id":', "aborted")
    assert outcome(house) == ("UPSTREAM_LOST", "upstream")
    house.check_quiet()


def test_an_error_in_band_is_the_providers_and_nothing_is_put_behind_it(house: House) -> None:
    frame = b'event: error\ndata: {"error":{"message":"overloaded","type":"t"}}\n\n'
    for end, rest in (("end", b"data: half"), ("lose", b"")):
        asker, ask = chat(house)
        ask.answer().body(CHUNK, frame, b"data: half")
        getattr(ask, end)()
        assert (asker.reply.body, asker.reply.over) == (CHUNK + frame + rest, "ended"), "it has its end, however the provider's comes"
    assert {row.outcome for row in house.book.settled} == {"UPSTREAM_ERROR"}
    assert house.book.settled[0].error_message == "overloaded"


def test_a_frame_that_nobody_could_read_ends_uncleanly_where_its_line_broke(house: House) -> None:
    with_limit = House(Settings(limits=house.gateway.settings.limits.__class__(frame=30)))
    try:
        for end, over in (("end", "ended"), ("lose", "aborted")):
            asker, ask = chat(with_limit)
            ask.answer().body(b"data: " + b"x" * 50, b"\n\n", b"data: tail")
            getattr(ask, end)()
            assert (asker.reply.body, asker.reply.over) == (b"data: " + b"x" * 50 + b"\n\ndata: tail", over)
        assert {row.outcome for row in with_limit.book.settled} == {"UNVERIFIED"}
        with_limit.check_quiet()
    finally:
        with_limit.close()


@pytest.mark.parametrize("pieces", [[], [b"["], [b'[{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}', b",\n{"]])
def test_an_array_is_closed_with_its_error(house: House, pieces: list[bytes]) -> None:
    asker = house.post("/v1beta/models/m:streamGenerateContent", {})
    house.last.answer(200, [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")]).body(*pieces).end()
    told = asker.reply.json()
    assert (told[-1] if isinstance(told, list) else told)["error"]["code"] == 502
    assert (asker.reply.status, asker.reply.over) == ((200, "ended") if len(pieces) > 1 or b"," in b"".join(pieces) else (502, "ended"))
    assert outcome(house) == ("TRUNCATED", "upstream")


# Before the first byte: true statuses.


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (LossKind.CONNECT, 502),
        (LossKind.CONNECT_TIMEOUT, 504),
        (LossKind.TLS, 502),
        (LossKind.RESET, 502),
        (LossKind.EOF, 502),
        (LossKind.GARBAGE, 502),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1beta/models/m:generateContent", "/v1/responses"])
def test_a_provider_that_cannot_be_reached(house: House, kind: LossKind, status: int, path: str) -> None:
    asker = house.post(path, {"model": "m", "stream": True})
    house.last.lose(kind, "a reason in words")
    for _ in range(2 if kind in (LossKind.CONNECT, LossKind.CONNECT_TIMEOUT, LossKind.TLS) else 0):
        assert asker.reply.status is None, "it is tried again where nothing was sent"
        house.loop.wait(1.0)
        house.last.lose(kind, "a reason in words")
    assert (asker.reply.status, asker.reply.over) == (status, "ended")
    assert "a reason in words" in asker.reply.json()["error"]["message"]
    row = house.row()
    if kind is LossKind.CONNECT_TIMEOUT:
        assert (row.outcome, row.cause, row.ended_by) == ("TIMED_OUT", "connect: a reason in words", "gateway")
    else:
        assert (row.outcome, row.cause, row.ended_by) == ("UPSTREAM_LOST", "a reason in words", "upstream")
    assert (row.status, row.upstream_status) == (status, None)
    house.check_quiet()


def test_a_kept_connection_that_died_is_replaced_unseen(house: House) -> None:
    """By the client; the row has the try."""
    asker, first = chat(house)
    first.lose(LossKind.STALE, "a reason in words")
    again = house.last
    assert again is not first
    assert again.fresh
    assert again.rest == first.rest
    again.answer().body(CHUNK + STOP + DONE).end()
    assert asker.reply.body == CHUNK + STOP + DONE
    assert outcome(house) == ("COMPLETE", "upstream")
    row = house.row()
    assert (row.retries, [(one["status"], one["cause"]) for one in json.loads(row.tries or "[]")]) == (1, [(None, "a reason in words")])


def test_an_upload_is_not_sent_twice(house: House) -> None:
    asker = house.open("POST", "/v1/files", length=3)
    asker.body(b"abc").end()
    house.last.lose(LossKind.STALE)
    assert len(house.asks) == 1
    assert asker.reply.status == 502


# The field that we add.


def without_usage(house: House) -> tuple[Asker, FakeAsk]:
    asker = house.post("/v1/chat/completions", {"model": "m", "stream": True, "messages": []})
    assert json.loads(house.last.sent_body)["stream_options"] == {"include_usage": True}
    return asker, house.last


def test_usage_is_asked_for_and_taken_out_again(house: House) -> None:
    asker, ask = without_usage(house)
    ask.answer().body(CHUNK + STOP + USAGE + DONE).end()
    assert asker.reply.body == CHUNK + STOP + DONE
    assert (house.row().input_tokens, house.row().usage_source) == (3, "reported")


@pytest.mark.parametrize("status", [400, 422])
def test_a_provider_that_refuses_the_field_is_asked_without_it_and_remembered(house: House, status: int) -> None:
    asker, first = without_usage(house)
    first.answer_json(REFUSES, status)
    assert asker.reply.status is None, "the client has seen nothing of it"
    second = house.last
    assert json.loads(second.sent_body) == {"model": "m", "stream": True, "messages": []}
    assert house.gateway.peeked.used > 0
    second.answer().body(CHUNK + STOP + USAGE + DONE).end()
    assert asker.reply.body == CHUNK + STOP + USAGE + DONE, "nobody asked for usage now: what comes is the provider's own"
    row = house.row()
    assert (row.outcome, row.retries, row.upstream_status) == ("COMPLETE", 1, 200)
    house.post("/v1/chat/completions", {"model": "m", "stream": True})
    assert b"stream_options" not in house.last.sent_body
    house.last.lose()
    house.post("/v1/chat/completions", {"model": "another", "stream": True})
    assert b"stream_options" in house.last.sent_body, "it may know the field"
    house.last.lose()
    for number in range(5000):
        house.gateway.note_no_usage_field("openai", str(number))
    assert len(house.gateway.no_usage_field) <= 4096
    house.check_quiet()


def test_another_refusal_passes_as_it_came(house: House) -> None:
    for body in (b'{"error":{"message":"bad"}}', b"", b"x" * 70_000):
        asker, ask = without_usage(house)
        ask.answer(422, [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))])
        assert asker.reply.status is None, "the head waits for the body"
        for i in range(0, len(body), 10_000):
            ask.body(body[i : i + 10_000])
        ask.end()
        assert (asker.reply.status, asker.reply.over) == (422, "ended")
        assert asker.reply.body == body or (not body and asker.reply.json()["error"]["message"] == HTTPStatus(422).phrase)
    assert {row.outcome for row in house.book.settled} == {"UPSTREAM_ERROR"}
    assert house.gateway.no_usage_field == set()
    house.check_quiet()


def test_a_second_refusal_is_the_clients(house: House) -> None:
    asker, first = without_usage(house)
    first.answer_json(REFUSES, 422)
    house.last.answer_json(REFUSES, 422)
    assert len(house.asks) == 2
    assert (asker.reply.status, asker.reply.json()) == (422, REFUSES)


def test_a_refusal_that_breaks_off(house: House) -> None:
    asker, ask = without_usage(house)
    ask.answer(422, SSE).body(b'{"error"').lose()
    assert (asker.reply.status, asker.reply.over) == (502, "ended")
    assert outcome(house) == ("UPSTREAM_LOST", "upstream")
    house.check_quiet()


def test_who_asked_for_usage_is_told_of_the_refusal(house: House) -> None:
    asker, ask = chat(house)
    ask.answer_json(REFUSES, 422)
    assert (asker.reply.status, len(house.asks)) == (422, 1)


def test_a_provider_for_which_it_is_switched_off() -> None:
    house = House(openai={"ask_usage": False})
    try:
        asker = house.post("/v1/chat/completions", {"model": "m", "stream": True})
        assert b"stream_options" not in house.last.sent_body
        house.last.answer().body(CHUNK + USAGE + DONE).end()
        assert asker.reply.body == CHUNK + USAGE + DONE
    finally:
        house.close()


# Behind the terminal event.


def test_a_provider_that_does_not_end(house: House) -> None:
    asker, ask = chat(house)
    ask.answer().body(CHUNK + STOP + DONE)
    assert outcome(house) == ("COMPLETE", "upstream"), "it is settled with the terminal event"
    assert asker.reply.over is None
    house.loop.wait(1.9)
    assert ask.live
    house.loop.wait(0.2)
    assert ask.cancelled
    assert asker.reply.over == "ended"
    house.check_quiet()


@pytest.mark.parametrize("then", ["end", "lose"])
def test_what_comes_behind_it_changes_nothing(house: House, then: str) -> None:
    asker, ask = chat(house)
    ask.answer().body(CHUNK + DONE, b": bye\n\n", b"data: half")
    getattr(ask, then)()
    assert (asker.reply.body, asker.reply.over) == (CHUNK + DONE + b": bye\n\ndata: half", "ended")
    assert outcome(house) == ("COMPLETE", "upstream")
    house.check_quiet()


@pytest.mark.parametrize("behind", [b"", b": bye\n\n", b"data: half"])
def test_a_client_that_closes_on_it(house: House, behind: bytes) -> None:
    """A common habit. The answer was complete; whatever of the provider's was still held is given back."""
    asker, ask = chat(house)
    ask.answer().body(CHUNK + DONE + behind)
    asker.leave()
    assert ask.cancelled
    assert outcome(house) == ("COMPLETE", "upstream")
    house.check_quiet()


# The client goes; the client is slow; the gateway stops.


@pytest.mark.parametrize("pieces", [None, [], [CHUNK], [CHUNK, b"data: half"]])
def test_a_client_that_leaves_takes_the_provider_with_it(house: House, pieces: list[bytes] | None) -> None:
    asker, ask = chat(house)
    if pieces is not None:
        ask.answer().body(*pieces)
    asker.leave()
    assert ask.cancelled
    assert outcome(house) == ("CLIENT_GONE", "client")
    house.check_quiet()


def test_a_client_that_leaves_while_a_refusal_is_judged(house: House) -> None:
    asker, ask = without_usage(house)
    ask.answer(422, SSE).body(b"x")
    asker.leave()
    assert ask.cancelled
    assert outcome(house) == ("CLIENT_GONE", "client")
    house.check_quiet()


def test_a_slow_client_pauses_its_provider(house: House) -> None:
    asker, ask = chat(house)
    house.run(asker.handler.client_paused)
    assert ask.paused
    house.run(asker.handler.client_resumed)
    assert not ask.paused


def test_a_client_that_was_slow_before_anybody_was_asked(house: House) -> None:
    asker = house.open("POST", "/v1/chat/completions", length=13)
    house.run(asker.handler.client_paused)
    asker.body(b'{"model":"m"}').end()
    assert house.last.paused
    house.last.lose(LossKind.STALE)
    assert house.last.paused, "the next connection is no faster"


SHUT: dict[str, tuple[list[bytes] | None, int, str]] = {
    "dialing": (None, 503, "ended"),
    "streaming": ([CHUNK, b"data: half"], 200, "ended"),
}


@pytest.mark.parametrize("phase", SHUT)
def test_the_gateway_shuts_down(house: House, phase: str) -> None:
    pieces, status, over = SHUT[phase]
    asker, ask = chat(house)
    if pieces is not None:
        ask.answer().body(*pieces)
    house.run(house.gateway.shut_down)
    assert ask.cancelled
    assert (asker.reply.status, asker.reply.over) == (status, over)
    assert asker.reply.header(b"retry-after") == (b"1" if status == 503 else None)
    assert b"half" not in asker.reply.body
    assert "shutting down" in (told(asker) if pieces else asker.reply.json()["error"])["message"]
    assert outcome(house) == ("SHUTDOWN", "gateway")
    house.check_quiet()


def test_the_gateway_shuts_down_inside_a_body(house: House) -> None:
    asker, ask = house.whole(ProtocolId.OPENAI_CHAT)
    ask.answer(200, [(b"content-type", b"application/json")]).body(b'{"id":')
    house.run(house.gateway.shut_down)
    assert asker.reply.over == "aborted"
    assert outcome(house) == ("SHUTDOWN", "gateway")
    house.check_quiet()


def test_the_gateway_shuts_down_behind_the_terminal_event(house: House) -> None:
    asker, ask = chat(house)
    ask.answer().body(CHUNK + DONE)
    house.run(house.gateway.shut_down)
    assert (asker.reply.body, asker.reply.over) == (CHUNK + DONE, "ended")
    assert outcome(house) == ("COMPLETE", "upstream")
    house.check_quiet()


@pytest.mark.parametrize("size", [0, 10])
def test_the_gateway_shuts_down_while_a_request_comes_in(house: House, size: int) -> None:
    """It was refused, and that has a row like everything else; what was held of its body is given back."""
    asker = house.open("POST", "/v1/chat/completions", length=20)
    if size:
        asker.body(b"x" * size)
    house.run(house.gateway.shut_down)
    assert (asker.reply.status, asker.reply.over, asker.reply.header(b"retry-after")) == (503, "ended", b"1")
    assert outcome(house) == ("SHUTDOWN", "gateway")
    house.check_quiet()


def test_shut_down_twice(house: House) -> None:
    chat(house)
    house.run(house.gateway.shut_down)
    house.run(house.gateway.shut_down)
    house.check_quiet()
