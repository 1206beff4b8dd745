"""Turns, framing and ends of one client connection, on a wire without a socket."""

from __future__ import annotations

import asyncio
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.rim import Rim, Talk, at_end, at_once, chunked, get, nothing, on_loop, post

UPGRADE = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")


# -- one request after the other ---------------------------------------------------------------------------------------------------------


@on_loop
async def test_a_connection_is_kept_and_used_again() -> None:
    rim = Rim()
    for n in range(3):
        rim.feed(post(f"/{n}", b"abc"))
    assert [(a.status, a.body, a.header(b"connection")) for a in rim.answers()] == [(200, b"POST /%d abc" % n, None) for n in range(3)]
    assert not rim.wire.closing
    assert not rim.connection.busy


@on_loop
async def test_an_answer_inside_open_keeps_the_connection_too() -> None:
    rim = Rim(at_once).feed(get(), get(method="OPTIONS"))
    assert [(a.body, a.header(b"connection")) for a in rim.answers()] == [(b"at once", None)] * 2


@on_loop
async def test_close_is_obeyed_and_what_follows_is_no_request() -> None:
    rim = Rim(nothing).feed(post("/1", b"x", "Connection: close") + get("/2"), b"garbage\r\n\r\n")
    await rim.turns()
    assert len(rim.talks) == 1
    assert rim.talks[0].events == ["body", "end"]  # garbage does not take the answer away
    rim.talks[0].answer()
    (answer,) = rim.answers()
    assert answer.header(b"connection") == b"close"
    assert rim.wire.closing


TALKS = [
    post("/1", b"abc") + post("/2", b"defg") + get("/3"),
    chunked("/1", b"abc", b"d", trailers="X-T: 1\r\nHost: evil\r\n", ext=';a="b"') + get("/2"),
    post("/1", b"body", *UPGRADE) + chunked("/2", b"z") + get("/3", *UPGRADE) + get("/4"),
    b"\r\n\r\n" + get("http://elsewhere:1/a?b=c"),
]


@pytest.mark.parametrize("data", TALKS)
@on_loop
async def test_any_split_gives_the_same(data: bytes) -> None:
    async def said(*pieces: bytes) -> tuple[bytes, list[tuple[Any, ...]]]:
        rim = await Rim().feed(*pieces).turns()
        return bytes(rim.wire.out), [(t.request.method, t.request.path, t.request.query, t.request.headers, t.body, t.events[-1]) for t in rim.talks]

    whole = await said(data)
    assert await said(*(data[i: i + 1] for i in range(len(data)))) == whole
    for at in range(1, len(data)):
        assert await said(data[:at], data[at:]) == whole, at


# -- pipelined -------------------------------------------------------------------------------------------------------------------------


@on_loop
async def test_pipelined_requests_are_answered_in_order_and_nothing_is_mixed() -> None:
    rim = Rim(nothing).feed(post("/1", b"one") + post("/2", b"two") + get("/3"))
    await rim.turns()
    assert [t.request.path for t in rim.talks] == ["/1"]
    rim.talks[0].reply.head(200, [], None)
    rim.talks[0].reply.write(b"first")
    rim.feed(post("/4", b"four")[:-2])
    rim.talks[0].reply.write(b"more")
    rim.talks[0].reply.end()
    assert len(rim.talks) == 1  # not from inside that callback
    await rim.turns()
    rim.talks[1].answer(b"second")
    await rim.turns()
    rim.talks[2].answer(b"third")
    rim.feed(b"ur")  # while its turn is put off
    await rim.turns()
    rim.talks[3].answer(b"fourth")
    assert [(t.request.path, t.body) for t in rim.talks] == [("/1", b"one"), ("/2", b"two"), ("/3", b""), ("/4", b"four")]
    assert all(t.events[-1] == "end" for t in rim.talks)
    assert [a.body for a in rim.answers()] == [b"firstmore", b"second", b"third", b"fourth"]


@on_loop
async def test_a_body_that_comes_before_its_turn_was_taken_is_not_lost() -> None:
    rim = Rim(nothing).feed(get("/1") + post("/2", b"0123456789")[:-6])
    rim.talks[0].answer()
    rim.feed(b"456")
    rim.feed(b"789")
    await rim.turns()
    assert rim.talks[1].body == b"0123456789"
    assert rim.talks[1].events[-1] == "end"


@pytest.mark.parametrize("many", [True, False])
@on_loop
async def test_too_much_ahead_is_refused_in_its_turn(many: bool) -> None:
    rim = Rim(nothing, pipelined_requests=3, pipelined_bytes=10)
    ahead = [get("/x")] * 3 + [get("/over")] if many else [post("/x", b"12345"), get("/x"), post("/x", b"123456")]
    rim.feed(post("/1"), *ahead, get("/after"))
    seen = 0
    while seen < len(rim.talks):
        rim.talks[seen].answer(b"fine")
        seen += 1
        await rim.turns()
    answers = rim.answers()
    assert [a.status for a in answers] == [200] * (4 if many else 3) + [429]
    assert answers[-1].header(b"connection") == b"close"
    assert [t.request.path for t in rim.talks] == ["/1", "/x", "/x", "/x"][: len(rim.talks)]
    assert rim.wire.eof


@on_loop
async def test_what_waits_no_longer_is_not_counted() -> None:
    rim = Rim(nothing, pipelined_bytes=10).feed(post("/first"), post("/x", b"12345"))
    for n in range(20):  # one body always waits, and never more than two
        rim.feed(post("/x", b"12345"))
        rim.talks[n].answer()
        await rim.turns()
    assert [a.status for a in rim.answers()] == [200] * 20
    assert not rim.wire.eof


@on_loop
async def test_a_bad_request_behind_a_good_one_does_not_disturb_it() -> None:
    rim = Rim(nothing).feed(post("/1", b"abc") + b"GARBAGE\r\n\r\n", b"more of it")
    rim.talks[0].reply.head(200, [], None)
    rim.talks[0].reply.write(b"all of ")
    rim.talks[0].reply.write(b"it")
    rim.talks[0].reply.end()
    await rim.turns()
    assert [(a.status, a.body if a.status == 200 else b"", a.whole) for a in rim.answers()] == [(200, b"all of it", True), (400, b"", True)]
    assert rim.talks[0].events == ["body", "end"]
    assert rim.wire.eof


@on_loop
async def test_a_bad_body_behind_a_good_request_is_refused_in_its_turn() -> None:
    rim = Rim(nothing).feed(get("/1") + chunked("/2", b"abc")[:-5] + b"what?\r\n")
    rim.talks[0].answer()
    await rim.turns()
    assert [a.status for a in rim.answers()] == [200, 400]
    assert len(rim.talks) == 1


@on_loop
async def test_the_next_request_waits_while_the_client_does_not_read() -> None:
    rim = Rim(nothing).feed(get("/1") + get("/2"))
    rim.connection.pause_writing()
    rim.talks[0].answer()
    rim.feed(get("/3"))
    await rim.turns()
    assert len(rim.talks) == 1
    rim.connection.resume_writing()
    await rim.turns()
    assert len(rim.talks) == 2
    rim.talks[1].answer()
    await rim.turns()
    assert len(rim.talks) == 3
    assert rim.talks[0].events == ["end", "paused"]


@on_loop
async def test_a_mistake_in_a_put_off_turn_leaves_no_client_hanging() -> None:
    def act(talk: Talk, event: str) -> None:
        if talk.request.path == "/2":
            raise ZeroDivisionError

    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context.get("exception")))
    rim = Rim(act).feed(get("/1") + get("/2"))
    rim.talks[0].answer()
    await rim.turns()
    assert rim.wire.aborted
    assert [type(t) for t in told] == [ZeroDivisionError]


@pytest.mark.parametrize("event", ["open", "body", "end"])
@on_loop
async def test_a_mistake_of_the_exchange_comes_out_as_it_is(event: str) -> None:
    def act(talk: Talk, what: str) -> None:
        if what == event:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):  # the loop closes the connection
        Rim(act).feed(post("/1", b"x"))


# -- bodies ------------------------------------------------------------------------------------------------------------------------------


@on_loop
async def test_a_thousand_small_chunks_of_one_read_are_one_piece() -> None:
    rim = Rim().feed(chunked("/c", *([b"ab"] * 1000)))
    assert rim.talks[0].body == b"ab" * 1000
    assert rim.talks[0].pieces == 1


@on_loop
async def test_a_body_that_breaks_before_the_answer_is_refused_once() -> None:
    rim = Rim(nothing).feed(chunked("/c", b"abc")[:-5] + b"nonsense\r\n", b"more")
    assert rim.talks[0].events[-1] == "gone"
    rim.talks[0].answer()  # it does not know yet
    assert [a.status for a in rim.answers()] == [400]
    assert rim.wire.eof


@on_loop
async def test_a_body_that_breaks_inside_the_answer_ends_it_short() -> None:
    rim = Rim(nothing).feed(chunked("/c", b"abc")[:-5])
    rim.talks[0].reply.head(200, [], None)
    rim.talks[0].reply.write(b"some")
    rim.feed(b"nonsense\r\n")
    assert rim.talks[0].events == ["body", "gone"]
    assert [(a.status, a.whole) for a in rim.answers()] == [(200, False)]
    assert rim.wire.closing


@on_loop
async def test_an_early_answer_closes_but_not_before_it_can_be_seen() -> None:
    rim = Rim(nothing).feed(post("/up", b"x" * 100)[:-50])
    rim.talks[0].answer(b"no", 413)
    (answer,) = rim.answers()
    assert answer.header(b"connection") == b"close"
    assert rim.wire.eof
    rim.feed(b"x" * 50, get("/2"))  # still sending
    await rim.turns()
    assert not rim.wire.closing  # when it is closed: test_farewell
    assert rim.talks[0].events == ["body"]
    assert len(rim.talks) == 1


@on_loop
async def test_a_client_that_closes_ends_the_lingering() -> None:
    rim = Rim(nothing).feed(post("/up", b"x" * 100)[:-50])
    rim.talks[0].answer(b"no", 413)
    rim.connection.eof_received()
    assert rim.wire.closing
    assert "gone" not in rim.talks[0].events


@on_loop
async def test_an_upload_is_paused_and_resumed() -> None:
    rim = Rim(nothing).feed(post("/up", b"x" * 100)[:-50])
    rim.talks[0].reply.pause_upload()
    assert not rim.wire.reading
    rim.talks[0].reply.resume_upload()
    assert rim.wire.reading
    rim.feed(b"x" * 50)
    rim.talks[0].reply.pause_upload()  # it is whole: only the client's leaving could be missed
    assert rim.wire.reading


@on_loop
async def test_an_upload_that_is_paused_by_its_last_piece_is_read_on() -> None:
    def act(talk: Talk, event: str) -> None:
        if event == "body":
            talk.reply.pause_upload()

    rim = Rim(act).feed(post("/up", b"x" * 100))
    assert rim.wire.reading


@on_loop
async def test_an_answer_to_a_paused_upload_is_seen() -> None:
    rim = Rim(nothing).feed(post("/up", b"x" * 100)[:-50])
    rim.talks[0].reply.pause_upload()
    rim.talks[0].answer()
    assert rim.wire.reading
    assert rim.wire.eof


# -- HTTP/1.0, HEAD, Expect ----------------------------------------------------------------------------------------------------------------


@on_loop
async def test_http_1_0_is_kept_only_where_it_asks() -> None:
    rim = Rim().feed(get("/1", "Connection: keep-alive", version="1.0"), get(version="1.0"), get())
    answers = rim.answers()
    assert [a.header(b"connection") for a in answers] == [b"keep-alive", b"close"]
    assert rim.wire.closing


@pytest.mark.parametrize("whole", [True, False])
@on_loop
async def test_without_a_length_an_http_1_0_client_gets_bytes_until_the_close_and_a_reset_where_they_are_not_all(whole: bool) -> None:
    rim = Rim(nothing).feed(get("/1", "Connection: keep-alive", version="1.0"))
    reply = rim.talks[0].reply
    reply.head(200, [], None)
    reply.write(b"some")
    reply.end() if whole else reply.abort()
    (answer,) = rim.answers()
    assert (answer.header(b"transfer-encoding"), answer.header(b"connection"), answer.body) == (None, b"close", b"some")
    assert rim.wire.closing
    assert rim.wire.reset is not whole


@on_loop
async def test_no_host_is_fine_for_http_1_0() -> None:
    assert [a.status for a in Rim().feed(b"GET / HTTP/1.0\r\n\r\n").answers()] == [200]


@pytest.mark.parametrize("length", [5, None])
@on_loop
async def test_head_has_the_headers_and_no_body(length: int | None) -> None:
    rim = Rim(nothing).feed(get(method="HEAD"))
    reply = rim.talks[0].reply
    reply.head(200, [(b"etag", b"1")], length)
    reply.write(b"12345")
    reply.end()
    rim.feed(get())
    rim.talks[1].answer(b"next")
    first, second = rim.answers("HEAD", "GET")
    assert first.header(b"content-length" if length else b"transfer-encoding") == (b"5" if length else b"chunked")
    assert second.body == b"next"


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("length", [0, 3, None])
@on_loop
async def test_bodiless_statuses_have_no_framing(status: int, length: int | None) -> None:
    rim = Rim(nothing).feed(get() + get())
    reply = rim.talks[0].reply
    reply.head(status, [], length)
    reply.write(b"abc")
    reply.end()
    await rim.turns()
    rim.talks[1].answer(b"next")
    first, second = rim.answers()
    assert first.headers == []
    assert second.body == b"next"


@on_loop
async def test_an_unknown_status_is_passed_on() -> None:
    rim = Rim(nothing).feed(get())
    rim.talks[0].answer(b"overloaded", 529)
    assert rim.answers()[0].status == 529


@pytest.mark.parametrize(("version", "act", "statuses"), [("1.1", at_end, [100, 200]), ("1.0", at_end, [200]), ("1.1", at_once, [200])])
@on_loop
async def test_100_continue_is_said_where_the_body_is_wanted(version: str, act: Callable[[Talk, str], None], statuses: list[int]) -> None:
    data = post("/e", b"body", "Expect: 100-Continue", version=version)
    rim = Rim(act).feed(data[:-4])
    if act is at_once:
        assert rim.wire.eof  # the body may come or not: nothing can follow
    rim.feed(data[-4:])
    assert [a.status for a in rim.answers()] == statuses


@on_loop
async def test_100_continue_is_not_said_where_the_body_is_there_or_none() -> None:
    rim = Rim().feed(post("/e", b"", "Expect: 100-continue"), get("/1") + post("/e", b"body", "Expect: 100-continue"))
    assert [a.status for a in rim.answers()] == [200, 200, 100, 200]  # by then the parser has not told of the body; a 100 does no harm
    rim = Rim(nothing).feed(get("/1") + post("/e", b"body", "Expect: 100-continue"))
    rim.talks[0].answer()
    await rim.turns()
    rim.talks[1].answer()
    assert [a.status for a in rim.answers()] == [200, 200]


# -- framing of answers ----------------------------------------------------------------------------------------------------------------------


@on_loop
async def test_chunks_of_every_size() -> None:
    rim = Rim(nothing).feed(get())
    reply = rim.talks[0].reply
    reply.head(200, [], None)
    sizes = [1, 0, 15, 16, 2047, 2048, 2049, 70000, 0]
    for size in sizes:
        reply.write(b"x" * size)  # none at all is not the last chunk
    assert not rim.answers()[0].whole
    reply.end()
    await asyncio.sleep(0)
    assert rim.answers()[0].whole
    assert len(rim.answers()[0].body) == sum(sizes)


@pytest.mark.parametrize("length", [None, 100])
@on_loop
async def test_an_aborted_answer_is_not_whole(length: int | None) -> None:
    rim = Rim(nothing).feed(get() + get("/2"))
    reply = rim.talks[0].reply
    reply.head(200, [], length)
    reply.write(b"some")
    rim.wire.unsent = 10
    reply.abort()
    reply.write(b"late")
    reply.end()
    await rim.turns()
    assert [a.whole for a in rim.answers()] == [False]
    assert rim.wire.closing
    assert len(rim.talks) == 1
    assert rim.talks[0].events == ["end"]


@on_loop
async def test_an_answer_shorter_than_its_length_is_aborted_and_a_longer_one_cut() -> None:
    rim = Rim(nothing).feed(get())
    rim.talks[0].reply.head(200, [], 5)
    rim.talks[0].reply.write(b"1234")
    rim.talks[0].reply.end()
    assert [a.whole for a in rim.answers()] == [False]
    assert rim.wire.closing
    rim = Rim(nothing).feed(get() + get())
    rim.talks[0].reply.head(200, [], 5)
    rim.talks[0].reply.write(b"1234567")
    rim.talks[0].reply.end()
    await rim.turns()
    rim.talks[1].answer(b"next")
    assert [a.body for a in rim.answers()] == [b"12345", b"next"]


@on_loop
async def test_no_request_gets_two_answers_or_none() -> None:
    rim = Rim(nothing).feed(get())
    rim.talks[0].answer(b"one")
    rim.talks[0].answer(b"two")
    rim.talks[0].reply.abort()
    assert [a.body for a in rim.answers()] == [b"one"]
    rim.feed(get())
    rim.talks[1].reply.head(200, [], 1)
    rim.talks[1].reply.head(500, [], 1)
    rim.talks[1].reply.write(b"1")
    rim.talks[1].reply.end()
    assert [a.status for a in rim.answers()] == [200, 200]
    rim.feed(get())
    rim.talks[2].reply.end()  # without a head
    assert rim.wire.closing


# -- ends ----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["body", "waiting", "streaming"])
@on_loop
async def test_a_client_that_stops_sending_before_its_answer_is_gone_at_once(when: str) -> None:
    rim = Rim(nothing).feed(post("/1", b"abc")[: -1 if when == "body" else None])
    if when == "streaming":
        rim.talks[0].reply.head(200, [], None)
        rim.wire.unsent = 1 << 20  # `connection_lost` would not come before it has read that
    assert not rim.connection.eof_received()
    assert rim.talks[0].events[-1] == "gone"
    assert rim.wire.aborted
    rim.lose()
    assert rim.talks[0].events.count("gone") == 1
    assert not rim.connections


@on_loop
async def test_a_client_that_stops_sending_after_its_answer_is_not() -> None:
    rim = Rim().feed(get())
    assert not rim.connection.eof_received()
    rim.lose()
    assert rim.talks[0].events == ["end"]


@on_loop
async def test_nothing_raises_once_the_transport_is_gone() -> None:
    rim = Rim(nothing).feed(post("/1", b"a") + post("/2", b"b"))
    reply = rim.talks[0].reply
    reply.head(200, [], None)
    rim.lose()
    reply.head(200, [], None)
    reply.write(b"x")
    reply.pause_upload()
    reply.resume_upload()
    reply.abort()
    reply.end()
    rim.connection.close()
    rim.connection.data_received(b"x")
    rim.connection.resume_writing()
    rim.connection.eof_received()
    await rim.turns()
    assert len(rim.talks) == 1
    assert rim.talks[0].events == ["body", "end", "gone"]


@on_loop
async def test_a_client_that_does_not_read_keeps_no_closed_connection() -> None:
    rim = Rim(nothing, linger=0.01, untaken_seconds=0.02).feed(get())
    rim.wire.unsent = 100
    rim.talks[0].reply.head(200, [], None)
    rim.talks[0].reply.abort()
    assert rim.wire.closing
    assert not rim.wire.aborted
    await asyncio.sleep(0.1)
    assert rim.wire.aborted


@on_loop
async def test_pauses_are_told_to_whose_turn_it_is() -> None:
    def act(talk: Talk, event: str) -> None:
        if event == "open":
            rim.connection.pause_writing()

    rim = Rim(act)
    rim.feed(get())
    assert rim.talks[0].events == ["paused", "end"]
    rim.connection.resume_writing()
    assert rim.talks[0].events[-1] == "resumed"


@on_loop
async def test_a_drain_closes_behind_the_answer() -> None:
    draining = False
    rim = Rim(nothing, draining=lambda: draining).feed(get("/1") + get("/2"))
    draining = True
    rim.talks[0].answer()
    assert [a.header(b"connection") for a in rim.answers()] == [b"close"]
    await rim.turns()
    assert rim.wire.eof
    assert len(rim.talks) == 1
    draining = False
    rim = Rim(nothing, draining=lambda: draining).feed(get("/1"))
    rim.talks[0].reply.head(200, [], 0)
    draining = True
    rim.talks[0].reply.end()
    assert rim.wire.closing


@on_loop
async def test_the_listener_closes_a_running_answer_as_one_whose_client_is_gone() -> None:
    rim = Rim(nothing).feed(get("/1"))
    assert rim.connection.busy
    rim.connection.close()
    assert rim.talks[0].events[-1] == "gone"
    assert rim.wire.closing


@on_loop
async def test_an_idle_connection_holds_nothing_of_its_last_request() -> None:
    rim = Rim().feed(post("/1", b"abc"))
    talk = weakref.ref(rim.talks.pop())
    assert talk() is None  # without the garbage collector


@on_loop
async def test_a_closed_connection_goes_without_the_garbage_collector() -> None:
    rim = Rim().feed(post("/1", b"abc")).lose()
    await asyncio.sleep(0)  # the turn of the loop that sends heads without bodies
    left = weakref.ref(rim.wire)
    rim.talks.clear()
    references = sys.getrefcount(rim.connection)
    del rim.wire
    assert left() is None
    assert references == 2  # the attribute, and the argument
