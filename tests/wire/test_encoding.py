"""Gunzip: the same bytes whatever the chunking, in bounded pieces, at once."""

from __future__ import annotations

import gzip
import itertools
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.wire.encoding import EncodingError, Gunzip


def chop(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(c % (len(data) + 1) for c in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(st.lists(st.binary(max_size=400), min_size=1, max_size=4), st.lists(st.integers(0, 10_000), max_size=8), st.integers(1, 50), st.integers(0, 3))
def test_any_chunking_gives_what_went_in(members: list[bytes], cuts: list[int], limit: int, padding: int) -> None:
    coded = (b"\0" * padding).join(gzip.compress(m) for m in members)
    decoder = Gunzip(limit)
    out = [piece for chunk in chop(coded, cuts) for piece in decoder.feed(chunk)]
    assert b"".join(out) == b"".join(members)
    assert all(0 < len(piece) <= limit for piece in out)
    assert decoder.finished


@given(st.binary(max_size=300), st.lists(st.integers(0, 10_000), max_size=6))
def test_any_bytes_give_bytes_or_an_encoding_error(data: bytes, cuts: list[int]) -> None:
    decoder = Gunzip(16)
    try:
        for chunk in chop(data, cuts):
            list(decoder.feed(chunk))
    except EncodingError:
        pass
    else:
        assert not decoder.finished or data.startswith(b"\x1f\x8b")


@pytest.mark.parametrize("padding", [0, 1])
def test_what_stands_behind_many_small_members_is_not_copied_for_each(monkeypatch: pytest.MonkeyPatch, padding: int) -> None:
    behind = 0
    make = zlib.decompressobj

    class Member:
        def __init__(self, wbits: int) -> None:
            self.real = make(wbits)

        def decompress(self, data: bytes, limit: int) -> bytes:
            nonlocal behind
            made = self.real.decompress(data, limit)
            behind += len(self.real.unused_data)
            return made

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

    monkeypatch.setattr("penstock.wire.encoding.zlib.decompressobj", Member)
    coded = (gzip.compress(b"x") + b"\0" * padding) * 5000
    decoder = Gunzip()
    assert b"".join(decoder.feed(coded)) == b"x" * 5000
    assert decoder.finished
    assert behind < 60 * len(coded), "a few times a member's length for each byte, however much stands there"


def test_a_flushed_event_leaves_in_the_feed_that_brings_it() -> None:
    coder = zlib.compressobj(wbits=31)
    decoder = Gunzip()
    for event in (b"data: one\n\n", b"data: two\n\n"):
        chunk = coder.compress(event) + coder.flush(zlib.Z_SYNC_FLUSH)
        assert b"".join(decoder.feed(chunk)) == event
    assert not decoder.finished
    assert b"".join(decoder.feed(coder.flush())) == b""
    assert decoder.finished


@pytest.mark.parametrize("keep", [0, 5, 15, -1])
def test_a_cut_body_is_not_finished(keep: int) -> None:
    decoder = Gunzip()
    list(decoder.feed(gzip.compress(b"hello hello hello")[:keep]))
    assert not decoder.finished


def test_rubbish_and_a_wrong_check_sum_are_told() -> None:
    with pytest.raises(EncodingError):
        list(Gunzip().feed(b"data: plain\n\n"))
    coded = bytearray(gzip.compress(b"hello"))
    coded[-6] ^= 1
    with pytest.raises(EncodingError):
        list(Gunzip().feed(bytes(coded)))
    with pytest.raises(EncodingError):
        list(Gunzip().feed(gzip.compress(b"hello") + b"behind"))


def test_a_bomb_is_taken_in_pieces() -> None:
    size = 64 << 20
    bomb = gzip.compress(bytes(size))
    assert len(bomb) < 100_000
    tracemalloc.start()
    try:
        total = sum(len(piece) for piece in Gunzip(1 << 16).feed(bomb))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == size
    assert peak < 2 << 20


def test_what_was_not_taken_comes_first_in_the_next_feed() -> None:
    coded = gzip.compress(b"abcdef")
    decoder = Gunzip(2)
    assert next(decoder.feed(coded[:-4])) == b"ab"
    assert b"".join(decoder.feed(coded[-4:])) == b"cdef"
    assert decoder.finished
