"""Secrets are masked whatever they look like, prose stays, and no text makes it slow."""

from __future__ import annotations

import time

import pytest
from genai_prices.data import providers
from hypothesis import given
from hypothesis import strategies as st

from penstock.wire.secrets import fingerprint, mask_known, mask_name, mask_secrets

SECRETS = [
    ("Incorrect API key provided: sk-abcde***********wxyz. You can find", "abcde"),
    ("key sk-ant-api03-AbCd_1234-efgh is invalid", "AbCd_1234"),
    ("sk-ant-oat01-verysecretlogin", "verysecret"),
    ("sk-proj-AAAABBBBccccdddd-eeee_ffff", "AAAABBBB"),
    ("API key not valid: AIzaSyD-1234567890abcdefghijklmnopqrstu", "SyD-123456"),
    ("Authorization: Bearer abcdef.123456", "abcdef"),
    ("sent 'bearer 0123456789abcdef'", "0123456789"),
    ("Basic dXNlcjpwYXNzd29yZA==", "dXNlcjpw"),
    ("gsk_a1b2c3d4e5f6g7h8", "a1b2c3"),
    ("xai-a1b2c3d4e5f6g7h8", "a1b2c3"),
    ("token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl is expired", "hbGciOiJ"),
    ("GET /v1beta/models?key=hunter2&alt=sse", "hunter2"),
    ("https://h/x?a=1&access_token=abc%20d&b=2", "abc%20d"),
    ('{"api_key": "9f8e7d6c5b4a"}', "9f8e7d6c"),
    ("x-api-key: 9f8e7d6c5b4a", "9f8e7d6c"),
    ("client_secret=s3cr3t-value", "s3cr3t"),
    ("The API key 0123456789abcdef0123456789abcdef was revoked", "0123456789"),
    ("invalid token 'Zm9vYmFyYmF6MTIzNDU2Nzg5MA=='", "Zm9vYmFy"),
    ("postgresql://user:pa55word@host/db", "pa55word"),
    ("AKIAIOSFODNN7EXAMPLE", "IOSFODNN"),
    ("hf_abcdefghijklmnop", "abcdefgh"),
    (r'litellm: {\"api_key\":\"9a8b7c6d5e4f\"} was sent', "9a8b7c6d"),
    (r'{\\\"password\\\": \\\"hunter2-hunter2\\\"}', "hunter2"),
    (r"two lines:\nsk-abcdefgh12345678", "abcdefgh12"),
    (r"a tab:\u0009AIzaSyD-abcdefghijklmnop", "SyD-abcd"),
    (r"https://h/x?a=1\u0026sig=c2lnbmF0dXJl", "c2lnbmF0"),
    ("https://b.s3.amazonaws.com/o?X-Amz-Date=1&X-Amz-Signature=0badc0de", "0badc0de"),
    ("https://storage.googleapis.com/b/o?X-Goog-Signature=0badc0de&x=1", "0badc0de"),
    ("key 123e4567-e89b-12d3-a456-426614174000 is not known", "123e4567"),
]


@pytest.mark.parametrize(("text", "secret"), SECRETS, ids=[secret for _, secret in SECRETS])
def test_secrets_are_masked(text: str, secret: str) -> None:
    masked = mask_secrets(text)
    assert secret not in masked
    assert "***" in masked


@pytest.mark.parametrize(
    "prose",
    [
        "The model `gpt-4o-mini-2024-07-18` does not exist or you do not have access to it.",
        "This model's maximum context length is 128000 tokens. However, your messages resulted in 130001 tokens.",
        "max_tokens: 300000 > 8192, which is the maximum allowed number of output tokens for claude-3-5-sonnet-20241022",
        "Rate limit reached for gpt-4o in organization org-abc on tokens per min (TPM): Limit 30000, Used 29000.",
        "Invalid value for 'tool_choice': expected one of none, auto, required",
        "missing required token: authentication is required",
        "Your credit balance is too low to access the Anthropic API.",
        "Bearer authentication is missing",
        "This key may not use claude-3-5-sonnet-20241022 or gpt-4o-mini-2024-07-18",
    ],
)
def test_prose_stays(prose: str) -> None:
    assert mask_secrets(prose) == prose


def test_the_makers_prefix_and_the_rest_stay() -> None:
    assert mask_secrets("key sk-ant-api03-AbCd_1234 is invalid") == "key sk-ant-*** is invalid"
    assert mask_secrets("GET /x?key=hunter2&alt=sse HTTP") == "GET /x?key=***&alt=sse HTTP"
    assert mask_secrets("https://user:pass@host/p") == "https://***@host/p"


@given(st.text(max_size=200))
def test_masking_twice_changes_nothing_more(text: str) -> None:
    once = mask_secrets(text)
    assert mask_secrets(once) == once


@given(st.sampled_from([secret for secret, _ in SECRETS]), st.sampled_from([secret for secret, _ in SECRETS]))
def test_masking_twice_changes_nothing_more_about_secrets(first: str, second: str) -> None:
    once = mask_secrets(f"{first}; {second}")
    assert mask_secrets(once) == once


PIECES = ["key ", "key=", "://a:", "eyJ", "sk-", "a", "token token ", "Bearer ", "&key", "api-", "A1", "key: 'a", "://", "-_ "]


@pytest.mark.parametrize("piece", PIECES)
def test_no_text_makes_it_slow(piece: str) -> None:
    text = piece * (20_000 // len(piece))
    begun = time.process_time()
    mask_secrets(text)
    assert time.process_time() - begun < 0.5


def test_a_fingerprint_is_twelve_digits_that_tell_keys_apart() -> None:
    assert len(fingerprint(b"sk-test")) == 12
    assert fingerprint(b"sk-test") != fingerprint(b"sk-tesu")
    assert fingerprint(b"") == "e3b0c44298fc"


def test_a_known_secret_is_masked_whatever_it_looks_like() -> None:
    assert mask_known("no: ab/cd?ef, ab\\/cd?ef, ab%2Fcd%3Fef, ab/cd%3Fef", ["ab/cd?ef"]) == "no: ***, ***, ***, ***"
    assert mask_known("sk-ant-abc$def99 is refused", ["sk-ant-abc$def99"]) == "sk-ant-*** is refused", "the maker's prefix stays"
    assert mask_known("abcdef abcdefgh", ["abcdef", "abcdefgh"]) == "*** ***", "the longer one first"
    assert mask_known("there is none", ["none"]) == "there is none", "short ones are words"
    assert mask_known("", ["abcdef"]) == ""


def test_half_a_known_secret_at_a_cut_is_masked() -> None:
    assert mask_known("with abcdef\u2026", ["abcdefgh"]) == "with ***\u2026"
    assert mask_known("with abcdef", ["abcdefgh"]) == "with abcdef", "nothing was cut"
    assert mask_known("with abcde\u2026", ["abcdefgh"]) == "with abcde\u2026"


def test_no_model_that_has_a_price_is_taken_for_a_key() -> None:
    names = [model.id for provider in providers for model in provider.models]
    assert len(names) > 1000
    assert [name for name in names if mask_name(name) != name] == []


@pytest.mark.parametrize(("text", "secret"), [(text, secret) for text, secret in SECRETS if "abcde" in secret or secret in ("hunter2", "a1b2c3")])
def test_a_key_in_the_place_of_a_name_is_masked(text: str, secret: str) -> None:
    assert secret not in mask_name(text)
