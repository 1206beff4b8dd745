"""Who is asked for a price, and that our sum is the list's own."""

from __future__ import annotations

from decimal import Decimal
from functools import cache

import pytest
from genai_prices import Usage as ListUsage
from genai_prices import calc_price
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.pricing import Counts, OwnPrice, Place, Prices, Rates
from penstock.pricing.lists import context
from penstock.routing import Glob

AT = 1_793_491_200.0
"""2026-11-01."""
ONE = Counts(input=1_000_000)
MILLION = 10**9
"""Nanos of a dollar: a million tokens at one dollar per million."""


@cache
def listed() -> Prices:
    return Prices()


def cost(prices: Prices, provider: str, model: str, counts: Counts = ONE, tier: str | None = None, at: float = AT) -> int | None:
    price = prices.price(provider, model, None, tier, counts, at)
    return None if price is None else price.nanos


@given(
    st.sampled_from([("openai", "gpt-4o"), ("openai", "gpt-5"), ("anthropic", "claude-sonnet-4-5"), ("anthropic", "claude-opus-4-5"),
                     ("google", "gemini-2.5-pro"), ("google", "gemini-2.5-flash"), ("deepseek", "deepseek-v4-flash"), ("openai", "gpt-audio"),
                     ("perplexity", "sonar-pro")]),
    st.lists(st.integers(0, 300_000), min_size=7, max_size=7),
    st.sampled_from([None, "batch", "priority", "flex", "fast"]),
)  # fmt: skip
@settings(deadline=None)
def test_our_sum_is_the_list_s_own(model: tuple[str, str], parts: list[int], tier: str | None) -> None:
    from datetime import UTC, datetime

    plain, read, short, hour, sound, said, spoken = parts
    counts = Counts(plain, read, short, hour, sound, said, 0, spoken)
    usage = ListUsage(
        input_tokens=counts.context, cache_read_tokens=read, cache_write_tokens=short + hour, cache_write_1h_tokens=hour, input_audio_tokens=sound,
        cache_audio_read_tokens=0, cache_audio_write_tokens=0, output_tokens=said + spoken, output_audio_tokens=spoken,
    )  # fmt: skip
    theirs = calc_price(
        usage, model[1], provider_id=model[0], genai_request_timestamp=datetime.fromtimestamp(AT, UTC), price_context=context(tier))
    ours = cost(listed(), model[0], model[1], counts, tier)
    assert ours is not None
    assert abs(ours - theirs.total_price * 10**9) <= Decimal("0.5")


NAMED = {
    "input_audio_mtok": "audio_input", "output_audio_mtok": "audio_output", "input_image_mtok": "image_input", "output_image_mtok": "image_output",
    "input_video_mtok": "video_input", "output_video_mtok": "video_output", "cache_audio_read_mtok": "cache_read_audio",
    "cache_image_read_mtok": "cache_read_image", "cache_video_read_mtok": "cache_read_video",
}  # fmt: skip
TIMES = (1_748_736_000.0, AT, 1_796_083_200.0)
"""2025-06-01, 2026-11-01, 2026-12-01: lists change."""


def by_kind() -> list[tuple[str, str]]:
    """Every model of the lists that has a rate for a kind of token, at any time and in any tier."""
    found: list[tuple[str, str]] = []
    for maker in get_snapshot().providers:
        for model in maker.models:
            prices = [each.prices for each in model.prices] if isinstance(model.prices, list) else [model.prices]
            prices += [variant.prices for variant in model.price_variants or ()]
            if any(getattr(price, key) is not None for price in prices for key in NAMED):
                found.append((maker.id, model.id))
    return found


@pytest.mark.parametrize(("maker", "model"), by_kind())
def test_every_model_with_rates_for_kinds_of_tokens_costs_what_its_list_says(maker: str, model: str) -> None:
    """Counts of all kinds at once, each a prime, so that no two rates can be mistaken for each other."""
    from datetime import UTC, datetime

    for at in TIMES:
        for tier in (None, "batch", "priority", "flex"):
            asked = context(tier)
            with_kinds = Counts(1009, 2003, 0, 0, 3001, 4001, 0, 5003, 0, 6007, 7001, 8009, 9001, 10007, 11003, 12007)
            read = sum(with_kinds[index] for index in (1, 13, 14, 15))
            usage = ListUsage(
                input_tokens=with_kinds.context, cache_read_tokens=read, cache_write_tokens=0,
                input_audio_tokens=13008, input_image_tokens=17010, input_video_tokens=20016,
                cache_audio_read_tokens=10007, cache_image_read_tokens=11003, cache_video_read_tokens=12007,
                cache_audio_write_tokens=0, cache_image_write_tokens=0, cache_video_write_tokens=0,
                output_tokens=4001 + 5003 + 7001 + 9001, output_audio_tokens=5003, output_image_tokens=7001, output_video_tokens=9001,
            )  # fmt: skip
            theirs = calc_price(usage, model, provider_id=maker, genai_request_timestamp=datetime.fromtimestamp(at, UTC), price_context=asked)
            ours = cost(Prices(places={maker: Place()}), maker, model, with_kinds, tier, at)
            assert ours is not None
            assert abs(ours - theirs.total_price * 10**9) <= Decimal("0.5"), (tier, at)


def test_a_picture_costs_what_its_maker_says() -> None:
    """Google, "Gemini Developer API pricing": a picture of 1024 x 1024 is 1,290 tokens, $0.039; and not what so much text would cost."""
    assert cost(listed(), "google", "gemini-2.5-flash-image", Counts(input=10, image_output=1290)) == 10 * 300 + 1290 * 30_000
    assert cost(listed(), "google", "gemini-2.5-flash-image", Counts(input=10, output=1290)) == 10 * 300 + 1290 * 2500
    assert cost(listed(), "openai", "gpt-image-1.5", Counts(40, output=60, image_input=60, image_output=4100)) == (
        40 * 5000 + 60 * 8000 + 60 * 10_000 + 4100 * 32_000)


def test_what_was_cached_of_a_kind_without_a_rate_costs_what_is_cached_or_else_its_kind() -> None:
    sound, counts = Decimal(3), Counts(cache_read_audio=1_000_000)
    for rates, dollars in (
        (Rates(Decimal(1)), 1), (Rates(Decimal(1), audio_input=sound), 3), (Rates(Decimal(1), Decimal("0.5"), audio_input=sound), 0.5),
        (Rates(Decimal(1), Decimal("0.5"), audio_input=sound, cache_read_audio=Decimal(2)), 2),
    ):  # fmt: skip
        assert cost(Prices([OwnPrice(model=Glob("m"), rates=rates)]), "p", "m", counts) == dollars * MILLION


def test_what_each_request_costs_besides_is_in_its_price() -> None:
    plain = Counts(input=1000, output=100)
    assert cost(listed(), "perplexity", "sonar", plain) == 1000 * 1000 + 100 * 1000 + 12_000_000
    half = Prices([OwnPrice(provider=Glob("perplexity"), factor=Decimal("0.5"))])
    assert cost(half, "perplexity", "sonar", plain) == 500 * 1000 + 50 * 1000 + 6_000_000


def test_long_contexts_cost_more_as_a_whole() -> None:
    at_most = cost(listed(), "anthropic", "claude-sonnet-4-5", Counts(input=1000, cache_read=199_000))
    above = cost(listed(), "anthropic", "claude-sonnet-4-5", Counts(input=1001, cache_read=199_000))
    assert at_most == 1000 * 3000 + 199_000 * 300
    assert above == 1001 * 6000 + 199_000 * 600


def test_service_tiers() -> None:
    assert [cost(listed(), "openai", "gpt-4.1", tier=tier) for tier in (None, "default", "priority", "batch")] == [
        2 * MILLION, 2 * MILLION, 3.5 * MILLION, 1 * MILLION]
    assert cost(listed(), "anthropic", "claude-opus-4-5", tier="batch") == 2.5 * MILLION
    assert cost(listed(), "openai", "gpt-4.1", tier="a word that nobody knows") == 2 * MILLION


def test_a_price_is_that_of_its_time() -> None:
    night, morning = (cost(listed(), "deepseek", "deepseek-v4-flash", at=AT + hours * 3600) for hours in (0, 2))
    assert (night, morning) == (0.15 * MILLION, 0.3 * MILLION)
    assert cost(listed(), "openai", "o3", at=1_746_057_600.0) == 10 * MILLION, "before the price was cut in June 2025"
    assert cost(listed(), "openai", "o3") == 2 * MILLION


def test_no_list_no_price() -> None:
    prices = Prices(places={
        "anything": Place("openai", "http://10.0.0.1:8000/v1"), "proxy": Place("anthropic", "https://llm.example.com"),
        "azure": Place("openai", "https://x.openai.azure.com/openai/v1"), "mine": Place("openai", "https://api.groq.com/openai/v1"),
    })  # fmt: skip
    assert cost(prices, "anything", "gpt-4o") is None, "an unknown server may call its models anything"
    assert cost(prices, "proxy", "claude-opus-4-5") == 5 * MILLION, "Anthropic's models have Anthropic's names everywhere"
    assert cost(prices, "proxy", "kimi-k2") is None
    assert cost(prices, "azure", "gpt-4o") == 2.5 * MILLION
    assert cost(prices, "mine", "llama-3.3-70b-versatile") is not None
    assert cost(prices, "openai", "gpt-99-nonsense") is None
    assert cost(prices, "openai", "whisper-1") is None, "by the second, which no usage tells"
    assert cost(prices, "demo", "demo") == 0
    assert prices.price(None, "gpt-4o", None, None, ONE, AT) is None
    assert prices.price("openai", None, None, None, ONE, AT) is None


def test_the_requested_name_is_asked_for_where_the_provider_s_says_nothing() -> None:
    price = listed().price("openai", "a snapshot", "gpt-4o", None, ONE, AT)
    assert price is not None
    assert price.nanos == 2.5 * MILLION


def test_one_s_own_prices_come_first_and_the_first_that_fits_holds() -> None:
    prices = Prices([
        OwnPrice(Glob("openai"), Glob("gpt-4*"), tier="batch", rates=Rates(Decimal(1))),
        OwnPrice(Glob("openai"), Glob("gpt-4*"), rates=Rates(Decimal("0.1"), output=Decimal("0.4")), above=500_000, long=Rates(Decimal("0.2"))),
        OwnPrice(model=Glob("claude-*"), factor=Decimal("0.85")),
        OwnPrice(Glob("corp"), like="openai", factor=Decimal("1.1")),
    ])  # fmt: skip
    assert cost(prices, "openai", "gpt-4o", tier="batch") == 1 * MILLION
    assert cost(prices, "openai", "gpt-4o") == 0.2 * MILLION, "a million tokens are a long context"
    assert cost(prices, "openai", "gpt-4o", Counts(input=10_000, output=10_000)) == 10_000 * 100 + 10_000 * 400
    assert cost(prices, "openai", "gpt-4o", Counts(input=600_000, output=10)) == 600_000 * 200 + 10 * 400, "what is left out of long is as in short"
    assert cost(prices, "anthropic", "claude-opus-4-5") == 4.25 * MILLION
    assert cost(prices, "corp", "gpt-4o") == 2.75 * MILLION
    assert cost(prices, "openai", "gpt-5") == 1.25 * MILLION


def test_the_version_says_which_list_it_was() -> None:
    own = OwnPrice(model=Glob("gpt-*"), rates=Rates(Decimal(1)))
    cut = OwnPrice(model=Glob("claude-*"), factor=Decimal("0.9"))
    prices = Prices([own, cut])
    sources = [price.source for model, provider in (("gpt-4o", "openai"), ("claude-opus-4-5", "anthropic"), ("gemini-2.5-pro", "google"))
               if (price := prices.price(provider, model, None, None, ONE, AT)) is not None]  # fmt: skip
    list_version = sources[2]
    assert list_version.startswith("genai-prices ")
    assert sources[:2] == [own.version, f"{list_version}, {cut.version}"]
    assert OwnPrice(model=Glob("gpt-*"), rates=Rates(Decimal(2))).version != own.version
    assert OwnPrice(model=Glob("gpt-*"), rates=Rates(Decimal(1))).version == own.version
    assert OwnPrice(model=Glob("gpt-*"), rates=Rates(Decimal(1), image_output=Decimal(1))).version != own.version
    assert own.version == "own 7391d244", "an entry of old keeps its fingerprint"


def test_what_the_cache_saved() -> None:
    counts = Counts(input=100, cache_read=10_000, cache_write_5m=1000, cache_write_1h=500)
    price = listed().price("anthropic", "claude-opus-4-5", None, None, counts, AT, saved=True)
    assert price is not None
    # Read at a tenth; written at 1.25 times and twice the input, which is 5 dollars.
    assert price.saved == 10_000 * 4500 - 1000 * 1250 - 500 * 5000
    own = Prices([OwnPrice(model=Glob("m"), rates=Rates(Decimal(1), Decimal("0.5"), audio_input=Decimal(4), cache_read_audio=Decimal(1)))])
    price = own.price("p", "m", None, None, Counts(cache_read_audio=1000, cache_read_image=100), AT, saved=True)
    assert price is not None
    assert price.saved == 1000 * 3000 + 100 * 500


@pytest.mark.parametrize("counts", [Counts(input=10**15), Counts(output=10**14)])
def test_what_nobody_can_have_paid_is_not_known(counts: Counts) -> None:
    assert cost(listed(), "openai", "gpt-4o", counts) is None


def test_names_that_clients_make_up_do_not_grow_it_for_ever() -> None:
    prices = Prices()
    for at in range(5000):
        assert cost(prices, "openai", f"made-up-{at}") is None
    assert len(prices._found) <= 4096  # pyright: ignore[reportPrivateUsage]
