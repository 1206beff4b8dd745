"""Refusals of the rim are read by the client that asked."""

from __future__ import annotations

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


@on_loop
async def test_the_words_can_be_set() -> None:
    told: list[tuple[str, int, str]] = []

    def word(path: str, status: int, why: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
        told.append((path, status, why))
        return [(b"x-penstock-id", b"px-1")], b"no"

    (answer,) = Rim(refusal=word).feed(b"GET /a?b HTTP/1.1\r\n\r\n").answers()
    assert (answer.header(b"x-penstock-id"), answer.body) == (b"px-1", b"no")
    assert told == [("/a", 400, "A request needs exactly one Host header.")]
