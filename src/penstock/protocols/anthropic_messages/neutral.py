"""Telling a stream in neutral events, for whoever set `Observer.sink`.

Parts are numbered as they begin: blocks of text, of thinking, and function calls. Everything else (calls that the provider runs, their
results, redacted thinking, compaction) has no neutral word and takes no number.
"""

from __future__ import annotations

import json
from typing import Final

from penstock.protocols.anthropic_messages import usage as usages
from penstock.protocols.anthropic_messages.shapes import BROKEN, Block, Delta, EventShape
from penstock.protocols.anthropic_messages.words import STOP_REASONS
from penstock.vocabulary.errors import UpstreamError
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

MAX_OPEN_PARTS: Final = 256
"""Open blocks that are kept; the protocol has one at a time."""


class _Part:
    __slots__ = ("arguments", "number", "tool", "whole")

    def __init__(self, number: int, tool: bool, whole: str) -> None:
        self.number = number
        self.tool = tool
        self.whole = whole
        """The `input` that the block began with, as JSON: the arguments, if no piece of them ever comes."""
        self.arguments = False


class Teller:
    """Turns read events into neutral ones. One per stream; it holds the open blocks and nothing else."""

    __slots__ = ("_next", "_open")

    def __init__(self) -> None:
        self._next = 0
        self._open: dict[int | str | None, _Part] = {}

    def tell(self, kind: str, event: EventShape, known: Usage, sink: list[Event]) -> None:
        """Append to `sink` what `event`, of type `kind`, means. `known` is the usage before it."""
        match kind:
            case "message_start" if event.message is not None:
                sink.append(Started(event.message.id, event.message.model))
                if event.message.usage is not None:
                    sink.append(UsageSeen(usages.total(known, event.message.usage)))
            case "content_block_start" if event.content_block is not None:
                self._begin(event.index, event.content_block, sink)
            case "content_block_delta" if event.delta is not None:
                self._go_on(event.index, event.delta, sink)
            case "content_block_stop":
                self._end(event.index, sink)
            case "message_delta":
                if event.delta is not None and event.delta.stop_reason is not None:
                    word = event.delta.stop_reason
                    sink.append(Stopped(STOP_REASONS.get(word, StopReason.OTHER), word))
                if event.usage is not None:
                    sink.append(UsageSeen(usages.total(known, event.usage)))
            case "message_stop":
                sink.append(Ended())
            case "error":
                error = event.error
                sink.append(Failed(UpstreamError() if error is None else UpstreamError(message=error.message, type=error.type)))
            case _:
                pass

    def _begin(self, index: int | str | None, block: Block, sink: list[Event]) -> None:
        if block.type not in ("text", "thinking", "tool_use") or len(self._open) >= MAX_OPEN_PARTS:
            return
        tool = block.type == "tool_use"
        part = self._open[index] = _Part(self._next, tool, _whole(block.input) if tool else "")
        self._next += 1
        if tool:
            sink.append(ToolStarted(part.number, block.id or "", block.name or ""))
        elif block.text:
            sink.append(TextDelta(block.text, part.number))
        elif block.thinking:
            sink.append(ReasoningDelta(block.thinking, part.number))

    def _go_on(self, index: int | str | None, delta: Delta, sink: list[Event]) -> None:
        part = self._open.get(index)
        if part is None:
            return
        if delta.type == "text_delta" and delta.text:
            sink.append(TextDelta(delta.text, part.number))
        elif delta.type == "thinking_delta" and delta.thinking:
            sink.append(ReasoningDelta(delta.thinking, part.number))
        elif delta.type == "input_json_delta" and delta.partial_json and part.tool:
            part.arguments = True
            sink.append(ToolDelta(part.number, delta.partial_json))

    def _end(self, index: int | str | None, sink: list[Event]) -> None:
        part = self._open.pop(index, None)
        if part is None or not part.tool:
            return
        if not part.arguments:
            # A call without arguments streams none; in other dialects the arguments' text must still be JSON.
            sink.append(ToolDelta(part.number, part.whole))
        sink.append(ToolEnded(part.number))


def _whole(value: object) -> str:
    if not value:
        return "{}"
    try:
        return json.dumps(value, separators=(",", ":"))
    except BROKEN:
        # Nested as deep as the decoder just took it, and deeper than the encoder goes.
        return "{}"
