"""Moments as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.ledger.moments import parse_span, parse_time
from penstock.vocabulary.moments import LAST

MIDNIGHT = 1_700_006_400.0  # 2023-11-15
NOW = MIDNIGHT + 3600 * 14


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90m", NOW - 5400), ("7 d", NOW - 604800), ("today", MIDNIGHT), ("Yesterday", MIDNIGHT - 86400), ("2023-11-15", MIDNIGHT),
        ("2023-11-15T01:00", MIDNIGHT + 3600), ("2023-11-15T01:00Z", MIDNIGHT + 3600), ("2023-11-15T01:00+01:00", MIDNIGHT),
        ("2023-11-15T01:00 01:00", MIDNIGHT), ("2023-11-15 01:00", MIDNIGHT + 3600), ("2023-11-15 14:05Z", MIDNIGHT + 50_700),
        ("1700006400", MIDNIGHT), ("1700006400.5", MIDNIGHT + 0.5), ("20231115", MIDNIGHT), ("999999w", 0.0), ("0001-01-01", 0.0),
    ],
)  # fmt: skip
def test_times(text: str, seconds: float) -> None:
    assert parse_time(text, NOW) == seconds


@pytest.mark.parametrize("text", ["2023-11-15", "20231115", "today"])
def test_a_day_is_meant_whole(text: str) -> None:
    assert parse_time(text, NOW, end=True) == MIDNIGHT + 86400


@pytest.mark.parametrize("text", ["2023-11-15T14:05", "7d", "1700006400", "2023-11-15T14:05+02:00"])
def test_a_moment_is_its_own_end(text: str) -> None:
    assert parse_time(text, NOW, end=True) == parse_time(text, NOW)


@given(st.text(max_size=40), st.booleans())
def test_any_text_is_a_time_or_refused(text: str, end: bool) -> None:
    try:
        found = parse_time(text, NOW, end=end)
    except ValueError:
        return
    assert 0 <= found <= LAST


@pytest.mark.parametrize(
    ("text", "seconds"), [("9999-12-31T23:59:59-23:59", LAST), ("0001-01-01T00:00+23:59", 0.0), ("9999-12-31", LAST), ("99999999999", 99999999999.0)]
)
def test_what_no_calendar_has_is_bounded(text: str, seconds: float) -> None:
    assert parse_time(text, NOW, end=True) == seconds


@pytest.mark.parametrize("text", ["5\u017f", "2023", "12h ago", "2023-13-01", "-5d", ""])
def test_what_is_no_time_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match="is no time: write 2025-01-31, 2025-01-31T14:05, 12h, 7d, today, yesterday, or a Unix time"):
        parse_time(text, NOW)


def test_a_long_text_is_shown_short() -> None:
    with pytest.raises(ValueError, match="is no time") as caught:
        parse_time("x" * 5000, NOW)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(("text", "seconds"), [("90m", 5400.0), ("1w", 604800.0), ("0s", 0.0), ("soon", None), ("-1d", None), ("1.5h", None)])
def test_spans(text: str, seconds: float | None) -> None:
    assert parse_span(text) == seconds
