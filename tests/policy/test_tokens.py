"""Log probabilities of a guarded stream spell nothing that no guard has seen."""

from __future__ import annotations

import json
from typing import Any

import pytest

from penstock.policy.awaiting import Awaiting
from penstock.policy.editors import EDITORS
from penstock.policy.guards import Guard, Guards
from penstock.policy.matcher import Findings, Hold
from penstock.policy.outside import PASSED, Outside
from penstock.policy.rules import Action, Terms, of_words
from penstock.policy.windows import Windows
from penstock.vocabulary.ids import ProtocolId

CHAT, RESPONSES, MESSAGES, GEMINI = ProtocolId.OPENAI_CHAT, ProtocolId.OPENAI_RESPONSES, ProtocolId.ANTHROPIC_MESSAGES, ProtocolId.GEMINI


def tokens(*words: str) -> list[Any]:
    return [{"token": word, "logprob": -0.1, "bytes": list(word.encode()), "top_logprobs": []} for word in words]


def chat(text: str | None, *words: str, key: str = "content") -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {key: text}, "logprobs": {"content": tokens(*words)}}]}


def completion(text: str, *words: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "text": text, "logprobs": {"tokens": list(words), "token_logprobs": [-0.1] * len(words)}}]}


def responses(text: str, *words: str) -> dict[str, Any]:
    return {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": text, "logprobs": tokens(*words)}


def gemini(text: str, *words: str) -> dict[str, Any]:
    return {"candidates": [{"index": 0, "content": {"parts": [{"text": text}]}, "logprobsResult": {"chosenCandidates": tokens(*words)}}]}


PART = {"type": "output_text", "text": "so. ", "annotations": [], "logprobs": tokens("so. ", "zan", "zibar")}
MESSAGE = {"type": "message", "role": "assistant", "content": [PART]}
OF_PARTS: list[Any] = [
    {"type": "response.output_text.done", "output_index": 0, "content_index": 0, "text": "so. ", "logprobs": tokens("zan", "zibar")},
    {"type": "response.content_part.done", "output_index": 0, "content_index": 0, "part": PART},
    {"type": "response.output_item.done", "output_index": 0, "item": MESSAGE},
    {"type": "response.completed", "response": {"output": [MESSAGE]}}, {"type": "response.in_progress", "response": {"output": [MESSAGE]}},
]
AHEAD: list[tuple[ProtocolId, Any]] = [
    (CHAT, chat("", "zan", "zibar")), (CHAT, chat(None, "zan", "zibar")), (CHAT, chat("so. ", "so. ", "zan", "zibar")),
    (CHAT, {"choices": [{"index": 0, "delta": {"tool_calls": []}, "logprobs": {"content": [], "refusal": tokens("zanzibar")}}]}),
    (CHAT, completion("", "zan", "zibar")), (RESPONSES, responses("", "zan", "zibar")), (RESPONSES, responses("so. ", "zan", "zibar")),
    (GEMINI, gemini("", "zan", "zibar")), (GEMINI, gemini("so. ", "zan", "zibar")),
    *((RESPONSES, frame) for frame in OF_PARTS),
]  # fmt: skip
TRUE_PART = {"type": "output_text", "text": "so it is.", "logprobs": tokens("so", " it is.")}
MISSPELT: list[Any] = [7, 10**12, 2**63, -1, "zan", {}, [256], [None], None]
BESIDE: list[tuple[ProtocolId, Any]] = [
    (CHAT, chat("so it is. ", "so", " it is. ")), (CHAT, chat("thinking. ", "thinking. ", key="reasoning_content")), (CHAT, chat("x", "")),
    (CHAT, completion("so it is. ", "so", " it is. ")), (RESPONSES, responses("so it is. ", "so", " it is. ")),
    (GEMINI, gemini("so it is. ", "so", " it is. ")),
    (RESPONSES, {"type": "response.completed", "response": {"output": [{"type": "message", "role": "assistant", "content": [TRUE_PART]}]}}),
    (CHAT, {"choices": [{"index": 0, "delta": {"content": "\U0001f642 "}, "logprobs": {"content": [
        {"token": "\\xf0\\x9f", "bytes": [0xF0, 0x9F]}, {"token": "\\x99\\x82 ", "bytes": [0x99, 0x82, 0x20]}]}}]}),
]  # fmt: skip


def told(protocol: ProtocolId, frame: Any, action: Action = Action.MASK) -> Any:
    rules = Guards([Guard("house", (of_words(["zanzibar"], Terms("house", action, mask="***")),))]).answers
    editor = EDITORS[protocol](rules, Findings(), Hold())
    for lead in (chat("Hello. ", "Hello. "), responses("Hello. ", "Hello. "), gemini("Hello. ", "Hello. ")):
        editor.edit(b"response.output_text.delta", json.dumps(lead).encode(), 100.0)
    edit = editor.edit(b"response.output_text.delta" if protocol is RESPONSES else b"", data := json.dumps(frame).encode(), 101.0)
    return frame if edit is None else json.loads(edit.data or data)


def read(protocol: ProtocolId, frame: Any) -> Any:
    """By a guard outside, which passes all of it."""
    outside = Guards([Guard("judge", outside=Outside("judge", "service"))])
    ahead, behind = (EDITORS[protocol]({}, Findings(), Hold()) for _ in range(2))
    awaiting = Awaiting(ahead, behind, outside.ask_answers, Windows(), Findings())
    awaiting.add("frame", b"response.output_text.delta" if protocol is RESPONSES else b"", json.dumps(frame).encode(), 9, 100.0)
    awaiting.close_all()
    for question in awaiting.wants():
        awaiting.verdict(question.id, PASSED)
    [(_, data)] = awaiting.released(101.0)
    return frame if data is None else json.loads(data)


@pytest.mark.parametrize(("protocol", "frame"), AHEAD)
def test_tokens_ahead_of_their_text_are_not_told(protocol: ProtocolId, frame: Any) -> None:
    for said in (told(protocol, frame), read(protocol, frame), told(protocol, frame, Action.REJECT)):
        assert "zibar" not in json.dumps(said)
        assert json.dumps(said).count("so. ") == (1 if "so. " in json.dumps(frame) else 0)
    assert told(protocol, frame, Action.AUDIT) == frame


@pytest.mark.parametrize("spelt", MISSPELT)
def test_bytes_that_are_none_spell_nothing(spelt: Any) -> None:
    """Above all a number makes none, as many as it says."""
    frame = chat("so. ")
    frame["choices"][0]["logprobs"]["content"] = [{"token": "zan", "bytes": spelt}] * 2
    assert told(CHAT, frame)["choices"][0] == read(CHAT, frame)["choices"][0] == {"index": 0, "delta": {"content": "so. "}, "logprobs": None}


@pytest.mark.parametrize(("protocol", "frame"), BESIDE)
def test_tokens_of_the_text_beside_them_stay(protocol: ProtocolId, frame: Any) -> None:
    assert told(protocol, frame) == read(protocol, frame) == frame
