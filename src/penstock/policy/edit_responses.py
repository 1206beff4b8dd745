"""Responses. A text is one part of one item, by its item and its index: speech, a refusal, a thought, a summary, or a call's arguments.

Each is told twice, in deltas and whole (`*.done`, the item, the last event): the whole is judged by the same engine, so both say the same. A frame
that is made carries the number of the delta whose rest it holds.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Annotated, Any, cast

import msgspec

from penstock.policy.beside import failed, responses_cited, responses_note
from penstock.policy.editing import Editor, End, Flow, Step, Told, Untold, Whole, hashable
from penstock.policy.guards import Rules
from penstock.policy.matcher import Findings, Hold
from penstock.policy.places import Kind, Object, Place, as_object, objects, strings
from penstock.policy.rules import Scope
from penstock.policy.texts import responses_item, shell_output
from penstock.policy.tokens import responses_spells, responses_spelt
from penstock.protocols.contract import Observer
from penstock.protocols.openai_chat.chunk import decode_any, encode_any
from penstock.protocols.openai_responses.observe import ResponsesObserver

_DELTAS: dict[str, tuple[Scope, Kind]] = {
    "response.output_text": (Scope.ASSISTANT, Kind.TEXT),
    "response.refusal": (Scope.ASSISTANT, Kind.TEXT),
    "response.audio.transcript": (Scope.ASSISTANT, Kind.TEXT),
    "response.reasoning_text": (Scope.REASONING, Kind.TEXT),
    "response.reasoning_summary_text": (Scope.REASONING, Kind.TEXT),
    "response.reasoning": (Scope.REASONING, Kind.TEXT),  # OpenRouter's
    "response.reasoning_summary": (Scope.REASONING, Kind.TEXT),
    "response.function_call_arguments": (Scope.TOOL_ARGUMENTS, Kind.ARGUMENTS),
    "response.mcp_call_arguments": (Scope.TOOL_ARGUMENTS, Kind.ARGUMENTS),
    "response.mcp_call.arguments": (Scope.TOOL_ARGUMENTS, Kind.ARGUMENTS),
    "response.custom_tool_call_input": (Scope.TOOL_ARGUMENTS, Kind.TEXT),
    "response.code_interpreter_call_code": (Scope.TOOL_ARGUMENTS, Kind.TEXT),
    "response.code_interpreter_call.code": (Scope.TOOL_ARGUMENTS, Kind.TEXT),
    "response.shell_call_command": (Scope.TOOL_ARGUMENTS, Kind.TEXT),
    "response.apply_patch_call_operation_diff": (Scope.TOOL_ARGUMENTS, Kind.TEXT),
}
_OUTPUT = "response.shell_call_output_content"
"""Two texts, told in an object of their deltas."""
_OUTPUTS = ("stdout", "stderr")
_WHOLE = ("text", "refusal", "transcript", "arguments", "input", "code", "command", "diff")
"""Where a `done` tells a text again."""
_ENDS = frozenset({
    "response.completed", "response.incomplete", "response.failed", "response.cancelled", "response.canceled", "response.error", "error",
})  # fmt: skip
_OTHERWISE = frozenset({
    _OUTPUT, "response.output_item", "response.content_part", "response.reasoning_summary_part", "response.reasoning_part", "response.audio",
    "response.output_audio",
})  # fmt: skip
"""Families whose deltas and ends are no texts, or tell them in a way of their own."""
_BEGUN = frozenset({"response.created", "response.queued", "response.in_progress"})
_THOUGHTS_ADDED = ("response.reasoning_summary_part.added", "response.reasoning_part.added")
_THOUGHTS_DONE = ("response.reasoning_summary_part.done", "response.reasoning_part.done")
"""The second of both is vLLM's."""
_Key = tuple[str, Any, Any, Any]


class _Delta(msgspec.Struct, gc=False):
    delta: str
    type: str
    output_index: int
    content_index: int
    summary_index: int | None = None
    logprobs: Annotated[list[None], msgspec.Meta(max_length=0)] | None = None


_decode = msgspec.json.Decoder(_Delta).decode


class ResponsesEditor(Editor):
    def __init__(self, rules: Rules, findings: Findings, hold: Hold) -> None:
        super().__init__(rules, findings, hold)
        self._begun = b""
        self._told: set[Any] = set()
        """Items of which some text was told."""

    def quick(self, name: bytes, data: bytes, now: float) -> bool:
        if name != b"response.output_text.delta":
            return False
        try:
            frame = _decode(data)
        except (ValueError, RecursionError):
            return False
        if frame.type != "response.output_text.delta":
            return False
        return self.judge(data, ("response.output_text", frame.output_index, frame.content_index, frame.summary_index), b"delta", frame.delta)

    def put(self, frame: Object, text: str) -> None:
        frame["delta"] = text

    def steps(self, name: bytes, frame: Object) -> Iterator[Step]:
        word = frame.get("type")
        kind = word if isinstance(word, str) else name.decode("utf-8", "replace")
        yield from [Untold(part, "logprobs", []) for part in responses_spelt(frame) if not responses_spells(part)]
        if kind in _BEGUN:
            if not self._begun:
                self._begun = encode_any(frame)
            for whole in objects(as_object(frame.get("response")).get("output")):  # of one that is told again from its middle
                yield from [Whole(place) for place in responses_item(whole, Scope.ASSISTANT)]
            return
        family, _, verb = kind.rpartition("_" if kind.startswith("response.mcp_call.arguments_") else ".")
        known = _DELTAS.get(family)
        if known is None and verb in ("delta", "done") and family not in _OTHERWISE:  # a text that nobody here knows is one
            known = (Scope.REASONING if "reasoning" in family else Scope.ASSISTANT), Kind.TEXT
        if known is not None and verb == "delta":
            scope, sort = known
            if isinstance(frame.get("delta"), str):
                self._told.add(_item(frame))
                yield Flow(_key(family, frame), Place(frame, "delta", scope, sort))
            return
        item = _item(frame)
        again = item in self._told
        if family == _OUTPUT:
            yield from self._output(verb, frame, again)
        elif family == "response.output_text.annotation":
            yield from [Whole(place) for place in responses_note(as_object(frame.get("annotation")))]
        elif kind == "response.shell_call_command.added":
            if frame.get("command"):
                self._told.add(item)
                yield from [Flow(_key(family, frame), place) for place in strings(frame, Scope.TOOL_ARGUMENTS, "command")]
        elif known is not None and verb == "done":
            scope, sort = known
            yield End(_key(family, frame))
            yield from [Whole(place, again) for place in strings(frame, scope, *_WHOLE, kind=sort)]
            self._told.add(item)
        elif kind in ("response.content_part.done", *_THOUGHTS_DONE):
            yield from self._ended(frame)
            part = as_object(frame.get("part"))
            scope = Scope.ASSISTANT if kind == "response.content_part.done" and part.get("type") != "reasoning_text" else Scope.REASONING
            yield from [Whole(place, again) for place in (*strings(part, scope, "text", "refusal", "transcript"), *responses_cited(part))]
            self._told.add(item)
        elif kind in ("response.content_part.added", *_THOUGHTS_ADDED):
            part = as_object(frame.get("part"))
            scope = Scope.ASSISTANT if kind == "response.content_part.added" and part.get("type") != "reasoning_text" else Scope.REASONING
            yield from [Whole(place) for place in (*strings(part, scope, "text", "refusal", "transcript"), *responses_cited(part))]
        elif kind in ("response.output_item.done", "response.output_item.added"):
            if kind.endswith("done"):
                yield from self._ended(frame)
                self._told.add(item)
            yield from [Whole(place, again) for place in responses_item(as_object(frame.get("item")), Scope.ASSISTANT)]
        elif kind in _ENDS:
            yield from [End(key) for key in list(self.channels)]
            response = as_object(frame.get("response"))
            for index, whole in enumerate(objects(response.get("output"))):
                again = index in self._told or hashable(whole.get("id")) in self._told
                yield from [Whole(place, again) for place in responses_item(whole, Scope.ASSISTANT)]
            yield from [Whole(place, bool(self._told)) for place in strings(response, Scope.ASSISTANT, "output_text")]
            yield from [Whole(place) for place in (*failed(response), *failed(frame), *strings(frame, Scope.ASSISTANT, "message"))]

    def _output(self, verb: str, frame: Object, again: bool) -> Iterator[Step]:
        """What a command told so far on both of its channels."""
        key = _key(_OUTPUT, frame)[:3]
        if verb == "delta":
            self._told.add(_item(frame))
            delta = as_object(frame.get("delta"))
            yield from [Flow((*key, name), place) for name in _OUTPUTS for place in strings(delta, Scope.TOOL_RESULTS, name)]
        elif verb == "done":
            yield from [End((*key, name)) for name in _OUTPUTS]
            yield from [Whole(place, again) for place in shell_output(frame)]
            self._told.add(_item(frame))

    def _ended(self, frame: Object) -> Iterator[End]:
        """The texts of the item that `frame` ends, or of its part."""
        item, part = _item(frame), hashable(frame.get("content_index", frame.get("summary_index")))
        for key in cast("list[_Key]", list(self.channels)):
            if key[1] == item and (part is None or part in (key[2], key[3])):
                yield End(key)

    def made(self, key: Hashable, text: str, origin: Object) -> tuple[bytes, Object]:
        family, _, _, channel = cast("_Key", key)
        frame: Object = {name: value for name, value in origin.items() if name not in ("obfuscation", "command")}
        kind = str(frame.get("type", ""))
        if kind.endswith(".added"):
            frame["type"] = kind = kind.removesuffix("added") + "delta"
        frame["delta"] = {channel: text} if family == _OUTPUT else text
        return kind.encode(), frame

    def stop(self, observer: Observer) -> list[Told] | None:
        if not self._begun or not isinstance(observer, ResponsesObserver):
            return None
        begun = as_object(cast("Object", decode_any(self._begun)).get("response"))
        response: Object = {**begun, "status": "incomplete", "incomplete_details": {"reason": "content_filter"}, "output": [], "usage": None}
        frame: Object = {"type": "response.incomplete", "sequence_number": observer.sequence_number + 1, "response": response}
        return [(b"response.incomplete", encode_any(frame))]


def _item(frame: Object) -> Any:
    index = frame.get("output_index")
    return hashable(index if index is not None else frame.get("item_id", as_object(frame.get("item")).get("id")))


def _key(family: str, frame: Object) -> _Key:
    return family, _item(frame), hashable(frame.get("content_index", frame.get("command_index"))), hashable(frame.get("summary_index"))
