"""What routing must know of a request; renaming its model, and asking it as a stream or whole, in the raw bytes.

Sources: Anthropic's reference of `POST /v1/messages` and `POST /v1/messages/count_tokens`: both need `model`, a string; `stream` is a
boolean of the former. Every other endpoint of the family (models, batches, files) names no model of its own.
"""

from __future__ import annotations

import json
from typing import Any, Final, cast

import msgspec
from msgspec import Raw

from penstock.protocols.anthropic_messages.shapes import BROKEN
from penstock.protocols.contract import BadRequest, Peek
from penstock.protocols.flags import set_stream
from penstock.vocabulary.ids import Operation
from penstock.vocabulary.said import NOTHING, keep
from penstock.wire.json import replace_field

WITH_MODEL: Final = frozenset({Operation.MESSAGES, Operation.COUNT_TOKENS})


class _Fields(msgspec.Struct, gc=False, frozen=True):
    model: Any = None
    stream: Any = None
    metadata: Raw = NOTHING
    output_config: Raw = NOTHING
    thinking: Raw = NOTHING


_decode = msgspec.json.Decoder(_Fields).decode


def peek(operation: Operation, path: str, query: str, body: bytes) -> Peek:
    """Model and stream flag. Only JSON `true` asks for a stream: `"true"` or `1` is passed on, and the provider judges it."""
    if operation not in WITH_MODEL:
        return Peek(model=None, stream=False)
    fields = _read(body)
    if fields.model is None:
        raise BadRequest("model: a model is required.")
    if not isinstance(fields.model, str) or not fields.model:
        raise BadRequest("model: must be a string that is not empty.")
    said = keep(NOTHING, fields.metadata, NOTHING, fields.output_config, fields.thinking)
    return Peek(fields.model, operation is Operation.MESSAGES and fields.stream is True, said=said)


def rename(operation: Operation, path: str, body: bytes, model: str) -> tuple[str, bytes]:
    """`body` with its model's name changed and no other byte; where the operation has no model, everything as it came."""
    if operation not in WITH_MODEL:
        return path, body
    return path, replace_field(body, "model", msgspec.json.encode(model))


def ask_stream(operation: Operation, path: str, query: str, body: bytes, *, usage: bool = True) -> tuple[str, str, bytes] | None:
    """The same request with `"stream": true`; usage is told without being asked for."""
    return _asked(operation, path, query, body, stream=True)


def ask_whole(operation: Operation, path: str, query: str, body: bytes, *, usage: bool = True) -> tuple[str, str, bytes] | None:
    """The same request with `"stream": false`."""
    return _asked(operation, path, query, body, stream=False)


def _asked(operation: Operation, path: str, query: str, body: bytes, *, stream: bool) -> tuple[str, str, bytes] | None:
    asking = set_stream(body, stream) if operation is Operation.MESSAGES else None
    return None if asking is None else (path, query, asking)


def _read(body: bytes) -> _Fields:
    try:
        return _decode(body)
    except BROKEN:
        pass
    try:
        # What msgspec refuses although it is JSON (lone surrogates in escapes), the provider may take.
        found: object = json.loads(str(body, "utf-8"))
    except BROKEN:
        raise BadRequest("The request body is not valid JSON.") from None
    if not isinstance(found, dict):
        raise BadRequest("The request body must be a JSON object.")
    fields = cast("dict[str, Any]", found)
    return _Fields(fields.get("model"), fields.get("stream"))
