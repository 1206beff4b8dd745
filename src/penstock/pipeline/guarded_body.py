"""Answers that are held until their end and then judged whole: bodies, streams folded into a body, and bodies told as a stream.

Nothing has gone out when they are judged, so a rejection has its true status. A stream that is folded is judged frame by frame all the same: it is
ended as soon as it is rejected.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from penstock.pipeline.body import BodyRelay
from penstock.pipeline.contract import Pipeline, State
from penstock.pipeline.decoded import Decoded
from penstock.pipeline.fold import FULL, Fold
from penstock.pipeline.guarded import GuardedFrames, GuardedStream, fault_of_rejection, outcome_of_rejection
from penstock.pipeline.pseudo import Pseudo
from penstock.policy.asking import BodyJudge
from penstock.policy.bodies import guard_answer
from penstock.policy.guards import Guards, is_closed, let_pass
from penstock.policy.matcher import Findings, Rejection
from penstock.protocols.contract import ProtocolSpec
from penstock.vocabulary.errors import Fault
from penstock.vocabulary.ids import Operation
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
from penstock.wire.encoding import Gunzip

_NOBODY = Rejection("", "")


class Weighed(Pipeline):
    """Mixed in before what is given out as a whole: it may also be judged outside. `weigh` once all has come, and when what comes of it is done,
    `weighed`; then `conclude` and the rest as ever."""

    __slots__ = ()
    findings: Findings
    judging: BodyJudge | None

    @property
    def waiting(self) -> bool:
        return self.judging is not None and not self.judging.done

    def weigh(self, clean: bool, cause: str) -> BodyJudge | None:
        """What is to be asked; `None`: nothing, and nothing has changed but that it is known."""
        guards, self._judged_by = self._judged_by, None  # once
        body = self._to_be_weighed(clean, cause)
        if not body or guards is None or not guards.ask_answers:
            return None
        spec, operation = self._judged_as
        self.judging = BodyJudge("response", spec.id, operation, body, guards.ask_answers, guards.outsides, self.findings)
        return self.judging

    def weighed(self) -> None:
        judging, self.judging = self.judging, None
        assert judging is not None
        outside = self.findings.outside
        if outside is not None:
            self.findings.rejection = outside
        self._put(None if outside is not None else judging.body)

    _judged_by: Guards | None
    _judged_as: tuple[ProtocolSpec, Operation]

    @abstractmethod
    def _to_be_weighed(self, clean: bool, cause: str) -> bytes | None: ...

    @abstractmethod
    def _put(self, body: bytes | None) -> None:
        """`None`: it is rejected."""


class GuardedFold(Weighed, GuardedFrames, Fold):
    """A stream that becomes a body; or a body that came in its place, which is judged whole."""

    __slots__ = ("_guards", "_judged_as", "_judged_by", "blind", "closer", "editor", "findings", "judging", "request_id", "rest", "shut", "spec")

    def guard(self, guards: Guards, spec: ProtocolSpec, operation: Operation) -> None:
        super().guard(guards, spec, operation)
        self._guards = guards
        self.judging, self._judged_by, self._judged_as = None, guards, (spec, operation)

    def _to_be_weighed(self, clean: bool, cause: str) -> bytes | None:
        self.conclude(clean, cause)
        return self._body

    def _put(self, body: bytes | None) -> None:
        self._body = body
        if body is None:
            self._outcome = outcome_of_rejection(self.findings.rejection or _NOBODY)
            self.state = State.CUT
            self.close()

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

    def may_speak(self) -> bool:
        return False  # as any fold

    def deadline(self) -> float | None:
        return None  # nobody waits for a part of it

    def failure(self, request_id: str) -> tuple[int, bytes] | None:
        rejection = self.findings.rejection
        if rejection is not None:
            fault = fault_of_rejection(rejection)
            return fault.status, self.spec.error_body(fault, request_id)
        return super().failure(request_id)


class GuardedBody(Weighed, BodyRelay):
    """A body. `conclude`, then `whole` or `failure`. One that is larger than what is judged passes where every guard is open, as it came: then `feed`
    gives it out."""

    __slots__ = (
        "_guarded", "_guards", "_judged_as", "_judged_by", "_kept", "_operation", "_outcome", "_passes", "_spec", "_unheld", "findings", "judging",
    )  # fmt: skip

    def guard(self, guards: Guards, spec: ProtocolSpec, operation: Operation) -> None:
        """To be called before the first feed."""
        self._guards, self._spec, self._operation = guards, spec, operation
        self.findings = Findings()
        self._guarded: bytes | None = None
        self._outcome: Outcome | None = None
        self._unheld = self._passes = False
        self._kept = b""
        """Of one that passes, what came before that was known."""
        self.judging, self._judged_by, self._judged_as = None, guards, (spec, operation)

    def _to_be_weighed(self, clean: bool, cause: str) -> bytes | None:
        self.conclude(clean, cause)
        return self._guarded if self._status < 400 else None

    def _put(self, body: bytes | None) -> None:
        self._guarded = body
        if body is None:
            self._outcome = outcome_of_rejection(self.findings.rejection or _NOBODY)

    @property
    def gathers(self) -> bool:
        return True

    def feed(self, data: bytes, now: float) -> bytes:
        super().feed(data, now)
        if self._passes:
            return data
        self.bytes_out = 0
        if not self._keep and not self._unheld:
            self._unheld = True
            if is_closed(self._guards):
                self.state = State.BROKEN
            else:
                return self._pass(data)
        return b""

    def _pass(self, data: bytes) -> bytes:
        let_pass(self.findings, self._guards.answers, self._guards.ask_answers)
        self._passes = True
        out, self._kept = self._kept + data, b""
        self.bytes_out = len(out)
        return out

    def _too_large(self, data: bytes) -> None:
        if not is_closed(self._guards):
            self._kept = b"".join(self._parts)
        super()._too_large(data)

    def conclude(self, clean: bool, cause: str) -> Outcome:
        """The first call counts."""
        if self._outcome is None:
            self._outcome = self._conclude(clean, cause)
        return self._outcome

    def _conclude(self, clean: bool, cause: str) -> Outcome:
        if self._passes:
            return super().conclude(clean, cause)
        if self._unheld:
            # Kept is every answer but what nobody here can read.
            why = f"it is larger than what may be held of it, or {FULL}" if self._large else "it came in a coding that cannot be read here"
            return Outcome(Ending.CUT, f"the answer could not be judged: {why}", EndedBy.GATEWAY)
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


class GuardedPseudo(Weighed, Pseudo):
    """A body that becomes a stream."""

    __slots__ = ("_guards", "_judged_as", "_judged_by", "_known", "findings", "judging")

    def guard(self, guards: Guards, spec: ProtocolSpec, operation: Operation) -> None:
        """To be called before the first feed."""
        self._guards = guards
        self.findings = Findings()
        self._known = False
        """Our own guards have judged it."""
        self.judging, self._judged_by, self._judged_as = None, guards, (spec, operation)

    def _to_be_weighed(self, clean: bool, cause: str) -> bytes | None:
        if not clean or self._why or self._known:
            return None
        self._known = True
        body = b"".join(self._parts)
        super()._account(body)  # it is to be paid for, whatever becomes of it
        told = guard_answer(self._spec.id, self._operation, body, self._guards.answers, self.findings)
        self._parts = [told]
        return told if self.findings.rejection is None else None

    def _account(self, body: bytes) -> None:
        """It was, before its guards saw it."""

    def _put(self, body: bytes | None) -> None:
        self._parts = [body or b""]

    def _conclude(self, clean: bool, cause: str) -> Outcome:
        self._to_be_weighed(clean, cause)
        if self.findings.rejection is not None:
            self.state = State.CUT
            self.close()
            return outcome_of_rejection(self.findings.rejection)
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
