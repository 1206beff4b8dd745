"""Notices that come as answers: found out in every shape, and healthy streams are not held for it."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.exchange.conduct import Conduct, Retries
from penstock.exchange.contract import Headers
from penstock.exchange.notice import HELD, HOLD, MORE, Openings, Verdict
from penstock.exchange.quirks import find_quirks
from penstock.upstream.contract import LossKind, ResponseHead
from penstock.vocabulary.ids import ProtocolId
from tests.support.corpus import Case, cases
from tests.support.exchanges import CHUNK, DONE, SSE, STOP, Asker, FakeAsk, House, told_last, told_whole

OPENING = "IMPORTANT AUTHENTICATION NOTICE FROM ARGO"
NOTICES = (OPENING, "AUTHENTICATION NOTICE FROM ARGO")
TOLD = "⚠️ **IMPORTANT AUTHENTICATION NOTICE FROM ARGO** ⚠️\n\nACCESS DENIED: The username 'alice' is not authorized."
CHAT, MESSAGES, RESPONSES = ProtocolId.OPENAI_CHAT, ProtocolId.ANTHROPIC_MESSAGES, ProtocolId.OPENAI_RESPONSES
JSON: Headers = [(b"content-type", b"application/json")]


@pytest.fixture
def house() -> Generator[House]:
    with House(openai={"notices": NOTICES}, anthropic={"notices": NOTICES}) as made:
        made.gateway.quirks = find_quirks(made, made.providers, made.loop.time)
        yield made


def frames(protocol: ProtocolId, *pieces: str) -> list[bytes]:
    """A whole stream that says `pieces`: its opening, one frame for each, its end."""
    match protocol:
        case ProtocolId.OPENAI_CHAT:
            opening = b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
            said = [b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":%b}}]}\n\n' % quoted(piece) for piece in pieces]
            return [opening, *said, STOP + DONE]
        case ProtocolId.ANTHROPIC_MESSAGES:
            start: dict[str, Any] = {
                "id": "msg", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None, "stop_sequence": None,
                "usage": {"input_tokens": 0, "output_tokens": 0},
            }  # fmt: skip
            opening = named({"type": "message_start", "message": start}) + named({"type": "ping"}) + named(
                {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
            said = [named({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}) for piece in pieces]
            end = named({"type": "content_block_stop", "index": 0}) + named(
                {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 0}}) + named({"type": "message_stop"})
            return [opening, *said, end]
        case _:
            opening = named({"type": "response.created", "response": {"id": "r", "object": "response", "status": "in_progress", "output": []}})
            said = [named({"type": "response.output_text.delta", "item_id": "i", "output_index": 0, "content_index": 0, "delta": piece})
                    for piece in pieces]
            return [opening, *said, named({"type": "response.completed", "response": {"id": "r", "status": "completed", "output": []}})]


def named(event: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event).encode())


def quoted(text: str) -> bytes:
    return json.dumps(text).encode()


def check_refused(house: House, client: Asker, protocol: ProtocolId, upstream: FakeAsk) -> None:
    error = told_whole(protocol, client.reply)
    assert client.reply.status == 403
    assert "ACCESS DENIED: The username 'alice'" in error["message"]
    assert not upstream.live
    row = house.row()
    assert (row.outcome, row.cause, row.status, row.upstream_status) == (
        "UPSTREAM_ERROR", "the provider sent a notice instead of an answer", 403, 200)
    house.check_quiet()


# In streams.


@pytest.mark.parametrize("protocol", [CHAT, MESSAGES, RESPONSES])
@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_a_notice_in_content_deltas_is_an_error(house: House, protocol: ProtocolId, size: int) -> None:
    client, upstream = house.stream(protocol)
    upstream.answer()
    for frame in frames(protocol, *(TOLD[at : at + size] for at in range(0, len(TOLD), size))):
        if upstream.live:
            upstream.body(frame)
    check_refused(house, client, protocol, upstream)


@pytest.mark.parametrize("protocol", [CHAT, MESSAGES, RESPONSES])
def test_in_any_pieces_of_bytes(house: House, protocol: ProtocolId) -> None:
    client, upstream = house.stream(protocol)
    upstream.answer()
    whole = b"".join(frames(protocol, TOLD))
    for at in range(0, len(whole), 5):
        if upstream.live:
            upstream.body(whole[at : at + 5])
    check_refused(house, client, protocol, upstream)


def test_a_notice_whose_stream_is_cut_or_stalls_is_told_all_the_same(house: House) -> None:
    opening, told, _ = frames(CHAT, TOLD)
    client, upstream = house.stream(CHAT)
    upstream.answer().body(opening, told)
    upstream.lose(LossKind.RESET)
    check_refused(house, client, CHAT, upstream)
    client, upstream = house.stream(CHAT)
    upstream.answer().body(opening, told)
    assert client.reply.status is None
    house.loop.wait(MORE + 0.1)
    assert client.reply.status == 403
    assert upstream.cancelled


@pytest.mark.parametrize("how", ["a notice", "a stream", "half of one", "none", "it leaves", "a body", "an error"])
def test_whoever_is_over_is_gone(house: House, how: str) -> None:
    """Exchange and gate hold each other until then: nothing has to be collected."""
    gc.disable()
    try:
        client, upstream = house.stream(CHAT)
        (exchange,) = map(weakref.ref, house.gateway.live)
        match how:
            case "a body" | "an error":
                upstream.answer_json({"id": "c", "choices": []}, 200 if how == "a body" else 500)
            case "none":
                upstream.lose()
            case "it leaves":
                upstream.answer()
                client.leave()
            case _:
                told = frames(CHAT, TOLD if how == "a notice" else "Hello.")
                upstream.answer().body(*told[: 2 if how == "half of one" else 3])
                if upstream.live:
                    upstream.end()
        house.check_quiet()
        del client, upstream
        house.asks.clear()
        assert exchange() is None
    finally:
        gc.enable()


def test_of_a_body_in_one_read_neither(house: House) -> None:
    gc.disable()
    try:
        client = house.post("/v1/chat/completions", {"model": "m", "messages": []})
        (exchange,) = map(weakref.ref, house.gateway.live)
        body = b'{"id":"c","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hello."},"finish_reason":"stop"}]}'
        house.run(house.last.to.answer_whole, ResponseHead(200, JSON), body, 0.0)
        assert client.reply.status == 200
        del client
        house.asks.clear()
        assert exchange() is None
    finally:
        gc.enable()


def test_the_rest_of_a_notice_is_bounded(house: House) -> None:
    client, upstream = house.stream(CHAT)
    upstream.answer().body(*frames(CHAT, TOLD)[:2])
    for _ in range(HELD // len(CHUNK) + 2):
        if upstream.live:
            upstream.body(CHUNK)
    assert client.reply.status == 403


@pytest.mark.parametrize(
    "text", ["Hello", "A", "Important: x", "authentication is", "IMPORTANT AUTHENTICATION NOTICE FROM ANL", "**Bold**", "您好 ok"])
@pytest.mark.parametrize("protocol", [CHAT, MESSAGES, RESPONSES])
def test_a_healthy_stream_goes_on_with_its_first_other_letter(house: House, protocol: ProtocolId, text: str) -> None:
    client, upstream = house.stream(protocol)
    opening, *said, end = frames(protocol, *text, " and so on")
    upstream.answer().body(opening)
    sent = opening
    for frame in said:
        upstream.body(frame)
        sent += frame
    assert client.reply.body == sent, "by the time its text is another one, all of it is there"
    upstream.body(end)
    assert client.reply.body == sent + end
    assert house.row().outcome == "COMPLETE"


@pytest.mark.parametrize("text", ["您好", "Привет", "été", "こんにちは", "३"])
def test_letters_of_every_script_are_letters(house: House, text: str) -> None:
    client, upstream = house.stream(CHAT)
    opening, first, *_ = frames(CHAT, text)
    upstream.answer().body(opening, first)
    assert client.reply.body == opening + first


@pytest.mark.parametrize("front", ['"', '\\"**', "«", "\t_"])
def test_a_notice_in_quotes_is_one_in_bodies_too(house: House, front: str) -> None:
    client, upstream = house.whole(CHAT)
    upstream.answer_json(bodies(CHAT, front + TOLD))
    check_refused(house, client, CHAT, upstream)


def test_it_is_not_held_for_one_letter_more(house: House) -> None:
    client, upstream = house.stream(CHAT)
    opening, first, second, *_ = frames(CHAT, "I", "t")
    upstream.answer().body(opening, first)
    assert client.reply.body == b"", "it could still become one"
    upstream.body(second)
    assert client.reply.body == opening + first + second


@pytest.mark.parametrize("delta", [
    {"reasoning_content": "hm"}, {"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f", "arguments": ""}}]},
])
def test_thinking_and_tool_calls_are_no_notices(house: House, delta: dict[str, Any]) -> None:
    client, upstream = house.stream(CHAT)
    frame = b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":%b}]}\n\n' % json.dumps(delta).encode()
    upstream.answer().body(frame)
    assert client.reply.body == frame


def test_an_error_in_band_is_told_as_one(house: House) -> None:
    client, upstream = house.stream(CHAT)
    upstream.answer().body(b'data: {"error":{"message":"no","type":"server_error"}}\n\n')
    assert client.reply.status == 500
    assert client.reply.json()["error"]["message"] == "no"


def test_a_stream_without_a_word_is_held_for_a_short_time_only(house: House) -> None:
    client, upstream = house.stream(MESSAGES)
    opening, said, end = frames(MESSAGES, "Hello")
    upstream.answer().body(opening)
    house.loop.wait(HOLD - 0.2)
    assert client.reply.status is None
    house.loop.wait(0.3)
    assert client.reply.body == opening
    upstream.body(said, end)
    assert client.reply.body == opening + said + end
    assert house.row().outcome == "COMPLETE"


def test_a_notice_that_comes_late_is_told_in_band(house: House) -> None:
    client, upstream = house.stream(MESSAGES)
    opening, *said, _ = frames(MESSAGES, *TOLD)
    upstream.answer().body(opening)
    house.loop.wait(HOLD + 0.1)
    upstream.body(*said)
    house.loop.wait(MORE + 0.1)
    assert "ACCESS DENIED" in told_last(MESSAGES, client.reply)["message"]
    assert house.row().cause == "the provider sent a notice instead of an answer"
    house.check_quiet()


def test_a_client_that_leaves_while_it_is_held(house: House) -> None:
    client, upstream = house.stream(CHAT)
    upstream.answer().body(frames(CHAT, "I")[0])
    client.leave()
    assert upstream.cancelled
    house.loop.wait(HOLD + 0.1)
    assert house.row().outcome == "CLIENT_GONE"
    house.check_quiet()


def test_an_empty_stream_and_one_that_is_cut_stay_what_they_are(house: House) -> None:
    client, upstream = house.stream(CHAT)
    upstream.answer().body(STOP, DONE)
    assert client.reply.body == STOP + DONE
    client, upstream = house.stream(CHAT)
    upstream.answer().body(frames(CHAT, "I")[0], frames(CHAT, "I")[1]).end()
    assert b"error" in client.reply.body
    assert house.told[-1].outcome == "TRUNCATED"


# In whole bodies.


def bodies(protocol: ProtocolId, text: str) -> dict[str, Any]:
    if protocol is MESSAGES:
        return {"id": "msg_blocked_1", "type": "message", "role": "assistant", "content": [{"type": "text", "text": text}], "stop_reason": "end_turn"}
    if protocol is RESPONSES:
        return {"id": "r", "status": "completed", "output": [{"type": "message", "content": [{"type": "output_text", "text": text}]}]}
    return {"id": "c", "object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}


@pytest.mark.parametrize("protocol", [CHAT, MESSAGES, RESPONSES])
def test_a_notice_in_a_whole_body_is_an_error(house: House, protocol: ProtocolId) -> None:
    client, upstream = house.whole(protocol)
    upstream.answer_json(bodies(protocol, TOLD))
    check_refused(house, client, protocol, upstream)


@pytest.mark.parametrize(("kind", "body"), [
    (b"text/plain", TOLD.encode()), (b"text/html", b"<p>" + TOLD.encode()), (b"application/json", json.dumps({"response": TOLD}).encode()),
    (b"application/json", json.dumps(TOLD, ensure_ascii=False).encode()),
])
def test_a_notice_in_nobodys_shape(house: House, kind: bytes, body: bytes) -> None:
    client, upstream = house.whole(CHAT)
    upstream.answer(200, [(b"content-type", kind), (b"content-length", b"%d" % len(body))]).body(body)
    if upstream.live:
        upstream.end()
    assert client.reply.status == (502 if kind == b"text/html" else 403)  # a page is no answer in any case


@pytest.mark.parametrize("text", ["Hello", "What is \"AUTHENTICATION NOTICE FROM ARGO\"?", "See: AUTHENTICATION NOTICE FROM ARGO", ""])
@pytest.mark.parametrize("protocol", [CHAT, MESSAGES, RESPONSES])
def test_a_healthy_body_passes_byte_for_byte(house: House, protocol: ProtocolId, text: str) -> None:
    client, upstream = house.whole(protocol)
    body = json.dumps(bodies(protocol, text)).encode()
    upstream.answer(200, [*JSON, (b"content-length", b"%d" % len(body))]).body(body[:9], body[9:]).end()
    assert (client.reply.status, client.reply.body) == (200, body)
    assert house.row().outcome == "COMPLETE"


def test_text_that_is_no_stream_of_events_goes_on_with_its_first_other_letter(house: House) -> None:
    client = house.post("/openai/v1/chat/completions", {"model": "m", "messages": []})
    house.last.answer(200, [(b"content-type", b"text/plain"), (b"transfer-encoding", b"chunked")]).body("⚠️ Im".encode())
    assert client.reply.body == b""
    house.last.body(b"agine")
    assert client.reply.body == "⚠️ Imagine".encode()
    house.last.body(b" there is no rest")
    assert client.reply.body == "⚠️ Imagine there is no rest".encode()


def test_a_large_body_is_not_held(house: House) -> None:
    client, upstream = house.whole(CHAT)
    body = json.dumps(bodies(CHAT, "x" * HELD)).encode()
    upstream.answer(200, [*JSON, (b"content-length", b"%d" % len(body))]).body(body[:100])
    assert client.reply.body == body[:100]
    client, upstream = house.whole(CHAT)
    upstream.answer(200, [*JSON, (b"transfer-encoding", b"chunked")]).body(body)
    assert client.reply.body == body, "nor where nobody says how large it is"


@pytest.mark.parametrize("status", [201, 400, 401, 500])
def test_other_statuses_are_what_they_say(house: House, status: int) -> None:
    client, upstream = house.whole(CHAT)
    upstream.answer_json({"error": {"message": TOLD}}, status)
    assert client.reply.status == status


def test_what_nobody_asked_a_model_for_is_not_looked_at(house: House) -> None:
    client = house.get("/openai/v1/files/f/content")
    house.last.answer(200, [(b"content-type", b"text/plain")]).body(TOLD.encode())
    assert client.reply.body == TOLD.encode()


def test_a_provider_without_the_switch_is_not_looked_at() -> None:
    with House() as house:
        house.gateway.quirks = find_quirks(house, house.providers, house.loop.time)
        assert set(house.gateway.quirks) == {"argo_legacy"}, "whose names of models are looked up"
        client, upstream = house.stream(CHAT)
        sent = frames(CHAT, TOLD)
        upstream.answer().body(*sent)
        assert client.reply.body == b"".join(sent)


# Laws.


@pytest.mark.parametrize("case", [case for case in cases() if case.recording.protocol in (CHAT, MESSAGES, RESPONSES)], ids=lambda case: case.name)
def test_recorded_streams_pass_unchanged(house: House, case: Case) -> None:
    client, upstream = house.stream(case.recording.protocol)
    upstream.answer()
    data = case.body
    for at in range(0, len(data), 777):
        if upstream.live:
            upstream.body(data[at : at + 777])
    if upstream.live:
        upstream.end()
    with House() as plain:
        other, told = plain.stream(case.recording.protocol)
        told.answer()
        for at in range(0, len(data), 777):
            if told.live:
                told.body(data[at : at + 777])
        if told.live:
            told.end()
    house_id, plain_id = house.told[-1].id.encode(), plain.told[-1].id.encode()
    assert (client.reply.status, client.reply.body.replace(house_id, b"")) == (other.reply.status, other.reply.body.replace(plain_id, b""))
    assert house.told[-1].outcome == plain.told[-1].outcome


@given(st.text(), st.text(" *#\n⚠️-_\"\\\x7f"), st.sampled_from(NOTICES))
def test_a_text_is_judged_by_its_beginning(rest: str, front: str, opening: str) -> None:
    openings = Openings(NOTICES)
    text = front + opening.lower() + rest
    assert openings.judge(text) is Verdict.NOTICE
    for at in range(len(front) + len(opening)):
        assert openings.judge(text[:at]) is Verdict.OPEN
    assert openings.find(json.dumps({"a": [text]}).encode()) == text[:4096]
    for letter in "xé你":
        assert openings.judge(letter + text) is Verdict.CLEAR
        assert openings.find(json.dumps({"a": [letter + text]}).encode()) is None
        assert openings.find(json.dumps({"a": [letter + text, text]}).encode()) == text[:4096]


@given(st.binary())
def test_no_body_makes_it_raise(body: bytes) -> None:
    assert Openings(NOTICES).find(body) is None
    assert Openings(NOTICES).find(b'{"a":"AUTHENTICATION NOTICE FROM ARGO' + body) is None or b'"' in body


def test_the_head_of_a_stream_is_the_providers(house: House) -> None:
    client, upstream = house.stream(CHAT)
    upstream.answer(200, [*SSE, (b"x-request-id", b"r1")]).body(frames(CHAT, "Hello")[1])
    assert client.reply.header(b"x-request-id") == b"r1"
    assert house.told == []


@pytest.mark.parametrize("protocol", [CHAT, MESSAGES, RESPONSES])
@pytest.mark.parametrize(("text", "status"), [(TOLD, 403), ("Hello", 200)])
def test_a_body_that_comes_in_one_read(house: House, protocol: ProtocolId, text: str, status: int) -> None:
    client, upstream = house.whole(protocol)
    body = json.dumps(bodies(protocol, text)).encode()
    head = ResponseHead(200, [*JSON, (b"content-length", b"%d" % len(body))])
    house.run(upstream.to.answer_whole, head, body, house.loop.time())
    assert client.reply.status == status
    assert (client.reply.body == body) is (status == 200)
    assert house.row().upstream_status == 200
    house.gateway.live.clear()


@pytest.mark.parametrize("kind", [b"text/event-stream", b"text/plain"])
def test_a_stream_that_comes_in_one_read(house: House, kind: bytes) -> None:
    sent = b"".join(frames(CHAT, TOLD)) if b"event" in kind else TOLD.encode()
    client, upstream = house.stream(CHAT)
    house.run(upstream.to.answer_whole, ResponseHead(200, [(b"content-type", kind), (b"content-length", b"%d" % len(sent))]), sent, house.loop.time())
    assert client.reply.status == 403
    healthy = b"".join(frames(CHAT, "Hello"))
    client, upstream = house.stream(CHAT)
    house.run(upstream.to.answer_whole, ResponseHead(200, SSE), healthy, house.loop.time())
    assert client.reply.body == healthy


def guarded(conduct: Conduct) -> House:
    made = House(openai={"notices": NOTICES}, conduct=conduct)
    made.gateway.quirks = find_quirks(made, made.providers, made.loop.time)
    return made


def test_a_notice_behind_a_head_of_ours_is_told_in_band() -> None:
    with guarded(Conduct(early_head=1.0)) as house:
        client, upstream = house.stream(CHAT)
        house.loop.wait(1.5)
        assert client.reply.status == 200
        upstream.answer()
        for frame in frames(CHAT, TOLD):
            if upstream.live:
                upstream.body(frame)
        assert "ACCESS DENIED" in told_last(CHAT, client.reply)["message"]
        assert house.row().cause == "the provider sent a notice instead of an answer"
        house.check_quiet()


def test_a_notice_for_a_client_that_has_left() -> None:
    with guarded(Conduct(on_disconnect="drain")) as house:
        client, upstream = house.stream(CHAT)
        upstream.answer().body(frames(CHAT, TOLD)[0])
        client.leave()
        for frame in frames(CHAT, TOLD)[1:]:
            if upstream.live:
                upstream.body(frame)
        assert house.row().outcome == "CLIENT_GONE"
        house.check_quiet()


def test_each_try_is_looked_at() -> None:
    with guarded(Conduct(retries=Retries(status=1))) as house:
        client, upstream = house.stream(CHAT)
        upstream.answer_json({"error": {"message": "busy"}}, 503)
        house.until(lambda: len(house.asks) == 2)
        house.last.answer()
        for frame in frames(CHAT, TOLD):
            if house.last.live:
                house.last.body(frame)
        check_refused(house, client, CHAT, house.last)
