"""Clients that leave. The provider must be let go at once: whoever reads on pays for what nobody reads."""

from __future__ import annotations

import asyncio

from penstock.lab.torture.faults import Asking, Must, breathe, fault
from penstock.lab.torture.upstream import Stage

_PATIENCE = 5.0


async def _when_asked(asking: Asking) -> None:
    await asyncio.wait_for(asking.watch.started.wait(), _PATIENCE)
    await breathe()
    asking.client.leave()


async def _mid_stream(asking: Asking) -> None:
    await asyncio.wait_for(asking.client.answer.came.wait(), _PATIENCE)
    await breathe()
    asking.client.leave()


async def _rudely(asking: Asking) -> None:
    await asyncio.wait_for(asking.client.answer.came.wait(), _PATIENCE)
    await breathe()
    asking.client.leave(reset=True)


@fault(Must.LET_GO, client=_when_asked)
async def client_leaves_before_head(up: Stage) -> None:
    """The client leaves before the provider has said anything; the provider must be let go."""
    await up.silence()


@fault(Must.LET_GO, client=_when_asked)
async def client_leaves_after_head(up: Stage) -> None:
    """The client leaves when the provider has sent its head and nothing else; the provider must be let go."""
    await up.head()
    await up.silence()


@fault(Must.LET_GO, client=_mid_stream)
async def client_leaves_in_a_pause(up: Stage) -> None:
    """The client leaves in the middle of a stream that pauses; the provider must be let go."""
    await up.head()
    await up.send(*up.say.opening(), *up.texts(2))
    await up.silence()


@fault(Must.LET_GO, client=_mid_stream)
async def client_leaves_mid_stream(up: Stage) -> None:
    """The client leaves in the middle of a stream that flows; the provider must be let go."""
    await up.head()
    await up.send(*up.say.opening())
    while True:
        await up.send(*up.say.text("more "))
        await asyncio.sleep(0.02)


@fault(Must.LET_GO, client=_rudely)
async def client_resets_mid_stream(up: Stage) -> None:
    """The client resets its connection in the middle of a stream that flows; the provider must be let go."""
    await client_leaves_mid_stream(up)
