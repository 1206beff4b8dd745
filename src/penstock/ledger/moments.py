"""Moments as people write them: `2025-01-31`, `2025-01-31T14:05`, `90m`, `12h` and `7d` (ago), `today`, `yesterday`, or seconds since the epoch.

All in UTC, as the ledger's days are, unless a zone is written. A day is meant whole, so as an end it is its last second. The command line and
the admin API read the same words.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from penstock.vocabulary.moments import LAST

_SPAN = re.compile(r"([0-9]{1,6})\s*([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DAY = re.compile(r"[0-9]{4}-?[0-9]{2}-?[0-9]{2}")
_EPOCH = re.compile(r"[0-9]{9,11}(?:\.[0-9]{1,9})?")  # from 1973 on: fewer digits are a year or a day that somebody wrote
_ZONE = re.compile(r" (?=[0-9]{2}:?[0-9]{2}\Z)")
WAYS = "2025-01-31, 2025-01-31T14:05, 12h, 7d, today, yesterday, or a Unix time"


def parse_span(text: str) -> float | None:
    """The seconds of `90m`, `12h`, `7d`; `None`: it is no such span."""
    found = _SPAN.fullmatch(text.strip().lower())
    return None if found is None else float(int(found[1]) * _SECONDS[found[2]])


def parse_time(text: str, now: float, *, end: bool = False) -> float:
    """Seconds since the epoch, from 0 to `LAST`; `end`: of a day, the first second after it. Raises `ValueError`, which says `WAYS`."""
    word = text.strip()
    if (span := parse_span(word)) is not None:
        return max(0.0, now - span)
    if _EPOCH.fullmatch(word):
        return min(float(word), LAST)
    try:
        day = _day(word.lower(), now)
        # A plus sign in a query is a blank by the time it comes here.
        moment = day or datetime.fromisoformat(_ZONE.sub("+", word) if "T" in word else word)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = moment.timestamp() + (86_400 if end and day is not None else 0)
    except (ValueError, OverflowError):
        raise ValueError(f"{_shown(text)} is no time: write {WAYS}") from None
    return min(max(0.0, seconds), LAST)


def _day(word: str, now: float) -> datetime | None:
    """The midnight that begins the day that `word` is; `None` where it is none."""
    today = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if word in ("today", "yesterday"):
        return today - timedelta(days=word == "yesterday")
    return datetime.fromisoformat(word).replace(tzinfo=UTC) if _DAY.fullmatch(word) else None


def _shown(text: str) -> str:
    """Somebody's own words in a sentence: printable and short."""
    return repr(text if len(text) <= 60 else text[:60] + "...")
