"""Where legacy Argo is asked, and what never goes there."""

from __future__ import annotations

import pytest

from penstock.providers import ArgoLegacyProvider, ProviderSettings, build


def make(base: str = "https://apps-dev.inside.anl.gov/argoapi") -> ArgoLegacyProvider:
    provider = build(ProviderSettings("argo", "argo_legacy", base, user="ada"))
    assert isinstance(provider, ArgoLegacyProvider)
    return provider


@pytest.mark.parametrize("base", ["https://apps.inside.anl.gov/argoapi", "https://apps.inside.anl.gov/argoapi/"])
def test_its_places(base: str) -> None:
    provider = make(base)
    assert [provider.resource(name) for name in ("chat", "streamchat", "embed")] == [
        "/argoapi/api/v1/resource/chat/", "/argoapi/api/v1/resource/streamchat/", "/argoapi/api/v1/resource/embed/",
    ]  # fmt: skip
    assert provider.target("/v1/models", "") == "/argoapi/api/v1/models/"
    assert provider.verbatim("/api/v1/resource/chat/", "") == "/argoapi/api/v1/resource/chat/"


def test_a_bare_host_has_the_same_places() -> None:
    assert make("http://127.0.0.1:9").verbatim("/api/v1/resource/chat/", "a=1") == "/api/v1/resource/chat/?a=1"
    assert make("http://127.0.0.1:9").resource("chat") == "/api/v1/resource/chat/"


@pytest.mark.parametrize("name", [b"Authorization", b"x-api-key", b"API-Key", b"X-Goog-Api-Key"])
def test_no_credential_of_a_client_goes_there(name: bytes) -> None:
    sent, query = make().headers([(name, b"Bearer secret"), (b"accept", b"text/plain")], "key=secret&a=1")
    assert sent == [(b"accept", b"text/plain")]
    assert query == "a=1"


def test_it_lists_to_all_and_has_models_before_it_was_asked() -> None:
    provider = make()
    assert provider.lists_to_all
    assert "argo:gpt-4o" in provider.known_models
    assert "argo:text-embedding-3-small" in provider.known_models
