"""Further tries of one exchange: what is tried again, what is sent then, and what is written down. `test_retry` has the rules, this the deeds."""

from __future__ import annotations

import json
from email.utils import formatdate
from time import time
from typing import Any

import pytest

from penstock.exchange.conduct import Conduct, Retries
from penstock.exchange.contract import Headers
from penstock.pipeline.timers import Timers
from penstock.protocols import REGISTRY
from penstock.upstream.contract import LossKind
from penstock.vocabulary.ids import ProtocolId
from tests.laws.talk import DIALECTS
from tests.support.exchanges import CHUNK, DONE, SSE, STOP, FakeAsk, House, told_whole

PROTOCOL = pytest.mark.parametrize("protocol", list(REGISTRY), ids=lambda p: p.value)
CHAT = ProtocolId.OPENAI_CHAT
JSON: Headers = [(b"content-type", b"application/json")]
ALL = Retries(connect=2, status=2, first_frame=2)


def trying(retries: Retries = ALL, **more: Any) -> House:
    return House(conduct=Conduct(retries=retries, early_head=None, **more))


def tries(house: House) -> list[Any]:
    row = house.row()
    found: list[Any] = json.loads(row.tries) if row.tries else []
    assert row.retries == (len(found) if house.asks else None)  # none is known to be none
    return found


def same(house: House) -> None:
    """Every try sent the same bytes, to the same place."""
    first = house.asks[0]
    for ask in house.asks[1:]:
        assert (ask.origin, ask.method, ask.target, ask.rest) == (first.origin, first.method, first.target, first.rest)


FAILURES = ["connect", "tls", "status", "reset", "empty", "comments", "error event", "half a frame", "not gzip"]


def fail(ask: FakeAsk, how: str) -> None:
    """A try that comes to nothing before its first event."""
    match how:
        case "connect":
            ask.lose(LossKind.CONNECT, "refused")
        case "tls":
            ask.lose(LossKind.TLS, "no trust")
        case "status":
            ask.answer(503, JSON)
        case "reset":
            ask.lose(LossKind.RESET)
        case "empty":
            ask.answer().end()
        case "comments":
            ask.answer().body(b": a\n\n").lose()
        case "error event":
            ask.answer().body(b'data: {"error":{"message":"m"}}\n\n')
        case "half a frame":
            ask.answer().body(b"data: {").end()
        case _:
            ask.answer(200, [*SSE, (b"content-encoding", b"gzip")]).body(b"\xff" * 40)
    assert not ask.live


@PROTOCOL
@pytest.mark.parametrize("how", FAILURES)
def test_a_try_that_fails_is_followed_by_another_unseen(protocol: ProtocolId, how: str) -> None:
    dialect = next(d for d in DIALECTS if d.protocol is protocol)
    with trying() as house:
        asker, _ = house.stream(protocol)
        for n in (1, 2):
            fail(house.last, how)
            assert len(house.asks) == n
            house.loop.wait(1.0)
            assert len(house.asks) == n + 1
            assert asker.reply.status is None
        house.last.answer().body(dialect.head())
        assert (asker.reply.status, asker.reply.body) == (200, dialect.head()), "nothing of what failed"
        asker.leave()
        same(house)
        found = tries(house)
        assert len(found) == 2
        assert found[0]["status"] == {"connect": None, "tls": None, "reset": None, "status": 503}.get(how, 200)
        assert all(each["cause"] for each in found)
        assert house.row().upstream_status == 200
        assert not any(ask.live for ask in house.asks)
        house.check_quiet()


@PROTOCOL
@pytest.mark.parametrize("how", FAILURES)
@pytest.mark.parametrize("asked", [True, False])
def test_the_last_failure_is_the_clients(protocol: ProtocolId, how: str, asked: bool) -> None:
    with trying() if asked else trying(Retries(0, 0, 0)) as house:
        asker, _ = house.stream(protocol)
        for _ in range(2 if asked else 0):
            fail(house.last, how)
            house.loop.wait(1.0)
        if how == "status":
            house.last.answer_json({"error": {"message": "m"}}, 503)
        else:
            fail(house.last, how)
        assert asker.reply.status == (503 if how == "status" else 502)
        told_whole(protocol, asker.reply) if how != "status" else None
        assert len(tries(house)) == len(house.asks) - 1 == (2 if asked else 0)
        house.loop.wait(20.0)
        assert len(house.asks) == (3 if asked else 1)
        house.check_quiet()


def test_what_the_row_says_is_of_the_last_try() -> None:
    with trying() as house:
        asker, ask = house.stream(CHAT)
        ask.answer(503, [*JSON, (b"x-request-id", b"req_1")])
        house.loop.wait(1.0)
        for kind in (LossKind.CONNECT_TIMEOUT, LossKind.CONNECT, LossKind.CONNECT):
            house.last.lose(kind, "refused")
            house.loop.wait(3.0)
        row = house.row()
        assert (row.status, row.upstream_status, row.upstream_request_id, row.head_ms, row.cause) == (502, None, None, None, "refused")
        assert (row.outcome, row.timer) == ("UPSTREAM_LOST", None)
        assert [(each["status"], each["cause"]) for each in tries(house)] == [(503, "the provider answered 503"), *[(None, "refused")] * 2]
        assert tries(house)[0]["after_ms"] < tries(house)[1]["after_ms"]
        assert asker.reply.status == 502
        house.check_quiet()


@pytest.mark.parametrize("how", ["reset", "eof", "error", "end"])
def test_never_behind_a_byte_of_content(how: str) -> None:
    with trying() as house:
        asker, ask = house.stream(CHAT)
        ask.answer().body(CHUNK)
        match how:
            case "error":
                ask.body(b'data: {"error":{"message":"m"}}\n\n').end()
            case "end":
                ask.end()
            case _:
                ask.lose(LossKind.RESET if how == "reset" else LossKind.EOF)
        house.loop.wait(20.0)
        assert len(house.asks) == 1
        assert (asker.reply.status, asker.reply.over) == (200, "ended")
        house.check_quiet()


def test_never_behind_a_byte_of_a_body() -> None:
    with trying() as house:
        asker, ask = house.whole(CHAT)
        ask.answer(200, JSON).body(b"{").lose()
        house.loop.wait(20.0)
        assert (len(house.asks), asker.reply.over) == (1, "aborted")
        house.check_quiet()


def test_a_body_that_was_lost_before_its_first_byte_is_asked_for_again() -> None:
    with trying() as house:
        asker, ask = house.whole(CHAT)
        ask.answer(200, JSON).lose()
        house.loop.wait(1.0)
        house.last.answer_json({"id": "x"})
        assert (asker.reply.json(), house.row().retries) == ({"id": "x"}, 1)
        house.check_quiet()


@pytest.mark.parametrize("size", [0, 3_000_000])
def test_a_body_of_any_size_is_sent_again_and_given_back(size: int) -> None:
    with House(conduct=Conduct(retries=ALL, early_head=None), peeked=2 * size + 1000) as house:
        asker, _ = house.stream(CHAT, x="y" * size)
        for how in ("connect", "status", "reset"):
            assert house.gateway.peeked.used >= size
            fail(house.last, how)
            house.loop.wait(3.0)
        house.last.answer().body(CHUNK)
        assert house.gateway.peeked.used == 0, "it is not needed any more"
        house.last.body(STOP + DONE).end()
        same(house)
        assert len(house.asks) == 4
        assert len(house.last.sent_body) >= size
        assert asker.reply.body == CHUNK + STOP + DONE
        house.check_quiet()


def test_an_upload_is_sent_once() -> None:
    with trying() as house:
        asker = house.open("POST", "/openai/v1/files", length=3)
        asker.body(b"abc").end()
        house.last.answer(503, JSON).body(b"{}").end()
        house.loop.wait(20.0)
        assert (len(house.asks), asker.reply.status) == (1, 503)
        house.check_quiet()


# Statuses.


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ([], 0.25),
        ([(b"retry-after", b"3")], 3.0),
        ([(b"Retry-After-Ms", b"700")], 0.7),
        ([(b"retry-after", b"0")], 0.0),
    ],
)
def test_the_pause_is_the_providers_or_ours(headers: Headers, pause: float) -> None:
    with trying() as house:
        asker, ask = house.stream(CHAT)
        ask.answer(429, [*JSON, *headers])
        assert ask.cancelled, "its body is not waited for"
        took = house.until(lambda: len(house.asks) == 2)
        assert pause - 0.02 <= took <= pause + 0.02
        asker.leave()


def test_a_date() -> None:
    with trying() as house:
        asker, ask = house.stream(CHAT)
        ask.answer(503, [*JSON, (b"retry-after", formatdate(time() + 20, usegmt=True).encode())])
        took = house.until(lambda: len(house.asks) == 2)
        assert 15 < took < 21
        asker.leave()


@pytest.mark.parametrize(
    ("status", "headers", "again"),
    [
        (503, [(b"x-should-retry", b"false")], False),
        (503, [(b"retry-after", b"3600")], False),
        (400, [], False),
        (400, [(b"x-should-retry", b"true")], True),
        (529, [], True),
        (401, [], False),
    ],
)
def test_who_is_asked_again(status: int, headers: Headers, again: bool) -> None:
    with trying() as house:
        asker, ask = house.stream(CHAT)
        ask.answer(status, [*JSON, *headers])
        if again:
            assert ask.cancelled
            house.loop.wait(1.0)
        else:
            ask.body(b"{}").end()
            assert (asker.reply.status, asker.reply.body) == (status, b"{}")
        assert len(house.asks) == 1 + again
        asker.leave()
        house.check_quiet()


def test_pauses_grow() -> None:
    with trying(Retries(connect=9)) as house:
        house.stream(CHAT)
        pauses: list[float] = []
        for n in range(2, 9):
            house.last.lose(LossKind.CONNECT)
            pauses.append(round(house.until(lambda n=n: len(house.asks) == n), 1))
        assert pauses == pytest.approx([0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0], abs=0.1)
        house.last.answer_json({})
        house.check_quiet()


# In the pause.


@pytest.mark.parametrize("how", ["leave", "shut down", "first_content", "max_duration"])
def test_what_ends_it_in_the_pause(how: str) -> None:
    timers = Timers(**({how: 2.0} if how in ("first_content", "max_duration") else {}))
    with trying(timers=timers) as house:
        asker, ask = house.stream(CHAT)
        house.loop.wait(0.5)
        ask.answer(503, [*JSON, (b"retry-after", b"9")])
        house.loop.wait(0.5)
        if how == "leave":
            asker.leave()
        elif how == "shut down":
            house.run(house.gateway.shut_down)
        else:
            took = house.until(lambda: asker.reply.over)
            assert 0.98 <= took <= 1.12, "timers run on through pauses"
        row = house.row()
        expected = {"leave": ("CLIENT_GONE", None), "shut down": ("SHUTDOWN", 503)}.get(how, ("TIMED_OUT", 504))
        assert (row.outcome, row.status) == expected
        assert asker.reply.status == expected[1]
        house.loop.wait(20.0)
        assert len(house.asks) == 1, "nobody is asked for nobody"
        assert house.book.late == 0
        house.check_quiet()


def test_who_does_not_read_pauses_the_next_try_too() -> None:
    with trying() as house:
        asker, ask = house.stream(CHAT)
        ask.lose(LossKind.CONNECT)
        house.run(asker.handler.client_paused)
        house.loop.wait(1.0)
        assert house.last.paused
        asker.leave()


# Together with what else asks again.


def test_stale_connections_and_a_field_of_ours_take_no_tries() -> None:
    with trying(Retries(connect=1, status=1)) as house:
        asker = house.post("/v1/chat/completions", {"model": "m", "stream": True})
        house.last.lose(LossKind.STALE)
        assert (len(house.asks), house.last.fresh) == (2, True)
        house.last.answer_json({"error": {"message": "stream_options"}}, 400)
        assert len(house.asks) == 3
        house.last.lose(LossKind.CONNECT)
        house.loop.wait(1.0)
        house.last.answer(503, JSON)
        house.loop.wait(1.0)
        house.last.answer().body(CHUNK + STOP + DONE).end()
        assert asker.reply.body == CHUNK + STOP + DONE
        assert [each["status"] for each in tries(house)] == [None, 400, None, 503]  # none of the configured ones; in the row like any
        assert b"stream_options" not in house.last.sent_body
        house.check_quiet()


def test_the_time_that_a_connection_may_take_is_the_routes() -> None:
    with trying(timers=Timers(connect=3.5)) as house:
        asker, ask = house.stream(CHAT)
        assert ask.connect == 3.5
        for _ in range(3):
            house.last.lose(LossKind.CONNECT_TIMEOUT, "no connection within 3.5 s")
            house.loop.wait(1.0)
        assert asker.reply.status == 504
        assert (house.row().outcome, house.row().timer) == ("TIMED_OUT", "connect")


def test_the_built_in_provider_is_asked_once() -> None:
    with trying() as house:
        asker = house.post("/v1/chat/completions", {"model": "demo", "stream": True})
        house.last.answer(503, JSON).body(b"{}").end()
        assert (len(house.asks), asker.reply.status) == (1, 503)
        house.check_quiet()
