"""Errors that cross rooms: those that we tell a client, and those that a provider told us."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import msgspec


class FaultKind(StrEnum):
    """Why we answer with an error of our own. Each protocol's `render` maps it to its own `type` or `status` word."""

    BAD_REQUEST = "bad_request"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    TIMEOUT_OF_CLIENT = "timeout_of_client"
    TOO_LARGE = "too_large"
    UNSUPPORTED_MEDIA = "unsupported_media"
    RATE_LIMITED = "rate_limited"
    HEADERS_TOO_LARGE = "headers_too_large"
    INTERNAL = "internal"
    UPSTREAM_BROKEN = "upstream_broken"
    """Unreachable, reset, cut off, or not HTTP."""
    UPSTREAM_TIMEOUT = "upstream_timeout"
    OVERLOADED = "overloaded"
    """Full, or draining."""
    CUT = "cut"


class Fault(msgspec.Struct, frozen=True, gc=False):
    """An error to be told to a client, before any protocol has shaped it.

    `message` is a sentence for people: no internal address, no stack, no secret. `type`, `code` and `param` are set only where a
    provider gave them; a protocol's `render` never invents them.
    """

    kind: FaultKind
    status: int
    """The HTTP status; also told in band where the protocol has a place for it."""
    message: str
    type: str | None = None
    code: str | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class UpstreamError:
    """What a provider said of its failure. Every field as it came; `None` where it said nothing.

    `status` is the HTTP status, or a numeric status or code stated in band (Gemini's `code`, Groq's `status_code`).
    """

    message: str | None = None
    type: str | None = None
    code: str | None = None
    param: str | None = None
    status: int | None = None
    members: bytes = field(default=b"", compare=False, repr=False)
    """The JSON object that told it, with what no other field has (Google's `details`, OpenRouter's `metadata`), for a client of the same dialect;
    empty where it did not come as one, or is long."""
