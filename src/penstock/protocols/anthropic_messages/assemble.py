"""Folding a stream into the Message that the same request would have had without streaming.

What the stream says in pieces is put together by these rules (Anthropic, "Streaming messages", and what its SDKs accumulate):

- `message_start.message` is the Message to begin with, every field of it.
- `content_block_start` appends `content_block` as it is; the block keeps every field that no delta changes.
- `text_delta` and `thinking_delta` append. `signature_delta` and `compaction_delta` come whole and replace. `citations_delta` appends its
  `citation` to `citations`. `input_json_delta` collects the text of `input`, which must be JSON when the block stops; where the text is
  empty `input` stays as the block began with it, and is `{}` where it began without.
- A delta of unknown type: each field but `type` appends where block and delta both have a string or both a list there, and replaces
  otherwise. The same goes for a field that a known delta type does not have, except hints that are only about the delta (`estimated_tokens`).
- `message_delta.delta` and the other fields beside it set fields of the Message; null takes away no value, except that of the `stop_…`
  fields. Its `usage` replaces field by field (cumulative totals; nested objects whole), and null replaces nothing.
- A `fallback` block names the model that made what follows: the Message's `model` becomes that one.
- Events of unknown type and pings add nothing.
"""

from __future__ import annotations

from typing import Final

from msgspec import Raw

from penstock.protocols.anthropic_messages.raw import Object, is_json, is_null, raw, read_index, read_list, read_object, read_text, write
from penstock.protocols.contract import Assembler, BodyError

STOP_FIELDS: Final = frozenset({"stop_reason", "stop_sequence", "stop_details"})
HINTS: Final = frozenset({"type", "estimated_tokens"})
"""Fields of deltas that are no part of the block. `estimated_tokens` is "a deliberately lossy display hint" (beta `thinking_delta`)."""


class _Block:
    """One content block under way: its fields, and the pieces of the strings that grow."""

    __slots__ = ("arguments", "fields", "lists", "open", "texts", "whole")

    def __init__(self, whole: Raw) -> None:
        self.whole = whole
        self.fields: Object | None = read_object(whole)
        self.texts: dict[str, list[str]] = {}
        self.lists: dict[str, list[Raw]] = {}
        self.arguments: list[str] | None = None
        self.open = True

    def append_text(self, key: str, text: str) -> None:
        pieces = self.texts.get(key)
        if pieces is None:
            former = read_text(self.fields.get(key)) if self.fields is not None else None
            pieces = self.texts[key] = [former or ""]
        pieces.append(text)

    def append_items(self, key: str, items: list[Raw]) -> None:
        held = self.lists.get(key)
        if held is None:
            former = None if self.fields is None or key not in self.fields else read_list(self.fields[key])
            held = self.lists[key] = former or []
        held.extend(items)

    def put(self, fields: Object, key: str, value: Raw) -> None:
        """A field that no rule of ours knows: it appends like to like, and replaces otherwise."""
        text = read_text(value)
        if text is not None and (key in self.texts or read_text(fields.get(key)) is not None):
            self.append_text(key, text)
            return
        items = read_list(value) if text is None else None
        if items is not None and (key in self.lists or (key in fields and read_list(fields[key]) is not None)):
            self.append_items(key, items)
            return
        self.replace(fields, key, value)

    def replace(self, fields: Object, key: str, value: Raw) -> None:
        self.texts.pop(key, None)
        self.lists.pop(key, None)
        fields[key] = value

    def close(self) -> None:
        """Put the pieces together. Raises `BodyError` where the collected input is not JSON."""
        self.open = False
        fields = self.fields
        if fields is None:
            return
        for key, pieces in self.texts.items():
            fields[key] = raw("".join(pieces))
        for key, items in self.lists.items():
            fields[key] = raw(items)
        self.texts, self.lists = {}, {}
        if self.arguments is not None:
            fields["input"] = _input(fields.get("input"), "".join(self.arguments))
            self.arguments = None


class MessagesAssembler(Assembler):
    """Folds the frames of one stream. Memory grows with the answer, as the body does."""

    __slots__ = ("_blocks", "_by_index", "_complete", "_content", "_message", "_usage", "held")

    def __init__(self) -> None:
        self._message: Object | None = None
        self._usage: Object | None = None
        self._content: list[Raw] | None = []
        """Blocks that the Message began with (none, in this protocol); `None` where its `content` was no list."""
        self._blocks: list[_Block] = []
        self._by_index: dict[int, _Block] = {}
        self._complete = False
        self.held = 0

    def feed(self, name: bytes, data: bytes) -> None:
        if self._complete:
            return
        event = read_object(data)
        if event is None or not _is_utf8(data):
            if name == b"ping":
                return
            raise BodyError("an event of the stream is not a JSON object")
        self.held += len(data)  # a piece of text takes about as much, alone, as the event around it
        kind = read_text(event.get("type")) or name.decode("utf-8", "replace") or ("error" if "error" in event else "")
        match kind:
            case "message_start":
                self._start(event)
            case "content_block_start":
                self._open(event)
            case "content_block_delta":
                self._delta(event)
            case "content_block_stop":
                self._block(event).close()
            case "message_delta":
                self._change(event)
            case "message_stop":
                self._started()
                for block in self._blocks:
                    block.close()
                self._complete = True
            case "error":
                raise BodyError(_sentence(event))
            case _:
                pass

    def body(self) -> bytes:
        message = self._message
        if message is None or not self._complete:
            raise BodyError("the stream ended without message_stop")
        whole: dict[str, object] = dict(message)
        if self._content is not None:
            whole["content"] = [*self._content, *(block.whole if block.fields is None else block.fields for block in self._blocks)]
        if self._usage is not None:
            whole["usage"] = self._usage
        return write(whole)

    def _start(self, event: Object) -> None:
        if self._message is not None:
            raise BodyError("the stream has a second message_start")
        message = read_object(event["message"]) if "message" in event else None
        if message is None:
            raise BodyError("message_start has no message")
        self._message = message
        self._usage = read_object(message["usage"]) if "usage" in message else None
        self._content = read_list(message["content"]) if "content" in message else None

    def _started(self) -> Object:
        if self._message is None:
            raise BodyError("the stream does not begin with message_start")
        return self._message

    def _open(self, event: Object) -> None:
        message = self._started()
        index = read_index(event.get("index"))
        if index is None or "content_block" not in event:
            raise BodyError("content_block_start lacks its index or its block")
        if index in self._by_index:
            raise BodyError(f"content block {index} began twice")
        if self._content is None:
            if "content" in message and not is_null(message["content"]):
                raise BodyError("content blocks came for a message whose content is no list")
            self._content = []
        block = self._by_index[index] = _Block(event["content_block"])
        self._blocks.append(block)
        fields = block.fields
        if fields is not None and read_text(fields.get("type")) == "fallback" and "to" in fields and read_text(message.get("model")) is not None:
            to = read_object(fields["to"])
            if to is not None and read_text(to.get("model")) is not None:
                message["model"] = to["model"]

    def _block(self, event: Object) -> _Block:
        self._started()
        index = read_index(event.get("index"))
        block = None if index is None else self._by_index.get(index)
        if block is None or not block.open:
            raise BodyError(f"an event came for content block {index}, which is not open")
        return block

    def _delta(self, event: Object) -> None:
        block = self._block(event)
        fields = block.fields
        delta = read_object(event["delta"]) if "delta" in event else None
        if delta is None or fields is None:
            raise BodyError("a delta has no object to add to, or is none")
        kind = read_text(delta.get("type"))
        for key, value in delta.items():
            if key in HINTS:
                continue
            match kind, key:
                case ("text_delta", "text") | ("thinking_delta", "thinking"):
                    text = read_text(value)
                    if text is None:
                        raise BodyError(f"{kind} has no text")
                    block.append_text(key, text)
                case ("input_json_delta", "partial_json"):
                    piece = read_text(value)
                    if piece is None:
                        raise BodyError("input_json_delta has no text")
                    if block.arguments is None:
                        block.arguments = []
                    block.arguments.append(piece)
                case ("citations_delta", "citation"):
                    block.append_items("citations", [value])
                case ("signature_delta", "signature") | ("compaction_delta", _):
                    block.replace(fields, key, value)
                case _:
                    block.put(fields, key, value)

    def _change(self, event: Object) -> None:
        message = self._started()
        changes = {key: value for key, value in event.items() if key not in ("type", "delta", "usage")}
        if "delta" in event:
            changes.update(read_object(event["delta"]) or {})
        for key, value in changes.items():
            if key in STOP_FIELDS or key not in message or not is_null(value):
                message[key] = value
        stated = read_object(event["usage"]) if "usage" in event else None
        if stated is None:
            return
        if self._usage is None:
            self._usage = {}
        for key, value in stated.items():
            if key not in self._usage or not is_null(value):
                self._usage[key] = value


def _input(former: Raw | None, text: str) -> Raw:
    if not text:
        return former if former is not None and read_object(former) is not None else raw({})
    try:
        found = text.encode()
    except UnicodeEncodeError:
        found = b""
    if not is_json(found):
        raise BodyError("the input of a tool call is not JSON")
    return Raw(found)


def _is_utf8(data: bytes) -> bool:
    try:
        str(data, "utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _sentence(event: Object) -> str:
    error = read_object(event["error"]) if "error" in event else None
    kind = None if error is None else read_text(error.get("type"))
    return "the stream ended in an error of the provider" + (f" ({kind})" if kind else "")
