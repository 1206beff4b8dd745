"""Rendering: what our observer and Google's own SDK read from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from google import genai
from google.genai import errors, types

from penstock.protocols.contract import BodyError
from penstock.protocols.gemini import SPEC
from penstock.protocols.gemini.observe import GeminiObserver
from penstock.protocols.gemini.render import GeminiRenderer, error_body, error_frame, usage_metadata
from penstock.vocabulary.errors import Fault, FaultKind, UpstreamError
from penstock.vocabulary.events import (
    Ended,
    Event,
    Failed,
    ReasoningDelta,
    Started,
    Stopped,
    StopReason,
    TextDelta,
    ToolDelta,
    ToolEnded,
    ToolStarted,
    UsageSeen,
)
from penstock.vocabulary.ids import Operation
from penstock.vocabulary.usage import Kinds, Usage

CORPUS = Path(__file__).parents[2] / "corpus" / "gemini"
ANSWER: list[Event] = [
    Started("r1", "gemini-x"), ReasoningDelta("hm", 0), TextDelta("Hel", 1), TextDelta("lo", 1), ToolStarted(2, "c1", "f"), ToolDelta(2, '{"a"'),
    ToolDelta(2, ": 1}"), ToolEnded(2), Stopped(StopReason.TOOL_CALLS, "tool_use"), UsageSeen(Usage(input=3, output=4, reasoning=2, audio_input=1)),
    Ended(),
]  # fmt: skip
FAULT = Fault(FaultKind.UPSTREAM_BROKEN, 502, "The provider broke off.")


def render(events: list[Event]) -> list[bytes]:
    renderer = GeminiRenderer()
    return [renderer.render(e) for e in events]


def read(frames: list[bytes]) -> list[Any]:
    return [json.loads(f.removeprefix(b"data: ")) for f in frames if f]


def client(status: int, body: bytes, sse: bool = True) -> genai.Client:
    """Google's SDK before a server that answers everything with `body`."""
    kind = "text/event-stream" if sse else "application/json"
    transport = httpx.MockTransport(lambda request: httpx.Response(status, headers={"content-type": kind}, content=body))
    return genai.Client(api_key="x", http_options=types.HttpOptions(base_url="http://test", httpx_client=httpx.Client(transport=transport)))


def stream(status: int, body: bytes) -> list[types.GenerateContentResponse]:
    models: Any = client(status, body).models  # the SDK's own types are partly unknown to a strict checker
    return list(models.generate_content_stream(model="m", contents="hi"))


def test_frames_leave_as_their_events_come() -> None:
    out = render(ANSWER)
    assert [bool(f) for f in out] == [False, True, True, True, False, False, False, True, False, False, True]
    frames = read(out)
    assert [f["candidates"][0]["content"]["parts"][0] for f in frames] == [
        {"text": "hm", "thought": True}, {"text": "Hel"}, {"text": "lo"}, {"functionCall": {"id": "c1", "name": "f", "args": {"a": 1}}}, {"text": ""},
    ]  # fmt: skip
    assert all((f["responseId"], f["modelVersion"]) == ("r1", "gemini-x") for f in frames)
    assert [("finishReason" in f["candidates"][0], "usageMetadata" in f) for f in frames] == [(False, False)] * 4 + [(True, True)]


def test_no_frame_has_a_name_or_a_comment() -> None:
    for frame in filter(None, [*render(ANSWER), error_frame(FAULT, "id", GeminiObserver())]):
        assert frame.startswith(b"data: {")
        assert frame.endswith(b"\r\n\r\n")
        assert b"\n" not in frame[:-3]


def test_googles_sdk_reads_it() -> None:
    chunks = stream(200, b"".join(render(ANSWER)))
    parts = [p for c in chunks for p in ((c.candidates or [])[0].content or types.Content()).parts or []]
    assert "".join(p.text or "" for p in parts if not p.thought) == "Hello"
    assert [(p.function_call.name, p.function_call.args) for p in parts if p.function_call] == [("f", {"a": 1})]
    last = chunks[-1]
    assert last.candidates is not None
    assert last.usage_metadata is not None
    assert last.candidates[0].finish_reason is types.FinishReason.STOP
    assert (last.usage_metadata.prompt_token_count, last.usage_metadata.total_token_count) == (3, 9)


def neutral(frames: list[bytes]) -> tuple[list[Event], GeminiObserver]:
    observer = GeminiObserver()
    observer.sink = []
    for frame in frames:
        observer.observe(b"", frame, 0.0)
    return observer.sink, observer


def test_law_7_there_and_back() -> None:
    events, observer = neutral([f[6:-4] for f in render(ANSWER) if f])
    assert events == [
        Started("r1", "gemini-x"), ReasoningDelta("hm", 0), TextDelta("Hel", 1), TextDelta("lo", 1),
        ToolStarted(2, "c1", "f"), ToolDelta(2, '{"a":1}'), ToolEnded(2),
        Stopped(StopReason.TOOL_CALLS, "STOP"), UsageSeen(Usage(input=3, output=4, reasoning=2, audio_input=1)),
    ]  # fmt: skip
    assert observer.closable()


@pytest.mark.parametrize("name", sorted(p.stem for p in CORPUS.glob("*.sse")))
def test_law_7_for_the_recordings(name: str) -> None:
    recorded = [b.removeprefix(b"data: ") for b in (CORPUS / f"{name}.sse").read_bytes().split(b"\r\n\r\n") if b]
    events, before = neutral(recorded)
    again, after = neutral([f[6:-4] for f in render([*events, Ended()]) if f])
    kept = (TextDelta, ReasoningDelta, ToolStarted, ToolDelta, ToolEnded, Stopped)
    pieces = [e for e in events if isinstance(e, kept)]
    assert [type(e) for e in again if isinstance(e, kept)] == [type(e) for e in pieces]
    assert "".join(e.text for e in again if isinstance(e, TextDelta)) == "".join(e.text for e in pieces if isinstance(e, TextDelta))
    assert [e.call_id for e in again if isinstance(e, ToolStarted)] == [e.call_id for e in pieces if isinstance(e, ToolStarted)]
    assert (after.usage, after.stop_reason, after.response_id, after.model) == (before.usage, before.stop_reason, before.response_id, before.model)
    assert after.closable()


@pytest.mark.parametrize(("reason", "raw", "word"), [
    (StopReason.STOP, "end_turn", "STOP"), (StopReason.LENGTH, "length", "MAX_TOKENS"), (StopReason.CONTENT_FILTER, "refusal", "SAFETY"),
    (StopReason.CONTENT_FILTER, "RECITATION", "RECITATION"), (StopReason.PAUSE, "pause_turn", "OTHER"), (StopReason.STOP_SEQUENCE, None, "STOP"),
])  # fmt: skip
def test_stop_words(reason: StopReason, raw: str | None, word: str) -> None:
    assert read(render([Stopped(reason, raw), Ended()]))[0]["candidates"][0]["finishReason"] == word


def test_a_stop_that_was_not_told_is_other_for_every_choice_that_began() -> None:
    last = read(render([TextDelta("a", 0, 0), TextDelta("b", 0, 1), Stopped(StopReason.STOP, None, 1), Ended()]))[-1]
    assert [(c["index"], c["finishReason"]) for c in last["candidates"]] == [(0, "OTHER"), (1, "STOP")]
    assert "usageMetadata" not in last


@pytest.mark.parametrize("text", ["{", "[1]", '"x"', "null", "[" * 100_000])
def test_arguments_that_cannot_be_said(text: str) -> None:
    renderer = GeminiRenderer()
    renderer.render(ToolStarted(0, "c", "f"))
    renderer.render(ToolDelta(0, text))
    with pytest.raises(BodyError):
        renderer.render(ToolEnded(0))


def test_an_end_inside_a_call_is_no_end() -> None:
    renderer = GeminiRenderer()
    renderer.render(ToolStarted(0, "c", "f"))
    with pytest.raises(BodyError):
        renderer.render(Ended())


def test_no_arguments_are_empty_ones_and_nothing_follows_the_end() -> None:
    frames = render([ToolStarted(0, "c", "f"), ToolEnded(0), Ended(), TextDelta("late"), Ended()])
    assert read(frames)[0]["candidates"][0]["content"]["parts"] == [{"functionCall": {"id": "c", "name": "f", "args": {}}}]
    assert frames[3:] == [b"", b""]


def test_usage_says_what_is_known() -> None:
    assert usage_metadata(Usage()) == {}
    assert usage_metadata(Usage(input=1, tool_use=0)) == {"promptTokenCount": 1, "toolUsePromptTokenCount": 0}
    assert usage_metadata(Usage(input=1, output=2, cache_read=3, reasoning=4, audio_output=5)) == {
        "promptTokenCount": 1, "candidatesTokenCount": 2, "cachedContentTokenCount": 3, "thoughtsTokenCount": 4, "totalTokenCount": 7,
        "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 5}],
    }  # fmt: skip
    assert usage_metadata(Usage(audio_input=9, kinds=Kinds(image_input=1, image_output=2, video_output=3, cache_read_audio=0))) == {
        "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 9}, {"modality": "IMAGE", "tokenCount": 1}],
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 2}, {"modality": "VIDEO", "tokenCount": 3}],
        "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 0}],
    }  # fmt: skip


@pytest.mark.parametrize(("kind", "status", "word"), [
    (FaultKind.BAD_REQUEST, 400, "INVALID_ARGUMENT"), (FaultKind.UNAUTHENTICATED, 401, "UNAUTHENTICATED"),
    (FaultKind.FORBIDDEN, 403, "PERMISSION_DENIED"), (FaultKind.NOT_FOUND, 404, "NOT_FOUND"), (FaultKind.RATE_LIMITED, 429, "RESOURCE_EXHAUSTED"),
    (FaultKind.INTERNAL, 500, "INTERNAL"), (FaultKind.UPSTREAM_BROKEN, 502, "UNAVAILABLE"), (FaultKind.OVERLOADED, 503, "UNAVAILABLE"),
    (FaultKind.UPSTREAM_TIMEOUT, 504, "DEADLINE_EXCEEDED"),
])  # fmt: skip
def test_errors_before_and_after_the_first_byte_raise_in_googles_sdk(kind: FaultKind, status: int, word: str) -> None:
    fault = Fault(kind, status, "What went wrong: “é”.")
    expected = errors.ClientError if status < 500 else errors.ServerError
    begun = b"".join(render([TextDelta("a")]))
    for answer, body in ((status, error_body(fault, "id-1")), (200, begun + error_frame(fault, "id-1", GeminiObserver()))):
        with pytest.raises(expected) as caught:
            stream(answer, body)
        told: Any = caught.value
        assert (told.code, told.status, told.message) == (status, word, fault.message)
        assert {"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": "id-1"} in told.details["error"]["details"]
    models: Any = client(status, error_body(fault, "id-1"), sse=False).models
    with pytest.raises(expected):
        models.generate_content(model="m", contents="hi")


def test_every_kind_has_a_word_and_every_status_a_class() -> None:
    for kind in FaultKind:
        for status in (200, 408, 499, 503, 0):
            error = json.loads(error_body(Fault(kind, status, "m"), ""))["error"]
            assert 400 <= error["code"] <= 599
            assert error["status"].isupper()
            assert "details" not in error


def test_a_providers_own_words_are_kept_where_they_are_googles() -> None:
    fault = Fault(FaultKind.BAD_REQUEST, 400, "m", type="FAILED_PRECONDITION", code="API_KEY_INVALID")
    error = json.loads(error_body(fault, "i"))["error"]
    assert (error["status"], error["details"][0]["reason"]) == ("FAILED_PRECONDITION", "API_KEY_INVALID")
    assert json.loads(error_body(Fault(FaultKind.BAD_REQUEST, 400, "m", type="invalid_request_error"), "i"))["error"]["status"] == "INVALID_ARGUMENT"


def test_our_observer_reads_our_errors() -> None:
    observer = GeminiObserver()
    observer.observe(b"", error_frame(FAULT, "i", observer)[6:-4], 0.0)
    assert observer.error == UpstreamError(message=FAULT.message, type="UNAVAILABLE", status=502)
    (frame,) = read(render([Failed(UpstreamError(message="m", type="overloaded_error", status=529)), TextDelta("late")]))
    assert frame == {"error": {"code": 529, "message": "m", "status": "UNAVAILABLE"}}


def test_the_array_form() -> None:
    assert SPEC.error_element is not None
    element = SPEC.error_element(FAULT, "i")
    assert [list(e) for e in json.loads(b'[{"candidates": []},' + element + b"]")] == [["candidates"], ["error"]]
    assert SPEC.array_asked is not None
    assert (SPEC.array_asked("alt=sse"), SPEC.array_asked("key=x"), SPEC.array_asked("")) == (False, True, True)


def test_the_spec_gives_a_fresh_renderer_each_time() -> None:
    assert SPEC.renderer(Operation.GENERATE) is not SPEC.renderer(Operation.GENERATE)
    assert SPEC.ask_usage is None
