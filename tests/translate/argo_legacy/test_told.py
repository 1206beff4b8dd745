"""The answer in the client's protocol: raw text however it is cut, bodies as streams and as bodies."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.protocols import REGISTRY
from penstock.translate.argo_legacy import AnswerError, Asked, Resource, Told, told_error
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.wire.sse import parse
from tests.support.argo import CALLS, IN_WORDS, TEXT

SPEAKING = {
    Operation.CHAT: ProtocolId.OPENAI_CHAT, Operation.COMPLETIONS: ProtocolId.OPENAI_CHAT, Operation.RESPONSES: ProtocolId.OPENAI_RESPONSES,
}  # fmt: skip
each = pytest.mark.parametrize("operation", SPEAKING)


def told(operation: Operation, **asked: Any) -> Told:
    spec = REGISTRY[SPEAKING.get(operation, ProtocolId.OPENAI_CHAT)]
    request = Asked(Resource.STREAM, b"", input_tokens=7, **asked)
    return Told(spec, operation, request, answer_id="px-1", model="argo:gpt-4o", created=99)


def data_of(frames: bytes) -> list[Any]:
    found = [parse(frame + b"\n\n") for frame in frames.split(b"\n\n")[:-1]]
    return [data if data == b"[DONE]" else (name.decode(), json.loads(data or b"null")) for name, data in found]


def text_of(operation: Operation, events: list[Any]) -> str:
    values = [event[1] for event in events if event != b"[DONE]"]
    match operation:
        case Operation.CHAT:
            return "".join(choice["delta"].get("content") or "" for value in values for choice in value["choices"])
        case Operation.COMPLETIONS:
            return "".join(choice["text"] for value in values for choice in value["choices"])
        case _:
            return "".join(value["delta"] for value in values if value["type"] == "response.output_text.delta")


@each
def test_text_cut_at_every_byte_is_whole_text(operation: Operation) -> None:
    """Each piece goes out at once, but for the bytes of a character that is not whole."""
    raw = TEXT.encode()
    for at in range(len(raw) + 1):
        one = told(operation)
        first, second = one.text(raw[:at]), one.text(raw[at:])
        events = data_of(first + second + one.end())
        assert text_of(operation, events) == TEXT
        assert text_of(operation, data_of(first)) == raw[:at].decode("utf-8", "ignore")
        assert "\ufffd" not in json.dumps(events, default=str, ensure_ascii=False)


@each
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=60))
def test_any_chunking_tells_the_same_text(operation: Operation, sizes: list[int]) -> None:
    raw, at = TEXT.encode(), 0
    out: list[bytes] = []
    one = told(operation)
    for size in sizes:
        out.append(one.text(raw[at : at + size]))
        at += size
    out += [one.text(raw[at:]), one.end()]
    assert text_of(operation, data_of(b"".join(out))) == TEXT
    whole = told(operation)
    whole.text(raw)
    whole.end()
    assert one.output_tokens == whole.output_tokens


def test_a_chat_stream_is_whole() -> None:
    one = told(Operation.CHAT)
    events = data_of(one.text(b"a") + one.text(b"b") + one.end())
    assert events.pop() == b"[DONE]"
    values = [value for _, value in events]
    assert {value["id"] for value in values} == {"chatcmpl-px-1"}
    assert {(value["model"], value["created"], value["object"]) for value in values} == {("argo:gpt-4o", 99, "chat.completion.chunk")}
    deltas = [value["choices"][0]["delta"] for value in values[:-1]]
    assert deltas == [{"role": "assistant", "content": ""}, {"content": "a"}, {"content": "b"}, {}]
    assert [value["choices"][0]["finish_reason"] for value in values[:-1]] == [None, None, None, "stop"]
    assert (values[-1]["choices"], values[-1]["usage"]) == ([], {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8})


def test_a_completions_stream_finishes_once() -> None:
    one = told(Operation.COMPLETIONS)
    events = data_of(one.text(b"a") + one.text(b"b") + one.end())
    assert events.pop() == b"[DONE]"
    values = [value for _, value in events]
    assert {(value["id"], value["object"]) for value in values} == {("cmpl-px-1", "text_completion")}
    assert [choice["finish_reason"] for value in values for choice in value["choices"]] == [None, None, "stop"]


def test_a_responses_stream_is_in_order() -> None:
    one = told(Operation.RESPONSES)
    events = data_of(one.text(b"a") + one.text(b"b") + one.end())
    assert [name for name, _ in events] == [value["type"] for _, value in events]
    assert [value["sequence_number"] for _, value in events] == list(range(len(events)))
    assert [name for name, _ in events] == [f"response.{word}" for word in (
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.delta", "output_text.done",
        "content_part.done", "output_item.done", "completed",
    )]  # fmt: skip
    assert events[-1][1]["response"]["usage"]["total_tokens"] == 8


@each
def test_no_text_is_an_answer(operation: Operation) -> None:
    one = told(operation)
    assert not one.begun
    events = data_of(one.end())
    assert text_of(operation, events) == ""
    assert events[-1] == b"[DONE]" or events[-1][0] == "response.completed"


def test_half_a_character_is_no_end() -> None:
    one = told(Operation.CHAT)
    assert one.text("é".encode()[:1]) == b""
    assert not one.begun
    with pytest.raises(AnswerError, match="character"):
        one.end()


def test_bytes_that_are_no_text_are_told_as_such() -> None:
    one = told(Operation.CHAT)
    assert text_of(Operation.CHAT, data_of(one.text(b"a\xffb"))) == "a\ufffdb"


@each
@pytest.mark.parametrize("family", CALLS)
def test_a_body_can_be_told_as_a_stream(operation: Operation, family: str) -> None:
    body = json.dumps({"response": {"content": "Let me see.", "tool_calls": CALLS[family]}}).encode()
    whole = told(operation, silent=operation is Operation.COMPLETIONS).body(body)
    spec = REGISTRY[SPEAKING[operation]]
    assembler = spec.assembler(operation)
    for frame in spec.unfold(operation, whole):
        name, data = parse(frame)
        assembler.feed(name, data or b"")
    assert json.loads(assembler.body()) == json.loads(whole)
    value = json.loads(whole)
    if operation is Operation.CHAT:
        assert value["choices"][0]["finish_reason"] == "tool_calls"
        assert [call["function"]["name"] for call in value["choices"][0]["message"]["tool_calls"]] == ["weather", "weather"]
    elif operation is Operation.COMPLETIONS:
        assert value["choices"][0]["finish_reason"] == "stop"
    else:
        assert [item["type"] for item in value["output"]] == ["message", "function_call", "function_call"]


def test_calls_in_words_are_calls() -> None:
    body = json.dumps({"response": IN_WORDS}).encode()
    message = json.loads(told(Operation.CHAT, prompted=True).body(body))["choices"][0]["message"]
    assert message["content"] == "Let me see."
    assert [call["id"] for call in message["tool_calls"]] == ["call_px-1_0", "call_px-1_1"]


def test_what_is_no_answer_has_no_body() -> None:
    with pytest.raises(AnswerError):
        told(Operation.CHAT).body(b'{"response": null}')


@each
def test_half_an_emoji_passes(operation: Operation) -> None:
    """It has no UTF-8: an answer that was cut may end in one."""
    body = told(operation).body(b'{"response": "so \\ud83d"}')
    assert b'"so \\ud83d"' in body
    assert json.loads(body)
    error = told_error(500, b'{"error": {"message": "so \\ud83d", "code": "\\ud83d"}}')
    assert b'"so \\ud83d"' in REGISTRY[SPEAKING[operation]].error_of(error, "px-1")[1]


def test_embeddings() -> None:
    body = b'{"embedding": [[0.5, -1], [2, 3]]}'
    value = json.loads(told(Operation.EMBEDDINGS, texts=2).body(body))
    assert value["data"] == [
        {"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate([[0.5, -1], [2, 3]])
    ]
    assert (value["object"], value["model"], value["usage"]) == ("list", "argo:gpt-4o", {"prompt_tokens": 7, "total_tokens": 7})
    packed = json.loads(told(Operation.EMBEDDINGS, texts=2, base64=True).body(body))["data"][0]["embedding"]
    assert struct.unpack("<2f", base64.b64decode(packed)) == (0.5, -1.0)


@pytest.mark.parametrize(("body", "why"), [
    (b"", "JSON"), (b"[]", "no embedding"), (b"{}", "no embedding"), (b'{"embedding": null}', "no embedding"),
    (b'{"embedding": [["a"]]}', "no list of numbers"), (b'{"embedding": [5]}', "no list of numbers"),
    (b'{"embedding": []}', "0 embeddings of 1 texts"), (b'{"embedding": [[1], [2]]}', "2 embeddings of 1 texts"),
    (b'{"response": "ACCESS DENIED"}', "says: ACCESS DENIED"), (b'{"detail": "no such user"}', "says: no such user"),
])
def test_no_embedding(body: bytes, why: str) -> None:
    with pytest.raises(AnswerError, match=why):
        told(Operation.EMBEDDINGS, texts=1).body(body)


def test_an_embedding_beyond_all_measure() -> None:
    with pytest.raises(AnswerError, match="measure"):
        told(Operation.EMBEDDINGS, texts=1, base64=True).body(b'{"embedding": [[1%b]]}' % (b"0" * 400))
