"""The names of a request's members: said twice, or told apart by their case only.

Some servers read `"Messages"` as `"messages"` (Go's `encoding/json` does, with Unicode's notion of case, and so do others where they are told to).
What stands under such a name nobody here looks at. Names matter where texts are looked for, and nowhere else: what a tool takes may be called
anything.
"""

from __future__ import annotations

import json
from typing import Any, cast

from penstock.policy.matcher import Rejection
from penstock.policy.places import Object
from penstock.policy.texts import request_texts
from penstock.protocols.openai_chat.chunk import UNREADABLE
from penstock.vocabulary.ids import Operation, ProtocolId

KNOWN = frozenset({
    "action", "actions", "all_retrieved_documents", "annotations", "args", "arguments", "attributes", "audio", "browser_results", "citations",
    "cited_text", "code", "codeExecutionResult", "code_execution_result", "code_results", "container_file_citation", "content", "contents", "context",
    "custom", "data", "description", "displayName", "display_name", "document_name", "document_title", "documents", "error", "executableCode",
    "executable_code", "executed_tools", "file", "fileData", "file_citation", "file_data", "filename", "filepath", "function", "functionCall",
    "functionResponse", "function_call", "function_response", "generateContentRequest", "generate_content_request", "inlineData", "inlinePassages",
    "inline_data", "input", "inputs", "instances", "instructions", "intent", "logs", "message", "messages", "name", "negativePrompt",
    "negative_prompt", "operation", "output", "outputs", "parameters", "parts", "passages", "pending_safety_checks", "prediction", "prompt",
    "provider_specific_fields", "queries", "reason", "reasoning", "reasoning_content", "reasoning_details", "refusal", "requests", "response",
    "result", "results", "revised_prompt", "role", "search_results", "snippet", "source", "stderr", "stdout", "suffix", "summary", "system",
    "systemInstruction", "system_instruction", "text", "thinking", "thinking_blocks", "thought", "title", "toolCall", "toolResponse", "tool_call",
    "tool_calls", "tool_response", "transcript", "type", "url", "url_citation", "variables",
})  # fmt: skip
"""Those by which `texts` finds its way through requests."""
_FOLDED = frozenset(name.casefold() for name in KNOWN)


class _Twice(Exception):
    pass


class _Alike(Exception):
    pass


class _Watched(dict[str, Any]):
    """An object that raises `_Alike` where a member is asked for and one is there whose name only case tells apart."""

    __slots__ = ("_names",)

    def __init__(self, fields: Object) -> None:
        super().__init__(fields)
        self._names: dict[str, list[str]] = {}
        for name in fields:
            self._names.setdefault(name.casefold(), []).append(name)

    def get(self, key: str, default: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  # as `texts` asks
        if any(name != key for name in self._names.get(key.casefold(), ())):
            raise _Alike(key)
        value = super().get(key, default)
        return [_watched(item) for item in cast("list[Any]", value)] if isinstance(value, list) else _watched(value)


def _watched(value: Any) -> Any:
    return _Watched(cast("Object", value)) if isinstance(value, dict) else value


def names_in(body: bytes) -> set[str] | None:
    """The names of all members in this JSON; `None`: an object has two of one name (the last is the one that was read, and judged; some provider may
    read the first), or only one of both readers takes it."""
    names: set[str] = set()

    def note(members: list[tuple[str, Any]]) -> None:
        once = dict(members)
        if len(once) != len(members):
            raise _Twice
        names.update(once)

    try:
        json.JSONDecoder(object_pairs_hook=note, parse_int=float, strict=False).decode(body.decode("utf-8", "replace"))
    except (_Twice, *UNREADABLE):
        return None
    return names


def known_alike(protocol: ProtocolId, operation: Operation, fields: Object, names: set[str] | None) -> str | None:
    """The name by which a text of this request is looked for and that one of its own is but for its case; `None`: there is none. `names`: of all its
    members, where they are known."""
    if names is not None and not any(name.casefold() in _FOLDED for name in names - KNOWN):
        return None
    try:
        for _ in request_texts(protocol, operation, _Watched(fields)):
            pass
    except _Alike as found:
        return str(found)
    return None


def misread(rejection: Rejection, known: str) -> Rejection:
    """`rejection`, of a request that has a name like `known`."""
    return Rejection(
        rejection.guard, f"a name in it is {known!r} but for its case",
        f"A name in the request is {known!r} but for its case, and some servers read it as that. Write {known!r}.", bad_request=True)
