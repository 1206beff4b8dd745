"""Ending a Chat or Completions stream before its end: a finish reason for every choice that has none, then `[DONE]`.

The usage chunk that a client may have asked for does not come: OpenAI says that it may be missing when a stream is interrupted
(`stream_options.include_usage` in the API reference), and we know no figures of the provider's.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from penstock.protocols.contract import Closer
from penstock.protocols.openai_chat.chunk import UNREADABLE, decode_any, encode_any
from penstock.protocols.openai_chat.words import finish_reason_of
from penstock.vocabulary.events import StopReason
from penstock.vocabulary.ids import Operation
from penstock.vocabulary.usage import Usage

_MOST = 128
"""Choices that are followed: what `n` may be at OpenAI."""
_NOTHING = (b"", b"[DONE]")


class _Choice(msgspec.Struct, gc=False):
    index: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] = 0
    finish_reason: Any = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None


class _Head(_Chunk, gc=False):
    id: Any = None
    created: Any = None
    model: Any = None
    system_fingerprint: Any = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_decode_head = msgspec.json.Decoder(_Head).decode


def _leniently(data: bytes) -> _Head:
    """As the observer reads what its typed decoder refuses. Raises one of `UNREADABLE`."""
    return msgspec.convert(decode_any(data), _Head)


class ChatCloser(Closer):
    """Of either operation."""

    content_goes_on = True
    __slots__ = ("_broken", "_finished", "_head", "_legacy", "_open")

    def __init__(self, operation: Operation) -> None:
        self._legacy = operation is Operation.COMPLETIONS
        self._head: _Head | None = None
        self._open: set[int] = set()
        self._finished: set[int] = set()
        self._broken = False

    def see(self, name: bytes, data: bytes) -> None:
        if data.strip() in _NOTHING:
            return
        try:
            chunk = _decode_head(data) if self._head is None else _decode_chunk(data)
        except UNREADABLE:
            try:
                chunk = _leniently(data)
            except UNREADABLE:
                self._broken = True
                return
        if self._head is None and chunk.choices and isinstance(chunk, _Head):
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
        try:
            for index in sorted(self._open):
                frames.append((b"", encode_any({**told, "choices": [{"index": index, **empty, "logprobs": None, "finish_reason": word}]})))
        except UNREADABLE:  # an id nested deeper than can be written
            return None
        return [*frames, (b"", b"[DONE]")]
