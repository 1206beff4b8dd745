"""Texts in pieces: nothing is lost, nothing is empty, nothing is large."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock.protocols.pieces import json_pieces_of, pieces_of

TEXT = st.text(max_size=300) | st.text(alphabet='ab \n\t"\\é😀\ud83d', max_size=900) | st.sampled_from([" " * 1000 + "x" * 1000, "", "\n"])


@given(TEXT, st.none() | st.integers(1, 40))
def test_the_pieces_are_the_text(text: str, size: int | None) -> None:
    for cut in (pieces_of, json_pieces_of):
        pieces = cut(text, size)
        assert "".join(pieces) == text
        assert all(pieces)
        assert max(map(len, pieces), default=0) <= (size or 240)


def test_words_keep_the_space_before_them() -> None:
    assert pieces_of("Hello,  wide\nworld. ", None) == ["Hello,", "  wide", "\nworld.", " "]


def test_a_size_gives_as_many_pieces_as_it_must() -> None:
    assert pieces_of("abcdefg", 3) == ["abc", "def", "g"]
    assert json_pieces_of('{"a":"' + "x" * 40 + '"}', None) == ['{"a":"' + "x" * 18, "x" * 22 + '"}']
