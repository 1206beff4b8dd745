"""Answers that are held until their end and then judged whole: bodies, streams folded into a body, and bodies told as a stream.

Nothing has gone out when they are judged, so a rejection has its true status. A stream that is folded is judged frame by frame all the same: it is
ended as soon as it is rejected.
"""

from __future__ import annotations

from typing import Any

from penstock.pipeline.body import BodyRelay
from penstock.pipeline.contract import State
from penstock.pipeline.decoded import Decoded
from penstock.pipeline.fold import FULL, Fold
from penstock.pipeline.guarded import GuardedFrames, GuardedStream, fault_of_rejection, outcome_of_rejection
from penstock.pipeline.pseudo import Pseudo
from penstock.policy.bodies import guard_answer
from penstock.policy.guards import Guards
from penstock.policy.matcher import Findings, Rejection
from penstock.protocols.contract import ProtocolSpec
from penstock.vocabulary.errors import Fault
from penstock.vocabulary.ids import Operation
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
from penstock.wire.encoding import Gunzip


class GuardedFold(GuardedFrames, Fold):
    """A stream that becomes a body; or a body that came in its place, which is judged whole."""

    __slots__ = ("_guards", "editor", "findings", "request_id", "rest", "spec")

    def guard(self, guards: Guards, spec: ProtocolSpec, operation: Operation) -> None:
        super().guard(guards, spec, operation)
        self._guards = guards

    def feed(self, data: bytes, now: float) -> bytes:
        super().feed(data, now)
        self.bytes_out = 0
        return b""

    def _conclude_body(self, parts: list[bytes], clean: bool, cause: str) -> Outcome:
        outcome = super()._conclude_body(parts, clean, cause)
        if self._body is not None:
            self._body = guard_answer(self.spec.id, self._operation, self._body, self._guards.answers, self.findings)
        rejection = self.findings.rejection
        if rejection is None:
            return outcome
        self._body = None
        self._cut(rejection)
        return outcome_of_rejection(rejection)

    def _cut(self, rejection: Rejection) -> bytes:
        self.state = State.CUT
        self.close()
        return b""

    def deadline(self) -> float | None:
        return None  # nobody waits for a part of it

    def failure(self, request_id: str) -> tuple[int, bytes] | None:
        rejection = self.findings.rejection
        if rejection is not None:
            fault = fault_of_rejection(rejection)
            return fault.status, self.spec.error_body(fault, request_id)
        return super().failure(request_id)


class GuardedBody(BodyRelay):
    """A body. `conclude`, then `whole` or `failure`."""

    __slots__ = ("_guarded", "_guards", "_operation", "_outcome", "_spec", "_too_much", "findings")

    def guard(self, guards: Guards, spec: ProtocolSpec, operation: Operation) -> None:
        """To be called before the first feed."""
        self._guards, self._spec, self._operation = guards, spec, operation
        self.findings = Findings()
        self._guarded: bytes | None = None
        self._outcome: Outcome | None = None
        self._too_much = False

    @property
    def gathers(self) -> bool:
        return True

    def feed(self, data: bytes, now: float) -> bytes:
        super().feed(data, now)
        self.bytes_out = 0
        if not self._keep and not self._too_much:
            self._too_much = True
            self.state = State.BROKEN
        return b""

    def conclude(self, clean: bool, cause: str) -> Outcome:
        """The first call counts."""
        if self._outcome is None:
            self._outcome = self._conclude(clean, cause)
        return self._outcome

    def _conclude(self, clean: bool, cause: str) -> Outcome:
        if self._too_much:
            return Outcome(Ending.CUT, f"the answer could not be judged: it is larger than what may be held of it, or {FULL}", EndedBy.GATEWAY)
        body = b"".join(self._parts)
        outcome = super().conclude(clean, cause)
        if outcome.ending in (Ending.UPSTREAM_LOST, Ending.TRUNCATED):
            return outcome
        if self._status < 400:
            told = guard_answer(self._spec.id, self._operation, body, self._guards.answers, self.findings)
            if self.findings.rejection is not None:
                return outcome_of_rejection(self.findings.rejection)
            body = told
        self._guarded = body
        return outcome

    def whole(self) -> bytes | None:
        return self._guarded

    def failure(self, request_id: str) -> tuple[int, bytes] | None:
        outcome, rejection = self._outcome, self.findings.rejection
        if outcome is None or self._guarded is not None:
            return None
        if rejection is not None:
            fault = fault_of_rejection(rejection)
        else:
            fault = Fault(fault_of_rejection(Rejection("", "")).kind, 502, f"The provider's answer could not be used: {outcome.cause}.")
        return fault.status, self._spec.error_body(fault, request_id)

    def end(self, fault: Fault | None, request_id: str) -> bytes:
        out = self._guarded or b"" if fault is None else b""
        self.bytes_out += len(out)
        self.close()
        return out


class GuardedPseudo(Pseudo):
    """A body that becomes a stream."""

    __slots__ = ("_guards", "findings")

    def guard(self, guards: Guards, spec: ProtocolSpec, operation: Operation) -> None:
        """To be called before the first feed."""
        del spec, operation
        self._guards = guards
        self.findings = Findings()

    def _conclude(self, clean: bool, cause: str) -> Outcome:
        if clean and not self._why:
            body = b"".join(self._parts)
            told = guard_answer(self._spec.id, self._operation, body, self._guards.answers, self.findings)
            if self.findings.rejection is not None:
                self.state = State.CUT
                self.close()
                return outcome_of_rejection(self.findings.rejection)
            self._parts = [told]
        return super()._conclude(clean, cause)

    def failure(self, request_id: str) -> tuple[int, bytes] | None:
        rejection = self.findings.rejection
        if rejection is not None:
            fault = fault_of_rejection(rejection)
            return fault.status, self._spec.error_body(fault, request_id)
        return super().failure(request_id)


class DecodedGuardedStream(Decoded, GuardedStream):
    __slots__ = ("gunzip",)

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.gunzip = Gunzip()


class DecodedGuardedFold(Decoded, GuardedFold):
    __slots__ = ("gunzip",)

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.gunzip = Gunzip()


class DecodedGuardedBody(Decoded, GuardedBody):
    __slots__ = ("gunzip",)

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.gunzip = Gunzip()


class DecodedGuardedPseudo(Decoded, GuardedPseudo):
    __slots__ = ("gunzip",)

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.gunzip = Gunzip()
