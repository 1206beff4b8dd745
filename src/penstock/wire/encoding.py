"""Content codings: an answer that is gzipped although `identity` was asked for is decoded here and sent on as identity.

Promises: the pieces of all feeds are, together, exactly what a whole decompression gives, however the input is cut; no single step makes
more than `limit` bytes, whatever a small input may swell to; what the input allows to be known is given out in the feed that brings it.
Only gzip (RFC 1952) is here: any other coding is relayed as it came, not understood.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

PLAIN = frozenset({b"", b"identity"})
"""Codings that are none."""
GZIPPED = frozenset({b"gzip", b"x-gzip"})
"""The second is the first's old name (RFC 9110, 8.4.1.3)."""
READABLE = PLAIN | GZIPPED
"""What is read here; a body in any other coding passes as it comes, or not at all."""
# 16 above zlib's largest window: a gzip header and trailer are expected (zlib manual, `inflateInit2`).
_GZIP_WINDOW = 31
_STEP = 1024
"""Bytes that are shown of a further member at first; twice as many each time that it goes on."""


def coding_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The coding that `headers` state, in small letters. Several headers are one list (RFC 9110, 5.3), which is none that is read here."""
    return b", ".join([value.strip().lower() for name, value in headers if name.lower() == b"content-encoding"])


class EncodingError(ValueError):
    """The bytes are not what their coding promises. Its text says why; it is no bug of ours."""


class Gunzip:
    """Decodes one gzip body as it comes: one or several members (RFC 1952, 2.2), with zero padding between or behind them."""

    __slots__ = ("_at", "_member", "_pending", "_step", "fed", "finished", "limit")

    def __init__(self, limit: int = 1 << 20) -> None:
        self.limit = limit
        """Bytes of one piece at most."""
        self._member = zlib.decompressobj(wbits=_GZIP_WINDOW)
        self._pending = b""
        self._at = 0
        """What of it has been taken."""
        self._step = 0
        """How much of it is shown to zlib at once, which copies what stands behind a member's end; 0: all. There may be thousands of members."""
        self.fed = False
        """Something came at all: answers without a body have no gzip in them, whatever their head says."""
        self.finished = False
        """The input so far ends with a whole member, its check sum right: the body may end here."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The decoded bytes, in pieces of at most `limit`, made one by one as they are asked for. The caller takes them all; what it does
        not take comes first in the next feed. Raises `EncodingError` where the input is not gzip; then nothing more may be fed."""
        self.fed = self.fed or bool(data)
        self._pending = self._pending[self._at :] + data
        self._at = 0
        return self._drain()

    def _drain(self) -> Iterator[bytes]:
        try:
            while self._at < len(self._pending) or not self.finished:
                if self._member.eof and not self._next_member():
                    return
                at, step = self._at, self._step
                shown = self._pending[at : at + step] if step else self._pending[at:]
                piece = self._member.decompress(shown, self.limit)
                # `unconsumed_tail` is input that waits for room, `unused_data` is what follows the member's end.
                self.finished = self._member.eof
                left = self._member.unused_data if self.finished else self._member.unconsumed_tail
                self._at += len(shown) - len(left)
                self._step = _STEP if self.finished else 2 * step
                if piece:
                    yield piece
                elif not self.finished and self._at >= len(self._pending):
                    return
        except zlib.error as error:
            raise EncodingError(f"not gzip: {error}") from None
        finally:
            if self._at >= len(self._pending):
                self._pending, self._at = b"", 0

    def _next_member(self) -> bool:
        """Is there another member behind the one that has ended? Begins it."""
        while self._at < len(self._pending):
            shown = self._pending[self._at : self._at + _STEP]
            behind = len(shown.lstrip(b"\0"))
            self._at += len(shown) - behind
            if behind:
                self._member = zlib.decompressobj(wbits=_GZIP_WINDOW)
                self.finished = False
                return True
        return False
