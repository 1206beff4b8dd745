"""A stream folded into a body: rule by rule, and what must not be folded."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from penstock.protocols.contract import BodyError
from penstock.protocols.openai_chat import SPEC
from penstock.vocabulary.ids import Operation


def assemble(*chunks: Any, done: bool = True, operation: Operation = Operation.CHAT) -> Any:
    assembler = SPEC.assembler(operation)
    for chunk in chunks:
        assembler.feed(b"", chunk if isinstance(chunk, bytes) else json.dumps(chunk).encode())
    if done:
        assembler.feed(b"", b"[DONE]")
    return json.loads(assembler.body())


def one(delta: Any, index: Any = 0, **choice: Any) -> dict[str, Any]:
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [{"index": index, "delta": delta, **choice}]}


def message(*deltas: Any) -> Any:
    return assemble(*map(one, deltas))["choices"][0]["message"]


def test_a_text_answer() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    body = assemble(
        {
            **one({"role": "assistant", "content": "", "refusal": None}, logprobs=None, finish_reason=None),
            "usage": None,
            "obfuscation": "x",
            "system_fingerprint": "fp",
        },
        {**one({"content": "Hel"}, logprobs=None, finish_reason=None), "usage": None},
        one({"content": "lo"}, logprobs=None, finish_reason=None),
        one({}, logprobs=None, finish_reason="stop", stop_reason=None),
        {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": usage, "service_tier": "default"},
        {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": None, "moderation": {"input": {}}},
    )
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "Hello", "refusal": None},
        "logprobs": None,
        "finish_reason": "stop",
        "stop_reason": None,
    }
    assert body == {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [choice],
        "usage": usage,
        "system_fingerprint": "fp",
        "service_tier": "default",
        "moderation": {"input": {}},
    }


def test_completions() -> None:
    first = {
        "id": "c",
        "object": "text_completion",
        "choices": [{"index": 0, "text": "a", "logprobs": {"tokens": ["a"], "text_offset": [0]}, "finish_reason": None}],
    }
    last = {
        "id": "c",
        "object": "text_completion",
        "choices": [{"index": 0, "text": "b", "logprobs": {"tokens": ["b"], "text_offset": [1]}, "finish_reason": "length"}],
    }
    choice = {"index": 0, "text": "ab", "logprobs": {"tokens": ["a", "b"], "text_offset": [0, 1]}, "finish_reason": "length"}
    assert assemble(first, last, operation=Operation.COMPLETIONS) == {"id": "c", "object": "text_completion", "choices": [choice]}


def test_what_grows_and_what_the_last_chunk_says() -> None:
    assert message(
        {
            "role": "assistant",
            "reasoning": "a",
            "reasoning_content": "b",
            "refusal": "c",
            "channel": "analysis",
            "audio": {"id": "x", "data": "d", "transcript": "e"},
        },
        {
            "role": "assistant",
            "reasoning": "A",
            "reasoning_content": "B",
            "refusal": "C",
            "channel": "final",
            "audio": {"data": "D", "transcript": "E", "expires_at": 5},
        },
        {"annotations": [{"type": "url_citation", "n": 1}]},
        {"annotations": [{"type": "url_citation", "n": 2}]},
    ) == {
        "role": "assistant",
        "reasoning": "aA",
        "reasoning_content": "bB",
        "refusal": "cC",
        "channel": "final",
        "audio": {"id": "x", "data": "dD", "transcript": "eE", "expires_at": 5},
        "annotations": [{"type": "url_citation", "n": 1}, {"type": "url_citation", "n": 2}],
    }


def test_tool_calls() -> None:
    first = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}, "extra": {"x": 1}}
    assert message(
        {"role": "assistant", "content": None, "tool_calls": [first]},
        {
            "tool_calls": [
                {"index": 1, "id": "b", "type": "custom", "custom": {"name": "g", "input": "ls"}},
                {"index": 0, "function": {"arguments": '{"a"'}},
            ]
        },
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": ":1}"}}, {"index": 1, "custom": {"input": " -l"}}]},
    )["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}, "extra": {"x": 1}},
        {"id": "b", "type": "custom", "custom": {"name": "g", "input": "ls -l"}},
    ]


def test_calls_without_an_index_or_all_with_index_0() -> None:
    for index in ({}, {"index": 0}):
        calls = [{**index, "id": call_id, "function": {"name": "f", "arguments": "{}"}} for call_id in ("a", "b")]
        assert [entry["id"] for entry in message({"tool_calls": [calls[0]]}, {"tool_calls": [calls[1]]})["tool_calls"]] == ["a", "b"]
    pieces = [{"id": "a", "function": {"name": "f", "arguments": "{"}}, {"function": {"arguments": "}"}}]
    assert message(*({"tool_calls": [piece]} for piece in pieces))["tool_calls"] == [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]


def test_the_legacy_function_call() -> None:
    assert message({"function_call": {"name": "f", "arguments": ""}}, {"function_call": {"arguments": "{}"}}) == {
        "function_call": {"name": "f", "arguments": "{}"}
    }


def test_reasoning_details_are_merged_by_index_and_type() -> None:
    text = {"type": "reasoning.text", "index": 0, "format": None}
    assert message(
        {"reasoning_details": [{**text, "text": "a"}]},
        {"reasoning_details": [{**text, "text": "b"}]},
        {"reasoning_details": [{"type": "reasoning.encrypted", "index": 0, "data": "x"}, {**text, "text": "", "signature": "s"}]},
    )["reasoning_details"] == [{**text, "text": "ab", "signature": "s"}, {"type": "reasoning.encrypted", "index": 0, "data": "x"}]


def test_content_as_a_list_joins_neighbours() -> None:
    def thought(text: str) -> list[Any]:
        return [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]

    assert message({"role": "assistant", "content": ""}, {"content": thought("a")}, {"content": thought("b")}, {"content": "c"}, {"content": "d"})[
        "content"
    ] == [
        {"type": "thinking", "thinking": [{"type": "text", "text": "ab"}]},
        {"type": "text", "text": "cd"},
    ]


def test_choices_stand_in_the_order_of_their_index() -> None:
    body = assemble(one({"content": "b"}, 1), one({"content": "a"}), one({"content": "B"}, 1, finish_reason="stop"))
    assert [(choice["index"], choice["message"]["content"]) for choice in body["choices"]] == [(0, "a"), (1, "bB")]


def test_empty_names_replace_nothing() -> None:
    body = assemble(
        {"id": "", "model": "", "object": "", "choices": [], "prompt_filter_results": [1]},
        one({"content": "a"}),
        {"id": "", "model": "", "choices": []},
    )
    assert (body["id"], body["model"], body["object"], body["prompt_filter_results"]) == ("c", "m", "chat.completion", [1])


def test_groqs_usage_moves_to_its_place() -> None:
    body = assemble(
        {**one({"content": "a"}), "x_groq": {"id": "r"}}, {**one({}, finish_reason="stop"), "x_groq": {"id": "r", "usage": {"prompt_tokens": 1}}}
    )
    assert (body["usage"], body["x_groq"]) == ({"prompt_tokens": 1}, {"id": "r"})


def test_halves_of_a_surrogate_pair_become_whole() -> None:
    raw = json.dumps(one({"content": "X"})).encode()
    assert assemble(raw.replace(b'"X"', b'"\\ud83d"'), raw.replace(b'"X"', b'"\\ude00"'))["choices"][0]["message"]["content"] == "\U0001f600"


NO_ANSWERS: list[list[Any]] = [
    [],
    [one({"content": "a"}), {"error": {"message": "m"}}],
    [one({"content": "a"}), b"nope"],
    [one({"content": "a"}), b"[1]"],
    [{"choices": [1]}],
    [{"choices": [{"index": "x", "delta": {}}]}],
    [one({"tool_calls": [1]})],
]


@pytest.mark.parametrize("chunks", NO_ANSWERS)
def test_what_is_no_answer_makes_no_body(chunks: list[Any]) -> None:
    with pytest.raises(BodyError):
        assemble(*chunks)


def test_a_stream_without_done_makes_no_body() -> None:
    with pytest.raises(BodyError, match="DONE"):
        assemble(one({"content": "a"}, finish_reason="stop"), done=False)


def test_an_event_named_error_makes_no_body() -> None:
    assembler = SPEC.assembler(Operation.CHAT)
    with pytest.raises(BodyError, match="holds an error: m"):
        assembler.feed(b"error", b'{"message":"m"}')


def test_a_long_stream_takes_time_in_proportion() -> None:
    piece = json.dumps(one({"content": "a" * 50})).encode()
    assembler = SPEC.assembler(Operation.CHAT)
    started = time.process_time()
    for _ in range(20_000):
        assembler.feed(b"", piece)
    assembler.feed(b"", b"[DONE]")
    assert len(assembler.body()) > 1_000_000
    assert time.process_time() - started < 5  # of the processor; about 0.2, whereas adding strings would copy ten gigabytes


@pytest.mark.parametrize("name", ["tool_calls", "function_call", "custom", "content", "audio", "reasoning_details", "x"])
def test_whatever_grows_is_counted(name: str) -> None:
    """The bytes that it is bounded by: of calls as of text."""
    piece = "x" * 1000
    told: dict[str, Any] = {
        "tool_calls": [{"index": 0, "function": {"arguments": piece}}], "function_call": {"arguments": piece}, "content": piece,
        "audio": {"data": piece}, "reasoning_details": [{"index": 0, "type": "a", "text": piece}], "x": [piece],
    }  # fmt: skip
    delta = {"tool_calls": [{"index": 0, "custom": {"input": piece}}]} if name == "custom" else {name: told[name]}
    assembler = SPEC.assembler(Operation.CHAT)
    for _ in range(50):
        assembler.feed(b"", json.dumps(one(delta)).encode())
    assert 50_000 <= assembler.held <= 75_000


@pytest.mark.parametrize("calls", [True, False], ids=["calls", "choices"])
def test_many_calls_and_choices_are_counted(calls: bool) -> None:
    assembler = SPEC.assembler(Operation.CHAT)
    for index in range(500):
        chunk = one({"tool_calls": [{"index": index}]}) if calls else {"choices": [{"index": index}]}
        assembler.feed(b"", json.dumps(chunk).encode())
    assert assembler.held > 100_000


@pytest.mark.parametrize("name", ["delta", "function", "custom", "function_call", "audio", "other"])
def test_what_is_nested_where_nothing_is_put_together_is_counted(name: str) -> None:
    """One such chunk is held as hundreds of objects, and each choice has its own."""
    assembler = SPEC.assembler(Operation.CHAT)
    deep = b'{"%b":' % name.encode() * 500 + b"{}" + b"}" * 500
    for index in range(10):
        assembler.feed(b"", b'{"choices": [{"index": %d, "delta": %b}]}' % (index, deep))
    assert assembler.held > 10 * 400 * 64


@pytest.mark.parametrize("delta", [b'{"delta": {"tool_calls": [%b]}}', b'{"content": [%b]}', b'{"audio": {"function": {"tool_calls": [%b]}}}'])
def test_lists_of_nothing_are_counted(delta: bytes) -> None:
    assembler = SPEC.assembler(Operation.CHAT)
    assembler.feed(b"", b'{"choices": [{"index": 0, "delta": %b}]}' % (delta % b", ".join([b"{}"] * 1000)))
    assert assembler.held > 1000 * 64


def test_what_is_put_together_is_counted_by_what_it_adds() -> None:
    assembler = SPEC.assembler(Operation.CHAT)
    call = b'{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "x"}}]}}]}'
    for _ in range(1000):
        assembler.feed(b"", call)
    assert assembler.held < 1000 * (64 + 64 + 8)
