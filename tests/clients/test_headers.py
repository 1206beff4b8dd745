"""What the official clients send beside the body, and what they are told beside the answer: keys, logins, headers, ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from anthropic import Anthropic

from penstock.lab.http1 import Asked
from tests.support.gateway import providers_at, run
from tests.support.sdk import KEY, Maker, Mode, Site, anthropic_sdk, case, each_mode, gemini_sdk, openai_sdk, page, pages, recorded, site

NAMES = {
    "chat": "openai_chat/test_dbos_agent_run_stream_0", "responses": "openai_responses/test_openai_responses_stream_1",
    "messages": "anthropic_messages/test_anthropic_native_tool_search_streaming_0", "generate": "gemini/test_google_model_web_fetch_tool_stream_0",
}  # fmt: skip
MODELS = {kind: f"replay/{name}" for kind, name in NAMES.items()}
CALLS: dict[str, tuple[Maker, Callable[[Any], Any]]] = {
    "chat": (openai_sdk, lambda c: c.chat.completions.create(model=MODELS["chat"], messages=[])),
    "responses": (openai_sdk, lambda c: c.responses.create(model=MODELS["responses"], input="x")),
    "messages": (anthropic_sdk, lambda c: c.messages.create(model=MODELS["messages"], messages=[], max_tokens=9)),
    "generate": (gemini_sdk, lambda c: c.models.generate_content(model=MODELS["generate"], contents="x")),
}
ANTHROPICS_WAY = ("x-api-key", "") if Anthropic(api_key=KEY).auth_headers.get("X-Api-Key") else ("authorization", "Bearer ")
"""Its client has come to send its key as a bearer token; earlier versions had a header of their own, which still is the provider's way."""
CLIENTS_WAY = {
    "chat": ("authorization", "Bearer "),
    "responses": ("authorization", "Bearer "),
    "messages": ANTHROPICS_WAY,
    "generate": ("x-goog-api-key", ""),
}
"""Where each client puts its key."""
HOUSES_WAY = {**CLIENTS_WAY, "messages": ("x-api-key", "")}
HOUSE_KEYS = {"chat": "sk-test-openai", "responses": "sk-test-openai", "messages": "sk-ant-api-test", "generate": "AIza-test"}
OAUTH = "sk-ant-oat01-somebodys-subscription"
AS_IT_CAME = {"anthropic_stream_mode": "passthrough"}
"""Else Anthropic providers are asked for streams."""


def without_keys(port: int) -> dict[str, Any]:
    return {name: {k: v for k, v in settings.items() if k != "api_key"} for name, settings in providers_at(port).items()}


async def pair(here: Site, make: Maker, mode: Mode, call: Callable[[Any], Any], **more: Any) -> tuple[Asked, Asked]:
    """The same call straight to the upstream and through the gateway, as the upstream got them."""
    await here.both(make, mode, lambda sdk: sdk.one(call), **more)
    straight, relayed = here.upstream.log[-2:]
    return straight, relayed


HOP = {"host", "accept-encoding", "connection", "content-length", "transfer-encoding"}
"""What belongs to a connection and not to a request; the length is held by comparing the bodies."""


def sent(asked: Asked, *besides: str) -> list[tuple[str, str]]:
    return sorted(pair for pair in asked.headers if pair[0] not in HOP and pair[0] not in besides)


@each_mode
def test_the_providers_key_goes_up_and_the_clients_stays(tmp_path: Path, mode: Mode) -> None:

    async def main() -> None:
        async with site(tmp_path, recorded(), more=AS_IT_CAME) as here:
            for kind in CALLS:
                make, call = CALLS[kind]
                (own, own_scheme), (header, scheme) = CLIENTS_WAY[kind], HOUSES_WAY[kind]
                straight, relayed = await pair(here, make, mode, call)
                assert straight.header(own) == own_scheme + KEY
                assert [value for name, value in relayed.headers if name == header] == [scheme + HOUSE_KEYS[kind]]
                assert KEY not in str(relayed.headers) + relayed.target
                # All else is the client's, to the letter: x-stainless-*, user agents, versions; and nothing was added.
                assert sent(relayed, header) == sent(straight, own)
                assert relayed.body == straight.body
                assert relayed.header("accept-encoding") == "identity"
                row = await here.last_row()
                assert row["user_agent"] == straight.header("user-agent")
                assert row["key_fingerprint"]
                assert KEY not in str(row)

    run(main())


@each_mode
def test_without_a_key_the_clients_own_passes_as_it_came(tmp_path: Path, mode: Mode) -> None:

    async def main() -> None:
        async with site(tmp_path, recorded(), without_keys, AS_IT_CAME) as here:
            for kind in CALLS:
                make, call = CALLS[kind]
                straight, relayed = await pair(here, make, mode, call)
                assert sent(relayed) == sent(straight)
                assert relayed.body == straight.body
                assert relayed.target == straight.target

    run(main())


@each_mode
@pytest.mark.parametrize("configured", [providers_at, without_keys])
def test_a_login_passes_even_where_a_key_is_configured(tmp_path: Path, configured: Callable[[int], Mapping[str, Any]], mode: Mode) -> None:
    async def main() -> None:
        async with site(tmp_path, recorded(), configured) as here:
            beta = {"anthropic-beta": "oauth-2025-04-20"}
            straight, relayed = await pair(here, anthropic_sdk, mode, CALLS["messages"][1], api_key=None, auth_token=OAUTH, default_headers=beta)
            assert relayed.header("authorization") == f"Bearer {OAUTH}"
            assert relayed.header("x-api-key") is None
            assert relayed.header("anthropic-beta") == "oauth-2025-04-20"
            assert sent(relayed) == sent(straight)
            assert OAUTH not in str(await here.last_row())

    run(main())


@each_mode
def test_a_key_in_bearer_form_is_no_login(tmp_path: Path, mode: Mode) -> None:
    """Anthropic's client with an `auth_token` that is a key: it stays in the house."""

    async def main() -> None:
        async with site(tmp_path, recorded()) as here:
            _, relayed = await pair(here, anthropic_sdk, mode, CALLS["messages"][1], api_key=None, auth_token="sk-ant-api03-own")
            assert relayed.header("authorization") is None
            assert relayed.header("x-api-key") == HOUSE_KEYS["messages"]

    run(main())


@each_mode
def test_headers_of_the_clients_pass_to_the_letter(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        async with site(tmp_path, recorded()) as here:
            named: dict[str, str] = {
                "X-Own": 'a, b;c="d"',
                "openai-beta": "responses=v9",
                "cookie": "a=b",
                "x-forwarded-for": "10.0.0.1",
                "referer": "http://x/",
            }
            straight, relayed = await pair(here, openai_sdk, mode, CALLS["chat"][1], organization="org-1", project="proj-1", default_headers=named)
            for name, value in (
                ("openai-organization", "org-1"),
                ("openai-project", "proj-1"),
                ("x-own", named["X-Own"]),
                ("openai-beta", "responses=v9"),
            ):
                assert relayed.header(name) == straight.header(name) == value
            assert [name for name, _ in relayed.headers if name in ("cookie", "x-forwarded-for", "referer")] == []
            stainless = [pair for pair in straight.headers if pair[0].startswith("x-stainless-")]
            assert len(stainless) > 5
            assert [pair for pair in relayed.headers if pair[0].startswith("x-stainless-")] == stainless

            straight, relayed = await pair(
                here,
                anthropic_sdk,
                mode,
                lambda c: c.beta.messages.create(model=MODELS["messages"], messages=[], max_tokens=9, betas=["one-2026", "two-2026"]),
            )
            assert relayed.header("anthropic-beta") == straight.header("anthropic-beta") == "one-2026,two-2026"
            assert relayed.header("anthropic-version") == straight.header("anthropic-version")
            assert [name for name, _ in relayed.headers].count("anthropic-version") == 1
            assert relayed.target == straight.target

            straight, relayed = await pair(here, gemini_sdk, mode, CALLS["generate"][1], headers={"x-goog-user-project": "p-1"})
            for name in ("x-goog-api-client", "user-agent", "x-goog-user-project"):
                assert relayed.header(name) == straight.header(name) is not None

    run(main())


@each_mode
def test_queries_pass_to_the_letter_but_for_keys(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        async with site(tmp_path, recorded()) as here:
            straight, relayed = await pair(here, openai_sdk, mode, CALLS["chat"][1], default_query={"api-version": "2026-01-01", "x": "a b/ü&c"})
            assert relayed.target == straight.target
            assert "api-version=2026-01-01" in relayed.target
            _, relayed = await pair(here, openai_sdk, mode, CALLS["chat"][1], default_query={"api-version": "1", "key": KEY})
            assert relayed.target == "/v1/chat/completions?api-version=1"

    run(main())


@each_mode
@pytest.mark.parametrize("stream", [False, True])
def test_ids_arrive_in_raw_responses(tmp_path: Path, stream: bool, mode: Mode) -> None:
    """The gateway's id and the provider's own, both of which are in the row."""
    frames = case(NAMES["chat"])
    ids = "x-request-id: req_of_provider", "request-id: req_of_provider", "x-ratelimit-remaining-requests: 99", "set-cookie: a=b"

    async def main() -> None:
        async with site(tmp_path, recorded()) as here:
            async with openai_sdk(here.url, mode) as sdk:
                raw = await sdk.one(lambda c: c.chat.completions.with_raw_response.create(model=MODELS["chat"], messages=[], stream=stream))
                await _check(here, raw)
                assert raw.request_id.startswith("req_replay_")
                parsed = raw.parse()
                found = await sdk.many(lambda _: parsed) if stream else [parsed]
                assert found[0].id == frames.expected["response_id"]
                raw = await sdk.one(lambda c: c.responses.with_raw_response.create(model=MODELS["responses"], input="x", stream=stream))
                await _check(here, raw)
            async with anthropic_sdk(here.url, mode) as sdk:
                raw = await sdk.one(lambda c: c.messages.with_raw_response.create(model=MODELS["messages"], messages=[], max_tokens=9, stream=stream))
                await _check(here, raw)
            async with gemini_sdk(here.url, mode) as sdk:
                if stream:
                    answer = (await sdk.many(lambda c: c.models.generate_content_stream(model=MODELS["generate"], contents="x")))[-1]
                else:
                    answer = await sdk.one(lambda c: c.models.generate_content(model=MODELS["generate"], contents="x"))
                await _check(here, answer.sdk_http_response)

        async with (
            site(tmp_path, pages({"POST /v1/embeddings": page({"object": "list", "model": "e", "data": []}, 200, *ids[2:])})) as here,
            openai_sdk(here.url, mode) as sdk,
        ):
            raw = await sdk.one(lambda c: c.embeddings.with_raw_response.create(model="e", input="x"))
            assert raw.headers["x-request-id"] == raw.headers["request-id"] == "req_of_provider"
            assert raw.headers["x-ratelimit-remaining-requests"] == "99"
            assert "set-cookie" not in raw.headers
            assert "content-length" in raw.headers

    async def _check(here: Site, raw: Any) -> None:
        row = await here.last_row()
        assert raw.headers["x-penstock-id"] == row["id"]
        assert raw.headers["x-request-id"] == row["upstream_request_id"]
        assert raw.headers["x-request-id"].startswith("req_replay_")
        # Framing is the upstream's: chunks for a stream, a length for a body.
        assert ("content-length" in raw.headers) == (not stream)

    run(main())
