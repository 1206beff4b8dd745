"""One `GenerateContentResponse`, as far as observing needs it: typed, and once more for those that differ from the type.

Source: the API's reference (ai.google.dev/api/generate-content: GenerateContentResponse, Candidate, Content, Part, UsageMetadata) and, for
`partialArgs` and `willContinue`, Vertex AI's (FunctionCall, PartialArg). Only fields that are read are named; the rest is skipped unread.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, cast

import msgspec

NOTHING = msgspec.Raw(b"")
NULL = msgspec.Raw(b"null")

_MOST = 2**62
Count = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]


class FunctionCall(msgspec.Struct, gc=False, rename="camel"):
    name: str | None = None
    id: str | None = None
    args: msgspec.Raw = NOTHING
    partial_args: msgspec.Raw = NOTHING
    will_continue: bool | None = None


class Part(msgspec.Struct, gc=False, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    function_call: FunctionCall | None = None


class Content(msgspec.Struct, gc=False):
    parts: list[Part] | None = None


class Candidate(msgspec.Struct, gc=False, rename="camel"):
    content: Content | None = None
    finish_reason: str | None = None
    index: int | None = None
    """Absent means 0: the API leaves it out now and then."""


class ModalityCount(msgspec.Struct, gc=False, rename="camel"):
    modality: str | None = None
    token_count: Count | None = None


class UsageMetadata(msgspec.Struct, gc=False, rename="camel"):
    prompt_token_count: Count | None = None
    candidates_token_count: Count | None = None
    cached_content_token_count: Count | None = None
    thoughts_token_count: Count | None = None
    tool_use_prompt_token_count: Count | None = None
    prompt_tokens_details: list[ModalityCount] | None = None
    candidates_tokens_details: list[ModalityCount] | None = None
    cache_tokens_details: list[ModalityCount] | None = None


class PromptFeedback(msgspec.Struct, gc=False, rename="camel"):
    block_reason: str | None = None


class Frame(msgspec.Struct, gc=False, rename="camel"):
    candidates: list[Candidate] | None = None
    usage_metadata: UsageMetadata | None = None
    prompt_feedback: PromptFeedback | None = None
    response_id: str | None = None
    model_version: str | None = None
    create_time: str | None = None
    error: msgspec.Raw = NOTHING
    total_tokens: Count | None = None
    """With the next one: the answer of `countTokens`."""
    cached_content_token_count: Count | None = None


read = msgspec.json.Decoder(Frame).decode
"""Raises `ValueError` (msgspec's errors and bad UTF-8 are ones) or `RecursionError`."""


def given(raw: msgspec.Raw) -> bool:
    """Was the field there, and not null?"""
    return raw is not NOTHING and raw != NULL


def goes_on(open_name: str | None, call: FunctionCall) -> bool:
    """Is `call` more of the call that is open, not a new one?

    Vertex names a call once, at its beginning; its later parts have no name. Some servers repeat the name: then partial arguments, or
    their announced continuation, tell.
    """
    if call.name is None:
        return True
    return call.name == open_name and not given(call.args) and (given(call.partial_args) or call.will_continue is not None)


def read_loosely(data: bytes) -> Frame | None:
    """The same frame where the types differ: `5.0` or `"5"` as a count, a null in a list, a field of another shape, which is left out.
    `None` where it is no JSON object (in a list of one, as Google wraps some errors, it is one)."""
    try:
        value = json.loads(data.decode("utf-8-sig"))  # takes lone surrogates, as of a character that was cut in two
        if isinstance(value, list):
            items = cast("list[object]", value)
            value = items[0] if len(items) == 1 else None
        return _frame(cast("dict[str, Any]", value)) if isinstance(value, dict) else None
    except (ValueError, RecursionError):
        return None


def _frame(frame: dict[str, Any]) -> Frame:
    usage = frame.get("usageMetadata")
    feedback = frame.get("promptFeedback")
    return Frame(
        candidates=[_candidate(c) for c in _objects(frame.get("candidates"))],
        usage_metadata=_usage(cast("dict[str, Any]", usage)) if isinstance(usage, dict) else None,
        prompt_feedback=PromptFeedback(_text(cast("dict[str, Any]", feedback).get("blockReason"))) if isinstance(feedback, dict) else None,
        response_id=_text(frame.get("responseId")),
        model_version=_text(frame.get("modelVersion")),
        create_time=_text(frame.get("createTime")),
        error=_raw(frame, "error"),
        total_tokens=count(frame.get("totalTokens")),
        cached_content_token_count=count(frame.get("cachedContentTokenCount")),
    )


def count(value: object) -> int | None:
    """A number of tokens: an integer, an integral float, or digits as a string (protobuf writes 64-bit integers so)."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        value = int(value) if len(value) < 19 and value.isascii() and value.isdigit() else None
    elif isinstance(value, float):
        value = int(value) if value.is_integer() else None
    return value if isinstance(value, int) and 0 <= value <= _MOST else None


def _text(value: object) -> str | None:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else None


def _objects(value: object) -> list[dict[str, Any]]:
    return [cast("dict[str, Any]", item) for item in cast("list[object]", value) if isinstance(item, dict)] if isinstance(value, list) else []


def _raw(holder: dict[str, Any], key: str) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(holder[key], allow_nan=False).encode()) if key in holder else NOTHING


def _candidate(candidate: dict[str, Any]) -> Candidate:
    content = candidate.get("content")
    parts = [_part(p) for p in _objects(cast("dict[str, Any]", content).get("parts"))] if isinstance(content, dict) else []
    return Candidate(Content(parts), _text(candidate.get("finishReason")), count(candidate.get("index")))


def _part(part: dict[str, Any]) -> Part:
    call = part.get("functionCall")
    return Part(_text(part.get("text")), part.get("thought") is True, _call(cast("dict[str, Any]", call)) if isinstance(call, dict) else None)


def _call(call: dict[str, Any]) -> FunctionCall:
    go_on = call.get("willContinue")
    return FunctionCall(
        _text(call.get("name")), _text(call.get("id")), _raw(call, "args"), _raw(call, "partialArgs"), go_on if isinstance(go_on, bool) else None
    )


def _usage(usage: dict[str, Any]) -> UsageMetadata:
    return UsageMetadata(
        count(usage.get("promptTokenCount")),
        count(usage.get("candidatesTokenCount")),
        count(usage.get("cachedContentTokenCount")),
        count(usage.get("thoughtsTokenCount")),
        count(usage.get("toolUsePromptTokenCount")),
        _details(usage.get("promptTokensDetails")),
        _details(usage.get("candidatesTokensDetails")),
        _details(usage.get("cacheTokensDetails")),
    )


def _details(value: object) -> list[ModalityCount] | None:
    if not isinstance(value, list):
        return None
    return [ModalityCount(_text(item.get("modality")), count(item.get("tokenCount"))) for item in _objects(cast("list[object]", value))]
