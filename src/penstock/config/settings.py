"""What a configuration comes to: frozen, complete, every default filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from penstock.admission.hosts import is_loopback
from penstock.admission.settings import AdmissionSettings
from penstock.capture.dumps import DumpSettings
from penstock.capture.settings import CaptureSettings
from penstock.exchange.conduct import Conduct
from penstock.pricing import OwnPrice
from penstock.providers import ProviderSettings
from penstock.routing.routes import Route
from penstock.stores.guard_calls import CallLimits
from penstock.stores.guard_formats import Service
from penstock.telemetry.log import LogSettings

AUTO_TOKEN = "auto"
"""As `token`: make one at the first start and keep it in the data directory."""


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    """A name or an address, without brackets."""
    port: int
    """0: any free one."""

    @property
    def loopback(self) -> bool:
        return is_loopback(self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Limits:
    """In bytes."""

    max_frame: int = 64 << 20
    """One frame that is held until it is whole; a longer one is passed on in pieces, not understood."""
    held_total: int = 256 << 20
    """All incomplete frames of all streams."""
    peeked_total: int = 256 << 20
    """All request bodies that are read for their model; beyond it the answer is 503."""
    body: int = 64 << 20
    """One such body; beyond it the answer is 413."""
    assembly: int = 64 << 20
    """What is held of one stream that is put together to a body; beyond it the answer is 502."""
    noted: int = 8 << 20
    """What is noted of one answer so that it can be told again; beyond it it cannot be."""
    noted_total: int = 64 << 20
    """What is noted so and takes memory, the requests among it."""
    noted_on_disk: bool = True
    """Streams lie in files without names, which take four times as much at most."""
    noted_answers: int = 1000
    """Whole answers (not bytes) that are kept at the same time."""


@dataclass(frozen=True, slots=True)
class Listening:
    """What clients of the data plane may take, by the names of the server's own settings. Times in seconds."""

    head_bytes: int = 32 << 10
    """Of a request's target and headers."""
    head_fields: int = 100
    head_seconds: float = 10.0
    """From the first byte of a request to the end of its head."""
    body_seconds: float = 60.0
    """Between two bytes of a request's body."""
    idle_seconds: float | None = 75.0
    """For which a connection is kept open without a request."""
    client_connections: int | None = None
    """From one address. No limit unless asked for: behind a proxy all clients have one address."""


@dataclass(frozen=True, slots=True)
class Config:
    """Paths are absolute. `repr` shows no secret."""

    data_dir: Path
    providers: tuple[ProviderSettings, ...]
    """In the file's order; never empty. The built-in `demo` is not among them."""
    file: Path | None = None
    """Where it was read from; `None`: no file."""
    guard_calls: CallLimits = field(default_factory=CallLimits)
    listen: Address = Address("127.0.0.1", 4270)
    admin: Address = Address("127.0.0.1", 4271)
    socket: Path | None = None
    """A unix socket for the data plane, instead of `listen`."""
    token: str | None = field(default=None, repr=False)
    """What clients of the data plane must send; `AUTO_TOKEN`: to be made."""
    hosts: tuple[str, ...] = ()
    """Names, besides loopback's, that a Host header may have."""
    routes: tuple[Route, ...] = ()
    limits: Limits = Limits()
    listening: Listening = Listening()
    max_streams: int | None = None
    """Exchanges under way at the same time, all providers together; each provider's and route's own number is in its `Conduct`."""
    admission: AdmissionSettings = field(default_factory=AdmissionSettings)
    conduct: Conduct = field(default_factory=Conduct)
    """What holds where neither provider nor route says anything: for the built-in `demo`, and as the default of all."""
    provider_conduct: Mapping[str, Conduct] = field(default_factory=dict[str, Conduct])
    """One for each of `providers`, complete."""
    route_conduct: tuple[Conduct, ...] = ()
    """One for each of `routes`, complete: the route's own, else its provider's, else the top's."""
    retention_days: int | None = 90
    """`None`: every row is kept."""
    ledger_url: str | None = field(default=None, repr=False)
    """`None`: SQLite in the data directory."""
    ledger_queue: int = 10_000
    """Entries that may wait in memory."""
    preview: int | None = None
    """Characters of the last user message that are kept with each row; `None`: none."""
    prices: tuple[OwnPrice, ...] = ()
    """In the file's order; the first that fits holds."""
    log: LogSettings = field(default_factory=LogSettings)
    capture: CaptureSettings = field(default_factory=CaptureSettings)
    """What holds for all captures; none is made until somebody orders it."""
    dumps: DumpSettings = field(default_factory=DumpSettings)
    """Of requests that were refused without streaming."""
    real_stream: bool | None = None
    """Argo's own word, for its legacy gateway alone: are streams asked for as streams? `None`: nothing is said."""
    ca_file: Path | None = None
    """Further certificate authorities for upstream connections (PEM)."""
    resolve: Mapping[tuple[str, int], str] = field(default_factory=dict[tuple[str, int], str])
    """The address to dial for a host (in lower case) and port, in the place of a look-up."""
    connection_test: float | None = None
    """Seconds within which each provider must answer when the gateway starts; `None`: nobody is asked then."""
    transparent: bool = False
    """Requests and answers pass with no byte added or taken out; every provider's `ask_usage` is off then."""
    drop_response_headers: frozenset[str] = frozenset()
    """Further names, in lower case, that stay in the house on the way down. (Those on the way up are in each provider's settings.)"""
    notes: tuple[str, ...] = ()
    """What a person should know although it is no error, one sentence each."""

    @property
    def connect_timeout(self) -> float:
        """Seconds for name, connection and TLS of an upstream connection together, where nothing nearer says otherwise."""
        return self.conduct.timers.connect

    def conduct_of(self, provider: str) -> Conduct:
        """For a request that came by no route; `demo` is known."""
        return self.provider_conduct.get(provider, self.conduct)

    @property
    def guard_keys(self) -> tuple[str, ...]:
        """What is shown to guards outside."""
        conducts = (self.conduct, *self.provider_conduct.values(), *self.route_conduct)
        services = [cast("Service", one.service) for conduct in conducts if conduct.guards is not None for one in conduct.guards.outsides]
        return tuple(dict.fromkeys(key for service in services for key in (service.key, *(value for _, value in service.headers)) if key))

    @property
    def local(self) -> bool:
        """Only this machine reaches the data plane."""
        return self.socket is not None or self.listen.loopback
