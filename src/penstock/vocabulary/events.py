"""Neutral events: what a frame means, whatever its protocol.

Observers build them only when asked (`Observer.sink`); renderers turn them into a protocol's own frames. Within one answer
`part` numbers the parts of its content in the order in which they began, so a text, a thought and two tool calls are parts
0 to 3; `choice` tells alternative answers apart (Chat's `n`, Gemini's candidates) and is 0 elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from penstock.vocabulary.errors import UpstreamError
from penstock.vocabulary.usage import Usage


class StopReason(StrEnum):
    """Why a model stopped. Each protocol's words map to one of these and back; the mapping is part of its `render`."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"
    STOP_SEQUENCE = "stop_sequence"
    PAUSE = "pause"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Started:
    """The answer began. `created` is in seconds since the epoch, where the protocol states it."""

    response_id: str | None
    model: str | None
    created: int | None = None


@dataclass(frozen=True, slots=True)
class TextDelta:
    text: str
    part: int = 0
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    text: str
    part: int = 0
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """A function call began. Provider-run tools (web search, code interpreter) are not function calls and give no events."""

    part: int
    call_id: str
    name: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ToolDelta:
    """More of the JSON text of the arguments of the call `part`."""

    part: int
    arguments: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ToolEnded:
    part: int
    choice: int = 0


@dataclass(frozen=True, slots=True)
class UsageSeen:
    """The usage as known now; a later one replaces it."""

    usage: Usage


@dataclass(frozen=True, slots=True)
class Stopped:
    reason: StopReason
    raw: str | None = None
    """The provider's own word."""
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Failed:
    """An error event in band."""

    error: UpstreamError


@dataclass(frozen=True, slots=True)
class Ended:
    """The terminal event."""


Event = Started | TextDelta | ReasoningDelta | ToolStarted | ToolDelta | ToolEnded | UsageSeen | Stopped | Failed | Ended
