"""What is read of an event or a body: typed for the ordinary case, and a tolerant reading for whatever else providers send.

Only observed fields are typed; all others are skipped by the decoder. Servers that imitate this API send `5.0` as a count, numbers as
ids, or an `error` that is a string: such a frame fails the typed decoder and is read once more by `read_event` or `read_body`, which
take every field that has a usable value and leave out the others.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, cast

import msgspec

BROKEN = (ValueError, RecursionError)
"""All that decoding can raise: malformed JSON, wrong types, bad UTF-8, numbers out of range; and nesting deeper than the interpreter takes."""

MAX_COUNT: Final = 2**63 - 1
"""Counts beyond a signed 64-bit integer are nonsense, and no database takes them."""

Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)] | None


class CacheCreation(msgspec.Struct, gc=False, frozen=True):
    ephemeral_5m_input_tokens: Count = None
    ephemeral_1h_input_tokens: Count = None


class OutputDetails(msgspec.Struct, gc=False, frozen=True):
    thinking_tokens: Count = None


class Iteration(msgspec.Struct, gc=False, frozen=True):
    """One sampling step of several."""

    type: str | None = None
    input_tokens: Count = None
    output_tokens: Count = None
    cache_read_input_tokens: Count = None
    cache_creation_input_tokens: Count = None
    cache_creation: CacheCreation | None = None


class UsageShape(msgspec.Struct, gc=False, frozen=True):
    input_tokens: Count = None
    output_tokens: Count = None
    cache_read_input_tokens: Count = None
    cache_creation_input_tokens: Count = None
    cache_creation: CacheCreation | None = None
    output_tokens_details: OutputDetails | None = None
    server_tool_use: dict[str, Any] | None = None
    service_tier: str | None = None
    speed: str | None = None
    """`fast`: in the beta of that name."""
    iterations: list[Iteration] | None = None


class Delta(msgspec.Struct, gc=False, frozen=True):
    """`delta` of `content_block_delta` and of `message_delta`."""

    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class Model(msgspec.Struct, gc=False, frozen=True):
    model: str | None = None


class Block(msgspec.Struct, gc=False, frozen=True):
    type: str | None = None
    id: str | None = None
    name: str | None = None
    text: str | None = None
    thinking: str | None = None
    input: Any = None
    to: Model | None = None


class Message(msgspec.Struct, gc=False, frozen=True):
    id: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    usage: UsageShape | None = None


class ErrorShape(msgspec.Struct, gc=False, frozen=True):
    type: str | None = None
    message: str | None = None


class EventShape(msgspec.Struct, gc=False, frozen=True):
    """Any event of a stream."""

    type: str | None = None
    index: int | str | None = None
    delta: Delta | None = None
    content_block: Block | None = None
    message: Message | None = None
    usage: UsageShape | None = None
    error: ErrorShape | None = None


class BodyShape(msgspec.Struct, gc=False, frozen=True):
    """A whole Message, a token count, an error, or an object that holds none of these."""

    type: str | None = None
    id: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    usage: UsageShape | None = None
    input_tokens: Count = None
    error: ErrorShape | None = None


decode_event = msgspec.json.Decoder(EventShape).decode
decode_body = msgspec.json.Decoder(BodyShape).decode


def read_event(data: bytes) -> EventShape | None:
    """`data` read tolerantly; `None` where it is not a JSON object at all."""
    fields = _load(data)
    if fields is None:
        return None
    index = fields.get("index")
    return EventShape(
        type=_text(fields.get("type")),
        index=index if isinstance(index, str) else count(index),
        delta=_delta(fields.get("delta")),
        content_block=_block(fields.get("content_block")),
        message=_message(fields.get("message")),
        usage=_usage(fields.get("usage")),
        error=_error(fields.get("error")),
    )


def read_body(data: bytes) -> BodyShape | None:
    """`data` read tolerantly; `None` where it is not a JSON object at all."""
    fields = _load(data)
    if fields is None:
        return None
    return BodyShape(
        type=_text(fields.get("type")),
        id=_text(fields.get("id")),
        model=_text(fields.get("model")),
        stop_reason=_text(fields.get("stop_reason")),
        usage=_usage(fields.get("usage")),
        input_tokens=count(fields.get("input_tokens")),
        error=_error(fields.get("error")),
    )


def count(value: object) -> int | None:
    """A count, where `value` is one: whole, not negative, not absurd; `5.0` is 5, `true` is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT:
        return value
    return None


def _load(data: bytes) -> dict[str, Any] | None:
    try:
        # The standard library's decoder also takes what msgspec refuses: lone surrogates in escapes, numbers out of range.
        return _fields(json.loads(data))
    except BROKEN:
        return None


def _fields(value: object) -> dict[str, Any] | None:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _delta(value: object) -> Delta | None:
    if (fields := _fields(value)) is None:
        return None
    return Delta(
        type=_text(fields.get("type")),
        text=_text(fields.get("text")),
        thinking=_text(fields.get("thinking")),
        partial_json=_text(fields.get("partial_json")),
        stop_reason=_text(fields.get("stop_reason")),
    )


def _block(value: object) -> Block | None:
    if (fields := _fields(value)) is None:
        return None
    to = _fields(fields.get("to"))
    return Block(
        type=_text(fields.get("type")),
        id=_text(fields.get("id")),
        name=_text(fields.get("name")),
        text=_text(fields.get("text")),
        thinking=_text(fields.get("thinking")),
        input=fields.get("input"),
        to=None if to is None else Model(_text(to.get("model"))),
    )


def _message(value: object) -> Message | None:
    if (fields := _fields(value)) is None:
        return None
    return Message(
        id=_text(fields.get("id")),
        model=_text(fields.get("model")),
        stop_reason=_text(fields.get("stop_reason")),
        usage=_usage(fields.get("usage")),
    )


def _error(value: object) -> ErrorShape | None:
    if isinstance(value, str):
        return ErrorShape(message=value)
    if (fields := _fields(value)) is None:
        return None
    return ErrorShape(type=_text(fields.get("type")), message=_text(fields.get("message")))


def _usage(value: object) -> UsageShape | None:
    if (fields := _fields(value)) is None:
        return None
    creation = _fields(fields.get("cache_creation"))
    details = _fields(fields.get("output_tokens_details"))
    return UsageShape(
        input_tokens=count(fields.get("input_tokens")),
        output_tokens=count(fields.get("output_tokens")),
        cache_read_input_tokens=count(fields.get("cache_read_input_tokens")),
        cache_creation_input_tokens=count(fields.get("cache_creation_input_tokens")),
        cache_creation=None
        if creation is None
        else CacheCreation(count(creation.get("ephemeral_5m_input_tokens")), count(creation.get("ephemeral_1h_input_tokens"))),
        output_tokens_details=None if details is None else OutputDetails(count(details.get("thinking_tokens"))),
        server_tool_use=_fields(fields.get("server_tool_use")),
        service_tier=_text(fields.get("service_tier")),
        speed=_text(fields.get("speed")),
        iterations=_iterations(fields.get("iterations")),
    )


def _iterations(value: object) -> list[Iteration] | None:
    if not isinstance(value, list):
        return None
    found: list[Iteration] = []
    for item in cast("list[object]", value):
        stated, fields = _usage(item), _fields(item)
        if stated is not None and fields is not None:
            found.append(Iteration(
                _text(fields.get("type")), stated.input_tokens, stated.output_tokens, stated.cache_read_input_tokens,
                stated.cache_creation_input_tokens, stated.cache_creation,
            ))  # fmt: skip
    return found
