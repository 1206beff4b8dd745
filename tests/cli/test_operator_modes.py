"""Stream modes at the shell: who beats whom, what `logs collect` finds of what `retry` wrote down, and argo's own words. Real processes."""

from __future__ import annotations

import json
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.answers import ANSWERS, CHAT, MESSAGES
from tests.support.operator import Operator, Provider, Reply, Seen, Serving

KEY = "sk-ant-api03-of-the-client-0123456789"
WORDS = "Streaming is required for operations that may take longer than 10 minutes"
BOUNCE = json.dumps({"type": "error", "error": {"type": "api_error", "message": WORDS}}).encode()
BODY: dict[str, Any] = {"model": "claude-x", "max_tokens": 64_000, "messages": [{"role": "user", "content": "Hello"}]}


def choose(seen: Seen) -> Reply:
    """Anthropic's SDK inside a gateway: what is not streamed is refused."""
    if json.loads(seen.body).get("stream") is True:
        return 200, {"content-type": "text/event-stream"}, ANSWERS[CHAT if "chat" in seen.path else MESSAGES].stream
    return 500, {"content-type": "application/json"}, BOUNCE


@pytest.fixture
def bouncing(provider: Provider) -> Provider:
    provider.choose = choose
    return provider


def config(provider: Provider, more: str = "") -> str:
    base = provider.base.removesuffix("/v1")
    return f"{more}\nproviders:\n  anthropic: {{base_url: \"{base}\"}}\n  openai: {{base_url: \"{base}\"}}\n"


def message(gateway: Serving, path: str = "/v1/messages", **more: Any) -> int:
    headers = {"x-api-key": KEY, "anthropic-version": "2023-06-01"}
    return gateway.ask("POST", path, json.dumps({**BODY, **more}).encode(), headers).status


OUTCOMES = {"force": ([True], 200), "retry": ([False, True], 200), "passthrough": ([False], 500)}


@pytest.mark.parametrize(("flag", "variable", "file", "holds"), [
    ("force", "retry", "passthrough", "force"), ("passthrough", "force", "force", "passthrough"), (None, "retry", "passthrough", "retry"),
    (None, None, "retry", "retry"), (None, None, "passthrough", "passthrough"), (None, "", None, "force"),
])  # fmt: skip
def test_flag_then_variable_then_file(
    operator: Operator, bouncing: Provider, flag: str | None, variable: str | None, file: str | None, holds: str
) -> None:
    path = operator.home / "penstock.yaml"
    path.write_text(config(bouncing, f"anthropic_stream_mode: {file}" if file else ""))
    options = ["--config", str(path), *(["--anthropic-stream-mode", flag] if flag else [])]
    with operator.serve(*options, env={"ANTHROPIC_STREAM_MODE": variable} if variable is not None else None) as gateway:
        streams, status = OUTCOMES[holds]
        assert message(gateway) == status
        assert [json.loads(seen.body).get("stream", False) for seen in bouncing.seen] == streams
        bouncing.seen.clear()
        assert message(gateway, "/v1/chat/completions") == 500, "it is about Anthropic providers alone"
        assert len(bouncing.seen) == 1


def test_a_word_that_is_none_is_refused_with_the_three(operator: Operator) -> None:
    for options, env in ((["--anthropic-stream-mode", "forced"], {}), ([], {"ANTHROPIC_STREAM_MODE": "forced"})):
        done = operator.run("serve", *options, env=env)
        assert done.code == 2
        assert "'forced' is none of force, retry, passthrough" in done.err


# Dumps, and who finds them


def collected(operator: Operator, *options: str, env: dict[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """What `logs collect` packs."""
    output = operator.home / "dumps.tar.gz"
    done = operator.run("logs", "collect", "--type", "stream-retry", "--output", str(output), "--force", *options, env=env)
    assert done.code == 0, done.err
    with tarfile.open(output) as archive:
        members = archive.getmembers()
        assert all(member.mode == 0o600 for member in members)
        found = {member.name: archive.extractfile(member) for member in members}
        return {name: json.load(file) for name, file in found.items() if file is not None}


def check(dumps: dict[str, dict[str, Any]], place: str, folder: Path, provider: Provider) -> None:
    ((name, dump),) = dumps.items()
    assert name.startswith(f"stream-retry/{place}/retry_2")
    (path,) = folder.glob("stream_retry_dumps/retry_*.json")
    assert path.name == name.rpartition("/")[2]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert dump == json.loads(path.read_text())
    assert set(dump) == {"timestamp", "exchange", "upstream_url", "error_status", "error_text", "request_body"}
    assert (dump["error_status"], json.loads(dump["error_text"]), dump["request_body"]) == (500, json.loads(BOUNCE), BODY)
    assert dump["upstream_url"] == provider.base + "/messages"
    assert dump["timestamp"].endswith("+00:00")
    assert KEY not in path.read_text()


@pytest.mark.parametrize("how", ["search path", "variable", "option"])
def test_what_retry_wrote_down_is_found_beside_the_configuration(operator: Operator, bouncing: Provider, how: str) -> None:
    folder = operator.home / ".config" / "penstock" if how == "search path" else operator.home / "elsewhere"
    folder.mkdir(parents=True)
    file = folder / "penstock.yaml"
    file.write_text(config(bouncing, "anthropic_stream_mode: retry"))
    options = ["--config", str(file)] if how == "option" else []
    env = {"PENSTOCK_CONFIG": str(file)} if how == "variable" else {}
    with operator.serve(*options, env=env) as gateway:
        assert message(gateway) == 200
    check(collected(operator, *options, env=env), "config", folder, bouncing)
    (row,) = operator.exchanges(*options)
    (tried,) = json.loads(row["tries"])
    assert (row["outcome"], row["upstream_status"], row["retries"], tried["status"]) == ("COMPLETE", 200, 1, 500)


def test_without_a_file_it_is_in_the_data_directory(operator: Operator, bouncing: Provider) -> None:
    env = {"ANTHROPIC_BASE_URL": bouncing.base.removesuffix("/v1"), "ANTHROPIC_STREAM_MODE": "retry"}
    with operator.serve(env=env) as gateway:
        assert message(gateway) == 200
    check(collected(operator, env=env), "data", operator.data, bouncing)


def test_so_it_is_where_the_configuration_s_folder_takes_nothing(operator: Operator, bouncing: Provider) -> None:
    folder = operator.home / ".config" / "penstock"
    folder.mkdir(parents=True)
    (folder / "penstock.yaml").write_text(config(bouncing, "anthropic_stream_mode: retry"))
    (folder / "stream_retry_dumps").write_text("in the way")
    with operator.serve() as gateway:
        assert message(gateway) == 200
    check(collected(operator), "data", operator.data, bouncing)


def test_where_there_are_none_it_says_so(operator: Operator) -> None:
    done = operator.run("logs", "collect", "--type", "stream-retry", "--output", "none.tar.gz")
    assert done.code == 1
    assert "there are no stream-retry dumps" in done.err
    assert not (operator.home / "none.tar.gz").exists()


def test_only_refusals_are_written_down(operator: Operator, bouncing: Provider) -> None:
    bouncing.choose = lambda seen: (500, {"content-type": "application/json"}, b'{"error":"busy"}')
    with operator.serve(env={"ANTHROPIC_BASE_URL": bouncing.base.removesuffix("/v1"), "ANTHROPIC_STREAM_MODE": "retry"}) as gateway:
        assert message(gateway) == 500
    assert len(bouncing.seen) == 1
    assert operator.run("logs", "collect", "--type", "stream-retry").code == 1


# Argo's words


@pytest.mark.parametrize(("options", "more", "named"), [
    (["--pseudo-stream"], "", "--pseudo-stream"), (["--real-stream"], "", "--real-stream"), ([], "real_stream: false", "real_stream"),
])  # fmt: skip
def test_argo_s_words_are_taken_have_no_effect_and_a_note_says_what_has(
    operator: Operator, bouncing: Provider, options: list[str], more: str, named: str
) -> None:
    path = operator.home / "penstock.yaml"
    path.write_text(config(bouncing, more))
    with operator.serve("--config", str(path), *options) as gateway:
        banner = " ".join(gateway.banner.split())
        assert f"{named}: is about the legacy Argo gateway and has no effect here" in banner
        assert "pseudo_stream: true" in banner
        assert message(gateway, stream=True) == 200
        assert json.loads(bouncing.seen[-1].body)["stream"] is True, "streams are real"
