"""Moments as people write them: `2025-01-31`, `2025-01-31T14:05`, `90m`, `12h`, `7d`, `today`, `yesterday`.

All in UTC, as the ledger's days are, unless a zone is written. A day is meant whole: `--since` from its first second, `--until` to its last.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

_AGO = re.compile(r"([0-9]{1,6})\s*([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
LAST = 253_402_300_799.0
"""The last second of the year 9999: there are no days behind it."""


def parse_span(text: str) -> float | None:
    """The seconds of `90m`, `12h`, `7d`; `None`: it is no such span."""
    found = _AGO.fullmatch(text.strip().lower())
    return None if found is None else float(int(found[1]) * _SECONDS[found[2]])


def parse_time(text: str, now: float, *, end: bool = False) -> float:
    """Seconds since the epoch, from 0 to `LAST`; `end`: of a day, the first second after it. Raises `ValueError` with a sentence."""
    word = text.strip().lower()
    if (span := parse_span(word)) is not None:
        return max(0.0, now - span)
    today = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    try:
        moment = {"today": today, "yesterday": today - timedelta(days=1)}.get(word) or datetime.fromisoformat(text.strip())
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = moment.timestamp() + (86_400 if end and (word in ("today", "yesterday") or _DAY.fullmatch(word)) else 0)
    except ValueError:
        raise ValueError(f"{text!r} is no time: write 2025-01-31, 2025-01-31T14:05, 12h, 7d, today or yesterday") from None
    return min(max(0.0, seconds), LAST)


def _read_since(text: str | None) -> str | None:
    return _checked(text, end=False)


def _read_until(text: str | None) -> str | None:
    return _checked(text, end=True)


def _checked(text: str | None, *, end: bool) -> str | None:
    """The text itself, so that both options stay texts to Typer; `moment` reads it again."""
    if text is not None:
        try:
            parse_time(text, time.time(), end=end)
        except (ValueError, OverflowError) as error:
            raise typer.BadParameter(str(error)) from None
    return text


def moment(text: str | None, *, end: bool = False) -> float | None:
    """What a checked option says, in seconds since the epoch."""
    return None if text is None else parse_time(text, time.time(), end=end)


SinceOption = Annotated[str | None, typer.Option("--since", metavar="TIME", callback=_read_since, help="From: 2025-01-31, 12h, 7d, today (UTC).")]
UntilOption = Annotated[str | None, typer.Option("--until", metavar="TIME", callback=_read_until, help="To: as --since; a day is meant whole.")]
