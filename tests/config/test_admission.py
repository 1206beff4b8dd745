"""Errors in the `admission` section: each is told once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.test_load import errors, written


@pytest.mark.parametrize(("kind", "item", "told"), [
    ("limits", "{requests: 0, per: minute}", ".requests: '0' is no whole number above 0"),
    ("limits", "{requests: 5, tokens: none, per: minute}", ": limits one of requests, tokens, input_tokens, output_tokens, streams, not requests"),
    ("limits", "{per: minute}", ": limits one of requests, tokens, input_tokens, output_tokens, streams"),
    ("budgets", "{tokens: 1.5, per: day}", ".tokens: '1.5' is no whole number above 0"),
    ("budgets", "{money: , per: day}", ".money: "), ("budgets", "{per: day}", ": is one of tokens and money"),
])  # fmt: skip
def test_an_amount_that_is_none_is_not_one_that_is_missing(tmp_path: Path, kind: str, item: str, told: str) -> None:
    found = errors(written(tmp_path, f"admission:\n  {kind}:\n    - {item}\n"), environ={})
    assert f"admission.{kind}[0]{told}" in found
    alone = found.count(f"admission.{kind}[0]: ") == int(told.startswith(": "))
    assert alone, found


@pytest.mark.parametrize(("name", "told"), [("name: [a], ", ".name: must be one value"), ("", ": has no name")])
def test_a_name_of_a_rule_that_is_none_is_not_one_that_is_missing(tmp_path: Path, name: str, told: str) -> None:
    found = errors(written(tmp_path, f"admission:\n  rules:\n    - {{{name}deny: {{model: m}}}}\n"), environ={})
    assert found.count("admission.rules[0]") == found.count(f"admission.rules[0]{told}") == 1
