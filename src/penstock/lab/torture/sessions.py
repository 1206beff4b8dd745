"""A whole run: the scripted provider listens, the cells are tried, the ledger is looked at where it is ours."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from penstock.lab.torture import own
from penstock.lab.torture.client import Place
from penstock.lab.torture.faults import FAULTS
from penstock.lab.torture.judging import Bounds
from penstock.lab.torture.matrix import Begun, Cell, Done, Matrix, Result
from penstock.lab.torture.upstream import TortureServer

JOBS = 8
GREETING_S = 10.0
"""Within which a target must take a connection."""


class Unreachable(Exception):
    """Nobody takes connections where the target should be. Its text says where, and why."""


@dataclass(slots=True)
class Report:
    results: list[Result]
    """In the order of the cells."""
    notes: list[str] = field(default_factory=list[str])
    """What else was seen, in sentences."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Target:
    """Any gateway whose providers are our scripted one."""

    place: Place
    listen: tuple[str, int]
    """Where the scripted provider is to be."""
    patience: float = 310.0
    """Seconds after which a stalled stream must have ended in an error."""
    headers: Sequence[tuple[str, str]] = ()
    paths: Mapping[str, str] = field(default_factory=dict[str, str])
    model_prefix: str = ""
    rewritten: bool = False
    """It makes its frames anew: what they say is compared, and not their bytes."""


async def try_own(wanted: Sequence[Cell], begun: Begun, done: Done, jobs: int = JOBS) -> Report:
    """Try a gateway that is started for it. Raises `own.StartError`."""
    server = _server(own.BOUNDS)
    port = await server.start()
    try:
        async with own.running(port) as gateway:
            report = await _try(Matrix(gateway.place, server, own.BOUNDS, jobs=jobs), wanted, begun, done)
            if (wrong := await gateway.stop()) is not None:
                report.notes.append(wrong)
            own.audit(report.results, await gateway.rows())
    finally:
        server.close()
    return report


async def try_target(target: Target, wanted: Sequence[Cell], begun: Begun, done: Done, jobs: int = JOBS) -> Report:
    """Try a gateway that runs. Raises `OSError` where the scripted provider cannot listen, and `Unreachable` where no gateway does."""
    bounds = bounds_of(target)
    server = _server(bounds)
    await server.start(*target.listen)
    try:
        await _greet(target.place)
        matrix = Matrix(target.place, server, bounds, target.headers, target.paths, target.model_prefix, jobs)
        report = await _try(matrix, wanted, begun, done)
    finally:
        server.close()
    return report


async def _greet(place: Place) -> None:
    """A target that is not there is told once, and not as so many faults of a gateway."""
    try:
        async with asyncio.timeout(GREETING_S):
            transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, place.host, place.port)
    except OSError as error:
        why = f"nothing within {GREETING_S:g} s" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise Unreachable(f"{place.host}:{place.port}: {why}") from None
    transport.close()


def bounds_of(target: Target) -> Bounds:
    """What may be asked of a gateway that one does not know. A stream with nothing but pings in it may have twice the time."""
    patience = target.patience
    return Bounds(
        timers={"first_content": patience, "idle": patience, "tool_call": patience, "client_stall": patience, "content": 2 * patience},
        verbatim=not target.rewritten, pause=min(2.0, patience / 4),
    )  # fmt: skip


def _server(bounds: Bounds) -> TortureServer:
    return TortureServer({name: fault.play for name, fault in FAULTS.items()}, bounds.pause)


async def _try(matrix: Matrix, wanted: Sequence[Cell], begun: Begun, done: Done) -> Report:
    loop = asyncio.get_running_loop()
    since = loop.time()
    results = await matrix.run(wanted, begun, done)
    strays = sorted(set(matrix.server.strays))
    notes = [f"the scripted provider was also asked for what it does not have: {', '.join(strays[:5])}"] if strays else []
    return Report(results, notes, loop.time() - since)
