"""Whole bodies of the OpenAI endpoints: what an answer below 400 states, what an error says; and which frames hold nothing but usage."""

from __future__ import annotations

from typing import Any, cast

import msgspec
from msgspec import Raw, Struct

from penstock.protocols.contract import Observer
from penstock.protocols.openai_chat.chunk import NO_RAW, UNREADABLE, ChatUsage, count, decode_any, find_error, read_error, read_usage, usage_of, word
from penstock.vocabulary.errors import UpstreamError

# Fields of a chunk that say nothing of the answer itself. `obfuscation` is padding against traffic analysis (OpenAI), `provider` OpenRouter's,
# `timings` llama.cpp's, `prompt_token_ids` vLLM's.
_BOOKKEEPING = frozenset({
    "id", "object", "created", "model", "choices", "usage", "system_fingerprint", "service_tier",
    "obfuscation", "provider", "timings", "x_groq", "prompt_token_ids",
})


class _Bookkeeping(Struct, gc=False, forbid_unknown_fields=True):
    id: Raw = NO_RAW
    object: Raw = NO_RAW
    created: Raw = NO_RAW
    model: Raw = NO_RAW
    choices: Raw = NO_RAW
    usage: Raw = NO_RAW
    system_fingerprint: Raw = NO_RAW
    service_tier: Raw = NO_RAW
    obfuscation: Raw = NO_RAW


_decode_bookkeeping = msgspec.json.Decoder(_Bookkeeping).decode


def is_bookkeeping(data: bytes) -> bool:
    """True where the chunk `data` has no field that carries anything besides usage and bookkeeping."""
    try:
        _decode_bookkeeping(data)  # OpenAI's own, and nothing else: mostly
    except UNREADABLE:
        pass
    else:
        return True
    try:
        fields = decode_any(data)
    except UNREADABLE:
        return False
    return isinstance(fields, dict) and all(not value or key in _BOOKKEEPING for key, value in cast("dict[str, Any]", fields).items())


class _Message(Struct, gc=False):
    tool_calls: list[Any] | None = None
    function_call: Any = None


class _Choice(Struct, gc=False):
    index: Any = 0
    finish_reason: Any = None
    message: _Message | None = None


class _Body(Struct, gc=False):
    id: Any = None
    model: Any = None
    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None
    service_tier: Any = None
    file: Any = None
    """Of an upload that is complete: what it has become, which is what is asked for from now on."""


class _UsualBody(Struct, gc=False):
    """A body whose usage is spelled as it mostly is."""

    usage: ChatUsage
    id: Any = None
    model: Any = None
    choices: list[_Choice] | None = None
    error: Any = None
    service_tier: Any = None


_decode_usual = msgspec.json.Decoder(_UsualBody).decode
_decode_body = msgspec.json.Decoder(_Body).decode


def observe_body(observer: Observer, body: bytes) -> None:
    """Read the body of chat, completions, embeddings, moderations, audio or images into `observer`.

    An `error` in a body below 400 occurs (OpenRouter) and is told as one.
    """
    read: _UsualBody | _Body | None
    try:
        read = _decode_usual(body)
    except UNREADABLE:
        try:
            read = _decode_body(body)
        except UNREADABLE:
            read = _lenient_body(body)
            if read is None:
                observer.malformed += 1
                return
    observer.response_id = word(read.id)
    observer.model = word(read.model)
    if read.service_tier is not None:
        observer.service_tier = word(read.service_tier, 32)
    for choice in read.choices or ():
        observer.choices += 1
        if observer.stop_reason is None or count(choice.index) == 0:
            observer.stop_reason = word(choice.finish_reason) or observer.stop_reason
        if choice.message is not None:
            observer.calls += len(choice.message.tool_calls or ()) + (choice.message.function_call is not None)
    if isinstance(read, _UsualBody):
        usage = usage_of(read.usage)
    else:
        usage = read_usage(read.usage)
        file: object = read.file
        if isinstance(file, dict):
            observer.response_id = word(cast("dict[str, Any]", file).get("id")) or observer.response_id
    if usage is not None:
        observer.usage = usage
        observer.final_usage = True
    if read.error:
        observer.error = read_error(read.error)


def _lenient_body(body: bytes) -> _Body | None:
    try:
        value = decode_any(body)
    except UNREADABLE:
        return None
    if not isinstance(value, dict):
        return None
    fields = cast("dict[str, Any]", value)
    choices = fields.get("choices")
    return _Body(
        id=fields.get("id"),
        model=fields.get("model"),
        choices=[_lenient_choice(item) for item in cast("list[Any]", choices)] if isinstance(choices, list) else None,
        usage=fields.get("usage"),
        error=fields.get("error"),
        service_tier=fields.get("service_tier"),
        file=fields.get("file"),
    )


def _lenient_choice(value: Any) -> _Choice:
    try:
        return msgspec.convert(value, _Choice)
    except UNREADABLE:
        fields = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        return _Choice(index=fields.get("index"), finish_reason=fields.get("finish_reason"))


def observe_error(observer: Observer, status: int, body: bytes) -> None:
    """Read the body of an answer of `status` (400 or above) into `observer.error`."""
    try:
        value = find_error(decode_any(body))
    except UNREADABLE:
        observer.error = UpstreamError(status=status)
        return
    observer.error = read_error(value, status)
