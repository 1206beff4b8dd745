"""Reads a Gemini stream, frame by frame, and whole bodies.

Rules
-----
1. Every frame is one `GenerateContentResponse`; there is no terminal event and no kind of frame: what a frame is, its fields say.
2. A candidate begins with the first frame that holds its index (absent: 0), and is finished from the first `finishReason` on that says
   something. What comes for it later (usage, grounding, even text) is read, and does not take the finish back.
3. The stream may end cleanly (`closable`) when at least one candidate was seen and every one that was seen is finished; or when
   `promptFeedback.blockReason` says that there will be none. An error takes that away. `terminal` never comes.
4. `usageMetadata` is cumulative: the last value of each field counts. It is final once it comes in a frame after which the stream may end.
5. The stop reason is that of the candidate with the lowest index that gave one; the last one it gave; without any, the block reason.
6. A function call comes whole, in one part: it begins and ends there. With `streamFunctionCallArguments` (Vertex AI) a first part names it
   with `willContinue: true`, further parts without a name bring `partialArgs`, and the first part without `willContinue` ends it: an empty
   `functionCall`, or one that still brings arguments. A new call, or the finish of its candidate, ends an open one too. A part that brings
   nothing of them is no progress.
7. `{"error": {...}}`, also in a list of one, is an error in band.

| the frame has | bits | changes |
|---|---|---|
| text that is not empty; thought, media, code, its result | CONTENT | |
| a part `functionCall` | CONTENT, TOOL | `calls`, `tools` (one open call a candidate at most) |
| `finishReason` | TOOL where it ends a call | `stop_reason` |
| `promptFeedback.blockReason` | | `stop_reason` |
| `usageMetadata` | | `usage`, `final_usage` |
| `error` | ERROR | `error` |
| no JSON object; a candidate index beyond 63 | MALFORMED | `malformed` |

A part of nothing but a signature counts as content: to tell it from media of a kind yet unknown, all of it would have to be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from penstock.protocols.contract import CONTENT, ERROR, MALFORMED, TOOL, Observer, ToolCall
from penstock.protocols.gemini.frames import Frame, FunctionCall, ModalityCount, UsageMetadata, count, given, goes_on, read, read_loosely
from penstock.protocols.gemini.tell import Teller
from penstock.protocols.gemini.words import NOT_BLOCKED, NOT_FINISHED
from penstock.protocols.statuses import members_of
from penstock.vocabulary.errors import UpstreamError
from penstock.vocabulary.usage import EMPTY_USAGE, NO_KINDS, Kinds, Usage

_CANDIDATES = 64
"""More than the API allows for (8): beyond that an index is no index, and no memory is spent on it."""


_NO_PIECES = msgspec.Raw(b"[]")


class GeminiObserver(Observer):
    """See the rules above."""

    __slots__ = ("_blocked", "_figures", "_finished", "_seen", "_stale", "_stop_index", "_teller", "_usage")

    calls: int
    choices: int
    malformed: int

    def __init__(self) -> None:
        self._usage = EMPTY_USAGE
        self._figures: UsageMetadata | None = None
        self._stale = False  # the figures are newer than the usage
        self._seen = 0  # candidates, one bit each
        self._finished = 0
        self._blocked = False
        self._stop_index = _CANDIDATES
        self._teller: Teller | None = None
        super().__init__()

    # Made when it is asked for: figures come with every frame, and are wanted once.
    @property
    def usage(self) -> Usage:
        if self._stale and self._figures is not None:
            self._stale = False
            self._usage = _usage_of(self._figures)
        return self._usage

    @usage.setter
    def usage(self, value: Usage) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]  # plain elsewhere; here put together when read
        self._usage = value
        self._figures = None
        self._stale = False

    def closable(self) -> bool:
        if self.error is not None:
            return False
        return self._blocked or (self._seen != 0 and self._seen == self._finished)

    def observe(self, name: bytes, data: bytes, now: float) -> int:
        try:
            frame = read(data)
        except (ValueError, RecursionError):
            loose = read_loosely(data)
            if loose is None:
                self.malformed += 1
                return MALFORMED
            frame = loose
        bits = self._take(frame, now)
        if self.sink is not None:
            if self._teller is None:
                self._teller = Teller()
            if not self._teller.tell(frame, self, self.sink):
                self.malformed += 1
                bits |= MALFORMED
        return bits

    def observe_body(self, body: bytes) -> None:
        """A body of `generateContent`, `countTokens` or `embedContent`; any other JSON object says nothing."""
        try:
            frame = read(body)
        except (ValueError, RecursionError):
            loose = read_loosely(body)
            if loose is None:
                self.malformed += 1
                return
            frame = loose
        self._take(frame, 0.0)
        self.tools.clear()
        if frame.total_tokens is not None:
            self._figures = UsageMetadata(prompt_token_count=frame.total_tokens, cached_content_token_count=frame.cached_content_token_count)
            self._stale = True
        self.final_usage = self.usage != EMPTY_USAGE

    def observe_error(self, status: int, body: bytes) -> None:
        frame = read_loosely(body)
        self.error = _error_of(frame.error, status) if frame is not None else UpstreamError(status=status)

    def _take(self, frame: Frame, now: float) -> int:
        bits = 0
        if self.response_id is None:
            self.response_id = frame.response_id
        if frame.model_version is not None:
            self.model = frame.model_version
        candidates = frame.candidates
        if candidates is not None:
            for candidate in candidates:
                index = candidate.index or 0
                if not 0 <= index < _CANDIDATES:
                    self.malformed += 1
                    bits |= MALFORMED
                    continue
                mask = 1 << index
                if not self._seen & mask:
                    self._seen |= mask
                    self.choices += 1
                content = candidate.content
                if content is not None and content.parts is not None:
                    for part in content.parts:
                        if part.function_call is not None:
                            bits |= self._call(index, part.function_call, now)
                        elif part.text is None or part.text:
                            bits |= CONTENT
                reason = candidate.finish_reason
                if reason is not None and reason not in NOT_FINISHED:
                    bits |= self._finish(index, reason)
        feedback = frame.prompt_feedback
        if feedback is not None and feedback.block_reason is not None and feedback.block_reason not in NOT_BLOCKED:
            self._blocked = True
            if self.stop_reason is None:
                self.stop_reason = feedback.block_reason
        if given(frame.error):
            self.error = _error_of(frame.error, None)
            bits |= ERROR
        if frame.usage_metadata is not None:
            self._count(frame.usage_metadata)
        return bits

    def _call(self, index: int, call: FunctionCall, now: float) -> int:
        open_call = self.tools.get(index)
        if open_call is not None and goes_on(open_call.name, call):
            if call.will_continue:
                if given(call.partial_args) and call.partial_args != _NO_PIECES:
                    open_call.arguments_at = now
            else:
                del self.tools[index]
            return CONTENT | TOOL
        if call.name is None:
            return CONTENT  # more of a call that is not open
        self.calls += 1
        if call.will_continue:
            self.tools[index] = ToolCall(call.name, "function", now)
        else:
            self.tools.pop(index, None)
        return CONTENT | TOOL

    def _finish(self, index: int, reason: str) -> int:
        self._finished |= 1 << index
        if index <= self._stop_index:
            self._stop_index = index
            self.stop_reason = reason
        return TOOL if self.tools.pop(index, None) is not None else 0

    def _count(self, new: UsageMetadata) -> None:
        old = self._figures
        if old is not None:
            if new.prompt_token_count is None:
                new.prompt_token_count = old.prompt_token_count
            if new.candidates_token_count is None:
                new.candidates_token_count = old.candidates_token_count
            if new.cached_content_token_count is None:
                new.cached_content_token_count = old.cached_content_token_count
            if new.thoughts_token_count is None:
                new.thoughts_token_count = old.thoughts_token_count
            if new.tool_use_prompt_token_count is None:
                new.tool_use_prompt_token_count = old.tool_use_prompt_token_count
            if new.prompt_tokens_details is None:
                new.prompt_tokens_details = old.prompt_tokens_details
            if new.candidates_tokens_details is None:
                new.candidates_tokens_details = old.candidates_tokens_details
            if old.cache_tokens_details is not None and new.cache_tokens_details is None:
                new.cache_tokens_details = old.cache_tokens_details
        self._figures = new
        self._stale = True
        if not self.final_usage:
            self.final_usage = self.closable()


def _usage_of(figures: UsageMetadata) -> Usage:
    read = _NONE if figures.prompt_tokens_details is None else _by_kind(figures.prompt_tokens_details)
    made = _NONE if figures.candidates_tokens_details is None else _by_kind(figures.candidates_tokens_details)
    cached = _NONE if figures.cache_tokens_details is None else _by_kind(figures.cache_tokens_details)
    kinds = None
    if read or made or cached:
        kinds = Kinds(
            read.get("IMAGE"), made.get("IMAGE"), read.get("VIDEO"), made.get("VIDEO"), cached.get("AUDIO"), cached.get("IMAGE"), cached.get("VIDEO"))
    return Usage(
        input=figures.prompt_token_count,
        output=figures.candidates_token_count,
        cache_read=figures.cached_content_token_count,
        reasoning=figures.thoughts_token_count,
        tool_use=figures.tool_use_prompt_token_count,
        audio_input=read.get("AUDIO"),
        audio_output=made.get("AUDIO"),
        kinds=None if kinds == NO_KINDS else kinds,
    )


_NONE: Mapping[str, int] = {}


def _by_kind(details: list[ModalityCount]) -> Mapping[str, int]:
    """The counts that are not of text (which a modality that is not said is taken for), by modality; pages of documents as pictures."""
    told: dict[str, int] = {}
    for detail in details:
        kind, tokens = detail.modality, detail.token_count
        if kind is not None and kind != "TEXT" and tokens is not None:
            kind = "IMAGE" if kind == "DOCUMENT" else kind
            told[kind] = told.get(kind, 0) + tokens
    return told


def _error_of(raw: msgspec.Raw, status: int | None) -> UpstreamError:
    """`status`: that of HTTP, which goes before the one stated in band. The reason of a `google.rpc.ErrorInfo` is the error's code."""
    try:
        value = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        return UpstreamError(message=value if isinstance(value, str) else None, status=status)
    error = cast("dict[str, Any]", value)
    message, word, details = error.get("message"), error.get("status"), error.get("details")
    listed = cast("list[object]", details) if isinstance(details, list) else []
    reasons = [cast("dict[str, Any]", d).get("reason") for d in listed if isinstance(d, dict)]
    return UpstreamError(
        message=message if isinstance(message, str) else None,
        type=word if isinstance(word, str) else None,
        code=next((r for r in reasons if isinstance(r, str)), None),
        status=status if status is not None else count(error.get("code")),
        members=members_of(bytes(raw)),
    )
