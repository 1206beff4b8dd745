"""Model names with wildcards: `*` any run, `?` any one character, `[abc]`, `[a-z]`, `[!a]`. Case counts; nothing else is special."""

from __future__ import annotations

import re
from fnmatch import translate


class BadGlob(ValueError):
    """A pattern that is none. Its text says what to write."""


class Glob:
    """One pattern, compiled."""

    __slots__ = ("_match", "text")

    def __init__(self, text: str) -> None:
        """Raises `BadGlob`."""
        _check(text)
        self.text = text
        self._match = re.compile(translate(text)).match

    def matches(self, model: str) -> bool:
        """A pattern always matches its own text, so that names like `claude-sonnet-4-5[1m]` may be written as they are."""
        return model == self.text or self._match(model) is not None

    def __repr__(self) -> str:
        return f"Glob({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Glob) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


def _check(text: str) -> None:
    if not text:
        raise BadGlob("an empty pattern matches no model; write '*' for every model")
    if any(char <= " " or char == "\x7f" for char in text):
        raise BadGlob("the pattern holds a blank or a control character; no model has one in its name")
    position = 0
    while (position := text.find("[", position)) >= 0:
        # As in the shell, a ']' right behind '[' or '[!' is one of the characters.
        first = position + (2 if text[position + 1:position + 2] == "!" else 1)
        end = text.find("]", first + 1)
        if end < 0:
            raise BadGlob("'[' is never closed; write [abc] for one of these characters, or [[] for the character '['")
        if _descends(text[first:end]):
            raise BadGlob("a range in [...] runs backwards; write its lower end first")
        position = end + 1


def _descends(characters: str) -> bool:
    return any(lower > upper for lower, upper in re.findall(r"(.)-(.)", characters))
