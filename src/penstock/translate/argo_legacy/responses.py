"""A request of the Responses API as one of Chat: items become messages, and what only OpenAI's own servers can do is left out and noted."""

from __future__ import annotations

from typing import Any, Final, cast

from penstock.protocols.contract import BadRequest
from penstock.translate.argo_legacy.messages import Fields, texts_of

_DROPPED: Final = frozenset({
    "include", "metadata", "previous_response_id", "reasoning", "service_tier", "store", "text", "truncation", "prompt", "conversation", "background",
    "input", "instructions", "max_output_tokens",
})  # fmt: skip
_TOLD: Final = ("previous_response_id", "prompt", "conversation")
"""Without these the answer is to another question, so the record says it."""
_ITEM_ROLES: Final = frozenset({"system", "developer", "user", "assistant"})


def as_chat(fields: Fields) -> tuple[Fields, list[str]]:
    """The request in Chat's words, and what was left out. Raises `BadRequest`."""
    notes = [f"{name} left out" for name in _TOLD if fields.get(name) is not None]
    text: Any = fields.get("text")
    form: Any = cast("Fields", text).get("format") if isinstance(text, dict) else None
    if isinstance(form, dict) and cast("Fields", form).get("type") not in (None, "text"):
        notes.append("text.format left out")
    chat = {name: value for name, value in fields.items() if name not in _DROPPED}
    messages, odd = _messages(fields.get("input"))
    instructions = fields.get("instructions")
    if isinstance(instructions, str) and instructions:
        messages.insert(0, {"role": "system", "content": instructions})
    chat["messages"] = messages
    if fields.get("max_output_tokens") is not None:
        chat["max_tokens"] = fields["max_output_tokens"]
    tools, foreign = _tools(fields.get("tools"))
    chat.pop("tools", None)
    if tools:
        chat["tools"] = tools
        choice = _choice(fields.get("tool_choice"))
        chat.pop("tool_choice", None)
        if choice is not None:
            chat["tool_choice"] = choice
    return chat, [*notes, *(f"items of type {name} left out" for name in odd), *(f"tool {name} left out" for name in foreign)]


def _messages(value: Any) -> tuple[list[Fields], list[str]]:
    if isinstance(value, str):
        return [{"role": "user", "content": value}], []
    if value is None:
        return [], []
    if not isinstance(value, list):
        raise BadRequest("The field 'input' must be a text or a list of items.")
    messages: list[Fields] = []
    odd: dict[str, None] = {}
    for item in cast("list[Any]", value):
        if not isinstance(item, dict):
            raise BadRequest("Each item of 'input' must be an object.")
        fields = cast("Fields", item)
        kind: Any = fields.get("type", "message")
        role: Any = fields.get("role")
        if kind == "message" and isinstance(role, str) and role in _ITEM_ROLES:
            messages.append({"role": role, "content": _content(fields.get("content"))})
        elif kind == "function_call":
            call = {"id": fields.get("call_id"), "type": "function",
                    "function": {"name": fields.get("name"), "arguments": fields.get("arguments")}}  # fmt: skip
            if messages and "tool_calls" in messages[-1]:
                messages[-1]["tool_calls"].append(call)
            else:
                messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
        elif kind == "function_call_output":
            messages.append({"role": "tool", "tool_call_id": fields.get("call_id"), "content": "\n\n".join(texts_of(fields.get("output")))})
        else:
            odd[str(kind)[:40]] = None
    return messages, list(odd)


def _content(content: Any) -> Any:
    """Parts in Chat's words; one text alone is a plain one."""
    if not isinstance(content, list):
        return content if content is not None else ""
    parts: list[Fields] = []
    for part in cast("list[Any]", content):
        fields = cast("Fields", part) if isinstance(part, dict) else {}
        if fields.get("type") == "input_image":
            image = {"url": fields.get("image_url")}
            if fields.get("detail") is not None:
                image["detail"] = fields["detail"]
            parts.append({"type": "image_url", "image_url": image})
        elif isinstance(text := fields.get("text", fields.get("refusal")), str):
            parts.append({"type": "text", "text": text})
        else:
            parts.append(fields)
    if len(parts) == 1 and parts[0].get("type") == "text":
        return parts[0]["text"]
    return parts


def _tools(value: Any) -> tuple[list[Fields], list[str]]:
    """Function tools in Chat's words; and the types of the others, which the gateway does not have."""
    tools: list[Fields] = []
    foreign: dict[str, None] = {}
    for tool in cast("list[Any]", value) if isinstance(value, list) else []:
        fields = cast("Fields", tool) if isinstance(tool, dict) else {}
        if fields.get("type") == "function":
            function = {name: fields[name] for name in ("name", "description", "parameters", "strict") if fields.get(name) is not None}
            tools.append({"type": "function", "function": function})
        else:
            foreign[str(fields.get("type"))[:40]] = None
    return tools, list(foreign)


def _choice(value: Any) -> Any:
    if isinstance(value, dict):
        fields = cast("Fields", value)
        if fields.get("type") == "allowed_tools":
            # Those that are no functions are left out here as they are of the tools.
            return {"type": "allowed_tools", "allowed_tools": {"mode": fields.get("mode"), "tools": _tools(fields.get("tools"))[0]}}
        name = fields.get("name")
        return {"type": "function", "function": {"name": name}} if fields.get("type") == "function" else "auto"
    return value
