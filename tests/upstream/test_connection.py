"""One connection against every answer that a provider may give, on a transport that only writes down what it is told.

Each answer comes whole, byte by byte, and cut anywhere: the receiver must hear the same.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.upstream.connection import HEAD_LIMIT, Connection
from penstock.upstream.contract import STALE_WITHIN, Loss, LossKind, ResponseHead
from penstock.upstream.dial import Via

GET = (b"GET", b"/x", b"Host: h\r\n\r\n")
POST = (b"POST", b"/x", b"Host: h\r\nContent-Length: 2\r\n\r\n{}")
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Wire:
    """A transport."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.written: list[bytes] = []
        self.calls = 0
        self.closed = False
        self.reading = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return self.closed

    def write(self, data: bytes) -> None:
        assert not self.closed, "a write on a closed transport raises in uvloop"
        self.calls += 1
        self.written.append(data)

    def writelines(self, pieces: Sequence[bytes]) -> None:
        self.calls += 1
        self.written += pieces

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Taker:
    """A receiver."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.head: ResponseHead | None = None
        self.body = b""
        self.loss: Loss | None = None
        self.on: dict[str, Callable[[], None]] = {}

    def note(self, what: str) -> None:
        assert not self.calls or self.calls[-1] not in ("ended", "lost"), "nothing is called after the last call"
        self.calls.append(what)
        if what in self.on:
            self.on[what]()

    def answer_began(self, head: ResponseHead, now: float) -> None:
        self.head = head
        self.note("began")

    def answer_body(self, data: bytes, now: float) -> None:
        assert data
        self.body += data
        self.note("body")

    def answer_ended(self, now: float) -> None:
        self.note("ended")

    def answer_whole(self, head: ResponseHead, body: bytes, now: float) -> None:
        self.answer_began(head, now)
        self.answer_body(body, now)
        self.answer_ended(now)

    def answer_lost(self, loss: Loss, now: float) -> None:
        self.loss = loss
        self.note("lost")

    def upload_paused(self) -> None:
        self.note("paused")

    def upload_resumed(self) -> None:
        self.note("resumed")

    @property
    def plain(self) -> tuple[Any, ...]:
        """What was heard, however it was cut."""
        order = re.sub("(body )+", "body ", " ".join(self.calls) + " ").strip()
        return order, self.head and (self.head.status, self.head.headers), self.body, self.loss and self.loss.kind


class Rig:
    """A connection, its wire, and what its keeper was told. Implements `Keeper`."""

    def __init__(self, used: int = 0) -> None:
        self.kept = 0
        self.lost = 0
        self.connection = Connection(self, None)
        self.wire = Wire(self.connection)
        self.connection.connection_made(cast(asyncio.Transport, self.wire))
        self.connection.used = used
        self.taker = Taker()

    def keep(self, connection: Connection) -> None:
        self.kept += 1

    def gone(self, connection: Connection) -> None:
        self.lost += 1

    def send(self, request: tuple[bytes, bytes, bytes] = POST, *, head_only: bool = False, uploading: bool = False, held: bool = False) -> Taker:
        self.taker = Taker()
        self.connection.send(self.taker, self.taker, request, head_only=head_only, uploading=uploading, held=held)
        return self.taker

    def feed(self, *pieces: bytes) -> None:
        for piece in pieces:
            if not self.wire.closed:
                self.connection.data_received(piece)

    def eof(self) -> None:
        if not self.wire.closed:
            self.connection.eof_received()
        self.connection.connection_lost(None)

    def reset(self) -> None:
        self.connection.connection_lost(ConnectionResetError(104, "reset"))


def answer(status: str, *headers: str, body: bytes = b"", version: str = "HTTP/1.1") -> bytes:
    return "\r\n".join((f"{version} {status}", *headers, "", "")).encode() + body


WHOLE = [
    # name, bytes, status, body, whether the connection is kept
    ("length", answer("200 OK", "Content-Length: 5", body=b"hello"), 200, b"hello", True),
    ("length and blanks", answer("200 OK", "Content-Length: 5 \t", body=b"hello"), 200, b"hello", True),
    ("empty", answer("200 OK", "Content-Length: 0"), 200, b"", True),
    ("chunked", STREAM + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", 200, b"hello world", True),
    ("chunk extensions", STREAM + b'5;a=b;c="d"\r\nhello\r\n0;last\r\n\r\n', 200, b"hello", True),
    ("trailers", STREAM + b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nContent-Type: no/header\r\n\r\n", 200, b"hello", True),
    ("no chunk but the last", STREAM + b"0\r\n\r\n", 200, b"", True),
    ("no reason", answer("200", "Content-Length: 1", body=b"a"), 200, b"a", True),
    ("100 before", answer("100 Continue") + answer("200 OK", "Content-Length: 1", body=b"a"), 200, b"a", True),
    ("103 before", answer("103 Early Hints", "Link: </x>") + answer("200 OK", "Content-Length: 1", body=b"a"), 200, b"a", True),
    ("several before", answer("100 C") + answer("102 P", "A: b") + answer("103 E", "Link: x") + answer("204 No"), 204, b"", True),
    ("an interim body", answer("150 X", "Content-Length: 3", body=b"no!") + answer("200 OK", "Content-Length: 1", body=b"a"), 200, b"a", True),
    ("204", answer("204 No Content"), 204, b"", True),
    ("304 with a length", answer("304 Not Modified", "Content-Length: 1000"), 304, b"", True),
    ("an error", answer("429 Too Many", "Content-Length: 2", "Retry-After: 1", body=b"{}"), 429, b"{}", True),
    ("close", answer("200 OK", "Connection: close", "Content-Length: 1", body=b"a"), 200, b"a", False),
    ("close, chunked", answer("200 OK", "Connection: close", "Transfer-Encoding: chunked", body=b"1\r\na\r\n0\r\n\r\n"), 200, b"a", False),
    ("1.0", answer("200 OK", "Content-Length: 1", body=b"a", version="HTTP/1.0"), 200, b"a", False),
    ("1.0 that stays", answer("200 OK", "Content-Length: 1", "Connection: keep-alive", body=b"a", version="HTTP/1.0"), 200, b"a", True),
    (
        "1.0 with chunks",
        answer("200 OK", "Transfer-Encoding: chunked", "Connection: keep-alive", body=b"1\r\na\r\n0\r\n\r\n", version="HTTP/1.0"),
        200, b"a", False,
    ),
    ("an upgrade that is only offered", answer("200 OK", "Upgrade: h2", "Connection: Upgrade", "Content-Length: 1", body=b"a"), 200, b"a", True),
    ("names of any case", answer("200 OK", "TRANSFER-ENCODING: Chunked", body=b"1\r\na\r\n0\r\n\r\n"), 200, b"a", True),
]  # fmt: skip
LOST = [
    # name, bytes, body that arrives before, kind
    ("text", b"go away\r\n\r\n", b"", LossKind.GARBAGE),
    ("TLS", b"\x15\x03\x01\x00\x02\x02\x46", b"", LossKind.GARBAGE),
    ("HTTP/2", answer("200 OK", "Content-Length: 0", version="HTTP/2.0"), b"", LossKind.GARBAGE),
    ("HTTP/2 that is kept", answer("200 OK", "Content-Length: 0", "Connection: keep-alive", version="HTTP/2.0"), b"", LossKind.GARBAGE),
    ("HTTP/2 that a proxy keeps", answer("200 OK", "Content-Length: 0", "Proxy-Connection: keep-alive", version="HTTP/2.0"), b"", LossKind.GARBAGE),
    ("HTTP/0.9", answer("200 OK", "Content-Length: 0", version="HTTP/0.9"), b"", LossKind.GARBAGE),
    ("a status below 100", answer("099 X", "Content-Length: 0"), b"", LossKind.GARBAGE),
    ("bare LF", b"HTTP/1.1 200 OK\nContent-Length: 1\n\na", b"", LossKind.GARBAGE),
    ("obs-fold", answer("200 OK", "A: b\r\n c", "Content-Length: 1", body=b"a"), b"", LossKind.GARBAGE),
    ("two lengths", answer("200 OK", "Content-Length: 1", "Content-Length: 2", body=b"ab"), b"", LossKind.GARBAGE),
    ("length and chunks", answer("200 OK", "Content-Length: 1", "Transfer-Encoding: chunked", body=b"1\r\na\r\n0\r\n\r\n"), b"", LossKind.GARBAGE),
    ("a negative length", answer("200 OK", "Content-Length: -1"), b"", LossKind.GARBAGE),
    ("a length past all numbers", answer("200 OK", "Content-Length: 99999999999999999999999"), b"", LossKind.GARBAGE),
    ("gzip, chunked", answer("200 OK", "Transfer-Encoding: gzip, chunked", body=b"1\r\na\r\n0\r\n\r\n"), b"", LossKind.GARBAGE),
    ("xchunked", answer("200 OK", "Transfer-Encoding: xchunked", body=b"1\r\na\r\n0\r\n\r\n"), b"", LossKind.GARBAGE),
    ("an upgrade unasked", answer("101 Switching", "Upgrade: websocket", "Connection: upgrade"), b"", LossKind.GARBAGE),
    ("a bad chunk size", STREAM + b"5\r\nhello\r\nzz\r\nworld\r\n", b"hello", LossKind.GARBAGE),
    ("a chunk longer than its size", STREAM + b"5\r\nhello world\r\n", b"hello", LossKind.GARBAGE),
    ("a chunk size past all numbers", STREAM + b"5\r\nhello\r\nfffffffffffffffff\r\n", b"hello", LossKind.GARBAGE),
]
IN_PIECES = pytest.mark.parametrize("size", [None, 1, 7], ids=["whole", "bytes", "sevens"])


def cut(data: bytes, size: int | None) -> list[bytes]:
    return [data] if size is None else [data[i : i + size] for i in range(0, len(data), size)]


@IN_PIECES
@pytest.mark.parametrize(("data", "status", "body", "kept"), [case[1:] for case in WHOLE], ids=[case[0] for case in WHOLE])
def test_a_whole_answer(data: bytes, status: int, body: bytes, kept: bool, size: int | None) -> None:
    rig = Rig()
    taker = rig.send()
    rig.feed(*cut(data, size))
    assert taker.head is not None
    assert (taker.head.status, taker.body, taker.calls[-1]) == (status, body, "ended")
    assert all(name.lower() != b"x-sum" and value != b"no/header" for name, value in taker.head.headers)
    assert (rig.kept, rig.wire.closed) == ((1, False) if kept else (0, True))
    if kept:
        # And the next one on the same connection is not touched by it.
        again = rig.send()
        rig.feed(answer("201 Created", "Content-Length: 3", body=b"new"))
        assert again.plain == ("began body ended", (201, [(b"Content-Length", b"3")]), b"new", None)


@IN_PIECES
@pytest.mark.parametrize(("data", "body", "kind"), [case[1:] for case in LOST], ids=[case[0] for case in LOST])
def test_what_is_no_answer(data: bytes, body: bytes, kind: LossKind, size: int | None) -> None:
    rig = Rig(used=3)  # a kept connection: that bytes came makes it no stale one
    taker = rig.send()
    rig.feed(*cut(data, size))
    assert taker.loss is not None
    assert (taker.loss.kind, taker.body, taker.calls[-1]) == (kind, body, "lost")
    assert rig.wire.closed
    assert rig.kept == 0
    rig.connection.connection_lost(None)  # and no second end


@pytest.mark.parametrize(("stated", "coding"), [([], b""), (["GZIP "], b"gzip"), (["br", "gzip"], b"br, gzip"), (["gzip", "br"], b"gzip, br")])
def test_codings_of_several_headers_are_one_list(stated: list[str], coding: bytes) -> None:
    """Or the last of them would be taken off, and what is under it told as plain."""
    rig = Rig()
    taker = rig.send()
    rig.feed(answer("200 OK", "Content-Length: 1", *(f"Content-Encoding: {value}" for value in stated), body=b"x"))
    assert taker.head is not None
    assert taker.head.content_encoding == coding


@pytest.mark.parametrize("blanks", ["", " ", " \t "])
def test_an_end_before_the_stated_length_is_none(blanks: str) -> None:
    rig = Rig()
    taker = rig.send()
    rig.feed(answer("200 OK", f"Content-Length: 10{blanks}", body=b"hello"))
    rig.eof()
    assert taker.head is not None
    assert (taker.head.content_length, taker.head.delimited) == (10, True)
    assert taker.loss is not None
    assert (taker.loss.kind, taker.body, taker.calls[-1]) == (LossKind.EOF, b"hello", "lost")


@settings(max_examples=100, deadline=None)
@given(
    case=st.sampled_from([case[1] for case in WHOLE] + [case[1] for case in LOST]),
    behind=st.sampled_from([b"", b"", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", b"evil"]),
    cuts=st.lists(st.integers(0, 200), max_size=6),
    end=st.sampled_from(["eof", "reset", "none"]),
)
def test_cut_anywhere_the_same_is_heard(case: bytes, behind: bytes, cuts: list[int], end: str) -> None:
    heard: list[tuple[Any, ...]] = []
    for places in ([], cuts, range(1, len(case) + len(behind))):
        data = case + behind
        at = sorted({p for p in places if 0 < p < len(data)})
        rig = Rig()
        taker = rig.send()
        rig.feed(*(data[i:j] for i, j in zip([0, *at], [*at, len(data)], strict=True)))
        if end != "none":
            (rig.eof if end == "eof" else rig.reset)()
        assert b"evil" not in taker.body
        heard.append(taker.plain)
        if behind:
            assert rig.wire.closed, "bytes behind an answer close its connection, whenever they come"
    assert heard[0] == heard[1] == heard[2]


class TestCloseDelimited:
    HEAD = answer("200 OK", "Content-Type: text/event-stream")

    @IN_PIECES
    def test_a_clean_end_is_the_end(self, size: int | None) -> None:
        rig = Rig()
        taker = rig.send()
        rig.feed(*cut(self.HEAD + b"hello world", size))
        assert "ended" not in taker.calls
        rig.eof()
        assert (taker.body, taker.calls[-1], rig.wire.closed, rig.kept) == (b"hello world", "ended", True, 0)

    def test_a_reset_is_a_loss(self) -> None:
        rig = Rig()
        taker = rig.send()
        rig.feed(self.HEAD + b"hello")
        rig.reset()
        assert taker.loss == Loss(LossKind.RESET, "the provider reset the connection inside its answer")

    def test_an_end_without_eof_is_a_loss(self) -> None:
        """So uvloop tells TLS that ends without `close_notify`."""
        rig = Rig()
        taker = rig.send()
        rig.feed(self.HEAD + b"hello")
        rig.connection.connection_lost(None)
        assert taker.loss == Loss(LossKind.EOF, "the provider closed the connection inside its answer")

    def test_the_end_does_not_wait_for_what_is_still_to_be_written(self) -> None:
        rig = Rig()
        taker = rig.send(uploading=True)
        rig.feed(answer("413 Too Large", "Connection: close") + b"too much")
        rig.connection.eof_received()  # the transport would now wait for its buffer
        assert (taker.calls[-1], rig.wire.closed) == ("ended", True)


@pytest.mark.parametrize("framing", ["Content-Length: 500", "Transfer-Encoding: chunked", "X: y"])
def test_an_answer_to_head_has_no_body(framing: str) -> None:
    rig = Rig()
    taker = rig.send((b"HEAD", b"/", b"Host: h\r\n\r\n"), head_only=True)
    rig.feed(answer("200 OK", framing) + b"0\r\n\r\n")
    assert (taker.calls, taker.body) == (["began", "ended"], b"")
    assert rig.wire.closed, "a server that sends the body all the same would answer the next request with it"


class TestStale:
    @pytest.mark.parametrize("how", ["eof", "reset"])
    def test_a_kept_connection_that_dies_silently(self, how: str) -> None:
        rig = Rig(used=1)
        taker = rig.send()
        (rig.eof if how == "eof" else rig.reset)()
        assert taker.loss is not None
        assert (taker.calls, taker.loss.kind) == (["lost"], LossKind.STALE)

    @pytest.mark.parametrize("how", ["eof", "reset"])
    @pytest.mark.parametrize("said", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\n"])
    def test_not_when_a_byte_came(self, how: str, said: bytes) -> None:
        rig = Rig(used=1)
        taker = rig.send()
        rig.feed(said)
        (rig.eof if how == "eof" else rig.reset)()
        assert taker.loss is not None
        assert taker.loss.kind is (LossKind.EOF if how == "eof" else LossKind.RESET)

    @pytest.mark.parametrize(("after", "stale"), [(STALE_WITHIN - 0.1, True), (STALE_WITHIN + 0.1, False)])
    @pytest.mark.parametrize("how", ["eof", "reset"])
    def test_not_when_the_provider_may_have_worked_at_it(self, how: str, after: float, stale: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = [1000.0]
        monkeypatch.setattr("penstock.upstream.connection.monotonic", lambda: clock[0])
        rig = Rig(used=1)
        taker = rig.send()
        clock[0] += after
        (rig.eof if how == "eof" else rig.reset)()
        assert taker.loss is not None
        assert taker.loss.kind is (LossKind.STALE if stale else LossKind.EOF if how == "eof" else LossKind.RESET)

    def test_not_on_a_new_connection(self) -> None:
        rig = Rig()
        taker = rig.send()
        rig.eof()
        assert taker.loss == Loss(LossKind.EOF, "the provider closed the connection before its answer")

    def test_gone_before_the_request(self) -> None:
        rig = Rig(used=1)
        rig.eof()
        assert not rig.connection.ready()
        taker = rig.send()
        assert taker.loss is not None
        assert taker.loss.kind is LossKind.STALE
        assert rig.wire.written == []


def test_bytes_out_of_turn_drop_a_kept_connection() -> None:
    rig = Rig()
    rig.send()
    rig.feed(answer("200 OK", "Content-Length: 0"))
    assert rig.connection.ready()
    rig.feed(answer("408 Request Timeout", "Content-Length: 0"))
    assert rig.wire.closed
    assert not rig.connection.ready()


class TestBounds:
    @pytest.mark.parametrize(
        "flood",
        [b"X-Fill: " + b"a" * 1000 + b"\r\n", b"a" * 1000],
        ids=["many headers", "one header"],
    )
    def test_a_head_past_the_limit(self, flood: bytes) -> None:
        rig = Rig()
        taker = rig.send()
        rig.feed(b"HTTP/1.1 200 OK\r\nX: y")
        if flood.startswith(b"X-"):
            rig.feed(b"\r\n")
        for _ in range(2 * HEAD_LIMIT // 1000):
            rig.feed(flood)
        assert taker.loss == Loss(LossKind.GARBAGE, "the head of the provider's answer is too large")
        assert rig.wire.closed

    def test_a_head_past_the_limit_in_one_read(self) -> None:
        rig = Rig()
        taker = rig.send()
        rig.feed(answer("200 OK", "X: " + "a" * HEAD_LIMIT, "Content-Length: 0"))
        assert taker.calls == ["lost"]

    def test_a_head_at_the_limit(self) -> None:
        rig = Rig()
        taker = rig.send()
        data = answer("200 OK", "X: " + "a" * (HEAD_LIMIT - 1 - len("Content-Length") - len("200000")), "Content-Length: 200000", body=b"b" * 200_000)
        rig.feed(data)
        assert taker.calls == ["began", "body", "ended"]

    def test_interim_answers_without_end(self) -> None:
        rig = Rig()
        taker = rig.send()
        for _ in range(HEAD_LIMIT // 20):
            rig.feed(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        assert taker.calls == ["lost"]

    def test_trailers_without_end(self) -> None:
        rig = Rig()
        taker = rig.send()
        rig.feed(STREAM + b"1\r\na\r\n0\r\nX: ")
        for _ in range(2 * HEAD_LIMIT // 1000):
            rig.feed(b"a" * 1000)
        assert (taker.calls, rig.wire.closed) == (["began", "body", "lost"], True)

    def test_a_long_stream_in_small_reads_is_none_of_these(self) -> None:
        rig = Rig()
        taker = rig.send()
        rig.feed(STREAM)
        for _ in range(HEAD_LIMIT // 3 + 10):
            rig.feed(b"1\r\n", b"a\r\n")
        assert "lost" not in taker.calls


class TestCancel:
    @pytest.mark.parametrize("at", ["began", "body", "ended"])
    def test_from_inside_a_call(self, at: str) -> None:
        rig = Rig()
        taker = rig.send()
        taker.on[at] = lambda: rig.connection.cancel(taker)
        rig.feed(STREAM + b"1\r\na\r\n", b"0\r\n\r\n")
        assert taker.calls[-1] == at
        assert rig.wire.closed == (at != "ended"), "after its end a connection is not the asker's to close"

    def test_an_answer_that_came_in_one_read_is_over_before_it_is_told(self) -> None:
        rig = Rig()
        taker = rig.send()
        taker.on["began"] = lambda: rig.connection.cancel(taker)
        rig.feed(STREAM + b"1\r\na\r\n0\r\n\r\n")
        assert (rig.wire.closed, rig.kept, taker.body) == (False, 1, b"a")

    def test_nothing_is_called_afterwards(self) -> None:
        rig = Rig()
        taker = rig.send()
        rig.feed(STREAM + b"1\r\na\r\n")
        rig.connection.cancel(taker)
        rig.connection.connection_lost(None)
        assert taker.calls == ["began", "body"]

    def test_the_next_request_may_be_sent_from_inside_the_end(self) -> None:
        rig = Rig()
        taker = rig.send()
        taker.on["ended"] = lambda: cast(None, rig.send())
        rig.feed(answer("200 OK", "Content-Length: 1", body=b"a"))
        rig.feed(answer("200 OK", "Content-Length: 1", body=b"b"))
        assert (taker.body, rig.taker.body, rig.taker.calls[-1]) == (b"a", b"b", "ended")

    def test_an_asker_whose_turn_is_over_touches_nothing(self) -> None:
        rig = Rig()
        first = rig.send()
        rig.feed(answer("200 OK", "Content-Length: 0"))
        second = rig.send()
        rig.connection.pause(first)
        rig.connection.upload(first, b"late")
        rig.connection.upload_end(first)
        rig.connection.cancel(first)
        assert (rig.wire.reading, rig.wire.closed, len(rig.wire.written)) == (True, False, 2)
        rig.connection.pause(second)
        rig.connection.resume(first)
        assert not rig.wire.reading
        rig.feed(answer("200 OK", "Content-Length: 0"))
        assert second.calls == ["began", "ended"]


class TestRequest:
    def test_one_write(self) -> None:
        rig = Rig()
        rig.send()
        assert rig.wire.written == [b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"]

    def test_a_large_one_is_not_copied(self) -> None:
        rig = Rig()
        rest = b"Host: h\r\n\r\n" + b"x" * 1_000_000
        rig.send((b"POST", b"/x", rest))
        assert rig.wire.calls == 1
        assert rig.wire.written[1] is rest

    def test_by_a_plain_proxy(self) -> None:
        rig = Rig()
        rig.connection.via = Via(b"http://h:80", b"Proxy-Authorization: Basic eDp5\r\n")
        rig.send(GET)
        assert rig.wire.written == [b"GET http://h:80/x HTTP/1.1\r\nProxy-Authorization: Basic eDp5\r\nHost: h\r\n\r\n"]


class TestUpload:
    def test_the_receiver_is_told_once_each_way(self) -> None:
        rig = Rig()
        taker = rig.send(uploading=True)
        rig.connection.upload(taker, b"a")
        rig.connection.pause_writing()
        rig.connection.resume_writing()
        rig.connection.upload_end(taker)
        assert taker.calls == ["paused", "resumed"]
        rig.connection.pause_writing()  # of no interest now
        assert taker.calls == ["paused", "resumed"]

    def test_resumed_at_the_end_of_the_body(self) -> None:
        """Else the client would not be read while its answer runs, and its leaving go unseen."""
        rig = Rig()
        taker = rig.send(uploading=True)
        rig.connection.pause_writing()
        rig.connection.upload_end(taker)
        assert taker.calls == ["paused", "resumed"]

    @pytest.mark.parametrize("end", ["eof", "answer"])
    def test_resumed_before_the_last_call(self, end: str) -> None:
        rig = Rig()
        taker = rig.send(uploading=True)
        rig.connection.pause_writing()
        if end == "eof":
            rig.eof()
        else:
            rig.feed(answer("400 Bad", "Content-Length: 0"))
        assert [call for call in taker.calls if call != "began"] == ["paused", "resumed", "lost" if end == "eof" else "ended"]

    def test_what_was_held_is_let_go_when_the_transport_takes_more(self) -> None:
        rig = Rig()
        taker = rig.send(uploading=True, held=True)
        rig.connection.pause_writing()
        rig.connection.ease(taker)
        assert taker.calls == []
        rig.connection.resume_writing()
        assert taker.calls == ["resumed"]

    def test_an_early_answer_ends_it_and_the_connection(self) -> None:
        rig = Rig()
        taker = rig.send(uploading=True)
        rig.feed(answer("401 Unauthorized", "Content-Length: 2", body=b"{}"))
        assert (taker.calls, rig.wire.closed, rig.kept) == (["began", "body", "ended"], True, 0)
        rig.connection.upload(taker, b"more")
        assert len(rig.wire.written) == 1

    def test_not_kept_while_much_of_a_request_waits_to_be_read(self) -> None:
        """The next one would be written behind it."""
        rig = Rig()
        for waits in (False, True):
            taker = rig.send((b"POST", b"/x", b"Host: h\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000))
            rig.connection.pause_writing()
            if not waits:
                rig.connection.resume_writing()
            rig.feed(answer("401 Unauthorized", "Content-Length: 2", body=b"{}"))
            assert (taker.calls, rig.wire.closed, rig.kept) == (["began", "body", "ended"], waits, 1)

    def test_kept_after_a_whole_one(self) -> None:
        rig = Rig()
        taker = rig.send(uploading=True)
        rig.connection.upload(taker, b"all")
        rig.connection.upload_end(taker)
        rig.feed(answer("200 OK", "Content-Length: 0"))
        assert rig.kept == 1


def test_a_paused_connection_is_read_again_when_it_is_kept() -> None:
    rig = Rig()
    taker = rig.send()
    rig.connection.pause(taker)
    assert not rig.wire.reading
    rig.feed(answer("200 OK", "Content-Length: 0"))
    assert (rig.wire.reading, rig.kept) == (True, 1)


def test_a_mistake_of_ours_is_not_taken_for_the_providers() -> None:
    rig = Rig()
    taker = rig.send()
    rig.feed(STREAM)
    rig.connection.connection_lost(KeyError("ours"))
    assert taker.loss == Loss(LossKind.RESET, "the connection was given up inside the answer (KeyError)")
