"""The last events of a stream and its last bytes."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.pipeline import tail
from penstock.pipeline.tail import BYTES, EVENTS, NAMES, TailBytes, number_of
from penstock.protocols.contract import CONTENT, ERROR, MALFORMED, TERMINAL, TOOL, USAGE_ONLY
from penstock.vocabulary.ids import ProtocolId
from tests.laws.talk import DIALECTS, Dialect, sse, stream
from tests.support.relays import Relay, zipped

CHAT, MESSAGES = ProtocolId.OPENAI_CHAT, ProtocolId.ANTHROPIC_MESSAGES


def test_time_type_and_size() -> None:
    d = Dialect(MESSAGES)
    relay = stream(MESSAGES, 50.0)
    frames = [d.head(), d.text(), b": hello\n\n", b"event: ping\ndata: {}\n\n", d.open(0), d.arguments(0), d.close(0)]
    for i, frame in enumerate(frames):
        relay.feed(frame, 50.1 + i)
    names = ["message_start", "content_block_delta", "comment", "ping", "content_block_start", "content_block_delta", "content_block_stop"]
    assert relay.tail_rows(50.0) == [(100 + 1000 * i, name, len(frames[i])) for i, name in enumerate(names)]


def test_events_without_a_name_have_the_observers_word() -> None:
    d = Dialect(CHAT)
    relay = stream(CHAT)
    usage = sse({"choices": [], "usage": {"prompt_tokens": 1}})
    error = sse({"error": {"message": "m"}})
    for frame in (d.head(), d.text(), d.open(0), usage, sse([]), error, b"data: [DONE]\n\n"):
        relay.feed(frame, 1.0)
    assert [word for _, word, _ in relay.tail_rows(0.0)] == ["event", "content", "tool", "usage", "malformed", "error", "terminal"]


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.protocol.value)
def test_the_last_64_and_a_kibibyte(dialect: Dialect) -> None:
    relay = stream(dialect.protocol)
    assert relay.tail_rows(0.0) == []
    for i in range(1000):
        relay.feed(dialect.text("x" * (i % 7 + 1)), i / 1000)
        assert len(relay.tail_rows(0.0)) == min(i + 1, EVENTS)
    rows = relay.tail_rows(0.0)
    assert [ms for ms, _, _ in rows] == list(range(1000 - EVENTS, 1000))
    assert [size for _, _, size in rows] == [len(dialect.text("x" * (i % 7 + 1))) for i in range(1000 - EVENTS, 1000)]
    ring = relay._ring  # pyright: ignore[reportPrivateUsage]
    assert sys.getsizeof(ring) <= 1024


def test_many_frames_in_one_chunk_and_one_in_many() -> None:
    d = Dialect(CHAT)
    relay = stream(CHAT)
    relay.feed(d.text() * 100, 1.0)
    assert relay.tail_rows(0.0) == [(1000, "content", len(d.text()))] * EVENTS
    frame = d.head()
    for i in range(len(frame)):
        relay.feed(frame[i : i + 1], 2.0 + i)
    assert relay.tail_rows(0.0)[-1] == ((1 + len(frame)) * 1000, "event", len(frame))


def test_pieces_of_a_frame_over_the_limit() -> None:
    relay = stream(CHAT, limit=20)
    relay.feed(b"data: " + b"x" * 30, 1.0)
    relay.feed(b"y" * 5, 2.0)
    assert relay.tail_rows(0.0) == [(1000, "piece", 36), (2000, "piece", 5)]


def test_what_our_own_mistake_did_not_read() -> None:
    relay = stream(CHAT)

    def mistaken(name: bytes, data: bytes, now: float) -> int:
        raise RuntimeError("a bug")

    relay._observe = mistaken  # pyright: ignore[reportPrivateUsage]
    relay.feed(b"data: {}\n\n", 1.0)
    assert [word for _, word, _ in relay.tail_rows(0.0)] == ["malformed"]


def test_names_are_cleaned_and_clipped_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "_words", list(tail._words))  # pyright: ignore[reportPrivateUsage]
    known = dict(tail.BY_NAME)
    try:
        relay = stream(MESSAGES)
        for i in range(3000):
            relay.feed(b"event: made\x1b[31m\xff up%d\ndata: {}\n\n" % i, 1.0)
            relay.feed(b"event: %b%d\ndata: {}\n\n" % (b"long" * 100, i), 1.0)
        words = {word for _, word, _ in relay.tail_rows(0.0)}
        assert "other" in words
        assert all(word.isascii() and word.isprintable() and len(word) <= 64 for word in tail._words)  # pyright: ignore[reportPrivateUsage]
        assert len(tail._words) <= NAMES  # pyright: ignore[reportPrivateUsage]
        assert len(tail.BY_NAME) <= 4 * NAMES
        assert number_of(b"yet another") == 1
        relay.feed(Dialect(MESSAGES).head(), 1.0)
    finally:
        tail.BY_NAME.clear()
        tail.BY_NAME.update(known)


@given(mark=st.integers(0, CONTENT | TERMINAL | ERROR | USAGE_ONLY | TOOL | MALFORMED))
def test_every_mark_has_a_word(mark: int) -> None:
    assert 0 < tail.BY_MARK[mark] < 256


@given(pieces=st.lists(st.binary(max_size=300).map(lambda b: b * 37), max_size=30))
def test_the_last_bytes(pieces: list[bytes]) -> None:
    kept = TailBytes()
    for piece in pieces:
        kept.add(piece)
        assert len(kept._held) <= 2 * BYTES  # pyright: ignore[reportPrivateUsage]
    assert kept.get() == b"".join(pieces)[-BYTES:]


def test_a_half_call_can_be_read_afterwards() -> None:
    d = Dialect(MESSAGES)
    relay = stream(MESSAGES, kept=TailBytes())
    said = d.open(0) + d.arguments(0) + b'event: content_block_delta\ndata: {"type": "half'
    for i in range(0, len(said), 7):
        relay.feed(said[i : i + 7], 1.0)
    assert relay.tail_bytes() == said, "what was held and never left, too"
    assert relay.end(None, "x") != b""
    assert stream(MESSAGES).tail_bytes() == b""


def test_bytes_are_kept_without_their_coding() -> None:
    relay = Relay(CHAT, gzip=True)
    assert relay.pipeline.tail_rows(0.0) == []
    relay.feed(zipped(Dialect(CHAT).text()))
    assert [(word, size) for _, word, size in relay.pipeline.tail_rows(0.0)] == [("content", len(Dialect(CHAT).text()))]
