"""Usage taken apart into what is billed at a rate of its own.

What contains what, by protocol (sources: each protocol's page in `docs/protocols`):

- OpenAI (Chat, Completions, Responses): `input` contains `cache_read`, `cache_write` and `audio_input`; `output` contains `reasoning` and
  `audio_output`.
- Anthropic: `input` contains neither cache reads nor writes; `output` contains `reasoning`. `cache_write` is all of the writes,
  `cache_write_5m` and `cache_write_1h` its split, which may stay behind: what the split leaves open was written for five minutes,
  the default.
- Gemini: `input` contains `cache_read` and `audio_input`, not `tool_use`, which is billed as input; `output` contains `audio_output`, not
  `reasoning`.
- Everywhere pictures and film are in the totals as sound is, and what was cached of a kind is in that kind and in `cache_read`. Where nobody says
  how much of a kind was cached (or written), so much is taken for it as the total leaves no other room for.

Figures that contradict each other (more cached than there was) never give a negative part: the part is 0 and the rest stands as stated.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from penstock.vocabulary.ids import ProtocolId
from penstock.vocabulary.usage import NO_KINDS, Kinds


class Stated(Protocol):
    """Counts as a provider stated them, by the names of a row's columns; `None` is unknown."""

    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    cache_write_5m_tokens: int | None
    cache_write_1h_tokens: int | None
    reasoning_tokens: int | None
    audio_input_tokens: int | None
    audio_output_tokens: int | None
    tool_use_tokens: int | None
    web_searches: int | None
    kinds: Kinds | None


class Counts(NamedTuple):
    """Parts that do not overlap, in tokens and calls."""

    input: int = 0
    """Read anew, neither from the cache nor into it; text, and what nobody tells apart from it."""
    cache_read: int = 0
    """Text, and what nobody tells apart from it."""
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    audio_input: int = 0
    output: int = 0
    """Without reasoning, sound, pictures and film."""
    reasoning: int = 0
    audio_output: int = 0
    web_searches: int = 0
    image_input: int = 0
    """Read anew, as all of the input but for `cache_read_*`."""
    image_output: int = 0
    video_input: int = 0
    video_output: int = 0
    cache_read_audio: int = 0
    cache_read_image: int = 0
    cache_read_video: int = 0

    @property
    def context(self) -> int:
        """All that went in, cached or not: what tiers by context length go by."""
        told = self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h + self.audio_input
        return told + self.image_input + self.video_input + self.cache_read_audio + self.cache_read_image + self.cache_read_video


_ANTHROPIC, _GEMINI = str.__str__(ProtocolId.ANTHROPIC_MESSAGES), str.__str__(ProtocolId.GEMINI)
"""Plain texts, which compare in a sixth of the time; this runs per row."""


def take_apart(protocol: str | None, stated: Stated) -> Counts | None:
    """The parts; `None` where nothing was stated. An unknown protocol is read as OpenAI's, whose words most others use."""
    total_in, total_out = stated.input_tokens, stated.output_tokens
    read, write, hour = stated.cache_read_tokens or 0, stated.cache_write_tokens, stated.cache_write_1h_tokens or 0
    short = stated.cache_write_5m_tokens or 0
    if write is not None:
        left = write - hour
        short = left if left > short else short
    reasoning = stated.reasoning_tokens or 0
    sound_in, sound_out = stated.audio_input_tokens or 0, stated.audio_output_tokens or 0
    if total_in is None and total_out is None and not (read or short or hour or reasoning):
        return None
    plain, said = total_in or 0, total_out or 0
    if protocol == _ANTHROPIC:
        said -= reasoning
    elif protocol == _GEMINI:
        plain += (stated.tool_use_tokens or 0) - read - sound_in
        said -= sound_out
    else:
        plain -= read + short + hour + sound_in
        said -= reasoning + sound_out
    counts = Counts(
        plain, read, short, hour, sound_in, said if said > 0 else 0, reasoning, sound_out, stated.web_searches or 0)
    if plain >= 0 and stated.kinds is None:
        return counts
    return _by_kind(counts, plain + sound_in, said, stated.kinds or NO_KINDS, known=total_in is not None)


def _by_kind(counts: Counts, anew: int, said: int, kinds: Kinds, *, known: bool) -> Counts:
    """`counts` with kinds told apart. `anew`: all that was read anew, of any kind, where that is `known`; `said`: what was made besides reasoning
    and sound."""
    cached = [kinds.cache_read_audio or 0, kinds.cache_read_image or 0, kinds.cache_read_video or 0]
    read = [max(0, all_ - some) for all_, some in zip((counts.audio_input, kinds.image_input or 0, kinds.video_input or 0), cached, strict=True)]
    text, written = max(0, counts.cache_read - sum(cached)), counts.cache_write_5m + counts.cache_write_1h
    lacking = sum(read) - anew if known else 0
    for at, tokens in enumerate(read):
        hidden = max(0, min(tokens, lacking, text))
        into = max(0, min(tokens - hidden, lacking - hidden, written))
        read[at] -= hidden + into
        cached[at] += hidden
        text, written, lacking = text - hidden, written - into, lacking - hidden - into
    image, video = kinds.image_output or 0, kinds.video_output or 0
    return counts._replace(
        input=max(0, anew - sum(read)), cache_read=text, output=max(0, said - image - video), audio_input=read[0], image_input=read[1],
        video_input=read[2], image_output=image, video_output=video, cache_read_audio=cached[0], cache_read_image=cached[1],
        cache_read_video=cached[2],
    )  # fmt: skip
