"""What is right and has no effect where it stands: a key of another protocol's, a time of what is off, a route behind one that takes all.

What stands at the top is a default for those below who have a use for it, and is not told; but for times, where what they are about is off
everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from penstock.config.conduct import resolve
from penstock.config.modes import LEGACY, Level
from penstock.config.providers import FoundRoute
from penstock.providers import KINDS, ProviderSettings
from penstock.routing.routes import DEMO
from penstock.vocabulary.ids import ProtocolId

_TIMES = ("dedup_ttl", "dedup_tool_ttl")
_WILD = frozenset("*?[")


def protocols_of(settings: ProviderSettings) -> frozenset[ProtocolId]:
    """What the provider speaks."""
    speaks = KINDS[settings.kind].speaks
    return speaks if settings.protocols is None else speaks & settings.protocols


def of_other_protocols(level: Level, settings: ProviderSettings) -> Iterator[str]:
    """Of what a provider, or a route to it, says."""
    speaks, name = protocols_of(settings), repr(settings.name)
    chat = ProtocolId.OPENAI_CHAT in speaks and settings.kind != LEGACY
    if "ask_usage" in level and not chat:
        yield f"{level['ask_usage'].place}: has no effect: it is about Chat streams, and provider {name} makes none; leave it out"
    terminal = level.get("terminal")
    if terminal is not None and terminal.value == "finish_reason" and not chat:
        yield f"{terminal.place}: finish_reason is about Chat streams, and provider {name} makes none; leave it out"
    markers = level.get("cache_markers")
    if markers is not None and markers.value == "on" and ProtocolId.ANTHROPIC_MESSAGES not in speaks:
        yield f"{markers.place}: has no effect: it is about Messages, which provider {name} does not speak; leave it out"
    mode = level.get("nonstream_mode")
    if mode is not None and mode.value != "passthrough" and settings.kind == LEGACY:
        yield f"{mode.place}: has no effect: legacy Argo is asked in its own words; leave it out"


def times_of_nothing(stacks: Sequence[Sequence[Level]]) -> Iterator[str]:
    """Of how long answers can be told again where none is. `stacks`: the levels of each place, the top alone first."""
    off = [resolve(*stack).dedup is None for stack in stacks]
    for stack, is_off in zip(stacks, [all(off), *off[1:]], strict=True):
        if is_off:
            yield from (f"{stack[-1][key].place}: has no effect while dedup is off" for key in _TIMES if key in stack[-1])


def routes_behind(routes: Sequence[FoundRoute], providers: Sequence[ProviderSettings]) -> Iterator[str]:
    """Of routes whose every request an earlier one takes: whose names it matches, too, and whose provider speaks what theirs does."""
    speaks = {settings.name: protocols_of(settings) for settings in providers} | {DEMO: frozenset(ProtocolId)}
    for index, found in enumerate(routes):
        name = found.route.model.text
        earlier = [before for before in range(index) if _covers(routes[before], name)]
        left = speaks[found.route.provider].difference(*(speaks[routes[before].route.provider] for before in earlier))
        if not left:
            told = " and ".join(f"routes[{before}] ({routes[before].route.model.text!r})" for before in earlier)
            yield f"{found.place}: is never reached: {told} before it {'takes' if len(earlier) == 1 else 'take'} all of it. Put it first"


def _covers(earlier: FoundRoute, name: str) -> bool:
    glob = earlier.route.model
    return glob.text in ("*", name) or (_WILD.isdisjoint(name) and glob.matches(name))
