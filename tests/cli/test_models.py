"""`penstock models` and `penstock check --probe`: what providers answer when they are asked by a command."""

from __future__ import annotations

import json
import socket
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from penstock.cli import app
from tests.support.operator import Provider

JSON = {"content-type": "application/json"}
LIST = b'{"object":"list","data":[{"id":"gpt-4o"},{"id":"o3"}]}'
ARGO = b'{"data":[{"id":"gpt4o","model_name":"GPT-4o"},{"id":"claudesonnet45","model_name":"Claude Sonnet 4.5"}]}'


@pytest.fixture
def dead() -> Generator[str]:
    """The base URL of a provider that is not there: its port is taken, and nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/v1"


def write(tmp_path: Path, providers: dict[str, Any], **more: Any) -> str:
    file = tmp_path / "p.yaml"
    file.write_text(json.dumps({"providers": providers, **more}))
    return str(file)


def rows(cli: CliRunner, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
    result = cli.invoke(app, ["models", "--json", *arguments])
    assert result.exit_code == code, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_models_and_the_names_that_routes_give_them(cli: CliRunner, tmp_path: Path, provider: Provider) -> None:
    provider.answer = 200, JSON, LIST
    file = write(
        tmp_path, {"one": {"protocol": "openai", "base_url": provider.base, "api_key": "sk-own"}},
        routes=[{"model": "fast", "provider": "one", "rename": "gpt-4o"}, {"model": "x-*", "provider": "one", "rename": "o3"},
                {"model": "new", "provider": "one", "rename": "gpt-9"}],
    )  # fmt: skip
    assert rows(cli, "--config", file) == [
        {"provider": "one", "model": "gpt-4o", "aliases": ["fast"]},
        {"provider": "one", "model": "o3", "aliases": []},
        {"provider": "one", "model": "gpt-9", "aliases": ["new"], "listed": False},
    ]
    assert [(seen.method, seen.path, seen.headers["authorization"]) for seen in provider.seen] == [("GET", "/v1/models", "Bearer sk-own")]
    table = cli.invoke(app, ["models", "--config", file]).stdout
    assert [line.split() for line in table.splitlines()][:2] == [["provider", "model", "aliases"], ["one", "gpt-4o", "fast"]]


def test_argos_names_have_their_aliases(cli: CliRunner, tmp_path: Path, provider: Provider) -> None:
    provider.answer = 200, JSON, ARGO
    file = write(tmp_path, {"argo": {"protocol": "anthropic", "base_url": provider.base, "user": "alice", "model_names": "argo"}})
    found = rows(cli, "--config", file)
    assert found[:2] == [
        {"provider": "argo", "model": "gpt4o", "aliases": ["argo:gpt-4o"]},
        {"provider": "argo", "model": "claudesonnet45", "aliases": ["argo:claude-sonnet-4.5", "argo:claude-4.5-sonnet"]},
    ]
    assert provider.seen[0].headers["x-api-key"] == "alice"


def test_legacy_argos_names_have_their_aliases_too(cli: CliRunner, tmp_path: Path, provider: Provider) -> None:
    provider.answer = 200, JSON, ARGO
    file = write(tmp_path, {"argo": {"protocol": "argo_legacy", "base_url": provider.base, "user": "alice"}})
    found = rows(cli, "--config", file)
    assert found[1] == {"provider": "argo", "model": "claudesonnet45", "aliases": ["argo:claude-sonnet-4.5", "argo:claude-4.5-sonnet"]}
    assert provider.seen[0].path.endswith("/api/v1/models/")


def test_a_dead_provider_is_told_and_does_not_fail_the_rest(cli: CliRunner, tmp_path: Path, provider: Provider, dead: str) -> None:
    provider.answer = 200, JSON, LIST
    file = write(tmp_path, {"dead": {"protocol": "openai", "base_url": dead}, "one": {"protocol": "openai", "base_url": provider.base}})
    found = rows(cli, "--config", file)
    assert found[0] == {"provider": "dead", "error": "the provider refused the connection"}
    assert [row["model"] for row in found[1:]] == ["gpt-4o", "o3"]
    result = cli.invoke(app, ["models", "--config", file])
    assert result.exit_code == 0
    assert "penstock: provider 'dead' lists nothing: the provider refused the connection" in result.stderr
    assert "gpt-4o" in result.stdout


def test_if_none_answers_that_is_a_failure(cli: CliRunner, tmp_path: Path, dead: str) -> None:
    file = write(tmp_path, {"dead": {"protocol": "openai", "base_url": dead}})
    assert rows(cli, "--config", file, code=1) == [{"provider": "dead", "error": "the provider refused the connection"}]


def test_some_providers_alone(cli: CliRunner, tmp_path: Path, provider: Provider, dead: str) -> None:
    provider.answer = 200, JSON, b'{"data":[]}'
    file = write(tmp_path, {"dead": {"protocol": "openai", "base_url": dead}, "one": {"protocol": "openai", "base_url": provider.base}})
    assert rows(cli, "--config", file, "--provider", "one") == []
    assert cli.invoke(app, ["models", "--config", file, "--provider", "one"]).stdout == "one: its list is empty\n"
    result = cli.invoke(app, ["models", "--config", file, "--provider", "on"])
    assert result.exit_code == 2
    assert "there is dead, one" in result.stderr


@pytest.mark.parametrize(("status", "body", "well", "told"), [
    (200, LIST, True, "answers, and lists 2 models"),
    (200, b'{"data":[{"id":"a"}]}', True, "answers, and lists 1 model"),
    (404, b"", True, "answers, though not with a list of models (404)"),
    (401, b"", False, "does not take the key (401)"),
    (500, b"", False, "the provider answered 500"),
    (200, b"<html>", False, "the answer is no list of models; is the base URL right?"),
])
def test_probe_asks_and_tells_who_is_well(
    cli: CliRunner, tmp_path: Path, provider: Provider, status: int, body: bytes, well: bool, told: str
) -> None:  # fmt: skip
    provider.answer = status, JSON, body
    file = write(tmp_path, {"one": {"protocol": "openai", "base_url": provider.base, "api_key": "sk-own"}})
    assert cli.invoke(app, ["check", file]).exit_code == 0
    assert provider.seen == [], "nobody is called unless that is asked for"
    result = cli.invoke(app, ["check", file, "--probe"])
    assert result.exit_code == (0 if well else 1)
    assert f"one: {told}\n" in (result.stdout if well else result.stderr)
    assert len(provider.seen) == 1
    assert "sk-own" not in result.output


def test_probe_of_a_provider_whose_clients_bring_the_key(cli: CliRunner, tmp_path: Path, provider: Provider, dead: str) -> None:
    provider.answer = 401, JSON, b"{}"
    file = write(tmp_path, {"one": {"protocol": "openai", "base_url": provider.base}, "two": {"protocol": "openai", "base_url": dead}})
    result = cli.invoke(app, ["check", file, "--probe"])
    assert result.exit_code == 1
    assert "one: answers, and wants a key (401), which each client brings\n" in result.stdout
    assert "two: the provider refused the connection\n" in result.stderr


def test_probe_of_a_user_that_is_not_taken(cli: CliRunner, tmp_path: Path, provider: Provider) -> None:
    provider.answer = 403, JSON, b"{}"
    file = write(tmp_path, {"one": {"protocol": "openai", "base_url": provider.base, "user": "alice"}})
    assert "one: does not take the user (403)\n" in cli.invoke(app, ["check", file, "--probe"]).stderr


def test_probe_waits_no_longer_than_it_may(cli: CliRunner, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        base = f"http://127.0.0.1:{silent.getsockname()[1]}"
        file = write(tmp_path, {"one": {"protocol": "openai", "base_url": base}}, connection_test_timeout="50ms")
        result = cli.invoke(app, ["check", file, "--probe"])
    assert result.exit_code == 1
    assert "one: no answer within 0.05 s\n" in result.stderr


def test_a_wrong_configuration_is_not_probed(cli: CliRunner, tmp_path: Path, provider: Provider) -> None:
    file = write(tmp_path, {"one": {"protocol": "openai", "base_url": provider.base}}, listn=1)
    assert cli.invoke(app, ["check", file, "--probe"]).exit_code == 2
    assert cli.invoke(app, ["models", "--config", file]).exit_code == 2
    assert provider.seen == []
