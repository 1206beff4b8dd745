"""Answers by the thousand, good and spoilt: each request gets exactly one end, and of what is plainly good every byte."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from penstock.upstream.connection import Connection
from penstock.upstream.contract import Headers, Loss, LossKind, ResponseHead
from tests.support.fuzz import CUTS, bytewise, marred, split, tries

FINAL = ("ended", "lost")
GET, HEAD = (b"GET", b"/", b"Host: h\r\n\r\n"), (b"HEAD", b"/", b"Host: h\r\n\r\n")


class Wire:
    """A transport that says where it was used behind its end."""

    def __init__(self) -> None:
        self.closed = False
        self.reading = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return self.closed

    def write(self, data: bytes) -> None:
        assert not self.closed
        assert data

    def writelines(self, pieces: Sequence[bytes]) -> None:
        assert not self.closed

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        assert not self.closed
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.closed
        self.reading = True


class Taker:
    """Whoever asked; it may cancel, pause, or go on in any call, as `acts` says for one call after the other."""

    def __init__(self, rig: Rig, acts: list[str]) -> None:
        self.rig, self.acts = rig, acts
        self.calls: list[str] = []
        self.head: ResponseHead | None = None
        self.body = b""
        self.loss: Loss | None = None
        self.cancelled = False

    def _note(self, what: str) -> None:
        assert not self.over, "nothing is called behind the end"
        self.calls.append(what)
        act = self.acts[(len(self.calls) - 1) % len(self.acts)] if self.acts else ""
        if act == "cancel":
            self.cancelled = True
            self.rig.connection.cancel(self)
        elif act == "pause":
            self.rig.connection.pause(self)
        elif act == "resume":
            self.rig.connection.resume(self)

    @property
    def over(self) -> bool:
        return self.cancelled or bool(self.calls and self.calls[-1] in FINAL)

    def answer_began(self, head: ResponseHead, now: float) -> None:
        assert not self.calls
        self.head = head
        self._note("began")

    def answer_body(self, data: bytes, now: float) -> None:
        assert data
        assert self.head is not None
        self.body += data
        self._note("body")

    def answer_ended(self, now: float) -> None:
        assert self.head is not None
        self._note("ended")

    def answer_whole(self, head: ResponseHead, body: bytes, now: float) -> None:
        self.answer_began(head, now)
        if not self.cancelled:
            self.answer_body(body, now)
        if not self.cancelled:
            self.answer_ended(now)

    def answer_lost(self, loss: Loss, now: float) -> None:
        assert loss.cause.isprintable()
        assert len(loss.cause) < 150
        self.loss = loss
        self._note("lost")

    def upload_paused(self) -> None:
        raise AssertionError("nothing is uploaded")

    def upload_resumed(self) -> None:
        raise AssertionError("nothing is uploaded")

    def heard(self) -> tuple[Any, ...]:
        """However it was cut."""
        return self.head and (self.head.status, self.head.headers), self.body, self.calls[-1:], self.loss and self.loss.kind


class Rig:
    """A connection and its keeper."""

    def __init__(self) -> None:
        self.kept = 0
        self.wire = Wire()
        self.connection = Connection(self, None)
        self.connection.connection_made(cast(asyncio.Transport, self.wire))
        self.over = False

    def keep(self, connection: Connection) -> None:
        self.kept += 1

    def gone(self, connection: Connection) -> None: ...

    def ask(self, acts: list[str], *, head_only: bool = False) -> Taker:
        taker = Taker(self, acts)
        self.connection.send(taker, taker, HEAD if head_only else GET, head_only=head_only, uploading=False)
        return taker

    def feed(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            if not self.wire.closed:
                self.connection.data_received(piece)

    def end(self, how: str) -> None:
        if not self.over:
            self.over = True
            if how == "eof" and not self.wire.closed:
                self.connection.eof_received()
            self.wire.closed = True
            self.connection.connection_lost(ConnectionResetError(104, "reset") if how == "reset" else None)


def play(pieces: list[bytes], end: str, acts: list[str] | None = None, *, head_only: bool = False) -> tuple[Taker, Rig]:
    rig = Rig()
    taker = rig.ask(acts or [], head_only=head_only)
    rig.feed(pieces)
    rig.end(end)
    assert taker.over, "each request gets an end"
    return taker, rig


# -- a reader that takes only what is plain ------------------------------------------------------------------------------------------------

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_FIELD = rb"%b:[ \t]*(?:[!-~\x80-\xff][ -~\x80-\xff]*)?\r\n" % _TOKEN
_HEAD = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2}) [A-Za-z ]*\r\n((?:%b)*)\r\n" % _FIELD)
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,8})(?:;[a-z]+(?:=[a-z]+)?)*\r\n")
_TRAILERS = re.compile(rb"(?:X-%b: ?[!-~]*\r\n)*\r\n" % _TOKEN)


@dataclass
class Plain:
    """What there can be no two opinions about. `whole`: the framing says that it is all; `until_close`: only the end can say so."""

    status: int
    headers: Headers
    body: bytes
    whole: bool
    until_close: bool = False


def plainly(data: bytes, *, head_only: bool) -> Plain | None:
    at = 0
    while True:
        head = _HEAD.match(data, at)
        if head is None:
            return None
        status, at = int(head[2]), head.end()
        lines = head[3].split(b"\r\n")[:-1]
        headers = [(name, value.lstrip(b" \t")) for name, _, value in (line.partition(b":") for line in lines)]
        names = [name.lower() for name, _ in headers]
        telling = [name for name in names if name in (b"content-length", b"transfer-encoding", b"upgrade", b"connection")]
        if len(telling) != len(set(telling)) or b"upgrade" in telling or status == 101 or any(v[-1:] in (b" ", b"\t") for _, v in headers):
            return None
        named = {name.lower(): value for name, value in headers}
        length, coding = named.get(b"content-length"), named.get(b"transfer-encoding")
        if status < 200:
            if length is not None or coding is not None:
                return None
            continue
        if (length is not None and coding is not None) or (coding is not None and coding.lower() != b"chunked"):
            return None
        if length is not None and not re.fullmatch(rb"[0-9]{1,9}", length):
            return None
        if head_only or status in (204, 304):
            return Plain(status, headers, b"", whole=True)
        if coding is not None:
            body, whole = _unchunked(data, at)
            return None if body is None else Plain(status, headers, body, whole)
        if length is not None:
            body = data[at : at + int(length)]
            return Plain(status, headers, body, len(body) == int(length))
        return Plain(status, headers, data[at:], whole=False, until_close=True)


def _unchunked(data: bytes, at: int) -> tuple[bytes | None, bool]:
    body = b""
    while size := _CHUNK.match(data, at):
        end = size.end() + int(size[1], 16)
        if end == size.end():
            last = _TRAILERS.match(data, end)
            return (body, True) if last else (body, False) if end == len(data) else (None, False)
        body, at = body + data[size.end() : end], end + 2
        if len(data) <= end:
            return body, False
        if data[end:at] != b"\r\n":
            return None, False
    return (body, False) if at == len(data) else (None, False)


# -- answers -----------------------------------------------------------------------------------------------------------------------------

STATUS = st.sampled_from(["200 OK", "200 OK", "201 Created", "204 No Content", "304 Not Modified", "404 Not Found", "500 Oh", "529 Overloaded"])
ODD = b"HTTP/1.1 150 Odd\r\nContent-Length: 3\r\n\r\nno!"
"""An interim answer with a body."""
INTERIM = st.sampled_from([b"", b"", b"", ODD, b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 2])
FIELDS = st.lists(
    st.sampled_from(["X: y", "Content-Type: text/event-stream", "Connection: close", "Connection: keep-alive", "X-Empty:", "X-High: \xe9"]),
    max_size=3,
    unique=True,
)
EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
BODIES = st.sampled_from([b"", b"{}", b"data: x\n\n" * 5, EVIL, b"0\r\n\r\n", b"\r\n"]) | st.binary(max_size=30)


def _sized(interim: bytes, status: str, fields: list[str], body: bytes, version: str) -> bytes:
    return interim + _head(status, [*fields, f"Content-Length: {len(body)}"], version) + body


def _chunks(interim: bytes, status: str, fields: list[str], pieces: list[bytes], ext: bytes, trailers: bytes) -> bytes:
    body = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), ext, piece) for piece in pieces if piece)
    return interim + _head(status, [*fields, "Transfer-Encoding: chunked"], "1.1") + body + b"0%b\r\n%b\r\n" % (ext, trailers)


def _open(interim: bytes, status: str, fields: list[str], body: bytes, version: str) -> bytes:
    return interim + _head(status, fields, version) + body


def _head(status: str, fields: list[str], version: str) -> bytes:
    return "\r\n".join((f"HTTP/{version} {status}", *fields, "", "")).encode("latin-1")


VERSIONS = st.sampled_from(["1.1", "1.1", "1.0"])
GOOD = st.one_of(
    st.builds(_sized, INTERIM, STATUS, FIELDS, BODIES, VERSIONS),
    st.builds(
        _chunks, INTERIM, STATUS, FIELDS, st.lists(BODIES, max_size=4), st.sampled_from([b"", b";a=b"]), st.sampled_from([b"", b"X-Sum: 1\r\n"])
    ),
    st.builds(_open, INTERIM, STATUS, FIELDS, BODIES, VERSIONS),
)
SPICE = st.sampled_from([
    b"\r\n", b"\n", b"\r", b" ", b"\0", b":", b"0\r\n\r\n", b"\r\n\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n",
    b"Content-Length: 3\r\n", b"Content-Length: -1\r\n", b"Content-Length: 99999999999999999999\r\n", b" folded\r\n", b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", ODD, b"HTTP/2.0", b"099",
    EVIL, b"Connection: upgrade\r\nUpgrade: h2\r\n", b"ffffffffffffffffff\r\n", b"3;\r\n", b"\xff",
    b"X: " + b"a" * 3000 + b"\r\n",
])  # fmt: skip
ANSWERS = st.one_of(
    GOOD,
    GOOD.flatmap(lambda data: marred(data, SPICE)),
    st.tuples(GOOD, st.integers(1, 40) | st.integers(1, 300)).map(lambda cut: cut[0][: -cut[1]]),
    st.tuples(GOOD, GOOD | SPICE).map(b"".join),
    st.lists(SPICE, max_size=10).map(b"".join),
    st.binary(max_size=150),
)
HEADS = st.sampled_from([False, False, False, True])
"""Was it HEAD that was asked?"""
ENDS = st.sampled_from(["eof", "eof", "reset", "lost"])
ACTS = st.lists(st.sampled_from(["", "", "", "pause", "resume", "cancel"]), max_size=6)


# -- the laws ----------------------------------------------------------------------------------------------------------------------------


@tries(8)
@given(ANSWERS, CUTS, ENDS, HEADS)
def test_what_is_plainly_good_arrives_to_the_byte(data: bytes, cuts: list[int], end: str, head_only: bool) -> None:
    wanted = plainly(data, head_only=head_only)
    taker, rig = play(split(data, cuts), end, head_only=head_only)
    assert not (head_only and rig.kept), "who knows whether its server sends a body all the same"
    if wanted is None:
        return
    assert taker.head is not None
    assert (taker.head.status, taker.head.headers, taker.body) == (wanted.status, wanted.headers, wanted.body)
    whole = wanted.whole or (wanted.until_close and end == "eof")
    assert taker.calls[-1] == ("ended" if whole else "lost")
    if not whole:
        assert taker.loss is not None
        assert taker.loss.kind in (LossKind.EOF, LossKind.RESET)
        assert rig.kept == 0


@tries(6)
@given(GOOD, HEADS)
def test_the_plain_reader_knows_all_that_is_good(data: bytes, head_only: bool) -> None:
    """So what is asserted with it is asserted of these."""
    wanted = plainly(data, head_only=head_only)
    if data.count(b"Connection:") < 2 and not data.startswith(ODD):
        assert wanted is not None
        assert wanted.whole or wanted.until_close


@tries(6)
@given(ANSWERS, CUTS, ENDS, HEADS)
def test_any_chunking_gives_the_same(data: bytes, cuts: list[int], end: str, head_only: bool) -> None:
    plays = [play(pieces, end, head_only=head_only) for pieces in ([data] if data else [], split(data, cuts), bytewise(data))]
    assert plays[0][0].heard() == plays[1][0].heard() == plays[2][0].heard()


@tries(6)
@given(ANSWERS, CUTS, ENDS, ACTS, HEADS)
def test_one_end_whatever_the_one_who_asked_does(data: bytes, cuts: list[int], end: str, acts: list[str], head_only: bool) -> None:
    taker, rig = play(split(data, cuts), end, acts, head_only=head_only)
    assert sum(call in FINAL for call in taker.calls) == (0 if taker.cancelled and taker.calls[-1] not in FINAL else 1)
    assert rig.wire.closed


@tries(6)
@given(st.lists(st.tuples(ANSWERS, CUTS, ACTS), min_size=2, max_size=4), ENDS)
def test_one_request_after_the_other(asks: list[tuple[bytes, list[int], list[str]]], end: str) -> None:
    """On one connection, as long as it is kept: no answer reaches another's asker, and a plainly good one is whole."""
    rig = Rig()
    taken: list[Taker] = []
    for number, (data, cuts, acts) in enumerate(asks):
        kept = rig.kept
        taker = rig.ask(acts)
        taken.append(taker)
        rig.feed(split(data, cuts))
        if not rig.connection.ready():
            break
        assert rig.kept == kept + 1
        assert taker.cancelled or taker.calls[-1] == "ended"  # what came in one read leaves a good connection, whatever its asker does
        wanted = plainly(data, head_only=False)
        if wanted is not None and not taker.cancelled:
            assert (wanted.whole, taker.body) == (True, wanted.body)
        assert rig.wire.reading, f"request {number} left a connection that is not read"
    rig.end(end)
    for taker in taken:
        assert taker.over
