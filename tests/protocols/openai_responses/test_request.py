"""Peeking at requests and renaming their model."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.protocols.contract import BadRequest, Peek
from penstock.protocols.openai_responses.request import peek, rename
from penstock.vocabulary.ids import Operation

PATH = "/v1/responses"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"gpt","input":"x"}', Peek("gpt", False)),
        (b'{"model":"gpt","stream":true}', Peek("gpt", True)),
        (b'{"model":"gpt","stream":"true"}', Peek("gpt", False)),
        (b'{"model":"gpt","stream":1}', Peek("gpt", False)),
        (b'{"model":"gpt","stream":null}', Peek("gpt", False)),
        (b'{"prompt":{"id":"pmpt_1"},"stream":true}', Peek(None, True)),
        (b'{"model":null,"prompt":{"id":"pmpt_1"}}', Peek(None, False)),
        (b'{"model":"gpt","prompt":{"id":"pmpt_1"}}', Peek("gpt", False)),
        (b'{"model":"gpt","input":"\\ud83d\xff"}', None),
    ],
)
def test_peek(body: bytes, expected: Peek | None) -> None:
    if expected is None:
        with pytest.raises(BadRequest):
            peek(Operation.RESPONSES, PATH, "", body)
    else:
        assert peek(Operation.RESPONSES, PATH, "", body) == expected


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b"{}", "has no 'model'"),
        (b'{"previous_response_id":"resp_1"}', "has no 'model'"),
        (b'{"prompt":"x"}', "has no 'model'"),
        (b'{"model":5}', "must be a string"),
        (b'{"model":""}', "must be a string"),
        (b'{"model":["a"],"prompt":{"id":"p"}}', "must be a string"),
        (b'{"model":' + b"[" * 100_000, "nested too deeply"),
    ],
)
def test_bad_requests_say_why(body: bytes, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        peek(Operation.RESPONSES, PATH, "", body)


@pytest.mark.parametrize(
    ("query", "body", "expected"),
    [
        ("", b"", Peek(None, False)),
        ("stream=true&starting_after=3", b"", Peek(None, True)),
        ("include=a&stream=false", b"", Peek(None, False)),
        ("stream=True", b"", Peek(None, False)),
        ("", b"not json", Peek(None, False)),
        ("", b'{"model":"gpt"}', Peek("gpt", False)),
    ],
)
def test_requests_about_a_response_never_fail(query: str, body: bytes, expected: Peek) -> None:
    assert peek(Operation.RESPONSE_ITEM, "/v1/responses/resp_1", query, body) == expected


def test_counting_tokens_needs_no_model() -> None:
    assert peek(Operation.COUNT_TOKENS, "/v1/responses/input_tokens", "", b'{"input":"x"}') == Peek(None, False)


@settings(deadline=None)
@given(st.binary())
def test_any_bytes_give_a_peek_or_a_bad_request(body: bytes) -> None:
    peek(Operation.RESPONSE_ITEM, PATH, "", body)
    try:
        found = peek(Operation.RESPONSES, PATH, "", body)
    except BadRequest:
        return
    assert found.model != ""


@settings(deadline=None)
@given(st.text(min_size=1), st.dictionaries(st.text(), st.integers() | st.text()), st.text(min_size=1))
def test_rename_changes_one_value(model: str, rest: dict[str, object], new: str) -> None:
    rest.pop("model", None)
    before = {**rest, "model": model, "input": [{"model": "inner"}]}
    path, body = rename(Operation.RESPONSES, PATH, json.dumps(before, indent=1).encode(), new)
    assert path == PATH
    assert json.loads(body) == {**before, "model": new}


def test_rename_keeps_every_other_byte() -> None:
    body = b'{ "a":1.50,\n"model" : "x" , "b":"\\u00e9" }'
    assert rename(Operation.RESPONSES, PATH, body, 'y"z') == (PATH, b'{ "a":1.50,\n"model" : "y\\"z" , "b":"\\u00e9" }')


def test_rename_leaves_a_request_without_a_model() -> None:
    body = b'{"prompt":{"id":"p"}}'
    assert rename(Operation.RESPONSES, PATH, body, "x") == (PATH, body)
