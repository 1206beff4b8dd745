"""Where the texts of requests and answers stand, in each protocol: the places, in order, with who said what is there.

Shapes: the APIs' references, as in `protocols`. What has another shape than its protocol promises is passed over here; what no protocol knows as
text (a model's name, the schema of a tool, an image) is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from typing import Any, NamedTuple, cast

from penstock.policy.rules import Scope
from penstock.vocabulary.ids import Operation, ProtocolId

Object = dict[str, Any]


class Kind(Enum):
    TEXT = auto()
    ARGUMENTS = auto()
    """JSON, as text."""
    TREE = auto()
    """A JSON value, whose strings are the texts."""


class Joined:
    """Several parts that are one text, as their reader sees it. What stands in its place stands in the first of them."""

    def __init__(self, parts: list[Object]) -> None:
        self._parts = parts

    def __getitem__(self, key: str) -> str:
        return "".join([part[key] for part in self._parts])

    def __setitem__(self, key: str, text: str) -> None:
        for part in self._parts:
            part[key], text = text, ""


class Valued:
    """A number among the pieces of a call's arguments; what stands in its place is a string (`gemini.arguments`)."""

    def __init__(self, piece: Object) -> None:
        self._piece = piece

    def __getitem__(self, key: str) -> Any:
        return self._piece[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if isinstance(value, str):
            del self._piece[key]
            key = "stringValue"
        self._piece[key] = value


class Place(NamedTuple):
    """`holder[key]` holds the text."""

    holder: Any
    key: Any
    scope: Scope
    kind: Kind = Kind.TEXT


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
                for choice in objects(answer.get("choices")):
                    yield from strings(choice, Scope.ASSISTANT, "text")
                    yield from chat_message(as_object(choice.get("message")), Scope.ASSISTANT)
        case ProtocolId.OPENAI_RESPONSES:
            for item in (*objects(body.get("output")), *objects(body.get("data"))):  # `data`: the items of a conversation, or what was put in
                yield from responses_item(item)
            if "output" not in body and body.get("object") != "response":
                yield from responses_item(body)
            yield from strings(body, Scope.ASSISTANT, "output_text")
        case ProtocolId.ANTHROPIC_MESSAGES:
            for block in objects(body.get("content")):
                yield from messages_block(block, Scope.ASSISTANT)
            yield from messages_stopped(body)
        case ProtocolId.GEMINI:
            for candidate in objects(body.get("candidates")):
                yield from _gemini_answer(list(objects(as_object(candidate.get("content")).get("parts"))))
                yield from gemini_beside(candidate)
            yield from gemini_blocked(body)
    del operation


def as_object(value: object) -> Object:
    return cast("Object", value) if isinstance(value, dict) else {}


def objects(value: object) -> Iterator[Object]:
    """The objects of a list."""
    for item in cast("list[Any]", value) if isinstance(value, list) else ():
        if isinstance(item, dict):
            yield cast("Object", item)


def strings(holder: Object, scope: Scope, *keys: str, kind: Kind = Kind.TEXT) -> Iterator[Place]:
    for key in keys:
        if isinstance(holder.get(key), str):
            yield Place(holder, key, scope, kind)


def content(holder: Object, key: str, scope: Scope) -> Iterator[Place]:
    """A string, a list of strings, or a list of parts with `text`, or a file with its name."""
    value = holder.get(key)
    if isinstance(value, str):
        yield Place(holder, key, scope)
    elif isinstance(value, list):
        items = cast("list[Any]", value)
        for index, item in enumerate(items):
            if isinstance(item, str):
                yield Place(items, index, scope)
            elif isinstance(item, dict):
                yield from strings(cast("Object", item), scope, "text", "refusal", "filename", "document_name")  # the last is Mistral's
                yield from strings(as_object(cast("Object", item).get("file")), scope, "filename")
                for thought in objects(cast("Object", item).get("thinking")):  # Mistral's
                    yield from strings(thought, Scope.REASONING, "text")


def tree(holder: Object, key: str, scope: Scope) -> Iterator[Place]:
    if holder.get(key) is not None:
        yield Place(holder, key, scope, Kind.TREE)


_SEALED = frozenset({"type", "encrypted_content", "encrypted_index", "encrypted_stdout"})
_CHAT_ROLES = {"system": Scope.SYSTEM, "developer": Scope.SYSTEM, "assistant": Scope.ASSISTANT, "tool": Scope.TOOL_RESULTS,
               "function": Scope.TOOL_RESULTS}


def chat_message(message: Object, scope: Scope) -> Iterator[Place]:
    """A message of Chat, or a delta of one."""
    yield from content(message, "content", scope)
    yield from strings(message, scope, "refusal")
    yield from strings(message, Scope.REASONING, "reasoning_content", "reasoning")
    yield from strings(as_object(message.get("audio")), scope, "transcript")
    for detail in objects(message.get("reasoning_details")):
        yield from strings(detail, Scope.REASONING, "text", "summary")
    for thought in objects(message.get("thinking_blocks")):  # LiteLLM's
        yield from strings(thought, Scope.REASONING, "thinking")
    for call in objects(message.get("tool_calls")):
        yield from chat_call(call)
    yield from chat_found(message)
    yield from strings(as_object(message.get("function_call")), Scope.TOOL_ARGUMENTS, "arguments", kind=Kind.ARGUMENTS)


def chat_call(call: Object) -> Iterator[Place]:
    yield from strings(as_object(call.get("function")), Scope.TOOL_ARGUMENTS, "arguments", kind=Kind.ARGUMENTS)
    yield from strings(as_object(call.get("custom")), Scope.TOOL_ARGUMENTS, "input")


def chat_found(message: Object) -> Iterator[Place]:
    """What tools came to that the provider has run itself: Groq's, what OpenRouter quotes of pages, what Azure found in one's own data, and
    (beside the choices) what Perplexity found."""
    for run in objects(message.get("executed_tools")):
        yield from strings(run, Scope.TOOL_ARGUMENTS, "arguments", kind=Kind.ARGUMENTS)
        for key in ("output", "search_results", "code_results", "browser_results"):
            yield from tree(run, key, Scope.TOOL_RESULTS)
    context = as_object(message.get("context"))
    yield from strings(context, Scope.TOOL_ARGUMENTS, "intent")
    for found in (*objects(context.get("citations")), *objects(context.get("all_retrieved_documents"))):
        yield from strings(found, Scope.TOOL_RESULTS, "title", "content")
    for found in objects(message.get("search_results")):
        yield from strings(found, Scope.TOOL_RESULTS, "title", "snippet")
    for note in objects(message.get("annotations")):
        yield from strings(as_object(note.get("url_citation")), Scope.TOOL_RESULTS, "title", "content")


def _chat_request(operation: Operation, body: Object) -> Iterator[Place]:
    for message in objects(body.get("messages")):
        yield from chat_message(message, _CHAT_ROLES.get(str(message.get("role")), Scope.USER))
    yield from content(as_object(body.get("prediction")), "content", Scope.USER)
    for key in ("prompt", "suffix", "input", "instructions", "negative_prompt"):
        yield from content(body, key, Scope.USER)
    yield from tree(body, "documents", Scope.USER)  # vLLM's and others', beside the messages
    del operation


def responses_item(item: Object) -> Iterator[Place]:
    """An item of input or output."""
    kind = str(item.get("type", "message"))
    if kind == "message":
        yield from content(item, "content", _CHAT_ROLES.get(str(item.get("role")), Scope.USER))
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
    for found in objects(item.get("results")):
        yield from strings(found, Scope.TOOL_RESULTS, "text")
        yield from tree(found, "attributes", Scope.TOOL_RESULTS)
    for told in objects(item.get("outputs")):
        yield from strings(told, Scope.TOOL_RESULTS, "logs")
    yield from strings(item, Scope.USER, "reason")
    for key in ("action", "actions", "operation"):
        yield from tree(item, key, Scope.TOOL_ARGUMENTS)
    yield from strings(item, Scope.TOOL_RESULTS, "output")
    if kind == "mcp_call":
        failed = as_object(item.get("error"))
        yield from strings(failed, Scope.TOOL_RESULTS, "message")
        yield from tree(failed, "content", Scope.TOOL_RESULTS)


def responses_cited(part: Object) -> Iterator[Place]:
    """What the pages are called that a text goes back to."""
    for note in objects(part.get("annotations")):
        yield from strings(note, Scope.TOOL_RESULTS, "title")


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
        yield from strings(block, scope, "title", "context")
        yield from content(block, "content", scope)
    else:
        yield from strings(block, scope, "text")
        for citation in objects(block.get("citations")):
            yield from messages_cited(citation, scope)


def messages_cited(citation: Object, scope: Scope) -> Iterator[Place]:
    yield from strings(citation, scope, "cited_text", "title", "document_title")


def messages_stopped(message: Object) -> Iterator[Place]:
    """Why a model refused, in the provider's words."""
    yield from strings(as_object(message.get("stop_details")), Scope.ASSISTANT, "explanation")


def _hosted_results(block: Object) -> Iterator[Place]:
    """What a tool came to that the provider runs itself, without what only the provider can read: it must come back as it was."""
    found: object = block.get("content")
    if isinstance(found, str):
        yield Place(block, "content", Scope.TOOL_RESULTS)
    for holder in (as_object(found), *objects(found)):
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


def gemini_beside(candidate: Object) -> Iterator[Place]:
    """What the answer rests on repeats pieces of it, what was searched for, and what was found; and what the candidate's end says."""
    found = as_object(candidate.get("groundingMetadata"))
    for support in objects(found.get("groundingSupports")):
        yield from strings(as_object(support.get("segment")), Scope.ASSISTANT, "text")
    for key in ("webSearchQueries", "imageSearchQueries", "retrievalQueries"):
        yield from content(found, key, Scope.TOOL_ARGUMENTS)
    yield from strings(as_object(found.get("searchEntryPoint")), Scope.TOOL_ARGUMENTS, "renderedContent")
    for chunk in objects(found.get("groundingChunks")):
        for key in ("web", "image", "retrievedContext", "maps"):
            yield from strings(as_object(chunk.get(key)), Scope.TOOL_RESULTS, "title", "text")
        yield from strings(as_object(as_object(chunk.get("retrievedContext")).get("ragChunk")), Scope.TOOL_RESULTS, "text")
        for snippet in objects(as_object(as_object(chunk.get("maps")).get("placeAnswerSources")).get("reviewSnippets")):
            yield from strings(snippet, Scope.TOOL_RESULTS, "title", "review")
    cited = as_object(candidate.get("citationMetadata"))
    for source in (*objects(cited.get("citationSources")), *objects(cited.get("citations"))):
        yield from strings(source, Scope.TOOL_RESULTS, "title")
    # Of a call that is none: the call, as the model wrote it.
    yield from strings(candidate, Scope.TOOL_ARGUMENTS, "finishMessage")


def gemini_blocked(body: Object) -> Iterator[Place]:
    """Why a prompt was refused, in the provider's words (Vertex AI)."""
    yield from strings(as_object(body.get("promptFeedback")), Scope.ASSISTANT, "blockReasonMessage")


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
        for key in ("inlineData", "inline_data", "fileData", "file_data"):
            yield from strings(as_object(part.get(key)), scope, "displayName", "display_name")
        for key in ("functionResponse", "function_response"):
            yield from _gemini_turn(part.get(key), Scope.TOOL_RESULTS)


def _one_or_more(value: object) -> Iterator[Object]:
    """Google takes one object for a list of one, and its own examples write `"parts": {"text": ...}`."""
    return iter([cast("Object", value)]) if isinstance(value, dict) else objects(value)
