"""What no parser bounds by itself."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Callable

import httptools
import pytest

from tests.support.rim import Rim, get, nothing, on_loop, post

MIB = 1 << 20
START = b"POST / HTTP/1.1\r\nHost: x\r\n"
BODY = START + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"

ENDLESS: dict[str, tuple[int, bytes, bytes]] = {
    "a value": (431, START + b"X: ", b"a" * 1000),
    "a name": (431, START, b"X" * 1000),
    "a target": (431, b"GET /", b"a" * 1000),
    "fields": (431, START, b"X: aaaaa\r\n" * 10),
    "a trailer": (400, BODY + b"0\r\nX: ", b"a" * 1000),
    "trailers": (400, BODY + b"0\r\n", b"X: aaaaa\r\n" * 100),
    "a chunk extension": (400, BODY + b"3;", b"a" * 1000),
}


@pytest.mark.parametrize("what", ENDLESS)
@pytest.mark.parametrize("size", [1000, 200_000])
@on_loop
async def test_endless(what: str, size: int) -> None:
    status, start, more = ENDLESS[what]
    rim = Rim(nothing).feed(start)
    tracemalloc.start()
    try:
        more = more * (size // 1000)
        rounds = 0
        while not rim.wire.out:
            rim.connection.data_received(more)
            rounds += 1
            assert rounds * len(more) < MIB, "never refused"
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()
    assert [a.status for a in rim.answers()] == [status]


@on_loop
async def test_what_is_bounded_is_not_what_is_long() -> None:
    """A body of many reads, one of many chunks, and a long head behind a long body in one read."""
    head = get("/2", f"X: {'a' * 30000}")
    rim = Rim().feed(*([post("/1", b"x" * MIB)[i: i + 50000] for i in range(0, MIB + 200, 50000)]))
    chunks = b"".join(b"4;some=extension\r\nabcd\r\n" for _ in range(20000))
    long = BODY + chunks + b"0\r\nX: " + b"a" * 20000 + b"\r\n\r\n"
    rim.feed(*(long[i: i + 10000] for i in range(0, len(long), 10000)))
    rim.feed(post("/3", b"y" * 60000) + head[:20000], head[20000:])
    assert [t.request.path for t in rim.talks] == ["/1", "/", "/3", "/2"]
    assert [len(t.body) for t in rim.talks] == [MIB, 80003, 60000, 0]
    assert [a.status for a in rim.answers()] == [200] * 4


@on_loop
async def test_a_long_head_behind_a_body_in_one_read_is_refused() -> None:
    rim = Rim().feed(post("/1", b"y" * 60000) + get("/2", f"X: {'a' * 40000}"))
    assert [a.status for a in rim.answers()] == [200, 431]


@on_loop
async def test_an_idle_connection_is_small() -> None:
    request = post("/1", b"abc", *(f"X-{n}: {'v' * 50}" for n in range(20)))
    for _ in range(400):
        asyncio.get_running_loop().call_soon(int)  # the loop's own queue has its size before we measure
    await asyncio.sleep(0)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        rims = [Rim() for _ in range(200)]
        made = (tracemalloc.get_traced_memory()[0] - before) / 200
        for rim in rims:
            rim.feed(request)
            rim.talks.clear()
            rim.wire.out = bytearray()
        await asyncio.sleep(0)  # the turn of the loop that sends heads without bodies
        gc.collect()
        used = (tracemalloc.get_traced_memory()[0] - before) / 200
    finally:
        tracemalloc.stop()
    assert used < made + 200, (made, used)
    assert used < 4096, used  # with wire and front of the test


# What we stand on; a version of httptools that does it differently breaks more than these.


class Heard:
    def __init__(self, raises: str = "") -> None:
        self.events: list[str] = []
        self._raises = raises

    def __getattr__(self, name: str) -> Callable[..., None]:
        if not name.startswith("on_"):
            raise AttributeError(name)

        def heard(*_: bytes) -> None:
            self.events.append(name)
            if name == self._raises:
                raise ZeroDivisionError

        return heard


CALLBACKS = ["on_message_begin", "on_url", "on_header", "on_headers_complete", "on_body", "on_message_complete"]


@pytest.mark.parametrize("name", CALLBACKS)
def test_httptools_keeps_what_a_callback_raised_as_context(name: str) -> None:
    heard = Heard(name)
    parser = httptools.HttpRequestParser(heard)
    with pytest.raises(httptools.HttpParserCallbackError) as caught:
        parser.feed_data(post("/1", b"abc") * 2)
    assert isinstance(caught.value.__context__, ZeroDivisionError)
    assert heard.events.count(name) == 1
    with pytest.raises(httptools.HttpParserCallbackError) as again:
        parser.feed_data(b"x")
    assert again.value.__context__ is None


def test_httptools_leaves_the_body_of_an_upgrade_unread_and_reads_on() -> None:
    heard = Heard()
    parser = httptools.HttpRequestParser(heard)
    data = post("/1", b"abc", "Connection: Upgrade", "Upgrade: h2c")
    with pytest.raises(httptools.HttpParserUpgrade) as caught:
        parser.feed_data(data)
    assert data[caught.value.args[0]:] == b"abc"
    assert heard.events[-2:] == ["on_headers_complete", "on_message_complete"]
    assert "on_body" not in heard.events
    parser.feed_data(post("/2", b"x"))
    assert "on_body" in heard.events
    assert not parser.should_upgrade()
