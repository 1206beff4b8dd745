"""The token of the data plane: one shared secret, wherever the client's SDK can put one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hmac import compare_digest
from urllib.parse import unquote_to_bytes

TOKEN_HEADER = b"x-penstock-token"
_HEADERS = frozenset({TOKEN_HEADER, b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key"})

REFUSED = (
    "this gateway asks for its token: send it as the client's API key (Authorization: Bearer, x-api-key, x-goog-api-key) "
    "or as x-penstock-token beside the client's own key"
)


@dataclass(frozen=True, slots=True)
class Verdict:
    allowed: bool
    headers: list[tuple[bytes, bytes]]
    """In the client's order, without the token. A credential that is not the token stays."""
    query: str
    message: str = ""
    """Why not, for the client."""


def check(headers: Sequence[tuple[bytes, bytes]], query: str, token: str | None) -> Verdict:
    """May this request enter, and what of it may go on?

    Without a token everybody may. Every place is looked at and compared in full, whatever an earlier one held, so that time tells
    nothing; a token found in several places is taken out of all of them.
    """
    if token is None:
        return Verdict(True, list(headers), query)
    secret = token.encode()
    allowed = False
    kept: list[tuple[bytes, bytes]] = []
    for pair in headers:
        name = pair[0].lower()
        if name in _HEADERS and compare_digest(_value(pair[1]), secret):
            allowed = True
        elif name != TOKEN_HEADER:
            kept.append(pair)
    if "=" in query:
        parts = query.split("&")
        left = [part for part in parts if not _is_token(part, secret)]
        if len(left) < len(parts):
            allowed = True
            query = "&".join(left)
    return Verdict(True, kept, query) if allowed else Verdict(False, kept, query, REFUSED)


def _value(value: bytes) -> bytes:
    value = value.strip()
    return value[7:].strip() if value[:7].lower() == b"bearer " else value


def _is_token(part: str, secret: bytes) -> bool:
    name, _, value = part.partition("=")
    return name == "key" and compare_digest(unquote_to_bytes(value), secret)
