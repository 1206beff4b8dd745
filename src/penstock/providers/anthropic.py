"""Anthropic, and everybody who speaks its Messages API (DeepSeek, Z.ai and Moonshot under `/anthropic`, llama.cpp, ...)."""

from __future__ import annotations

from penstock.providers.contract import Provider
from penstock.vocabulary.ids import Operation, ProtocolId


class AnthropicProvider(Provider):
    kind = "anthropic"
    speaks = frozenset({ProtocolId.ANTHROPIC_MESSAGES})
    main_protocol = ProtocolId.ANTHROPIC_MESSAGES
    main_operation = Operation.MESSAGES
    default_base_url = "https://api.anthropic.com"
    default_auth = "x-api-key"
    version = "v1"
    version_in_base = False
    resources = frozenset({"complete", "files", "messages", "models", "organizations", "skills"})
    roots = frozenset({"api"})
    # Required with every request, with a key as with a login (https://docs.anthropic.com/en/api/versioning).
    default_headers = ((b"anthropic-version", b"2023-06-01"),)

    __slots__ = ()
