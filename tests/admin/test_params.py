"""Queries of the admin API: understood as the command line would, or refused in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.admin.params import BadParameter, parse_exchanges, parse_time, parse_usage
from penstock.cli.times import parse_time as parse_on_the_command_line

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


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90m", NOW - 5400), ("7d", NOW - 604800), ("today", MIDNIGHT), ("yesterday", MIDNIGHT - 86400), ("2023-11-15", MIDNIGHT),
        ("2023-11-15T01:00", MIDNIGHT + 3600), ("2023-11-15T01:00Z", MIDNIGHT + 3600), ("2023-11-15T01:00+01:00", MIDNIGHT),
        ("2023-11-15T01:00 01:00", MIDNIGHT), ("2023-11-15 01:00", MIDNIGHT + 3600), ("1700006400", MIDNIGHT), ("1700006400.5", MIDNIGHT + 0.5),
        ("20231115", MIDNIGHT), ("999999w", 0.0), ("0001-01-01", 0.0),
    ],
)  # fmt: skip
def test_times(text: str, seconds: float) -> None:
    assert parse_time(text, NOW) == seconds


@pytest.mark.parametrize("text", ["2023-11-15", "20231115", "today"])
def test_a_day_is_meant_whole(text: str) -> None:
    assert parse_time(text, NOW, end=True) == MIDNIGHT + 86400


@pytest.mark.parametrize("end", [False, True])
@pytest.mark.parametrize("text", ["2023-11-15", "2023-11-15T14:05", "12h", "7d", "today", "yesterday", "2023-11-15T14:05+02:00"])
def test_times_are_the_command_lines(text: str, end: bool) -> None:
    assert parse_time(text, NOW, end=end) == parse_on_the_command_line(text, NOW, end=end)


@given(st.text(max_size=40), st.booleans())
def test_any_text_is_a_time_or_refused(text: str, end: bool) -> None:
    try:
        found = parse_time(text, NOW, end=end)
    except BadParameter:
        return
    assert 0 <= found < 253402300800


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00+23:59", "9999-12-31", "999999w", "5\u017f"])
def test_what_no_calendar_has_is_refused_or_bounded_as_on_the_command_line(text: str) -> None:
    found: list[float | None] = []
    for parse in (parse_time, parse_on_the_command_line):
        try:
            found.append(parse(text, NOW, end=True))
        except ValueError:
            found.append(None)
    assert found[0] == found[1]
    assert found[0] is None or 0 <= found[0] < 253402300800


def test_usage_of_a_key_by_key() -> None:
    asked = parse_usage([("by", "key,day"), ("key", "laptop"), ("key_id", "key_1")], NOW)
    assert asked.by == ("key", "day")
    assert (asked.filters["key"], asked.filters["key_id"], asked.filters["key_fingerprint"]) == ("laptop", "key_1", None)
