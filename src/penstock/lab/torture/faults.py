"""What a fault is, and the table into which each enters itself. The entries: `healthy`, `endings`, `refusals`, `stalls`, `leaving`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from penstock.lab.torture.client import Client
from penstock.lab.torture.forms import FORMS
from penstock.lab.torture.upstream import Play, Stage, Watch

TimerName = Literal["first_content", "idle", "content", "tool_call", "client_stall"]


class Must(Enum):
    """What has to arrive."""

    WHOLE = "the stream, byte for byte, complete"
    UNTIL_TERMINAL = "the stream with its terminal event, and nothing behind it but the provider's own bytes"
    REFUSED = "an error with a true status"
    TOLD = "the provider's error, with its status"
    BROKEN = "the frames that came, then the error in band"
    TOLD_IN_BAND = "the frames that came, the provider's error the last of them"
    LET_GO = "nothing; the provider's connection is closed"


@dataclass(frozen=True, slots=True)
class Asking:
    """A client that has asked, for a behaviour to act on."""

    client: Client
    watch: Watch
    pause: float


Behaviour = Callable[[Asking], Awaitable[None]]


async def read_all(asking: Asking) -> None:
    """Read what comes as it comes."""
    await asking.client.answer.over.wait()


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to misbehave."""

    name: str
    group: str
    """The file that it stands in."""
    means: str
    """What it does and what must arrive, in a sentence."""
    play: Play
    must: Must
    client: Behaviour = read_all
    forms: tuple[str, ...] = tuple(FORMS)
    """In which it makes sense."""
    timer: TimerName | None = None
    """Who has to end it."""
    statuses: tuple[int, ...] = (502,)
    """One of which an error before the first byte has."""
    outcomes: tuple[str, ...] = ()
    """One of which the ledger has; empty: those of `must`."""
    requests: int = 1
    """How often the client asks, one after the other; the last answer is judged."""
    lossy: bool = False
    """Frames that were sent last may be lost on the way."""
    quiet: bool = False
    """The provider is silent for long; something must keep the client awake."""
    early: bool = False
    """The stream may have been opened before the provider answered."""
    heavy: bool = False
    """Runs alone: it moves many bytes."""


FAULTS: dict[str, Fault] = {}
"""Every fault by its name, in the order of the documents."""
SSE: tuple[str, ...] = tuple(name for name, form in FORMS.items() if not form.array)
TERMINATED: tuple[str, ...] = ("chat", "responses", "messages", "array")
"""Forms whose streams say themselves that they are at their end; Gemini's frames do not."""


def fault(
    must: Must, *, client: Behaviour = read_all, forms: tuple[str, ...] = tuple(FORMS), timer: TimerName | None = None,
    statuses: tuple[int, ...] = (502,), outcomes: tuple[str, ...] = (), requests: int = 1, lossy: bool = False, quiet: bool = False,
    early: bool = False, heavy: bool = False,
) -> Callable[[Play], Play]:  # fmt: skip
    """Enter an async function of a `Stage` under its own name, with its docstring as its meaning."""

    def enter(play: Play) -> Play:
        name = getattr(play, "__name__", "").replace("_", "-")
        means = " ".join((play.__doc__ or "").split())
        FAULTS[name] = Fault(
            name, play.__module__.rpartition(".")[2], means, play, must, client, forms, timer, statuses, outcomes, requests, lossy, quiet, early,
            heavy,
        )  # fmt: skip
        return play

    return enter


async def tell(up: Stage, *frames: bytes) -> None:
    """Head, frames, end: an answer that is over at once."""
    await up.head()
    await up.send(*frames)
    await up.end()


async def begin(up: Stage) -> None:
    """Head, opening, and some text: a stream that is under way."""
    await up.head()
    await up.send(*up.say.opening(), *up.texts(3))


async def breathe() -> None:
    """Long enough for what was written to be read apart from what comes."""
    await asyncio.sleep(0.03)
