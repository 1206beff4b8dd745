"""What a Chat Completions or legacy Completions stream said so far.

Rules, before the code that follows them:

1. The terminal event is `data: [DONE]`, alone in its frame (white space around it aside). Whether a finish reason came before it changes nothing:
   some servers never send one, and `stop_reason` is then `None`. Text that spells `[DONE]` is inside of JSON and so is text.
2. Content is `delta.content`, `reasoning`, `reasoning_content`, `refusal`, `audio`, pieces of tool calls, and `text` (Completions); not the
   role, not empty strings.
3. `usage` counts in whichever chunk it stands, with or without choices, also inside `x_groq`; counters are cumulative, so the last one
   wins, but says nothing of what it leaves out, and nothing at all where it is of zeros behind greater numbers.
   The figures are final when every choice that began has its finish reason as they come, or when the stream is terminal.
   (OpenAI sends them behind the finish reason, Groq with it, xAI and vLLM's `continuous_usage_stats` in every chunk.)
4. A frame is USAGE_ONLY when `choices` is an empty list, `usage` is given, and every other field is bookkeeping or empty. OpenAI's moderation
   results and Azure's filter results also come with empty `choices`: they are not.
5. An error in band is a chunk with an `error` that is neither null nor empty, `x_groq.error`, a choice's `error` (OpenRouter), an object
   that calls itself an error (older vLLM), or a frame named `error` (Groq). It is not terminal: the stream ends behind it
   or goes on to `[DONE]`. The first error counts; behind the terminal event none does.
6. Tool calls: see `calls`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from penstock.protocols.contract import CONTENT, ERROR, MALFORMED, STATED, TERMINAL, TOOL, USAGE_ONLY, Followed
from penstock.protocols.openai_chat.body import is_bookkeeping, observe_body, observe_error
from penstock.protocols.openai_chat.calls import LEGACY_INDEX, Answer, OpenCall, arguments_of
from penstock.protocols.openai_chat.chunk import (
    UNREADABLE,
    CallDelta,
    Choice,
    Chunk,
    Delta,
    Function,
    NamedChunk,
    check_plain,
    count,
    decode_any,
    decode_chunk,
    decode_named,
    find_error,
    further,
    lenient_chunk,
    read_error,
    read_usage,
    word,
)
from penstock.protocols.openai_chat.words import stop_reason_of, texts_of
from penstock.vocabulary.events import Ended, Failed, Started, Stopped, TextDelta, ToolDelta, ToolEnded, ToolStarted, UsageSeen
from penstock.vocabulary.usage import EMPTY_USAGE

MAX_CHOICES = 128
"""OpenAI's limit for `n`; choices beyond it are relayed like all others and not told apart."""

MAX_MISSES = 16
"""Chunks that were not plain behind one that was: with more, the choices or the kinds of chunk take turns, and asking first costs more."""
_DONE = b"[DONE]"
_NO_FUNCTION = Function()


class ChatObserver(Followed):
    """The observer of `chat/completions` and `completions`."""

    tells_usage = True
    __slots__ = ("_answers", "_decode", "_misses", "_plain", "_running", "_started", "unfinished")

    def __init__(self) -> None:
        super().__init__()
        self._answers: dict[int, Answer] = {}
        self._decode = cast("Any", decode_named)
        """`decode_named` until id and model are known, then `decode_chunk`."""
        self._plain: Callable[[bytes], object] | None = None
        """`check_plain`, where the last chunk was such and the choice has begun."""
        self._misses = 0
        self._running = -1
        """The choice that went on last; -1: none has begun."""
        self._started = False
        self.unfinished = 0
        """Choices that began and have no finish reason yet."""

    def observe(self, name: bytes, data: bytes, now: float) -> int:
        plain = self._plain
        if plain is not None and not name:
            try:
                plain(data)
                return CONTENT
            except UNREADABLE:
                self._plain = None
                self._misses += 1
        if data == _DONE:
            return self._done()
        if name == b"error":
            if self.follower is not None:
                self.follower(name, data)
            return self._told_error(data)
        try:
            chunk: Chunk = self._decode(data)
        except UNREADABLE:
            if self.follower is not None:
                self.follower(name, data)
            return self._observe_odd(data, now)
        # The hot path: one choice that has begun, nothing but content in it, nobody who wants events.
        choices = chunk.choices
        if choices and chunk.usage is None and chunk.error is None and chunk.x_groq is None and self.sink is None and self._decode is decode_chunk:
            choice = choices[0]
            delta = choice.delta
            if (
                delta is not None
                and (delta.content or delta.reasoning_content or delta.reasoning)
                and not choice.finish_reason
                and delta.tool_calls is None
                and delta.function_call is None
                and choice.error is None
                and (choice.index == self._running or choice.index in self._answers)
                and len(choices) == 1
            ):
                if choice.index == 0 and delta.content.__class__ is str and self._misses < MAX_MISSES:
                    self._plain = check_plain
                return CONTENT
        if self.follower is not None:
            self.follower(name, data)
        return self._read(chunk, data, now)

    def observe_body(self, body: bytes) -> None:
        observe_body(self, body)

    def observe_error(self, status: int, body: bytes) -> None:
        observe_error(self, status, body)

    def finished(self) -> bool:
        return self.choices > 0 and self.unfinished == 0

    def _observe_odd(self, data: bytes, now: float) -> int:
        """A frame that the typed decoder refused: `[DONE]` with space around it, half a surrogate pair, an unforeseen type, or not JSON at all."""
        stripped = data.strip()
        if stripped == _DONE:
            return self._done()
        if not stripped:
            return 0
        try:
            value = decode_any(data)
        except UNREADABLE:
            value = None
        if not isinstance(value, dict):
            self.malformed += 1
            return MALFORMED
        return self._read(lenient_chunk(cast("dict[str, Any]", value)), data, now)

    def _read(self, chunk: Chunk, data: bytes, now: float) -> int:
        """Everything that a chunk can say, in the order in which it is meant: who, what, how much, what went wrong."""
        if self._decode is not decode_chunk and isinstance(chunk, NamedChunk):
            self._read_names(chunk)
        bits = 0
        choices = chunk.choices
        if choices:
            for choice in choices:
                bits |= self._read_choice(choice, now)
        groq = chunk.x_groq
        usage = chunk.usage
        if usage is None and groq is not None:
            usage = groq.usage
        if usage is not None:
            self._read_usage(usage)
            if choices is not None and not choices and chunk.usage and is_bookkeeping(data):
                bits |= USAGE_ONLY
            elif bits == CONTENT:
                bits |= STATED
        error = chunk.error or (groq.error if groq is not None else None)
        if error:
            bits |= self._fail(error)
        elif choices is None and usage is None and groq is None:
            bits |= self._read_unknown(data)
        return bits & ~USAGE_ONLY if bits & ERROR else bits

    def _read_names(self, chunk: NamedChunk) -> None:
        # Azure's first chunk holds filter results under an empty id and model: empty is not known.
        if self.response_id is None:
            self.response_id = word(chunk.id)
        if self.model is None:
            self.model = word(chunk.model)
        if chunk.service_tier is not None:
            self.service_tier = word(chunk.service_tier, 32)
        if self.response_id is not None and self.model is not None:
            self._decode = decode_chunk
        if self.sink is not None and not self._started and (chunk.choices or self.response_id is not None):
            self._started = True
            self.sink.append(Started(self.response_id, self.model, count(chunk.created)))

    def _read_choice(self, choice: Choice, now: float) -> int:
        answer = self._answers.get(choice.index)
        if answer is None:
            if len(self._answers) >= MAX_CHOICES or choice.index < 0:
                return CONTENT if choice.text or choice.delta is not None else 0
            answer = self._answers[choice.index] = Answer(choice.index)
            self.choices += 1
            self.unfinished += 1
            self.final_usage = False
        self._running = choice.index
        bits = 0
        if choice.delta is not None:
            bits = self._read_delta(choice.delta, answer, now)
        if choice.text:
            bits |= CONTENT
            if self.sink is not None and isinstance(choice.text, str):
                self.sink.append(TextDelta(choice.text, answer.part_of("text"), answer.index))
        if choice.finish_reason:
            bits |= self._finish(answer, choice.finish_reason)
        if choice.error:
            bits |= self._fail(choice.error)
        return bits

    def _read_delta(self, delta: Delta, answer: Answer, now: float) -> int:
        bits = 0
        plain = delta.content or delta.reasoning_content or delta.reasoning or delta.refusal or delta.audio
        if plain or len(delta.reasoning_details) > 4 or len(delta.images) > 4:  # longer than `null` and `[]`
            bits = CONTENT
        if self.sink is not None:
            for event_type, text in texts_of(delta):
                if answer.call is not None and answer.call.end is not None and answer.call.end.closed:
                    self._tell_end(answer.call, answer)
                part = answer.part_of("text" if event_type is TextDelta else "reasoning")
                self.sink.append(event_type(text, part, answer.index))
        if delta.tool_calls:
            for call in delta.tool_calls:
                self._read_call(call, answer, now)
            bits |= CONTENT | TOOL
        if delta.function_call is not None:
            self._read_call(CallDelta(index=LEGACY_INDEX, function=delta.function_call), answer, now)
            bits |= CONTENT | TOOL
        return bits

    def _read_call(self, delta: CallDelta, answer: Answer, now: float) -> None:
        function = delta.function or delta.custom or _NO_FUNCTION
        call, index = answer.call, delta.index
        if call is None or delta.id is not None or function.name is not None or index != call.index:
            call, index = answer.find(delta, function)
        if call is None:
            self._end_call(answer)
            call, new = answer.begin(index, delta, function, now)
            self.tools[call.key] = call.tool
            if new:
                self.calls += 1
                if self.sink is not None:
                    self.sink.append(ToolStarted(call.part, call.call_id or "", call.tool.name or "", answer.index))
            else:
                call.tool.arguments_at = now  # it is open again from now on
        elif call.tool.name is None:
            call.tool.name = word(function.name)
        piece = arguments_of(function)
        if not piece:
            return
        call.tool.arguments_at = now
        if call.end is not None:
            was_closed = call.end.closed
            call.end.feed(piece)
            if call.end.closed:
                self.tools.pop(call.key, None)
            elif was_closed:
                self.tools[call.key] = call.tool
        if self.sink is not None:
            self.sink.append(ToolDelta(call.part, piece, answer.index))

    def _end_call(self, answer: Answer) -> int:
        call = answer.call
        if call is None or call.ended:
            return 0
        call.ended = True
        self.tools.pop(call.key, None)
        if call.whole:
            # One that is not may go on: some providers write several calls side by side.
            self._tell_end(call, answer)
        return TOOL

    def _tell_end(self, call: OpenCall, answer: Answer) -> None:
        if self.sink is not None and not call.told:
            call.told = True
            self.sink.append(ToolEnded(call.part, answer.index))

    def _end_calls(self, answer: Answer) -> int:
        """The choice is over, and every call of it."""
        bits = self._end_call(answer)
        if self.sink is not None:
            for call in answer.untold():
                self._tell_end(call, answer)
        return bits

    def _finish(self, answer: Answer, reason: Any) -> int:
        bits = self._end_calls(answer)
        raw = word(reason)
        if answer.index == 0 or self.stop_reason is None:
            self.stop_reason = raw
        if not answer.finished:
            answer.finished = True
            self.unfinished -= 1
            if self.sink is not None:
                self.sink.append(Stopped(stop_reason_of(raw), raw, answer.index))
        return bits

    def _read_usage(self, value: Any) -> None:
        usage = read_usage(value)
        if usage is None:
            return
        if self.usage is not EMPTY_USAGE:
            usage = further(self.usage, usage)
        self.usage = usage
        self.final_usage = self.terminal or (self.unfinished == 0 and self.choices > 0)
        if self.sink is not None:
            self.sink.append(UsageSeen(usage))

    def _fail(self, value: Any) -> int:
        if self.terminal:
            return ERROR
        error = read_error(value)
        if self.error is None:
            self.error = error
        if self.sink is not None:
            self.sink.append(Failed(error))
        return ERROR

    def _told_error(self, data: bytes) -> int:
        try:
            value = decode_any(data)
        except UNREADABLE:
            value = data.decode("utf-8", "replace")
        return self._fail(find_error(value))

    def _read_unknown(self, data: bytes) -> int:
        """A JSON object without anything of a chunk: a way to tell errors that older vLLM versions have, or something of its own."""
        try:
            value = decode_any(data)
        except UNREADABLE:
            value = None
        if isinstance(value, dict):
            fields = cast("dict[str, Any]", value)
            if fields.get("object") == "error" or fields.get("type") == "error":
                return self._fail(fields)
        self.unknown += 1
        return 0

    def _done(self) -> int:
        bits = TERMINAL
        if self.terminal:
            return bits
        for answer in self._answers.values():
            bits |= self._end_calls(answer)
        self.terminal = True
        self.final_usage = self.usage != EMPTY_USAGE
        if self.sink is not None:
            self.sink.append(Ended())
        return bits
