"""What all exchanges of one process share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from random import random
from time import monotonic
from typing import Protocol

from penstock.capture import Dumps, Recorder
from penstock.dedup import Desk
from penstock.exchange.admitting import Admission
from penstock.exchange.conduct import Conduct
from penstock.exchange.contract import Headers
from penstock.exchange.looks import Looks
from penstock.exchange.permits import Permits
from penstock.exchange.quirks import Quirks
from penstock.ledger.entry import Entry, Maker
from penstock.pipeline.compose import MIB, Limits
from penstock.protocols.contract import Peek, ProtocolSpec
from penstock.providers import Provider
from penstock.routing import Face, Router
from penstock.stores.guard_calls import Judges, Nobody
from penstock.upstream.client import Client
from penstock.upstream.contract import Ask, Receiver
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.wire.budget import Budget

_REFUSERS = 4096
"""Models of which it is remembered that their provider refused the field."""
LOOK = 0.1
"""Seconds between two looks at the clock for all exchanges: what a timer may be late."""


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
    previews: bool = False
    """Requests are kept until the ledger has read the last user message of them."""
    noted_bytes: int = 8 * MIB
    """Of one answer that is noted so that others may be told it, about."""
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

    def find_response(self, response_id: str) -> Maker | None: ...

    def remember(self, response_id: str, maker: Maker) -> None: ...

    async def maker_of(self, response_id: str) -> Maker | None: ...


class Live(Protocol):
    """An exchange, as the drain and the clock see it."""

    due: float
    """When `tick` is to be called, or later; on the gateway's clock."""

    def tick(self, now: float) -> None: ...

    def shut_down(self) -> None: ...


class Lists(Protocol):
    """Whoever says which models may be listed."""

    def __call__(self, model: str, owner: str) -> bool:
        """`owner`: the provider that lists it."""
        ...


class Lister(Protocol):
    """The merged list of models."""

    def house(self, protocol: ProtocolId, name: str) -> bytes | None:
        """The entry of a model that is the gateway's own."""
        ...

    async def listing(self, protocol: ProtocolId, client_headers: Headers, query: str, shown: Lists | None = None) -> bytes:
        """`shown`: which models may stand in it; `None`: all."""
        ...


def _nowhere(before: int, data: bytes) -> int:
    return 0


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
    conduct: Conduct = field(default_factory=Conduct)
    """For whatever is not named below."""
    provider_conduct: Mapping[str, Conduct] = field(default_factory=dict[str, Conduct])
    route_conduct: Sequence[Conduct] = ()
    """In the order of the router's routes."""
    desk: Desk | None = None
    """Of answers that are told again; `None`: none are."""
    permits: Permits = field(default_factory=lambda: Permits({}))
    quirks: Mapping[str, Quirks] = field(default_factory=dict[str, Quirks])
    """Of the providers that have any."""
    admission: Admission | None = None
    """Who may enter and how much; `None`: everybody, and as much as they like."""
    judges: Judges = field(default_factory=Nobody)
    """Who asks guards outside."""
    recorder: Recorder | None = None
    """Of captures; `None`: none are made."""
    dumps: Dumps | None = None
    """Of requests that were refused without streaming; `None`: none are made."""
    clock: Callable[[], float] = monotonic
    """Seconds; the clock of every `now`."""
    dice: Callable[[], float] = random
    """0 to 1: spreads the tries of many exchanges."""
    draining: bool = False
    drained_since: float = 0.0
    """When the gateway was told to stop."""
    hurried: bool = False
    """It was told so twice."""
    count: int = 0
    no_usage_field: set[tuple[str, str | None]] = field(default_factory=set[tuple[str, str | None]])
    """Providers that refused `stream_options.include_usage`, and for which model: others of theirs may know it."""

    live: set[Live] = field(default_factory=set[Live])
    """Exchanges that are not settled, or whose last bytes are on their way."""
    _sweep: asyncio.TimerHandle | None = None
    _looks: Looks = field(default_factory=Looks)
    note: Callable[[int, bytes], int] = field(init=False)
    """`SegmentLog.add`, of the desk's: for each read of each stream."""
    _prefix: str = ""

    def __post_init__(self) -> None:
        self._prefix = f"px-{self.instance}-"
        self.note = self.desk.log.add if self.desk is not None else _nowhere

    def watch(self, exchange: Live) -> None:
        """Keep an eye on its time. One timer for all, and none for an exchange: a stream that is well costs one comparison a look."""
        self.live.add(exchange)
        if self._sweep is None:
            self._look_later(self.clock())

    def _look_later(self, now: float) -> None:
        self._looks.plan(now + LOOK)
        self._sweep = asyncio.get_running_loop().call_later(LOOK, self._look)

    def _look(self) -> None:
        self._sweep = None
        now = self.clock()
        if self._looks.missed(now):
            self._look_later(now)
            return
        for exchange in [live for live in self.live if live.due <= now]:
            exchange.tick(now)
        if self.desk is not None and self.desk.holds:
            self.desk.sweep(now)
        if self.live or (self.desk is not None and self.desk.holds):
            self._look_later(now)

    def conduct_of(self, provider: str, route: int | None) -> Conduct:
        """How an exchange with `provider` that came by this route is conducted."""
        if route is not None and route < len(self.route_conduct):
            return self.route_conduct[route]
        return self.provider_conduct.get(provider, self.conduct)

    def drain(self) -> None:
        """Nothing new is taken; what is under way may go on, each exchange for as long as its `drain` says."""
        if not self.draining:
            self.draining = True
            self.drained_since = self.clock()
            for exchange in self.live:
                exchange.due = 0.0

    @property
    def drained_by(self) -> float:
        """Until then clients may take what they have been told, once the gateway was told to stop."""
        drain = self.conduct.timers.drain
        if self.hurried:
            return self.drained_since
        return inf if drain is None else self.drained_since + drain

    def shut_down(self) -> None:
        """End every exchange now, in its client's protocol."""
        self.hurried = True
        for exchange in list(self.live):
            exchange.shut_down()

    def note_no_usage_field(self, provider: str, model: str | None) -> None:
        if len(self.no_usage_field) >= _REFUSERS:
            self.no_usage_field.clear()
        self.no_usage_field.add((provider, model))

    def next_id(self) -> str:
        """An id that no other exchange of any process has."""
        self.count += 1
        return "%s%x" % (self._prefix, self.count)  # noqa: UP031  # a third faster, and every exchange has one
