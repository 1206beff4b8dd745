"""What is right and yet does less than it looks like: a timer that another one always forestalls, a limit inside a smaller one.

Which forestalls which follows from what starts them:

- `connect` runs inside `first_content`, and `early_head` waits inside it too: whichever of them is not shorter never comes.
- `idle` starts again with every byte, `content` with every piece of content. Content is bytes, so `idle` never starts earlier than
  `content`: unless it is shorter, it never fires.
- `tool_call` starts again with the arguments of its own call, `content` with those of any. A call that stalls alone is therefore left to
  `content`, and in silence to `idle`, unless `tool_call` is shorter; it still fires where pings, text or other calls go on beside it.
- `max_duration` starts before all of them.

Not compared: `client_stall` with the provider's timers, for a provider is not waited for while its client takes nothing; `drain`, which
runs from a signal on; the bound of `on_disconnect: drain`, which runs when nobody waits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from penstock.config.conduct import resolve, told
from penstock.config.modes import Level
from penstock.config.walk import Given

_UNDER_MAX = ("connect", "first_content", "idle", "content", "tool_call", "client_stall")
_PATIENCE = 60.0
"""Seconds of silence after which load balancers and proxies commonly close: nginx's `proxy_read_timeout` and AWS's load balancers by default."""


def advise(levels: Sequence[Level], worker: Given | None = None) -> list[str]:
    """One sentence for each such pair that the nearest of `levels` (the last) has a part in; defaults alone make none.

    `worker`: the limit on all exchanges together, where one is set.
    """
    return [note for note in (*_timers(_View(levels)), *_streams(levels, worker)) if note]


class _View:
    """What holds at the nearest level, and where it is said."""

    def __init__(self, levels: Sequence[Level]) -> None:
        conduct = resolve(*levels)
        self._given = {key: given for level in levels for key, given in level.items()}
        self._own = levels[-1]
        self._seconds: dict[str, float | None] = {name: getattr(conduct.timers, name) for name in (*_UNDER_MAX, "max_duration")}
        self._seconds |= {"early_head": conduct.early_head, "keepalive": conduct.keepalive}

    def reaches(self, one: str, other: str) -> bool:
        """Both are on, and `one` is not shorter than `other`."""
        first, second = self._seconds[one], self._seconds[other]
        return first is not None and second is not None and first >= second

    def beyond(self, name: str, seconds: float) -> bool:
        value = self._seconds[name]
        return value is not None and value >= seconds and _key(name) in self._own

    def say(self, name: str) -> str:
        """The name, its seconds, and where they come from."""
        seconds, given = show(self._seconds[name]), self._given.get(_key(name))
        if given is None:
            return f"{name} ({seconds}, the default)"
        return f"{given.place.path} ({seconds}, line {given.place.line})"

    def at(self, *names: str) -> str | None:
        """Where to change it: the first of `names` that the nearest level says; `None`: it says none of them."""
        return next((str(self._own[_key(name)].place) for name in names if _key(name) in self._own), None)


def _timers(view: _View) -> Iterator[str | None]:
    yield _pair(view, "connect", "first_content", "{0} can never fire: {1} includes it. Make connect shorter")
    yield _pair(view, "idle", "content", "{0} can never fire: {1} starts no later and ends no later. Make idle shorter than content")
    alone = "{0} cannot end a call that stalls alone: {1} comes first{2}; it fires only while {3} go on beside the call. Make tool_call shorter"
    if view.reaches("tool_call", "content"):
        yield _pair(view, "tool_call", "content", alone, "", "text or other calls")
    else:
        yield _pair(view, "tool_call", "idle", alone, " in silence", "pings, text or other calls")
    yield _pair(view, "early_head", "first_content", "{0} never comes: {1} ends the exchange before. Make early_head shorter")
    covered = [name for name in (*_UNDER_MAX, "early_head") if view.reaches(name, "max_duration")]
    where = view.at("max_duration", *covered) if covered else None
    if where is not None:
        listed = ", ".join(view.say(name) for name in covered)
        yield f"{where}: {view.say('max_duration')} ends every exchange before these can: {listed}. Make it longer, or leave it off"
    for name in ("keepalive", "early_head"):
        if view.beyond(name, _PATIENCE):
            yield (f"{view.at(name)}: {show(_PATIENCE)} without a byte is where many load balancers and clients give up, "
                   f"and {view.say(name)} comes no sooner. Make it shorter")


def _pair(view: _View, late: str, early: str, words: str, *more: str) -> str | None:
    where = view.at(late, early) if view.reaches(late, early) else None
    return None if where is None else f"{where}: {words.format(view.say(late), view.say(early), *more)}"


def _streams(levels: Sequence[Level], worker: Given | None) -> Iterator[str]:
    own = levels[-1].get("max_streams")
    if own is None or not isinstance(own.value, int):
        return
    around = [worker] if worker is not None else []
    if len(levels) > 2:  # a route is inside its provider
        around += [level["max_streams"] for level in reversed(levels[:-1]) if "max_streams" in level][:1]
    for other in around:
        if isinstance(other.value, int) and own.value > other.value:
            yield f"{own.place}: {own.value} are never reached: {told(other.place)} allows {other.value}"


def _key(name: str) -> str:
    return name if name in ("keepalive", "early_head") else f"timers.{name}"


def show(seconds: float | None) -> str:
    return "off" if seconds is None else f"{seconds:.10g} s"
