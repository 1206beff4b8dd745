"""Queries of the admin API: understood as the command line would, or refused in words."""

from __future__ import annotations

import pytest

from penstock.admin.params import BadParameter, parse_exchanges, parse_usage

NOW = 1_700_050_000.0  # 2023-11-15 12:06:40 UTC
MIDNIGHT = 1_700_006_400.0


def test_nothing_asked_is_the_last_fifty_and_sums_by_model() -> None:
    assert parse_exchanges([], NOW).last == 50
    assert set(parse_exchanges([], NOW).filters.values()) == {None, False}
    assert parse_usage([], NOW).by == ("model",)
    assert set(parse_usage([], NOW).filters.values()) == {None}


def test_every_filter_reaches_its_argument() -> None:
    asked = parse_exchanges(
        [("last", "7"), ("outcome", "complete,TRUNCATED"), ("outcome", "cut"), ("provider", "p"), ("model", "m"), ("operation", "chat"),
         ("since", "1h"), ("until", "2023-11-15"), ("id", "px-1"), ("open", "true")], NOW)  # fmt: skip
    assert asked.last == 7
    assert asked.filters == {
        "outcome": ["COMPLETE", "TRUNCATED", "CUT"], "provider": "p", "model": "m", "operation": "chat", "since": NOW - 3600,
        "until": MIDNIGHT + 86400, "id_prefix": "px-1", "open_only": True,
    }  # fmt: skip
    sums = parse_usage([("by", "day,model"), ("by", "day"), ("outcome", "complete"), ("requested_model", "r"), ("key_fingerprint", "k")], NOW)
    assert sums.by == ("day", "model")
    assert {name: value for name, value in sums.filters.items() if value is not None} == {
        "outcome": "COMPLETE", "requested_model": "r", "key_fingerprint": "k",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("items", "says"),
    [
        ([("lats", "5")], "there is no parameter 'lats'; there are last"),
        ([("last", "0")], "1 to 1000"),
        ([("last", "1001")], "1 to 1000"),
        ([("last", "-1")], "1 to 1000"),
        ([("last", "٣")], "1 to 1000"),
        ([("last", "1"), ("last", "2")], "given twice"),
        ([("outcome", "DONE")], "'DONE'; it takes COMPLETE"),
        ([("operation", "talk")], "it takes chat"),
        ([("provider", "")], "needs a value"),
        ([("model", "x" * 300)], "needs a value"),
        ([("model", "a\0b")], "needs a value"),
        ([("open", "maybe")], "true, false"),
        ([("since", "soon")], "is no time"),
        ([("since", "1h"), ("until", "2h")], "before until"),
    ],
)
def test_what_is_not_understood_is_refused(items: list[tuple[str, str]], says: str) -> None:
    with pytest.raises(BadParameter, match=says):
        parse_exchanges(items, NOW)


@pytest.mark.parametrize(
    ("items", "says"),
    [([("by", "colour")], "it takes day"), ([("outcome", "CUT,COMPLETE")], "given once"), ([("last", "5")], "there is no parameter 'last'")],
)
def test_sums_are_refused_likewise(items: list[tuple[str, str]], says: str) -> None:
    with pytest.raises(BadParameter, match=says):
        parse_usage(items, NOW)


def test_usage_of_a_key_by_key() -> None:
    asked = parse_usage([("by", "key,day"), ("key", "laptop"), ("key_id", "key_1")], NOW)
    assert asked.by == ("key", "day")
    assert (asked.filters["key"], asked.filters["key_id"], asked.filters["key_fingerprint"]) == ("laptop", "key_1", None)
