"""A stream in the client's own protocol: scan, observe, the upstream's own bytes."""

from __future__ import annotations

from collections.abc import Callable

from penstock.pipeline.contract import Pipeline, State, upstream_error
from penstock.protocols.contract import CONTENT, TERMINAL, USAGE_ONLY, Observer
from penstock.vocabulary.errors import Fault
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
from penstock.wire.array import ArraySplitter
from penstock.wire.sse import Scanner

_ENDED = State.ENDED

Speak = Callable[[Fault, str, Observer], bytes]
"""How an error is told in band."""


class StreamRelay(Pipeline):
    """Frames leave whole, in the feed that completes them. With `take_usage`, frames that carry nothing but usage are taken out again,
    because the client had not asked for them; otherwise every byte of a complete stream leaves, in order."""

    __slots__ = ("_array", "_drop_lf", "_feed", "_observe", "_promised", "_scanner", "_speak", "_take_usage")

    def __init__(
        self, scanner: Scanner | ArraySplitter, observer: Observer, speak: Speak, now: float, *, take_usage: bool = False, promised: bool = True
    ) -> None:
        super().__init__(observer, now)
        self._scanner = scanner
        self._array = scanner if isinstance(scanner, ArraySplitter) else None
        self._feed = scanner.feed
        self._observe = observer.observe
        self._speak = speak
        self._take_usage = take_usage
        self._drop_lf = False  # the frame that was taken out last ended with a CR: the LF behind it is its own
        self._promised = promised
        """The protocol ends such a stream with a terminal event; else a clean end is its end, and nothing is put in."""

    def feed(self, data: bytes, now: float) -> bytes:
        gap = now - self.last_at
        if gap > self.largest_gap:
            self.largest_gap = gap
        self.last_at = now
        scanner = self._scanner
        frames = self._feed(data)
        taken: list[int] | None = None
        if self._drop_lf and frames:
            self._drop_lf = False
            if frames[0] == (b"", None, b"\n"):
                taken = [id(frames[0])]
        for frame in frames:
            payload = frame[1]
            if payload is None:
                continue
            self.events += 1
            try:
                mark = self._observe(frame[0], payload, now)
            except Exception:  # Law 5: whatever the observer does, the bytes go on. Counted, and told at the end.
                self.failures += 1
                continue
            if mark & CONTENT and self.first_content_at is None:
                self.first_content_at = now
            if mark > CONTENT:
                if mark & TERMINAL and self._promised:
                    self.state = _ENDED
                if mark & USAGE_ONLY and self._take_usage:
                    if taken is None:
                        taken = []
                    taken.append(id(frame))
        if taken is not None:
            self._drop_lf = id(frames[-1]) in taken and frames[-1][2].endswith(b"\r")
            out = b"".join([f[2] for f in frames if id(f) not in taken])
        elif scanner.whole:
            out = data
        else:
            out = b"".join([f[2] for f in frames])
        self.bytes_out += len(out)
        return out

    def may_speak(self) -> bool:
        if self.state in (_ENDED, State.CUT) or not self._promised or self._scanner.overflowed or self.failures or self.observer.error is not None:
            return False
        array = self._array
        return array is None or (array.understood and not array.closed)

    def conclude(self, clean: bool, cause: str) -> Outcome:
        observer = self.observer
        if self._scanner.overflowed:
            return Outcome(Ending.UNVERIFIED, "a frame was larger than what may be held; it was passed on without being understood", EndedBy.UPSTREAM)
        array = self._array
        if array is not None and not array.understood:
            cause = "the body is not the JSON array that was asked for; it was passed on without being understood"
            return Outcome(Ending.UNVERIFIED, cause, EndedBy.UPSTREAM)
        if observer.error is not None:
            return upstream_error(observer, "in the stream")
        if observer.terminal:
            return Outcome(Ending.COMPLETE, "terminal event" if observer.stop_reason else "terminal event, without a stop reason", EndedBy.UPSTREAM)
        if array is not None and array.closed and observer.closable():
            return Outcome(Ending.COMPLETE, "finish reason, then the end of the array", EndedBy.UPSTREAM)
        if self.failures:
            return Outcome(Ending.UNVERIFIED, f"{self.failures} events could not be read: a mistake of the gateway", EndedBy.GATEWAY)
        if not clean:
            return Outcome(Ending.UPSTREAM_LOST, cause, EndedBy.UPSTREAM)
        if not self._promised:
            return Outcome(Ending.COMPLETE, "a clean end", EndedBy.UPSTREAM)
        held = self._scanner.held
        if array is not None and not array.closed:
            return Outcome(Ending.TRUNCATED, "the body ended before the end of its array", EndedBy.UPSTREAM)
        if held:
            return Outcome(Ending.TRUNCATED, f"the body ended inside a frame ({held} bytes of it had come)", EndedBy.UPSTREAM)
        if observer.closable():
            return Outcome(Ending.COMPLETE, "finish reason, then a clean end", EndedBy.UPSTREAM)
        if not self.events:
            return Outcome(Ending.TRUNCATED, "the body ended before its first event", EndedBy.UPSTREAM)
        return Outcome(Ending.TRUNCATED, "the body ended without the terminal event", EndedBy.UPSTREAM)

    def end(self, fault: Fault | None, request_id: str) -> bytes:
        out = b""
        if fault is not None and self.may_speak():
            out = self._speak(fault, request_id, self.observer)
            if self._array is not None:
                out = (b"," if self.events else b"[") + out + b"]"
        elif self._scanner.held and self.state is not State.CUT and (fault is None or self._scanner.overflowed or not self._promised):
            # Nothing is to be said (a terminal event was given out, or nothing is claimed): the rest goes as it came. Half a frame
            # behind an error of the provider's does not go out.
            out = self._scanner.tail()
        self.bytes_out += len(out)
        self._scanner.close()
        return out

    def close(self) -> None:
        self._scanner.close()
