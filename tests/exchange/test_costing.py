"""What budgets of money are charged: the ledger's costs, in millionths, a part of one counted as a whole."""

from __future__ import annotations

from decimal import Decimal

import pytest

from penstock.exchange.admitting import charged
from penstock.exchange.costing import Costs
from penstock.pricing import OwnPrice, Prices, Rates
from penstock.pricing import Place as PricePlace
from penstock.routing import Glob
from penstock.vocabulary.ids import ProtocolId
from penstock.vocabulary.usage import Usage
from tests.pricing.test_recordings import ALL, AT, BY_HAND, OTHERS, PROVIDERS, settled

D = Decimal
PLACES = {
    "openai": PricePlace("openai", "https://api.openai.com/v1"), "anthropic": PricePlace("anthropic", "https://api.anthropic.com"),
    "gemini": PricePlace("gemini", "https://generativelanguage.googleapis.com"),
}  # fmt: skip
CHAT = ProtocolId.OPENAI_CHAT.value


def costs(*own: OwnPrice) -> Costs:
    return Costs(Prices(own, PLACES), lambda: AT)


def own(model: str, input: str, output: str, tier: str | None = None) -> OwnPrice:
    return OwnPrice(Glob("*"), Glob(model), tier, Rates(input=D(input), output=D(output)), None, None, None, D(1))


@pytest.mark.parametrize("name", [*BY_HAND, *OTHERS])
def test_a_recorded_answer_is_charged_what_it_cost(name: str) -> None:
    """By the usage that an exchange is charged, as its row has it, searches and tiers of context among it."""
    provider = OTHERS[name][0] if name in OTHERS else PROVIDERS[ALL[name].recording.protocol]
    entry = settled(ALL[name], provider)
    entry.upstream_status, entry.streamed, entry.events, entry.ttft_ms, entry.bytes_out = 200, True, 9, 1.0, 99
    assert entry.cost_nanousd is not None
    usage = charged(entry).usage
    found = costs()(provider, entry.model, entry.upstream_protocol or "", usage, entry.requested_model, entry.service_tier)
    assert found == -(-entry.cost_nanousd // 1000)


def test_a_part_of_a_millionth_is_a_whole_one() -> None:
    cheap = costs(own("m", "0.001", "1"))
    assert [cheap("openai", "m", CHAT, Usage(input=n, output=0), None, None) for n in (0, 1, 999, 1000, 1001)] == [0, 1, 1, 1, 2]


def test_what_nobody_knows_costs_nothing_known_and_nothing_used_costs_nothing() -> None:
    price = costs(own("m", "1", "1"))
    assert price("openai", "nobody-knows-it", CHAT, Usage(input=5), None, None) is None
    assert price("openai", None, CHAT, Usage(input=5), None, None) is None
    assert price("openai", "m", CHAT, Usage(), None, None) == 0


def test_the_provider_s_word_comes_first_and_what_was_asked_for_when_it_has_said_none() -> None:
    price = costs(own("small", "1", "1"), own("large", "10", "10"))
    asked = [("small", "large"), (None, "large"), (None, "nobody-knows-it")]
    assert [price("openai", model, CHAT, Usage(input=3), requested, None) for model, requested in asked] == [3, 30, None]


def test_a_tier_has_its_own_price() -> None:
    price = costs(own("m", "5", "5", "batch"), own("m", "10", "10"))
    assert [price("openai", "m", CHAT, Usage(input=2), None, tier) for tier in (None, "batch", "other")] == [20, 10, 20]
