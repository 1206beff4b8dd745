"""Chat Completions and legacy Completions. A text is a choice's `content`, its reasoning, or one tool call's arguments.

A text ends with its choice's finish reason. Speech and thought may be interrupted by one another and by calls, and go on behind them: each is one
text all the same, as in a body. Calls do not end one another, for some providers write them side by side.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Annotated, Any, cast

import msgspec
from msgspec import Meta, Raw, Struct

from penstock.policy.beside import chat_found, chat_searched, chat_stopped, failed, named
from penstock.policy.editing import Editor, End, Flow, Step, Told, Untold, Whole
from penstock.policy.guards import Rules
from penstock.policy.matcher import Findings, Hold
from penstock.policy.places import Kind, Object, Place, as_object, objects, strings, tree
from penstock.policy.rules import Scope
from penstock.policy.texts import NOT_BESIDE, REASONING, chat_call, chat_message
from penstock.policy.tokens import chat_spells
from penstock.protocols.contract import Observer
from penstock.protocols.openai_chat.chunk import decode_any, encode_any

_NONE = Raw(b"null")
_NOT_AGAIN = frozenset({"choices", "usage", "x_groq", "error", "obfuscation", "prompt_filter_results"})
"""Fields of a chunk that are not told twice."""


_Empty = Annotated[list[None], Meta(max_length=0)] | None
"""Of what has texts besides: where there is anything in it, it is no ordinary delta."""
_Bare = Annotated[dict[str, None], Meta(max_length=0)] | None


class _Delta(Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: Raw = _NONE
    function_call: Raw = _NONE
    reasoning_details: Raw = _NONE
    audio: Raw = _NONE
    executed_tools: _Empty = None
    thinking_blocks: _Empty = None
    annotations: _Empty = None
    context: None = None
    provider_specific_fields: _Bare = None


class _Choice(Struct, gc=False):
    index: int = 0
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    message: None = None
    """One that is there has texts as well; then it is no ordinary choice."""
    stop_reason: int | None = None
    logprobs: None = None
    error: None = None


class _Groq(Struct, gc=False):
    error: None = None


class _Chunk(Struct, gc=False):
    choices: list[_Choice]
    error: Raw = _NONE
    search_results: _Empty = None
    citations: _Empty = None
    related_questions: _Empty = None
    images: _Empty = None
    videos: _Empty = None
    web_search: _Empty = None
    x_groq: _Groq | None = None


_decode = msgspec.json.Decoder(_Chunk).decode
_TEXT, _THOUGHT, _CALL = "text", "thought", "call"


class ChatEditor(Editor):
    def __init__(self, rules: Rules, findings: Findings, hold: Hold) -> None:
        super().__init__(rules, findings, hold)
        self._kinds: dict[int, str] = {}
        """By choice that has begun: what it says now."""
        self._done: set[int] = set()
        self._calls: dict[Hashable, str] = {}
        """The id of each call, where several come under one index."""
        self._first = b""
        self._searched = False
        """What stands beside the choices has been told; some tell it in every chunk."""

    def quick(self, name: bytes, data: bytes, now: float) -> bool:
        try:
            chunk = _decode(data)
        except (ValueError, RecursionError):
            return False
        if not self._first:
            self._first = data
        choices = chunk.choices
        if len(choices) != 1:
            return not choices and chunk.error == _NONE
        choice = choices[0]
        delta = choice.delta
        if delta is None or choice.finish_reason or choice.text is not None:
            return False
        text = delta.content
        if not text or delta.reasoning_content or delta.reasoning or delta.refusal or delta.tool_calls != _NONE or delta.audio != _NONE:
            return False
        if delta.function_call != _NONE or delta.reasoning_details != _NONE or chunk.error != _NONE or self._kinds.get(choice.index) != _TEXT:
            return False
        return self.judge(data, (choice.index, "content"), b"content", text)

    def put(self, frame: Object, text: str) -> None:
        frame["choices"][0]["delta"]["content"] = text

    def steps(self, name: bytes, frame: Object) -> Iterator[Step]:
        if not self._first:
            self._first = encode_any(frame)
        if frame.get("error"):
            yield from [End(key) for key in list(self.channels)]
        beside = [Whole(place, self._searched) for place in (*chat_found(frame), *chat_searched(frame))]
        self._searched = self._searched or bool(beside)
        yield from beside
        yield from [Whole(place) for place in (*failed(frame), *failed(as_object(frame.get("x_groq"))))]
        for choice in objects(frame.get("choices")):
            index = choice.get("index")
            yield from self._choice(index if isinstance(index, int) else 0, choice)

    def _choice(self, index: int, choice: Object) -> Iterator[Step]:
        self._kinds.setdefault(index, "")
        delta = as_object(choice.get("delta"))
        if choice.get("logprobs") and not chat_spells(choice):
            yield Untold(choice, "logprobs")
        if choice.get("text"):
            self._kinds[index] = _TEXT
            yield Flow((index, "text"), Place(choice, "text", Scope.ASSISTANT))
        beside = as_object(delta.get("provider_specific_fields"))
        thoughts = [Flow((index, key), Place(delta, key, Scope.REASONING)) for key in REASONING if isinstance(delta.get(key), str) and delta[key]]
        thoughts += [Flow((index, "again", key), place) for key in REASONING for place in strings(beside, Scope.REASONING, key)]
        thoughts += [
            Flow((index, "detail", str(detail.get("index")), key), Place(detail, key, Scope.REASONING))
            for detail in objects(delta.get("reasoning_details")) for key in ("text", "summary") if isinstance(detail.get(key), str)
        ]
        thoughts += [
            Flow(key, place) for holder, key in ((delta, (index, "block")), (beside, (index, "again", "block")))
            for block in objects(holder.get("thinking_blocks")) for place in strings(block, Scope.REASONING, "thinking")
        ]
        if thoughts:
            self._turn(index, _THOUGHT)
            yield from thoughts
        texts = list(self._texts(index, delta))
        if texts:
            self._turn(index, _TEXT)
            yield from texts
        said: object = delta.get("content")
        yield from [Whole(place) for part in objects(said) for place in named(part, Scope.ASSISTANT)]
        yield from [Whole(place) for key in beside if key not in NOT_BESIDE for place in tree(beside, key, Scope.TOOL_RESULTS)]
        calls = list(self._called(index, delta))
        if calls:
            self._turn(index, _CALL)
            yield from calls
        # Some servers tell the whole message once more at the end.
        yield from [Whole(place, bool(self._kinds[index])) for place in chat_message(as_object(choice.get("message")), Scope.ASSISTANT)]
        if choice.get("finish_reason"):
            self._done.add(index)
            yield from self._ends(index)
        yield from [Whole(place) for place in chat_stopped(choice)]

    def _texts(self, index: int, delta: Object) -> Iterator[Flow]:
        said = delta.get("content")
        if isinstance(said, str) and said:
            yield Flow((index, "content"), Place(delta, "content", Scope.ASSISTANT))
        elif isinstance(said, list):
            for part in objects(cast("list[Any]", said)):
                if isinstance(part.get("text"), str):
                    yield Flow((index, "content"), Place(part, "text", Scope.ASSISTANT))
                for inner in objects(part.get("thinking")):
                    if isinstance(inner.get("text"), str):
                        yield Flow((index, "thinking"), Place(inner, "text", Scope.REASONING))
        if isinstance(delta.get("refusal"), str) and delta["refusal"]:
            yield Flow((index, "refusal"), Place(delta, "refusal", Scope.ASSISTANT))
        audio = as_object(delta.get("audio"))
        if isinstance(audio.get("transcript"), str):
            yield Flow((index, "audio"), Place(audio, "transcript", Scope.ASSISTANT))

    def _called(self, index: int, delta: Object) -> Iterator[Step]:
        for number, call in enumerate(objects(delta.get("tool_calls"))):
            at = call.get("index")
            key = (index, _CALL, at if isinstance(at, int) else number)
            named = call.get("id")
            if isinstance(named, str) and named and self._calls.get(key, named) != named:
                yield End(key)
            if isinstance(named, str) and named:
                self._calls[key] = named
            yield from [Flow(key, place) for place in chat_call(call)]
        yield from [Whole(place) for place in chat_found(delta)]
        legacy = as_object(delta.get("function_call"))
        if isinstance(legacy.get("arguments"), str):
            yield Flow((index, _CALL, -1), Place(legacy, "arguments", Scope.TOOL_ARGUMENTS, Kind.ARGUMENTS))

    def _turn(self, index: int, kind: str) -> None:
        """The choice goes over to `kind`. Its other texts may go on behind that: a body has each as one."""
        if self._kinds[index] == kind:
            return
        self._kinds[index] = kind
        self.suspended.update(key for key in self._of(index) if key[1] != _CALL)

    def _ends(self, index: int) -> Iterator[End]:
        yield from (End(key) for key in self._of(index))

    def _of(self, index: int) -> list[tuple[Any, ...]]:
        return [key for key in cast("list[tuple[Any, ...]]", list(self.channels)) if key[0] == index]

    def made(self, key: Hashable, text: str, origin: Object) -> tuple[bytes, Object]:
        index, field, *more = cast("tuple[Any, ...]", key)
        kept = {name: value for name, value in origin.items() if name not in _NOT_AGAIN}
        if field == "text":
            return b"", {**kept, "choices": [{"index": index, "text": text, "logprobs": None, "finish_reason": None}]}
        delta: Object
        match field:
            case "call" if more[0] == -1:
                delta = {"function_call": {"arguments": text}}
            case "call":
                custom = any("custom" in call for choice in objects(origin.get("choices")) for call in
                             objects(as_object(choice.get("delta")).get("tool_calls")) if call.get("index") == more[0])
                delta = {"tool_calls": [{"index": more[0], **({"custom": {"input": text}} if custom else {"function": {"arguments": text}})}]}
            case "detail":
                at = int(more[0]) if more[0].isdecimal() and len(more[0]) < 10 else 0
                delta = {"reasoning_details": [{"type": f"reasoning.{more[1]}", "index": at, more[1]: text}]}
            case "block":
                delta = {"thinking_blocks": [{"type": "thinking", "thinking": text}]}
            case "again":
                told: Any = [{"type": "thinking", "thinking": text}] if more[0] == "block" else text
                delta = {"provider_specific_fields": {"thinking_blocks" if more[0] == "block" else str(more[0]): told}}
            case "audio":
                delta = {"audio": {"transcript": text}}
            case "thinking":
                delta = {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]}
            case _:
                delta = {str(field): text}
        return b"", {**kept, "choices": [{"index": index, "delta": delta, "logprobs": None, "finish_reason": None}]}

    def stop(self, observer: Observer) -> list[Told] | None:
        first = cast("Object", decode_any(self._first)) if self._first else {}
        legacy = first.get("object") == "text_completion"
        kept = {name: value for name, value in first.items() if name not in _NOT_AGAIN}
        kept.setdefault("id", observer.response_id or "chatcmpl-penstock")
        kept.setdefault("object", "chat.completion.chunk")
        frames: list[Told] = []
        for index in sorted(set(self._kinds or {0: ""}) - self._done):
            said: Object = {"text": ""} if legacy else {"delta": {}}
            choice = {"index": index, **said, "logprobs": None, "finish_reason": "content_filter"}
            frames.append((b"", encode_any({**kept, "choices": [choice]})))
        return [*frames, (b"", b"[DONE]")]
