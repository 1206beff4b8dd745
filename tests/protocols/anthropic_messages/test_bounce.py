"""The refusal to answer without streaming, as it comes; and what is none."""

from __future__ import annotations

import json

import pytest

from penstock.protocols.anthropic_messages import SPEC, is_bounce

REQUIRED = "Streaming is required for operations that may take longer than 10 minutes."
SEEN = [
    REQUIRED + " See https://github.com/anthropics/anthropic-sdk-python#long-requests for more details",
    REQUIRED + " See https://docs.anthropic.com/en/api/errors#long-requests for more details",
    "Streaming is strongly recommended for operations that may take longer than 10 minutes. See the README for more details",
    "Streaming is strongly recommended for operations that may token longer than 10 minutes.",
    "streaming is required for operations that may take longer than 10 minutes",
    "ValueError: " + REQUIRED,
]


@pytest.mark.parametrize("status", [500, 400, 422, 502])
@pytest.mark.parametrize("words", SEEN)
def test_the_refusal_is_known_by_its_words_in_any_shape(words: str, status: int) -> None:
    for body in (
        words.encode(), json.dumps({"type": "error", "error": {"type": "api_error", "message": words}}).encode(),
        json.dumps({"error": f"Upstream API error: {status} " + json.dumps({"detail": words})}).encode(), f"<html><p>{words}</p>".encode(),
    ):  # fmt: skip
        assert is_bounce(status, body)


@pytest.mark.parametrize("status", [200, 401, 403, 404, 413, 429, 529])
def test_a_status_that_speaks_for_itself_is_none(status: int) -> None:
    assert not is_bounce(status, REQUIRED.encode())


@pytest.mark.parametrize(
    "body",
    [
        b"", b"Internal Server Error", b'{"error":{"message":"max_tokens: 64000 > 8192"}}', b"Non-streaming is required for this model",
        b"Streaming is not supported for this model", b"streaming is required by the schema", b"x" * 70_000 + REQUIRED.encode(),
    ],
)  # fmt: skip
def test_other_errors_are_none(body: bytes) -> None:
    assert not is_bounce(500, body)


def test_this_protocol_knows_its_own_alone() -> None:
    assert SPEC.bounced is is_bounce
    assert not is_bounce(400, b'{"detail":"Stream must be set to true"}')
