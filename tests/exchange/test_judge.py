"""Errors under gzip, which may be anything: what is decoded of them, and how they go on."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from penstock.exchange.conduct import Conduct
from penstock.exchange.judge import HELD, Judge
from penstock.pipeline.body import ERRORS
from penstock.vocabulary.ids import ProtocolId
from penstock.wire.encoding import Gunzip
from tests.support.exchanges import FakeAsk, House, told_whole
from tests.support.relays import every, zipped

CHAT = ProtocolId.OPENAI_CHAT
MOST = 3 << 20
"""Bytes that may be decoded in one step; a piece of a decoder's may be 1 MiB."""
LONG = json.dumps({"error": {"message": "no", "type": "t"}, "why": "x" * (64 << 20)}).encode()
SWOLLEN = zipped(LONG, 9)
"""Comes in one read."""
SPREAD = zipped(json.dumps({"error": {"message": "no"}, "why": list(range(300_000))}).encode())
"""Does not."""


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes that were decoded since it was emptied."""
    sizes: list[int] = []
    feed = Gunzip.feed

    def counted(self: Gunzip, data: bytes) -> Iterator[bytes]:
        for piece in feed(self, data):
            sizes.append(len(piece))
            yield piece

    monkeypatch.setattr(Gunzip, "feed", counted)
    return sizes


def answer(ask: FakeAsk, body: bytes, kind: bytes, decoded: list[int]) -> None:
    """Of 400; no step of it decodes much."""
    ask.answer(400, [(b"content-type", kind), (b"content-encoding", b"gzip"), (b"content-length", b"%d" % len(body))])
    for piece in every(body, 1 << 16):
        if ask.live:
            ask.body(piece)
            assert sum(decoded) < MOST
            decoded.clear()
    if ask.live:
        ask.end()
    assert sum(decoded) < MOST


@pytest.mark.parametrize("body", [SWOLLEN, SPREAD], ids=["swollen", "spread"])
@pytest.mark.parametrize("how", ["stream", "whole", "transparent", "undescribed"])
def test_a_long_one_goes_on_as_it_came(body: bytes, how: str, decoded: list[int]) -> None:
    with House(conduct=Conduct(transparent=how == "transparent")) as house:
        if how == "undescribed":
            asker = house.get("/openai/v1/vector_stores")
            ask = house.last
        else:
            asker, ask = house.whole(CHAT) if how == "whole" else house.stream(CHAT)
        answer(ask, body, b"application/json", decoded)
        reply = asker.reply
        assert (reply.status, reply.body, reply.over, reply.length) == (400, body, "ended", len(body))
        assert reply.header(b"content-encoding") == b"gzip"
        row = house.row()
        assert (row.outcome, row.upstream_status) == ("UPSTREAM_ERROR", 400)
        assert (row.error_message or "").startswith('{"error": {"message": "no"'), "its beginning says what it was"
        house.check_quiet()


@pytest.mark.parametrize("kind", [b"text/html", b"text/plain"])
def test_one_in_nobodys_shape_is_told_by_its_beginning(house: House, kind: bytes, decoded: list[int]) -> None:
    asker, ask = house.stream(CHAT)
    answer(ask, zipped(b"out of memory " * (4 << 20), 9), kind, decoded)
    assert asker.reply.status == 400
    assert told_whole(CHAT, asker.reply)["message"].startswith("out of memory out")
    assert asker.reply.header(b"content-encoding") is None
    house.check_quiet()


def test_one_that_breaks_off(house: House, decoded: list[int]) -> None:
    asker, ask = house.stream(CHAT)
    ask.answer(400, [(b"content-type", b"text/plain"), (b"content-encoding", b"gzip")]).body(zipped(b"no " * (16 << 20), 9)[:-9])
    ask.lose()
    assert sum(decoded) < MOST
    assert asker.reply.status == 400
    assert told_whole(CHAT, asker.reply)["message"].startswith("no no")
    house.check_quiet()


def test_one_behind_a_head_of_ours(house: House, decoded: list[int]) -> None:
    asker, ask = house.stream(CHAT)
    house.loop.wait(31, 1)
    assert asker.reply.status == 200
    answer(ask, SWOLLEN, b"application/json", decoded)
    assert asker.reply.over == "ended"
    assert b'data: {"error":' in asker.reply.body.replace(b" ", b"").replace(b"data:", b"data: ")
    assert (house.row().outcome, house.row().upstream_status) == ("UPSTREAM_ERROR", 400)
    house.check_quiet()


@pytest.mark.parametrize("how", ["stream", "transparent", "undescribed"])
@pytest.mark.parametrize("size", [10, ERRORS - 1000])
def test_all_others_have_it_taken_off(how: str, size: int) -> None:
    with House(conduct=Conduct(transparent=how == "transparent")) as house:
        body = json.dumps({"error": {"message": "no", "type": "t"}, "why": "x" * size}).encode()
        asker = house.get("/openai/v1/vector_stores") if how == "undescribed" else house.stream(CHAT)[0]
        packed = zipped(body)
        house.last.answer(400, [(b"content-type", b"application/json"), (b"content-encoding", b"gzip")]).body(packed[:9], packed[9:]).end()
        assert (asker.reply.status, asker.reply.body, asker.reply.header(b"content-encoding")) == (400, body, None)
        assert house.row().error_message == "no"
        house.check_quiet()


@pytest.mark.parametrize("how", ["transparent", "undescribed"])
def test_words_pass_where_nothing_may_be_told_in_others(how: str) -> None:
    with House(conduct=Conduct(transparent=how == "transparent")) as house:
        asker = house.get("/openai/v1/vector_stores") if how == "undescribed" else house.stream(CHAT)[0]
        house.last.answer(400, [(b"content-type", b"text/plain"), (b"content-encoding", b"gzip")]).body(zipped(b"no such thing")).end()
        assert (asker.reply.status, asker.reply.body, asker.reply.header(b"content-encoding")) == (400, b"no such thing", None)
        house.check_quiet()


@pytest.mark.parametrize(("body", "long"), [
    (zipped(b"x" * ERRORS), False), (zipped(b"x" * (ERRORS + 1)), True), (zipped(b"x") * 9, False), (b"\xff" * 40, False), (SWOLLEN, True)])
def test_how_long_one_is(body: bytes, long: bool, decoded: list[int]) -> None:
    judge = Judge(b"gzip")
    judge.hold(body)
    assert judge.is_long() is long
    assert sum(decoded) <= ERRORS + HELD
    plain = Judge(b"")
    plain.hold(body)
    assert not plain.is_long(), "its size is known by its bytes"
