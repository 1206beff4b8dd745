"""Ending a Chat or Completions stream before its end: a finish reason for every choice that has none, then `[DONE]`.

The usage chunk that a client may have asked for does not come: OpenAI says that it may be missing when a stream is interrupted
(`stream_options.include_usage` in the API reference), and we know no figures of the provider's.
"""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.protocols.contract import Closer
from penstock.protocols.openai_chat.chunk import encode_any
from penstock.protocols.openai_chat.words import finish_reason_of
from penstock.vocabulary.events import StopReason
from penstock.vocabulary.ids import Operation
from penstock.vocabulary.usage import Usage

_MOST = 128
"""Choices that are followed: what `n` may be at OpenAI."""


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    finish_reason: str | None = None


class _Chunk(msgspec.Struct, gc=False):
    id: Any = None
    created: Any = None
    model: Any = None
    system_fingerprint: Any = None
    choices: list[_Choice] | None = None


_decode = msgspec.json.Decoder(_Chunk).decode


class ChatCloser(Closer):
    """Of either operation."""

    content_goes_on = True
    __slots__ = ("_broken", "_finished", "_head", "_legacy", "_open")

    def __init__(self, operation: Operation) -> None:
        self._legacy = operation is Operation.COMPLETIONS
        self._head: _Chunk | None = None
        self._open: set[int] = set()
        self._finished: set[int] = set()
        self._broken = False

    def see(self, name: bytes, data: bytes) -> None:
        if data == b"[DONE]":
            return
        try:
            chunk = _decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self._broken = True
            return
        if self._head is None and chunk.choices:
            self._head = chunk
        for choice in chunk.choices or ():
            if choice.finish_reason:
                self._open.discard(choice.index)
                self._finished.add(choice.index)
            elif choice.index not in self._finished and choice.index not in self._open:
                if len(self._open) + len(self._finished) < _MOST:
                    self._open.add(choice.index)
                else:
                    self._broken = True

    def close(self, reason: StopReason, usage: Usage) -> list[tuple[bytes, bytes]] | None:
        head = self._head
        if head is None or self._broken:
            return None
        told = {"id": head.id, "object": "text_completion" if self._legacy else "chat.completion.chunk", "created": head.created, "model": head.model}
        if head.system_fingerprint is not None:
            told["system_fingerprint"] = head.system_fingerprint
        empty: dict[str, Any] = {"text": ""} if self._legacy else {"delta": {}}
        word = finish_reason_of(reason, None)
        frames: list[tuple[bytes, bytes]] = []
        for index in sorted(self._open):
            frames.append((b"", encode_any({**told, "choices": [{"index": index, **empty, "logprobs": None, "finish_reason": word}]})))
        return [*frames, (b"", b"[DONE]")]
