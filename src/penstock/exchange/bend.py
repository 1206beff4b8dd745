"""A request to a provider that wants more than others (`quirks`), until it is one like any other. Part of `intake`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from penstock.exchange.drive import Exchange
from penstock.exchange.machine import Phase
from penstock.exchange.names import Names, Refused
from penstock.exchange.plan import Plan, Way
from penstock.exchange.quirks import Quirks

Go = Callable[[Plan, Way, bytes | None], None]
Looking = Callable[[Awaitable[None]], Awaitable[None]]


def bend(exchange: Exchange, plan: Plan, way: Way, quirks: Quirks, body: bytes | None, go: Go, looking: Looking) -> None:
    """Put the user in, look the model's name up, and `go` on; or refuse. `looking` holds what cannot be told at once."""
    entry, own = exchange.entry, exchange.peek.model
    exchange.quirks = quirks
    entry.requested_model, entry.provider, entry.route, entry.upstream_protocol = own, way.provider.name, way.route, entry.client_protocol
    try:
        body = quirks.name_user(plan, body)
    except Refused as refused:
        exchange.refuse(refused.fault, refused.cause)
        return
    if quirks.names is None or own is None or not quirks.looks_up(plan):
        go(plan, way.plain(way.renamed), body)
        return
    model, user = way.renamed or own, quirks.user(plan)
    found = quirks.names.find(model, user)
    if found is not None:
        go(plan, way.plain(found if found != own else None), body)
        return

    async def look_up(names: Names) -> None:
        try:
            found = await names.look_up(model, user)
        except Refused as refused:
            exchange.refuse(refused.fault, refused.cause)
            return
        if exchange.machine.phase is Phase.OPENED:
            go(plan, way.plain(found if found != own else None), body)

    exchange.gateway.spawn(looking(look_up(quirks.names)), "penstock-model-name")
