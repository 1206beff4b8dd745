"""The bytes that go to a provider: law 8 for requests, and what the four exceptions change."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.exchange.compose_request import edit_body, upstream_request, whole_request
from penstock.exchange.contract import ClientRequest, Headers
from penstock.exchange.plan import Plan
from penstock.protocols import REGISTRY
from penstock.protocols.contract import Peek
from penstock.providers import KINDS
from penstock.routing import Endpoint
from penstock.vocabulary.ids import Operation, ProtocolId
from tests.support.exchanges import providers
from tests.support.relays import OPERATIONS

CHAT = Endpoint(ProtocolId.OPENAI_CHAT, Operation.CHAT, "/v1/chat/completions", "peek")
SPEC = REGISTRY[ProtocolId.OPENAI_CHAT]
OPENAI = providers()["openai"]


def request(headers: Headers | None = None, method: str = "POST", length: int | None = None, chunked: bool = False) -> ClientRequest:
    return ClientRequest(method, "/v1/chat/completions", "", headers or [], length, chunked, local=True)


def plan(headers: Headers | None = None, query: str = "", endpoint: Endpoint = CHAT) -> Plan:
    return Plan(REGISTRY, endpoint, headers or [], query)


def parts(rest: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    head, _, body = rest.partition(b"\r\n\r\n")
    return [(line.partition(b": ")[0], line.partition(b": ")[2]) for line in head.split(b"\r\n")], body


MESSAGES = st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=5)), max_size=2)
MORE = {"temperature": st.floats(0, 2), "x": st.integers()}
BODIES = st.fixed_dictionaries({"model": st.text(min_size=1, max_size=5), "messages": MESSAGES}, optional=MORE)


@pytest.mark.parametrize("protocol", REGISTRY)
@given(body=BODIES, indent=st.sampled_from([None, 1]), stream=st.booleans(), asked=st.booleans())
def test_a_body_in_which_nothing_is_to_be_changed_is_the_clients(
    protocol: ProtocolId, body: Any, indent: int | None, stream: bool, asked: bool
) -> None:
    raw = json.dumps({**body, "stream": stream}, indent=indent).encode()
    endpoint = Endpoint(protocol, OPERATIONS[protocol], "/v1/x", "peek")
    for model in (None, body["model"]):
        path, sent, taken = edit_body(REGISTRY[protocol], endpoint, Peek(body["model"], stream, asked), model, "/v1/x", raw, ask_usage=False)
        assert sent is raw
        assert (path, taken) == ("/v1/x", False)


@given(body=BODIES, model=st.text(min_size=1, max_size=5))
def test_a_rename_changes_one_value(body: Any, model: str) -> None:
    raw = json.dumps(body, indent=1).encode()
    _, sent, _ = edit_body(SPEC, CHAT, Peek(body["model"], stream=False), model, CHAT.path, raw, ask_usage=True)
    assert json.loads(sent) == {**body, "model": model}
    old, new = (b'"model": ' + spelled for spelled in (json.dumps(body["model"]).encode(), json.dumps(model, ensure_ascii=False).encode()))
    assert model == body["model"] or sent == raw.replace(old, new, 1)


@pytest.mark.parametrize(
    ("peek", "asks", "taken"),
    [
        (Peek("m", stream=True, usage_asked=False), True, True),
        (Peek("m", stream=True, usage_asked=True), True, False),
        (Peek("m", stream=False, usage_asked=False), True, False),
        (Peek("m", stream=True, usage_asked=False), False, False),
    ],
)
def test_usage_is_asked_for_where_a_stream_would_not_tell_it(peek: Peek, asks: bool, taken: bool) -> None:
    raw = b'{"model":"m", "stream":true}'
    _, sent, took = edit_body(SPEC, CHAT, peek, None, CHAT.path, raw, ask_usage=asks)
    assert took is taken
    assert (json.loads(sent).get("stream_options") == {"include_usage": True}) is taken
    assert sent.endswith(b'"model":"m", "stream":true}')


def test_a_protocol_that_always_tells_usage_is_never_asked() -> None:
    for protocol in (ProtocolId.OPENAI_RESPONSES, ProtocolId.ANTHROPIC_MESSAGES, ProtocolId.GEMINI):
        endpoint = Endpoint(protocol, OPERATIONS[protocol], "/v1/x", "peek")
        assert edit_body(REGISTRY[protocol], endpoint, Peek("m", stream=True, usage_asked=False), None, "/v1/x", b"{}", ask_usage=True) == (
            "/v1/x",
            b"{}",
            False,
        )


def test_method_target_and_lines() -> None:
    headers = [
        (b"Content-Type", b"application/json"),
        (b"X-Stainless-Lang", b"python"),
        (b"Authorization", b"Bearer theirs"),
        (b"cookie", b"c"),
        (b"openai-organization", b"o"),
    ]
    method, target, rest = upstream_request(plan(headers, "a=1"), OPENAI, request(headers, length=2), CHAT.path, b"{}")
    assert (method, target) == (b"POST", b"/v1/chat/completions?a=1")
    lines, body = parts(rest)
    assert body == b"{}"
    assert lines[0] == (b"Host", b"api.openai.com")
    assert lines[1:4] == [(b"Content-Type", b"application/json"), (b"X-Stainless-Lang", b"python"), (b"openai-organization", b"o")]
    assert (b"Authorization", b"Bearer house-openai") in lines
    assert b"theirs" not in rest
    assert lines[-2:] == [(b"Content-Length", b"2"), (b"Accept-Encoding", b"identity")]


@pytest.mark.parametrize("kind", KINDS)
@given(names=st.lists(st.sampled_from(["Host", "content-length", "Transfer-Encoding", "accept-encoding", "Connection", "X-A", "x-a"]), max_size=6))
def test_framing_is_ours_and_said_once(kind: str, names: list[str]) -> None:
    headers = [(name.encode(), b"7" if name.lower() == "content-length" else b"x") for name in names]
    provider = providers()[kind]
    _, _, rest = upstream_request(plan(headers), provider, request(headers, length=2), CHAT.path, b"{}")
    lines, _ = parts(rest)
    said = [name.lower() for name, _ in lines]
    assert [said.count(name) for name in (b"host", b"content-length", b"accept-encoding", b"transfer-encoding", b"connection")] == [1, 1, 1, 0, 0]
    assert said.count(b"x-a") == sum(name.lower() == "x-a" for name in names)


@pytest.mark.parametrize(
    ("method", "length", "chunked", "body", "framing"),
    [
        ("POST", 2, False, b"{}", b"Content-Length: 2"),
        ("POST", None, True, b"{}", b"Content-Length: 2"),  # read whole, sent whole
        ("POST", 0, False, b"", b"Content-Length: 0"),
        ("POST", None, False, b"", b"Content-Length: 0"),
        ("GET", None, False, b"", None),
        ("GET", 0, False, b"", b"Content-Length: 0"),
        ("DELETE", None, False, b"", None),
        ("HEAD", None, False, b"", None),
        ("POST", 9, False, None, b"Content-Length: 9"),  # sent as it comes
        ("POST", None, True, None, b"Transfer-Encoding: chunked"),
    ],
)
def test_framing(method: str, length: int | None, chunked: bool, body: bytes | None, framing: bytes | None) -> None:
    asked = request(method=method, length=length, chunked=chunked)
    made = [upstream_request(plan(), OPENAI, asked, CHAT.path, body)]
    if body is not None:
        made.append(whole_request(asked, plan().sent_to(OPENAI), body))
    for *_, rest in made:
        found = [line for line in rest.split(b"\r\n\r\n")[0].split(b"\r\n") if line.lower().startswith((b"content-length", b"transfer-encoding"))]
        assert found == ([] if framing is None else [framing])
        assert rest.endswith(b"\r\n\r\n" + (body or b""))


def test_what_stands_below_a_providers_name_goes_verbatim() -> None:
    endpoint = Endpoint(ProtocolId.OPENAI_CHAT, Operation.OTHER, "/v1/any%20thing", "none", provider="openai", verbatim=True)
    _, target, _ = upstream_request(plan([], "q=%2F&r", endpoint), OPENAI, request(method="GET"), "/v1/any%20thing", b"")
    assert target == b"/v1/any%20thing?q=%2F&r"
