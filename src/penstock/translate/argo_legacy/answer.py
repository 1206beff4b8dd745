"""The gateway's whole answers: text and calls out of `{"response": ...}`, and both as neutral events.

Calls come in three forms, by whose model it is: OpenAI's `{id, function: {name, arguments: text}}`, Claude's `{id, name, input: {...}}`, Gemini's
`{id: null, name, args: {...}}`. What a call has tells which it is. Why a model stopped is never said: calls or none is all that is known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from penstock.protocols.openai_chat.chunk import UNREADABLE, decode_any, encode_any
from penstock.translate.argo_legacy import prompted
from penstock.translate.argo_legacy.messages import Fields, texts_of
from penstock.translate.argo_legacy.tokens import Tally
from penstock.vocabulary.events import Event, Stopped, StopReason, TextDelta, ToolDelta, ToolEnded, ToolStarted
from penstock.wire.secrets import mask_secrets

_SHOWN = 200
_BLANKS = re.compile(r"\s+")


class AnswerError(ValueError):
    """A body that holds no answer. Its text says why, in one clause about `it`, for the ledger and the client; it is no bug of ours."""


@dataclass(frozen=True, slots=True)
class Call:
    call_id: str
    name: str
    arguments: str
    """JSON, as text."""


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    calls: tuple[Call, ...] = ()


def read_answer(body: bytes, answer_id: str, *, in_words: bool = False) -> Answer:
    """What a body of `/chat/` says. `answer_id`: of which ids for calls without one are made. `in_words`: calls stand in the text. Raises
    `AnswerError`."""
    fields = _read(body)
    response: Any = fields.get("response")
    if response is None:
        raise AnswerError(instead(fields, "response"))
    calls: list[Fields] = []
    if isinstance(response, dict):
        inside = cast("Fields", response)
        content: Any = inside.get("content")
        made: Any = inside.get("tool_calls")
        calls = _objects([made] if isinstance(made, dict) else made)
        if content is None and not calls and "content" not in inside:
            raise AnswerError("it holds neither a text nor a call")
    else:
        content = response
    text = content if isinstance(content, str) else ""
    if isinstance(content, list):
        blocks = _objects(cast("Any", content))
        text = "".join(texts_of(cast("Any", content)))
        if not calls:
            calls = [block for block in blocks if block.get("type") == "tool_use"]
    elif content is not None and not isinstance(content, str):
        raise AnswerError("its text is no text")
    if in_words:
        text, read = prompted.read_calls(text)
        return Answer(text, tuple(Call(f"call_{answer_id}_{number}", *call) for number, call in enumerate(read)))
    return Answer(text, tuple(_call(call, f"call_{answer_id}_{number}") for number, call in enumerate(calls)))


def _read(body: bytes) -> Fields:
    try:
        value = decode_any(body)
    except UNREADABLE:
        raise AnswerError("it is not JSON" if body.strip() else "it is empty") from None
    if not isinstance(value, dict):
        raise AnswerError("it is no JSON object")
    return cast("Fields", value)


def instead(fields: Fields, missed: str) -> str:
    """What came in the place of an answer, if it is a word; `missed`: what the answer would have been in."""
    for name in ("error", "detail", "message", "response"):
        said: Any = fields.get(name)
        if isinstance(said, dict):
            said = cast("Fields", said).get("message")
        if isinstance(said, str) and said.strip():
            return f"it holds no {missed} but says: {mask_secrets(_BLANKS.sub(' ', said[: 4 * _SHOWN]).strip())[:_SHOWN]}"
    return f"it holds no {missed}"


def _objects(value: Any) -> list[Fields]:
    return [cast("Fields", item) for item in cast("list[Any]", value) if isinstance(item, dict)] if isinstance(value, list) else []


def _call(call: Fields, own_id: str) -> Call:
    function: Any = call.get("function")
    if isinstance(function, dict):
        inside = cast("Fields", function)
        name, given = inside.get("name"), inside.get("arguments")
    else:
        name, given = call.get("name"), call.get("input", call.get("args"))
    if not isinstance(name, str) or not name:
        raise AnswerError("a call in it has no name")
    call_id: Any = call.get("id")
    arguments = given if isinstance(given, str) else encode_any({} if given is None else given).decode()
    return Call(call_id if isinstance(call_id, str) and call_id else own_id, name, arguments or "{}")


def events_of(answer: Answer, *, silent: bool) -> Iterator[Event]:
    """The answer from its first word to why it stopped. `silent`: without its calls."""
    if answer.text:
        yield TextDelta(answer.text)
    calls = () if silent else answer.calls
    for part, call in enumerate(calls, 1):
        yield ToolStarted(part, call.call_id, call.name)
        yield ToolDelta(part, call.arguments)
        yield ToolEnded(part)
    yield Stopped(StopReason.TOOL_CALLS if calls else StopReason.STOP)


def tokens_of(answer: Answer) -> int:
    """An estimate of what the model wrote."""
    tally = Tally()
    tally.add(answer.text)
    for call in answer.calls:
        tally.add(call.name)
        tally.add(call.arguments)
    return tally.tokens
