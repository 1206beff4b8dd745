"""JSON whose values stay the bytes that came: objects one level deep, so that unknown fields, big numbers and the order of keys survive.

Everything here takes and gives `msgspec.Raw`, a piece of JSON text. What msgspec refuses although it is JSON (lone surrogates in
escapes) takes the way through the standard library, where numbers keep their value but not their spelling.
"""

from __future__ import annotations

import json
from typing import Any, Final, cast

import msgspec
from msgspec import Raw

from penstock.protocols.anthropic_messages.shapes import BROKEN

Object = dict[str, Raw]

NULL: Final = Raw(b"null")

_decode_object = msgspec.json.Decoder(Object).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_index = msgspec.json.Decoder(int).decode
_decode_raw = msgspec.json.Decoder(Raw).decode


def read_object(data: bytes | Raw) -> Object | None:
    """The members of a JSON object; `None` for anything else, and for bytes that are not UTF-8."""
    try:
        return _decode_object(data)
    except BROKEN:
        value = _load(data, b"{")
        return {key: raw(member) for key, member in cast("dict[str, Any]", value).items()} if isinstance(value, dict) else None


def read_list(data: Raw) -> list[Raw] | None:
    """The elements of a JSON array; `None` for anything else."""
    try:
        return _decode_list(data)
    except BROKEN:
        value = _load(data, b"[")
        return [raw(element) for element in cast("list[Any]", value)] if isinstance(value, list) else None


def read_text(data: Raw | None) -> str | None:
    """A JSON string's text; `None` for anything else."""
    if data is None:
        return None
    try:
        return _decode_text(data)
    except BROKEN:
        value = _load(data, b'"')
        return value if isinstance(value, str) else None


def read_index(data: Raw | None) -> int | None:
    """A whole number; `None` for anything else."""
    if data is None:
        return None
    try:
        return _decode_index(data)
    except BROKEN:
        return None


def is_json(data: bytes) -> bool:
    try:
        _decode_raw(data)
    except BROKEN:
        return _load(data) is not None
    return True


def is_null(data: Raw) -> bool:
    return bytes(data).strip() == b"null"


def raw(value: object) -> Raw:
    """The JSON text of `value` (made of the types that JSON has, or of `Raw`)."""
    return Raw(write(value))


def write(value: object) -> bytes:
    """The JSON text of `value`, on one line."""
    try:
        return msgspec.json.encode(value)
    except (UnicodeEncodeError, RecursionError):
        # A lone surrogate can only be written as an escape; and the two encoders do not go equally deep.
        return json.dumps(value, separators=(",", ":"), default=_plain).encode()


def compact(body: bytes) -> bytes | None:
    """`body` without the white space between its tokens, so that it fits one line; `None` where it is not JSON in UTF-8."""
    try:
        str(body, "utf-8")
        return msgspec.json.format(body, indent=-1)
    except BROKEN:
        value = _load(body)
        return None if value is None else write(value)


def frame(name: str, data: object) -> bytes:
    """One server-sent event of this protocol: its name, and `data` with `name` as its `type`."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), write(data))


def _load(data: bytes | Raw, first: bytes = b"") -> object:
    """The value that `data` is; `None` where it is null, no JSON at all, or does not begin with `first`."""
    text = bytes(data).lstrip()
    if not text.startswith(first):
        return None
    try:
        value: object = json.loads(str(text, "utf-8"))
        json.dumps(value, allow_nan=False)
    except BROKEN:
        return None
    return value


def _plain(value: object) -> object:
    return json.loads(bytes(cast("Raw", value)))
