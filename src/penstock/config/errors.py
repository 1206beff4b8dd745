"""What is wrong with a configuration: all of it at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: a file's name and line, or `environment` or `command line`, and the key there."""

    file: str
    line: int | None
    """Counted from 1."""
    path: str
    """`providers.openai.api_key`, `routes[2].model`, `PENSTOCK_LISTEN`, `--listen`; empty for the file as a whole."""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line is not None else self.file
        return f"{where}: {self.path}" if self.path else where

    def below(self, key: str, line: int | None = None) -> Place:
        path = f"{self.path}{key}" if key.startswith("[") or not self.path else f"{self.path}.{key}"
        return Place(self.file, line if line is not None else self.line, path)


@dataclass(frozen=True, slots=True)
class ConfigError:
    file: str
    line: int | None
    path: str
    message: str
    """What is wrong and what to write instead; never a secret."""

    def __str__(self) -> str:
        return f"{Place(self.file, self.line, self.path)}: {self.message}"


class ConfigErrors(Exception):
    """Every error of one configuration, in the order in which they stand in the file."""

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(str(error) for error in errors))


class Unfit(ValueError):
    """One value does not fit its key. Its text is the message of a `ConfigError`."""


class Problems:
    """Gathers errors while reading goes on."""

    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found: list[ConfigError] = []

    def add(self, place: Place, message: str) -> None:
        error = ConfigError(place.file, place.line, place.path, message)
        if error not in self.found:
            self.found.append(error)

    def raise_any(self) -> None:
        """Raises `ConfigErrors` if there is one."""
        if self.found:
            raise ConfigErrors(sorted(self.found, key=lambda error: (error.file in ("environment", "command line"), error.line or 0)))
