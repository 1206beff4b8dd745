"""What makes two requests the same, and what must not."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.dedup import digest_of_head, evidence_of, with_address
from penstock.dedup.fingerprint import READABLE, digest_of_body

HEADERS = [(b"Authorization", b"Bearer k"), (b"anthropic-version", b"2023-06-01"), (b"content-type", b"application/json")]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12,
)  # fmt: skip


def digest(method: str = "POST", path: str = "/v1/messages", query: str = "", headers: list[tuple[bytes, bytes]] | None = None) -> bytes:
    return digest_of_head(method, path, query, HEADERS if headers is None else headers)


def test_what_is_new_with_each_try_and_order_and_case_change_nothing() -> None:
    same = [(name.upper(), value) for name, value in reversed(HEADERS)]
    same += [(b"X-Stainless-Retry-Count", b"2"), (b"x-stainless-helper-method", b"stream"), (b"Idempotency-Key", b"k"), (b"traceparent", b"00-1")]
    same += [(b"accept", b"text/event-stream"), (b"x-request-id", b"r"), (b"X-B3-TraceId", b"1")]
    assert digest(headers=same) == digest()


def test_everything_else_does() -> None:
    heads = [
        digest(), digest("PUT"), digest(path="/v1/messages/"), digest(query="a=1"), digest(query="a=1&b=2"), digest(query="b=2&a=1"),
        digest(headers=[]), digest(headers=HEADERS[1:]), digest(headers=[(b"authorization", b"Bearer K"), *HEADERS[1:]]),
        digest(headers=[*HEADERS, (b"anthropic-beta", b"x")]), digest(headers=[*HEADERS, (b"anthropic-beta", b"y")]),
        digest(headers=[*HEADERS, (b"x-new-header", b"")]), digest(headers=[(b"ab", b"c")]), digest(headers=[(b"a", b"bc")]),
        digest(headers=[(b"a", b"b"), (b"c", b"d")]), digest(headers=[(b"a", b"d"), (b"c", b"b")]),
        with_address(digest(), "10.0.0.1"), with_address(digest(), "10.0.0.2"),
    ]  # fmt: skip
    assert len(set(heads)) == len(heads)


def test_gemini_says_in_path_and_query_how_the_answer_is_to_come() -> None:
    base = "/v1beta/models/m:"
    whole = digest(path=f"{base}generateContent", query="key=k")
    assert digest(path=f"{base}streamGenerateContent", query="alt=sse&key=k") == whole
    assert digest(path=f"{base}streamGenerateContent", query="key=k") == whole
    assert digest(path=f"{base}streamGenerateContent", query="alt=sse&key=K") != whole
    assert digest(path=f"{base}countTokens", query="key=k") != whole
    assert digest(path="/v1beta/models/n:generateContent", query="key=k") != whole


def test_evidence_in_a_head() -> None:
    assert evidence_of({}) == (None, False)
    assert evidence_of({b"x-stainless-retry-count": b"0"}) == (None, False)
    assert evidence_of({b"x-stainless-retry-count": b"1"}) == (None, True)
    assert evidence_of({b"x-stainless-retry-count": b"-1"}) == (None, False)
    assert evidence_of({b"idempotency-key": b"k", b"x-stainless-retry-count": b"2"}) == (b"k", True)
    assert evidence_of({b"idempotency-key": b""}) == (None, False)
    one, other = (evidence_of({b"idempotency-key": b"k" * 4000 + end})[0] for end in (b"a", b"b"))
    assert one != other
    assert len(one or b"") <= 512


@given(st.dictionaries(st.text(), JSON, max_size=5), st.booleans(), st.randoms(use_true_random=False))
def test_order_white_space_and_the_form_of_the_answer_are_left_aside(request: dict[str, object], stream: bool, dice: object) -> None:
    request = {name: value for name, value in request.items() if name not in ("stream", "stream_options")}
    shuffled = dict(reversed(list(request.items())))
    spaced = json.dumps({"stream": stream, **shuffled, "stream_options": {"include_usage": True}}, indent=2)
    assert digest_of_body(json.dumps(request).encode()) == digest_of_body(spaced.encode()) != b""


@given(JSON, JSON)
def test_other_content_is_another_request(one: object, other: object) -> None:
    a, b = json.dumps({"model": "m", "x": one}), json.dumps({"model": "m", "x": other})
    if json.dumps({"x": one}, sort_keys=True) != json.dumps({"x": other}, sort_keys=True):
        assert digest_of_body(a.encode()) != digest_of_body(b.encode())


@pytest.mark.parametrize("pair", [
    (b'{"a":1}', b'{"a":1.0}'), (b'{"a":1}', b'{"a":"1"}'),
    (b'{"a":true}', b'{"a":1}'), (b'{"a":null}', b"{}"), (b'{"a":{"stream":true}}', b'{"a":{}}'),
    (b'{"a":12345678901234567890123}', b'{"a":12345678901234567890124}'), (b'{"a":"\\ud800"}', b'{"a":"?"}'), (b'{"a":[1,2]}', b'{"a":[2,1]}'),
])  # fmt: skip
def test_near_is_not_equal(pair: tuple[bytes, bytes]) -> None:
    one, other = map(digest_of_body, pair)
    assert b"" not in (one, other)
    assert one != other


@pytest.mark.parametrize("body", [
    b"", b"x", b"[]", b'{"a":1,"a":2}', b'{"b":{"a":1,"a":1}}', b'{"a":NaN}', b'{"a":1e400}', b"[" * 100_000, b'{"a":"\xff"}',
    b'{"a":"%b"}' % (b"x" * READABLE),
])  # fmt: skip
def test_what_cannot_be_read_for_certain_is_the_same_only_byte_by_byte(body: bytes) -> None:
    assert digest_of_body(body) == b""
