"""Names of models at Argo: the list that its gateway gives, the names that argo-proxy made of it, and how clients' names are looked up.

An entry has a name for people (`GPT-4o`, `Claude Sonnet 4.5`) and one for the machine (`gpt4o`, `claudesonnet45`). Two shapes are known:
`{"id": machine, "model_name": people}`, the older one, and `{"id": people, "internal_id": machine}`; an entry with an `id` alone has one
name for both. argo-proxy's users know the models by `argo:` and the people's name in lower case with `-` for blanks; Claude's with codename
and generation in either order (`argo:claude-4.5-sonnet`), and those of machine names `gpto...` with `gpt-` in front as well.

A client's name is looked up so, each time among machine names first and then among aliases, and the first hit counts: as it is written; with
`:` for `/`; in lower case; both; each of these with `argo:` in front; reduced to letters and digits; and all of it again without a date
(`-20250929`) at its end. What is found nowhere is nobody: no other model is put in its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

PREFIX = "argo:"
_EMBEDDINGS = {"ada002": "text-embedding-ada-002", "v3small": "text-embedding-3-small", "v3large": "text-embedding-3-large"}
"""Served without being listed."""
# As the gateway listed them when its own proxy was written; a list that it gives takes their place.
BUILT_IN: Final[tuple[tuple[str, str], ...]] = (
    ("gpt35", "GPT-3.5 Turbo"), ("gpt35large", "GPT-3.5 Turbo 16k"), ("gpt4", "GPT-4"), ("gpt4large", "GPT-4 32k"), ("gpt4turbo", "GPT-4 Turbo"),
    ("gpt4o", "GPT-4o"), ("gpt4olatest", "GPT-4o Latest"), ("gpto1mini", "o1 Mini"), ("gpto1preview", "o1 Preview"), ("gpto1", "o1"),
    ("gpto3mini", "o3 Mini"), ("gpto3", "o3"), ("gpto4mini", "o4 Mini"), ("gpt41", "GPT-4.1"), ("gpt41mini", "GPT-4.1 Mini"),
    ("gpt41nano", "GPT-4.1 Nano"), ("gemini25pro", "Gemini 2.5 Pro"), ("gemini25flash", "Gemini 2.5 Flash"), ("claudeopus4", "Claude Opus 4"),
    ("claudesonnet4", "Claude Sonnet 4"), ("claudesonnet37", "Claude Sonnet 3.7"), ("claudesonnet35v2", "Claude Sonnet 3.5 v2"),
)  # fmt: skip
_DATE = re.compile(r"-\d{8}\Z")
_OTHER = re.compile(r"[^a-z0-9]")
_GENERATION = re.compile(r"[0-9]+(?:\.[0-9]+)*\Z")
_LONGEST = 200


class BadNames(ValueError):
    """An answer that is no list of models. Its text is one clause for people."""


class Named(NamedTuple):
    """One model: what the provider is told, and what clients may write for it besides."""

    id: str
    aliases: tuple[str, ...]


class _Entry(msgspec.Struct):
    id: Any = None
    model_name: Any = None
    internal_id: Any = None


class _Listing(msgspec.Struct):
    data: list[msgspec.Raw]


_listing: msgspec.json.Decoder[_Listing | list[msgspec.Raw]] = msgspec.json.Decoder(_Listing | list[msgspec.Raw])
_entry = msgspec.json.Decoder(_Entry)


class Directory:
    """The models of one list, by every name that they have."""

    __slots__ = ("_by_alias", "_ids")

    def __init__(self, entries: Iterable[tuple[str, str]]) -> None:
        """`entries`: machine name and people's name of each."""
        self._ids: dict[str, None] = {}
        self._by_alias: dict[str, str] = {}
        for id, shown in (*entries, *_EMBEDDINGS.items()):
            self._ids[id] = None
            for alias in make_aliases(id, shown):
                self._by_alias.setdefault(alias, id)

    def resolve(self, name: str) -> str | None:
        """What the provider calls the model that a client calls `name`; `None`: it has none of that name."""
        for candidate in _candidates(name.strip()):
            if candidate in self._ids:
                return candidate
            if candidate in self._by_alias:
                return self._by_alias[candidate]
        return None

    def models(self) -> list[Named]:
        """All of them, in the list's order, with their aliases."""
        aliases: dict[str, list[str]] = {id: [] for id in self._ids}
        for alias, id in self._by_alias.items():
            aliases[id].append(alias)
        return [Named(id, tuple(names)) for id, names in aliases.items()]

    @property
    def aliases(self) -> Mapping[str, str]:
        """Names and the ids that they stand for, in the order of the list."""
        return self._by_alias

    @property
    def is_empty(self) -> bool:
        """Was no model listed?"""
        return len(self._ids) <= len(_EMBEDDINGS)

    def __len__(self) -> int:
        return len(self._ids)


class Names:
    """The models of a gateway that is asked for its list now and then, and has some that are known before."""

    __slots__ = ("_directory",)

    def __init__(self) -> None:
        self._directory = Directory(BUILT_IN)

    def learn(self, directory: Directory) -> None:
        """These models from now on; a list without any teaches nothing."""
        if not directory.is_empty:
            self._directory = directory

    @property
    def aliases(self) -> Mapping[str, str]:
        return self._directory.aliases

    def resolve(self, name: str) -> str | None:
        """What the gateway calls the model that a client calls `name`; `None`: none of these has that name."""
        return self._directory.resolve(name)

    def id_of(self, name: str) -> str:
        """What the gateway is told: the id where `name` is known, else the name itself without `argo:`, for the gateway to judge."""
        found = self._directory.resolve(name)
        if found is not None:
            return found
        written = name.replace("/", ":", 1)
        return name[len(PREFIX):] if written.lower().startswith(PREFIX) and len(name) > len(PREFIX) else name


def read_directory(body: bytes) -> Directory:
    """The directory in a provider's answer; entries without a name are left out. Raises `BadNames`."""
    try:
        body.decode()
        found: _Listing | list[msgspec.Raw] = _listing.decode(body)
    except (ValueError, RecursionError):
        raise BadNames("the answer is no list of models") from None
    raws = found if isinstance(found, list) else found.data
    return Directory(entry for entry in (_read_entry(bytes(raw)) for raw in raws) if entry is not None)


def make_aliases(id: str, shown: str) -> Iterator[str]:
    """What clients may write for a model, besides its machine name."""
    plain = "-".join(shown.lower().split())
    yield PREFIX + plain
    if id.startswith("gpto") and not plain.startswith("gpt"):
        yield f"{PREFIX}gpt-{plain}"
    words = plain.split("-")
    if len(words) >= 3 and words[0] == "claude" and bool(_GENERATION.match(words[1])) != bool(_GENERATION.match(words[2])):
        yield PREFIX + "-".join([words[0], words[2], words[1], *words[3:]])


def _read_entry(raw: bytes) -> tuple[str, str] | None:
    try:
        entry = _entry.decode(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry.id, str) or not entry.id.strip():
        return None
    id = entry.id.strip()
    if isinstance(entry.internal_id, str) and entry.internal_id.strip():
        return entry.internal_id.strip(), id
    return id, entry.model_name if isinstance(entry.model_name, str) and entry.model_name.strip() else id


def _candidates(name: str) -> Iterator[str]:
    if not name or len(name) > _LONGEST:
        return
    yield from _spellings(name)
    undated = _DATE.sub("", name)
    if undated != name:
        yield from _spellings(undated)


def _spellings(name: str) -> Iterator[str]:
    colons = name.replace("/", ":")
    written: Mapping[str, None] = dict.fromkeys((name, colons, name.lower(), colons.lower()))
    yield from written
    for spelling in written:
        if not spelling.startswith(PREFIX):
            yield PREFIX + spelling
    yield _OTHER.sub("", name.lower())
