"""What status an error of a provider's deserves, by its own words; and the other way round, for statuses that came without words.

Providers tell errors in band, where there is no status any more: by a number in the error, or by the words that the same error would have had
with its status. Servers borrow each other's words (Anthropic's types in OpenAI's shape, `google.rpc.Code` in Gemini's OpenAI surface), so
there is one table for all protocols.

Sources: Anthropic, "Errors"; OpenAI, "Error codes" and the codes of `response.error`; google/rpc/code.proto with its HTTP mapping.
"""

from __future__ import annotations

from http import HTTPStatus

from penstock.vocabulary.errors import Fault, FaultKind, UpstreamError

UNKNOWN = 502
"""An error without any word that we know: the provider failed, and that is all that can be said."""
_LONG = 16384
_DEEP = 256

_BY_STATUS: dict[int, str] = {
    400: "invalid_request_error invalid_request bad_request invalid_prompt context_length_exceeded string_above_max_length content_filter"
    " content_policy_violation unsupported_parameter unsupported_value invalid_value missing_required_parameter unknown_parameter"
    " invalid_argument failed_precondition out_of_range invalid_image invalid_image_format invalid_image_url invalid_image_mode"
    " invalid_base64_image image_too_large image_too_small image_parse_error image_content_policy_violation image_file_too_large"
    " image_file_not_found unsupported_image_media_type empty_image_file failed_to_download_image json_validate_failed tool_use_failed",
    401: "authentication_error invalid_api_key unauthenticated unauthorized",
    402: "billing_error payment_required",
    403: "permission_error permission_denied forbidden",
    404: "not_found_error not_found model_not_found",
    409: "conflict_error conflict aborted already_exists",
    413: "request_too_large",
    422: "unprocessable_entity",
    429: "rate_limit_error rate_limit_exceeded insufficient_quota quota_exceeded resource_exhausted too_many_requests tokens requests"
    " credit_balance_exhausted",
    499: "cancelled",
    500: "api_error server_error internal_error internal_server_error internal unknown data_loss",
    501: "unimplemented",
    503: "overloaded server_is_overloaded service_unavailable service_unavailable_error unavailable engine_overloaded engine_overloaded_error"
    " slow_down",
    504: "timeout_error timeout deadline_exceeded gateway_timeout vector_store_timeout",
    529: "overloaded_error",
}
_STATUSES: dict[str, int] = {word: status for status, words in _BY_STATUS.items() for word in words.split()}

_KINDS: dict[int, FaultKind] = {
    401: FaultKind.UNAUTHENTICATED,
    403: FaultKind.FORBIDDEN,
    404: FaultKind.NOT_FOUND,
    405: FaultKind.METHOD_NOT_ALLOWED,
    408: FaultKind.TIMEOUT_OF_CLIENT,
    413: FaultKind.TOO_LARGE,
    415: FaultKind.UNSUPPORTED_MEDIA,
    429: FaultKind.RATE_LIMITED,
    431: FaultKind.HEADERS_TOO_LARGE,
    500: FaultKind.INTERNAL,
    503: FaultKind.OVERLOADED,
    504: FaultKind.UPSTREAM_TIMEOUT,
    529: FaultKind.OVERLOADED,
}


def status_of(error: UpstreamError) -> int:
    """The HTTP status (400 to 599) of `error`: the one that it states, else that of its code, else that of its type, else 502."""
    if error.status is not None and 400 <= error.status <= 599:
        return error.status
    code = error.code or ""
    if len(code) == 3 and code.isascii() and code.isdigit() and 400 <= int(code) <= 599:
        return int(code)
    return _STATUSES.get(code.lower()) or _STATUSES.get((error.type or "").lower()) or UNKNOWN


def phrase_of(status: int) -> str:
    """The name of a status, as HTTP has it."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Overloaded" if status == 529 else f"Status {status}"


def message_of(error: UpstreamError, status: int) -> str:
    """What the provider said, or the name of its status where it said nothing."""
    return error.message or phrase_of(status)


def members_of(told: bytes) -> bytes:
    """`told`, the JSON object of an error, for `UpstreamError.members`: empty where it is long, or may be nested deeper than can be written again."""
    return told if len(told) <= _LONG and told.count(b"{") + told.count(b"[") <= _DEEP else b""


def fault_of(error: UpstreamError) -> Fault:
    """`error` as one that can be told in band: its own words, and the kind by its status."""
    status = status_of(error)
    kind = _KINDS.get(status) or (FaultKind.UPSTREAM_BROKEN if status >= 500 else FaultKind.BAD_REQUEST)
    return Fault(kind, status, message_of(error, status), error.type, error.code, error.param)
