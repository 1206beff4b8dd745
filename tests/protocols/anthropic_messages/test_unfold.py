"""Law 6, `assemble(unfold(body)) == body`, and that the official SDK reads the unfolded stream as the body."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.protocols.anthropic_messages import SPEC
from penstock.protocols.contract import CONTENT, TERMINAL, BodyError
from penstock.vocabulary.ids import Operation
from penstock.wire.sse import parse

CORPUS = Path(__file__).parents[2] / "corpus" / "anthropic_messages"
RECORDINGS = sorted(CORPUS.glob("*.sse"))
NAMES = [path.stem for path in RECORDINGS]

Object = dict[str, Any]


def assemble(frames: list[bytes]) -> bytes:
    assembler = SPEC.assembler(Operation.MESSAGES)
    for frame in frames:
        name, data = parse(frame)
        if data is not None:
            assembler.feed(name, data)
    return assembler.body()


def recorded(path: Path) -> bytes:
    return assemble([part + b"\n\n" for part in path.read_bytes().split(b"\n\n")])


def unfold(body: bytes) -> list[bytes]:
    return list(SPEC.unfold(Operation.MESSAGES, body))


def hold(body: object) -> list[bytes]:
    """Law 6 for `body`, pretty-printed and not, in ASCII and not; and every frame is one line of data under its own type's name."""
    frames: list[bytes] = []
    for text in (json.dumps(body, ensure_ascii=True), json.dumps(body, indent=2, ensure_ascii=False)):
        try:
            encoded = text.encode()
        except UnicodeEncodeError:
            continue
        frames = unfold(encoded)
        assert json.loads(assemble(frames)) == body
        for frame in frames:
            assert frame.endswith(b"\n\n")
            assert frame.count(b"\n") == 3
            name, data = parse(frame)
            assert json.loads(data or b"")["type"] == name.decode()
    return frames


# Law 6.

KEYS = st.text(max_size=5) | st.sampled_from(["type", "index", "delta", "input", "text", "citations"])
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
PROSE = st.text(st.sampled_from("ab  \n\t\u2028é😀\"\\"), max_size=20)
HALVES = st.text(st.characters(categories=["Cs", "Ll"]), max_size=3)
COUNTS = st.none() | st.integers(0, 10**6)


@st.composite
def some_of(draw: st.DrawFn, fields: dict[str, st.SearchStrategy[Any]], required: dict[str, st.SearchStrategy[Any]] | None = None) -> Object:
    """An object with the required fields, some of the others (each with its own kind of value or any), and some that nobody knows."""
    found: Object = {key: draw(values) for key, values in (required or {}).items()}
    for key, values in fields.items():
        kind = draw(st.sampled_from(["absent", "own", "own", "null", "odd"]))
        if kind != "absent":
            found[key] = draw(values) if kind == "own" else None if kind == "null" else draw(JSON)
    return draw(st.dictionaries(st.text("xyz", min_size=1, max_size=3), JSON, max_size=2)) | found


def blocks() -> st.SearchStrategy[Any]:
    inputs = st.dictionaries(st.text(max_size=4), JSON, max_size=3)
    return (
        some_of({"citations": st.lists(JSON, max_size=3)}, {"type": st.just("text"), "text": PROSE | HALVES})
        | some_of({"text": PROSE, "citations": JSON}, {"type": st.just("text")})
        | some_of({"signature": st.text(max_size=4)}, {"type": st.just("thinking"), "thinking": PROSE})
        | some_of({"thinking": PROSE, "signature": JSON}, {"type": st.just("thinking")})
        | some_of({"input": inputs}, {"type": st.sampled_from(["tool_use", "server_tool_use", "mcp_tool_use"]), "id": st.text(max_size=3)})
        | some_of({"content": PROSE, "encrypted_content": PROSE}, {"type": st.just("compaction")})
        | some_of({"to": some_of({"model": st.sampled_from(["m", "n"])})}, {"type": st.just("fallback")})
        | some_of({"content": JSON, "data": JSON}, {"type": st.sampled_from(["redacted_thinking", "web_search_tool_result", "hologram"])})
        | JSON
    )


USAGE: dict[str, st.SearchStrategy[Any]] = {
    "input_tokens": COUNTS,
    "output_tokens": COUNTS,
    "cache_creation_input_tokens": COUNTS,
    "cache_creation": JSON,
    "server_tool_use": st.dictionaries(st.text(max_size=3), COUNTS, max_size=2),
    "output_tokens_details": JSON,
    "iterations": st.lists(JSON, max_size=2),
    "service_tier": st.just("standard"),
}
MESSAGE: dict[str, st.SearchStrategy[Any]] = {
    "id": st.text(max_size=4),
    "type": st.just("message"),
    "model": st.sampled_from(["m", "n"]),
    "content": st.lists(blocks(), max_size=4),
    "stop_reason": st.sampled_from(["end_turn", "tool_use"]),
    "stop_sequence": st.text(max_size=3),
    "stop_details": JSON,
    "container": JSON,
    "context_management": JSON,
    "input_transformations": JSON,
    "usage": some_of(USAGE),
}


@given(body=some_of(MESSAGE))
def test_unfolding_loses_nothing(body: Object) -> None:
    if body.get("type") != "error":
        hold({"content": [], **body})


@given(body=st.dictionaries(KEYS, JSON, max_size=4))
def test_any_object_with_a_content_comes_back(body: Object) -> None:
    if body.get("type") != "error":
        hold({"content": [], **body})


HOP: Object = {"type": "fallback", "from": {"model": "m"}, "to": {"model": "n"}}


@pytest.mark.parametrize(
    "body",
    [
        {"model": "n", "content": [HOP]},
        {"model": "m", "content": [HOP, {"type": "text", "text": "a"}]},
        {"model": None, "content": [HOP]},
        {"content": [HOP]},
        {"model": "o", "content": [HOP, {"type": "fallback", "to": {"model": "o"}}, {"type": "fallback", "to": 5}]},
        {"\ud800": {"a": [1]}, "content": [{"type": "\ud800", "x": "\ud800"}], "usage": {"\udfff": 1}},
        {"content": "text", "usage": 5, "stop_reason": {"a": 1}},
        {"content": None, "usage": None, "container": None, "context_management": None},
    ],
)
def test_odd_messages_come_back(body: Object) -> None:
    hold(body)


@pytest.mark.parametrize("path", RECORDINGS, ids=NAMES)
def test_recorded_messages_come_back(path: Path) -> None:
    hold(json.loads(recorded(path)))


def test_values_keep_their_spelling() -> None:
    call = b'{"type":"tool_use","input":{"n":1.50,"big":123456789012345678901234567890,"e":"\\u00e9"}}'
    body = b'{"id":"m","type":"message","content":[%b],"x":1E400}' % call
    assert assemble(unfold(body)) == body


# The stream's own form.


def read(frame: bytes) -> Object:
    return json.loads(parse(frame)[1] or b"")


def test_the_frames_are_those_that_the_provider_sends() -> None:
    body: Object = {
        "id": "m1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [
            {"type": "thinking", "thinking": "Let me", "signature": "s"},
            {"type": "text", "text": "Hi  you\n", "citations": [{"n": 1}]},
            {"type": "tool_use", "id": "t", "name": "n", "input": {"a": [1, 2, 3, 4, 5, 6, 7, 8, 9]}},
            {"type": "web_search_tool_result", "tool_use_id": "t", "content": []},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "container": {"id": "c"},
        "context_management": {"applied_edits": []},
        "usage": {"input_tokens": 3, "output_tokens": 9, "service_tier": "standard", "server_tool_use": {"web_search_requests": 1}},
    }
    events = [read(frame) for frame in hold(body)]
    started = {key: value for key, value in body.items() if key not in ("container", "context_management")}
    usage = {"input_tokens": 3, "output_tokens": 0, "service_tier": "standard"}
    assert events[0] == {"type": "message_start", "message": started | {"content": [], "stop_reason": None, "usage": usage}}
    assert [event["content_block"] for event in events if event["type"] == "content_block_start"] == [
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "text", "text": "", "citations": []},
        {"type": "tool_use", "id": "t", "name": "n", "input": {}},
        {"type": "web_search_tool_result", "tool_use_id": "t", "content": []},
    ]
    assert [(event["index"], event["delta"]) for event in events if event["type"] == "content_block_delta"] == [
        (0, {"type": "thinking_delta", "thinking": "Let"}),
        (0, {"type": "thinking_delta", "thinking": " me"}),
        (0, {"type": "signature_delta", "signature": "s"}),
        (1, {"type": "citations_delta", "citation": {"n": 1}}),
        (1, {"type": "text_delta", "text": "Hi"}),
        (1, {"type": "text_delta", "text": "  you"}),
        (1, {"type": "text_delta", "text": "\n"}),
        (2, {"type": "input_json_delta", "partial_json": ""}),
        (2, {"type": "input_json_delta", "partial_json": '{"a":[1,2,3,4,5,6,7,8,9]'}),
        (2, {"type": "input_json_delta", "partial_json": "}"}),
    ]
    assert events[-2] == {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None, "container": {"id": "c"}},
        "usage": {"input_tokens": 3, "output_tokens": 9, "server_tool_use": {"web_search_requests": 1}},
        "context_management": {"applied_edits": []},
    }
    assert events[-1] == {"type": "message_stop"}


@pytest.mark.parametrize("path", RECORDINGS, ids=NAMES)
def test_the_observer_reads_stream_and_body_alike(path: Path) -> None:
    body = recorded(path)
    streamed, whole = SPEC.observer(Operation.MESSAGES), SPEC.observer(Operation.MESSAGES)
    bits = [streamed.observe(name, data or b"", 0.0) for name, data in map(parse, unfold(body))]
    whole.observe_body(body)
    assert bits[-1] == TERMINAL
    assert any(bit & CONTENT for bit in bits)
    for attribute in ("response_id", "model", "stop_reason", "usage", "final_usage", "error"):
        assert getattr(streamed, attribute) == getattr(whole, attribute)


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("beta", [False, True], ids=["plain", "beta"])
@pytest.mark.parametrize("path", RECORDINGS, ids=NAMES)
def test_the_sdk_reads_the_unfolded_stream_as_the_recorded_one(path: Path, beta: bool) -> None:
    assert accumulate(b"".join(unfold(recorded(path))), beta) == accumulate(path.read_bytes(), beta)


def accumulate(raw: bytes, beta: bool) -> Object:
    """The final message of the SDK's stream helper, without the nulls of its models."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=raw)

    with httpx2.Client(transport=httpx2.MockTransport(answer)) as http:
        client = anthropic.Anthropic(api_key="none", base_url="http://upstream.test", http_client=http)
        if beta:
            with client.beta.messages.stream(model="m", max_tokens=1, messages=[{"role": "user", "content": "x"}]) as beta_stream:
                return beta_stream.get_final_message().to_dict(mode="json", exclude_none=True)
        with client.messages.stream(model="m", max_tokens=1, messages=[{"role": "user", "content": "x"}]) as stream:
            return stream.get_final_message().to_dict(mode="json", exclude_none=True)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"<html>", b'{"a":', b'{"a":"\xff"}', b'{"type":"error","error":{}}', b"[" * 5000])
def test_what_is_no_message_cannot_be_unfolded(body: bytes) -> None:
    with pytest.raises(BodyError):
        SPEC.unfold(Operation.MESSAGES, body)
