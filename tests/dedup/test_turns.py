"""Turns that are made only of tool results."""

from __future__ import annotations

import json
from typing import Any

import pytest

from penstock.dedup.turns import is_tool_turn

RESULT = {"type": "tool_result", "tool_use_id": "t", "content": "x"}
TEXT = {"type": "text", "text": "x"}


@pytest.mark.parametrize("body", [
    {"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": [RESULT, RESULT]}]},
    {"messages": [{"role": "user", "content": [{"type": "mcp_tool_result"}]}]},
    {"messages": [{"role": "tool", "content": "x"}]},
    {"messages": [{"role": "function", "content": "x"}]},
    {"input": [{"role": "user", "content": "x"}, {"type": "function_call_output", "call_id": "c", "output": "x"}]},
    {"input": [{"type": "custom_tool_call_output"}]},
    {"contents": [{"role": "user", "parts": [{"functionResponse": {"name": "f"}}]}]},
])  # fmt: skip
def test_they_are(body: Any) -> None:
    assert is_tool_turn(json.dumps(body).encode())


OTHERS: list[Any] = [
    {"messages": [{"role": "user", "content": [RESULT, TEXT]}]},
    {"messages": [{"role": "tool", "content": "x"}, {"role": "user", "content": "x"}]},
    {"messages": [{"role": "user", "content": []}]}, {"messages": []}, {"messages": [1]}, {"messages": "x"}, {"input": "x"}, {"input": [{"type": 1}]},
    {"contents": [{"parts": [{"functionResponse": {}}, {"text": "x"}]}]}, {"contents": [{"parts": "x"}]}, [], 1, {},
]  # fmt: skip


@pytest.mark.parametrize("body", OTHERS)
def test_they_are_not(body: Any) -> None:
    assert not is_tool_turn(json.dumps(body).encode())


@pytest.mark.parametrize("body", [b"", b"x", b'{"a":"\xff"}', b"[" * 100_000])
def test_and_of_these_it_cannot_be_told(body: bytes) -> None:
    assert not is_tool_turn(body)
