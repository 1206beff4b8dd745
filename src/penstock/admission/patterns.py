"""Names with wildcards, as rules and keys write them: `*` is any text, `?` one character, `[abc]` one of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import translate
from functools import lru_cache


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern))


def matches(pattern: str, text: str) -> bool:
    """Does the whole of `text` have this form? Case counts."""
    return pattern == text or compiled(pattern).match(text) is not None


def any_matches(patterns: Sequence[str], text: str) -> bool:
    return any(matches(pattern, text) for pattern in patterns)
