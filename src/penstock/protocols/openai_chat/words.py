"""The words of Chat for why a model stopped, and where text lies in a delta."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from penstock.protocols.openai_chat.chunk import Delta
from penstock.vocabulary.events import ReasoningDelta, StopReason, TextDelta

_STOP_REASONS: dict[str, StopReason] = {
    "stop": StopReason.STOP,
    "eos": StopReason.STOP,  # Together
    "length": StopReason.LENGTH,
    "model_length": StopReason.LENGTH,  # Mistral
    "tool_calls": StopReason.TOOL_CALLS,
    "function_call": StopReason.TOOL_CALLS,  # legacy
    "content_filter": StopReason.CONTENT_FILTER,
}
_FINISH_REASONS: dict[StopReason, str] = {
    StopReason.STOP: "stop",
    StopReason.LENGTH: "length",
    StopReason.TOOL_CALLS: "tool_calls",
    StopReason.CONTENT_FILTER: "content_filter",
    StopReason.STOP_SEQUENCE: "stop",  # Chat does not tell the two apart
    StopReason.PAUSE: "stop",
}


def stop_reason_of(finish_reason: str | None) -> StopReason:
    return _STOP_REASONS.get(finish_reason or "", StopReason.OTHER)


def finish_reason_of(reason: StopReason, raw: str | None) -> str:
    """Chat's word for `reason`; where it has none, the provider's own, so that an unknown ending is not passed off as a clean `stop`."""
    return _FINISH_REASONS.get(reason) or raw or "stop"


def texts_of(delta: Delta) -> Iterator[tuple[type[TextDelta] | type[ReasoningDelta], str]]:
    """The texts of a delta with the event that each is, thoughts first. A refusal is text: the neutral words have none of its own."""
    thought = delta.reasoning_content or delta.reasoning
    if isinstance(thought, str) and thought:
        yield ReasoningDelta, thought
    content: Any = delta.content
    if isinstance(content, str):
        if content:
            yield TextDelta, content
    elif isinstance(content, list):
        yield from _parts(cast("list[Any]", content))
    if isinstance(delta.refusal, str) and delta.refusal:
        yield TextDelta, delta.refusal


def _parts(parts: list[Any]) -> Iterator[tuple[type[TextDelta] | type[ReasoningDelta], str]]:
    """Mistral's content as a list: `{"type": "text", "text": ...}` and `{"type": "thinking", "thinking": [texts]}`."""
    for part in parts:
        if not isinstance(part, dict):
            continue
        fields = cast("dict[str, Any]", part)
        if fields.get("type") == "thinking":
            thoughts = fields.get("thinking")
            for _, text in _parts(cast("list[Any]", thoughts) if isinstance(thoughts, list) else []):
                yield ReasoningDelta, text
        elif isinstance(text := fields.get("text"), str) and text:
            yield TextDelta, text
