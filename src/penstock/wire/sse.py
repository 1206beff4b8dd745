"""Server-sent events: where frames end, and what name and data each has.

Source: WHATWG HTML, "Server-sent events", 9.2.5 and 9.2.6 (parsing and interpreting an event stream).

Rules
-----
A line ends with CRLF, LF or CR. An empty line ends a frame. A frame leaves in the feed that brings its empty line; so a CR that is
the last byte of a feed already ends its line, and an LF that comes first in the next feed belongs to that line end: it leaves at
once, as a frame of its own without data, and starts nothing.

What has no data (comments, `retry:`, a name alone, empty lines) is a frame too, with `None` for data: its bytes travel, it means
nothing. A BOM at the start of the stream is skipped for meaning and kept in the bytes. Invalid UTF-8 is not looked at.

The bytes of an incomplete frame are held, up to `limit` for one frame and up to what the shared budget allows for all. A frame beyond
that is passed on in pieces as it comes, not understood; after its empty line frames are understood again. `overflowed` then stays set.

The scan of an incomplete frame goes on where it stopped, so work is linear in the input, whatever the chunking.
"""

from __future__ import annotations

import re

from penstock.wire.budget import Budget

Frame = tuple[bytes, bytes | None, bytes]
"""(event name, data or None, raw bytes)."""

# An atomic line end, so that CRLF is never taken for two; twice is an empty line.
_END = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_LF_END = re.compile(rb"\n\n")
"""The same where there is no CR: twenty times faster, for it begins with a letter that can be looked for (and twice as fast as `find`)."""
_BOM = b"\xef\xbb\xbf"
_LF = 10
_CR = 13


def parse(raw: bytes) -> tuple[bytes, bytes | None]:
    """Name and data of one whole frame (its line ends included)."""
    if _CR not in raw:
        # Mostly: a line of data, perhaps with a name before it.
        name = b""
        line, _, rest = raw.partition(b"\n")
        if rest != b"\n" and line.startswith(b"event: "):
            name = line[7:]
            line, _, rest = rest.partition(b"\n")
        if rest == b"\n" and line.startswith(b"data: "):
            return name, line[6:]
    name = b""
    first: bytes | None = None
    more: list[bytes] | None = None
    for line in raw.splitlines():
        if line.startswith(b"data"):
            if line.startswith(b"data: "):
                value = line[6:]
            elif line.startswith(b"data:"):
                value = line[5:]
            elif line == b"data":
                value = b""
            else:
                continue
            if first is None:
                first = value
            elif more is None:
                more = [first, value]
            else:
                more.append(value)
        elif line.startswith(b"event:"):
            name = line[7:] if line.startswith(b"event: ") else line[6:]
        elif line == b"event":
            name = b""
    return name, first if more is None else b"\n".join(more)


class Scanner:
    """Finds the frames of one stream. See the rules above."""

    __slots__ = ("_budget", "_parts", "_passing", "_seam", "_skip_lf", "fresh", "held", "idle", "limit", "overflowed", "whole")

    def __init__(self, limit: int, budget: Budget) -> None:
        self.limit = limit
        self._budget = budget
        self._parts = bytearray()  # the incomplete frame; one buffer, because a list of one-byte reads would take forty times the bytes
        self._seam = b""  # its trailing line end, if it ends with one: with what comes next this may be an empty line
        self._skip_lf = False  # the last frame ended with a CR at the end of a feed
        self._passing = False  # inside a frame over the limit
        self.fresh = True
        """Nothing has come yet, so a BOM may. Whoever has taken frames past `feed` says so here."""
        self.held = 0
        self.overflowed = False
        self.whole = True
        """The raws that the last feed returned are, together, exactly the data that it was given."""
        self.idle = True
        """Behind a whole frame, with nothing held and nothing awaited: what comes next begins a frame, and one that ends in LF LF and has no
        CR is wholly told by its own bytes. Who sees that one read is one such frame may take it for what it is, without `feed`."""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes, in order. The raws of all feeds and `tail()` are, together, the input."""
        frames = self._feed(data)
        self.idle = not (self._parts or self._skip_lf or self._passing)
        return frames

    def tail(self) -> bytes:
        """The bytes that are held: the beginning of a frame that has not ended."""
        return bytes(self._parts)

    def close(self) -> None:
        """Forget the tail and give its share of the budget back."""
        self._parts.clear()
        self._release()

    def _release(self) -> None:
        if self.held:
            self._budget.give(self.held)
            self.held = 0

    def _feed(self, data: bytes) -> list[Frame]:
        frames: list[Frame] = []
        self.whole = not self._parts
        if not data:
            return frames
        at = 0
        size = len(data)
        if self._skip_lf:
            self._skip_lf = False
            if data[0] == _LF:
                frames.append((b"", None, b"\n"))
                at = 1
        # An incomplete frame that ended with a line end: the empty line may begin there.
        if self._seam:
            seam = self._seam
            self._seam = b""
            joined = seam + data[:3]
            found = _END.match(joined)
            if found is not None and found.end() > len(seam):
                at = self._close_frame(data, 0, found.end() - len(seam), frames)
        search = (_END if _CR in data else _LF_END).search
        while at < size:
            if (data[at] == _LF or data[at] == _CR) and not self._parts and not self._passing:
                # An empty line where a frame would begin.
                self.fresh = False
                end = at + 2 if data.startswith(b"\r\n", at) else at + 1
                frames.append((b"", None, data[at:end]))
                self._skip_lf = end == size and data[end - 1] == _CR
                at = end
                continue
            found = search(data, at)
            if found is None:
                self._hold(data[at:] if at else data, frames)
                break
            at = self._close_frame(data, at, found.end(), frames)
        return frames

    def _close_frame(self, data: bytes, start: int, end: int, frames: list[Frame]) -> int:
        """End the frame whose last bytes are `data[start:end]`; returns `end`."""
        raw = data[start:end]
        self._skip_lf = end == len(data) and data[end - 1] == _CR
        if self._passing:
            self._passing = False
            frames.append((b"", None, raw))
            return end
        if self._parts:
            if self.held + len(raw) > self.limit:
                self.overflowed = True
                self.fresh = False
                frames.append((b"", None, bytes(self._parts)))
                frames.append((b"", None, raw))
                self._parts.clear()
                self._release()
                return end
            self._parts += raw
            raw = bytes(self._parts)
            self._parts.clear()
            self._release()
        elif len(raw) > self.limit:
            self.overflowed = True
            self.fresh = False
            frames.append((b"", None, raw))
            return end
        meaning = raw
        if self.fresh:
            self.fresh = False
            if raw.startswith(_BOM):
                meaning = raw[3:]
        frames.append((*parse(meaning), raw))
        return end

    def _hold(self, piece: bytes, frames: list[Frame]) -> None:
        """Keep `piece`, the end of the data, or pass it on where it may not be kept."""
        if piece.endswith(b"\r\n"):
            self._seam = b"\r\n"
        elif piece.endswith((b"\n", b"\r")):
            self._seam = piece[-1:]
        if self._passing:
            frames.append((b"", None, piece))
            return
        n = len(piece)
        if self.held + n > self.limit or not self._budget.take(n):
            self.overflowed = self._passing = True
            self.fresh = False
            if self._parts:
                frames.append((b"", None, bytes(self._parts)))
                self._parts.clear()
                self._release()
            frames.append((b"", None, piece))
            return
        self.held += n
        self._parts += piece
        self.whole = False
