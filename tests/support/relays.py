"""A pipeline driven as an exchange drives it, with what came out of it and what it knew at the end."""

from __future__ import annotations

import gzip
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st

from penstock.pipeline.compose import Answer, Limits, compose
from penstock.pipeline.contract import Pipeline, State
from penstock.protocols import REGISTRY
from penstock.protocols.contract import Observer
from penstock.vocabulary.errors import Fault, FaultKind
from penstock.vocabulary.events import Event
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.vocabulary.outcome import Ending, Outcome
from penstock.wire.budget import Budget

OPERATIONS: dict[ProtocolId, Operation] = {
    ProtocolId.OPENAI_CHAT: Operation.CHAT,
    ProtocolId.OPENAI_RESPONSES: Operation.RESPONSES,
    ProtocolId.ANTHROPIC_MESSAGES: Operation.MESSAGES,
    ProtocolId.GEMINI: Operation.GENERATE,
}
"""What a stream of each protocol answers."""
FAULT = Fault(FaultKind.UPSTREAM_BROKEN, 502, "The answer is not complete.")
ID = "px-test-1"
CUTS = st.lists(st.integers(0, 1 << 20), max_size=8)
"""Where a body is cut into chunks, modulo its length."""


def cut(data: bytes, at: Iterable[int]) -> list[bytes]:
    """`data` in chunks, some of them empty."""
    marks = [0, *sorted(i % (len(data) + 1) for i in at), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(marks)]


def every(data: bytes, n: int) -> list[bytes]:
    return [data[i : i + n] for i in range(0, len(data), n)]


def zipped(data: bytes, level: int = 1) -> bytes:
    return gzip.compress(data, level, mtime=0)


def is_broken(outcome: Outcome) -> bool:
    """Would an exchange tell the client that the answer is not whole?"""
    return outcome.ending in (Ending.TRUNCATED, Ending.UPSTREAM_LOST)


@dataclass
class Relay:
    """One answer on its way. `feed` chunks, then `finish`."""

    protocol: ProtocolId
    operation: Operation | None = None
    array: bool = False
    gzip: bool = False
    stream: bool = True
    status: int = 200
    delimited: bool = True
    content_type: bytes | None = None
    coding: bytes | None = None
    take_usage: bool = False
    sink: bool = False
    limits: Limits = field(default_factory=Limits)
    budget: Budget = field(default_factory=lambda: Budget(1 << 28))
    observer: Observer | None = None
    outs: list[bytes] = field(default_factory=list[bytes])
    """What each feed gave out."""
    last: bytes = b""
    """What the end gave out."""
    outcome: Outcome | None = None
    spoke: bool = False
    now: float = 100.0

    def __post_init__(self) -> None:
        spec = self.spec = REGISTRY[self.protocol]
        self.operation = self.operation or OPERATIONS[self.protocol]
        self.observer = self.observer or spec.observer(self.operation)
        if self.sink:
            self.observer.sink = []
        kind = self.content_type
        if kind is None:
            kind = b"application/json" if self.array or not self.stream else b"text/event-stream"
        coding = self.coding if self.coding is not None else b"gzip" if self.gzip else b""
        answer = Answer(self.operation, self.status, kind, coding, self.delimited, self.stream, self.array, self.take_usage)
        observer = self.observer

        def given(_: Operation) -> Observer:
            return observer

        self.mode = compose(answer, replace(spec, observer=given), self.limits, self.budget, self.now)
        self.pipeline: Pipeline = self.mode.pipeline

    @property
    def seen(self) -> Observer:
        assert self.observer is not None
        return self.observer

    def feed(self, *chunks: bytes) -> Relay:
        for chunk in chunks:
            self.now += 0.25
            self.outs.append(self.pipeline.feed(chunk, self.now))
        return self

    def finish(self, *, clean: bool = True) -> Relay:
        """The upstream's end, as an exchange takes it: an answer that is not whole gets the protocol's words for it, where they may be said."""
        self.outcome = outcome = self.pipeline.conclude(clean, "the connection was reset")
        if self.pipeline.state is State.ENDED or not is_broken(outcome):
            self.last = self.pipeline.end(None, ID)
        else:
            self.spoke = self.pipeline.may_speak()
            self.last = self.pipeline.end(FAULT, ID)
        return self

    @property
    def given(self) -> bytes:
        """All that left before the end."""
        return b"".join(self.outs)

    @property
    def out(self) -> bytes:
        return self.given + self.last

    def facts(self) -> dict[str, Any]:
        """Everything that must not depend on the chunking."""
        o = self.seen
        return {
            "id": o.response_id, "model": o.model, "stop": o.stop_reason, "usage": o.usage, "final": o.final_usage, "provenance": o.provenance(),
            "error": o.error, "terminal": o.terminal, "closable": o.closable(), "open": {k: (t.name, t.kind) for k, t in o.tools.items()},
            "calls": o.calls, "choices": o.choices, "malformed": o.malformed, "unknown": o.unknown, "events": self.pipeline.events,
            "told": tuple(o.sink or ()), "outcome": self.outcome, "spoke": self.spoke,
        }  # fmt: skip


def relayed(protocol: ProtocolId, chunks: Sequence[bytes], *, clean: bool = True, **named: Any) -> Relay:
    """A whole answer."""
    return Relay(protocol, **named).feed(*chunks).finish(clean=clean)


_BLANK = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")


def frames_of(stream: bytes) -> list[bytes]:
    """The frames of a stream that is whole and has no empty line but those that end frames; together they are the stream."""
    ends = [m.end() for m in _BLANK.finditer(stream)]
    frames = [stream[a:b] for a, b in itertools.pairwise([0, *ends])]
    assert b"".join(frames) == stream
    return frames


def data_of(frame: bytes) -> tuple[bytes, bytes]:
    """Name and data of a frame of one data line (or none), read plainly."""
    name = data = b""
    for line in frame.splitlines():
        field_name, _, value = line.partition(b":")
        if field_name == b"event":
            name = value.removeprefix(b" ")
        elif field_name == b"data":
            data = value.removeprefix(b" ")
    return name, data


def neutral(protocol: ProtocolId, stream: bytes, operation: Operation | None = None) -> tuple[list[Event], Observer]:
    """What a stream says in neutral words."""
    observer = REGISTRY[protocol].observer(operation or OPERATIONS[protocol])
    events: list[Event] = []
    observer.sink = events
    for frame in frames_of(stream):
        name, data = data_of(frame)
        if data:
            observer.observe(name, data, 0.0)
    return events, observer
