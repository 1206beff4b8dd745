"""Usage: what an answer used, as its provider states it."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Provenance(StrEnum):
    """Where the numbers of a `Usage` come from."""

    REPORTED = "reported"
    """The provider's final figures."""
    PARTIAL = "partial"
    """The provider's figures so far, of an answer that did not come to its end."""
    ESTIMATED = "estimated"
    """Ours."""
    NONE = "none"
    """Nothing was said."""


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens (and calls, for `tool_requests`), each as the provider states it; `None` is unknown, 0 is a stated zero.

    Nothing is normalised here, because a sum that we computed could not be held against a bill (but for Anthropic's compactions, which are on the
    bill and not in the totals: they are added, see its `usage`). The conventions differ:
    OpenAI's `input` contains `cache_read`, its `output` contains `reasoning`; Anthropic's `input` contains neither
    cache reads nor cache writes; Gemini's `output` does not contain `reasoning`, its `input` contains `cache_read` but not
    `tool_use`. `pricing` knows them by protocol.
    """

    input: int | None = None
    """`prompt_tokens`, `input_tokens`, `promptTokenCount`."""
    output: int | None = None
    """`completion_tokens`, `output_tokens`, `candidatesTokenCount`. Cumulative counters count once: the last value."""
    cache_read: int | None = None
    """`cached_tokens`, `cache_read_input_tokens`, `cachedContentTokenCount`."""
    cache_write: int | None = None
    """`cache_creation_input_tokens`, `cache_write_tokens`: all of it, whatever its lifetime."""
    cache_write_5m: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None
    """`reasoning_tokens`, `thoughtsTokenCount`, Anthropic's `output_tokens_details.thinking_tokens` where given."""
    audio_input: int | None = None
    audio_output: int | None = None
    tool_use: int | None = None
    """Gemini's `toolUsePromptTokenCount`."""
    tool_requests: int | None = None
    """Anthropic's `server_tool_use.*_requests`, summed."""
    web_searches: int | None = None
    """`web_search_requests` among them: the ones that are billed apart."""


EMPTY_USAGE = Usage()
