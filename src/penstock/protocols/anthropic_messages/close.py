"""Ending a Messages stream before its end: the open block is stopped, `message_delta` states why, `message_stop` ends it."""

from __future__ import annotations

import msgspec

from penstock.protocols.anthropic_messages.raw import write
from penstock.protocols.anthropic_messages.words import STOP_WORDS, TOOL_KINDS
from penstock.protocols.contract import Closer
from penstock.vocabulary.events import StopReason
from penstock.vocabulary.usage import Usage

_MOST = 256


class _Block(msgspec.Struct, gc=False):
    type: str = ""


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    index: int = 0
    content_block: _Block | None = None


_decode = msgspec.json.Decoder(_Event).decode
_PASSING = frozenset({b"content_block_delta", b"ping"})


class MessagesCloser(Closer):
    """Looks at what opens and closes; deltas are passed over by their event's name."""

    content_goes_on = True
    __slots__ = ("_begun", "_broken", "_open")

    def __init__(self) -> None:
        self._open: dict[int, str] = {}
        self._begun = False
        self._broken = False

    def see(self, name: bytes, data: bytes) -> None:
        if name in _PASSING:
            return
        try:
            event = _decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self._broken = True
            return
        match event.type or name.decode("latin-1"):
            case "message_start":
                self._begun = True
            case "content_block_start":
                if len(self._open) < _MOST:
                    self._open[event.index] = event.content_block.type if event.content_block is not None else ""
                else:
                    self._broken = True
            case "content_block_stop":
                self._open.pop(event.index, None)
            case _:
                pass

    def close(self, reason: StopReason, usage: Usage) -> list[tuple[bytes, bytes]] | None:
        if not self._begun or self._broken or any(kind in TOOL_KINDS for kind in self._open.values()):
            return None
        frames = [(b"content_block_stop", write({"type": "content_block_stop", "index": index})) for index in sorted(self._open)]
        delta = {"stop_reason": STOP_WORDS[reason], "stop_sequence": None}
        told = {"type": "message_delta", "delta": delta, "usage": {"output_tokens": usage.output or 0}}
        return [*frames, (b"message_delta", write(told)), (b"message_stop", write({"type": "message_stop"}))]
