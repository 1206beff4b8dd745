"""A place where a text stands, and how places are found: what every protocol's texts are looked for with (`texts`, `beside`)."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from typing import Any, NamedTuple, cast

from penstock.policy.rules import Scope

Object = dict[str, Any]


class Kind(Enum):
    TEXT = auto()
    ARGUMENTS = auto()
    """JSON, as text."""
    TREE = auto()
    """A JSON value, whose strings are the texts."""


class Joined:
    """Several parts that are one text, as their reader sees it. What stands in its place stands in the first of them."""

    def __init__(self, parts: list[Object]) -> None:
        self._parts = parts

    def __getitem__(self, key: str) -> str:
        return "".join([part[key] for part in self._parts])

    def __setitem__(self, key: str, text: str) -> None:
        for part in self._parts:
            part[key], text = text, ""


class Valued:
    """A number among the pieces of a call's arguments; what stands in its place is a string (`gemini.arguments`)."""

    def __init__(self, piece: Object) -> None:
        self._piece = piece

    def __getitem__(self, key: str) -> Any:
        return self._piece[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if isinstance(value, str):
            del self._piece[key]
            key = "stringValue"
        self._piece[key] = value


class Place(NamedTuple):
    """`holder[key]` holds the text."""

    holder: Any
    key: Any
    scope: Scope
    kind: Kind = Kind.TEXT


def as_object(value: object) -> Object:
    return cast("Object", value) if isinstance(value, dict) else {}


def objects(value: object) -> Iterator[Object]:
    """The objects of a list."""
    for item in cast("list[Any]", value) if isinstance(value, list) else ():
        if isinstance(item, dict):
            yield cast("Object", item)


def strings(holder: Object, scope: Scope, *keys: str, kind: Kind = Kind.TEXT) -> Iterator[Place]:
    for key in keys:
        if isinstance(holder.get(key), str):
            yield Place(holder, key, scope, kind)


def tree(holder: Object, key: str, scope: Scope) -> Iterator[Place]:
    if holder.get(key) is not None:
        yield Place(holder, key, scope, Kind.TREE)
