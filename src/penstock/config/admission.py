"""The `admission` section: who may enter and how much."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar, cast

from penstock.admission.address import Network
from penstock.admission.budget.spec import BadBudget, Budget, make_budget
from penstock.admission.facts import BadField
from penstock.admission.issuers import BadKeys, Issuer, read_keys
from penstock.admission.limits.spec import MEASURES, BadLimit, Limit, make_limit
from penstock.admission.rules import All, BadRule, Condition, Effect, Rule, Test, make_test
from penstock.admission.settings import AdmissionSettings, Mode
from penstock.config.admission_keys import ADMISSION, BUDGET, ISSUER, LIMIT, RULE
from penstock.config.document import Listing, Node, Scalar, Section
from penstock.config.errors import Place, Problems
from penstock.config.walk import Given, read_fields, section_of
from penstock.wire.secrets import mask_secrets

T = TypeVar("T")
_EXAMPLES = {
    "issuers": "{issuer: https://id.example.com, audiences: [penstock], jwks_url: https://id.example.com/keys}",
    "rules": "{name: no-opus, deny: {model: \"claude-opus-*\"}}",
    "limits": "{requests: 60, per: minute, by: [key]}",
    "budgets": "{tokens: 1000000, per: day, by: [key]}",
}
_EMPTY = {"audiences": "write [\"*\"] for tokens that are meant for anybody", "algorithms": "leave it out for the usual ones"}
_MOST_NAME = 80


def read_admission(
    nodes: Mapping[str, tuple[Node, Place]], absolute: Callable[[Path], Path], route_modes: tuple[Mode | None, ...], problems: Problems
) -> AdmissionSettings:  # fmt: skip
    """What the file says; nothing where it has no such section. `route_modes`: what the routes say of it."""
    if "admission" not in nodes:
        return AdmissionSettings(route_modes=route_modes)
    node, place = nodes["admission"]
    section = section_of(node, place, problems, "{mode: strict}")
    if section is None:
        return AdmissionSettings(route_modes=route_modes)
    given = read_fields(section, ADMISSION, place, problems, others=tuple(_EXAMPLES))
    below = {key.text: (value, place.below(key.text, key.line)) for key, value in section.items}
    mode = _value(given, "mode", str)
    lists = _Lists(below, problems)
    return AdmissionSettings(
        mode=Mode(mode) if mode is not None else None,
        open=_value(given, "open", bool) or False,
        keys_secret=_value(given, "keys_secret", str),
        trusted_proxies=cast("tuple[Network, ...]", _value(given, "trusted_proxies", tuple) or ()),
        issuers=lists.read("issuers", lambda one, here: _read_issuer(one, here, absolute, problems), lambda issuer: issuer.issuer),
        rules=lists.read("rules", lambda one, here: _read_rule(one, here, problems), lambda rule: rule.name),
        limits=lists.read("limits", lambda one, here: _read_limit(one, here, problems), lambda limit: limit.name),
        budgets=lists.read("budgets", lambda one, here: _read_budget(one, here, problems), lambda budget: budget.name),
        route_modes=route_modes,
    )


class _Lists:
    """The lists of the section, each of items of one kind that have names of their own."""

    def __init__(self, below: Mapping[str, tuple[Node, Place]], problems: Problems) -> None:
        self._below = below
        self._problems = problems

    def read(self, name: str, read: Callable[[Section, Place], T | None], named: Callable[[T], str]) -> tuple[T, ...]:
        if name not in self._below:
            return ()
        node, place = self._below[name]
        if not isinstance(node, Listing):
            if not (isinstance(node, Scalar) and node.tag == "null"):
                self._problems.add(place, f"must be a list, like [{_EXAMPLES[name]}]")
            return ()
        found: dict[str, T] = {}
        for index, item in enumerate(node.items):
            here = place.below(f"[{index}]", item.line)
            section = section_of(item, here, self._problems, _EXAMPLES[name])
            one = read(section, here) if section is not None else None
            if one is None:
                continue
            if named(one) in found:
                why = "one issuer stands here once" if name == "issuers" else "give it a name of its own: it is counted and told under it"
                self._problems.add(here, f"is the second {mask_secrets(named(one))!r}; {why}")
            found[named(one)] = one
        return tuple(found.values())


def _read_issuer(section: Section, place: Place, absolute: Callable[[Path], Path], problems: Problems) -> Issuer | None:
    before = len(problems.found)
    given = read_fields(section, ISSUER, place, problems)
    stated = {key.text for key, _ in section.items}
    for name, example in (("issuer", "https://id.example.com"), ("audiences", "[penstock]")):
        if name not in stated:
            problems.add(place, f"has no {name}; add {name}: {example}")
    for key, node in section.items:
        if key.text in _EMPTY and isinstance(node, Listing) and not node.items:
            problems.add(place.below(key.text, key.line), f"is empty, so no token would be good; {_EMPTY[key.text]}")
    sources = sorted(stated & {"jwks", "jwks_file", "jwks_url"})
    if len(sources) != 1:
        problems.add(place, f"has {' and '.join(sources)}; keep one" if sources else "has no keys; add jwks_url, jwks_file or jwks")
    algorithms = cast("tuple[str, ...]", _value(given, "algorithms", tuple) or Issuer("", ()).algorithms)
    shared = [one.startswith("HS") for one in algorithms]
    if any(shared) and not all(shared):
        both = "takes signatures by a shared secret and by a public key; keep one kind, for one could be taken for the other"
        problems.add(given["algorithms"].place, both)
    if len(problems.found) > before:
        return None
    text = _value(given, "jwks", str)
    file = _value(given, "jwks_file", Path)
    if file is not None:
        try:
            text = absolute(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            problems.add(given["jwks_file"].place, f"cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}")
            return None
    issuer = Issuer(
        issuer=_value(given, "issuer", str) or "", audiences=cast("tuple[str, ...]", _value(given, "audiences", tuple) or ()), algorithms=algorithms,
        jwks_url=_value(given, "jwks_url", str), jwks=text,
        required=cast("tuple[str, ...]", given["required"].value if "required" in given else Issuer("", ()).required),
        skew=_value(given, "skew", float) or Issuer("", ()).skew, user_claim=_value(given, "user_claim", str) or "sub",
        project_claim=_value(given, "project_claim", str), limits_claim=_value(given, "limits_claim", str),
    )  # fmt: skip
    try:
        if text is not None:
            read_keys(text, issuer)
        else:
            import jwt  # noqa: F401  # pyright: ignore[reportUnusedImport]  # is it there? Better known now than at the first token
    except BadKeys as error:
        problems.add(given["jwks" if "jwks" in given else "jwks_file"].place, str(error))
        return None
    except ModuleNotFoundError:
        problems.add(place, "needs PyJWT: pip install 'penstock[jwt]'")
        return None
    return issuer


def _read_rule(section: Section, place: Place, problems: Problems) -> Rule | None:
    given = read_fields(section, RULE, place, problems, others=tuple(Effect))
    stated = [(key, value) for key, value in section.items if key.text in set(Effect)]
    name = _value(given, "name", str)
    if name is None and not any(key.text == "name" for key, _ in section.items):
        problems.add(place, "has no name; add one: it is what the ledger says of whom it refused")
    if len(stated) != 1:
        problems.add(place, "says one of allow, deny and require, with a condition, like deny: {model: \"claude-opus-*\"}")
        return None
    key, node = stated[0]
    condition = _read_condition(node, place.below(key.text, key.line), problems)
    return Rule(name, Effect(key.text), condition) if name is not None and condition is not None else None


def _read_condition(node: Node, place: Place, problems: Problems) -> Condition | None:
    section = section_of(node, place, problems, "{model: \"gpt-*\", key.tag: [free, trial]}")
    if section is None:
        return None
    tests: list[Test] = []
    before = len(problems.found)
    for key, value in section.items:
        here = place.below(mask_secrets(key.text), key.line)
        items = value.items if isinstance(value, Listing) else (value,)
        texts = [item.text for item in items if isinstance(item, Scalar) and item.tag != "null"]
        if len(texts) < len(items) or not texts:
            problems.add(here, "must be a text or a list of texts")
            continue
        try:
            tests.append(make_test(key.text, texts))
        except (BadField, BadRule) as error:
            problems.add(here, str(error))
    return All(tuple(tests)) if len(problems.found) == before else None


def _when(section: Section, place: Place, problems: Problems) -> Condition | None:
    for key, node in section.items:
        if key.text == "when":
            return _read_condition(node, place.below("when", key.line), problems)
    return None


def _read_limit(section: Section, place: Place, problems: Problems) -> Limit | None:
    before = len(problems.found)
    given = read_fields(section, LIMIT, place, problems, others=("when",))
    when = _when(section, place, problems)
    stated = {key.text for key, _ in section.items}
    measures = [name for name in MEASURES if name in stated]
    if len(measures) != 1:
        problems.add(place, f"limits one of {', '.join(MEASURES)}" + (f", not {' and '.join(measures)}; write two limits" if measures else ""))
    if len(problems.found) > before:
        return None
    by = cast("tuple[str, ...]", _value(given, "by", tuple) or ())
    amount, name = _value(given, measures[0], int) or 0, (_value(given, "name", str) or "")[:_MOST_NAME]
    try:
        return make_limit(measures[0], amount, _value(given, "per", str) or "", by, name, when)
    except BadLimit as error:
        problems.add(place, str(error))
        return None


def _read_budget(section: Section, place: Place, problems: Problems) -> Budget | None:
    before = len(problems.found)
    given = read_fields(section, BUDGET, place, problems, others=("when",))
    when = _when(section, place, problems)
    stated = {key.text for key, _ in section.items}
    measures = [name for name in ("tokens", "money") if name in stated]
    if len(measures) != 1:
        problems.add(place, "is one of tokens and money" + ("; write two budgets" if measures else ""))
    if len(problems.found) > before:
        return None
    amount = str(given[measures[0]].value)
    by = cast("tuple[str, ...]", _value(given, "by", tuple) or ())
    name = (_value(given, "name", str) or "")[:_MOST_NAME]
    try:
        return make_budget(measures[0], amount, _value(given, "per", str) or "", _value(given, "action", str) or "block", by, name, when)
    except BadBudget as error:
        problems.add(place, str(error))
        return None


def _value(given: Mapping[str, Given], name: str, kind: type[T]) -> T | None:
    found = given.get(name)
    return found.value if found is not None and isinstance(found.value, kind) else None
