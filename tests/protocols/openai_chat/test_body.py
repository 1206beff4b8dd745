"""Whole bodies and error bodies."""

from __future__ import annotations

import json
from typing import Any

import pytest

from penstock.protocols.contract import Observer
from penstock.protocols.openai_chat import SPEC
from penstock.vocabulary.errors import UpstreamError
from penstock.vocabulary.ids import Operation
from penstock.vocabulary.usage import EMPTY_USAGE, Provenance, Usage

USAGE: dict[str, Any] = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}


def new() -> Observer:
    return SPEC.observer(Operation.CHAT)


def test_a_whole_body() -> None:
    observer = new()
    message = {"role": "assistant", "content": None, "tool_calls": [{"id": "a"}, {"id": "b"}]}
    observer.observe_body(
        json.dumps({"id": "c", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}], "usage": USAGE}).encode()
    )
    assert (observer.response_id, observer.model, observer.stop_reason, observer.calls, observer.choices) == ("c", "m", "tool_calls", 2, 1)
    assert (observer.usage, observer.provenance(), observer.error) == (Usage(input=5, output=3), Provenance.REPORTED, None)


def test_odd_bodies() -> None:
    observer = new()
    observer.observe_body(b'{"id":5,"choices":[{"message":"x","finish_reason":"stop"},3],"usage":{"prompt_tokens":5.0}}')
    assert (observer.response_id, observer.stop_reason, observer.usage, observer.malformed) == ("5", "stop", Usage(input=5), 0)
    failed = new()
    failed.observe_body(b'{"error":{"message":"m","code":502}}')
    assert failed.error == UpstreamError("m", code="502", status=502)
    for body in (b"", b"x", b"[]", b"null"):
        broken = new()
        broken.observe_body(body)
        assert (broken.malformed, broken.usage, broken.error) == (1, EMPTY_USAGE, None)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"error":{"message":"m","type":"t","param":null,"code":"c"}}', UpstreamError("m", "t", "c", status=429)),
        (b'{"error":"m"}', UpstreamError("m", status=429)),
        (b'{"detail":"m"}', UpstreamError("m", status=429)),
        (b'{"detail":[{"loc":["a"]}]}', UpstreamError('[{"loc":["a"]}]', status=429)),
        (b'[{"error":{"code":400,"message":"m","status":"INVALID_ARGUMENT"}}]', UpstreamError("m", code="400", status=429)),
        (b"<html>", UpstreamError(status=429)),
        (b"", UpstreamError(status=429)),
        (b"[]", UpstreamError(status=429)),
    ],
)
def test_error_bodies(body: bytes, error: UpstreamError) -> None:
    observer = new()
    observer.observe_error(429, body)
    assert observer.error == error
