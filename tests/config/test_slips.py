"""What `check` and `serve` note of values that are taken as they stand, and that hardly anybody means."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.config import load

KEY = "FILE:2: providers.openai.api_key: looks like a variable's name, and is sent as it stands; write \"${NAME}\""


def notes(directory: Path, provider: str) -> list[str]:
    file = directory / "penstock.yaml"
    file.write_text(f"providers:\n  {provider}\n", encoding="utf-8")
    file.chmod(0o600)
    return [note.replace(str(file), "FILE") for note in load(file, environ={"HOME": str(directory), "SET": "sk-set"}).notes]


@pytest.mark.parametrize("key", ["$OPENAI_API_KEY", "$(OPENAI_KEY)", "$env:OPENAI_API_KEY", "env:K", "os.environ/A_KEY", "'%OPENAI_API_KEY%'"])
def test_a_variable_as_other_programs_write_it(tmp_path: Path, key: str) -> None:
    assert notes(tmp_path, f"openai: {{api_key: {key}}}") == [KEY]
    (tmp_path / "key").write_text(key.strip("'"), encoding="utf-8")
    assert notes(tmp_path, "openai: {api_key_file: key}") == [KEY]


@pytest.mark.parametrize(("protocol", "path", "endpoint"), [
    ("openai", "/v1/chat/completions", "/chat/completions"), ("openai", "/v1/chat/completions/", "/chat/completions"),
    ("openai", "/v1/completions", "/completions"), ("openai_responses", "/v1/responses", "/responses"), ("anthropic", "/v1/messages", "/messages"),
    ("openai", "/v1/embeddings", "/embeddings"),
])  # fmt: skip
def test_an_endpoint_in_the_place_of_a_base_url(tmp_path: Path, protocol: str, path: str, endpoint: str) -> None:
    assert notes(tmp_path, f"p: {{protocol: {protocol}, base_url: 'https://api.example.com{path}'}}") == [
        f"FILE:2: providers.p.base_url: ends with {endpoint}, and a request's path comes behind it; "
        f"leave {endpoint} out, unless the provider has it twice"]


@pytest.mark.parametrize("provider", [
    "openai: {api_key: '${SET}'}", "openai: {api_key: sk-1$A}", "openai: {api_key: '$ecret'}", "openai: {api_key: 100%A%}", "openai: {}",
    "openai: {base_url: 'https://api.openai.com/v1'}", "openai: {base_url: 'https://example.com/openai/v1/'}",
    "p: {protocol: openai, base_url: 'unix:/run/responses'}", "p: {protocol: openai, base_url: 'https://completions'}",
    "p: {protocol: gemini, base_url: 'https://example.com/v1/publishers/google/models'}", "p: {protocol: openai, base_url: 'https://example.com/my-messages'}",
])  # fmt: skip
def test_nothing_is_said_of_what_is_meant(tmp_path: Path, provider: str) -> None:
    assert notes(tmp_path, provider) == []
