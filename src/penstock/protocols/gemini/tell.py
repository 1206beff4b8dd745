"""Tells the frames of a stream as neutral events; only at work where somebody asked for them.

Parts are numbered in each candidate as they begin: text goes on until something else comes, so does thought, a call is a part of its own.
Media, code and tools that Google runs have no neutral event, but end the text before them. Arguments that come in pieces are told when
they are whole, since a neutral delta is JSON text and a piece is not. `Ended` is never told here: nothing in the stream says it; who
reads the stream's end does, where the observer is `closable`.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

import msgspec

from penstock.protocols.contract import BodyError
from penstock.protocols.gemini.arguments import PartialArguments
from penstock.protocols.gemini.frames import Candidate, Frame, FunctionCall, Part, given, goes_on
from penstock.protocols.gemini.words import NOT_BLOCKED, NOT_FINISHED, stop_of
from penstock.vocabulary.events import Event, Failed, ReasoningDelta, Started, Stopped, TextDelta, ToolDelta, ToolEnded, ToolStarted, UsageSeen

if TYPE_CHECKING:
    from penstock.protocols.contract import Observer

_CANDIDATES = 64
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class _Open:
    """A call whose arguments are still coming."""

    __slots__ = ("arguments", "name", "part")

    def __init__(self, name: str, part: int, arguments: PartialArguments) -> None:
        self.name = name
        self.part = part
        self.arguments = arguments


class _Choice:
    __slots__ = ("called", "kind", "open", "part")

    def __init__(self) -> None:
        self.part = -1
        self.kind = ""  # of the part that goes on: "text", "thought", or nothing
        self.called = False
        self.open: _Open | None = None


class Teller:
    """One stream's events, in order."""

    __slots__ = ("_choices", "_started")

    def __init__(self) -> None:
        self._choices: dict[int, _Choice] = {}
        self._started = False

    def tell(self, frame: Frame, observer: Observer, out: list[Event]) -> bool:
        """Append what `frame` means, after the observer has read it. False where the pieces of a call's arguments do not fit together, or
        it is not ended before the next one or the finish: the call is never told as ended."""
        sound = True
        if not self._started and not given(frame.error):
            self._started = True
            out.append(Started(frame.response_id, frame.model_version, _seconds(frame.create_time)))
        for candidate in frame.candidates or ():
            index = candidate.index or 0
            if 0 <= index < _CANDIDATES:
                sound = self._candidate(index, candidate, observer, out) and sound
        feedback = frame.prompt_feedback
        if feedback is not None and feedback.block_reason is not None and feedback.block_reason not in NOT_BLOCKED:
            out.append(Stopped(stop_of(feedback.block_reason, calls=False), feedback.block_reason))
        if frame.usage_metadata is not None:
            out.append(UsageSeen(observer.usage))
        if given(frame.error) and observer.error is not None:
            out.append(Failed(observer.error))
        return sound

    def _candidate(self, index: int, candidate: Candidate, observer: Observer, out: list[Event]) -> bool:
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice()
        sound = True
        content = candidate.content
        for part in (content.parts if content is not None else None) or ():
            if part.function_call is not None:
                sound = self._call(index, choice, part.function_call, observer, out) and sound
            else:
                self._text(index, choice, part, out)
        reason = candidate.finish_reason
        if reason is not None and reason not in NOT_FINISHED:
            sound = self._drop_call(choice) and sound
            out.append(Stopped(stop_of(reason, choice.called), reason, index))
        return sound

    def _text(self, index: int, choice: _Choice, part: Part, out: list[Event]) -> None:
        if part.text is None:
            choice.kind = ""
        elif part.text:
            kind = "thought" if part.thought else "text"
            if choice.kind != kind:
                choice.kind = kind
                choice.part += 1
            out.append((ReasoningDelta if part.thought else TextDelta)(part.text, choice.part, index))

    def _call(self, index: int, choice: _Choice, call: FunctionCall, observer: Observer, out: list[Event]) -> bool:
        if choice.open is not None and goes_on(choice.open.name, call):
            sound = self._add(choice, call)
            if sound and not call.will_continue:
                sound = self._end_call(index, choice, out)
            return sound
        if call.name is None:
            return True
        sound = self._drop_call(choice)
        choice.kind = ""
        choice.called = True
        choice.part += 1
        # Without an id of the provider's one is made that the same stream always gives.
        out.append(ToolStarted(choice.part, call.id or f"call_{observer.response_id or 'gemini'}_{index}_{choice.part}", call.name, index))
        if not call.will_continue and not given(call.partial_args):
            out.append(ToolDelta(choice.part, bytes(call.args).decode("utf-8", "replace") if given(call.args) else "{}", index))
            out.append(ToolEnded(choice.part, index))
            return sound
        choice.open = _Open(call.name, choice.part, PartialArguments(_arguments(call.args)))
        sound = self._add(choice, call) and sound
        if not call.will_continue:
            sound = self._end_call(index, choice, out) and sound
        return sound

    @staticmethod
    def _add(choice: _Choice, call: FunctionCall) -> bool:
        if choice.open is None or not given(call.partial_args):
            return True
        try:
            choice.open.arguments.add(msgspec.json.decode(call.partial_args))
        except (BodyError, ValueError, RecursionError):
            choice.open = None
            return False
        return True

    @staticmethod
    def _drop_call(choice: _Choice) -> bool:
        """Forget a call that was not ended: half its arguments are not told as if they were all. False where there was one."""
        dropped = choice.open
        choice.open = None
        return dropped is None

    @staticmethod
    def _end_call(index: int, choice: _Choice, out: list[Event]) -> bool:
        ended = choice.open
        choice.open = None
        if ended is None:
            return True
        try:
            arguments = msgspec.json.encode(ended.arguments.value()).decode()
        except (BodyError, ValueError, RecursionError):
            return False
        out.append(ToolDelta(ended.part, arguments, index))
        out.append(ToolEnded(ended.part, index))
        return True


def _arguments(raw: msgspec.Raw) -> dict[str, object] | None:
    try:
        return msgspec.json.decode(raw, type=dict[str, object]) if given(raw) else None
    except (ValueError, RecursionError):
        return None


def _seconds(create_time: str | None) -> int | None:
    """`2025-12-01T08:00:00.123456Z` (RFC 3339) in seconds since the epoch."""
    if create_time is None:
        return None
    try:
        told = datetime.datetime.fromisoformat(create_time)
    except ValueError:
        return None
    if told.tzinfo is None:
        told = told.replace(tzinfo=datetime.UTC)
    return (told - _EPOCH) // datetime.timedelta(seconds=1)
