"""The official clients' own accumulators as judges: of the bodies that streams are folded into, and of the streams that bodies are told as.

Fed through their HTTP transports; there is no gateway here.
"""

from __future__ import annotations

import json
from typing import Any, cast

import anthropic
import httpx
import httpx2
import pytest
from google import genai
from google.genai import types
from openai import OpenAI

from penstock.pipeline.compose import Answer, Limits, compose
from penstock.pipeline.contract import State
from penstock.pipeline.fold import Fold
from penstock.pipeline.pseudo import Pace, Pseudo
from penstock.protocols import REGISTRY
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.vocabulary.outcome import Ending
from penstock.wire.budget import Budget
from tests.support.corpus import Case
from tests.support.relays import ID, OPERATIONS, data_of, every, frames_of
from tests.support.streams import COMPLETE, named

pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")

Object = dict[str, Any]
CHAT, RESPONSES, MESSAGES, GEMINI = ProtocolId.OPENAI_CHAT, ProtocolId.OPENAI_RESPONSES, ProtocolId.ANTHROPIC_MESSAGES, ProtocolId.GEMINI
HELLO: Any = [{"role": "user", "content": "x"}]
BETA_ONLY = {
    "anthropic_messages/test_anthropic_compaction_usage_with_cache_streaming_0": [".content[0].content"],
}
"""What the plain client leaves out: it ignores `compaction_delta`, and keeps the block's null."""


def of(protocol: ProtocolId) -> tuple[Case, ...]:
    return tuple(case for case in COMPLETE if case.recording.protocol is protocol)


def folded(protocol: ProtocolId, chunks: list[bytes]) -> Object:
    """The body that a client gets who asked for one."""
    operation = OPERATIONS[protocol]
    answer = Answer(operation, 200, b"text/event-stream; charset=utf-8", b"", delimited=True, stream_asked=False, array=False, folded=True)
    pipeline = compose(answer, REGISTRY[protocol], Limits(), Budget(1 << 28), 0.0).pipeline
    assert isinstance(pipeline, Fold)
    assert not b"".join(pipeline.feed(chunk, 1.0) for chunk in chunks)
    assert pipeline.conclude(True, "").ending is Ending.COMPLETE
    assert pipeline.failure(ID) is None
    body = pipeline.whole()
    assert body is not None
    assert pipeline.end(None, ID) == body
    return json.loads(body)


def told(protocol: ProtocolId, body: Object, chars: int | None, operation: Operation | None = None, *, usage: bool = True) -> bytes:
    """The stream that a client gets whose provider gave a body."""
    spec, operation = REGISTRY[protocol], operation or OPERATIONS[protocol]
    answer = Answer(operation, 200, b"application/json", b"", True, stream_asked=True, array=False, pace=Pace(chars), usage_told=usage)
    pipeline = compose(answer, spec, Limits(), Budget(1 << 28), 0.0).pipeline
    assert isinstance(pipeline, Pseudo)
    for chunk in every(json.dumps(body).encode(), 1000):
        assert pipeline.feed(chunk, 1.0) == b""
    assert pipeline.conclude(True, "").ending is Ending.COMPLETE
    out: list[bytes] = []
    while (due := pipeline.deadline()) is not None:
        out.append(pipeline.tick(due))
    assert pipeline.state is State.ENDED
    assert pipeline.end(None, ID) == b""
    return b"".join(out)


def missing(ours: object, theirs: object, at: str = "") -> list[str]:
    """Paths at which `theirs` has a value that `ours` has not. A null that only they have is their model's default, no statement."""
    if isinstance(theirs, dict):
        if not isinstance(ours, dict):
            return [at]
        mine, members = cast("Object", ours), cast("Object", theirs)
        return [path for key, value in members.items() if key in mine or value is not None for path in missing(mine.get(key), value, f"{at}.{key}")]
    if isinstance(theirs, list):
        mine_list, their_list = cast("list[Any]", ours), cast("list[Any]", theirs)
        if not isinstance(ours, list) or len(mine_list) != len(their_list):
            return [at]
        return [path for i, (mine, value) in enumerate(zip(mine_list, their_list, strict=True)) for path in missing(mine, value, f"{at}[{i}]")]
    return [] if ours == theirs else [at]


# The judges.


def transport(stream: bytes) -> httpx2.Client:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=stream)

    return httpx2.Client(transport=httpx2.MockTransport(answer))


def openai_client(stream: bytes) -> OpenAI:
    return OpenAI(api_key="x", base_url="http://test/v1", http_client=transport(stream), max_retries=0)


def message_of(stream: bytes, *, beta: bool) -> Object:
    client = anthropic.Anthropic(api_key="x", base_url="http://test", http_client=transport(stream), max_retries=0)
    if beta:
        with client.beta.messages.stream(model="m", max_tokens=1, messages=HELLO) as beta_stream:
            return beta_stream.get_final_message().to_dict(mode="json")
    with client.messages.stream(model="m", max_tokens=1, messages=HELLO) as plain_stream:
        return plain_stream.get_final_message().to_dict(mode="json")


def completion_of(stream: bytes) -> Object:
    with openai_client(stream).chat.completions.stream(model="m", messages=HELLO) as chunks:
        return tidy_completion(chunks.get_final_completion().to_dict(mode="json"))


def tidy_completion(whole: Object) -> Object:
    """Without what the helper itself put in."""
    choices: list[Object] = whole["choices"]
    for choice in choices:
        message: Object = choice["message"]
        if len(message["role"]) > len("assistant"):
            message["role"] = "assistant"  # providers that say it in every chunk: it appends the word each time
        if choice.get("native_finish_reason", "") is None:
            del choice["native_finish_reason"]  # it keeps the first chunk's null of a field that it does not know
        calls: list[Object] = message.get("tool_calls") or []
        for call in calls:
            call.pop("index", None)  # of the deltas; bodies have none
    return whole


def response_of(stream: bytes) -> Object:
    with openai_client(stream).responses.stream(model="m", input="x") as events:
        for _ in events:
            pass
        return tidy_response(events.get_final_response().to_dict(mode="json"))


def tidy_response(whole: Object) -> Object:
    """The same."""
    items: list[Object] = whole["output"]
    for item in items:
        parts: list[Object] = item.get("content") or []
        for part in parts:
            part.pop("parsed", None)  # the helper's own
        item.pop("parsed_arguments", None)
    return whole


def gemini_client(answer: bytes, kind: str) -> Any:
    mock = httpx.MockTransport(lambda request: httpx.Response(200, headers={"content-type": kind}, content=answer))
    return genai.Client(api_key="x", http_options=types.HttpOptions(base_url="http://test", httpx_client=httpx.Client(transport=mock))).models


def pieces_of_gemini(stream: bytes) -> list[types.GenerateContentResponse]:
    return list(gemini_client(stream, "text/event-stream").generate_content_stream(model="m", contents="x"))


# Streams folded into bodies.


@pytest.mark.parametrize(**named(COMPLETE))
def test_however_the_stream_is_cut_the_body_is_one(case: Case) -> None:
    protocol = case.recording.protocol
    body = folded(protocol, [case.body])
    for size in (1, 3, 7) if len(case.body) < 40_000 else (7, 1000):
        assert folded(protocol, every(case.body, size)) == body


@pytest.mark.parametrize("beta", [False, True], ids=["plain", "beta"])
@pytest.mark.parametrize(**named(of(MESSAGES)))
def test_a_message_holds_what_the_client_accumulates(case: Case, beta: bool) -> None:
    body = folded(MESSAGES, every(case.body, 7))
    assert missing(body, message_of(case.body, beta=beta)) == ([] if beta else BETA_ONLY.get(case.name, []))


@pytest.mark.parametrize(**named(of(MESSAGES)))
def test_a_message_loses_nothing_that_the_events_carried(case: Case) -> None:
    """By plain means, apart from the clients' accumulators: every field that an event states has its place in the body."""
    body = folded(MESSAGES, [case.body])
    grown: dict[int, Object] = {}
    for frame in frames_of(case.body):
        event: Object = json.loads(data_of(frame)[1])
        match event["type"]:
            case "message_start":
                # The rest of it is stated again, or changed, at the end.
                unchanged = {key: value for key, value in event["message"].items() if key not in ("content", "usage") and not key.startswith("stop_")}
                assert missing(body, unchanged) == []
                assert set(event["message"]["usage"]) <= set(body["usage"])
            case "content_block_start":
                grown[event["index"]] = {key: value for key, value in event["content_block"].items() if key not in ("input", "citations")}
            case "content_block_delta":
                block = grown[event["index"]]
                for key, value in event["delta"].items():
                    if key in ("text", "thinking", "partial_json"):
                        block[key] = block.get(key, "") + value
                    elif key == "citation":
                        block.setdefault("citations", []).append(value)
                    elif key not in ("type", "estimated_tokens"):
                        block[key] = value
            case "message_delta":
                assert missing(body, event["delta"]) == []
                assert missing(body["usage"], event["usage"]) == []
                assert missing(body, {key: value for key, value in event.items() if key not in ("type", "delta", "usage")}) == []
            case _:
                pass
    assert len(body["content"]) == len(grown)
    for index, block in grown.items():
        arguments = block.pop("partial_json", None)
        if arguments:
            assert body["content"][index]["input"] == json.loads(arguments)
        assert missing(body["content"][index], block) == []


def test_what_only_the_events_carry_is_kept() -> None:
    """The plain client drops both."""
    (case,) = [case for case in of(MESSAGES) if "compaction" in case.name]
    body = folded(MESSAGES, every(case.body, 3))
    assert [entry["type"] for entry in body["usage"]["iterations"]] == ["compaction", "message"]
    assert body["content"][0]["type"] == "compaction"
    assert body["content"][0]["content"]


@pytest.mark.parametrize(**named(of(CHAT)))
def test_a_completion_holds_what_the_client_accumulates(case: Case) -> None:
    body = folded(CHAT, every(case.body, 7))
    theirs = completion_of(case.body)
    fingerprint, _, usage = theirs.pop("system_fingerprint", None), theirs.pop("object"), theirs.pop("usage", None)
    assert missing(body, theirs) == []
    assert fingerprint is None or body["system_fingerprint"] == fingerprint
    stated = [chunk["usage"] for frame in frames_of(case.body) if (chunk := _json(data_of(frame)[1])) and chunk.get("usage")]
    assert usage is None or body["usage"] == usage
    assert body.get("usage") == (stated[-1] if stated else None)
    assert body["object"] == "chat.completion"


@pytest.mark.parametrize(**named(of(RESPONSES)))
def test_a_response_is_the_terminal_event_s_own(case: Case) -> None:
    ends = [event["response"] for frame in frames_of(case.body) if (event := _json(data_of(frame)[1])) and event["type"] == "response.completed"]
    body = folded(RESPONSES, every(case.body, 7))
    assert [body] == ends
    assert missing(body, response_of(case.body)) == []


@pytest.mark.parametrize(**named(of(GEMINI)))
def test_a_gemini_answer_holds_every_field_of_its_frames(case: Case) -> None:
    body = folded(GEMINI, every(case.body, 7))
    frames: list[Object] = [json.loads(data_of(frame)[1]) for frame in frames_of(case.body) if data_of(frame)[1]]
    (candidate,) = body["candidates"]
    texts = {False: "", True: ""}
    others: list[Object] = []
    last: Object = {}
    usage: Object = {}
    for frame in frames:
        usage |= frame.pop("usageMetadata", {})
        for said in frame.pop("candidates", []):
            for part in said.pop("content", {}).get("parts", []):
                text = part.pop("text", None)
                thought = part.pop("thought", False)
                if text is not None:
                    texts[thought] += text
                if part:
                    others.append(part)
            grounding = {**last.get("groundingMetadata", {}), **said.get("groundingMetadata", {})}
            last |= said | ({"groundingMetadata": grounding} if grounding else {})
        assert missing(body, frame) == []
    assert missing(candidate, last) == []
    assert body["usageMetadata"] == usage
    parts: list[Object] = candidate["content"]["parts"]
    assert {flag: "".join(p.get("text", "") for p in parts if p.get("thought", False) is flag) for flag in (False, True)} == texts
    kept = [{key: value for key, value in part.items() if key not in ("text", "thought")} for part in parts]
    assert [part for part in kept if part] == others


def _json(data: bytes) -> Object:
    return json.loads(data) if data.startswith(b"{") else {}


# Bodies told as streams.

sizes = pytest.mark.parametrize("chars", [None, 1, 30], ids=["words", "1", "30"])


@sizes
@pytest.mark.parametrize(**named(of(MESSAGES)))
def test_the_client_takes_a_message_that_is_told(case: Case, chars: int | None) -> None:
    body = folded(MESSAGES, [case.body])
    stream = told(MESSAGES, body, chars)
    assert missing(body, message_of(stream, beta=True)) == []
    assert missing(message_of(stream, beta=True), message_of(case.body, beta=True)) == []
    assert missing(message_of(stream, beta=False), message_of(case.body, beta=False)) == []


@sizes
@pytest.mark.parametrize(**named(of(CHAT)))
def test_the_client_takes_a_completion_that_is_told(case: Case, chars: int | None) -> None:
    body = folded(CHAT, [case.body])
    theirs = completion_of(told(CHAT, body, chars))
    theirs.pop("object")
    body.pop("object")
    assert missing(body, theirs) == []
    assert missing(theirs, body) == []
    assert completion_of(told(CHAT, body | {"object": "chat.completion"}, chars, usage=False)).get("usage") is None


def test_log_probabilities_of_every_choice_are_counted_once() -> None:
    """The client doubles what the first chunk of any choice but the first states of them."""
    log: Object = {"content": [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}], "refusal": None}
    message: Object = {"role": "assistant", "content": "a", "refusal": None}
    choices = [{"index": index, "message": message, "logprobs": log, "finish_reason": "stop"} for index in range(3)]
    body = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices}
    stream = told(CHAT, body, None)
    assert folded(CHAT, [stream]) == body
    assert [choice["logprobs"]["content"] for choice in completion_of(stream)["choices"]] == [log["content"]] * 3


@sizes
@pytest.mark.parametrize(**named(of(RESPONSES)))
def test_the_client_takes_a_response_that_is_told(case: Case, chars: int | None) -> None:
    if chars == 1 and len(case.body) > 100_000:
        pytest.skip("as the others, for minutes")
    body = folded(RESPONSES, [case.body])
    theirs = response_of(told(RESPONSES, body, chars))
    assert missing(body, theirs) == []
    assert missing(theirs, body) == []


@sizes
@pytest.mark.parametrize(**named(of(GEMINI)))
def test_the_client_takes_a_gemini_answer_that_is_told(case: Case, chars: int | None) -> None:
    body = folded(GEMINI, [case.body])
    pieces = pieces_of_gemini(told(GEMINI, body, chars))
    whole: types.GenerateContentResponse = gemini_client(json.dumps(body).encode(), "application/json").generate_content(model="m", contents="x")
    assert whole.candidates
    assert whole.candidates[0].content

    def said(found: list[types.GenerateContentResponse]) -> tuple[str, str, list[Any]]:
        parts = [part for piece in found for c in piece.candidates or [] if c.content for part in c.content.parts or []]
        texts = ["".join(part.text or "" for part in parts if bool(part.thought) is thought) for thought in (False, True)]
        return texts[0], texts[1], [part for part in parts if part.text is None or part.thought_signature is not None]

    assert said(pieces) == said([whole])
    assert pieces[-1].usage_metadata == whole.usage_metadata
    assert pieces[-1].candidates
    last = pieces[-1].candidates[0]
    assert last.model_copy(update={"content": None}) == whole.candidates[0].model_copy(update={"content": None})
    assert {(piece.response_id, piece.model_version) for piece in pieces} == {(whole.response_id, whole.model_version)}


LEGACY: Object = {
    "id": "cmpl-1", "object": "text_completion", "created": 5, "model": "m", "system_fingerprint": "fp",
    "choices": [
        {"index": 0, "text": "Once upon a time, é😀.", "logprobs": None, "finish_reason": "length"},
        {"index": 1, "text": "", "logprobs": None, "finish_reason": "stop"},
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}  # fmt: skip


@sizes
@pytest.mark.parametrize("usage", [False, True])
def test_the_client_takes_a_legacy_completion_that_is_told(chars: int | None, usage: bool) -> None:
    stream = told(CHAT, LEGACY, chars, Operation.COMPLETIONS, usage=usage)
    chunks = list(openai_client(stream).completions.create(model="m", prompt="x", stream=True))
    assert {(chunk.id, chunk.object, chunk.created, chunk.model, chunk.system_fingerprint) for chunk in chunks} == {
        ("cmpl-1", "text_completion", 5, "m", "fp")
    }
    for wanted in LEGACY["choices"]:
        mine = [choice for chunk in chunks for choice in chunk.choices if choice.index == wanted["index"]]
        assert "".join(choice.text for choice in mine) == wanted["text"]
        assert [choice.finish_reason for choice in mine if choice.finish_reason is not None] == [wanted["finish_reason"]]
        assert mine[-1].finish_reason is not None
    assert [chunk.usage.to_dict() for chunk in chunks if chunk.usage is not None] == ([LEGACY["usage"]] if usage else [])
