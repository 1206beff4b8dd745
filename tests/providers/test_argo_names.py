"""Argo's names for models, and who means what by them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.providers.argo_names import BUILT_IN, Names, aliases_of, read_list


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("gpt4o", "gpt4o"), ("argo:gpt-4o", "gpt4o"), ("gpt-4o", "gpt4o"), ("argo/gpt-4o", "gpt4o"), ("GPT-4O", "gpt4o"), ("Argo:GPT-4o", "gpt4o"),
        ("argo:o1-mini", "gpto1mini"), ("o3", "gpto3"), ("argo:gpt-o4-mini", "gpto4mini"), ("claude-sonnet-4", "claudesonnet4"),
        ("argo:claude-3.7-sonnet", "claudesonnet37"), ("claude-sonnet-4-20250514", "claudesonnet4"), ("claude_sonnet_4", "claudesonnet4"),
        ("claude-3.5-sonnet-v2", "claudesonnet35v2"), ("gemini-2.5-pro", "gemini25pro"), ("text-embedding-3-small", "v3small"),
        ("v3large", "v3large"),
        ("gpt-9", None), ("", None), ("argo:", None), ("x" * 5000, None),
    ],
)  # fmt: skip
def test_the_order_in_which_a_name_is_looked_for(name: str, found: str | None) -> None:
    assert Names().find(name) == found


def test_an_unknown_name_goes_as_it_is_and_never_as_another_model() -> None:
    names = Names()
    assert names.id_of("gpt-9") == "gpt-9"
    assert names.id_of("argo:gpt9") == "gpt9"
    assert names.id_of("argo/gpt9") == "gpt9"
    assert names.id_of("argo:") == "argo:"


def test_a_list_takes_the_place_of_what_was_known() -> None:
    names = Names()
    names.learn(read_list(json.dumps({"data": [
        {"id": "gpt5", "model_name": "GPT-5"}, {"id": "Claude Sonnet 4.5", "internal_id": "claudesonnet45"}, {"id": 5}, "x", {"id": ""},
    ]}).encode()))  # fmt: skip
    assert names.find("gpt-5") == "gpt5"
    assert names.find("claude-sonnet-4-5-20250929") == names.find("claude-4.5-sonnet") == "claudesonnet45"
    assert names.find("gpt-4o") is None
    assert names.find("text-embedding-ada-002") == "ada002"


def test_a_bare_list_is_one_too_and_anything_else_is_none() -> None:
    assert read_list(b'[{"id":"a","model_name":"A B"}]') == [("a", "A B")]
    for body in (b"", b"{}", b"5", b"[" * 100_000):
        with pytest.raises(ValueError):
            read_list(body)


def test_claudes_names_in_both_orders_whatever_the_display_name() -> None:
    assert aliases_of("claudeopus41", "Claude Opus 4.1") == ["argo:claude-opus-4.1", "argo:claude-4.1-opus"]
    assert aliases_of("claudex", "Claude X") == ["argo:claude-x"]
    assert aliases_of("gpto3", "o3") == ["argo:gpt-o3", "argo:o3"]


@given(st.text(max_size=40))
def test_any_name_may_be_asked_for(name: str) -> None:
    names = Names()
    found = names.find(name)
    assert found is None or found in {internal for internal, _ in BUILT_IN} | {"ada002", "v3small", "v3large"}
    assert names.id_of(name) or not name
