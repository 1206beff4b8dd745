"""A stream in its protocol's array form: the closing bracket leaves at once only behind a proper end.

A provider that closes the array without a finish reason has broken off, and behind the bracket nothing could be said any more. So the bracket is
held until the answer ends, and there an error takes its place.
"""

from __future__ import annotations

from typing import Any

from penstock.pipeline.contract import State
from penstock.pipeline.decoded import Decoded
from penstock.pipeline.stream import StreamRelay
from penstock.vocabulary.errors import Fault
from penstock.wire.array import ArraySplitter
from penstock.wire.encoding import Gunzip

MOST_HELD = 1024
"""Bytes that are held: the bracket, and white space around it. Whatever sends more behind it has its bytes."""


class ArrayRelay(StreamRelay):
    """To be made with an `ArraySplitter`."""

    __slots__ = ("_bracket",)

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._bracket: bytes | None = None
        """What has not left: the bracket, and what stood before it and behind. `None` until it comes; empty: nothing is held any more."""

    def _feed_any(self, data: bytes, now: float) -> bytes:
        out = super()._feed_any(data, now)
        array, held = self._array, self._bracket
        if array is None or not array.closed or held == b"" or self._stopped:
            return out
        place = 0
        if held is None:
            held = self._bracket = b""
            if array.single or self.failures or array.overflowed or self.observer.error is not None or not self._promised or self.observer.closable():
                return out
            place = len(out) - array.behind
        self.bytes_out -= len(out) - place
        self._bracket = held + out[place:]
        return out[:place] if len(self._bracket) <= MOST_HELD else out[:place] + self._release()

    @property
    def _stopped(self) -> bool:
        """Did what came last stay behind?"""
        return False

    def _release(self) -> bytes:
        """What was held, as it came."""
        out, self._bracket = self._bracket or b"", b""
        self.bytes_out += len(out)
        return out

    def _is_shut(self, array: ArraySplitter) -> bool:
        return array.closed and not self._bracket

    def end(self, fault: Fault | None, request_id: str) -> bytes:
        # (Where a policy has ended it, its words have closed the array.)
        out = b"" if self.state is State.CUT or (fault is not None and self.may_speak()) else self._release()
        return out + super().end(fault, request_id)


class DecodedArray(Decoded, ArrayRelay):
    __slots__ = ("gunzip",)

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.gunzip = Gunzip()
