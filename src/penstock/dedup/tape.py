"""The bytes of a stream as they came, in little room, to be read again from any place on.

They are packed with LZ4, some reads at a time, each pack by itself. What comes again and again in one stream, and all that is not text in it does, is
in the packs before, so each pack is made with an example of it at hand: a read of this stream that came earlier. A long stream of small frames takes
a tenth to a third of its bytes so. A pack is read with the example that it was made with; no pack needs another.

A `Tape` is written, in this process; what is on it when nothing more comes is a `Reel`, plain data.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import lz4.block  # pyright: ignore[reportMissingTypeStubs]  # there are none
import msgspec

from penstock.wire.budget import Budget

_lz4 = cast("Any", lz4.block)  # (it has no types)
_compress: Callable[..., bytes] = _lz4.compress
_decompress: Callable[..., bytes] = _lz4.decompress
LUMP: Final = 2048
"""Bytes for which the budget is asked at a time."""
_PACK: Final = 48
"""Bytes that a pack takes besides, about."""
_EXAMPLE: Final = 2048
"""Bytes that an example may have: it is looked at again for each pack, and what is longer has enough that recurs in itself."""
_GOOD: Final = 6
"""To what part packs have to come for the example to be good enough."""
_TRIES: Final = 16
"""Examples of one tape: where so many were no good, nothing recurs in this stream."""

Example = tuple[int, bytes]
"""From which pack on; and the bytes."""


class Reel(msgspec.Struct, frozen=True, gc=False):
    """What is on a tape that is over."""

    packs: tuple[bytes, ...]
    """LZ4 blocks, each behind its size unpacked (four bytes, little-endian)."""
    examples: tuple[Example, ...]
    size: int
    """Bytes that it takes, about."""

    def __len__(self) -> int:
        return self.size

    @property
    def count(self) -> int:
        """See `Tape.count`."""
        return len(self.packs)

    def read(self, start: int, most: int) -> tuple[bytes, int]:
        """See `Tape.read`."""
        return _read(self.packs, self.examples, start, most)


class Tape:
    """Adding stops for good once the tape would take more than `limit` bytes, or the budget has no more: `torn` then, and what is on it can
    still be read. Whoever made it closes it."""

    __slots__ = ("_budget", "_example", "_examples", "_limit", "_packs", "_paid", "_used", "torn")

    def __init__(self, limit: int, budget: Budget) -> None:
        self._limit = limit
        self._budget = budget
        self._paid = 0
        self._used = 0
        self._example = b""
        self._examples: list[Example] = [(0, b"")]
        self._packs: list[bytes] = []
        self.torn = False

    @property
    def count(self) -> int:
        """Packs on it."""
        return len(self._packs)

    def add(self, reads: Sequence[bytes]) -> None:
        """In this order; one pack. Several at a time are cheaper, and take less room."""
        if self.torn:
            return
        data = b"".join(reads)
        pack = _compress(data, store_size=True, dict=self._example)
        packs = self._packs
        packs.append(pack)
        self._used = used = self._used + len(pack) + _PACK
        if (len(pack) * _GOOD > len(data) or len(packs) == 1) and len(example := reads[-1]) <= _EXAMPLE and len(self._examples) <= _TRIES:
            self._example = example
            self._examples.append((len(packs), example))
            self._used = used = used + len(example) + _PACK
        if used > self._paid:
            self._pay(used)

    def _pay(self, used: int) -> None:
        lump = max(LUMP, used - self._paid)
        if used > self._limit or not self._budget.take(lump):
            self.torn = True
        else:
            self._paid += lump

    def read(self, start: int, most: int) -> tuple[bytes, int]:
        """The bytes from pack `start` on, as many whole packs as fit into `most` bytes and at least one; and the number of the pack behind them."""
        return _read(self._packs, self._examples, start, most)

    def reel(self) -> Reel:
        """What is on it, where nothing more comes."""
        return Reel(tuple(self._packs), tuple(self._examples), self._used)

    @property
    def size(self) -> int:
        """Bytes that it was given of the budget."""
        return self._paid

    def close(self) -> None:
        """Give them back. What is on it stays readable for who still has it; nothing is added any more."""
        self.torn = True
        if self._paid:
            self._budget.give(self._paid)
            self._paid = 0


def _first(example: Example) -> int:
    return example[0]


def _read(packs: Sequence[bytes], examples: Sequence[Example], start: int, most: int) -> tuple[bytes, int]:
    pieces: list[bytes] = []
    size, index = 0, start
    while index < len(packs):
        pack = packs[index]
        size += int.from_bytes(pack[:4], "little")
        if pieces and size > most:
            break
        example = examples[bisect_right(examples, index, key=_first) - 1][1]
        pieces.append(_decompress(pack, dict=example))
        index += 1
    return b"".join(pieces), index
