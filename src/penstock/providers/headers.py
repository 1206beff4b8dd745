"""Which headers stay in the house, on the way up and on the way down. Everything that is not named here passes as it came.

The verdict on a name is remembered under its spelling, because clients send the same dozen names for ever; the memory is bounded.
Hop-by-hop: RFC 9110 7.6.1.
"""

from __future__ import annotations

from collections.abc import Sequence

Header = tuple[bytes, bytes]

HOP_BY_HOP: frozenset[bytes] = frozenset({
    b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"http2-settings", b"content-length",
})
"""`content-length` is end-to-end by the book, but framing is the caller's."""

REQUEST_DROPS: frozenset[bytes] = HOP_BY_HOP | {
    b"host", b"expect", b"cookie", b"cookie2", b"forwarded", b"via", b"origin", b"referer", b"accept-encoding",
    b"x-real-ip", b"x-client-ip", b"x-cluster-client-ip", b"true-client-ip", b"cf-connecting-ip", b"fastly-client-ip",
}
"""Who the client is, where it came from and what it said to this hop alone is no business of a provider's."""
REQUEST_DROP_PREFIXES: tuple[bytes, ...] = (b"x-forwarded-", b"x-penstock-", b"proxy-", b"sec-", b"access-control-request-")

RESPONSE_DROPS: frozenset[bytes] = HOP_BY_HOP | {
    b"set-cookie", b"set-cookie2", b"alt-svc", b"strict-transport-security", b"public-key-pins", b"expect-ct", b"nel", b"report-to",
    b"reporting-endpoints", b"clear-site-data", b"service-worker-allowed",
}
"""What a provider says about its own origin would be believed of ours. `server`, `date`, `cf-ray`, `request-id` and the rate limits
tell who answered, and pass."""
RESPONSE_DROP_PREFIXES: tuple[bytes, ...] = (b"access-control-", b"x-penstock-", b"proxy-")
"""A provider's `access-control-allow-origin: *` would open this gateway, and the key behind it, to every web page."""

_REQUEST_IDS = (b"x-request-id", b"request-id", b"x-goog-request-id", b"apim-request-id", b"x-ms-request-id", b"x-amzn-requestid", b"cf-ray")
"""In order of preference. OpenAI, Anthropic, Google, Azure's two, AWS; Cloudflare's ray where the provider has none of its own."""

KEEP = 0
DROP = 1
CONNECTION = 2
_REMEMBERED = 1024
_LONGEST = 64


class Verdicts:
    """What becomes of a header, by its name as it is spelled. `marks` gives names a verdict of their own (3 and above)."""

    __slots__ = ("_drops", "_known", "_marks", "_prefixes")

    def __init__(self, drops: frozenset[bytes], prefixes: tuple[bytes, ...], marks: dict[bytes, int] | None = None) -> None:
        self._drops = drops
        self._prefixes = prefixes
        self._marks = marks or {}
        self._known: dict[bytes, int] = {}

    @property
    def known(self) -> dict[bytes, int]:
        """The memory, to look into before `judge` is called: a dictionary look-up is all that a known name costs."""
        return self._known

    def judge(self, name: bytes) -> int:
        low = name.lower()
        if low == b"connection":
            verdict = CONNECTION
        elif low in self._drops or low.startswith(self._prefixes):
            verdict = DROP
        else:
            verdict = self._marks.get(low, KEEP)
        if len(name) <= _LONGEST:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[name] = verdict
        return verdict


def listed_names(value: bytes) -> frozenset[bytes]:
    """The names that a Connection header makes hop-by-hop; mostly none."""
    names = value.lower()
    if names in (b"keep-alive", b"close", b""):
        return frozenset()
    return frozenset(name.strip() for name in names.split(b",")) - {b"close", b"keep-alive", b""}


def without(headers: list[Header], names: frozenset[bytes]) -> list[Header]:
    return [pair for pair in headers if pair[0].lower() not in names]


_RESPONSE = Verdicts(RESPONSE_DROPS, RESPONSE_DROP_PREFIXES)


def response_headers(upstream: Sequence[Header], extra: frozenset[bytes] = frozenset()) -> list[Header]:
    """The headers of an answer that go to the client, in the provider's order and spelling.

    `extra`: further names to keep back, in lower case. `content-encoding` passes: who decodes the body takes it out.
    """
    known = _RESPONSE.known
    kept: list[Header] = []
    listed: frozenset[bytes] = extra
    for pair in upstream:
        verdict = known.get(pair[0])
        if verdict is None:
            verdict = _RESPONSE.judge(pair[0])
        if verdict == KEEP:
            kept.append(pair)
        elif verdict == CONNECTION:
            listed |= listed_names(pair[1])
    return without(kept, listed) if listed else kept


_NO_ID = len(_REQUEST_IDS)
_ranks: dict[bytes, int] = {}  # of names as they are spelled; bounded


def upstream_request_id(headers: Sequence[Header]) -> str | None:
    """The provider's own id of this request, to quote to its support; at most 200 printable characters."""
    best, found = _NO_ID, b""
    for name, value in headers:
        rank = _ranks.get(name)
        if rank is None:
            rank = _rank(name)
        if rank < best and value:
            best, found = rank, value
    if not found:
        return None
    text = found[:200].decode("latin-1")
    return text if text.isprintable() else "".join(char for char in text if char.isprintable()) or None


def _rank(name: bytes) -> int:
    low = name.lower()
    rank = _REQUEST_IDS.index(low) if low in _REQUEST_IDS else _NO_ID
    if len(name) <= _LONGEST:
        if len(_ranks) >= _REMEMBERED:
            _ranks.clear()
        _ranks[name] = rank
    return rank
