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
_ENDLESS: Final = 1 << 60
"""Bytes, where nothing bounds them."""
_LITTLE: Final = 8192
"""Bytes of a piece that is a small one."""

Example = tuple[int, bytes]
"""From which pack on; and the bytes."""


_Sheet = tuple[list[Example], list[bytes]]
"""What lies on the shelf in one piece: examples and packs."""
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Sheet).decode


class Reel(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, array_like=True):
    """What is noted of a stream that is over."""

    packs: tuple[bytes, ...]
    """LZ4 blocks, each behind its size unpacked (four bytes, little-endian)."""
    examples: tuple[Example, ...]
    size: int
    """Bytes that it takes, about."""
    packed: int
    """Bytes of the stream that are in packs: its first."""
    away: int = 0
    """Those of them that lie on the shelf."""
    pieces: tuple[Piece, ...] = ()
    """Where they do. They are of this process, as is the log (`segments`) that has the others; all else is plain data."""
    first: int = 0
    """All that it has in the log lies from there on; see `Notes` for the others. 0: it has nothing there."""
    tail: int = 0
    last: int = 0

    def __len__(self) -> int:
        return self.size

    def read(self, start: int, most: int) -> tuple[bytes, int]:
        """Of what is packed: see `Tape.read`."""
        return _read(self.pieces, self.away, self.packs, self.examples, self.packed, start, most)


class Tape:
    """Adding stops for good once the tape would take more than `limit` bytes, or the budget has no more: `torn` then, and what is on it can
    still be read. Whoever made it closes it."""

    __slots__ = ("_away", "_budget", "_example", "_examples", "_limit", "_packs", "_paid", "_pieces", "_shelf", "_tries", "_used", "length", "torn")

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
        """Bytes of the stream before them, on the shelf."""
        self._pieces: list[Piece] = []
        """Those; the mark of each is how many bytes come before it."""
        self.length = 0
        """Bytes of the stream on it."""
        self.torn = False

    @staticmethod
    def of(reel: Reel, budget: Budget, shelf: Shelf | None = None) -> Tape:
        """What is on `reel`, with room for whatever comes behind it. (What is there takes nothing of the budget.)"""
        tape = Tape(_ENDLESS, budget, shelf)
        tape._packs, tape._examples, tape._pieces = list(reel.packs), list(reel.examples), list(reel.pieces)
        tape._away, tape.length = reel.away, reel.packed
        tape._example = reel.examples[-1][1]
        return tape

    def add(self, reads: Sequence[bytes]) -> None:
        """In this order; one pack. Several at a time are cheaper, and take less room."""
        if self.torn:
            return
        data = b"".join(reads)
        pack = _compress(data, store_size=True, dict=self._example)
        self._packs.append(pack)
        self.length += len(data)
        self._used = used = self._used + len(pack) + _PACK
        if (len(pack) * _GOOD > len(data) or not self._example) and len(example := reads[-1]) <= _EXAMPLE and self._tries < _TRIES:
            self._tries += 1
            self._example = example
            self._examples.append((self.length, example))
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
        self._pieces.append(shelf.put(_encode((self._examples, self._packs)), self._away))
        self._away = self.length
        self._packs = []
        self._examples = [(self._away, self._example)]
        last = self._pieces[-_FEW:]
        if len(last) == _FEW and max([piece.size for piece in last]) < _LITTLE:
            self._bind(shelf, last)

    def _bind(self, shelf: Shelf, last: list[Piece]) -> None:
        """They are one piece from now on; where they cannot be read, they stay as they are."""
        try:
            sheets = [_decode(piece.read()) for piece in last]
        except (OSError, msgspec.DecodeError):
            return
        examples: list[Example] = []
        for example in chain(*(sheet[0] for sheet in sheets)):
            if not examples or example[1] != examples[-1][1]:
                examples.append(example)
        packs = list(chain(*(sheet[1] for sheet in sheets)))
        self._pieces[-_FEW:] = [shelf.put(_encode((examples, packs)), last[0].mark)]

    def read(self, start: int, most: int) -> tuple[bytes, int]:
        """The stream's bytes from `start` on, at most `most` or what one pack has; and how many come before what follows them.
        Raises `OSError` where they lie on the shelf, and cannot be read there."""
        return _read(self._pieces, self._away, self._packs, self._examples, self.length, start, most)

    def reel(self) -> Reel:
        """What is on it, where nothing more comes."""
        return Reel(tuple(self._packs), tuple(self._examples), self._used, self.length, self._away, tuple(self._pieces))

    @property
    def size(self) -> int:
        """Bytes that it was given of the budget."""
        return self._paid

    def close(self) -> None:
        """Give them back. What is on it stays readable for who still has it, and what still comes takes nothing of the budget."""
        if self._paid:
            self._budget.give(self._paid)
            self._paid = 0
        self._budget, self._limit = Budget(_ENDLESS), _ENDLESS


def _first(example: Example) -> int:
    return example[0]


def _mark(piece: Piece) -> int:
    return piece.mark


def _read(
    pieces: Sequence[Piece], away: int, packs: Sequence[bytes], examples: Sequence[Example], length: int, start: int, most: int
) -> tuple[bytes, int]:  # fmt: skip
    told: list[bytes] = []
    size, at = 0, start
    while at < length:
        place, some_examples, some = away, examples, packs
        if at < away:
            piece = pieces[bisect_right(pieces, at, key=_mark) - 1]
            place = piece.mark
            some_examples, some = _decode(piece.read())
        for pack in some:
            after = place + int.from_bytes(pack[:4], "little")
            if after > at:
                size += after - at
                if told and size > most:
                    return b"".join(told), at
                example = some_examples[bisect_right(some_examples, place, key=_first) - 1][1]
                told.append(_decompress(pack, dict=example)[at - place :])
                at = after
            place = after
    return b"".join(told), at
