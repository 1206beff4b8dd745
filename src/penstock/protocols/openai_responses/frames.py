"""What is read of a frame: typed decoders for what OpenAI documents, and a tolerant second reading for what others send.

Only observed fields are typed; all others are skipped without being built, so a `response.completed` of megabytes costs its scan and
nothing more. Where a typed decoder refuses (a count `5.0`, an `id` that is a number, half of a surrogate pair in a delta) the frame is
decoded once more untyped and whatever fits is taken. `None` means: not a JSON object at all.

Strings that outlive the frame are clipped (`keep`), so that no provider can make an observer large.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, cast

import msgspec

TEXT_WORDS = Literal[
    "response.output_text.delta",
    "response.refusal.delta",
    "response.reasoning_text.delta",
    "response.reasoning_summary_text.delta",
    "response.audio.delta",
    "response.audio.transcript.delta",
]
TOOL_WORDS = Literal[
    "response.function_call_arguments.delta",
    "response.custom_tool_call_input.delta",
    "response.mcp_call_arguments.delta",
    "response.mcp_call.arguments_delta",
    "response.code_interpreter_call_code.delta",
    "response.code_interpreter_call.code.delta",
    "response.shell_call_command.delta",
    "response.apply_patch_call_operation_diff.delta",
]
"""Argument deltas. `mcp_call.arguments_delta` and `code_interpreter_call.code.delta` are what early releases of the API said."""

UNDECODABLE = (msgspec.MsgspecError, ValueError, RecursionError)
"""All that a decoder raises for any bytes: not JSON, other types, bad UTF-8 (a `ValueError`), too deep."""

_MOST = 2**62
Count = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]
"""Of tokens. What is below zero or beyond 64 bits is unknown."""


class TextDelta(msgspec.Struct, gc=False):
    """The hot frame. `type` as a `Literal` is checked without building a string; a frame whose type is another one does not decode."""

    delta: str
    type: TEXT_WORDS | None = None
    sequence_number: int = -1


class ToolDelta(msgspec.Struct, gc=False):
    delta: str
    type: TOOL_WORDS | None = None
    sequence_number: int = -1
    item_id: str | None = None
    output_index: int | None = None


class Delta(msgspec.Struct, gc=False):
    """Any delta with its place, for neutral events."""

    delta: str = ""
    type: str | None = None
    sequence_number: int = -1
    item_id: str | None = None
    output_index: int | None = None
    content_index: int | None = None
    summary_index: int | None = None


class InputDetails(msgspec.Struct, gc=False):
    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None


class OutputDetails(msgspec.Struct, gc=False):
    reasoning_tokens: Count | None = None


class UsageObject(msgspec.Struct, gc=False):
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    input_tokens_details: InputDetails | None = None
    output_tokens_details: OutputDetails | None = None


class ErrorObject(msgspec.Struct, gc=False):
    type: str | None = None
    code: str | int | None = None
    message: str | None = None
    param: str | None = None


class Incomplete(msgspec.Struct, gc=False):
    reason: str | None = None


class OutputType(msgspec.Struct, gc=False):
    type: str | None = None


class ResponseObject(msgspec.Struct, gc=False):
    """A Response, as heads, terminal events and whole bodies carry it."""

    id: str | None = None
    model: str | None = None
    status: str | None = None
    created_at: int | float | None = None
    error: ErrorObject | None = None
    incomplete_details: Incomplete | None = None
    usage: UsageObject | None = None
    service_tier: str | None = None
    output: list[OutputType] | None = None
    input_tokens: Count | None = None
    """Only in the answer of `POST /v1/responses/input_tokens`."""


class Item(msgspec.Struct, gc=False):
    type: str | None = None
    id: str | None = None
    name: str | None = None
    call_id: str | None = None
    status: str | None = None
    arguments: str | None = None
    input: str | None = None
    code: str | None = None


class Frame(msgspec.Struct, gc=False):
    """Any other event."""

    type: str | None = None
    sequence_number: int = -1
    item_id: str | None = None
    output_index: int | None = None
    response: ResponseObject | None = None
    item: Item | None = None
    error: ErrorObject | None = None
    code: str | int | None = None
    message: str | None = None
    param: str | None = None
    status: int | None = None


decode_text_delta = msgspec.json.Decoder(TextDelta).decode
decode_tool_delta = msgspec.json.Decoder(ToolDelta).decode
_decode_delta = msgspec.json.Decoder(Delta).decode
_decode_frame = msgspec.json.Decoder(Frame).decode
_decode_body = msgspec.json.Decoder(ResponseObject).decode


def keep(value: str | None, limit: int = 512) -> str | None:
    """A string short enough to be kept as long as the observer lives."""
    return value if value is None or len(value) <= limit else value[:limit]


def loose(data: bytes) -> dict[str, Any] | None:
    """The object in `data`, decoded without any expectation; `None` where it is none."""
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def encode(value: dict[str, Any]) -> bytes:
    """One line of JSON of what `loose` gives, and of words of others."""
    try:
        return msgspec.json.encode(value)
    except (OverflowError, UnicodeEncodeError):
        # Integers beyond 64 bits, half surrogates: slower, but it writes them.
        return json.dumps(value, separators=(",", ":")).encode()


def read_delta(data: bytes) -> tuple[Delta | None, bool]:
    """The delta and whether the typed decoder sufficed."""
    try:
        return _decode_delta(data), True
    except UNDECODABLE:
        fields = loose(data)
    if fields is None:
        return None, False
    return Delta(
        delta=text(fields.get("delta")) or "",
        type=text(fields.get("type")),
        sequence_number=_sequence(fields),
        item_id=text(fields.get("item_id")),
        output_index=count(fields.get("output_index")),
        content_index=count(fields.get("content_index")),
        summary_index=count(fields.get("summary_index")),
    ), False


def read_frame(data: bytes) -> tuple[Frame | None, bool]:
    """The frame and whether the typed decoder sufficed."""
    try:
        return _decode_frame(data), True
    except UNDECODABLE:
        fields = loose(data)
    if fields is None:
        return None, False
    response, item = fields.get("response"), fields.get("item")
    return Frame(
        type=text(fields.get("type")),
        sequence_number=_sequence(fields),
        item_id=text(fields.get("item_id")),
        output_index=count(fields.get("output_index")),
        response=_response(cast("dict[str, Any]", response)) if isinstance(response, dict) else None,
        item=_item(cast("dict[str, Any]", item)) if isinstance(item, dict) else None,
        error=_error(fields.get("error")),
        code=_code(fields.get("code")),
        message=text(fields.get("message")),
        param=text(fields.get("param")),
        status=count(fields.get("status")),
    ), False


def read_body(body: bytes) -> tuple[ResponseObject | None, bool]:
    """A whole body and whether the typed decoder sufficed."""
    try:
        return _decode_body(body), True
    except UNDECODABLE:
        fields = loose(body)
    return (None if fields is None else _response(fields)), False


def read_error(body: bytes) -> ErrorObject | None:
    """The error in the body of a bad status: `{"error": {...}}`, or `{"error": "..."}`, `{"detail": "..."}`, `{"message": "..."}` elsewhere."""
    fields = loose(body)
    if fields is None:
        return None
    for name in ("error", "detail"):
        if (found := _error(fields.get(name))) is not None:
            return found
    return _error(fields) if "message" in fields else None


def text(value: object) -> str | None:
    """`value` where it is a string, with lone halves of surrogate pairs replaced: they cannot be encoded again."""
    if not isinstance(value, str):
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return value


def count(value: object) -> int | None:
    """`value` where it is a whole number, `5.0` included."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _sequence(fields: dict[str, Any]) -> int:
    number = count(fields.get("sequence_number"))
    return -1 if number is None else number


def _error(value: object) -> ErrorObject | None:
    if isinstance(value, str):
        return ErrorObject(message=text(value))
    if not isinstance(value, dict):
        return None
    fields = cast("dict[str, Any]", value)
    return ErrorObject(text(fields.get("type")), _code(fields.get("code")), text(fields.get("message")), text(fields.get("param")))


def _code(value: object) -> str | int | None:
    return text(value) if isinstance(value, str) else count(value)


def _item(fields: dict[str, Any]) -> Item:
    return Item(*(text(fields.get(name)) for name in ("type", "id", "name", "call_id", "status", "arguments", "input", "code")))


def _response(fields: dict[str, Any]) -> ResponseObject:
    created, details, output = fields.get("created_at"), fields.get("incomplete_details"), fields.get("output")
    items = cast("list[object]", output) if isinstance(output, list) else None
    return ResponseObject(
        id=text(fields.get("id")),
        model=text(fields.get("model")),
        status=text(fields.get("status")),
        created_at=created if isinstance(created, (int, float)) else None,
        error=_error(fields.get("error")),
        incomplete_details=Incomplete(text(cast("dict[str, Any]", details).get("reason"))) if isinstance(details, dict) else None,
        usage=_usage(fields.get("usage")),
        service_tier=text(fields.get("service_tier")),
        output=None if items is None else [OutputType(text(cast("dict[str, Any]", item).get("type"))) for item in items if isinstance(item, dict)],
        input_tokens=_tokens(fields.get("input_tokens")),
    )


def _tokens(value: object) -> int | None:
    """As `Count`, `5.0` included."""
    found = count(value)
    return found if found is not None and 0 <= found <= _MOST else None


def _usage(value: object) -> UsageObject | None:
    if not isinstance(value, dict):
        return None
    fields = cast("dict[str, Any]", value)
    inner, outer = fields.get("input_tokens_details"), fields.get("output_tokens_details")
    read, write, thought = None, None, None
    if isinstance(inner, dict):
        details = cast("dict[str, Any]", inner)
        read, write = _tokens(details.get("cached_tokens")), _tokens(details.get("cache_write_tokens"))
    if isinstance(outer, dict):
        thought = _tokens(cast("dict[str, Any]", outer).get("reasoning_tokens"))
    return UsageObject(_tokens(fields.get("input_tokens")), _tokens(fields.get("output_tokens")), InputDetails(read, write), OutputDetails(thought))
