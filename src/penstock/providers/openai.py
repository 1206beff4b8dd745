"""OpenAI, and everybody who speaks its protocols: Azure's v1 URLs (`auth: api-key`), Groq, Mistral, OpenRouter, vLLM, Ollama, ..."""

from __future__ import annotations

from penstock.providers.contract import Provider
from penstock.vocabulary.ids import Operation, ProtocolId


class OpenAIProvider(Provider):
    kind = "openai"
    speaks = frozenset({ProtocolId.OPENAI_CHAT, ProtocolId.OPENAI_RESPONSES})
    main_protocol = ProtocolId.OPENAI_CHAT
    main_operation = Operation.CHAT
    default_base_url = "https://api.openai.com/v1"
    default_auth = "bearer"
    version = "v1"
    version_in_base = True
    resources = frozenset({
        "agents", "assistants", "audio", "batches", "chat", "completions", "containers", "conversations", "embeddings", "evals", "files",
        "fine_tuning", "images", "models", "moderations", "organization", "projects", "realtime", "responses", "skills", "threads", "uploads",
        "vaults", "vector_stores", "videos",
    })

    __slots__ = ()
