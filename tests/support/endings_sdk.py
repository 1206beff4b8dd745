"""The official clients before providers that end badly: how each asks, what it was given, and the row that it has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from penstock.exchange.drive import Exchange
from penstock.exchange.machine import Phase
from penstock.lab.scripted import ScriptedServer
from tests.support.asking import nobody
from tests.support.endings import short
from tests.support.endings_plays import HELD, PLAYS, Play, act
from tests.support.gateway import providers_at
from tests.support.process import Row
from tests.support.sdk import Maker, Mode, Sdk, Site, site

TIMERS = {"first_content": 1.2, "idle": 1.0, "content": 1.2, "tool_call": 0.6}
"""Seconds, for the plays that this timer is to end. All else may take as long as the machine likes."""
LATE_S = 5.0
"""Where an early head must come before `first_content` ends what is behind it."""
WARM = "well~"
QUIET: dict[str, Any] = {"retries": {"connect": 0}, "keepalive": "off", "early_head": "off", "log": {"level": "error"}}


@dataclass(frozen=True, slots=True)
class Way:
    """How an official client asks. `open`: from client and model to what its method returns."""

    name: str
    open: Callable[[Any, str], Any]
    how: Literal["one", "many", "helped"]
    finish: Callable[[Any], Any] = lambda stream: None
    """Of a helper: the call that gives the whole answer."""


@dataclass(frozen=True, slots=True)
class Met:
    """What one client was given, and the error that it raised."""

    way: Way
    name: str
    events: list[Any]
    error: Any
    row: Row

    @property
    def play(self) -> Play:
        return PLAYS[self.name]

    @property
    def about(self) -> str:
        return f"{self.name} ({self.way.name}): {type(self.error).__name__} {self.error}; {len(self.events)} events; {self.row['cause']}"


async def _meet(sdk: Sdk, way: Way, model: str) -> tuple[list[Any], Any]:
    def opened(client: Any) -> Any:
        return way.open(client, model)

    seen: list[Any] = []
    try:
        match way.how:
            case "one":
                seen.append(await sdk.one(opened))
            case "many":
                seen = await sdk.many(opened)
            case "helped":
                seen, final = await sdk.helped(opened, way.finish)
                seen.append(final)
    except Exception as error:  # whatever its class: that is what is looked at
        return seen, error
    return seen, None


async def meet(here: Site, sdk: Sdk, ways: Sequence[Way], names: Sequence[str]) -> list[Met]:
    """Every way with every play, all at the same time; afterwards each has one row, and no provider is waited for.

    Each way is gone once before that: official clients make their classes when they are first needed, and a loop stands still meanwhile.
    """
    for way in ways:
        await _meet(sdk, way, f"{WARM}{way.name}")
    asked = [(way, name, f"{name}~{way.name}") for way in ways for name in names]
    found = await asyncio.gather(*(_meet(sdk, way, model) for way, _, model in asked))
    return await sort(here, asked, found)


async def sort(here: Site, asked: Sequence[tuple[Way, str, str]], found: Sequence[tuple[list[Any], Any]]) -> list[Met]:
    rows = {row["requested_model"]: row for row in await here.running.rows() if not row["requested_model"].startswith(WARM)}
    assert rows.keys() == {model for _, _, model in asked}
    out = [Met(way, name, *told, rows[model]) for (way, name, model), told in zip(asked, found, strict=True)]
    for met in out:
        assert met.row["outcome"] == met.play.outcome, met.about
        assert met.row["timer"] == met.play.timer, met.about
        assert met.row["late_settles"] == 0, met.about
    for exchange in here.upstream.log:
        async with asyncio.timeout(5):
            await exchange.over.wait()
    return out


async def shut_down(here: Site, sdk: Sdk, ways: Sequence[Way], whole: Sequence[Way]) -> list[Met]:
    """A stop while a provider is in the middle of its answer, or has not begun: what each client was told, once `drain` is over."""
    asked = [(way, "hold", f"hold~{way.name}") for way in ways] + [(way, "hold-head", f"hold-head~{way.name}") for way in (*ways, *whole)]
    clients = [asyncio.create_task(_meet(sdk, way, model), name=model) for way, _, model in asked]
    await here.upstream.asked(len(asked), timeout=20)
    async with asyncio.timeout(5):
        while sum(exchange.note == HELD for exchange in here.upstream.log) < len(ways):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    here.running.app.stop()
    return await sort(here, asked, await asyncio.gather(*clients))


def _providers(port: int) -> dict[str, Any]:
    """The three kinds, and three more that do not listen."""
    return {**providers_at(port), **{f"no-{name}": {**more, "protocol": name} for name, more in providers_at(nobody()).items()}}


def _seconds(name: str, timer: str) -> float:
    return LATE_S if name.startswith("late-") and timer == "first_content" else TIMERS[timer]


KINDS = ("openai", "anthropic", "gemini")
ROUTES = {
    "routes": [
        *({"model": "refused~*", "provider": f"no-{name}"} for name in KINDS),
        *(route for name, play in PLAYS.items() if play.brief for route in short({play.brief: _seconds(name, play.brief)}, f"{name}~*", KINDS)),
    ]
}


@asynccontextmanager
async def stage(directory: Path, make: Maker, mode: Mode, more: Mapping[str, Any] = QUIET) -> AsyncGenerator[tuple[Site, Sdk]]:
    """A gateway before a provider that plays, and a client."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(64))  # sync clients wait in threads, all at the same time
    places: list[Site] = []

    def opened(model: str) -> bool:
        live = cast("set[Exchange]", places[0].running.app.gateway.live)
        return all(exchange.machine.phase is Phase.EARLY for exchange in live if exchange.entry.requested_model == model)

    async with site(directory, ScriptedServer(lambda visit: act(visit, opened)), _providers, {**more, **ROUTES}) as here:
        places.append(here)
        async with make(here.url, mode) as sdk:
            yield here, sdk


AWAKE: dict[str, Any] = {**QUIET, "keepalive": 0.1, "early_head": 0.1}
DRAINED: dict[str, Any] = {**QUIET, "timers": {"drain": 0.3}}


async def awake_and_asleep(directory: Path, make: Maker, mode: Mode, ways: Sequence[Way]) -> list[tuple[Met, Met]]:
    """A slow but healthy answer with keep-alives and an early head, and the same without: they were really sent."""
    async def one(name: str, more: Mapping[str, Any]) -> list[Met]:
        (directory / name).mkdir()
        async with stage(directory / name, make, mode, more) as (here, sdk):
            return await meet(here, sdk, ways, ["slow"])

    out = await asyncio.gather(one("awake", AWAKE), one("asleep", QUIET))
    pairs = list(zip(*out, strict=True))
    for awake, asleep in pairs:
        assert awake.row["bytes_out"] > asleep.row["bytes_out"], awake.about
    return pairs

