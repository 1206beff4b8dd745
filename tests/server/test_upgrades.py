"""Offers of another protocol, which are ignored: the request is read as what it is."""

from __future__ import annotations

import pytest

from tests.support.rim import Rim, Talk, at_end, chunked, get, on_loop, post

UPGRADE = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")


@pytest.mark.parametrize("framing", ["length", "chunked"])
@on_loop
async def test_an_offered_upgrade_is_ignored_and_its_body_is_no_request(framing: str) -> None:
    body = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"
    data = post("/1", body) if framing == "length" else chunked("/1", body)
    data = data.replace(b"\r\n", ("\r\n" + "\r\n".join(UPGRADE) + "\r\n").encode(), 1)
    rim = Rim().feed(data + get("/2"))
    assert [(t.request.path, t.body) for t in rim.talks] == [("/1", body), ("/2", b"")]
    assert len(rim.answers()) == 2


@pytest.mark.parametrize(("framing", "version"), [("length", "1.1"), ("length", "1.0"), ("chunked", "1.1"), ("apart", "1.1")])
@on_loop
async def test_an_upgrade_on_a_connection_that_is_to_be_closed_keeps_its_body(framing: str, version: str) -> None:
    offer = "\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\n"
    data = chunked("/1", b"ab", b"c") if framing == "chunked" else post("/1", b"abc", version=version)
    data = data.replace(b"\r\n", offer.encode(), 1)
    pieces = [data[i : i + 1] for i in range(len(data))] if framing == "apart" else [data + get("/2")]
    rim = Rim().feed(*pieces)
    assert [(t.request.path, t.body) for t in rim.talks] == [("/1", b"abc")]
    (answer,) = rim.answers()
    assert (answer.status, answer.header(b"connection")) == (200, b"close")
    assert rim.wire.closing


@on_loop
async def test_what_is_refused_behind_an_upgrade_is_refused() -> None:
    rim = Rim().feed(post("/1", b"abc", *UPGRADE) + b"GET /2 HTTP/1.1\r\n\r\n")
    assert [a.status for a in rim.answers()] == [200, 400]


@on_loop
async def test_a_mistake_behind_an_upgrade_comes_out_as_it_is() -> None:
    def act(talk: Talk, event: str) -> None:
        if talk.request.path == "/2":
            raise ZeroDivisionError
        at_end(talk, event)

    with pytest.raises(ZeroDivisionError):
        Rim(act).feed(post("/1", b"abc", *UPGRADE) + get("/2"))


@on_loop
async def test_a_thousand_upgrades_in_one_read() -> None:
    rim = Rim().feed(get("/g", "Connection: Upgrade", "Upgrade: websocket") * 2000)
    assert len(rim.answers()) == 2000
