"""What a key of the file can be: one value, a list of values, or keys of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from penstock.config.document import Scalar

Fragment = Mapping[str, object]
"""A piece of JSON Schema."""


@dataclass(frozen=True, slots=True)
class Field:
    """One key with a scalar, or (`many`) a list of scalars."""

    name: str
    read: Callable[[Scalar], object]
    """Raises `Unfit`."""
    means: str
    fragment: Fragment
    many: bool = False
    default: object = None
    """As an editor should show it; `None`: none to show."""
    variable: str | None = None
    """The environment's variable that overrides the file."""
    second: bool = False
    """Another spelling of a key that stands elsewhere; not offered where all keys are listed."""


@dataclass(frozen=True, slots=True)
class Group:
    """One key with keys of its own."""

    name: str
    fields: tuple[Field | Group, ...]
    means: str
    alone: Field | None = None
    """The same key with one value instead of keys, where that is allowed."""
    second: bool = False

    @property
    def example(self) -> str:
        first = self.fields[0]
        return first.example if isinstance(first, Group) else f"{{{first.name}: {first.default or '...'}}}"


_OFF = "off|Off|OFF|no|false"

STRING: Fragment = {"type": "string", "minLength": 1}
WORD: Fragment = {"type": ["string", "integer"], "minLength": 1}
SIZE: Fragment = {"type": ["integer", "string"], "pattern": r"^[0-9]+ *([KMGkmg][iI]?[Bb]|[KMGBkmgb])?$|\$\{", "minimum": 1}
FLAG: Fragment = {
    "type": ["boolean", "string", "integer"], "pattern": r"^(true|false|yes|no|on|off|On|Off|[01])$|\$\{", "minimum": 0, "maximum": 1,
}
COUNT: Fragment = {"type": ["integer", "string"], "pattern": r"^[0-9]+$|\$\{", "minimum": 1}
ADDRESS: Fragment = {"type": ["string", "integer"], "pattern": r"^(.+:)?[0-9]{1,5}$|\$\{"}
DAYS: Fragment = {"type": ["integer", "string"], "minimum": 1, "pattern": r"^([0-9]+ *(d|days?)?|forever)$|\$\{"}
SECONDS: Fragment = {"type": ["number", "string"], "pattern": r"^[0-9]+(\.[0-9]+)? *(ms|s|m|h)?$|\$\{", "exclusiveMinimum": 0}
VARIABLE: Fragment = {"type": "string", "pattern": r"\$\{", "description": "Taken from the environment."}
"""Beside the words of an `enum`, which a variable may hold as well as any other value."""

MONEY: Fragment = {"type": ["number", "string"], "minimum": 0, "pattern": r"^\$?[0-9]+(\.[0-9]+)?$|\$\{"}
PART: Fragment = {"type": ["number", "string"], "maximum": 1, "pattern": r"^-?[0-9]+(\.[0-9]+)? *%?$|\$\{"}

# An editor that reads YAML 1.1 sees `off` as false, one that reads 1.2 as a word.
OFF: Fragment = {"enum": ["off", False]}
SECONDS_OR_OFF: Fragment = {
    "type": ["number", "string", "boolean"], "pattern": rf"^([0-9]+(\.[0-9]+)? *(ms|s|m|h)?|{_OFF})$|\$\{{", "exclusiveMinimum": 0,
    "not": {"const": True},
}
COUNT_OR_OFF: Fragment = {"type": ["integer", "string", "boolean"], "pattern": rf"^([0-9]+|{_OFF})$|\$\{{", "minimum": 1, "not": {"const": True}}
CHARS_OR_WORDS: Fragment = {"type": ["integer", "string"], "pattern": r"^([0-9]+|words)$|\$\{", "minimum": 1}
MILLISECONDS: Fragment = {"type": ["number", "string"], "pattern": r"^[0-9]+(\.[0-9]+)?$|\$\{", "minimum": 0, "maximum": 10_000}
RETRIES: Fragment = {
    "type": ["integer", "string", "boolean"], "pattern": rf"^([0-9]|10|{_OFF})$|\$\{{", "minimum": 0, "maximum": 10, "not": {"const": True},
}
