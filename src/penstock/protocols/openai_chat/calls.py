"""The tool calls of one choice: which one is open, when it began, went on and ended.

A Chat stream has no event for a call's end. In `choices[].delta.tool_calls` each entry names its call by `index`; the first carries `id` and
`function.name`, the later ones pieces of `function.arguments`. So a call has ended when

- an entry of another index comes in the same choice (providers finish one call before the next),
- its arguments, which are one JSON object, have closed, or
- the choice has its finish reason, or the stream its end.

Deviations that occur: no `index` at all, and index 0 for every one of several calls (Gemini's OpenAI surface): a new `id` is then a new call.
The id in every delta, or an empty one in the later deltas (vLLM and others): the same id, and no id, is the same call. A call that
goes on after another began, or after its arguments had closed, is open again and is not counted twice.
"""

from __future__ import annotations

import re
from typing import Any

from penstock.protocols.contract import ToolCall
from penstock.protocols.openai_chat.chunk import CallDelta, Function, count, encode_any, word

MAX_CALLS = 256
"""So many calls of one choice are told apart when they come up again; memory does not grow with the stream."""
LEGACY_INDEX = 1 << 32
"""The index that `function_call`, which has none, is given."""

_STRING_REST = re.compile(r'[^"\\]*+(?:\\.[^"\\]*+)*+("|\\\Z|\Z)', re.DOTALL)
_TOKEN = re.compile(r'[\[{]|[\]}]|"[^"\\]*+(?:\\.[^"\\]*+)*+("|\\\Z|\Z)', re.DOTALL)


class JsonEnd:
    """Tells when the JSON object or array that comes in pieces has closed, in constant memory. Not a validator."""

    __slots__ = ("closed", "depth", "escaped", "in_string")

    def __init__(self) -> None:
        self.closed = False
        self.depth = 0
        self.in_string = False
        self.escaped = False
        """The last piece ended behind a backslash: the next character is not an end."""

    def feed(self, piece: str) -> None:
        at = 0
        if self.in_string:
            if self.escaped:
                at = 1
                self.escaped = False
            if '"' not in piece and "\\" not in piece:
                return
            rest = _STRING_REST.match(piece, at)
            self._string_to(rest[1] if rest else "")
            if self.in_string:
                return
            at = rest.end() if rest else at
        for token in _TOKEN.finditer(piece, at):
            first = token[0][0]
            if first == '"':
                self._string_to(token[1])
            elif first in "[{":
                self.closed = False
                self.depth += 1
            else:
                self.depth -= 1
                self.closed = self.depth <= 0

    def _string_to(self, end: str) -> None:
        self.in_string = end != '"'
        self.escaped = end == "\\"


class OpenCall:
    """One call; `ended` once another one began behind it or its choice was over."""

    __slots__ = ("call_id", "end", "ended", "index", "key", "part", "told", "tool")

    def __init__(self, key: str, index: int, call_id: str | None, tool: ToolCall, part: int) -> None:
        self.key = key
        self.index = index
        self.call_id = call_id
        self.tool = tool
        self.end = JsonEnd() if tool.kind == "function" else None
        """`None` where the arguments are not JSON (custom tools)."""
        self.part = part
        self.ended = False
        self.told = False
        """Its end was told as a neutral event."""

    @property
    def whole(self) -> bool:
        """Nothing more of it is to be expected; of arguments that are no JSON that is not known before the next call."""
        return self.end is None or self.end.closed


class Answer:
    """One choice of a stream: its calls, and the numbers of its parts."""

    __slots__ = ("begun", "call", "finished", "index", "part", "part_kind", "parts")

    def __init__(self, index: int) -> None:
        self.index = index
        self.finished = False
        self.call: OpenCall | None = None
        """The call that went on last."""
        self.begun: dict[int, OpenCall] = {}
        self.parts = 0
        self.part = 0
        self.part_kind = ""

    def part_of(self, kind: str) -> int:
        """The part that content of `kind` (`text`, `reasoning`) belongs to: the running one, or a new one when something else lay between."""
        if kind != self.part_kind:
            self.part = self.new_part(kind)
        return self.part

    def new_part(self, kind: str) -> int:
        self.part_kind = kind
        self.parts += 1
        return self.parts - 1

    def untold(self) -> list[OpenCall]:
        """The calls whose end was not told, in the order in which they began."""
        calls = {id(call): call for call in self.begun.values()}
        if self.call is not None:
            calls[id(self.call)] = self.call
        return sorted((call for call in calls.values() if not call.told), key=lambda call: call.part)

    def find(self, delta: CallDelta, function: Function) -> tuple[OpenCall | None, int]:
        """The running call that `delta` belongs to, or `None` and the index of the call that it begins or takes up again."""
        call, call_id, index = self.call, word(delta.id), count(delta.index)
        if call is not None and (index is None or index == call.index) and (call_id is None or call.call_id is None or call_id == call.call_id):
            # A whole call and then a name and arguments again, without ids to tell them apart: another call, not more of the same.
            another = call.end is not None and call.end.closed and call_id is None and bool(function.name) and bool(function.arguments)
            if not another:
                return call, call.index
        if index is None:
            index = max(self.begun, default=-1) + 1
        return None, index

    def begin(self, index: int, delta: CallDelta, function: Function, now: float) -> tuple[OpenCall, bool]:
        """The call of `index` is the running one now; the second value is True where it is a new one."""
        call_id, known = word(delta.id), self.begun.get(index)
        if known is not None and (call_id == known.call_id if call_id is not None else not function.name):
            known.ended = False
            self.call = known
            return known, False
        tool = ToolCall(word(function.name), "function" if delta.custom is None else "custom", now)
        key = f"{self.index}.{index}"
        self.call = OpenCall(key, index, call_id, tool, self.new_part("tool"))
        if index in self.begun or len(self.begun) < MAX_CALLS:
            self.begun[index] = self.call
        return self.call, True


def arguments_of(function: Function) -> str:
    """The piece of arguments that a delta carries. Some servers give the object itself, in one piece, and not its text."""
    piece: Any = function.arguments if function.arguments is not None else function.input
    if isinstance(piece, str):
        return piece
    return encode_any(piece).decode() if isinstance(piece, dict) and piece else ""
