"""Folding: what a real stream becomes, rule by rule; and law 6."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.protocols.contract import BodyError
from penstock.protocols.gemini.assemble import GeminiAssembler
from penstock.protocols.gemini.observe import GeminiObserver
from penstock.protocols.gemini.unfold import unfold
from penstock.vocabulary.ids import Operation

CORPUS = Path(__file__).parents[2] / "corpus" / "gemini"
NAMES = sorted(p.stem for p in CORPUS.glob("*.sse"))


def fold(*frames: object) -> Any:
    a = GeminiAssembler()
    for frame in frames:
        a.feed(b"", frame if isinstance(frame, bytes) else json.dumps(frame).encode())
    return json.loads(a.body())


def candidate(*parts: object, **fields: object) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": list(parts), "role": "model"}, **fields}]}


def recorded(name: str) -> list[bytes]:
    return [b.removeprefix(b"data: ") for b in (CORPUS / f"{name}.sse").read_bytes().split(b"\r\n\r\n") if b]


def parts_of(body: Any) -> list[Any]:
    return body["candidates"][0]["content"]["parts"]


def refold(body: bytes) -> Any:
    return fold(*[f.removeprefix(b"data: ").removesuffix(b"\r\n\r\n") for f in unfold(Operation.GENERATE, body)])


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_keeps_its_text_and_its_last_words(name: str) -> None:
    frames = [json.loads(f) for f in recorded(name)]
    body = fold(*frames)
    for thought in (False, True):
        said = [p["text"] for f in frames for p in parts_of(f) if "text" in p and bool(p.get("thought")) is thought]
        kept = [p["text"] for p in parts_of(body) if "text" in p and bool(p.get("thought")) is thought]
        assert "".join(kept) == "".join(said)
    signatures = [p["thoughtSignature"] for f in frames for p in parts_of(f) if "thoughtSignature" in p]
    assert [p["thoughtSignature"] for p in parts_of(body) if "thoughtSignature" in p] == signatures
    assert body["usageMetadata"].items() >= frames[-1]["usageMetadata"].items()
    assert body["candidates"][0]["finishReason"] == "STOP"
    assert (body["responseId"], body["modelVersion"]) == (frames[-1]["responseId"], frames[-1]["modelVersion"])


def test_what_the_recordings_become() -> None:
    kinds = {n: [sorted(p) for p in parts_of(fold(*recorded(n)))] for n in NAMES}
    assert kinds["test_google_model_thinking_part_iter_0"] == [["text", "thought"], ["text", "thoughtSignature"], ["text"]]
    assert kinds["test_google_model_web_search_tool_stream_0"] == [["text"]]
    assert kinds["test_google_streaming_tool_call_thought_signature_0"] == [["functionCall", "thoughtSignature"]]
    assert kinds["test_google_model_file_search_grounding_gemini_3_true__3"] == [
        ["thoughtSignature", "toolCall"], ["thoughtSignature", "toolResponse"], ["text"], ["text", "thoughtSignature"],
    ]  # fmt: skip


def test_texts_merge_across_frames_and_not_within_one() -> None:
    body = fold(candidate({"text": "a"}), candidate({"text": "b"}, {"text": "c"}), candidate({"text": "d", "thought": True}),
                candidate(finishReason="STOP"))  # fmt: skip
    assert parts_of(body) == [{"text": "ab"}, {"text": "c"}, {"text": "d", "thought": True}]


def test_signed_parts_stay_as_they_are() -> None:
    signed = {"text": "", "thoughtSignature": "s"}
    body = fold(candidate({"text": "a"}), candidate(signed), candidate({"text": "b"}), candidate({"text": ""}, finishReason="STOP"))
    assert parts_of(body) == [{"text": "a"}, signed, {"text": "b"}]


def test_candidates_go_by_index_and_absent_is_zero() -> None:
    body = fold(
        {"candidates": [{"index": 1, "content": {"parts": [{"text": "x"}]}}]},
        candidate({"text": "a"}, index=0),
        candidate({"text": "b"}, finishReason="STOP"),
        {"candidates": [{"index": 1, "finishReason": "MAX_TOKENS"}]},
        {"candidates": [{"index": 0, "finishReason": None, "groundingMetadata": {"a": 1}}]},
        {"usageMetadata": {"promptTokenCount": 1}},
    )
    told = [(c["index"], c["finishReason"], c["content"]["parts"][0]["text"]) for c in body["candidates"]]
    assert told == [(1, "MAX_TOKENS", "x"), (0, "STOP", "ab")]
    assert body["candidates"][1]["groundingMetadata"] == {"a": 1}
    assert body["usageMetadata"] == {"promptTokenCount": 1}


def test_other_fields() -> None:
    body = fold(
        {**candidate({"text": "a"}, safetyRatings=[1], x=None, groundingMetadata={"q": [1]}, citationMetadata={"c": [1]}, logprobsResult={"l": [1]}),
         "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1}, "new": 1},
        {**candidate({"text": "b"}, safetyRatings=[2], x=3, groundingMetadata={}, citationMetadata={"c": [1, 2]}, logprobsResult={"l": [1]},
                     finishReason="STOP"), "usageMetadata": {"candidatesTokenCount": 5}, "new": None, "newer": {}},
    )  # fmt: skip
    c = body["candidates"][0]
    assert (c["safetyRatings"], c["x"], c["groundingMetadata"], c["citationMetadata"], c["logprobsResult"]) == (
        [2], 3, {"q": [1]}, {"c": [1, 2]}, {"l": [1, 1]},
    )  # fmt: skip
    assert (body["usageMetadata"], body["new"], body["newer"]) == ({"promptTokenCount": 1, "candidatesTokenCount": 5}, 1, {})


@pytest.mark.parametrize("odd", [[], {}, 5, ""])
def test_an_odd_finish_reason_gives_way_to_a_good_one(odd: object) -> None:
    body = fold(candidate({"text": "a"}, finishReason=odd), candidate({"text": "b"}, finishReason="STOP"))
    assert body["candidates"][0]["finishReason"] == "STOP"


def test_a_call_in_pieces_becomes_whole() -> None:
    def call(**fields: object) -> dict[str, Any]:
        return candidate({"functionCall": fields})

    body = fold(
        candidate({"functionCall": {"name": "f", "id": "1", "willContinue": True}, "thoughtSignature": "s"}),
        call(partialArgs=[{"jsonPath": "$.city", "stringValue": "New ", "willContinue": True}], willContinue=True),
        call(partialArgs=[{"jsonPath": "$.city", "stringValue": "York"}, {"jsonPath": "$.days[0].n", "numberValue": 2}], willContinue=True),
        call(),
        call(name="g", args={}),
        candidate({"text": ""}, finishReason="STOP"),
    )
    assert parts_of(body) == [
        {"functionCall": {"name": "f", "id": "1", "args": {"city": "New York", "days": [{"n": 2}]}}, "thoughtSignature": "s"},
        {"functionCall": {"name": "g", "args": {}}},
    ]


@pytest.mark.parametrize("frames", [
    [{"candidates": []}],
    [candidate({"text": "a"})],
    [candidate({"text": "a"}), candidate({"text": "b"}, finishReason="FINISH_REASON_UNSPECIFIED")],
    [candidate({"text": "a"}), {"error": {"code": 500}}],
    [candidate({"text": "a"}), [{"error": {"code": 500}}]],
    [candidate({"text": "a"}), b"{"],
    [candidate({"text": "a"}), b"[1, 2]"],
    [candidate({"text": "a"}), b'{"x": NaN}'],
    [candidate({"text": "a"}), b"[" * 100_000],
    [candidate({"text": "a"}), {"candidates": 5}],
    [candidate({"text": "a"}), {"candidates": [{"index": "0"}]}],
    [candidate({"functionCall": {"name": "f", "willContinue": True}}), candidate(finishReason="STOP")],
    [candidate({"functionCall": {"name": "f", "willContinue": True}}), candidate({"text": "x"}, finishReason="STOP")],
    [candidate({"functionCall": {"name": "f", "willContinue": True}}), candidate({"functionCall": {"name": "g"}}, finishReason="STOP")],
    [candidate({"functionCall": {"name": "f", "willContinue": True}}),
     candidate({"functionCall": {"partialArgs": [{"jsonPath": "$.a[9]", "boolValue": True}]}})],
    [],
])  # fmt: skip
def test_what_cannot_be_made_a_body(frames: list[Any]) -> None:
    with pytest.raises(BodyError):
        fold(*frames)


def test_many_small_pieces_are_joined_once() -> None:
    frames = [json.dumps(candidate({"text": "word "})).encode()] * 20_000
    body = fold(*frames, candidate(finishReason="STOP"))
    assert parts_of(body) == [{"text": "word " * 20_000}]


# Law 6 -------------------------------------------------------------------------------------------------------------------------------

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
texts = st.sampled_from(["", "a", "ab" * 200, "é😀" * 201, "two words "]) | st.text(max_size=5)
plain = st.fixed_dictionaries({"text": texts}, optional={"thought": st.sampled_from([True, False, None])})
odd_part = st.fixed_dictionaries({}, optional={
    "text": texts | st.none(), "thought": st.just(True), "thoughtSignature": st.text(max_size=3), "inlineData": json_values,
    "functionCall": st.fixed_dictionaries({}, optional={"name": st.just("f"), "args": json_values}), "unknown": json_values,
})  # fmt: skip
in_pieces = st.fixed_dictionaries({"name": st.just("f")}, optional={"willContinue": st.booleans(), "partialArgs": json_values})
piecewise = st.fixed_dictionaries({"functionCall": in_pieces})
parts = st.lists(plain | plain | odd_part, max_size=6) | st.lists(plain | piecewise, max_size=3) | json_values
contents = st.fixed_dictionaries({}, optional={"parts": parts, "role": st.just("model"), "unknown": json_values}) | json_values
candidates = st.fixed_dictionaries(
    {"finishReason": st.sampled_from(["STOP", "MAX_TOKENS", "SAFETY"])},
    optional={"content": contents, "index": st.integers(0, 3) | st.none(), "safetyRatings": json_values, "groundingMetadata": json_values,
              "citationMetadata": json_values, "logprobsResult": json_values, "unknown": json_values, "error": json_values},
)  # fmt: skip
tops = {
    "usageMetadata": st.dictionaries(st.sampled_from(["promptTokenCount", "x"]), json_values, max_size=2) | json_values,
    "modelVersion": st.text(max_size=3) | st.none(), "responseId": json_values,
    "promptFeedback": json_values, "createTime": json_values, "unknown": json_values,
}  # fmt: skip
answers = st.fixed_dictionaries({"candidates": st.lists(candidates, min_size=1, max_size=3)}, optional=tops)
blocked = st.fixed_dictionaries({"promptFeedback": st.just({"blockReason": "SAFETY"})}, optional={"candidates": json_values, "unknown": json_values})


@given(answers | blocked)
def test_law_6_assembling_the_unfolded_gives_the_body(body: dict[str, Any]) -> None:
    assert refold(json.dumps(body).encode()) == body


@pytest.mark.parametrize("name", NAMES)
def test_law_6_for_the_recordings(name: str) -> None:
    body = fold(*recorded(name))
    assert refold(json.dumps(body).encode()) == body


@given(answers)
def test_an_unfolded_stream_is_complete_with_its_last_frame_and_not_before(body: dict[str, Any]) -> None:
    body = {k: v for k, v in body.items() if k != "promptFeedback"}
    frames = list(unfold(Operation.GENERATE, json.dumps(body).encode()))
    observer = GeminiObserver()
    for frame in frames:
        assert not observer.closable()
        assert frame.startswith(b"data: {")
        assert frame.endswith(b"}\r\n\r\n")
        assert b"\n" not in frame[:-4]
        observer.observe(b"", frame[6:-4], 0.0)
    assert observer.closable() or any(not isinstance(c, dict) for c in body["candidates"])


@given(json_values)
def test_unfold_gives_frames_or_a_body_error(value: Any) -> None:
    try:
        unfold(Operation.GENERATE, json.dumps(value).encode())
    except BodyError:
        return
    assert value.get("promptFeedback") or value.get("candidates")


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"{}", b'{"candidates":[]}', b'{"candidates":[{"content":{}}]}', b'{"error":{"code":1}}', b'{"totalTokens":1}',
])  # fmt: skip
def test_what_is_no_whole_answer_is_not_unfolded(body: bytes) -> None:
    with pytest.raises(BodyError):
        unfold(Operation.GENERATE, body)


def test_long_text_comes_in_pieces() -> None:
    body = candidate({"text": "x" * 1000}, finishReason="STOP", index=0)
    frames = list(unfold(Operation.GENERATE, json.dumps(body).encode()))
    assert len(frames) == 5
    assert b"finishReason" not in b"".join(frames[:-1])
