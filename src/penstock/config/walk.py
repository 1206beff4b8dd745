"""From nodes to values by the model: unknown keys, wrong shapes and unfit values are noted, and reading goes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from penstock.config.document import Listing, Node, Scalar, Section
from penstock.config.errors import Place, Problems, Unfit
from penstock.config.model import SYNONYMS
from penstock.config.shape import Field, Group
from penstock.wire.secrets import mask_secrets


@dataclass(frozen=True, slots=True)
class Given:
    """A value that was given, and where."""

    value: object
    place: Place
    shown: str = ""
    """The value for an error message."""


def read_fields(
    section: Section, fields: Iterable[Field | Group], place: Place, problems: Problems, others: tuple[str, ...] = ()
) -> dict[str, Given]:
    """The values of `section` by key, those of groups as `group.key`; a group itself as `group`, with the value that stands alone in its
    place, else `None`. `others`: keys that the caller reads itself."""
    by_name = {entry.name: entry for entry in fields}
    given: dict[str, Given] = {}
    for key, node in section.items:
        here = place.below(mask_secrets(key.text), key.line)
        match by_name.get(key.text):
            case None:
                if key.text not in others:
                    problems.add(here, f"is no key{_within(place)}; {_instead(key.text, by_name, others)}")
            case Group() as group:
                given |= _read_group(group, node, here, problems)
            case Field() as known:
                value = read_field(known, node, here, problems)
                if value is not None:
                    given[known.name] = value
    return given


def read_field(known: Field, node: Node, here: Place, problems: Problems) -> Given | None:
    """`None`: it was not fit, and that is noted."""
    if known.many:
        if isinstance(node, Scalar):
            problems.add(here, "must be a list, like [one, two]")
            return None
        if isinstance(node, Section):
            problems.add(here, "must be a list, not a mapping")
            return None
        values: list[object] = []
        for index, item in enumerate(node.items):
            below = here.below(f"[{index}]", item.line)
            value = _read_scalar(known, item, below, problems)
            if value is not None:
                values.append(value.value)
        return Given(tuple(values), here)
    return _read_scalar(known, node, here, problems)


def section_of(node: Node, here: Place, problems: Problems, example: str) -> Section | None:
    """The mapping that `node` must be; a key with nothing behind it is an empty one."""
    if isinstance(node, Section):
        return node
    if isinstance(node, Scalar) and node.tag == "null":
        return Section((), node.line)
    problems.add(here, f"must be a mapping, like {example}")
    return None


def suggest(word: str, known: Iterable[str], listed: Iterable[str] | None = None) -> str:
    """What to write instead of an unknown `word`. `listed`: those of `known` that are told where none is close; left out: all."""
    names = list(known)
    low = word.lower().replace("-", "_")
    if low in names:
        return f"did you mean {low!r}?"
    synonym = SYNONYMS.get(low)
    close = get_close_matches(low, names, n=1, cutoff=0.7)
    if close:
        return f"did you mean {close[0]!r}?"
    if synonym in names:
        return f"did you mean {synonym!r}?"
    return f"there is {', '.join(names if listed is None else listed)}"


def _instead(word: str, by_name: Mapping[str, Field | Group], others: tuple[str, ...]) -> str:
    return suggest(word, [*by_name, *others], [*(name for name, entry in by_name.items() if not entry.second), *others])


def _read_group(group: Group, node: Node, here: Place, problems: Problems) -> dict[str, Given]:
    if group.alone is not None and isinstance(node, Scalar) and node.tag != "null":
        value = _read_scalar(group.alone, node, here, problems)
        return {} if value is None else {group.name: value}
    section = section_of(node, here, problems, group.example)
    if section is None:
        return {}
    below = read_fields(section, group.fields, here, problems)
    return {group.name: Given(None, here), **{f"{group.name}.{name}": value for name, value in below.items()}}


def _read_scalar(known: Field, node: Node, here: Place, problems: Problems) -> Given | None:
    if isinstance(node, Listing | Section):
        problems.add(here, f"must be one value, not a {'list' if isinstance(node, Listing) else 'mapping'}")
        return None
    if node.raw is not None and not node.text and any(error.line == here.line and error.path == here.path for error in problems.found):
        return None  # The variable is not set; that it is therefore empty goes without saying.
    try:
        return Given(known.read(node), here, node.shown)
    except Unfit as error:
        problems.add(here, str(error))
        return None


def _within(place: Place) -> str:
    return f" of {place.path}" if place.path else ""
