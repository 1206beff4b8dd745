"""Tool calls: when they begin, go on and end, and how they are told apart where providers deviate."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.protocols.contract import CONTENT, TERMINAL, TOOL, Observer
from penstock.protocols.openai_chat import SPEC
from penstock.vocabulary.ids import Operation

DONE = b"[DONE]"


def new() -> Observer:
    return SPEC.observer(Operation.CHAT)


def chunk(delta: Any = None, *, index: Any = 0, finish: Any = None, **more: Any) -> bytes:
    """A chunk with one choice; `more` are fields of the top level."""
    choice: dict[str, Any] = {"index": index, "delta": {} if delta is None else delta, "logprobs": None, "finish_reason": finish}
    return json.dumps({"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": [choice], **more}).encode()


def call(index: Any, arguments: Any = None, call_id: Any = None, name: Any = None, choice: int = 0) -> bytes:
    entry: dict[str, Any] = {"function": {}}
    if index is not None:
        entry["index"] = index
    if call_id is not None:
        entry["id"] = call_id
    if name is not None:
        entry["function"]["name"] = name
    if arguments is not None:
        entry["function"]["arguments"] = arguments
    return chunk({"tool_calls": [entry]}, index=choice)


def see(observer: Observer, *frames: bytes, now: float = 1.0) -> int:
    """Observes the frames and gives the bits of the last."""
    bits = 0
    for data in frames:
        bits = observer.observe(b"", data, now)
    return bits


def test_a_call_is_open_until_its_arguments_close() -> None:
    observer = new()
    assert see(observer, call(0, "", "call_1", "f"), now=1.0) == CONTENT | TOOL
    (tool,) = observer.tools.values()
    assert (tool.name, tool.kind, tool.arguments_at) == ("f", "function", 1.0)
    see(observer, call(0, '{"a": "}'), now=2.0)
    see(observer, chunk({"content": "text"}), now=3.0)
    assert tool.arguments_at == 2.0
    see(observer, call(0, '\\"'), call(0, '"'), now=4.0)
    assert len(observer.tools) == 1
    see(observer, call(0, "}"), now=5.0)
    assert (observer.tools, observer.calls, tool.arguments_at) == ({}, 1, 5.0)


def test_a_call_ends_when_another_begins_or_the_choice_ends() -> None:
    observer = new()
    see(observer, call(0, "{", "call_1", "f"), call(1, "{", "call_2", "g"))
    assert [tool.name for tool in observer.tools.values()] == ["g"]
    see(observer, call(0, "{", "call_3", "h", choice=1))
    assert len(observer.tools) == 2
    assert see(observer, chunk(finish="tool_calls")) == TOOL
    assert [tool.name for tool in observer.tools.values()] == ["h"]
    assert see(observer, DONE) == TERMINAL | TOOL
    assert (observer.tools, observer.calls) == ({}, 3)


@pytest.mark.parametrize(
    ("frames", "calls"),
    [
        ([call(0, "{}", "a", "f"), call(0, "{}", "b", "f")], 2),  # Gemini's OpenAI surface: every call has index 0
        ([call(None, "{}", "a", "f"), call(None, "{}", "b", "f")], 2),  # and no index at all
        ([call(None, "{", "a", "f"), call(None, "}")], 1),
        ([call(0, "{", "a", "f"), call(0, "}", "a", "f")], 1),  # id and name in every delta
        ([call(0, "", "a", "f"), call(0, "{", "", None), call(0, "}", "", "")], 1),  # empty ones in the later deltas
        ([call(0, "{", "a", "f"), call(1, "{", "b", "g"), call(0, '"x":1}'), call(1, "}")], 2),  # interleaved
        ([call(0, "{}", "a", "f"), call(0, ""), call(0, " ")], 1),
        ([call(0, "{}", None, "f"), call(0, "{}", None, "g")], 2),  # nothing but a name tells them apart
        ([call(0, {"x": 1}, "a", "f")], 1),  # the object itself
        (
            [
                chunk(
                    {
                        "tool_calls": [
                            {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}},
                            {"index": 1, "id": "b", "function": {"name": "g"}},
                        ]
                    }
                )
            ],
            2,
        ),
    ],
)
def test_calls_are_counted_once_each(frames: list[bytes], calls: int) -> None:
    observer = new()
    see(observer, *frames, chunk(finish="tool_calls"))
    assert (observer.calls, observer.tools, observer.malformed) == (calls, {}, 0)


def test_a_call_whose_arguments_closed_too_early_is_open_again() -> None:
    observer = new()
    see(observer, call(0, "{}", "a", "f"))
    assert observer.tools == {}
    see(observer, call(0, '{"a":1'))
    assert [tool.name for tool in observer.tools.values()] == ["f"]
    see(observer, call(0, "}"))
    assert (observer.tools, observer.calls) == ({}, 1)


@pytest.mark.parametrize("arguments", ['{"a":"\\""}', '{"a":"\\\\"}', '{"}":"{\\\\\\""}', '{"a":[{"b":"]}"},{}]}', '{"\\"":1}'])
def test_the_end_of_arguments_is_found_in_single_characters(arguments: str) -> None:
    json.loads(arguments)
    observer = new()
    see(observer, call(0, "", "a", "f"))
    for number, character in enumerate(arguments, start=1):
        see(observer, call(0, character))
        assert bool(observer.tools) == (number < len(arguments))


def test_custom_tools_are_not_json_and_end_with_the_choice() -> None:
    observer = new()
    see(observer, chunk({"tool_calls": [{"index": 0, "id": "a", "type": "custom", "custom": {"name": "sh", "input": ""}}]}))
    assert see(observer, chunk({"tool_calls": [{"index": 0, "custom": {"input": "{}"}}]}), now=9.0) == CONTENT | TOOL
    (tool,) = observer.tools.values()
    assert (tool.kind, tool.name, tool.arguments_at) == ("custom", "sh", 9.0)
    see(observer, chunk(finish="tool_calls"))
    assert observer.tools == {}


def test_the_legacy_function_call() -> None:
    observer = new()
    see(observer, chunk({"role": "assistant", "function_call": {"name": "f", "arguments": ""}}))
    assert see(observer, chunk({"function_call": {"arguments": '{"a'}})) == CONTENT | TOOL
    assert [tool.name for tool in observer.tools.values()] == ["f"]
    see(observer, chunk(finish="function_call"))
    assert (observer.calls, observer.tools, observer.stop_reason) == (1, {}, "function_call")


@given(
    st.dictionaries(st.text(), st.recursive(st.text() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)), min_size=1),
    st.data(),
)
def test_the_end_of_arguments_is_found_in_any_pieces(arguments: Any, data: st.DataObject) -> None:
    text = json.dumps(arguments)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    observer = new()
    see(observer, call(0, "", "a", "f"))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    for number, piece in enumerate(pieces):
        see(observer, call(0, piece))
        assert bool(observer.tools) == ("".join(pieces[: number + 1]) != text)
