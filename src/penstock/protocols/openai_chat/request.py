"""What must be known of a request, and the fields of it that we may touch: `model`, `stream` and `stream_options`."""

from __future__ import annotations

import json
from typing import Any, cast

import msgspec
from msgspec import Raw, Struct

from penstock.protocols.contract import BadRequest, Peek
from penstock.protocols.flags import ask_plainly, set_stream
from penstock.vocabulary.ids import Operation
from penstock.vocabulary.said import NOTHING, keep
from penstock.wire.json import find_fields, insert_field, replace_field, set_field, splice

_NEEDS_MODEL = frozenset({Operation.CHAT, Operation.COMPLETIONS, Operation.EMBEDDINGS, Operation.AUDIO})
"""For the others OpenAI has a default (moderations, images) or no such field."""
_USAGE_ON_DEMAND = frozenset({Operation.CHAT, Operation.COMPLETIONS})
_ASKED = b'{"include_usage":true}'
_ASKING_FIRST = b'{"stream_options":%b,' % _ASKED

class _Head(Struct, gc=False):
    model: Any = None
    stream: Any = None
    stream_options: Any = None
    user: Raw = NOTHING
    safety_identifier: Raw = NOTHING
    metadata: Raw = NOTHING
    prompt_cache_key: Raw = NOTHING
    reasoning_effort: Raw = NOTHING
    reasoning: Raw = NOTHING
    """OpenRouter's."""


_decode_head = msgspec.json.Decoder(_Head).decode


def peek(operation: Operation, path: str, query: str, body: bytes) -> Peek:
    """What the body states. `"stream": "true"` is no stream: the provider judges it. Raises `BadRequest` with a sentence for the client."""
    needed = operation in _NEEDS_MODEL
    if not needed and not body.strip():
        return Peek(None, stream=False)
    head = _read_head(body)
    model = head.model if isinstance(head.model, str) and head.model else None
    if model is None and needed:
        if head.model is None:
            raise BadRequest("The request names no model: the field 'model' is missing.")
        raise BadRequest("The field 'model' must be a non-empty string.")
    stream = head.stream is True
    asked = not stream or operation not in _USAGE_ON_DEMAND or _asks_usage(head.stream_options)
    user = head.user if head.safety_identifier is NOTHING else head.safety_identifier
    effort = head.reasoning if head.reasoning_effort is NOTHING else head.reasoning_effort
    return Peek(model, stream, asked, keep(user, head.metadata, head.prompt_cache_key, effort))


def _asks_usage(options: Any) -> bool:
    return isinstance(options, dict) and cast("dict[str, Any]", options).get("include_usage") is True


def _read_head(body: bytes) -> _Head:
    try:
        return _decode_head(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        pass
    # The strict decoder refuses half a surrogate pair ("\\ud83d"), which is grammatical JSON and comes from clients that cut an emoji in two.
    try:
        value = json.loads(body.decode())
    except RecursionError as error:
        raise BadRequest("The request body is nested too deeply.") from error
    except ValueError as error:
        raise BadRequest("The request body is not valid JSON.") from error
    if not isinstance(value, dict):
        raise BadRequest("The request body must be a JSON object.")
    fields = cast("dict[str, Any]", value)
    return _Head(fields.get("model"), fields.get("stream"), fields.get("stream_options"))


def rename(operation: Operation, path: str, body: bytes, model: str) -> tuple[str, bytes]:
    """`body` with another value of `model` and no other byte changed. Raises `ValueError` where it has none."""
    return path, replace_field(body, "model", msgspec.json.encode(model))


def ask_usage(body: bytes) -> bytes:
    """`body` with `stream_options.include_usage` true and no other byte changed.

    A `stream_options` that is neither an object nor null, and an `include_usage` that is no boolean, stay as they are: the provider judges them.
    Raises `ValueError` where `body` is no object.
    """
    # Letters can only be spelled otherwise by \\u: without it and the word itself, there is no such member to look for.
    options = find_fields(body, ("stream_options",)) if b"stream_options" in body or b"\\u" in body else ()
    if not options:
        if body.startswith(b'{"'):  # mostly: an object with a member and no space before it
            return _ASKING_FIRST + body[1:]
        return insert_field(body, "stream_options", _ASKED)
    return splice(body, [(field.start, field.end, _asking(body[field.start : field.end])) for field in options])


def _asking(options: bytes) -> bytes:
    if options == b"null":
        return _ASKED
    if not options.startswith(b"{"):
        return options
    stated = find_fields(options, ("include_usage",))
    if all(options[field.start : field.end] in (b"false", b"null", b"true") for field in stated):
        return set_field(options, "include_usage", b"true")
    return options


class _Streamable(Struct, gc=False):
    best_of: Any = None
    audio: Any = None


_decode_streamable = msgspec.json.Decoder(_Streamable).decode


def ask_stream(operation: Operation, path: str, query: str, body: bytes, *, usage: bool = True) -> tuple[str, str, bytes] | None:
    """The same request with `"stream": true` and, with `usage`, `stream_options.include_usage`.

    Not for what cannot be streamed: Completions with `best_of` above 1, and spoken answers in another format than `pcm16` (OpenAI's reference of
    `best_of`, and of `audio.format`).
    """
    asking = set_stream(body, on=True) if operation in _USAGE_ON_DEMAND and _is_streamable(body) else None
    if asking is None:
        return None
    return path, query, ask_usage(asking) if usage else asking


def ask_whole(operation: Operation, path: str, query: str, body: bytes, *, usage: bool = True) -> tuple[str, str, bytes] | None:
    """The same request with `"stream": false`, without `stream_options`. Whole bodies always tell their usage."""
    asking = ask_plainly(body) if operation in _USAGE_ON_DEMAND else None
    return None if asking is None else (path, query, asking)


def _is_streamable(body: bytes) -> bool:
    try:
        fields = _decode_streamable(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False  # what only a lenient reader takes is not to be changed
    if isinstance(fields.best_of, (int, float)) and fields.best_of > 1:
        return False
    audio: Any = fields.audio
    return not isinstance(audio, dict) or cast("dict[str, Any]", audio).get("format") == "pcm16"
