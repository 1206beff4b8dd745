"""Google's words: finish reasons, block reasons, status codes, and what they are in ours.

Source: ai.google.dev/api/generate-content (FinishReason, BlockReason), Vertex AI's reference for those only it has, and google/rpc/code.proto
with its HTTP mapping.
"""

from __future__ import annotations

from collections.abc import Mapping

from penstock.vocabulary.errors import FaultKind
from penstock.vocabulary.events import StopReason

NOT_FINISHED = frozenset({"", "FINISH_REASON_UNSPECIFIED"})
"""What says nothing, though it is there."""

NOT_BLOCKED = frozenset({"", "BLOCK_REASON_UNSPECIFIED", "BLOCKED_REASON_UNSPECIFIED"})

STOPS: Mapping[str, StopReason] = {
    "STOP": StopReason.STOP,
    "MAX_TOKENS": StopReason.LENGTH,
    "SAFETY": StopReason.CONTENT_FILTER,
    "RECITATION": StopReason.CONTENT_FILTER,
    "BLOCKLIST": StopReason.CONTENT_FILTER,
    "PROHIBITED_CONTENT": StopReason.CONTENT_FILTER,
    "SPII": StopReason.CONTENT_FILTER,
    "IMAGE_SAFETY": StopReason.CONTENT_FILTER,
    "IMAGE_PROHIBITED_CONTENT": StopReason.CONTENT_FILTER,
    "IMAGE_RECITATION": StopReason.CONTENT_FILTER,
    "MODEL_ARMOR": StopReason.CONTENT_FILTER,
    "JAILBREAK": StopReason.CONTENT_FILTER,
    "LANGUAGE": StopReason.OTHER,
    "OTHER": StopReason.OTHER,
    "MALFORMED_FUNCTION_CALL": StopReason.OTHER,
    "MALFORMED_RESPONSE": StopReason.OTHER,
    "UNEXPECTED_TOOL_CALL": StopReason.OTHER,
    "TOO_MANY_TOOL_CALLS": StopReason.OTHER,
    "MISSING_THOUGHT_SIGNATURE": StopReason.OTHER,
    "IMAGE_OTHER": StopReason.OTHER,
    "NO_IMAGE": StopReason.OTHER,
}
"""Finish and block reasons; one that is not here is OTHER. A STOP after a function call is TOOL_CALLS: Gemini has no word for it."""

FINISH_WORDS: Mapping[StopReason, str] = {
    StopReason.STOP: "STOP",
    StopReason.LENGTH: "MAX_TOKENS",
    StopReason.TOOL_CALLS: "STOP",
    StopReason.CONTENT_FILTER: "SAFETY",
    StopReason.STOP_SEQUENCE: "STOP",
    StopReason.PAUSE: "OTHER",
    StopReason.OTHER: "OTHER",
}

CODES = frozenset({
    "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "UNAUTHENTICATED",
    "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
})  # fmt: skip
"""The names of google.rpc.Code, OK excepted."""

STATUSES: Mapping[FaultKind, str] = {
    FaultKind.BAD_REQUEST: "INVALID_ARGUMENT",
    FaultKind.UNAUTHENTICATED: "UNAUTHENTICATED",
    FaultKind.FORBIDDEN: "PERMISSION_DENIED",
    FaultKind.NOT_FOUND: "NOT_FOUND",
    FaultKind.METHOD_NOT_ALLOWED: "UNIMPLEMENTED",
    FaultKind.TIMEOUT_OF_CLIENT: "DEADLINE_EXCEEDED",
    FaultKind.TOO_LARGE: "INVALID_ARGUMENT",
    FaultKind.UNSUPPORTED_MEDIA: "INVALID_ARGUMENT",
    FaultKind.RATE_LIMITED: "RESOURCE_EXHAUSTED",
    FaultKind.HEADERS_TOO_LARGE: "INVALID_ARGUMENT",
    FaultKind.INTERNAL: "INTERNAL",
    FaultKind.UPSTREAM_BROKEN: "UNAVAILABLE",
    FaultKind.UPSTREAM_TIMEOUT: "DEADLINE_EXCEEDED",
    FaultKind.OVERLOADED: "UNAVAILABLE",
    FaultKind.CUT: "ABORTED",  # of a status that has no word of its own
}

STATUS_BY_HTTP: Mapping[int, str] = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 409: "ABORTED", 429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED", 500: "INTERNAL", 501: "UNIMPLEMENTED", 502: "UNAVAILABLE", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED", 529: "UNAVAILABLE",
}  # fmt: skip


def stop_of(word: str, calls: bool) -> StopReason:
    """What Google's word means; `calls`: the candidate called functions."""
    reason = STOPS.get(word, StopReason.OTHER)
    return StopReason.TOOL_CALLS if calls and reason is StopReason.STOP else reason
