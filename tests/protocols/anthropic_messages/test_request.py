"""Peeking into requests, and renaming the model without touching another byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.protocols.anthropic_messages import SPEC
from penstock.protocols.contract import BadRequest, Peek
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.vocabulary.said import Said

CORPUS = Path(__file__).parents[2] / "corpus" / "anthropic_messages"
REQUESTS = sorted(CORPUS.glob("*.request.json"))


def peek(body: bytes, operation: Operation = Operation.MESSAGES) -> Peek:
    return SPEC.peek(operation, "/v1/messages", "", body)


def test_the_spec() -> None:
    assert SPEC.id is ProtocolId.ANTHROPIC_MESSAGES
    assert SPEC.ask_usage is None


@pytest.mark.parametrize("path", REQUESTS, ids=[path.name for path in REQUESTS])
def test_recorded_requests(path: Path) -> None:
    body = path.read_bytes()
    found = peek(body)
    assert (found.model, found.stream, found.usage_asked) == (json.loads(body)["model"], True, True)


@pytest.mark.parametrize(
    ("stream", "asked"), [("true", True), ("false", False), ('"true"', False), ("1", False), ("null", False), ("[true]", False)]
)
def test_only_true_asks_for_a_stream(stream: str, asked: bool) -> None:
    body = b'{"stream": %b, "model": "claude"}' % stream.encode()
    assert peek(body) == Peek("claude", asked)
    assert peek(body, Operation.COUNT_TOKENS) == Peek("claude", False)


def test_fields_inside_other_fields_do_not_count() -> None:
    assert peek(b'{"messages":[{"model":"x","stream":true}],"model":"claude","metadata":{"stream":true}}') == Peek(
        "claude", False, said=Said(metadata=b'{"stream":true}'))


def test_lone_surrogates_in_a_prompt_are_the_providers_business() -> None:
    assert peek(b'{"messages":[{"content":"\\ud83d"}],"model":"claude","stream":true}') == Peek("claude", True)


@pytest.mark.parametrize("operation", [Operation.MESSAGES, Operation.COUNT_TOKENS])
@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "not valid JSON"),
        (b'{"model":"claude"', "not valid JSON"),
        (b'{"model":"claude\xff"}', "not valid JSON"),
        (b"[" * 5000, "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b'"claude"', "must be a JSON object"),
        (b"{}", "a model is required"),
        (b'{"model":null}', "a model is required"),
        (b'{"model":5}', "must be a string"),
        (b'{"model":""}', "must be a string"),
    ],
)
def test_bad_requests(operation: Operation, body: bytes, sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        peek(body, operation)


@pytest.mark.parametrize("operation", [Operation.BATCHES, Operation.FILES, Operation.MODELS, Operation.OTHER])
def test_other_operations_are_not_read(operation: Operation) -> None:
    assert peek(b"--boundary\r\nnot json", operation) == Peek(None, False)
    assert SPEC.rename(operation, "/v1/files", b"not json", "m") == ("/v1/files", b"not json")


@given(data=st.binary(max_size=60))
def test_peek_gives_an_answer_or_a_sentence(data: bytes) -> None:
    sentence = "."
    try:
        peek(data)
    except BadRequest as bad:
        sentence = str(bad)
    assert sentence.endswith(".")


@pytest.mark.parametrize("path", REQUESTS, ids=[path.name for path in REQUESTS])
def test_rename_changes_the_model_and_no_other_byte(path: Path) -> None:
    body = path.read_bytes()
    renamed_path, renamed = SPEC.rename(Operation.MESSAGES, "/v1/messages", body, 'new "model" é')
    assert renamed_path == "/v1/messages"
    assert json.loads(renamed) == json.loads(body) | {"model": 'new "model" é'}
    old, new = json.dumps(json.loads(body)["model"]).encode(), '"new \\"model\\" é"'.encode()
    assert renamed.replace(new, old, 1) == body
