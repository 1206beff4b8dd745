"""How a provider is asked in another form than its client asked: the keys of the stream modes, and which of them holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from penstock.config.errors import Problems
from penstock.config.walk import Given
from penstock.exchange.conduct import NonstreamMode
from penstock.pipeline.pseudo import Pace

Level = Mapping[str, Given]
"""What one place of the file says, by key: `timers.idle`, `retries.status`, `keepalive`, `on_disconnect`, `on_disconnect.drain.seconds`."""

AS_IT_CAME: Mapping[str, object] = {
    "nonstream_mode": "passthrough", "anthropic_stream_mode": "passthrough", "pseudo_stream": False, "dedup": "off", "terminal": "event",
}
"""Under `transparent: true`."""
LEGACY = "argo_legacy"
"""The kind of the providers that know `real_stream`."""


def nonstream_of(levels: Sequence[Level], *, anthropic: bool) -> NonstreamMode:
    """The nearest place that says something decides. For Anthropic providers it may say it in two words, of which their own is the nearer one, and
    `force` holds where nothing is said."""
    for level in reversed(levels):
        given = level.get("anthropic_stream_mode") if anthropic else None
        given = given or level.get("nonstream_mode")
        if given is not None:
            return cast("NonstreamMode", given.value)
    return "force" if anthropic else "passthrough"


def pace_of(said: Mapping[str, object]) -> Pace:
    """`said`: by key, the nearest of each."""
    default = Pace()
    return Pace(
        cast("int | None", said.get("pseudo_chunk_chars", default.chars)), cast("float", said.get("pseudo_interval_ms", default.interval)))


def check_names(given: Mapping[str, Given], problems: Problems, *, anthropic: bool) -> None:
    """On a provider, one mode has one name."""
    own = given.get("anthropic_stream_mode")
    if own is None:
        return
    if not anthropic:
        problems.add(own.place, "is about providers with protocol: anthropic; write nonstream_mode")
    elif "nonstream_mode" in given:
        problems.add(own.place, "is another name of nonstream_mode; keep one of the two")


def over_the_file(given: Mapping[str, Given]) -> Level:
    """What variable or command line say of Anthropic providers: it beats every place of the file."""
    mode = given.get("anthropic_stream_mode")
    return {"anthropic_stream_mode": mode} if mode is not None and mode.place.file in ("environment", "command line") else {}


def idle_paces(stack: Sequence[Level]) -> list[str]:
    """Notes on a pace, in the nearest place, that nothing is told at. Not to be asked of legacy Argo, which tells some answers so in any case."""
    said = {key: one.value for level in stack for key, one in level.items()}
    if said.get("pseudo_stream", False) or len(stack) == 1:  # at the top it is a default for those who say it
        return []
    keys = ("pseudo_chunk_chars", "pseudo_interval_ms")
    return [f"{stack[-1][key].place}: has no effect without pseudo_stream: true" for key in keys if key in stack[-1]]


def unheard_words(given: Mapping[str, Given], kinds: Sequence[str]) -> list[str]:
    """Notes on argo's own word where no legacy gateway hears it. `kinds`: of the providers."""
    word = given.get("real_stream")
    if word is None or LEGACY in kinds:
        return []
    place = word.place
    name = place if place.file != "command line" else "--real-stream" if word.value else "--pseudo-stream"
    return [
        f"{name}: is about the legacy Argo gateway and has no effect here: streams are real; "
        "write pseudo_stream: true on a provider or a route whose answers are to be told as streams",
    ]
