from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.routing import BadGlob, Glob


@pytest.mark.parametrize(("pattern", "model", "expected"), [
    ("*", "anything/at:all", True), ("claude-*", "claude-sonnet-4-5", True), ("claude-*", "Claude-x", False), ("gpt-4?", "gpt-4o", True),
    ("gpt-4?", "gpt-4", False), ("o[13]", "o3", True), ("o[!13]", "o3", False), ("o[1-4]*", "o4-mini", True), ("a.b", "axb", False), ("fast",
    "fast", True),
    ("fast", "fast ", False), ("*/*", "org/model", True), ("claude-sonnet-4-5[1m]", "claude-sonnet-4-5[1m]", True), ("x[[]1m]", "x[1m]", True),
    ("a*", "a\nb", True),
])
def test_matches(pattern: str, model: str, expected: bool) -> None:
    assert Glob(pattern).matches(model) is expected


@pytest.mark.parametrize("pattern", ["", "a b", "[", "x[abc", "[]", "[!]", "[z-a]", "a\tb", "[a][b"])
def test_bad_globs(pattern: str) -> None:
    with pytest.raises(BadGlob):
        Glob(pattern)


@given(st.text(alphabet="ab[]!*?-", max_size=12), st.text(alphabet="ab[]!*?-", max_size=12))
def test_a_glob_is_refused_or_works(pattern: str, model: str) -> None:
    try:
        glob = Glob(pattern)
    except BadGlob:
        return
    assert glob.matches(pattern)
    glob.matches(model)
