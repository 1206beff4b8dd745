"""A stream whose texts are judged on their way (`policy`).

Rules
-----
- A frame with nothing suspicious in it leaves as the provider's own bytes, in the callback that brought it. Where text is held or masked, its
  frame is written again with that text changed (`policy.editing`), at the same place, with the same lines around its data.
- What the observer, the record of the last events and the last bytes see is what the client sees, but for the usage in a frame that is rejected.
- A rejection ends the answer at once (`State.CUT`): nothing of the frame that brought it about leaves. While a tool call is open it is an error of
  the stream, so that nobody runs half a call; else the protocol's own word for a policy's end, or an error where that was configured.
- What cannot be judged (a frame over the limit, one that is not JSON, an array that is none) is rejected if any guard is closed.
"""

from __future__ import annotations

from msgspec.structs import replace

from penstock.pipeline.contract import State
from penstock.pipeline.stream import StreamRelay
from penstock.policy.editing import Editor, Told
from penstock.policy.editors import EDITORS
from penstock.policy.guards import Guards
from penstock.policy.matcher import Findings, Rejection
from penstock.protocols.contract import Closer, Observer, ProtocolSpec
from penstock.vocabulary.errors import Fault, FaultKind
from penstock.vocabulary.events import StopReason
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
from penstock.vocabulary.usage import Usage
from penstock.wire.array import ArraySplitter
from penstock.wire.sse import Frame, parse

_CUT = State.CUT
_BOM = b"\xef\xbb\xbf"
_AROUND = b" \t\r\n,"
"""Between the elements of an array, and behind it."""
REFUSAL = "The request or its answer was blocked by a policy of this gateway."


def fault_of_rejection(rejection: Rejection, status: int = 403) -> Fault:
    """What a client is told where there is no better word for it."""
    if rejection.bad_request:
        return Fault(FaultKind.BAD_REQUEST, 400, rejection.message)
    return Fault(FaultKind.CUT, status, rejection.message or REFUSAL)


def outcome_of_rejection(rejection: Rejection) -> Outcome:
    return Outcome(Ending.CUT, f"guard {rejection.guard!r} rejected the answer: {rejection.why}", EndedBy.GATEWAY)


def rendered(name: bytes, data: bytes, end: bytes = b"\n") -> bytes:
    """A frame of ours. `end`: of its lines."""
    return end.join([b"event: " + name, b"data: " + data, b"", b""] if name else [b"data: " + data, b"", b""])


def rewritten(raw: bytes, data: bytes) -> bytes:
    """The frame `raw` with other data; its other lines and its line ends stay."""
    lines: list[bytes] = []
    told = False
    for line in raw.removeprefix(_BOM).splitlines():
        if not line.startswith(b"data"):
            if line:
                lines.append(line)
        elif not told:
            told = True
            lines.append(b"data: " + data)
    return _end_of(raw).join([*lines, b"", b""])


def _end_of(raw: bytes) -> bytes:
    return b"\r\n" if b"\r\n" in raw else b"\r" if raw.endswith(b"\r") else b"\n"


class GuardedFrames(StreamRelay):
    """Mixed in before a relay of streams."""

    __slots__ = ()
    closer: Closer | None
    """Follows a stream whose protocol tells at the end once more what it said (Responses), where some guard may reject it."""
    editor: Editor
    findings: Findings
    spec: ProtocolSpec
    rest: bytes | None
    blind: bool
    """Bytes were given out that were not understood, because every guard is open."""
    shut: bool
    """The closing bracket of the array has left."""
    request_id: str
    """Named by an error that a guard puts into the stream; empty until `guarding.identify` says it."""

    def guard(self, guards: Guards, spec: ProtocolSpec, operation: Operation) -> None:
        """To be called before the first feed."""
        self.spec = spec
        self.findings = Findings()
        self.editor = EDITORS[spec.id](guards.answers, self.findings, guards.hold)
        self.rest = None
        self.blind = self.shut = False
        self.request_id = ""
        self.closer = None
        self._feed = self._scan_guarded
        if spec.id is ProtocolId.OPENAI_RESPONSES and spec.closer is not None and guards.may_reject and not self.gathers:
            self.closer = spec.closer(operation)
            self.attend(self.closer.see)

    def feed(self, data: bytes, now: float) -> bytes:
        if self.state is _CUT:
            return b""
        if len(data) <= self._quick:
            data = self._edited_read(data, now)
        out = super().feed(data, now) if self.findings.rejection is None else b""
        if self.findings.rejection is not None:
            last = self._cut(self.findings.rejection)
            self.bytes_out += len(last)
            out += last
        return out

    def _edited_read(self, data: bytes, now: float) -> bytes:
        """The read as it may leave, where it is one ordinary frame; empty: it is rejected. All else goes the thorough way, and through the editor."""
        name = b""
        line, _, rest = data.partition(b"\n")
        if rest != b"\n":
            name = line.removeprefix(b"event: ")
            if name is line:
                self._quick = -1
                return data
            line, _, rest = rest.partition(b"\n")
        payload = line.removeprefix(b"data: ")
        if rest != b"\n" or payload is line or 13 in data:
            self._quick = -1
            return data
        editor = self.editor
        if editor.quick(name, payload, now):
            return data
        if editor.seen is None:
            self._quick = -1
            return data
        edit = editor.edit(name, payload, now)
        if self.findings.rejection is not None:
            self.largest_gap = max(self.largest_gap, now - self.last_at)
            self.last_at = now
            self._account(name, payload, now)
            return b""
        if edit is None or edit.data is None:
            return data
        told = data[: -len(payload) - 2] + edit.data + b"\n\n"
        if len(told) > self._quick:
            self._feed = self._scan_told
        return told

    def _scan_told(self, data: bytes) -> list[Frame]:
        """A frame that is larger than one may be only because of what stands in it for what was masked: it has been judged, and is not scanned."""
        self._feed = self._scan_guarded
        self._scanner.whole = True
        return [(*parse(data), data)]

    def _scan_guarded(self, data: bytes) -> list[Frame]:
        frames = self._edited(self._scanner.feed(data))
        if self._kept is not None:
            self._kept.add(b"".join([raw for _, _, raw in frames]))
        return frames

    def _scan_late(self, data: bytes) -> list[Frame]:
        data = self._lead + data
        if len(data) < 3 and _BOM.startswith(data):
            self._lead = data
            self._scanner.whole = False
            return []
        self._lead = b""
        self._feed = self._scan_guarded
        frames = self._scan_guarded(data.removeprefix(_BOM))
        self._scanner.whole = False  # what leaves is not what came in the last feed
        return frames

    def _edited(self, frames: list[Frame]) -> list[Frame]:
        """The frames as they may leave; none from the one on that is rejected."""
        editor, now = self.editor, self.last_at
        for place, (name, payload, _) in enumerate(frames):
            if payload is None or not editor.quick(name, payload, now):
                return self._rewritten(frames, place)
        return frames

    def _rewritten(self, frames: list[Frame], place: int) -> list[Frame]:
        """From `place` on a frame may change."""
        editor, findings, now, array = self.editor, self.findings, self.last_at, self._array
        out = frames[:place]
        changed = False
        for frame in frames[place:]:
            name, payload, _ = frame
            before: list[Told] = []
            data: bytes | None = None
            if payload is not None:
                edit = editor.edit(name, payload, now)
                if edit is not None:
                    before, data = edit
            elif self._unreadable(frame[2]):
                if not self.blind:
                    editor.cannot("it could not be read")
                self.blind = self.blind or findings.rejection is None
            elif array is not None and array.closed:
                before = editor.flush(now)
            if findings.rejection is not None:
                if payload is not None:
                    self._account(name, payload, now)
                changed = True
                break
            if before or data is not None:
                changed = True
                out += self._told(frame, before, data)
                self.events -= len(before)
            else:
                out.append(frame)
            if payload is None and array is not None and b"]" in frame[2]:
                self.shut = True
        if changed:
            self._scanner.whole = False
        return out

    def _account(self, name: bytes, data: bytes, now: float) -> None:
        """What a frame that is rejected says of usage counts: it was made, and is to be paid. Nothing else of it has been."""
        seen = type(self.observer)()
        try:
            seen.observe(name, data, now)
            stated = {field: value for field in Usage.__struct_fields__ if (value := getattr(seen.usage, field)) is not None}
        except Exception:  # Law 5
            return
        if stated:
            self.observer.usage = replace(self.observer.usage, **stated)

    def _unreadable(self, raw: bytes) -> bool:
        """Is `raw`, a frame without data, more than what stands between frames?"""
        array = self._array
        if self._scanner.overflowed or array is None:
            return self._scanner.overflowed
        return not array.understood or (array.closed and raw.strip(_AROUND) not in (b"", b"]"))

    def _told(self, frame: Frame, before: list[Told], data: bytes | None) -> list[Frame]:
        """`before`, and the frame with `data` in the place of its own; `None`: as it came."""
        name, payload, raw = frame
        if self._array is None:
            end = _end_of(raw)
            made = [(n, d, rendered(n, d, end)) for n, d in before]
            return [*made, frame if data is None else (name, data, rewritten(raw, data))]
        lead = raw[: len(raw) - len(payload)] if payload is not None else raw
        frames: list[Frame] = []
        for _, element in before:
            front = lead if payload is not None and not frames else b",\n"
            frames.append((b"", element, front + element))
        if payload is None:
            return [*frames, frame]
        told = payload if data is None else data
        return [*frames, (b"", told, (b",\n" if before else lead) + told)]

    def _bytes_of(self, told: list[Told]) -> bytes:
        """Frames of ours, behind the last one that left."""
        if self._array is None:
            return b"".join([rendered(name, data) for name, data in told])
        return b"".join([b"," + data for _, data in told])

    def deadline(self) -> float | None:
        return None if self.state is not State.RUNNING else self.editor.deadline()

    def tick(self, now: float) -> bytes:
        if self.state is not State.RUNNING:
            return b""
        told = self.editor.expire(now)
        rejection = self.findings.rejection
        out = self._cut(rejection) if rejection is not None else self._give(told, now)
        self.bytes_out += len(out)
        return out

    def may_speak(self) -> bool:
        """What could not be read and was rejected has not left: the client is behind a whole frame."""
        if self.state in (State.ENDED, _CUT) or not self._promised or self.blind or self.failures or self.observer.error is not None:
            return False
        return self._array is None or not self._is_shut(self._array)

    def _is_shut(self, array: ArraySplitter) -> bool:
        """Has its end left? (It may have come, in the read with what was rejected, and stay behind.)"""
        return self.shut or (array.single and self._opened)

    @property
    def mute(self) -> bool:
        return self.state is _CUT and self.blind

    def _give(self, told: list[Told], now: float) -> bytes:
        """Tell the observer what the client is told."""
        for name, data in told:
            self._observing(name, data, now)
        return self._bytes_of(told)

    def _cut(self, rejection: Rejection) -> bytes:
        """The last bytes for the client."""
        if self.state is _CUT or not self.may_speak():
            self.state = _CUT
            return b""
        told = None if self.observer.tools or rejection.in_stream == "error" else self._stop_words(self.editor, self.observer)
        self.state = _CUT
        fault = fault_of_rejection(rejection)
        if self._array is not None:
            element = self.spec.error_element
            said = b",".join([data for _, data in told]) if told is not None else element(fault, self.request_id) if element is not None else b""
            return (b"," if self._opened else b"[") + said + b"]"
        if told is not None:
            return self._bytes_of(told)
        return self.spec.error_frame(fault, self.request_id, self.observer)

    def _stop_words(self, editor: Editor, observer: Observer) -> list[Told] | None:
        """The protocol's own words for a policy's end; `None`: there are none now."""
        try:
            told = self.closer.close(StopReason.CONTENT_FILTER, observer.usage) if self.closer is not None else None
            return told if told is not None else editor.stop(observer)
        except Exception:  # of what a provider sent nobody knows the shape
            return None

    def conclude(self, clean: bool, cause: str) -> Outcome:
        if self.rest is None and self.state is not _CUT:
            told = self.editor.flush(self.last_at)
            rejection = self.findings.rejection
            self.rest = self._cut(rejection) if rejection is not None else self._give(told, self.last_at)
        if self.findings.rejection is not None and self.state is _CUT:
            return outcome_of_rejection(self.findings.rejection)
        return super().conclude(clean, cause)

    def end(self, fault: Fault | None, request_id: str) -> bytes:
        rest, self.rest = self.rest or b"", b""
        self.bytes_out += len(rest)
        if self.state is _CUT or (self._scanner.held and not self.blind and self._scanner.tail().strip()):
            self._scanner.close()  # half a frame has not been judged
        if self.state is _CUT:
            return rest
        return rest + super().end(fault, request_id)


class GuardedStream(GuardedFrames):
    """A stream in the client's own protocol."""

    __slots__ = ("blind", "closer", "editor", "findings", "request_id", "rest", "shut", "spec")
