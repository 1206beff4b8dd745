"""What goes upstream, and what comes down."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.providers import AnswerNames, Header, Kind, Provider, ProviderSettings, build
from penstock.providers.headers import Verdicts


def response_headers(headers: list[Header], extra: frozenset[bytes] = frozenset()) -> list[Header]:
    return AnswerNames([name for name, _ in headers], extra).headers(headers)


def upstream_request_id(headers: list[Header]) -> str | None:
    return AnswerNames([name for name, _ in headers]).request_id(headers)


def provider(kind: Kind = "openai", **settings: object) -> Provider:
    urls = {"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com", "gemini": "https://g.example"}
    return build(ProviderSettings(name="p", kind=kind, base_url=urls[kind],
        **settings))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


DROPPED = [
    b"Host", b"Connection", b"Keep-Alive", b"Content-Length", b"Transfer-Encoding", b"TE", b"Trailer", b"Upgrade", b"Expect", b"Cookie",
    b"Accept-Encoding",
    b"X-Forwarded-For", b"x-forwarded-proto", b"Forwarded", b"Via", b"X-Real-IP", b"Origin", b"Referer", b"Proxy-Authorization", b"Proxy-Connection",
    b"Sec-Fetch-Mode", b"sec-websocket-key", b"X-Penstock-Provider", b"x-penstock-token", b"CF-Connecting-IP", b"HTTP2-Settings",
]


@pytest.mark.parametrize("name", DROPPED)
@pytest.mark.parametrize("spell", [bytes.lower, bytes.upper, bytes])
def test_stays_in_the_house(name: bytes, spell: type[bytes]) -> None:
    sent, _ = provider().headers([(spell(name), b"v"), (b"Accept", b"*/*")], "")
    assert sent == [(b"Accept", b"*/*")]


def test_everything_else_passes_in_order_spelling_and_number() -> None:
    headers: list[Header] = [
        (b"User-Agent", b"x/1"), (b"anthropic-beta", b"a"), (b"ANTHROPIC-BETA", b"b"), (b"openai-organization", b"org"), (b"X-Stainless-Lang",
        b"python"),
        (b"Content-Type", b"application/json; charset=utf-8"), (b"x-unknown", b"\xff\xfe"), (b"Idempotency-Key", b"1"), (b"chatgpt-account-id",
        b"acc"),
        (b"Content-Encoding", b"zstd"), (b"Accept", b"text/event-stream"),
    ]
    assert provider().headers(headers, "a=1&b=%2F") == (headers, "a=1&b=%2F")


def test_names_that_connection_lists_are_hop_by_hop() -> None:
    headers: list[Header] = [(b"X-Mine", b"1"), (b"Connection", b"close, X-Mine , x-other"), (b"X-Other", b"2"), (b"X-Third", b"3")]
    assert provider().headers(headers, "")[0] == [(b"X-Third", b"3")]
    assert response_headers(headers) == [(b"X-Third", b"3")]


def test_further_names_stay_and_configured_headers_replace() -> None:
    asked = provider(drop_headers=("X-Team",), headers=(("OpenAI-Organization", "ours"),))
    sent, _ = asked.headers([(b"x-team", b"1"), (b"openai-organization", b"theirs"), (b"X-Keep", b"1")], "")
    assert sent == [(b"X-Keep", b"1"), (b"OpenAI-Organization", b"ours")]


def test_anthropic_version_is_added_only_if_absent() -> None:
    version = (b"anthropic-version", b"2023-06-01")
    assert provider("anthropic").headers([], "")[0] == [version]
    assert provider("anthropic").headers([(b"Anthropic-Version", b"2099-01-01")], "")[0] == [(b"Anthropic-Version", b"2099-01-01")]
    assert provider("anthropic").headers([version, version], "")[0] == [version, version]
    assert provider("anthropic").headers([version, (b"connection", b"anthropic-version")], "")[0] == [version]
    assert provider("anthropic", headers=(("Anthropic-Version", "x"),)).headers([version], "")[0] == [(b"Anthropic-Version", b"x")]
    assert provider("openai").headers([], "")[0] == []


def test_answers_lose_what_is_the_house_s() -> None:
    kept: list[Header] = [
        (b"Date", b"now"), (b"Content-Type", b"text/event-stream; charset=utf-8"), (b"x-request-id", b"req_1"), (b"openai-processing-ms", b"1"),
        (b"anthropic-ratelimit-requests-remaining", b"9"), (b"x-ratelimit-limit-requests", b"9"), (b"retry-after", b"3"), (b"CF-RAY", b"x"),
        (b"server", b"cloudflare"), (b"cache-control", b"no-cache"), (b"Content-Encoding", b"br"), (b"Location", b"/x"),
    ]
    dropped: list[Header] = [
        (b"Set-Cookie", b"s=1"), (b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"3"), (b"Connection", b"keep-alive"), (b"Keep-Alive", b"5"),
        (b"alt-svc", b"h3"), (b"Strict-Transport-Security", b"x"), (b"Access-Control-Allow-Origin", b"*"), (b"X-Penstock-Id", b"forged"),
        (b"proxy-authenticate", b"x"), (b"NEL", b"{}"), (b"Report-To", b"{}"), (b"Trailer", b"x"), (b"Upgrade", b"h2c"),
    ]
    mixed = [pair for both in zip(kept, dropped, strict=False) for pair in both] + dropped[len(kept):]
    assert response_headers(mixed) == kept
    assert response_headers(mixed, frozenset({b"server"})) == [pair for pair in kept if pair[0] != b"server"]


def test_the_provider_s_request_id() -> None:
    assert upstream_request_id([(b"cf-ray", b"ray"), (b"Request-Id", b"req_2")]) == "req_2"
    assert upstream_request_id([(b"request-id", b"b"), (b"X-Request-ID", b"a")]) == "b", "a balancer on the way may have put the other in"
    assert upstream_request_id([(b"cf-ray", b"ray")]) == "ray"
    assert upstream_request_id([(b"date", b"x"), (b"x-request-id", b"")]) is None
    assert upstream_request_id([(b"x-request-id", b"a\x00\x1b[31m" + b"b" * 500)]) == "a[31m" + "b" * 193


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=80), st.binary(max_size=20)), max_size=30))
def test_no_name_makes_the_filters_fail_or_reorder(headers: list[Header]) -> None:
    sent, _ = provider("anthropic", api_key="k").headers(headers, "")
    known = [pair for pair in sent if pair in headers]
    positions = iter(headers)
    assert all(pair in positions for pair in known)
    assert len(response_headers(headers)) <= len(headers)


def test_the_memory_of_names_is_bounded() -> None:
    verdicts = Verdicts(frozenset(), (b"x-",))
    for number in range(5000):
        verdicts.judge(b"n%d" % number)
    verdicts.judge(b"x" * 10_000)
    assert len(verdicts.known) <= 1024
    assert all(len(name) <= 64 for name in verdicts.known)
