"""What a guard outside is sent, and what its answer means, in each of the formats that are spoken. Pure.

- `penstock`: ours; described in `docs/guards.md`.
- `agentgateway`: the guardrail webhook of agentgateway (`POST /request`, `POST /response`): `{"body": {"messages": [{"role", "content"}]}}` or
  `{"body": {"choices": [{"message": {...}}]}}`, answered by `{"action": ...}`, whose kinds are told apart by their fields: `body` (an object)
  masks, `body` (a string) with `status_code` rejects, `reason` alone or nothing passes. Source: its `crates/llm/src/lib.rs` (`policy::webhook`).
- `moderation`: OpenAI's `POST /v1/moderations` with an array as `input`; `results` come in its order, with `flagged`, `categories`,
  `category_scores`. Source: the API's reference.

An answer in any other shape is an error, and never a pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import msgspec

from penstock.policy.outside import PASSED, Asked, Question, Said, Verdict
from penstock.policy.rules import Scope

Format = Literal["penstock", "agentgateway", "moderation"]
VERSION = 1
"""Of our own format."""
MODERATION_MODEL = "omni-moderation-latest"
_ROLES: Mapping[Scope, str] = {Scope.SYSTEM: "system", Scope.USER: "user", Scope.TOOL_RESULTS: "tool"}
_LONGEST = 500
"""Characters of a message that a guard would tell."""


@dataclass(frozen=True, slots=True)
class Service:
    """Whom to ask, and how. Its `repr` shows no secret."""

    url: str
    """A base URL for `agentgateway` and `moderation`, the whole URL else."""
    format: Format = "penstock"
    key: str | None = field(default=None, repr=False)
    """Sent as a bearer token."""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    forward: tuple[str, ...] = ()
    """Names, in lower case, of the client's headers that go with a question."""
    model: str = MODERATION_MODEL
    categories: tuple[tuple[str, float | None], ...] = ()
    """Of a moderation: those that count, with the score from which on they do (`None`: as the service says). None listed: whatever it flags."""
    timeout: float = 5.0
    """Seconds for one question, its wait for a turn among them."""
    at_once: int = 16
    """Questions that may be under way."""


@dataclass(frozen=True, slots=True)
class About:
    """The exchange that questions are about."""

    id: str
    model: str | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """The client's."""


def path_of(service: Service, question: Question) -> str:
    """Behind the service's URL."""
    match service.format:
        case "penstock":
            return ""
        case "agentgateway":
            return "/request" if question.where == "request" else "/response"
        case "moderation":
            return "/moderations"


def write(service: Service, question: Question, about: About) -> bytes:
    """The JSON body of a question."""
    match service.format:
        case "penstock":
            texts = [{"scope": one.scope.value, "text": one.text, **({"before": one.before} if one.before else {})} for one in question.texts]
            value: Any = {
                "version": VERSION, "id": about.id, "guard": question.outside.guard, "where": question.where, "model": about.model, "texts": texts,
            }  # fmt: skip
        case "agentgateway":
            said = [{"role": _ROLES.get(one.scope, "assistant"), "content": one.text} for one in question.texts]
            value = {"body": {"messages": said} if question.where == "request" else {"choices": [{"message": one} for one in said]}}
        case "moderation":
            value = {"model": service.model, "input": [one.before + one.text for one in question.texts]}
    try:
        return msgspec.json.encode(value)
    except UnicodeError:  # halves of surrogate pairs
        return msgspec.json.encode(_whole(value))


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in cast("dict[str, Any]", value).items()}
    return [_whole(item) for item in cast("list[Any]", value)] if isinstance(value, list) else value


class _Ours(msgspec.Struct):
    action: Literal["pass", "mask", "reject"]
    texts: list[str | None] = []
    reason: str = ""
    message: str = ""


class _Moderation(msgspec.Struct):
    flagged: bool
    categories: dict[str, bool | None] = {}
    category_scores: dict[str, float | None] = {}


class _Moderations(msgspec.Struct):
    results: list[_Moderation]


_ours = msgspec.json.Decoder(_Ours).decode
_moderations = msgspec.json.Decoder(_Moderations).decode
_STRANGE = Verdict(Said.ERROR, why="its answer is not what it should be")


def read(service: Service, question: Question, body: bytes) -> Verdict:
    """What an answer with status 200 says."""
    try:
        match service.format:
            case "penstock":
                return _read_ours(_ours(body), len(question.texts))
            case "agentgateway":
                return _read_action(msgspec.json.decode(body), question.texts, question.where == "request")
            case "moderation":
                return _read_moderations(_moderations(body).results, service, len(question.texts))
    except (ValueError, RecursionError):
        return _STRANGE


def _read_ours(told: _Ours, texts: int) -> Verdict:
    match told.action:
        case "pass":
            return PASSED
        case "mask":
            return Verdict(Said.MASK, told.texts) if len(told.texts) == texts else _STRANGE
        case "reject":
            return Verdict(Said.REJECT, why="it rejects it", message=told.message[:_LONGEST])


def _read_action(answer: Any, texts: Sequence[Asked], request: bool) -> Verdict:
    action: Any = cast("dict[str, Any]", answer).get("action") if isinstance(answer, dict) else None
    if not isinstance(action, dict):
        return _STRANGE
    fields = cast("dict[str, Any]", action)
    body: Any = fields.get("body")
    if isinstance(body, str) and "status_code" in fields:
        return Verdict(Said.REJECT, why="it rejects it", message=body[:_LONGEST])
    if isinstance(body, dict):
        said = cast("dict[str, Any]", body).get("messages" if request else "choices")
        items = cast("list[Any]", said) if isinstance(said, list) else []
        told = [_content(item if request else cast("dict[str, Any]", item).get("message") if isinstance(item, dict) else None) for item in items]
        return Verdict(Said.MASK, told) if len(told) == len(texts) and None not in told else _STRANGE
    return PASSED if set(fields) <= {"reason"} else _STRANGE


def _content(message: Any) -> str | None:
    content = cast("dict[str, Any]", message).get("content") if isinstance(message, dict) else None
    return content if isinstance(content, str) else None


def _read_moderations(results: Sequence[_Moderation], service: Service, texts: int) -> Verdict:
    if len(results) != texts:
        return _STRANGE
    struck: dict[str, None] = {}
    for one in results:
        if not service.categories:
            struck |= dict.fromkeys(sorted(name for name, hit in one.categories.items() if hit)) if one.flagged else {}
            if one.flagged and not struck:
                struck["flagged"] = None
        for name, least in service.categories:
            score = one.category_scores.get(name)
            if least is None:
                hit = one.categories.get(name)
                if hit is None:
                    return Verdict(Said.ERROR, why=f"its answer has no category {name!r}")
            elif score is None:
                return Verdict(Said.ERROR, why=f"its answer has no score for {name!r}")
            else:
                hit = score >= least
            if hit:
                struck[name] = None
    return Verdict(Said.REJECT, why=f"it is {', '.join(struck)}"[:200]) if struck else PASSED
