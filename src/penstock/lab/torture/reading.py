"""What a client makes of the bytes that it got: frames, what each is, what is wrong with an error. Written apart from the gateway's own
protocols on purpose: a judge that shared their code would share their mistakes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, cast

from penstock.lab.recordings import split_frames
from penstock.lab.torture.forms import Form

Object = dict[str, Any]
_COMMENTS = re.compile(rb"(?::[^\r\n]*(?:\r\n|\n|\r))+")
"""Lines that a keep-alive may put before a frame."""


class Kind(Enum):
    EVENT = "an event"
    FINISH = "an event with a finish reason"
    QUIET = "a keep-alive"
    TERMINAL = "a terminal event"
    ERROR = "an error"
    UNREADABLE = "a frame that is not whole JSON"
    HALF = "half a frame"


@dataclass(frozen=True, slots=True)
class Piece:
    """One frame as it came: a server-sent event with its blank line, or an element of an array without its commas."""

    raw: bytes
    kind: Kind
    name: str = ""
    value: Object | None = None
    """The JSON object in it."""


def read_pieces(form: Form, body: bytes) -> list[Piece]:
    """Everything that came, in order. The last one may be HALF."""
    return list(_elements(body) if form.array else _events(form, body))


def text_of(pieces: Iterable[Piece]) -> str:
    """The text and the tool arguments that the events carry."""
    return "".join(_content(piece.value) for piece in pieces if piece.value is not None and piece.kind in (Kind.EVENT, Kind.FINISH))


def _events(form: Form, body: bytes) -> Iterable[Piece]:
    for frame in split_frames(body):
        raw = frame.raw
        if (comments := _COMMENTS.match(raw)) is not None and raw[comments.end() :].strip(b"\r\n"):
            yield Piece(comments[0], Kind.QUIET)
            raw = raw[comments.end() :]
        ended = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if not ended.endswith(b"\n\n") and ended.strip(b"\n"):
            # A comment on a line of its own is whole at its line's end, if nothing else is open.
            comment = all(line.startswith(b":") for line in ended.split(b"\n") if line) and ended.endswith(b"\n")
            yield Piece(raw, Kind.QUIET if comment else Kind.HALF)
            continue
        name = frame.name.decode("utf-8", "replace")
        if not frame.data:
            yield Piece(raw, Kind.QUIET, name)
        elif form.name == "chat" and frame.data == b"[DONE]":
            yield Piece(raw, Kind.TERMINAL, name)
        else:
            value = _object(frame.data)
            yield Piece(raw, Kind.UNREADABLE if value is None else _kind(form.name, value), name, value)


def _elements(body: bytes) -> Iterable[Piece]:
    """An array as it grows. White space alone is nothing here: it is no element."""
    text, at, first = body.decode("utf-8", "surrogateescape"), 0, True
    decoder = json.JSONDecoder()
    while True:
        start = at
        at = _skip(text, at)
        if at == len(text):
            return
        if text[at] == "]" and not first:
            yield Piece(b"]", Kind.TERMINAL)
            at = _skip(text, at + 1)
            if at < len(text):
                yield Piece(_bytes(text[at:]), Kind.UNREADABLE)
            return
        if text[at] != ("[" if first else ","):
            yield Piece(_bytes(text[start:]), Kind.UNREADABLE)
            return
        first = False
        at = _skip(text, at + 1)
        if text[at : at + 1] == "]":
            continue
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            yield Piece(_bytes(text[start:]), Kind.HALF)
            return
        if isinstance(value, dict):
            yield Piece(_bytes(text[at:end]), _kind("gemini", cast("Object", value)), "", cast("Object", value))
        else:
            yield Piece(_bytes(text[at:end]), Kind.UNREADABLE)
        at = end


def _kind(form: str, value: Object) -> Kind:
    kind = value.get("type")
    match form:
        case "chat":
            if value.get("error") is not None:
                return Kind.ERROR
        case "responses":
            if kind in ("response.completed", "response.incomplete"):
                return Kind.TERMINAL
            if kind in ("response.failed", "error"):
                return Kind.ERROR
        case "messages":
            if kind in ("message_stop", "error", "ping"):
                return {"message_stop": Kind.TERMINAL, "error": Kind.ERROR, "ping": Kind.QUIET}[str(kind)]
        case _:
            if value.get("error") is not None:
                return Kind.ERROR
            if any(candidate.get("finishReason") for candidate in _objects(value.get("candidates"))):
                return Kind.FINISH
    return Kind.EVENT


def _content(value: Object) -> str:
    """Of one event, whichever protocol's it is."""
    told: list[object] = []
    for choice in _objects(value.get("choices")):
        delta = choice.get("delta")
        if isinstance(delta, dict):
            told.append(cast("Object", delta).get("content"))
            told += [call.get("function", {}).get("arguments") for call in _objects(cast("Object", delta).get("tool_calls"))]
    for candidate in _objects(value.get("candidates")):
        content = candidate.get("content")
        if isinstance(content, dict):
            told += [part.get("text") for part in _objects(cast("Object", content).get("parts"))]
    delta = value.get("delta")
    if isinstance(delta, dict):
        told += [cast("Object", delta).get("text"), cast("Object", delta).get("partial_json")]
    elif str(value.get("type")).endswith(".delta"):
        told.append(delta)
    return "".join(piece for piece in told if isinstance(piece, str))


def _objects(value: object) -> list[Object]:
    return [cast("Object", item) for item in cast("list[object]", value) if isinstance(item, dict)] if isinstance(value, list) else []


def _object(data: bytes) -> Object | None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return cast("Object", value) if isinstance(value, dict) else None


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
