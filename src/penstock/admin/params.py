"""What the query of an API request asks for. Everything that is not understood is refused in words: a filter that is silently left out
would show somebody else's sums.

Times are written as on the command line (`ledger.moments`): a day is meant whole, `since` from its first second, `until` to its last.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

from penstock.ledger.moments import parse_time
from penstock.ledger.query import GROUPS, Group
from penstock.vocabulary.ids import Operation
from penstock.vocabulary.outcome import Ending

LAST = 50
MOST = 1000
"""Exchanges of one answer."""

_EXCHANGES = ("last", "outcome", "provider", "model", "operation", "since", "until", "id", "open")
_WHOSE = ("user_id", "project", "session_id", "client", "effort")
_USAGE = ("by", "since", "until", "provider", "model", "requested_model", "operation", "outcome", "key_fingerprint", "key_id", "key", *_WHOSE)
_LISTS = frozenset({"by", "outcome"})
_LONGEST = 256


class BadParameter(ValueError):
    """A query that asks for nothing that there is. Its text is a sentence for the client."""


@dataclass(frozen=True, slots=True)
class Asked:
    """`filters` are the keyword arguments of the ledger's own function."""

    filters: Mapping[str, Any]
    by: Sequence[Group] = ()
    last: int = LAST


def parse_exchanges(items: Iterable[tuple[str, str]], now: float) -> Asked:
    """For `/api/exchanges`. Raises `BadParameter`."""
    said = _gather(items, _EXCHANGES)
    outcomes = [_one_of("outcome", name.upper(), Ending) for name in said.get("outcome", [])]
    filters: dict[str, Any] = {
        "outcome": outcomes or None,
        "provider": _text(said, "provider"),
        "model": _text(said, "model"),
        "operation": _operation(said),
        **_span(said, now),
        "id_prefix": _text(said, "id"),
        "open_only": _flag(said, "open"),
    }
    return Asked(filters, last=_last(_text(said, "last")))


def parse_usage(items: Iterable[tuple[str, str]], now: float) -> Asked:
    """For `/api/usage`. Raises `BadParameter`."""
    said = _gather(items, _USAGE)
    outcomes = said.get("outcome", [])
    if len(outcomes) > 1:
        raise BadParameter("outcome may be given once here; by=outcome tells them apart")
    groups = [_one_of("by", name, GROUPS) for name in said.get("by", ["model"])]
    filters: dict[str, Any] = {
        **_span(said, now),
        "provider": _text(said, "provider"),
        "model": _text(said, "model"),
        "requested_model": _text(said, "requested_model"),
        "operation": _operation(said),
        "outcome": _one_of("outcome", outcomes[0].upper(), Ending) if outcomes else None,
        **{name: _text(said, name) for name in ("key_fingerprint", "key_id", "key")},
        **{name: _text(said, name) for name in _WHOSE},
    }
    return Asked(filters, by=tuple(dict.fromkeys(cast("list[Group]", groups))))


def _gather(items: Iterable[tuple[str, str]], known: Sequence[str]) -> dict[str, list[str]]:
    said: dict[str, list[str]] = {}
    for name, value in items:
        if name not in known:
            raise BadParameter(f"there is no parameter {_shown(name)}; there are {', '.join(known)}")
        if not value.strip() or len(value) > _LONGEST or "\0" in value:
            raise BadParameter(f"{name} needs a value of 1 to {_LONGEST} characters")
        if name in _LISTS:
            said.setdefault(name, []).extend(part.strip() for part in value.split(",") if part.strip())
        elif name in said:
            raise BadParameter(f"{name} is given twice")
        else:
            said[name] = [value]
    return said


def _text(said: Mapping[str, list[str]], name: str) -> str | None:
    values = said.get(name)
    return values[0] if values else None


def _one_of(name: str, value: str, known: Iterable[str]) -> str:
    names = [str(one) for one in known]
    if value not in names:
        raise BadParameter(f"{name} cannot be {_shown(value)}; it takes {', '.join(names)}")
    return value


def _operation(said: Mapping[str, list[str]]) -> str | None:
    value = _text(said, "operation")
    kinds: type[StrEnum] = Operation
    return None if value is None else _one_of("operation", value, kinds)


def _last(text: str | None) -> int:
    if text is None:
        return LAST
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= MOST:
        raise BadParameter(f"last takes a number from 1 to {MOST}")
    return int(text)


def _flag(said: Mapping[str, list[str]], name: str) -> bool:
    value = _text(said, name)
    if value is None:
        return False
    return _one_of(name, value.lower(), ("true", "false", "1", "0")) in ("true", "1")


def _span(said: Mapping[str, list[str]], now: float) -> dict[str, float | None]:
    since, until = _text(said, "since"), _text(said, "until")
    try:
        begin = None if since is None else parse_time(since, now)
        end = None if until is None else parse_time(until, now, end=True)
    except ValueError as error:
        raise BadParameter(str(error)) from None
    if begin is not None and end is not None and begin >= end:
        raise BadParameter("since must be before until")
    return {"since": begin, "until": end}


def _shown(text: str) -> str:
    """A client's own words in a sentence: printable and short."""
    return repr(text if len(text) <= 60 else text[:60] + "...")
