"""The three levels of one file brought together: a complete `Conduct` for the top, each provider and each route, and what to tell of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from penstock.config.advice import advise
from penstock.config.conduct import resolve, silence
from penstock.config.modes import LEGACY, Level, idle_paces
from penstock.config.providers import FoundRoute
from penstock.config.unused import of_other_protocols, routes_behind, times_of_nothing
from penstock.config.walk import Given
from penstock.exchange.conduct import Conduct
from penstock.providers import ProviderSettings


@dataclass(frozen=True, slots=True)
class Conducts:
    top: Conduct
    providers: Mapping[str, Conduct]
    routes: tuple[Conduct, ...]
    notes: tuple[str, ...]


def gather(
    top: Level,
    providers: Sequence[tuple[ProviderSettings, Level]],
    routes: Sequence[FoundRoute],
    *,
    transparent: bool = False,
    worker: Given | None = None,
    over: Level | None = None,
) -> Conducts:
    """`worker`: the limit on all exchanges together. `over`: what beats the file, for Anthropic providers."""
    notes: list[str] = []
    named = {settings.name: level for settings, level in providers}
    stacks: list[tuple[Level, ...]] = [(top,), *((top, level) for level in named.values())]
    stacks += [(top, named.get(found.route.provider, {}), found.level) for found in routes]
    anthropic = {settings.name for settings, _ in providers if settings.kind == "anthropic"}
    asked = [False, *(name in anthropic for name in named), *(found.route.provider in anthropic for found in routes)]
    if transparent:
        for stack in stacks:
            silence(stack[-1], notes)
        stacks = [tuple(silence(level, []) for level in stack) for stack in stacks]
    notes += [note for stack in stacks for note in advise(stack, worker)]
    by_name = {settings.name: settings for settings, _ in providers}
    placed = [(level, settings) for settings, level in providers]
    placed += [(found.level, by_name[found.route.provider]) for found in routes if found.route.provider in by_name]
    notes += [note for level, settings in placed for note in of_other_protocols(level, settings)]
    if not transparent:
        notes += times_of_nothing(stacks)
    notes += routes_behind(routes, list(by_name.values()))
    legacy = {settings.name for settings, _ in providers if settings.kind == LEGACY}
    telling = [False, *(name in legacy for name in named), *(found.route.provider in legacy for found in routes)]
    notes += [note for stack, tells in zip(stacks, telling, strict=True) if not tells for note in idle_paces(stack)]
    last: Level = {} if transparent or over is None else over
    conducts = [resolve(*stack, last, anthropic=is_anthropic) for stack, is_anthropic in zip(stacks, asked, strict=True)]
    first_route = 1 + len(named)
    return Conducts(
        top=conducts[0],
        providers=MappingProxyType(dict(zip(named, conducts[1:first_route], strict=True))),
        routes=tuple(conducts[first_route:]),
        notes=tuple(notes),
    )
