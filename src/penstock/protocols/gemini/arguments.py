"""Arguments of a function call that come in pieces (`partialArgs`), put together again.

Source: Vertex AI's reference for PartialArg: `jsonPath` (RFC 9535, as in `$.foo.bar[0].data`) says where a value belongs, one of
`stringValue`, `numberValue`, `boolValue`, `nullValue` is its next piece; pieces of one string follow each other under one path.
"""

from __future__ import annotations

import re
from typing import Any, cast

from penstock.protocols.contract import BodyError

LIMIT = 16 * 1024 * 1024
"""Characters of one call's arguments, paths included, that are kept at most."""

_STEP = re.compile(r"""\.([^.\[\]]+)|\[(\d{1,9})\]|\['((?:[^'\\]|\\.)*)'\]|\["((?:[^"\\]|\\.)*)"\]""", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_KINDS = ("stringValue", "numberValue", "boolValue", "nullValue")
_DEPTH = 100


class PartialArguments:
    """The arguments of one call so far."""

    __slots__ = ("_size", "_strings", "_value")

    def __init__(self, start: dict[str, Any] | None = None) -> None:
        self._value: dict[str, Any] = dict(start) if start else {}
        self._strings: dict[str, list[str]] = {}  # path -> pieces: joined once, so that many small pieces stay linear
        self._size = 0

    def add(self, pieces: object) -> None:
        """Add the `partialArgs` of one part. Raises `BodyError` where they cannot be placed, or are more than `LIMIT`."""
        if pieces is None:
            return
        if not isinstance(pieces, list):
            raise BodyError("partialArgs is not a list")
        for piece in cast("list[object]", pieces):
            if not isinstance(piece, dict):
                raise BodyError("a piece of partialArgs is not an object")
            self._add(cast("dict[str, Any]", piece))

    def value(self) -> dict[str, Any]:
        """The arguments. Raises `BodyError` where the pieces contradict each other."""
        for path, pieces in self._strings.items():
            _place(self._value, _steps(path), "".join(pieces))
        self._strings.clear()
        return self._value

    def _add(self, piece: dict[str, Any]) -> None:
        path = piece.get("jsonPath")
        if not isinstance(path, str):
            raise BodyError("a piece of partialArgs has no jsonPath")
        kind = next((k for k in _KINDS if k in piece), None)
        if kind is None:  # the announcement of a value that is still to come
            return
        value = None if kind == "nullValue" else piece[kind]
        self._size += len(path) + (len(value) if isinstance(value, str) else 8)
        if self._size > LIMIT:
            raise BodyError("the arguments of a function call are too long")
        if isinstance(value, str):
            pieces = self._strings.get(path)
            if pieces is None:
                _place(self._value, _steps(path), "")  # its place, in the order in which the arguments began
                pieces = self._strings[path] = []
            pieces.append(value)
        else:
            self._strings.pop(path, None)
            _place(self._value, _steps(path), value)


def _steps(path: str) -> list[str | int]:
    if not path.startswith("$"):
        raise BodyError("a jsonPath does not begin with $")
    steps: list[str | int] = []
    at = 1
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None or len(steps) == _DEPTH:
            raise BodyError("a jsonPath is not understood")
        name, index, single, double = found.groups()
        if index is not None:
            steps.append(int(index))
        else:
            quoted = single if single is not None else double
            steps.append(name if quoted is None else _ESCAPED.sub(r"\1", quoted))
        at = found.end()
    if not steps or isinstance(steps[0], int):
        raise BodyError("a jsonPath names no argument")
    return steps


def _place(root: dict[str, Any], steps: list[str | int], value: object) -> None:
    """Set the value at `steps`, making what is missing on the way. An index may only be the next one: no path makes a list of millions."""
    holder: Any = root
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        fresh: Any = value if following is None else [] if isinstance(following, int) else {}
        if isinstance(step, int):
            if not isinstance(holder, list) or step > len(cast("list[Any]", holder)):
                raise BodyError("a jsonPath leads nowhere")
            items = cast("list[Any]", holder)
            if step == len(items):
                items.append(fresh)
            elif following is None:
                items[step] = fresh
            holder = items[step]
        else:
            if not isinstance(holder, dict):
                raise BodyError("a jsonPath leads nowhere")
            fields = cast("dict[str, Any]", holder)
            if following is None or step not in fields:
                fields[step] = fresh
            holder = fields[step]
