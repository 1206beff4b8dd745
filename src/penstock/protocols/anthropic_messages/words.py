"""The dialect's own words, mapped to the shared ones and back: stop reasons, kinds of tool calls, error types.

Sources: Anthropic, "Handling stop reasons", "Claude API errors", and the Messages reference (`stop_reason`, content block types).
"""

from __future__ import annotations

from typing import Final

from penstock.vocabulary.errors import FaultKind
from penstock.vocabulary.events import StopReason

STOP_REASONS: Final[dict[str, StopReason]] = {
    "end_turn": StopReason.STOP,
    "max_tokens": StopReason.LENGTH,
    "model_context_window_exceeded": StopReason.LENGTH,
    "stop_sequence": StopReason.STOP_SEQUENCE,
    "tool_use": StopReason.TOOL_CALLS,
    "refusal": StopReason.CONTENT_FILTER,
    "pause_turn": StopReason.PAUSE,
    # The turn stops after the summary was made and goes on when the client sends it back (`pause_after_compaction`).
    "compaction": StopReason.PAUSE,
}
"""The dialect's word to the neutral reason; a word that is not here is `OTHER`."""

STOP_WORDS: Final[dict[StopReason, str]] = {
    StopReason.STOP: "end_turn",
    StopReason.LENGTH: "max_tokens",
    StopReason.STOP_SEQUENCE: "stop_sequence",
    StopReason.TOOL_CALLS: "tool_use",
    StopReason.CONTENT_FILTER: "refusal",
    StopReason.PAUSE: "pause_turn",
}
"""The neutral reason to the dialect's word. `OTHER` has none: its own word is passed on."""

TOOL_KINDS: Final[dict[str, str]] = {"tool_use": "function", "server_tool_use": "server", "mcp_tool_use": "mcp"}
"""Block types whose `input` arrives in pieces, to the kind of call (`ToolCall.kind`)."""

ERROR_TYPES: Final[dict[FaultKind, str]] = {
    FaultKind.BAD_REQUEST: "invalid_request_error",
    FaultKind.UNAUTHENTICATED: "authentication_error",
    FaultKind.FORBIDDEN: "permission_error",
    FaultKind.NOT_FOUND: "not_found_error",
    # "This error type may also be used for other 4XX status codes not listed": the word for 405, 408, 415 and 431.
    FaultKind.METHOD_NOT_ALLOWED: "invalid_request_error",
    FaultKind.TIMEOUT_OF_CLIENT: "invalid_request_error",
    FaultKind.UNSUPPORTED_MEDIA: "invalid_request_error",
    FaultKind.HEADERS_TOO_LARGE: "invalid_request_error",
    FaultKind.TOO_LARGE: "request_too_large",
    FaultKind.RATE_LIMITED: "rate_limit_error",
    FaultKind.INTERNAL: "api_error",
    FaultKind.UPSTREAM_BROKEN: "api_error",
    FaultKind.UPSTREAM_TIMEOUT: "timeout_error",
    FaultKind.OVERLOADED: "overloaded_error",
    FaultKind.CUT: "api_error",  # of a status that has no word of its own
}

STATUS_TYPES: Final[dict[int, str]] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""More exact than the kind where a fault only says "bad request", "upstream broken" or "cut" but carries one of these statuses."""


def error_type(kind: FaultKind, status: int) -> str:
    """The `error.type` for a fault of ours that no provider has named."""
    if kind in (FaultKind.BAD_REQUEST, FaultKind.UPSTREAM_BROKEN, FaultKind.CUT):
        return STATUS_TYPES.get(status, ERROR_TYPES[kind])
    return ERROR_TYPES[kind]


def status_type(status: int) -> str:
    """The `error.type` for a status of a provider that has named no type."""
    return STATUS_TYPES.get(status) or ("api_error" if status >= 500 else "invalid_request_error")
