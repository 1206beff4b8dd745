"""Where the texts of requests and answers stand, in each protocol: the places, in order, with who said what is there.

Shapes: the APIs' references, as in `protocols`. What has another shape than its protocol promises is passed over here; what no protocol knows as
text (a model's name, the schema of a tool, an image) is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from penstock.policy.beside import (
    chat_found,
    chat_searched,
    chat_stopped,
    content,
    failed,
    gemini_beside,
    gemini_blocked,
    gemini_named,
    gemini_predicted,
    messages_cited,
    messages_stopped,
    responses_cited,
    responses_found,
)
from penstock.policy.places import Joined, Kind, Object, Place, as_object, objects, strings, tree
from penstock.policy.rules import Scope
from penstock.vocabulary.ids import Operation, ProtocolId


def request_texts(protocol: ProtocolId, operation: Operation, body: Object) -> Iterator[Place]:
    match protocol:
        case ProtocolId.OPENAI_CHAT:
            yield from _chat_request(operation, body)
        case ProtocolId.OPENAI_RESPONSES:
            yield from _responses_request(body)
        case ProtocolId.ANTHROPIC_MESSAGES:
            yield from _messages_request(body)
        case ProtocolId.GEMINI:
            yield from _gemini_request(body)


def answer_texts(protocol: ProtocolId, operation: Operation, body: Object) -> Iterator[Place]:
    match protocol:
        case ProtocolId.OPENAI_CHAT:
            for answer in (body, *objects(body.get("data"))):  # a list of such as were stored
                yield from chat_found(answer)
                yield from chat_searched(answer)
                for choice in objects(answer.get("choices")):
                    yield from strings(choice, Scope.ASSISTANT, "text")
                    yield from chat_message(as_object(choice.get("message")), Scope.ASSISTANT)
                    yield from chat_stopped(choice)
            yield from (*failed(body), *failed(as_object(body.get("x_groq"))))
        case ProtocolId.OPENAI_RESPONSES:
            for item in (*objects(body.get("output")), *objects(body.get("data"))):  # `data`: the items of a conversation, or what was put in
                yield from responses_item(item, Scope.ASSISTANT)
            if "output" not in body and body.get("object") != "response":
                yield from responses_item(body, Scope.ASSISTANT)
            yield from strings(body, Scope.ASSISTANT, "output_text")
            yield from failed(body)
        case ProtocolId.ANTHROPIC_MESSAGES:
            for block in objects(body.get("content")):
                yield from messages_block(block, Scope.ASSISTANT)
            yield from messages_stopped(body)
            yield from failed(body)
        case ProtocolId.GEMINI:
            for candidate in objects(body.get("candidates")):
                parts = list(objects(as_object(candidate.get("content")).get("parts")))
                yield from _gemini_answer(parts)
                for part in parts:
                    yield from gemini_files(part)
                yield from gemini_beside(candidate)
            yield from gemini_blocked(body)
            yield from gemini_predicted(body)
    del operation


REASONING = ("reasoning_content", "reasoning")
NOT_BESIDE = frozenset({*REASONING, "thinking_blocks", "thought_signature", "thought_signatures"})
"""Of what LiteLLM tells in `provider_specific_fields`: what is judged as thoughts, and what is sealed, which must come back as it was."""
_SEALED = frozenset({"type", "encrypted_content", "encrypted_index", "encrypted_stdout"})
_CHAT_ROLES = {"system": Scope.SYSTEM, "developer": Scope.SYSTEM, "assistant": Scope.ASSISTANT, "tool": Scope.TOOL_RESULTS,
               "function": Scope.TOOL_RESULTS}


def chat_message(message: Object, scope: Scope) -> Iterator[Place]:
    """A message of Chat, or a delta of one."""
    yield from content(message, "content", scope)
    yield from strings(message, scope, "refusal")
    yield from strings(message, Scope.REASONING, *REASONING)
    yield from strings(as_object(message.get("audio")), scope, "transcript")
    beside = as_object(message.get("provider_specific_fields"))  # LiteLLM's: what its own fields say, again
    yield from strings(beside, Scope.REASONING, *REASONING)
    for thought in (*objects(message.get("thinking_blocks")), *objects(beside.get("thinking_blocks"))):
        yield from strings(thought, Scope.REASONING, "thinking")
    for key in beside:
        if key not in NOT_BESIDE:
            yield from tree(beside, key, Scope.TOOL_RESULTS)
    for detail in objects(message.get("reasoning_details")):
        yield from strings(detail, Scope.REASONING, "text", "summary")
    for call in objects(message.get("tool_calls")):
        yield from chat_call(call)
    yield from chat_found(message)
    yield from strings(as_object(message.get("function_call")), Scope.TOOL_ARGUMENTS, "arguments", kind=Kind.ARGUMENTS)


def chat_call(call: Object) -> Iterator[Place]:
    yield from strings(as_object(call.get("function")), Scope.TOOL_ARGUMENTS, "arguments", kind=Kind.ARGUMENTS)
    yield from strings(as_object(call.get("custom")), Scope.TOOL_ARGUMENTS, "input")


def _chat_request(operation: Operation, body: Object) -> Iterator[Place]:
    for message in objects(body.get("messages")):
        yield from chat_message(message, _CHAT_ROLES.get(str(message.get("role")), Scope.USER))
    yield from content(as_object(body.get("prediction")), "content", Scope.USER)
    for key in ("prompt", "suffix", "input", "instructions", "negative_prompt"):
        yield from content(body, key, Scope.USER)
    yield from tree(body, "documents", Scope.USER)  # vLLM's and others', beside the messages
    del operation


def responses_item(item: Object, nobody: Scope = Scope.USER) -> Iterator[Place]:
    """An item of input or output. `nobody`: who says what has no role."""
    kind = str(item.get("type", "message"))
    if kind == "message":
        yield from content(item, "content", _CHAT_ROLES.get(str(item.get("role")), nobody if item.get("role") is None else Scope.USER))
        for part in objects(item.get("content")):
            yield from responses_cited(part)
        return
    if kind == "agent_message":  # what agents of one answer say to each other
        yield from content(item, "content", Scope.ASSISTANT)
        return
    if kind == "reasoning":
        yield from content(item, "summary", Scope.REASONING)
        yield from content(item, "content", Scope.REASONING)
        return
    if kind.endswith("_output"):
        yield from content(item, "output", Scope.TOOL_RESULTS)
        yield from strings(item, Scope.TOOL_RESULTS, "result")
        yield from shell_output(item)
        return
    if isinstance(item.get("arguments"), str):
        yield Place(item, "arguments", Scope.TOOL_ARGUMENTS, Kind.ARGUMENTS)
    else:
        yield from tree(item, "arguments", Scope.TOOL_ARGUMENTS)
    yield from strings(item, Scope.TOOL_ARGUMENTS, "input", "code", "revised_prompt")
    yield from content(item, "queries", Scope.TOOL_ARGUMENTS)
    yield from responses_found(item)
    for told in objects(item.get("outputs")):
        yield from strings(told, Scope.TOOL_RESULTS, "logs")
    yield from strings(item, Scope.USER, "reason")
    for key in ("action", "actions", "operation"):
        yield from tree(item, key, Scope.TOOL_ARGUMENTS)
    yield from strings(item, Scope.TOOL_RESULTS, "output")


def shell_output(holder: Object) -> Iterator[Place]:
    """What commands came to, in an item or in the event that tells it again."""
    for piece in objects(holder.get("output")):
        yield from strings(piece, Scope.TOOL_RESULTS, "stdout", "stderr")


def _responses_request(body: Object) -> Iterator[Place]:
    yield from strings(body, Scope.SYSTEM, "instructions")
    yield from strings(body, Scope.USER, "input")
    for item in objects(body.get("input")):
        yield from responses_item(item)
    yield from tree(as_object(body.get("prompt")), "variables", Scope.USER)


def messages_block(block: Object, scope: Scope) -> Iterator[Place]:
    kind = str(block.get("type"))
    if kind == "tool_result":
        yield from strings(block, Scope.TOOL_RESULTS, "content")
        for inner in objects(block.get("content")):
            if inner.get("type") not in ("tool_result", "tool_use"):  # neither can stand there
                yield from messages_block(inner, Scope.TOOL_RESULTS)
    elif kind.endswith("_tool_result"):
        yield from _hosted_results(block)
    elif kind in ("tool_use", "server_tool_use", "mcp_tool_use"):
        yield from tree(block, "input", Scope.TOOL_ARGUMENTS)
    elif kind in ("thinking", "compaction"):
        yield from strings(block, Scope.REASONING, "thinking", "content")
    elif kind in ("document", "search_result"):
        yield from strings(as_object(block.get("source")), scope, "data" if as_object(block.get("source")).get("type") == "text" else "", "content")
        yield from content(as_object(block.get("source")), "content", scope)
        yield from strings(block, scope, "title", "context", "source")
        yield from content(block, "content", scope)
    else:
        yield from strings(block, scope, "text")
        for citation in objects(block.get("citations")):
            yield from messages_cited(citation, scope)


def _hosted_results(block: Object) -> Iterator[Place]:
    """What a tool came to that the provider runs itself, without what only the provider can read: it must come back as it was."""
    found: object = block.get("content")
    if isinstance(found, str):
        yield Place(block, "content", Scope.TOOL_RESULTS)
    told = cast("list[Any]", found) if isinstance(found, list) else []
    yield from (Place(told, index, Scope.TOOL_RESULTS) for index, said in enumerate(told) if isinstance(said, str))
    for holder in (as_object(cast("object", found)), *objects(told)):
        for key in [key for key in holder if key not in _SEALED]:
            yield from tree(holder, key, Scope.TOOL_RESULTS)


def _messages_request(body: Object) -> Iterator[Place]:
    yield from content(body, "system", Scope.SYSTEM)
    for message in objects(body.get("messages")):
        scope = {"assistant": Scope.ASSISTANT, "system": Scope.SYSTEM}.get(str(message.get("role")), Scope.USER)
        yield from strings(message, scope, "content")
        for block in objects(message.get("content")):
            yield from messages_block(block, scope)


def gemini_part(part: Object, scope: Scope) -> Iterator[Place]:
    yield from strings(part, Scope.REASONING if part.get("thought") is True else scope, "text")
    yield from gemini_called(part)


def gemini_called(part: Object) -> Iterator[Place]:
    """All texts of a part but its own. It has either, but for servers that write an empty text beside a call."""
    for call in ("functionCall", "function_call", "toolCall", "tool_call"):
        yield from tree(as_object(part.get(call)), "args", Scope.TOOL_ARGUMENTS)
    for result in ("functionResponse", "function_response", "toolResponse", "tool_response"):
        yield from tree(as_object(part.get(result)), "response", Scope.TOOL_RESULTS)
    for code in ("executableCode", "executable_code"):
        yield from strings(as_object(part.get(code)), Scope.TOOL_ARGUMENTS, "code")
    for result in ("codeExecutionResult", "code_execution_result"):
        yield from strings(as_object(part.get(result)), Scope.TOOL_RESULTS, "output")


def gemini_files(part: Object) -> Iterator[Place]:
    """What files in a part of an answer are called, and where they are; in what a tool came to, too."""
    yield from gemini_named(part, Scope.ASSISTANT, "fileUri")
    for key in ("functionResponse", "function_response", "toolResponse", "tool_response"):
        for inner in objects(as_object(part.get(key)).get("parts")):
            yield from strings(inner, Scope.TOOL_RESULTS, "text")
            yield from gemini_named(inner, Scope.TOOL_RESULTS, "fileUri")


def _gemini_answer(parts: list[Object]) -> Iterator[Place]:
    """Parts of one kind that follow each other are one text, as they are on a stream."""
    at = 0
    while at < len(parts):
        last = at + 1
        while isinstance(parts[at].get("text"), str) and last < len(parts) and isinstance(parts[last].get("text"), str):
            if (parts[last].get("thought") is True) is not (parts[at].get("thought") is True):
                break
            last += 1
        if last > at + 1:
            yield Place(Joined(parts[at:last]), "text", Scope.REASONING if parts[at].get("thought") is True else Scope.ASSISTANT)
            for part in parts[at:last]:
                yield from gemini_called(part)
        else:
            yield from gemini_part(parts[at], Scope.ASSISTANT)
        at = last


def _gemini_request(body: Object) -> Iterator[Place]:
    for name in ("generateContentRequest", "generate_content_request", "requests"):
        for request in _one_or_more(body.get(name)):
            yield from _gemini_request(request)
    for key in ("systemInstruction", "system_instruction"):
        yield from _gemini_turn(body.get(key), Scope.SYSTEM)
    for key in ("contents", "content"):
        for turn in _one_or_more(body.get(key)):
            yield from _gemini_turn(turn, Scope.ASSISTANT if turn.get("role") == "model" else Scope.USER)
    for instance in _one_or_more(body.get("instances")):  # of `:predict`: for pictures, film, vectors, and (as Chat has it) behind an endpoint
        yield from strings(instance, Scope.USER, "content", "title", "text", "inputs")
        yield from _chat_request(Operation.CHAT, instance)
    yield from strings(as_object(body.get("parameters")), Scope.USER, "negativePrompt")
    for passage in _one_or_more(as_object(body.get("inlinePassages")).get("passages")):
        yield from _gemini_turn(passage.get("content"), Scope.TOOL_RESULTS)


def _gemini_turn(turn: object, scope: Scope) -> Iterator[Place]:
    """What somebody says at once, and what files in it are called."""
    for part in _one_or_more(as_object(turn).get("parts")):
        yield from gemini_part(part, scope)
        yield from gemini_named(part, scope)
        for key in ("functionResponse", "function_response"):
            yield from _gemini_turn(part.get(key), Scope.TOOL_RESULTS)


def _one_or_more(value: object) -> Iterator[Object]:
    """Google takes one object for a list of one, and its own examples write `"parts": {"text": ...}`."""
    return iter([cast("Object", value)]) if isinstance(value, dict) else objects(value)
