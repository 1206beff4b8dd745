"""Chunks of plain text are recognised by one question; what is observed is the same as without it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.protocols.openai_chat import observe
from penstock.protocols.openai_chat.observe import ChatObserver
from penstock.wire.budget import Budget
from penstock.wire.sse import Scanner
from tests.support.corpus import cases

CASES = [case for case in cases() if case.recording.protocol == "openai_chat"]
SEEN = (
    "response_id", "model", "stop_reason", "service_tier", "usage", "final_usage", "error", "terminal", "calls", "choices", "malformed", "unknown",
    "unfinished",
)  # fmt: skip


def told(frames: list[tuple[bytes, bytes]], most: int) -> list[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(observe, "MAX_MISSES", most)
        observer = ChatObserver()
        seen: list[bytes] = []
        observer.follower = lambda name, data: seen.append(data)
        marks = [(observer.observe(name, data, 1.0), sorted(map(str, observer.tools))) for name, data in frames]
    return [marks, seen, *(getattr(observer, name) for name in SEEN)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_of_every_recording(case: Any) -> None:
    frames = [(name, data) for name, data, _ in Scanner(1 << 24, Budget(1 << 26)).feed(case.body) if data is not None]
    assert told(frames, 16) == told(frames, 0)


ODD = st.sampled_from([None, "", "x", 0, 1, [], {}, {"message": "m"}, "stop", [{"index": 0}], -1, True])
DELTA = st.fixed_dictionaries({}, optional={"content": ODD, "role": ODD, "tool_calls": ODD, "function_call": ODD, "reasoning": ODD, "refusal": ODD})
CHOICE = st.fixed_dictionaries(
    {}, optional={"index": st.sampled_from([0, 0, 0, 1, None]), "delta": DELTA, "finish_reason": ODD, "error": ODD, "text": ODD}
)  # fmt: skip
CHUNK = st.fixed_dictionaries(
    {"id": st.just("c"), "model": st.just("m")},
    optional={"choices": st.lists(CHOICE, max_size=2), "usage": ODD, "error": ODD, "x_groq": ODD},
)  # fmt: skip
TEXT: dict[str, Any] = {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": None}]}


@given(st.lists(st.one_of(st.just(TEXT), CHUNK), max_size=20), st.sampled_from([b"", b"", b"error"]))
def test_of_whatever_comes(chunks: list[dict[str, Any]], name: bytes) -> None:
    frames = [(b"", json.dumps(TEXT).encode())] * 2 + [(name, json.dumps(chunk).encode()) for chunk in chunks] + [(b"", b"[DONE]")]
    assert told(frames, 16) == told(frames, 0)


def test_it_is_asked_as_long_as_the_answer_is_mostly_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    check = observe.check_plain

    def counted(data: bytes) -> object:
        asked.append(data)
        return check(data)

    monkeypatch.setattr(observe, "check_plain", counted)
    text = json.dumps(TEXT).encode()
    other = text.replace(b'"index": 0', b'"index": 1')
    observer = ChatObserver()
    for _ in range(100):
        observer.observe(b"", text, 1.0)
    assert len(asked) == 98, "the first begins the choice, and the second shows that it goes on"
    asked.clear()
    for _ in range(100):
        observer.observe(b"", text, 1.0)
        observer.observe(b"", other, 1.0)
    assert len(asked) <= 2 * observe.MAX_MISSES


@pytest.mark.parametrize("odd", [b'"reasoning":"\xff"', b'"audio":1e999'])
def test_names_that_are_known_are_not_read_again_from_an_odd_chunk(odd: bytes) -> None:
    chunk = b'{"id":"c","model":"m","service_tier":"%b","choices":[{"index":0,"delta":{"content":"a",%b}}]}'
    frames = [(b"", chunk % (b"default", b'"role":null'))] * 2 + [(b"", chunk % (b"priority", odd))]
    assert told(frames, 16)[2:] == told(frames, 0)[2:]
    observer = ChatObserver()
    for name, data in frames[1:]:
        observer.observe(name, data, 1.0)
    assert observer.service_tier == "default"
