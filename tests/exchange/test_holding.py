"""What is held before the commit, and what a true status still tells: in every protocol, without sockets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from penstock.exchange.conduct import Conduct, Retries
from penstock.exchange.contract import Headers
from penstock.exchange.judge import HELD
from penstock.pipeline.timers import Timers
from penstock.protocols import REGISTRY
from penstock.upstream.contract import LossKind
from penstock.vocabulary.ids import ProtocolId
from tests.laws.talk import DIALECTS, Dialect, sse
from tests.support.answers import ANSWERS
from tests.support.exchanges import CHUNK, DONE, SSE, STOP, FakeAsk, House, told_last, told_whole
from tests.support.relays import zipped

EACH = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.protocol.value)
PROTOCOL = pytest.mark.parametrize("protocol", list(REGISTRY), ids=lambda p: p.value)
COMMENTS = b": processing\n\n"

WORDS = "Slow down."
ERRORS: dict[ProtocolId, tuple[bytes, int]] = {
    ProtocolId.OPENAI_CHAT: (sse({"error": {"message": WORDS, "type": "t", "code": "rate_limit_exceeded", "param": "p"}}), 429),
    ProtocolId.OPENAI_RESPONSES: (sse({"type": "error", "message": WORDS, "code": "rate_limit_exceeded", "sequence_number": 0}, "error"), 429),
    ProtocolId.ANTHROPIC_MESSAGES: (sse({"type": "error", "error": {"type": "overloaded_error", "message": WORDS}}, "error"), 529),
    ProtocolId.GEMINI: (sse({"error": {"code": 429, "message": WORDS, "status": "RESOURCE_EXHAUSTED"}}), 429),
}
"""An error event of each protocol, and the status that it would have had."""
NAMED: Headers = [
    (b"X-Request-Id", b"req_1"), (b"request-id", b"req_2"), (b"Retry-After", b"7"), (b"x-ratelimit-remaining-tokens", b"0"),
    (b"anthropic-ratelimit-requests-remaining", b"0"), (b"openai-processing-ms", b"3"),
]  # fmt: skip


def kept_headers(reply: Any) -> None:
    for name, value in NAMED:
        assert (name, value) in reply.headers


# The head, and what stands before the first frame.


@EACH
def test_the_head_waits_for_the_first_frame_and_comments_wait_with_it(house: House, dialect: Dialect) -> None:
    asker, ask = house.stream(dialect.protocol)
    first = dialect.head()
    ask.answer(200, [*SSE, *NAMED]).body(COMMENTS, b":\n", first[:9], first[9:-1])
    assert (asker.reply.status, asker.reply.body) == (None, b"")
    ask.body(first[-1:])
    assert (asker.reply.status, asker.reply.body) == (200, COMMENTS + b":\n" + first)
    kept_headers(asker.reply)
    ask.body(COMMENTS)
    assert asker.reply.body.endswith(first + COMMENTS), "from now on they go as they come"
    asker.leave()
    house.check_quiet()


def test_a_flood_of_comments_is_not_held_for_ever(house: House) -> None:
    asker, ask = house.stream(ProtocolId.OPENAI_CHAT)
    ask.answer()
    sent = 0
    while asker.reply.status is None:
        ask.body(b": x\n\n" * 800)
        sent += 4000
        assert sent <= HELD + 4000
    assert sent > HELD
    assert asker.reply.body == b": x\n\n" * (sent // 5)
    ask.body(CHUNK + STOP + DONE).end()
    assert house.row().outcome == "COMPLETE"
    house.check_quiet()


def test_a_frame_that_nobody_can_hold_opens_the_stream() -> None:
    with House(held=100) as house:
        asker, ask = house.stream(ProtocolId.OPENAI_CHAT)
        ask.answer().body(b": c\n\n", b"data: " + b"x" * 200)
        assert asker.reply.body == b": c\n\ndata: " + b"x" * 200
        ask.end()
        assert house.row().outcome == "UNVERIFIED"
        house.check_quiet()


@PROTOCOL
def test_a_whole_body_waits_for_its_first_byte(house: House, protocol: ProtocolId) -> None:
    asker, ask = house.whole(protocol)
    ask.answer(200, [(b"content-type", b"application/json"), (b"content-length", b"12")])
    assert asker.reply.status is None
    ask.body(b"{")
    assert (asker.reply.status, asker.reply.length, asker.reply.body) == (200, 12, b"{")
    ask.body(b'"id": "x"  }').end()
    assert asker.reply.body == b'{"id": "x"  '
    house.check_quiet()


@pytest.mark.parametrize("status", [200, 204])
def test_an_empty_body(house: House, status: int) -> None:
    asker = house.open("DELETE", "/openai/v1/files/f1")
    asker.end()
    house.last.answer(status, [(b"content-length", b"0")] if status == 200 else []).end()
    assert (asker.reply.status, asker.reply.body, asker.reply.over) == (status, b"", "ended")
    assert house.row().outcome == "COMPLETE"


@PROTOCOL
@pytest.mark.parametrize("whole", [True, False])
def test_an_empty_answer_that_proves_nothing(house: House, protocol: ProtocolId, whole: bool) -> None:
    """Without a length: its connection closed, and no more is known."""
    asker, ask = house.whole(protocol) if whole else house.stream(protocol)
    ask.answer(200, [(b"content-type", b"application/json" if whole else b"text/event-stream")]).end()
    assert asker.reply.status == 502
    assert "not complete" in told_whole(protocol, asker.reply)["message"]
    assert (house.row().outcome, house.row().status, house.row().upstream_status) == ("TRUNCATED", 502, 200)
    house.check_quiet()


@PROTOCOL
def test_an_error_in_a_body_where_a_stream_was_asked_for(house: House, protocol: ProtocolId) -> None:
    """A client that reads events would take it for an answer without words."""
    frame, status = ERRORS[protocol]
    body = frame.partition(b"data: ")[2].strip()
    if protocol is ProtocolId.OPENAI_RESPONSES:
        body = json.dumps({"error": {"message": WORDS, "type": "t", "code": "rate_limit_exceeded", "param": None}}).encode()
    asker, ask = house.stream(protocol)
    ask.answer(200, [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *NAMED]).body(body[:9])
    assert asker.reply.status is None
    ask.body(body[9:]).end()
    assert asker.reply.status == status
    assert told_whole(protocol, asker.reply)["message"] == WORDS
    kept_headers(asker.reply)
    row = house.row()
    assert (row.outcome, row.status, row.upstream_status, row.error_message) == ("UPSTREAM_ERROR", status, 200, WORDS)
    house.check_quiet()


@PROTOCOL
@pytest.mark.parametrize("whole", [True, False])
def test_a_body_that_is_none_passes_as_it_is(house: House, protocol: ProtocolId, whole: bool) -> None:
    body = ANSWERS[protocol].json
    asker, ask = house.stream(protocol)
    ask.answer(200, [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]).body(body[:9], body[9:-1])
    assert asker.reply.status is None
    ask.body(body[-1:]).end() if whole else ask.lose()
    if whole:
        assert (asker.reply.status, asker.reply.length, asker.reply.body, asker.reply.over) == (200, len(body), body, "ended")
    else:
        assert asker.reply.status == 502
    assert house.row().outcome == ("COMPLETE" if whole else "UPSTREAM_LOST")
    house.check_quiet()


def test_and_one_of_any_size(house: House) -> None:
    asker, ask = house.stream(ProtocolId.OPENAI_CHAT)
    ask.answer(200, [(b"content-type", b"application/json")]).body(*[b" " * 9000] * 8)
    assert (asker.reply.status, asker.reply.body) == (200, b" " * 72_000)
    ask.body(ANSWERS[ProtocolId.OPENAI_CHAT].json).end()
    assert house.row().outcome == "COMPLETE"
    house.check_quiet()


def test_a_response_that_is_gone_on_with_is_the_one_of_the_path(house: House) -> None:
    """Its beginning, with its id, was told in an earlier stream."""
    asker = house.get("/v1/responses/resp_7?stream=true&starting_after=3")
    delta = {"type": "response.output_text.delta", "sequence_number": 4, "item_id": "m", "delta": "x"}
    house.last.answer().body(sse(delta, "response.output_text.delta")).lose()
    assert (asker.reply.status, asker.reply.body.count(b"event: response.failed")) == (200, 1)
    failed = json.loads(asker.reply.body.rpartition(b"data: ")[2])
    assert (failed["sequence_number"], failed["response"]["id"]) == (5, "resp_7")
    assert (house.row().outcome, house.row().response_id) == ("UPSTREAM_LOST", "resp_7")
    house.check_quiet()


# A 200 that is none.


@PROTOCOL
@pytest.mark.parametrize(("status", "kind"), [(200, b"application/json"), (204, b""), (200, b"text/plain")])
def test_nothing_where_a_stream_was_asked_for(house: House, protocol: ProtocolId, status: int, kind: bytes) -> None:
    asker, ask = house.stream(protocol)
    ask.answer(status, [(b"content-type", kind), (b"content-length", b"0"), *NAMED] if kind else NAMED).end()
    assert asker.reply.status == 502
    assert "before its first event" in told_whole(protocol, asker.reply)["message"]
    assert (house.row().outcome, house.row().upstream_status) == ("TRUNCATED", status)
    house.check_quiet()


def test_nothing_may_be_asked_for_once_more() -> None:
    with House(conduct=Conduct(retries=Retries(first_frame=1))) as house:
        asker, ask = house.stream(ProtocolId.OPENAI_CHAT)
        ask.answer(200, [(b"content-type", b"application/json"), (b"content-length", b"0")]).end()
        assert asker.reply.status is None
        house.until(lambda: len(house.asks) == 2)
        house.last.answer().body(CHUNK + STOP + DONE).end()
        assert (asker.reply.status, house.row().outcome, len(house.asks)) == (200, "COMPLETE", 2)
        house.check_quiet()


@PROTOCOL
@pytest.mark.parametrize("kind", [b"text/plain", b"text/plain; charset=utf-8", b"application/octet-stream"])
def test_a_stream_under_a_vague_name_is_one(house: House, protocol: ProtocolId, kind: bytes) -> None:
    """It is read, and its end is told, however its server calls it."""
    dialect = next(d for d in DIALECTS if d.protocol is protocol)
    asker, ask = house.stream(protocol)
    ask.answer(200, [(b"content-type", kind)]).body(dialect.head() + dialect.text()).end()
    assert asker.reply.status == 200
    assert "not complete" in told_last(protocol, asker.reply)["message"]
    assert house.row().outcome == "TRUNCATED"
    house.check_quiet()



@PROTOCOL
@pytest.mark.parametrize("end", ["end", "lose", "garbage"])
@pytest.mark.parametrize("pieces", [[], [COMMENTS], [COMMENTS, b"data: {half"]])
def test_a_stream_that_dies_before_its_first_frame(house: House, protocol: ProtocolId, end: str, pieces: list[bytes]) -> None:
    asker, ask = house.stream(protocol)
    ask.answer().body(*pieces)
    if end == "end":
        ask.end()
    else:
        ask.lose(LossKind.RESET if end == "lose" else LossKind.GARBAGE, "it broke")
    assert asker.reply.status == 502
    told = told_whole(protocol, asker.reply)
    assert ("it broke" in told["message"]) is (end != "end")
    row = house.row()
    assert (row.outcome, row.ended_by, row.status) == ("TRUNCATED" if end == "end" else "UPSTREAM_LOST", "upstream", 502)
    assert len(house.asks) == 1, "it may have been billed"
    house.check_quiet()


@PROTOCOL
@pytest.mark.parametrize("before", [b"", COMMENTS])
def test_an_error_in_the_place_of_an_answer_gets_its_status(house: House, protocol: ProtocolId, before: bytes) -> None:
    frame, status = ERRORS[protocol]
    asker, ask = house.stream(protocol)
    ask.answer(200, [*SSE, *NAMED]).body(before + frame)
    assert asker.reply.status == status
    told = told_whole(protocol, asker.reply)
    assert told["message"] == WORDS
    if protocol is ProtocolId.OPENAI_CHAT:
        assert (told["type"], told["code"], told["param"]) == ("t", "rate_limit_exceeded", "p")
    kept_headers(asker.reply)
    assert ask.cancelled
    row = house.row()
    assert (row.outcome, row.ended_by, row.status, row.upstream_status, row.error_message) == ("UPSTREAM_ERROR", "upstream", status, 200, WORDS)
    house.check_quiet()


@pytest.mark.parametrize(("protocol", "event", "kept"), [
    (ProtocolId.OPENAI_CHAT, {"error": {"message": WORDS, "code": 429, "metadata": {"provider_name": "x", "raw": "{}"}}}, ("code", "metadata")),
    (ProtocolId.GEMINI, {"error": {"code": 429, "message": WORDS, "status": "UNAVAILABLE", "details": [{"retryDelay": "7s"}]}}, ("code", "status")),
], ids=["chat", "gemini"])  # fmt: skip
def test_all_that_such_an_error_says_is_told(house: House, protocol: ProtocolId, event: dict[str, Any], kept: tuple[str, ...]) -> None:
    asker, ask = house.stream(protocol)
    ask.answer().body(sse(event))
    told = asker.reply.json()["error"]
    assert asker.reply.status == 429
    assert [told[name] for name in kept] == [event["error"][name] for name in kept]
    assert told.get("details", [None])[0] == event["error"].get("details", [None])[0]


@PROTOCOL
def test_what_stands_behind_such_an_error_does_not_matter(house: House, protocol: ProtocolId) -> None:
    """Whether a closing frame comes in the same read is chance."""
    frame, status = ERRORS[protocol]
    asker, ask = house.stream(protocol)
    ask.answer().body(frame + b"data: [DONE]\n\n")
    assert asker.reply.status == status
    house.check_quiet()


@PROTOCOL
def test_not_where_nothing_may_be_told_in_other_words(protocol: ProtocolId) -> None:
    with House(conduct=Conduct(transparent=True)) as house:
        frame, _ = ERRORS[protocol]
        asker, ask = house.stream(protocol)
        ask.answer().body(COMMENTS, frame)
        assert (asker.reply.status, asker.reply.body) == (200, COMMENTS + frame)
        ask.end()
        assert asker.reply.over == "ended"
        assert house.row().outcome == "UPSTREAM_ERROR"
        house.check_quiet()


@EACH
@pytest.mark.parametrize("together", [True, False])
def test_an_error_behind_a_frame_comes_in_band_as_it_came(house: House, dialect: Dialect, together: bool) -> None:
    frame, _ = ERRORS[dialect.protocol]
    asker, ask = house.stream(dialect.protocol)
    ask.answer().body(*([dialect.head() + dialect.text() + frame] if together else [dialect.head(), dialect.text(), frame])).end()
    assert (asker.reply.status, asker.reply.body, asker.reply.over) == (200, dialect.head() + dialect.text() + frame, "ended")
    assert (house.row().outcome, house.row().error_message) == ("UPSTREAM_ERROR", WORDS)
    house.check_quiet()


# Errors in nobody's shape.

PAGE = b"<html><head><title>502 Bad Gateway</title><style>x</style></head><body><h1>Bad Gateway</h1>nginx</body></html>"
FOREIGN: dict[str, tuple[Headers, bytes, str]] = {
    "html": ([(b"content-type", b"text/html")], PAGE, "Bad Gateway"),
    "text": ([(b"content-type", b"text/plain")], b"upstream connect error", "upstream connect error"),
    "json that is none": ([(b"content-type", b"application/json")], b"upstream connect error", "upstream connect error"),
    "half of json": ([(b"content-type", b"application/json")], b'{"error": {"mess', '{"error": {"mess'),
    "nothing": ([], b"", "Service Unavailable"),
    "nothing of json": ([(b"content-type", b"application/json")], b"", "Service Unavailable"),
    "gzip": ([(b"content-type", b"text/html"), (b"content-encoding", b"gzip")], zipped(PAGE), "Bad Gateway"),
    "not gzip": ([(b"content-type", b"text/html"), (b"content-encoding", b"gzip")], b"\xff" * 30, "Service Unavailable"),
}


@PROTOCOL
@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("whole", [True, False])
def test_an_error_in_nobodys_shape_is_told_in_the_clients(house: House, protocol: ProtocolId, kind: str, whole: bool) -> None:
    headers, body, words = FOREIGN[kind]
    asker, ask = house.whole(protocol) if whole else house.stream(protocol)
    ask.answer(503, [*headers, *NAMED, (b"content-length", b"%d" % len(body))]).body(*[body[i : i + 20] for i in range(0, len(body), 20)])
    assert asker.reply.status is None, "it is looked at as a whole"
    ask.end()
    assert (asker.reply.status, asker.reply.header(b"content-encoding")) == (503, None)
    assert words in told_whole(protocol, asker.reply)["message"]
    assert "<" not in asker.reply.json()["error"]["message"]
    kept_headers(asker.reply)
    row = house.row()
    assert (row.outcome, row.status, row.upstream_status) == ("UPSTREAM_ERROR", 503, 503)
    assert words == "Service Unavailable" or words in (row.error_message or "")
    house.check_quiet()


@pytest.mark.parametrize("path", [
    "/v1/responses/r1", "/responses/r1/input_items", "/openai/v1/responses/r1", "/v1/files/f1", "/v1/batches", "/v1/models/m", "/openai/v1/files",
])  # fmt: skip
@pytest.mark.parametrize("kind", FOREIGN)
def test_and_so_is_one_about_what_was_made_before_and_about_models(house: House, path: str, kind: str) -> None:
    headers, body, words = FOREIGN[kind]
    asker = house.get(path)
    house.last.answer(503, [*headers, *NAMED, (b"content-length", b"%d" % len(body))]).body(body).end()
    assert (asker.reply.status, asker.reply.header(b"content-type")) == (503, b"application/json")
    assert words in asker.reply.json()["error"]["message"]
    house.check_quiet()


def test_whoever_asked_for_the_head_alone_gets_the_providers_own(house: House) -> None:
    asker = house.get("/v1/responses/r1", method="HEAD")
    house.last.answer(404, [(b"content-type", b"text/html"), (b"content-length", b"0")]).end()
    assert (asker.reply.status, asker.reply.header(b"content-type"), asker.reply.body) == (404, b"text/html", b"")
    assert (house.row().outcome, house.row().error_message) == ("UPSTREAM_ERROR", None)
    house.check_quiet()


SAID: dict[str, tuple[bytes, str]] = {
    "detail": (b'{"detail":"no such thing"}', "no such thing"),
    "checked": (b'{"detail":[{"loc":["body"],"msg":"field required"},{"msg":"too long"}]}', "field required; too long"),
    "message": (b'{"object":"error","message":"no such thing","code":404}', "no such thing"),
    "listed": (b'[{"error":{"code":404,"message":"no such thing"}}]', "no such thing"),
}


@PROTOCOL
@pytest.mark.parametrize("kind", SAID)
def test_an_error_in_anothers_json_passes_as_it_is_and_its_words_are_in_the_row(house: House, protocol: ProtocolId, kind: str) -> None:
    body, words = SAID[kind]
    asker, ask = house.stream(protocol)
    ask.answer(404, [(b"content-type", b"application/json")]).body(body).end()
    assert (asker.reply.status, asker.reply.body) == (404, body)
    row = house.row()
    assert row.outcome == "UPSTREAM_ERROR"
    assert row.error_message == words or (kind == "checked" and "field required" in (row.error_message or ""))


@PROTOCOL
def test_an_empty_one_of_no_stated_length(house: House, protocol: ProtocolId) -> None:
    asker, ask = house.stream(protocol)
    ask.answer(500, [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")]).end()
    assert asker.reply.status == 500
    assert told_whole(protocol, asker.reply)["message"] == "Internal Server Error"
    house.check_quiet()


@PROTOCOL
def test_one_that_does_not_end(house: House, protocol: ProtocolId) -> None:
    asker, ask = house.stream(protocol)
    ask.answer(500, [(b"content-type", b"text/plain"), (b"transfer-encoding", b"chunked")])
    ask.body(*[b"all work and no play " * 100] * 40)
    assert ask.cancelled
    assert asker.reply.status == 500
    assert told_whole(protocol, asker.reply)["message"].startswith("all work and no play all")
    assert len(asker.reply.body) < 1000
    assert (house.row().outcome, house.row().status) == ("UPSTREAM_ERROR", 500)
    house.check_quiet()


@pytest.mark.parametrize("status", [400, 422])
def test_one_that_could_have_been_about_a_field_of_ours(house: House, status: int) -> None:
    asker = house.post("/v1/chat/completions", {"model": "m", "stream": True})
    house.last.answer(status, [(b"content-type", b"text/html")]).body(PAGE).end()
    assert (asker.reply.status, told_whole(ProtocolId.OPENAI_CHAT, asker.reply)["message"]) == (status, "502 Bad Gateway Bad Gateway nginx")
    assert house.row().outcome == "UPSTREAM_ERROR"
    house.check_quiet()


@PROTOCOL
@pytest.mark.parametrize("kind", [b"application/json", b"application/problem+json", b"text/plain", b"text/html"])
@pytest.mark.parametrize("status", [401, 429, 500])
def test_json_is_a_providers_own_word_to_the_byte(house: House, protocol: ProtocolId, kind: bytes, status: int) -> None:
    body = b' {"detail" : "of another shape", "n": 1.0}\n'
    asker, ask = house.stream(protocol)
    ask.answer(status, [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *NAMED]).body(body[:5], body[5:]).end()
    assert (asker.reply.status, asker.reply.body, asker.reply.over) == (status, body, "ended")
    kept_headers(asker.reply)
    assert house.row().outcome == "UPSTREAM_ERROR"
    house.check_quiet()


def test_json_of_any_size(house: House) -> None:
    body = json.dumps({"error": {"message": "x" * 200_000}}).encode()
    asker, ask = house.stream(ProtocolId.OPENAI_CHAT)
    ask.answer(500, [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))])
    ask.body(*[body[i : i + 9000] for i in range(0, len(body), 9000)]).end()
    assert (asker.reply.status, asker.reply.body, asker.reply.over) == (500, body, "ended")
    house.check_quiet()


@PROTOCOL
@pytest.mark.parametrize("whole", [True, False])
def test_a_page_where_an_answer_was_promised(house: House, protocol: ProtocolId, whole: bool) -> None:
    """A captive portal, or a base URL that lacks its `/v1`."""
    asker, ask = house.whole(protocol) if whole else house.stream(protocol)
    ask.answer(200, [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", b"%d" % len(PAGE)), *NAMED]).body(PAGE).end()
    assert asker.reply.status == 502
    told = told_whole(protocol, asker.reply)
    assert "HTML" in told["message"]
    assert "passed on" not in told["message"]
    assert (house.row().outcome, house.row().upstream_status) == ("TRUNCATED", 200)
    house.check_quiet()


@pytest.mark.parametrize("path", ["/v1/messages/count_tokens", "/v1/embeddings", "/v1beta/models/m:countTokens"])
def test_a_page_in_the_place_of_another_body_passes_and_is_not_called_an_answer(house: House, path: str) -> None:
    asker = house.post(path, {"model": "m", "input": "x", "messages": []})
    house.last.answer(200, [(b"content-type", b"text/html"), (b"content-length", b"%d" % len(PAGE))]).body(PAGE).end()
    assert (asker.reply.status, asker.reply.body) == (200, PAGE)
    assert house.row().outcome == "UNVERIFIED"
    house.check_quiet()


def test_a_page_that_does_not_end(house: House) -> None:
    asker, ask = house.stream(ProtocolId.OPENAI_CHAT)
    ask.answer(200, [(b"content-type", b"text/html")]).body(*[b"<p>" * 9000] * 3)
    assert ask.cancelled
    assert (asker.reply.status, house.row().outcome) == (502, "TRUNCATED")
    house.check_quiet()


@pytest.mark.parametrize("status", [200, 500])
def test_pages_pass_where_nothing_may_be_told_in_other_words(status: int) -> None:
    with House(conduct=Conduct(transparent=True)) as house:
        asker, ask = house.stream(ProtocolId.OPENAI_CHAT)
        ask.answer(status, [(b"content-type", b"text/html"), (b"content-length", b"%d" % len(PAGE))]).body(PAGE).end()
        assert (asker.reply.status, asker.reply.body, asker.reply.header(b"content-type")) == (status, PAGE, b"text/html")
        house.check_quiet()


@pytest.mark.parametrize("status", [200, 404, 502])
@pytest.mark.parametrize(("method", "path"), [("GET", "/openai/v1/files/f1/content"), ("GET", "/openai/v1/vector_stores"), ("POST", "/openai/x")])
def test_and_where_the_protocol_describes_nothing(house: House, method: str, path: str, status: int) -> None:
    asker = house.get(path, method=method)
    house.last.answer(status, [(b"content-type", b"text/html"), (b"content-length", b"%d" % len(PAGE))]).body(PAGE).end()
    assert (asker.reply.status, asker.reply.body) == (status, PAGE)
    house.check_quiet()


@PROTOCOL
@pytest.mark.parametrize(("kind", "half", "words"), [
    (b"text/html", PAGE[:80], "502 Bad Gateway"),
    (b"text/plain", b"out of mem", "out of mem"),
    (b"application/json", b'{"error": {"message": "slow', "Too Many Requests"),
    (b"application/json", b"", "Too Many Requests"),
])  # fmt: skip
@pytest.mark.parametrize("whole", [True, False])
def test_an_error_that_breaks_off_keeps_its_status(
    house: House, protocol: ProtocolId, kind: bytes, half: bytes, words: str, whole: bool
) -> None:
    """What it was is known from its head; half of its words is no body that a client could read."""
    asker, ask = house.whole(protocol) if whole else house.stream(protocol)
    ask.answer(429, [(b"content-type", kind), (b"content-length", b"1000"), *NAMED])
    if half:
        ask.body(half)
    assert asker.reply.status is None
    ask.lose(LossKind.RESET, "it broke")
    assert (asker.reply.status, asker.reply.over) == (429, "ended")
    assert words in told_whole(protocol, asker.reply)["message"]
    kept_headers(asker.reply)
    row = house.row()
    assert (row.outcome, row.status, row.upstream_status) == ("UPSTREAM_ERROR", 429, 429)
    assert row.cause == "the provider answered 429; it broke"
    house.check_quiet()


@pytest.mark.parametrize("path", ["/v1/files/f1", "/v1/files/f1/content", "/openai/v1/vector_stores"])
@pytest.mark.parametrize("coding", [b"identity", b"br"])
@pytest.mark.parametrize("how", ["lost", "stalled"])
def test_an_error_of_which_nothing_comes_keeps_its_status_where_bodies_pass_as_they_come(path: str, coding: bytes, how: str) -> None:
    with House(conduct=Conduct(timers=Timers(max_duration=2.0))) as house:
        asker = house.get(path)
        ask = house.last.answer(404, [(b"content-type", b"application/json"), (b"content-encoding", coding), (b"content-length", b"90"), *NAMED])
        if how == "lost":
            ask.lose(LossKind.RESET, "it broke")
        else:
            house.loop.wait(3.0)
        assert (asker.reply.status, asker.reply.over) == (404, "ended")
        assert "Not Found" in told_whole(ProtocolId.OPENAI_CHAT, asker.reply)["message"]
        kept_headers(asker.reply)
        row = house.row()
        assert (row.outcome, row.status, row.upstream_status) == ("UPSTREAM_ERROR", 404, 404)
        house.check_quiet()


@pytest.mark.parametrize("kind", [b"application/json", b"text/html"])
def test_one_that_breaks_off_is_no_case_for_a_first_frame(kind: bytes) -> None:
    with House(conduct=Conduct(retries=Retries(first_frame=3))) as house:
        asker, ask = house.stream(ProtocolId.OPENAI_CHAT)
        ask.answer(401, [(b"content-type", kind)]).body(b"{").lose()
        assert (asker.reply.status, len(house.asks)) == (401, 1)
        house.check_quiet()


@PROTOCOL
def test_an_error_that_came_as_an_event(house: House, protocol: ProtocolId) -> None:
    """Some answer whoever asks for a stream in that form, errors too."""
    frame, _ = ERRORS[protocol]
    asker, ask = house.stream(protocol)
    ask.answer(429, [(b"content-type", b"text/event-stream; charset=utf-8"), (b"content-length", b"%d" % len(frame)), *NAMED])
    ask.body(frame[:7], frame[7:]).end()
    assert (asker.reply.status, asker.reply.header(b"content-type")) == (429, b"application/json")
    assert asker.reply.body == frame.partition(b"data: ")[2].strip()
    kept_headers(asker.reply)
    assert (house.row().outcome, house.row().error_message) == ("UPSTREAM_ERROR", WORDS)
    house.check_quiet()


@pytest.mark.parametrize("how", ["leave", "shut down"])
def test_nobody_waits_for_it_any_more(house: House, how: str) -> None:
    asker, ask = house.stream(ProtocolId.OPENAI_CHAT)
    ask.answer(503, [(b"content-type", b"text/html")]).body(PAGE[:50])
    if how == "leave":
        asker.leave()
    else:
        house.run(house.gateway.shut_down)
        assert asker.reply.status == 503
        assert "shutting down" in told_whole(ProtocolId.OPENAI_CHAT, asker.reply)["message"]
    assert ask.cancelled
    house.check_quiet()


# Behind the commit.


@EACH
@pytest.mark.parametrize("end", ["end", "lose"])
def test_what_breaks_behind_the_first_frame_is_told_in_band(house: House, dialect: Dialect, end: str) -> None:
    asker, ask = house.stream(dialect.protocol)
    ask.answer().body(dialect.head(), dialect.text(), b"data: {half")
    getattr(ask, end)()
    assert asker.reply.body.startswith(dialect.head() + dialect.text())
    assert told_last(dialect.protocol, asker.reply)["message"].startswith("The answer of provider")
    assert b"half" not in asker.reply.body
    house.check_quiet()


def answered(ask: FakeAsk, dialect: Dialect) -> bytes:
    """A whole stream; what it was."""
    terminal = dialect.terminal() or sse({"candidates": [{"finishReason": "STOP"}]})
    finish = STOP if dialect.protocol is ProtocolId.OPENAI_CHAT else b""
    pieces = [dialect.head(), dialect.text(), finish + terminal]
    ask.answer().body(*pieces).end()
    return b"".join(pieces)


@EACH
@pytest.mark.parametrize("transparent", [True, False])
def test_a_good_stream_is_the_providers_own(dialect: Dialect, transparent: bool) -> None:
    with House(conduct=Conduct(transparent=transparent)) as house:
        asker, ask = house.stream(dialect.protocol)
        assert answered(ask, dialect) == asker.reply.body
        assert asker.reply.over == "ended"
        assert (asker.reply.header(b"x-accel-buffering") == b"no") is not transparent
        assert house.row().outcome == "COMPLETE"
        house.check_quiet()
