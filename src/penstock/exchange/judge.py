"""An error that may be about a field that we added, or about streaming: held until it is known, then either given out or answered by asking again."""

from __future__ import annotations

from penstock.wire.encoding import EncodingError, Gunzip

HELD = 64 * 1024
"""Bytes of an error body that are looked at; a longer one is not about one field."""


class Judge:
    """Holds one error body."""

    __slots__ = ("_coding", "_size", "pieces")

    def __init__(self, coding: bytes) -> None:
        self._coding = coding
        self._size = 0
        self.pieces: list[bytes] = []

    def hold(self, data: bytes) -> bool:
        """False: it is too long; let it go, `data` included."""
        self.pieces.append(data)
        self._size += len(data)
        return self._size <= HELD

    def is_about_usage(self) -> bool:
        """Does it name `stream_options` or the field in it?"""
        body = self.text()
        return b"stream_options" in body or b"include_usage" in body

    def text(self) -> bytes:
        """What is held, its coding taken off; empty where that cannot be done."""
        body = b"".join(self.pieces)
        if self._coding in (b"gzip", b"x-gzip"):
            try:
                return next(Gunzip(HELD).feed(body), b"")
            except EncodingError:
                return b""
        return body
