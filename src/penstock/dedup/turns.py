"""Is a turn made only of tool results? Of a body in any of the four protocols; pure.

Sources: Anthropic, Messages (`tool_result` blocks in the last user message); OpenAI, Chat (messages of role `tool` at the end) and Responses (items
whose type ends with `_output` at the end of `input`); Google, Gemini (`functionResponse` parts in the last content).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import msgspec

_RESULTS = frozenset({"tool", "function"})


def is_tool_turn(body: bytes) -> bool:
    """False where it cannot be told."""
    try:
        value: object = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    if not isinstance(value, dict):
        return False
    request = cast("dict[str, object]", value)
    last = _last(request.get("messages"))
    if last is not None:
        return last.get("role") in _RESULTS or (last.get("role") == "user" and _all(last.get("content"), _is_result))
    last = _last(request.get("input"))
    if last is not None:
        kind = last.get("type")
        return isinstance(kind, str) and kind.endswith("_output")
    last = _last(request.get("contents"))
    return last is not None and _all(last.get("parts"), _is_response)


def _last(items: object) -> dict[str, object] | None:
    if not isinstance(items, list) or not items:
        return None
    last: object = cast("list[object]", items)[-1]
    return cast("dict[str, object]", last) if isinstance(last, dict) else None


def _all(items: object, test: Callable[[dict[str, object]], bool]) -> bool:
    if not isinstance(items, list) or not items:
        return False
    return all(isinstance(item, dict) and test(cast("dict[str, object]", item)) for item in cast("list[object]", items))


def _is_result(block: dict[str, object]) -> bool:
    kind = block.get("type")
    return isinstance(kind, str) and kind.endswith("tool_result")


def _is_response(part: dict[str, object]) -> bool:
    return "functionResponse" in part or "function_response" in part
