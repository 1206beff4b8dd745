"""Law 6: assemble(unfold(body)) = body for every registered protocol, unknown fields included; and the stream in between is a whole one that says
what the body says. The protocols' own tests hold it for odder bodies."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.protocols import REGISTRY
from penstock.protocols.contract import BodyError
from penstock.vocabulary.ids import ProtocolId
from penstock.vocabulary.outcome import Ending
from penstock.wire.budget import Budget
from penstock.wire.sse import Scanner
from tests.support.relays import CUTS, OPERATIONS, Relay, cut, relayed
from tests.support.streams import COMPLETE, places, put

CHAT, RESPONSES, MESSAGES, GEMINI = ProtocolId.OPENAI_CHAT, ProtocolId.OPENAI_RESPONSES, ProtocolId.ANTHROPIC_MESSAGES, ProtocolId.GEMINI
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.sampled_from(["index", "type", "text"]), inner, max_size=3),
    max_leaves=5,
)
TEXT = st.text(max_size=120) | st.text(alphabet='ab \n"\\é😀', max_size=300)
NAME = st.text("abcdefgh_", min_size=1, max_size=8)
COUNT = st.integers(0, 10**6)
ARGUMENTS = st.dictionaries(st.text(max_size=4), JSON, max_size=3)


def some(required: dict[str, Any], **optional: Any) -> st.SearchStrategy[dict[str, Any]]:
    """An object with these members, strategies or plain values, and some of the optional ones."""
    wanted: dict[str, Any] = {name: value if isinstance(value, st.SearchStrategy) else st.just(value) for name, value in required.items()}
    return st.fixed_dictionaries(wanted, optional=optional)


def chat_bodies() -> st.SearchStrategy[Any]:
    call = some({"id": NAME, "type": "function", "function": some({"name": NAME, "arguments": ARGUMENTS.map(json.dumps)})})
    message = some(
        {"role": "assistant", "content": st.none() | TEXT},
        refusal=st.none() | TEXT,
        reasoning_content=TEXT,
        tool_calls=st.lists(call, min_size=1, max_size=3),
    )
    choice = some({"message": message, "finish_reason": st.sampled_from(["stop", "length", "tool_calls"])}, logprobs=JSON)
    choices = st.lists(choice, min_size=1, max_size=3).map(lambda found: [{"index": index, **choice} for index, choice in enumerate(found)])
    usage = some({"prompt_tokens": COUNT, "completion_tokens": COUNT}, prompt_tokens_details=some({}, cached_tokens=COUNT))
    return some({"id": NAME, "object": "chat.completion", "created": COUNT, "model": NAME, "choices": choices}, usage=usage, service_tier=JSON)


def responses_bodies() -> st.SearchStrategy[Any]:
    text = some({"type": "output_text", "text": TEXT, "annotations": st.lists(some({"type": "url_citation"}), max_size=2)}, logprobs=st.just([]))
    item = st.one_of(
        some(
            {"type": "message", "id": NAME, "role": "assistant", "content": st.lists(text | some({"type": "refusal", "refusal": TEXT}), max_size=3)},
            status=NAME,
        ),
        some(
            {"type": "reasoning", "id": NAME, "summary": st.lists(some({"type": "summary_text", "text": TEXT}), max_size=2)}, encrypted_content=NAME
        ),
        some({"type": "function_call", "id": NAME, "call_id": NAME, "name": NAME, "arguments": ARGUMENTS.map(json.dumps)}),
        some({"type": "web_search_call", "id": NAME, "status": "completed", "action": JSON}),
    )
    end = st.sampled_from([{"status": "completed"}, {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}])
    usage = some({"input_tokens": COUNT, "output_tokens": COUNT}, output_tokens_details=some({"reasoning_tokens": COUNT}))
    body = some(
        {"id": NAME, "object": "response", "created_at": COUNT, "model": NAME, "output": st.lists(item, max_size=4)}, usage=usage, metadata=JSON
    )
    return st.tuples(body, end).map(lambda both: {**both[0], **both[1]})


def messages_bodies() -> st.SearchStrategy[Any]:
    block = st.one_of(
        some({"type": "text", "text": TEXT}, citations=st.none() | st.lists(some({"type": "char_location"}), max_size=2)),
        some({"type": "thinking", "thinking": TEXT, "signature": NAME}),
        some({"type": "tool_use", "id": NAME, "name": NAME, "input": ARGUMENTS}),
        some({"type": "redacted_thinking", "data": NAME}),
    )
    usage = some(
        {"input_tokens": COUNT, "output_tokens": COUNT}, cache_read_input_tokens=COUNT, cache_creation=some({"ephemeral_5m_input_tokens": COUNT})
    )
    return some({
        "id": NAME, "type": "message", "role": "assistant", "model": NAME, "content": st.lists(block, max_size=4),
        "stop_reason": st.sampled_from(["end_turn", "max_tokens", "tool_use"]), "stop_sequence": st.none() | NAME, "usage": usage,
    })  # fmt: skip


def gemini_bodies() -> st.SearchStrategy[Any]:
    part = st.one_of(
        some({"text": TEXT}), some({"text": TEXT, "thought": True}), some({"text": TEXT, "thoughtSignature": NAME}),
        some({"functionCall": some({"name": NAME, "args": ARGUMENTS}, id=NAME)}), some({"inlineData": some({"mimeType": "image/png", "data": NAME})}),
    )  # fmt: skip
    content = some({"parts": st.lists(part, min_size=1, max_size=5), "role": "model"})
    candidate = some({"content": content, "finishReason": st.sampled_from(["STOP", "MAX_TOKENS"])}, groundingMetadata=JSON, avgLogprobs=JSON)
    candidates = st.lists(candidate, min_size=1, max_size=2).map(lambda found: [{**c, "index": index} for index, c in enumerate(found)])
    usage = some({"promptTokenCount": COUNT, "candidatesTokenCount": COUNT}, thoughtsTokenCount=COUNT)
    return some(
        {"candidates": candidates, "modelVersion": NAME, "responseId": NAME}, usageMetadata=usage, promptFeedback=some({"safetyRatings": st.just([])})
    )


BODIES = {CHAT: chat_bodies(), RESPONSES: responses_bodies(), MESSAGES: messages_bodies(), GEMINI: gemini_bodies()}


@st.composite
def sprinkled(draw: st.DrawFn, body: Any) -> Any:
    """`body` with members that nobody knows in some of its objects."""
    objects = [path for path in places(body) if isinstance(_at(body, path), dict)]
    for path in draw(st.lists(st.sampled_from(objects), max_size=4, unique=True)):
        body = put(body, path, {**_at(body, path), draw(st.sampled_from(["x_new", "xNew", "zzz"])): draw(JSON)})
    return body


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


@cache
def recorded(protocol: ProtocolId) -> list[Any]:
    """The bodies that the recordings stand for."""
    return [json.loads(assembled(protocol, [case.body])) for case in COMPLETE if case.recording.protocol is protocol and len(case.body) < 40_000]


def assembled(protocol: ProtocolId, chunks: list[bytes]) -> bytes:
    scanner = Scanner(1 << 26, Budget(1 << 28))
    assembler = REGISTRY[protocol].assembler(OPERATIONS[protocol])
    for chunk in chunks:
        for name, data, _ in scanner.feed(chunk):
            if data is not None:
                assembler.feed(name, data)
    return assembler.body()


def spelled(data: st.DataObject, body: Any) -> bytes:
    return json.dumps(body, indent=data.draw(st.sampled_from([None, 2])), ensure_ascii=data.draw(st.booleans())).encode()


def test_every_registered_protocol_is_held_to_this_law() -> None:
    assert set(BODIES) == set(REGISTRY)


@pytest.mark.parametrize("protocol", REGISTRY)
@given(data=st.data())
def test_a_body_comes_back(protocol: ProtocolId, data: st.DataObject) -> None:
    body = data.draw(BODIES[protocol].flatmap(sprinkled))
    frames = list(REGISTRY[protocol].unfold(OPERATIONS[protocol], spelled(data, body)))
    assert json.loads(assembled(protocol, frames)) == body
    assert json.loads(assembled(protocol, cut(b"".join(frames), data.draw(CUTS)))) == body


@pytest.mark.parametrize("protocol", REGISTRY)
@given(data=st.data())
def test_a_recorded_answer_comes_back(protocol: ProtocolId, data: st.DataObject) -> None:
    body = data.draw(st.sampled_from(recorded(protocol)).flatmap(sprinkled))
    assert json.loads(assembled(protocol, list(REGISTRY[protocol].unfold(OPERATIONS[protocol], spelled(data, body))))) == body


@pytest.mark.parametrize("protocol", REGISTRY)
@given(data=st.data())
def test_the_stream_is_whole_and_says_what_the_body_says(protocol: ProtocolId, data: st.DataObject) -> None:
    text = json.dumps(data.draw(st.one_of(BODIES[protocol], st.sampled_from(recorded(protocol))))).encode()
    frames = list(REGISTRY[protocol].unfold(OPERATIONS[protocol], text))
    stream, body = relayed(protocol, frames), relayed(protocol, [text], stream=False)
    for relay in (stream, body):
        assert relay.outcome is not None
        assert relay.outcome.ending is Ending.COMPLETE
    one, other = stream.facts(), body.facts()
    assert all(one[name] == other[name] for name in ("id", "model", "stop", "usage", "final", "error", "open")), (one, other)
    short = Relay(protocol).feed(*frames[:-1]).finish()
    assert short.outcome is not None
    assert short.outcome.ending is Ending.TRUNCATED, "and it is not whole before its last frame"


@pytest.mark.parametrize("protocol", REGISTRY)
@given(body=st.one_of(JSON.map(lambda value: json.dumps(value).encode()), st.binary(max_size=30)))
def test_what_cannot_be_unfolded_says_so_at_once(protocol: ProtocolId, body: bytes) -> None:
    """`BodyError` and nothing else, before the first frame; whoever gives frames gives all of them."""
    try:
        frames = REGISTRY[protocol].unfold(OPERATIONS[protocol], body)
    except BodyError:
        return
    assert json.loads(assembled(protocol, list(frames))) == json.loads(body)
