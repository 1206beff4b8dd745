"""Google's Gemini API (generativelanguage.googleapis.com), and gateways that speak it."""

from __future__ import annotations

from penstock.providers.contract import Provider
from penstock.vocabulary.ids import Operation, ProtocolId


class GeminiProvider(Provider):
    kind = "gemini"
    speaks = frozenset({ProtocolId.GEMINI})
    main_protocol = ProtocolId.GEMINI
    main_operation = Operation.GENERATE
    default_base_url = "https://generativelanguage.googleapis.com"
    default_auth = "x-goog-api-key"
    version = "v1beta"
    version_in_base = False
    # https://ai.google.dev/api/all-methods
    resources = frozenset({
        "batches", "cachedContents", "corpora", "dynamic", "fileSearchStores", "files", "generatedFiles", "interactions", "models", "operations",
        "tunedModels",
    })
    roots = frozenset({"download", "upload"})

    __slots__ = ()
