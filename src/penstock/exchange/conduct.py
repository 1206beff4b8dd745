"""How one exchange is to be conducted: what may be set for all, for a provider, and for a route; the nearest wins."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from penstock.dedup import Rules
from penstock.pipeline.pseudo import Pace
from penstock.pipeline.timers import Timers
from penstock.policy.guards import Guards

NonstreamMode = Literal["force", "retry", "passthrough"]


@dataclass(frozen=True, slots=True)
class Retries:
    """Further tries after the first, each only before the client has been told anything."""

    connect: int = 2
    """After no connection was made."""
    status: int = 0
    """After 408, 409, 429 and 5xx. The official clients make three tries of their own."""
    first_frame: int = 0
    """After an answer below 400 that ended or failed before its first event: it may have been billed."""


@dataclass(frozen=True, slots=True)
class Conduct:
    """Times in seconds."""

    timers: Timers = field(default_factory=Timers)
    retries: Retries = field(default_factory=Retries)
    keepalive: float | None = 15.0
    """For which the client of a stream may have been sent nothing before a word without meaning is; `None`: never."""
    early_head: float | None = 30.0
    """After which a stream is opened with 200 although its provider has not begun; `None`: never."""
    on_disconnect: Literal["cancel", "drain"] = "cancel"
    """What becomes of the provider's answer when its client has left: closed at once, or read on for its usage."""
    drain_seconds: float | None = 60.0
    """For how long it is read on; `None`: to its end."""
    drain_tokens: int | None = None
    """For how many further tokens, by the provider's count or an estimate; `None`: to its end."""
    terminal: Literal["event", "finish_reason"] = "event"
    """`finish_reason`: this provider never sends `[DONE]`, and its streams are completed with one."""
    tail_content: bool = False
    """Keep the last bytes of the stream with the record of a bad ending."""
    cache_markers: bool = False
    """Requests that set no marker of the prompt cache get one, where their protocol has such."""
    transparent: bool = False
    """Nothing is put in, taken out or told in other words."""
    nonstream: NonstreamMode = "passthrough"
    """How a whole body is asked for: as a stream that is folded here, as it came and as a stream where it is refused so, or as it came."""
    pace: Pace | None = None
    """A stream is asked for as a whole body, and told at this pace; `None`: it is asked for as it came."""
    dedup: Rules | None = field(default_factory=Rules)
    """When an earlier answer is told again; `None`: never."""
    telling: Pace = field(default_factory=Pace)
    """At which whole answers are told as streams that nobody else can give (legacy Argo's), whatever `pace` says."""
    guards: Guards | None = None
    """What may be said; `None`: anything."""
    max_streams: int | None = None
    """Exchanges under way at the same time, of the provider or of the route; an exchange needs a permit of each."""
