"""What every kind of provider promises (`providers/contract.py`). A new kind adds its line to `KINDS` and passes."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.protocols import REGISTRY
from penstock.providers import KINDS, BadUrl, Provider, ProviderSettings, build
from penstock.routing.endpoints import FIXED, GEMINI_METHODS, PROTOCOL_PATHS

OWN = "argo_legacy"
"""Asked on paths of its own, and without keys: what it promises stands in its own tests."""
ALL = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != OWN])
KEYS = [b"Authorization", b"x-api-key", b"API-Key", b"X-Goog-Api-Key"]
LOGIN = b"sk-ant-oat01-abcdef"


def make(kind: Any, **more: Any) -> Provider:
    settings: dict[str, Any] = {"name": kind, "kind": kind, "base_url": KINDS[kind].default_base_url, "api_key": "house-key", **more}
    return build(ProviderSettings(**settings))


def paths(kind: Any) -> list[str]:
    """The protocol's own paths, as clients write them."""
    provider = KINDS[kind]
    found = [path for path, methods in FIXED.items() if next(iter(methods.values())).protocol in provider.speaks and path.partition("/v1")[2]]
    if any("{model}" in PROTOCOL_PATHS[protocol] for protocol in provider.speaks):
        found = [f"/v1beta/models/m:{method}" for method in GEMINI_METHODS]
    return found


@ALL
def test_its_words(kind: Any) -> None:
    provider = make(kind)
    assert provider.kind == kind
    assert KINDS[kind].__doc__ or __import__(KINDS[kind].__module__, fromlist=["x"]).__doc__
    assert provider.protocols == provider.speaks <= set(REGISTRY)
    assert provider.main_protocol in provider.speaks
    assert provider.has_key
    assert provider.origin.scheme == "https"
    assert provider.host_header == provider.origin.host
    assert not hasattr(provider, "__dict__")


@ALL
def test_it_needs_nothing_but_a_name(kind: Any) -> None:
    provider = make(kind, api_key=None)
    assert not provider.has_key
    assert paths(kind)


@ALL
@pytest.mark.parametrize("base", ["", "/", "/v1", "/v1/", "/v1beta", "/team/v1", "/team", "/openai/v1", "/proxy/v2beta"])
def test_no_version_ever_stands_twice(kind: Any, base: str) -> None:
    provider = make(kind, base_url=f"http://localhost:9{base}")
    for path in paths(kind):
        bare = re.sub(r"^/v1(beta)?", "", path)
        for written in (path, bare):
            target = provider.target(written, "")
            versions = re.findall(r"/v\d\w*(?=/)", target)
            assert len(versions) <= 1, (base, written, target)
            assert target.startswith("/")
            assert "//" not in target
            assert target.endswith(bare)
            assert len(re.findall(r"/v\d\w*(?=/)", provider.verbatim(path, ""))) <= 1


@ALL
def test_a_base_url_is_used_as_it_is_given(kind: Any) -> None:
    for path in paths(kind):
        bare = re.sub(r"^/v1(beta)?", "", path)
        assert make(kind, base_url="http://localhost:9/team/v7").target(path, "") == f"/team/v7{bare}"
        assert make(kind, base_url="http://localhost:9").target(bare, "") == f"/{KINDS[kind].version}{bare}"


@ALL
@given(query=st.text("ab=&%2F+", max_size=12))
def test_queries_pass_as_they_are(kind: Any, query: str) -> None:
    path = paths(kind)[0]
    provider = make(kind)
    for made in (provider.target(path, query), provider.verbatim(path, query)):
        assert made.partition("?")[2] == query
    assert provider.headers([], query)[1] == query


@ALL
@pytest.mark.parametrize("name", KEYS)
def test_the_houses_key_goes_in_its_own_way_and_the_clients_stays(kind: Any, name: bytes) -> None:
    provider = make(kind)
    sent, query = provider.headers([(name, b"Bearer client-key" if name == b"Authorization" else b"client-key")], "a=1&key=client-key&b=2")
    assert query == "a=1&b=2"
    assert not any(b"client-key" in value for _, value in sent)
    found = [(key.lower(), value) for key, value in sent if b"house-key" in value]
    assert found == [(b"authorization", b"Bearer house-key") if provider.default_auth == "bearer" else (provider.default_auth.encode(), b"house-key")]


@ALL
@pytest.mark.parametrize("auth", ["bearer", "x-api-key", "api-key", "x-goog-api-key"])
def test_any_way_of_sending_it(kind: Any, auth: Any) -> None:
    sent, _ = make(kind, auth=auth).headers([], "")
    assert [(key.lower(), value) for key, value in sent if b"house-key" in value] == [
        (b"authorization", b"Bearer house-key") if auth == "bearer" else (auth.encode(), b"house-key")
    ]


@ALL
@pytest.mark.parametrize("name", KEYS)
def test_without_a_key_the_clients_own_passes(kind: Any, name: bytes) -> None:
    sent, query = make(kind, api_key=None).headers([(name, b"client-key")], "key=client-key")
    assert (name, b"client-key") in sent
    assert query == "key=client-key"


@ALL
def test_a_login_is_never_billed_to_the_houses_key(kind: Any) -> None:
    sent, _ = make(kind).headers([(b"authorization", b"Bearer " + LOGIN)], "")
    assert (b"authorization", b"Bearer " + LOGIN) in sent
    assert not any(b"house-key" in value for _, value in sent)


@ALL
def test_what_stays_in_the_house(kind: Any) -> None:
    names = [
        b"Host", b"Cookie", b"X-Forwarded-For", b"x-forwarded-proto", b"Forwarded", b"Via", b"Origin", b"Referer", b"Proxy-Authorization",
        b"Connection", b"Keep-Alive", b"TE", b"Trailer", b"Transfer-Encoding", b"Upgrade", b"Content-Length", b"x-penstock-provider",
        b"X-Penstock-Token", b"sec-fetch-mode", b"X-Real-IP", b"Expect",
    ]  # fmt: skip
    sent, _ = make(kind, api_key=None).headers([(name, b"x") for name in names], "")
    assert sent == list(KINDS[kind].default_headers)
    sent, _ = make(kind, api_key=None).headers([(b"Connection", b"close, X-Hop"), (b"x-hop", b"1"), (b"x-other", b"2")], "")
    assert (b"x-hop", b"1") not in sent
    assert (b"x-other", b"2") in sent


@ALL
@given(
    names=st.lists(
        st.sampled_from([b"anthropic-beta", b"OpenAI-Organization", b"x-stainless-lang", b"Content-Type", b"X-New", b"user-agent", b"accept"]),
        max_size=8,
    )
)
def test_everything_else_passes_in_order_and_spelling(kind: Any, names: list[bytes]) -> None:
    headers = [(name, b"%d" % number) for number, name in enumerate(names)]
    sent, _ = make(kind, api_key=None).headers(headers, "")
    assert sent[: len(headers)] == headers
    assert sent[len(headers) :] == list(KINDS[kind].default_headers)


@ALL
def test_default_headers_give_way_to_the_clients(kind: Any) -> None:
    for name, _ in KINDS[kind].default_headers:
        sent, _ = make(kind).headers([(name.upper(), b"theirs")], "")
        assert [value for key, value in sent if key.lower() == name] == [b"theirs"]


@ALL
def test_configured_headers_replace_the_clients(kind: Any) -> None:
    provider = make(kind, headers=(("X-Team", "a"),), drop_headers=("x-secret",))
    sent, _ = provider.headers([(b"x-team", b"b"), (b"X-Secret", b"s")], "")
    assert [value for key, value in sent if key.lower() == b"x-team"] == [b"a"]
    assert not any(key.lower() == b"x-secret" for key, _ in sent)


@ALL
def test_no_secret_stands_in_a_repr(kind: Any) -> None:
    settings = ProviderSettings("p", kind, "https://h.example", api_key="sk-secret", headers=(("x", "sk-secret"),))
    assert "sk-secret" not in repr(settings)
    assert "sk-secret" not in repr(build(settings))


@ALL
@pytest.mark.parametrize(
    "url", ["", "example.com", "ftp://x", "https://", "https://u:sk-secret@h", "https://h/?key=sk-secret", "https://h/../x", "https://h:0"]
)
def test_a_bad_base_url_is_refused_without_repeating_it(kind: Any, url: str) -> None:
    with pytest.raises(BadUrl) as caught:
        make(kind, base_url=url)
    assert "sk-secret" not in str(caught.value)


@ALL
def test_it_may_be_told_to_speak_less(kind: Any) -> None:
    for protocol in KINDS[kind].speaks:
        assert make(kind, protocols=frozenset({protocol})).protocols == {protocol}
    assert make(kind, protocols=frozenset(set(REGISTRY) - KINDS[kind].speaks)).protocols == frozenset()
