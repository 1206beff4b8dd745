"""A Chat or Completions stream folded into the body that the same request would have had without streaming.

Rules, field by field; what is not named is unknown and kept:

- Top level: the last value that says something wins (null and "" never replace one that does); `object` is the body's own word; `obfuscation`
  pads single chunks and is dropped; usage that Groq put into `x_groq` beside a finish reason moves to where its bodies have it.
- Choices are told apart by `index` and stand in its order. `delta` is folded into `message`; `logprobs` and `token_ids` grow; the rest is as above.
- In a delta the texts `content`, `refusal`, `reasoning`, `reasoning_content`, `audio.data`, `audio.transcript` and the arguments of calls grow;
  `tool_calls` are told apart by `index`, which bodies do not have; other lists whose entries have an `index` (OpenRouter's
  `reasoning_details`) are merged by it and keep it; other lists grow; Mistral's list of content parts joins neighbours of one type.
- A list or text that comes first is taken as it stands, so what came whole stays as it was.

Texts are kept in pieces until the end: adding to a string for each chunk would take time squared.
"""

from __future__ import annotations

from typing import Any, cast

from penstock.protocols.contract import Assembler, BodyError
from penstock.protocols.openai_chat.chunk import UNREADABLE, decode_any, encode_any, find_error, read_error
from penstock.vocabulary.ids import Operation

Fields = dict[str, Any]

_GROWING = frozenset({"content", "refusal", "reasoning", "reasoning_content", "arguments", "input", "data", "transcript", "text"})
_ENTRY = 256
"""Bytes that a choice or a call takes beside what is said of it."""
_GROWING_ENTRY = frozenset({"text", "summary", "data"})
"""Of OpenRouter's `reasoning_details`."""


class Pieces:
    """A text that still grows."""

    __slots__ = ("parts",)

    def __init__(self, *parts: str) -> None:
        self.parts = list(parts)

    def __bool__(self) -> bool:
        return any(self.parts)


def _joined(value: Any) -> str:
    if isinstance(value, Pieces):
        return "".join(value.parts)
    raise TypeError(f"{type(value)} in a body")  # our bug: decoded JSON holds nothing else


class ChatAssembler(Assembler):
    """The assembler of both operations; one per answer."""

    def __init__(self, operation: Operation) -> None:
        self._object = "text_completion" if operation is Operation.COMPLETIONS else "chat.completion"
        self._top: Fields = {}
        self._choices: dict[int, Fields] | None = None
        self._messages: dict[int, Fields] = {}
        self._calls: dict[int, dict[int, Fields]] = {}
        self._done = False
        self.held = 0

    def feed(self, name: bytes, data: bytes) -> None:
        stripped = data.strip()
        if self._done or not stripped:
            return
        if stripped == b"[DONE]":
            self._done = True
            return
        try:
            value = decode_any(data)
        except UNREADABLE as error:
            raise BodyError("a chunk of the stream is not JSON") from error
        if not isinstance(value, dict):
            raise BodyError("a chunk of the stream is not a JSON object")
        chunk = cast("Fields", value)
        if name == b"error" or chunk.get("error"):
            told = read_error(find_error(chunk)).message
            raise BodyError(f"the stream holds an error: {told}" if told else "the stream holds an error")
        self._add(chunk)

    def body(self) -> bytes:
        if not self._done:
            raise BodyError("the stream ended without [DONE]")
        if self._choices is None:
            raise BodyError("the stream holds no chunk")
        for index, calls in self._calls.items():
            if calls:
                self._messages[index]["tool_calls"] = [calls[key] for key in sorted(calls)]
        choices = [self._choices[index] for index in sorted(self._choices)]
        named = {"id": self._top["id"]} if "id" in self._top else {}
        return encode_any({**named, "object": self._object, **self._top, "choices": choices}, _joined)

    def _add(self, chunk: Fields) -> None:
        choices = chunk.pop("choices", None)
        self.held += _weight_of_choices(choices)  # as they came: they are taken apart below
        chunk.pop("obfuscation", None)
        stated = chunk.pop("object", None)
        if isinstance(stated, str) and stated and stated != "chat.completion.chunk":
            self._object = stated
        finished = False
        if isinstance(choices, list):
            self._choices = {} if self._choices is None else self._choices
            for choice in cast("list[Any]", choices):
                if not isinstance(choice, dict):
                    raise BodyError("a choice is not a JSON object")
                finished = bool(cast("Fields", choice).get("finish_reason")) or finished
                self._add_choice(cast("Fields", choice), self._choices)
        groq = chunk.get("x_groq")
        if finished and isinstance(groq, dict) and cast("Fields", groq).get("usage") and not chunk.get("usage"):
            chunk["usage"] = cast("Fields", groq).pop("usage")
        for key, value in chunk.items():
            if self._top.get(key) != value:
                self.held += _weight(value)
            _put(self._top, key, value)

    def _add_choice(self, choice: Fields, choices: dict[int, Fields]) -> None:
        index = choice.get("index", 0)
        if not isinstance(index, int):
            raise BodyError("a choice has no integer index")
        if index not in choices:
            self.held += _ENTRY
            choices[index] = {"index": index}
        known = choices[index]
        for key, value in choice.items():
            if key == "delta":
                self._add_delta(index, known, value)
            elif key == "text":
                _grow(known, key, value)
            elif key == "logprobs" and isinstance(value, dict) and isinstance(known.get(key), dict):
                _extend(known[key], cast("Fields", value))
            elif key == "token_ids" and isinstance(value, list) and isinstance(known.get(key), list):
                known[key] += cast("list[Any]", value)
            else:
                _put(known, key, value)

    def _add_delta(self, index: int, choice: Fields, delta: Any) -> None:
        if not isinstance(delta, dict):
            choice.setdefault("message", delta)
            return
        message = self._messages.get(index)
        if message is None:
            message = choice["message"] = self._messages[index] = {}
        fields = cast("Fields", delta)
        calls = fields.pop("tool_calls", _ABSENT)
        if calls is not _ABSENT:
            if isinstance(calls, list) and calls:
                self._add_calls(index, cast("list[Any]", calls))
            else:
                _put(message, "tool_calls", calls)
        _merge(message, fields)

    def _add_calls(self, index: int, deltas: list[Any]) -> None:
        calls = self._calls.setdefault(index, {})
        self._messages[index]["tool_calls"] = None  # its place among the fields; filled at the end
        for delta in deltas:
            if not isinstance(delta, dict):
                raise BodyError("a tool call is not a JSON object")
            fields = cast("Fields", delta)
            at = fields.pop("index", None)
            call_id = fields.get("id")
            if not isinstance(at, int):
                at = max(calls, default=-1) + 1 if call_id or not calls else max(calls)
            elif at in calls and call_id and calls[at].get("id") not in (None, "", call_id):
                at = max(calls) + 1  # Gemini's surface numbers every call 0; a new id is a new call
            if at not in calls:
                self.held += _ENTRY
                calls[at] = {}
            _merge(calls[at], fields)


_ABSENT: Any = object()
_MERGED = (frozenset({"delta"}), frozenset({"tool_calls", "function_call", "audio"}), frozenset({"function", "custom"}))
"""What of a choice, of its delta, and of a call there, is put together with what came before."""
_OBJECT = 64
"""Bytes that a string, a list or a dictionary takes beside what is in it."""


def _weight_of_choices(choices: Any) -> int:
    """Bytes that are held of a chunk, about: its choices and deltas are merged into those before, their values stay. What each chunk says again
    beside them is not held again, so the size of the chunk would be far too much."""
    total = 0
    for choice in cast("list[Any]", choices) if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            total += _weight_of_merged(cast("Fields", choice))
    return total


def _weight_of_merged(fields: Fields, level: int = 0) -> int:
    total = 0
    merged = _MERGED[level] if level < len(_MERGED) else frozenset[str]()
    for name, value in fields.items():
        if name in merged and isinstance(value, (dict, list)):
            for one in cast("list[Any]", value) if isinstance(value, list) else (cast("Fields", value),):
                total += _weight_of_merged(cast("Fields", one), level + 1) if isinstance(one, dict) else _weight(one)
        elif isinstance(value, dict) and not level:
            total += sum(map(_weight, cast("Fields", value).values()))
        else:
            total += _weight(value)
    return total


def _weight(value: Any) -> int:
    """Bytes that are held of a decoded value, about."""
    total = 0
    rest = [value]
    while rest:
        value = rest.pop()
        if isinstance(value, str):
            total += _OBJECT + len(value)
        elif isinstance(value, dict):
            total += _OBJECT
            rest.extend(cast("Fields", value).values())
        elif isinstance(value, list):
            total += _OBJECT
            rest.extend(cast("list[Any]", value))
        else:
            total += 8
    return total


def _put(known: Fields, key: str, value: Any) -> None:
    if key not in known or (value is not None and (value != "" or known[key] is None)):
        known[key] = value


def _grow(known: Fields, key: str, value: Any) -> None:
    """Add a text to the text under `key`; other kinds of values replace or extend as they do elsewhere."""
    have = known.get(key)
    if isinstance(value, str):
        if isinstance(have, Pieces):
            have.parts.append(value)
        elif isinstance(have, str):
            known[key] = Pieces(have, value)
        elif isinstance(have, list):
            if value:
                _add_parts(cast("list[Any]", have), [{"type": "text", "text": value}])
        else:
            known[key] = Pieces(value)
    elif isinstance(value, list) and isinstance(have, list):
        _add_parts(cast("list[Any]", have), cast("list[Any]", value))
    elif isinstance(value, list) and isinstance(have, Pieces):
        known[key] = [{"type": "text", "text": _joined(have)}, *cast("list[Any]", value)] if have else value
    else:
        _put(known, key, value)


def _merge(known: Fields, delta: Fields) -> None:
    for key, value in delta.items():
        have = known.get(key)
        if key in _GROWING:
            _grow(known, key, value)
        elif isinstance(value, dict) and key in ("function", "custom", "function_call", "audio"):
            if not isinstance(have, dict):
                have = known[key] = {}
            _merge(cast("Fields", have), cast("Fields", value))
        elif isinstance(value, list) and isinstance(have, list):
            _merge_list(cast("list[Any]", have), cast("list[Any]", value))
        else:
            _put(known, key, value)


def _extend(known: Fields, more: Fields) -> None:
    """Add the lists of `more` (log probabilities, one entry per token) to those of `known`."""
    for key, value in more.items():
        if isinstance(value, list) and isinstance(known.get(key), list):
            known[key] += cast("list[Any]", value)
        else:
            _put(known, key, value)


def _merge_list(known: list[Any], more: list[Any]) -> None:
    for entry in more:
        if isinstance(entry, dict) and isinstance(index := cast("Fields", entry).get("index"), int):
            fields = cast("Fields", entry)
            same = next((have for have in known if _is_entry(have, index, fields.get("type"))), None)
            if same is not None:
                for key, value in fields.items():
                    if key in _GROWING_ENTRY and isinstance(value, str):
                        _grow(same, key, value)
                    else:
                        _put(same, key, value)
                continue
        known.append(entry)


def _is_entry(have: Any, index: int, kind: Any) -> bool:
    return isinstance(have, dict) and cast("Fields", have).get("index") == index and cast("Fields", have).get("type") == kind


def _add_parts(known: list[Any], more: list[Any]) -> None:
    """Add Mistral's content parts: a text to the text before it, a thought to the thought before it."""
    for part in more:
        last = cast("Fields", known[-1]) if known and isinstance(known[-1], dict) else {}
        if not isinstance(part, dict) or last.get("type") != cast("Fields", part).get("type"):
            known.append(part)
            continue
        fields = cast("Fields", part)
        text, thoughts = fields.get("text"), fields.get("thinking")
        if isinstance(text, str) and isinstance(last.get("text"), (str, Pieces)):
            _grow(last, "text", text)
        elif isinstance(thoughts, list) and isinstance(last.get("thinking"), list):
            _add_parts(last["thinking"], cast("list[Any]", thoughts))
        else:
            known.append(part)
