from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast

from penstock.config import schema
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
