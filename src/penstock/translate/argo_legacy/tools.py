"""Tools as each family of models takes them, from Chat's form: definitions, the choice, and calls and results of earlier turns.

OpenAI's is Chat's own. Claude's calls and results are blocks of content (docs.anthropic.com, "Tool use"); Gemini takes one call a turn, so calls
that were made together are told one after the other, each with its result.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, assert_never, cast

from penstock.protocols.contract import BadRequest
from penstock.protocols.openai_chat.chunk import UNREADABLE, decode_any
from penstock.translate.argo_legacy.messages import Family, Fields, id_in


def tell_tools(fields: Fields, family: Family) -> None:
    """Definitions and choice in place. Raises `BadRequest` where a tool has no name."""
    parallel = fields.pop("parallel_tool_calls", None)
    functions = [function_of(tool) for tool in fields["tools"]]
    choice = choice_of(fields.get("tool_choice"))
    match family:
        case Family.OPENAI:
            fields["tool_choice"] = {"type": "function", "function": {"name": choice[1]}} if choice[0] == "tool" else choice[0]
        case Family.CLAUDE:
            fields["tools"] = [
                {"name": f["name"], "description": f.get("description") or "", "input_schema": f.get("parameters") or {"type": "object"}}
                for f in functions
            ]  # fmt: skip
            word = {"required": "any"}.get(choice[0], choice[0])
            told: Fields = {"type": word}
            if word == "tool":
                told["name"] = choice[1]
            if word != "none":
                told["disable_parallel_tool_use"] = parallel is False
            fields["tool_choice"] = told
        case Family.GEMINI:
            fields["tools"] = [
                {"name": f["name"], "description": f.get("description") or "", "parameters": f.get("parameters") or {}} for f in functions
            ]  # fmt: skip
            words: dict[str, Any] = {"auto": "AUTO", "required": "ANY", "none": "NONE"}
            fields["tool_choice"] = words.get(choice[0]) or {"mode": "FUNCTION_CALLING", "allowed_function_names": [choice[1]]}
        case Family.OTHER:
            raise AssertionError("tools of such models are told in words")
        case _:
            assert_never(family)


def function_of(tool: Any) -> Fields:
    """The definition in a tool of Chat's."""
    function: Any = cast("Fields", tool).get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(cast("Fields", function).get("name"), str):
        raise BadRequest("Each of the 'tools' must be a function with a name.")
    return cast("Fields", function)


def choice_of(choice: Any) -> tuple[str, str]:
    """`auto`, `required`, `none`, or `tool` with its name; `auto` where nothing was said."""
    if choice is None:
        return "auto", ""
    if isinstance(choice, dict):
        function: Any = cast("Fields", choice).get("function")
        name: Any = cast("Fields", function).get("name") if isinstance(function, dict) else None
        if isinstance(name, str):
            return "tool", name
    elif choice in ("auto", "required", "none"):
        return choice, ""
    raise BadRequest("The field 'tool_choice' must be 'auto', 'required', 'none' or a function.")


def narrow(fields: Fields) -> None:
    """Where the choice is `allowed_tools`: its tools alone, and its mode as the choice, in place. Raises `BadRequest` where it names none of them."""
    choice: Any = fields.get("tool_choice")
    if not isinstance(choice, dict) or cast("Fields", choice).get("type") != "allowed_tools":
        return
    allowed: Any = cast("Fields", choice).get("allowed_tools")
    inside = cast("Fields", allowed) if isinstance(allowed, dict) else {}
    named: Any = inside.get("tools")
    names = {function_of(tool)["name"] for tool in cast("list[Any]", named)} if isinstance(named, list) else set[str]()
    fields["tools"] = [tool for tool in fields["tools"] if function_of(tool)["name"] in names]
    if not fields["tools"]:
        raise BadRequest("The field 'tool_choice' names none of the 'tools'.")
    fields["tool_choice"] = inside.get("mode")


def tell_history(messages: list[Fields], family: Family) -> list[Fields]:
    """Calls and results of earlier turns as the family has them."""
    match family:
        case Family.OPENAI | Family.OTHER:
            return messages
        case Family.CLAUDE:
            return _as_blocks(messages)
        case Family.GEMINI:
            return [{**m, "tool_calls": [_for_gemini(c) for c in calls_of(m)]} if calls_of(m) else m for m in _one_by_one(messages)]
        case _:
            assert_never(family)


def calls_of(message: Fields) -> list[Fields]:
    calls = message.get("tool_calls")
    return [call for call in cast("list[Any]", calls) if isinstance(call, dict)] if isinstance(calls, list) else []


def name_and_input(call: Fields) -> tuple[str, Any]:
    """Of a call in Chat's form; arguments that are no JSON stay the text that they are."""
    function: Any = call.get("function")
    fields = cast("Fields", function) if isinstance(function, dict) else {}
    arguments: Any = fields.get("arguments")
    if isinstance(arguments, str):
        with suppress(*UNREADABLE):
            arguments = decode_any(arguments.encode("utf-8", "surrogatepass")) if arguments.strip() else {}
    return str(fields.get("name")), {} if arguments is None else arguments


def _as_blocks(messages: list[Fields]) -> list[Fields]:
    told: list[Fields] = []
    results: list[Fields] | None = None  # of the message that is being filled: the results of one turn stand together
    for message in messages:
        if message.get("role") == "tool":
            content = message.get("content")
            result = {"type": "tool_result", "tool_use_id": message.get("tool_call_id"), "content": "" if content is None else content}
            if results is None:
                results = []
                told.append({"role": "user", "content": results})
            results.append(result)
            continue
        results = None
        calls = calls_of(message)
        if not calls:
            told.append(message)
            continue
        content = message.get("content")
        blocks: list[Any] = [{"type": "text", "text": content}] if isinstance(content, str) and content else []
        if isinstance(content, list):
            blocks += cast("list[Any]", content)
        for call in calls:
            name, given = name_and_input(call)
            blocks.append({"type": "tool_use", "id": call.get("id"), "name": name, "input": given})
        told.append({**{key: value for key, value in message.items() if key != "tool_calls"}, "content": blocks})
    return told


def _one_by_one(messages: list[Fields]) -> list[Fields]:
    """Each call followed by its result, where as many results came as calls were made."""
    told: list[Fields] = []
    at = 0
    while at < len(messages):
        message = messages[at]
        at += 1
        calls = calls_of(message)
        end = at
        while end < len(messages) and messages[end].get("role") == "tool":
            end += 1
        results = messages[at:end]
        if len(calls) < 2 or len(results) != len(calls):
            told.append(message)
            continue
        by_id = {id_in(result, "tool_call_id"): result for result in results}
        matched = len(by_id) == len(calls) and all(id_in(call, "id") in by_id for call in calls)
        for number, call in enumerate(calls):
            content = message.get("content") if number == 0 else ""
            told.append({**message, "content": content, "tool_calls": [call]})
            told.append(by_id[id_in(call, "id")] if matched else results[number])
        at = end
    return told


def _for_gemini(call: Fields) -> Fields:
    name, given = name_and_input(call)
    return {"id": call.get("id"), "name": name, "args": given if isinstance(given, dict) else {}}
