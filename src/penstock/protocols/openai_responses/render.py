"""Neutral events told in this dialect, and errors in both shapes: a body before the first byte, frames after it.

A stream in this dialect says everything twice, in deltas and at its end, so a renderer holds the text that it has told. Alternative answers
(`choice` other than 0) have no place here and are left out.
"""

from __future__ import annotations

import re
from typing import Any, assert_never

from penstock.protocols.contract import Observer, Renderer
from penstock.protocols.openai_responses.frames import encode
from penstock.protocols.openai_responses.observe import ResponsesObserver
from penstock.protocols.openai_responses.words import CODES, FAILURE_CODES, INCOMPLETE_REASONS, STATUS_TYPES, error_type
from penstock.protocols.statuses import message_of, status_of
from penstock.vocabulary.errors import Fault, UpstreamError
from penstock.vocabulary.events import (
    Ended,
    Event,
    Failed,
    ReasoningDelta,
    Started,
    Stopped,
    StopReason,
    TextDelta,
    ToolDelta,
    ToolEnded,
    ToolStarted,
    UsageSeen,
)
from penstock.vocabulary.usage import Usage

KEEPALIVE = b": keep-alive\n"
"""A comment, without an empty line behind it: the official Python client dispatches an event without data, which it cannot read as JSON, at an
empty line once the stream has had an `id:` field. OpenAI's own `keepalive` event would need a sequence number."""
_NUMBER_LIMIT = 2**53


def error_body(fault: Fault, request_id: str) -> bytes:
    """`{"error": {...}}` as OpenAI's endpoints answer, with our request id as one more member."""
    return encode({
        "error": {
            "message": fault.message,
            "type": error_type(fault),
            "param": fault.param,
            "code": fault.code or CODES.get(fault.kind),
            "request_id": request_id,
        }
    })


def error_frame(fault: Fault, request_id: str, observer: Observer) -> bytes:
    """`response.failed`, after a `response.created` where the client has seen no beginning. Numbers go on where the stream stopped."""
    number, begun, created, model = 0, False, None, observer.model
    if isinstance(observer, ResponsesObserver):
        begun, created = observer.created_seen, observer.created_at or observer.assumed[1]
        model = model or observer.assumed[0]
        if -1 <= observer.sequence_number < _NUMBER_LIMIT:
            number = observer.sequence_number + 1
    base = _response(observer.response_id or f"resp_{request_id}", model, created)
    error = {
        "code": fault.code or FAILURE_CODES.get(fault.kind, "server_error"),
        "message": fault.message,
        "type": error_type(fault),
        "param": fault.param,
        "request_id": request_id,
    }
    failed = _frame("response.failed", number + (not begun), response={**base, "status": "failed", "error": error})
    return failed if begun else _frame("response.created", number, response=base) + failed


def error_of(error: UpstreamError, request_id: str) -> tuple[int, bytes]:
    """The error object with the provider's own words; what it did not say is null, except the type, which the status gives."""
    status = status_of(error)
    said = {
        "message": message_of(error, status),
        "type": error.type or STATUS_TYPES.get(status) or ("server_error" if status >= 500 else "invalid_request_error"),
        "param": error.param,
        "code": error.code,
        "request_id": request_id,
    }
    return status, encode({"error": said})


def _response(response_id: str, model: str | None, created: int | None) -> dict[str, Any]:
    """A Response that has just begun, with every member that the official SDKs declare as required."""
    return {
        "id": response_id,
        "object": "response",
        "created_at": created or 0,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "model": model or "unknown",
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": None,
    }


def _frame(kind: str, number: int, **members: object) -> bytes:
    data = encode({"type": kind, "sequence_number": number, **members})
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


def usage_object(usage: Usage) -> dict[str, Any] | None:
    """`usage`, or `None` where nothing is known. Its members are required integers here, so what is unknown beside known ones is told as 0."""
    if usage.input is None and usage.output is None:
        return None
    inner: dict[str, int] = {"cached_tokens": usage.cache_read or 0}
    if usage.cache_write is not None:
        inner["cache_write_tokens"] = usage.cache_write
    return {
        "input_tokens": usage.input or 0,
        "input_tokens_details": inner,
        "output_tokens": usage.output or 0,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning or 0},
        "total_tokens": (usage.input or 0) + (usage.output or 0),
    }


class _Item:
    """An output item that is being told. `kind` is `message`, `reasoning` or `function_call`."""

    __slots__ = ("call_id", "index", "item_id", "kind", "name", "parts")

    def __init__(self, kind: str, item_id: str, index: int, call_id: str = "", name: str = "") -> None:
        self.kind = kind
        self.item_id = item_id
        self.index = index
        self.call_id = call_id
        self.name = name
        self.parts: list[str] = []

    def told(self, value: str, status: str) -> dict[str, Any]:
        """The item as the wire says it, holding `value`, or nothing yet where that is empty and it is in progress."""
        base: dict[str, Any] = {"id": self.item_id, "type": self.kind, "status": status}
        empty = status == "in_progress"
        match self.kind:
            case "message":
                return {**base, "role": "assistant", "content": [] if empty else [_output_text(value)]}
            case "reasoning":
                return {**base, "summary": [] if empty else [{"type": "summary_text", "text": value}]}
            case _:
                return {**base, "call_id": self.call_id, "name": self.name, "arguments": value}


def _output_text(value: str) -> dict[str, Any]:
    return {"type": "output_text", "text": value, "annotations": [], "logprobs": []}


class ResponsesRenderer(Renderer):
    """One output item for each part. A text or a thought ends when another part begins; function calls may run side by side."""

    __slots__ = ("_begun", "_call_ids", "_finished", "_open", "_output", "_reason", "_response", "_sequence", "_usage")

    def __init__(self) -> None:
        self._sequence = 0
        self._begun = False
        self._finished = False
        self._response = _response("resp_0", None, None)
        self._open: dict[int, _Item] = {}
        """Items that are being told, by neutral part."""
        self._output: list[dict[str, Any] | None] = []
        """Finished items by output index; `None` while they are open."""
        self._call_ids: set[str] = set()
        self._usage = Usage()
        self._reason: Stopped | None = None

    def render(self, event: Event) -> bytes:
        if self._finished:
            return b""
        match event:
            case Started():
                return self._start(event)
            case TextDelta() | ReasoningDelta():
                return self._text(event) if event.choice == 0 and event.text else b""
            case ToolStarted():
                return self._tool_started(event) if event.choice == 0 else b""
            case ToolDelta():
                return self._tool_delta(event) if event.choice == 0 and event.arguments else b""
            case ToolEnded():
                return self._finish_part(event.part) if event.choice == 0 else b""
            case UsageSeen():
                self._usage = event.usage
                return b""
            case Stopped():
                if event.choice == 0:
                    self._reason = event
                return b""
            case Failed():
                return self._fail(event.error)
            case Ended():
                return self._end()
            case _:
                assert_never(event)

    def _frame(self, kind: str, **members: object) -> bytes:
        self._sequence += 1
        return _frame(kind, self._sequence - 1, **members)

    def _of_item(self, item: _Item, kind: str, **members: object) -> bytes:
        return self._frame(kind, item_id=item.item_id, output_index=item.index, **members)

    def _start(self, event: Started) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        own = re.sub(r"[^A-Za-z0-9_-]", "", event.response_id or "") or "0"
        self._response = _response(own if own.startswith("resp_") else f"resp_{own}", event.model, event.created)
        return self._frame("response.created", response=self._response) + self._frame("response.in_progress", response=self._response)

    def _begin(self, part: int, kind: str, prefix: str, call_id: str = "", name: str = "") -> tuple[_Item, bytes]:
        """Open an item for `part`; texts and thoughts that are open end before it."""
        frames = [b"" if self._begun else self._start(Started(None, None))]
        frames += [self._finish_part(other) for other, item in list(self._open.items()) if item.kind != "function_call" or other == part]
        index = len(self._output)
        item = self._open[part] = _Item(kind, f"{prefix}_{self._response['id'].removeprefix('resp_')}_{index}", index, call_id, name)
        self._output.append(None)
        frames.append(self._frame("response.output_item.added", output_index=item.index, item=item.told("", "in_progress")))
        if kind == "message":
            frames.append(self._of_item(item, "response.content_part.added", content_index=0, part=_output_text("")))
        elif kind == "reasoning":
            frames.append(self._of_item(item, "response.reasoning_summary_part.added", summary_index=0, part={"type": "summary_text", "text": ""}))
        return item, b"".join(frames)

    def _text(self, event: TextDelta | ReasoningDelta) -> bytes:
        thought = isinstance(event, ReasoningDelta)
        kind = "reasoning" if thought else "message"
        item, opening = self._open.get(event.part), b""
        if item is None or item.kind != kind:
            item, opening = self._begin(event.part, kind, "rs" if thought else "msg")
        item.parts.append(event.text)
        if thought:
            return opening + self._of_item(item, "response.reasoning_summary_text.delta", summary_index=0, delta=event.text)
        return opening + self._of_item(item, "response.output_text.delta", content_index=0, delta=event.text, logprobs=[])

    def _tool_started(self, event: ToolStarted) -> bytes:
        call_id = event.call_id
        if not call_id or call_id in self._call_ids:
            # Clients tell calls apart by this id, and the official SDK refuses a stream that repeats one.
            call_id = f"call_{len(self._output)}_{call_id}"
        self._call_ids.add(call_id)
        return self._begin(event.part, "function_call", "fc", call_id, event.name)[1]

    def _tool_delta(self, event: ToolDelta) -> bytes:
        item = self._open.get(event.part)
        if item is None or item.kind != "function_call":
            return b""
        item.parts.append(event.arguments)
        return self._of_item(item, "response.function_call_arguments.delta", delta=event.arguments)

    def _finish_part(self, part: int, status: str = "completed") -> bytes:
        item = self._open.pop(part, None)
        if item is None:
            return b""
        value = "".join(item.parts)
        frames: list[bytes] = []
        match item.kind:
            case "message":
                frames.append(self._of_item(item, "response.output_text.done", content_index=0, text=value, logprobs=[]))
                frames.append(self._of_item(item, "response.content_part.done", content_index=0, part=_output_text(value)))
            case "reasoning":
                frames.append(self._of_item(item, "response.reasoning_summary_text.done", summary_index=0, text=value))
                part_told = {"type": "summary_text", "text": value}
                frames.append(self._of_item(item, "response.reasoning_summary_part.done", summary_index=0, part=part_told))
            case _:
                frames.append(self._of_item(item, "response.function_call_arguments.done", arguments=value, name=item.name))
        told = self._output[item.index] = item.told(value, status)
        frames.append(self._frame("response.output_item.done", output_index=item.index, item=told))
        return b"".join(frames)

    def _fail(self, error: UpstreamError) -> bytes:
        opening = b"" if self._begun else self._start(Started(None, None))
        told = {
            "code": error.code or "server_error",
            "message": error.message or "The provider reported an error.",
            "type": error.type,
            "param": error.param,
        }
        self._finished = True
        return opening + self._frame("response.failed", response=self._whole("failed", error=told))

    def _end(self) -> bytes:
        opening = b"" if self._begun else self._start(Started(None, None))
        stopped = self._reason or Stopped(StopReason.STOP)
        reason = INCOMPLETE_REASONS.get(stopped.reason)
        if stopped.reason is StopReason.OTHER:
            # Not a word of success: a client must not take it for one.
            reason = stopped.raw or "other"
        status = "completed" if reason is None else "incomplete"
        closing = b"".join([self._finish_part(part, status) for part in list(self._open)])
        self._finished = True
        details = None if reason is None else {"reason": reason}
        return opening + closing + self._frame(f"response.{status}", response=self._whole(status, incomplete_details=details))

    def _whole(self, status: str, **members: object) -> dict[str, Any]:
        output = [item for item in self._output if item is not None]
        return {**self._response, "status": status, "output": output, "usage": usage_object(self._usage), **members}
