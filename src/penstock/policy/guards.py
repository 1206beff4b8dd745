"""Which rules hold where: the guards of one route, brought together once at start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from penstock.policy.matcher import Findings, Hold, Rejection
from penstock.policy.outside import Outside, rejection
from penstock.policy.rules import IN_ANSWERS, Action, Rule, Scope
from penstock.policy.windows import Windows

Rules = Mapping[Scope, tuple[Rule, ...]]
"""What is not in it is not judged."""
Outsides = Mapping[Scope, tuple[Outside, ...]]
"""Who is asked outside, by scope, in their order."""
EVERYWHERE: frozenset[Scope] = frozenset(Scope)
Speech = Literal["request", "answer"]


@dataclass(frozen=True, slots=True)
class Guard:
    """One guard as it was configured."""

    name: str
    rules: tuple[Rule, ...] = ()
    scopes: frozenset[Scope] = EVERYWHERE
    on: frozenset[Speech] = frozenset({"request", "answer"})
    no_uploads: Rejection | None = None
    """With which what it cannot look into is refused: bodies that are passed on as they come; `None`: they pass."""
    blind: str = ""
    """Where it does not look, for whoever runs the gateway; empty: nothing is to be said."""
    outside: Outside | None = None
    """It is asked outside, and has no rules."""


class Guards:
    """All that hold for one exchange, in their order."""

    __slots__ = ("answers", "ask_answers", "ask_requests", "hold", "may_reject", "names", "no_uploads", "outsides", "patience", "requests", "windows")

    def __init__(self, guards: Sequence[Guard], hold: Hold | None = None, windows: Windows | None = None) -> None:
        self.hold = hold or Hold()
        self.windows = windows or Windows()
        self.names = tuple(guard.name for guard in guards)
        self.no_uploads = next((guard.no_uploads for guard in guards if guard.no_uploads is not None), None)
        self.requests: Rules = _by_scope(guards, "request", Scope)
        self.answers: Rules = _by_scope(guards, "answer", IN_ANSWERS)
        self.outsides = tuple(guard.outside for guard in guards if guard.outside is not None)
        self.ask_requests: Outsides = _outside(guards, "request", Scope)
        self.ask_answers: Outsides = _outside(guards, "answer", IN_ANSWERS)
        rejecting = [rule for rules in self.answers.values() for rule in rules if rule.action is Action.REJECT]
        self.may_reject = bool(rejecting) or any(one.holds for found in self.ask_answers.values() for one in found)
        """Is there one that is there to reject an answer? (Any may, where it cannot judge.)"""
        self.patience = min(self.hold.seconds, self.windows.seconds) if self.ask_answers else self.hold.seconds
        """Seconds after which some text may have waited long enough."""

    @property
    def judges_requests(self) -> bool:
        return bool(self.requests)

    @property
    def judges_answers(self) -> bool:
        return bool(self.answers or self.ask_answers)


def _by_scope(guards: Sequence[Guard], speech: Speech, scopes: Iterable[Scope]) -> Rules:
    rules = {scope: tuple(rule for guard in guards if scope in guard.scopes and speech in guard.on for rule in guard.rules) for scope in scopes}
    return {scope: found for scope, found in rules.items() if found}


def _outside(guards: Sequence[Guard], speech: Speech, scopes: Iterable[Scope]) -> Outsides:
    found = {
        scope: tuple(guard.outside for guard in guards if guard.outside is not None and scope in guard.scopes and speech in guard.on)
        for scope in scopes
    }  # fmt: skip
    return {scope: some for scope, some in found.items() if some}


def is_closed(guards: Guards) -> bool:
    """Must an answer that cannot be read not pass?"""
    return closed_guard(guards.answers) is not None or closed_outside(guards.ask_answers) is not None


def unreadable(guards: Guards, why: str) -> Rejection | None:
    """With which an answer that no guard can read is refused; `None`: all are open, and it may pass."""
    rule, outside = closed_guard(guards.answers), closed_outside(guards.ask_answers)
    if rule is not None:
        return Rejection(rule.guard, why, rule.message, rule.in_stream)
    return None if outside is None else rejection(outside, why)


_NONE: Outsides = {}


def let_pass(findings: Findings, rules: Rules, outsides: Outsides = _NONE) -> None:
    """What no guard can read passes, for all are open: it is counted for each that would have held it."""
    findings.let_go.update(holding(rules, outsides))


def holding(rules: Rules, outsides: Outsides = _NONE) -> tuple[str, ...]:
    """The guards that do not only count."""
    inside = {rule.guard for found in rules.values() for rule in found if rule.holds}
    return (*sorted(inside), *sorted({one.guard for found in outsides.values() for one in found if one.holds}))


def closed_outside(outsides: Outsides) -> Outside | None:
    """The same of those that are asked outside."""
    return next((one for found in outsides.values() for one in found if one.closed and one.holds), None)


def closed_guard(rules: Rules) -> Rule | None:
    """A rule that must not be gone around: the first whose guard is closed."""
    return next((rule for found in rules.values() for rule in found if rule.closed and rule.holds), None)
