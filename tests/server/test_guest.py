"""Clients that take their time, and clients that take too much room. Time is said, never waited for."""

from __future__ import annotations

import asyncio
import gc
import json

import pytest

from penstock.server.crowd import Crowd
from tests.support.guests import GuestRim
from tests.support.rim import Talk, at_end, chunked, get, nothing, on_loop, post

HALF = post("/v1/messages", b"0123456789")[:-5]


def early(talk: Talk, event: str) -> None:
    """Begin to answer before the body is there."""
    if event == "open":
        talk.reply.head(200, [], None)
        talk.reply.write(b"early ")


# -- heads -------------------------------------------------------------------------------------------------------------------------------


@on_loop
async def test_a_head_that_trickles_is_cut_off() -> None:
    rim, head = GuestRim().feed(b"POST /v1/messages HTTP/1.1\r\n"), iter(b"X-Long: " + b"a" * 500)
    rim.wait(60, each=lambda: rim.feed(bytes([next(head)])))
    (answer,) = rim.answers()
    assert (answer.status, answer.header(b"connection"), rim.wire.eof) == (408, b"close", True)
    error = json.loads(answer.body)
    assert error["type"] == "error", "the words of the protocol that the target names"
    assert error["error"]["message"] == "The request's head was not whole within 10 s."
    assert rim.talks == []


@pytest.mark.parametrize(("data", "method"), [(b"G", "GET"), (b"GET /v1/mess", "GET"), (b"HEAD /a HTTP/1.1\r\nHo", "HEAD"), (get()[:-1], "GET")])
@on_loop
async def test_any_beginning_of_a_head(data: bytes, method: str) -> None:
    rim = GuestRim().feed(data)
    assert not rim.wait(10.9).wire.out
    (answer,) = rim.wait(1.2).answers(method)
    assert answer.status == 408


@on_loop
async def test_a_head_in_time() -> None:
    rim = GuestRim().feed(get()[:20]).wait(9)
    rim.feed(get()[20:])
    assert rim.wait(60).statuses == [200]


@on_loop
async def test_head_after_head_is_no_slow_head() -> None:
    """Each look finds a head half read, but never twice the same."""
    rim, data = GuestRim(), get("/1")
    rim.feed(data[:10])
    for _ in range(50):
        rim.look(rim.now + 1)
        rim.feed(data[10:] + data[:10])
    assert rim.statuses == [200] * 50


@on_loop
async def test_a_slow_head_behind_a_running_answer_is_refused_in_its_turn() -> None:
    rim = GuestRim(nothing).feed(get("/1") + b"GET /v1/me")
    rim.talks[0].reply.head(200, [], None)
    rim.talks[0].reply.write(b"a ")
    rim.wait(30)
    rim.talks[0].reply.write(b"b")
    rim.talks[0].reply.end()
    await rim.turns()
    assert [(a.status, a.whole) for a in rim.answers()] == [(200, True), (408, True)]
    assert rim.answers()[0].body == b"a b"
    assert rim.wire.eof


# -- bodies ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [HALF, post("/v1/messages", b"0123456789")[:-10], chunked("/c", b"abc")[:-5], chunked("/c", b"abc")[:-7]])
@on_loop
async def test_a_body_that_stops_is_refused(data: bytes) -> None:
    rim = GuestRim(nothing).feed(data)
    assert not rim.wait(59).wire.out
    (answer,) = rim.wait(3).answers()
    assert (answer.status, answer.header(b"connection"), rim.wire.eof) == (408, b"close", True)
    assert b"body for 60 s" in answer.body
    assert rim.talks[0].events[-1] == "gone", "its exchange is told, once"


@on_loop
async def test_a_body_that_goes_on_may_take_its_time() -> None:
    rim, body = GuestRim(), iter(b"x" * 20)
    rim.feed(post("/1", b"x" * 20)[:-20])
    rim.wait(20 * 50, step=50, each=lambda: rim.feed(bytes([next(body)])))
    assert rim.talks[0].body == b"x" * 20
    assert rim.statuses == [200]


@on_loop
async def test_chunk_after_chunk_of_one_length() -> None:
    rim = GuestRim().feed(chunked("/c", b"x")[:-5])
    rim.wait(500, step=50, each=lambda: rim.feed(b"1\r\nx\r\n"))
    rim.feed(b"0\r\n\r\n")
    assert (rim.talks[0].body, rim.statuses) == (b"x" * 11, [200])


@on_loop
async def test_request_after_request_whose_bodies_are_alike() -> None:
    """Each look finds a body half read, with as many bytes, but of another request."""
    rim, data = GuestRim(), post("/1", b"0123456789")
    rim.feed(data[:-5])
    for _ in range(80):
        rim.look(rim.now + 1)
        rim.feed(data[-5:])
        rim.feed(data[:-5])
    assert rim.statuses == [200] * 80


@on_loop
async def test_what_we_do_not_read_is_not_late() -> None:
    rim = GuestRim(nothing).feed(HALF)
    rim.talks[0].reply.pause_upload()
    assert not rim.wait(1000).wire.out
    rim.talks[0].reply.resume_upload()
    assert not rim.wait(59).wire.out, "and the time begins anew"
    assert rim.wait(3).statuses == [408]


@on_loop
async def test_an_answer_that_has_begun_is_not_disturbed() -> None:
    rim = GuestRim(early).feed(HALF).wait(1000)
    rim.talks[0].reply.write(b"answer")
    rim.talks[0].reply.end()
    (answer,) = rim.answers()
    assert (answer.status, answer.body, answer.whole) == (200, b"early answer", True)


@on_loop
async def test_a_body_that_was_not_asked_for_yet_is_not_late() -> None:
    """`100 Continue` is said in turn, and until then nobody sends."""
    expecting = b"POST /2 HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    rim = GuestRim(nothing).feed(get("/1") + expecting).wait(1000)
    rim.talks[0].answer()
    await rim.turns()
    assert rim.statuses == [200, 100]
    rim.wait(59)
    assert rim.statuses == [200, 100]
    rim.wait(3)
    assert rim.statuses == [200, 100, 408]


@on_loop
async def test_a_slow_body_behind_a_running_answer_is_refused_in_its_turn() -> None:
    rim = GuestRim(nothing).feed(get("/1") + HALF).wait(100)
    assert not rim.wire.out
    rim.talks[0].answer(b"mine")
    await rim.turns()
    assert [(a.status, a.body if a.status == 200 else b"") for a in rim.answers()] == [(200, b"mine"), (408, b"")]
    assert len(rim.talks) == 1


@on_loop
async def test_an_exchange_that_breaks_over_it_leaves_no_client_hanging() -> None:
    def act(talk: Talk, event: str) -> None:
        if event == "gone":
            raise ZeroDivisionError

    rim = GuestRim(act).feed(HALF)
    with pytest.raises(ZeroDivisionError):
        rim.wait(70)
    assert rim.wire.aborted


# -- between requests ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"\r\n\r\n", get("/1"), post("/1", b"abc")])
@on_loop
async def test_who_asks_nothing_is_closed_without_a_word(data: bytes) -> None:
    rim = GuestRim().feed(data)
    said = len(rim.wire.out)
    assert not rim.wait(74).wire.closing
    assert rim.wait(3).wire.closing
    assert (len(rim.wire.out), rim.wire.eof) == (said, False)


@on_loop
async def test_empty_lines_are_no_request() -> None:
    rim = GuestRim()
    assert rim.wait(78, each=lambda: rim.feed(b"\r\n")).wire.closing


@on_loop
async def test_who_asks_now_and_then_is_kept() -> None:
    rim = GuestRim()
    rim.wait(70 * 10, step=70, each=lambda: rim.feed(get()))
    assert (rim.statuses, rim.wire.closing) == ([200] * 10, False)


@on_loop
async def test_for_ever() -> None:
    rim = GuestRim(idle_seconds=None).feed(get())
    assert not rim.wait(100_000, step=1000).wire.closing


@on_loop
async def test_a_running_answer_is_never_late() -> None:
    rim = GuestRim(nothing).feed(post("/1", b"abc")).wait(100_000, step=1000)
    rim.talks[0].answer()
    assert rim.statuses == [200]
    assert not rim.wait(74).wire.closing, "and the time begins with its end"
    assert rim.wait(3).wire.closing


@on_loop
async def test_who_still_takes_its_answer_is_not_idle() -> None:
    """It was all written, and lies in the transport; a slow client takes it byte by byte."""
    rim = GuestRim().feed(get())
    rim.connection.pause_writing()
    rim.wire.unsent = 1000

    def take() -> None:
        rim.wire.unsent -= 1

    assert not rim.wait(900, each=take).wire.closing
    assert rim.wait(77).wire.closing


@on_loop
async def test_who_does_not_take_its_answer_and_asks_on_is_closed() -> None:
    rim = GuestRim()
    rim.connection.pause_writing()
    rim.wire.unsent = 1000
    rim.feed(get("/1") + get("/2"))
    assert rim.wait(77).wire.closing
    assert rim.talks == []


@on_loop
async def test_nothing_is_done_to_who_is_gone_or_sent_away() -> None:
    for data in (b"", get()[:9], HALF):
        rim = GuestRim(nothing).feed(data)
        rim.connection.eof_received()
        rim.wait(1000, step=10)
        rim.lose()
        rim.guest.look(10_000)
    rim = GuestRim().feed(b"GARBAGE\r\n\r\n").wait(1000, step=10)
    assert (rim.statuses, rim.wire.eof, rim.wire.closing) == ([400], True, False), "it closes by itself"
    rim = GuestRim().feed(get("/1", "Connection: close")).wait(1000, step=10)
    assert rim.statuses == [200]


@on_loop
async def test_looking_keeps_nothing_alive() -> None:
    gc.disable()
    try:
        rim = GuestRim(at_end).feed(HALF).wait(5)
        rim.feed(b"56789")
        rim.wait(5)
        held = [o for o in gc.get_referrers(rim.talks[0].request) if type(o).__name__ == "Incoming"]
        assert not held
    finally:
        gc.enable()
    await asyncio.sleep(0)


# -- how many ------------------------------------------------------------------------------------------------------------------------------


@on_loop
async def test_one_connection_too_many_is_refused_in_the_words_of_what_it_asks() -> None:
    crowd = Crowd(2)
    first, second, third = (GuestRim(crowd=crowd) for _ in range(3))
    other = GuestRim(crowd=crowd, address="192.0.2.9")
    for rim in (first, second, third, other):
        rim.feed(post("/v1/messages", b"abc"))
    assert [rim.statuses for rim in (first, second, third, other)] == [[200], [200], [503], [200]]
    (answer,) = third.answers()
    assert (answer.header(b"retry-after"), answer.header(b"connection")) == (b"1", b"close")
    assert json.loads(answer.body)["type"] == "error"
    assert third.wire.eof
    assert third.talks == []
    second.lose()
    third.lose()
    assert GuestRim(crowd=crowd).feed(get()).statuses == [200]


@on_loop
async def test_who_waits_at_the_door_has_as_long_as_a_head() -> None:
    crowd = Crowd(1)
    _, rim = GuestRim(crowd=crowd), GuestRim(crowd=crowd)
    assert not rim.wait(9).wire.closing
    assert rim.wait(2).wire.closing
    assert not rim.wire.out


@on_loop
async def test_a_flood_is_closed_at_once() -> None:
    crowd = Crowd(2)
    rims = [GuestRim(crowd=crowd) for _ in range(7)]
    assert [rim.wire.aborted for rim in rims] == [False] * 4 + [True] * 3
    for rim in rims:
        rim.lose()
        rim.lose()
    assert len(crowd) == 0
    assert [GuestRim(crowd=crowd).feed(get()).statuses for _ in range(2)] == [[200], [200]]


@on_loop
async def test_who_is_local_is_known_where_connections_are_counted_too() -> None:
    rim = GuestRim(crowd=Crowd(9), address="192.0.2.9").feed(get())
    assert rim.talks[0].request.local, "the listener said so"
