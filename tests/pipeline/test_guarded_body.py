"""Answers that are judged before any of them goes out: bodies, folded streams, bodies told as a stream; plain and gzipped."""

from __future__ import annotations

import json

import pytest

from penstock.pipeline.body import OpaqueRelay
from penstock.pipeline.compose import Answer, Limits, compose
from penstock.pipeline.contract import Pipeline, State
from penstock.pipeline.guarded_body import GuardedBody
from penstock.pipeline.pseudo import Pace
from penstock.policy.guards import Guard, Guards
from penstock.policy.outside import Outside
from penstock.policy.rules import Action
from penstock.protocols import REGISTRY
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.vocabulary.outcome import Ending
from penstock.wire.budget import Budget
from tests.support.guards import MASKING, REJECTING, all_rules, body_of, frames_saying, rule_guards, split_frames
from tests.support.relays import zipped

CHAT = ProtocolId.OPENAI_CHAT
SAID = ["It is 4111 1111 ", "1111 1111", "."]
FRAMES = frames_saying(CHAT, SAID)
BODY = json.dumps(body_of(CHAT, FRAMES)).encode()


def pipeline_of(kind: str, guards: Guards, budget: Budget, *, coding: bytes = b"", kept: bool = True) -> Pipeline:
    asked = {"body": {}, "fold": {"folded": True}, "pseudo": {"pace": Pace()}}[kind]
    content = b"text/event-stream" if kind == "fold" else b"application/json"
    answer = Answer(Operation.CHAT, 200, content, coding, delimited=True, stream_asked=kind == "pseudo", array=False, **asked)  # pyright: ignore[reportArgumentType]
    mode = compose(answer, REGISTRY[CHAT], Limits(), budget, 100.0, None, guards)
    assert mode.decoded is kept or kind != "body"
    return mode.pipeline


@pytest.mark.parametrize("gzip", [False, True])
@pytest.mark.parametrize("kind", ["body", "fold", "pseudo"])
def test_masked(kind: str, gzip: bool) -> None:
    budget = Budget(1 << 24)
    pipeline = pipeline_of(kind, MASKING, budget, coding=b"gzip" if gzip else b"")
    data = b"".join(FRAMES) if kind == "fold" else BODY
    assert pipeline.gathers
    assert pipeline.feed(zipped(data) if gzip else data, 101.0) == b""
    assert pipeline.conclude(True, "").ending is Ending.COMPLETE
    assert pipeline.failure("px-1") is None
    out = pipeline.end(None, "px-1")
    said = body_of(CHAT, split_frames(out)) if kind == "pseudo" else json.loads(out)
    assert said["choices"][0]["message"]["content"] == "It is [CARD]."
    assert pipeline.observer.usage.output == 5
    assert budget.used == 0


@pytest.mark.parametrize("kind", ["body", "fold", "pseudo"])
def test_rejected(kind: str) -> None:
    budget = Budget(1 << 24)
    pipeline = pipeline_of(kind, REJECTING, budget)
    assert pipeline.feed(b"".join(FRAMES) if kind == "fold" else BODY, 101.0) == b""
    outcome = pipeline.conclude(True, "")
    assert (outcome.ending, "'house'" in outcome.cause) == (Ending.CUT, True)
    failure = pipeline.failure("px-1")
    assert failure is not None
    status, told = failure
    assert status == 403
    assert b"4111" not in told
    pipeline.close()
    assert budget.used == 0


def test_an_answer_in_an_unknown_coding_does_not_pass() -> None:
    pipeline = pipeline_of("body", MASKING, Budget(1 << 24), coding=b"br")
    assert pipeline.feed(b"\x0b\x02\x80", 101.0) == b""
    assert pipeline.state is State.BROKEN
    outcome = pipeline.conclude(True, "")
    assert (outcome.ending, outcome.cause) == (Ending.CUT, "the answer could not be judged: it came in a coding that cannot be read here")
    failure = pipeline.failure("px-1")
    assert failure is not None
    assert failure[0] == 502


def test_an_answer_that_is_too_large_to_be_held_says_so() -> None:
    pipeline = pipeline_of("body", MASKING, Budget(4))
    assert pipeline.feed(BODY, 101.0) == b""
    assert "larger than what may be held" in pipeline.conclude(True, "").cause


OPEN = Guards([Guard("house", all_rules(Action.REJECT, closed=False)), Guard("counts", all_rules(Action.AUDIT)), Guard("judge", outside=Outside(
    "judge", "service", closed=False))])  # fmt: skip


@pytest.mark.parametrize("gzip", [False, True])
def test_an_answer_that_is_too_large_to_be_held_passes_where_every_guard_is_open(gzip: bool) -> None:
    budget = Budget(len(BODY) - 1)
    pipeline = pipeline_of("body", OPEN, budget, coding=b"gzip" if gzip else b"")
    data = zipped(BODY) if gzip else BODY
    out = [pipeline.feed(data[at : at + 100], 101.0) for at in range(0, len(data), 100)]
    assert (out[0], b"".join(out)) == (b"", BODY)
    assert (budget.used, pipeline.bytes_out, pipeline.state) == (0, len(BODY), State.RUNNING)
    outcome = pipeline.conclude(True, "")
    assert (outcome.ending, pipeline.end(None, "px-1")) == (Ending.UNVERIFIED, b"")
    assert isinstance(pipeline, GuardedBody)
    assert pipeline.findings.let_go == {"house": 1, "judge": 1}


def test_an_answer_in_an_unknown_coding_that_passes_is_counted() -> None:
    pipeline = pipeline_of("body", OPEN, Budget(1 << 24), coding=b"br", kept=False)
    assert isinstance(pipeline, OpaqueRelay)
    assert pipeline.feed(b"\x0b\x02\x80", 101.0) == b"\x0b\x02\x80"
    assert pipeline.findings.let_go == {"house": 1, "judge": 1}


def test_without_guards_of_answers_nothing_is_gathered() -> None:
    assert not pipeline_of_plain().gathers


def pipeline_of_plain() -> Pipeline:
    answer = Answer(Operation.CHAT, 200, b"application/json", b"", delimited=True, stream_asked=False, array=False)
    return compose(answer, REGISTRY[CHAT], Limits(), Budget(1 << 24), 100.0, None, rule_guards()).pipeline
