"""The gateway's own keys, as sums tell them: by name, one line however often a key is rotated. Credentials of others have their fingerprint.

Keys are made and kept by `stores.keys`, in the same database; here they are only read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

_virtual_keys = sa.table("virtual_keys", sa.column("id", sa.Text), sa.column("name", sa.Text), sa.column("fingerprint", sa.Text))
ROWS = sa.select(_virtual_keys.c.id, _virtual_keys.c.name, _virtual_keys.c.fingerprint)
_SHORTEST = 8
"""Characters of an id's beginning that are enough to name it, as `penstock keys` has it."""


@dataclass(frozen=True, slots=True)
class Whose:
    """The exchanges of some keys: those with these ids, and those without any that showed one of these credentials."""

    ids: tuple[str, ...]
    fingerprints: tuple[str, ...]

    def holds(self, column: Callable[[str], sa.ColumnElement[Any]]) -> sa.ColumnElement[bool]:
        """The condition. `column`: by name, unknown as the empty text."""
        return sa.or_(
            column("key_id").in_(self.ids), sa.and_(column("key_id") == "", column("key_fingerprint").in_(self.fingerprints)))


class OwnKeys:
    """All of them, at one moment."""

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """`rows`: of `ROWS`."""
        self._rows = {str(row["id"]): row for row in rows}
        self._same = Counter(row["name"] for row in self._rows.values())
        self._shown: dict[str | None, str] = {row["fingerprint"]: id for id, row in self._rows.items()}

    def named(self, text: str) -> Whose:
        """Those of this name, id (or the beginning of one), or fingerprint; else it is taken for the fingerprint of somebody else's."""
        found = [
            row for id, row in self._rows.items()
            if text in (id, row["name"], row["fingerprint"]) or (len(text) >= _SHORTEST and id.startswith(text))
        ]  # fmt: skip
        if not found:
            return Whose((), (text,))
        return Whose(tuple(row["id"] for row in found), tuple(row["fingerprint"] for row in found))

    def gathered(self, rows: Iterable[Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
        """Sums by key and `names` out of sums by `key_id`, `key_fingerprint` and `names`. What has no id (it was refused, or is older than ids) is
        the key's whose credential was shown. Done here and not in SQL, where thousands of keys would be as many conditions on every row."""
        sums: dict[tuple[Any, ...], dict[str, Any]] = {}
        for row in rows:
            id = row["key_id"] or self._shown.get(row["key_fingerprint"])
            by = {"key_id": id, "key_fingerprint": None if id else row["key_fingerprint"]}
            others = {name: row[name] for name in names}
            figures = {name: value for name, value in row.items() if name not in by and name not in others}
            key = (*by.values(), *others.values())
            there = sums.get(key)
            if there is None:
                sums[key] = {**self.told(by), **others, **figures}
                continue
            there |= {name: value + (there[name] or 0) for name, value in figures.items() if value is not None}
        return list(sums.values())

    def told(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """`key`, `key_id` and `key_fingerprint` of a sum by these two: the name of a key, with its id where two have the same."""
        id, fingerprint = row["key_id"], row["key_fingerprint"]
        own = self._rows.get(id) if id is not None else None
        if own is None:
            return {"key": id or fingerprint, "key_id": id, "key_fingerprint": fingerprint}
        name = own["name"] if self._same[own["name"]] == 1 else f"{own['name']} ({id})"
        return {"key": name, "key_id": id, "key_fingerprint": own["fingerprint"]}
