"""Chunks that come whole do not pass through llhttp: what is heard must be the same, whatever they hold and however they are cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.upstream.connection import Connection
from penstock.upstream.contract import LossKind
from penstock.wire.chunked import LENGTHS, LINES_BY_LENGTH, SIZE_LINES, ends_a_chunk
from tests.upstream.test_connection import STREAM, Rig, Taker

LAST = b"0\r\n\r\n"


def chunk(body: bytes, line: bytes | None = None) -> bytes:
    return b"%b%b\r\n" % (b"%x\r\n" % len(body) if line is None else line, body)


LOOK_ALIKE = b"fe\r\n" * 65
"""260 bytes of a body that look like one chunk: `fe`, 254 bytes and a line's end, and that again four bytes further on."""
ODD = [b"1\r\na\r\n", b"\r\n", LAST, LOOK_ALIKE, b"x" * 255, b"x" * 256, b"y" * 2047, b"y" * 2048]
BODIES = st.one_of(st.binary(min_size=1, max_size=40), st.sampled_from(ODD))
LINES = [b"%x\r\n", b"%x\r\n", b"%X\r\n", b"00%x\r\n", b"%x;a=b\r\n"]


class Seen:
    """llhttp, and what it was given."""

    def __init__(self, connection: Connection) -> None:
        self.reads: list[bytes] = []
        self._parser = connection._parser  # pyright: ignore[reportPrivateUsage]
        connection._parser = self  # pyright: ignore[reportPrivateUsage,reportAttributeAccessIssue]

    def feed_data(self, data: bytes) -> None:
        self.reads.append(data)
        self._parser.feed_data(data)

    def get_status_code(self) -> int:
        return self._parser.get_status_code()

    def should_keep_alive(self) -> bool:
        return self._parser.should_keep_alive()

    def get_http_version(self) -> str:
        return self._parser.get_http_version()


def test_from_the_second_whole_chunk_on_none_passes_through_the_parser() -> None:
    rig = Rig()
    seen = Seen(rig.connection)
    taker = rig.send()
    pieces = [b"data: %d\n\n" % n for n in range(9)]
    rig.feed(STREAM, *map(chunk, pieces), LAST)
    assert seen.reads == [STREAM, chunk(pieces[0]), LAST]
    assert (taker.calls, taker.body) == (["began", *["body"] * 9, "ended"], b"".join(pieces))
    assert (rig.kept, rig.lost) == (1, 0)
    taker = rig.send()  # and the next answer begins in the parser
    rig.feed(STREAM + chunk(b"a"), chunk(b"b"), chunk(b"c"), LAST)
    assert (taker.calls, taker.body, rig.kept) == (["began", *["body"] * 3, "ended"], b"abc", 2)


def test_what_only_looks_like_a_chunk_is_none() -> None:
    """The rest of a chunk, its end, and the line of the next one: as many bytes as a chunk of 254 has, with its line before them."""
    rig = Rig()
    taker = rig.send()
    begun, rest, other = b"z", LOOK_ALIKE[:254], b"fa\r\n" + b"y" * 250
    rig.feed(STREAM, b"ff\r\n" + begun, rest + b"\r\n" + b"fe\r\n", other + b"\r\n", LAST)
    assert rest + b"\r\n" + b"fe\r\n" == LOOK_ALIKE
    assert (taker.body, taker.calls[-1]) == (begun + rest + other, "ended")


def test_a_body_of_one_byte_that_says_so_is_no_line() -> None:
    """`1` and its line's end, and the line of the next chunk of one byte: whether that is a chunk, no byte of it tells."""
    rig = Rig()
    taker = rig.send()
    rig.feed(STREAM, b"1\r\n", b"1\r\n1\r\n", b"1\r\n5\r\n", b"hello\r\n", LAST)
    assert (taker.body, taker.calls[-1]) == (b"11hello", "ended")
    assert not ends_a_chunk(b"1\r\n1\r\n", b"1")


@pytest.mark.parametrize("size", [5, 6, 7])
def test_bodies_that_are_lines_in_reads_of_the_size_of_chunks(size: int) -> None:
    for bodies in itertools.product([b"1", b"f", b"2\r", b"3\r\n", b"hello"], repeat=4):
        data = b"".join(map(chunk, bodies)) + LAST
        for first in range(1, size + 1):
            rig = Rig()
            taker = rig.send()
            rig.feed(STREAM, data[:first], *[data[at : at + size] for at in range(first, len(data), size)])
            assert (taker.body, taker.calls[-1], rig.kept) == (b"".join(bodies), "ended", 1)


@pytest.mark.parametrize("before", [b"fe\r\n", b"1\r\na\r\n1\r\nb\r\nfe\r\n", b"2\r\nab\r\nfe\r\n", b"f", b"fe;x=1\r\n"])
def test_behind_a_part_of_a_chunk_the_parser_has_it_again(before: bytes) -> None:
    rig = Rig()
    taker = rig.send()
    other = b"fa\r\n" + b"y" * 250
    rig.feed(STREAM, chunk(b"a"), chunk(b"b"), before, *([b"e\r\n"] if before == b"f" else []), other + b"\r\n", chunk(b"c"), LAST)
    between = before.count(b"a") * b"a" + before.count(b"b") * b"b"
    assert (taker.body, taker.calls[-1]) == (b"ab" + between + other + b"c", "ended")


BAD = [b"x\r\n", b"5\r\nhello world\r\n", b"5\r\nhell\r\n", b"fffffffffffffffff\r\n", b"5\nhello\r\n", b"\r\n", b"-5\r\nhello\r\n"]


@pytest.mark.parametrize("end", BAD)
def test_garbage_behind_whole_chunks_is_garbage(end: bytes) -> None:
    rig = Rig()
    taker = rig.send()
    rig.feed(STREAM, chunk(b"a"), chunk(b"b"), end, b"\r\n" * 20)
    assert taker.loss is not None
    assert taker.loss.kind is LossKind.GARBAGE
    assert taker.body.startswith(b"ab")


def test_an_end_behind_whole_chunks_is_a_loss() -> None:
    rig = Rig()
    taker = rig.send()
    rig.feed(STREAM, chunk(b"a"), chunk(b"b"))
    rig.eof()
    assert taker.loss is not None
    assert (taker.loss.kind, taker.body) == (LossKind.EOF, b"ab")


@settings(max_examples=200, deadline=None)
@given(
    bodies=st.lists(st.tuples(BODIES, st.sampled_from(LINES)), min_size=1, max_size=12),
    joined=st.lists(st.booleans(), min_size=13, max_size=13),
    cuts=st.lists(st.integers(0, 3000), max_size=4),
)
def test_however_they_come_the_same_is_heard(bodies: list[tuple[bytes, bytes]], joined: list[bool], cuts: list[int]) -> None:
    wire = [chunk(body, line % len(body)) for body, line in bodies]
    whole = b"".join(body for body, _ in bodies)
    reads = [STREAM]
    for piece, behind in zip([*wire, LAST], joined, strict=False):
        if behind:
            reads[-1] += piece
        else:
            reads.append(piece)
    data = b"".join(reads)
    at = sorted({place % len(data) for place in cuts} - {0})
    for pieces in (reads, [data[i:j] for i, j in zip([0, *at], [*at, len(data)], strict=True)], [data[i : i + 1] for i in range(len(data))]):
        rig = Rig()
        taker = rig.send()
        rig.feed(*pieces)
        assert (taker.body, taker.calls[0], taker.calls[-1], taker.loss) == (whole, "began", "ended", None)
        assert (rig.kept, rig.wire.closed) == (1, False)


def test_an_answer_is_handed_over_between_two_reads() -> None:
    """Not while its head or its end is told: the rest of that read is the first one's."""
    rig, other = Rig(), Taker()
    first = rig.send()
    refused: list[bool] = []
    first.on["began"] = lambda: refused.append(rig.connection.hand_over(first, other))
    first.on["body"] = lambda: refused.append(rig.connection.hand_over(first, other))
    rig.feed(STREAM + chunk(b"a"))
    assert refused == [False, False]
    rig.feed(chunk(b"b"))
    assert refused == [False, False, True]
    rig.feed(chunk(b"c"), chunk(b"d") + LAST)
    assert (first.calls, first.body) == (["began", "body", "body"], b"ab")
    assert (other.calls, other.body, rig.kept) == (["body", "body", "ended"], b"cd", 1)
    assert not rig.connection.hand_over(first, first), "its turn is over"


def test_none_is_handed_over_inside_a_read_that_breaks() -> None:
    """Who was told the last of its body is told that it is lost."""
    rig, other = Rig(), Taker()
    first = rig.send()
    rig.feed(STREAM + chunk(b"a"))
    refused: list[bool] = []
    first.on["body"] = lambda: refused.append(rig.connection.hand_over(first, other))
    rig.feed(chunk(b"b") + b"no chunk\r\n")
    assert refused == [False]
    assert (first.calls, first.body, other.calls) == (["began", "body", "body", "lost"], b"ab", [])
    assert first.loss is not None
    assert first.loss.kind is LossKind.GARBAGE
    assert rig.wire.closed


def test_who_does_not_ask_hands_nothing_over() -> None:
    rig, other = Rig(), Taker()
    first = rig.send()
    rig.feed(STREAM, chunk(b"a"))
    assert not rig.connection.hand_over(other, other)
    rig.feed(chunk(b"b"))
    assert first.body == b"ab"


def test_lines_by_length() -> None:
    for size, line in enumerate(SIZE_LINES):
        assert line == b"%x\r\n" % size
        if size:
            assert LINES_BY_LENGTH[len(line) + size + 2] == line
    assert sum(bool(line) for line in LINES_BY_LENGTH) == len(SIZE_LINES) - 1
    assert not any(b"".startswith(line) or chunk(b"x" * 20).startswith(line) for line in LINES_BY_LENGTH if not line)
    assert ends_a_chunk(chunk(b"hello"), b"hello")
    assert not ends_a_chunk(chunk(b"hello"), b"hello\r\n")
    assert not ends_a_chunk(LOOK_ALIKE, LOOK_ALIKE[:254])
    assert not ends_a_chunk(b"x" * LENGTHS, b"x" * LENGTHS)
