"""Heads and user agents, as clients send them."""

from __future__ import annotations

import pytest

from penstock.attribution import Claimed, client_of, read_head
from penstock.attribution.agents import AGENTS, OTHER
from penstock.attribution.heads import MOST


def head(**values: str) -> Claimed:
    given = {name.replace("_", "-").encode(): value.encode() for name, value in values.items()}
    return read_head(given.get)


def test_our_own_headers_come_first() -> None:
    both = head(x_penstock_user="u", x_penstock_project="p", openai_project="q", x_penstock_session="s", x_claude_code_session_id="t")
    assert both == ("u", "p", "s")
    assert head(openai_project="q", x_claude_code_session_id="t") == (None, "q", "t")
    assert head(session_id="c") == (None, None, "c")
    assert read_head({b"session_id": b"d", b"conversation_id": b"e"}.get).session == "d"
    assert head() == (None, None, None)
    assert head(x_penstock_project="  ").project is None
    assert head(x_penstock_project="x" * 1000).project == "x" * MOST
    assert read_head({b"x-penstock-project": b"M\xc3\xbcller \xff"}.get).project == "M\u00fcller \ufffd"


@pytest.mark.parametrize(("agent", "client"), [
    ("claude-cli/2.1.90 (external, cli)", "claude-code"),
    ("codex_cli_rs/0.38.0 (Ubuntu 24.04.2 LTS; x86_64) WindowsTerminal", "codex"),
    ("Codex Desktop/1.0", "codex"),
    ("OpenAI/Python 3.0.1", "openai-python"),
    ("AsyncAnthropic/Python 2.11.0", "anthropic-python"),
    ("Cursor/1.0 (like OpenAI/JS)", "cursor"),
    ("GeminiCLI/0.9 (linux; x64)", "gemini-cli"),
    ("google-genai-sdk/1.2.3 gl-python/3.11", "google-genai"),
    ("curl/8.4.0", "curl"),
    ("python-requests/2.31", "python"),
    ("Mozilla/5.0 (X11)", "browser"),
    ("AsyncAzureOpenAI/Python 2.8.0", "openai-python"),
    ("AsyncAnthropicVertex/Python 0.74.0", "anthropic-sdk"),
    ("Cline/3.35.0", "cline"),
    ("RooCode/3.29.0", "roo-code"),
    ("opencode/1.0.55 ai-sdk/provider-utils/3.0.9 runtime/bun/1.3", "opencode"),
    ("factory-cli/0.89.0", "droid"),
    ("QwenCode/0.14.1 (linux; x64)", "qwen-code"),
    ("KimiCLI/1.5", "kimi-cli"),
    # A word that only ends as a name does is none.
    ("Mozilla/5.0 (Linux; Android 10; K)", "browser"),
    ("okhttp/4.12.0 Android", "java"),
    ("mongoose/2", OTHER),
    ("optimized/1 zed/0.200", "zed"),
    ("something new/1", OTHER),
    ("", None),
    (None, None),
])  # fmt: skip
def test_client_applications(agent: str | None, client: str | None) -> None:
    assert client_of(agent) == client


def test_the_table_is_in_lower_case_and_no_entry_is_hidden() -> None:
    pieces = [piece for piece, _ in AGENTS]
    assert all(piece == piece.lower() for piece in pieces)
    assert len(pieces) >= 55
    for at, piece in enumerate(pieces):
        hiding = [former for former in pieces[:at] if former in piece and dict(AGENTS)[former] != dict(AGENTS)[piece]]
        assert not hiding, (piece, hiding)
