"""What looks like a secret, or is called one, is taken out; everything else, and the form of JSON, stays."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.capture.redact import (
    AHEAD,
    KEY_PATTERNS,
    WINDOW,
    BadPattern,
    compile_patterns,
    is_secret_header,
    redact_body,
    redact_headers,
    redact_target,
    redact_text,
    search,
)
from penstock.lab.recordings import split_frames
from tests.wire.test_secrets import SECRETS

KEYS = compile_patterns(())
CORPUS = Path(__file__).parents[1] / "corpus"


def naive(pattern: re.Pattern[str], text: str) -> list[tuple[int, int]]:
    return [found.span() for found in pattern.finditer(text) if found.end() > found.start()]


# Heads.


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        (b"Authorization", b"Bearer sk-whatever", b"Bearer ***"),
        (b"authorization", b"abc", b"***"),
        (b"Proxy-Authorization", b"Basic YTpi", b"Basic ***"),
        (b"x-api-key", b"k", b"***"),
        (b"Api-Key", b"k", b"***"),
        (b"X-Goog-Api-Key", b"k", b"***"),
        (b"cookie", b"a=b; c=d", b"***"),
        (b"set-cookie", b"a=b", b"***"),
        (b"x-penstock-token", b"t", b"***"),
        (b"x-penstock-provider", b"openai", b"***"),
        (b"x-amz-security-token", b"t", b"***"),
        (b"X-Gateway-Password", b"t", b"***"),
        (b"ocp-apim-subscription-key", b"t", b"***"),
        (b"X-Auth", b"t", b"***"),
        (b"authentication", b"Bearer t", b"Bearer ***"),
        (b"cf-access-jwt-assertion", b"t", b"***"),
        (b"XApiKey", b"t", b"***"),
        (b"location", b"https://u:pw@h/x?a=1&sig=abc&b=2", b"https://***@h/x?a=1&sig=***&b=2"),
        (b"x-note", b"sk-ant-api03-abcdefgh", b"sk-ant-***"),
        (b"content-type", b"text/event-stream; charset=utf-8", b"text/event-stream; charset=utf-8"),
        (b"x-ratelimit-remaining-tokens", b"149984", b"149984"),
        (b"anthropic-ratelimit-input-tokens-limit", b"400000", b"400000"),
        (b"idempotency-key", b"stainless-retry-1", b"stainless-retry-1"),
        (b"x-odd", b"\xff\xfe", b"\xff\xfe"),
    ],
)
def test_headers(name: bytes, value: bytes, kept: bytes) -> None:
    assert redact_headers([(name, value)]) == [(name, kept)]


def test_a_known_secret_is_found_in_any_header() -> None:
    assert redact_headers([(b"x-mine", b"left hunter2hunter2 right")], [b"hunter2hunter2"]) == [(b"x-mine", b"left *** right")]
    assert not is_secret_header(b"x-mine")


@pytest.mark.parametrize(
    ("target", "kept"),
    [
        ("/v1/x", "/v1/x"),
        ("/v1beta/models/g:streamGenerateContent?key=AIzaX&alt=sse", "/v1beta/models/g:streamGenerateContent?key=***&alt=sse"),
        ("/x?%6bey=abc&a=b", "/x?%6bey=***&a=b"),
        ("/x?access_token=abc%20d;b=2", "/x?access_token=***;b=2"),
        ("/x?a=1&api-key=q&upload_id=r&X-Amz-Signature=s", "/x?a=1&api-key=***&upload_id=***&X-Amz-Signature=***"),
        ("http://u:p@h/x", "http://***@h/x"),
        ("/sk-ant-api03-abcdefgh/x", "/sk-ant-***/x"),
        ("/x?beta=true&keyboard=us&page_token=", "/x?beta=true&keyboard=us&page_token="),
    ],
)
def test_targets(target: str, kept: str) -> None:
    assert redact_target(target) == kept


# Bodies.


@pytest.mark.parametrize(("text", "secret"), SECRETS, ids=[secret for _, secret in SECRETS])
def test_what_is_masked_in_sentences_is_masked_in_bodies_and_json_stays_json(text: str, secret: str) -> None:
    inner = json.dumps({"x": f"\n{text}", "y": f'"{text}"'})
    for body in (text, json.dumps({"m": text}), json.dumps({"m": f"\t{text}\n"}), json.dumps({"arguments": inner})):
        masked = redact_text(body, (), KEYS)
        assert secret not in masked
        if body != text:
            json.loads(masked)


@pytest.mark.parametrize("before", ["", "\n", "é", "\\", "\\\n", '"', "\\\""])
def test_what_stands_before_a_secret_hides_it_from_nobody(before: str) -> None:
    for document in ({"a": f"password: {before}hunter2hunter2"}, {"a": json.dumps({"b": f"password: {before}hunter2hunter2"})}):
        masked = redact_text(json.dumps(document), (), KEYS)
        assert "hunter2" not in masked
        json.loads(masked)


def test_recorded_streams_and_requests_stay_as_they_are() -> None:
    for path in CORPUS.rglob("*.sse"):
        body = path.read_bytes()
        masked, _, count = redact_body(body, (), (), KEYS)
        assert (masked, count) == (body, 0), path.name
    for path in CORPUS.rglob("*.request.json"):
        masked, _, _ = redact_body(path.read_bytes(), (), (), KEYS)
        assert json.loads(masked) == json.loads(path.read_bytes()), path.name


@pytest.mark.parametrize(
    "kept",
    ['{"key": 123456789}', '{"total_token":1234567,"a":1}', '{"key":"source_url"}', '{"usage":{"completion_tokens": 1234567}}',
     '{"token":"\\n\\n"}', '{"secret: ":{"a":[[[[]]]]}}', '{"my token ":"a","id":"chatcmpl-0123456789abcdef0123"}'],
)  # fmt: skip
def test_counts_names_and_structure_are_no_secrets(kept: str) -> None:
    assert redact_text(kept, (), KEYS) == kept


@example(["key", ": ", "é", "Incorrect API key provided: sk-abcde***********wxyz. You can find"])
@example(["key", ": ", "\n", "a1234567890123456"])
@given(st.lists(st.sampled_from([*(text for text, _ in SECRETS), "key", '"', "\n", "{", "a1", "token ", ": ", "=", "\\", "é", "1234567890123456"])))
def test_a_json_document_stays_one(words: list[str]) -> None:
    said = "".join(words)
    for document in ({"said": said, "key": 12345678, said: [said, 1.5, None]}, {"arguments": json.dumps({"a": said, "token": 99999999})}):
        for ascii_only in (True, False):
            json.loads(redact_text(json.dumps(document, ensure_ascii=ascii_only), (), KEYS))


def test_frames_stay_frames() -> None:
    stream = b"".join(b"data: " + json.dumps({"delta": text, "n": 1234567}).encode() + b"\n\n" for text, _ in SECRETS)
    masked, _, count = redact_body(stream, (), (), KEYS)
    frames = list(split_frames(masked))
    assert len(frames) == len(SECRETS)
    assert all(json.loads(frame.data)["n"] == 1234567 for frame in frames)
    assert count >= len(SECRETS)


def test_patterns_of_ones_own_and_the_group_that_is_meant() -> None:
    patterns = compile_patterns([r"\b\d{4}-\d{4}\b", r"name=(?P<secret>\w+)", "straße"], mask_keys=False)
    body, _, count = redact_body("call 1234-5678, name=Jürgen, straße sk-ant-api03-abcdefgh".encode(), (), (), patterns)
    assert body.decode() == "call ***, name=***, *** sk-ant-api03-abcdefgh"
    assert count == 3


@pytest.mark.parametrize(
    ("text", "words"), [("(", "is no regular expression"), ("a*", "matches everywhere"), ("a{1,99999999999999}", "is no regular expression")])
def test_a_pattern_that_is_none_is_said(text: str, words: str) -> None:
    with pytest.raises(BadPattern, match=words):
        compile_patterns([text])


def test_short_words_are_not_looked_for_everywhere() -> None:
    assert redact_body(b"none of it", (), [b"none"], ())[0] == b"none of it"


def test_bytes_that_are_no_text_stay() -> None:
    body = bytes(range(256)) * 3
    assert redact_body(body + b"sk-ant-api03-abcdefgh" + body, (), (), KEYS)[0] == body + b"sk-ant-***" + body


@given(st.binary(max_size=60), st.binary(max_size=60), st.lists(st.integers(0, 200)))
def test_marks_move_with_what_is_taken_out(before: bytes, after: bytes, cuts: list[int]) -> None:
    secret = b"0123456789-secret"
    before, after = before.replace(secret, b""), after.replace(secret, b"")
    body = before + secret + after
    marks = sorted({min(cut, len(body)) for cut in cuts} | {len(body)})
    masked, moved, count = redact_body(body, marks, [secret])
    assert masked.count(b"***") >= count >= 1
    assert secret not in masked
    assert len(moved) == len(marks)
    assert moved == sorted(moved)
    assert moved[-1] == len(masked)
    for old, new in zip(marks, moved, strict=True):
        if old <= len(before):
            assert masked[:new] == body[:old]
        elif old >= len(before) + len(secret):
            assert masked[new:] == body[old:]
        else:
            assert new == len(before) + 3


@given(st.lists(st.sampled_from(["x" * 1000, "y" * 7000, "é" * 500, " ab12 ", " ab", "12 "]), max_size=40))
def test_windows_change_nothing(words: list[str]) -> None:
    text = "".join(words)
    for pattern in (re.compile(r"ab\d+"), re.compile(r"(?<= )ab\d{2}(?= )"), re.compile("y+"), re.compile("é{3}")):
        assert search(pattern, text) == naive(pattern, text)


def test_a_match_at_or_over_the_edge_of_a_window_is_found_whole() -> None:
    pattern = re.compile(r"<[a-z]+>")
    for size in (5, AHEAD - 3):
        for at in (0, WINDOW - 2, WINDOW - 1, WINDOW, WINDOW + 1):
            assert search(pattern, "." * at + "<" + "a" * size + ">" + "." * 10) == [(at, at + size + 2)]
    greedy = re.compile("b+")
    assert search(greedy, "." * (WINDOW - 1) + "b" * (3 * WINDOW)) == [(WINDOW - 1, 4 * WINDOW - 1)]


def test_a_place_is_looked_at_in_one_window_only() -> None:
    """What lies ahead of a window is only there to be seen: a match that begins there is the next window's, which sees further."""
    pattern = re.compile(r"a(?!b)")
    text = "." * (WINDOW + AHEAD - 1) + "ab" + "." * WINDOW
    assert search(pattern, text) == naive(pattern, text) == []
    behind = re.compile(r"(?<=x)a")
    text = "." * (WINDOW - 1) + "xa" + "." * 10
    assert search(behind, text) == naive(behind, text) == [(WINDOW, WINDOW + 1)]


def test_others_are_let_in_between() -> None:
    breaths: list[None] = []
    redact_body(b"x" * (5 * WINDOW), (), (), [re.compile("secret")], lambda: breaths.append(None))
    assert len(breaths) == 5


@pytest.mark.parametrize(
    "piece",
    ["key ", "key=", "://a:", "eyJ", "sk-", "token token ", "Bearer ", "&key", 'key\\\\\\"', "key: 'a", "://", "secret=-", '"key":"'])
def test_no_body_makes_it_slow(piece: str) -> None:
    body = (piece * (60_000 // len(piece))).encode()
    begun = time.process_time()
    redact_body(body, (), (), KEYS)
    assert time.process_time() - begun < 2
    assert len(KEYS) == len(KEY_PATTERNS)
