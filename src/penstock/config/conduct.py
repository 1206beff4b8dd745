"""From the keys of three levels to one `Conduct`: what a route says beats its provider, and that beats the top, key by key.

A level says only what stands there. `retries: off` is three keys; `on_disconnect: drain` says nothing about how long, so a bound that
stands farther away still holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, cast

from penstock.config.conduct_keys import TIMERS
from penstock.config.errors import Place, Problems
from penstock.config.modes import AS_IT_CAME, Level, nonstream_of, pace_of
from penstock.config.walk import Given
from penstock.dedup import Mode, Rules
from penstock.exchange.conduct import Conduct, Retries
from penstock.pipeline.timers import Timers

_OTHER_NAMES: Mapping[str, str] = {
    **{timer.name: f"timers.{timer.name}" for timer in TIMERS}, "tool_calls.timeout_secs": "timers.tool_call", "upstream.connect": "timers.connect",
}
_RETRIES = ("retries.connect", "retries.status", "retries.first_frame")
_PLAIN = (
    "keepalive", "early_head", "terminal", "tail", "max_streams", "nonstream_mode", "anthropic_stream_mode", "pseudo_stream", "pseudo_chunk_chars",
    "pseudo_interval_ms", "cache_markers", "dedup", "dedup_ttl", "dedup_tool_ttl", "ask_usage",
)  # fmt: skip
_DRAINED = ("on_disconnect.drain.seconds", "on_disconnect.drain.tokens")
_ADDING = ("keepalive", "early_head", "cache_markers")


def read_level(given: Mapping[str, Given], problems: Problems) -> Level:
    """What `given`, the keys of one place, says of how to conduct an exchange. One timer under two names is an error."""
    level: dict[str, Given] = {}
    for key, value in given.items():
        name = _OTHER_NAMES.get(key, key)
        if name.startswith("timers."):
            earlier = level.setdefault(name, value)
            if earlier is not value:
                first, second = sorted((earlier, value), key=lambda one: one.place.line or 0)
                problems.add(second.place, f"{told(first.place)} sets the same timer; keep one of the two")
        elif key in _RETRIES or key in _PLAIN or key in _DRAINED:
            level[key] = value
        elif key == "retries" and value.value == "off":
            level |= {each: replace(value, value=0) for each in _RETRIES}
        elif key == "on_disconnect" and value.value is not None:
            level[key] = value
        elif key == "on_disconnect.drain":
            level["on_disconnect"] = Given("drain", value.place, "drain")
    return level


def resolve(*levels: Level, anthropic: bool = False) -> Conduct:
    """What holds where `levels`, the farthest first, meet; the defaults where none of them says anything. `anthropic`: for an Anthropic
    provider."""
    said: dict[str, object] = {key: given.value for level in levels for key, given in level.items()}
    default = Conduct()
    timers = {timer.name: said.get(f"timers.{timer.name}", getattr(default.timers, timer.name)) for timer in TIMERS}
    retries = {name: said.get(f"retries.{name}", getattr(default.retries, name)) for name in ("connect", "status", "first_frame")}
    return Conduct(
        timers=Timers(**cast("dict[str, float]", timers)),
        retries=Retries(**cast("dict[str, int]", retries)),
        keepalive=cast("float | None", said.get("keepalive", default.keepalive)),
        early_head=cast("float | None", said.get("early_head", default.early_head)),
        on_disconnect=cast("Literal['cancel', 'drain']", said.get("on_disconnect", default.on_disconnect)),
        drain_seconds=cast("float | None", said.get("on_disconnect.drain.seconds", default.drain_seconds)),
        drain_tokens=cast("int | None", said.get("on_disconnect.drain.tokens", default.drain_tokens)),
        terminal=cast("Literal['event', 'finish_reason']", said.get("terminal", default.terminal)),
        tail_content=said.get("tail", "events") == "content",
        nonstream=nonstream_of(levels, anthropic=anthropic),
        pace=pace_of(said) if said.get("pseudo_stream", False) else None,
        telling=pace_of(said),
        cache_markers=said.get("cache_markers") == "on",
        dedup=_rules_of(said),
        max_streams=cast("int | None", said.get("max_streams", default.max_streams)),
    )


def _rules_of(said: Mapping[str, object]) -> Rules | None:
    default = Rules()
    mode = cast("Mode", said.get("dedup", default.mode))
    if mode == "off":
        return None
    ttl, tool_ttl = cast("float", said.get("dedup_ttl", default.ttl)), cast("float", said.get("dedup_tool_ttl", default.tool_ttl))
    return Rules(mode, ttl, max(ttl, tool_ttl))


def silence(level: Level, notes: list[str]) -> Level:
    """`level` under `transparent: true`: nothing is put in while a provider is silent. What says otherwise is noted.

    No error: `transparent` may be switched on from the environment, for a day, over a file that is otherwise meant.
    """
    place = Place("", None, "transparent")
    quiet = {**dict.fromkeys(_ADDING, Given(None, place)), **{key: Given(value, place) for key, value in AS_IT_CAME.items()}}
    for key, off in quiet.items():
        if key in level and level[key].value not in (off.value, "off"):
            what = "add" if off.value is None else "change"
            notes.append(f"{level[key].place}: has no effect while transparent is true, for it would {what} bytes")
    return {**level, **quiet}


def told(place: Place) -> str:
    """Where something else stands, inside a sentence."""
    return f"{place.path} in line {place.line}" if place.line is not None else place.path
