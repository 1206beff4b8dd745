"""Which rules hold where: the guards of one route, brought together once at start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from penstock.policy.matcher import Hold
from penstock.policy.rules import IN_ANSWERS, Rule, Scope

Rules = Mapping[Scope, tuple[Rule, ...]]
"""What is not in it is not judged."""
EVERYWHERE: frozenset[Scope] = frozenset(Scope)
Speech = Literal["request", "answer"]


@dataclass(frozen=True, slots=True)
class Guard:
    """One guard as it was configured."""

    name: str
    rules: tuple[Rule, ...] = ()
    scopes: frozenset[Scope] = EVERYWHERE
    on: frozenset[Speech] = frozenset({"request", "answer"})


class Guards:
    """All that hold for one exchange, in their order."""

    __slots__ = ("answers", "hold", "names", "requests")

    def __init__(self, guards: Sequence[Guard], hold: Hold | None = None) -> None:
        self.hold = hold or Hold()
        self.names = tuple(guard.name for guard in guards)
        self.requests: Rules = _by_scope(guards, "request", Scope)
        self.answers: Rules = _by_scope(guards, "answer", IN_ANSWERS)

    @property
    def judges_requests(self) -> bool:
        return bool(self.requests)

    @property
    def judges_answers(self) -> bool:
        return bool(self.answers)


def _by_scope(guards: Sequence[Guard], speech: Speech, scopes: Iterable[Scope]) -> Rules:
    rules = {scope: tuple(rule for guard in guards if scope in guard.scopes and speech in guard.on for rule in guard.rules) for scope in scopes}
    return {scope: found for scope, found in rules.items() if found}


def closed_guard(rules: Rules) -> Rule | None:
    """A rule that must not be gone around: the first whose guard is closed."""
    return next((rule for found in rules.values() for rule in found if rule.closed and rule.holds), None)
