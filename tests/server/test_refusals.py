"""Refusals of the rim are read by the client that asked."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from penstock.server.refusals import shape
from tests.support.rim import Rim, get, on_loop


def keys(path: str) -> tuple[list[str], dict[str, Any]]:
    headers, body = shape(path, 431, "Too long.")
    assert headers == [(b"content-type", b"application/json")]
    told = json.loads(body)
    assert told["error"]["message"] == "Too long."
    return sorted(told), told["error"]


@pytest.mark.parametrize("path", ["", "/", "/v1/chat/completions", "/v1/emb", "*", "junk", "/../..", "/\x00"])
def test_openai_where_nothing_else_is_known(path: str) -> None:
    top, error = keys(path)
    assert top == ["error"]
    assert "param" in error


@pytest.mark.parametrize("path", ["/v1/messages", "/anthropic/v1/messages", "/mine/v1/messages", "/v1/messages/count_tokens"])
def test_anthropic(path: str) -> None:
    top, error = keys(path)
    assert "type" in top
    assert set(error) == {"type", "message"}


def test_gemini() -> None:
    _, error = keys("/v1beta/models/gemini-2.0-flash:streamGenerateContent")
    assert error["code"] == 431
    assert "status" in error


@pytest.mark.parametrize(("data", "status"), [
    (get("/v1/messages", "Host: y"), 400),
    (get("/v1/messages", *(["X: y"] * 200)), 431),
    (get("/v1/messages?x=y", "X y: z"), 400),
    (b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nwhat", 400),
])
@on_loop
async def test_the_path_is_known_where_it_was_read(data: bytes, status: int) -> None:
    (answer,) = Rim().feed(data).answers()
    assert answer.status == status
    assert json.loads(answer.body)["type"] == "error"


@pytest.mark.parametrize("method", ["FOO", "get", "POSTS", "G", "TEARDOWN"])
@pytest.mark.parametrize("cut", [None, 1, 2, 5, 12, 30])
@pytest.mark.parametrize(("target", "protocol"), [
    ("/v1/messages?beta=true", "anthropic"),
    ("http://x/v1/messages", "anthropic"),
    ("/v1beta/models/gemini-2.0-flash:generateContent", "gemini"),
    ("/v1/responses", "openai"),
    ("/nowhere", "openai"),
])
@on_loop
async def test_an_unknown_method_is_refused_in_the_words_of_its_path(method: str, cut: int | None, target: str, protocol: str) -> None:
    data = f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    rim = Rim().feed(*([data[:cut], data[cut:]] if cut else [data]))
    (answer,) = rim.answers()
    assert not rim.talks
    assert (answer.status, answer.header(b"connection"), rim.wire.eof) == (405, b"close", True)
    told = json.loads(answer.body)
    match protocol:
        case "anthropic":
            assert (told["type"], told["error"]["type"]) == ("error", "invalid_request_error")
        case "gemini":
            assert (told["error"]["code"], told["error"]["status"]) == (405, "UNIMPLEMENTED")
        case _:
            assert (told["error"]["type"], "param" in told["error"]) == ("invalid_request_error", True)


@pytest.mark.parametrize("cuts", [[], [0], [1, 4], [30]])
@on_loop
async def test_behind_another_request_an_unknown_method_is_one_refusal_however_it_is_cut(cuts: list[int]) -> None:
    first, data = get("/a"), b"FOO /v1/messages HTTP/1.1\r\nHost: x\r\n\r\n"
    at = [0, *(len(first) + cut for cut in cuts), len(first + data)]
    rim = Rim().feed(*((first + data)[begin:end] for begin, end in itertools.pairwise(at)))
    rim.talks[0].reply.whole(200, [], b"ok")
    assert [answer.status for answer in rim.answers()] == [200, 400]
    assert rim.wire.eof


@on_loop
async def test_of_a_stray_line_nothing_is_asked_while_it_comes() -> None:
    rim = Rim().feed(b"FOO /v1/mess")
    assert not rim.wire.out
    assert not rim.talks
    rim.feed(b"ages HTTP/1.1\r\n", b"Host: x\r\n\r\n", get("/follower"))
    (answer,) = rim.answers()
    assert (answer.status, json.loads(answer.body)["type"], rim.talks) == (405, "error", [])


@on_loop
async def test_the_words_can_be_set() -> None:
    told: list[tuple[str, int, str]] = []

    def word(path: str, status: int, why: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
        told.append((path, status, why))
        return [(b"x-penstock-id", b"px-1")], b"no"

    (answer,) = Rim(refusal=word).feed(b"GET /a?b HTTP/1.1\r\n\r\n").answers()
    assert (answer.header(b"x-penstock-id"), answer.body) == (b"px-1", b"no")
    assert told == [("/a", 400, "A request needs exactly one Host header.")]
