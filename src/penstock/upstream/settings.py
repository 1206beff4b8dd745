"""What can be set about connections to providers."""

from __future__ import annotations

from dataclasses import dataclass


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
