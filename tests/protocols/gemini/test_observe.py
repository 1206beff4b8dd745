"""The observer's rules, one by one; the corpus; and law 5."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from google.genai.types import GenerateContentResponseUsageMetadata
from hypothesis import given
from hypothesis import strategies as st

from penstock.protocols.contract import CONTENT, ERROR, MALFORMED, TOOL
from penstock.protocols.gemini import SPEC
from penstock.protocols.gemini.observe import GeminiObserver
from penstock.vocabulary.errors import UpstreamError
from penstock.vocabulary.ids import Operation
from penstock.vocabulary.usage import EMPTY_USAGE, Kinds, Provenance, Usage

CORPUS = Path(__file__).parents[2] / "corpus" / "gemini"
INDEX: list[dict[str, Any]] = yaml.safe_load((CORPUS / "index.yaml").read_text(encoding="utf-8"))


def recorded(name: str) -> list[bytes]:
    blocks = (CORPUS / f"{name}.sse").read_bytes().split(b"\r\n\r\n")
    return [b.removeprefix(b"data: ") for b in blocks if b]


def see(observer: GeminiObserver, frame: object, now: float = 0.0) -> int:
    return observer.observe(b"", json.dumps(frame).encode(), now)


def text(words: str, index: int | None = 0, **more: object) -> dict[str, Any]:
    at = {} if index is None else {"index": index}
    return {"candidates": [{"content": {"parts": [{"text": words}], "role": "model"}, **at, **more}]}


def call(**fields: object) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": [{"functionCall": fields}]}, "index": 0}]}


def test_every_recording_is_in_the_index() -> None:
    assert sorted(e["name"] for e in INDEX) == sorted(p.stem for p in CORPUS.glob("*.sse"))


@pytest.mark.parametrize("entry", INDEX, ids=[e["name"] for e in INDEX])
@pytest.mark.parametrize("told", [False, True])
def test_recordings(entry: dict[str, Any], told: bool) -> None:
    observer = SPEC.observer(Operation.GENERATE)
    if told:
        observer.sink = []
    frames = recorded(entry["name"])
    for n, frame in enumerate(frames):
        assert not observer.closable()
        observer.observe(b"", frame, float(n))
    assert entry["outcome"] == "COMPLETE"
    assert observer.closable()
    assert (observer.stop_reason, observer.response_id, observer.model) == (entry["stop_reason"], entry["response_id"], entry["model"])
    assert observer.usage == Usage(**entry["usage"])
    assert (observer.final_usage, observer.calls, observer.tools, observer.choices) == (True, entry["tools"], {}, 1)
    assert (observer.malformed, observer.error, observer.terminal) == (0, None, False)
    assert observer.provenance() is Provenance.REPORTED


def test_content_is_what_says_something() -> None:
    o = GeminiObserver()
    assert see(o, text("a")) == CONTENT
    assert see(o, text("")) == 0
    media: list[dict[str, Any]] = [{"inlineData": {}}, {"executableCode": {}}, {"codeExecutionResult": {}}, {"newThing": 1}]
    for part in ({"text": "t", "thought": True}, *media):
        assert see(o, {"candidates": [{"content": {"parts": [part]}}]}) == CONTENT
    assert see(o, {"candidates": [{"content": {"role": "model"}}]}) == 0
    assert see(o, {"candidates": None, "usageMetadata": None, "error": None}) == 0
    assert see(o, {}) == 0
    assert o.malformed == 0


def test_every_candidate_that_began_must_finish() -> None:
    o = GeminiObserver()
    assert not o.closable()
    see(o, text("a", finishReason="STOP"))
    assert o.closable()
    see(o, text("b", 1))
    assert not o.closable()
    see(o, text("c", 1, finishReason="MAX_TOKENS"))
    assert o.closable()
    assert (o.stop_reason, o.choices) == ("STOP", 2)
    see(o, text("late", 0))
    assert o.closable()
    see(o, text("", None, finishReason="SAFETY"))
    assert o.stop_reason == "SAFETY"


def test_the_lowest_candidate_gives_the_stop_reason() -> None:
    o = GeminiObserver()
    see(o, text("a", 1, finishReason="MAX_TOKENS"))
    assert o.stop_reason == "MAX_TOKENS"
    see(o, text("a", 0, finishReason="STOP"))
    see(o, text("a", 1, finishReason="OTHER"))
    assert o.stop_reason == "STOP"


@pytest.mark.parametrize("word", [None, "", "FINISH_REASON_UNSPECIFIED"])
def test_an_unspecified_finish_is_none(word: str | None) -> None:
    o = GeminiObserver()
    see(o, text("a", finishReason=word))
    assert not o.closable()
    assert o.stop_reason is None


def test_a_blocked_prompt_is_an_ending() -> None:
    o = GeminiObserver()
    see(o, {"promptFeedback": {"safetyRatings": []}})
    see(o, {"promptFeedback": {"blockReason": "BLOCK_REASON_UNSPECIFIED"}})
    assert not o.closable()
    see(o, {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 3}})
    assert o.closable()
    assert (o.stop_reason, o.usage, o.final_usage) == ("PROHIBITED_CONTENT", Usage(input=3), True)


def test_usage_is_cumulative_and_the_last_value_of_each_field_counts() -> None:
    o = GeminiObserver()
    assert o.usage == EMPTY_USAGE
    assert o.provenance() is Provenance.NONE
    see(o, {**text("a"), "usageMetadata": {"promptTokenCount": 9, "cachedContentTokenCount": 4, "candidatesTokenCount": 1}})
    see(o, {**text("b"), "usageMetadata": {"candidatesTokenCount": 2, "thoughtsTokenCount": 0}})
    assert o.usage == Usage(input=9, output=2, cache_read=4, reasoning=0)
    assert o.provenance() is Provenance.PARTIAL
    see(o, text("c", finishReason="STOP"))
    assert o.provenance() is Provenance.PARTIAL
    audio = {"promptTokensDetails": [{"modality": "TEXT", "tokenCount": 1}, {"modality": "AUDIO", "tokenCount": 8}],
             "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 2}], "toolUsePromptTokenCount": 5}  # fmt: skip
    see(o, {"usageMetadata": audio})
    assert o.usage == Usage(input=9, output=2, cache_read=4, reasoning=0, audio_input=8, audio_output=2, tool_use=5)
    assert o.provenance() is Provenance.REPORTED


def test_tokens_are_told_by_kind_with_pages_as_pictures() -> None:
    """By the official client's own names: what it does not know would not be in it."""

    def of(**counts: int) -> list[dict[str, Any]]:
        return [{"modality": kind, "tokenCount": tokens} for kind, tokens in counts.items()]

    stated = GenerateContentResponseUsageMetadata.model_validate({
        "promptTokenCount": 3000, "candidatesTokenCount": 1300, "cachedContentTokenCount": 900, "totalTokenCount": 4300,
        "promptTokensDetails": of(TEXT=100, IMAGE=258, DOCUMENT=516, VIDEO=1000, AUDIO=1126),
        "candidatesTokensDetails": of(TEXT=3, IMAGE=1290, VIDEO=7), "cacheTokensDetails": of(TEXT=50, AUDIO=100, IMAGE=200, DOCUMENT=50, VIDEO=500),
    }).model_dump(mode="json", by_alias=True, exclude_none=True)  # fmt: skip
    assert "cacheTokensDetails" in stated
    wanted = Usage(3000, 1300, 900, audio_input=1126, kinds=Kinds(774, 1290, 1000, 7, 100, 250, 500))
    o = GeminiObserver()
    see(o, {**text("a"), "usageMetadata": stated})
    see(o, {**text("b"), "usageMetadata": {"candidatesTokenCount": 1300}})
    assert o.usage == wanted
    for body in (stated, {**stated, "promptTokenCount": 3000.0}):
        o = GeminiObserver()
        o.observe_body(json.dumps({**text("a", finishReason="STOP"), "usageMetadata": body}).encode())
        assert (o.usage, o.final_usage) == (wanted, True)


@pytest.mark.parametrize("modality", ["TEXT", "MODALITY_UNSPECIFIED", None, "A_NEW_ONE"])
def test_nothing_but_text_is_no_kind(modality: str | None) -> None:
    o = GeminiObserver()
    told = [{"modality": modality, "tokenCount": 4}, {"modality": "IMAGE"}]
    see(o, {**text("a"), "usageMetadata": {"promptTokenCount": 4, "promptTokensDetails": told, "cacheTokensDetails": told}})
    assert o.usage == Usage(input=4)


def test_counts_in_other_spellings() -> None:
    o = GeminiObserver()
    odd = {"promptTokenCount": 5.0, "candidatesTokenCount": "7", "thoughtsTokenCount": -1, "cachedContentTokenCount": 1e300,
           "promptTokensDetails": "x"}  # fmt: skip
    assert see(o, {**text("a", finishReason="STOP"), "usageMetadata": odd, "modelVersion": 3}) == CONTENT
    assert (o.usage, o.model, o.malformed) == (Usage(input=5, output=7), None, 0)
    assert o.closable()


def test_odd_shapes_are_read_as_far_as_they_go() -> None:
    o = GeminiObserver()
    odd = {"content": {"parts": [None, {"text": 5}, {"text": "a"}]}, "finishReason": "STOP", "index": "0"}
    assert see(o, {"candidates": [None, odd], "usageMetadata": []}) == CONTENT
    assert o.closable()
    half = b'{"candidates":[{"content":{"parts":[{"text":"\\ud83d"}]}}],"usageMetadata":{"promptTokenCount":1}}'
    assert o.observe(b"", half, 0.0) == CONTENT
    assert o.usage == Usage(input=1)


def test_a_whole_call_begins_and_ends_in_its_frame() -> None:
    o = GeminiObserver()
    assert see(o, call(name="f", args={"a": 1})) == CONTENT | TOOL
    assert see(o, call(name="f", args={})) == CONTENT | TOOL
    assert (o.calls, o.tools) == (2, {})


def test_a_call_in_pieces_stays_open_until_it_does_not_continue() -> None:
    o = GeminiObserver()
    assert see(o, call(name="f", willContinue=True), 1.0) == CONTENT | TOOL
    assert (o.tools[0].name, o.tools[0].kind, o.tools[0].arguments_at) == ("f", "function", 1.0)
    see(o, call(partialArgs=[{"jsonPath": "$.a", "stringValue": "x", "willContinue": True}], willContinue=True), 2.0)
    assert o.tools[0].arguments_at == 2.0
    see(o, text("b", 1), 3.0)
    see(o, call(willContinue=True), 3.5)
    see(o, call(partialArgs=[], willContinue=True), 4.0)
    see(o, call(partialArgs=None, willContinue=True), 4.5)
    assert o.tools[0].arguments_at == 2.0, "only pieces of its arguments are progress"
    assert see(o, call()) == CONTENT | TOOL
    assert (o.calls, o.tools) == (1, {})
    see(o, call(name="g", willContinue=True))
    see(o, call(partialArgs=[{"jsonPath": "$.a", "numberValue": 1}]))
    assert (o.calls, o.tools) == (2, {})
    see(o, call(name="g", willContinue=True))
    see(o, call(name="g", willContinue=True, partialArgs=[]))
    assert (o.calls, len(o.tools)) == (3, 1)
    see(o, call(name="h", args={}))
    assert (o.calls, o.tools) == (4, {})
    assert see(o, call()) == CONTENT


def test_a_finish_ends_an_open_call() -> None:
    o = GeminiObserver()
    see(o, call(name="f", willContinue=True))
    assert see(o, {"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL"}]}) == TOOL
    assert (o.tools, o.stop_reason) == ({}, "MALFORMED_FUNCTION_CALL")


@pytest.mark.parametrize("wrap", [False, True])
def test_errors_in_band(wrap: bool) -> None:
    o = GeminiObserver()
    see(o, text("a", finishReason="STOP"))
    error = {"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}
    assert see(o, [error] if wrap else error) == ERROR
    assert o.error == UpstreamError(message="overloaded", type="UNAVAILABLE", status=503)
    assert not o.closable()
    assert not o.terminal


@pytest.mark.parametrize(("body", "expected"), [
    ({"error": {"code": 400, "message": "bad key", "status": "INVALID_ARGUMENT", "details": [{"@type": "x", "reason": "API_KEY_INVALID"}]}},
     UpstreamError(message="bad key", type="INVALID_ARGUMENT", code="API_KEY_INVALID", status=400)),
    ([{"error": {"message": "m"}}], UpstreamError(message="m", status=400)),
    ({"error": "plain"}, UpstreamError(message="plain", status=400)),
    ({"error": {"message": 5, "details": 1}}, UpstreamError(status=400)),
    ({"detail": "x"}, UpstreamError(status=400)),
    ("text", UpstreamError(status=400)),
])  # fmt: skip
def test_error_bodies(body: object, expected: UpstreamError) -> None:
    o = GeminiObserver()
    o.observe_error(400, json.dumps(body).encode())
    assert o.error == expected


def test_an_error_body_that_is_no_json_gives_its_status() -> None:
    o = GeminiObserver()
    o.observe_error(502, b"<html>")
    assert o.error == UpstreamError(status=502)


def test_whole_bodies() -> None:
    o = GeminiObserver()
    body = {**text("a", finishReason="STOP"), "usageMetadata": {"promptTokenCount": 2}, "responseId": "r", "modelVersion": "m"}
    o.observe_body(json.dumps(body).encode())
    assert (o.response_id, o.model, o.stop_reason, o.usage, o.final_usage) == ("r", "m", "STOP", Usage(input=2), True)
    o = GeminiObserver()
    o.observe_body(b'{"totalTokens": 31, "cachedContentTokenCount": 4, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 31}]}')
    assert (o.usage, o.final_usage) == (Usage(input=31, cache_read=4), True)
    o = GeminiObserver()
    o.observe_body(b'{"embedding": {"values": [0.1, 0.2]}, "usageMetadata": {"promptTokenCount": 6}}')
    assert (o.usage, o.final_usage) == (Usage(input=6), True)
    o = GeminiObserver()
    o.observe_body(b'{"models": []}')
    assert (o.usage, o.final_usage, o.malformed) == (EMPTY_USAGE, False, 0)
    o.observe_body(b"\x89PNG")
    assert (o.usage, o.stop_reason, o.malformed) == (EMPTY_USAGE, None, 1)


def test_candidates_without_end_take_no_memory() -> None:
    o = GeminiObserver()
    assert see(o, text("a", 64)) == MALFORMED
    assert see(o, text("a", 10**30)) == MALFORMED
    assert (o.choices, o.malformed) == (0, 2)


def test_text_that_spells_a_finish_is_text() -> None:
    o = GeminiObserver()
    see(o, text('"finishReason": "STOP"}], "error": {'))
    assert not o.closable()
    assert o.error is None


KEYS = [
    "candidates", "content", "parts", "text", "thought", "functionCall", "name", "args", "partialArgs", "willContinue", "jsonPath", "stringValue",
    "finishReason", "index", "usageMetadata", "promptTokenCount", "promptTokensDetails", "modality", "error", "code", "message", "promptFeedback",
    "blockReason", "createTime", "responseId",
]  # fmt: skip
hostile = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["STOP", "AUDIO", "$.a[0].b", "$", 63, 2**70]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=25,
)


@given(st.lists(st.binary(max_size=60) | hostile.map(lambda v: json.dumps(v).encode()), max_size=5), st.booleans())
def test_no_bytes_make_it_raise(frames: list[bytes], told: bool) -> None:
    o = GeminiObserver()
    o.sink = [] if told else None
    for frame in frames:
        o.observe(b"", frame, 0.0)
        GeminiObserver().observe_body(frame)
        GeminiObserver().observe_error(500, frame)
    assert isinstance(o.closable(), bool)
    assert isinstance(o.usage, Usage)
    assert not o.terminal


@given(st.data())
def test_no_mutated_recording_makes_it_raise(data: st.DataObject) -> None:
    frames = recorded(data.draw(st.sampled_from([e["name"] for e in INDEX])))
    o = GeminiObserver()
    o.sink = []
    for frame in frames:
        raw = bytearray(frame)
        for at, byte in data.draw(st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255)), max_size=3)):
            raw[at] = byte
        o.observe(b"", bytes(raw), 0.0)
        o.observe_body(bytes(raw))


def test_deep_nesting_is_malformed_and_no_error() -> None:
    o = GeminiObserver()
    assert o.observe(b"", b'{"x":' + b"[" * 200_000, 0.0) == MALFORMED
    assert o.observe(b"", b"[" * 200_000 + b"]" * 200_000, 0.0) == MALFORMED


@given(st.data())
def test_a_recording_cut_before_its_last_frame_is_not_complete(data: st.DataObject) -> None:
    frames = recorded(data.draw(st.sampled_from([e["name"] for e in INDEX])))
    o = GeminiObserver()
    for frame in frames[: data.draw(st.integers(0, len(frames) - 1))]:
        o.observe(b"", frame, 0.0)
    assert not o.closable()


def test_the_bytes_are_not_kept() -> None:
    o = GeminiObserver()
    data = msgspec.json.encode({**call(name="f", args={"a": "b" * 1000}), "usageMetadata": {"promptTokenCount": 1}})
    before = sys.getrefcount(data)
    o.observe(b"", data, 0.0)
    assert sys.getrefcount(data) == before
