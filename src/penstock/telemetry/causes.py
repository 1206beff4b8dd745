"""Why an exchange ended, in words from a closed list: `cause` is a sentence, and sentences are no labels.

Read off the columns of a settled entry, whose words bound the list:

    COMPLETE         none
    TRUNCATED        before_content, after_content
    UPSTREAM_ERROR   status_429 and its like (the provider's status), in_band (an error event, or an error in a body with a good status)
    UPSTREAM_LOST    before_head (nothing of an answer had come, or no connection was made), before_content, after_content
    TIMED_OUT        the timer: connect, first_content, idle, content, tool_call, client_stall, drain, max_duration
    CUT              policy
    CLIENT_GONE      before_head, before_content, after_content
    REFUSED          status_401 and its like (what the client was told)
    SHUTDOWN         drain
    CRASHED          none
    UNVERIFIED       unreadable, or gateway (a mistake of ours)

and `other` for what fits none of them.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Protocol

from penstock.pipeline.timers import Timers
from penstock.vocabulary.outcome import EndedBy, Ending

NONE = "none"
_COMPLETE = str.__str__(Ending.COMPLETE)
OTHER = "other"
TIMERS = frozenset(field.name for field in fields(Timers))
STATUSES = frozenset({400, 401, 402, 403, 404, 405, 408, 409, 413, 415, 422, 424, 429, 431, 499, 500, 501, 502, 503, 504, 529})
"""Statuses with a class of their own; of the others only the hundred is told."""
BEFORE_HEAD, BEFORE_CONTENT, AFTER_CONTENT = "before_head", "before_content", "after_content"
CLASSES = frozenset({
    NONE, OTHER, BEFORE_HEAD, BEFORE_CONTENT, AFTER_CONTENT, "in_band", "policy", "drain", "unreadable", "gateway", *TIMERS,
    *(f"status_{status}" for status in STATUSES), *(f"status_{hundred}xx" for hundred in range(1, 6)),
})  # fmt: skip
"""All that `classify` can say."""


class Ended(Protocol):
    """What of a settled entry tells the class of its cause."""

    outcome: str | None
    timer: str | None
    ended_by: str | None
    status: int | None
    upstream_status: int | None
    ttft_ms: float | None


def classify(entry: Ended) -> str:
    """One of `CLASSES`, whatever the entry holds."""
    outcome = entry.outcome
    if outcome == _COMPLETE:
        return NONE
    match outcome:
        case Ending.UPSTREAM_ERROR:
            return _of_status(entry.upstream_status) if (entry.upstream_status or 0) >= 400 else "in_band"
        case Ending.REFUSED:
            return _of_status(entry.status)
        case Ending.TIMED_OUT:
            timer = entry.timer
            return timer if timer in TIMERS else OTHER
        case Ending.TRUNCATED | Ending.UPSTREAM_LOST | Ending.CLIENT_GONE:
            if entry.ttft_ms is not None:
                return AFTER_CONTENT
            return BEFORE_HEAD if entry.upstream_status is None else BEFORE_CONTENT
        case Ending.UNVERIFIED:
            return "gateway" if entry.ended_by == EndedBy.GATEWAY else "unreadable"
        case Ending.CUT:
            return "policy"
        case Ending.SHUTDOWN:
            return "drain"
        case Ending.CRASHED:
            return NONE
        case _:
            return OTHER


def _of_status(status: int | None) -> str:
    if status in STATUSES:
        return f"status_{status}"
    return f"status_{status // 100}xx" if status is not None and 100 <= status < 600 else OTHER
