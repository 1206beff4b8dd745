"""The tool calls of one stream: which item a frame speaks of, and what was announced of it.

An item is announced by `response.output_item.added` with its type and name; its arguments begin later, or never. A frame names its
item by `item_id`, by `output_index`, or by both. Shell commands come without `item_id`; some gateways give the item another id in every
frame (GitHub Copilot's are encrypted anew), and then the index tells. So the key of a call is the id under which it was first seen.

At most `LIMIT` calls are remembered, the oldest are forgotten first: a stream that never ends its items must not make us large.
"""

from __future__ import annotations

LIMIT = 1024
_KEY_LIMIT = 1024

KINDS: dict[str, str] = {
    "function_call": "function",
    "custom_tool_call": "custom",
    "mcp_call": "mcp",
    "code_interpreter_call": "code_interpreter",
    "shell_call": "shell",
    "local_shell_call": "shell",
    "apply_patch_call": "custom",
}
"""Item types that carry arguments written by the model, and their kind. Searches, image generation and the like have none that stream."""

NEUTRAL = frozenset({"function", "custom"})
"""Kinds that are function calls in neutral words; `apply_patch` has no name and is none."""


class Call:
    """One call, from its announcement to the end of its item."""

    __slots__ = ("begun", "call_id", "index", "kind", "name", "part")

    def __init__(self, name: str | None, kind: str, call_id: str | None, index: int | None) -> None:
        self.name = name
        self.kind = kind
        self.call_id = call_id
        self.index = index
        self.begun = False
        """Its arguments began: it was counted."""
        self.part = -1
        """Its number among the neutral parts; -1 where no neutral event was made of it."""


class Calls:
    """Calls by key, with the key of each output index beside them."""

    __slots__ = ("_calls", "_keys")

    def __init__(self) -> None:
        self._calls: dict[str | int, Call] = {}
        self._keys: dict[int, str | int] = {}

    def key(self, item_id: str | None, index: int | None) -> str | int:
        """The key under which the item is known, or under which it is to be known."""
        item_id = item_id[:_KEY_LIMIT] if item_id else None
        if item_id is not None and item_id in self._calls:
            return item_id
        if index is not None:
            known = self._keys.get(index)
            if known is not None:
                return known
            return index if item_id is None else item_id
        return item_id or ""

    def get(self, key: str | int) -> Call | None:
        return self._calls.get(key)

    def add(self, item_id: str | None, call: Call) -> str | int | None:
        """Remember a call under its own id; a later item with the same output index takes the index over.

        Returns the key of the call that had to be forgotten for it, if any.
        """
        key: str | int = item_id[:_KEY_LIMIT] if item_id else "" if call.index is None else call.index
        forgotten = next(iter(self._calls)) if len(self._calls) >= LIMIT else None
        if forgotten is not None:
            self.pop(forgotten)
        self._calls[key] = call
        if call.index is not None:
            self._keys[call.index] = key
        return forgotten

    def pop(self, key: str | int) -> Call | None:
        call = self._calls.pop(key, None)
        if call is not None and call.index is not None and self._keys.get(call.index) == key:
            del self._keys[call.index]
        return call
