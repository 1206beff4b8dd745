"""Ending a stream in the protocol's own words: from every place of every recording, and what its observer then says of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
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
BEGUN: dict[ProtocolId, list[tuple[bytes, bytes]]] = {
    ProtocolId.OPENAI_CHAT: [(b"", b'{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"a"}}]}')],
    ProtocolId.OPENAI_RESPONSES: [(b"response.created", b'{"type":"response.created","sequence_number":0,"response":{"id":"r","output":[]}}')],
    ProtocolId.ANTHROPIC_MESSAGES: [(b"message_start", b'{"type":"message_start","message":{}}')],
    ProtocolId.GEMINI: [(b"", b'{"candidates":[{"index":0,"content":{"parts":[{"text":"a"}]}}]}')],
}
Spoilt = dict[int, tuple[Callable[[bytes], bytes], bytes | None]]


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


SPOILS: list[Callable[[bytes], bytes]] = [
    lambda data: data[: len(data) // 2], lambda data: b'"overloaded"', lambda data: b" [DONE] ", lambda data: b"", lambda data: b"[1]",
    lambda data: data.replace(b'"content":"', b'"content":"\xff', 1), lambda data: data.replace(b'"text":"', b'"text":"\\ud83d', 1),
    lambda data: data.replace(b"{", b'{"text":1e999,', 2), lambda data: data.replace(b'"index":0', b'"index":1'),
    lambda data: data.replace(b'"index":0', b'"index":-1'), lambda data: data.replace(b'"index":0', b'"index":null'),
    lambda data: data.replace(b'"index":0', b'"index":1,"text":1e999'), lambda data: data.replace(b'"finish_reason":null', b'"finish_reason":[]'),
    lambda data: data.replace(b'"id":"', b'"id":"\xff', 1), lambda data: b'{"id":' + b"[" * 3000,
    lambda data: data.replace(b'"type":', b'"tipe":', 1),
]  # fmt: skip
"""What may become of a frame."""
_SPOILT = st.dictionaries(st.integers(0, 40), st.tuples(st.sampled_from(SPOILS), st.sampled_from([None, None, b"", b"error", b"ping"])), max_size=4)


@pytest.mark.parametrize("case", recordings(), ids=lambda case: str(case))
@settings(max_examples=15)
@given(spoilt=_SPOILT)
def test_beside_an_observer_of_a_spoilt_recording_it_knows_what_it_would_by_reading_all(case: Any, spoilt: Spoilt) -> None:
    protocol = ProtocolId(case.recording.protocol)
    observer, beside, alone = REGISTRY[protocol].observer(OPERATION[protocol]), closer_of(protocol), closer_of(protocol)
    observe = beside.beside(observer, observer.observe)
    for at, (name, data) in enumerate(frames_of(case.body)[:60]):
        if at in spoilt:
            spoil, named = spoilt[at]
            name, data = name if named is None else named, spoil(data)
        observe(name, data, 1.0)
        alone.see(name, data)
        if observer.terminal:
            break
        assert beside.close(StopReason.LENGTH, USAGE) == alone.close(StopReason.LENGTH, USAGE), (at, name, data)


def test_most_recordings_can_be_ended_somewhere() -> None:
    assert {case.recording.protocol for case in recordings()} == {protocol.value for protocol in OPERATION}


@pytest.mark.parametrize("protocol", list(OPERATION), ids=str)
def test_nothing_has_begun_or_nothing_is_understood(protocol: ProtocolId) -> None:
    assert closer_of(protocol).close(StopReason.LENGTH, USAGE) is None
    for noise in (b"nonsense", b"\xff\xfe", b"[1]", b'{"choices": 5}', b'{"type": 7}', b'{"candidates": "x"}'):
        closer = closer_of(protocol)
        closer.see(b"", noise)
        assert closer.close(StopReason.LENGTH, USAGE) is None


NOT_UNDERSTOOD = {
    "broken off": b'{"choices": [{', "text": b'"overloaded"', "a list": b"[1]", "no UTF-8": b"\xff", "deep": b"[" * 200_000,
    "deep inside": b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
}  # fmt: skip


@pytest.mark.parametrize("odd", NOT_UNDERSTOOD.values(), ids=NOT_UNDERSTOOD)
@pytest.mark.parametrize("protocol", list(OPERATION), ids=str)
def test_what_was_not_understood_is_no_good_end(protocol: ProtocolId, odd: bytes) -> None:
    for name in (b"", b"content_block_delta", b"error"):
        observer, closer = REGISTRY[protocol].observer(OPERATION[protocol]), closer_of(protocol)
        observe = closer.beside(observer, observer.observe)
        for begun in BEGUN[protocol]:
            observe(*begun, 1.0)
        assert closer.close(StopReason.LENGTH, USAGE) is not None
        observe(name, odd, 1.0)
        assert closer.close(StopReason.LENGTH, USAGE) is None


@pytest.mark.parametrize("said", [b'"delta":{"content":"b\xff"}', b'"text":1e999,"delta":{"content":"b"}', b'"delta":{"content":"\\ud83d"}'])
@pytest.mark.parametrize("index", [0, 1])
def test_chat_finishes_a_choice_that_began_oddly(index: int, said: bytes) -> None:
    observer, closer = ChatObserver(), ChatCloser(Operation.CHAT)
    observe = closer.beside(observer, observer.observe)
    chunk = b'{"id":"c","model":"m","choices":[{"index":%d,%b}]}'
    for frame in [chunk % (0, b'"delta":{"content":"a"}')] * index + [chunk % (index, said), chunk % (index, b'"delta":{"content":"c"}')]:
        observe(b"", frame, 1.0)
    words = closer.close(StopReason.LENGTH, USAGE)
    assert words is not None
    told = [json.loads(data)["choices"][0] for _, data in words[:-1]]
    assert [(choice["index"], choice["finish_reason"]) for choice in told] == [(at, "length") for at in range(index + 1)]


def test_messages_are_not_ended_behind_a_block_without_a_place() -> None:
    for event in (b'"content_block_start"', b'"content_block_stop"'):
        closer = closer_of(ProtocolId.ANTHROPIC_MESSAGES)
        closer.see(*BEGUN[ProtocolId.ANTHROPIC_MESSAGES][0])
        closer.see(b"", b'{"type":"content_block_delta","index":[],"delta":{"text":"\\ud83d"}}')
        closer.see(b"ping", b"")
        assert closer.close(StopReason.LENGTH, USAGE) is not None
        closer.see(b"", b'{"type":%b,"index":[],"content_block":{"type":"text"}}' % event)
        assert closer.close(StopReason.LENGTH, USAGE) is None


@pytest.mark.parametrize("odd", [b"{}", b"[]", b"7", b"true", b'{"a":[]}'])
@pytest.mark.parametrize("protocol", list(OPERATION), ids=str)
def test_no_value_of_another_type_makes_it_raise(protocol: ProtocolId, odd: bytes) -> None:
    item = b'{"type":"response.output_item.added","sequence_number":1,"output_index":0,"item":{"id":"i","type":"message"}}'
    part = b'{"type":"response.content_part.added","output_index":0,"content_index":0,"part":{"type":"output_text"}}'
    delta = b'{"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"x"}'
    block = b'{"type":"content_block_start","index":0,"content_block":{"type":"text"}}'
    sent = [*(data for _, data in BEGUN[protocol]), *([item, part, delta] if protocol is ProtocolId.OPENAI_RESPONSES else [block])]
    for at, data in enumerate(sent):
        for place in [found.start() + 1 for found in re.finditer(rb":(?=[\d\"\[{])", data)]:
            value = re.compile(rb'\d+|"[^"]*"|\[\]|(?=[\[{])').match(data, place)
            assert value is not None
            spoilt = data[:place] + odd + (data[value.end() :] if value.group() else b"}" * data.count(b"{", 0, place))
            closer = closer_of(protocol)
            for frame in [*sent[:at], spoilt, *sent[at + 1 :]]:
                closer.see(b"", frame)
            closer.close(StopReason.LENGTH, USAGE)


def test_responses_with_an_item_of_no_known_type_are_not_ended() -> None:
    for kind in (b"{}", b"[]", b"7", b'"function_call"'):
        closer = closer_of(ProtocolId.OPENAI_RESPONSES)
        closer.see(*BEGUN[ProtocolId.OPENAI_RESPONSES][0])
        closer.see(b"", b'{"type":"response.output_item.added","output_index":0,"item":{"id":"i","type":%b}}' % kind)
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
