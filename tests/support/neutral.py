"""Answers in neutral events: drawn, and read as what a person would say they contain."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from penstock.protocols import REGISTRY
from penstock.vocabulary.events import (
    Ended,
    Event,
    Failed,
    ReasoningDelta,
    Started,
    Stopped,
    StopReason,
    TextDelta,
    ToolDelta,
    ToolEnded,
    ToolStarted,
    UsageSeen,
)
from penstock.vocabulary.ids import ProtocolId
from tests.support.corpus import COLUMNS, figures, usage_of
from tests.support.relays import OPERATIONS, neutral

USAGE = tuple(COLUMNS)


@dataclass
class Call:
    name: str
    call_id: str
    arguments: str = ""


@dataclass
class Choice:
    content: list[tuple[str, str] | Call] = field(default_factory=list[tuple[str, str] | Call])
    """`("text", ...)` and `("thought", ...)`, neighbours of a kind joined, and calls; in the order in which they began."""
    stop: StopReason | None = None


@dataclass
class Said:
    """What an answer says, however it is told."""

    choices: dict[int, Choice] = field(default_factory=lambda: {0: Choice()})
    usage: dict[str, int] = field(default_factory=dict[str, int])
    response_id: str | None = None
    model: str | None = None
    created: int | None = None
    failed: str | None = None
    ended: bool = False


def read(events: Iterable[Event]) -> Said:
    said = Said()
    calls: dict[tuple[int, int], Call] = {}
    for event in events:
        match event:
            case Started():
                said.response_id, said.model, said.created = event.response_id, event.model, event.created
            case TextDelta() | ReasoningDelta():
                content = said.choices.setdefault(event.choice, Choice()).content
                kind = "text" if isinstance(event, TextDelta) else "thought"
                if event.text:
                    last = content[-1] if content else None
                    if isinstance(last, tuple) and last[0] == kind:
                        content[-1] = (kind, last[1] + event.text)
                    else:
                        content.append((kind, event.text))
            case ToolStarted():
                call = calls[event.choice, event.part] = Call(event.name, event.call_id)
                said.choices.setdefault(event.choice, Choice()).content.append(call)
            case ToolDelta():
                calls[event.choice, event.part].arguments += event.arguments
            case ToolEnded():
                assert (event.choice, event.part) in calls
            case UsageSeen():
                said.usage = figures(event.usage)
            case Stopped():
                said.choices.setdefault(event.choice, Choice()).stop = event.reason
            case Failed():
                said.failed = event.error.message
            case Ended():
                said.ended = True
    return said


def spell(said: Said) -> Said:
    """The same with the arguments of calls spelled in one way."""
    for choice in said.choices.values():
        for item in choice.content:
            if isinstance(item, Call):
                item.arguments = json.dumps(json.loads(item.arguments), sort_keys=True)
    return said


def told(protocol: ProtocolId, events: Iterable[Event]) -> list[Event]:
    """`events` rendered in a dialect and read again by its observer. Where the dialect has no terminal event, a stream that may end ends."""
    renderer = REGISTRY[protocol].renderer(OPERATIONS[protocol])
    found, observer = neutral(protocol, b"".join(renderer.render(event) for event in events))
    assert observer.malformed == 0
    assert observer.unknown == 0
    if protocol is ProtocolId.GEMINI and observer.closable():
        found.append(Ended())
    return found


TEXT = st.text(min_size=1, max_size=12)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
ARGUMENTS = st.dictionaries(st.text(max_size=4), VALUES, max_size=3)
REASONS = st.one_of(
    st.sampled_from([reason for reason in StopReason if reason is not StopReason.OTHER]).map(Stopped),
    st.sampled_from(["LANGUAGE", "max_messages", "a_new_word"]).map(lambda word: Stopped(StopReason.OTHER, word)),
)
USAGES = st.fixed_dictionaries({name: st.none() | st.integers(0, 10**6) for name in USAGE}).map(usage_of)


@st.composite
def pieces(draw: st.DrawFn, text: str) -> list[str]:
    """`text` in one to four pieces, none empty."""
    marks = sorted({0, len(text), *draw(st.lists(st.integers(0, len(text)), max_size=3))})
    return [text[a:b] for a, b in pairwise(marks)]


@st.composite
def contents(draw: st.DrawFn, choice: int, several: bool) -> list[Event]:
    """The parts of one choice, one after the other, and why it stopped; which may be left out where it is the only one."""
    events: list[Event] = []
    for part in range(draw(st.integers(0, 5))):
        kind = draw(st.sampled_from(["text", "thought", "call", "call"]))
        if kind == "call":
            events.append(ToolStarted(part, f"call_{choice}_{part}", draw(st.text("abcdefgh_", min_size=1, max_size=6)), choice))
            arguments = json.dumps(draw(ARGUMENTS), indent=draw(st.sampled_from([None, 1])), ensure_ascii=draw(st.booleans()))
            events += [ToolDelta(part, piece, choice) for piece in draw(pieces(arguments))]
            events.append(ToolEnded(part, choice))
        else:
            make = TextDelta if kind == "text" else ReasoningDelta
            events += [make(text, part, choice) for text in draw(st.lists(TEXT, min_size=1, max_size=3))]
    if several or draw(st.integers(0, 5)):
        stopped = draw(REASONS)
        events.append(Stopped(stopped.reason, stopped.raw, choice))
    return events


@st.composite
def answers(draw: st.DrawFn) -> list[Event]:
    """A whole answer of one to three choices, usage said never, once or twice."""
    names = st.none() | st.text("abcXYZ019-_", min_size=1, max_size=8)
    events: list[Event] = [Started(draw(names), draw(names), draw(st.none() | st.integers(1, 2**33)))]
    if draw(st.booleans()):
        events.append(UsageSeen(draw(USAGES)))
    count = draw(st.sampled_from([1, 1, 1, 2, 3]))
    for choice in range(count):
        events += draw(contents(choice, count > 1))
    if draw(st.booleans()):
        events.append(UsageSeen(draw(USAGES)))
    return [*events, Ended()]
