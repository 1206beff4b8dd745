"""How many tokens a text has, more or less: the gateway states nothing, and real vocabularies would have to be downloaded.

A token is about four characters of what ASCII can write, and about one of anything else (Chinese has about one a character, Cyrillic half
of that). Recorded answers in English come out within a quarter of what their providers counted; code, which has shorter tokens, lower.
"""

from __future__ import annotations

from typing import Any, Final, cast

PER_ASCII: Final = 0.25
PER_OTHER: Final = 0.75
OF_MESSAGE: Final = 4
"""What stands around each message (OpenAI's cookbook on counting tokens)."""
_DEEPEST: Final = 64


class Tally:
    """Of a text that comes in pieces: the same whatever the pieces."""

    __slots__ = ("_ascii", "_other")

    def __init__(self) -> None:
        self._ascii = 0
        self._other = 0

    def add(self, text: str) -> None:
        if text.isascii():
            self._ascii += len(text)
        else:
            plain = len(text.encode("ascii", "ignore"))
            self._ascii += plain
            self._other += len(text) - plain

    def add_texts(self, value: Any, depth: int = 0) -> None:
        """Every string in `value`, names of members included; images and other data written as base64 are none."""
        if depth > _DEEPEST:
            return
        if isinstance(value, str):
            if not value.startswith("data:"):
                self.add(value)
        elif isinstance(value, dict):
            for name, below in cast("dict[str, Any]", value).items():
                self.add(name)
                self.add_texts(below, depth + 1)
        elif isinstance(value, list):
            for below in cast("list[Any]", value):
                self.add_texts(below, depth + 1)

    @property
    def tokens(self) -> int:
        return -int(-(self._ascii * PER_ASCII + self._other * PER_OTHER) // 1)


def of_request(fields: dict[str, Any]) -> int:
    """The input of a request in the gateway's own form."""
    tally = Tally()
    messages = fields.get("messages")
    around = 0
    if isinstance(messages, list):
        for message in cast("list[Any]", messages):
            if isinstance(message, dict):
                around += OF_MESSAGE
                said = cast("dict[str, Any]", message)
                tally.add_texts(said.get("content"))
                tally.add_texts(said.get("tool_calls"))
    for name in ("system", "prompt", "tools"):
        tally.add_texts(fields.get(name))
    return tally.tokens + around
