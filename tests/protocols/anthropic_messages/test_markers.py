"""The marker of the prompt cache: where none is set and the prompt is long; one member at the top, and no other byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.protocols.anthropic_messages.markers import MARKER, MESSAGE, SYSTEM, mark_cache
from penstock.vocabulary.ids import Operation

LONG = "x" * (SYSTEM + 1)
TURN = "y" * (MESSAGE + 1)
EPHEMERAL = {"type": "ephemeral"}


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], **fields}).encode()


@pytest.mark.parametrize("fields", [
    {"system": LONG},
    {"system": [{"type": "text", "text": LONG}]},
    {"messages": [{"role": "user", "content": TURN}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": TURN}]}]},
    {"system": LONG + " about cache_control in words"},
    {"system": LONG + " \u00fc"},
])  # fmt: skip
def test_it_is_put_in(fields: dict[str, Any]) -> None:
    before = body(**fields)
    after = mark_cache(Operation.MESSAGES, before)
    assert after is not None
    assert after == b'{"cache_control":' + MARKER + b"," + before[1:]
    assert json.loads(after) == {"cache_control": EPHEMERAL, **json.loads(before)}


@pytest.mark.parametrize("fields", [
    {"system": LONG, "cache_control": EPHEMERAL},
    {"system": LONG, "cache_control": None},
    {"system": [{"type": "text", "text": LONG, "cache_control": EPHEMERAL}]},
    {"system": LONG, "tools": [{"name": "t", "input_schema": {}, "cache_control": EPHEMERAL}]},
    {"system": LONG, "messages": [{"role": "user", "content": [{"type": "text", "text": "a", "cache_control": EPHEMERAL}]}]},
    {"system": LONG, "messages": [{"role": "user", "content": [{"type": "tool_result", "content": [{"text": "a", "cache_control": EPHEMERAL}]}]}]},
    {"system": "x" * SYSTEM},
    {"messages": [{"role": "user", "content": "y" * MESSAGE}]},
    {"messages": [{"role": "user", "content": TURN}, {"role": "assistant", "content": "a"}]},
    {"messages": []},
])  # fmt: skip
def test_it_is_left_alone(fields: dict[str, Any]) -> None:
    assert mark_cache(Operation.MESSAGES, body(**fields)) is None


def test_a_name_spelled_with_escapes_is_the_same_name() -> None:
    spelled = body(system=LONG)[:-1] + b',"cache\\u005fcontrol":{"type":"ephemeral"}}'
    assert json.loads(spelled)["cache_control"] == EPHEMERAL
    assert mark_cache(Operation.MESSAGES, spelled) is None


@pytest.mark.parametrize("operation", [operation for operation in Operation if operation is not Operation.MESSAGES])
def test_only_messages(operation: Operation) -> None:
    assert mark_cache(operation, body(system=LONG)) is None


@given(st.binary(max_size=50))
def test_no_bytes_raise(data: bytes) -> None:
    assert mark_cache(Operation.MESSAGES, data + b" " * SYSTEM) is None
    mark_cache(Operation.MESSAGES, b'{"system":"' + b"x" * 2000 + b'","messages":[' + data)
