"""Errors in nobody's shape, told in the client's."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.pipeline.foreign import READ, may_be_foreign, words_of, wrap_foreign
from penstock.protocols import REGISTRY
from penstock.protocols.contract import ProtocolSpec
from penstock.vocabulary.errors import UpstreamError
from penstock.vocabulary.ids import Operation, ProtocolId

SPECS = pytest.mark.parametrize("spec", REGISTRY.values(), ids=lambda spec: spec.id.value)
CHAT = REGISTRY[ProtocolId.OPENAI_CHAT]
NGINX = b"""<html>\r
<head><title>502 Bad Gateway</title><style>h1 { color: red }</style></head>\r
<body><!-- a padding > to disable MSIE -->\r
<center><h1>502&nbsp;Bad Gateway</h1></center>\r
<script type="text/javascript">if (1 < 2 && 3 > 2) { alert("<b>") }</script>\r
<hr><center>nginx/1.27.0</center>\r
</body></html>"""


def seen(spec: ProtocolSpec, status: int, content_type: bytes, body: bytes) -> UpstreamError:
    wrapped = wrap_foreign(spec, status, content_type, body, "px-1")
    assert wrapped is not None
    assert b"px-1" in wrapped
    observer = spec.observer(Operation.CHAT)
    observer.observe_error(status, wrapped)
    assert observer.error is not None
    return observer.error


@SPECS
def test_a_page(spec: ProtocolSpec) -> None:
    error = seen(spec, 502, b"text/html; charset=utf-8", NGINX)
    assert error.message == "502 Bad Gateway 502 Bad Gateway nginx/1.27.0"
    assert (error.status, error.code) == (502, None)


OPENAI = "authentication_error permission_error invalid_request_error rate_limit_error server_error server_error"


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        (ProtocolId.OPENAI_CHAT, OPENAI),
        (ProtocolId.OPENAI_RESPONSES, OPENAI),
        (ProtocolId.ANTHROPIC_MESSAGES, "authentication_error permission_error not_found_error rate_limit_error api_error overloaded_error"),
        (ProtocolId.GEMINI, "UNAUTHENTICATED PERMISSION_DENIED NOT_FOUND RESOURCE_EXHAUSTED UNAVAILABLE UNAVAILABLE"),
    ],
)
def test_the_type_is_the_protocols_word_for_the_status(protocol: ProtocolId, words: str) -> None:
    assert [seen(REGISTRY[protocol], status, b"text/plain", b"no").type for status in (401, 403, 404, 429, 502, 529)] == words.split()


@SPECS
@pytest.mark.parametrize(
    ("status", "content_type", "body", "message"),
    [
        (503, b"text/plain", b"upstream connect error\n or disconnect", "upstream connect error or disconnect"),
        (504, b"", b"", "Gateway Timeout"),
        (529, b"text/html", b"<html></html>", "Overloaded"),
        (418, b"text/plain", b" \r\n ", "I'm a Teapot"),
        (599, b"", b"", "Status 599"),
        (500, b"", b"<!DOCTYPE html><title>Oops", "Oops"),
        (404, b"application/xml", b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", "NoSuchKey"),
        (400, b"text/plain", b"a < b and c > d", "a < b and c > d"),
        (500, b"application/json", b'{"cut": ', '{"cut":'),
        (429, b"application/json", b'"slow\\ndown"', "slow down"),
        (429, b"text/plain", b'"slow" "down"', '"slow" "down"'),
        (500, b"text/plain", b"\x1b[31mred\x00 \xff", "[31mred"),
    ],
)
def test_what_is_told(spec: ProtocolSpec, status: int, content_type: bytes, body: bytes, message: str) -> None:
    error = seen(spec, status, content_type, body)
    assert error.message == message
    assert error.status == status


def test_long_texts_are_shortened_and_secrets_masked() -> None:
    message = seen(CHAT, 500, b"text/plain", b"Incorrect API key provided: sk-proj-abcdefghijklmnop. " + b"word " * 1000).message
    assert message is not None
    assert len(message) <= 500
    assert message.endswith("\u2026")
    assert message.startswith("Incorrect API key provided: sk-proj-***")
    at_the_edge = seen(CHAT, 500, b"text/plain", b"x" * 490 + b" sk-proj-" + b"a1" * 40).message
    assert at_the_edge is not None
    assert "a1a1" not in at_the_edge, "what is cut is masked before"


@SPECS
@pytest.mark.parametrize("body", [b'{"detail":"Not Found"}', b'[{"error":{"code":1}}]', b'\xef\xbb\xbf {"error":"x"}\n', b"{}", b"[]"])
def test_json_passes_as_it_is(spec: ProtocolSpec, body: bytes) -> None:
    for content_type in (b"application/json", b"text/html", b""):
        assert wrap_foreign(spec, 500, content_type, body, "px-1") is None


def test_which_heads_need_a_look() -> None:
    for known in (b"application/json", b"application/json; charset=utf-8", b"application/problem+json"):
        assert not may_be_foreign(known)
    for strange in (b"", b"text/html", b"text/plain; x=/json", b"text/event-stream"):
        assert may_be_foreign(strange)


@pytest.mark.parametrize("piece", [b"<script>", b"<", b"<!--", b"&amp;", b"</", b"<style", b" ", b"&#x41", b"<!-- --><"])
def test_hostile_pages_cost_no_more_than_they_are_long(piece: bytes) -> None:
    """Nothing is looked for twice; what is beyond the limit is not looked at."""
    body = (piece * READ)[:READ] + b"hidden"
    wrapped = wrap_foreign(CHAT, 502, b"text/html", body, "px-1")
    assert wrapped is not None
    assert b"hidden" not in wrapped


@SPECS
@given(body=st.binary(max_size=200) | st.text(alphabet="<>!-/script &;a\n", max_size=80).map(str.encode), status=st.integers(400, 599))
def test_any_bytes(spec: ProtocolSpec, body: bytes, status: int) -> None:
    wrapped = wrap_foreign(spec, status, b"text/html", body, "px-1")
    assert isinstance(json.loads(body if wrapped is None else wrapped), dict | list)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html><title>502</title><h1>Bad Gateway</h1></html>", "502 Bad Gateway"),
        (b"no healthy upstream sk-abcdefghijklmnop1234567890", "no healthy upstream sk-***"),
        (b'{"detail":{"error":{"message":"x"}}}', "x"),
        (b'{"detail":[' + b'{"msg":"y"},' * 20 + b'"z"]}', "; ".join("y" * 8)),
        (b'{"error":null,"detail":" ","message":"m"}', "m"),
        (b'{"error":' * 900 + b"1" + b"}" * 900, None),
        (b'["a","b"]', "a; b"),
        (b"{}", None),
        (b"[]", None),
        (b" \r\n", None),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", None),
        ("ä".encode() * READ, "ä" * 499 + "\u2026"),
        (b"x" + "ä".encode() * READ, "x" + "ä" * 498 + "\u2026"),
    ],
)
def test_what_an_error_says_that_no_protocol_describes(body: bytes, words: str | None) -> None:
    assert words_of(body) == words
