"""Law 6: `assemble(unfold(body)) == body`, over generated bodies with unknown fields and over the corpus; and the official SDK reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai import OpenAI

from penstock.protocols.contract import TERMINAL, BodyError
from penstock.protocols.openai_responses.assemble import ResponsesAssembler
from penstock.protocols.openai_responses.observe import ResponsesObserver
from penstock.protocols.openai_responses.unfold import unfold
from penstock.vocabulary.ids import Operation
from penstock.wire.sse import parse

CORPUS = Path(__file__).parents[2] / "corpus" / "openai_responses"
RECORDINGS = sorted(CORPUS.glob("*.sse"))


def final(path: Path) -> bytes:
    assembler = ResponsesAssembler()
    for part in path.read_bytes().split(b"\n\n"):
        name, data = parse(part)
        if data is not None:
            assembler.feed(name, data)
    return assembler.body()


def told(body: bytes) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    for frame in unfold(Operation.RESPONSES, body):
        name, data = parse(frame)
        assert data is not None
        assert frame.endswith(b"\n\n")
        assert b"\n\n" not in frame[:-2]
        found.append((name, data))
    return found


def check(body: bytes) -> list[dict[str, Any]]:
    """The law, and what each unfolded stream must be."""
    stream = told(body)
    assembler, observer = ResponsesAssembler(), ResponsesObserver()
    for index, (name, data) in enumerate(stream):
        assembler.feed(name, data)
        assert bool(observer.observe(name, data, 0.0) & TERMINAL) == (index == len(stream) - 1)
    assert json.loads(assembler.body()) == json.loads(body)
    assert (observer.unknown, observer.malformed, observer.tools) == (0, 0, {})
    events: list[dict[str, Any]] = [json.loads(data) for _, data in stream]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"].encode() for event in events] == [name for name, _ in stream]
    return events


def deltas(events: list[dict[str, Any]], kind: str) -> dict[tuple[int, int], str]:
    joined: dict[tuple[int, int], str] = {}
    for event in events:
        if event["type"] == kind:
            place = (event["output_index"], event.get("content_index", event.get("summary_index", 0)))
            joined[place] = joined.get(place, "") + event["delta"]
    return joined


# Law 6.

UNKNOWN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
EXTRA = st.dictionaries(st.text(min_size=1, max_size=5).map(lambda key: f"x_{key}"), UNKNOWN, max_size=2)


def items(kind: str, fixed: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    optional: dict[str, Any] = {"id": st.text(), "status": st.just("completed")}
    known: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries({"type": st.just(kind), **fixed}, optional=optional)
    return st.tuples(known, EXTRA).map(lambda both: {**both[1], **both[0]})


TEXT_PART = items("output_text", {"text": st.text(), "annotations": st.lists(EXTRA, max_size=1)})
REFUSAL_PART = items("refusal", {"refusal": st.text()})
OUTPUT = st.lists(
    items("message", {"role": st.just("assistant"), "content": st.lists(TEXT_PART | REFUSAL_PART | EXTRA, max_size=3)})
    | items("reasoning", {"summary": st.lists(items("summary_text", {"text": st.text()}), max_size=2)})
    | items("reasoning", {"summary": st.just([]), "content": st.lists(items("reasoning_text", {"text": st.text()}), max_size=2)})
    | items("function_call", {"call_id": st.text(), "name": st.text(), "arguments": st.text()})
    | items("custom_tool_call", {"call_id": st.text(), "name": st.text(), "input": st.text()})
    | items("mcp_call", {"name": st.text(), "arguments": st.text(), "output": UNKNOWN, "error": st.none() | EXTRA})
    | items("code_interpreter_call", {"code": st.none() | st.text(), "outputs": UNKNOWN})
    | items("web_search_call", {"action": UNKNOWN})
    | items("image_generation_call", {"result": st.text()})
    | items("compaction", {"encrypted_content": st.text()})
    | items("message", {"content": UNKNOWN})
    | items("some_new_call", {"arguments": UNKNOWN}),
    max_size=3,
)
MEMBERS: dict[str, Any] = {"id": st.text(), "object": st.just("response"), "output": OUTPUT}
OPTIONAL: dict[str, Any] = {"model": st.text(), "usage": UNKNOWN, "created_at": st.integers(0, 2**40), "completed_at": st.integers(0, 2**40)}
ENDS: list[dict[str, Any]] = [{"status": "completed"}, {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, {}]


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    known: dict[str, Any] = draw(st.fixed_dictionaries(MEMBERS, optional=OPTIONAL))
    return {**draw(EXTRA), **known, **draw(st.sampled_from(ENDS))}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(bodies(), st.sampled_from([None, 2]), st.booleans())
def test_assemble_undoes_unfold(body: dict[str, Any], indent: int | None, ascii_only: bool) -> None:
    events = check(json.dumps(body, indent=indent, ensure_ascii=ascii_only).encode())
    for index, item in enumerate(body["output"]):
        if item.get("type") == "message" and isinstance(item["content"], list):
            for part, content in enumerate(cast("list[Any]", item["content"])):
                if isinstance(content, dict) and cast("dict[str, Any]", content).get("type") == "output_text" and "text" in content:
                    assert deltas(events, "response.output_text.delta").get((index, part), "") == content["text"]
        if item.get("type") == "function_call":
            assert deltas(events, "response.function_call_arguments.delta").get((index, 0), "") == item["arguments"]


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_corpus_bodies(path: Path) -> None:
    body = final(path)
    events = check(body)
    recorded = [json.loads(data) for _, data in (parse(part) for part in path.read_bytes().split(b"\n\n")) if data is not None]
    for kind in ("response.output_text.delta", "response.reasoning_summary_text.delta", "response.function_call_arguments.delta"):
        assert deltas(events, kind) == deltas(recorded, kind)
    # Our order of event kinds is theirs, repeated deltas taken as one (`queued` only comes from background mode).
    ours, theirs = ([event["type"] for event in stream if event["type"] != "response.queued"] for stream in (events, recorded))
    assert list(dict.fromkeys(ours)) == list(dict.fromkeys(theirs))


def test_numbers_beyond_64_bits_and_half_surrogates() -> None:
    body = rb'{"id":"r","n":123456789012345678901234567890,"output":[{"type":"message","big":99999999999999999999999,"content":[]}]}'
    check(body)
    check(rb'{"id":"r","output":[{"type":"message","content":[{"type":"output_text","text":"a\ud83d b"}]}]}')


def test_failed_body_ends_failed() -> None:
    stream = told(b'{"id":"r","status":"failed","error":{"code":"c","message":"m"},"output":[]}')
    assert [name for name, _ in stream] == [b"response.created", b"response.in_progress", b"response.failed"]
    assert json.loads(stream[0][1])["response"]["error"] is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'{"id":"r","status":"in_progress","output":[]}',
        b'{"id":"r","status":"queued"}',
        b'{"id":"r","status":"cancelled"}',
        b'{"object":"list","data":[]}',
        b'{"id":"r","output":{}}',
        b'{"id":"r","output":["x"]}',
        b'{"id":' + b"[" * 100_000,
    ],
)
def test_what_cannot_be_unfolded_says_so_at_once(body: bytes) -> None:
    with pytest.raises(BodyError):
        unfold(Operation.RESPONSES, body)


# The official SDK.


def client(stream: bytes) -> OpenAI:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=stream)

    return OpenAI(api_key="x", base_url="http://test/v1", http_client=httpx2.Client(transport=httpx2.MockTransport(answer)), max_retries=0)


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_the_sdk_accumulates_what_is_unfolded(path: Path) -> None:
    body = final(path)
    expected: dict[str, Any] = json.loads(body)
    with client(b"".join(unfold(Operation.RESPONSES, body))).responses.stream(model="m", input="x") as stream:
        snapshots = [event.snapshot for event in stream if event.type == "response.output_text.delta"]
        response = stream.get_final_response()
    assert response.id == expected["id"]
    texts = ["".join(part["text"] for part in item["content"]) for item in expected["output"] if item["type"] == "message"]
    assert response.output_text == "".join(texts)
    assert not texts or snapshots[-1] == texts[-1]
    assert [item.type for item in response.output] == [item["type"] for item in expected["output"]]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(min_size=1), min_size=1, max_size=3), st.text(), st.text())
def test_the_sdk_accumulates_any_text(texts: list[str], refusal: str, arguments: str) -> None:
    content: list[dict[str, Any]] = [{"type": "output_text", "text": text, "annotations": [], "logprobs": []} for text in texts]
    content.append({"type": "refusal", "refusal": refusal})
    output: list[dict[str, Any]] = [
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": refusal}], "content": []},
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content},
        {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": arguments, "status": "completed"},
    ]
    body = {"id": "resp_1", "object": "response", "status": "completed", "model": "m", "created_at": 1, "output": output, "tools": []}
    with client(b"".join(unfold(Operation.RESPONSES, json.dumps(body).encode()))).responses.stream(model="m", input="x") as stream:
        events = list(stream)
        response = stream.get_final_response()
    assert response.output_text == "".join(texts)
    call = [event.snapshot for event in events if event.type == "response.function_call_arguments.delta"]
    assert not call or call[-1] == arguments
