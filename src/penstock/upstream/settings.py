"""What can be set about connections to providers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Settings:
    connect: float = 10.0
    """Seconds for name, connection and TLS together."""
    idle: float = 55.0
    """Seconds that an unused connection is kept; providers close theirs after 60 and more."""
    most_idle: int = 1024
    """Unused connections kept to one origin."""
    ca_file: str | None = None
    """A PEM file of further authorities."""
    resolve: Mapping[tuple[str, int], str] = field(default_factory=dict[tuple[str, int], str])
    """The address to dial for a host (in lower case) and port, in the place of a look-up."""
