"""A whole Response told as the stream that would have made it.

Order of events as OpenAI sends them: `created`, `in_progress`; for each item `output_item.added`, its parts with `added`, deltas by words
(or in pieces of a size that is asked for), `done`, then `output_item.done`; at last `completed`, `incomplete` or
`failed` with the Response itself, byte for byte but for white space. Sequence numbers are consecutive from 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import msgspec

from penstock.protocols.contract import BodyError
from penstock.protocols.openai_responses.frames import UNDECODABLE, encode, loose
from penstock.protocols.pieces import pieces_of
from penstock.vocabulary.ids import Operation

_NOT_YET = {"usage": None, "error": None, "incomplete_details": None, "completed_at": None}
"""Members of a Response that have no value before its end; put into a head where the body has them."""

_ARGUMENTS: dict[str, tuple[str, str]] = {
    "function_call": ("arguments", "response.function_call_arguments"),
    "custom_tool_call": ("input", "response.custom_tool_call_input"),
    "mcp_call": ("arguments", "response.mcp_call_arguments"),
    "code_interpreter_call": ("code", "response.code_interpreter_call_code"),
}
"""Items whose text the model writes: the member that holds it, and the events that carry it."""

_PROGRESS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "mcp_call": (("in_progress",), ()),
    "code_interpreter_call": (("in_progress",), ("interpreting", "completed")),
    "web_search_call": (("in_progress", "searching", "completed"), ()),
    "file_search_call": (("in_progress", "searching", "completed"), ()),
    "image_generation_call": (("in_progress", "generating", "completed"), ()),
    "mcp_list_tools": (("in_progress", "completed"), ()),
}
"""`response.<item type>.<word>` before and after the arguments."""

_EMPTY: dict[str, dict[str, object]] = {
    "message": {"content": []},
    "reasoning": {"summary": [], "content": []},
    "function_call": {"arguments": ""},
    "custom_tool_call": {"input": ""},
    "mcp_call": {"arguments": "", "output": None, "error": None},
    "code_interpreter_call": {"code": "", "outputs": []},
    "image_generation_call": {"result": None},
    "mcp_list_tools": {"tools": []},
    "file_search_call": {"results": None},
}
"""What an announced item does not hold yet; put in where the finished item has the member."""

_PART_TEXT = {"output_text": "text", "refusal": "refusal", "reasoning_text": "text"}


def unfold(operation: Operation, body: bytes, size: int | None = None, *, usage: bool = True) -> Iterator[bytes]:
    """The frames of the stream. Raises `BodyError` at once where the body is no finished Response."""
    response = loose(body)
    if response is None:
        raise BodyError("the body is not a JSON object")
    try:
        whole = msgspec.json.format(body, indent=-1)
        whole.decode()
    except UNDECODABLE:
        # What `json` reads and msgspec does not: half surrogates.
        whole = encode(response)
    output: object = response.get("output")
    items = cast("list[object]", output) if isinstance(output, list) else None if output is not None else []
    named = response.get("object", "response" if "output" in response else None)
    if named != "response" or items is None or not all(isinstance(item, dict) for item in items):
        raise BodyError("the body is not a response")
    return _Unfolding(response, whole, size).frames(_end(response), cast("list[dict[str, Any]]", items))


def _end(response: dict[str, Any]) -> str:
    status: object = response.get("status")
    if status is None:
        status = "failed" if response.get("error") is not None else "completed" if response.get("incomplete_details") is None else "incomplete"
    if status not in ("completed", "incomplete", "failed"):
        raise BodyError(f"the response is not finished: its status is {status!r}")
    return f"response.{status}"


def _frame(kind: str, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


class _Unfolding:
    """One body being told. `index` is the output item that is being told, `item_id` its id."""

    __slots__ = ("index", "item_id", "number", "response", "size", "whole")

    def __init__(self, response: dict[str, Any], whole: bytes, size: int | None) -> None:
        self.response = response
        self.whole = whole
        self.size = size
        self.number = 0
        self.index = 0
        self.item_id = ""

    def frames(self, end: str, output: list[dict[str, Any]]) -> Iterator[bytes]:
        head: dict[str, Any] = {**self.response, "status": "in_progress", "output": [], **{name: None for name in _NOT_YET if name in self.response}}
        yield self._event("response.created", response=head)
        yield self._event("response.in_progress", response=head)
        for self.index, item in enumerate(output):
            yield from self._item(item)
        yield _frame(end, msgspec.json.encode({"type": end, "sequence_number": self.number, "response": msgspec.Raw(self.whole)}))

    def _event(self, kind: str, **members: object) -> bytes:
        self.number += 1
        return _frame(kind, encode({"type": kind, "sequence_number": self.number - 1, **members}))

    def _of_item(self, kind: str, **members: object) -> bytes:
        return self._event(kind, item_id=self.item_id, output_index=self.index, **members)

    def _item(self, item: dict[str, Any]) -> Iterator[bytes]:
        kind = item.get("type")
        kind = kind if isinstance(kind, str) else ""
        known = item.get("id")
        self.item_id = known if isinstance(known, str) else f"item_{self.index}"
        announced = {**item, **{name: value for name, value in _EMPTY.get(kind, {}).items() if name in item}}
        if "status" in item:
            announced["status"] = "in_progress"
        yield self._event("response.output_item.added", output_index=self.index, item=announced)
        before, after = _PROGRESS.get(kind, ((), ()))
        for word in before:
            yield self._of_item(f"response.{kind}.{word}")
        if kind == "message":
            yield from self._parts(item.get("content"))
        elif kind == "reasoning":
            yield from self._summary(item.get("summary"))
            yield from self._parts(item.get("content"))
        elif kind in _ARGUMENTS:
            yield from self._arguments(item, *_ARGUMENTS[kind])
        for word in after:
            yield self._of_item(f"response.{kind}.{word}")
        if kind == "mcp_call":
            yield self._of_item(f"response.mcp_call.{'completed' if item.get('error') is None else 'failed'}")
        yield self._event("response.output_item.done", output_index=self.index, item=item)

    def _arguments(self, item: dict[str, Any], member: str, event: str) -> Iterator[bytes]:
        value = item.get(member)
        if not isinstance(value, str):
            return
        for word in pieces_of(value, self.size):
            yield self._of_item(f"{event}.delta", delta=word)
        name = {"name": item["name"]} if member == "arguments" and isinstance(item.get("name"), str) and item.get("type") == "function_call" else {}
        yield self._of_item(f"{event}.done", **{member: value}, **name)

    def _summary(self, summary: object) -> Iterator[bytes]:
        for index, part in enumerate(cast("list[object]", summary) if isinstance(summary, list) else []):
            fields = cast("dict[str, Any]", part) if isinstance(part, dict) else None
            value = None if fields is None else fields.get("text")
            if fields is None or not isinstance(value, str):
                continue
            yield self._of_item("response.reasoning_summary_part.added", summary_index=index, part={**fields, "text": ""})
            for word in pieces_of(value, self.size):
                yield self._of_item("response.reasoning_summary_text.delta", summary_index=index, delta=word)
            yield self._of_item("response.reasoning_summary_text.done", summary_index=index, text=value)
            yield self._of_item("response.reasoning_summary_part.done", summary_index=index, part=fields)

    def _parts(self, content: object) -> Iterator[bytes]:
        for index, part in enumerate(cast("list[object]", content) if isinstance(content, list) else []):
            if not isinstance(part, dict):
                continue
            fields = cast("dict[str, Any]", part)
            kind = fields.get("type")
            member = _PART_TEXT.get(kind) if isinstance(kind, str) else None
            value = None if member is None else fields.get(member)
            if member is None or not isinstance(value, str):
                yield self._of_item("response.content_part.added", content_index=index, part=fields)
            else:
                empty: dict[str, list[object]] = {name: [] for name in ("annotations", "logprobs") if name in fields}
                yield self._of_item("response.content_part.added", content_index=index, part={**fields, member: "", **empty})
                yield from self._text(index, fields, cast(str, kind), member, value)
            yield self._of_item("response.content_part.done", content_index=index, part=fields)

    def _text(self, index: int, fields: dict[str, Any], kind: str, member: str, value: str) -> Iterator[bytes]:
        logprobs: dict[str, Any] = {"logprobs": []} if kind == "output_text" else {}
        for word in pieces_of(value, self.size):
            yield self._of_item(f"response.{kind}.delta", content_index=index, delta=word, **logprobs)
        if kind == "output_text":
            annotations = fields.get("annotations")
            for number, annotation in enumerate(cast("list[object]", annotations) if isinstance(annotations, list) else []):
                yield self._of_item("response.output_text.annotation.added", content_index=index, annotation_index=number, annotation=annotation)
            logprobs = {"logprobs": fields.get("logprobs") or []}
        yield self._of_item(f"response.{kind}.done", content_index=index, **{member: value}, **logprobs)
