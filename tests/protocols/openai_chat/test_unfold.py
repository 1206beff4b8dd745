"""Law 6, `assemble(unfold(body)) = body`, for generated bodies with unknown fields and for every recorded answer; the shape of the pseudo stream."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.protocols.contract import CONTENT, TERMINAL, USAGE_ONLY, BodyError
from penstock.protocols.openai_chat import SPEC
from penstock.vocabulary.ids import Operation

CORPUS = Path(__file__).parents[2] / "corpus" / "openai_chat"

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.sampled_from(["index", "text", "type"]), inner, max_size=3),
    max_leaves=6,
)
TEXT = st.text(max_size=200) | st.text(alphabet="ab \n", max_size=200)


def unknown(*known: str) -> st.SearchStrategy[dict[str, Any]]:
    names = st.sampled_from(
        ["x_groq", "moderation", "annotations", "audio", "token_ids", "logprobs", "data", "channel", "usage2", "reasoning_details"]
    )
    return st.dictionaries((st.text(min_size=1, max_size=5) | names).filter(lambda name: name not in known), VALUES, max_size=3)


@st.composite
def calls(draw: st.DrawFn) -> dict[str, Any]:
    function = {
        "name": draw(st.text(max_size=4)),
        "arguments": draw(TEXT | st.dictionaries(st.text(), st.none())),
        **draw(unknown("name", "arguments")),
    }
    return {
        "id": draw(st.text(max_size=4)),
        "type": "function",
        draw(st.sampled_from(["function", "custom"])): function,
        **draw(unknown("id", "index", "function", "custom")),
    }


@st.composite
def messages(draw: st.DrawFn) -> dict[str, Any]:
    optional = {
        "content": TEXT | st.none() | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": st.text()})),
        "refusal": TEXT | st.none(),
        "reasoning": TEXT | st.none(),
        "reasoning_content": TEXT | st.none(),
        "tool_calls": st.lists(calls(), max_size=3) | st.none(),
        "function_call": st.none() | st.fixed_dictionaries({"name": st.text(), "arguments": TEXT}),
    }
    return {**draw(unknown("role", *optional)), **draw(st.fixed_dictionaries({"role": st.just("assistant")}, optional=optional))}


@st.composite
def bodies(draw: st.DrawFn) -> tuple[Operation, dict[str, Any]]:
    legacy = draw(st.booleans())
    choices: list[dict[str, Any]] = []
    for index in range(draw(st.integers(0, 3))):
        said = {"text": draw(TEXT)} if legacy else {"message": draw(messages())}
        finish = draw(st.sampled_from([{}, {"finish_reason": None}, {"finish_reason": "stop"}, {"finish_reason": ""}]))
        choices.append({"index": index, **said, **finish, **draw(unknown("index", "message", "delta", "text", "finish_reason"))})
    body = {"id": draw(st.text(max_size=5)), "object": "text_completion" if legacy else "chat.completion", "choices": choices}
    body |= draw(st.fixed_dictionaries({}, optional={"created": st.integers(), "model": st.text(max_size=5), "usage": VALUES}))
    return Operation.COMPLETIONS if legacy else Operation.CHAT, {**draw(unknown("error", "obfuscation", *body, "usage")), **body}


def data_of(frames: Iterable[bytes]) -> list[bytes]:
    found: list[bytes] = []
    for frame in frames:
        assert frame.startswith(b"data: ")
        assert frame.endswith(b"\n\n")
        assert b"\n" not in frame[:-2]
        found.append(frame[6:-2])
    return found


def fold(operation: Operation, frames: Iterable[bytes]) -> bytes:
    assembler = SPEC.assembler(operation)
    for data in data_of(frames):
        assembler.feed(b"", data)
    return assembler.body()


def exact(body: bytes) -> str:
    """Text that tells 1 from 1.0 and from true."""
    return json.dumps(json.loads(body), sort_keys=True)


@given(bodies())
def test_a_body_comes_back_as_it_was(drawn: tuple[Operation, dict[str, Any]]) -> None:
    operation, fields = drawn
    body = json.dumps(fields).encode()
    assert exact(fold(operation, SPEC.unfold(operation, body))) == exact(body)


@given(bodies())
def test_the_observer_reads_the_same_from_the_body_and_from_its_stream(drawn: tuple[Operation, dict[str, Any]]) -> None:
    operation, fields = drawn
    fields.pop("x_groq", None)
    body = json.dumps(fields).encode()
    whole, streamed = SPEC.observer(operation), SPEC.observer(operation)
    whole.observe_body(body)
    frames = data_of(SPEC.unfold(operation, body))
    bits = [streamed.observe(b"", data, 1.0) for data in frames]
    assert bits[-1] & TERMINAL
    assert (streamed.response_id, streamed.model, streamed.usage, streamed.error) == (whole.response_id, whole.model, whole.usage, whole.error)
    assert (streamed.stop_reason, streamed.choices, streamed.malformed) == (whole.stop_reason, whole.choices, 0)


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.sse")), ids=lambda path: path.stem)
def test_recorded_answers_come_back_as_they_were(path: Path) -> None:
    assembler = SPEC.assembler(Operation.CHAT)
    try:
        for line in path.read_bytes().split(b"\n"):
            if line.startswith(b"data: "):
                assembler.feed(b"", line[6:])
        body = assembler.body()
    except BodyError:
        assert "tool_use_failed" in path.stem
        return
    assert exact(fold(Operation.CHAT, SPEC.unfold(Operation.CHAT, body))) == exact(body)
    words = "".join(json.loads(line[6:])["choices"][0]["delta"].get("content") or "" for line in path.read_bytes().split(b"\n") if b'"delta"' in line)
    assert (json.loads(body)["choices"][0]["message"]["content"] or "") == words


def test_the_order_of_the_pseudo_stream() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": "Hello", "reasoning_content": "hm", "tool_calls": [call], "extra": 1}
    body = {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "tier": "x",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls", "logprobs": None}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2},
    }
    frames = data_of(SPEC.unfold(Operation.CHAT, json.dumps(body).encode()))
    assert frames.pop() == b"[DONE]"
    chunks = [json.loads(data) for data in frames]
    assert {(chunk["id"], chunk["object"], chunk["created"], chunk["model"]) for chunk in chunks} == {("c", "chat.completion.chunk", 1, "m")}
    assert ["tier" in chunk for chunk in chunks] == [True] + [False] * (len(chunks) - 1)
    said = [choice for chunk in chunks for choice in chunk["choices"]]
    assert said == [
        {"index": 0, "delta": {"role": "assistant", "content": "", "reasoning_content": "", "extra": 1}, "logprobs": None, "finish_reason": None},
        {"index": 0, "delta": {"reasoning_content": "hm"}},
        {"index": 0, "delta": {"content": "Hello"}},
        {"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]}},
        {"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}},
        {"index": 0, "delta": {}, "finish_reason": "tool_calls"},
    ]
    assert chunks[-1] == {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": body["usage"]}
    observer = SPEC.observer(Operation.CHAT)
    bits = [observer.observe(b"", data, 1.0) for data in [*frames, b"[DONE]"]]
    assert (bits[0], bits[2], bits[-2:]) == (0, CONTENT, [USAGE_ONLY, TERMINAL])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        b"[]",
        b"{}",
        b'{"choices":null}',
        b'{"choices":[1]}',
        b'{"error":{"message":"m"},"choices":[]}',
        b'{"choices":[{"index":"x"}]}',
        b'{"choices":[{"index":0},{"index":0}]}',
        b'{"choices":[{"message":{"tool_calls":[1]}}]}',
    ],
)
def test_what_is_no_answer_makes_no_stream(body: bytes) -> None:
    with pytest.raises(BodyError):
        SPEC.unfold(Operation.CHAT, body)  # at once, not at the first frame


@pytest.mark.parametrize("stated", [True, 1, 1.5, "x", {"a": 1}, {}, "", 0], ids=repr)
def test_calls_that_are_no_list_stay_what_they_are(stated: Any) -> None:
    message = {"role": "assistant", "content": "a b", "tool_calls": stated}
    body = {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    assembler = SPEC.assembler(Operation.CHAT)
    for frame in SPEC.unfold(Operation.CHAT, json.dumps(body).encode()):
        assembler.feed(b"", frame.removeprefix(b"data: ").strip())
    assert json.loads(assembler.body()) == body
