"""The same request asked the other way, for every protocol: what changes, what does not, and what is left alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.protocols import REGISTRY
from penstock.protocols.contract import ProtocolSpec
from penstock.vocabulary.ids import Operation, ProtocolId
from tests.support.relays import OPERATIONS

CHAT, RESPONSES, MESSAGES, GEMINI = (
    REGISTRY[p] for p in (ProtocolId.OPENAI_CHAT, ProtocolId.OPENAI_RESPONSES, ProtocolId.ANTHROPIC_MESSAGES, ProtocolId.GEMINI)
)
IN_BODY = pytest.mark.parametrize("spec", [CHAT, RESPONSES, MESSAGES], ids=lambda spec: spec.id.value)
NAMES = st.text(max_size=4) | st.sampled_from(["stream", "stream_options"])
OPTIONS: list[Any] = [None, {}, {"include_usage": True}]
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
LAYOUTS = st.sampled_from([{"separators": (",", ":")}, {"indent": 1}, {"ensure_ascii": False}, {"separators": (" ,\r\n", " : ")}])
PATH = "/v1/any"


def asked(spec: ProtocolSpec, body: bytes, *, stream: bool, usage: bool = True, path: str = PATH, operation: Operation | None = None) -> bytes | None:
    ask = spec.ask_stream if stream else spec.ask_whole
    found = ask(operation or OPERATIONS[spec.id], path, "a=b", body, usage=usage)
    if found is None:
        return None
    assert found[:2] == (path, "a=b")
    return found[2]


FIELDS = st.dictionaries(st.text(max_size=5).filter(lambda name: name != "model"), VALUES, max_size=4)


def wire(value: Any) -> bytes:
    return json.dumps(value).encode()


@IN_BODY
@given(
    fields=FIELDS, layout=LAYOUTS, stated=st.sampled_from([{}, {"stream": False}, {"stream": None}])
)  # fmt: skip
def test_a_stream_is_asked_for_and_nothing_else_changes(spec: ProtocolSpec, fields: dict[str, Any], layout: dict[str, Any], stated: Any) -> None:
    fields = {"model": "m", **fields, **stated}
    body = json.dumps(fields, **layout).encode()
    asking = asked(spec, body, stream=True)
    assert asking is not None
    usage = {"stream_options": {"include_usage": True}} if spec is CHAT else {}
    assert json.loads(asking) == {**fields, "stream": True, **usage}
    peek = spec.peek(OPERATIONS[spec.id], PATH, "", asking)
    assert (peek.stream, peek.usage_asked, peek.model) == (True, True, "m")
    only = asked(spec, body, stream=True, usage=False)
    assert only is not None
    if stated:
        field = b"false" if stated["stream"] is False else b"null"
        assert len(only) == len(body) - len(field) + 4
    else:
        assert only == body.replace(b"{", b'{"stream":true,', 1)


@IN_BODY
@given(
    fields=FIELDS, layout=LAYOUTS, first=st.booleans(),
    options=st.sampled_from(OPTIONS),
)  # fmt: skip
def test_a_body_is_asked_for(spec: ProtocolSpec, fields: dict[str, Any], layout: dict[str, Any], first: bool, options: Any) -> None:
    flags = {"stream": True} | ({} if options is None else {"stream_options": options})
    fields = {**flags, "model": "m", **fields} if first else {"model": "m", **fields, **flags}
    asking = asked(spec, json.dumps(fields, **layout).encode(), stream=False)
    assert asking is not None
    wanted = {**fields, "stream": False}
    if spec is not MESSAGES:
        wanted.pop("stream_options", None)
    assert json.loads(asking) == wanted
    assert not spec.peek(OPERATIONS[spec.id], PATH, "", asking).stream


@IN_BODY
def test_there_and_back_is_the_same_request(spec: ProtocolSpec) -> None:
    body = b'{"model": "m" , "stream":false, "x": [1.50, "\\u00e4"]}'
    there = asked(spec, body, stream=True)
    assert there is not None
    assert asked(spec, there, stream=False) == body


@IN_BODY
@pytest.mark.parametrize("stated", ["true", 1, [], {}])
def test_an_odd_flag_is_the_provider_s_to_judge(spec: ProtocolSpec, stated: Any) -> None:
    for stream in (True, False):
        assert asked(spec, wire({"model": "m", "stream": stated}), stream=stream) is None


@pytest.mark.parametrize("spec", REGISTRY.values(), ids=lambda spec: spec.id.value)
@pytest.mark.parametrize("operation", [o for o in Operation if o not in {*OPERATIONS.values(), Operation.COMPLETIONS}])
def test_other_operations_are_left_alone(spec: ProtocolSpec, operation: Operation) -> None:
    for ask in (spec.ask_stream, spec.ask_whole):
        assert ask(operation, "/v1beta/models/m:generateContent", "", b'{"model":"m"}') is None


@pytest.mark.parametrize(("fields", "operation", "may"), [
    ({"best_of": 2}, Operation.COMPLETIONS, False), ({"best_of": 1}, Operation.COMPLETIONS, True), ({"prompt": "x"}, Operation.COMPLETIONS, True),
    ({"audio": {"format": "wav", "voice": "v"}}, Operation.CHAT, False), ({"audio": {"format": "pcm16"}}, Operation.CHAT, True),
    ({"audio": None}, Operation.CHAT, True),
])  # fmt: skip
def test_what_cannot_be_streamed_is_left_alone(fields: Any, operation: Operation, may: bool) -> None:
    assert (asked(CHAT, wire({"model": "m", **fields}), stream=True, operation=operation) is not None) is may


def test_background_and_compacted_responses_are_left_alone() -> None:
    for stream in (True, False):
        assert asked(RESPONSES, b'{"model":"m","background":true,"stream":true}', stream=stream) is None
        assert asked(RESPONSES, b'{"model":"m"}', stream=stream, path="/v1/responses/compact") is None
        assert asked(RESPONSES, b'{"model":"m","background":false}', stream=stream) is not None


def test_chat_keeps_what_the_options_say_besides() -> None:
    asking = asked(CHAT, b'{"model":"m","stream_options":{"include_obfuscation":false}}', stream=True)
    assert asking is not None
    assert json.loads(asking)["stream_options"] == {"include_obfuscation": False, "include_usage": True}


WHOLE, STREAM = "/v1beta/models/gemini-x:generateContent", "/v1beta/models/gemini-x:streamGenerateContent"


@pytest.mark.parametrize(("query", "asking"), [
    ("", "alt=sse"), ("key=k%20", "key=k%20&alt=sse"), ("alt=json&key=k", "alt=sse&key=k"), ("%24alt=json", "%24alt=sse"), ("alt=SSE", "alt=sse"),
    ("a=1&&b", "a=1&&b&alt=sse"),
])  # fmt: skip
def test_gemini_says_it_in_path_and_query(query: str, asking: str) -> None:
    body = b'{"contents": [] }'
    assert GEMINI.ask_stream(Operation.GENERATE, WHOLE, query, body) == (STREAM, asking, body)
    assert GEMINI.array_asked is not None
    assert not GEMINI.array_asked(asking)
    assert GEMINI.peek(Operation.GENERATE, STREAM, asking, body).stream


@pytest.mark.parametrize(("query", "asking"), [
    ("alt=sse", ""), ("key=k&alt=sse", "key=k"), ("alt=sse&key=%24", "key=%24"), ("", ""), ("alt=json", "alt=json"), ("%24alt=SSE&b", "b"),
])  # fmt: skip
def test_gemini_asked_whole(query: str, asking: str) -> None:
    assert GEMINI.ask_whole(Operation.GENERATE, STREAM, query, b"{}") == (WHOLE, asking, b"{}")


def test_gemini_paths_keep_their_spelling() -> None:
    path = "/v1/projects/p/locations/l/publishers/google/models/a%2Fb%3AgenerateContent"
    there = GEMINI.ask_stream(Operation.GENERATE, path, "", b"{}")
    assert there is not None
    assert there[0] == path.replace("%3Ag", "%3AstreamG")
    assert GEMINI.ask_whole(Operation.GENERATE, *there) == (path, "", b"{}")


@pytest.mark.parametrize(("path", "query", "body"), [
    ("/v1beta/models/m:countTokens", "", b"{}"), ("/v1beta/models", "", b"{}"), (STREAM, "", b"{}"), (WHOLE, "alt=proto", b"{}"),
    (WHOLE, "", b'{"generationConfig":{"responseModalities":["AUDIO"]}}'), (WHOLE, "", b'{"generation_config":{"response_modalities":["audio"]}}'),
])  # fmt: skip
def test_what_gemini_cannot_stream_is_left_alone(path: str, query: str, body: bytes) -> None:
    assert GEMINI.ask_stream(Operation.GENERATE, path, query, body) is None


def test_gemini_texts_and_pictures_are_streamed() -> None:
    for body in (b'{"generationConfig":{"responseModalities":["TEXT","IMAGE"]}}', b'{"generationConfig":null}', b'{"generationConfig":{}}'):
        assert GEMINI.ask_stream(Operation.GENERATE, WHOLE, "", body) is not None
