"""A stream folded back into the Response that it ends with.

The terminal event carries the whole Response, so nothing is put together from deltas: its member `response` is the body, byte for byte.
Only where that says nothing of the output although items were finished (as the Codex backend of ChatGPT answers) the finished items,
as `response.output_item.done` gave them, are put into its `output`.
"""

from __future__ import annotations

import json

import msgspec

from penstock.protocols.contract import Assembler, BodyError
from penstock.protocols.openai_responses.frames import UNDECODABLE, ErrorObject, count, encode, loose, read_body, read_frame, text

_ENDS = frozenset({"response.completed", "response.incomplete"})
_FAILURES = frozenset({"response.failed", "response.cancelled", "response.canceled"})


class _Whole(msgspec.Struct, gc=False):
    type: str = ""
    response: msgspec.Raw = msgspec.Raw()
    output_index: int | None = None
    item: msgspec.Raw = msgspec.Raw()


_decode = msgspec.json.Decoder(_Whole).decode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class ResponsesAssembler(Assembler):
    """Holds the finished items and the terminal event's Response, nothing else. Never gives a body without a terminal event of success."""

    __slots__ = ("_body", "_failure", "_id", "_items", "held")

    def __init__(self) -> None:
        self._id: str | None = None
        self._items: dict[int, bytes] = {}
        self._body: bytes | None = None
        self._failure: str | None = None
        self.held = 0

    def feed(self, name: bytes, data: bytes) -> None:
        if self._body is not None or data == b"[DONE]":
            return
        try:
            event = _decode(data)
        except UNDECODABLE:
            fields = loose(data)
            if fields is None:
                raise BodyError("an event of the stream is not a JSON object") from None
            event = _Whole(text(fields.get("type")) or "", _raw(fields.get("response")), count(fields.get("output_index")), _raw(fields.get("item")))
        kind = event.type or name.decode("utf-8", "replace")
        if kind == "error":
            frame, _ = read_frame(data)
            error = None if frame is None else frame.error or ErrorObject(code=frame.code, message=frame.message)
            self._failure = f"the provider reported an error: {_told(error)}"
        elif kind == "response.output_item.done" and bytes(event.item):
            item = bytes(event.item)
            index = len(self._items) if event.output_index is None else event.output_index
            self.held += 64 + len(item) - len(self._items.get(index, b""))
            self._items[index] = item
        elif bytes(event.response) and kind.startswith("response."):
            self._take(kind, bytes(event.response), data)

    def body(self) -> bytes:
        if self._body is None:
            raise BodyError(self._failure or "the stream ended without response.completed or response.incomplete")
        return self._body

    def _take(self, kind: str, response: bytes, data: bytes) -> None:
        identity, _ = read_body(response)
        if identity is None or not _is_text(response):
            if kind in _ENDS:
                raise BodyError(f"the response in {kind} is not a JSON object")
            return
        if self._id is not None and identity.id is not None and identity.id != self._id:
            raise BodyError(f"the stream of response {self._id} goes on as response {identity.id}")
        self._id = identity.id or self._id
        if kind in _FAILURES or (kind in _ENDS and identity.status in ("failed", "cancelled")):
            frame, _ = read_frame(data)
            error = None if frame is None or frame.response is None else frame.response.error
            self._failure = f"the response {identity.status or 'failed'}: {_told(error)}"
        elif kind in _ENDS:
            self.held += len(response)
            self._body = response if not self._items or identity.output else self._with_items(response)

    def _with_items(self, response: bytes) -> bytes:
        output = b"[" + b",".join(self._items[index] for index in sorted(self._items)) + b"]"
        if not _is_text(output):
            raise BodyError("a finished item of the stream is not UTF-8")
        try:
            members = _members(response)
        except UNDECODABLE:  # half a surrogate pair, which only the lenient reading takes
            fields = loose(response)
            if fields is None:
                raise BodyError("the response in the terminal event cannot be read") from None
            fields["output"] = json.loads(output)
            return encode(fields)
        members["output"] = msgspec.Raw(output)
        return msgspec.json.encode(members)


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw() if value is None else msgspec.Raw(json.dumps(value, separators=(",", ":")).encode())


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _told(error: ErrorObject | None) -> str:
    said = [] if error is None else [str(part) for part in (error.code, error.message) if part]
    return ": ".join(said) or "no reason was given"
