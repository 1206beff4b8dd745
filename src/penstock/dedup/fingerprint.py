"""What two requests must have in common for the answer of one to be the other's. Pure.

Of the head: method, path, query, and every header that came, in whatever order, but for those that are new with each try or say nothing about the
answer (`_OWN`): so the credential, and with it the caller's identity, is always among what must be equal, and a header that nobody thought
of makes another request of it. Where there is no credential at all, the client's address stands for it.

Of the body: its JSON, with the order of its keys and white space left aside, and `stream` and `stream_options` set apart (of Gemini, whose path and
query say it, these), so that a retry without streaming is the same request. A body that cannot be read so (not JSON, a key that comes twice, larger
than `READABLE`) is the same only byte by byte.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Final, Protocol, cast

Header = tuple[bytes, bytes]

READABLE: Final = 8 * 1024 * 1024
"""Bytes of a body that is read to be compared; reading takes milliseconds for each MiB, and only where there is evidence of a retry."""
_OWN: Final = frozenset({
    b"idempotency-key", b"accept", b"accept-encoding", b"connection", b"content-length", b"date", b"expect", b"priority",
    b"x-request-id", b"request-id", b"x-client-request-id", b"x-correlation-id", b"traceparent", b"tracestate", b"baggage", b"b3", b"sentry-trace",
    b"x-amzn-trace-id", b"x-cloud-trace-context", b"x-retry-attempt", b"x-retry-count",
})  # fmt: skip
"""New with each try (ids, traces, counts of tries), or about the form of the answer (`accept`), which is compared apart."""
_OWN_PREFIXES: Final = (b"x-stainless-", b"x-b3-", b"x-datadog-")
"""`x-stainless-*`: what the official SDKs of OpenAI and Anthropic say of themselves, the count of tries among it."""
_FORM: Final = ("stream", "stream_options")
_TRIES: Final = b"x-stainless-retry-count"
_KEY: Final = b"idempotency-key"
_LONGEST_KEY: Final = 512


def digest_of_head(method: str, path: str, query: str, headers: Iterable[Header]) -> bytes:
    """32 bytes. `path` and `query` as they came."""
    path, query = _without_form(path, query)
    kept = sorted((low, value) for name, value in headers if (low := name.lower()) not in _OWN and not low.startswith(_OWN_PREFIXES))
    parts = [method.encode(), path.encode("utf-8", "surrogatepass"), query.encode("utf-8", "surrogatepass")]
    parts += [part for pair in kept for part in pair]
    # Each with its length, so that nothing can be moved from one into the next.
    return sha256(b"".join(b"%d:%b" % (len(part), part) for part in parts)).digest()


def _without_form(path: str, query: str) -> tuple[str, str]:
    """Gemini says in path and query how the answer is to come (`:streamGenerateContent?alt=sse`)."""
    if not path.endswith(("GenerateContent", ":generateContent")):
        return path, query
    path = path.removesuffix(":streamGenerateContent").removesuffix(":generateContent") + ":generateContent"
    return path, "&".join(part for part in query.split("&") if part and part not in ("alt=sse", "alt=json"))


def evidence_of(header: Mapping[bytes, bytes]) -> tuple[bytes | None, bool]:
    """The idempotency key, and whether the head says that this is another try. `header`: by names in lower case."""
    key = header.get(_KEY)
    tries = header.get(_TRIES, b"0")
    if key is not None and len(key) > _LONGEST_KEY:
        key = sha256(key).digest()
    return key or None, tries.isdigit() and int(tries[:9]) > 0


def with_address(head: bytes, address: str | None) -> bytes:
    """The digest of a head that says nothing of who sent it; then the client's address does."""
    return sha256(head + (address or "").encode()).digest()


class Comparable(Protocol):
    """What has a body that is compared with others. Reading it takes time, so it is read only when it comes to that, and once."""

    @property
    def body(self) -> bytes: ...

    digest: bytes | None
    """`digest_of_body`; `None`: it has not been read."""


def same_body(one: Comparable, other: Comparable) -> bool:
    return one.body == other.body or (_digest(one) == _digest(other) and one.digest != b"")


def _digest(one: Comparable) -> bytes:
    if one.digest is None:
        one.digest = digest_of_body(one.body)
    return one.digest


def digest_of_body(body: bytes) -> bytes:
    """32 bytes; none where it cannot be read."""
    if len(body) > READABLE:
        return b""
    try:
        value: object = json.loads(body, object_pairs_hook=_object, parse_constant=_no_number)
        if not isinstance(value, dict):
            return b""
        plain = {name: item for name, item in cast("dict[str, object]", value).items() if name not in _FORM}
        return sha256(json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()).digest()
    except (ValueError, RecursionError):
        return b""


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key comes twice")  # who reads it may take either
    return found


def _no_number(word: str) -> object:
    raise ValueError(f"{word} is no JSON")
