"""Bytes that are counted and compared, and kept as long as they are few: two streams of 100 MB are equal if length and digest are."""

from __future__ import annotations

from hashlib import sha256

KEEP = 80 * 1024 * 1024
TAIL = 64 * 1024


class Tally:
    """What was sent, or what came. Holds at most `KEEP` bytes; of longer ones the last `TAIL`."""

    __slots__ = ("_digest", "_kept", "clipped", "size")

    def __init__(self) -> None:
        self.size = 0
        self.clipped = False
        """Not everything is in `kept` any more."""
        self._kept = bytearray()
        self._digest = sha256()

    def add(self, data: bytes) -> None:
        self.size += len(data)
        self._digest.update(data)
        self._kept += data
        if self.clipped or len(self._kept) > KEEP:
            self.clipped = True
            del self._kept[:-TAIL]

    @property
    def kept(self) -> bytes:
        return bytes(self._kept)

    def same(self, other: Tally) -> bool:
        return self.size == other.size and self._digest.digest() == other._digest.digest()


def tally(data: bytes) -> Tally:
    made = Tally()
    made.add(data)
    return made
