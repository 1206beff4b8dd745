"""What all exchanges of one process share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from penstock.exchange.contract import Headers
from penstock.ledger.entry import Entry
from penstock.pipeline.compose import MIB, Limits
from penstock.protocols.contract import Peek, ProtocolSpec
from penstock.providers import Provider
from penstock.routing import Face, Router
from penstock.upstream.client import Client
from penstock.upstream.contract import Ask, Receiver
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.wire.budget import Budget


@dataclass(frozen=True, slots=True)
class Settings:
    listen_host: str | None = "127.0.0.1"
    """`None`: a unix socket."""
    hosts: tuple[str, ...] = ()
    """Further names that the Host header may have."""
    token: str | None = field(default=None, repr=False)
    """What clients of the data plane must show."""
    limits: Limits = field(default_factory=Limits)
    held_bytes: int = 256 * MIB
    """Of incomplete frames and copies of bodies, all streams together."""
    peeked_bytes: int = 256 * MIB
    """Of request bodies that are read whole, all exchanges together."""
    body_bytes: int = 64 * MIB
    """Of one request body that is read whole."""
    drop_response_headers: frozenset[bytes] = frozenset()
    """Further names, in lower case, of the provider's headers that stay in the house."""
    linger: float = 2.0
    """Seconds for which a provider may leave its answer open behind the terminal event."""


class Demo:
    """The built-in provider of the model `demo`, as routing sees it."""

    name = "demo"
    kind = "demo"
    protocols = frozenset(ProtocolId)
    main_protocol = ProtocolId.OPENAI_CHAT
    main_operation = Operation.CHAT


AskDemo = Callable[[ProtocolSpec, Operation, Peek, bool, Receiver], Ask]


class Book(Protocol):
    """The ledger, as exchanges see it."""

    def open(self, entry: Entry) -> None:
        """Raises `LedgerFull`."""
        ...

    def find_response(self, response_id: str) -> str | None: ...

    def remember(self, response_id: str, provider: str) -> None: ...

    async def provider_of(self, response_id: str) -> str | None: ...


class Stoppable(Protocol):
    """An exchange, as the drain sees it."""

    def shut_down(self) -> None: ...


class Lister(Protocol):
    """The merged list of models."""

    def house(self, protocol: ProtocolId, name: str) -> bytes | None:
        """The entry of a model that is the gateway's own."""
        ...

    async def listing(self, protocol: ProtocolId, client_headers: Headers, query: str) -> bytes: ...


@dataclass(slots=True)
class Gateway:
    settings: Settings
    instance: str
    specs: Mapping[ProtocolId, ProtocolSpec]
    providers: Mapping[str, Provider]
    faces: Mapping[str, Face]
    """`providers`, and the built-in ones, as paths may name them."""
    router: Router[Provider | Demo]
    client: Client
    ask_demo: AskDemo
    ledger: Book
    catalog: Lister
    held: Budget
    peeked: Budget
    spawn: Callable[[Awaitable[None], str], None]
    """Run something in the gateway's task group, under a name."""
    on_settled: Callable[[Entry], None] | None = None
    draining: bool = False
    count: int = 0
    no_usage_field: set[str] = field(default_factory=set[str])
    """Providers that refused `stream_options.include_usage`."""

    live: set[Stoppable] = field(default_factory=set[Stoppable])
    """Exchanges that are not settled, or whose last bytes are on their way."""

    def shut_down(self) -> None:
        """End every exchange now, in its client's protocol."""
        for exchange in list(self.live):
            exchange.shut_down()

    def next_id(self) -> str:
        """An id that no other exchange of any process has."""
        self.count += 1
        return f"px-{self.instance}-{self.count:x}"
