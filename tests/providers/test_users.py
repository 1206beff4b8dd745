"""Whose name is sent, and that it is nobody else's."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.providers import Header, Kind, Provider, ProviderSettings, build
from penstock.providers.users import Unnameable, names_user, put_user, user_of
from penstock.vocabulary.ids import Operation

OAT = b"sk-ant-oat01-abcdef"
BEARER, X_API_KEY = "authorization", "x-api-key"


def provider(kind: Kind = "openai", **more: object) -> Provider:
    return build(ProviderSettings(name="argo", kind=kind, base_url="https://h.example", **more))  # pyright: ignore[reportArgumentType]


def credentials(sent: list[Header]) -> list[Header]:
    return [pair for pair in sent if pair[0].lower() in (b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key", b"chatgpt-account-id")]


@pytest.mark.parametrize(("headers", "query", "first", "user"), [
    ([(b"Authorization", b"Bearer alice")], "", BEARER, "alice"),
    ([(b"authorization", b"bearer alice")], "", BEARER, "alice"),
    ([(b"authorization", b"alice")], "", BEARER, "alice"),
    ([(b"x-api-key", b"bob"), (b"Authorization", b"Bearer alice")], "", BEARER, "alice"),
    ([(b"Authorization", b"Bearer alice"), (b"X-Api-Key", b"bob")], "", X_API_KEY, "bob"),
    ([(b"api-key", b"carol"), (b"x-goog-api-key", b"dan")], "", BEARER, "carol"),
    ([(b"x-goog-api-key", b"dan")], "key=eve", BEARER, "dan"),
    ([], "alt=sse&key=eve%40anl", BEARER, "eve@anl"),
    ([(b"x-api-key", b"")], "key=eve", X_API_KEY, "eve"),
    ([], "", BEARER, None),
    ([(b"authorization", b"Bearer")], "", BEARER, None),
    ([(b"authorization", b"Bearer "), (b"x-api-key", b"bob")], "", BEARER, "bob"),
    ([(b"authorization", b"bearer")], "key=eve", BEARER, "eve"),
    ([(b"authorization", b"bearers")], "", BEARER, "bearers"),
    ([(b"authorization", b"Bearer two words")], "", BEARER, None),
    ([(b"authorization", b"Bearer " + b"a" * 300)], "", BEARER, None),
    ([(b"authorization", b"Bearer " + OAT)], "", BEARER, None),
    ([(b"x-api-key", OAT), (b"authorization", b"Bearer bob")], "", X_API_KEY, None),
    ([(b"authorization", b"Bearer \xe9mile")], "", BEARER, None),
])
def test_who_is_named_in_the_place_of_a_key(headers: list[Header], query: str, first: str, user: str | None) -> None:
    assert user_of(headers, query, first) == user


@pytest.mark.parametrize(("kind", "theirs", "ours"), [
    ("openai", (b"Authorization", b"Bearer bob"), (b"Authorization", b"Bearer alice")),
    ("openai", (b"x-api-key", b"bob"), (b"Authorization", b"Bearer alice")),
    ("anthropic", (b"Authorization", b"Bearer bob"), (b"x-api-key", b"alice")),
    ("anthropic", (b"authorization", b"Bearer " + OAT), (b"x-api-key", b"alice")),
])
def test_a_configured_user_is_the_credential_and_no_other_leaves(kind: Kind, theirs: Header, ours: Header) -> None:
    asked = provider(kind, user="alice")
    assert asked.has_key
    assert asked.user([theirs], "") == "alice"
    sent, query = asked.headers([theirs, (b"chatgpt-account-id", b"a"), (b"accept", b"*/*")], "key=bob&a=1")
    assert credentials(sent) == [ours]
    assert query == "a=1"
    assert (b"accept", b"*/*") in sent


def test_a_key_beside_a_user_is_the_credential() -> None:
    asked = provider(user="alice", api_key="sk-house")
    assert credentials(asked.headers([], "")[0]) == [(b"Authorization", b"Bearer sk-house")]
    assert asked.user([], "") == "alice"


@pytest.mark.parametrize(("kind", "ours"), [("openai", (b"Authorization", b"Bearer bob")), ("anthropic", (b"x-api-key", b"bob"))])
@pytest.mark.parametrize("theirs", [(b"Authorization", b"Bearer bob"), (b"X-Api-Key", b"bob"), (b"api-key", b"bob")])
def test_the_clients_key_is_the_user_in_the_providers_own_place(kind: Kind, ours: Header, theirs: Header) -> None:
    asked = provider(kind, user_from_key=True)
    assert not asked.has_key
    assert asked.user([theirs], "") == "bob"
    assert credentials(asked.headers([theirs], "")[0]) == [ours]


def test_a_login_is_nobodys_name_and_goes_nowhere() -> None:
    asked = provider("anthropic", user_from_key=True)
    login: list[Header] = [(b"authorization", b"Bearer " + OAT)]
    assert asked.user(login, "") is None
    assert credentials(asked.headers(login, "")[0]) == []


# The body.


@pytest.mark.parametrize(("operation", "body", "expected"), [
    (Operation.CHAT, b'{ "model": "m" }', b'{"user":"alice", "model": "m" }'),
    (Operation.CHAT, b'{"user":"bob","model":"m"}', b'{"user":"alice","model":"m"}'),
    (Operation.RESPONSES, b'{"a":1,"user":null}', b'{"a":1,"user":"alice"}'),
    (Operation.EMBEDDINGS, b"{}", b'{"user":"alice"}'),
    (Operation.MESSAGES, b'{"model":"m"}', b'{"metadata":{"user_id":"alice"},"model":"m"}'),
    (Operation.MESSAGES, b'{"metadata":{ "user_id" : "bob", "x":1 }}', b'{"metadata":{ "user_id" : "alice", "x":1 }}'),
    (Operation.MESSAGES, b'{"metadata":{"x":1}}', b'{"metadata":{"user_id":"alice","x":1}}'),
    (Operation.MESSAGES, b'{"metadata":null}', b'{"metadata":{"user_id":"alice"}}'),
    (Operation.MESSAGES, b'{"messages":[{"user":"x","metadata":{"user_id":"y"}}]}',
     b'{"metadata":{"user_id":"alice"},"messages":[{"user":"x","metadata":{"user_id":"y"}}]}'),
])
def test_the_user_is_put_in_and_no_other_byte_changes(operation: Operation, body: bytes, expected: bytes) -> None:
    assert put_user(operation, body, "alice") == expected


@pytest.mark.parametrize(("operation", "body"), [
    (Operation.CHAT, b"[]"), (Operation.CHAT, b"\x1f\x8b"), (Operation.MESSAGES, b'"x"'), (Operation.MESSAGES, b'{"metadata":"x"}'),
    (Operation.MESSAGES, b'{"metadata":[1]}'),
])
def test_a_body_without_a_place_for_it(operation: Operation, body: bytes) -> None:
    with pytest.raises(Unnameable, match="the user is put into it") as told:
        put_user(operation, body, "alice")
    assert ("'metadata' must be an object" in str(told.value)) == (b"metadata" in body)


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(st.dictionaries(st.text() | st.sampled_from(["user", "metadata"]), JSON), st.text("abc\"\\\u00e9", min_size=1))
def test_whatever_else_is_in_the_body_stays(fields: dict[str, object], user: str) -> None:
    found = json.loads(put_user(Operation.CHAT, json.dumps(fields).encode(), user))
    assert found == {**fields, "user": user}


def test_what_has_no_field_for_it() -> None:
    assert not any(names_user(operation) for operation in (Operation.COUNT_TOKENS, Operation.MODELS, Operation.FILES, Operation.IMAGES))
