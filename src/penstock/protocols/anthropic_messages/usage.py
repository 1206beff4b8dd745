"""Usage of this dialect: cumulative figures, the later ones replacing the earlier.

`message_start` states the input and a first count of the output; `message_delta` states totals again, each "the cumulative number"
(Messages reference, `message_delta.usage`). A field that is stated replaces its former value, a field that is absent or null keeps
it. `cache_creation` (the split by lifetime) comes with `message_start` and in whole bodies only, so where a server-side tool loop
writes more to the cache later, `cache_write` grows and `cache_write_5m` + `cache_write_1h` stay behind: both are as stated.

What is *not* in the top-level figures: `usage.iterations` lists each sampling step, and the tokens of its `compaction` entries are billed but
"not included in the top-level `usage` fields" (Anthropic's reference of the beta `usage`; also "Compaction"). They are added to what is
told of the exchange (`compacted`), because the bill of a request that was compacted is the sum over `iterations`; what is merged stays
apart from it, so that figures which are stated again are not added again.
"""

from __future__ import annotations

from msgspec.structs import astuple

from penstock.protocols.anthropic_messages.shapes import CacheCreation, Iteration, UsageShape, count
from penstock.vocabulary.usage import EMPTY_USAGE, Usage

_NO_SPLIT = CacheCreation()


def merge(former: Usage, stated: UsageShape) -> Usage:
    """`former` with everything that `stated` states."""
    split, details = stated.cache_creation or _NO_SPLIT, stated.output_tokens_details
    requests = searches = None
    if stated.server_tool_use is not None:
        found = [number for key, value in stated.server_tool_use.items() if key.endswith("_requests") and (number := count(value)) is not None]
        requests = sum(found) if found else None
        searches = count(stated.server_tool_use.get("web_search_requests"))
    thought = details.thinking_tokens if details is not None else None
    # Written out: it is done at the first event of a stream, while others wait.
    return Usage(
        former.input if stated.input_tokens is None else stated.input_tokens,
        former.output if stated.output_tokens is None else stated.output_tokens,
        former.cache_read if stated.cache_read_input_tokens is None else stated.cache_read_input_tokens,
        former.cache_write if stated.cache_creation_input_tokens is None else stated.cache_creation_input_tokens,
        former.cache_write_5m if split.ephemeral_5m_input_tokens is None else split.ephemeral_5m_input_tokens,
        former.cache_write_1h if split.ephemeral_1h_input_tokens is None else split.ephemeral_1h_input_tokens,
        former.reasoning if thought is None else thought,
        former.audio_input,
        former.audio_output,
        former.tool_use,
        former.tool_requests if requests is None else requests,
        former.web_searches if searches is None else searches,
    )


def compacted(iterations: list[Iteration]) -> Usage | None:
    """The tokens of the compactions among `iterations`; `None` where there were none."""
    found: Usage | None = None
    for step in iterations:
        if step.type == "compaction":
            split = step.cache_creation or CacheCreation()
            found = plus(found or EMPTY_USAGE, Usage(
                step.input_tokens, step.output_tokens, step.cache_read_input_tokens, step.cache_creation_input_tokens,
                split.ephemeral_5m_input_tokens, split.ephemeral_1h_input_tokens,
            ))  # fmt: skip
    return found


def total(former: Usage, stated: UsageShape) -> Usage:
    """`merge`, and what was compacted."""
    merged, more = merge(former, stated), compacted(stated.iterations) if stated.iterations else None
    return merged if more is None else plus(merged, more)


def plus(one: Usage, other: Usage) -> Usage:
    """The sum of two; unknown and unknown stay unknown."""
    pairs = zip(astuple(one), astuple(other), strict=True)
    return Usage(*(left if right is None else (left or 0) + right for left, right in pairs))


def tier_of(stated: UsageShape) -> str | None:
    """How the answer was processed, where that is stated: the speed where it is not the ordinary one, else the service tier."""
    return stated.speed if stated.speed not in (None, "standard") else stated.service_tier
