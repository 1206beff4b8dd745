"""Credentials: where clients put them, which are logins, how they are kept out of logs.

Two sorts are told apart by form alone. A *key* is billed to whoever made it; where the house has its own, the client's stays here. A
*login* is a person's subscription, given to them alone: it passes as it came, so that no subscription is silently billed to a key.

Logins known: Anthropic's OAuth tokens begin with `sk-ant-oat`; ChatGPT's access tokens are JWTs issued by `https://auth.openai.com`,
which Codex sends beside a `chatgpt-account-id` header.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from collections.abc import Sequence
from urllib.parse import unquote_plus

import msgspec

CREDENTIAL_HEADERS: frozenset[bytes] = frozenset({b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key"})
ACCOUNT_HEADER = b"chatgpt-account-id"
"""Marks the `authorization` beside it as a ChatGPT login, whatever its form."""

_QUERY_NAMES = frozenset({"key", "access_token"})
"""Google's two: an API key, and an OAuth token (https://cloud.google.com/apis/docs/system-parameters)."""
_MENTION = re.compile(r"key|access_token|%", re.IGNORECASE)


class _Claims(msgspec.Struct):
    iss: str | None = None


_claims = msgspec.json.Decoder(_Claims)


def bare(value: bytes) -> bytes:
    """A credential without its scheme: `Bearer abc` is `abc`, and `Bearer` alone, which clients send whose key is empty, is none."""
    if value[:6].lower() == b"bearer" and value[6:7] in (b" ", b""):
        return value[7:].strip()
    return value


def is_login(value: bytes) -> bool:
    """Is this header's value a login, by its form?

    A JWT whose payload names another issuer than OpenAI is a key (some providers give out keys in that form); one that cannot be
    read counts as a login, because billing it to somebody else's key could not be taken back.
    """
    token = bare(value)
    if token.startswith(b"sk-ant-oat"):
        return True
    if not token.startswith(b"eyJ"):
        return False
    parts = token.split(b".")
    if len(parts) != 3:
        return False
    try:
        issuer = _claims.decode(urlsafe_b64decode(parts[1] + b"=" * (-len(parts[1]) % 4))).iss
    except (ValueError, msgspec.MsgspecError):
        return True
    return issuer is None or issuer.rstrip("/") == "https://auth.openai.com"


def strip_query(query: str) -> str:
    """`query` without its credentials; every other byte of it stays."""
    if not _MENTION.search(query):
        return query
    return "&".join(part for part in query.split("&") if not _is_credential(part))


def redact_query(query: str) -> str:
    """`query` for logs: the values of its credentials replaced."""
    if not _MENTION.search(query):
        return query
    return "&".join(part.partition("=")[0] + "=REDACTED" if _is_credential(part) else part for part in query.split("&"))


def credential(headers: Sequence[tuple[bytes, bytes]], query: str) -> bytes | None:
    """The client's credential without its scheme, for its fingerprint: the same key in another place has the same one."""
    for name, value in headers:
        if name.lower() in CREDENTIAL_HEADERS and (found := bare(value.strip())):
            return found
    if _MENTION.search(query):
        for part in query.split("&"):
            value = part.partition("=")[2]
            if value and _is_credential(part):
                return unquote_plus(value).encode()
    return None


def _is_credential(part: str) -> bool:
    name = part.partition("=")[0]
    return (unquote_plus(name) if "%" in name or "+" in name else name).lower() in _QUERY_NAMES
