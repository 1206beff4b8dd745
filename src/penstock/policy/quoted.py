"""JSON within the strings of JSON: errors that quote what another server told (OpenRouter's `metadata.raw`), or what a model made. Its texts are
found as they are meant, however they are spelled there."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any, cast

from penstock.policy.places import Object
from penstock.protocols.openai_chat.chunk import UNREADABLE, decode_any, encode_any

_DEEPEST = 8
"""Levels that are looked into, those of what is quoted included."""


def unquoted(value: Any, deep: int = _DEEPEST) -> Any:
    """`value` with every string of it that is a JSON object or list as that."""
    if not deep:
        return value
    if isinstance(value, str):
        inner = _read(value)
        return value if inner is None else unquoted(inner, deep - 1)
    if isinstance(value, list):
        return [unquoted(item, deep - 1) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {name: unquoted(item, deep - 1) for name, item in cast("Object", value).items()}
    return value


def quoted(value: Any, was: Any, deep: int = _DEEPEST) -> Any:
    """`value`, made from `unquoted(was)`, with strings again where `was` has them. What is as it was is spelled as it was."""
    if value == unquoted(was, deep):
        return was
    if not deep:
        return value
    if isinstance(was, str):
        return value if isinstance(value, str) else encode_any(quoted(value, _read(was), deep - 1)).decode("utf-8", "replace")
    if isinstance(value, list) and isinstance(was, list):
        items = cast("list[Any]", value)
        return [quoted(item, old, deep - 1) for item, old in zip_longest(items, cast("list[Any]", was)[: len(items)])]
    if isinstance(value, dict) and isinstance(was, dict):
        old = cast("Object", was)
        return {name: quoted(item, old.get(name), deep - 1) for name, item in cast("Object", value).items()}
    return cast("Any", value)


class Unquoted:
    """The members of an object, `unquoted`. What is put in the place of one is quoted as it was."""

    def __init__(self, holder: Any) -> None:
        self._holder = holder

    def __getitem__(self, key: Any) -> Any:
        return unquoted(self._holder[key])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._holder[key] = quoted(value, self._holder[key])


def hides(value: Any) -> bool:
    """Is there a string in it that means something else than it shows: JSON, with an escape in it?"""
    return value is not None and b"\\\\" in encode_any(value) and unquoted(value) != value


def _read(text: str) -> Any:
    """`None`: it is no JSON object and no list."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return decode_any(text.encode("utf-8", "surrogatepass"))
    except UNREADABLE:
        return None
