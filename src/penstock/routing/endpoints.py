"""What a path can be, and the table of the paths that clients use. Facts only; `paths` looks them up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from penstock.vocabulary.errors import Fault
from penstock.vocabulary.ids import Operation, ProtocolId

Body = Literal["peek", "stream", "none"]
"""What to do with the request's body: read it whole for its model (`peek`), pass it on as it comes (`stream`), or expect none (`none`:
one that comes all the same is passed on as it comes)."""


class Face(Protocol):
    """What routing sees of a provider."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def protocols(self) -> frozenset[ProtocolId]: ...
    @property
    def main_protocol(self) -> ProtocolId: ...
    @property
    def main_operation(self) -> Operation: ...


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A path that we serve."""

    protocol: ProtocolId
    """Of the client: the shape of every error, and what the answer is observed as."""
    operation: Operation
    path: str
    """What the provider is asked for, as the client wrote it, without `/{provider}`."""
    body: Body
    provider: str | None = None
    """The provider that the path itself names; no route is looked at then."""
    verbatim: bool = False
    """Ask for `path` by `Provider.verbatim`, else by `Provider.target`."""
    response_id: str | None = None
    content: bool = False
    """The answer is a file of somebody's and no word of the provider's: passed on, and not read."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """No endpoint: 404, 405 or 400, in the shape of the nearest protocol."""

    fault: Fault
    protocol: ProtocolId
    allow: tuple[str, ...] = ()
    """For the `allow` header of a 405."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """The answer to OPTIONS: 204 with these methods in `allow`, and no word on CORS."""

    allow: tuple[str, ...]


_CHAT, _RESPONSES, _MESSAGES, _GEMINI = (
    ProtocolId.OPENAI_CHAT, ProtocolId.OPENAI_RESPONSES, ProtocolId.ANTHROPIC_MESSAGES, ProtocolId.GEMINI,
)


def _row(path: str, protocol: ProtocolId, operation: Operation, **methods: Body) -> tuple[str, dict[str, Endpoint]]:
    return path, {method: Endpoint(protocol, operation, path, body) for method, body in methods.items()}


# https://platform.openai.com/docs/api-reference and https://docs.anthropic.com/en/api: fixed paths, here without their /v1.
_FIXED: dict[str, dict[str, Endpoint]] = dict([
    _row("/chat/completions", _CHAT, Operation.CHAT, POST="peek"),
    _row("/completions", _CHAT, Operation.COMPLETIONS, POST="peek"),
    _row("/responses", _RESPONSES, Operation.RESPONSES, POST="peek"),
    _row("/responses/compact", _RESPONSES, Operation.RESPONSES, POST="peek"),
    _row("/responses/input_tokens", _RESPONSES, Operation.COUNT_TOKENS, POST="peek"),
    _row("/messages", _MESSAGES, Operation.MESSAGES, POST="peek"),
    _row("/messages/count_tokens", _MESSAGES, Operation.COUNT_TOKENS, POST="peek"),
    _row("/messages/batches", _MESSAGES, Operation.BATCHES, GET="none", POST="stream"),
    _row("/embeddings", _CHAT, Operation.EMBEDDINGS, POST="peek"),
    _row("/moderations", _CHAT, Operation.MODERATIONS, POST="peek"),
    _row("/models", _CHAT, Operation.MODELS, GET="none"),
    _row("/audio/speech", _CHAT, Operation.AUDIO, POST="peek"),
    _row("/audio/transcriptions", _CHAT, Operation.AUDIO, POST="stream"),
    _row("/audio/translations", _CHAT, Operation.AUDIO, POST="stream"),
    _row("/images/generations", _CHAT, Operation.IMAGES, POST="peek"),
    _row("/images/edits", _CHAT, Operation.IMAGES, POST="stream"),
    _row("/images/variations", _CHAT, Operation.IMAGES, POST="stream"),
    _row("/files", _CHAT, Operation.FILES, GET="none", POST="stream"),
    _row("/uploads", _CHAT, Operation.FILES, POST="stream"),
    _row("/batches", _CHAT, Operation.BATCHES, GET="none", POST="stream"),
])

FIXED: Mapping[str, dict[str, Endpoint]] = _FIXED | {
    "/v1" + path: {method: replace(endpoint, path="/v1" + path) for method, endpoint in methods.items()} for path, methods in _FIXED.items()
}

# Paths with an id behind them, longest first, without their /v1: (prefix, protocol, operation, methods).
ITEMS: tuple[tuple[str, ProtocolId, Operation, dict[str, Body]], ...] = (
    ("/messages/batches/", _MESSAGES, Operation.BATCHES, {"GET": "none", "POST": "stream", "DELETE": "none"}),
    ("/responses/", _RESPONSES, Operation.RESPONSE_ITEM, {"GET": "none", "POST": "stream", "DELETE": "none"}),
    ("/models/", _CHAT, Operation.MODELS, {"GET": "none", "DELETE": "none"}),
    ("/files/", _CHAT, Operation.FILES, {"GET": "none", "POST": "stream", "DELETE": "none"}),
    ("/uploads/", _CHAT, Operation.FILES, {"GET": "none", "POST": "stream"}),
    ("/batches/", _CHAT, Operation.BATCHES, {"GET": "none", "POST": "stream"}),
)

SHARED: frozenset[Operation] = frozenset({Operation.MODELS, Operation.FILES})
"""OpenAI and Anthropic share these paths; `anthropic-version` tells them apart."""

GEMINI_VERSIONS = ("v1beta", "v1alpha")
"""Only Gemini's clients write these."""

# https://ai.google.dev/api/all-methods: custom methods of `models/*` and `tunedModels/*`, all POST.
GEMINI_METHODS: dict[str, tuple[Operation, Body]] = {
    "generateContent": (Operation.GENERATE, "peek"),
    "streamGenerateContent": (Operation.GENERATE, "peek"),
    "countTokens": (Operation.COUNT_TOKENS, "peek"),
    "embedContent": (Operation.EMBEDDINGS, "peek"),
    "batchEmbedContents": (Operation.EMBEDDINGS, "peek"),
    "batchGenerateContent": (Operation.BATCHES, "stream"),
    "asyncBatchEmbedContent": (Operation.BATCHES, "stream"),
    "generateAnswer": (Operation.OTHER, "peek"),
    "predict": (Operation.OTHER, "peek"),
    "predictLongRunning": (Operation.OTHER, "peek"),
    "transferOwnership": (Operation.OTHER, "stream"),
}

GEMINI_RESOURCES: dict[str, Operation] = {
    "files": Operation.FILES,
    "generatedFiles": Operation.FILES,
    "batches": Operation.BATCHES,
    "cachedContents": Operation.OTHER,
    "corpora": Operation.OTHER,
    "fileSearchStores": Operation.OTHER,
    "interactions": Operation.OTHER,
    "models": Operation.OTHER,
    "operations": Operation.OTHER,
    "tunedModels": Operation.OTHER,
}

ARGO_PATHS = frozenset({"/v1/chat", "/v1/embed"})
"""Of legacy Argo's own proxy; they are there where such a provider is."""

RESERVED_NAMES: frozenset[str] = (
    frozenset(path[1:].partition("/")[0] for path in FIXED)
    | {"v1", "v1beta1", *GEMINI_VERSIONS, "tunedModels", "projects", "publishers", "upload", "download"}
    | {"api", "health", "ready", "metrics", "penstock", "demo"}
)
"""Names that no provider may have, because paths of that name mean something else (`demo` is the built-in one)."""

PROTOCOL_PATHS: dict[ProtocolId, str] = {
    _CHAT: "/v1/chat/completions",
    _RESPONSES: "/v1/responses",
    _MESSAGES: "/v1/messages",
    _GEMINI: "/v1beta/models/{model}:generateContent",
}
"""Where each protocol's answers are made, for hints."""
