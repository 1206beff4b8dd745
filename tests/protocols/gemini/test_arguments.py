"""Arguments in pieces: where they go, and what cannot be placed."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.protocols.contract import BodyError
from penstock.protocols.gemini.arguments import LIMIT, PartialArguments


def put_together(*pieces: dict[str, Any], start: dict[str, Any] | None = None) -> dict[str, Any]:
    arguments = PartialArguments(start)
    for piece in pieces:
        arguments.add([piece])
    return arguments.value()


def test_each_kind_of_value() -> None:
    assert put_together(
        {"jsonPath": "$.s", "stringValue": "a", "willContinue": True},
        {"jsonPath": "$.s", "stringValue": "b"},
        {"jsonPath": "$.n", "numberValue": 0.5},
        {"jsonPath": "$.b", "boolValue": False},
        {"jsonPath": "$.z", "nullValue": "NULL_VALUE"},
        {"jsonPath": "$.later", "willContinue": True},
        start={"first": 1},
    ) == {"first": 1, "s": "ab", "n": 0.5, "b": False, "z": None}


def test_paths() -> None:
    assert put_together(
        {"jsonPath": "$.a.b[0].c", "stringValue": "1"},
        {"jsonPath": "$.a.b[1]", "numberValue": 2},
        {"jsonPath": "$['odd key'][\"it's\"]", "boolValue": True},
        {"jsonPath": "$.a.b[0].c", "stringValue": "2"},
    ) == {"a": {"b": [{"c": "12"}, 2]}, "odd key": {"it's": True}}


def test_arguments_keep_the_order_in_which_they_began() -> None:
    value = put_together({"jsonPath": "$.s", "stringValue": "x"}, {"jsonPath": "$.n", "numberValue": 1}, {"jsonPath": "$.s", "stringValue": "y"})
    assert list(value.items()) == [("s", "xy"), ("n", 1)]


@pytest.mark.parametrize("piece", [
    {"stringValue": "x"}, {"jsonPath": "a", "stringValue": "x"}, {"jsonPath": "$", "stringValue": "x"}, {"jsonPath": "$[0]", "stringValue": "x"},
    {"jsonPath": "$.a[5]", "stringValue": "x"}, {"jsonPath": "$.a[999999999]", "stringValue": "x"}, {"jsonPath": "$.a..b", "stringValue": "x"},
    {"jsonPath": "$.a[*]", "stringValue": "x"}, {"jsonPath": "$" + ".a" * 200, "stringValue": "x"}, {"jsonPath": "$.known.deeper", "boolValue": True},
    {"jsonPath": "$.known[0]", "boolValue": True}, {"jsonPath": "$.long", "stringValue": "x" * (LIMIT + 1)},
])  # fmt: skip
def test_what_cannot_be_placed(piece: dict[str, Any]) -> None:
    with pytest.raises(BodyError):
        put_together(piece, start={"known": 1})


@pytest.mark.parametrize("pieces", ["x", [1], {}])
def test_what_is_no_list_of_pieces(pieces: object) -> None:
    with pytest.raises(BodyError):
        PartialArguments().add(pieces)


def test_a_path_that_turns_into_another_kind_is_told() -> None:
    with pytest.raises(BodyError):
        put_together({"jsonPath": "$.a.b", "stringValue": "x"}, {"jsonPath": "$.a", "numberValue": 1}, {"jsonPath": "$.a.b", "stringValue": "y"})


pieces_of = st.fixed_dictionaries(
    {"jsonPath": st.text("$.[]'\"ab01\\", max_size=10)}, optional={"stringValue": st.text(max_size=2), "numberValue": st.integers()}
)


@given(st.lists(pieces_of, max_size=6))
def test_any_pieces_give_arguments_or_a_body_error(pieces: list[dict[str, Any]]) -> None:
    with contextlib.suppress(BodyError):
        assert all(isinstance(key, str) for key in put_together(*pieces))
