"""The JSON Schema of the file, for editors. `python -m penstock.config` prints it; it is published as `docs/penstock.schema.json`.

It is made of the model and cannot say everything: whether variables are set and providers exist, `penstock check` tells.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from penstock.admission.rules import Effect
from penstock.config.admission_keys import ADMISSION, BUDGET, ISSUER, LIMIT, RULE
from penstock.config.guard_keys import GUARD, GUARDS_MEAN
from penstock.config.model import HEADERS_MEAN, PRICE, PROVIDER, ROUTE, TOP
from penstock.config.resolve import MEANS
from penstock.config.shape import VARIABLE, Field, Group


def schema() -> dict[str, object]:
    provider = _object(PROVIDER, "One provider.")
    properties = provider["properties"]
    if isinstance(properties, dict):
        properties["headers"] = {"type": _MAPPING, "additionalProperties": _VALUE, "description": HEADERS_MEAN}
    provider["type"] = _MAPPING
    guards: dict[str, object] = {
        "type": _LIST, "items": {**_object(GUARD, "One guard."), "required": ["name"]}, "description": GUARDS_MEAN,
    }  # fmt: skip
    route = _object(ROUTE, "One route.")
    top = _object(TOP, "Penstock's configuration.")
    top_properties = top["properties"]
    if isinstance(top_properties, dict):
        top_properties["providers"] = {
            "type": "object", "minProperties": 1, "additionalProperties": provider,
            "description": "Whom to ask, by name, which is also the path below which everything goes there. Left out: OpenAI, Anthropic and Gemini.",
        }
        top_properties["resolve"] = {
            "type": _MAPPING, "additionalProperties": {"type": "string", "minLength": 2},
            "description": MEANS,
        }
        top_properties["routes"] = {
            "type": _LIST, "items": {**route, "required": ["model", "provider"]},
            "description": "Which provider takes which model; the first match wins.",
        }
        top_properties["admission"] = _admission()
        top_properties["prices"] = {
            "type": _LIST, "items": _object(PRICE, "One price, or a discount."),
            "description": "Prices of your own, and discounts; the first that fits wins. All others are taken from the installed price lists.",
        }
    for place in (top, provider, route):
        listed = place["properties"]
        if isinstance(listed, dict):
            listed["guards"] = guards
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "penstock.yaml", **top}


def _admission() -> dict[str, object]:
    section = {**_object(ADMISSION, "Who may enter, and how much."), "type": _MAPPING}
    properties = section["properties"]
    assert isinstance(properties, dict)
    parts: dict[str, tuple[Iterable[Field | Group], tuple[str, ...], str]] = {
        "issuers": (ISSUER, (), "Whose tokens (JWT) are taken."),
        "rules": (RULE, tuple(Effect), "Who is refused although known: a deny wins, each require must be met, one allow must allow if there is any."),
        "limits": (LIMIT, ("when",), "How much at a time."),
        "budgets": (BUDGET, ("when",), "How much altogether."),
    }
    for name, (fields, conditions, means) in parts.items():
        item = _object(fields, means)
        inner = item["properties"]
        if isinstance(inner, dict):
            for condition in conditions:
                inner[condition] = _CONDITION
        properties[name] = {"type": _LIST, "items": item, "description": means}
    return section


_MAPPING, _LIST = ("object", "null"), ("array", "null")
"""A key with nothing behind it is an empty one: what stood below it is a comment now."""
_VALUE: Mapping[str, object] = {"type": ["string", "number", "boolean"]}
_CONDITION: Mapping[str, object] = {
    "type": "object",
    "additionalProperties": {"anyOf": [_VALUE, {"type": "array", "items": _VALUE}]},
    "description": "Fields and the values that match them, with wildcards; !FIELD: no value of it matches.",
}


def text() -> str:
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _object(entries: Iterable[Field | Group], means: str) -> dict[str, object]:
    properties: dict[str, object] = {}
    for entry in entries:
        properties[entry.name] = _group(entry) if isinstance(entry, Group) else _property(entry)
    return {"type": "object", "description": means, "additionalProperties": False, "properties": properties}


def _group(entry: Group) -> dict[str, object]:
    keys = {**_object(entry.fields, entry.means), "type": _MAPPING}
    if entry.alone is None:
        return keys
    return {"description": entry.means, "anyOf": [_property(entry.alone), keys]}


def _property(entry: Field) -> dict[str, object]:
    described: dict[str, object] = {"description": entry.means}
    if entry.default is not None:
        described["default"] = entry.default
    one = dict(entry.fragment) if "enum" not in entry.fragment else {"anyOf": [entry.fragment, VARIABLE]}
    if entry.many:
        return {"type": "array", "items": one, **described}
    return {**one, **described}
