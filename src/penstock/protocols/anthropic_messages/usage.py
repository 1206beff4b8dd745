"""Usage of this dialect: cumulative figures, the later ones replacing the earlier.

`message_start` states the input and a first count of the output; `message_delta` states totals again, each "the cumulative number"
(Messages reference, `message_delta.usage`). A field that is stated replaces its former value, a field that is absent or null keeps
it. `cache_creation` (the split by lifetime) comes with `message_start` and in whole bodies only, so where a server-side tool loop
writes more to the cache later, `cache_write` grows and `cache_write_5m` + `cache_write_1h` stay behind: both are as stated.

What is *not* in these figures: `usage.iterations` lists each sampling step, and the tokens of its `compaction` entries are billed but
"not included in the top-level `usage` fields" (Anthropic's reference of the beta `usage`; also "Compaction"). `Usage` holds the top
level, because that is what the body states as its totals; the bill of a request that was compacted is the sum over `iterations`.
"""

from __future__ import annotations

from msgspec.structs import replace

from penstock.protocols.anthropic_messages.shapes import UsageShape, count
from penstock.vocabulary.usage import Usage


def merge(former: Usage, stated: UsageShape) -> Usage:
    """`former` with everything that `stated` states."""
    found: dict[str, int | None] = {
        "input": stated.input_tokens,
        "output": stated.output_tokens,
        "cache_read": stated.cache_read_input_tokens,
        "cache_write": stated.cache_creation_input_tokens,
    }
    if stated.cache_creation is not None:
        found["cache_write_5m"] = stated.cache_creation.ephemeral_5m_input_tokens
        found["cache_write_1h"] = stated.cache_creation.ephemeral_1h_input_tokens
    if stated.output_tokens_details is not None:
        found["reasoning"] = stated.output_tokens_details.thinking_tokens
    if stated.server_tool_use is not None:
        requests = [number for key, value in stated.server_tool_use.items() if key.endswith("_requests") and (number := count(value)) is not None]
        found["tool_requests"] = sum(requests) if requests else None
    return replace(former, **{key: value for key, value in found.items() if value is not None})
