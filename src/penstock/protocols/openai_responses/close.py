"""Ending a Responses stream before its end: every open part and item is told as done, then `response.incomplete` says everything once more.

This dialect repeats at the end what it said in between, so the text that passes is kept, up to `_LARGEST` characters; of a longer answer only an
error can be told. Items that the provider ended are kept as it told them.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from penstock.protocols.contract import Closer
from penstock.protocols.openai_responses.calls import KINDS
from penstock.protocols.openai_responses.frames import UNDECODABLE
from penstock.protocols.openai_responses.render import usage_object
from penstock.vocabulary.events import StopReason
from penstock.vocabulary.usage import Usage

_LARGEST = 4 << 20
_MOST = 1024
"""Parts of one answer."""
_REASONS = {StopReason.LENGTH: "max_output_tokens", StopReason.CONTENT_FILTER: "content_filter"}

# Deltas by event: the list that they add to, the field of the part, the events that end the part.
_TEXTS: dict[str, tuple[str, str, str, str | None]] = {
    "response.output_text.delta": ("content", "text", "response.output_text.done", "response.content_part.done"),
    "response.refusal.delta": ("content", "refusal", "response.refusal.done", "response.content_part.done"),
    "response.reasoning_summary_text.delta": ("summary", "text", "response.reasoning_summary_text.done", "response.reasoning_summary_part.done"),
    "response.reasoning_text.delta": ("content", "text", "response.reasoning_text.done", None),
}
_KINDS = {
    "response.reasoning_summary_text.delta": "summary_text", "response.reasoning_text.delta": "reasoning_text", "response.refusal.delta": "refusal",
}  # fmt: skip

_UNREADABLE = (*UNDECODABLE, LookupError, TypeError, AttributeError, ArithmeticError)


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError
    return cast("dict[str, Any]", value)


def _is_call(kind: object) -> bool:
    """Whatever calls itself by no word may be one."""
    return kind in KINDS if isinstance(kind, str) else kind is not None


class _Part:
    __slots__ = ("over", "pieces", "word")

    def __init__(self, word: str) -> None:
        self.word = word
        self.pieces: list[str] = []
        self.over = False
        """Its own `done` has come."""


class _Item:
    __slots__ = ("item", "over", "parts")

    def __init__(self, item: dict[str, Any]) -> None:
        self.item = item
        self.over = False
        self.parts: dict[tuple[str, int], _Part] = {}


class ResponsesCloser(Closer):
    """Reads every frame a second time: only streams that may be cut pay for it."""

    __slots__ = ("_broken", "_items", "_kept", "_number", "_parts", "_response")

    def __init__(self) -> None:
        self._response: dict[str, Any] | None = None
        self._items: dict[int, _Item] = {}
        self._number = -1
        self._kept = 0
        self._parts = 0
        self._broken = False

    def see(self, name: bytes, data: bytes) -> None:
        if self._broken:
            return
        self._kept += len(data) if name != b"response.output_text.delta" else 0
        try:
            found: object = msgspec.json.decode(data)
            self._take(_object(found), name.decode("latin-1"))
        except _UNREADABLE:
            self._broken = True
        if self._kept > _LARGEST or self._parts > _MOST:
            self._broken = True
            self._items.clear()

    def _take(self, event: dict[str, Any], name: str) -> None:
        number = event.get("sequence_number")
        if isinstance(number, int):
            self._number = number
        kind = event.get("type") or name
        index = event.get("output_index")
        if kind in ("response.created", "response.in_progress"):
            self._response = _object(event["response"])
        elif kind == "response.output_item.added":
            self._parts += 1
            self._items[int(event["output_index"])] = _Item(_object(event["item"]))
        elif kind == "response.output_item.done":
            done = self._items.setdefault(int(event["output_index"]), _Item({}))
            done.item, done.over = _object(event["item"]), True
            done.parts.clear()
        elif isinstance(index, int) and index in self._items:
            self._go_on(self._items[index], str(kind), event)

    def _go_on(self, item: _Item, kind: str, event: dict[str, Any]) -> None:
        said = _TEXTS.get(kind)
        if said is not None:
            at = (said[0], int(event.get("summary_index" if said[0] == "summary" else "content_index") or 0))
            part = item.parts.get(at)
            if part is None:
                self._parts += 1
                part = item.parts[at] = _Part(kind)
            part.pieces.append(str(event.get("delta") or ""))
            self._kept += len(part.pieces[-1])
        elif kind == "response.content_part.added":
            self._parts += 1
            word = "response.refusal.delta" if event["part"].get("type") == "refusal" else "response.output_text.delta"
            if event["part"].get("type") in ("output_text", "refusal"):
                item.parts.setdefault(("content", int(event["content_index"])), _Part(word))
        elif kind == "response.reasoning_summary_part.added":
            self._parts += 1
            item.parts.setdefault(("summary", int(event["summary_index"])), _Part("response.reasoning_summary_text.delta"))
        elif kind in ("response.content_part.done", "response.reasoning_summary_part.done"):
            place = "summary" if kind.startswith("response.reasoning") else "content"
            part = item.parts.get((place, int(event["summary_index" if place == "summary" else "content_index"])))
            if part is not None:
                part.over = True

    def close(self, reason: StopReason, usage: Usage) -> list[tuple[bytes, bytes]] | None:
        response = self._response
        if response is None or self._broken or any(not item.over and _is_call(item.item.get("type")) for item in self._items.values()):
            return None
        try:
            return self._closed(response, reason, usage)
        except _UNREADABLE:  # nested deeper than can be written
            return None

    def _closed(self, response: dict[str, Any], reason: StopReason, usage: Usage) -> list[tuple[bytes, bytes]]:
        frames: list[tuple[bytes, bytes]] = []
        output = [self._ended(index, item, frames) for index, item in sorted(self._items.items())]
        told = {
            **response, "status": "incomplete", "incomplete_details": {"reason": _REASONS.get(reason, "max_output_tokens")}, "output": output,
            "usage": usage_object(usage),
        }  # fmt: skip
        self._say(frames, "response.incomplete", response=told)
        return frames

    def _ended(self, index: int, item: _Item, frames: list[tuple[bytes, bytes]]) -> dict[str, Any]:
        if item.over:
            return item.item
        id = item.item.get("id")
        lists: dict[str, list[dict[str, Any]]] = {}
        for (place, number), part in sorted(item.parts.items()):
            _, field, text_done, part_done = _TEXTS[part.word]
            text = "".join(part.pieces)
            whole: dict[str, Any] = {"type": _KINDS.get(part.word, "output_text"), field: text}
            if whole["type"] == "output_text":
                whole |= {"annotations": [], "logprobs": []}
            lists.setdefault(place, []).append(whole)
            if part.over:
                continue
            where = {"item_id": id, "output_index": index, "summary_index" if place == "summary" else "content_index": number}
            more: dict[str, Any] = {"logprobs": []} if whole["type"] == "output_text" else {}
            self._say(frames, text_done, **where, **{field: text}, **more)
            if part_done is not None:
                self._say(frames, part_done, **where, part=whole)
        told = {**item.item, "status": "incomplete", **lists}
        self._say(frames, "response.output_item.done", output_index=index, item=told)
        return told

    def _say(self, frames: list[tuple[bytes, bytes]], kind: str, **members: object) -> None:
        self._number += 1
        frames.append((kind.encode(), msgspec.json.encode({"type": kind, "sequence_number": self._number, **members})))
