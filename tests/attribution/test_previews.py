"""The beginning of the last user message: whose words, how many, and what is masked."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.attribution import preview_of
from penstock.attribution.previews import LARGEST

REMINDER = "<system-reminder>be good</system-reminder>"


@pytest.mark.parametrize(("body", "preview"), [
    ({"messages": [{"role": "user", "content": "first"}, {"role": "assistant", "content": "no"}, {"role": "user", "content": "last"}]}, "last"),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": f"{REMINDER} fix   it\n now"}]}]}, "fix it now"),
    ({"messages": [{"role": "user", "content": "asked"}, {"role": "user", "content": [{"type": "tool_result", "content": "out"}]}]}, "asked"),
    ({"input": "spoken"}, "spoken"),
    ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "in parts"}]}, {"type": "function_call_output"}]}, "in parts"),
    ({"contents": [{"role": "user", "parts": [{"text": "gemini"}]}, {"role": "model", "parts": [{"text": "no"}]}]}, "gemini"),
    ({"contents": [{"parts": [{"text": "no role"}]}]}, "no role"),
    ({"prompt": "old"}, "old"),
    ({"messages": [{"role": "user", "content": "my key is sk-ant-REDACTED ok"}]}, "my key is sk-ant-*** ok"),
    ({"messages": []}, None), ({}, None), ({"messages": None}, None), ({"messages": [{"role": "user", "content": REMINDER}]}, None),
])  # fmt: skip
def test_previews(body: object, preview: str | None) -> None:
    if isinstance(preview, str) and "sk-ant" in preview:
        body = json.loads(json.dumps(body).replace("sk-ant-REDACTED", "sk-ant-" + "a1b2" * 6))
    assert preview_of(json.dumps(body).encode(), 40) == preview


def test_it_is_as_long_as_it_may_be_and_no_half_of_a_secret_is_left() -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "x" * 30 + " sk-ant-" + "a1b2" * 6}]}).encode()
    assert preview_of(body, 40) == "x" * 30 + " sk-ant-**"
    assert preview_of(body, 10) == "x" * 10


def test_what_cannot_be_read_has_none() -> None:
    assert preview_of(b"{", 10) is None
    assert preview_of(b"", 10) is None
    assert preview_of(b'{"input":"' + b"x" * LARGEST + b'"}', 10) is None


@given(st.binary(max_size=60), st.integers(0, 20))
def test_no_bytes_raise(body: bytes, most: int) -> None:
    found = preview_of(body, most)
    assert found is None or len(found) <= most
