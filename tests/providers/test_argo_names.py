"""Argo's names of models: the list in its shapes, the aliases, and the order in which a client's name is looked up."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.providers.argo_names import BadNames, Directory, Names, make_aliases, read_directory

OLD = [
    {"id": "gpt4o", "model_name": "GPT-4o"}, {"id": "gpto1", "model_name": "o1"}, {"id": "claudesonnet45", "model_name": "Claude Sonnet 4.5"},
    {"id": "claudesonnet35v2", "model_name": "Claude Sonnet 3.5 v2"}, {"id": "gemini25pro", "model_name": "Gemini 2.5 Pro"},
]
NEW = [
    {"id": "GPT-4o", "internal_id": "gpt4o"}, {"id": "o1", "internal_id": "gpto1"}, {"id": "Claude 4.5 Sonnet", "internal_id": "claudesonnet45"},
    {"id": "Claude Sonnet 3.5 v2", "internal_id": "claudesonnet35v2"}, {"id": "Gemini 2.5 Pro", "internal_id": "gemini25pro"},
]


@pytest.fixture(params=["old", "new", "bare"])
def directory(request: pytest.FixtureRequest) -> Directory:
    match request.param:
        case "old":
            return read_directory(json.dumps({"data": OLD}).encode())
        case "new":
            return read_directory(json.dumps({"object": "list", "data": NEW}).encode())
        case _:
            return read_directory(json.dumps(OLD).encode())


@pytest.mark.parametrize(("name", "id"), [
    ("gpt4o", "gpt4o"), ("argo:gpt-4o", "gpt4o"), ("gpt-4o", "gpt4o"), ("argo/gpt-4o", "gpt4o"), ("GPT-4o", "gpt4o"), ("ARGO/GPT-4O", "gpt4o"),
    (" gpt-4o ", "gpt4o"), ("g.p.t 4o", "gpt4o"),
    ("o1", "gpto1"), ("argo:gpt-o1", "gpto1"), ("gpt-o1", "gpto1"), ("argo:o1", "gpto1"),
    ("claude-sonnet-4.5", "claudesonnet45"), ("claude-4.5-sonnet", "claudesonnet45"), ("argo:claude-4.5-sonnet", "claudesonnet45"),
    ("claude-sonnet-4-5", "claudesonnet45"), ("claude-sonnet-4-5-20250929", "claudesonnet45"), ("argo:claude-sonnet-4.5-20250929", "claudesonnet45"),
    ("claude-3.5-sonnet-v2", "claudesonnet35v2"), ("gemini-2.5-pro", "gemini25pro"), ("argo:gemini-2.5-pro", "gemini25pro"),
    ("text-embedding-3-small", "v3small"), ("argo:text-embedding-ada-002", "ada002"), ("v3large", "v3large"),
    ("gpt-9", None), ("", None), ("argo:", None), ("demo", None), ("claude-sonnet-4-5-2025", None), ("*", None), ("x" * 10_000, None),
])
def test_look_ups(directory: Directory, name: str, id: str | None) -> None:
    assert directory.resolve(name) == id


def test_the_name_as_written_comes_before_every_other() -> None:
    directory = Directory([("argo:gpt-4o", "Other"), ("gpt4o", "GPT-4o"), ("GPT-4o", "Third")])
    assert directory.resolve("argo:gpt-4o") == "argo:gpt-4o"
    assert directory.resolve("GPT-4o") == "GPT-4o"
    assert directory.resolve("gpt-4o") == "argo:gpt-4o", "a prefix is tried before the letters alone"


def test_the_first_of_two_with_one_alias_has_it() -> None:
    directory = Directory([("a1", "Model A"), ("a2", "model a")])
    assert directory.resolve("argo:model-a") == "a1"
    assert directory.resolve("a2") == "a2"


@pytest.mark.parametrize(("id", "shown", "aliases"), [
    ("gpt4o", "GPT-4o", ["argo:gpt-4o"]),
    ("gpto3mini", "o3 mini", ["argo:o3-mini", "argo:gpt-o3-mini"]),
    ("claudeopus4", "Claude Opus 4", ["argo:claude-opus-4", "argo:claude-4-opus"]),
    ("claudehaiku35", "Claude 3.5 Haiku", ["argo:claude-3.5-haiku", "argo:claude-haiku-3.5"]),
    ("claudex", "Claude X", ["argo:claude-x"]),
    ("claude", "Claude", ["argo:claude"]),
])
def test_aliases(id: str, shown: str, aliases: list[str]) -> None:
    assert list(make_aliases(id, shown)) == aliases


def test_a_list_with_odd_entries_is_still_one() -> None:
    directory = read_directory(b'{"data":[1,{},{"id":""},{"id":null},{"id":"a","model_name":7},{"id":"b","internal_id":""}]}')
    assert [named.id for named in directory.models()][:2] == ["a", "b"]
    assert [named.aliases for named in directory.models()][:2] == [("argo:a",), ("argo:b",)]


@pytest.mark.parametrize("body", [b"", b"null", b"7", b'{"data":7}', b"<html>", b"\xff", b"[" * 100_000])
def test_what_is_no_list(body: bytes) -> None:
    with pytest.raises(BadNames):
        read_directory(body)


@given(st.lists(st.tuples(st.text("gpto45-", min_size=1), st.text("GPTo45 -.", min_size=1))), st.text())
def test_a_name_is_found_among_the_listed_or_not_at_all(entries: list[tuple[str, str]], name: str) -> None:
    directory = Directory(entries)
    assert directory.resolve(name) in {None, *(named.id for named in directory.models())}
    assert all(directory.resolve(id) == id for id, _ in entries)


def test_a_name_that_nobody_knows_goes_to_a_legacy_gateway_as_it_is_and_never_as_another_model() -> None:
    names = Names()
    assert names.id_of("argo:claude-3.7-sonnet") == "claudesonnet37"
    assert names.id_of("gpt-9") == "gpt-9"
    assert names.id_of("argo:gpt9") == "gpt9"
    assert names.id_of("argo/gpt9") == "gpt9"
    assert names.id_of("argo:") == "argo:"


def test_a_list_takes_the_place_of_what_was_known() -> None:
    names = Names()
    names.learn(read_directory(json.dumps({"data": [
        {"id": "gpt5", "model_name": "GPT-5"}, {"id": "Claude Sonnet 4.5", "internal_id": "claudesonnet45"}, {"id": 5}, "x", {"id": ""},
    ]}).encode()))  # fmt: skip
    assert names.id_of("gpt-5") == "gpt5"
    assert names.id_of("claude-sonnet-4-5-20250929") == names.id_of("claude-4.5-sonnet") == "claudesonnet45"
    assert names.id_of("gpt-4o") == "gpt-4o"
    assert names.id_of("text-embedding-ada-002") == "ada002"


@given(st.text(max_size=40))
def test_any_name_may_be_asked_for(name: str) -> None:
    assert Names().id_of(name) or not name
