"""What must be so after a storm: what each client saw, and the one row that each stream has."""

from __future__ import annotations

from penstock.protocols import REGISTRY
from penstock.vocabulary.ids import ProtocolId
from tests.support.corpus import COLUMNS, Case
from tests.support.corpus import figures as figures_of
from tests.support.process import Row
from tests.support.storm import ERRORS, FAILED, Fate, Plan

KEPT_S = 0.1
"""What was settled longer than this before `kill -9` is in the ledger."""


def boundary_before(case: Case, at: int) -> int:
    """How much of the body leaves when `at` bytes of it have come: whole frames."""
    end = 0
    for frame in case.recording.frames:
        if end + len(frame.raw) > at:
            break
        end += len(frame.raw)
    return end


def check_answer(plan: Plan) -> None:
    """What a client saw, of a stream that was played to its end."""
    body, case = bytes(plan.body), plan.case
    about = (plan.model, case.name, plan.fate, plan.at, plan.status, body[-300:])
    if plan.fate in (Fate.COMPLETE, Fate.RUNNING):
        assert plan.status == 200, about
        assert plan.clean, about
        assert body == case.body, about
    elif plan.fate is Fate.ERROR and plan.untold:
        assert plan.status >= 400, about
        assert b"out of luck" in body, about
    elif plan.fate is Fate.ERROR:
        assert plan.clean, about
        assert body == case.body[: plan.at] + ERRORS[case.recording.protocol], about
    elif plan.fate is Fate.STATUS:
        assert (plan.status, body, plan.clean) == (500, FAILED, True), about
    elif plan.fate is Fate.STALLED and plan.untold:
        assert plan.status == 504, about
        assert b"error" in body, about
    elif plan.fate is Fate.DEAD or (plan.fate in (Fate.EOF, Fate.RESET, Fate.CLEAN) and plan.untold):
        assert plan.status == 502, about
        assert b"error" in body, about
    elif plan.fate in (Fate.EOF, Fate.RESET, Fate.CLEAN, Fate.STALLED):
        kept = boundary_before(case, plan.at)
        assert plan.status == 200, about
        assert plan.clean, about
        assert body[:kept] == case.body[:kept], about
        assert is_told(case, body[kept:]), about
    elif plan.fate in (Fate.GONE_MIDWAY, Fate.GONE_AFTER_END):
        assert body == case.body[: plan.at], about


def is_told(case: Case, words: bytes) -> bool:
    """Are these an error in the protocol's shape, and nothing else?"""
    match case.recording.protocol:
        case ProtocolId.OPENAI_CHAT:
            return words.startswith(b"data: {") and b'"error"' in words and b"[DONE]" not in words
        case ProtocolId.OPENAI_RESPONSES:
            return b"response.failed" in words and b"response.completed" not in words
        case ProtocolId.ANTHROPIC_MESSAGES:
            return words.startswith(b"event: error") and b"message_stop" not in words
        case _:
            return words.startswith(b"data: {") and b'"error"' in words and b"finishReason" not in words


def check_row(row: Row, plan: Plan, outcome: str) -> None:
    """One row against its plan. `outcome`: as the plan says, or what a kill made of it."""
    about = (plan.model, plan.case.name, plan.fate, plan.at, row)
    assert row["outcome"] == outcome, about
    assert plan.id is None or row["id"] == plan.id, about
    assert row["client_protocol"] == plan.case.recording.protocol, about
    assert row["late_settles"] == 0, about
    assert row["settled_at"] >= row["started_at"], about
    figures = {word: row[column] for word, column in COLUMNS.items() if row[column] is not None}
    if outcome == "COMPLETE":
        assert figures == (plan.case.expected["usage"] or {}), about
        assert (row["bytes_out"], row["status"], row["usage_source"]) == (len(plan.case.body), 200, "reported" if figures else "none"), about
    elif outcome == "CRASHED":
        assert (figures, row["usage_source"]) == ({}, "none"), about
    else:
        assert figures == stated_until(plan), about
        assert row["usage_source"] != "none" if figures else row["usage_source"] == "none", about


def stated_until(plan: Plan) -> dict[str, int]:
    """The figures that the frames before its fate state."""
    if plan.fate in (Fate.DEAD, Fate.STATUS, Fate.GONE_WAITING, Fate.GONE_AT_HEAD):
        return {}
    recording, at = plan.case.recording, 0
    observer = REGISTRY[recording.protocol].observer(recording.operation)
    for frame in recording.frames:
        at += len(frame.raw)
        if at > plan.at:
            break
        if frame.data:
            observer.observe(frame.name, frame.data, 0.0)
    return figures_of(observer.usage)


def check_killed(plan: Plan, outcome: str | None, killed_at: float, lag: float) -> None:
    """What the ledger must say of a stream whose gateway was killed. `outcome`: `None` where it has no row. `lag`: of our own clock, and
    for which the machine kept the gateway's threads from running."""
    about = (plan.model, plan.fate, outcome, plan.arrived_at, plan.settled_by, killed_at)
    ended_at, arrived_at = plan.settled_by, plan.arrived_at
    kept_until = killed_at - KEPT_S - lag
    if ended_at is not None and ended_at < kept_until:
        assert outcome == plan.outcome, about
    elif ended_at is not None and ended_at < killed_at:
        assert outcome in (plan.outcome, "CRASHED", None), about
    elif arrived_at is not None and arrived_at < kept_until:
        # Its end and the kill may have crossed on the way to the client: then it was settled in the last moment, and its row may be lost.
        assert outcome == "CRASHED" or (outcome == plan.outcome and plan.fate is not Fate.RUNNING), about
    else:
        assert outcome in ("CRASHED", plan.outcome, None), about


def by_plan(rows: list[Row]) -> dict[str, Row]:
    """Rows by requested model: each plan has one, and there are no others."""
    found = {str(row["requested_model"]): row for row in rows}
    assert len(found) == len(rows), "an exchange has two rows"
    return found
