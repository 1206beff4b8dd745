"""The life of one exchange in words: what was expected, what came, in which order, and nothing that could steer a terminal."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.ledger.entry import COLUMNS, Entry, Found, Try, row_of
from penstock.ledger.story import TERMINALS, Story, tell
from penstock.vocabulary.ids import ProtocolId
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
from tests.support.ledgers import make_entry

TAIL = [(at * 100.0, "content_block_delta", 80 + at) for at in range(30)]


def _row(entry: Entry) -> dict[str, Any]:
    row = dict(zip(COLUMNS, row_of(entry), strict=True))
    del row["tail_bytes"]
    return row


def _hung() -> Entry:
    """A stream that hung inside a tool call, at its third try."""
    entry = make_entry("px-1", provider="anthropic", client_protocol="anthropic_messages", upstream_protocol="anthropic_messages", streamed=True)
    entry.path, entry.requested_model, entry.bytes_in, entry.route = "/v1/messages", "claude-sonnet", 1234, "claude-*"
    entry.status = entry.upstream_status = 200
    entry.dial_ms, entry.head_ms, entry.ttft_ms, entry.duration_ms = 900.0, 1000.0, 1200.0, 243_000.0
    entry.events, entry.bytes_out, entry.largest_gap_ms, entry.timer = 412, 40_000, 15_000.0, "tool_call"
    entry.keep_tries([Try(300.0, None, "the provider refused the connection"), Try(700.0, 503, "the provider answered 503")])
    entry.keep_tail([*((1200.0 + at, kind, size) for at, kind, size in TAIL), (242_000.0, "ping", 30)])
    entry.settle(Outcome(Ending.TIMED_OUT, "tool_call: 240 s without progress of the arguments of tool call 'edit'", EndedBy.GATEWAY), 5.0)
    return entry


def test_a_hang_in_a_tool_call_is_told_from_its_first_try_to_what_to_change() -> None:
    story = tell(_row(_hung()))
    assert (story.outcome, story.case, story.timer, story.ended_by) == ("TIMED_OUT", "timed_out.tool_call", "tool_call", "this gateway")
    assert story.expected == "the event `message_stop`"
    assert story.came == "412 events; 40,000 bytes passed on; the longest silence 15.0 s; last came ping (30 bytes), 1.0 s before the end"
    assert "`tool_call` (on route `claude-*`, on provider `anthropic`, or at the top; the nearest wins)" in " ".join(story.change)
    words = [moment.what for moment in story.timeline]
    assert words[0] == "POST /v1/messages, model claude-sonnet, 1,234 bytes, route claude-*"
    assert words[1:5] == [
        "try 1 failed: the provider refused the connection", "try 2 failed: status 503, the provider answered 503", "connected to anthropic",
        "anthropic answered 200",
    ]  # fmt: skip
    assert words[-1].startswith("TIMED_OUT: tool_call: 240 s without progress")
    times = [moment.ms for moment in story.timeline if moment.ms is not None]
    assert times == sorted(times)
    assert len(tell(_row(_hung()), more=True).timeline) > len(story.timeline)


@pytest.mark.parametrize("protocol", list(ProtocolId))
def test_every_protocol_names_what_ends_its_streams(protocol: ProtocolId) -> None:
    entry = make_entry("a", upstream_protocol=protocol.value, streamed=True, upstream_status=200)
    entry.settle(Outcome(Ending.TRUNCATED, "the body ended without the terminal event", EndedBy.UPSTREAM), 5.0)
    assert tell(_row(entry)).expected == TERMINALS[protocol]


def test_half_a_frame_is_told() -> None:
    entry = make_entry("a", upstream_protocol="openai_chat", streamed=True, upstream_status=200, events=3, bytes_out=300)
    entry.settle(Outcome(Ending.TRUNCATED, "the body ended inside a frame (41 bytes of it had come)", EndedBy.UPSTREAM), 5.0)
    story = tell(_row(entry))
    assert story.came == "3 events; 300 bytes passed on; and half an event behind it"
    assert (story.ended_by, story.case) == ("the provider", "truncated.frame")


@pytest.mark.parametrize(("came", "said"), [
    ({"upstream_status": 200, "head_ms": 100.0, "events": 9, "tail": '[[2000.0,"ping",30]]'}, "60.0 s"),
    ({"upstream_status": 200, "head_ms": 2000.0, "events": 0}, "60.0 s"),
    ({}, "62.0 s"),
])  # fmt: skip
def test_a_client_that_left_after_a_silence_is_told_how_long_it_was(came: dict[str, Any], said: str) -> None:
    entry = make_entry("a", streamed=True, client_protocol="openai_chat", duration_ms=62_000.0, **came)
    entry.settle(Outcome(Ending.CLIENT_GONE, "the client closed its connection", EndedBy.CLIENT), 70.0)
    story = tell(_row(entry))
    assert story.case == "client_gone.silent"
    assert f"after {said} in which nothing came" in story.verdict
    assert any("`keepalive`" in line for line in story.change)


def test_a_refusal_and_an_open_exchange_claim_nothing() -> None:
    refused = make_entry("a", provider=None, status=401)
    refused.settle(Outcome(Ending.REFUSED, "no token, or a wrong one", EndedBy.GATEWAY), 5.0)
    story = tell(_row(refused))
    assert (story.expected, story.came, story.ended_by) == ("nothing: no provider was asked", "nothing", "this gateway")
    story = tell(_row(make_entry("a")))
    assert (story.outcome, story.case, story.ended_by, len(story.timeline)) == (None, "open", "nobody yet", 1)


def test_what_came_in_the_last_millisecond_came_before_the_end() -> None:
    entry = Entry("px-1", 1000.0)
    entry.duration_ms = 1.6
    entry.keep_tail([(1, "content", 70), (2, "tool", 90)])
    entry.settle(Outcome(Ending.TRUNCATED, "the body ended without the terminal event", EndedBy.UPSTREAM), 1001.0)
    assert [(moment.ms, moment.what.split()[0]) for moment in tell(_row(entry)).timeline][1:] == [(1, "content"), (1.6, "tool"), (1.6, "TRUNCATED:")]


def test_what_came_in_the_heads_millisecond_came_behind_it() -> None:
    entry = Entry("px-1", 1000.0)
    entry.upstream_status, entry.dial_ms, entry.head_ms, entry.ttft_ms, entry.duration_ms = 200, 3.2, 3.4, 3.7, 30.5
    entry.keep_tail([(2, "older", 1), (3, "content", 70), (4, "tool", 90)])
    entry.settle(Outcome(Ending.TRUNCATED, "the body ended without the terminal event", EndedBy.UPSTREAM), 1001.0)
    assert [(moment.ms, moment.what.split()[0]) for moment in tell(_row(entry)).timeline][1:] == [
        (2, "older"), (3.2, "connected"), (3.4, "the"), (3.4, "content"), (3.7, "first"), (4, "tool"), (30.5, "TRUNCATED:")]


def test_a_row_of_an_older_version_has_a_story_too() -> None:
    entry = make_entry("a", streamed=True, upstream_status=200, upstream_protocol="gemini", events=3, ttft_ms=5.0, duration_ms=9.0)
    entry.settle(Outcome(Ending.TRUNCATED, "the body ended without the terminal event", EndedBy.UPSTREAM), 5.0)
    assert [moment.ms for moment in tell(_row(entry)).timeline] == [0.0, None, 5.0, 9.0]


def _texts(story: Story) -> list[str]:
    words = [story.verdict, story.cause or "", story.expected, story.came, story.ended_by, *story.change]
    return [*words, *(moment.what for moment in story.timeline), *(kind for _, kind, _ in story.tail), *(one["cause"] for one in story.tries)]


EVIL = st.text(alphabet=st.sampled_from("\x1b[2J\r\n\x9b\u202e{where}ab"), min_size=1, max_size=40)


@given(evil=EVIL, ending=st.sampled_from(list(Ending)))
def test_nothing_of_an_outsider_can_steer_a_terminal(evil: str, ending: Ending) -> None:
    entry = make_entry("a", streamed=True, upstream_status=200, duration_ms=5.0)
    for name in ("path", "method", "requested_model", "user_agent", "route", "provider", "upstream_request_id", "stop_reason", "error_message"):
        setattr(entry, name, evil)
    entry.keep_tail([(1.0, evil, 5)])
    entry.keep_tries([Try(1.0, None, evil)])
    entry.settle(Outcome(ending, evil, EndedBy.UPSTREAM), 5.0)
    assert all(text.isprintable() for text in _texts(tell(_row(entry))))


@pytest.mark.parametrize("text", ["", "nonsense", "{}", "[1]", '[["x"]]', "5", 7])
def test_columns_that_cannot_be_read_are_as_if_they_were_not_there(text: Any) -> None:
    story = tell({**_row(_hung()), "tail": text, "tries": text})
    assert (story.tail, story.tries) == ([], [])


@pytest.mark.parametrize(("ending", "cause", "case", "sentence"), [
    (Ending.REFUSED, "budget 'purse' is spent", "refused.429.budget", " It was refused by the word of 'purse?'."),
    (Ending.CUT, "budget 'purse' is spent", "cut.budget", " It was cut by the word of 'purse?'."),
    (Ending.COMPLETE, "the terminal event", "complete", ""),
])  # fmt: skip
def test_the_rule_that_refused_or_cut_is_named_in_a_sentence(ending: Ending, cause: str, case: str, sentence: str) -> None:
    entry = make_entry("a", rule="purse\x1b", status=429 if ending is Ending.REFUSED else 200, upstream_protocol="openai_chat")
    entry.settle(Outcome(ending, cause, EndedBy.GATEWAY), 5.0)
    story = tell(_row(entry))
    assert (story.case, story.rule) == (case, "purse?")
    assert story.verdict.endswith(sentence)
    assert ("by the word of" in story.verdict) is bool(sentence)


def test_what_guards_found_is_told_in_sentences() -> None:
    entry = _hung()
    entry.keep_findings([Found("cards", "mask", "response", 2), Found("projects", "reject", "request", 1), Found("mod", "let_go", "response", 1)])
    entry.held_chars, entry.held_ms = 31, 1500.0
    assert tell(_row(entry)).guards == [
        "Guard `cards` masked 2 matches in the answer.", "Guard `projects` rejected it for 1 match in the request.",
        "Guard `mod` could not judge, and let go, 1 text in the answer.",
        "Up to 31 characters of the answer waited for guards at once, for 1.5 s at most.",
    ]  # fmt: skip
    assert tell({**_row(_hung()), "findings": "no JSON", "held_chars": "x"}).guards == []


@pytest.mark.parametrize(("kind", "avoided", "said"), [
    ("join", 1_234_000, "the answer to px-0 was joined while it was made: nothing was asked of a provider, it would have cost $0.00123"),
    ("hit", None, "the answer to px-0 was told once more: nothing was asked of a provider, what it would have cost is not known"),
])  # fmt: skip
def test_a_replay_says_whose_answer_it_was_and_what_it_would_have_cost(kind: str, avoided: int | None, said: str) -> None:
    entry = make_entry("px-1", provider="openai", streamed=True, client_protocol="openai_chat", status=200, upstream_status=200, head_ms=3.0)
    entry.replay, entry.replay_of = kind, "px-0"
    entry.settle(Outcome(Ending.COMPLETE, "terminal event", EndedBy.UPSTREAM), 5.0)
    story = tell({**_row(entry), "avoided_nanousd": avoided})
    assert story.replay == said
    assert "the answer to px-0 began: 200" in [moment.what for moment in story.timeline]
    assert tell(_row(_hung())).replay is None
