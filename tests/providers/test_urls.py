"""Base URLs and the paths behind them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.providers import BadUrl, Kind, Origin, Provider, ProviderSettings, build
from penstock.providers.urls import parse_base


def provider(kind: Kind, base_url: str) -> Provider:
    return build(ProviderSettings(name="p", kind=kind, base_url=base_url))


TARGETS: list[tuple[Kind, str, str, str]] = [
    ("openai", "https://api.openai.com/v1", "/v1/chat/completions", "/v1/chat/completions"),
    ("openai", "https://api.openai.com/v1", "/chat/completions", "/v1/chat/completions"),
    ("openai", "https://api.openai.com/v1/", "/v1/chat/completions", "/v1/chat/completions"),
    ("openai", "https://api.openai.com", "/v1/chat/completions", "/v1/chat/completions"),
    ("openai", "https://api.openai.com", "/chat/completions", "/v1/chat/completions"),
    ("openai", "https://api.openai.com/", "/v1/responses", "/v1/responses"),
    ("openai", "https://api.groq.com/openai/v1", "/v1/chat/completions", "/openai/v1/chat/completions"),
    ("openai", "https://x.openai.azure.com/openai/v1/", "/v1/responses/resp_1", "/openai/v1/responses/resp_1"),
    ("openai", "https://models.github.ai/inference", "/v1/chat/completions", "/inference/chat/completions"),
    ("openai", "https://generativelanguage.googleapis.com/v1beta/openai", "/v1/chat/completions", "/v1beta/openai/chat/completions"),
    ("openai", "https://chatgpt.com/backend-api/codex", "/v1/responses", "/backend-api/codex/responses"),
    ("anthropic", "https://api.anthropic.com", "/v1/messages", "/v1/messages"),
    ("anthropic", "https://api.anthropic.com", "/messages", "/v1/messages"),
    ("anthropic", "https://api.anthropic.com/v1", "/v1/messages/count_tokens", "/v1/messages/count_tokens"),
    ("anthropic", "https://api.deepseek.com/anthropic", "/v1/messages", "/anthropic/v1/messages"),
    ("anthropic", "https://api.deepseek.com/anthropic", "/messages", "/anthropic/v1/messages"),
    ("anthropic", "https://api.deepseek.com/anthropic/v1", "/v1/messages", "/anthropic/v1/messages"),
    ("gemini", "https://g.example", "/v1beta/models/m:generateContent", "/v1beta/models/m:generateContent"),
    ("gemini", "https://g.example", "/v1/models/m:generateContent", "/v1/models/m:generateContent"),
    ("gemini", "https://g.example", "/v1alpha/models/m:generateContent", "/v1alpha/models/m:generateContent"),
    ("gemini", "https://g.example", "/models/m:generateContent", "/v1beta/models/m:generateContent"),
    ("gemini", "https://g.example/v1beta", "/v1beta/models/m:countTokens", "/v1beta/models/m:countTokens"),
    ("gemini", "https://g.example/gemini", "/v1beta/models/m:countTokens", "/gemini/v1beta/models/m:countTokens"),
    ("gemini", "https://g.example/v1/projects/p/publishers/google", "/v1beta/models/m:countTokens",
    "/v1/projects/p/publishers/google/models/m:countTokens"),
    ("gemini", "https://g.example", "/upload/v1beta/files", "/upload/v1beta/files"),
    ("gemini", "https://g.example/v1beta", "/upload/v1beta/files", "/upload/v1beta/files"),
]

VERBATIM: list[tuple[Kind, str, str, str]] = [
    ("openai", "https://api.openai.com/v1", "/v1/chat/completions", "/v1/chat/completions"),
    ("openai", "https://api.openai.com/v1", "/chat/completions", "/v1/chat/completions"),
    ("openai", "https://api.openai.com/v1", "/anything/else", "/v1/anything/else"),
    ("openai", "http://127.0.0.1:8000", "/v1/chat/completions", "/v1/chat/completions"),
    ("openai", "http://127.0.0.1:8000", "/chat/completions", "/v1/chat/completions"),
    ("openai", "http://127.0.0.1:8000", "/tokenize", "/tokenize"),
    ("openai", "http://127.0.0.1:8000", "/a%2Fb/%E2%82%AC//c", "/a%2Fb/%E2%82%AC//c"),
    ("openai", "https://x.example/team/v1", "/v1/files/f/content", "/team/v1/files/f/content"),
    ("openai", "https://x.example/inference", "/chat/completions", "/inference/chat/completions"),
    ("openai", "https://x.example/inference", "/v1/odd", "/inference/v1/odd"),
    ("anthropic", "https://api.anthropic.com", "/v1/messages", "/v1/messages"),
    ("anthropic", "https://api.anthropic.com", "/messages", "/v1/messages"),
    ("anthropic", "https://api.anthropic.com", "/api/oauth/usage", "/api/oauth/usage"),
    ("anthropic", "https://api.anthropic.com/v1", "/api/oauth/usage", "/api/oauth/usage"),
    ("anthropic", "https://api.anthropic.com/v1", "/v1/messages", "/v1/messages"),
    ("gemini", "https://g.example", "/v1beta/models/m:generateContent", "/v1beta/models/m:generateContent"),
    ("gemini", "https://g.example", "/models/m:generateContent", "/v1beta/models/m:generateContent"),
    ("gemini", "https://g.example/v1beta", "/v1alpha/models/m:generateContent", "/v1alpha/models/m:generateContent"),
    ("gemini", "https://g.example/v1beta", "/upload/v1beta/files", "/upload/v1beta/files"),
]


@pytest.mark.parametrize(("kind", "base", "path", "expected"), TARGETS)
def test_target(kind: Kind, base: str, path: str, expected: str) -> None:
    assert provider(kind, base).target(path, "") == expected
    assert provider(kind, base).target(path, "beta=true&a=%20") == expected + "?beta=true&a=%20"


@pytest.mark.parametrize(("kind", "base", "path", "expected"), VERBATIM)
def test_verbatim(kind: Kind, base: str, path: str, expected: str) -> None:
    assert provider(kind, base).verbatim(path, "") == expected
    assert provider(kind, base).verbatim(path, "x=1?&y") == expected + "?x=1?&y"


def test_an_empty_rest_is_the_base_path_itself() -> None:
    assert provider("openai", "http://h").verbatim("", "") == "/"
    assert provider("openai", "http://h/v1").verbatim("", "") == "/v1"


@given(
    kind=st.sampled_from(["openai", "anthropic", "gemini"]),
    base=st.sampled_from(["", "/", "/v1", "/v1/", "/x/v1", "/v1beta", "/x"]),
    path=st.sampled_from(["/v1/chat/completions", "/chat/completions", "/v1/messages", "/v1beta/models/m:generateContent", "/models", "/v1/other",
        "/other"]),
)
def test_no_version_ever_stands_twice(kind: Kind, base: str, path: str) -> None:
    asked = provider(kind, "https://h.example" + base)
    for target in (asked.target(path, ""), asked.verbatim(path, "")):
        segments = target.split("/")
        assert sum(segment in ("v1", "v1beta") for segment in segments) <= 1, target
        assert target.startswith("/")
        assert not target.startswith("//")


@pytest.mark.parametrize(("url", "origin", "host_header"), [
    ("https://api.openai.com/v1", Origin("https", "api.openai.com", 443), "api.openai.com"),
    ("HTTPS://API.OpenAI.com:443", Origin("https", "api.openai.com", 443), "api.openai.com"),
    ("http://localhost:8000", Origin("http", "localhost", 8000), "localhost:8000"),
    ("http://[::1]:8000/v1", Origin("http", "::1", 8000), "[::1]:8000"),
    ("https://bücher.example", Origin("https", "xn--bcher-kva.example", 443), "xn--bcher-kva.example"),
    ("unix:/run/x.sock", Origin("http", "localhost", 80, "/run/x.sock"), "localhost"),
    ("unix:///run/x.sock", Origin("http", "localhost", 80, "/run/x.sock"), "localhost"),
    ("http+unix:///run/x.sock", Origin("http", "localhost", 80, "/run/x.sock"), "localhost"),
    ("http+unix://%2Frun%2Fx.sock/v1", Origin("http", "localhost", 80, "/run/x.sock"), "localhost"),
])
def test_origin(url: str, origin: Origin, host_header: str) -> None:
    found = provider("openai", url)
    assert found.origin == origin
    assert hash(found.origin) == hash(origin)
    assert found.host_header == host_header


def test_a_socket_may_have_a_base_path() -> None:
    assert provider("openai", "unix:/run/x.sock:/llm/v1").target("/v1/models", "") == "/llm/v1/models"
    assert provider("openai", "http+unix://%2Frun%2Fx.sock/llm/v1").target("/v1/models", "") == "/llm/v1/models"
    assert provider("openai", "unix:/run/x.sock").target("/v1/models", "") == "/v1/models"


@pytest.mark.parametrize("url", [
    "", "api.openai.com", "ftp://x", "https://", "https:///v1", "https://x:99999", "https://x:0", "https://user:hunter2@x/v1",
    "https://x/v1?key=hunter2",
    "https://x/v1#hunter2", "https://x/../v1", "https://x/%2e%2e/v1", "https://x y/v1", "https://x/a b", "https://[::z]/", "unix:relative.sock",
    "unix:",
    "https://x/v1\r\nhunter2: 1", "https://-x", "https://x?",
])
def test_bad_urls_are_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(BadUrl) as error:
        parse_base(url)
    assert "hunter2" not in str(error.value)
