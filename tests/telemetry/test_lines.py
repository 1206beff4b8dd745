"""What a line says, and what it never says."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from penstock.ledger.entry import Entry
from penstock.telemetry.lines import Message, exchange_json, exchange_text, level_of, message_json, message_text
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome

KEY = "sk-ant-api03-abcdefghijklmnop"


def settled(ending: Ending = Ending.COMPLETE, cause: str = "terminal event", **values: Any) -> Entry:
    entry = Entry("px-1", 1_700_000_000.5)
    entry.method, entry.path, entry.provider, entry.model, entry.status = "POST", "/v1/messages", "anthropic", "claude", 200
    entry.client_protocol, entry.operation, entry.streamed = "anthropic_messages", "messages", True
    entry.input_tokens, entry.duration_ms = 7, 12.4
    for name, value in values.items():
        setattr(entry, name, value)
    entry.settle(Outcome(ending, cause, EndedBy.UPSTREAM), 1_700_000_001.25)
    return entry


def test_an_ordinary_end_for_people() -> None:
    assert exchange_text(settled()) == (
        b"2023-11-14T22:13:21.250Z px-1 COMPLETE 200 POST /v1/messages provider=anthropic model=claude tokens=7/? took=12ms"
    )


def test_all_figures_for_people() -> None:
    entry = settled(
        Ending.TRUNCATED, "the body ended", ttft_ms=700.4, largest_gap_ms=55.5, output_tokens=0, cache_read_tokens=3, reasoning_tokens=2,
        bytes_in=10, bytes_out=20, retries=1)  # fmt: skip
    assert exchange_text(entry).decode().partition(" tokens")[2] == (
        "=7/0 cache=3/? reasoning=2 ttft=700ms gap=56ms took=12ms bytes=10/20 retries=1 by=upstream cause='the body ended'"
    )


def test_the_timer_that_ended_it_is_told_in_both_forms() -> None:
    entry = settled(Ending.TIMED_OUT, "no argument came for 240 s", timer="tool_call")
    assert exchange_text(entry).endswith(b" by=upstream timer=tool_call cause='no argument came for 240 s'")
    assert json.loads(exchange_json(entry))["timer"] == "tool_call"


def test_the_rule_that_refused_or_cut_is_told_in_both_forms() -> None:
    entry = settled(Ending.REFUSED, "budget 'x\ny' is spent", rule="x\ny" + "z" * 400)
    assert f" by=upstream rule='x?y{'z' * 297}' cause=" in exchange_text(entry).decode()
    assert json.loads(exchange_json(entry))["rule"] == "x?y" + "z" * 297


def test_a_replay_names_the_exchange_whose_answer_it_was() -> None:
    entry = settled(replay="join", replay_of="px-0")
    assert exchange_text(entry).endswith(b" took=12ms replay=join of=px-0")
    told = json.loads(exchange_json(entry))
    assert (told["replay"], told["replay_of"]) == ("join", "px-0")


def test_an_exchange_for_programs_with_unknown_as_null() -> None:
    entry = settled(
        Ending.UPSTREAM_ERROR, "the provider answered 529", upstream_status=529, ttft_ms=1.23456, largest_gap_ms=0.0, cache_read_tokens=0,
        requested_model="c", route="r", retries=2, bytes_in=1, bytes_out=2)  # fmt: skip
    assert json.loads(exchange_json(entry)) == {
        "time": "2023-11-14T22:13:21.250Z", "level": "warning", "id": "px-1", "outcome": "UPSTREAM_ERROR", "cause": "the provider answered 529",
        "ended_by": "upstream", "timer": None, "rule": None, "route": "r", "status": 200, "upstream_status": 529,
        "provider": "anthropic", "model": "claude", "requested_model": "c",
        "method": "POST", "path": "/v1/messages", "protocol": "anthropic_messages", "operation": "messages", "streamed": True, "ttft_ms": 1.235,
        "duration_ms": 12.4, "largest_gap_ms": 0.0, "input_tokens": 7, "output_tokens": None, "cache_read_tokens": 0,
        "cache_write_tokens": None, "reasoning_tokens": None, "retries": 2, "bytes_in": 1, "bytes_out": 2, "replay": None, "replay_of": None,
    }  # fmt: skip


def test_a_count_that_no_answer_can_have_is_unknown() -> None:
    told = json.loads(exchange_json(settled(input_tokens=10**30, output_tokens=-1)))
    assert (told["input_tokens"], told["output_tokens"]) == (None, None)


def test_whatever_is_not_complete_is_a_warning() -> None:
    assert {ending for ending in Ending if level_of(settled(ending)) == "info"} == {Ending.COMPLETE}
    assert {level_of(settled(ending)) for ending in Ending} == {"info", "warning"}


def test_a_message_in_both_forms() -> None:
    message = Message(1_700_000_001.25, "warning", "penstock.ledger", "it failed", "OSError > spill.py:3")
    assert message_text(message) == b"2023-11-14T22:13:21.250Z warning penstock.ledger: it failed (OSError > spill.py:3)"
    assert json.loads(message_json(message)) == {
        "time": "2023-11-14T22:13:21.250Z", "level": "warning", "logger": "penstock.ledger", "message": "it failed", "error": "OSError > spill.py:3",
    }  # fmt: skip


def test_a_message_shows_its_first_line_and_no_key() -> None:
    message = Message(0.0, "error", "x", f"refused {KEY}\nbody of a client")
    for told in (message_text(message), message_json(message)):
        assert KEY.encode() not in told
        assert b"sk-ant-***" in told
        assert b"body" not in told


def test_colour_is_around_the_words_and_changes_none() -> None:
    plain, coloured = exchange_text(settled()).decode(), exchange_text(settled(), colour=True).decode()
    assert "\x1b[32mCOMPLETE\x1b[0m" in coloured
    assert "\x1b[31mTRUNCATED" in exchange_text(settled(Ending.TRUNCATED), colour=True).decode()
    for code in ("2", "32", "0"):
        coloured = coloured.replace(f"\x1b[{code}m", "")
    assert coloured == plain


@given(text=st.text(max_size=400), figures=st.integers() | st.none(), part=st.floats() | st.none())
def test_no_outsider_writes_a_line_of_its_own_or_steers_a_terminal(text: str, figures: int | None, part: float | None) -> None:
    entry = settled(
        Ending.REFUSED, text, path=text, model=text, requested_model=text, method=text[:9], input_tokens=figures, output_tokens=figures,
        ttft_ms=part)  # fmt: skip
    lines = [message_text(Message(0.0, "info", text, text)), message_json(Message(0.0, "info", text, text)), exchange_json(entry)]
    if part is None or abs(part) < 1e300:
        lines.append(exchange_text(entry))
    for line in lines:
        assert line.decode().isprintable()
        assert len(line) < 8000
    assert json.loads(lines[2])["outcome"] == "REFUSED"


def test_what_guards_found_is_told_only_where_something_was_found() -> None:
    entry = settled()
    assert b"findings" not in exchange_json(entry)
    assert b"guards=" not in exchange_text(entry)
    found = [{"guard": "cards", "action": "mask", "where": "response", "hits": 2},
             {"guard": "p\x1b", "action": "audit", "where": "request", "hits": 1}]
    entry = settled(findings=json.dumps(found))
    assert json.loads(exchange_json(entry))["findings"][0] == {"guard": "cards", "action": "mask", "where": "response", "hits": 2}
    assert b" guards=cards:mask@response=2,p?:audit@request=1" in exchange_text(entry)


def test_a_model_of_several_words_is_one_field() -> None:
    entry = settled(model="m tokens=1/2 by=gateway", input_tokens=7)
    assert b" model='m tokens=1/2 by=gateway' tokens=7/?" in exchange_text(entry)
