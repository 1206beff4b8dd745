"""What a request's head alone decides. Made once per head and shared by all requests that have the same one (`contract.HeadMemo`), so it
holds nothing of one exchange, and nothing that may change while the gateway runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from penstock.admission.door import Found
from penstock.dedup import Place, digest_of_head, evidence_of
from penstock.exchange.conduct import Conduct
from penstock.exchange.contract import ClientRequest, Headers
from penstock.pipeline.compose import READ
from penstock.protocols.contract import ProtocolSpec
from penstock.providers import Provider, credential
from penstock.routing import Endpoint
from penstock.vocabulary.ids import Operation, ProtocolId

if TYPE_CHECKING:
    from penstock.exchange.gateway import Demo
    from penstock.exchange.quirks import Quirks

_MOST, _LONGEST = 256, 200

str_of = str.__str__
"""The plain text of a `StrEnum` member; `.value` is a Python call."""


class Plan:
    """Of a head that may enter."""

    __slots__ = ("client_protocol", "coded", "courses", "direct", "endpoint", "found", "headers", "operation", "peek", "print", "query", "read_whole",
                 "repeats", "sent", "spec", "ways")

    def __init__(
        self, specs: Mapping[ProtocolId, ProtocolSpec], endpoint: Endpoint, headers: Headers, query: str, found: Found | None = None
    ) -> None:  # fmt: skip
        """`headers` and `query`: as they came, the gateway's own credentials taken out. `found`: what those said."""
        self.found = found
        self.endpoint = endpoint
        self.spec: ProtocolSpec = specs[endpoint.protocol]
        self.headers = headers
        self.query = query
        self.client_protocol = str_of(endpoint.protocol)
        self.operation = str_of(endpoint.operation)
        self.read_whole = endpoint.body == "peek" or endpoint.operation is Operation.RESPONSE_ITEM
        """The request's body is read whole before a provider is chosen."""
        self.coded = not endpoint.verbatim and any(name.lower() == b"content-encoding" and _is_coded(value) for name, value in headers)
        """The body comes in a coding, so it cannot be read for its model."""
        self.peek = self.spec.peek
        self.direct = endpoint.body == "peek" and endpoint.operation is not Operation.MODELS and endpoint.response_id is None
        """What the body states and this decide who takes it; no id is looked up, and no answer is the gateway's own."""
        self.repeats = self.direct and endpoint.operation in READ  # (all of them are asked by POST)
        """Its answer may be told again to who asks the same once more."""
        self.print: Print | None = None
        self.sent: dict[str, SentHead] = {}
        """By provider."""
        self.ways: dict[str, Way] = {}
        """By the model that the client asks for. Clients choose the names: neither many of them nor long ones are kept."""
        self.courses: dict[tuple[object, ...], Any] = {}
        """Of answers, by what their heads say (`compose_answer.course_of`)."""

    def keep_way(self, model: str, way: Way) -> None:
        if len(model) <= _LONGEST:
            if len(self.ways) >= _MOST:
                self.ways.clear()
            self.ways[model] = way

    def sent_to(self, provider: Provider) -> SentHead:
        """What goes to `provider`."""
        sent = self.sent.get(provider.name)
        if sent is None:
            self.sent[provider.name] = sent = SentHead(provider, self)
        return sent


class Print:
    """Of a head, as it is compared with others."""

    __slots__ = ("again", "anonymous", "digest", "key", "told")

    def __init__(self, request: ClientRequest) -> None:
        self.digest = digest_of_head(request.method, request.path, request.query, request.headers)
        self.key, self.again = evidence_of({name.lower(): value for name, value in reversed(request.headers)})
        self.told = self.again or self.key is not None
        """It says itself that it may be another try."""
        self.anonymous = not request.local and credential(request.headers, request.query) is None


class Way:
    """Who takes the requests of one head for one model, and how."""

    __slots__ = (
        "asks_usage", "conduct", "exact", "index", "otherwise", "permits", "place", "provider", "quirks", "renamed", "route", "sent", "simple",
    )  # fmt: skip

    def __init__(
        self, provider: Provider | Demo, conduct: Conduct, route: str | None, renamed: str | None, permits: tuple[str, ...], sent: SentHead | None, *,
        asks_usage: bool, otherwise: bool = False, quirks: Quirks | None = None, index: int | None = None, exact: bool = False,
    ) -> None:  # fmt: skip
        self.provider = provider
        self.index = index
        """Of the route, in the configuration."""
        self.conduct = conduct
        self.route = route
        """The glob of the route, for the record."""
        self.renamed = renamed
        """The model's other name at the provider; `None`: the client's own."""
        self.permits = permits
        self.sent = sent
        """`None`: the gateway's own provider, and whoever is asked in other words than the client's."""
        self.asks_usage = asks_usage
        self.otherwise = otherwise
        """Some may be asked in another form than the client's (`modes`)."""
        self.quirks = quirks
        """What the provider wants besides, until that is done."""
        self.place: Place | None = None
        """Where others look for what is asked in this way; it may depend on the client's address, and is none then."""
        self.exact = exact
        """Something was decided by the model: its provider must read the same (`naming`)."""
        self.simple: Place | None = None
        """The same, where nothing is looked for unless a client has left."""

    def plain(self, renamed: str | None) -> Way:
        """The same for one request of which that is done."""
        return Way(
            self.provider, self.conduct, self.route, renamed, self.permits, self.sent, asks_usage=self.asks_usage, otherwise=self.otherwise,
            index=self.index, exact=self.exact or renamed is not None,
        )  # fmt: skip


class SentHead:
    """The head of an upstream request as far as it does not depend on the body."""

    __slots__ = ("lines", "query", "target")

    def __init__(self, provider: Provider, plan: Plan) -> None:
        headers, self.query = provider.headers(plan.headers, plan.query)
        lines = [b"Host: %b\r\n" % provider.host_header.encode("latin-1")]
        lines += [b"%b: %b\r\n" % pair for pair in headers]
        self.lines = b"".join(lines)
        self.target = target_of(provider, plan.endpoint, plan.endpoint.path, self.query)
        """Where the path is sent as it came."""


def target_of(provider: Provider, endpoint: Endpoint, path: str, query: str) -> bytes:
    """The request target at `provider` for the client's `path`."""
    return (provider.verbatim(path, query) if endpoint.verbatim else provider.target(path, query)).encode("ascii")


def _is_coded(value: bytes) -> bool:
    return value.strip().lower() not in (b"", b"identity")
