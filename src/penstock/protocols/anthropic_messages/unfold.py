"""Unfolding a whole Message into the stream in which it would have come: the inverse of `assemble`.

The frames are those that Anthropic sends: `message_start` with empty content and the usage so far, the blocks one after the other, one
`message_delta` with stop reason and totals, `message_stop`. Text and thoughts come by words (or in pieces of a size
that is asked for), arguments in short pieces, citations one by one before their text, a signature behind its thought, a summary whole; every
other block is whole in its `content_block_start`. Nothing is left out, and no field appears that the body does not have.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import Raw

from penstock.protocols.anthropic_messages.assemble import STOP_FIELDS
from penstock.protocols.anthropic_messages.raw import NULL, Object, compact, frame, is_null, raw, read_list, read_object, read_text
from penstock.protocols.anthropic_messages.words import TOOL_KINDS
from penstock.protocols.contract import BodyError
from penstock.protocols.pieces import json_pieces_of, pieces_of
from penstock.vocabulary.ids import Operation

LATE_FIELDS: Final = frozenset({"context_management"})
"""Fields that `message_delta` brings beside its `delta`."""
LATE_IN_DELTA: Final = frozenset({"container"})
LATE_USAGE: Final = ("server_tool_use", "output_tokens_details", "iterations", "fallback_credit")
"""Figures that a stream states at its end only."""
CUMULATIVE_USAGE: Final = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens", *LATE_USAGE)
"""Figures that `message_delta` states, in Anthropic's order."""


def unfold(operation: Operation, body: bytes, size: int | None = None, *, usage: bool = True) -> Iterator[bytes]:
    """The frames of the stream that `body` would have been. Raises `BodyError`, at once, where it is no Message."""
    line = compact(body)
    message = None if line is None else read_object(line)
    if message is None:
        raise BodyError("the body is not a JSON object")
    if read_text(message.get("type")) == "error" or (message.get("error") is not None and "content" not in message):
        raise BodyError("the body is an error, not a message")
    if "content" not in message:
        raise BodyError("the body is no message: it has no content")
    return _frames(message, size)


def _frames(message: Object, size: int | None) -> Iterator[bytes]:
    blocks = read_list(message["content"]) if "content" in message else None
    usage = read_object(message["usage"]) if "usage" in message else None
    start: dict[str, object] = {}
    delta: Object = {}
    beside: Object = {}
    for key, value in message.items():
        if key == "content" and blocks is not None:
            start[key] = []
        elif key == "usage" and usage is not None:
            start[key] = _first_usage(usage)
        elif key in STOP_FIELDS:
            start[key], delta[key] = NULL, value
        elif key in LATE_IN_DELTA and not is_null(value):
            delta[key] = value
        elif key in LATE_FIELDS and not is_null(value):
            beside[key] = value
        else:
            start[key] = value
    served = _served_model(blocks or [])
    if "model" in message and served not in (None, read_text(message["model"])):
        # A fallback block relabels the message; this body says otherwise at its end.
        delta["model"] = message["model"]
    yield frame("message_start", {"type": "message_start", "message": start})
    for index, block in enumerate(blocks or ()):
        yield from _block(index, block, size)
    end: dict[str, object] = {"type": "message_delta", "delta": delta}
    if usage is not None:
        end["usage"] = {key: usage[key] for key in CUMULATIVE_USAGE if key in usage}
    yield frame("message_delta", end | beside)
    yield frame("message_stop", {"type": "message_stop"})


def _first_usage(usage: Object) -> Object:
    first = {key: value for key, value in usage.items() if key not in LATE_USAGE}
    if "output_tokens" in first and not is_null(first["output_tokens"]):
        first["output_tokens"] = raw(0)
    return first


def _served_model(blocks: list[Raw]) -> str | None:
    """The model that the last `fallback` block names."""
    for block in reversed(blocks):
        fields = read_object(block)
        if fields is not None and read_text(fields.get("type")) == "fallback" and "to" in fields:
            to = read_object(fields["to"])
            model = None if to is None else read_text(to.get("model"))
            if model is not None:
                return model
    return None


def _block(index: int, whole: Raw, size: int | None) -> Iterator[bytes]:
    start: dict[str, object] | None = None
    deltas: Iterator[dict[str, object]] = iter(())
    fields = read_object(whole)
    if fields is not None:
        start, deltas = _take_apart(fields, size)
    yield frame("content_block_start", {"type": "content_block_start", "index": index, "content_block": whole if start is None else start})
    for delta in deltas:
        yield frame("content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta})
    yield frame("content_block_stop", {"type": "content_block_stop", "index": index})


def _take_apart(fields: Object, size: int | None) -> tuple[dict[str, object], Iterator[dict[str, object]]]:
    """What the block begins with, and the deltas that complete it."""
    kind = read_text(fields.get("type"))
    start: dict[str, object] = dict(fields)
    if kind == "text":
        text = read_text(fields.get("text"))
        citations = read_list(fields["citations"]) if "citations" in fields else None
        if text is not None:
            start["text"] = ""
        if citations is not None:
            start["citations"] = []
        return start, _text(text or "", citations or [], size)
    if kind == "thinking":
        thinking, signature = read_text(fields.get("thinking")), read_text(fields.get("signature"))
        if thinking is not None:
            start["thinking"] = ""
        if signature is not None:
            start["signature"] = ""
        return start, _thinking(thinking or "", signature or "", size)
    if kind in TOOL_KINDS and "input" in fields and read_object(fields["input"]) is not None:
        start["input"] = {}
        return start, _arguments(bytes(fields["input"]).decode(), size)
    if kind == "compaction" and read_text(fields.get("content")) is not None:
        late: dict[str, object] = {key: fields[key] for key in ("content", "encrypted_content") if key in fields}
        start.update(dict.fromkeys(late, NULL))
        return start, iter([{"type": "compaction_delta"} | late])
    return start, iter(())


def _text(text: str, citations: list[Raw], size: int | None) -> Iterator[dict[str, object]]:
    for citation in citations:
        yield {"type": "citations_delta", "citation": citation}
    for piece in pieces_of(text, size):
        yield {"type": "text_delta", "text": piece}


def _thinking(thinking: str, signature: str, size: int | None) -> Iterator[dict[str, object]]:
    for piece in pieces_of(thinking, size):
        yield {"type": "thinking_delta", "thinking": piece}
    if signature:
        yield {"type": "signature_delta", "signature": signature}


def _arguments(text: str, size: int | None) -> Iterator[dict[str, object]]:
    # Anthropic begins with an empty piece, and a call without arguments has no other.
    yield {"type": "input_json_delta", "partial_json": ""}
    if text != "{}":
        for piece in json_pieces_of(text, size):
            yield {"type": "input_json_delta", "partial_json": piece}
