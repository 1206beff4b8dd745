"""Authorization rules, as data: allow, deny, require.

A request is refused by the first of these that holds:

1. a `deny` rule whose condition holds,
2. a `require` rule whose condition does not,
3. there are `allow` rules, and the condition of none of them holds.

What cannot be evaluated denies: a condition that asks for a value that is there and cannot be read refuses, under `deny` and `require`, and
does not hold under `allow`. A value that is absent is no riddle: nothing matches it. A condition holds when all of its fields match, and a
field when one of its patterns matches one of its values.

`Condition` is where an expression language would find its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from penstock.admission.address import Network, inside, read_address, read_network
from penstock.admission.facts import Facts, Unreadable, Unsettled, check_field
from penstock.admission.patterns import any_matches


class Effect(StrEnum):
    ALLOW = "allow"
    DENY = "deny"
    REQUIRE = "require"


class BadRule(ValueError):
    """What was written is no condition. Its text is a sentence for whoever wrote it."""


class Condition(Protocol):
    def holds(self, facts: Facts) -> bool:
        """Raises `Unreadable` where it cannot be told, and what `Facts.get` raises besides."""
        ...


@dataclass(frozen=True, slots=True)
class Test:
    """One field."""

    field: str
    patterns: tuple[str, ...]
    """With wildcards. `*` alone: there is a value at all."""
    negated: bool = False
    networks: tuple[Network, ...] = ()
    """Of `address`, in the place of patterns."""

    def holds(self, facts: Facts) -> bool:
        values = facts.get(self.field)
        if self.field == "address":
            found = any(_inside(value, self.networks) for value in values)
        else:
            found = any(any_matches(self.patterns, value) for value in values)
        return found is not self.negated


@dataclass(frozen=True, slots=True)
class All:
    """A condition that holds when each of its tests does; without any, always."""

    tests: tuple[Test, ...]

    def holds(self, facts: Facts) -> bool:
        # All of them are looked at: whether one can be read must not depend on the order in which they are written.
        found = [test.holds(facts) for test in self.tests]
        return all(found)


@dataclass(frozen=True, slots=True)
class Denial:
    why: str
    """For the ledger."""
    rule: str
    """The name of the rule; of `allow` rules, of which one had to hold, all of their names."""


@dataclass(frozen=True, slots=True)
class Rule:
    name: str
    """For the ledger, never for clients."""
    effect: Effect
    when: Condition


def make_test(field: str, patterns: Sequence[str]) -> Test:
    """`field: patterns` as people write it; `!field` negates. Raises `BadRule`, and `BadField` where there is no such field."""
    negated = field.startswith("!")
    name = check_field(field.removeprefix("!"))
    if not patterns:
        raise BadRule("names no value")
    if name != "address":
        return Test(name, tuple(patterns), negated)
    try:
        networks = tuple(map(read_network, patterns))
    except ValueError:
        raise BadRule(f"{', '.join(patterns)}: an address is written as 10.1.2.3, 10.0.0.0/8 or 2001:db8::/32") from None
    return Test(name, tuple(patterns), negated, networks)


def in_order(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """As `judge` takes them."""
    return tuple(sorted(rules, key=lambda rule: _ORDER[rule.effect]))


def judge(rules: Sequence[Rule], facts: Facts) -> Denial | None:
    """Why the request is refused; `None`: it is not. `rules`: `in_order`. A rule about models refuses no list of them, only its entries."""
    allows = allowed = False
    for rule in rules:
        try:
            holds = rule.when.holds(facts)
        except Unsettled:
            if rule.effect is Effect.ALLOW:
                allows = allowed = True
            continue
        except Unreadable as error:
            if rule.effect is Effect.ALLOW:
                allows = True
                continue
            return Denial(f"rule {rule.name!r} could not be evaluated ({error})", rule.name)
        match rule.effect:
            case Effect.DENY:
                if holds:
                    return Denial(f"rule {rule.name!r} denies it", rule.name)
            case Effect.REQUIRE:
                if not holds:
                    return Denial(f"rule {rule.name!r} is not met", rule.name)
            case Effect.ALLOW:
                allows, allowed = True, allowed or holds
    if not allows or allowed:
        return None
    return Denial("no allow rule allows it", ", ".join(rule.name for rule in rules if rule.effect is Effect.ALLOW))


_ORDER = {Effect.DENY: 0, Effect.REQUIRE: 1, Effect.ALLOW: 2}


def _inside(value: str, networks: Sequence[Network]) -> bool:
    address = read_address(value)
    if address is None:
        raise Unreadable("the client's address")
    return inside(address, networks)
