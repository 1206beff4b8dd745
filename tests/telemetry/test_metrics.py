"""Counts are exact, labels are bounded, and a reading fits itself while others count."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from penstock.ledger.entry import Entry
from penstock.telemetry.causes import CLASSES
from penstock.telemetry.metrics import DIRECTIONS, DURATION, GAP, TOKENS_LIMIT, TTFT, Metrics
from penstock.vocabulary.ids import GENERATING, Operation, ProtocolId
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome

COMPLETE = Outcome(Ending.COMPLETE, "terminal event", EndedBy.UPSTREAM)
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def settled(outcome: Outcome = COMPLETE, **values: Any) -> Entry:
    entry = Entry("px-1", 0.0)
    entry.provider, entry.client_protocol, entry.operation, entry.streamed = "a", "openai_chat", "chat", True
    for name, value in values.items():
        setattr(entry, name, value)
    entry.settle(outcome, 1.0)
    return entry


def series(metrics: Metrics) -> Series:
    return {(family.name + sample.suffix, frozenset(sample.labels)): sample.value for family in metrics.families() for sample in family.samples}


def at(found: Series, name: str, **labels: str) -> float:
    """The sum of the series that have these labels."""
    return sum(value for (told, given), value in found.items() if told == name and given >= labels.items())


def counted(*entries: Entry, providers: tuple[str, ...] = ("a", "b")) -> Series:
    metrics = Metrics(providers)
    metrics.note(entries)
    return series(metrics)


def test_an_exchange_is_counted_once_where_it_belongs() -> None:
    lost = Outcome(Ending.UPSTREAM_LOST, "reset", EndedBy.UPSTREAM)
    found = counted(settled(), settled(), settled(provider="b"), settled(lost, provider=None, client_protocol=None))
    assert {key: value for key, value in found.items() if key[0] == "penstock_exchanges_total"} == {
        ("penstock_exchanges_total", frozenset({"provider": p, "protocol": q, "outcome": o, "ended_by": "upstream", "cause": c}.items())): n
        for p, q, o, c, n in (
            ("a", "openai_chat", "COMPLETE", "none", 2), ("b", "openai_chat", "COMPLETE", "none", 1),
            ("none", "none", "UPSTREAM_LOST", "before_head", 1))
    }  # fmt: skip


def test_refusals_and_cuts_are_counted_by_the_kind_of_rule_and_never_by_its_name() -> None:
    refused, cut = Outcome(Ending.REFUSED, "", EndedBy.GATEWAY), Outcome(Ending.CUT, "", EndedBy.GATEWAY)
    found = counted(
        settled(refused, rule="purse", refused_by="budget"), settled(refused, rule="other purse", refused_by="budget"),
        settled(cut, rule="purse", refused_by="budget"), settled(refused, rule="strict", refused_by="mode"), settled(cut, rule="x", refused_by="x"),
        settled(cut, rule="x"), settled(refused), settled(rule="left over", refused_by="limit"),
    )  # fmt: skip
    told = {tuple(dict(labels)[name] for name in ("outcome", "by")): value for (name, labels), value in found.items() if "refusals" in name}
    assert told == {("REFUSED", "budget"): 2, ("CUT", "budget"): 1, ("REFUSED", "mode"): 1, ("CUT", "other"): 1, ("CUT", "none"): 1}


def test_replays_are_counted_by_their_kind_and_are_there_from_the_start() -> None:
    assert [at(counted(), "penstock_replays_total", kind=kind) for kind in ("hit", "join")] == [0, 0]
    found = counted(settled(replay="hit"), settled(replay="join"), settled(replay="hit"), settled(replay="other"), settled())
    assert {key[1]: value for key, value in found.items() if key[0] == "penstock_replays_total"} == {
        frozenset({("kind", "hit")}): 2, frozenset({("kind", "join")}): 1,
    }  # fmt: skip


def test_a_value_on_a_bound_is_below_it_and_buckets_add_up() -> None:
    found = counted(*(settled(ttft_ms=ms, duration_ms=ms * 2, largest_gap_ms=ms) for ms in (50.0, 50.1, 1000.0, 10_000_000.0)))
    bucket = "penstock_ttft_seconds_bucket"
    told = [at(found, bucket, le=le) for le in ("0.05", "0.1", "0.5", "1", "2", "900", "+Inf")]
    assert told == [1, 2, 2, 3, 3, 3, 4]
    assert at(found, "penstock_ttft_seconds_count") == 4
    assert abs(at(found, "penstock_ttft_seconds_sum") - 10_001.1001) < 1e-6
    assert at(found, "penstock_duration_seconds_bucket", le="2.5") == 3
    assert at(found, "penstock_largest_gap_seconds_bucket", le="600") == 3
    for bounds, name in ((TTFT, "ttft"), (DURATION, "duration"), (GAP, "largest_gap")):
        assert list(bounds) == sorted(set(bounds))
        assert len([key for key in found if key[0] == f"penstock_{name}_seconds_bucket"]) == len(bounds) + 1


def test_only_streams_have_a_first_content_and_gaps() -> None:
    found = counted(settled(ttft_ms=1.0, largest_gap_ms=1.0, duration_ms=1.0, streamed=False), settled(duration_ms=None))
    assert [at(found, f"penstock_{name}_seconds_count") for name in ("ttft", "largest_gap", "duration")] == [0, 0, 1]


def test_unknown_is_not_counted_and_tokens_only_of_what_generates() -> None:
    used: dict[str, Any] = {"input_tokens": 1, "output_tokens": 20, "cache_read_tokens": 300, "cache_write_tokens": 4000, "reasoning_tokens": 50_000}
    entries = [settled(operation=operation.value, **used) for operation in Operation]
    found = counted(*entries, settled(), settled(input_tokens=TOKENS_LIMIT + 1, output_tokens=-5, reasoning_tokens=10**400))
    assert [at(found, "penstock_tokens_total", direction=direction) for direction in DIRECTIONS] == [
        len(GENERATING) * count for count in used.values()]
    found = counted(settled(bytes_in=1, bytes_out=20, retries=2), settled(bytes_in=1, retries=0), settled(retries=1))
    assert [at(found, "penstock_bytes_total", direction=way) for way in ("in", "out")] == [2, 20]
    assert at(found, "penstock_retries_total") == 3


def test_a_reading_is_of_one_moment_although_it_is_taken_in_steps() -> None:
    metrics = Metrics("a")
    metrics.note([settled(duration_ms=1.0, bytes_in=5)])
    steps = metrics.families()
    (first,) = next(steps).samples
    metrics.note([settled(duration_ms=1.0, bytes_in=5)])
    rest = {(family.name, sample.suffix, dict(sample.labels).get("direction")): sample.value for family in steps for sample in family.samples}
    assert first.value == rest["penstock_duration_seconds", "_count", None] == rest["penstock_duration_seconds", "_bucket", None] == 1
    assert rest["penstock_bytes_total", "", "in"] == 5


words = st.text(max_size=12) | st.sampled_from(["a", "b", "openai_chat", "COMPLETE", "none"]) | st.none()
figures = st.integers() | st.none()
columns = st.fixed_dictionaries({
    "provider": words, "client_protocol": words, "operation": words, "model": words, "requested_model": words, "status": figures,
    "upstream_status": figures, "input_tokens": figures, "ttft_ms": st.floats(0, 1e9) | st.none(),
})  # fmt: skip
outcomes = st.builds(Outcome, st.sampled_from(Ending), st.text(max_size=12), st.sampled_from(EndedBy))


@given(st.lists(st.tuples(outcomes, columns), max_size=30))
def test_whatever_comes_the_labels_are_bounded_and_nothing_is_lost(ends: list[tuple[Outcome, dict[str, Any]]]) -> None:
    noted = [settled(outcome, **values) for outcome, values in ends]
    found = counted(*noted)
    allowed = {
        "provider": {"a", "b", "none", "other"}, "protocol": {*ProtocolId, "none", "other"}, "outcome": set(Ending), "ended_by": set(EndedBy),
        "cause": CLASSES, "direction": {*DIRECTIONS, "in", "out"}, "kind": {"hit", "join"},
    }  # fmt: skip
    for _, labels in found:
        for label, value in labels:
            assert label == "le" or value in allowed[label]
    assert at(found, "penstock_exchanges_total") == len(noted)
    told = Counter(str(entry.outcome) for entry in noted)
    assert {outcome: at(found, "penstock_exchanges_total", outcome=outcome) for outcome in told} == dict(told)


def test_counting_and_reading_on_many_threads_lose_nothing() -> None:
    metrics, each = Metrics("a"), 2000
    batch = [settled(ttft_ms=1.0, bytes_in=3)] * 50

    def count() -> None:
        for _ in range(each // len(batch)):
            metrics.note(batch)

    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        found = series(metrics)
        n = at(found, "penstock_exchanges_total")
        assert at(found, "penstock_ttft_seconds_count") == at(found, "penstock_ttft_seconds_bucket", le="+Inf") == n
        assert at(found, "penstock_bytes_total", direction="in") == 3 * n
    assert at(series(metrics), "penstock_exchanges_total") == 3 * each


def test_findings_of_guards_are_counted_under_names_of_the_configuration() -> None:
    metrics = Metrics(("a",), ("cards",))
    found = '[{"guard":"cards","action":"mask","where":"response","hits":2},{"guard":"stranger","action":"x","where":"y","hits":1}]'
    metrics.note([settled(findings=found), settled(findings=found), settled(findings="{"), settled()])
    told = {key[1]: value for key, value in series(metrics).items() if key[0] == "penstock_guard_findings_total"}
    assert told == {
        frozenset({"guard": "cards", "action": "mask", "where": "response"}.items()): 4,
        frozenset({"guard": "other", "action": "other", "where": "other"}.items()): 2,
    }
