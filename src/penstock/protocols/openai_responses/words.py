"""The words of this dialect for stop reasons and errors, both ways."""

from __future__ import annotations

from penstock.vocabulary.errors import Fault, FaultKind
from penstock.vocabulary.events import StopReason

STOP_REASONS: dict[str, StopReason] = {
    "max_output_tokens": StopReason.LENGTH,
    "content_filter": StopReason.CONTENT_FILTER,
    "pause": StopReason.PAUSE,
}
"""`incomplete_details.reason` in neutral words. Others (`max_messages`, `steered`) have none and are OTHER. `pause` is not OpenAI's: it is what
we write for a turn that another protocol's provider paused, so that it never looks finished."""

INCOMPLETE_REASONS: dict[StopReason, str] = {reason: word for word, reason in STOP_REASONS.items()}
"""Reasons that make a response `incomplete`; STOP, TOOL_CALLS and STOP_SEQUENCE complete it."""

ERROR_TYPES: dict[FaultKind, str] = {
    FaultKind.BAD_REQUEST: "invalid_request_error",
    FaultKind.UNAUTHENTICATED: "authentication_error",
    FaultKind.FORBIDDEN: "permission_error",
    FaultKind.NOT_FOUND: "invalid_request_error",
    FaultKind.METHOD_NOT_ALLOWED: "invalid_request_error",
    FaultKind.TIMEOUT_OF_CLIENT: "invalid_request_error",
    FaultKind.TOO_LARGE: "invalid_request_error",
    FaultKind.UNSUPPORTED_MEDIA: "invalid_request_error",
    FaultKind.RATE_LIMITED: "rate_limit_error",
    FaultKind.HEADERS_TOO_LARGE: "invalid_request_error",
    FaultKind.INTERNAL: "server_error",
    FaultKind.UPSTREAM_BROKEN: "server_error",
    FaultKind.UPSTREAM_TIMEOUT: "server_error",
    FaultKind.OVERLOADED: "server_error",
    FaultKind.CUT: "invalid_request_error",
}
"""`error.type` of an error body; of what was cut, only where its status has no word of its own."""

STATUS_TYPES: dict[int, str] = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
"""`error.type` by status, where the provider gave none; `server_error` from 500 on, `invalid_request_error` for the others."""


CODES: dict[FaultKind, str] = {FaultKind.UNAUTHENTICATED: "invalid_api_key", FaultKind.RATE_LIMITED: "rate_limit_exceeded"}
"""`error.code` of an error body, where no provider gave one: the words of all of OpenAI's endpoints."""


def error_type(fault: Fault) -> str:
    """`error.type` of a fault of ours."""
    by_status = STATUS_TYPES.get(fault.status) if fault.kind is FaultKind.CUT else None
    return fault.type or by_status or ERROR_TYPES[fault.kind]


FAILURE_CODES: dict[FaultKind, str] = {
    FaultKind.RATE_LIMITED: "rate_limit_exceeded",
    FaultKind.BAD_REQUEST: "invalid_prompt",
    FaultKind.CUT: "invalid_prompt",
}
"""`response.error.code`, which the protocol requires, where no provider gave one; `server_error` for all others. Codex asks again after
`server_error` and not after `invalid_prompt`: an answer that a policy cut would be cut again."""
