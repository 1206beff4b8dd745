"""The refusals to answer without streaming that come in OpenAI's protocols and Gemini's; and what is none."""

from __future__ import annotations

import json

import pytest

from penstock.protocols import REGISTRY
from penstock.protocols.bounces import is_bounce
from penstock.vocabulary.ids import ProtocolId

SEEN = [
    "Streaming is required for operations that may take longer than 10 minutes.",
    "Streaming is strongly recommended for operations that may take longer than 10 minutes.",
    "Stream must be set to true",
    "This model only support stream mode, please enable the stream parameter to access the model. ",
    "this model only supports streaming mode",
    "parameter.enable_thinking must be set to false for non-streaming calls",
]
OTHERS = [
    b"", b"Internal Server Error", b"Unsupported value: 'stream' does not support true with this model.",
    b"Only allowed when 'stream' is enabled", b"'upstream' must be set to true", b"Store must be set to false", b"Stream must be set to false",
    b"x" * 70_000 + SEEN[2].encode(),
]  # fmt: skip


@pytest.mark.parametrize("status", [400, 422, 500, 502])
@pytest.mark.parametrize("words", SEEN)
def test_the_refusal_is_known_by_its_words_in_any_shape(words: str, status: int) -> None:
    for body in (words.encode(), json.dumps({"detail": words}).encode(), json.dumps({"error": {"message": words, "code": "x"}}).encode()):
        assert is_bounce(status, body)


@pytest.mark.parametrize("status", [200, 401, 403, 404, 413, 429, 529])
@pytest.mark.parametrize("words", SEEN)
def test_a_status_that_speaks_for_itself_is_none(words: str, status: int) -> None:
    assert not is_bounce(status, words.encode())


@pytest.mark.parametrize("body", OTHERS)
def test_other_errors_are_none(body: bytes) -> None:
    assert not is_bounce(400, body)


def test_every_protocol_knows_its_own() -> None:
    assert all(spec.bounced is not None for spec in REGISTRY.values())
    assert [protocol for protocol, spec in REGISTRY.items() if spec.bounced is not is_bounce] == [ProtocolId.ANTHROPIC_MESSAGES]
