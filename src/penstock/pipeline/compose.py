"""Which mode an answer gets, from its head."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from penstock.pipeline.body import OpaqueRelay
from penstock.pipeline.contract import Pipeline
from penstock.pipeline.guarding import guards_of, kinds_of, start
from penstock.pipeline.pseudo import Pace
from penstock.pipeline.stream import Speak
from penstock.pipeline.tail import TailBytes
from penstock.pipeline.unbegun import SPACE
from penstock.policy.guards import Guards, is_closed
from penstock.protocols.contract import Observer, ProtocolSpec
from penstock.vocabulary.errors import Fault
from penstock.vocabulary.ids import GENERATING, Operation
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
    """The largest JSON body of which a copy is kept to be read, or that is told as a stream."""
    assembly: int = 64 * MIB
    """The most that is held of a stream which is folded into a body."""


PROMISED = frozenset({
    Operation.CHAT, Operation.COMPLETIONS, Operation.RESPONSES, Operation.MESSAGES, Operation.GENERATE, Operation.RESPONSE_ITEM,
})  # fmt: skip
"""Operations whose streams their protocol ends with a terminal event. Of all others nothing is promised: a clean end is their end."""
READ = GENERATING | {Operation.COUNT_TOKENS}
"""Operations whose whole bodies the protocol describes. Others are looked into, and nothing is held against them."""


class Answer(msgspec.Struct, gc=False):
    """What a head says of the body behind it. `content_type` and `coding` in lower case, empty where absent."""

    operation: Operation
    status: int
    content_type: bytes
    coding: bytes
    delimited: bool
    """The framing says where the body ends."""
    stream_asked: bool
    array: bool
    """A stream that was asked for as a JSON array (Gemini without `alt=sse`)."""
    take_usage: bool = False
    """Usage was asked for that the client had not asked for: its frame is taken out again."""
    stored: bool = False
    """The body is a file of somebody's and no word of the provider's: not kept, not read."""
    repaired: bool = False
    """The provider never sends the frame that closes its streams; they are completed with it."""
    folded: bool = False
    """The provider was asked for a stream (`ProtocolSpec.ask_stream`) by a client that wants a body; `stream_asked` is what the client did."""
    pace: Pace | None = None
    """The provider was asked for a body (`ProtocolSpec.ask_whole`) by a client that wants a stream."""
    usage_told: bool = True
    """With `pace`: the client gets the frame of usage that its protocol has on demand (`Peek.usage_asked`)."""


class Mode(msgspec.Struct, gc=False):
    pipeline: Pipeline
    streamed: bool
    """The client's body is a stream: framed in chunks whatever the upstream's framing, and ended in the protocol's words."""
    decoded: bool
    """The coding was taken off: `content-encoding` and `content-length` no longer hold."""


def compose(
    answer: Answer, spec: ProtocolSpec, limits: Limits, budget: Budget, now: float, kept: TailBytes | None = None, guards: Guards | None = None
) -> Mode:  # fmt: skip
    """`kept`: where the last bytes of a stream are to be kept. `guards`: what may be said."""
    guards = guards_of(guards, answer.operation, answer.status)
    mode = _compose(answer, spec, limits, budget, now, kept, guards)
    start(mode.pipeline, guards, spec, answer.operation)
    return mode


def _compose(
    answer: Answer, spec: ProtocolSpec, limits: Limits, budget: Budget, now: float, kept: TailBytes | None, guards: Guards | None
) -> Mode:  # fmt: skip
    operation = answer.operation
    observer = spec.observer(operation)
    gzip = answer.coding in (b"gzip", b"x-gzip")
    kind = answer.content_type.partition(b";")[0].rstrip()
    good = answer.status < 400
    untold = not kind and answer.status == 200 and not answer.array and (answer.folded or (answer.stream_asked and answer.pace is None))
    sse = good and not answer.stored and (kind == b"text/event-stream" or untold)
    json = kind.endswith((b"/json", b"+json"))
    array = good and not sse and answer.array and json
    # Who was asked for a stream and has another form of it too may answer in that (`alt=sse` is passed over by some): one object is a stream of one.
    unsaid = answer.folded and json and spec.array_asked is not None
    if good and (unsaid or (answer.folded and sse) or (answer.pace is not None and not sse)):
        return _remade(answer, spec, limits, budget, now, kept, guards, gzip=gzip, sse=sse)
    unknown = answer.coding not in (b"", b"identity") and not gzip
    if unknown and (guards is None or not is_closed(guards)):
        return Mode(OpaqueRelay(observer, answer.status, answer.coding.decode("latin-1")[:40], budget, now), sse or array, False)
    kinds = kinds_of(guards, gzip=gzip)
    if (sse or array) and not unknown:
        scanner = Scanner(limits.frame, budget) if sse else ArraySplitter(limits.frame, budget)
        speak = _speak_in_array(spec) if array else spec.error_frame
        relay = kinds.stream(
            scanner, observer, speak, now, take_usage=answer.take_usage, promised=operation in PROMISED, still=SPACE if array else spec.keepalive,
            closing=spec.closing if answer.repaired else b"", kept=kept,
        )  # fmt: skip
        return Mode(relay, True, gzip)
    read = operation in READ
    asked = (answer.stream_asked or answer.folded) and operation in PROMISED
    return Mode(
        kinds.body(
            observer, answer.status, limits.body, budget, now,
            keep=not unknown and (guards is not None or not good or (json and not answer.stored)), judged=read and (json or asked),
            delimited=answer.delimited,
        ),
        False,
        gzip or guards is not None,
    )  # fmt: skip


def _remade(
    answer: Answer, spec: ProtocolSpec, limits: Limits, budget: Budget, now: float, kept: TailBytes | None, guards: Guards | None, *,
    gzip: bool, sse: bool,
) -> Mode:  # fmt: skip
    """A body from a stream, or a stream from a body."""
    kinds = kinds_of(guards, gzip=gzip)
    if answer.pace is None:
        closing = spec.closing if answer.repaired else b""
        scanner = Scanner(limits.frame, budget) if sse else ArraySplitter(limits.frame, budget)
        pipeline = kinds.fold(scanner, spec, answer.operation, limits.assembly, budget, now, closing=closing, kept=kept)
    else:
        pipeline = kinds.pseudo(spec, answer.operation, answer.pace, limits.body, budget, now, array=answer.array, usage=answer.usage_told)
    if answer.coding not in (b"", b"identity") and not gzip:
        pipeline.refuse(f"it came in the coding {answer.coding.decode('latin-1')[:40]!r}")
    return Mode(pipeline, answer.pace is not None, gzip)


def _speak_in_array(spec: ProtocolSpec) -> Speak:
    """An error as an element of the protocol's array form."""
    element = spec.error_element

    def speak(fault: Fault, request_id: str, observer: Observer) -> bytes:
        return element(fault, request_id) if element is not None else spec.error_frame(fault, request_id, observer)

    return speak
