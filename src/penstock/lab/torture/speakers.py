"""What a well-behaved provider says, frame by frame, in each form: the raw material that faults are made of.

A speaker tells one answer and keeps its counters right (sequence numbers, block indexes, the commas of an array). Every method returns
whole frames, in the order in which they must be sent.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import msgspec

MODEL = "torture"
ERROR_TYPE: dict[int, str] = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}
_GOOGLE = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}
_TOLD_AGAIN = 100_000
"""Responses tells a text four more times when it ends; of a very long one only as much."""
Frames = list[bytes]


class Speaker(ABC):
    """One answer."""

    trouble = 503
    """The status of this provider's error in band."""

    @abstractmethod
    def opening(self) -> Frames:
        """What comes before any content."""

    @abstractmethod
    def text(self, piece: str) -> Frames:
        """A piece of text, with what must stand before the first."""

    @abstractmethod
    def call(self, number: int) -> Frames:
        """Tool call `number` (from 0) begins."""

    @abstractmethod
    def arguments(self, number: int, piece: str) -> Frames:
        """More of its arguments. All pieces together should be one JSON object of one string."""

    @abstractmethod
    def ping(self) -> Frames:
        """A frame without content, as this provider sends them while it thinks."""

    @abstractmethod
    def finish(self, *, reason: bool = True) -> Frames:
        """The end of the content, its reason (unless told to leave that out), the usage."""

    @abstractmethod
    def terminal(self) -> Frames:
        """The terminal event; nothing where the protocol has none."""

    @abstractmethod
    def event(self, value: dict[str, Any]) -> bytes:
        """`value` as a frame of this form, whatever it says."""

    def unknown(self) -> Frames:
        """A frame of a type that nobody knows."""
        return [self.event({"type": "torture.unknown", "weather": "fine"})]

    def error(self, message: str) -> Frames:
        """The provider's error in band, and what must stand behind it."""
        return [self.event(error_value(type(self), self.trouble, message))]


class Chat(Speaker):
    """https://platform.openai.com/docs/api-reference/chat-streaming"""

    def event(self, value: dict[str, Any]) -> bytes:
        return b"data: " + msgspec.json.encode(value) + b"\n\n"

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return self.event(self._told([choice], None))

    def _told(self, choices: list[dict[str, Any]], usage: dict[str, int] | None) -> dict[str, Any]:
        head = {"id": "chatcmpl-torture", "object": "chat.completion.chunk", "created": 1700000000, "model": MODEL}
        return {**head, "choices": choices, "usage": usage}

    def opening(self) -> Frames:
        return [self._chunk({"role": "assistant", "content": ""})]

    def text(self, piece: str) -> Frames:
        return [self._chunk({"content": piece})]

    def call(self, number: int) -> Frames:
        function = {"name": "look_up", "arguments": ""}
        return [self._chunk({"tool_calls": [{"index": number, "id": f"call_{number}", "type": "function", "function": function}]})]

    def arguments(self, number: int, piece: str) -> Frames:
        return [self._chunk({"tool_calls": [{"index": number, "function": {"arguments": piece}}]})]

    def ping(self) -> Frames:
        return [b": ping\n\n"]

    def finish(self, *, reason: bool = True) -> Frames:
        usage = {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16}
        return [self._chunk({}, "stop" if reason else None), self.event(self._told([], usage))]

    def terminal(self) -> Frames:
        return [b"data: [DONE]\n\n"]


class Responses(Speaker):
    """https://platform.openai.com/docs/api-reference/responses-streaming"""

    def __init__(self) -> None:
        self._number = -1
        self._items: list[dict[str, Any]] = []
        self._text: str | None = None

    def event(self, value: dict[str, Any]) -> bytes:
        self._number += 1
        value = {"type": value["type"], "sequence_number": self._number, **value}
        return f"event: {value['type']}\ndata: ".encode() + msgspec.json.encode(value) + b"\n\n"

    def _response(self, status: str, **more: Any) -> dict[str, Any]:
        response: dict[str, Any] = {
            "id": "resp_torture", "object": "response", "created_at": 1700000000, "status": status, "model": MODEL, "error": None,
            "incomplete_details": None, "instructions": None, "metadata": {}, "output": [], "parallel_tool_calls": True, "temperature": 1.0,
            "tool_choice": "auto", "tools": [], "top_p": 1.0, "usage": None,
        }  # fmt: skip
        return response | more

    def opening(self) -> Frames:
        started = self._response("in_progress")
        return [self.event({"type": f"response.{what}", "response": started}) for what in ("created", "in_progress")]

    def text(self, piece: str) -> Frames:
        frames: Frames = []
        if self._text is None:
            self._text = ""
            item: dict[str, Any] = {"id": "msg_0", "type": "message", "status": "in_progress", "role": "assistant", "content": []}
            frames.append(self._added(item))
            frames.append(self.event({"type": "response.content_part.added", **self._place(), "part": self._part("")}))
        self._text += piece[: _TOLD_AGAIN - len(self._text)]
        return [*frames, self.event({"type": "response.output_text.delta", **self._place(), "delta": piece, "logprobs": []})]

    def call(self, number: int) -> Frames:
        item = {"id": f"fc_{number}", "type": "function_call", "status": "in_progress", "call_id": f"call_{number}"}
        return [self._added(item | {"name": "look_up", "arguments": ""})]

    def arguments(self, number: int, piece: str) -> Frames:
        index = next(i for i, item in enumerate(self._items) if item["id"] == f"fc_{number}")
        self._items[index]["arguments"] += piece
        return [self.event({"type": "response.function_call_arguments.delta", "item_id": f"fc_{number}", "output_index": index, "delta": piece})]

    def ping(self) -> Frames:
        return [self.event({"type": "keepalive"})]

    def finish(self, *, reason: bool = True) -> Frames:
        frames: Frames = []
        for index, item in enumerate(self._items):
            if item["type"] == "function_call":
                done = {"item_id": item["id"], "output_index": index, "arguments": item["arguments"]}
                frames.append(self.event({"type": "response.function_call_arguments.done", **done}))
            else:
                part = self._part(self._text or "")
                item["content"] = [part]
                frames.append(self.event({"type": "response.output_text.done", **self._place(), "text": self._text, "logprobs": []}))
                frames.append(self.event({"type": "response.content_part.done", **self._place(), "part": part}))
            item["status"] = "completed"
            frames.append(self.event({"type": "response.output_item.done", "output_index": index, "item": item}))
        return frames

    def terminal(self) -> Frames:
        usage = {
            "input_tokens": 7, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 9,
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 16,
        }  # fmt: skip
        return [self.event({"type": "response.completed", "response": self._response("completed", output=self._items, usage=usage)})]

    def failed(self, message: str) -> bytes:
        error = {"code": "server_error", "message": message}
        return self.event({"type": "response.failed", "response": self._response("failed", error=error)})

    def _added(self, item: dict[str, Any]) -> bytes:
        self._items.append(item)
        return self.event({"type": "response.output_item.added", "output_index": len(self._items) - 1, "item": item})

    def _place(self) -> dict[str, Any]:
        index = next(i for i, item in enumerate(self._items) if item["id"] == "msg_0")
        return {"item_id": "msg_0", "output_index": index, "content_index": 0}

    def _part(self, text: str) -> dict[str, Any]:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


class Messages(Speaker):
    """https://docs.anthropic.com/en/docs/build-with-claude/streaming"""

    trouble = 529

    def __init__(self) -> None:
        self._blocks: list[int] = []
        self._text = -1

    def event(self, value: dict[str, Any]) -> bytes:
        return f"event: {value['type']}\ndata: ".encode() + msgspec.json.encode(value) + b"\n\n"

    def opening(self) -> Frames:
        usage = {"input_tokens": 7, "output_tokens": 1}
        message: dict[str, Any] = {"id": "msg_torture", "type": "message", "role": "assistant", "model": MODEL, "content": [], "stop_reason": None,
                   "stop_sequence": None, "usage": usage}  # fmt: skip
        return [self.event({"type": "message_start", "message": message}), *self.ping()]

    def text(self, piece: str) -> Frames:
        frames: Frames = []
        if self._text < 0:
            self._text = len(self._blocks)
            frames.append(self._begin(-1, {"type": "text", "text": ""}))
        return [*frames, self._delta(self._text, {"type": "text_delta", "text": piece})]

    def call(self, number: int) -> Frames:
        return [self._begin(number, {"type": "tool_use", "id": f"toolu_{number}", "name": "look_up", "input": {}})]

    def arguments(self, number: int, piece: str) -> Frames:
        return [self._delta(self._blocks.index(number), {"type": "input_json_delta", "partial_json": piece})]

    def ping(self) -> Frames:
        return [self.event({"type": "ping"})]

    def finish(self, *, reason: bool = True) -> Frames:
        stops = [self.event({"type": "content_block_stop", "index": index}) for index in range(len(self._blocks))]
        delta = {"stop_reason": "end_turn" if reason else None, "stop_sequence": None}
        return [*stops, self.event({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 9}})]

    def terminal(self) -> Frames:
        return [self.event({"type": "message_stop"})]

    def _begin(self, number: int, block: dict[str, Any]) -> bytes:
        self._blocks.append(number)
        return self.event({"type": "content_block_start", "index": len(self._blocks) - 1, "content_block": block})

    def _delta(self, index: int, delta: dict[str, Any]) -> bytes:
        return self.event({"type": "content_block_delta", "index": index, "delta": delta})


class Gemini(Speaker):
    """https://ai.google.dev/api/generate-content; arguments in pieces: Vertex AI's `streamFunctionCallArguments`."""

    def event(self, value: dict[str, Any]) -> bytes:
        return b"data: " + msgspec.json.encode(value) + b"\r\n\r\n"

    def opening(self) -> Frames:
        return [self._told()]

    def text(self, piece: str) -> Frames:
        return [self._part({"text": piece})]

    def call(self, number: int) -> Frames:
        return [self._part({"functionCall": {"name": "look_up", "id": f"call_{number}", "willContinue": True}})]

    def arguments(self, number: int, piece: str) -> Frames:
        partial = {"jsonPath": "$.query", "stringValue": piece, "willContinue": True}
        return [self._part({"functionCall": {"partialArgs": [partial], "willContinue": True}})]

    def ping(self) -> Frames:
        return [self._told()]

    def finish(self, *, reason: bool = True) -> Frames:
        candidate: dict[str, Any] = {"content": {"parts": [{"text": ""}], "role": "model"}, "index": 0}
        return [self._told(candidates=[candidate | ({"finishReason": "STOP"} if reason else {})])]

    def terminal(self) -> Frames:
        return []

    def _part(self, part: dict[str, Any]) -> bytes:
        return self._told(candidates=[{"content": {"parts": [part], "role": "model"}, "index": 0}])

    def _told(self, **more: Any) -> bytes:
        usage = {"promptTokenCount": 7, "candidatesTokenCount": 9, "totalTokenCount": 16}
        return self.event({**more, "usageMetadata": usage, "modelVersion": MODEL, "responseId": "torture"})


class GeminiArray(Gemini):
    """The same without `alt=sse`: the elements of one JSON array."""

    def __init__(self) -> None:
        self._begun = False

    def event(self, value: dict[str, Any]) -> bytes:
        before, self._begun = b",\r\n" if self._begun else b"[", True
        return before + msgspec.json.encode(value)

    def error(self, message: str) -> Frames:
        return [*super().error(message), *self.terminal()]

    def terminal(self) -> Frames:
        return [b"\n]\n"]


def error_value(speaker: type[Speaker], status: int, message: str) -> dict[str, Any]:
    """A provider's error as it stands in its bodies; in band it is the same but for Responses, whose `error` event is flat."""
    kind = ERROR_TYPE.get(status, "api_error" if speaker is Messages else "server_error")
    if issubclass(speaker, Gemini):
        return {"error": {"code": status, "message": message, "status": _GOOGLE.get(status, "INTERNAL")}}
    if speaker is Messages:
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_torture"}
    if speaker is Responses:
        return {"type": "error", "code": kind, "message": message, "param": None}
    return {"error": {"message": message, "type": kind, "param": "torture_param", "code": "torture_code"}}


def error_body(speaker: type[Speaker], status: int, message: str) -> bytes:
    """The body of an answer with a status of 400 or above."""
    return msgspec.json.encode(error_value(Chat if speaker is Responses else speaker, status, message))
