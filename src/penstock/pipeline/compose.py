"""Which mode an answer gets, from its head."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.pipeline.body import BodyRelay, OpaqueRelay
from penstock.pipeline.contract import Pipeline
from penstock.pipeline.decoded import DecodedBody, DecodedStream
from penstock.pipeline.stream import Speak, StreamRelay
from penstock.protocols.contract import Observer, ProtocolSpec
from penstock.vocabulary.errors import Fault
from penstock.wire.array import ArraySplitter
from penstock.wire.budget import Budget
from penstock.wire.sse import Scanner

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes."""

    frame: int = 64 * MIB
    """The largest frame that is held until it is whole."""
    body: int = 64 * MIB
    """The largest JSON body of which a copy is kept to be read."""


@dataclass(slots=True)
class Answer:
    """What a head says of the body behind it. `content_type` and `coding` in lower case, empty where absent."""

    status: int
    content_type: bytes
    coding: bytes
    delimited: bool
    stream_asked: bool
    array: bool
    """A stream that was asked for as a JSON array (Gemini without `alt=sse`)."""


@dataclass(slots=True)
class Mode:
    pipeline: Pipeline
    streamed: bool
    """The body is a stream: framed in chunks whatever the upstream's framing, and ended in the protocol's words."""
    decoded: bool
    """The coding was taken off: `content-encoding` and `content-length` no longer hold."""


def compose(answer: Answer, observer: Observer, spec: ProtocolSpec, limits: Limits, budget: Budget, now: float, *, take_usage: bool) -> Mode:
    gzip = answer.coding in (b"gzip", b"x-gzip")
    kind = answer.content_type
    good = answer.status < 400
    sse = good and (kind.startswith(b"text/event-stream") or (not kind and answer.stream_asked and not answer.array))
    array = good and not sse and answer.array and kind.startswith(b"application/json")
    if answer.coding not in (b"", b"identity") and not gzip:
        return Mode(OpaqueRelay(observer, answer.status, answer.coding.decode("latin-1")[:40], now), sse or array, False)
    if sse or array:
        scanner = Scanner(limits.frame, budget) if sse else ArraySplitter(limits.frame, budget)
        stream = DecodedStream if gzip else StreamRelay
        return Mode(stream(scanner, observer, _speak_in_array(spec) if array else spec.error_frame, now, take_usage=take_usage), True, gzip)
    body = DecodedBody if gzip else BodyRelay
    json = b"json" in kind
    return Mode(body(observer, answer.status, limits.body, budget, now, json=json, delimited=answer.delimited), False, gzip)


def _speak_in_array(spec: ProtocolSpec) -> Speak:
    """An error as an element of the protocol's array form."""
    element = spec.error_element

    def speak(fault: Fault, request_id: str, observer: Observer) -> bytes:
        return element(fault, request_id) if element is not None else spec.error_frame(fault, request_id, observer)

    return speak
