"""Texts in pieces, as a stream brings them: what every protocol's `unfold` cuts with."""

from __future__ import annotations

import re

_WORD = re.compile(r"\s{0,40}\S{1,200}|\s{1,200}")
"""A word with the space before it, as models give them; a very long one is cut, so that no single frame is large."""
ARGUMENTS = 24
"""Characters of one piece of JSON, which has few spaces, where words were asked for."""


def pieces_of(text: str, size: int | None) -> list[str]:
    """`text` in pieces, none of them empty, which are the text together: `size` characters each (at least 1), or words where it is `None`."""
    if size is None:
        return _WORD.findall(text)
    return [text[at : at + size] for at in range(0, len(text), size)]


def json_pieces_of(text: str, size: int | None) -> list[str]:
    """The same for the text of arguments."""
    return pieces_of(text, size or ARGUMENTS)
