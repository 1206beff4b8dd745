"""Errors, and what may be one: held until that is known, then given out, told with their status, or answered by asking again."""

from __future__ import annotations

from penstock.pipeline.body import ERRORS
from penstock.pipeline.contract import Pipeline
from penstock.pipeline.foreign import is_json
from penstock.protocols.contract import Observer
from penstock.vocabulary.errors import UpstreamError
from penstock.wire.encoding import READABLE, EncodingError, Gunzip

_GZIP = (b"gzip", b"x-gzip")
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

    def is_long(self) -> bool:
        """Is more under its coding than is read of an error?"""
        made = 0
        try:
            for piece in Gunzip(HELD).feed(b"".join(self.pieces)) if self._coding in _GZIP else ():
                made += len(piece)
                if made > ERRORS:
                    return True
        except EncodingError:
            pass
        return False

    def is_about_usage(self) -> bool:
        """Does it name `stream_options` or the field in it?"""
        body = self.text()
        return b"stream_options" in body or b"include_usage" in body

    def is_no_json(self) -> bool:
        """Is there something in it, and not JSON, whatever its head says? Of what is longer decoded than is looked at, nothing is said."""
        text = self.text()
        return bool(self._size) and len(text) < HELD and not is_json(text)

    def error(self, observer: Observer) -> UpstreamError | None:
        """What it tells as a whole body, with a good status, to an `observer` that has seen nothing."""
        try:
            observer.observe_body(self.text())
        except Exception:  # Law 5: the bytes go on
            return None
        return observer.error

    def all_text(self) -> bytes | None:
        """As `text`, of all that there is; `None`: it is more than is looked at, or in a coding that cannot be taken off."""
        text = self.text()
        unread = bool(self._size) and (not text or self._coding not in READABLE)
        return None if unread or len(text) >= HELD or self._size > HELD else text

    def text(self) -> bytes:
        """What is held, its coding taken off; empty where that cannot be done."""
        body = b"".join(self.pieces)
        if self._coding in _GZIP:
            try:
                return next(Gunzip(HELD).feed(body), b"")
            except EncodingError:
                return b""
        return body


def came_first(pipeline: Pipeline) -> bool:
    """Was the error that came the first event of all? More may have come in the same read."""
    kinds = (kind for _, kind, _ in pipeline.tail_rows(0.0) if kind not in ("comment", "piece"))
    return pipeline.events == 1 or next(kinds, "") in ("error", "response.failed")
