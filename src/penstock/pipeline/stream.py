"""A stream in the client's own protocol: scan, observe, the upstream's own bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from penstock.pipeline.contract import Pipeline, State, upstream_error
from penstock.pipeline.cues import Cue, Look
from penstock.pipeline.tail import (
    BY_MARK,
    BY_NAME,
    COMMENT,
    LAST_ROW,
    PIECE,
    RING,
    ROW,
    TailBytes,
    number_of,
    pack_row,
    rows_of,
)
from penstock.protocols.contract import CONTENT, MALFORMED, TERMINAL, USAGE_ONLY, Closer, Observe, Observer
from penstock.vocabulary.errors import Fault
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
from penstock.wire.array import ArraySplitter
from penstock.wire.sse import Frame, Scanner

_ENDED, _LOOK = State.ENDED, State.LOOK
_BOM = b"\xef\xbb\xbf"
_COMPLETE = Outcome(Ending.COMPLETE, "terminal event", EndedBy.UPSTREAM)

Speak = Callable[[Fault, str, Observer], bytes]
"""How an error is told in band."""


class StreamRelay(Pipeline):
    """Frames leave whole, in the feed that completes them. With `take_usage`, frames that carry nothing but usage are taken out again,
    because the client had not asked for them; otherwise every byte of a complete stream leaves, in order."""

    __slots__ = (
        "_array", "_closing", "_cue", "_drop_lf", "_feed", "_kept", "_lead", "_observe", "_promised", "_quick", "_repaired", "_ring", "_row",
        "_scanner", "_since", "_speak", "_still", "_take_usage",
    )  # fmt: skip

    def __init__(
        self, scanner: Scanner | ArraySplitter, observer: Observer, speak: Speak, now: float, take_usage: bool = False, promised: bool = True,
        still: bytes = b"", closing: bytes = b"", kept: TailBytes | None = None,
    ) -> None:  # fmt: skip
        """`still`: what keeps the client's side open (`ProtocolSpec.keepalive`; white space in an array). `closing`: the frame that completes a
        stream that has its finish reason, for a provider that never sends it; empty: such a stream is truncated. `kept`: where the last
        bytes are kept."""
        super().__init__(observer, now)
        self._scanner = scanner
        self._array = scanner if isinstance(scanner, ArraySplitter) else None
        self._feed: Callable[[bytes], list[Frame]] = scanner.feed if kept is None else self._scan_kept
        self._quick = -1
        """Bytes of a read that may be taken for one frame, past the scanner: none before the first content, unless the scanner is idle, and where
        anybody but it has to see the read."""
        self._observe: Observe | None = None
        """Who sees the frames, where it is not the observer itself: to name its method costs less at each chunk than to hold it for each stream."""
        self._speak = speak
        self._take_usage = take_usage
        self._drop_lf = False  # the frame that was taken out last ended with a CR: the LF behind it is its own
        self._promised = promised
        """The protocol ends such a stream with a terminal event; else a clean end is its end, and nothing is put in."""
        self._still = still
        self._closing = closing
        self._repaired = False
        self._kept = kept
        self._lead = b""
        self._ring = bytearray(RING)
        self._since = now
        self._row = 0
        self._cue: Cue | None = None

    def feed(self, data: bytes, now: float) -> bytes:
        gap = now - self.last_at
        if gap > self.largest_gap:
            self.largest_gap = gap
        self.last_at = now
        # The ordinary read is one frame: a line of data, perhaps with a name before it. It is taken apart and noted here, because calls are most of
        # what a chunk costs; whatever else comes goes the thorough way. (`removeprefix` gives the object itself back where there is no prefix.)
        size = len(data)
        if size <= self._quick and 13 not in data:
            name = b""
            line, _, rest = data.partition(b"\n")
            if rest != b"\n":
                name = line.removeprefix(b"event: ")
                if name is line:
                    return self._feed_any(data, now)
                line, _, rest = rest.partition(b"\n")
                if rest != b"\n":
                    return self._feed_any(data, now)
            payload = line.removeprefix(b"data: ")
            if payload is line:
                return self._feed_any(data, now)
            self.events += 1
            observe = self._observe
            try:
                mark = self.observer.observe(name, payload, now) if observe is None else observe(name, payload, now)
                number = (BY_NAME.get(name) or number_of(name)) if name else BY_MARK[mark]
            except Exception:  # as below
                self.failures += 1
                mark, number = MALFORMED, BY_MARK[MALFORMED]
            row = self._row
            if row < LAST_ROW:
                self._row = row + ROW
            else:
                self._row = 0
                if self._cue is not None:
                    self._quick = -1  # the next read goes the thorough way
            pack_row(self._ring, row, now - self._since, size, number)
            if mark == CONTENT:
                self.last_content_at = now
            elif mark or self._cue is not None:
                if mark & CONTENT:
                    self.last_content_at = now
                if self._cue is not None and self.observer.usage is not self._cue.seen and self.state is not _ENDED:
                    self.state = _LOOK
                if mark & TERMINAL and self._promised:
                    self.state = _ENDED
                if mark & USAGE_ONLY and self._take_usage:
                    return b""
            self.bytes_out += size
            return data
        return self._feed_any(data, now)

    def _feed_any(self, data: bytes, now: float) -> bytes:
        """The frames of any read, in the state that it finds."""
        scanner, scan, observe = self._scanner, self._feed, self._observing
        if self.events and isinstance(scanner, Scanner):
            scanner.fresh = False
        frames = scan(data)
        taken: list[int] | None = None
        if self._drop_lf and frames:
            self._drop_lf = False
            if frames[0] == (b"", None, b"\n"):
                taken = [id(frames[0])]
        for frame in frames:
            name, payload, raw = frame
            if payload is None:
                if raw.startswith(b":") or scanner.overflowed:
                    self._note(now, raw)
                continue
            self.events += 1
            try:
                mark = observe(name, payload, now)
                number = (BY_NAME.get(name) or number_of(name)) if name else BY_MARK[mark]
            except Exception:  # Law 5: whatever the observer does, the bytes go on. Counted, and told at the end.
                self.failures += 1
                mark, number = MALFORMED, BY_MARK[MALFORMED]
            row = self._row
            self._row = row + ROW if row < LAST_ROW else 0
            pack_row(self._ring, row, now - self._since, len(raw), number)
            if mark & CONTENT:
                self.last_content_at = now
                if self.first_content_at is None:
                    self.first_content_at = now
            if mark > CONTENT:
                if mark & TERMINAL and self._promised:
                    self.state = _ENDED
                if mark & USAGE_ONLY and self._take_usage:
                    if taken is None:
                        taken = []
                    taken.append(id(frame))
        if self._array is not None and frames and frames[-1][1] is None and self._ends_well(self._array, frames[-1][2]):
            self.state = _ENDED
        self._quick = scanner.limit if scanner.idle and self._kept is None and self.first_content_at is not None else -1
        if self._cue is not None and self._cue.heed(self) and self.state is State.RUNNING:
            self.state = _LOOK
        if taken is not None:
            self._drop_lf = id(frames[-1]) in taken and frames[-1][2].endswith(b"\r")
            out = b"".join([f[2] for f in frames if id(f) not in taken])
        elif scanner.whole:
            out = data
        else:
            out = b"".join([f[2] for f in frames])
        self.bytes_out += len(out)
        return out

    @property
    def _observing(self) -> Observe:
        return self._observe or self.observer.observe

    def _ends_well(self, array: ArraySplitter, raw: bytes) -> bool:
        """Is `raw` the end of an array that has its finish reason? That is its terminal event: nothing is waited for any more."""
        return array.closed and b"]" in raw and self._promised and not self._blind and self.observer.closable()

    def _note(self, now: float, raw: bytes) -> None:
        """A row of the tail for bytes without data."""
        row = self._row
        self._row = row + ROW if row < LAST_ROW else 0
        pack_row(self._ring, row, now - self._since, len(raw), COMMENT if raw.startswith(b":") else PIECE)

    def _scan_kept(self, data: bytes) -> list[Frame]:
        if self._kept is not None:
            self._kept.add(data)
        return self._scanner.feed(data)

    def _scan_late(self, data: bytes) -> list[Frame]:
        """The first bytes of a stream whose client has been told something before: a BOM may not come behind that, for it would be part of a
        name."""
        data = self._lead + data
        if len(data) < 3 and _BOM.startswith(data):
            self._lead = data
            self._scanner.whole = False
            return []
        self._lead = b""
        self._feed = self._scanner.feed if self._kept is None else self._scan_kept
        frames = self._feed(data.removeprefix(_BOM))
        self._scanner.whole = False  # what leaves is not what came in the last feed
        return frames

    def read_with(self, scanner: Scanner | ArraySplitter) -> None:
        """It comes in another framing than was thought. To be called before anything of it was understood."""
        if self._feed == self._scanner.feed:
            self._feed = scanner.feed
        self._scanner.close()
        self._scanner = scanner
        self._array = scanner if isinstance(scanner, ArraySplitter) else None

    def follow(self, before: Pipeline) -> None:
        super().follow(before)
        if before.bytes_out:
            self._feed = self._scan_late
            self._quick = -1

    @property
    def begun(self) -> bool:
        return self.events > 0 or self._blind

    @property
    def tells_content(self) -> bool:
        return self._promised and not self._blind

    @property
    def _blind(self) -> bool:
        """Bytes were passed on that were not understood."""
        return self._scanner.overflowed or self.failures > 0 or (self._array is not None and not self._array.understood)

    @property
    def _opened(self) -> bool:
        """Has the opening bracket of the array left, with its first element?"""
        return self.events > 0

    @property
    def all_told(self) -> bool:
        return bool(self._closing) and not self._scanner.held and self.observer.finished()

    def keepalive(self) -> bytes:
        # Frames leave whole, so the client is always behind one; what is held of the next one has not left.
        if not self.may_speak():
            return b""
        self.bytes_out += len(self._still)
        return self._still

    def tail_rows(self, since: float) -> list[tuple[int, str, int]]:
        return rows_of(self._ring, self._row, self._since - since)

    def tail_bytes(self) -> bytes:
        return self._kept.get() if self._kept is not None else b""

    def may_speak(self) -> bool:
        if self.state in (_ENDED, State.CUT) or not self._promised or self._scanner.overflowed or self.failures or self.observer.error is not None:
            return False
        array = self._array
        return array is None or (array.understood and not self._is_shut(array))

    def _is_shut(self, array: ArraySplitter) -> bool:
        """Has its end left?"""
        return array.closed

    @property
    def has_error(self) -> bool:
        return self.observer.error is not None and self._promised and not self._blind and not self.gathers

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
            return _COMPLETE if observer.stop_reason else Outcome(Ending.COMPLETE, "terminal event, without a stop reason", EndedBy.UPSTREAM)
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
        if self._closing and observer.finished():
            self._repaired = True
            return Outcome(Ending.COMPLETE, "finish reason, and nothing behind it; [DONE] added", EndedBy.UPSTREAM)
        if not self.events:
            return Outcome(Ending.TRUNCATED, "the body ended before its first event", EndedBy.UPSTREAM)
        return Outcome(Ending.TRUNCATED, "the body ended without the terminal event", EndedBy.UPSTREAM)

    def end(self, fault: Fault | None, request_id: str) -> bytes:
        out = b""
        if fault is not None and self.may_speak():
            out = self._speak(fault, request_id, self.observer)
            if self._array is not None:
                out = (b"," if self._opened else b"[") + out + b"]"
        elif self._array is not None and self.has_error and not self._is_shut(self._array):
            out = b"]"  # the provider's error is the last element
        elif self._scanner.held and self.state is not State.CUT and (fault is None or self._scanner.overflowed or not self._promised):
            # Nothing is to be said (a terminal event was given out, or nothing is claimed): the rest goes as it came. Half a frame
            # behind an error of the provider's does not go out.
            out = self._scanner.tail()
        elif fault is None and self._repaired:
            self._repaired = False
            out = self._closing
        self.bytes_out += len(out)
        self._uncue()
        self._scanner.close()
        return out

    def attend(self, see: Callable[[bytes, bytes], None]) -> None:
        """Let somebody see every frame with data, before it is observed. To be called before the first feed."""
        observe = self._observing

        def both(name: bytes, data: bytes, now: float) -> int:
            see(name, data)
            return observe(name, data, now)

        self._observe = both

    @property
    def can_cue(self) -> bool:
        """Does it know by itself when to be looked at? Where its bytes pass as they are, and no event of text states usage unseen."""
        return type(self) is StreamRelay and self.observer.tells_usage

    def cue(self, look: Look, at: int) -> None:
        """Let `look` be called behind the feed that brings the event of that number (`events`), and behind each in which the provider states usage
        anew. Each time it says when next."""
        self._cue = Cue(look, self._observe)
        self.cue_at(at)

    def cue_at(self, event: int) -> None:
        """The next look, as above; does nothing to what nobody is to look at."""
        cue = self._cue
        if cue is not None:
            cue.at, cue.seen = event, self.observer.usage
            cue.heed(self)

    def look(self, now: float) -> None:
        """It is time: `state` is LOOK."""
        self.state = State.RUNNING
        if self._cue is not None:
            self._cue.look(now)

    def observe_with(self, observe: Observe | None) -> None:
        """Let `observe` see the frames from here on; `None`: the observer itself."""
        self._observe = observe

    def _uncue(self) -> None:
        cue, self._cue = self._cue, None
        if cue is not None:
            self._observe = cue.under

    def close_with(self, closer: Closer) -> None:
        """Let `closer` follow. To be called before the first feed."""
        observe = self._observing
        both = closer.beside(self.observer, observe)
        if both is not observe:
            self._observe = both

    def stop(self, frames: Sequence[tuple[bytes, bytes]]) -> bytes:
        """The last bytes for the client, in the protocol's own words (event name, data) for an answer that was stopped. To be called in the place of
        `end`, and only where `may_speak`."""
        self.state = State.CUT
        self._uncue()
        if self._array is not None:
            out = (b"," if self._opened else b"[") + b",".join([data for _, data in frames]) + b"]"
        else:
            out = b"".join([b"event: %b\ndata: %b\n\n" % frame if frame[0] else b"data: %b\n\n" % frame[1] for frame in frames])
        self.bytes_out += len(out)
        return out

    def close(self) -> None:
        self._uncue()
        self._scanner.close()
