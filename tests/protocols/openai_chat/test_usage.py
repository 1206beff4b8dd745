"""The quick reading of usage says what the thorough one says, for every spelling that it takes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CompletionUsage

from penstock.protocols.openai_chat import SPEC
from penstock.protocols.openai_chat.body import observe_body
from penstock.protocols.openai_chat.chunk import ChatUsage, read_usage_thoroughly, usage_of
from penstock.protocols.openai_chat.observe import ChatObserver
from penstock.protocols.openai_chat.render import usage_object
from penstock.vocabulary.events import Event
from penstock.vocabulary.ids import Operation
from penstock.vocabulary.usage import EMPTY_USAGE, Kinds, Usage

COUNTS = st.none() | st.booleans() | st.integers(-2, 1 << 64) | st.sampled_from([5.0, 5.5, "5"]) | st.integers(0, 100_000)
DETAILS = st.none() | st.dictionaries(
    st.sampled_from(["cached_tokens", "cache_write_tokens", "audio_tokens", "reasoning_tokens", "image_tokens", "video_tokens", "other"]), COUNTS,
    max_size=4,
) | st.just({"cached_tokens": 5, "cached_tokens_details": {"image_tokens": 4}})
USAGE = st.fixed_dictionaries({}, optional={
    "prompt_tokens": COUNTS, "completion_tokens": COUNTS, "total_tokens": COUNTS, "input_tokens": COUNTS, "output_tokens": COUNTS,
    "prompt_cache_hit_tokens": COUNTS, "prompt_tokens_details": DETAILS, "input_tokens_details": DETAILS, "input_token_details": DETAILS,
    "completion_tokens_details": DETAILS, "output_tokens_details": DETAILS, "output_token_details": DETAILS,
})  # fmt: skip


@given(USAGE)
def test_the_quick_reading_agrees_with_the_thorough_one(stated: dict[str, Any]) -> None:
    try:
        quick = usage_of(msgspec.convert(stated, ChatUsage))
    except msgspec.ValidationError:
        return
    assert quick == read_usage_thoroughly(stated)


@given(USAGE)
def test_a_body_is_read_as_its_usage_is(stated: dict[str, Any]) -> None:
    observer = ChatObserver()
    observe_body(observer, msgspec.json.encode({"id": "c", "choices": [], "usage": stated}))
    assert observer.usage == (read_usage_thoroughly(stated) or EMPTY_USAGE)
    assert not observer.malformed


@pytest.mark.parametrize("odd", [rb'"completion_tokens": "\ud800"', rb'"\ud800": 1', rb'"prompt_tokens_details": {"cached_tokens": "\udfff"}'])
def test_half_a_surrogate_pair_in_it_is_no_count_and_no_mistake_of_ours(odd: bytes) -> None:
    stated = b'{"id": "c", "model": "m", "choices": [], "usage": {"prompt_tokens": 7, %b}}' % odd
    for operation in (Operation.CHAT, Operation.COMPLETIONS):
        for sink in (None, list[Event]()):
            observer = SPEC.observer(operation)
            observer.sink = sink
            observer.observe(b"", stated, 1.0)
            assert observer.usage.input == 7
        observer = SPEC.observer(operation)
        observer.observe_body(stated)
        assert observer.usage.input == 7


def test_half_a_surrogate_pair_in_a_choice_of_a_body() -> None:
    observer = ChatObserver()
    observer.observe_body(rb'{"id": "c", "choices": [{"index": 0, "finish_reason": "stop", "message": {"tool_calls": "\ud800"}}]}')
    assert (observer.stop_reason, observer.malformed) == ("stop", 0)


def test_the_usual_spelling_takes_the_quick_way() -> None:
    stated = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13, "prompt_tokens_details": {"cached_tokens": 3, "audio_tokens": 0},
              "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": 0, "accepted_prediction_tokens": 0}}  # fmt: skip
    usage = usage_of(msgspec.convert(stated, ChatUsage))
    assert (usage.input, usage.output, usage.cache_read, usage.reasoning) == (9, 4, 3, 2)


def test_pictures_are_told_apart_and_take_the_quick_way_too() -> None:
    """Chat's own words, as the official client has them, and OpenRouter's for what was made (`tests/corpus`)."""
    stated = {**CompletionUsage.model_validate({
        "prompt_tokens": 400, "completion_tokens": 1304, "total_tokens": 1704,
        "prompt_tokens_details": {"image_tokens": 258, "text_tokens": 142, "video_tokens": 9},
    }).model_dump(exclude_none=True), "completion_tokens_details": {"reasoning_tokens": 0, "image_tokens": 1290}}  # fmt: skip
    usage = usage_of(msgspec.convert(stated, ChatUsage))
    assert usage == read_usage_thoroughly(stated) == Usage(400, 1304, reasoning=0, kinds=Kinds(258, 1290, 9))
    again = usage_object(usage)
    assert read_usage_thoroughly(again) == usage
    assert (again["prompt_tokens_details"]["image_tokens"], again["completion_tokens_details"]["image_tokens"]) == (258, 1290)
