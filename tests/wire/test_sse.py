"""Laws 1 to 4 for the SSE scanner, and its rules one by one."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.wire.budget import Budget
from penstock.wire.sse import Frame, Scanner

CORPUS = Path(__file__).parent.parent / "corpus"

# Bytes that matter to the grammar, and a few that do not.
SOUP = st.lists(
    st.sampled_from([
        b"\r", b"\n", b"\r\n", b"data", b":", b" ", b"event", b"x", b"\xef\xbb\xbf", b"\xe2\x82\xac", b"\xff",
        b"data: 1", b"event: e", b": c", b"id: 1", b"\n\n",
    ]),
    max_size=30,
).map(b"".join)


def scan(pieces: list[bytes], limit: int = 1 << 20) -> tuple[list[Frame], Scanner]:
    scanner = Scanner(limit, Budget(1 << 24))
    return [f for p in pieces for f in scanner.feed(p)], scanner


def events(frames: list[Frame]) -> list[tuple[bytes, bytes]]:
    return [(name, data) for name, data, _ in frames if data is not None]


def reference(stream: bytes) -> list[tuple[bytes, bytes]]:
    """The WHATWG algorithm, line by line, for whole input."""
    found: list[tuple[bytes, bytes]] = []
    name, data = b"", list[bytes]()
    lines = stream.removeprefix(b"\xef\xbb\xbf").splitlines(keepends=True)
    for line in lines:
        if not line.endswith((b"\r", b"\n")):
            break
        text = line.rstrip(b"\r\n")
        if not text:
            if data:
                found.append((name, b"\n".join(data)))
            name, data = b"", []
            continue
        field, _, value = text.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    return found


def cut(data: bytes, at: list[int]) -> list[bytes]:
    marks = [0, *sorted(i % (len(data) + 1) for i in at), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(marks)]


@given(SOUP, st.lists(st.integers(0, 200), max_size=12))
def test_lossless_chunk_blind_and_right(stream: bytes, at: list[int]) -> None:
    frames, scanner = scan(cut(stream, at))
    assert b"".join(raw for _, _, raw in frames) + scanner.tail() == stream
    assert events(frames) == reference(stream)


@given(SOUP)
def test_one_byte_at_a_time(stream: bytes) -> None:
    frames, scanner = scan([stream[i : i + 1] for i in range(len(stream))])
    assert b"".join(raw for _, _, raw in frames) + scanner.tail() == stream
    assert events(frames) == reference(stream)


@given(SOUP)
def test_prompt(stream: bytes) -> None:
    """After each byte, every event that the bytes so far complete has left."""
    scanner = Scanner(1 << 20, Budget(1 << 20))
    seen: list[tuple[bytes, bytes]] = []
    for i in range(len(stream)):
        seen += events(scanner.feed(stream[i : i + 1]))
        assert seen == reference(stream[: i + 1])


@given(SOUP, st.lists(st.integers(0, 200), max_size=6), st.integers(1, 40))
def test_bounded(stream: bytes, at: list[int], limit: int) -> None:
    budget = Budget(30)
    scanner = Scanner(limit, budget)
    out = b""
    for piece in cut(stream, at):
        out += b"".join(raw for _, _, raw in scanner.feed(piece))
        assert scanner.held <= limit
        assert budget.used == scanner.held == len(scanner.tail())
    assert out + scanner.tail() == stream
    scanner.close()
    assert budget.used == 0


@given(SOUP, st.lists(st.integers(0, 200), max_size=6), st.lists(st.integers(0, 200), max_size=6))
def test_the_limit_counts_the_frame_and_not_its_chunks(stream: bytes, one: list[int], other: list[int]) -> None:
    a, _ = scan(cut(stream, one), limit=12)
    b, _ = scan(cut(stream, other), limit=12)
    assert events(a) == events(b)


@given(SOUP, st.lists(st.integers(0, 200), max_size=6))
def test_whole_says_whether_the_raws_are_the_data(stream: bytes, at: list[int]) -> None:
    scanner = Scanner(16, Budget(24))
    for piece in cut(stream, at):
        raws = b"".join(raw for _, _, raw in scanner.feed(piece))
        if scanner.whole:
            assert raws == piece


@pytest.mark.parametrize(
    ("stream", "found"),
    [
        (b"data: a\n\n", [(b"", b"a")]),
        (b"data:a\n\n", [(b"", b"a")]),
        (b"data\n\n", [(b"", b"")]),
        (b"data: a\ndata: b\n\n", [(b"", b"a\nb")]),
        (b"event: e\ndata: a\n\n", [(b"e", b"a")]),
        (b"data: a\nevent: e\n\n", [(b"e", b"a")]),
        (b"event: e\n\ndata: a\n\n", [(b"", b"a")]),
        (b": ping\n\ndata: a\n\n", [(b"", b"a")]),
        (b"id: 1\nretry: 5\ndata: a\n\n", [(b"", b"a")]),
        (b"dataset: a\n\n", []),
        (b"\xef\xbb\xbfdata: a\n\n", [(b"", b"a")]),
        (b"\r\r\ndata: a\r\r\ndata: b\r\n\r\n", [(b"", b"a"), (b"", b"b")]),
        (b"data: a\n\r\n\ndata: b\r\n\n", [(b"", b"a"), (b"", b"b")]),
        (b"data: a\n", []),
    ],
)
def test_rules(stream: bytes, found: list[tuple[bytes, bytes]]) -> None:
    assert events(scan([stream])[0]) == found == reference(stream)


def test_a_frame_over_the_limit_is_passed_on_and_the_next_one_understood() -> None:
    big = b"data: " + b"x" * 100 + b"\n\n"
    for n in (1, 7, 200):
        stream = b"data: 1\n\n" + big + b"data: 2\n\n"
        frames, scanner = scan([stream[i : i + n] for i in range(0, len(stream), n)], limit=50)
        assert events(frames) == [(b"", b"1"), (b"", b"2")]
        assert b"".join(raw for _, _, raw in frames) == stream
        assert scanner.overflowed


def test_a_huge_frame_in_small_reads() -> None:
    """A quadratic scan of this would take minutes and meet the suite's time limit."""
    piece = b"y" * 4096
    scanner = Scanner(1 << 26, Budget(1 << 27))
    scanner.feed(b"data: ")
    for _ in range((1 << 25) // len(piece)):
        assert scanner.feed(piece) == []
    [(_, data, _)] = scanner.feed(b"\n\n")
    assert data is not None
    assert len(data) == 1 << 25


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*/*.sse")), ids=lambda p: p.stem)
def test_recordings(path: Path) -> None:
    stream = path.read_bytes()
    whole = reference(stream)
    for n in (len(stream), 7, 1):
        frames, scanner = scan([stream[i : i + n] for i in range(0, len(stream), n)], limit=1 << 24)
        assert events(frames) == whole
        assert scanner.tail() == b""
