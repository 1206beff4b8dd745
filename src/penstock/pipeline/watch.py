"""Which timer of an exchange runs out next, and whether one has. Pure: time is an argument, and nothing is done per chunk.

All that is looked at, the pipeline keeps anyway: when bytes last came, when content last came, and for each open tool call when its arguments
last went on. So whoever waits needs one timer, set to `next_look`, and asks again when it fires: most often everything has moved on by then.

Rules
-----
- `first_content` runs from the request to the first content (of a body: to its first byte). `idle`, between two reads, and `content`, without
  any progress of content, run from then on. Pings, comments, and events that bring nothing are reads and no content.
- `tool_call` runs for each open call by itself, from when it was announced or its arguments began; only its own arguments set it back, and only
  its own end stops it. It does not wait for content: an announced call is none.
- Where the content cannot be told from other bytes (whole bodies, protocols without a terminal event, frames that were not understood), `idle`
  is all there is, and it begins with the first bytes that mean anything.
- Behind an error that the provider told in its stream, `idle` runs whatever came before, and is `AFTER_LAST` at most: nothing good is waited
  for any more, and some clients (Codex) do not take the event for an end. So it is behind the last that a provider ever sends
  (`Pipeline.all_told`), and no content is waited for there.
- `max_duration` runs from the request. Behind the terminal event nothing runs, nor while what has come is told by time
  (`Pipeline.deadline`) or waits for a guard's word (`Pipeline.waiting`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from penstock.pipeline.contract import Pipeline, State
from penstock.pipeline.timers import Timers
from penstock.protocols.contract import ToolCall
from penstock.wire.secrets import mask_secrets

TimerName = Literal["first_content", "idle", "content", "tool_call", "max_duration"]

AFTER_LAST: Final = 15.0
"""Seconds in which a provider may say more, or close, behind an error of its own or what is its last event. Providers close at once."""
_NAME_LIMIT = 64
_RUNNING = State.RUNNING


@dataclass(frozen=True, slots=True)
class Expired:
    timer: TimerName
    seconds: float
    """What it was set to."""
    at: float
    """When it ran out."""
    cause: str
    """In words, with the numbers; begins with the timer's name."""


def next_deadline(timers: Timers, started: float, pipeline: Pipeline | None) -> float | None:
    """When the first of the running timers runs out if nothing more comes; `None`: none runs.

    `started`: when the request came, or what was last uploaded of it. `pipeline`: `None` while there is no answer.
    """
    return min((at for at, _, _, _ in _running(timers, started, pipeline)), default=None)


def next_look(timers: Timers, started: float, pipeline: Pipeline | None, now: float) -> float | None:
    """When to ask `expired` again so that no timer is found later than it ran out; `None`: never.

    That is the first deadline, or the first that a timer could have which does not run yet and begins right now, whichever is sooner.
    """
    if pipeline is not None and pipeline.state is not _RUNNING:
        return None
    coming = [now + t for t in (AFTER_LAST, timers.idle, timers.content, timers.tool_call) if t is not None]
    return min((*coming, *(at for at, _, _, _ in _running(timers, started, pipeline))), default=None)


def expired(timers: Timers, started: float, pipeline: Pipeline | None, now: float) -> Expired | None:
    """The timer that ran out first, if any has by `now`."""
    first = min(_running(timers, started, pipeline), key=_when, default=None)
    if first is None or now < first[0]:
        return None
    at, timer, seconds, call = first
    return Expired(timer, seconds, at, f"{timer}: {_words(timer, f'{seconds:g} s', call)}")


def excuse(pipeline: Pipeline, seconds: float) -> None:
    """Time in which we did not read, because the client did not, is not the provider's: set its clocks back by it."""
    pipeline.last_at += seconds
    if pipeline.last_content_at is not None:
        pipeline.last_content_at += seconds
    for call in pipeline.observer.tools.values():
        call.arguments_at += seconds


_Running = tuple[float, TimerName, float, ToolCall | None]
"""Deadline, timer, its setting, the call that it is about."""


def _when(running: _Running) -> float:
    return running[0]


def _running(timers: Timers, started: float, pipeline: Pipeline | None) -> Iterator[_Running]:
    if pipeline is not None and pipeline.state is not _RUNNING:
        return
    if timers.max_duration is not None:
        yield started + timers.max_duration, "max_duration", timers.max_duration, None
    if pipeline is not None and (pipeline.waiting or pipeline.deadline() is not None):
        return
    told = pipeline is not None and pipeline.all_told
    if pipeline is not None and pipeline.tells_content and (told or pipeline.observer.error is not None):
        seconds = AFTER_LAST if timers.idle is None else min(timers.idle, AFTER_LAST)
        yield pipeline.last_at + seconds, "idle", seconds, None
    elif pipeline is None or (pipeline.first_content_at is None and (pipeline.tells_content or not pipeline.begun)):
        if timers.first_content is not None:
            yield started + timers.first_content, "first_content", timers.first_content, None
    elif timers.idle is not None:
        yield pipeline.last_at + timers.idle, "idle", timers.idle, None
    if pipeline is None or told or not pipeline.tells_content:
        return
    if pipeline.last_content_at is not None and timers.content is not None:
        yield pipeline.last_content_at + timers.content, "content", timers.content, None
    if timers.tool_call is not None:
        for call in pipeline.observer.tools.values():
            yield call.arguments_at + timers.tool_call, "tool_call", timers.tool_call, call


def _words(timer: TimerName, seconds: str, call: ToolCall | None) -> str:
    match timer:
        case "first_content":
            return f"no content within {seconds} of the request"
        case "idle":
            return f"nothing came from the provider for {seconds}"
        case "content":
            return f"no content for {seconds}, whatever else came"
        case "tool_call":
            return f"{seconds} without progress of the arguments of {_named(call)}"
        case "max_duration":
            return f"the exchange took longer than {seconds}"


def _named(call: ToolCall | None) -> str:
    if call is None or not call.name:
        return "a tool call"
    return f"tool call {mask_secrets(call.name[:_NAME_LIMIT])!r}"
