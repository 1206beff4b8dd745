"""Gemini, as server-sent events or as an array. A text is what a candidate says, or thinks; it ends where the candidate goes over to the other, to
a call or to anything else, and with its finish reason. The arguments of a call come whole, or (Vertex) in pieces of values, each a string's."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any, cast

import msgspec

from penstock.policy.beside import gemini_beside, gemini_blocked, gemini_predicted
from penstock.policy.editing import Editor, End, Flow, Step, Told, Untold, Whole, hashable
from penstock.policy.guards import Rules
from penstock.policy.matcher import Findings, Hold
from penstock.policy.places import Kind, Object, Place, Valued, as_object, objects
from penstock.policy.rules import Scope
from penstock.policy.texts import gemini_called, gemini_files
from penstock.policy.tokens import gemini_spells
from penstock.protocols.contract import Observer
from penstock.protocols.gemini.words import NOT_FINISHED
from penstock.protocols.openai_chat.chunk import encode_any

_NONE = msgspec.Raw(b"null")
_NOT_AGAIN = frozenset({"candidates", "usageMetadata", "promptFeedback"})


class _Part(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    text: str


class _Content(msgspec.Struct, gc=False):
    parts: list[_Part]


class _Candidate(msgspec.Struct, gc=False, rename="camel"):
    content: _Content
    index: int = 0
    finish_reason: str | None = None
    grounding_metadata: msgspec.Raw = _NONE
    citation_metadata: None = None
    """One that is there has texts as well; then it is no ordinary candidate."""
    url_context_metadata: None = None
    finish_message: None = None
    logprobs_result: None = None


class _Feedback(msgspec.Struct, gc=False, rename="camel"):
    block_reason_message: None = None


class _Frame(msgspec.Struct, gc=False, rename="camel"):
    candidates: list[_Candidate]
    prompt_feedback: _Feedback | None = None
    model_status: None = None
    error: None = None


_decode = msgspec.json.Decoder(_Frame).decode
_TEXT, _THOUGHT, _OTHER = "text", "thought", "other"


class GeminiEditor(Editor):
    def __init__(self, rules: Rules, findings: Findings, hold: Hold) -> None:
        super().__init__(rules, findings, hold)
        self._kinds: dict[int, str] = {}
        self._done: set[int] = set()

    def quick(self, name: bytes, data: bytes, now: float) -> bool:
        try:
            frame = _decode(data)
        except (ValueError, RecursionError):
            return False
        if len(frame.candidates) != 1:
            return False
        candidate = frame.candidates[0]
        parts = candidate.content.parts
        if len(parts) != 1 or candidate.finish_reason or candidate.grounding_metadata != _NONE or self._kinds.get(candidate.index) != _TEXT:
            return False
        return self.judge(data, (candidate.index, _TEXT), b"text", parts[0].text)

    def put(self, frame: Object, text: str) -> None:
        frame["candidates"][0]["content"]["parts"][0]["text"] = text

    def steps(self, name: bytes, frame: Object) -> Iterator[Step]:
        if frame.get("error"):
            yield from [End(key) for key in list(self.channels)]
        for candidate in objects(frame.get("candidates")):
            number = candidate.get("index")
            index = number if isinstance(number, int) else 0
            self._kinds.setdefault(index, "")
            if candidate.get("logprobsResult") and not gemini_spells(candidate):
                yield Untold(candidate, "logprobsResult")
            for part in objects(as_object(candidate.get("content")).get("parts")):
                yield from self._part(index, part)
            reason = candidate.get("finishReason")
            if reason is not None and hashable(reason) not in NOT_FINISHED:
                self._done.add(index)
                yield from self._ended(index)
            yield from [Whole(place, place.scope is Scope.ASSISTANT) for place in gemini_beside(candidate)]
        yield from [Whole(place) for place in (*gemini_blocked(frame), *gemini_predicted(frame))]

    def _part(self, index: int, part: Object) -> Iterator[Step]:
        called = [*gemini_called(part), *gemini_files(part)]
        if isinstance(part.get("text"), str):
            kind = _THOUGHT if part.get("thought") is True else _TEXT
            yield from self._turn(index, kind)
            yield Flow((index, kind), Place(part, "text", Scope.REASONING if kind == _THOUGHT else Scope.ASSISTANT))
            if not called and "functionCall" not in part:
                return
        yield from self._turn(index, _OTHER)
        for piece in objects(as_object(part.get("functionCall")).get("partialArgs")):
            path = str(piece.get("jsonPath"))
            if isinstance(piece.get("stringValue"), str):
                yield Flow((index, path), Place(piece, "stringValue", Scope.TOOL_ARGUMENTS))
            elif piece.get("numberValue") is not None:
                yield Whole(Place(Valued(piece), "numberValue", Scope.TOOL_ARGUMENTS, Kind.TREE))
            if piece.get("willContinue") is not True:
                yield End((index, path))
        yield from [Whole(place) for place in called]

    def _turn(self, index: int, kind: str) -> Iterator[End]:
        if self._kinds.get(index) == kind:
            return
        self._kinds[index] = kind
        yield from self._ended(index)

    def _ended(self, index: int) -> Iterator[End]:
        yield from (End(key) for key in cast("list[tuple[Any, ...]]", list(self.channels)) if key[0] == index)

    def made(self, key: Hashable, text: str, origin: Object) -> tuple[bytes, Object]:
        index, kind = cast("tuple[int, str]", key)
        kept = {name: value for name, value in origin.items() if name not in _NOT_AGAIN}
        part: Object = {"text": text}
        if kind == _THOUGHT:
            part["thought"] = True
        elif kind != _TEXT:
            part = {"functionCall": {"partialArgs": [{"jsonPath": kind, "stringValue": text, "willContinue": True}], "willContinue": True}}
        return b"", {"candidates": [{"content": {"parts": [part], "role": "model"}, "index": index}], **kept}

    def stop(self, observer: Observer) -> list[Told] | None:
        left = sorted(set(self._kinds or {0: ""}) - self._done)
        candidates = [{"content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": "SAFETY", "index": index} for index in left]
        frame: Object = {"candidates": candidates}
        if observer.model is not None:
            frame["modelVersion"] = observer.model
        if observer.response_id is not None:
            frame["responseId"] = observer.response_id
        return [(b"", encode_any(frame))]
