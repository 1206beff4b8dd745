"""Change one field of a JSON object in its raw bytes, and no other byte.

A request that must be changed in one place (the model's name, `stream_options`) is not decoded and written anew: key order, spacing,
number spellings and escapes are the client's own, and caches and signatures downstream depend on them. So the members of the top level
are found by a tokeniser that knows strings and brackets, nothing else: linear in the body, about a millisecond for a megabyte of plain
text, and without recursion.

The functions expect JSON that something else has found valid. For bytes that are not JSON they raise `ValueError` or find nothing;
they never loop, and never write outside of the spans that they found.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

import msgspec

_WS = rb"[ \t\r\n]*+"

# A string, most often without an escaped quote: the first alternative runs to the next quote in one tight loop and takes it when no
# backslash stands before it; only otherwise the second one looks at each escape (RFC 8259, section 7).
_STR = rb'"(?:[^"]*+(?<!\\)"|[^"\\]*+(?:\\.[^"\\]*+)*+")'
_STRING = re.compile(_STR, re.DOTALL)
_OPEN = re.compile(_WS + rb"\{" + _WS)
_KEY = re.compile(_WS + rb"(" + _STR + rb")" + _WS + rb":" + _WS, re.DOTALL)
_SCALAR = re.compile(rb'[^\s,:"{}\[\]]++')
_TO_BRACKET = re.compile(rb'[^"{}\[\]]*+(?:' + _STR + rb'[^"{}\[\]]*+)*+', re.DOTALL)
_COMMA = re.compile(_WS + rb",")
_CLOSE = re.compile(_WS + rb"\}")

_QUOTE, _BACKSLASH, _OPENING, _CLOSING = ord('"'), b"\\", b"{[", b"}]"


class Field(NamedTuple):
    """One member of an object: its name, and where its value lies in the body (`body[start:end]`, without the space around it)."""

    name: str
    start: int
    end: int


def find_fields(body: bytes, names: Collection[str], at: int = 0) -> list[Field]:
    """The members called one of `names`, in order, of the object that begins at `at` (after white space).

    Members of objects inside it are not looked at. A duplicated key gives several fields (parsers differ in which of them counts, most take
    the last); a key with escapes is the name that it spells. Raises `ValueError` where no object begins there, or it is broken.
    """
    opened = _OPEN.match(body, at)
    if opened is None:
        raise ValueError("not a JSON object")
    found: list[Field] = []
    wanted = {name.encode() for name in names}
    at = opened.end()
    if body[at : at + 1] == b"}":
        return found
    while True:
        key = _KEY.match(body, at)
        if key is None:
            raise ValueError(f"a key was expected at byte {at}")
        start = key.end()
        end = _end_of_value(body, start)
        spelled: bytes = key[1]
        name = _unescaped(spelled) if _BACKSLASH in spelled else spelled[1:-1]
        if name in wanted:
            found.append(Field(name.decode(), start, end))
        comma = _COMMA.match(body, end)
        if comma is None:
            if _CLOSE.match(body, end) is None:
                raise ValueError(f"a comma was expected at byte {end}")
            return found
        at = comma.end()


def find_alike(body: bytes, name: str) -> list[str]:
    """The names, as they are meant, of all members of the object `body` that differ from `name` (in small letters) by no more than their case.
    Raises as `find_fields`."""
    opened = _OPEN.match(body)
    if opened is None:
        raise ValueError("not a JSON object")
    found: list[str] = []
    at = opened.end()
    while (key := _KEY.match(body, at)) is not None:
        spelled: bytes = key[1]
        meant = (_unescaped(spelled) if _BACKSLASH in spelled else spelled[1:-1]).decode("utf-8", "replace")
        if meant.casefold() == name:
            found.append(meant)
        comma = _COMMA.match(body, _end_of_value(body, key.end()))
        if comma is None:
            break
        at = comma.end()
    return found


def replace_field(body: bytes, name: str, value: bytes) -> bytes:
    """`body` with `value` (JSON) in the place of the value of the top-level member `name`, wherever that is stated more than once too.

    No other byte changes. Raises `ValueError` where the body is no object or has no such member.
    """
    fields = find_fields(body, (name,))
    if not fields:
        raise ValueError(f"no field {name!r}")
    return splice(body, [(field.start, field.end, value) for field in fields])


def insert_field(body: bytes, name: str, value: bytes, at: int = 0) -> bytes:
    """`body` with the member `name` put right after the opening brace of the object that begins at `at`; no other byte changes.

    Raises `ValueError` where no object begins there. The caller knows that there is no such member yet.
    """
    opened = _OPEN.match(body, at)
    if opened is None:
        raise ValueError("not a JSON object")
    brace = body.index(b"{", at) + 1
    comma = b"" if body[opened.end() : opened.end() + 1] == b"}" else b","
    return b"".join((body[:brace], msgspec.json.encode(name), b":", value, comma, body[brace:]))


def set_field(body: bytes, name: str, value: bytes, at: int = 0) -> bytes:
    """`replace_field` where the object that begins at `at` has the member, `insert_field` where it has not."""
    fields = find_fields(body, (name,), at)
    if not fields:
        return insert_field(body, name, value, at)
    return splice(body, [(field.start, field.end, value) for field in fields])


def remove_field(body: bytes, name: str) -> bytes:
    """`body` without the top-level member `name`, wherever it stands, and without the comma that it needed; no other byte changes.

    Raises `ValueError` where `body` is no object.
    """
    found = find_fields(body, (name,))
    if not found:
        return body
    opened = _OPEN.match(body)
    assert opened is not None  # it is an object: something was found in it
    ends = {field.end for field in found}
    changes: list[tuple[int, int, bytes]] = []
    at = before = opened.end()  # `before`: where what goes begins, when the member at `at` goes
    kept = False  # a member stands before it
    while True:
        key = _KEY.match(body, at)
        if key is None:
            raise ValueError(f"a key was expected at byte {at}")
        end = _end_of_value(body, key.end())
        comma = _COMMA.match(body, end)
        following = None if comma is None else _KEY.match(body, comma.end())
        if end not in ends:
            kept, before = True, end
        elif kept or following is None:
            changes.append((before, end, b""))
            before = end
        else:
            changes.append((before, following.start(1), b""))
            before = following.start(1)
        if comma is None:
            return splice(body, changes)
        at = comma.end()


def splice(body: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """`body` with each span `(start, end)` replaced by its bytes. The spans are in order and do not overlap."""
    parts: list[bytes] = []
    kept = 0
    for start, end, value in changes:
        parts += (body[kept:start], value)
        kept = end
    parts.append(body[kept:])
    return b"".join(parts)


def _unescaped(spelled: bytes) -> bytes:
    """The key that `spelled` (with its quotes) means, in UTF-8; empty where it spells no text, as a lone surrogate does."""
    try:
        return msgspec.json.decode(spelled, type=str).encode()
    except (msgspec.DecodeError, UnicodeError):
        return b""


def _end_of_value(body: bytes, at: int) -> int:
    """Where the value that begins at `at` ends. Brackets are counted and not matched with their kind: the body is valid JSON."""
    first = body[at : at + 1]
    if first == b'"':
        string = _STRING.match(body, at)
        if string is None:
            raise ValueError(f"the string at byte {at} does not end")
        return string.end()
    if first not in _OPENING or not first:
        scalar = _SCALAR.match(body, at)
        if scalar is None:
            raise ValueError(f"a value was expected at byte {at}")
        return scalar.end()
    depth = 1
    while depth:
        bracket = _TO_BRACKET.match(body, at + 1)
        at = bracket.end() if bracket else len(body)
        if at >= len(body):
            raise ValueError("the object does not end")
        byte = body[at]
        if byte == _QUOTE:
            raise ValueError(f"the string at byte {at} does not end")
        depth += 1 if byte in _OPENING else -1
    return at + 1
