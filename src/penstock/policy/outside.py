"""Guards that are asked outside: what they are, what they are asked, and what their answer means. Who asks, and how, is not known here.

A guard that is asked outside judges whole texts: all of a request or a body at once, or the windows of a stream (`windows`), each by itself.
Several are asked one after the other, each about what the one before it left; those that only count are asked beside them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

from penstock.policy.matcher import Findings, Rejection
from penstock.policy.rules import Action, Scope

Where = Literal["request", "response"]


@dataclass(frozen=True, slots=True)
class Outside:
    """One such guard, as policies see it."""

    guard: str
    service: Hashable
    """Whom to ask: a word between the configuration and whoever asks, of no meaning here."""
    action: Action = Action.REJECT
    """`mask`: what it says is done. `reject`: whatever it does not pass is rejected. `audit`: it is counted."""
    closed: bool = True
    message: str = ""
    in_stream: str = "stop"
    batch: int = 1 << 30
    """Texts of one question."""

    @property
    def holds(self) -> bool:
        """Does text wait for it?"""
        return self.action is not Action.AUDIT


@dataclass(frozen=True, slots=True)
class Asked:
    scope: Scope
    text: str
    before: str = ""
    """What came before it in the same text, and has left."""


@dataclass(frozen=True, slots=True)
class Question:
    id: int
    outside: Outside
    where: Where
    texts: tuple[Asked, ...]


class Said(Enum):
    PASS = auto()
    MASK = auto()
    REJECT = auto()
    ERROR = auto()
    """There was no usable answer."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to a question."""

    said: Said
    texts: Sequence[str | None] = ()
    """With MASK: what stands in the place of each text; `None`: it stays."""
    why: str = ""
    """A clause for the ledger, without a word of the texts."""
    message: str = ""
    """What the guard itself would tell the client."""


PASSED = Verdict(Said.PASS)
NO_JSON = "what it puts in the place of JSON is none"


def apply(question: Question, verdict: Verdict, findings: Findings) -> tuple[Sequence[str | None], Rejection | None]:
    """What stands in the place of each text from now on (`None`: it stays), or the rejection. Counts what was found."""
    outside, texts = question.outside, question.texts
    kept: Sequence[str | None] = (None,) * len(texts)
    if verdict.said is Said.PASS:
        return kept, None
    if verdict.said is Said.ERROR or (verdict.said is Said.MASK and len(verdict.texts) != len(texts)):
        return kept, cannot(outside, verdict.why or "its answer fits no question", findings, len(texts))
    changed = sum(told is not None and told != asked.text for told, asked in zip(verdict.texts, texts, strict=False))
    if verdict.said is Said.MASK and not changed:
        return kept, None
    if outside.action is Action.AUDIT:
        findings.hits[outside.guard, "audit"] += changed or 1
        return kept, None
    if verdict.said is Said.MASK and outside.action is Action.MASK:
        findings.hits[outside.guard, "mask"] += changed
        return verdict.texts, None
    findings.hits[outside.guard, "reject"] += 1
    return kept, rejection(outside, verdict.why or "it does not let it pass", verdict.message)


def rejection(outside: Outside, why: str, message: str = "") -> Rejection:
    return Rejection(outside.guard, why, outside.message or message, outside.in_stream)


def cannot(outside: Outside, why: str, findings: Findings, texts: int = 1) -> Rejection | None:
    """`outside` cannot judge: as it is set, that rejects, or lets them go."""
    findings.hits[outside.guard, "error"] += 1
    if outside.holds and outside.closed:
        return rejection(outside, why)
    if outside.holds:
        findings.let_go[outside.guard] += texts
    return None


def batches(outside: Outside, texts: Sequence[Asked]) -> list[tuple[Asked, ...]]:
    return [tuple(texts[at : at + outside.batch]) for at in range(0, len(texts), outside.batch)]
