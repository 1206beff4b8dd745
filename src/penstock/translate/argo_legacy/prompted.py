"""Tools in words, for models that have none of their own: what they are told, how their calls are read, and how earlier calls are shown to them."""

from __future__ import annotations

import json
from typing import Any, Final, cast

from penstock.protocols.contract import BadRequest
from penstock.protocols.openai_chat.chunk import UNREADABLE, decode_any, encode_any
from penstock.translate.argo_legacy.messages import Fields, id_in, texts_of
from penstock.translate.argo_legacy.tools import calls_of, choice_of, function_of, name_and_input

OPENS, CLOSES = "<tool_call>", "</tool_call>"
_CHOICES: Final = {
    "auto": "Call tools only where they help; otherwise answer in plain words.",
    "required": "You must call at least one tool now.",
}


def prompt_of(tools: list[Any], choice: Any, parallel: Any) -> str | None:
    """What the model is told of its tools; `None` where it may use none. Raises `BadRequest`."""
    functions = [function_of(tool) for tool in tools]
    word, name = choice_of(choice)
    if word == "none":
        return None
    if word == "tool" and all(function["name"] != name for function in functions):
        raise BadRequest("The field 'tool_choice' names none of the 'tools'.")
    wanted = f"You must call the tool {json.dumps(name)} now." if word == "tool" else _CHOICES[word]
    several = "one call only" if parallel is False else "as many calls as are needed, each in tags of its own"
    return "\n".join((
        "You can call tools. They are described here, with the JSON Schema of their arguments:",
        encode_any([{key: f[key] for key in ("name", "description", "parameters") if f.get(key) is not None} for f in functions]).decode(),
        "To call a tool, write a JSON object with its name and its arguments between tags, on lines of their own, exactly like this:",
        OPENS,
        '{"name": "NAME", "arguments": {"ARGUMENT": "VALUE"}}',
        CLOSES,
        f"In one answer you may write {several}. Say nothing behind the calls: the results come in the next message, between <tool_result> and "
        "</tool_result>.",
        wanted,
    ))  # fmt: skip


def put_in(fields: Fields, messages: list[Fields] | None) -> None:
    """The prompt in the place of the tools: behind the first system message, or as one. In place."""
    tools, choice, parallel = fields.pop("tools"), fields.pop("tool_choice", None), fields.pop("parallel_tool_calls", None)
    prompt = prompt_of(tools, choice, parallel)
    if prompt is None:
        return
    if messages is None:
        system: Any = fields.get("system")
        told = cast("list[Any]", system) if isinstance(system, list) else [system] if system else []
        fields["system"] = [*told, prompt]
        return
    first = next((message for message in messages if message.get("role") == "system"), None)
    if first is None:
        messages.insert(0, {"role": "system", "content": prompt})
    else:
        first["content"] = "\n\n".join((*texts_of(first.get("content")), prompt)).strip()


def tell_history(messages: list[Fields]) -> list[Fields]:
    """Earlier calls and results as the model would have written and read them."""
    names: dict[Any, str] = {}
    told: list[Fields] = []
    for message in messages:
        calls = calls_of(message)
        if calls:
            said = [text for text in texts_of(message.get("content")) if text]
            for call in calls:
                name, given = name_and_input(call)
                names[id_in(call, "id")] = name
                said.append(f"{OPENS}\n{encode_any({'name': name, 'arguments': given}).decode()}\n{CLOSES}")
            told.append({"role": "assistant", "content": "\n".join(said)})
        elif message.get("role") == "tool":
            result = {"name": names.get(id_in(message, "tool_call_id")), "content": "\n\n".join(texts_of(message.get("content")))}
            text = f"<tool_result>\n{encode_any(result).decode()}\n</tool_result>"
            if told and told[-1].get("role") == "user" and str(told[-1].get("content")).startswith("<tool_result>"):
                told[-1]["content"] += "\n" + text
            else:
                told.append({"role": "user", "content": text})
        else:
            told.append(message)
    return told


def read_calls(text: str) -> tuple[str, list[tuple[str, str]]]:
    """What was said around the calls, and each call's name and arguments as JSON. What stands in the tags and is no call stays in the text,
    between `<invalid>` tags, so that nobody wonders where it went. One pass: the text is a stranger's."""
    said: list[str] = []
    calls: list[tuple[str, str]] = []
    at = 0
    while True:
        begin = text.find(OPENS, at)
        end = text.find(CLOSES, begin) if begin >= 0 else -1
        if end < 0:
            said.append(text[at:])
            break
        said.append(text[at:begin])
        inside = text[begin + len(OPENS) : end]
        call = _read_call(inside)
        if call is None:
            said.append(f"<invalid>{inside}</invalid>")
        else:
            calls.append(call)
        at = end + len(CLOSES)
    around = "".join(said)
    return (around.strip() if calls else around.lstrip()), calls


def _read_call(inside: str) -> tuple[str, str] | None:
    try:
        value = decode_any(inside.strip().encode("utf-8", "surrogatepass"))
    except UNREADABLE:
        return None
    if not isinstance(value, dict):
        return None
    fields = cast("Fields", value)
    name, arguments = fields.get("name"), fields.get("arguments", {})
    if not isinstance(name, str) or not name:
        return None
    if isinstance(arguments, str):
        try:
            arguments = decode_any(arguments.encode("utf-8", "surrogatepass"))
        except UNREADABLE:
            return None
    if not isinstance(arguments, dict):
        return None
    return name, encode_any(cast("Fields", arguments)).decode()
