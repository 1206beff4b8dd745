"""What an answer's head decides: its mode, whether it is anybody's word, and the headers that go down with it or beside a body of ours."""

from __future__ import annotations

from itertools import product

import pytest

from penstock.exchange.compose_answer import Course, course_of, headers_beside, headers_down, is_foreign
from penstock.exchange.conduct import Conduct
from penstock.exchange.contract import Headers
from penstock.exchange.plan import Plan
from penstock.pipeline.contract import Pipeline
from penstock.pipeline.stream import StreamRelay
from penstock.protocols import REGISTRY
from penstock.protocols.contract import Peek
from penstock.routing import Endpoint, resolve
from penstock.upstream.contract import ResponseHead
from penstock.vocabulary.outcome import Ending
from tests.support.exchanges import CHUNK, DONE, SSE, STOP, USAGE, House

HTML: Headers = [(b"content-type", b"text/html; charset=utf-8")]
BR: Headers = [(b"content-type", b"text/event-stream"), (b"content-encoding", b"br")]
JSON: Headers = [(b"content-type", b"application/json")]


def plan(path: str = "/v1/chat/completions", method: str = "POST") -> Plan:
    endpoint = resolve(method, path, False, {})
    assert isinstance(endpoint, Endpoint)
    return Plan(REGISTRY, endpoint, [], "")


def pipeline(house: House, headers: Headers, conduct: Conduct | None = None, status: int = 200) -> Pipeline:
    head = ResponseHead(status, headers)
    peek = Peek("m", stream=True)
    return course_of(house.gateway, plan(), conduct or Conduct(), peek, head, take_usage=False).make(5.0)


def ending(pipe: Pipeline) -> Ending:
    return pipe.conclude(True, "").ending


def test_a_stream_that_is_never_closed_is_completed_where_the_conduct_says_so(house: House) -> None:
    plain, repaired, transparent = (
        pipeline(house, SSE, conduct)
        for conduct in (Conduct(), Conduct(terminal="finish_reason"), Conduct(terminal="finish_reason", transparent=True))
    )
    for pipe in (plain, repaired, transparent):
        pipe.feed(CHUNK + STOP, 5.0)
    assert [ending(plain), ending(repaired), ending(transparent)] == [Ending.TRUNCATED, Ending.COMPLETE, Ending.TRUNCATED]
    assert repaired.end(None, "x") == DONE


@pytest.mark.parametrize("kept", [True, False])
def test_the_last_bytes_are_kept_where_the_conduct_says_so(house: House, kept: bool) -> None:
    pipe = pipeline(house, SSE, Conduct(tail_content=kept))
    assert isinstance(pipe, StreamRelay)
    pipe.feed(CHUNK + b"data: half", 5.0)
    assert pipe.tail_bytes() == (CHUNK + b"data: half" if kept else b"")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1beta/models/m:generateContent"])
@pytest.mark.parametrize(
    ("status", "headers", "foreign"),
    [
        (500, HTML, True),
        (404, [(b"Content-Type", b"text/plain")], True),
        (502, [], True),
        (500, JSON, False),
        (400, [(b"content-type", b"application/problem+json; charset=utf-8")], False),
        (500, [*HTML, (b"content-encoding", b"gzip")], True),
        (500, [*HTML, (b"content-encoding", b"br")], False),
        (500, [*HTML, (b"content-encoding", b"identity")], True),
        (200, HTML, True),
        (200, [*HTML, (b"content-encoding", b"br")], False),
        (200, JSON, False),
        (200, [], False),
        (200, [(b"content-type", b"text/plain")], False),
        (302, HTML, False),
    ],
)
def test_nobodys_word(path: str, status: int, headers: Headers, foreign: bool) -> None:
    assert is_foreign(plan(path), ResponseHead(status, headers)) is foreign


@pytest.mark.parametrize(("method", "path", "described"), [
    ("GET", "/v1/files", True), ("DELETE", "/v1/files/f1", True), ("POST", "/v1/batches", True), ("POST", "/v1/embeddings", True),
    ("GET", "/v1/models/m", True), ("GET", "/v1beta/models/m", True), ("GET", "/v1/files/f1/content", False),
])  # fmt: skip
def test_only_an_error_is_nobodys_word_where_no_answer_is_read_and_none_where_bytes_are(method: str, path: str, described: bool) -> None:
    for status in (200, 404, 500):
        assert is_foreign(plan(path, method), ResponseHead(status, HTML)) is (described and status >= 400)


def test_a_page_where_no_stream_or_answer_was_promised_is_passed_on() -> None:
    """Counting tokens has no stream: a page there is an error only by its status."""
    counting = plan("/v1/messages/count_tokens")
    assert not is_foreign(counting, ResponseHead(200, HTML))
    assert is_foreign(counting, ResponseHead(500, HTML))


def down(
    headers: Headers, *, decoded: bool = False, streamed: bool = True, transparent: bool = False, drops: frozenset[bytes] = frozenset()
) -> Headers:
    return headers_down(ResponseHead(200, headers), drops, decoded=decoded, streamed=streamed, transparent=transparent)


def test_streams_ask_not_to_be_buffered() -> None:
    ours = [(b"cache-control", b"no-cache, no-transform"), (b"x-accel-buffering", b"no")]
    assert down([(b"a", b"b")]) == [(b"a", b"b"), *ours]
    assert down([(b"X-Accel-Buffering", b"yes")]) == ours
    assert down([(b"Cache-Control", b"no-store")]) == [(b"cache-control", b"no-store, no-transform"), ours[1]]
    assert dict(down([(b"Cache-Control", b"private, no-transform")]))[b"x-accel-buffering"] == b"no"


@pytest.mark.parametrize("stated", [b"no-transform", b"private, no-transform", b"max-age=0,no-transform"])
def test_a_cache_control_that_says_it_already_is_the_providers(stated: bytes) -> None:
    assert down([(b"Cache-Control", stated)]) == [(b"cache-control", stated), (b"x-accel-buffering", b"no")]


def test_several_words_on_caching_are_all_kept() -> None:
    assert down([(b"Cache-Control", b"private"), (b"cache-control", b"no-store")])[0] == (b"cache-control", b"private, no-store, no-transform")


def test_bodies_and_transparent_streams_have_the_providers_headers_alone() -> None:
    headers: Headers = [(b"Cache-Control", b"no-store"), (b"X-Accel-Buffering", b"yes")]
    assert down(headers, streamed=False) == headers
    assert down(headers, transparent=True) == headers


def test_a_coding_that_was_taken_off_is_not_told() -> None:
    headers: Headers = [(b"Content-Encoding", b"gzip"), (b"Content-Type", b"application/json")]
    assert down(headers, streamed=False) == headers
    assert down(headers, streamed=False, decoded=True) == [(b"Content-Type", b"application/json")]


def test_what_is_to_stay_in_the_house() -> None:
    assert down([(b"X-Inner", b"1"), (b"Set-Cookie", b"1")], streamed=False, drops=frozenset({b"x-inner"})) == []


def test_beside_a_body_of_ours() -> None:
    """Whose answer it was, and when to come again; nothing of the body that is not sent."""
    kept: Headers = [
        (b"X-Request-Id", b"req_1"), (b"request-id", b"req_2"), (b"Retry-After", b"7"), (b"retry-after-ms", b"7000"), (b"x-should-retry", b"true"),
        (b"x-ratelimit-remaining-requests", b"0"), (b"anthropic-ratelimit-tokens-reset", b"t"), (b"openai-processing-ms", b"3"),
    ]  # fmt: skip
    body: Headers = [
        (b"Content-Type", b"text/html"), (b"Content-Encoding", b"gzip"), (b"Content-Length", b"9"), (b"Transfer-Encoding", b"chunked"),
        (b"Set-Cookie", b"a=b"), (b"x-penstock-id", b"forged"), (b"X-Inner", b"1"),
    ]  # fmt: skip
    assert headers_beside(ResponseHead(503, [*kept, *body]), frozenset({b"x-inner"})) == kept


def test_what_is_remembered_of_an_answer_is_what_would_be_decided_again(house: House) -> None:
    asked = plan()
    strict, repaired = Conduct(), Conduct(terminal="finish_reason")
    told: list[tuple[str, Ending]] = []
    for _ in range(2):
        for conduct, headers, stream, take_usage in product((strict, repaired), (SSE, JSON, HTML, [], BR), (True, False), (True, False)):
            head, peek = ResponseHead(200, headers), Peek("m", stream=stream)
            course, fresh = (course_of(house.gateway, p, conduct, peek, head, take_usage=take_usage) for p in (asked, plan()))
            pipe, other = course.make(5.0), fresh.make(5.0)
            assert pipe is not course.make(5.0), "each answer has its own"
            assert type(pipe) is type(other)
            assert course[1:] == fresh[1:]
            assert (course.recipe.streamed, course.recipe.decoded) == (fresh.recipe.streamed, fresh.recipe.decoded)
            fed = pipe.feed(CHUNK + STOP + USAGE, 5.0)
            assert fed == other.feed(CHUNK + STOP + USAGE, 5.0)
            assert pipe.conclude(True, "") == other.conclude(True, "")
            told.append((type(pipe).__name__, ending(pipe)))
    assert told[: len(told) // 2] == told[len(told) // 2 :]
    assert len(set(told)) > 3, "they differ by what was asked and what the head says"


def test_a_course_is_known_again_and_an_errors_is_not(house: House) -> None:
    asked, conduct = plan(), Conduct()

    def course(status: int, kind: bytes = b"text/event-stream") -> Course:
        head = ResponseHead(status, [(b"content-type", kind), (b"content-length", b"0")])
        return course_of(house.gateway, asked, conduct, Peek("m", stream=True), head, take_usage=False)

    assert course(200) is course(200)
    assert course(200) is not course(201)
    assert course(200) is not course(200, b"text/event-stream; charset=utf-8")
    assert course(500) is not course(500)
    kept = len(asked.courses)
    course(200, b"text/" + b"x" * 300)
    assert len(asked.courses) == kept, "who makes up long words is not remembered"
    for number in range(300):
        course(200, b"text/%d" % number)
    assert len(asked.courses) <= 64
