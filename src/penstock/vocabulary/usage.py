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


class Kinds(msgspec.Struct, frozen=True, gc=False):
    """Tokens of pictures and film, and what of the cache was no text: parts of `input`, `output` and `cache_read`, each as the provider states it.

    Stated by Gemini for each modality (`ModalityTokenCount`; "the total number of tokens in the prompt: any text, images, or other media"), by
    OpenAI's images API (`usage.input_tokens_details`, `output_tokens_details`; "the number of tokens (images and text) in the input prompt")
    and by Chat's `prompt_tokens_details`; OpenRouter adds `completion_tokens_details.image_tokens` and `prompt_tokens_details.video_tokens`.
    Never all unknown: then there are no `Kinds`.
    """

    image_input: int | None = None
    """Modality `IMAGE` of `promptTokensDetails`, and `DOCUMENT`, whose pages are billed as pictures; `image_tokens`. Cached ones too."""
    image_output: int | None = None
    """Modality `IMAGE` of `candidatesTokensDetails`; `image_tokens`."""
    video_input: int | None = None
    """Modality `VIDEO`; `video_tokens`. Cached ones too."""
    video_output: int | None = None
    cache_read_audio: int | None = None
    """Modality `AUDIO` of `cacheTokensDetails`; `cached_tokens_details.audio_tokens`, as of OpenAI's realtime models. In `audio_input` too."""
    cache_read_image: int | None = None
    """Modalities `IMAGE` and `DOCUMENT` there; `cached_tokens_details.image_tokens`."""
    cache_read_video: int | None = None


NO_KINDS = Kinds()
"""What is compared with, and never kept."""


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
    """Modality `AUDIO`; `audio_tokens`. Part of `input`, cached sound too."""
    audio_output: int | None = None
    tool_use: int | None = None
    """Gemini's `toolUsePromptTokenCount`."""
    tool_requests: int | None = None
    """Anthropic's `server_tool_use.*_requests`, summed."""
    web_searches: int | None = None
    """`web_search_requests` among them: the ones that are billed apart."""
    kinds: Kinds | None = None
    """Of pictures, film and what was cached of them; `None` where nothing of it is stated, as in most answers."""


EMPTY_USAGE = Usage()
