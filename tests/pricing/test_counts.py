"""Usage taken apart: nothing is billed twice, nothing is lost, whatever contains what."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.pricing.counts import Counts, Stated, take_apart
from penstock.vocabulary.usage import Kinds

FIELDS = (
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "reasoning_tokens",
    "audio_input_tokens", "audio_output_tokens", "tool_use_tokens", "web_searches",
)  # fmt: skip


def stated(**counts: int | None) -> Stated:
    return cast("Stated", SimpleNamespace(**{**dict.fromkeys(FIELDS), "kinds": None, **counts}))


def of_kinds(protocol: str, kinds: Kinds, **counts: int | None) -> Counts:
    found = take_apart(protocol, cast("Stated", SimpleNamespace(**{**dict.fromkeys(FIELDS), **counts}, kinds=kinds)))
    assert found is not None
    return found


def test_an_image_made_by_gemini_is_in_its_output_and_its_thoughts_are_not() -> None:
    usage = {"input_tokens": 12, "output_tokens": 1303, "reasoning_tokens": 100}
    assert of_kinds("gemini", Kinds(image_output=1290), **usage) == Counts(input=12, output=13, reasoning=100, image_output=1290)
    assert of_kinds("openai_chat", Kinds(image_output=1190), **usage) == Counts(input=12, output=13, reasoning=100, image_output=1190)


def test_what_was_cached_of_a_kind_is_in_its_kind_and_in_what_was_cached() -> None:
    kinds = Kinds(image_input=300, video_input=200, cache_read_audio=60, cache_read_image=100, cache_read_video=40)
    usage = {"input_tokens": 1000, "cache_read_tokens": 250, "audio_input_tokens": 80, "output_tokens": 1}
    for protocol in ("gemini", "openai_chat"):
        found = of_kinds(protocol, kinds, **usage)
        assert found == Counts(
            input=370, cache_read=50, audio_input=20, output=1, image_input=200, video_input=160, cache_read_audio=60, cache_read_image=100,
            cache_read_video=40)
        assert found.context == 1000


def test_where_nobody_says_what_was_cached_of_a_kind_no_token_is_billed_twice() -> None:
    """Of 1,000 tokens 900 were cached and 800 were sound: at least 700 of them are the same."""
    found = take_apart("openai_chat", stated(input_tokens=1000, cache_read_tokens=900, audio_input_tokens=800))
    assert found == Counts(cache_read=200, audio_input=100, cache_read_audio=700)
    found = take_apart("openai_chat", stated(input_tokens=1000, cache_write_tokens=900, audio_input_tokens=800))
    assert found == Counts(cache_write_5m=900, audio_input=100)
    assert take_apart("openai_chat", stated(input_tokens=10, audio_input_tokens=80)) == Counts(audio_input=80), "contradicted: as stated"


@given(
    st.lists(st.integers(0, 10**6), min_size=14, max_size=14), st.booleans(),
    st.sampled_from(["openai_chat", "openai_responses", "gemini"]),
)  # fmt: skip
def test_whatever_is_told_of_kinds_the_parts_are_the_total(parts: list[int], told: bool, protocol: str) -> None:
    text, sound, image, video, text_read, sound_read, image_read, video_read, tools, said, thought, spoken, drawn, filmed = parts
    gemini = protocol == "gemini"
    tools = tools if gemini else 0
    known = (sound_read, image_read, video_read) if told else (None, None, None)
    found = of_kinds(
        protocol, Kinds(image + image_read, drawn, video + video_read, filmed, *known),
        input_tokens=text + sound + image + video + text_read + sound_read + image_read + video_read, tool_use_tokens=tools if gemini else None,
        cache_read_tokens=text_read + sound_read + image_read + video_read, audio_input_tokens=sound + sound_read,
        output_tokens=said + spoken + drawn + filmed + (0 if gemini else thought), reasoning_tokens=thought, audio_output_tokens=spoken,
    )  # fmt: skip
    exact = Counts(
        text + tools, text_read, 0, 0, sound, said, thought, spoken, 0, image, drawn, video, filmed, sound_read, image_read, video_read)
    assert sum(found) == sum(exact)
    assert found.context == exact.context
    assert found == exact or not told


def test_openai_s_input_contains_what_was_cached_and_its_output_the_reasoning() -> None:
    usage = stated(input_tokens=1000, cache_read_tokens=600, audio_input_tokens=100, output_tokens=300, reasoning_tokens=200, audio_output_tokens=50)
    for protocol in ("openai_chat", "openai_responses", None):
        assert take_apart(protocol, usage) == Counts(input=300, cache_read=600, audio_input=100, output=50, reasoning=200, audio_output=50)


def test_anthropic_s_input_contains_neither_reads_nor_writes() -> None:
    usage = stated(
        input_tokens=10, cache_read_tokens=600, cache_write_tokens=70, cache_write_5m_tokens=20, cache_write_1h_tokens=40, output_tokens=300,
        reasoning_tokens=200, web_searches=2,
    )  # fmt: skip
    # 10 of the 70 written are in no lifetime: they were written for five minutes.
    expected = Counts(input=10, cache_read=600, cache_write_5m=30, cache_write_1h=40, output=100, reasoning=200, web_searches=2)
    assert take_apart("anthropic_messages", usage) == expected
    assert expected.context == 680


def test_gemini_s_output_lacks_the_thoughts_and_its_input_the_tools() -> None:
    usage = stated(input_tokens=100, cache_read_tokens=40, tool_use_tokens=7, output_tokens=20, reasoning_tokens=30)
    assert take_apart("gemini", usage) == Counts(input=67, cache_read=40, output=20, reasoning=30)


def test_nothing_stated_is_nothing_known_and_a_part_is_a_part() -> None:
    assert take_apart("openai_chat", stated()) is None
    assert take_apart("openai_chat", stated(web_searches=1)) is None
    assert take_apart("anthropic_messages", stated(input_tokens=5)) == Counts(input=5)
    assert take_apart("openai_chat", stated(input_tokens=0)) == Counts()


COUNTS = st.one_of(st.none(), st.integers(0, 10**6))


@given(
    st.fixed_dictionaries(dict.fromkeys(FIELDS, COUNTS)),
    st.none() | st.builds(Kinds, **dict.fromkeys(Kinds.__struct_fields__, COUNTS)),
    st.sampled_from(["openai_chat", "openai_responses", "anthropic_messages", "gemini"]),
)
def test_no_part_is_ever_negative(counts: dict[str, int | None], kinds: Kinds | None, protocol: str) -> None:
    found = take_apart(protocol, cast("Stated", SimpleNamespace(**counts, kinds=kinds)))
    assert found is None or min(found) >= 0


@given(parts=st.lists(st.integers(0, 10**6), min_size=5, max_size=5))
def test_what_openai_states_is_what_is_billed(parts: list[int]) -> None:
    plain, read, sound, said, thought = parts
    found = take_apart("openai_chat", stated(
        input_tokens=plain + read + sound, cache_read_tokens=read, audio_input_tokens=sound, output_tokens=said + thought, reasoning_tokens=thought))
    assert found is not None
    assert (found.context, found.output + found.reasoning) == (plain + read + sound, said + thought)


@pytest.mark.parametrize("hour", [0, 40])
def test_a_write_is_counted_once_however_it_is_told(hour: int) -> None:
    written = {"input_tokens": 1, "cache_write_tokens": 100, "cache_write_1h_tokens": hour}
    both = take_apart("anthropic_messages", stated(**written, cache_write_5m_tokens=100 - hour))
    total = take_apart("anthropic_messages", stated(**written))
    assert both == total == Counts(input=1, cache_write_5m=100 - hour, cache_write_1h=hour)
