"""Where a text that is made is cut into windows, for guards that are asked outside: each window is one question.

Rules
-----
A window ends behind the end of a sentence (its mark, quotes that close behind it, and the white space that shows that it is over; a line's end
and the marks of Chinese and Japanese by themselves), once it has `LEAST` characters. It never has more than `Windows.chars`: where no sentence ends
in them it ends behind the last white space among them, and where there is none, with the last of them. With `by: size` only that holds.

So the windows of a text do not depend on how it came. What closes a window before its time (`Windows.seconds`, or more text than may be held)
cuts behind its last white space.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

LEAST = 16
"""Characters of a window that a sentence may end; `1.` and `Mr.` end none."""
_END = re.compile(r"""[.!?\u2026]["'\u201d\u2019)\]]*\s|[\u3002\uff01\uff1f]["'\u201d\u2019\u300d)\]]*|\n""")
_SPACE = re.compile(r".*\s", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Windows:
    by: Literal["sentence", "size"] = "sentence"
    chars: int = 400
    """The most that one window has."""
    before: int = 200
    """Characters of the same text before the window that are shown with it."""
    seconds: float = 2.0
    """For which a window may stay open."""
    held: int = 1 << 20
    """Bytes of one stream that may wait for verdicts; beyond them its provider is not read."""


def cut(text: str, windows: Windows) -> int | None:
    """The length of the first window of `text`; `None`: more has to come. What it says once, more text does not change."""
    chars = windows.chars
    if windows.by == "sentence":
        least = min(LEAST, chars)
        for found in _END.finditer(text, 0, chars):
            end = found.end()
            if end >= least and (end < len(text) or text[end - 1].isspace() or end == chars):
                return end
    return None if len(text) < chars else cut_early(text[:chars])


def cut_early(text: str) -> int:
    """Where an open window is cut that may not stay open: behind its last white space, or where it ends."""
    found = _SPACE.match(text)
    return found.end() if found is not None else len(text)
