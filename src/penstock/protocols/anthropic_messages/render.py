"""Speaking this dialect: neutral events as a Messages stream, and errors before and after the first byte.

Blocks follow the parts: a text or a thought is closed when anything else begins, a call when it ends. Calls may overlap where another
dialect interleaves them (deltas name their block by index, and Anthropic's SDKs go by it). `message_delta` waits for the end, because
other dialects tell the usage behind the stop reason.

What this dialect has no word for is left out: alternative answers (`choice` above 0), the stop sequence that was met, audio tokens,
Gemini's `tool_use` tokens, and `tool_requests` (here they are told by tool). Counts that it requires and nobody stated are 0.
"""

from __future__ import annotations

from typing import Final, assert_never

from penstock.protocols.anthropic_messages.raw import frame, write
from penstock.protocols.anthropic_messages.words import STOP_REASONS, STOP_WORDS, error_type, status_type
from penstock.protocols.contract import Observer, Renderer
from penstock.protocols.statuses import message_of, status_of
from penstock.vocabulary.errors import Fault, UpstreamError
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
from penstock.vocabulary.usage import EMPTY_USAGE, Usage

UNNAMED: Final = "msg_unnamed"
"""The id of a message whose provider gave none; the dialect needs one."""


PING: Final = b'event: ping\ndata: {"type": "ping"}\n\n'
"""The protocol's own keep-alive ("event streams may also include any number of ping events"), spelled as Anthropic does."""


class MessagesRenderer(Renderer):
    """One answer as a Messages stream. Each neutral event becomes its frames at once; nothing is held but the last word on usage."""

    __slots__ = ("_calls", "_flowing", "_next", "_over", "_started", "_stop", "_usage")

    def __init__(self) -> None:
        self._started = False
        self._over = False
        self._next = 0
        self._flowing: tuple[str, int, int] | None = None
        """The open text or thought: its kind, its part, its block."""
        self._calls: dict[int, int] = {}
        """Open calls: part to block."""
        self._stop: str | None = None
        self._usage: Usage = EMPTY_USAGE

    def render(self, event: Event) -> bytes:
        if self._over:
            return b""
        match event:
            case Started():
                return self._start(event)
            case TextDelta():
                return self._flow("text", event) if event.choice == 0 else b""
            case ReasoningDelta():
                return self._flow("thinking", event) if event.choice == 0 else b""
            case ToolStarted():
                return self._open_call(event) if event.choice == 0 else b""
            case ToolDelta():
                block = self._calls.get(event.part) if event.choice == 0 else None
                return b"" if block is None else _delta(block, {"type": "input_json_delta", "partial_json": event.arguments})
            case ToolEnded():
                block = self._calls.pop(event.part, None) if event.choice == 0 else None
                return b"" if block is None else _stop(block)
            case UsageSeen():
                self._usage = event.usage
                return b""
            case Stopped():
                if event.choice == 0:
                    self._stop = event.raw if event.raw in STOP_REASONS else STOP_WORDS.get(event.reason, event.raw)
                return b""
            case Failed():
                self._over = True
                return _error(event.error)
            case Ended():
                return self._end()
            case _:
                assert_never(event)

    def _start(self, event: Started | None) -> bytes:
        if self._started:
            return b""
        self._started = True
        message: dict[str, object] = {
            "id": (event and event.response_id) or UNNAMED,
            "type": "message",
            "role": "assistant",
            "model": (event and event.model) or "unknown",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "output_tokens": 0} | stated(self._usage),
        }
        return frame("message_start", {"type": "message_start", "message": message})

    def _flow(self, kind: str, event: TextDelta | ReasoningDelta) -> bytes:
        before = b""
        if self._flowing is None or self._flowing[:2] != (kind, event.part):
            before = self._start(None) + self._stop_flow()
            self._flowing = (kind, event.part, self._next)
            block = {"type": "text", "text": ""} if kind == "text" else {"type": "thinking", "thinking": "", "signature": ""}
            before += self._open(block)
        return before + _delta(self._flowing[2], {"type": f"{kind}_delta", kind: event.text})

    def _open_call(self, event: ToolStarted) -> bytes:
        before = self._start(None) + self._stop_flow()
        if event.part in self._calls:
            before += _stop(self._calls[event.part])
        self._calls[event.part] = self._next
        return before + self._open({"type": "tool_use", "id": event.call_id, "name": event.name, "input": {}})

    def _open(self, block: dict[str, object] | dict[str, str]) -> bytes:
        index, self._next = self._next, self._next + 1
        return frame("content_block_start", {"type": "content_block_start", "index": index, "content_block": block})

    def _stop_flow(self) -> bytes:
        if self._flowing is None:
            return b""
        index, self._flowing = self._flowing[2], None
        return _stop(index)

    def _end(self) -> bytes:
        frames = [self._start(None), self._stop_flow(), *(_stop(block) for block in self._calls.values())]
        self._over = True
        delta = {"stop_reason": self._stop, "stop_sequence": None}
        frames.append(frame("message_delta", {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 0} | stated(self._usage)}))
        frames.append(frame("message_stop", {"type": "message_stop"}))
        return b"".join(frames)


def stated(usage: Usage) -> dict[str, object]:
    """The known figures of `usage` under this dialect's names."""
    found: dict[str, object] = {
        "input_tokens": usage.input,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cache_read,
        "output_tokens": usage.output,
    }
    lifetimes = {"ephemeral_5m_input_tokens": usage.cache_write_5m, "ephemeral_1h_input_tokens": usage.cache_write_1h}
    known = {key: value for key, value in lifetimes.items() if value is not None}
    found["cache_creation"] = known or None
    found["output_tokens_details"] = None if usage.reasoning is None else {"thinking_tokens": usage.reasoning}
    return {key: value for key, value in found.items() if value is not None}


def error_body(fault: Fault, request_id: str) -> bytes:
    """`{"type":"error","error":{"type","message"},"request_id"}`: the body of an answer with a status of 400 or above."""
    return write(_error_object(fault, request_id))


def error_frame(fault: Fault, request_id: str, observer: Observer) -> bytes:
    """`event: error`. Nothing must precede it, wherever the stream stands: SDKs raise as soon as they read it."""
    return frame("error", _error_object(fault, request_id))


def error_of(error: UpstreamError, request_id: str) -> tuple[int, bytes]:
    """The same object with the provider's own words; the type, which the dialect requires, by the status where it gave none."""
    status = status_of(error)
    told = {"type": error.type or status_type(status), "message": message_of(error, status)}
    return status, write({"type": "error", "error": told, "request_id": request_id})


def _error_object(fault: Fault, request_id: str) -> dict[str, object]:
    kind = fault.type if fault.type is not None else error_type(fault.kind, fault.status)
    return {"type": "error", "error": {"type": kind, "message": fault.message}, "request_id": request_id}


def _error(error: UpstreamError) -> bytes:
    told = {"type": error.type or "api_error", "message": error.message or "The provider ended its answer with an error."}
    return frame("error", {"type": "error", "error": told})


def _delta(index: int, delta: dict[str, str]) -> bytes:
    return frame("content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta})


def _stop(index: int) -> bytes:
    return frame("content_block_stop", {"type": "content_block_stop", "index": index})
