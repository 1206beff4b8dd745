"""Ending a stream in the protocol's own words: from every place of every recording, and what its observer then says of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.protocols import REGISTRY
from penstock.protocols.contract import Closer, Observer
from penstock.protocols.openai_chat.close import ChatCloser
from penstock.protocols.openai_chat.observe import ChatObserver
from penstock.vocabulary.events import StopReason
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.vocabulary.usage import Usage
from penstock.wire.budget import Budget
from penstock.wire.sse import Scanner
from tests.support.corpus import cases

OPERATION = {
    ProtocolId.OPENAI_CHAT: Operation.CHAT, ProtocolId.OPENAI_RESPONSES: Operation.RESPONSES, ProtocolId.ANTHROPIC_MESSAGES: Operation.MESSAGES,
    ProtocolId.GEMINI: Operation.GENERATE,
}  # fmt: skip
WORDS = {
    ProtocolId.OPENAI_CHAT: ("length", "content_filter"), ProtocolId.OPENAI_RESPONSES: ("max_output_tokens", "content_filter"),
    ProtocolId.ANTHROPIC_MESSAGES: ("max_tokens", "refusal"), ProtocolId.GEMINI: ("MAX_TOKENS", "SAFETY"),
}  # fmt: skip
USAGE = Usage(input=11, output=7)


def closer_of(protocol: ProtocolId, operation: Operation | None = None) -> Closer:
    made = REGISTRY[protocol].closer
    assert made is not None
    return made(operation or OPERATION[protocol])


def frames_of(body: bytes) -> list[tuple[bytes, bytes]]:
    return [(name, data) for name, data, _ in Scanner(1 << 24, Budget(1 << 26)).feed(body) if data is not None]


def play(closer: Closer, observer: Observer, frames: list[tuple[bytes, bytes]]) -> None:
    for name, data in frames:
        closer.see(name, data)
        observer.observe(name, data, 1.0)


def recordings() -> list[Any]:
    return [case for case in cases() if case.recording.protocol in OPERATION and case.recording.operation == OPERATION[case.recording.protocol]]


@pytest.mark.parametrize("case", recordings(), ids=lambda case: str(case))
def test_from_every_place_it_is_a_stream_that_was_stopped(case: Any) -> None:
    protocol = ProtocolId(case.recording.protocol)
    frames = frames_of(case.body)
    places = range(len(frames)) if len(frames) < 60 else sorted({*range(30), *range(30, len(frames), max(1, len(frames) // 40))})
    for at in places:
        closer, observer = closer_of(protocol), REGISTRY[protocol].observer(OPERATION[protocol])
        play(closer, observer, frames[:at])
        told, beside = REGISTRY[protocol].observer(OPERATION[protocol]), closer_of(protocol)
        observe = beside.beside(told, told.observe)
        for name, data in frames[:at]:
            observe(name, data, 1.0)
        if observer.stop_reason is not None or observer.terminal or observer.error is not None:
            break
        words = closer.close(StopReason.LENGTH, USAGE)
        assert beside.close(StopReason.LENGTH, USAGE) == words, "whatever it need not see"
        if words is None or observer.tools:
            continue
        odd = observer.malformed
        for name, data in words:
            observer.observe(name, data, 2.0)
        assert observer.terminal or observer.closable(), (at, words)
        assert observer.error is None
        assert observer.malformed == odd
        assert observer.stop_reason == WORDS[protocol][0], at


def test_most_recordings_can_be_ended_somewhere() -> None:
    assert {case.recording.protocol for case in recordings()} == {protocol.value for protocol in OPERATION}


@pytest.mark.parametrize("protocol", list(OPERATION), ids=str)
def test_nothing_has_begun_or_nothing_is_understood(protocol: ProtocolId) -> None:
    assert closer_of(protocol).close(StopReason.LENGTH, USAGE) is None
    for noise in (b"nonsense", b"\xff\xfe", b"[1]", b'{"choices": 5}', b'{"type": 7}', b'{"candidates": "x"}'):
        closer = closer_of(protocol)
        closer.see(b"", noise)
        assert closer.close(StopReason.LENGTH, USAGE) is None


def test_chat_finishes_every_choice_that_has_not() -> None:
    closer = closer_of(ProtocolId.OPENAI_CHAT)
    closer.see(b"", b'{"id":"c","created":5,"model":"m","choices":[{"index":0,"delta":{}},{"index":1,"delta":{}}]}')
    closer.see(b"", b'{"id":"c","choices":[{"index":1,"delta":{},"finish_reason":"stop"}]}')
    words = closer.close(StopReason.CONTENT_FILTER, USAGE)
    assert words is not None
    chunk, (_, done) = json.loads(words[0][1]), words[1]
    assert (chunk["id"], chunk["created"], chunk["model"], done) == ("c", 5, "m", b"[DONE]")
    assert chunk["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "content_filter"}]
    legacy = closer_of(ProtocolId.OPENAI_CHAT, Operation.COMPLETIONS)
    legacy.see(b"", b'{"id":"c","choices":[{"index":0,"text":"a"}]}')
    words = legacy.close(StopReason.LENGTH, USAGE)
    assert words is not None
    assert json.loads(words[0][1])["object"] == "text_completion"


def test_messages_close_the_open_block_and_no_tool() -> None:
    closer = closer_of(ProtocolId.ANTHROPIC_MESSAGES)
    closer.see(b"message_start", b'{"type":"message_start","message":{}}')
    closer.see(b"content_block_start", b'{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}')
    words = closer.close(StopReason.LENGTH, USAGE)
    assert words is not None
    assert [name for name, _ in words] == [b"content_block_stop", b"message_delta", b"message_stop"]
    assert json.loads(words[1][1])["usage"] == {"output_tokens": 7}
    closer.see(b"content_block_start", b'{"type":"content_block_start","index":2,"content_block":{"type":"tool_use"}}')
    assert closer.close(StopReason.LENGTH, USAGE) is None


def test_responses_tell_everything_once_more() -> None:
    closer = closer_of(ProtocolId.OPENAI_RESPONSES)
    events: list[dict[str, Any]] = [
        {"type": "response.created", "sequence_number": 0, "response": {"id": "r", "object": "response", "status": "in_progress", "output": []}},
        {"type": "response.output_item.added", "sequence_number": 1, "output_index": 0, "item": {"id": "i0", "type": "reasoning", "summary": []}},
        {"type": "response.output_item.done", "sequence_number": 2, "output_index": 0, "item": {"id": "i0", "type": "reasoning", "summary": []}},
        {"type": "response.output_item.added", "sequence_number": 3, "output_index": 1, "item": {
            "id": "i1", "type": "message", "status": "in_progress", "role": "assistant", "content": []}},
        {"type": "response.content_part.added", "sequence_number": 4, "item_id": "i1", "output_index": 1, "content_index": 0,
         "part": {"type": "output_text", "text": "", "annotations": []}},
        {"type": "response.output_text.delta", "sequence_number": 5, "item_id": "i1", "output_index": 1, "content_index": 0, "delta": "Hel"},
        {"type": "response.output_text.delta", "sequence_number": 6, "item_id": "i1", "output_index": 1, "content_index": 0, "delta": "lo"},
    ]  # fmt: skip
    for event in events:
        closer.see(event["type"].encode(), json.dumps(event).encode())
    words = closer.close(StopReason.LENGTH, USAGE)
    assert words is not None
    told = [json.loads(data) for _, data in words]
    assert [one["type"] for one in told] == [
        "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.incomplete"]
    assert [one["sequence_number"] for one in told] == [7, 8, 9, 10]
    assert told[0]["text"] == "Hello"
    response = told[3]["response"]
    assert (response["status"], response["incomplete_details"], response["id"]) == ("incomplete", {"reason": "max_output_tokens"}, "r")
    assert [(item["id"], item.get("status")) for item in response["output"]] == [("i0", None), ("i1", "incomplete")]
    assert response["output"][1]["content"][0]["text"] == "Hello"
    assert response["usage"]["total_tokens"] == 18


def test_responses_keep_no_more_than_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.protocols.openai_responses.close._LARGEST", 1000)
    closer = closer_of(ProtocolId.OPENAI_RESPONSES)
    closer.see(b"response.created", b'{"type":"response.created","response":{"id":"r"}}')
    closer.see(b"response.output_item.added", b'{"type":"response.output_item.added","output_index":0,"item":{"id":"i","type":"message"}}')
    delta = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "x" * 100}
    for _ in range(12):
        closer.see(b"response.output_text.delta", json.dumps(delta).encode())
    assert closer.close(StopReason.LENGTH, USAGE) is None


def _choice(index: int, said: dict[str, Any], reason: str | None) -> dict[str, Any]:
    return {"index": index, **said, "finish_reason": reason}


_SAID: list[dict[str, Any]] = [
    {"delta": {"content": "x"}}, {"delta": {"role": "assistant"}}, {"text": "y"}, {"delta": {}},
    {"delta": {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}]}},
]  # fmt: skip
_CHOICES = st.lists(st.builds(_choice, st.integers(0, 3), st.sampled_from(_SAID), st.sampled_from([None, None, None, "stop"])), max_size=2)


@given(st.lists(_CHOICES, max_size=20))
def test_beside_an_observer_it_comes_to_what_it_would_by_reading_all(chunks: list[list[dict[str, Any]]]) -> None:
    frames = [json.dumps({"id": "c", "created": 1, "model": "m", "choices": choices}).encode() for choices in chunks]
    observer, beside, alone = ChatObserver(), ChatCloser(Operation.CHAT), ChatCloser(Operation.CHAT)
    observe = beside.beside(observer, observer.observe)
    told = ChatObserver()
    for frame in frames:
        assert observe(b"", frame, 0.0) == told.observe(b"", frame, 0.0)
        alone.see(b"", frame)
    assert beside.close(StopReason.LENGTH, Usage()) == alone.close(StopReason.LENGTH, Usage())


def test_content_alone_is_not_read_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []

    def see(self: ChatCloser, name: bytes, data: bytes) -> None:
        seen.append(data)

    monkeypatch.setattr(ChatCloser, "see", see)
    observer, closer = ChatObserver(), ChatCloser(Operation.CHAT)
    observe = closer.beside(observer, observer.observe)
    text = json.dumps({"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": "x"}}]}).encode()
    for frame in [text] * 9 + [text.replace(b'"x"}', b'"x"}, "finish_reason": "stop"')]:
        observe(b"", frame, 0.0)
    assert (seen[0], len(seen)) == (text, 2)
