"""Whose credential goes where."""

from __future__ import annotations

from base64 import urlsafe_b64encode

import pytest

from penstock.providers import Auth, Header, Kind, Provider, ProviderSettings, build, credential, is_login, redact_query


def jwt(payload: bytes) -> bytes:
    return b"eyJhbGciOiJSUzI1NiJ9." + urlsafe_b64encode(payload).rstrip(b"=") + b".c2ln"


CHATGPT = jwt(b'{"iss":"https://auth.openai.com","exp":1}')
OAT = b"sk-ant-oat01-abc"
ACCOUNT: Header = (b"chatgpt-account-id", b"acc")


def provider(kind: Kind, key: str | None, auth: Auth | None = None) -> Provider:
    return build(ProviderSettings(name="p", kind=kind, base_url="https://h.example", api_key=key, auth=auth, headers=(("anthropic-version", "1"),)))


def sent(asked: Provider, headers: list[Header], query: str = "") -> tuple[list[Header], str]:
    found, rest = asked.headers(headers, query)
    return [pair for pair in found if pair[0] != b"anthropic-version"], rest


CLIENT_KEYS: list[Header] = [(b"Authorization", b"Bearer sk-client"), (b"X-Api-Key", b"sk-client"), (b"api-key", b"sk-client"), (b"x-goog-api-key",
    b"AIza-client")]


@pytest.mark.parametrize("theirs", CLIENT_KEYS)
@pytest.mark.parametrize(("kind", "auth", "ours"), [
    ("openai", None, (b"Authorization", b"Bearer house")), ("anthropic", None, (b"x-api-key", b"house")), ("gemini", None, (b"x-goog-api-key",
    b"house")),
    ("openai", "api-key", (b"api-key", b"house")), ("anthropic", "bearer", (b"Authorization", b"Bearer house")),
])
def test_with_a_key_the_client_s_never_leaves(kind: Kind, auth: Auth | None, ours: Header, theirs: Header) -> None:
    asked = provider(kind, "house", auth)
    assert asked.has_key
    found, query = sent(asked, [theirs, (b"accept", b"*/*")], "key=AIza-client&alt=sse&%6bey=AIza-client&access_token=AIza-client")
    assert found == [(b"accept", b"*/*"), ours]
    assert query == "alt=sse"


@pytest.mark.parametrize("theirs", CLIENT_KEYS)
@pytest.mark.parametrize("kind", ["openai", "anthropic", "gemini"])
def test_without_a_key_the_client_s_passes_as_it_came(kind: Kind, theirs: Header) -> None:
    asked = provider(kind, None)
    assert not asked.has_key
    assert sent(asked, [theirs], "key=AIza&alt=sse") == ([theirs], "key=AIza&alt=sse")


@pytest.mark.parametrize("login", [
    (b"Authorization", b"Bearer " + OAT), (b"authorization", b"bearer  " + OAT), (b"x-api-key", OAT), (b"Authorization", b"Bearer " + CHATGPT),
])
@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@pytest.mark.parametrize("key", ["house", None])
def test_logins_pass_as_they_came_and_the_key_stays(kind: Kind, key: str | None, login: Header) -> None:
    headers: list[Header] = [(b"accept", b"*/*"), login, (b"anthropic-beta", b"oauth-2025-04-20")]
    assert sent(provider(kind, key), headers)[0] == headers


def test_a_chatgpt_account_marks_the_authorization_beside_it() -> None:
    opaque: Header = (b"Authorization", b"Bearer opaque")
    headers: list[Header] = [(b"accept", b"*/*"), opaque, (b"x-x", b"1"), ACCOUNT]
    assert sent(provider("openai", "house"), headers)[0] == headers
    assert sent(provider("openai", "house"), [ACCOUNT])[0] == [ACCOUNT, (b"Authorization", b"Bearer house")]
    assert sent(provider("openai", "house"), [opaque])[0] == [(b"Authorization", b"Bearer house")]


def test_beside_a_login_a_client_s_key_stays_in_the_house() -> None:
    login: Header = (b"authorization", b"Bearer " + OAT)
    assert sent(provider("anthropic", "house"), [(b"x-api-key", b"sk-client"), login], "key=AIza") == ([login], "")


def test_a_request_without_a_credential_gets_the_key_or_nothing() -> None:
    assert sent(provider("openai", "house"), [])[0] == [(b"Authorization", b"Bearer house")]
    assert sent(provider("openai", None), [])[0] == []


@pytest.mark.parametrize(("value", "expected"), [
    (b"Bearer sk-ant-oat01-x", True), (b"sk-ant-oat01-x", True), (b"Bearer sk-ant-api03-x", False), (b"Bearer sk-proj-x", False), (b"", False),
    (b"Bearer " + CHATGPT, True), (b"Bearer " + jwt(b'{"iss":"https://auth.openai.com/"}'), True), (b"Bearer " + jwt(b'{"sub":"u"}'), True),
    (b"Bearer " + jwt(b"not json"), True), (b"Bearer eyJhbGciOi.payload.sig", True), (b"Bearer " + jwt(b'{"iss":"minimax"}'), False),
    (b"Bearer " + jwt(b'{"iss":5}'), True), (b"Bearer eyJnot-a-jwt", False), (b"Basic sk-ant-oat01", False),
])
def test_logins_are_told_by_their_form(value: bytes, expected: bool) -> None:
    assert is_login(value) is expected


def test_queries_are_redacted_and_otherwise_untouched() -> None:
    assert redact_query("alt=sse&key=AIzaX&x=%20&KEY=a=b") == "alt=sse&key=REDACTED&x=%20&KEY=REDACTED"
    assert redact_query("monkey=1&keys=2&a&&b=") == "monkey=1&keys=2&a&&b="
    assert redact_query("%6Bey=AIzaX") == "%6Bey=REDACTED"
    assert redact_query("") == ""


def test_one_key_is_one_credential_wherever_it_stands() -> None:
    places: list[tuple[list[Header], str]] = [
        ([(b"Authorization", b"Bearer k1")], ""), ([(b"x-api-key", b"k1")], ""), ([(b"api-key", b"k1")], ""), ([(b"X-Goog-Api-Key", b"k1")], ""),
        ([], "a=b&key=k1"),
    ]
    assert {credential(headers, query) for headers, query in places} == {b"k1"}
    assert credential([(b"accept", b"x"), (b"authorization", b"")], "key=&a=1") is None
    assert credential([(b"authorization", b"Bearer"), (b"x-api-key", b" ")], "") is None
    assert credential([(b"authorization", b"Bearer "), (b"x-api-key", b"k1")], "") == b"k1"


def test_no_key_stands_in_a_repr() -> None:
    settings = ProviderSettings(name="p", kind="openai", base_url="https://h", api_key="hunter2", headers=(("x", "hunter2"),))
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in repr(build(settings))
