from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from penstock.config import ConfigErrors, load, schema
from penstock.config.env import CONFIG_VARIABLE, fields
from penstock.config.model import PROVIDER, ROUTE
from penstock.config.schema import text

DOCS = Path(__file__).parents[2] / "docs"


def _walk(node: object) -> list[dict[str, Any]]:
    if isinstance(node, dict):
        mapping = cast("dict[str, Any]", node)
        return [mapping] + [found for value in mapping.values() for found in _walk(value)]
    if isinstance(node, list):
        return [found for value in cast("list[object]", node) for found in _walk(value)]
    return []


def test_the_published_schema_is_current() -> None:
    """After a change: `python -m penstock.config > docs/penstock.schema.json`."""
    assert (DOCS / "penstock.schema.json").read_text(encoding="utf-8") == text()


def test_every_object_is_closed_and_every_pattern_a_pattern() -> None:
    found = _walk(json.loads(text()))
    assert all("additionalProperties" in node for node in found if node.get("properties"))
    for node in found:
        if isinstance(node.get("pattern"), str):
            assert re.search(node["pattern"], "${VAR}")
            if "default" in node:
                default = node["default"]
                assert re.search(node["pattern"], default if isinstance(default, str) else json.dumps(default))


def test_every_key_is_described() -> None:
    assert all("description" in node for node in _walk(cast("dict[str, Any]", schema())["properties"]) if "type" in node and "pattern" in node)


def test_the_page_s_defaults_are_the_schema_s() -> None:
    page = (DOCS / "configuration.md").read_text(encoding="utf-8")
    rows = {row.split("`")[1]: row for row in page.splitlines() if row.startswith("| `")}
    for name, field in fields():
        if field.default is not None and not field.second and name in rows:
            shown = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
            assert f"`{shown}`" in rows[name], name


def test_every_key_and_variable_stands_in_the_documentation() -> None:
    page = (DOCS / "configuration.md").read_text(encoding="utf-8")
    for name, field in fields():
        assert f"`{name}`" in page, name
        assert field.variable is None or f"`{field.variable}`" in page, field.variable
    for name, _ in (*fields(PROVIDER), *fields(ROUTE)):
        assert f"`{name}`" in page, name
    assert CONFIG_VARIABLE in page


_ENVIRONMENT = {"HOME": "/nowhere", "LEVEL": "debug", "MODE": "drain", "MARK": "on", "ONE": "secrets"}
_TAKEN = (
    # What stood below a key is a comment now.
    "timers:\nretries:\non_disconnect:\nlimits:\nledger:\nlog:\ncapture:\nguard_hold:\ntool_calls:\n",
    "routes:\nprices:\nguards:\nresolve:\nadmission:\n",
    "admission: {issuers: , rules: , limits: , budgets: }",
    "providers: {openai: {headers: , guards: , timers: , retries: }}",
    # A variable stands for a word as well as for any other value.
    "log: {level: '${LEVEL}'}",
    "on_disconnect: '${MODE}'",
    "cache_markers: '${MARK}'",
    "guards: [{name: one, detect: ['${ONE}'], uploads: pass}]",
    # Keys and users' names of digits need no quotes.
    "token: 123456",
    "providers: {openai: {api_key: 123456, headers: {x-one: 1, x-two: true}}}",
    "providers: {openai: {user: 4711}}",
    # As an editor reads it that knows YAML 1.2, these are texts; as one does that knows 1.1, true and false.
    "transparent: yes", "transparent: 'yes'", "transparent: 'off'", "transparent: 1", "idle: 'no'", "max_streams: 'Off'", "retries: {status: 'OFF'}",
    "limits: {body: 64mib, max_frame: 1kb}",
)  # fmt: skip
_REFUSED = (
    "log: {level: loud}", "transparent: 2", "transparent: maybe", "token: true", "timers: [1]", "routes: {}", "limits: {body: 64mebibytes}",
    "providers:", "providers: {openai: {headers: [1]}}", "guards: [{name: one, detect: [everything]}]", "idle: never", "on_disconnect: 5",
)  # fmt: skip


@pytest.mark.parametrize("text", _TAKEN)
def test_what_is_taken_is_not_marked_in_an_editor(text: str, tmp_path: Path) -> None:
    (tmp_path / "penstock.yaml").write_text(text, encoding="utf-8")
    load(tmp_path / "penstock.yaml", environ=_ENVIRONMENT)
    assert _fits(schema(), yaml.safe_load(text))


@pytest.mark.parametrize("text", _REFUSED)
def test_what_is_refused_is_marked_in_an_editor(text: str, tmp_path: Path) -> None:
    (tmp_path / "penstock.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigErrors):
        load(tmp_path / "penstock.yaml", environ=_ENVIRONMENT)
    assert not _fits(schema(), yaml.safe_load(text))


def test_a_header_with_nothing_behind_it_is_empty(tmp_path: Path) -> None:
    (tmp_path / "penstock.yaml").write_text("providers: {openai: {headers: {x-one: }}}", encoding="utf-8")
    with pytest.raises(ConfigErrors, match=r":1: providers\.openai\.headers\.x-one: is empty"):
        load(tmp_path / "penstock.yaml", environ={})


def _fits(part: Any, value: object) -> bool:
    """Does a value fit a piece of JSON Schema? As far as ours goes."""
    kinds: Any = part.get("type", ())
    number = isinstance(value, int | float) and not isinstance(value, bool)
    holds = [
        not kinds or any(_is(value, kind) for kind in ((kinds,) if isinstance(kinds, str) else kinds)),
        "enum" not in part or any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in part["enum"]),
        "not" not in part or value is not part["not"]["const"],
        "anyOf" not in part or any(_fits(one, value) for one in part["anyOf"]),
        not isinstance(value, str) or (len(value) >= part.get("minLength", 0) and re.search(part.get("pattern", ""), value) is not None),
        not number or part.get("minimum", value) <= value <= part.get("maximum", value),
        not number or "exclusiveMinimum" not in part or value > part["exclusiveMinimum"],
        not isinstance(value, list) or all(_fits(part.get("items", {}), one) for one in cast("list[object]", value)),
    ]  # fmt: skip
    if isinstance(value, dict):
        mapping, known, others = cast("dict[str, object]", value), part.get("properties", {}), part.get("additionalProperties", {})
        holds += [set(part.get("required", ())) <= set(mapping), len(mapping) >= part.get("minProperties", 0)]
        holds += [_fits(known[key], one) if key in known else others is not False and _fits(others, one) for key, one in mapping.items()]
    return all(holds)


def _is(value: object, kind: str) -> bool:
    types: dict[str, tuple[type, ...]] = {
        "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,), "object": (dict,), "array": (list,), "null": (type(None),),
    }  # fmt: skip
    return isinstance(value, types[kind]) and (kind == "boolean" or not isinstance(value, bool))
