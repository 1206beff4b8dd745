"""Names of protocols and operations."""

from __future__ import annotations

from enum import StrEnum


class ProtocolId(StrEnum):
    """A wire format. Legacy Completions, embeddings and the other OpenAI endpoints count as `openai_chat`'s family:
    they share its error shape and its ways with usage."""

    OPENAI_CHAT = "openai_chat"
    OPENAI_RESPONSES = "openai_responses"
    ANTHROPIC_MESSAGES = "anthropic_messages"
    GEMINI = "gemini"


class Operation(StrEnum):
    """What an endpoint does. `GENERATING` lists those whose usage is new usage."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    RESPONSES = "responses"
    MESSAGES = "messages"
    GENERATE = "generate"
    COUNT_TOKENS = "count_tokens"
    EMBEDDINGS = "embeddings"
    MODERATIONS = "moderations"
    AUDIO = "audio"
    IMAGES = "images"
    RESPONSE_ITEM = "response_item"
    """`GET|DELETE|POST /v1/responses/{id}[/...]`: its usage was counted when the response was made."""
    MODELS = "models"
    FILES = "files"
    BATCHES = "batches"
    OTHER = "other"
    """Anything else below a provider's name: relayed, never summed."""


GENERATING: frozenset[Operation] = frozenset({
    Operation.CHAT, Operation.COMPLETIONS, Operation.RESPONSES, Operation.MESSAGES, Operation.GENERATE,
    Operation.EMBEDDINGS, Operation.MODERATIONS, Operation.AUDIO, Operation.IMAGES,
})
"""Operations whose usage adds to sums. Counting tokens, or reading a response again, never does."""
