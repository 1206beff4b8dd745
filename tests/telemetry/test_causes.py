"""Every ending has a class of its cause, from a closed list, whatever the sentence says."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.ledger.entry import Entry
from penstock.pipeline.timers import Timers
from penstock.telemetry.causes import CLASSES, classify
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome


def ended(ending: Ending, cause: str = "", by: EndedBy = EndedBy.UPSTREAM, **values: Any) -> Entry:
    entry = Entry("px-1", 0.0)
    for name, value in values.items():
        setattr(entry, name, value)
    entry.settle(Outcome(ending, cause, by), 1.0)
    return entry


@pytest.mark.parametrize(("entry", "said"), [
    (ended(Ending.COMPLETE, "terminal event", upstream_status=200), "none"),
    (ended(Ending.TRUNCATED, upstream_status=200), "before_content"),
    (ended(Ending.TRUNCATED, upstream_status=200, ttft_ms=0.0), "after_content"),
    (ended(Ending.UPSTREAM_ERROR, upstream_status=429), "status_429"),
    (ended(Ending.UPSTREAM_ERROR, upstream_status=451), "status_4xx"),
    (ended(Ending.UPSTREAM_ERROR, upstream_status=599), "status_5xx"),
    (ended(Ending.UPSTREAM_ERROR, upstream_status=200, status=200), "in_band"),
    (ended(Ending.UPSTREAM_LOST), "before_head"),
    (ended(Ending.UPSTREAM_LOST, upstream_status=200, ttft_ms=3.0), "after_content"),
    (ended(Ending.TIMED_OUT, timer="connect"), "connect"),
    (ended(Ending.TIMED_OUT, timer="somebody's own words"), "other"),
    (ended(Ending.TIMED_OUT), "other"),
    (ended(Ending.COMPLETE, timer="connect"), "none"),
    (ended(Ending.CUT, "anything"), "policy"),
    (ended(Ending.CLIENT_GONE), "before_head"),
    (ended(Ending.CLIENT_GONE, upstream_status=200), "before_content"),
    (ended(Ending.REFUSED, status=401), "status_401"),
    (ended(Ending.REFUSED, status=418), "status_4xx"),
    (ended(Ending.REFUSED), "other"),
    (ended(Ending.SHUTDOWN), "drain"),
    (ended(Ending.CRASHED), "none"),
    (ended(Ending.UNVERIFIED), "unreadable"),
    (ended(Ending.UNVERIFIED, by=EndedBy.GATEWAY), "gateway"),
    (Entry("px-2", 0.0), "other"),
])  # fmt: skip
def test_each_ending(entry: Entry, said: str) -> None:
    assert classify(entry) == said
    assert said in CLASSES


@pytest.mark.parametrize("timer", [field.name for field in fields(Timers)])
def test_every_timer_has_its_class(timer: str) -> None:
    assert classify(ended(Ending.TIMED_OUT, "nothing came for 1 s", EndedBy.GATEWAY, timer=timer)) == timer


statuses = st.integers(-1000, 1000) | st.none()


@given(ending=st.sampled_from(Ending), cause=st.text(max_size=30), by=st.sampled_from(EndedBy), status=statuses, upstream=statuses)
def test_the_list_is_closed(ending: Ending, cause: str, by: EndedBy, status: int | None, upstream: int | None) -> None:
    assert classify(ended(ending, cause, by, status=status, upstream_status=upstream)) in CLASSES
    assert len(CLASSES) < 60
