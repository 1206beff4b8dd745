"""How many exchanges may be under way at the same time: of the gateway, of a provider, of a route. Pure."""

from __future__ import annotations

from collections.abc import Mapping


class Permits:
    """Counts what is taken under each name that has a limit; names without one are free."""

    __slots__ = ("_limits", "_taken")

    def __init__(self, limits: Mapping[str, int]) -> None:
        self._limits = dict(limits)
        self._taken = dict.fromkeys(self._limits, 0)

    def __bool__(self) -> bool:
        """Is there any limit?"""
        return bool(self._limits)

    def take(self, names: tuple[str, ...]) -> str | None:
        """One permit under every name, or none at all: then the name that is full."""
        limited = [name for name in names if name in self._limits]
        for name in limited:
            if self._taken[name] >= self._limits[name]:
                return name
        for name in limited:
            self._taken[name] += 1
        return None

    def give(self, names: tuple[str, ...]) -> None:
        """Back what was taken."""
        for name in names:
            if name in self._taken:
                self._taken[name] -= 1

    def taken(self, name: str) -> int:
        return self._taken.get(name, 0)


GATEWAY = "gateway"


def permit_names(provider: str, route: int | None) -> tuple[str, ...]:
    """What an exchange with `provider` by this route takes permits of."""
    names = (GATEWAY, f"provider {provider}")
    return names if route is None else (*names, f"route {route + 1}")
