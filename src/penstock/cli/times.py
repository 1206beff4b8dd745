"""The options that take a moment: what `ledger.moments` reads, checked before a command begins."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from penstock.cli.setup import fail
from penstock.ledger.moments import parse_time


def _read_since(text: str | None) -> str | None:
    return _checked(text, end=False)


def _read_until(text: str | None) -> str | None:
    return _checked(text, end=True)


def _checked(text: str | None, *, end: bool) -> str | None:
    """The text itself, so that both options stay texts to Typer; `moment` reads it again."""
    if text is not None:
        try:
            parse_time(text, time.time(), end=end)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    return text


def moment(text: str | None, *, end: bool = False) -> float | None:
    """What a checked option says, in seconds since the epoch."""
    return None if text is None else parse_time(text, time.time(), end=end)


def moments(since: str | None, until: str | None) -> tuple[float | None, float | None]:
    """Those of both checked options. Ends the command with words where there is no time between them: "nothing yet" would be no answer."""
    begin, end = moment(since), moment(until, end=True)
    if begin is not None and end is not None and begin >= end:
        fail("--since must be before --until", 2)
    return begin, end


SinceOption = Annotated[str | None, typer.Option("--since", metavar="TIME", callback=_read_since, help="From: 2025-01-31, 12h, 7d, today (UTC).")]
UntilOption = Annotated[str | None, typer.Option("--until", metavar="TIME", callback=_read_until, help="To: as --since; a day is meant whole.")]
