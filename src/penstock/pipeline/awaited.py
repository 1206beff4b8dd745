"""A guarded stream whose texts are also judged outside: what has come waits, frame by frame, for its verdicts (`policy.awaiting`).

Rules
-----
- Two observers: the account is of what the provider said, as it came, for it is to be paid; `told` knows what the client has, for errors, ends and
  the last bytes go on from there. Keep-alives pass meanwhile, for the client is always behind a whole frame.
- The terminal event goes out with the last verdict, and only then has the stream ended. An end without one (`over`) waits as well.
- A rejection drops all that waits, and ends the answer as any rejection does. A rejection by a guard of ours comes behind the text before it,
  once that has been judged.
- The silence while a verdict is waited for is not the provider's (`waiting`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from penstock.pipeline.array_relay import MOST_HELD
from penstock.pipeline.contract import State
from penstock.pipeline.decoded import Decoded
from penstock.pipeline.guarded import GuardedFrames, fault_of_rejection
from penstock.policy.awaiting import Awaiting
from penstock.policy.editors import EDITORS
from penstock.policy.guards import Guards
from penstock.policy.matcher import Findings, Hold, Rejection
from penstock.policy.outside import Question, Verdict
from penstock.protocols.contract import CONTENT, Closer, Observer, ProtocolSpec
from penstock.vocabulary.errors import Fault
from penstock.vocabulary.ids import Operation
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
from penstock.wire.array import ArraySplitter
from penstock.wire.budget import Budget
from penstock.wire.encoding import Gunzip
from penstock.wire.sse import Frame, Scanner

_ANY = 1 << 62
"""Bytes of a frame that was within its limit when it came."""
_RUNNING, _ENDED, _CUT = State.RUNNING, State.ENDED, State.CUT


class AwaitedStream(GuardedFrames):
    __slots__ = (
        "_again", "_bracket", "_cutting", "_elements", "_ends", "_first_told", "_over", "_see", "_shut_told", "_unheard", "_unread", "_unread_told",
        "awaiting", "blind", "closer", "editor", "findings", "request_id", "rest", "shut", "spec", "told",
    )  # fmt: skip

    def guard(self, guards: Guards, spec: ProtocolSpec, operation: Operation) -> None:
        self._see: Callable[[bytes, bytes], None] | None = None
        super().guard(guards, spec, operation)
        ahead, behind = (EDITORS[spec.id]({}, Findings(), Hold()) for _ in range(2))
        self.awaiting = Awaiting(ahead, behind, guards.ask_answers, guards.windows, self.findings)
        self.told: Observer = spec.observer(operation)
        """What the client has been told."""
        budget = Budget(4 * self._scanner.limit)
        self._again: Scanner | ArraySplitter = Scanner(_ANY, budget) if self._array is None else ArraySplitter(_ANY, budget)
        """Takes what our own guards let through apart again: whole frames, as large as their masks have made them."""
        self._elements = 0
        self._first_told = False
        self._unread = self._unread_told = self._shut_told = False
        self._bracket = b""
        """Of an array without a proper end: what has not left, from its closing bracket on."""
        self._over = False
        """Nothing more comes; what has come may still wait."""
        self._ends = False
        """With the terminal event."""
        self._unheard = False
        self._cutting: Rejection | None = None

    # -- what comes -------------------------------------------------------------------------------------------------------------------

    def feed(self, data: bytes, now: float) -> bytes:
        if self.state is not _RUNNING or self._over:
            return b""
        before = self.bytes_out
        out = super().feed(data, now)
        self.bytes_out = before
        return self._pass(out, now)

    def _pass(self, out: bytes, now: float) -> bytes:
        """What may leave of all that has come, `out` last."""
        if self._unheard:
            return b""
        awaiting = self.awaiting
        if self._scanner.overflowed:
            self._again.limit = 2 * self._scanner.limit  # from here on there may be pieces
        for frame in self._again.feed(out) if out else ():
            name, payload, raw = frame
            awaiting.add(frame, name, payload, len(raw), now)
            if payload is None and not self._unread and self._unreadable(raw):
                self._unread = True
                awaiting.cannot("it could not be read")
        if (self.state is _ENDED or self._cutting is not None) and not self._over:
            self._over = True
            awaiting.end()
        return self._release(now)

    def _release(self, now: float) -> bytes:
        awaiting, findings = self.awaiting, self.findings
        out: list[bytes] = []
        for frame, data in awaiting.released(now):
            out.append(self._tell(frame, data, now))
        if findings.outside is not None:
            findings.rejection = findings.outside
            out.append(self._words(findings.outside))
        elif awaiting.waiting:
            if self.state is _ENDED:
                self.state, self._ends = _RUNNING, True
        elif self._cutting is not None:
            out.append(self._words(self._cutting))
        elif self._ends:
            self.state = _ENDED
        told = b"".join(out)
        self.bytes_out += len(told)
        return told

    def _tell(self, frame: Frame, data: bytes | None, now: float) -> bytes:
        """One frame goes out."""
        [(name, payload, raw)] = [frame] if data is None else self._told(frame, [], data)
        if payload is not None:
            self._elements += 1
            if self._see is not None:
                self._see(name, payload)
            try:
                mark = self.told.observe(name, payload, now)
            except Exception:  # law 5: counted, as in `stream`
                self.failures += 1
                mark = 0
            if mark & CONTENT and not self._first_told:
                self._first_told = True
                self.first_content_at = now
        elif self._unreadable(raw):
            self._unread_told = True
        elif self._bracket or b"]" in raw:
            raw = self._held_or_shut(raw)
        if self._unread_told and self._bracket:
            raw, self._bracket, self._shut_told = self._bracket + raw, b"", True
        if self._kept is not None:
            self._kept.add(raw)
        return raw

    def _held_or_shut(self, raw: bytes) -> bytes:
        """The closing bracket of an array, or what comes behind it, goes out: behind a proper end only (`array_relay`)."""
        told, array = self.told, self._array
        ends_well = array is None or array.single or self.failures or told.error is not None or not self._promised or told.closable()
        raw, self._bracket = self._bracket + raw, b""
        if not (ends_well or self._shut_told or self._unread_told or len(raw) > MOST_HELD):
            self._bracket, raw = raw, b""
        else:
            self._shut_told = True
        return raw

    def _scan_guarded(self, data: bytes) -> list[Frame]:
        return self._edited(self._scanner.feed(data))  # the last bytes are kept when they leave

    def attend(self, see: Callable[[bytes, bytes], None]) -> None:
        before = self._see

        def both(name: bytes, data: bytes) -> None:
            if before is not None:
                before(name, data)
            see(name, data)

        self._see = both if before is not None else see

    def close_with(self, closer: Closer) -> None:
        self.attend(closer.see)

    # -- ends -------------------------------------------------------------------------------------------------------------------------

    def over(self, now: float) -> bytes:
        """The provider has ended its answer, in whatever way: what may leave. What waits for verdicts goes on waiting."""
        if self._over or self.state is not _RUNNING:
            return b""
        out = b""
        if self.rest is None:
            self.rest = b""
            told = self.editor.flush(self.last_at)
            out = self._give(told, self.last_at) if self.findings.rejection is None else self._cut(self.findings.rejection)
        passed = self._pass(out, now)
        if not self._over:
            self._over = True
            self.awaiting.end()
            passed += self._release(now)
        return passed

    def _cut(self, rejection: Rejection) -> bytes:
        """A guard of ours rejects: said behind all that came before."""
        if self._unheard:
            self.state = _CUT
        self._cutting = rejection
        self.awaiting.cutting = True
        return b""

    def _words(self, rejection: Rejection) -> bytes:
        """The last bytes for the client."""
        speaks = self.may_speak()
        self.state = _CUT
        self._cutting = None
        self.awaiting.drop()
        if not speaks:
            return b""
        told = None if self.told.tools or rejection.in_stream == "error" else self._stop_words(self.awaiting.told, self.told)
        fault = fault_of_rejection(rejection)
        if self._array is not None:
            element = self.spec.error_element
            said = b",".join([data for _, data in told]) if told is not None else element(fault, self.request_id) if element is not None else b""
            return (b"," if self._opened else b"[") + said + b"]"
        return self._bytes_of(told) if told is not None else self.spec.error_frame(fault, self.request_id, self.told)

    @property
    def _opened(self) -> bool:
        return self._elements > 0

    def may_speak(self) -> bool:
        if self.state in (_ENDED, _CUT) or not self._promised or self._unread_told or self.failures or self.told.error is not None:
            return False
        return self._array is None or not self._is_shut(self._array)

    def _is_shut(self, array: ArraySplitter) -> bool:
        return self._shut_told or (array.single and self._opened)

    @property
    def has_error(self) -> bool:
        return super().has_error and self.told.error is not None

    @property
    def mute(self) -> bool:
        return self.state is _CUT and self._unread_told

    def conclude(self, clean: bool, cause: str) -> Outcome:
        if self.rest is None:
            self.rest = b""  # what our own guards hold yet has not been judged outside
        failed = self.observer.error is not None and not self._opened  # nothing but that was told of it, with a status
        if self.state is not _CUT and not self._unheard and self.awaiting.waiting and not failed:
            return Outcome(Ending.TRUNCATED, "it ended while text of it waited for a guard", EndedBy.GATEWAY)
        return super().conclude(clean, cause)

    def end(self, fault: Fault | None, request_id: str) -> bytes:
        self._scanner.close()  # half a frame has not been judged
        if self.state is _CUT or fault is None:
            return super().end(fault, request_id)
        speaks = self.may_speak()
        self.awaiting.drop()
        out = self._speak(fault, request_id, self.told) if speaks else b""
        if self._array is not None and out:
            out = (b"," if self._opened else b"[") + out + b"]"
        elif self._array is not None and self.has_error and not self._is_shut(self._array):
            out = b"]"
        self.bytes_out += len(out)
        return out

    def stop(self, frames: Sequence[tuple[bytes, bytes]]) -> bytes:
        self.awaiting.drop()
        return super().stop(frames)

    def unheard(self) -> None:
        """The client has left: nothing is judged any more, and nothing given out."""
        self._unheard = True
        if self._cutting is not None and self.state is _RUNNING:
            self.state = _CUT
        self.awaiting.drop()

    def close(self) -> None:
        self.awaiting.drop()
        super().close()

    # -- outside ----------------------------------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> bool:
        """Text that waits only for more of its call's arguments waits for the provider."""
        awaiting = self.awaiting
        return self.state is _RUNNING and (awaiting.waiting if self._over else awaiting.asking)

    @property
    def full(self) -> bool:
        """As much waits as may: the provider is not to be read."""
        return self.state is _RUNNING and self.awaiting.full

    @property
    def eased(self) -> bool:
        return self.state is not _RUNNING or self.awaiting.eased

    def wants(self) -> list[Question]:
        return self.awaiting.wants()

    def verdict(self, question_id: int, verdict: Verdict, now: float) -> bytes:
        if self.state is not _RUNNING or self._unheard:
            return b""
        self.awaiting.verdict(question_id, verdict)
        return self._release(now)

    def deadline(self) -> float | None:
        if self.state is not _RUNNING or self._unheard:
            return None
        return min((due for due in (super().deadline(), self.awaiting.deadline()) if due is not None), default=None)

    def tick(self, now: float) -> bytes:
        if self.state is not _RUNNING or self._unheard:
            return b""
        before = self.bytes_out
        out = super().tick(now)
        self.bytes_out = before
        self.awaiting.expire(now)
        return self._pass(out, now)


class DecodedAwaitedStream(Decoded, AwaitedStream):
    __slots__ = ("gunzip",)

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.gunzip = Gunzip()
