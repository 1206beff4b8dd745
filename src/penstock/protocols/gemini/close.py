"""Ending a Gemini stream before its end: one last chunk with a finish reason for every candidate that has none."""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.protocols.contract import BodyError, Closer
from penstock.protocols.gemini.body import dump
from penstock.protocols.gemini.render import usage_metadata
from penstock.protocols.gemini.words import FINISH_WORDS
from penstock.vocabulary.events import StopReason
from penstock.vocabulary.usage import Usage

_MOST = 128


class _Candidate(msgspec.Struct, gc=False, rename="camel"):
    index: int = 0
    finish_reason: str | None = None


class _Chunk(msgspec.Struct, gc=False, rename="camel"):
    candidates: list[_Candidate] | None = None
    model_version: Any = None
    response_id: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode


class GeminiCloser(Closer):
    """Function calls come whole in this protocol; one that is open in pieces is seen by the observer."""

    __slots__ = ("_broken", "_finished", "_head", "_open")

    def __init__(self) -> None:
        self._head: _Chunk | None = None
        self._open: set[int] = set()
        self._finished: set[int] = set()
        self._broken = False

    def see(self, name: bytes, data: bytes) -> None:
        try:
            chunk = _decode(data)
        except (ValueError, RecursionError):
            self._broken = True
            return
        if self._head is None and chunk.candidates:
            self._head = chunk
        for candidate in chunk.candidates or ():
            if candidate.finish_reason and candidate.finish_reason != "FINISH_REASON_UNSPECIFIED":
                self._open.discard(candidate.index)
                self._finished.add(candidate.index)
            elif candidate.index not in self._finished and candidate.index not in self._open:
                if len(self._open) + len(self._finished) < _MOST:
                    self._open.add(candidate.index)
                else:
                    self._broken = True

    def close(self, reason: StopReason, usage: Usage) -> list[tuple[bytes, bytes]] | None:
        head = self._head
        if head is None or self._broken or not self._open:
            return None
        word, content = FINISH_WORDS[reason], {"parts": [{"text": ""}], "role": "model"}
        told: dict[str, Any] = {"candidates": [{"content": content, "finishReason": word, "index": index} for index in sorted(self._open)]}
        if usage.input is not None or usage.output is not None:
            told["usageMetadata"] = usage_metadata(usage)
        told |= {name: value for name, value in (("modelVersion", head.model_version), ("responseId", head.response_id)) if value is not None}
        try:
            return [(b"", dump(told))]
        except BodyError:  # an id nested deeper than can be written
            return None
