"""What Argo's models are called: its internal ids, and the names that clients write for them.

An id is `gpt4o` or `claudesonnet37`; a name is `argo:gpt-4o`, made of the display name: lower case, blanks as hyphens. The o-series has a name
with `gpt-` before it as well (`argo:gpt-o3` beside `argo:o3`), and Claude one in each order (`argo:claude-sonnet-3.7`, `argo:claude-3.7-sonnet`).

A name is looked for as it is written; with `/` as `:`; in lower case; with `argo:` before it; then by its letters and digits alone, which is what
ids are; and at last all of this without a date at its end (`-20250929`). What is not found is nobody's alias: the gateway judges it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

import msgspec

PREFIX: Final = "argo:"
_ODD = re.compile(r"[^a-z0-9]+")
_DATE = re.compile(r"-\d{8}\Z")
_LONGEST = 200
"""Characters of a name that is looked for."""
_MOST = 2000
"""Models of one list that are read."""

# As the gateway listed them when its own proxy was written; a list that it gives takes their place.
BUILT_IN: Final[tuple[tuple[str, str], ...]] = (
    ("gpt35", "GPT-3.5 Turbo"), ("gpt35large", "GPT-3.5 Turbo 16k"), ("gpt4", "GPT-4"), ("gpt4large", "GPT-4 32k"), ("gpt4turbo", "GPT-4 Turbo"),
    ("gpt4o", "GPT-4o"), ("gpt4olatest", "GPT-4o Latest"), ("gpto1mini", "o1 Mini"), ("gpto1preview", "o1 Preview"), ("gpto1", "o1"),
    ("gpto3mini", "o3 Mini"), ("gpto3", "o3"), ("gpto4mini", "o4 Mini"), ("gpt41", "GPT-4.1"), ("gpt41mini", "GPT-4.1 Mini"),
    ("gpt41nano", "GPT-4.1 Nano"), ("gemini25pro", "Gemini 2.5 Pro"), ("gemini25flash", "Gemini 2.5 Flash"), ("claudeopus4", "Claude Opus 4"),
    ("claudesonnet4", "Claude Sonnet 4"), ("claudesonnet37", "Claude Sonnet 3.7"), ("claudesonnet35v2", "Claude Sonnet 3.5 v2"),
)  # fmt: skip
EMBEDDING: Final[tuple[tuple[str, str], ...]] = (
    ("ada002", "text-embedding-ada-002"), ("v3small", "text-embedding-3-small"), ("v3large", "text-embedding-3-large"),
)  # fmt: skip
"""The gateway's list leaves these out."""


class Names:
    """The models of one gateway."""

    __slots__ = ("_aliases", "_ids")

    def __init__(self, models: Iterable[tuple[str, str]] = BUILT_IN) -> None:
        """`models`: internal id and display name."""
        self._aliases: dict[str, str] = {}
        self._ids: set[str] = set()
        self.learn(models)

    def learn(self, models: Iterable[tuple[str, str]]) -> None:
        """These models, and the embedding models, from now on."""
        aliases: dict[str, str] = {}
        ids: set[str] = set()
        for internal, display in (*models, *EMBEDDING):
            ids.add(internal)
            for alias in aliases_of(internal, display):
                aliases.setdefault(alias, internal)
        self._aliases, self._ids = aliases, ids

    @property
    def aliases(self) -> Mapping[str, str]:
        """Names and the ids that they stand for, in the order of the list."""
        return self._aliases

    def find(self, name: str) -> str | None:
        """The internal id that `name` means; `None`: none that is known."""
        if len(name) > _LONGEST:
            return None
        found = self._find(name)
        return found if found is not None else self._find(_DATE.sub("", name))

    def id_of(self, name: str) -> str:
        """What the gateway is told: the id where `name` is known, else the name itself without `argo:`."""
        found = self.find(name)
        if found is not None:
            return found
        written = name.replace("/", ":", 1)
        return name[len(PREFIX):] if written.lower().startswith(PREFIX) and len(name) > len(PREFIX) else name

    def _find(self, name: str) -> str | None:
        if name in self._ids:
            return name
        for tried in (name, name := name.replace("/", ":"), name := name.lower(), PREFIX + name):
            if tried in self._aliases:
                return self._aliases[tried]
        bare = _ODD.sub("", name.removeprefix(PREFIX))
        return bare if bare in self._ids else None


def aliases_of(internal: str, display: str) -> list[str]:
    """The names that clients may write, the first of them the one that is listed."""
    words = display.strip().lower().split()
    names = [PREFIX + "-".join(words)]
    if internal.startswith("gpto") and words and not words[0].startswith("gpt"):
        names.insert(0, f"{PREFIX}gpt-{'-'.join(words)}")
    if len(words) >= 3 and words[0] == "claude":
        codename, generation, *variant = words[1:]
        names.append(PREFIX + "-".join(("claude", generation, codename, *variant)))
    return names


def read_list(body: bytes) -> list[tuple[str, str]]:
    """The models in the gateway's own list, in either form of its entries: `{"id": internal, "model_name": display}`, and
    `{"id": display, "internal_id": internal}`. Raises `ValueError` where it is no list."""
    try:
        value: Any = msgspec.json.decode(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        value = fields.get("data", fields.get("models"))
    if not isinstance(value, list):
        raise ValueError("no list")
    found: list[tuple[str, str]] = []
    for entry in cast("list[Any]", value)[:_MOST]:
        fields = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
        name, internal, display = fields.get("id"), fields.get("internal_id"), fields.get("model_name")
        if internal is None:
            internal, display = name, display or name
        else:
            display = name
        if isinstance(internal, str) and isinstance(display, str) and internal and display.strip():
            found.append((internal, display))
    return found
