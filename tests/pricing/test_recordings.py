"""What the recorded answers cost, each worked out by hand from the makers' price lists (US dollars per million tokens), to the billionth.

In the arithmetic below tokens times dollars per million is millionths of a dollar.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cache

import pytest

from penstock.ledger.ascribe import Ascriber
from penstock.ledger.entry import Entry
from penstock.pricing import Place, Prices
from penstock.protocols import REGISTRY
from penstock.vocabulary.ids import ProtocolId
from tests.support.corpus import Case, cases
from tests.support.ledgers import COMPLETE

AT = 1_793_491_200.0
"""2026-11-01."""
D = Decimal
PROVIDERS = {
    ProtocolId.OPENAI_CHAT: "openai", ProtocolId.OPENAI_RESPONSES: "openai", ProtocolId.ANTHROPIC_MESSAGES: "anthropic", ProtocolId.GEMINI: "gemini",
}  # fmt: skip
BY_HAND: dict[str, Decimal] = {
    # claude-sonnet-4-6: 3, 15, cached 0.3; the compaction's tokens are on the bill.
    "anthropic_messages/test_anthropic_compaction_usage_with_cache_streaming_0": (181 + 100) * D(3) + (8 + 83) * D(15) + 55096 * D("0.3"),
    # claude-sonnet-4-5 and -4: 3 and 15, thinking among the output.
    "anthropic_messages/test_anthropic_model_thinking_part_redacted_stream_0": 92 * D(3) + 189 * D(15),
    "anthropic_messages/test_anthropic_model_thinking_part_stream_0": 43 * D(3) + 282 * D(15),
    # A search costs a cent; a fetch costs nothing but its tokens.
    "anthropic_messages/test_anthropic_text_parts_ahead_of_built_in_tool_call_1": 12957 * D(3) + 152 * D(15) + 10_000,
    "anthropic_messages/test_anthropic_web_fetch_tool_stream_0": 7244 * D(3) + 153 * D(15),
    # Above 200,000 tokens of context: 6 and 22.5.
    "anthropic_messages/test_pause_turn_web_search_streaming_vcr_1": 482529 * D(6) + 1310 * D("22.5") + 5 * 10_000,
    # gemini-2.5-pro: 1.25 and 10; thoughts are beside the output, tool use beside the input.
    "gemini/test_google_model_thinking_part_iter_0": 34 * D("1.25") + (469 + 787) * D(10),
    "gemini/test_google_model_web_search_tool_stream_0": (17 + 102) * D("1.25") + (241 + 412) * D(10),
    # gemini-2.5-flash: 0.30 and 2.50. gemini-3-flash-preview: 0.50 and 3. gemini-3-pro-preview: 2 and 12.
    "gemini/test_google_model_web_fetch_tool_stream_0": (32 + 4610) * D("0.3") + (25 + 37) * D("2.5"),
    "gemini/test_google_model_file_search_grounding_gemini_3_true__3": (427 + 771) * D("0.5") + (122 + 447) * D(3),
    "gemini/test_google_streaming_tool_call_thought_signature_0": 29 * D(2) + (10 + 202) * D(12),
    # gpt-4o: 2.50 and 10. gpt-4o-mini: 0.15 and 0.60. gpt-5: 1.25 and 10.
    "openai_chat/test_complex_agent_run_0": 364 * D("2.5") + 40 * D(10),
    "openai_chat/test_run_stream_sync_streams_real_model_1": 78 * D("0.15") + 9 * D("0.6"),
    "openai_chat/test_openai_moderation_stream_0": 13 * D("1.25") + 11 * D(10),
    "openai_responses/test_openai_responses_stream_0": 255 * D("2.5") + 16 * D(10),
    # gpt-5.2: 1.75 and 14, reasoning among the output. gpt-4.1: 2 and 8. o4-mini, o3-mini: 1.10 and 4.40.
    "openai_responses/test_openai_include_raw_annotations_streaming_1": 8234 * D("1.75") + 79 * D(14),
    "openai_responses/test_openai_responses_compact_stateful_mode_stream_2": 872 * D(2) + 1254 * D(8),
    "openai_responses/test_openai_responses_model_mcp_server_tool_stream_0": 1401 * D("1.1") + 480 * D("4.4"),
    "openai_responses/test_openai_responses_thinking_part_iter_0": 13 * D("1.1") + 1680 * D("4.4"),
}
OTHERS: dict[str, tuple[str, Decimal]] = {
    # OpenRouter's o3: 2 and 8. DeepSeek's v4-flash at midnight: 0.15, cached 0.003, 0.60; the cached are among the input.
    "openai_chat/test_openrouter_stream_with_reasoning_0": ("openrouter", 9 * D(2) + 104 * D(8)),
    "openai_responses/test_deepseek_responses_function_tool_stream__0": ("deepseek", (366 - 256) * D("0.15") + 256 * D("0.003") + 59 * D("0.6")),
}


@cache
def ascriber() -> Ascriber:
    return Ascriber(Prices(places={"openai": Place("openai", "https://api.openai.com/v1"), "anthropic": Place("anthropic", "https://api.anthropic.com"),
                                   "gemini": Place("gemini", "https://generativelanguage.googleapis.com")}))  # fmt: skip


def settled(case: Case, provider: str) -> Entry:
    """The entry that the ledger's thread gets of a recording."""
    protocol = case.recording.protocol
    observer = REGISTRY[protocol].observer(case.recording.operation)
    for frame in case.recording.frames:
        observer.observe(frame.name, frame.data, 0.0)
    entry = Entry("x", AT)
    entry.provider, entry.operation, entry.upstream_protocol = provider, case.recording.operation.value, protocol.value
    entry.model, entry.service_tier = observer.model, observer.service_tier
    entry.account(observer.usage, observer.provenance())
    entry.settle(COMPLETE, AT + 1)
    ascriber().fill(entry)
    return entry


ALL = {case.name: case for case in cases()}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_recorded_answer_costs_what_the_price_list_says(name: str) -> None:
    entry = settled(ALL[name], PROVIDERS[ALL[name].recording.protocol])
    assert entry.cost_nanousd == BY_HAND[name] * 1000
    assert entry.price_version is not None
    assert entry.price_version.startswith("genai-prices ")


@pytest.mark.parametrize("name", OTHERS)
def test_at_other_providers(name: str) -> None:
    provider, cost = OTHERS[name]
    assert settled(ALL[name], provider).cost_nanousd == cost * 1000


@pytest.mark.parametrize("name", ["openai_chat/test_crusoe_model_streaming_0", "openai_chat/test_snowflake_model_streaming_0"])
def test_a_model_that_is_on_no_list_of_its_provider_costs_nothing_known(name: str) -> None:
    entry = settled(ALL[name], "crusoe")
    assert (entry.cost_nanousd, entry.price_version) == (None, None)


def test_every_protocol_is_among_them() -> None:
    assert {ALL[name].recording.protocol for name in BY_HAND} == set(ProtocolId)
