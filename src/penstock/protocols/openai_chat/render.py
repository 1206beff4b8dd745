"""Neutral words in the dialect of Chat Completions and legacy Completions: chunks, and errors before and after the first byte.

Chunks: one id in all of them, the role once per choice, the finish reason once per choice, one usage chunk with empty `choices` right before
`[DONE]`. Thoughts go out as `reasoning_content` (DeepSeek's name, which most clients read; OpenAI has none). Completions has no word for thoughts
and tool calls: they are left out.
"""

from __future__ import annotations

from typing import Any, assert_never

from penstock.protocols.contract import Observer, Renderer
from penstock.protocols.openai_chat.chunk import decode_any, encode_any
from penstock.protocols.openai_chat.words import finish_reason_of
from penstock.protocols.statuses import message_of, status_of
from penstock.vocabulary.errors import Fault, FaultKind, UpstreamError
from penstock.vocabulary.events import (
    Ended,
    Event,
    Failed,
    ReasoningDelta,
    Started,
    Stopped,
    TextDelta,
    ToolDelta,
    ToolEnded,
    ToolStarted,
    UsageSeen,
)
from penstock.vocabulary.ids import Operation
from penstock.vocabulary.usage import NO_KINDS, Usage

DONE = b"data: [DONE]\n\n"
KEEPALIVE = b": keep-alive\n"
"""A comment, without an empty line behind it: the official Python client dispatches an event without data, which it cannot read as JSON, at an
empty line once the stream has had an `id:` field (also after a comment), and some decoders at any empty line."""

# OpenAI's type words: platform.openai.com/docs/guides/error-codes and the errors that its API gives.
_TYPES: dict[FaultKind, str] = {
    FaultKind.BAD_REQUEST: "invalid_request_error",
    FaultKind.UNAUTHENTICATED: "authentication_error",
    FaultKind.FORBIDDEN: "permission_error",
    FaultKind.NOT_FOUND: "invalid_request_error",
    FaultKind.METHOD_NOT_ALLOWED: "invalid_request_error",
    FaultKind.TIMEOUT_OF_CLIENT: "invalid_request_error",
    FaultKind.TOO_LARGE: "invalid_request_error",
    FaultKind.UNSUPPORTED_MEDIA: "invalid_request_error",
    FaultKind.RATE_LIMITED: "rate_limit_error",
    FaultKind.HEADERS_TOO_LARGE: "invalid_request_error",
    FaultKind.INTERNAL: "server_error",
    FaultKind.UPSTREAM_BROKEN: "server_error",
    FaultKind.UPSTREAM_TIMEOUT: "server_error",
    FaultKind.OVERLOADED: "server_error",
    FaultKind.CUT: "permission_error",
}
_STATUS_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES: dict[FaultKind, str] = {FaultKind.UNAUTHENTICATED: "invalid_api_key", FaultKind.RATE_LIMITED: "rate_limit_exceeded"}


def frame(value: Any) -> bytes:
    """One chunk as a frame."""
    return b"data: " + encode_any(value) + b"\n\n"


def error_body(fault: Fault, request_id: str) -> bytes:
    """OpenAI's error object; `request_id` is a member of it that OpenAI does not have, so that people can quote it."""
    return encode_any({
        "error": {
            "message": fault.message,
            "type": fault.type or (_type_of(fault.status) if fault.kind is FaultKind.CUT else _TYPES[fault.kind]),
            "param": fault.param,
            "code": fault.code or _CODES.get(fault.kind),
            "request_id": request_id,
        }
    })


def error_frame(fault: Fault, request_id: str, observer: Observer) -> bytes:
    """The error object in a frame, which the official clients raise. No `[DONE]` behind it: that would be a clean end."""
    return b"data: " + error_body(fault, request_id) + b"\n\n"


def error_of(error: UpstreamError, request_id: str) -> tuple[int, bytes]:
    """The error object with the provider's own words, and what it said besides; what it did not say is null, except the type, which the status
    gives. A code stays a number where it was one."""
    status = status_of(error)
    members: dict[str, Any] = decode_any(error.members) if error.members else {}
    said: dict[str, Any] = {
        **members,
        "message": message_of(error, status),
        "type": error.type or _type_of(status),
        "param": error.param,
        "code": error.code if members.get("code") is None else members["code"],
        "request_id": request_id,
    }
    return status, encode_any({"error": said})


def _type_of(status: int) -> str:
    return _STATUS_TYPES.get(status) or ("server_error" if status >= 500 else "invalid_request_error")


def usage_object(usage: Usage) -> dict[str, Any]:
    """Chat's `usage`: what is known, and a total only where both of its parts are."""
    value: dict[str, Any] = {}
    if usage.input is not None:
        value["prompt_tokens"] = usage.input
    if usage.output is not None:
        value["completion_tokens"] = usage.output
    if usage.input is not None and usage.output is not None:
        value["total_tokens"] = usage.input + usage.output
    kinds = usage.kinds or NO_KINDS
    read = {
        "cached_tokens": usage.cache_read, "cache_write_tokens": usage.cache_write, "audio_tokens": usage.audio_input,
        "image_tokens": kinds.image_input, "video_tokens": kinds.video_input,
    }  # fmt: skip
    made = {"reasoning_tokens": usage.reasoning, "audio_tokens": usage.audio_output, "image_tokens": kinds.image_output}
    for name, details in (("prompt_tokens_details", read), ("completion_tokens_details", made)):
        known = {key: number for key, number in details.items() if number is not None}
        if known:
            value[name] = known
    return value


class ChatRenderer(Renderer):
    """The renderer of both operations; one per answer."""

    def __init__(self, operation: Operation) -> None:
        self._legacy = operation is Operation.COMPLETIONS
        self._head: dict[str, Any] = {}
        self._roles: set[int] = set()
        self._stopped: set[int] = set()
        self._calls: dict[tuple[int, int], int] = {}
        """Chat's index of a call, by choice and part."""
        self._usage: Usage | None = None
        self._name(Started(None, None))

    def render(self, event: Event) -> bytes:
        match event:
            case Started():
                self._name(event)
                return b"" if self._legacy else self._open(0)
            case TextDelta():
                return self._text(event)
            case ReasoningDelta():
                return self._delta(event.choice, {"reasoning_content": event.text})
            case ToolStarted() | ToolDelta():
                return self._call(event)
            case ToolEnded():
                return b""
            case Stopped():
                return self._stop(event)
            case UsageSeen():
                self._usage = event.usage
                return b""
            case Failed():
                return frame({"error": _error_object(event.error)})
            case Ended():
                usage = b"" if self._usage is None else frame({**self._head, "choices": [], "usage": usage_object(self._usage)})
                return usage + DONE
            case _:
                assert_never(event)

    def _name(self, event: Started) -> None:
        self._head = {
            "id": event.response_id or ("cmpl-penstock" if self._legacy else "chatcmpl-penstock"),
            "object": "text_completion" if self._legacy else "chat.completion.chunk",
            "created": event.created or 0,
            "model": event.model or "",
        }

    def _chunk(self, choice: dict[str, Any]) -> bytes:
        return frame({**self._head, "choices": [choice]})

    def _open(self, choice: int) -> bytes:
        """The chunk with the role, before the first other one of a choice."""
        if choice in self._roles:
            return b""
        self._roles.add(choice)
        return self._chunk({"index": choice, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None})

    def _delta(self, choice: int, delta: dict[str, Any]) -> bytes:
        if self._legacy:
            return b""
        return self._open(choice) + self._chunk({"index": choice, "delta": delta, "logprobs": None, "finish_reason": None})

    def _text(self, event: TextDelta) -> bytes:
        if self._legacy:
            return self._chunk({"index": event.choice, "text": event.text, "logprobs": None, "finish_reason": None})
        return self._delta(event.choice, {"content": event.text})

    def _call(self, event: ToolStarted | ToolDelta) -> bytes:
        key = (event.choice, event.part)
        index = self._calls.setdefault(key, sum(choice == event.choice for choice, _ in self._calls))
        if isinstance(event, ToolStarted):
            entry = {"index": index, "id": event.call_id, "type": "function", "function": {"name": event.name, "arguments": ""}}
        else:
            entry = {"index": index, "function": {"arguments": event.arguments}}
        return self._delta(event.choice, {"tool_calls": [entry]})

    def _stop(self, event: Stopped) -> bytes:
        if event.choice in self._stopped:
            return b""
        self._stopped.add(event.choice)
        said: dict[str, Any] = {"text": ""} if self._legacy else {"delta": {}}
        opened = b"" if self._legacy else self._open(event.choice)
        return opened + self._chunk({"index": event.choice, **said, "logprobs": None, "finish_reason": finish_reason_of(event.reason, event.raw)})


def _error_object(error: UpstreamError) -> dict[str, Any]:
    said: dict[str, Any] = {"message": error.message or "", "type": error.type or "server_error", "param": error.param, "code": error.code}
    if error.status is not None:
        said["status_code"] = error.status  # Groq's field; OpenAI has none in band
    return said
