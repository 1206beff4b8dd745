"""The bytes of a stream as they came, in little room, to be read again from any place on.

They are packed with LZ4, some reads at a time, each pack by itself. What comes again and again in one stream, and all that is not text in it does, is
in the packs before, so each pack is made with an example of it at hand: a read of this stream that came earlier. A long stream of small frames takes
a tenth to a third of its bytes so. A pack is read with the example that it was made with; no pack needs another.

Where there is a shelf, packs go there some at a time, so that what a tape holds in memory does not grow with the stream.

A `Tape` is written, in this process; what is on it when nothing more comes is a `Reel`, plain data.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Final, cast

import lz4.block  # pyright: ignore[reportMissingTypeStubs]  # there are none
import msgspec

from penstock.dedup.shelf import Piece, Shelf
from penstock.wire.budget import Budget

_lz4 = cast("Any", lz4.block)  # (it has no types)
_compress: Callable[..., bytes] = _lz4.compress
_decompress: Callable[..., bytes] = _lz4.decompress
LUMP: Final = 1024
"""Bytes for which the budget is asked at a time; as often packs go to the shelf."""
_PACK: Final = 48
"""Bytes that a pack takes besides, about."""
_EXAMPLE: Final = 2048
"""Bytes that an example may have: it is looked at again for each pack, and what is longer has enough that recurs in itself."""
_GOOD: Final = 6
"""To what part packs have to come for the example to be good enough."""
_TRIES: Final = 16
"""Examples of one tape: where so many were no good, nothing recurs in this stream."""
_WORTH: Final = 512
"""Bytes of packs from which they are put on the shelf."""
_FEW: Final = 15
"""Pieces of one tape that become one when so many small ones have come together: each takes 130 bytes of memory."""
_LITTLE: Final = 8192
"""Bytes of a piece that is a small one."""

Example = tuple[int, bytes]
"""From which pack on; and the bytes."""


_Sheet = tuple[list[Example], list[bytes]]
"""What lies on the shelf in one piece: examples and packs."""
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Sheet).decode


class Reel(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What is on a tape that is over."""

    packs: tuple[bytes, ...]
    """LZ4 blocks, each behind its size unpacked (four bytes, little-endian)."""
    examples: tuple[Example, ...]
    size: int
    """Bytes that it takes, about."""
    away: int = 0
    """Packs before these that lie on the shelf."""
    pieces: tuple[Piece, ...] = ()
    """Those. They are of this process; all else is plain data."""

    def __len__(self) -> int:
        return self.size

    @property
    def count(self) -> int:
        """See `Tape.count`."""
        return self.away + len(self.packs)

    def read(self, start: int, most: int) -> tuple[bytes, int]:
        """See `Tape.read`."""
        return _read(self.pieces, self.away, self.packs, self.examples, start, most)

    def plain(self) -> Reel:
        """The same without a shelf, as another process can have it. Raises `OSError` where the shelf cannot be read."""
        sheets = [_decode(piece.read()) for piece in self.pieces]
        examples = chain(*(sheet[0] for sheet in sheets), self.examples)
        return Reel((*chain(*(sheet[1] for sheet in sheets)), *self.packs), tuple(examples), self.size)


class Tape:
    """Adding stops for good once the tape would take more than `limit` bytes, or the budget has no more: `torn` then, and what is on it can
    still be read. Whoever made it closes it."""

    __slots__ = ("_away", "_budget", "_example", "_examples", "_limit", "_packs", "_paid", "_pieces", "_shelf", "_tries", "_used", "torn")

    def __init__(self, limit: int, budget: Budget, shelf: Shelf | None = None) -> None:
        self._limit = limit
        self._budget = budget
        self._shelf = shelf
        self._paid = 0
        self._used = 0
        self._example = b""
        self._tries = 0
        self._examples: list[Example] = [(0, b"")]
        """Those of `_packs`."""
        self._packs: list[bytes] = []
        self._away = 0
        """Packs before them, on the shelf."""
        self._pieces: list[Piece] = []
        """Those; the mark of each is its first pack's number."""
        self.torn = False

    @property
    def count(self) -> int:
        """Packs on it."""
        return self._away + len(self._packs)

    def add(self, reads: Sequence[bytes]) -> None:
        """In this order; one pack. Several at a time are cheaper, and take less room."""
        if self.torn:
            return
        data = b"".join(reads)
        pack = _compress(data, store_size=True, dict=self._example)
        packs = self._packs
        packs.append(pack)
        self._used = used = self._used + len(pack) + _PACK
        if (len(pack) * _GOOD > len(data) or not self._example) and len(example := reads[-1]) <= _EXAMPLE and self._tries < _TRIES:
            self._tries += 1
            self._example = example
            self._examples.append((self._away + len(packs), example))
            self._used = used = used + len(example) + _PACK
        if used > self._paid:
            self._pay(used)

    def _pay(self, used: int) -> None:
        lump = max(LUMP, used - self._paid)
        if used > self._limit or not self._budget.take(lump):
            self.torn = True
        else:
            self._paid += lump
        if self._shelf is not None and sum(map(len, self._packs)) >= _WORTH:
            self._put_away(self._shelf)

    def _put_away(self, shelf: Shelf) -> None:
        packs = self._packs
        self._pieces.append(shelf.put(_encode((self._examples, packs)), self._away))
        self._away += len(packs)
        self._packs = []
        self._examples = [(self._away, self._example)]
        last = self._pieces[-_FEW:]
        if len(last) == _FEW and max([piece.size for piece in last]) < _LITTLE:
            self._bind(shelf, last)

    def _bind(self, shelf: Shelf, last: list[Piece]) -> None:
        """They are one piece from now on; where they cannot be read, they stay as they are."""
        try:
            sheets = [_decode(piece.read()) for piece in last]
        except OSError:
            return
        examples: list[Example] = []
        for example in chain(*(sheet[0] for sheet in sheets)):
            if not examples or example[1] != examples[-1][1]:
                examples.append(example)
        packs = list(chain(*(sheet[1] for sheet in sheets)))
        self._pieces[-_FEW:] = [shelf.put(_encode((examples, packs)), last[0].mark)]

    def read(self, start: int, most: int) -> tuple[bytes, int]:
        """The bytes from pack `start` on, as many whole packs as fit into `most` bytes and at least one; and the number of the pack behind them.
        Raises `OSError` where they lie on the shelf, and cannot be read there."""
        return _read(self._pieces, self._away, self._packs, self._examples, start, most)

    def reel(self) -> Reel:
        """What is on it, where nothing more comes."""
        return Reel(tuple(self._packs), tuple(self._examples), self._used, self._away, tuple(self._pieces))

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


def _mark(piece: Piece) -> int:
    return piece.mark


def _read(
    pieces: Sequence[Piece], away: int, packs: Sequence[bytes], examples: Sequence[Example], start: int, most: int
) -> tuple[bytes, int]:  # fmt: skip
    told: list[bytes] = []
    size, index = 0, start
    while index < away + len(packs):
        first, some_examples, some = away, examples, packs
        if index < away:
            piece = pieces[bisect_right(pieces, index, key=_mark) - 1]
            first = piece.mark
            some_examples, some = _decode(piece.read())
        for pack in some[index - first :]:
            size += int.from_bytes(pack[:4], "little")
            if told and size > most:
                return b"".join(told), index
            example = some_examples[bisect_right(some_examples, index, key=_first) - 1][1]
            told.append(_decompress(pack, dict=example))
            index += 1
    return b"".join(told), index
