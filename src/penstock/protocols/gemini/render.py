"""Neutral events as Gemini's stream, and our errors in Gemini's shape.

Source: ai.google.dev/api/generate-content for frames; google/rpc/status.proto and error_details.proto, as JSON, for errors:
`{"error": {"code": HTTP status, "message": ..., "status": name of a google.rpc.Code, "details": [...]}}`. In a stream the same object is
a frame; google-genai raises on it when `error` is its first key, `ClientError` or `ServerError` by its code.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, assert_never, cast

from penstock.protocols.contract import BodyError, Observer, Renderer
from penstock.protocols.gemini.arguments import LIMIT
from penstock.protocols.gemini.body import dump, frame
from penstock.protocols.gemini.words import CODES, FINISH_WORDS, STATUS_BY_HTTP, STATUSES, STOPS
from penstock.protocols.statuses import message_of, status_of
from penstock.vocabulary.errors import Fault, FaultKind, UpstreamError
from penstock.vocabulary.events import Ended, Event, Failed, ReasoningDelta, Started, Stopped, TextDelta, ToolDelta, ToolEnded, ToolStarted, UsageSeen
from penstock.vocabulary.usage import NO_KINDS, Usage

_REQUEST_INFO = "type.googleapis.com/google.rpc.RequestInfo"
KEEPALIVE = b"\r\n\r\n"
"""Two empty lines, with the line ends that Google writes. No comment: its Python client takes every line but `data:` for JSON. And not one empty
line: its Go client cuts at two line ends of a kind and then wants `data` as the very first word; it skips a piece that is empty."""


class GeminiRenderer(Renderer):
    """One answer's frames.

    A function call leaves whole, when it has ended: the Gemini API has no other way, so its arguments wait here (`arguments.LIMIT`
    characters at most). Stop reasons and usage leave together in the last frame, at `Ended`. Raises `BodyError` where the arguments
    are no JSON object: there is no way to say them, and to leave them out would change what was called.
    """

    __slots__ = ("_calls", "_ended", "_ids", "_stops", "_usage")

    def __init__(self) -> None:
        self._ids: dict[str, Any] = {}
        self._calls: dict[tuple[int, int], _Call] = {}
        self._stops: dict[int, str | None] = {}  # of every choice that began
        self._usage: Usage | None = None
        self._ended = False

    def render(self, event: Event) -> bytes:
        if self._ended:
            return b""
        match event:
            case Started():
                if event.model is not None:
                    self._ids["modelVersion"] = event.model
                if event.response_id is not None:
                    self._ids["responseId"] = event.response_id
                return b""
            case TextDelta():
                return self._part({"text": event.text}, event.choice) if event.text else b""
            case ReasoningDelta():
                return self._part({"text": event.text, "thought": True}, event.choice) if event.text else b""
            case ToolStarted():
                self._stops.setdefault(event.choice, None)
                self._calls[event.choice, event.part] = _Call(event.call_id, event.name)
                return b""
            case ToolDelta():
                call = self._calls.get((event.choice, event.part))
                if call is not None:
                    call.add(event.arguments)
                return b""
            case ToolEnded():
                call = self._calls.pop((event.choice, event.part), None)
                return b"" if call is None else self._part({"functionCall": call.whole()}, event.choice)
            case UsageSeen():
                self._usage = event.usage
                return b""
            case Stopped():
                known = event.raw is not None and event.raw in STOPS
                self._stops[event.choice] = event.raw if known else FINISH_WORDS[event.reason]
                return b""
            case Failed():
                self._ended = True
                return frame(_told(event.error))
            case Ended():
                return self._last()
            case _:
                assert_never(event)

    def _part(self, part: dict[str, Any], choice: int) -> bytes:
        self._stops.setdefault(choice, None)
        return frame({"candidates": [{"content": {"parts": [part], "role": "model"}, "index": choice}], **self._ids})

    def _last(self) -> bytes:
        if self._calls:
            raise BodyError("the answer ended inside a function call")
        self._ended = True
        # A candidate without a finish reason would make this a truncated stream: OTHER is Google's word for a reason that is not known.
        candidates = [
            {"content": {"parts": [{"text": ""}], "role": "model"}, "finishReason": word or "OTHER", "index": choice}
            for choice, word in sorted((self._stops or {0: None}).items())
        ]
        usage = {} if self._usage is None else {"usageMetadata": usage_metadata(self._usage)}
        return frame({"candidates": candidates, **usage, **self._ids})


class _Call:
    __slots__ = ("_arguments", "_id", "_name", "_size")

    def __init__(self, call_id: str, name: str) -> None:
        self._id = call_id
        self._name = name
        self._arguments: list[str] = []
        self._size = 0

    def add(self, text: str) -> None:
        self._size += len(text)
        if self._size > LIMIT:
            raise BodyError("the arguments of a function call are too long")
        self._arguments.append(text)

    def whole(self) -> dict[str, Any]:
        text = "".join(self._arguments)
        try:
            arguments: object = json.loads(text) if text.strip() else {}
        except (ValueError, RecursionError):
            raise BodyError("the arguments of a function call are not JSON") from None
        if not isinstance(arguments, dict):
            raise BodyError("the arguments of a function call are not a JSON object")
        return {"id": self._id, "name": self._name, "args": cast("dict[str, Any]", arguments)}


def usage_metadata(usage: Usage) -> dict[str, Any]:
    """The figures as they are, unknown ones left out; the total where it can be known, since clients show it."""
    named = {
        "promptTokenCount": usage.input,
        "candidatesTokenCount": usage.output,
        "cachedContentTokenCount": usage.cache_read,
        "thoughtsTokenCount": usage.reasoning,
        "toolUsePromptTokenCount": usage.tool_use,
    }
    told: dict[str, Any] = {key: value for key, value in named.items() if value is not None}
    if usage.input is not None and usage.output is not None:
        told["totalTokenCount"] = usage.input + usage.output + (usage.reasoning or 0) + (usage.tool_use or 0)
    kinds = usage.kinds or NO_KINDS
    details = {
        "promptTokensDetails": {"AUDIO": usage.audio_input, "IMAGE": kinds.image_input, "VIDEO": kinds.video_input},
        "candidatesTokensDetails": {"AUDIO": usage.audio_output, "IMAGE": kinds.image_output, "VIDEO": kinds.video_output},
        "cacheTokensDetails": {"AUDIO": kinds.cache_read_audio, "IMAGE": kinds.cache_read_image, "VIDEO": kinds.cache_read_video},
    }
    for key, counts in details.items():
        known = [{"modality": kind, "tokenCount": count} for kind, count in counts.items() if count is not None]
        if known:
            told[key] = known
    return told


def error_body(fault: Fault, request_id: str) -> bytes:
    """The body of an error before the first byte."""
    return dump(_error(fault, request_id))


def error_frame(fault: Fault, request_id: str, observer: Observer) -> bytes:
    """The frame that ends an event stream badly; nothing need come before it."""
    del observer
    return frame(_error(fault, request_id))


def error_element(fault: Fault, request_id: str) -> bytes:
    """The same as an element of the array form; comma and brackets are the caller's, who knows what has left."""
    return error_body(fault, request_id)


def error_of(error: UpstreamError, request_id: str) -> tuple[int, bytes]:
    """The same object with the provider's own words, and what it said besides; its `code` is the status."""
    status = status_of(error)
    members: dict[str, Any] = json.loads(error.members) if error.members else {}
    given = members.get("details")
    details: list[Any] = cast("list[Any]", given) if isinstance(given, list) else []
    if error.code is not None and not details:
        details.append({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": error.code})
    if request_id and not any(isinstance(detail, dict) and cast("dict[str, Any]", detail).get("@type") == _REQUEST_INFO for detail in details):
        details.append({"@type": _REQUEST_INFO, "requestId": request_id})
    word = error.type or STATUS_BY_HTTP.get(status, "INTERNAL" if status >= 500 else "INVALID_ARGUMENT")
    return status, dump({"error": {**members, **_shape(status, message_of(error, status), word, details)["error"]}})


def _error(fault: Fault, request_id: str) -> dict[str, Any]:
    details: list[dict[str, str]] = []
    if fault.code is not None:
        details.append({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": fault.code})
    if request_id:
        details.append({"@type": _REQUEST_INFO, "requestId": request_id})
    own = STATUS_BY_HTTP.get(fault.status) if fault.kind is FaultKind.CUT else None
    word = fault.type if fault.type is not None and fault.type in CODES else own or STATUSES[fault.kind]
    return _shape(fault.status, fault.message, word, details)


def _told(error: UpstreamError) -> dict[str, Any]:
    status = error.status if error.status is not None else 500
    other = "INTERNAL" if status >= 500 else "INVALID_ARGUMENT"
    word = error.type if error.type is not None and error.type in CODES else STATUS_BY_HTTP.get(status, other)
    return _shape(status, error.message or "The provider told an error without a message.", word, [])


def _shape(status: int, message: str, word: str, details: Sequence[Any]) -> dict[str, Any]:
    # google-genai knows errors from 400 to 599.
    error: dict[str, Any] = {"code": status if 400 <= status <= 599 else 500, "message": message, "status": word}
    if details:
        error["details"] = list(details)
    return {"error": error}
