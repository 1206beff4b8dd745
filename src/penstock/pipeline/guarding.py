"""Which kind of pipeline a mode gets: the plain one, or the one that judges what passes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from penstock.pipeline.array_relay import ArrayRelay, DecodedArray
from penstock.pipeline.awaited import AwaitedStream, DecodedAwaitedStream
from penstock.pipeline.body import BodyRelay, OpaqueRelay
from penstock.pipeline.contract import Pipeline
from penstock.pipeline.decoded import DecodedBody, DecodedFold, DecodedPseudo, DecodedStream
from penstock.pipeline.fold import Fold
from penstock.pipeline.guarded import GuardedFrames, GuardedStream
from penstock.pipeline.guarded_array import DecodedGuardedArray, GuardedArray
from penstock.pipeline.guarded_body import (
    DecodedGuardedBody,
    DecodedGuardedFold,
    DecodedGuardedPseudo,
    DecodedGuardedStream,
    GuardedBody,
    GuardedFold,
    GuardedPseudo,
)
from penstock.pipeline.pseudo import Pseudo
from penstock.pipeline.stream import StreamRelay
from penstock.policy.guards import Guards, let_pass
from penstock.policy.matcher import Findings
from penstock.protocols.contract import ProtocolSpec
from penstock.vocabulary.ids import Operation

JUDGED = frozenset({
    Operation.CHAT, Operation.COMPLETIONS, Operation.RESPONSES, Operation.MESSAGES, Operation.GENERATE, Operation.RESPONSE_ITEM,
})  # fmt: skip
"""Operations whose answers a model speaks in."""


@dataclass(frozen=True, slots=True)
class Kinds:
    stream: type[StreamRelay]
    array: type[StreamRelay]
    body: type[BodyRelay]
    fold: type[Fold]
    pseudo: type[Pseudo]


_PLAIN = Kinds(StreamRelay, ArrayRelay, BodyRelay, Fold, Pseudo), Kinds(DecodedStream, DecodedArray, DecodedBody, DecodedFold, DecodedPseudo)
_GUARDED = (
    Kinds(GuardedStream, GuardedArray, GuardedBody, GuardedFold, GuardedPseudo),
    Kinds(DecodedGuardedStream, DecodedGuardedArray, DecodedGuardedBody, DecodedGuardedFold, DecodedGuardedPseudo),
)  # fmt: skip
_AWAITED = (
    replace(_GUARDED[0], stream=AwaitedStream, array=AwaitedStream),
    replace(_GUARDED[1], stream=DecodedAwaitedStream, array=DecodedAwaitedStream),
)


def kinds_of(guards: Guards | None, *, gzip: bool) -> Kinds:
    """`guards`: those that judge this answer."""
    return (_PLAIN if guards is None else _AWAITED if guards.ask_answers else _GUARDED)[gzip]


def guards_of(guards: Guards | None, operation: Operation, status: int, *, predicted: bool = False) -> Guards | None:
    """Those that judge this answer; an error is the provider's own word and no model's."""
    return guards if guards is not None and guards.judges_answers and (predicted or operation in JUDGED) and status < 400 else None


def identify(pipeline: Pipeline, request_id: str) -> None:
    """What a pipeline of a guarded kind names in an error that it puts into the stream."""
    if isinstance(pipeline, GuardedFrames):
        pipeline.request_id = request_id


def start(pipeline: Pipeline, guards: Guards | None, spec: ProtocolSpec, operation: Operation) -> None:
    """Give a pipeline of a guarded kind what it judges by."""
    if guards is None:
        return
    if isinstance(pipeline, GuardedFrames | GuardedBody | GuardedPseudo):
        pipeline.guard(guards, spec, operation)
    elif isinstance(pipeline, OpaqueRelay):
        pipeline.findings = Findings()
        let_pass(pipeline.findings, guards.answers, guards.ask_answers)
