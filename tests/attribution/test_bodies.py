"""What bodies say of whose they are, by the shapes that clients send."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.attribution import Ascribed, ascribe
from penstock.attribution.bodies import BYTES, clear
from penstock.protocols import REGISTRY
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.vocabulary.said import MOST, Said

UUID, SESSION = "8a1b2c3d-0000-4000-8000-123456789abc", "57a121ec-f78c-48c3-a745-e3036a3ecc33"
HASH = "0123456789abcdef" * 4


def said_by(protocol: ProtocolId, operation: Operation, path: str = "", **fields: Any) -> Said | None:
    return REGISTRY[protocol].peek(operation, path, "", json.dumps({"model": "m", **fields}).encode()).said


def messages(**fields: Any) -> Said | None:
    return said_by(ProtocolId.ANTHROPIC_MESSAGES, Operation.MESSAGES, **fields)


def chat(**fields: Any) -> Said | None:
    return said_by(ProtocolId.OPENAI_CHAT, Operation.CHAT, **fields)


def responses(**fields: Any) -> Said | None:
    return said_by(ProtocolId.OPENAI_RESPONSES, Operation.RESPONSES, **fields)


@pytest.mark.parametrize(("user_id", "user", "session"), [
    (json.dumps({"device_id": "d1", "account_uuid": UUID, "session_id": SESSION}), UUID, SESSION),
    (json.dumps({"device_id": "d1", "account_uuid": "", "session_id": SESSION}), "d1", SESSION),
    (f"user_{HASH}_account_{UUID}_session_{SESSION}", UUID, SESSION),
    (f"user_{HASH}_account__session_{SESSION}", HASH, SESSION),
    ("somebody", "somebody", None),
    ("{broken", "{broken", None),
    (7, "7", None),
    (None, None, None),
    (["a"], None, None),
])  # fmt: skip
def test_anthropic_s_user_id(user_id: object, user: str | None, session: str | None) -> None:
    assert ascribe(messages(metadata={"user_id": user_id}), "claude-code") == Ascribed(user, None, session, None)


def test_openai_s_user_and_metadata() -> None:
    body = chat(user="u1", metadata={"session_id": "s1", "project": "p1", "user": "other"}, reasoning_effort="HIGH")
    assert ascribe(body, None) == Ascribed("u1", "p1", "s1", "high")
    assert ascribe(chat(metadata={"user_id": "u2"}), None) == Ascribed("u2")
    assert ascribe(responses(user="u1", safety_identifier="u3", reasoning={"effort": "low"}), None) == Ascribed("u3", effort="low")


SCHEMA = {"type": "object", "properties": {f"p{number}": {"type": "string", "description": "x" * 40} for number in range(200)}}


def test_what_stands_beside_a_long_schema_is_found() -> None:
    assert ascribe(messages(output_config={"format": {"type": "json_schema", "schema": SCHEMA}, "effort": "max"}), None).effort == "max"
    told = said_by(
        ProtocolId.GEMINI, Operation.GENERATE, "/v1beta/models/m:generateContent",
        generationConfig={"responseSchema": SCHEMA, "thinkingConfig": {"thinkingBudget": 6000}},
    )  # fmt: skip
    assert ascribe(told, None).effort == "high"
    metadata = {**{f"k{number}": "é" * 200 for number in range(13)}, "session_id": "s1", "user_id": "u1", "project": "p1"}
    assert ascribe(chat(metadata=metadata), None) == Ascribed("u1", "p1", "s1")


@pytest.mark.parametrize("value", ["x" * 5000, ["x"] * 5000, {f"k{number}": number for number in range(5000)}, {"user_id": "x" * 5000}])
def test_of_what_is_longer_no_more_is_kept_than_may_be(value: object) -> None:
    said = chat(metadata=value, user=value)
    assert said is not None
    assert len(said.metadata) <= 2 * MOST
    assert len(said.user) <= 2 * MOST
    assert ascribe(said, None) == Ascribed()


def test_a_cache_key_is_a_session_with_codex_alone() -> None:
    assert ascribe(responses(prompt_cache_key=SESSION), "codex").session == SESSION
    assert ascribe(responses(prompt_cache_key=SESSION, metadata={"session_id": "s2"}), "codex").session == "s2"
    assert ascribe(responses(prompt_cache_key=SESSION), "openai-python").session is None


@pytest.mark.parametrize(("body", "effort"), [
    (messages(thinking={"type": "enabled", "budget_tokens": 1500}), "low"),
    (messages(thinking={"type": "enabled", "budget_tokens": 5000}), "medium"),
    (messages(thinking={"type": "enabled", "budget_tokens": 12000}), "high"),
    (messages(thinking={"type": "enabled", "budget_tokens": 12001}), "xhigh"),
    (messages(thinking={"type": "adaptive"}), "adaptive"),
    (messages(thinking={"type": "disabled"}), "none"),
    (messages(thinking={"type": "adaptive"}, output_config={"effort": "max"}), "max"),
    (messages(output_config={"format": {"type": "json_schema"}}), None),
    (messages(), None),
    (chat(reasoning_effort="minimal"), "minimal"),
    (chat(reasoning={"max_tokens": 2000}), "medium"),
    (chat(reasoning_effort=5), None),
    (responses(reasoning={"effort": None, "summary": "auto"}), None),
    (said_by(ProtocolId.GEMINI, Operation.GENERATE, "/v1beta/models/m:generateContent",
             generationConfig={"thinkingConfig": {"thinkingBudget": -1}}), "adaptive"),
    (said_by(ProtocolId.GEMINI, Operation.GENERATE, "/v1beta/models/m:generateContent",
             generationConfig={"thinkingConfig": {"thinkingBudget": 0}}), "none"),
    (said_by(ProtocolId.GEMINI, Operation.GENERATE, "/v1beta/models/m:generateContent",
             generation_config={"thinking_config": {"thinking_level": "HIGH"}}), "high"),
])  # fmt: skip
def test_effort_in_one_word(body: Said | None, effort: str | None) -> None:
    assert ascribe(body, None).effort == effort


def test_nothing_said_is_nothing_kept() -> None:
    assert chat(messages=[{"role": "user", "content": "hi"}]) is None
    assert ascribe(None, "codex") == Ascribed()


def test_what_is_too_long_to_keep_is_left_out() -> None:
    found = chat(user="u" * (MOST + 1), reasoning_effort="low")
    assert found is not None
    assert found.user == b""
    assert ascribe(found, None) == Ascribed(effort="low")


def test_a_key_in_the_wrong_place_is_masked_and_words_are_bounded() -> None:
    assert ascribe(chat(user="sk-proj-abcdefghijklmnop1234"), None).user == "sk-proj-***"
    assert clear("\U0001f600" * 100) == "\U0001f600" * (BYTES // 4)
    assert clear("a\0b") == "ab"
    assert clear("  ") is None


names = st.sampled_from(["user_id", "session_id", "effort", "type", "budget_tokens", "thinkingConfig", "thinkingBudget", "project"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=6,
)
texts = st.one_of(st.binary(max_size=40), values.map(lambda value: json.dumps(value).encode()))


@given(st.builds(Said, texts, texts, texts, texts, texts), st.sampled_from([None, "codex", "claude-code"]))
def test_no_body_raises(said: Said, client: str | None) -> None:
    for word in ascribe(said, client):
        assert word is None or 0 < len(word.encode()) <= BYTES
