"""Which headers stay in the house, on the way up and on the way down. Everything that is not named here passes as it came.

The verdict on a name is remembered under its spelling, because clients send the same dozen names for ever; the memory is bounded.
Hop-by-hop: RFC 9110 7.6.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter

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

REQUEST_IDS = (b"request-id", b"x-request-id", b"x-goog-request-id", b"apim-request-id", b"x-ms-request-id", b"x-amzn-requestid", b"cf-ray")
"""In order of preference. Anthropic, OpenAI (and every balancer on the way, which is why it comes second), Google, Azure's two, AWS; Cloudflare's
ray where the provider has none of its own."""

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


class AnswerNames:
    """What becomes of an answer's headers, as far as their names decide it: worked out once for the names that come together, because a
    provider sends the same ones with every answer."""

    __slots__ = ("_connection", "_ids", "_kept", "_pick", "buffering")

    def __init__(self, names: Sequence[bytes], extra: frozenset[bytes] = frozenset()) -> None:
        """`names` in the order of the headers, as they are spelled. `extra`: further names to keep back, in lower case."""
        verdicts = [_RESPONSE.known.get(name) or _RESPONSE.judge(name) for name in names]
        kept = [index for index, name in enumerate(names) if verdicts[index] == KEEP and name.lower() not in extra]
        self._kept = kept
        # One call picks them all; for fewer than two it would not give a tuple.
        self._pick: Callable[[Sequence[Header]], tuple[Header, ...]] | None = itemgetter(*kept) if len(kept) > 1 else None
        self._connection = [index for index, verdict in enumerate(verdicts) if verdict == CONNECTION]
        ranks = [(_rank(name), index) for index, name in enumerate(names)]
        self._ids = [index for rank, index in sorted(ranks) if rank < _NO_ID]
        self.buffering = any(names[index].lower() in BUFFERING for index in kept)
        """Some say whether proxies may hold the answer back."""

    def headers(self, headers: Sequence[Header]) -> list[Header]:
        """Those that go to the client, in the provider's order and spelling. `content-encoding` passes: who decodes the body takes it out."""
        kept = list(self._pick(headers)) if self._pick is not None else [headers[index] for index in self._kept]
        if self._connection:
            listed = frozenset[bytes]().union(*[listed_names(headers[index][1]) for index in self._connection])
            return without(kept, listed) if listed else kept
        return kept

    def request_id(self, headers: Sequence[Header]) -> str | None:
        """The provider's own id of this request, to quote to its support; at most 200 printable characters."""
        for index in self._ids:
            found = headers[index][1]
            if found:
                text = (found if len(found) <= 200 else found[:200]).decode("latin-1")
                return text if text.isprintable() else "".join(char for char in text if char.isprintable()) or None
        return None


BUFFERING = frozenset({b"cache-control", b"x-accel-buffering"})
_NO_ID = len(REQUEST_IDS)


def _rank(name: bytes) -> int:
    low = name.lower()
    return REQUEST_IDS.index(low) if low in REQUEST_IDS else _NO_ID
