"""Whether a failed try is followed by another, and when. Pure.

Only before the client was told anything, and never after a byte of content. `x-should-retry` is what the makers' own clients obey
(openai-python, anthropic-sdk-python: `_should_retry`); `retry-after` is RFC 9110, 10.2.3, in seconds or as a date, `retry-after-ms` Azure's.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from math import isnan

from penstock.exchange.conduct import Retries
from penstock.upstream.contract import LossKind

FIRST = 0.25
"""Seconds before the second try; each further one waits twice as long."""
MOST = 8.0
"""Seconds that a pause of ours grows to."""
PATIENCE = 60.0
"""Seconds that a provider may ask us to wait: beyond it the client is told instead, who knows better whether it wants to."""
_STATUSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
_UNMADE = frozenset({LossKind.CONNECT, LossKind.CONNECT_TIMEOUT, LossKind.TLS})


class Tries:
    """The tries of one exchange: how many of each sort are left."""

    __slots__ = ("_left", "made")

    def __init__(self, retries: Retries) -> None:
        self._left = {"connect": retries.connect, "status": retries.status, "first_frame": retries.first_frame}
        self.made = 0
        """Tries that were followed by another."""

    def after_loss(self, kind: LossKind, dice: float) -> float | None:
        """Seconds until the next try after an answer that was lost before its first event; `None`: none. `dice`: 0 to 1, chance."""
        return self._take("connect" if kind in _UNMADE else "first_frame", dice)

    def after_first_frame(self, dice: float) -> float | None:
        """The same after an answer below 400 that ended, or told an error, before anything else."""
        return self._take("first_frame", dice)

    def after_status(self, status: int, headers: Sequence[tuple[bytes, bytes]], wall: float, dice: float) -> float | None:
        """The same after a status. `wall`: seconds since the epoch."""
        stated = {name.lower(): value.strip() for name, value in headers}
        verdict = stated.get(b"x-should-retry")
        if verdict == b"false" or (status not in _STATUSES and verdict != b"true"):
            return None
        asked = _asked(stated, wall)
        if asked is not None and asked > PATIENCE:
            return None
        pause = self._take("status", dice)
        return pause if pause is None or asked is None else max(asked, 0.0)

    def _take(self, what: str, dice: float) -> float | None:
        if self._left[what] <= 0:
            return None
        self._left[what] -= 1
        self.made += 1
        pause = min(FIRST * 2 ** (self.made - 1), MOST)
        return pause * (0.75 + 0.25 * dice)


def _asked(stated: dict[bytes, bytes], wall: float) -> float | None:
    """The pause that the provider asks for, in seconds."""
    for name, unit in ((b"retry-after-ms", 1e-3), (b"retry-after", 1.0)):
        value = stated.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * unit
        except ValueError:
            pass
        else:
            if isnan(seconds):
                continue
            return seconds
        try:
            date = parsedate_to_datetime(value.decode("latin-1"))
            # A date without a zone is asctime's, the last of HTTP's three forms, and means UTC (RFC 9110, 5.6.7).
            return (date if date.tzinfo is not None else date.replace(tzinfo=UTC)).timestamp() - wall
        except (ValueError, OverflowError):
            continue
    return None
