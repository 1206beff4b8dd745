"""What environment and command line say over the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import cast

from penstock.config.document import Listing, Scalar
from penstock.config.errors import Place, Problems
from penstock.config.model import TOP
from penstock.config.shape import Field, Group
from penstock.config.walk import Given, read_field

CONFIG_VARIABLE = "PENSTOCK_CONFIG"
_READ_ELSEWHERE = (CONFIG_VARIABLE, "PENSTOCK_KEYS_SECRET")


def fields(entries: Iterable[Field | Group] = TOP) -> Iterator[tuple[str, Field]]:
    """Every field, as `key` or `group.key`."""
    for entry in entries:
        if isinstance(entry, Group):
            for name, below in fields(entry.fields):
                yield f"{entry.name}.{name}", below
        else:
            yield entry.name, entry


def from_environment(environ: Mapping[str, str], problems: Problems) -> tuple[dict[str, Given], list[str]]:
    """What `PENSTOCK_...` variables set, and notes on those that look misspelt.

    A variable that is set but empty counts as not set. Unknown ones are no errors: Kubernetes sets `PENSTOCK_PORT` and the like by
    itself for a service of this name.
    """
    given: dict[str, Given] = {}
    known = {field.variable: (name, field) for name, field in fields() if field.variable is not None}
    for variable, (name, field) in known.items():
        text = environ.get(variable, "")
        if text.strip():
            value = _read(field, text, Place("environment", None, variable), problems)
            if value is not None:
                given[name] = value
    notes: list[str] = []
    meant = (*known, *_READ_ELSEWHERE)
    for variable in sorted(environ):
        if variable.startswith("PENSTOCK_") and variable not in meant:
            # PENSTOCK_CONFIG_FILE is nearer to PENSTOCK_LOG_FILE by its letters.
            close = [CONFIG_VARIABLE] if variable.startswith(CONFIG_VARIABLE) else get_close_matches(variable, meant, n=1, cutoff=0.85)
            if close:
                notes.append(f"the variable {variable} is not known and does nothing; did you mean {close[0]}?")
    return given, notes


def from_command_line(overrides: Mapping[str, object], problems: Problems) -> dict[str, Given]:
    """What the command line set, by `key` or `group.key`; `None` is not set. Raises KeyError for a key that there is not: our bug."""
    known = dict(fields())
    given: dict[str, Given] = {}
    for name, value in overrides.items():
        field = known[name]
        if value is None or value == ():
            continue
        option = "--" + name.replace(".", "-").replace("_", "-")
        texts = [str(item) for item in cast("Sequence[object]", value)] if isinstance(value, list | tuple) else str(value)
        read = _read(field, texts, Place("command line", None, option), problems)
        if read is not None:
            given[name] = read
    return given


def _read(field: Field, text: str | list[str], place: Place, problems: Problems) -> Given | None:
    if field.many:
        parts = text if isinstance(text, list) else [part.strip() for part in text.split(",") if part.strip()]
        return read_field(field, Listing(tuple(Scalar(part, "str") for part in parts)), place, problems)
    return read_field(field, Scalar(text if isinstance(text, str) else ",".join(text), "str"), place, problems)
