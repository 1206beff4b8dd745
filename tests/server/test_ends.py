"""The last chunk of an answer goes behind what else is at hand, and before whatever follows it on its connection."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.rim import Rim, Talk, get, nothing, on_loop, post

LAST = b"0\r\n\r\n"


def ended(rim: Rim) -> Rim:
    """Its first answer is told, in chunks, to the end."""
    tell(rim.talks[0])
    assert not bytes(rim.wire.out).endswith(LAST)
    return rim


def tell(talk: Talk, event: str = "end") -> None:
    if event == "end":
        talk.reply.head(200, [], None)
        talk.reply.write(b"answer")
        talk.reply.end()


def whole(rim: Rim) -> list[bool]:
    return [answer.whole for answer in rim.answers()]


@on_loop
async def test_it_comes_by_itself() -> None:
    rim = ended(Rim(nothing).feed(get()))
    assert whole(rim) == [False]
    await asyncio.sleep(0)
    assert whole(rim) == [True]
    await asyncio.sleep(0)
    assert bytes(rim.wire.out).endswith(b"answer\r\n" + LAST)


@on_loop
async def test_before_the_answer_to_the_next_request() -> None:
    rim = ended(Rim(nothing).feed(get("/1"))).feed(get("/2"))
    rim.talks[1].answer(b"two")
    assert [answer.body for answer in rim.answers()] == [b"answer", b"two"]
    await asyncio.sleep(0)
    assert [answer.body for answer in rim.answers()] == [b"answer", b"two"]


@pytest.mark.parametrize("last", ["head", "whole"])
@on_loop
async def test_requests_of_one_read_that_are_answered_at_once(last: str) -> None:
    def act(talk: Talk, event: str) -> None:
        if event != "end":
            return
        if talk.request.path == "/3" and last == "whole":
            talk.answer(b"answer")
        else:
            tell(talk)

    rim = Rim(act).feed(get("/1") + post("/2", b"body") + get("/3"))
    await rim.turns()
    assert [(answer.body, answer.whole) for answer in rim.answers()] == [(b"answer", True)] * 3


@on_loop
async def test_before_a_refusal_of_what_follows() -> None:
    rim = ended(Rim(nothing).feed(get())).feed(b"no request at all\r\n\r\n")
    assert [(answer.status, answer.whole) for answer in rim.answers()] == [(200, True), (400, True)]


@pytest.mark.parametrize("how", ["the client's end", "the listener's"])
@on_loop
async def test_before_the_connection_closes(how: str) -> None:
    rim = ended(Rim(nothing).feed(get()))
    if how == "the listener's":
        rim.connection.close()
    else:
        rim.connection.eof_received()
    assert whole(rim) == [True]
    await asyncio.sleep(0)
    assert whole(rim) == [True]


@on_loop
async def test_not_to_a_client_that_is_gone() -> None:
    rim = ended(Rim(nothing).feed(get())).lose()
    await asyncio.sleep(0)
    assert whole(rim) == [False]


@on_loop
async def test_at_once_where_the_connection_closes_with_it() -> None:
    rim = Rim(nothing).feed(get("/g", "Connection: close"))
    tell(rim.talks[0])
    assert whole(rim) == [True]


@on_loop
async def test_before_the_turn_of_one_that_waited_for_the_client_to_read() -> None:
    """The listener closes when the next one has the turn, and no answer yet."""
    rim = Rim(nothing).feed(get("/1"))
    rim.connection.pause_writing()
    ended(rim).feed(get("/2"))
    rim.connection.resume_writing()
    rim.connection.close()
    assert whole(rim) == [True]


@on_loop
async def test_the_next_head_still_leaves_with_what_follows_it() -> None:
    rim = ended(Rim(nothing).feed(get("/1"))).feed(get("/2"))
    rim.talks[1].reply.head(200, [], None)
    await asyncio.sleep(0)
    assert bytes(rim.wire.out).endswith(b"answer\r\n" + LAST)
    tell(rim.talks[1])
    await asyncio.sleep(0)
    assert whole(rim) == [True, True]
