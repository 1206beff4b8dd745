"""Ending a Messages stream before its end: the open block is stopped, `message_delta` states why, `message_stop` ends it."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from penstock.protocols.anthropic_messages.raw import write
from penstock.protocols.anthropic_messages.shapes import BROKEN
from penstock.protocols.anthropic_messages.words import STOP_WORDS, TOOL_KINDS
from penstock.protocols.contract import Closer
from penstock.vocabulary.events import StopReason
from penstock.vocabulary.usage import Usage

_MOST = 256


class _Block(msgspec.Struct, gc=False):
    type: str = ""


class _Event(msgspec.Struct, gc=False):
    type: str | None = None
    index: Any = 0
    content_block: _Block | None = None


_decode = msgspec.json.Decoder(_Event).decode


def _read(data: bytes) -> _Event:
    """Raises one of `BROKEN`. The standard library's decoder takes half a surrogate pair, which comes with deltas."""
    try:
        return _decode(data)
    except BROKEN:
        return msgspec.convert(json.loads(data), _Event)


class MessagesCloser(Closer):
    """Looks at what opens and closes."""

    content_goes_on = True
    __slots__ = ("_begun", "_broken", "_open")

    def __init__(self) -> None:
        self._open: dict[int, str] = {}
        self._begun = False
        self._broken = False

    def see(self, name: bytes, data: bytes) -> None:
        try:
            event = _read(data)
        except BROKEN:
            self._broken = self._broken or name != b"ping"  # nobody looks at its data
            return
        match event.type or name.decode("latin-1"):
            case "message_start":
                self._begun = True
            case "content_block_start":
                if len(self._open) < _MOST and type(event.index) is int:
                    self._open[event.index] = event.content_block.type if event.content_block is not None else ""
                else:
                    self._broken = True
            case "content_block_stop":
                if type(event.index) is int:
                    self._open.pop(event.index, None)
                else:
                    self._broken = True
            case _:
                pass

    def close(self, reason: StopReason, usage: Usage) -> list[tuple[bytes, bytes]] | None:
        if not self._begun or self._broken or any(kind in TOOL_KINDS for kind in self._open.values()):
            return None
        frames = [(b"content_block_stop", write({"type": "content_block_stop", "index": index})) for index in sorted(self._open)]
        delta = {"stop_reason": STOP_WORDS[reason], "stop_sequence": None}
        told = {"type": "message_delta", "delta": delta, "usage": {"output_tokens": usage.output or 0}}
        return [*frames, (b"message_delta", write(told)), (b"message_stop", write({"type": "message_stop"}))]
