"""The bodies that the gateway is asked with, against golden ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from penstock.protocols.contract import BadRequest
from penstock.translate.argo_legacy import Asked, ask
from penstock.vocabulary.ids import Operation

GOLDEN: list[dict[str, Any]] = list(yaml.safe_load_all((Path(__file__).parent / "golden" / "requests.yaml").read_text(encoding="utf-8")))
SERVED = (Operation.CHAT, Operation.COMPLETIONS, Operation.RESPONSES, Operation.EMBEDDINGS)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 99_999) | st.text(max_size=6),
    lambda below: st.lists(below, max_size=3)
    | st.dictionaries(st.sampled_from(["role", "content", "type", "text", "tool_calls", "function", "name", "arguments", "id", "call_id"]), below),
    max_leaves=12,
)
FIELDS = ("model", "messages", "input", "prompt", "system", "tools", "tool_choice", "instructions", "stream", "max_tokens", "text", "encoding_format")


def asked(operation: Operation, body: Any, model: str = "gpt4o", *, stream: bool = False, real: bool = True) -> Asked:
    return ask(operation, json.dumps(body).encode(), user="ada", model=model, stream=stream, real_stream=real)


@pytest.mark.parametrize("case", GOLDEN, ids=[f"{number}_{case['operation']}_{case['model']}" for number, case in enumerate(GOLDEN)])
def test_golden(case: dict[str, Any]) -> None:
    found = asked(Operation(case["operation"]), case["client"], case["model"], stream=case.get("stream", False), real=case.get("real", True))
    assert json.loads(found.body) == case["gateway"]
    assert found.resource == case["resource"]
    assert list(found.notes) == case.get("notes", [])
    assert found.streams == case.get("stream", False)
    assert found.input_tokens is not None


@pytest.mark.parametrize(
    ("operation", "body", "word"),
    [
        (Operation.CHAT, {"messages": "hi"}, "messages"),
        (Operation.CHAT, {"messages": ["hi"]}, "messages"),
        (Operation.CHAT, {}, "neither"),
        (Operation.CHAT, {"messages": [], "tools": {}}, "tools"),
        (Operation.CHAT, {"messages": [], "tools": [{"type": "function"}]}, "name"),
        (Operation.CHAT, {"messages": [], "tools": [{"type": "custom", "custom": {"name": "x"}}]}, "function"),
        (Operation.CHAT, {"messages": [], "tools": [{"function": {"name": "f"}}], "tool_choice": "sometimes"}, "tool_choice"),
        (Operation.CHAT, {"messages": [], "tools": [{"function": {"name": "f"}}], "tool_choice": {"type": "allowed_tools"}}, "names none"),
        (Operation.COMPLETIONS, {"prompt": [1, 2]}, "tokens"),
        (Operation.COMPLETIONS, {"prompt": None}, "neither"),
        (Operation.RESPONSES, {"input": 5}, "input"),
        (Operation.RESPONSES, {"input": ["hi"]}, "item"),
        (Operation.EMBEDDINGS, {"input": [[1, 2]]}, "tokens"),
        (Operation.EMBEDDINGS, {}, "input"),
        (Operation.EMBEDDINGS, {"input": "hi", "encoding_format": "int8"}, "encoding_format"),
    ],
)
def test_what_cannot_be_asked_is_told(operation: Operation, body: Any, word: str) -> None:
    with pytest.raises(BadRequest, match=word):
        asked(operation, body)


@given(
    operation=st.sampled_from(SERVED), body=st.dictionaries(st.sampled_from(FIELDS), JSON),
    model=st.sampled_from(["gpt4o", "claudex", "gemini1", "x"]),
)  # fmt: skip
def test_no_request_breaks_it(operation: Operation, body: dict[str, Any], model: str) -> None:
    """A body for the gateway, with who asks and whom, or a sentence; nothing else."""
    try:
        found = asked(operation, body, model, stream=True)
    except BadRequest:
        return
    told = json.loads(found.body)
    assert (told["user"], told["model"]) == ("ada", model)
    assert told.get("stream") in (None, found.resource == "streamchat")


@pytest.mark.parametrize("odd", [[], {}, [{}], {"a": []}], ids=repr)
@pytest.mark.parametrize("model", ["gpt4o", "claudex", "gemini1", "x"])
def test_what_cannot_be_an_id_or_a_role_is_none(odd: Any, model: str) -> None:
    calls = [{"id": odd, "type": "function", "function": {"name": "f", "arguments": "{}"}}, {"id": "c2", "function": {"name": "g"}}]
    results = [{"role": "tool", "tool_call_id": odd, "content": "1"}, {"role": "tool", "tool_call_id": "c2", "content": "2"}]
    messages = [{"role": odd, "content": "hi"}, {"role": "assistant", "content": None, "tool_calls": calls}, *results]
    assert json.loads(asked(Operation.CHAT, {"messages": messages}, model).body)["messages"]
    items = [
        {"role": odd, "content": "hi"}, {"type": "function_call", "call_id": odd, "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": odd, "output": "1"},
    ]  # fmt: skip
    found = asked(Operation.RESPONSES, {"input": items}, model)
    assert json.loads(found.body)["messages"]
    assert found.notes == ("items of type message left out",)


@pytest.mark.parametrize(("model", "choice"), [
    ("gpt4o", "required"), ("claudex", {"type": "any", "disable_parallel_tool_use": False}), ("gemini1", "ANY"), ("x", None)])
@pytest.mark.parametrize("operation", [Operation.CHAT, Operation.RESPONSES])
def test_allowed_tools_are_those_alone_and_their_mode_is_the_choice(operation: Operation, model: str, choice: Any) -> None:
    def tools(*names: str) -> list[dict[str, Any]]:
        return [{"type": "function", **({"function": {"name": name}} if operation is Operation.CHAT else {"name": name})} for name in names]

    allowed = {"mode": "required", "tools": [*tools("b"), *([] if operation is Operation.CHAT else [{"type": "web_search"}])]}
    body = {"messages": [], "input": [], "tools": tools("a", "b"), "tool_choice": {
        "type": "allowed_tools", **({"allowed_tools": allowed} if operation is Operation.CHAT else allowed)}}
    told = json.loads(asked(operation, body, model).body)
    assert told.get("tool_choice") == choice
    if model == "x":
        assert '"name":"b"' in str(told["messages"])
        assert '"name":"a"' not in str(told["messages"])
        assert "at least one tool now" in str(told["messages"])
    else:
        assert [tool.get("name") or tool["function"]["name"] for tool in told["tools"]] == ["b"]


def test_a_prompt_of_null_is_none() -> None:
    found = asked(Operation.COMPLETIONS, {"messages": [{"role": "user", "content": "hi"}], "prompt": None, "system": "s"}, "gpto1mini")
    assert json.loads(found.body)["system"] == "s"


def test_half_an_emoji_passes() -> None:
    body = b'{"messages":[{"role":"user","content":"\\ud83d"}]}'
    found = ask(Operation.CHAT, body, user="ada", model="gpt4o", stream=False, real_stream=True)
    assert b'"\\ud83d"' in found.body
