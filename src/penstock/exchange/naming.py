"""Is the model by which a request was let in and sent on its way the one that its provider reads?

Some servers take names in any case, and the last of them (Go's `encoding/json`: Ollama, LocalAI and others), and of a name that is there twice some
take the first. OpenRouter answers with any model of a list (`models`) that a request names beside its model. That matters where something is decided
by the model: there such a request is refused, one with a list unless each model of it would be let in and go the same way. Elsewhere it passes as it
came.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, cast
from urllib.parse import unquote

from penstock.admission.budget.spec import Budget
from penstock.admission.keys import VirtualKey
from penstock.admission.limits.spec import Limit
from penstock.admission.rules import All, Condition
from penstock.admission.settings import AdmissionSettings
from penstock.exchange.admitting import Admission
from penstock.exchange.plan import Plan
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.wire.json import find_alike, find_fields

_FIELD = "model"
_NAMED = re.compile(rb'"[Mm][Oo][Dd][Ee][Ll]"')
_PROPER: tuple[list[bytes], list[bytes]] = ([], [b'"model"'])
_ESCAPED = re.compile(rb"\\u00[46][0-9a-fA-F]")
"""A letter of the name, spelled by its number."""
_DEPLOYED = re.compile(r"[/\\]deployments[/\\]+([^/\\]+)[/\\]", re.IGNORECASE)
"""Azure's older paths: the deployment is the model, and the body's is passed over."""
_ALIKE = "A name in the request is 'model' but for its case, and some servers read it as that. Write 'model'."
_TWICE = "The request names its model twice. Say it once."
_LIST = "models"
_LISTING = frozenset({Operation.CHAT, Operation.COMPLETIONS, Operation.RESPONSES})
COUNTED = "The request lists further 'models', and what it may use is counted by the model here. Ask for one model."
UNREADABLE = "The request's 'models' cannot be read. Ask for one model."
ELSEWHERE = "The request lists further 'models', and one of them is to go another way here than 'model' does. Ask for each by itself."


def in_body(plan: Plan) -> bool:
    """Does the body name the model? Gemini's do so for what is cached; all else is asked of a model in the path."""
    return plan.endpoint.protocol is not ProtocolId.GEMINI or plan.endpoint.operation is Operation.OTHER


def decides(admission: Admission | None, plan: Plan) -> bool:
    """Does it depend on the model whether this caller may ask, how much, or what it is charged?"""
    if admission is None:
        return False
    subject = plan.found.subject if plan.found is not None else None
    return by_model(admission.door.settings, subject.key if subject is not None else None)


def by_model(settings: AdmissionSettings, key: VirtualKey | None) -> bool:
    """`key`: the caller's; `None`: it has none."""
    if key is not None and (key.models or _kept(key.limits) or _kept(key.budgets)):
        return True
    return any(_asks(rule.when) for rule in settings.rules) or _kept(settings.limits) or _kept(settings.budgets)


def counted(admission: Admission | None, plan: Plan) -> bool:
    """Does it depend on the model by which limit or budget the caller is counted? (One of money is charged what the model costs that answers.)"""
    if admission is None:
        return False
    settings, subject = admission.door.settings, plan.found.subject if plan.found is not None else None
    counts: list[Limit | Budget] = [*settings.limits, *settings.budgets]
    if subject is not None and subject.key is not None:
        counts += [*subject.key.limits, *subject.key.budgets]
    return any(_FIELD in one.by or (one.when is not None and _asks(one.when)) for one in counts)


def listed(plan: Plan, body: bytes) -> list[str] | None:
    """The models that `body` lists in `models`: its provider may answer with any of them (OpenRouter, with or without `route`). `None`: what it says
    there cannot be read here."""
    if plan.endpoint.operation not in _LISTING or not (b'"models"' in body or (b"\\u00" in body and _ESCAPED.search(body))):
        return []
    try:
        fields = find_fields(body, (_LIST,))
    except ValueError:
        return []  # it is no object
    found: dict[str, None] = {}
    for field in fields:
        try:
            value = json.loads(body[field.start : field.end])
        except (ValueError, RecursionError):  # nested as deep as nobody reads, a number of 5,000 digits, no UTF-8
            return None
        found.update((one, None) for one in (cast("list[Any]", value) if isinstance(value, list) else []) if isinstance(one, str))
    return list(found)


def _kept(counts: Iterable[Limit | Budget]) -> bool:
    return any(_FIELD in one.by or (one.when is not None and _asks(one.when)) or (isinstance(one, Budget) and one.money) for one in counts)


def _asks(condition: Condition) -> bool:
    return not isinstance(condition, All) or any(test.field == _FIELD for test in condition.tests)


def differs_from_path(path: str, model: str | None) -> str | None:
    """As `misnamed`, of a path that names the model and a body that names it, too (where only the path does, none is known here)."""
    found = _DEPLOYED.search(unquote(path)) if model is not None else None
    return None if found is None or found[1] == model else "The path names another deployment than the body's 'model'. Name the same in both."


def misnamed(body: bytes, *, renamed: bool) -> str | None:
    """What is wrong with how `body` (a JSON object) names its model, in a sentence for the client; `None`: nothing. `renamed`: another model is
    put in wherever it is named in small letters."""
    if _NAMED.findall(body) in _PROPER and _ESCAPED.search(body) is None:
        return None  # (`"role": "model"` is looked at, too)
    try:
        names = find_alike(body, _FIELD)
    except ValueError:
        return None  # it is no object, and names none
    if any(name != _FIELD for name in names):
        return _ALIKE
    return _TWICE if len(names) > 1 and not renamed else None
