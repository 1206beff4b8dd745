"""The marker of the prompt cache, put in where the client set none.

Source: Anthropic, "Prompt caching", automatic caching: a top-level `cache_control` of a request puts the breakpoint on its last block that can be
cached and moves it on as a conversation grows. A write costs 1.25 times the input, a read a tenth; so it pays with the first request that repeats
the prompt, and costs a quarter more where none does. Prompts below the model's minimum (512 to 4096 tokens) are not cached, marker or not.

A client that has set any marker has thought about it: its request is left alone, and so is whatever is no Messages request.
"""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec

from penstock.protocols.anthropic_messages.shapes import BROKEN
from penstock.vocabulary.ids import Operation
from penstock.wire.json import insert_field

SYSTEM: Final = 1000
"""Characters of the system prompt above which a marker is put in."""
MESSAGE: Final = 5000
"""Characters of the last user message, which a conversation then repeats with every turn."""
MARKER: Final = b'{"type":"ephemeral"}'
_WORD: Final = b"cache_control"


class _Message(msgspec.Struct, gc=False):
    role: Any = None
    content: Any = None


class _Request(msgspec.Struct, gc=False):
    system: Any = None
    messages: list[msgspec.Raw] | None = None


_decode = msgspec.json.Decoder(_Request).decode
_decode_message = msgspec.json.Decoder(_Message).decode


def mark_cache(operation: Operation, body: bytes) -> bytes | None:
    """`body` with a marker at its top level, no other byte changed; `None` where it is left as it is."""
    if operation is not Operation.MESSAGES or len(body) < SYSTEM:
        return None
    try:
        if not _is_long(_decode(body)) or _is_marked(body):
            return None
        return insert_field(body, "cache_control", MARKER)
    except BROKEN:
        return None  # what only a lenient reader takes is not to be changed


def _is_long(request: _Request) -> bool:
    if _length(request.system) > SYSTEM:
        return True
    if not request.messages:
        return False
    last = _decode_message(request.messages[-1])
    return last.role == "user" and _length(last.content) > MESSAGE


def _length(content: object) -> int:
    """Characters of a text, or of the text blocks in a list."""
    if isinstance(content, str):
        return len(content)
    if not isinstance(content, list):
        return 0
    blocks = (cast("dict[str, Any]", block) for block in cast("list[object]", content) if isinstance(block, dict))
    return sum(len(text) for block in blocks if isinstance(text := block.get("text"), str))


def _is_marked(body: bytes) -> bool:
    """Does any object in the request have the member? Words of a prompt are not members; letters can only be spelled otherwise by \\u."""
    if _WORD not in body and b"\\u" not in body:
        return False
    waiting: list[object] = [msgspec.json.decode(body)]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            fields = cast("dict[str, object]", value)
            if "cache_control" in fields:
                return True
            waiting += fields.values()
        elif isinstance(value, list):
            waiting += cast("list[object]", value)
    return False
