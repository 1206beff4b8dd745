"""Which mode an answer gets, from its head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

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
from penstock.wire.encoding import GZIPPED, READABLE
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
DESCRIBED = READ | PROMISED | {Operation.MODELS, Operation.FILES, Operation.BATCHES}
"""Operations whose errors the protocol describes: what comes in another shape is told in its own."""
WRITTEN = READ - {Operation.AUDIO}
"""Those whose whole bodies are JSON and nothing else, whatever their heads call them."""


_BODILESS = (204, 205)
_VAGUE = (b"text/plain", b"application/octet-stream")
"""What servers say of streams of which they know nothing better to say."""


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
    predicted: bool = False
    """It answers Google's `:predict`: nothing is promised of it, and guards judge what is said in it."""
    usage_told: bool = True
    """With `pace`: the client gets the frame of usage that its protocol has on demand (`Peek.usage_asked`)."""


class Mode(msgspec.Struct, gc=False):
    pipeline: Pipeline
    streamed: bool
    """The client's body is a stream: framed in chunks whatever the upstream's framing, and ended in the protocol's words."""
    decoded: bool
    """The coding was taken off: `content-encoding` and `content-length` no longer hold."""


Make = Callable[[float, TailBytes | None], Pipeline]
"""`make(now, kept)`: the pipeline of one answer. `kept`: where the last bytes of a stream are to be kept."""


class Recipe(msgspec.Struct, frozen=True):
    """How every answer of one kind goes to its client: decided once for all that have the same `Answer`."""

    make: Make
    streamed: bool
    """These two as in `Mode`."""
    decoded: bool
    framed: bool = False
    """A `StreamRelay` is made."""
    remade: bool = False
    """A body is made from a stream, or a stream from a body."""


def compose(
    answer: Answer, spec: ProtocolSpec, limits: Limits, budget: Budget, now: float, kept: TailBytes | None = None, guards: Guards | None = None
) -> Mode:  # fmt: skip
    """The mode of one answer. `guards`: what may be said."""
    recipe = decide(answer, spec, limits, budget, guards)
    return Mode(recipe.make(now, kept), recipe.streamed, recipe.decoded)


def decide(answer: Answer, spec: ProtocolSpec, limits: Limits, budget: Budget, guards: Guards | None = None) -> Recipe:
    """Which kind of pipeline such answers get. `guards` as in `compose`."""
    operation = answer.operation
    guards = guards_of(guards, operation, answer.status, predicted=answer.predicted)
    recipe = _decide(answer, spec, limits, budget, guards)
    if guards is None:
        return recipe
    plain = recipe.make

    def make(now: float, kept: TailBytes | None) -> Pipeline:
        pipeline = plain(now, kept)
        start(pipeline, guards, spec, operation)
        return pipeline

    return msgspec.structs.replace(recipe, make=make)


def _decide(answer: Answer, spec: ProtocolSpec, limits: Limits, budget: Budget, guards: Guards | None) -> Recipe:
    operation, status, observer = answer.operation, answer.status, spec.observer
    gzip = answer.coding in GZIPPED
    kind = answer.content_type.partition(b";")[0].rstrip()
    good = status < 400
    streams = answer.stream_asked and answer.pace is None
    untold = status == 200 and not answer.array and (
        (not kind and (answer.folded or streams)) or (streams and kind in _VAGUE and operation in PROMISED))  # fmt: skip
    sse = good and not answer.stored and (kind == b"text/event-stream" or untold)
    json = kind.endswith((b"/json", b"+json"))
    array = good and not sse and answer.array and json
    unknown = answer.coding not in READABLE
    # Nothing else than an answer goes to a client that waits for one: but for redirections, what has no body, and pages, which are told as such.
    answered = 200 <= answer.status < 300 and answer.status not in _BODILESS and (unknown or kind != b"text/html")
    if answered and (answer.folded or (answer.pace is not None and not sse)):
        return _remade(answer, spec, limits, budget, guards, gzip=gzip, sse=sse)
    if unknown and (guards is None or not is_closed(guards)):
        coding = answer.coding.decode("latin-1")[:40]
        return Recipe(lambda now, _: OpaqueRelay(observer(operation), status, coding, budget, now), sse or array, False)
    kinds = kinds_of(guards, gzip=gzip)
    if (sse or array) and not unknown:
        frame, relay = limits.frame, kinds.array if array else kinds.stream
        scanner = Scanner if sse else ArraySplitter
        speak = _speak_in_array(spec) if array else spec.error_frame
        take_usage, promised, still = answer.take_usage, operation in PROMISED, SPACE if array else spec.keepalive
        closing = spec.closing if answer.repaired else b""

        def stream(now: float, kept: TailBytes | None) -> Pipeline:
            return relay(scanner(frame, budget), observer(operation), speak, now, take_usage, promised, still, closing, kept)

        return Recipe(stream, True, gzip, framed=True)
    read = operation in READ
    asked = (answer.stream_asked or answer.folded) and operation in PROMISED
    written = json or operation in WRITTEN
    keep = not unknown and (guards is not None or not good or (written and not answer.stored))
    judged = read and (written or asked)
    awaited = asked and not answer.folded and 200 <= status < 300

    def body(now: float, _: TailBytes | None) -> Pipeline:
        return kinds.body(
            observer(operation), status, limits.body, budget, now, keep=keep, judged=judged, delimited=answer.delimited, awaited=awaited)  # fmt: skip

    return Recipe(body, False, gzip or guards is not None)


def _remade(answer: Answer, spec: ProtocolSpec, limits: Limits, budget: Budget, guards: Guards | None, *, gzip: bool, sse: bool) -> Recipe:
    """A body from a stream, or a stream from a body."""
    kinds = kinds_of(guards, gzip=gzip)
    operation, pace = answer.operation, answer.pace
    closing = spec.closing if answer.repaired else b""
    # Who has another form of streams may answer in that (`alt=sse` is passed over by some): one object is a stream of one.
    splitter = partial(ArraySplitter, limits.frame, budget) if spec.array_asked is not None else None
    unread = f"it came in the coding {answer.coding.decode('latin-1')[:40]!r}" if answer.coding not in READABLE else ""

    def make(now: float, kept: TailBytes | None) -> Pipeline:
        if pace is None:
            pipeline = kinds.fold(
                Scanner(limits.frame, budget), spec, operation, limits.assembly, budget, now, splitter=splitter, typed=sse, closing=closing,
                kept=kept,
            )  # fmt: skip
        else:
            pipeline = kinds.pseudo(spec, operation, pace, limits.body, budget, now, array=answer.array, usage=answer.usage_told)
        if unread:
            pipeline.refuse(unread)
        return pipeline

    return Recipe(make, pace is not None, gzip, remade=True)


def _speak_in_array(spec: ProtocolSpec) -> Speak:
    """An error as an element of the protocol's array form."""
    element = spec.error_element

    def speak(fault: Fault, request_id: str, observer: Observer) -> bytes:
        return element(fault, request_id) if element is not None else spec.error_frame(fault, request_id, observer)

    return speak
