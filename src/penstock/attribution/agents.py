"""The client application, by its user agent: the first entry of the table whose text begins a word of it, whatever the case.

Applications come before the libraries that they are built on, because many send both. The names are stable: `usage --by client` sums by them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

AGENTS: Final[tuple[tuple[str, str], ...]] = (
    # Coding agents and editors.
    ("claude-vscode", "claude-code"), ("claude-cli", "claude-code"), ("claude-code", "claude-code"), ("claude-agent-sdk", "claude-agent-sdk"),
    ("claude-desktop", "claude-desktop"), ("codex_cli_rs", "codex"), ("codex_exec", "codex"), ("codex_vscode", "codex"), ("codex-tui", "codex"),
    ("codex desktop", "codex"), ("codex", "codex"), ("geminicli", "gemini-cli"), ("gemini-cli", "gemini-cli"), ("githubcopilot", "github-copilot"),
    ("github-copilot", "github-copilot"), ("cursor", "cursor"), ("windsurf", "windsurf"), ("codeium", "windsurf"), ("roo-code", "roo-code"),
    ("roocode", "roo-code"), ("kilo-code", "kilo-code"), ("kilocode", "kilo-code"), ("cline", "cline"), ("continue", "continue"),
    ("opencode", "opencode"), ("aider", "aider"), ("zed/", "zed"), ("amp/", "amp"), ("goose", "goose"), ("openhands", "openhands"),
    ("crush", "crush"), ("droid", "droid"), ("factory-cli", "droid"), ("qwen-code", "qwen-code"),
    ("qwencode", "qwen-code"), ("kimicli", "kimi-cli"), ("kimi-cli", "kimi-cli"), ("openclaw", "openclaw"), ("jetbrains", "jetbrains"),
    ("vscode", "vscode"),
    # Frontends.
    ("open-webui", "open-webui"), ("openwebui", "open-webui"), ("librechat", "librechat"), ("lobechat", "lobechat"), ("anythingllm", "anythingllm"),
    ("chatbox", "chatbox"), ("cherrystudio", "cherry-studio"), ("jan/", "jan"), ("n8n", "n8n"), ("dify", "dify"), ("flowise", "flowise"),
    # Frameworks and gateways.
    ("litellm", "litellm"), ("langchain", "langchain"), ("langgraph", "langchain"), ("llama_index", "llama-index"), ("llamaindex", "llama-index"),
    ("pydantic-ai", "pydantic-ai"), ("openai-agents", "openai-agents"), ("agents/python", "openai-agents"), ("crewai", "crewai"),
    ("autogen", "autogen"), ("semantic-kernel", "semantic-kernel"), ("haystack", "haystack"), ("dspy", "dspy"), ("google-genai-sdk", "google-genai"),
    ("ai-sdk", "ai-sdk"),
    ("mastra", "mastra"), ("instructor", "instructor"), ("portkey", "portkey"), ("openrouter", "openrouter"),
    # The makers' libraries.
    ("anthropic/python", "anthropic-python"), ("asyncanthropic/python", "anthropic-python"), ("anthropic/js", "anthropic-js"),
    ("anthropic/go", "anthropic-go"), ("anthropic/java", "anthropic-java"), ("anthropic", "anthropic-sdk"), ("asyncanthropic", "anthropic-sdk"),
    ("asyncopenai/python", "openai-python"), ("asyncazureopenai/python", "openai-python"), ("azureopenai/python", "openai-python"),
    ("azureopenai/js", "openai-js"), ("azureopenai", "openai-sdk"), ("openai/python", "openai-python"),
    ("openai/js", "openai-js"), ("openai/go", "openai-go"), ("openai/java", "openai-java"),
    ("openai/ruby", "openai-ruby"), ("openai", "openai-sdk"), ("genai-js", "google-genai"),
    ("mistral-client", "mistral-sdk"), ("cohere", "cohere-sdk"),
    # Whatever speaks HTTP.
    ("curl/", "curl"), ("wget/", "wget"), ("httpie", "httpie"), ("postman", "postman"), ("insomnia", "insomnia"), ("python-httpx", "python"),
    ("httpx2", "python"), ("python-requests", "python"), ("aiohttp", "python"), ("python-urllib", "python"), ("python", "python"), ("axios", "node"),
    ("node-fetch", "node"), ("undici", "node"), ("node", "node"), ("bun/", "node"), ("deno", "node"), ("go-http-client", "go"), ("okhttp", "java"),
    ("apache-httpclient", "java"), ("java", "java"), ("reqwest", "rust"), ("hyper/", "rust"), ("faraday", "ruby"), ("ruby", "ruby"),
    ("guzzlehttp", "php"), ("dart", "dart"), ("mozilla/", "browser"),
)  # fmt: skip
"""`(text in the user agent, in lower case, name)`."""

OTHER: Final = "other"
"""A user agent that the table does not know."""


@lru_cache(maxsize=1024)
def client_of(user_agent: str | None) -> str | None:
    """The application's name; `OTHER` where the table has none, `None` where the client sent no user agent."""
    if not user_agent:
        return None
    low = user_agent[:1024].lower()
    return next((name for piece, name in AGENTS if _begins_word(piece, low)), OTHER)


def _begins_word(piece: str, text: str) -> bool:
    """`droid` does not stand in `Android`."""
    at = text.find(piece)
    while at > 0 and text[at - 1].isalnum():
        at = text.find(piece, at + 1)
    return at >= 0
