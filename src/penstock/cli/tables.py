"""Rows for people and for programs."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from penstock.cli.streams import flush_or_drop

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

OUTCOME_STYLES = {"COMPLETE": "green", "CLIENT_GONE": "yellow", "SHUTDOWN": "yellow", "UNVERIFIED": "yellow", "REFUSED": "magenta"}
"""Every other outcome is red; an exchange that is still open has none."""


_WIDEST = 10_000
"""Columns of a terminal, for measuring."""


_C1 = re.compile(rb"\xc2([\x80-\x9f])")
"""In UTF-8. JSON may hold them as they are, and some terminals obey them."""
_STEERING = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
"""What a terminal may obey, but for tabs and ends of lines."""


def print_json(rows: Iterable[Mapping[str, Any]]) -> None:
    """One object a line, in UTF-8 whatever the locale; what a terminal may obey is escaped."""
    import msgspec

    out, encoder = sys.stdout.buffer, msgspec.json.Encoder(decimal_format="number")
    for row in rows:
        out.write(_C1.sub(_escaped, encoder.encode(row)) + b"\n")
    out.flush()


def _escaped(found: re.Match[bytes]) -> bytes:
    return b"\\u00%02x" % found[1][0]


def print_csv(rows: Sequence[Mapping[str, Any]]) -> None:
    """RFC 4180 in UTF-8, the names first; unknown is empty. What a spreadsheet would take for a formula is quoted as text, and nothing steers a
    terminal."""
    import csv
    import io

    text = io.StringIO()
    if rows:
        writer = csv.writer(text)
        writer.writerow(rows[0])
        writer.writerows([_cell(value) for value in row.values()] for row in rows)
    sys.stdout.buffer.write(text.getvalue().encode("utf-8", "replace"))
    sys.stdout.buffer.flush()


def _cell(value: object) -> object:
    """Names of models and users come from outside."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if not isinstance(value, str):
        return value
    text = _STEERING.sub("?", value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r", "\n") else text


def open_console() -> Console:
    """Where tables go. Into a pipe or a file they get the width that they need and no colour."""
    from rich.console import Console

    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=500)


def print_table(table: Table) -> None:
    """Print. On a terminal that is too narrow for its columns the lines are longer than the terminal, which breaks them: no id is cut, and no column
    is left out."""
    from rich.measure import Measurement

    console = open_console()
    wide = console.options.update(max_width=_WIDEST)
    for column in table.columns:
        if column.no_wrap:
            column.min_width = max(Measurement.get(console, wide, cell).maximum for cell in (column.header, *column.cells))
    least = Measurement.get(console, wide, table).minimum
    if least > console.width:
        console.width = least
    console.print(table)


def print_if_heard(what: RenderableType) -> None:
    """Print. A full disk or a closed pipe is no reason not to go on."""
    console = open_console()
    with console.capture() as text:  # a console ends the process itself when its pipe is closed
        console.print(what, crop=False)
    with suppress(OSError):
        sys.stdout.write(text.get())
    flush_or_drop()


def show_text(value: object, style: str = "") -> Text:
    """What an outsider wrote, on one line: it is no markup, and nothing of it steers a terminal. Unknown is a dash."""
    from rich.text import Text

    text = "-" if value is None or value == "" else str(value)
    return Text(text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text), style=style)


def show_number(value: object) -> str:
    """Thousands apart; unknown is a dash, and not 0."""
    return f"{value:,}" if isinstance(value, int) else "-" if value is None else str(value)


def show_money(nanos: object) -> str:
    """US dollars; unknown is a dash."""
    from penstock.pricing import show_usd

    return show_usd(nanos) if isinstance(nanos, int) else "-"


def show_ms(value: object) -> str:
    """Milliseconds in three digits or so: `0.4 ms`, `850 ms`, `12.3 s`."""
    if not isinstance(value, int | float):
        return "-"
    if value < 10:
        return f"{value:.1f} ms"
    return f"{value:.0f} ms" if value < 10_000 else f"{value / 1000:.1f} s"


def show_time(seconds: object) -> str:
    """UTC, to the second; a dash too where no calendar has it."""
    if not isinstance(seconds, int | float):
        return "-"
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return "-"


def known(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Those of the columns in which any row has something to show."""
    return [name for name in names if any(row.get(name) for row in rows)]
