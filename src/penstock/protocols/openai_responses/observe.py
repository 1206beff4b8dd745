"""The observer of a Responses stream or body. The rules, in prose, and the table of events are in `table`."""

from __future__ import annotations

from typing import Any, cast, get_args

from penstock.protocols.contract import CONTENT, ERROR, MALFORMED, TERMINAL, TOOL, Observer, ToolCall
from penstock.protocols.openai_responses.calls import KINDS, NEUTRAL, Call, Calls
from penstock.protocols.openai_responses.frames import (
    TEXT_WORDS,
    TOOL_WORDS,
    UNDECODABLE,
    Delta,
    ErrorObject,
    Frame,
    Item,
    ResponseObject,
    UsageObject,
    decode_text_delta,
    decode_tool_delta,
    keep,
    loose,
    read_body,
    read_delta,
    read_error,
    read_frame,
    text,
)
from penstock.protocols.openai_responses.table import KIND_OF_EVENT, TABLE, What
from penstock.protocols.openai_responses.words import STOP_REASONS
from penstock.vocabulary.errors import UpstreamError
from penstock.vocabulary.events import (
    Ended,
    Failed,
    ReasoningDelta,
    Started,
    Stopped,
    StopReason,
    TextDelta,
    ToolDelta,
    ToolEnded,
    ToolStarted,
    UsageSeen,
)
from penstock.vocabulary.usage import EMPTY_USAGE, Usage

_TEXT = frozenset(word.encode() for word in get_args(TEXT_WORDS))
_TOOL = {word.encode(): word for word in get_args(TOOL_WORDS)}
_ENDS = frozenset({"completed", "incomplete", "failed", "cancelled"})
_PARTS_LIMIT = 1024


class ResponsesObserver(Observer):
    """See the rules of `table`."""

    tells_usage = True
    malformed: int
    unknown: int
    __slots__ = ("_called", "_calls", "_parts", "_parts_begun", "_started", "assumed", "created_at", "created_seen", "sequence_number", "untyped")

    def __init__(self) -> None:
        super().__init__()
        self.assumed: tuple[str | None, int] = (None, 0)
        self.created_at: int | None = None
        """Seconds since the epoch, from the Response."""
        self.created_seen = False
        """The client has seen the response begin: a head, or an event that only follows one (a stream taken up in its middle)."""
        self.sequence_number = -1
        """The last one seen; -1 where events carry none."""
        self.untyped = 0
        """Frames that only the second, untyped reading understood."""
        self._called = False  # a function call began: the Codex backend leaves it out of the last event
        self._calls = Calls()
        self._parts: dict[tuple[str | int | None, str, int | None], int] = {}
        self._parts_begun = 0
        self._started = False

    def observe(self, name: bytes, data: bytes, now: float) -> int:
        if self.terminal:
            return 0
        if name in _TEXT and self.sink is None:
            try:
                delta = decode_text_delta(data)
            except UNDECODABLE:
                return self._observe(name, data, now)
            self.sequence_number = delta.sequence_number
            self.created_seen = True
            return CONTENT if delta.delta else 0
        if name in _TOOL:
            try:
                call = decode_tool_delta(data)
            except UNDECODABLE:
                return self._observe(name, data, now)
            self.sequence_number = call.sequence_number
            self.created_seen = True
            return self._arguments(call.item_id, call.output_index, call.delta, call.type or _TOOL[name], now)
        return self._observe(name, data, now)

    def observe_body(self, body: bytes) -> None:
        response, typed = read_body(body)
        if response is None:
            self.malformed += 1
            return
        self.untyped += not typed
        self._take(response)
        if response.input_tokens is not None and response.usage is None:
            self.usage = Usage(input=response.input_tokens)
        self.final_usage = self.usage != EMPTY_USAGE
        if response.status in _ENDS:
            self.stop_reason = _stop_reason(response, response.status)
        if response.error is not None or response.status == "failed":
            self.error = _merged(response.error, None)
        self.calls = sum(item.type in KINDS for item in response.output or ())

    def assume(self, model: str | None, at: int) -> None:
        self.assumed = model, at

    def observe_error(self, status: int, body: bytes) -> None:
        found = read_error(body)
        self.error = UpstreamError(status=status) if found is None else _merged(found, UpstreamError(status=status), status)

    def _observe(self, name: bytes, data: bytes, now: float) -> int:
        frame, typed = read_frame(data)
        if frame is None:
            if data == b"[DONE]":
                self.unknown += 1
                return 0
            self.malformed += 1
            return MALFORMED
        word = frame.type or name.decode("utf-8", "replace")
        if not word:
            if frame.error is None:
                self.malformed += 1
                return MALFORMED
            word = "error"
        self.untyped += not typed
        what = TABLE.get(word)
        if what is None:
            self.unknown += 1
            return 0
        if frame.sequence_number >= 0:
            self.sequence_number = frame.sequence_number
        if what is What.ERROR:
            return self._failure(frame)
        if word != "keepalive":
            self.created_seen = True
        match what:
            case What.HEAD:
                return self._head(frame.response or ResponseObject())
            case What.END:
                return self._end(frame.response or ResponseObject(), word.removeprefix("response."))
            case What.TEXT | What.REASONING:
                return self._text(data, what)
            case What.MEDIA:
                return CONTENT
            case What.ARGUMENTS:
                delta, _ = read_delta(data)
                delta = delta or Delta()
                return self._arguments(delta.item_id, delta.output_index, delta.delta, word, now)
            case What.ARGUMENTS_BEGIN:
                return self._arguments(frame.item_id, frame.output_index, "", word, now)
            case What.ARGUMENTS_DONE:
                return self._arguments_done(frame, data, word, now)
            case What.ARGUMENTS_OVER:
                return self._close(self._calls.key(frame.item_id, frame.output_index))
            case What.ITEM_ADDED:
                return self._item_added(frame, now)
            case What.ITEM_DONE:
                return self._item_done(frame, data, now)
            case What.NOTHING:
                return 0

    # Heads, the end, errors.

    def _take(self, response: ResponseObject) -> None:
        if response.id is not None:
            self.response_id = keep(response.id)
        if response.model is not None:
            self.model = keep(response.model)
        created = response.created_at
        if created is not None and 0 <= created < 2**53:  # also false for a NaN
            self.created_at = int(created)
        if response.usage is not None:
            self.usage = _usage(response.usage)
        if response.service_tier is not None:
            self.service_tier = keep(response.service_tier, 32)  # `auto` in the head; the end tells which it was

    def _head(self, response: ResponseObject) -> int:
        self._take(response)
        if self.sink is not None and not self._started:
            self.sink.append(Started(self.response_id, self.model, self.created_at))
        self._started = True
        return 0

    def _end(self, response: ResponseObject, word: str) -> int:
        self._take(response)
        self.terminal = True
        self.final_usage = self.usage != EMPTY_USAGE
        status = response.status if response.status in _ENDS else "cancelled" if word == "canceled" else word
        self.stop_reason = _stop_reason(response, status)
        sink = self.sink
        if sink is not None and response.usage is not None:
            sink.append(UsageSeen(self.usage))
        if status in ("failed", "cancelled"):
            told = self.error
            self.error = _merged(response.error, told) if status == "failed" else _merged(response.error or ErrorObject(code=status), told)
            self.tools.clear()
            if sink is not None and told is None:
                sink.append(Failed(self.error))
            return TERMINAL | ERROR
        self.error = None
        if sink is not None:
            for key in self.tools:
                call = self._calls.get(key)
                if call is not None and call.part >= 0:
                    sink.append(ToolEnded(call.part))
            sink.append(Stopped(self._neutral_reason(response, status), self.stop_reason))
            sink.append(Ended())
        self.tools.clear()
        return TERMINAL

    def _neutral_reason(self, response: ResponseObject, status: str) -> StopReason:
        if status == "incomplete":
            return STOP_REASONS.get(self.stop_reason or "", StopReason.OTHER)
        called = self._called or any(item.type in ("function_call", "custom_tool_call") for item in response.output or ())
        return StopReason.TOOL_CALLS if called else StopReason.STOP

    def _failure(self, frame: Frame) -> int:
        error = frame.error or ErrorObject(code=frame.code, message=frame.message, param=frame.param)
        told = self.error
        self.error = _merged(error, told, frame.status)
        if self.sink is not None and told is None:
            self.sink.append(Failed(self.error))
        return ERROR

    # Text.

    def _text(self, data: bytes, what: What) -> int:
        delta, _ = read_delta(data)
        if delta is None or not delta.delta:
            return 0
        if self.sink is not None:
            place = "summary" if delta.summary_index is not None else "content"
            item = delta.item_id if delta.output_index is None else delta.output_index
            part = self._part((item, place, delta.summary_index or delta.content_index))
            self.sink.append(TextDelta(delta.delta, part) if what is What.TEXT else ReasoningDelta(delta.delta, part))
        return CONTENT

    def _part(self, place: tuple[str | int | None, str, int | None]) -> int:
        part = self._parts.get(place)
        if part is None:
            if len(self._parts) >= _PARTS_LIMIT:
                del self._parts[next(iter(self._parts))]
            part = self._parts[place] = self._new_part()
        return part

    def _new_part(self) -> int:
        self._parts_begun += 1
        return self._parts_begun - 1

    # Tool calls.

    def _arguments(self, item_id: str | None, index: int | None, delta: str, word: str, now: float) -> int:
        key = self._calls.key(item_id, index)
        call = self._calls.get(key)
        if call is None or not call.begun:
            call = self._begin(key, item_id, index, word)
        tool = self.tools.get(key)
        if tool is None:
            self.tools[key] = ToolCall(call.name, call.kind, now)
        elif delta or word == "response.shell_call_command.added":
            tool.arguments_at = now
        if not delta:
            return TOOL
        if self.sink is not None and call.part >= 0:
            self.sink.append(ToolDelta(call.part, delta))
        return CONTENT | TOOL

    def _begin(self, key: str | int, item_id: str | None, index: int | None, word: str) -> Call:
        """The call, counted, and announced to the sink once."""
        call = self._calls.get(key)
        if call is None:
            call = Call(None, KIND_OF_EVENT.get(word.split(".")[1], "function"), None, index)
            forgotten = self._calls.add(item_id, call)
            if forgotten is not None:
                self.tools.pop(forgotten, None)
        if not call.begun:
            call.begun = True
            self.calls += 1
            self._called = self._called or call.kind in NEUTRAL
            if self.sink is not None and call.kind in NEUTRAL and call.name is not None:
                call.part = self._new_part()
                self.sink.append(ToolStarted(call.part, call.call_id or str(key), call.name))
        return call

    def _arguments_done(self, frame: Frame, data: bytes, word: str, now: float) -> int:
        key = self._calls.key(frame.item_id, frame.output_index)
        call = self._calls.get(key)
        if call is None or not call.begun:
            whole = _whole_arguments(loose(data) or {}) if self.sink is not None else ""
            self._arguments(frame.item_id, frame.output_index, whole, word, now)
        return self._close(key)

    def _close(self, key: str | int) -> int:
        if self.tools.pop(key, None) is None:
            return 0
        call = self._calls.get(key)
        if self.sink is not None and call is not None and call.part >= 0:
            self.sink.append(ToolEnded(call.part))
        return TOOL

    def _item_added(self, frame: Frame, now: float) -> int:
        item = frame.item or Item()
        kind = KINDS.get(item.type or "")
        if kind is None:
            return 0
        call = Call(keep(item.name), kind, keep(item.call_id), frame.output_index)
        forgotten = self._calls.add(item.id, call)
        if forgotten is not None:
            self.tools.pop(forgotten, None)
        if item.status == "completed" or item.arguments or item.input or item.code:
            return 0  # it was announced with all that it will ever say
        self.tools[self._calls.key(item.id, frame.output_index)] = ToolCall(call.name, kind, now)
        return TOOL

    def _item_done(self, frame: Frame, data: bytes, now: float) -> int:
        item = frame.item or Item()
        key = self._calls.key(item.id or frame.item_id, frame.output_index)
        call = self._calls.get(key)
        kind = KINDS.get(item.type or "")
        bits = 0
        if kind is not None and (call is None or not call.begun):
            if call is None:
                call = Call(keep(item.name), kind, keep(item.call_id), frame.output_index)
                self._calls.add(item.id, call)
            fields = (loose(data) or {}).get("item") if self.sink is not None else None
            whole = _whole_arguments(cast("dict[str, Any]", fields)) if isinstance(fields, dict) else ""
            bits = self._arguments(item.id, frame.output_index, whole, "response.function_call", now)
        bits |= self._close(key)
        self._calls.pop(key)
        return bits


def _whole_arguments(fields: dict[str, Any]) -> str:
    return text(fields.get("arguments")) or text(fields.get("input")) or ""


def _stop_reason(response: ResponseObject, status: str) -> str:
    if status == "incomplete" and response.incomplete_details is not None and response.incomplete_details.reason is not None:
        return keep(response.incomplete_details.reason) or status
    return status


def _merged(error: ErrorObject | None, told: UpstreamError | None, status: int | None = None) -> UpstreamError:
    """What the provider says now, completed by what it said before."""
    new, old = error or ErrorObject(), told or UpstreamError()
    code = new.code
    if isinstance(code, int):
        status = code if status is None else status
        code = str(code)
    return UpstreamError(
        message=keep(new.message, 4096) or old.message,
        type=keep(new.type) or old.type,
        code=keep(code) or old.code,
        param=keep(new.param) or old.param,
        status=old.status if status is None else status,
    )


def _usage(usage: UsageObject) -> Usage:
    inner, outer = usage.input_tokens_details, usage.output_tokens_details
    return Usage(
        input=usage.input_tokens,
        output=usage.output_tokens,
        cache_read=None if inner is None else inner.cached_tokens,
        cache_write=None if inner is None else inner.cache_write_tokens,
        reasoning=None if outer is None else outer.reasoning_tokens,
    )
