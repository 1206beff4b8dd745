"""Estimates: close enough, the same for every cut, and never in the way."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.protocols import REGISTRY
from penstock.translate.argo_legacy.tokens import Tally, of_request
from penstock.vocabulary.events import TextDelta
from penstock.vocabulary.ids import Operation, ProtocolId
from tests.support.sdk import case

OPERATIONS = {"openai_chat": Operation.CHAT, "openai_responses": Operation.RESPONSES, "anthropic_messages": Operation.MESSAGES}


def tokens(*pieces: str) -> int:
    tally = Tally()
    for piece in pieces:
        tally.add(piece)
    return tally.tokens


@pytest.mark.parametrize(
    "name",
    ["openai_chat/test_openrouter_stream_with_reasoning_0", "openai_chat/test_dbos_agent_run_stream_0", "openai_chat/test_run_stream_sync_streams",
     "openai_responses/test_openai_responses_stream_1", "anthropic_messages/test_anthropic_model_thinking_part_stream_0"],
)  # fmt: skip
def test_near_to_what_providers_counted(name: str) -> None:
    """Recorded answers that are nothing but text: within a quarter."""
    found = case(name)
    protocol = found.recording.protocol
    observer = REGISTRY[ProtocolId(protocol)].observer(OPERATIONS[protocol])
    observer.sink = []
    for frame in found.recording.frames:
        if frame.data:
            observer.observe(frame.name, frame.data, 0.0)
    estimate = tokens(*(event.text for event in observer.sink if isinstance(event, TextDelta)))
    counted = observer.usage.output
    assert counted is not None
    assert abs(estimate - counted) <= 0.25 * counted, (estimate, counted)


@given(st.lists(st.text(), max_size=8))
def test_the_same_however_it_is_cut(pieces: list[str]) -> None:
    assert tokens(*pieces) == tokens("".join(pieces))


def test_nothing_is_nothing_and_a_word_is_one() -> None:
    assert (tokens(), tokens(""), tokens("a"), tokens("世")) == (0, 0, 1, 1)


ANY = st.recursive(st.none() | st.text(max_size=9) | st.integers(), lambda inner: st.lists(inner, max_size=3), max_leaves=6)


@given(st.dictionaries(st.sampled_from(["messages", "system", "prompt", "tools"]), ANY))
def test_no_request_fails_by_being_counted(fields: dict[str, Any]) -> None:
    assert of_request(fields) >= 0


def test_pictures_are_no_text() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    assert of_request({"messages": [{"role": "user", "content": [picture]}]}) < 30


def test_what_is_nested_without_end_is_counted_as_far_as_it_goes() -> None:
    value: Any = "deep"
    for _ in range(5000):
        value = [value]
    assert of_request({"prompt": value}) == 0
