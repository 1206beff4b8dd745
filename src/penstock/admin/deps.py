"""What the admin plane needs of the rest of the house, as callables; `app` binds them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from penstock.admin.captures import Control
from penstock.admin.keys import KeyControl
from penstock.ledger.query import Group
from penstock.ledger.writer import Counters
from penstock.telemetry.metrics import Family

Row = dict[str, Any]


class ListExchanges(Protocol):
    """`penstock.ledger.query.exchanges` without its engine. Blocks; raises `LedgerError`."""

    def __call__(
        self,
        last: int = ...,
        *,
        outcome: Sequence[str] | None = ...,
        provider: str | None = ...,
        model: str | None = ...,
        operation: str | None = ...,
        since: float | None = ...,
        until: float | None = ...,
        id_prefix: str | None = ...,
        open_only: bool = ...,
    ) -> list[Row]: ...


class SumUsage(Protocol):
    """`penstock.ledger.query.usage` without its engine. Blocks; raises `LedgerError`."""

    def __call__(
        self,
        group_by: Sequence[Group] = ...,
        *,
        since: float | None = ...,
        until: float | None = ...,
        provider: str | None = ...,
        model: str | None = ...,
        requested_model: str | None = ...,
        operation: str | None = ...,
        outcome: str | None = ...,
        key_fingerprint: str | None = ...,
        key_id: str | None = ...,
        key: str | None = ...,
    ) -> list[Row]: ...


@dataclass(frozen=True, slots=True)
class Readings:
    """What `/metrics` reads at the moment when it is asked. Each is called on the loop and answers at once."""

    exchanges_open: Callable[[], int]
    client_connections: Callable[[], int]
    upstream_open: Callable[[], int]
    upstream_idle: Callable[[], int]
    """Of the open ones."""
    upstream_dialing: Callable[[], int]
    ledger_queued: Callable[[], int]
    ledger_torn: Callable[[], int]
    ledger_counters: Callable[[], Counters]
    log_dropped: Callable[[], int]


@dataclass(frozen=True, slots=True)
class Deps:
    version: str
    instance: str
    token: str = field(repr=False)
    """What `/api` asks for."""
    exchanges: ListExchanges
    exchange: Callable[[str], Row | None]
    """One by its whole id. Blocks; raises `LedgerError`."""
    usage: SumUsage
    draining: Callable[[], bool]
    ledger_failing: Callable[[], bool]
    """Rows are not reaching the database now."""
    listen_host: str = "127.0.0.1"
    hosts: tuple[str, ...] = ()
    """Names that the Host header may have beside loopback's."""
    clock: Callable[[], float] = time.time
    """Seconds since the epoch, for times such as `12h`."""
    capture: Control | None = None
    """Captures, on and off; `None`: there is no `/api/capture`."""
    keys: KeyControl | None = None
    """Virtual keys and budgets; `None`: there is no `/api/keys`."""
    query_limit: float = 10.0
    """Seconds for one read of the ledger, its wait for a free thread included."""
    families: Callable[[], Iterable[Family]] = tuple
    """What was counted of exchanges, for `/metrics`; taken a family at a time."""
    readings: Readings | None = None
    """`None`: `/metrics` tells only what was counted, and of the process."""
