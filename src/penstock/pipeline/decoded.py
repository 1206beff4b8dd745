"""Answers that come gzipped although identity was asked for: decoded first, because nothing can be put into foreign gzip.

Of an error no more is decoded than is read of it: whoever gives out a longer one gives it out as it came.

An unclean or missing end of the gzip body is an unclean end of the answer, unless the terminal event came before it: then all that counts did.
"""

from __future__ import annotations

from typing import Any

from penstock.pipeline.body import ERRORS, BodyRelay
from penstock.pipeline.contract import Pipeline, State
from penstock.pipeline.fold import Fold
from penstock.pipeline.pseudo import Pseudo
from penstock.pipeline.stream import StreamRelay
from penstock.vocabulary.outcome import Outcome
from penstock.wire.encoding import EncodingError, Gunzip

BURST = 64 * 1024 * 1024
"""Bytes that one chunk may decode to."""


class Decoded(Pipeline):
    """Mixed in before a relay: feeds it what the gzip holds."""

    __slots__ = ()
    gunzip: Gunzip

    @property
    def enough(self) -> bool:
        """What comes yet is of no use."""
        return False

    def feed(self, data: bytes, now: float) -> bytes:
        if self.state is State.BROKEN or self.enough:
            return b""
        out: list[bytes] = []
        made = 0
        try:
            for piece in self.gunzip.feed(data):
                made += len(piece)
                if made > BURST:
                    raise EncodingError("it grows beyond all measure")
                out.append(super().feed(piece, now))
                if self.enough:
                    break
        except EncodingError:
            if self.state is State.RUNNING:
                self.state = State.BROKEN
        if not out:
            # Nothing to be read came out of it yet; the provider is not silent for that.
            self.largest_gap = max(self.largest_gap, now - self.last_at)
            self.last_at = now
        return b"".join(out)

    def conclude(self, clean: bool, cause: str) -> Outcome:
        if clean and self.gunzip.fed and not self.gunzip.finished and not self.observer.terminal and self.state is not State.ENDED:
            return super().conclude(False, "the gzipped body ended before its end")
        return super().conclude(clean, cause)


class DecodedStream(Decoded, StreamRelay):
    __slots__ = ("gunzip",)

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.gunzip = Gunzip()


class DecodedBody(Decoded, BodyRelay):
    __slots__ = ("gunzip",)

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.gunzip = Gunzip()

    @property
    def enough(self) -> bool:
        return self._status >= 400 and self.bytes_out > ERRORS


class DecodedFold(Decoded, Fold):
    __slots__ = ("gunzip",)

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.gunzip = Gunzip()


class DecodedPseudo(Decoded, Pseudo):
    __slots__ = ("gunzip",)

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.gunzip = Gunzip()
