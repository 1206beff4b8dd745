"""What is read of a request, and that touching it changes one field only."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.protocols.contract import BadRequest, Peek
from penstock.protocols.openai_chat import SPEC
from penstock.vocabulary.ids import Operation

CHAT = Operation.CHAT


def peek(body: Any, operation: Operation = CHAT) -> Peek:
    return SPEC.peek(operation, "/v1/chat/completions", "", body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.mark.parametrize(
    ("fields", "stream", "asked"),
    [
        ({}, False, True),
        ({"stream": False}, False, True),
        ({"stream": None}, False, True),
        ({"stream": "true"}, False, True),
        ({"stream": 1}, False, True),
        ({"stream": True}, True, False),
        ({"stream": True, "stream_options": None}, True, False),
        ({"stream": True, "stream_options": {}}, True, False),
        ({"stream": True, "stream_options": "x"}, True, False),
        ({"stream": True, "stream_options": {"include_usage": False}}, True, False),
        ({"stream": True, "stream_options": {"include_usage": True}}, True, True),
    ],
)
@pytest.mark.parametrize("operation", [CHAT, Operation.COMPLETIONS])
def test_stream_and_usage(operation: Operation, fields: dict[str, Any], stream: bool, asked: bool) -> None:
    assert peek({"model": "m", **fields}, operation) == Peek("m", stream, asked)


@pytest.mark.parametrize("operation", [Operation.AUDIO, Operation.IMAGES])
def test_other_streams_tell_usage_unasked(operation: Operation) -> None:
    assert peek({"model": "m", "stream": True}, operation) == Peek("m", True, True)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nope",
        b"[]",
        b"null",
        b'"x"',
        b'{"model":',
        b"\xff",
        '{"model":"m"}'.encode("utf-16"),
        b"{}",
        b'{"model":null}',
        b'{"model":5}',
        b'{"model":""}',
        b"[" * 9999,
    ],
)
@pytest.mark.parametrize("operation", [CHAT, Operation.COMPLETIONS, Operation.EMBEDDINGS, Operation.AUDIO])
def test_what_cannot_be_routed_is_refused_with_a_sentence(operation: Operation, body: bytes) -> None:
    with pytest.raises(BadRequest, match=r"^The .*\.$"):
        peek(body, operation)


@pytest.mark.parametrize("operation", [Operation.MODERATIONS, Operation.IMAGES, Operation.MODELS, Operation.BATCHES, Operation.OTHER])
def test_where_a_model_may_be_missing(operation: Operation) -> None:
    assert peek({"input": "x"}, operation) == Peek(None, False, True)
    assert peek({"model": "m"}, operation) == Peek("m", False, True)
    assert peek(b"", operation) == Peek(None, False, True)


def test_half_a_surrogate_pair_in_a_prompt_is_for_the_provider_to_judge() -> None:
    assert peek(b'{"messages":[{"content":"\\ud83d"}],"model":"m","stream":true}') == Peek("m", True, False)


@given(st.binary() | st.text().map(str.encode))
def test_no_bytes_raise_anything_but_bad_request(body: bytes) -> None:
    with suppress(BadRequest):
        peek(body)


def test_rename_changes_the_model_and_no_other_byte() -> None:
    body = b'{ "stream":true,\n "model" : "fast", "messages":[{"content":"\\"model\\": \\"fast\\""}], "n": 1.0 }'
    assert SPEC.rename(CHAT, "/v1/chat/completions", body, 'gpt-4o "x"\u00e4') == (
        "/v1/chat/completions",
        body.replace(b'"fast", "mess', '"gpt-4o \\"x\\"\u00e4", "mess'.encode()),
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"model":"m"}', b'{"stream_options":{"include_usage":true},"model":"m"}'),
        (b" { }", b' {"stream_options":{"include_usage":true} }'),
        (b'{"a":1, "stream_options" : null }', b'{"a":1, "stream_options" : {"include_usage":true} }'),
        (b'{"stream_options":{}}', b'{"stream_options":{"include_usage":true}}'),
        (b'{"stream_options":{ "x":[1] }}', b'{"stream_options":{"include_usage":true, "x":[1] }}'),
        (b'{"stream_options":{"x":1,"include_usage": false }}', b'{"stream_options":{"x":1,"include_usage": true }}'),
        (b'{"stream_options":{"include_usage":null}}', b'{"stream_options":{"include_usage":true}}'),
        (b'{"stream_options":{"include_usage":true}}', b'{"stream_options":{"include_usage":true}}'),
        (b'{"stream_options":{},"stream_options":null}', b'{"stream_options":{"include_usage":true},"stream_options":{"include_usage":true}}'),
        (b'{"stream_options":"x"}', b'{"stream_options":"x"}'),
        (b'{"stream_options":{"include_usage":"yes"}}', b'{"stream_options":{"include_usage":"yes"}}'),
        (b'{"x":{"stream_options":null}}', b'{"stream_options":{"include_usage":true},"x":{"stream_options":null}}'),
    ],
)
def test_asking_for_usage(before: bytes, after: bytes) -> None:
    assert SPEC.ask_usage is not None
    assert SPEC.ask_usage(before) == after
    assert SPEC.ask_usage(after) == after


def test_what_was_asked_is_seen() -> None:
    assert SPEC.ask_usage is not None
    assert peek(SPEC.ask_usage(b'{"model":"m","stream":true}')) == Peek("m", True, True)
