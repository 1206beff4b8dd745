"""One answer in every protocol, frame by frame: what a model says, and what only keeps the line alive."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from penstock.pipeline.stream import StreamRelay
from penstock.pipeline.tail import TailBytes
from penstock.protocols import REGISTRY
from penstock.vocabulary.ids import ProtocolId
from penstock.wire.budget import Budget
from penstock.wire.sse import Scanner
from tests.support.relays import OPERATIONS


def sse(data: Any, name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


@dataclass(frozen=True)
class Dialect:
    """Frames of one protocol. Calls are numbered from 0, and any number may be open side by side."""

    protocol: ProtocolId

    def head(self) -> bytes:
        match self.protocol:
            case ProtocolId.OPENAI_CHAT:
                return self._chat(0, {"role": "assistant", "content": ""})
            case ProtocolId.OPENAI_RESPONSES:
                return self._event("response.created", response={"id": "resp_1", "model": "m", "status": "in_progress"})
            case ProtocolId.ANTHROPIC_MESSAGES:
                return self._event("message_start", message={"id": "msg_1", "model": "m", "usage": {"input_tokens": 3}})
            case ProtocolId.GEMINI:
                return sse({"responseId": "r", "modelVersion": "m", "usageMetadata": {"promptTokenCount": 3}})

    def text(self, text: str = "x") -> bytes:
        match self.protocol:
            case ProtocolId.OPENAI_CHAT:
                return self._chat(0, {"content": text})
            case ProtocolId.OPENAI_RESPONSES:
                return self._event("response.output_text.delta", item_id="msg", output_index=90, content_index=0, delta=text)
            case ProtocolId.ANTHROPIC_MESSAGES:
                return self._event("content_block_delta", index=90, delta={"type": "text_delta", "text": text})
            case ProtocolId.GEMINI:
                return self._part(0, {"text": text})

    def pings(self) -> list[bytes]:
        """What says nothing: comments, empty lines, the protocol's own pings, events that nobody knows, empty deltas."""
        own: dict[ProtocolId, list[bytes]] = {
            ProtocolId.OPENAI_CHAT: [self._chat(0, {"content": ""}), self._chat(0, {}), sse({"object": "x"})],
            ProtocolId.OPENAI_RESPONSES: [self._event("keepalive"), self._event("response.in_progress", response={}), self._event("response.new")],
            ProtocolId.ANTHROPIC_MESSAGES: [self._event("ping"), self._event("new"), self.text("")],
            ProtocolId.GEMINI: [sse({"usageMetadata": {"promptTokenCount": 3}}), self.text("")],
        }
        return [b": ping\n\n", b"\n", b": x\n", *own[self.protocol]]

    def error(self) -> bytes:
        match self.protocol:
            case ProtocolId.OPENAI_RESPONSES:
                return sse({"type": "error", "code": "server_error", "message": "no", "param": None}, "error")
            case ProtocolId.ANTHROPIC_MESSAGES:
                return sse({"type": "error", "error": {"type": "api_error", "message": "no"}}, "error")
            case ProtocolId.GEMINI:
                return sse({"error": {"code": 500, "message": "no", "status": "INTERNAL"}})
            case _:
                return sse({"error": {"message": "no", "type": "server_error", "param": None, "code": None}})

    def open(self, call: int) -> bytes:
        """The announcement of a call; its arguments have not begun."""
        name = f"f{call}"
        match self.protocol:
            case ProtocolId.OPENAI_CHAT:
                entry = {"index": 0, "id": f"c{call}", "type": "function", "function": {"name": name, "arguments": ""}}
                return self._chat(call, {"tool_calls": [entry]})
            case ProtocolId.OPENAI_RESPONSES:
                item = {"type": "function_call", "id": f"i{call}", "call_id": f"c{call}", "name": name, "arguments": "", "status": "in_progress"}
                return self._event("response.output_item.added", output_index=call, item=item)
            case ProtocolId.ANTHROPIC_MESSAGES:
                block: dict[str, Any] = {"type": "tool_use", "id": f"c{call}", "name": name, "input": {}}
                return self._event("content_block_start", index=call, content_block=block)
            case ProtocolId.GEMINI:
                return self._part(call, {"functionCall": {"name": name, "willContinue": True}})

    def arguments(self, call: int, piece: str = '{"a": ') -> bytes:
        match self.protocol:
            case ProtocolId.OPENAI_CHAT:
                return self._chat(call, {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
            case ProtocolId.OPENAI_RESPONSES:
                return self._event("response.function_call_arguments.delta", item_id=f"i{call}", output_index=call, delta=piece)
            case ProtocolId.ANTHROPIC_MESSAGES:
                return self._event("content_block_delta", index=call, delta={"type": "input_json_delta", "partial_json": piece})
            case ProtocolId.GEMINI:
                pieces = [{"jsonPath": "$.a", "stringValue": piece, "willContinue": True}] if piece else []
                return self._part(call, {"functionCall": {"partialArgs": pieces, "willContinue": True}})

    def close(self, call: int) -> bytes:
        """The end of a call, the last of its arguments not among it."""
        match self.protocol:
            case ProtocolId.OPENAI_CHAT:
                return self._chat(call, {}, "tool_calls")
            case ProtocolId.OPENAI_RESPONSES:
                return self._event("response.function_call_arguments.done", item_id=f"i{call}", output_index=call, arguments="{}")
            case ProtocolId.ANTHROPIC_MESSAGES:
                return self._event("content_block_stop", index=call)
            case ProtocolId.GEMINI:
                return self._part(call, {"functionCall": {}})

    def terminal(self) -> bytes | None:
        """`None`: this protocol has none."""
        match self.protocol:
            case ProtocolId.OPENAI_CHAT:
                return b"data: [DONE]\n\n"
            case ProtocolId.OPENAI_RESPONSES:
                return self._event("response.completed", response={"id": "resp_1", "status": "completed"})
            case ProtocolId.ANTHROPIC_MESSAGES:
                return self._event("message_stop")
            case ProtocolId.GEMINI:
                return None

    @staticmethod
    def _chat(choice: int, delta: dict[str, Any], finish: str | None = None) -> bytes:
        return sse({"id": "c", "model": "m", "choices": [{"index": choice, "delta": delta, "finish_reason": finish}]})

    @staticmethod
    def _event(name: str, **fields: Any) -> bytes:
        return sse({"type": name, **fields}, name)

    @staticmethod
    def _part(candidate: int, part: dict[str, Any]) -> bytes:
        return sse({"candidates": [{"index": candidate, "content": {"role": "model", "parts": [part]}}]})


DIALECTS = tuple(Dialect(protocol) for protocol in REGISTRY)


def stream(
    protocol: ProtocolId, now: float = 0.0, *, limit: int = 1 << 20, promised: bool = True, closing: bytes = b"", kept: TailBytes | None = None
) -> StreamRelay:
    """A stream of server-sent events, as `compose` makes one."""
    spec = REGISTRY[protocol]
    observer = spec.observer(OPERATIONS[protocol])
    scanner = Scanner(limit, Budget(1 << 28))
    return StreamRelay(scanner, observer, spec.error_frame, now, promised=promised, still=spec.keepalive, closing=closing, kept=kept)
