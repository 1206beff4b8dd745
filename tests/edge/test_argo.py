"""A gateway with an imported argo-proxy configuration, over real sockets, before a provider that behaves like Argo's: behind TLS, at a name
that only `resolve` knows, with users by name, models by its own names, and refusals with 200."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.config.argo import translate
from penstock.lab.scripted import LAST_CHUNK, SSE_HEAD, Do, ScriptedServer, Visit, chunk, whole
from penstock.protocols import REGISTRY
from penstock.vocabulary.ids import Operation, ProtocolId
from tests.support.asking import Trust, until
from tests.support.gateway import Running, gateway, run
from tests.support.http import ask

NAME = "apps.argo.test"
NOTICE = "⚠️ **IMPORTANT AUTHENTICATION NOTICE FROM ARGO** ⚠️\n\nACCESS DENIED for this user."
LIST = {"data": [{"id": "gpt4o", "model_name": "GPT-4o"}, {"id": "claudesonnet45", "model_name": "Claude Sonnet 4.5"}]}
CHAT: dict[str, Any] = {"model": "argo:gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
MESSAGES: dict[str, Any] = {"model": "claude-sonnet-4-5-20250929", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}


class Argo:
    """Takes `alice` and `bob`; tells everybody else, with 200, that they are not known."""

    def __init__(self, trust: Trust) -> None:
        self.names: list[str | None] = []
        """The server names that TLS handshakes asked for."""
        self.context = trust.server(NAME)
        self.context.sni_callback = self._saw
        self.server = ScriptedServer(self._answer)

    def _saw(self, _: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> None:
        self.names.append(name)

    async def _answer(self, visit: Visit) -> None:
        asked = visit.asked
        headers = dict(asked.headers)
        await visit.body()
        if asked.method == "GET":
            await visit.send(whole(json.dumps(LIST).encode()))
            return
        body = json.loads(asked.body)
        anthropic = asked.path.endswith("/messages")
        user = headers.get("x-api-key") if anthropic else headers.get("authorization", "").removeprefix("Bearer ")
        stated = body["metadata"]["user_id"] if anthropic else body["user"]
        assert user == stated, "one identity, in both places"
        text = f"Hello {user} from {body['model']}" if user in ("alice", "bob") else NOTICE
        if not body.get("stream"):
            await visit.send(whole(json.dumps(_messages(text) if anthropic else _chat(text)).encode()))
            return
        await visit.send(SSE_HEAD)
        for frame in _events(text) if anthropic else _frames(text):
            await visit.send(chunk(frame))
        await visit.send(LAST_CHUNK)


def _chat(text: str) -> dict[str, Any]:
    return {"id": "c", "object": "chat.completion", "model": "m", "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}]}


def _messages(text: str) -> dict[str, Any]:
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}


def _frames(text: str) -> list[bytes]:
    deltas: list[dict[str, Any]] = [{"role": "assistant"}, *({"content": text[at : at + 4]} for at in range(0, len(text), 4))]
    said: list[dict[str, Any]] = [{"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    last: dict[str, Any] = {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    return [b"data: %b\n\n" % json.dumps(frame).encode() for frame in (*said, last)] + [b"data: [DONE]\n\n"]


def _events(text: str) -> list[bytes]:
    """Whole bodies are asked for as streams, too."""
    return [*REGISTRY[ProtocolId.ANTHROPIC_MESSAGES].unfold(Operation.MESSAGES, json.dumps(_messages(text)).encode(), 4)]


@asynccontextmanager
async def imported(directory: Path, more: str = "user: alice\n", *, alive: bool = True) -> AsyncGenerator[tuple[Running, Argo]]:
    trust = Trust(directory)
    argo = Argo(trust)
    port = await argo.server.start(tls=argo.context)
    if not alive:
        argo.server.close()
    text = f"host: 127.0.0.1\nport: 44497\nargo_base_url: https://{NAME}:{port}/argoapi\nresolve_overrides: {{\"{NAME}:{port}\": 127.0.0.1}}\n{more}"
    written = yaml.safe_load(translate(text, str(directory / "argo.yaml"), {}).text)
    providers = written.pop("providers")
    del written["listen"]
    try:
        async with gateway(directory, providers, {**written, "upstream": {"ca_file": trust.file}}) as running:
            yield running, argo
    finally:
        argo.server.close()


def asked_for(argo: Argo, method: str = "POST") -> list[Any]:
    return [asked for asked in argo.server.log if asked.method == method]


def test_both_protocols_reach_it_by_the_pinned_address_under_its_name(tmp_path: Path) -> None:
    async def work() -> None:
        async with imported(tmp_path) as (running, argo):
            answer = await ask(running.port, "POST", "/v1/chat/completions", CHAT, {"authorization": "Bearer mallory"})
            assert answer.json()["choices"][0]["message"]["content"] == "Hello alice from gpt4o"
            answer = await ask(running.port, "POST", "/v1/messages", MESSAGES, {"x-api-key": "mallory"})
            assert answer.json()["content"][0]["text"] == "Hello alice from claudesonnet45"
            assert set(argo.names) == {NAME}
            assert {asked.path for asked in argo.server.log} == {
                "/argoapi/v1/models", "/argoapi/v1/chat/completions", "/argoapi/v1/messages"}
            assert all(dict(asked.headers)["host"].partition(":")[0] == NAME for asked in argo.server.log)
            assert "mallory" not in str([(asked.headers, asked.body) for asked in argo.server.log])
            assert [row["outcome"] for row in await running.rows()] == ["COMPLETE", "COMPLETE"]

    run(work())


def test_streams_pass_unchanged(tmp_path: Path) -> None:
    async def work() -> None:
        async with imported(tmp_path) as (running, _):
            body = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
            answer = await ask(running.port, "POST", "/v1/chat/completions", body)
            assert answer.body == b"".join(_frames("Hello alice from gpt4o"))
            assert [row["outcome"] for row in await running.rows()] == ["COMPLETE"]

    run(work())


@pytest.mark.parametrize("stream", [False, True])
def test_a_user_that_argo_does_not_know_is_an_error(tmp_path: Path, stream: bool) -> None:
    async def work() -> None:
        async with imported(tmp_path, "user: mallory\n") as (running, _):
            answer = await ask(running.port, "POST", "/v1/chat/completions", {**CHAT, "stream": stream})
            assert answer.status == 403
            assert "ACCESS DENIED for this user." in answer.json()["error"]["message"]
            if not stream:
                answer = await ask(running.port, "POST", "/v1/messages", MESSAGES)
                assert (answer.status, answer.json()["error"]["type"]) == (403, "permission_error")
            assert {row["outcome"] for row in await running.rows()} == {"UPSTREAM_ERROR"}

    run(work())


def test_each_clients_key_is_its_user_and_the_operators_name_is_nowhere(tmp_path: Path) -> None:
    async def work() -> None:
        async with imported(tmp_path, "user: operator\nusername_passthrough: true\n") as (running, argo):
            for user in ("alice", "bob"):
                answer = await ask(running.port, "POST", "/v1/chat/completions", CHAT, {"authorization": f"Bearer {user}"})
                assert answer.json()["choices"][0]["message"]["content"] == f"Hello {user} from gpt4o"
                answer = await ask(running.port, "POST", "/v1/messages", MESSAGES, {"authorization": f"Bearer {user}"})
                assert answer.json()["content"][0]["text"] == f"Hello {user} from claudesonnet45"
            assert (await ask(running.port, "POST", "/v1/chat/completions", CHAT)).status == 401
            assert (await ask(running.port, "POST", "/v1/chat/completions", CHAT, {"authorization": "Bearer eve"})).status == 403
            everything = str([(asked.headers, asked.body) for asked in argo.server.log])
            assert "operator" not in everything
            users = [json.loads(asked.body).get("user") for asked in asked_for(argo) if asked.path.endswith("completions")]
            assert users == ["alice", "bob", "eve"]

    run(work())


def test_an_unknown_model_is_a_404_and_nothing_is_asked_in_its_place(tmp_path: Path) -> None:
    async def work() -> None:
        async with imported(tmp_path) as (running, argo):
            answer = await ask(running.port, "POST", "/v1/chat/completions", {**CHAT, "model": "gpt-9-turbo"})
            assert answer.status == 404
            assert "'gpt-9-turbo'" in answer.json()["error"]["message"]
            assert asked_for(argo) == []

    run(work())


@pytest.mark.parametrize("headers", [{}, {"anthropic-version": "2023-06-01"}])
def test_models_are_listed_by_the_names_that_are_looked_up_in_the_clients_shape(tmp_path: Path, headers: dict[str, str]) -> None:
    async def work() -> None:
        async with imported(tmp_path) as (running, _):
            listed = (await ask(running.port, "GET", "/v1/models", headers=headers)).json()["data"]
            assert {"argo:gpt-4o", "argo:claude-sonnet-4.5", "argo:claude-4.5-sonnet"} <= {model["id"] for model in listed}
            members = {"type", "id", "display_name", "created_at", "lifecycle"} if headers else {"id", "object", "created", "owned_by"}
            assert all(set(model) == members for model in listed)

    run(work())


def test_at_the_start_each_provider_is_tried(tmp_path: Path) -> None:
    async def work() -> None:
        async with imported(tmp_path) as (_, argo):
            await until(lambda: len(asked_for(argo, "GET")) == 2, 5)

    run(work())


def test_a_provider_that_is_not_there_is_a_warning_and_serving_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        async with imported(tmp_path, alive=False) as (running, _):
            await until(lambda: len(caplog.messages) == 2, 5)
            assert (await ask(running.port, "POST", "/v1/chat/completions", {**CHAT, "model": "demo"})).status == 200
            answer = await ask(running.port, "POST", "/v1/chat/completions", CHAT)
            assert answer.status == 502
            assert "the list of models could not be had" in answer.json()["error"]["message"]

    with caplog.at_level(logging.WARNING, "penstock"):
        run(work())
    assert sorted(caplog.messages)[:2] == [
        f"provider {name!r} is not well: the provider refused the connection" for name in ("argo", "argo-anthropic")]


def test_a_stop_does_not_wait_for_providers_that_are_silent(tmp_path: Path) -> None:
    async def work() -> None:
        silent = ScriptedServer([Do.READ, Do.WAIT_FOR_CLIENT])
        port = await silent.start()
        one = {"one": {"protocol": "openai", "base_url": f"http://127.0.0.1:{port}"}}
        async with asyncio.timeout(30), gateway(tmp_path, one, {"connection_test_timeout": "1h"}):
            await silent.asked(1)
        silent.close()

    run(work())


def test_elsewhere_nobody_is_called_at_the_start(tmp_path: Path) -> None:
    async def work() -> None:
        provider = ScriptedServer([Do.READ, whole(b"{}")])
        port = await provider.start()
        async with gateway(tmp_path, {"one": {"protocol": "openai", "base_url": f"http://127.0.0.1:{port}"}}) as running:
            assert (await ask(running.port, "POST", "/v1/chat/completions", {**CHAT, "model": "demo"})).status == 200
        assert provider.log == []
        provider.close()

    run(work())
