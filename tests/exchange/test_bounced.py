"""`nonstream_mode: retry`: asked as it came, and as a stream once the provider has refused to answer without one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from penstock.capture import Dump
from penstock.exchange.conduct import Conduct, Retries
from penstock.exchange.judge import HELD
from penstock.protocols import REGISTRY
from penstock.vocabulary.ids import ProtocolId
from tests.support.answers import ANSWERS, CHAT, MESSAGES
from tests.support.exchanges import SSE, FakeAsk, House, told_whole
from tests.support.relays import zipped

PROTOCOL = pytest.mark.parametrize("protocol", list(REGISTRY), ids=lambda p: p.value)
RETRY = Conduct(nonstream="retry")
WORDS = "Streaming is required for operations that may take longer than 10 minutes. See the README"
BOUNCE = {"type": "error", "error": {"type": "api_error", "message": WORDS}}


class Kept:
    """In the place of the dumps' thread."""

    def __init__(self) -> None:
        self.dumps: list[Dump] = []

    def put(self, dump: Dump) -> bool:
        self.dumps.append(dump)
        return True


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def retrying(kept: Kept) -> Any:
    with House(conduct=RETRY) as house:
        house.gateway.dumps = kept  # pyright: ignore[reportAttributeAccessIssue]
        yield house


def bounce(ask: FakeAsk, status: int = 500, body: bytes | None = None, kind: bytes = b"application/json") -> None:
    data = json.dumps(BOUNCE).encode() if body is None else body
    ask.answer(status, [(b"content-type", kind), (b"content-length", b"%d" % len(data)), (b"request-id", b"req_bounce")]).body(data).end()


@PROTOCOL
def test_the_second_try_is_a_stream_and_both_are_in_the_record(retrying: House, kept: Kept, protocol: ProtocolId) -> None:
    asker, ask = retrying.whole(protocol)
    first = ask.sent_body
    bounce(ask)
    assert asker.reply.status is None
    assert len(retrying.asks) == 2
    ask = retrying.last
    assert b"stream" in ask.target + ask.sent_body
    ask.answer(200, [*SSE, (b"request-id", b"req_2")]).body(ANSWERS[protocol].stream)
    if ask.live:
        ask.end()
    assert (asker.reply.status, asker.reply.json()) == (200, ANSWERS[protocol].body)
    row = retrying.row()
    assert (row.outcome, row.retries, row.upstream_status, row.upstream_request_id) == ("COMPLETE", 1, 200, "req_2")
    (tried,) = json.loads(row.tries or "[]")
    assert tried["status"] == 500
    assert "does not answer this without streaming" in tried["cause"]
    (dump,) = kept.dumps
    assert (dump.exchange, dump.status, json.loads(dump.error), dump.body) == (row.id, 500, BOUNCE, first)
    assert dump.url == f"https://{retrying.asks[0].header('host')}{retrying.asks[0].target.decode()}"
    retrying.check_quiet()


@pytest.mark.parametrize("status", [500, 400, 422, 502])
@pytest.mark.parametrize(("body", "kind"), [
    (WORDS.encode(), b"text/plain"), (f"<html>{WORDS}</html>".encode(), b"text/html"), (json.dumps({"error": WORDS}).encode(), b"application/json"),
    (b"streaming is strongly recommended for operations that may take longer than 10 minutes", b""),
])  # fmt: skip
def test_the_refusal_comes_in_many_shapes(retrying: House, kept: Kept, status: int, body: bytes, kind: bytes) -> None:
    asker, ask = retrying.whole(MESSAGES)
    bounce(ask, status, body, kind)
    retrying.last.answer().body(ANSWERS[MESSAGES].stream).end()
    assert (asker.reply.status, asker.reply.json()) == (200, ANSWERS[MESSAGES].body)
    assert [(dump.status, dump.error) for dump in kept.dumps] == [(status, body)]
    retrying.check_quiet()


def test_also_gzipped(retrying: House, kept: Kept) -> None:
    _, ask = retrying.whole(MESSAGES)
    ask.answer(500, [(b"content-type", b"application/json"), (b"content-encoding", b"gzip")]).body(zipped(json.dumps(BOUNCE).encode())).end()
    assert len(retrying.asks) == 2
    assert json.loads(kept.dumps[0].error) == BOUNCE


@pytest.mark.parametrize(("status", "body"), [
    (500, b'{"type":"error","error":{"type":"api_error","message":"Internal server error"}}'), (529, json.dumps(BOUNCE).encode()),
    (401, json.dumps(BOUNCE).encode()), (429, json.dumps(BOUNCE).encode()), (400, b'{"error":{"message":"max_tokens: 64000 > 8192"}}'),
    (500, b'{"pad":"' + b"x" * HELD + json.dumps(BOUNCE).encode() + b'"}'),
])  # fmt: skip
def test_any_other_error_is_passed_on_as_it_came_and_asked_once(retrying: House, kept: Kept, status: int, body: bytes) -> None:
    asker, ask = retrying.whole(MESSAGES)
    bounce(ask, status, body)
    assert (asker.reply.status, asker.reply.body) == (status, body)
    assert (len(retrying.asks), kept.dumps) == (1, [])
    assert retrying.row().retries == 0
    retrying.check_quiet()


def test_an_answer_is_passed_on_as_it_came(retrying: House) -> None:
    asker, ask = retrying.whole(MESSAGES)
    ask.answer_json(ANSWERS[MESSAGES].body)
    assert asker.reply.body == ANSWERS[MESSAGES].json
    retrying.check_quiet()


def test_there_is_one_such_try(retrying: House, kept: Kept) -> None:
    asker, ask = retrying.whole(MESSAGES)
    bounce(ask)
    bounce(retrying.last)
    assert (asker.reply.status, asker.reply.json()) == (500, BOUNCE)
    assert (len(retrying.asks), len(kept.dumps)) == (2, 1)
    retrying.check_quiet()


def test_the_second_try_may_fail_like_any_stream(retrying: House) -> None:
    asker, ask = retrying.whole(MESSAGES)
    bounce(ask)
    retrying.last.answer().body(ANSWERS[MESSAGES].frames[0]).end()
    assert asker.reply.status == 502
    told_whole(MESSAGES, asker.reply)
    assert (retrying.row().outcome, retrying.row().retries) == ("TRUNCATED", 1)
    retrying.check_quiet()


def test_tries_after_a_status_do_not_come_before_it(kept: Kept) -> None:
    with House(conduct=replace(RETRY, retries=Retries(status=2))) as house:
        house.gateway.dumps = kept  # pyright: ignore[reportAttributeAccessIssue]
        asker, ask = house.whole(MESSAGES)
        bounce(ask)
        assert (len(house.asks), len(kept.dumps)) == (2, 1)
        house.last.answer().body(ANSWERS[MESSAGES].stream).end()
        assert asker.reply.status == 200

        asker, ask = house.whole(MESSAGES)
        ask.answer_json({"error": "busy"}, 503)
        house.loop.wait(1.0)
        assert len(house.asks) == 4, "but it comes"
        house.last.answer_json(ANSWERS[MESSAGES].body)
        assert (asker.reply.status, len(kept.dumps)) == (200, 1)
        house.check_quiet()


def test_a_try_after_a_status_may_be_refused_for_its_form_as_well(kept: Kept) -> None:
    with House(conduct=replace(RETRY, retries=Retries(status=1))) as house:
        house.gateway.dumps = kept  # pyright: ignore[reportAttributeAccessIssue]
        asker, ask = house.whole(MESSAGES)
        ask.answer_json({"error": "busy"}, 529)
        house.loop.wait(1.0)
        bounce(house.last)
        assert json.loads(house.last.sent_body)["stream"] is True
        house.last.answer().body(ANSWERS[MESSAGES].stream).end()
        assert (asker.reply.status, asker.reply.json()) == (200, ANSWERS[MESSAGES].body)
        assert (len(house.asks), len(kept.dumps), house.row().retries) == (3, 1, 2)
        house.check_quiet()


@pytest.mark.parametrize("long", [True, False], ids=["too long to be looked at", "breaks off"])
def test_an_error_that_cannot_be_read_to_its_end_is_followed_by_another_try_like_any(kept: Kept, long: bool) -> None:
    with House(conduct=replace(RETRY, retries=Retries(status=1))) as house:
        house.gateway.dumps = kept  # pyright: ignore[reportAttributeAccessIssue]
        asker, ask = house.whole(MESSAGES)
        ask.answer(529, [(b"content-type", b"application/json"), (b"content-length", b"1000000")]).body(b"{" + b" " * (HELD if long else 1))
        if not long:
            ask.lose()
        house.loop.wait(1.0)
        assert (asker.reply.status, len(house.asks), ask.live) == (None, 2, False)
        house.last.answer_json(ANSWERS[MESSAGES].body)
        assert (asker.reply.status, house.row().retries, kept.dumps) == (200, 1, [])
        house.check_quiet()


def test_an_error_that_breaks_off_keeps_its_status(retrying: House, kept: Kept) -> None:
    asker, ask = retrying.whole(MESSAGES)
    ask.answer(429, [(b"content-type", b"application/json"), (b"content-length", b"1000"), (b"retry-after", b"7")]).body(b'{"type": "error"').lose()
    assert (asker.reply.status, asker.reply.header(b"retry-after"), len(retrying.asks)) == (429, b"7", 1)
    assert told_whole(MESSAGES, asker.reply)["type"] == "rate_limit_error"
    row = retrying.row()
    assert (row.outcome, row.status, row.upstream_status, kept.dumps) == ("UPSTREAM_ERROR", 429, 429, [])
    retrying.check_quiet()


def test_a_stream_may_be_asked_for_without_its_usage(retrying: House) -> None:
    asker, ask = retrying.whole(CHAT)
    bounce(ask, 400, b'{"error":{"message":"This model only support stream mode"}}')
    assert "stream_options" in json.loads(retrying.last.sent_body)
    retrying.last.answer_json({"error": "stream_options is unknown"}, 400)
    assert json.loads(retrying.last.sent_body) == {"model": "m", "messages": [], "stream": True}
    retrying.last.answer().body(ANSWERS[CHAT].stream).end()
    assert (asker.reply.status, retrying.row().retries) == (200, 2)
    retrying.check_quiet()


def test_where_only_one_body_may_be_held_there_is_no_second_try(kept: Kept) -> None:
    with House(conduct=RETRY, peeked=60) as house:
        house.gateway.dumps = kept  # pyright: ignore[reportAttributeAccessIssue]
        asker, ask = house.whole(MESSAGES)
        bounce(ask)
        assert (asker.reply.status, len(house.asks), kept.dumps) == (500, 1, [])
        house.check_quiet()


def test_a_client_that_leaves_ends_it(retrying: House) -> None:
    asker, ask = retrying.whole(MESSAGES)
    ask.answer(500, [(b"content-type", b"application/json")]).body(json.dumps(BOUNCE).encode())
    asker.leave()
    assert ask.cancelled
    assert len(retrying.asks) == 1
    retrying.check_quiet()


@pytest.mark.parametrize("conduct", [Conduct(), replace(RETRY, transparent=True)], ids=["passthrough", "transparent"])
@pytest.mark.parametrize(("body", "kind"), [
    (WORDS.encode(), b"text/plain"), (json.dumps(BOUNCE).encode(), b"application/json"), (f"<p>{WORDS}</p>".encode(), b"text/html"),
])  # fmt: skip
def test_passed_through_it_reaches_the_client_as_it_came(kept: Kept, conduct: Conduct, body: bytes, kind: bytes) -> None:
    with House(conduct=conduct) as house:
        house.gateway.dumps = kept  # pyright: ignore[reportAttributeAccessIssue]
        asker, ask = house.whole(MESSAGES)
        bounce(ask, 500, body, kind)
        assert (asker.reply.status, asker.reply.body, asker.reply.header(b"content-type")) == (500, body, kind)
        assert (len(house.asks), kept.dumps) == (1, [])
        house.check_quiet()
