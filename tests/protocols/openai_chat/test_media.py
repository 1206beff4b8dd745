"""Audio, images and the rest of the family: usage from streams and bodies, and no promise of a terminal event."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types import ImagesResponse

from penstock.protocols.contract import CONTENT, ERROR, MALFORMED, TERMINAL, Observer
from penstock.protocols.openai_chat import SPEC
from penstock.vocabulary.errors import UpstreamError
from penstock.vocabulary.events import Ended, Failed, UsageSeen
from penstock.vocabulary.ids import Operation
from penstock.vocabulary.usage import EMPTY_USAGE, Kinds, Provenance, Usage


def see(observer: Observer, *events: dict[str, Any]) -> list[int]:
    return [observer.observe(str(event.get("type", "")).encode(), json.dumps(event).encode(), 1.0) for event in events]


@pytest.mark.parametrize(
    ("operation", "piece", "last", "usage"),
    [
        (
            Operation.AUDIO,
            {"type": "transcript.text.delta", "delta": "a"},
            {
                "type": "transcript.text.done",
                "text": "ab",
                "usage": {
                    "type": "tokens",
                    "input_tokens": 14,
                    "input_token_details": {"text_tokens": 10, "audio_tokens": 4},
                    "output_tokens": 31,
                    "total_tokens": 45,
                },
            },
            Usage(input=14, output=31, audio_input=4),
        ),
        (
            Operation.AUDIO,
            {"type": "speech.audio.delta", "audio": "AAAA"},
            {"type": "speech.audio.done", "usage": {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}},
            Usage(input=14, output=101),
        ),
        (
            Operation.IMAGES,
            {"type": "image_generation.partial_image", "b64_json": "AAAA", "partial_image_index": 0},
            {
                "type": "image_generation.completed",
                "b64_json": "AAAA",
                "usage": {
                    "input_tokens": 50,
                    "output_tokens": 50,
                    "total_tokens": 100,
                    "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
                    "output_tokens_details": {},  # as it comes (github.com/maximhq/bifrost/issues/4777)
                },
            },
            Usage(input=50, output=50, kinds=Kinds(image_input=40, image_output=50)),
        ),
        (
            Operation.IMAGES,
            {"type": "image_edit.partial_image"},
            {"type": "image_edit.completed", "usage": {"input_tokens": 1, "output_tokens": 2}},
            Usage(input=1, output=2, kinds=Kinds(image_output=2)),
        ),
        (
            Operation.IMAGES,
            {"type": "image_generation.partial_image"},
            {"type": "image_generation.completed", "usage": {"input_tokens": 1, "output_tokens": 9, "output_tokens_details": {"image_tokens": 7}}},
            Usage(input=1, output=9, kinds=Kinds(image_output=7)),
        ),
    ],
)
def test_streams(operation: Operation, piece: dict[str, Any], last: dict[str, Any], usage: Usage) -> None:
    observer = SPEC.observer(operation)
    observer.sink = []
    assert see(observer, piece, last) == [CONTENT, CONTENT | TERMINAL]
    assert (observer.usage, observer.final_usage, observer.terminal, observer.closable()) == (usage, True, True, True)
    assert observer.sink == [UsageSeen(usage), Ended()]


def test_a_transcription_billed_by_time_states_no_tokens() -> None:
    observer = SPEC.observer(Operation.AUDIO)
    see(observer, {"type": "transcript.text.done", "text": "a", "usage": {"type": "duration", "seconds": 3.0}})
    assert (observer.usage, observer.provenance()) == (EMPTY_USAGE, Provenance.NONE)


@pytest.mark.parametrize("operation", [Operation.AUDIO, Operation.IMAGES, Operation.FILES, Operation.OTHER])
def test_a_clean_end_needs_no_terminal_event(operation: Operation) -> None:
    observer = SPEC.observer(operation)
    assert observer.closable()
    assert see(observer, {"type": "something.else"}) == [0]
    assert (observer.terminal, observer.unknown, observer.closable()) == (False, 1, True)
    assert observer.observe(b"", b" [DONE]\n", 1.0) == TERMINAL


def test_text_that_spells_a_terminal_word_is_text() -> None:
    observer = SPEC.observer(Operation.AUDIO)
    assert see(observer, {"type": "transcript.text.delta", "delta": "transcript.text.done [DONE] error"}) == [CONTENT]
    assert not observer.terminal


@pytest.mark.parametrize(
    "event",
    [
        {"type": "error", "error": {"message": "m", "code": "c"}},
        {"error": {"message": "m", "code": "c"}},
        {"type": "error", "message": "m", "code": "c"},
    ],
)
def test_errors_in_band(event: dict[str, Any]) -> None:
    observer = SPEC.observer(Operation.IMAGES)
    observer.sink = []
    assert see(observer, event) == [ERROR]
    assert observer.error == UpstreamError("m", code="c")
    assert observer.sink == [Failed(UpstreamError("m", code="c"))]


def test_bytes_that_are_no_json() -> None:
    observer = SPEC.observer(Operation.OTHER)
    assert [observer.observe(b"", data, 1.0) for data in (b"x", b"", b"[1]")] == [MALFORMED, 0, MALFORMED]
    assert observer.observe(b"error", b"broken", 1.0) == ERROR
    assert observer.error == UpstreamError("broken")


PICTURE = ImagesResponse.model_validate({
    "created": 1, "data": [{"b64_json": "A"}],
    "usage": {
        "input_tokens": 100, "input_tokens_details": {"image_tokens": 60, "text_tokens": 40},
        "output_tokens": 4160, "output_tokens_details": {"image_tokens": 4100, "text_tokens": 60}, "total_tokens": 4260,
    },
}).model_dump(exclude_none=True)  # fmt: skip
"""The official client's own shape: what it does not know would not be in it."""


@pytest.mark.parametrize(
    ("operation", "body", "usage"),
    [
        (Operation.EMBEDDINGS, {"object": "list", "data": [], "model": "e", "usage": {"prompt_tokens": 8, "total_tokens": 8}}, Usage(input=8)),
        (Operation.MODERATIONS, {"id": "modr-1", "model": "e", "results": []}, EMPTY_USAGE),
        (
            Operation.AUDIO,
            {"text": "a", "usage": {"type": "tokens", "input_tokens": 1, "output_tokens": 2, "input_token_details": {"audio_tokens": 1}}},
            Usage(1, 2, audio_input=1),
        ),
        (Operation.IMAGES, {"created": 1, "data": [{"b64_json": "A"}], "usage": {"input_tokens": 1, "output_tokens": 2}}, Usage(1, 2)),
        (Operation.IMAGES, PICTURE, Usage(100, 4160, kinds=Kinds(image_input=60, image_output=4100))),
        (
            Operation.AUDIO,
            {"text": "a", "usage": {"input_tokens": 30, "input_token_details": {
                "audio_tokens": 20, "image_tokens": 4, "cached_tokens": 15, "cached_tokens_details": {"text_tokens": 2, "audio_tokens": 10,
                                                                                                     "image_tokens": 3}}}},
            Usage(30, None, 15, audio_input=20, kinds=Kinds(image_input=4, cache_read_audio=10, cache_read_image=3)),
        ),
        (Operation.MODELS, {"object": "list", "data": []}, EMPTY_USAGE),
    ],
)
def test_bodies(operation: Operation, body: dict[str, Any], usage: Usage) -> None:
    observer = SPEC.observer(operation)
    observer.observe_body(json.dumps(body).encode())
    assert (observer.usage, observer.model, observer.malformed) == (usage, body.get("model"), 0)
    assert observer.final_usage is (usage != EMPTY_USAGE)
