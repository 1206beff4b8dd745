"""Messages. A text is one content block of one kind: speech, a thought, or the JSON of a call's input; it ends with its block."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any, cast

import msgspec

from penstock.policy.beside import failed, messages_cited, messages_stopped
from penstock.policy.editing import Editor, End, Flow, Step, Told, Whole, hashable
from penstock.policy.guards import Rules
from penstock.policy.matcher import Findings, Hold
from penstock.policy.places import Kind, Object, Place, as_object, objects
from penstock.policy.rules import Scope
from penstock.policy.texts import messages_block
from penstock.protocols.contract import Observer
from penstock.protocols.openai_chat.chunk import encode_any

_FIELDS: dict[str, tuple[str, Scope, Kind]] = {
    "text_delta": ("text", Scope.ASSISTANT, Kind.TEXT),
    "thinking_delta": ("thinking", Scope.REASONING, Kind.TEXT),
    "compaction_delta": ("content", Scope.REASONING, Kind.TEXT),
    "input_json_delta": ("partial_json", Scope.TOOL_ARGUMENTS, Kind.ARGUMENTS),
}


class _Inner(msgspec.Struct, gc=False):
    type: str
    text: str
    citation: None = None
    """One that is there has text as well; then it is no ordinary delta."""


class _Delta(msgspec.Struct, gc=False):
    index: int
    delta: _Inner
    type: str


class _Named(msgspec.Struct, gc=False):
    type: str


_decode = msgspec.json.Decoder(_Delta).decode
_decode_named = msgspec.json.Decoder(_Named).decode


class MessagesEditor(Editor):
    def __init__(self, rules: Rules, findings: Findings, hold: Hold) -> None:
        super().__init__(rules, findings, hold)
        self._begun = False
        self._open: list[Any] = []

    def quick(self, name: bytes, data: bytes, now: float) -> bool:
        if name != b"content_block_delta":
            return name == b"ping" and _is_ping(data)
        try:
            frame = _decode(data)
        except (ValueError, RecursionError):
            return False
        if frame.type != "content_block_delta" or frame.delta.type != "text_delta":
            return False
        return self.judge(data, (frame.index, "text_delta"), b"text", frame.delta.text)

    def put(self, frame: Object, text: str) -> None:
        frame["delta"]["text"] = text

    def steps(self, name: bytes, frame: Object) -> Iterator[Step]:
        word = frame.get("type")
        kind = word if isinstance(word, str) else name.decode("utf-8", "replace")
        index: Any = frame.get("index")
        match kind:
            case "message_start":
                self._begun = True
                for block in objects(as_object(frame.get("message")).get("content")):
                    yield from [Whole(place) for place in messages_block(block, Scope.ASSISTANT)]
                yield from [Whole(place) for place in messages_stopped(as_object(frame.get("message")))]
            case "content_block_start":
                self._open.append(index)
                yield from self._start(hashable(index), as_object(frame.get("content_block")))
            case "content_block_delta":
                delta = as_object(frame.get("delta"))
                known = _FIELDS.get(str(delta.get("type")))
                if known is not None and isinstance(delta.get(known[0]), str):
                    yield Flow((hashable(index), delta["type"]), Place(delta, *known))
                yield from [Whole(place) for place in messages_cited(as_object(delta.get("citation")), Scope.ASSISTANT)]
            case "content_block_stop":
                if index in self._open:
                    self._open.remove(index)
                yield from self._ended(hashable(index))
            case "message_delta" | "message_stop" | "error":
                yield from [End(key) for key in list(self.channels)]
                yield from [Whole(place) for place in (*messages_stopped(as_object(frame.get("delta"))), *failed(frame))]
            case _:
                return

    def _start(self, index: Any, block: Object) -> Iterator[Step]:
        """A block that begins with text says more of the same text in its deltas; what comes whole (a tool's result) is judged whole."""
        match block.get("type"):
            case "text" if isinstance(block.get("text"), str) and block["text"]:
                yield Flow((index, "text_delta"), Place(block, "text", Scope.ASSISTANT))
                yield from [Whole(place) for citation in objects(block.get("citations")) for place in messages_cited(citation, Scope.ASSISTANT)]
            case "thinking" if isinstance(block.get("thinking"), str) and block["thinking"]:
                yield Flow((index, "thinking_delta"), Place(block, "thinking", Scope.REASONING))
            case _:
                yield from [Whole(place) for place in messages_block(block, Scope.ASSISTANT)]

    def _ended(self, index: Any) -> Iterator[End]:
        yield from (End(key) for key in cast("list[tuple[Any, str]]", list(self.channels)) if key[0] == index)

    def made(self, key: Hashable, text: str, origin: Object) -> tuple[bytes, Object]:
        index, kind = cast("tuple[Any, str]", key)
        delta = {"type": kind, _FIELDS[kind][0]: text}
        return b"content_block_delta", {"type": "content_block_delta", "index": origin.get("index", index), "delta": delta}

    def stop(self, observer: Observer) -> list[Told] | None:
        if not self._begun:
            return None
        frames = [(b"content_block_stop", encode_any({"type": "content_block_stop", "index": index})) for index in self._open]
        delta: Object = {"stop_reason": "refusal", "stop_sequence": None}
        usage = {"output_tokens": observer.usage.output or 0}
        frames.append((b"message_delta", encode_any({"type": "message_delta", "delta": delta, "usage": usage})))
        return [*frames, (b"message_stop", encode_any({"type": "message_stop"}))]


def _is_ping(data: bytes) -> bool:
    """Named one, is it one?"""
    try:
        return not data.strip() or _decode_named(data).type == "ping"
    except (ValueError, RecursionError):
        return False
