"""Errors: the provider's arrive as they are, ours in the client's own class, with status, message and the id to quote."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from google.genai import errors as google

from tests.support.gateway import providers_at, run
from tests.support.sdk import Maker, Mode, Sdk, anthropic_sdk, each_mode, gemini_sdk, openai_sdk, page, pages, recorded, site

CHAT: dict[str, Any] = {"model": "m", "messages": []}
MESSAGES: dict[str, Any] = {**CHAT, "max_tokens": 9}


@dataclass(frozen=True, slots=True)
class Way:
    """A call, where it goes, and how its client tells errors."""

    make: Maker
    path: str
    call: Callable[[Any], Any]
    classes: Mapping[int, type[Exception]]
    body: Callable[[int], dict[str, Any]]
    """The provider's words for a status."""
    quoted: str | None
    """The header from which the client takes the request's id."""


OPENAI = {
    400: openai.BadRequestError, 401: openai.AuthenticationError, 403: openai.PermissionDeniedError, 404: openai.NotFoundError,
    422: openai.UnprocessableEntityError, 429: openai.RateLimitError, 500: openai.InternalServerError, 502: openai.InternalServerError,
}  # fmt: skip
ANTHROPIC = {
    400: anthropic.BadRequestError, 401: anthropic.AuthenticationError, 403: anthropic.PermissionDeniedError, 404: anthropic.NotFoundError,
    422: anthropic.UnprocessableEntityError, 429: anthropic.RateLimitError, 500: anthropic.InternalServerError, 502: anthropic.InternalServerError,
}  # fmt: skip
GOOGLE = {status: google.ClientError if status < 500 else google.ServerError for status in OPENAI}


def openai_words(status: int) -> dict[str, Any]:
    return {"error": {"message": f"no: {status}", "type": "some_type", "param": "model", "code": "some_code"}}


def anthropic_words(status: int) -> dict[str, Any]:
    return {"type": "error", "error": {"type": "some_error", "message": f"no: {status}"}, "request_id": "req_of_provider"}


def google_words(status: int) -> dict[str, Any]:
    return {"error": {"code": status, "message": f"no: {status}", "status": "SOME_STATUS"}}


WAYS = {
    "chat": Way(openai_sdk, "/v1/chat/completions", lambda c: c.chat.completions.create(**CHAT), OPENAI, openai_words, "x-request-id"),
    "chat stream": Way(
        openai_sdk, "/v1/chat/completions", lambda c: c.chat.completions.create(**CHAT, stream=True), OPENAI, openai_words, "x-request-id"
    ),
    "responses": Way(openai_sdk, "/v1/responses", lambda c: c.responses.create(model="m", input="x"), OPENAI, openai_words, "x-request-id"),
    "embeddings": Way(openai_sdk, "/v1/embeddings", lambda c: c.embeddings.create(model="m", input="x"), OPENAI, openai_words, "x-request-id"),
    "messages": Way(anthropic_sdk, "/v1/messages", lambda c: c.messages.create(**MESSAGES), ANTHROPIC, anthropic_words, "request-id"),
    "messages stream": Way(
        anthropic_sdk, "/v1/messages", lambda c: c.messages.create(**MESSAGES, stream=True), ANTHROPIC, anthropic_words, "request-id"
    ),
    "generate": Way(
        gemini_sdk, "/v1/models/m:generateContent", lambda c: c.models.generate_content(model="m", contents="x"), GOOGLE, google_words, None
    ),
}


async def failing(sdk: Sdk, call: Callable[[Any], Any]) -> Any:
    """The error that a call raises."""
    try:
        found = await sdk.one(call)
    except Exception as error:  # whatever its class: that is what is looked at
        return error
    pytest.fail(f"no error, but {found!r}")


def status_of(error: Any) -> int:
    return error.code if isinstance(error, google.APIError) else error.status_code


def words_of(error: Any) -> Any:
    """The error's body, as the client read it."""
    return error.details if hasattr(error, "details") and not hasattr(error, "body") else error.body


@each_mode
def test_the_providers_own_errors(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        table: dict[str, Any] = {}
        async with site(tmp_path, pages(table)) as here:
            for way in WAYS.values():
                async with way.make(here.upstream_url, mode) as direct, way.make(here.url, mode) as relayed:
                    for status in (400, 401, 404, 422, 429, 500):
                        before = len(here.upstream.log)
                        table[f"POST {way.path}"] = page(way.body(status), status, "retry-after: 7")
                        wanted, found = await failing(direct, way.call), await failing(relayed, way.call)
                        assert len(here.upstream.log) == before + 2  # nothing was asked twice
                        assert type(found) is type(wanted) is way.classes[status]
                        assert (status_of(found), words_of(found), found.message, str(found)) == (
                            status,
                            words_of(wanted),
                            wanted.message,
                            str(wanted),
                        )
                        assert f"no: {status}" in str(found)
                        if way.quoted is not None:
                            assert found.request_id == "req_of_provider"
                            assert found.response.headers["retry-after"] == "7"
                        assert found.response.headers["x-penstock-id"].startswith("px-")
                        row = await here.last_row()
                        assert (row["outcome"], row["status"], row["upstream_status"], row["usage_source"]) == (
                            "UPSTREAM_ERROR",
                            status,
                            status,
                            "none",
                        )
                        assert row["error_message"] == f"no: {status}"
                        assert row["upstream_request_id"] == "req_of_provider"
                        assert row["id"] == found.response.headers["x-penstock-id"]

    run(main())


def check_ours(error: Any, way: Way, status: int, words: str) -> None:
    """An error of ours: right class, our sentence, our id in the header and in the body."""
    assert error.__class__ is way.classes[status], error
    assert status_of(error) == status
    assert words in error.message, error.message
    own = error.response.headers["x-penstock-id"]
    assert own.startswith("px-")
    assert own in json.dumps(words_of(error))


OURS = ["chat", "responses", "messages", "generate"]


@each_mode
def test_an_unreachable_provider(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))  # bound and not listening: whoever dials it is refused
            async with site(tmp_path, recorded(), lambda _: providers_at(closed.getsockname()[1])) as here:
                for way in (WAYS[kind] for kind in OURS):
                    async with way.make(here.url, mode) as sdk:
                        error = await failing(sdk, way.call)
                        check_ours(error, way, 502, "Could not reach provider")
                        row = await here.last_row()
                        assert (row["outcome"], row["status"], row["upstream_status"]) == ("UPSTREAM_LOST", 502, None)
                        assert row["id"] == error.response.headers["x-penstock-id"]

    run(main())


@each_mode
def test_a_model_that_another_protocol_serves(tmp_path: Path, mode: Mode) -> None:
    routes = {"routes": [{"model": "claude-*", "provider": "anthropic"}, {"model": "gpt-*", "provider": "openai"}]}
    asked: dict[str, tuple[Callable[[Any], Any], str]] = {
        "chat": (
            lambda c: c.chat.completions.create(model="claude-x", messages=[]),
            "model 'claude-x' is served by provider 'anthropic' (anthropic_messages); this path speaks openai_chat. Use /v1/messages",
        ),
        "responses": (lambda c: c.responses.create(model="claude-x", input="x", stream=True), "this path speaks openai_responses. Use /v1/messages"),
        "messages": (
            lambda c: c.messages.create(model="gpt-x", messages=[], max_tokens=9),
            "is served by provider 'openai' (openai_chat, openai_responses); this path speaks anthropic_messages",
        ),
        "generate": (lambda c: c.models.generate_content(model="gpt-x", contents="x"), "this path speaks gemini"),
    }

    async def main() -> None:
        async with site(tmp_path, recorded(), more=routes) as here:
            for kind, (call, words) in asked.items():
                async with WAYS[kind].make(here.url, mode) as sdk:
                    check_ours(await failing(sdk, call), WAYS[kind], 400, words)
                    assert (await here.last_row())["outcome"] == "REFUSED"
            assert not here.upstream.log

    run(main())


@each_mode
def test_paths_that_are_none_and_wrong_methods(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        async with site(tmp_path, recorded()) as here:
            async with openai_sdk(here.url, mode) as sdk:
                check_ours(
                    await failing(sdk, lambda c: c.get("/nothing/here", cast_to=object)), WAYS["chat"], 404, "there is nothing at /v1/nothing/here"
                )
                error = await failing(sdk, lambda c: c.get("/chat/completions", cast_to=object))
                assert (type(error), error.status_code, error.response.headers["allow"]) == (openai.APIStatusError, 405, "OPTIONS, POST")
            async with anthropic_sdk(here.url, mode) as sdk:
                check_ours(
                    await failing(sdk, lambda c: c.get("/v1/nothing/here", cast_to=object)),
                    WAYS["messages"],
                    404,
                    "there is nothing at /v1/nothing/here",
                )
            async with gemini_sdk(here.url, mode, api_version="v9") as sdk:
                check_ours(await failing(sdk, WAYS["generate"].call), WAYS["generate"], 404, "there is nothing at /v9/models/m:generateContent")
            assert not here.upstream.log
            assert {row["outcome"] for row in await here.running.rows()} == {"REFUSED"}

    run(main())


@each_mode
def test_bodies_that_are_no_json(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        async with site(tmp_path, recorded()) as here:
            for make, kind, path in (
                (openai_sdk, "chat", "/chat/completions"),
                (openai_sdk, "responses", "/responses"),
                (anthropic_sdk, "messages", "/v1/messages"),
            ):
                async with make(here.url, mode) as sdk:

                    def broken(client: Any, path: str = path) -> Any:
                        return client.post(path, cast_to=object, content=b'{"model": "m",', options={"headers": {"content-type": "application/json"}})

                    check_ours(await failing(sdk, broken), WAYS[kind], 400, "JSON")
            assert not here.upstream.log

    run(main())


@each_mode
def test_a_token_that_is_wrong(tmp_path: Path, mode: Mode) -> None:
    """Clients show the gateway's token as their key."""

    async def main() -> None:
        async with site(tmp_path, recorded(), more={"token": "the-token-of-the-house"}) as here:
            for kind in OURS:
                way = WAYS[kind]
                async with way.make(here.url, mode) as sdk:
                    check_ours(await failing(sdk, way.call), way, 401, "token")
            assert not here.upstream.log
            for make, listed in ((openai_sdk, "test_dbos"), (anthropic_sdk, "test_anthropic")):
                async with make(here.url, mode, api_key="the-token-of-the-house") as sdk:
                    assert any(listed in m.id for m in await sdk.many(lambda c: c.models.list()))
            assert all("the-token-of-the-house" not in str(asked.headers) for asked in here.upstream.log)

    run(main())


@each_mode
def test_two_answers_at_once_and_one_of_them_fails(tmp_path: Path, mode: Mode) -> None:
    """One client, many requests on its connections: errors and answers do not mix."""

    async def main() -> None:
        async with site(tmp_path, recorded()) as here, openai_sdk(here.url, mode) as sdk:
            good: dict[str, Any] = {"model": "replay/openai_chat/test_dbos_agent_run_stream_0", "messages": []}
            bad: dict[str, Any] = {"model": "replay/nobody", "messages": []}

            async def fail() -> Any:
                return await failing(sdk, lambda c: c.chat.completions.create(**bad))

            results = await asyncio.gather(*(sdk.one(lambda c: c.chat.completions.create(**good)) if i % 2 else fail() for i in range(12)))
            assert [type(r).__name__ for r in results] == ["NotFoundError", "ChatCompletion"] * 6
            assert sorted(row["outcome"] for row in await here.running.rows()) == ["COMPLETE"] * 6 + ["UPSTREAM_ERROR"] * 6

    run(main())
