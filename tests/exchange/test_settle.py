"""The row: what is taken from the request's head, from the pipeline and from the outcome."""

from __future__ import annotations

import pytest

from penstock.exchange.contract import ClientRequest, Headers
from penstock.exchange.settle import close_entry, open_entry, read
from penstock.ledger.entry import Entry
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
from tests.support.corpus import COLUMNS, Case, distinct
from tests.support.relays import Relay, frames_of
from tests.support.streams import named

DONE = Outcome(Ending.COMPLETE, "terminal event", EndedBy.UPSTREAM)
GONE = Outcome(Ending.CLIENT_GONE, "gone", EndedBy.CLIENT)


def request(headers: Headers, query: str = "") -> ClientRequest:
    return ClientRequest("POST", "/v1/messages", query, headers, None, chunked=False, local=True)


def test_a_new_row() -> None:
    entry = open_entry("px-1", "i1", request([(b"User-Agent", b"agent/\xe9")]))
    assert (entry.id, entry.instance, entry.method, entry.path, entry.user_agent) == ("px-1", "i1", "POST", "/v1/messages", "agent/é")
    assert entry.started_at > 1_700_000_000
    assert (entry.outcome, entry.key_fingerprint, entry.bytes_in, entry.bytes_out, entry.events) == (None, None, None, None, None)


def test_a_key_in_the_user_agent_is_masked() -> None:
    entry = open_entry("px-1", "i1", request([(b"User-Agent", b"agent/1.0 (key sk-ant-api03-abcdefgh12345678)")]))
    assert entry.user_agent == "agent/1.0 (key sk-ant-***)"
    usual = b"claude-cli/2.0.14 (external, cli)"
    assert open_entry("px-2", "i1", request([(b"User-Agent", usual)])).user_agent == usual.decode()


@pytest.mark.parametrize(
    ("headers", "query"),
    [([(b"Authorization", b"Bearer sk-1")], ""), ([(b"x-api-key", b"sk-1")], ""), ([(b"x-goog-api-key", b"sk-1")], ""), ([], "alt=sse&key=sk-1")],
)
def test_the_same_key_has_the_same_fingerprint_wherever_it_stands(headers: Headers, query: str) -> None:
    entry = open_entry("px-1", "i1", request(headers, query))
    assert entry.key_fingerprint == open_entry("px-2", "i1", request([(b"api-key", b"sk-1")])).key_fingerprint
    assert entry.key_fingerprint is not None
    assert "sk-1" not in entry.key_fingerprint
    assert entry.path == "/v1/messages", "queries are not kept"


@pytest.mark.parametrize(**named(distinct()))
def test_a_row_of_a_recording(case: Case) -> None:
    relay = Relay(case.recording.protocol, now=10.0)
    for frame in frames_of(case.body):
        relay.feed(frame)
    relay.finish()
    entry = Entry("px-1", 0.0)
    read(entry, relay.pipeline, 9.0)
    assert (entry.response_id, entry.model, entry.stop_reason) == tuple(case.expected.get(key) for key in ("response_id", "model", "stop_reason"))
    usage: dict[str, int] = case.expected.get("usage") or {}
    assert {name: getattr(entry, column) for name, column in COLUMNS.items()} == {name: usage.get(name) for name in COLUMNS}
    assert entry.usage_source == ("reported" if usage else "none")
    assert entry.bytes_out == len(case.body)
    assert entry.events == relay.pipeline.events > 0
    assert entry.largest_gap_ms == 250.0
    assert entry.ttft_ms is not None
    assert 1250.0 <= entry.ttft_ms <= 1000.0 + 250.0 * relay.pipeline.events
    assert (entry.error_message is not None) == (case.expected["outcome"] == "UPSTREAM_ERROR")


def test_an_answer_without_content_has_no_first_one() -> None:
    relay = Relay(distinct()[0].recording.protocol).feed(b": nothing\n\n").finish()
    entry = Entry("px-1", 0.0)
    read(entry, relay.pipeline, 0.0)
    assert (entry.ttft_ms, entry.events, entry.malformed, entry.usage_source) == (None, 0, 0, "none")


@pytest.mark.parametrize(("status", "content"), [(200, True), (301, True), (400, False), (503, False)])
def test_an_error_that_passes_as_it_came_is_no_content(status: int, content: bool) -> None:
    relay = Relay(distinct()[0].recording.protocol, stream=False, status=status).feed(b'{"error":{"message":"no"}}').finish()
    entry = Entry("px-1", 0.0)
    entry.upstream_status = status
    read(entry, relay.pipeline, 0.0)
    assert (entry.ttft_ms is not None) is content


def test_settled_once() -> None:
    entry = Entry("px-1", 0.0)
    assert close_entry(entry, DONE, 5.0, 7.5) is True
    assert (entry.outcome, entry.cause, entry.ended_by, entry.duration_ms, entry.usage_source) == (
        "COMPLETE",
        "terminal event",
        "upstream",
        2500.0,
        "none",
    )
    assert close_entry(entry, GONE, 5.0, 99.0) is False
    assert (entry.outcome, entry.duration_ms, entry.late_settles) == ("COMPLETE", 2500.0, 1)


def test_whose_it_is_by_its_head_is_read_once_per_head() -> None:
    first = request([(b"X-Penstock-Project", b"shop"), (b"X-Claude-Code-Session-Id", b"s1")])
    entry = open_entry("px-1", "i1", first)
    assert (entry.user_id, entry.project, entry.session_id) == (None, "shop", "s1")
    second = ClientRequest("POST", "/v1/messages", "", [], None, chunked=False, local=True, memo=first.memo)
    assert open_entry("px-2", "i1", second).project == "shop"
