"""What stands beside the texts of requests and answers, in each protocol: what is cited and what was found, where it is and what files are called,
why an answer ended, and the provider's words for what failed. It is read as the texts are, so it is judged as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from penstock.policy.places import Kind, Object, Place, as_object, objects, strings, tree
from penstock.policy.quoted import Unquoted, hides
from penstock.policy.rules import Scope

FAILED = "failed_generation"
"""Groq's name for what a model made and could not be used."""


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
                part = cast("Object", item)
                yield from strings(part, scope, "text", "refusal")
                yield from named(part, scope)
                for thought in objects(part.get("thinking")):  # Mistral's
                    yield from strings(thought, Scope.REASONING, "text")


def named(part: Object, scope: Scope) -> Iterator[Place]:
    """What a file is called that is a part of what somebody says, and the page that it goes back to."""
    yield from strings(part, scope, "filename", "document_name")  # the last is Mistral's, and so is this:
    if part.get("type") == "tool_reference":
        yield from strings(part, scope, "title", "description", "url")
    yield from strings(as_object(part.get("file")), scope, "filename")


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
        yield from strings(found, Scope.TOOL_RESULTS, "title", "content", "url", "filepath")
    for found in objects(message.get("search_results")):
        yield from strings(found, Scope.TOOL_RESULTS, "title", "snippet", "url")
    for note in objects(message.get("annotations")):
        for cited in (note, *(as_object(note.get(key)) for key in ("url_citation", "file_citation", "container_file_citation"))):
            yield from strings(cited, Scope.TOOL_RESULTS, "title", "content", "url", "filename")
        file = as_object(note.get("file"))  # OpenRouter's: what it read in it
        yield from strings(file, Scope.TOOL_RESULTS, "name", "filename")
        yield from content(file, "content", Scope.TOOL_RESULTS)


def chat_searched(answer: Object) -> Iterator[Place]:
    """Beside the choices: the pages and pictures that were found, and what might be asked next (Perplexity's, xAI's, Zhipu's)."""
    yield from content(answer, "citations", Scope.TOOL_RESULTS)
    yield from content(answer, "related_questions", Scope.ASSISTANT)
    for found in (*objects(answer.get("images")), *objects(answer.get("videos")), *objects(answer.get("web_search"))):
        yield from strings(found, Scope.TOOL_RESULTS, "title", "content", "url", "image_url", "origin_url", "link", "media")


def chat_stopped(choice: Object) -> Iterator[Place]:
    """The words at which it was to stop (vLLM's `stop_reason`), and why it failed (OpenRouter's)."""
    yield from strings(choice, Scope.ASSISTANT, "stop_reason")
    yield from failed(choice)


def failed(holder: Object) -> Iterator[Place]:
    """What is said of an error in the place of an answer. It may quote what the model wrote (Groq's `failed_generation`)."""
    yield from strings(holder, Scope.ASSISTANT, "error")
    error = as_object(holder.get("error"))
    yield from strings(error, Scope.ASSISTANT, "message", FAILED)
    for key in ("metadata", "details"):  # OpenRouter's, Google's
        yield from tree(error, key, Scope.ASSISTANT)
    for key in ("message", FAILED, "metadata", "details"):
        if hides(error.get(key)):  # another's error in it is JSON as a text
            yield Place(Unquoted(error), key, Scope.ASSISTANT, Kind.TREE)


def tells_failure(frame: Object) -> bool:
    """Does a frame of a stream say that the answer failed?"""
    holders = (frame, as_object(frame.get("response")), as_object(frame.get("x_groq")), *objects(frame.get("choices")))
    return frame.get("type") == "error" or any(holder.get("error") for holder in holders)


def responses_cited(part: Object) -> Iterator[Place]:
    """What the pages and files are called that a text goes back to, and where they are."""
    for note in objects(part.get("annotations")):
        yield from responses_note(note)


def responses_note(note: Object) -> Iterator[Place]:
    yield from strings(note, Scope.TOOL_RESULTS, "title", "filename", "url")


def responses_found(item: Object) -> Iterator[Place]:
    """What a search came to, and what failed."""
    for found in objects(item.get("results")):
        yield from strings(found, Scope.TOOL_RESULTS, "text", "filename", "title", "snippet", "url")
        yield from tree(found, "attributes", Scope.TOOL_RESULTS)
    for made in objects(item.get("outputs")):
        if not str(made.get("url")).startswith("data:"):  # that is a picture
            yield from strings(made, Scope.TOOL_RESULTS, "url")
    for check in objects(item.get("pending_safety_checks")):
        yield from strings(check, Scope.ASSISTANT, "message")
    yield from strings(item, Scope.TOOL_RESULTS, "error")
    error = as_object(item.get("error"))
    yield from strings(error, Scope.TOOL_RESULTS, "message")
    yield from tree(error, "content", Scope.TOOL_RESULTS)


def messages_cited(citation: Object, scope: Scope) -> Iterator[Place]:
    yield from strings(citation, scope, "cited_text", "title", "document_title", "url", "source")


def messages_stopped(message: Object) -> Iterator[Place]:
    """Why a model refused, in the provider's words, and the words at which it was to stop."""
    yield from strings(as_object(message.get("stop_details")), Scope.ASSISTANT, "explanation")
    yield from strings(message, Scope.ASSISTANT, "stop_sequence")


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
            yield from strings(as_object(chunk.get(key)), Scope.TOOL_RESULTS, "title", "text", "uri", "domain", "sourceUri", "imageUri")
        context = as_object(chunk.get("retrievedContext"))
        yield from strings(context, Scope.TOOL_RESULTS, "documentName", "fileSearchStore")
        yield from tree(context, "customMetadata", Scope.TOOL_RESULTS)
        yield from strings(as_object(context.get("ragChunk")), Scope.TOOL_RESULTS, "text")
        for snippet in objects(as_object(as_object(chunk.get("maps")).get("placeAnswerSources")).get("reviewSnippets")):
            yield from strings(snippet, Scope.TOOL_RESULTS, "title", "review", "googleMapsUri")
            yield from strings(as_object(snippet.get("authorAttribution")), Scope.TOOL_RESULTS, "displayName", "uri")
    for page in objects(as_object(candidate.get("urlContextMetadata")).get("urlMetadata")):
        yield from strings(page, Scope.TOOL_RESULTS, "retrievedUrl")
    cited = as_object(candidate.get("citationMetadata"))
    for source in (*objects(cited.get("citationSources")), *objects(cited.get("citations"))):
        yield from strings(source, Scope.TOOL_RESULTS, "title", "uri", "license")
    # Of a call that is none: the call, as the model wrote it.
    yield from strings(candidate, Scope.TOOL_ARGUMENTS, "finishMessage")


def gemini_blocked(body: Object) -> Iterator[Place]:
    """Why a prompt was refused, in the provider's words (Vertex AI), how the model is, and what failed."""
    yield from strings(as_object(body.get("promptFeedback")), Scope.ASSISTANT, "blockReasonMessage")
    yield from strings(as_object(body.get("modelStatus")), Scope.ASSISTANT, "message")
    yield from failed(body)


_ENCODED = frozenset({"bytesBase64Encoded", "mimeType"})


def gemini_predicted(body: Object) -> Iterator[Place]:
    """What Google's own models answer to `:predict`: every string of it but pictures, film and sound (`bytesBase64Encoded`). Numbers are vectors, and
    no text."""
    left: list[tuple[Any, Any]] = [(body, "predictions")] if "predictions" in body else []
    while left:
        holder, key = left.pop()
        value = holder[key]
        if isinstance(value, str):
            yield Place(holder, key, Scope.ASSISTANT)
        elif isinstance(value, dict):
            left += [(cast("Object", value), name) for name in cast("Object", value) if name not in _ENCODED]
        elif isinstance(value, list):
            items = cast("list[Any]", value)
            left += [(items, index) for index, item in enumerate(items) if isinstance(item, str | dict | list)]


def gemini_named(part: Object, scope: Scope, *more: str) -> Iterator[Place]:
    """What a file in a part is called. `more`: what else is said of it."""
    for key in ("inlineData", "inline_data", "fileData", "file_data"):
        yield from strings(as_object(part.get(key)), scope, "displayName", "display_name", *more)
