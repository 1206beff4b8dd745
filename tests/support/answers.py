"""One short answer in every protocol, as a stream and as the body that it comes to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from penstock.vocabulary.ids import ProtocolId
from tests.laws.talk import sse

TEXT = "Hello, my friend"
CHAT, RESPONSES, MESSAGES, GEMINI = ProtocolId.OPENAI_CHAT, ProtocolId.OPENAI_RESPONSES, ProtocolId.ANTHROPIC_MESSAGES, ProtocolId.GEMINI


def _event(name: str, **fields: Any) -> bytes:
    return sse({"type": name, **fields}, name)


def _chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return sse({"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": [choice]})


@dataclass(frozen=True, slots=True)
class Answer:
    frames: tuple[bytes, ...]
    body: dict[str, Any]
    usage: tuple[int, int]

    @property
    def stream(self) -> bytes:
        return b"".join(self.frames)

    @property
    def json(self) -> bytes:
        return json.dumps(self.body).encode()


_RESPONSE: dict[str, Any] = {
    "id": "resp_1", "object": "response", "created_at": 7, "status": "completed", "model": "m",
    "output": [{"id": "msg_1", "type": "message", "status": "completed", "role": "assistant",
                "content": [{"type": "output_text", "text": TEXT, "annotations": []}]}],
    "usage": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7},
}  # fmt: skip
_GEMINI_USAGE = {"promptTokenCount": 3, "candidatesTokenCount": 4, "totalTokenCount": 7}
ANSWERS: dict[ProtocolId, Answer] = {
    CHAT: Answer(
        (_chunk({"role": "assistant", "content": ""}), _chunk({"content": "Hello, "}), _chunk({"content": "my friend"}), _chunk({}, "stop"),
         sse({"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": [],
              "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}), b"data: [DONE]\n\n"),
        {"id": "c1", "object": "chat.completion", "created": 7, "model": "m",
         "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}, "logprobs": None, "finish_reason": "stop"}],
         "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}, (3, 4)),
    RESPONSES: Answer(
        (_event("response.created", sequence_number=0, response={**_RESPONSE, "status": "in_progress", "output": [], "usage": None}),
         _event("response.output_text.delta", sequence_number=1, item_id="msg_1", output_index=0, content_index=0, delta=TEXT),
         _event("response.completed", sequence_number=2, response=_RESPONSE)), _RESPONSE, (3, 4)),
    MESSAGES: Answer(
        (_event("message_start", message={"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None,
                                          "stop_sequence": None, "usage": {"input_tokens": 3, "output_tokens": 1}}),
         _event("content_block_start", index=0, content_block={"type": "text", "text": ""}), _event("ping"),
         _event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hello, "}),
         _event("content_block_delta", index=0, delta={"type": "text_delta", "text": "my friend"}), _event("content_block_stop", index=0),
         _event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": 4}), _event("message_stop")),
        {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [{"type": "text", "text": TEXT}],
         "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 3, "output_tokens": 4}}, (3, 4)),
    GEMINI: Answer(
        (sse({"candidates": [{"content": {"parts": [{"text": "Hello, "}], "role": "model"}, "index": 0}], "modelVersion": "m", "responseId": "r"}),
         sse({"candidates": [{"content": {"parts": [{"text": "my friend"}], "role": "model"}, "finishReason": "STOP", "index": 0}],
              "usageMetadata": _GEMINI_USAGE, "modelVersion": "m", "responseId": "r"})),
        {"candidates": [{"content": {"parts": [{"text": TEXT}], "role": "model"}, "finishReason": "STOP", "index": 0}],
         "usageMetadata": _GEMINI_USAGE, "modelVersion": "m", "responseId": "r"}, (3, 4)),
}  # fmt: skip
"""What ends them all: a clean end of the body, where there is no terminal event (Gemini)."""
