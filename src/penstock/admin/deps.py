"""What the admin plane needs of the rest of the house, as callables; `app` binds them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from penstock.ledger.query import Group

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
    ) -> list[Row]: ...


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
    query_limit: float = 10.0
    """Seconds for one read of the ledger, its wait for a free thread included."""
