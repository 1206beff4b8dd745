"""What `check` notes of keys that have no effect where they stand, and of routes that are never reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.config import load


def notes(directory: Path, text: str) -> list[str]:
    file = directory / "penstock.yaml"
    file.write_text(text, encoding="utf-8")
    file.chmod(0o600)
    return [note.replace(str(file), "FILE") for note in load(file, environ={"HOME": str(directory)}).notes]


ARGO = "argo: {protocol: argo_legacy, user: alice, "
THREE = "providers: {openai: {}, anthropic: {}, groq: {protocol: openai_chat}}\n"
CHAT_ONLY = "has no effect: it is about Chat streams, and provider {0!r} makes none; leave it out"


@pytest.mark.parametrize(("text", "noted"), [
    ("providers:\n anthropic: {ask_usage: false}", "FILE:2: providers.anthropic.ask_usage: " + CHAT_ONLY.format("anthropic")),
    ("providers:\n gemini: {ask_usage: true}", "FILE:2: providers.gemini.ask_usage: " + CHAT_ONLY.format("gemini")),
    ("providers:\n r: {protocol: openai_responses, ask_usage: false}", "FILE:2: providers.r.ask_usage: " + CHAT_ONLY.format("r")),
    (f"providers:\n {ARGO} ask_usage: false}}", "FILE:2: providers.argo.ask_usage: " + CHAT_ONLY.format("argo")),
    ("providers:\n openai: {cache_markers: on}",
     "FILE:2: providers.openai.cache_markers: has no effect: it is about Messages, which provider 'openai' does not speak; leave it out"),
    ("providers:\n gemini: {}\nroutes: [{model: a, provider: gemini, cache_markers: on}]",
     "FILE:3: routes[0].cache_markers: has no effect: it is about Messages, which provider 'gemini' does not speak; leave it out"),
    (f"providers:\n {ARGO} nonstream_mode: force}}",
     "FILE:2: providers.argo.nonstream_mode: has no effect: legacy Argo is asked in its own words; leave it out"),
    ("dedup: off\ndedup_ttl: 9s", "FILE:2: dedup_ttl: has no effect while dedup is off"),
    ("providers:\n openai: {dedup: off, dedup_ttl: 9s}", "FILE:2: providers.openai.dedup_ttl: has no effect while dedup is off"),
    ("providers:\n openai: {dedup: off}\nroutes: [{model: a, provider: openai, dedup_tool_ttl: 9s}]",
     "FILE:3: routes[0].dedup_tool_ttl: has no effect while dedup is off"),
    (THREE + "routes:\n - {model: '*', provider: openai}\n - {model: 'gpt-*', provider: groq}",
     "FILE:4: routes[1]: is never reached: routes[0] ('*') before it takes all of it. Put it first"),
    (THREE + "routes:\n - {model: 'gpt-*', provider: openai}\n - {model: gpt-4o, provider: openai}",
     "FILE:4: routes[1]: is never reached: routes[0] ('gpt-*') before it takes all of it. Put it first"),
    (THREE + "routes:\n - {model: '*', provider: openai}\n - {model: '*', provider: anthropic}\n - {model: x, provider: anthropic}",
     "FILE:5: routes[2]: is never reached: routes[0] ('*') and routes[1] ('*') before it take all of it. Put it first"),
])  # fmt: skip
def test_what_is_said(tmp_path: Path, text: str, noted: str) -> None:
    assert notes(tmp_path, text) == [noted]


@pytest.mark.parametrize("text", [
    "providers: {openai: {ask_usage: false}, groq: {protocol: openai_chat, ask_usage: false}}",
    "cache_markers: on\nproviders: {openai: {cache_markers: off}, anthropic: {cache_markers: on}}",
    f"nonstream_mode: force\nproviders: {{{ARGO} nonstream_mode: passthrough}}}}",
    "dedup_ttl: 9s\nproviders: {openai: {dedup: off}}", "dedup: off\ndedup_ttl: 9s\nproviders: {openai: {dedup: always}}",
    THREE + "routes: [{model: '*', provider: openai}, {model: 'claude-*', provider: anthropic}]",
    THREE + "routes: [{model: '*', provider: groq}, {model: 'gpt-*', provider: openai}]",
    THREE + "routes: [{model: 'gpt-?', provider: openai}, {model: 'gpt-*', provider: openai}, {model: '*', provider: openai}]",
    THREE + "routes: [{model: 'gpt-*', provider: openai}, {model: x, provider: demo}]",
    "transparent: true\ndedup_ttl: 9s",
])  # fmt: skip
def test_nothing_is_said_of_what_is_fine(tmp_path: Path, text: str) -> None:
    assert notes(tmp_path, text) == []
