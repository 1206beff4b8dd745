"""Requests by the thousand, good and spoilt, against two other readers: a strict one, whose requests must all be handled, and h11, which
must read the same wherever we read something. A difference between two readers is what smuggling is made of."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

import h11
import uvloop
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.fuzz import CUTS, bytewise, marred, split, tries
from tests.support.rim import Rim, at_end, chunked, get, nothing, post

PATHS = st.sampled_from(["/v1/messages", "/v1/chat/completions?x=y", "/", "/%00/..", "/a:b@c"])
BODIES = st.sampled_from([b"", b"{}", b"x" * 50, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"0\r\n\r\n", b"\r\n", b"\0\xff"]) | st.binary(max_size=20)
FIELDS = st.lists(
    st.sampled_from(["Expect: 100-continue", "X-A: b", "X-Empty:", "Connection: keep-alive", "Accept: a, b;q=0.5", "X-High: \xe9"]), max_size=3,
    unique=True,
)  # fmt: skip


def _post(path: str, body: bytes, extra: list[str], method: str) -> bytes:
    return post(path, body, *extra, method=method)


def _get(path: str, extra: list[str], method: str) -> bytes:
    return get(path, *extra, method=method)


def _chunked(path: str, pieces: list[bytes], trailers: str, ext: str) -> bytes:
    return chunked(path, *filter(None, pieces), trailers=trailers, ext=ext)


GOOD = st.one_of(
    st.builds(_post, PATHS, BODIES, FIELDS, st.sampled_from(["POST", "PUT", "PATCH"])),
    st.builds(_get, PATHS, FIELDS, st.sampled_from(["GET", "HEAD", "OPTIONS", "DELETE"])),
    st.builds(_chunked, PATHS, st.lists(BODIES, max_size=3), st.sampled_from(["", "X-T: 1\r\n"]), st.sampled_from(["", ";a=b", ";a"])),
)
SPICE = st.sampled_from([
    b"\r\n", b"\n", b"\r", b" ", b"\t", b"\0", b":", b",", b";", b"0\r\n\r\n", b"\r\n\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding : chunked\r\n", b"Transfer-Encoding: xchunked\r\n", b"Transfer-Encoding:\x0bchunked\r\n", b"Content-Length: 3\r\n",
    b"Content-Length: +3\r\n", b"Content-Length: 0\r\n", b"content-length:3\r\n", b"Content-Length: 3,3\r\n", b" folded\r\n", b"Host: y\r\n",
    b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/1.1\r\n", b"\xff", b"HTTP/1.0", b"HTTP/0.9", b"Connection: close\r\n",
    b"Connection: Upgrade\r\nUpgrade: h2c\r\n", b"Upgrade: websocket\r\n", b"ffffffffffffffffff\r\n", b"0x3\r\n", b"-1\r\n", b"3;\r\n", b"#", b"http://y/z",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
])  # fmt: skip
CODINGS = st.sampled_from([
    "Transfer-Encoding: chunked", "Transfer-Encoding: chunked", "Transfer-Encoding: Chunked ", "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, chunked", "Transfer-Encoding: chunked, gzip", "Transfer-Encoding: gzip", "Transfer-Encoding: identity",
    "Transfer-Encoding: ,chunked", "Transfer-Encoding:", "Transfer-Encoding: xchunked", "Transfer-Encoding\t: chunked",
    "X: y\r\n Transfer-Encoding: chunked",
])  # fmt: skip
LENGTHS = st.sampled_from([
    "Content-Length: 3", "Content-Length: 3", "Content-Length: 3", "Content-Length: 0", "Content-Length: 03", "Content-Length: 3 ",
    "Content-Length: 3, 3", "Content-Length: +3", "Content-Length: 0x3", "Content-Length:", "Content-Length : 3", " Content-Length: 3",
    "Content_Length: 3",
])  # fmt: skip
OTHERS = st.sampled_from([
    "X: y", "Connection: close", "Connection: keep-alive, close", "Connection: Upgrade\r\nUpgrade: h2c", "Trailer: Content-Length", "Host: x",
    "Host: y", "Host:",
])  # fmt: skip
CHUNKS = st.sampled_from([
    b"3\r\nabc\r\n0\r\n\r\n", b"0\r\n\r\n", b"0\r\nContent-Length: 9\r\n\r\n", b"3;a=b\nabc\r\n0\r\n\r\n", b"03\r\nabc\r\n00\r\n\r\n",
    b"3 \r\nabc\r\n0\r\n\r\n", b"3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n",
])  # fmt: skip


def _dubious(path: str, method: str, version: str, framing: tuple[list[str], bytes]) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: x", *framing[0], "", ""]).encode("latin-1") + framing[1]


DUBIOUS = st.builds(
    _dubious,
    PATHS | st.sampled_from(["http://y/z", "*", "//y"]),
    st.sampled_from(["POST", "POST", "POST", "GET", "HEAD", "DELETE", "OPTIONS", "TRACE", "CONNECT"]),
    st.sampled_from(["1.1", "1.1", "1.1", "1.0"]),
    st.one_of(
        st.tuples(CODINGS.map(lambda line: [line]), CHUNKS),
        st.tuples(st.tuples(CODINGS, OTHERS).map(list), CHUNKS),
        st.tuples(st.tuples(LENGTHS, OTHERS).map(list), st.just(b"abc")),
        st.tuples(st.lists(CODINGS | LENGTHS | OTHERS, min_size=1, max_size=3), st.sampled_from([b"", b"abc"]) | CHUNKS),
    ),
)
"""Each a good request, or one about which two readers may differ."""
_LAST = st.tuples(st.lists(GOOD, max_size=2), DUBIOUS, st.just(get("/behind"))).map(lambda told: b"".join([*told[0], *told[1:]]))
STREAMS = st.one_of(
    _LAST,
    _LAST.map(bytes),  # as likely as two of the others
    st.lists(DUBIOUS, min_size=1, max_size=4).map(b"".join),
    st.lists(GOOD, min_size=1, max_size=5).map(b"".join).flatmap(lambda data: marred(data, SPICE)),
    st.lists(GOOD | DUBIOUS, min_size=1, max_size=3).map(b"".join).flatmap(lambda data: marred(data, SPICE)),
    st.lists(GOOD, max_size=5).map(b"".join),
    st.lists(SPICE, max_size=12).map(b"".join),
    st.binary(max_size=200),
)


@dataclass(frozen=True)
class Asked:
    """One whole request."""

    method: str
    target: str
    body: bytes


def asked(method: bytes, target: bytes, body: bytes) -> Asked:
    """The target in origin form, and without a question that asks nothing."""
    found = re.fullmatch(r"(?i:https?://[^/?]*)?/?(.*)", target.decode("latin-1"))
    assert found is not None
    return Asked(method.decode("latin-1"), "/" + found[1].removesuffix("?"), body)


@dataclass(frozen=True)
class Read:
    """What we made of a stream of bytes."""

    whole: tuple[Asked, ...]
    broken: tuple[str, str] | None
    """Method and target of a last request whose body never became whole."""
    told: tuple[tuple[int, bytes], ...]
    closed: bool


def read(pieces: list[bytes], *, answering: bool = True) -> Read:
    found: list[Read] = []

    async def main() -> None:
        rim = Rim(at_end if answering else nothing, pipelined_requests=1000, pipelined_bytes=1 << 20)
        for piece in pieces:
            if rim.wire.reading and not rim.wire.closing:
                rim.connection.data_received(piece)
        await rim.turns()
        talks = rim.talks
        if not answering:  # in turn
            for number in range(1000):
                if number >= len(talks) or "end" not in talks[number].events:
                    break
                at_end(talks[number], "end")
                await rim.turns()
        whole = [asked(t.request.method.encode(), f"{t.request.path}?{t.request.query}".encode(), t.body) for t in talks if "end" in t.events]
        broken = [(t.request.method, t.request.path) for t in talks if "end" not in t.events]
        assert [("end" in t.events) for t in talks] == [True] * len(whole) + [False] * len(broken)
        assert len(broken) <= 1
        assert all(t.events.count("end") <= 1 for t in talks)
        methods = [t.request.method for t in talks]
        answers = [a for a in rim.answers(*methods) if a.status != 100]
        for answer, talk in zip(answers, talks[: len(whole)], strict=False):
            wanted = f"{talk.request.method} {talk.request.path} ".encode() + talk.body
            assert (answer.status, answer.body, answer.whole) == (200, b"" if talk.request.method == "HEAD" else wanted, True)
        assert len(answers) >= len(whole)
        behind = answers[len(whole) :]
        assert len(behind) <= 1, "one refusal, and nothing behind it"
        if behind:
            assert behind[0].status in (400, 405, 431, 505)
            assert behind[0].header(b"connection") == b"close"
            assert rim.wire.eof or rim.wire.closing
        well_formed(bytes(rim.wire.out), methods)
        found.append(Read(tuple(whole), broken[0] if broken else None, tuple((a.status, a.body) for a in answers), rim.wire.closing or rim.wire.eof))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    return found[0]


def well_formed(out: bytes, methods: list[str]) -> None:
    """A client that somebody else wrote reads the answers, one for each request, and one refusal at most."""
    peer = h11.Connection(h11.CLIENT)
    peer.receive_data(out)
    turn = iter([*methods, "GET"])
    while peer.trailing_data[0]:
        peer.send(h11.Request(method=next(turn), target="/", headers=[("Host", "x")]))
        peer.send(h11.EndOfMessage())
        while (event := peer.next_event()) is not h11.NEED_DATA and not isinstance(event, h11.EndOfMessage):
            assert isinstance(event, h11.InformationalResponse | h11.Response | h11.Data)
        if event is h11.NEED_DATA or peer.our_state is not h11.DONE or peer.their_state is not h11.DONE:
            break  # a refusal of HEAD, whose body does not come; or the last one
        peer.start_next_cycle()


# -- a strict reader ---------------------------------------------------------------------------------------------------------------------

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_FIELD = rb"%b:[ \t]*(?:[!-~\x80-\xff][ -~\x80-\xff]*)?\r\n" % _TOKEN
_HEAD = re.compile(rb"(GET|POST|PUT|PATCH|HEAD|OPTIONS|DELETE) (/[!$-~]*) HTTP/1\.1\r\n((?:%b)*)\r\n" % _FIELD)
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,8})(?:;[a-z]+(?:=[a-z]+)?)*\r\n")
_TRAILERS = re.compile(rb"(?:X-%b: ?[!-~]*\r\n)*\r\n" % _TOKEN)
_TELLING = (b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade")


def plainly(data: bytes) -> list[Asked]:
    """The requests at the beginning of `data` about which there can be no two opinions; up to the first about which there can."""
    found: list[Asked] = []
    at = 0
    while (head := _HEAD.match(data, at)) and head.end() - at < 30_000:
        fields = [(name.lower(), value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in head[3].split(b"\r\n")[:-1])]
        telling = [name for name, _ in fields if name in _TELLING]
        named = dict(fields)
        if len(fields) > 90 or len(telling) > len(set(telling)) or b"host" not in named or b"upgrade" in named:
            break
        if named.get(b"connection", b"keep-alive") != b"keep-alive":
            break
        coding, length = named.get(b"transfer-encoding"), named.get(b"content-length")
        if coding is not None:
            body, end = _unchunked(data, head.end()) if coding == b"chunked" and length is None else (b"", None)
        elif re.fullmatch(rb"[0-9]{1,9}", length if length is not None else b"0"):
            end = head.end() + int(length or b"0")
            body = data[head.end() : end]
        else:
            break
        if end is None or end > len(data):
            break
        at = end
        found.append(asked(head[1], head[2], body))
    return found


def _unchunked(data: bytes, at: int) -> tuple[bytes, int | None]:
    """The body that begins at `at`, and where it ends."""
    body = b""
    while size := _CHUNK.match(data, at):
        end = size.end() + int(size[1], 16)
        if end == size.end():
            last = _TRAILERS.match(data, end)
            return body, last.end() if last else None
        if data[end : end + 2] != b"\r\n":
            break
        body, at = body + data[size.end() : end], end + 2
    return body, None


# -- another reader ----------------------------------------------------------------------------------------------------------------------


def others(data: bytes, most: int) -> list[Asked]:
    """What h11 reads, up to `most` requests."""
    found: list[Asked] = []
    try:
        while len(found) < most:
            peer = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
            peer.receive_data(_tidy(data))
            event = peer.next_event()
            if not isinstance(event, h11.Request):
                break
            body = b""
            while isinstance(part := peer.next_event(), h11.Data):
                body += part.data
            if not isinstance(part, h11.EndOfMessage):
                break
            found.append(asked(event.method, event.target, body))
            peer.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            peer.send(h11.EndOfMessage())
            if peer.our_state is not h11.DONE:
                break
            data, _ = peer.trailing_data
    except h11.RemoteProtocolError:
        pass
    return found


def _tidy(data: bytes) -> bytes:
    """Without what we may take and h11 does not: empty lines before a request (RFC 9112, 2.2), and more blanks than one around its target (3)."""
    return re.sub(rb"^([A-Z]+) +([^ \r\n]+) +", rb"\1 \2 ", data.lstrip(b"\r\n"))


# -- the laws ----------------------------------------------------------------------------------------------------------------------------


@tries(6)
@given(STREAMS, CUTS)
def test_what_is_plainly_good_is_handled_once_and_in_order(data: bytes, cuts: list[int]) -> None:
    wanted = plainly(data)
    whole = read(split(data, cuts)).whole
    assert list(whole[: len(wanted)]) == wanted


@tries(4)
@given(st.lists(GOOD, min_size=1, max_size=6), CUTS, st.booleans())
def test_the_strict_reader_knows_all_that_is_good(good: list[bytes], cuts: list[int], answering: bool) -> None:
    """So what is asserted with it is asserted of these."""
    data = b"".join(good)
    wanted = plainly(data)
    assert len(wanted) == len(good)
    seen = read(split(data, cuts), answering=answering)
    assert (list(seen.whole), seen.broken, len(seen.told), seen.closed) == (wanted, None, len(good), False)


CONNECT = b"CONNECT /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" + get("/2")
"""Found here: llhttp reads no body behind CONNECT, and what it was to be became the next request."""
KEPT_AND_CLOSED = b"POST / HTTP/1.0\r\nHost: x\r\nContent-Length: 3\r\nConnection: keep-alive, close\r\n\r\nabc" + get("/behind")
"""Found here: of an HTTP/1.0 client that says both, llhttp keeps the connection, and others close it."""


@tries(6)
@given(STREAMS)
@example(KEPT_AND_CLOSED)
@example(CONNECT)
def test_another_reader_reads_the_same(data: bytes) -> None:
    whole = read([data]).whole
    assert others(data, len(whole)) == list(whole)


@tries(6)
@given(STREAMS, CUTS)
@example(CONNECT, [])
def test_any_chunking_gives_the_same(data: bytes, cuts: list[int]) -> None:
    one, other, third = read([data]), read(split(data, cuts)), read(bytewise(data))
    assert one.whole == other.whole == third.whole
    assert one.closed == other.closed == third.closed
    assert [status for status, _ in one.told] == [status for status, _ in other.told] == [status for status, _ in third.told]


@tries(3)
@given(STREAMS, CUTS)
def test_when_it_is_answered_changes_nothing(data: bytes, cuts: list[int]) -> None:
    """Answered at once, or all of them late: the same requests, the same answers, in the same order."""
    prompt, late = (read(split(data, cuts), answering=answering) for answering in (True, False))
    assert prompt.whole == late.whole
    assert [status for status, _ in prompt.told] == [status for status, _ in late.told]
    assert prompt.closed == late.closed
