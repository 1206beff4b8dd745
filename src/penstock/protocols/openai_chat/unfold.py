"""A whole body unfolded into the stream that the same request would have had: the pseudo stream.

In order: for each choice a first chunk with the role and everything that is not text (the very first one also with the unknown fields of the top
level), its thoughts, its text, its refusal, its tool calls, its finish reason; then the usage, where the body has one and the client asked for it;
then `[DONE]`. Texts come by words, or in pieces of a size that is asked for.

`assemble` folds it back into the same body, as JSON, with these exceptions, which no stream of this protocol can carry: an `index` inside an entry of
`tool_calls`, `obfuscation`, a missing `object`, `choices` out of order. Numbers beyond a double's precision come back as doubles.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from penstock.protocols.contract import BodyError
from penstock.protocols.openai_chat.chunk import UNREADABLE, decode_any, find_error, read_error
from penstock.protocols.openai_chat.render import DONE, frame
from penstock.protocols.pieces import json_pieces_of, pieces_of
from penstock.vocabulary.ids import Operation

Fields = dict[str, Any]

_TEXTS = ("reasoning_content", "reasoning", "content", "refusal")
_NAMES = ("id", "object", "created", "model", "system_fingerprint", "service_tier")
"""Said again in every chunk, as OpenAI does: its Python client takes the fingerprint of the last one."""


def unfold(operation: Operation, body: bytes, size: int | None = None, *, usage: bool = True) -> Iterator[bytes]:
    """The frames of the stream that `body` could have been. Raises `BodyError`, before the first frame, where it is none that can be one."""
    try:
        value = decode_any(body)
    except UNREADABLE as error:
        raise BodyError("the body is not JSON") from error
    if not isinstance(value, dict):
        raise BodyError("the body is not a JSON object")
    fields = cast("Fields", value)
    if fields.get("error"):
        told = read_error(find_error(fields)).message
        raise BodyError(f"the body is an error: {told}" if told else "the body is an error")
    choices = _choices(fields)
    if fields.get("object") == "chat.completion":
        fields["object"] = "chat.completion.chunk"
    return _frames(fields, choices, size, told=usage)


def _choices(fields: Fields) -> list[Fields]:
    choices = fields.pop("choices", None)
    if not isinstance(choices, list):
        raise BodyError("the body has no choices")
    found: list[Fields] = []
    for position, choice in enumerate(cast("list[Any]", choices)):
        if not isinstance(choice, dict):
            raise BodyError("a choice is not a JSON object")
        fields_of = cast("Fields", choice)
        index = fields_of.setdefault("index", position)
        if not isinstance(index, int) or any(index == other["index"] for other in found):
            raise BodyError("the choices have no distinct indexes")
        message = fields_of.get("message")
        calls = cast("Fields", message).get("tool_calls") if isinstance(message, dict) else None
        if isinstance(calls, list) and not all(isinstance(call, dict) for call in cast("list[Any]", calls)):
            raise BodyError("a tool call is not a JSON object")
        found.append(fields_of)
    return found


def _frames(fields: Fields, choices: list[Fields], size: int | None, *, told: bool) -> Iterator[bytes]:
    usage = fields.get("usage")
    if usage is not None:
        del fields["usage"]
    head = {key: fields[key] for key in _NAMES if key in fields}
    first = fields
    if not choices:
        yield frame({**first, "choices": []})
    for choice in choices:
        for part in _parts(choice, size):
            yield frame({**first, "choices": [part]})
            first = head
    if usage is not None and told:
        yield frame({**head, "choices": [], "usage": usage})
    yield DONE


def _parts(choice: Fields, size: int | None) -> Iterator[Fields]:
    """The choice in pieces, each with its index."""
    at: Fields = {"index": choice["index"]}
    last: Fields = {**at}
    message = choice.pop("message", _ABSENT)
    text = choice.get("text")
    reason = choice.get("finish_reason")
    if isinstance(text, str):
        choice["text"] = ""
        last["text"] = ""
    if reason is not None:
        choice["finish_reason"] = None
    if message is not _ABSENT:
        last["delta"] = {}
        if isinstance(message, dict):
            fields = cast("Fields", message)
            pieces = list(_deltas(fields, size))
            logprobs = choice.get("logprobs")
            if isinstance(logprobs, dict):
                # Never in the first chunk of a choice: OpenAI's Python client counts them twice there.
                choice["logprobs"] = None
            yield {**choice, "delta": fields}
            if isinstance(logprobs, dict):
                yield {**at, "delta": {}, "logprobs": logprobs}
            for delta in pieces:
                yield {**at, "delta": delta}
        else:
            yield {**choice, "delta": message}
            last.pop("delta")
    else:
        yield choice
    if isinstance(text, str):
        for piece in pieces_of(text, size):
            yield {**at, "text": piece}
    if reason is not None:
        yield {**last, "finish_reason": reason}


def _deltas(message: Fields, size: int | None) -> Iterator[Fields]:
    """Takes texts and calls out of `message`, which goes first and says of each that it begins, and gives them as deltas."""
    texts = {key: message[key] for key in _TEXTS if isinstance(message.get(key), str)}
    for key in texts:
        message[key] = ""
    stated = message.get("tool_calls")
    calls = cast("list[Fields]", stated) if isinstance(stated, list) else []
    if calls:
        del message["tool_calls"]
    for key, text in texts.items():
        for piece in pieces_of(text, size):
            yield {key: piece}
    for index, call in enumerate(calls):
        call["index"] = index
        function = call.get("function")
        arguments = cast("Fields", function).get("arguments") if isinstance(function, dict) else None
        if isinstance(arguments, str):
            call["function"] = {**cast("Fields", function), "arguments": ""}
        yield {"tool_calls": [call]}
        if isinstance(arguments, str):
            for piece in json_pieces_of(arguments, size):
                yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


_ABSENT: Any = object()
