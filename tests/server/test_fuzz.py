"""The rim against anybody: no bytes raise, hang, or get two answers to one request; and no good request is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import uvloop
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fuzz import CUTS, split, tries
from tests.support.guests import GuestRim
from tests.support.rim import Rim, Talk, chunked, get, post

UPGRADE = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA")
PATHS = st.sampled_from(["/v1/messages", "/v1/chat/completions?x=y", "/", "/health", "http://y/z"])
BODIES = st.sampled_from([b"", b"{}", b"x" * 50, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"0\r\n\r\n"])
EXTRA = st.lists(st.sampled_from(["Expect: 100-continue", "X-A: b", "Connection: keep-alive", *UPGRADE]), max_size=3, unique=True)


def _post(path: str, body: bytes, extra: list[str]) -> bytes:
    return post(path, body, *extra)


def _get(path: str, extra: list[str], method: str) -> bytes:
    return get(path, *extra, method=method)


def _chunked(bodies: list[bytes]) -> bytes:
    return chunked("/c", *filter(None, bodies), trailers="X-T: 1\r\n", ext=";a=b")


GOOD = st.one_of(
    st.builds(_post, PATHS, BODIES, EXTRA),
    st.builds(_get, PATHS, EXTRA, st.sampled_from(["GET", "HEAD", "OPTIONS", "DELETE"])),
    st.builds(_chunked, st.lists(BODIES, max_size=3)),
)
LAST = st.one_of(
    st.just(b""),
    st.just(get("/last", "Connection: close")),
    st.just(get("/last", version="1.0")),
    st.just(post("/last", b"abc", version="1.0")),
)
SPICE = st.sampled_from([
    b"\r\n", b"\n", b"\r", b" ", b"\0", b":", b"0\r\n\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 3\r\n", b"Host: y\r\n",
    b"GET / HTTP/1.1\r\n", b"\xff", b"HTTP/1.0", b"Connection: close\r\n", b"Upgrade: h2c\r\n", b"X: " + b"a" * 700, b"ffffffffff\r\n",
])
ACTS = st.sampled_from(["whole", "stream", "short", "abort", "leave", "pause upload"])
WHEN = st.sampled_from(["open", "body", "end", "later"])
STEPS = st.sampled_from(["feed", "feed", "feed", "turns", "turns", "answer", "pause", "resume", "eof", "lose", "close", "late", "late"])


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    data = bytearray(b"".join(draw(st.lists(GOOD, min_size=1, max_size=4))))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 3)):
            case 0:
                data[at:at] = draw(SPICE)
            case 1:
                del data[at: at + draw(st.integers(1, 10))]
            case 2:
                data[at: at + 1] = draw(st.binary(min_size=1, max_size=2))
            case _:
                data[at:at] = data[at // 2: at]
    return bytes(data)


def do(talk: Talk, act: str) -> None:
    reply, method = talk.reply, talk.request.method.encode()
    if act == "whole":
        talk.answer(b"answer to " + method)
    elif act == "stream":
        reply.head(200, [], None)
        reply.write(b"answer to ")
        reply.write(b"")
        reply.write(method)
        reply.end()
    elif act == "short":
        reply.head(200, [], 1000)
        reply.write(b"short")
        reply.end()
    elif act == "abort":
        reply.head(200, [], None)
        reply.write(b"some")
        reply.abort()
    elif act == "pause upload":
        reply.pause_upload()


def run(work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


class Fuzzed:
    """A rim whose exchange does what was drawn, for each request once."""

    def __init__(self, acts: list[tuple[str, str]]) -> None:
        self.acts = acts
        self.answered: set[int] = set()
        self.rim = GuestRim(self._act, pipelined_requests=3, pipelined_bytes=100, head_bytes=2000, head_fields=20)

    def _act(self, talk: Talk, event: str) -> None:
        number = self.rim.talks.index(talk)
        act, when = self.acts[number % len(self.acts)]
        if event == when or (event == "end" and when == "body"):
            self.answer(number, act)

    def answer(self, number: int, act: str) -> None:
        talk = self.rim.talks[number]
        if number in self.answered or "gone" in talk.events:
            return
        if act not in ("leave", "pause upload"):
            self.answered.add(number)  # a promise of the exchange's: once
        do(talk, act)

    def check(self) -> None:
        rim = self.rim
        assert not rim.wire.late
        for number, talk in enumerate(rim.talks):
            told = [e for e in talk.events if e in ("body", "end", "gone")]
            assert told.count("end") <= 1
            assert told.count("gone") <= 1
            assert "gone" not in told[:-1]
            assert "end" not in told or set(told[told.index("end") + 1:]) <= {"gone"}
            assert number == len(rim.talks) - 1 or number in self.answered or "gone" in told, "the next one began before this one ended"
        methods = [t.request.method for n, t in enumerate(rim.talks) if n in self.answered]
        answers = [a for a in rim.answers(*methods) if a.status != 100]
        assert len(answers) <= len(methods) + 1
        for answer, method in zip(answers, methods, strict=False):
            if answer.status == 200 and answer.body.startswith(b"answer"):
                assert answer.body == b"answer to " + method.encode()
        for answer in answers[len(methods):]:
            assert answer.status in (400, 405, 408, 429, 431, 505)
            assert answer.header(b"connection") == b"close"
        if len(answers) > len(methods):
            assert rim.wire.eof or rim.wire.closing


@tries(6)
@given(
    data=st.one_of(spoilt(), st.binary(max_size=200), st.lists(GOOD, max_size=6).map(b"".join)),
    cuts=CUTS,
    acts=st.lists(st.tuples(ACTS, WHEN), min_size=1, max_size=4),
    steps=st.lists(STEPS, max_size=25),
    late=st.sampled_from([1.0, 11.0, 100.0]),
)
def test_anything(data: bytes, cuts: list[int], acts: list[tuple[str, str]], steps: list[str], late: float) -> None:
    async def main() -> None:
        fuzzed = Fuzzed(acts)
        rim = fuzzed.rim
        pieces = split(data, cuts)
        for step in [*steps, *(["feed", "turns"] * 10)]:
            if rim.wire.lost:
                break
            if step == "feed":
                if pieces and rim.wire.reading and not rim.wire.closing:
                    rim.connection.data_received(pieces.pop(0))
            elif step == "turns":
                for _ in range(4):
                    await asyncio.sleep(0)
            elif step == "answer" and rim.talks:
                fuzzed.answer(len(rim.talks) - 1, acts[0][0])
            elif step == "late":
                rim.look(rim.now + late)
            elif step == "pause":
                rim.connection.pause_writing()
            elif step == "resume":
                rim.connection.resume_writing()
            elif step == "eof" and not rim.wire.closing:
                rim.connection.eof_received()
            elif step == "lose":
                rim.lose()
            elif step == "close":
                rim.connection.close()
            fuzzed.check()
        if not rim.wire.lost:
            rim.lose()
        fuzzed.check()
        for number, talk in enumerate(rim.talks):
            assert number in fuzzed.answered or talk.events[-1] == "gone", "an exchange that nobody ends"

    run(main())


@tries(4)
@given(
    good=st.lists(GOOD, min_size=1, max_size=6),
    last=LAST,
    cuts=CUTS,
    act=st.sampled_from(["whole", "stream"]),
    when=st.sampled_from(["end", "later"]),
)
def test_no_good_request_is_lost_and_no_answer_mixed(good: list[bytes], last: bytes, cuts: list[int], act: str, when: str) -> None:
    async def main() -> None:
        def doing(talk: Talk, event: str) -> None:
            if event == when == "end":
                do(talk, act)

        rim = Rim(doing)
        for piece in split(b"".join(good) + last, cuts):
            rim.connection.data_received(piece)
        if when == "later":
            done = 0
            while done < len(rim.talks):
                assert rim.talks[done].events[-1] == "end"
                do(rim.talks[done], act)
                await rim.turns()
                done += 1
        else:
            await rim.turns()
        wanted = len(good) + bool(last)
        assert len(rim.talks) == wanted
        methods = tuple(t.request.method for t in rim.talks)
        answers = [a for a in rim.answers(*methods) if a.status != 100]
        assert [a.status for a in answers] == [200] * wanted
        assert [a.body for a in answers] == [b"" if m == "HEAD" else b"answer to " + m.encode() for m in methods]
        assert rim.wire.closing is bool(last)

    run(main())


