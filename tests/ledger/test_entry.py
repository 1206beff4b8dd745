"""The row in the making: settled once, bounded, with secrets masked."""

from __future__ import annotations

import json
from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import astuple

from penstock.ledger.entry import COLUMNS, EVENTS, KINDS, LINE, SENTENCE, TAIL_BYTES, TOKENS_LIMIT, TRIES, WORD, Entry, Try, row_of
from penstock.ledger.rows import clean
from penstock.vocabulary.errors import UpstreamError
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
from penstock.vocabulary.usage import Kinds, Provenance, Usage
from tests.support.ledgers import COMPLETE, GONE, make_entry


class Book:
    def __init__(self) -> None:
        self.told: list[str] = []

    def note_settled(self, entry: Entry) -> None:
        # The row must be whole at this moment: the writer may read it at once.
        assert entry.outcome is not None
        assert entry.settled_at is not None
        self.told.append("settled")

    def note_late(self, entry: Entry) -> None:
        self.told.append("late")


def test_the_first_settle_wins_and_later_ones_are_counted() -> None:
    entry, book = make_entry("a"), Book()
    entry.book = book
    assert entry.settle(COMPLETE, 10.0) is True
    before = row_of(entry)
    assert entry.settle(GONE, 11.0) is False
    assert entry.settle(COMPLETE, 12.0) is False
    after = row_of(entry)
    assert {name for name, new, old in zip(COLUMNS, after, before, strict=True) if new != old} == {"late_settles"}
    assert (entry.late_settles, book.told) == (2, ["settled", "late", "late"])
    assert (entry.outcome, entry.ended_by, entry.cause, entry.settled_at) == ("COMPLETE", "upstream", COMPLETE.cause, 10.0)


def test_it_settles_without_a_book() -> None:
    assert make_entry("a").settle(GONE, 1.0) is True


def test_what_is_not_known_is_none_and_not_zero() -> None:
    row = dict(zip(COLUMNS, row_of(Entry("a", 1.0)), strict=True))
    assert row.pop("id") == "a"
    assert row.pop("started_at") == 1.0
    assert row.pop("late_settles") == 0
    assert set(row.values()) == {None}


KINDS_OF = st.builds(Kinds, **{name: st.none() | st.integers(0, 10**12) | st.integers(-(2**70), 2**70) for name in Kinds.__struct_fields__})


@given(KINDS_OF)
def test_kinds_of_tokens_are_taken_over_as_far_as_they_can_be_summed(kinds: Kinds) -> None:
    entry = Entry("a", 1.0)
    entry.account(Usage(output=5, kinds=kinds), Provenance.REPORTED)
    row = dict(zip(COLUMNS, row_of(entry), strict=True))
    wanted = [value if value is not None and 0 <= value <= TOKENS_LIMIT else None for value in astuple(kinds)]
    assert [row[name] for name in KINDS] == wanted
    assert entry.kinds == (None if wanted == [None] * len(KINDS) else Kinds(*wanted))
    assert clean(row_of(entry)) == row_of(entry)


def test_what_was_told_again_was_not_used_of_any_kind() -> None:
    entry = Entry("a", 1.0)
    kinds = Kinds(image_output=1290)
    entry.account(Usage(output=1300, kinds=kinds), Provenance.REPORTED)
    entry.spare()
    row = dict(zip(COLUMNS, row_of(entry), strict=True))
    assert (entry.kinds, [row[name] for name in KINDS], row["output_tokens"]) == (None, [None] * len(KINDS), 0)
    assert entry.spared is not None
    assert (entry.spared.output_tokens, entry.spared.kinds) == (1300, kinds)


def test_usage_is_taken_over_whole() -> None:
    entry = Entry("a", 1.0)
    names = (
        "input", "output", "cache_read", "cache_write", "cache_write_5m", "cache_write_1h", "reasoning", "audio_input", "audio_output", "tool_use",
    )  # fmt: skip
    entry.account(Usage(*range(1, 11), tool_requests=11), Provenance.PARTIAL)
    assert [getattr(entry, f"{name}_tokens") for name in names] == list(range(1, 11))
    assert (entry.tool_requests, entry.usage_source) == (11, "partial")


def test_an_upstream_error_is_short_and_masked() -> None:
    entry = Entry("a", 1.0)
    message = "Incorrect API key provided: sk-proj-abcdefgh12345678. " + "x" * 9000
    entry.blame(UpstreamError(message=message, type="auth_error", code="sk-abcdefgh1234"))
    assert entry.error_message is not None
    assert entry.error_message.startswith("Incorrect API key provided: sk-proj-***")
    assert len(entry.error_message) <= SENTENCE
    assert (entry.error_type, entry.error_code) == ("auth_error", "sk-***")


def test_a_message_that_was_set_by_hand_is_masked_when_settled() -> None:
    entry = make_entry("a", error_message="bad key AIzaSyA1234567890abcdefghijk")
    entry.settle(COMPLETE, 1.0)
    assert entry.error_message == "bad key AIza***"


KEYS = [
    "sk-ant-api03-abcdefgh12345678", "gpt-4o AIzaSyD-abcdefghijklmnop",
    "models/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "hf_abcdefghijklmnopqrstuv",
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_a_key_in_the_place_of_a_model_s_name_is_masked(key: str) -> None:
    entry = make_entry("a", requested_model=key, model=key)
    entry.clip_request()
    entry.settle(COMPLETE, 1.0)
    assert entry.requested_model == entry.model
    assert "***" in (entry.model or "")
    assert "abcdefgh" not in (entry.model or "")
    assert "c2ln" not in (entry.model or "")


@pytest.mark.parametrize("name", ["gpt-4o-mini-2024-07-18", "pplx-embed-context-v1-0.6b", "ft:gpt-4o:acme:token-8b:9xAbCdEf"])
def test_a_model_s_name_stays(name: str) -> None:
    entry = make_entry("a", requested_model=name, model=name)
    entry.clip_request()
    entry.settle(COMPLETE, 1.0)
    assert (entry.requested_model, entry.model) == (name, name)


LIMITS = {
    "path": LINE, "user_agent": LINE, "requested_model": WORD, "model": WORD, "stop_reason": WORD, "response_id": WORD, "upstream_request_id": WORD,
}  # fmt: skip


@pytest.mark.parametrize(("name", "limit"), LIMITS.items())
def test_outsiders_cannot_make_a_row_large(name: str, limit: int) -> None:
    entry = make_entry("a")
    setattr(entry, name, "x" * 1_000_000)
    entry.clip_request()
    entry.settle(Outcome(Ending.CUT, "y" * 1_000_000, EndedBy.GATEWAY), 1.0)
    assert len(getattr(entry, name)) == limit
    assert len(entry.cause or "") == SENTENCE


def test_the_tries_before_the_last_are_kept_short_and_masked() -> None:
    entry = Entry("a", 1.0)
    entry.keep_tries([Try(12.34, 503, "the provider answered 503"), Try(99.0, None, "no: key sk-proj-abcdefgh12345678 " + "x " * 9000)])
    first, second = json.loads(entry.tries or "")
    assert first == {"after_ms": 12.3, "status": 503, "cause": "the provider answered 503"}
    assert (second["after_ms"], second["status"], len(second["cause"])) == (99.0, None, WORD)
    assert "abcdefgh" not in second["cause"]
    entry.keep_tries([])
    assert entry.tries is None


def test_the_tail_holds_the_last_events_in_order() -> None:
    entry = Entry("a", 1.0)
    entry.keep_tail([(float(at), "content_block_delta", at) for at in range(100)])
    kept = json.loads(entry.tail or "")
    assert kept == [[float(at), "content_block_delta", at] for at in range(100 - EVENTS, 100)]
    entry.keep_tail([])
    assert entry.tail is None


@given(
    events=st.lists(st.tuples(st.floats(0, 1e7), st.text(alphabet=st.characters(), max_size=300), st.integers(0, 2**40)), max_size=80),
    causes=st.lists(st.text(alphabet=st.characters(), max_size=600), max_size=40),
    data=st.binary(max_size=TAIL_BYTES + 500),
)
def test_whatever_is_kept_is_bounded_and_can_be_read_again(events: list[tuple[float, str, int]], causes: list[str], data: bytes) -> None:
    entry = make_entry("a", instance="i1")
    entry.keep_tail(events)
    entry.keep_tries(Try(1.0, None, cause) for cause in causes)
    entry.keep_bytes(data)
    entry.settle(GONE, 2.0)
    row = dict(zip(COLUMNS, clean(row_of(entry)), strict=True))
    assert (row["tail"], row["tries"], row["tail_bytes"]) == (entry.tail, entry.tries, entry.tail_bytes), "no bound cuts what was bounded already"
    assert len(json.loads(entry.tail or "[]")) == min(len(events), EVENTS)
    assert len(json.loads(entry.tries or "[]")) == min(len(causes), TRIES)
    assert b64decode(entry.tail_bytes or "") == data[-TAIL_BYTES:]


@pytest.mark.parametrize("size", [0, 1, TAIL_BYTES, TAIL_BYTES + 1, 3 * TAIL_BYTES])
def test_only_the_last_bytes_are_kept(size: int) -> None:
    entry, data = Entry("a", 1.0), bytes(range(256)) * (size // 256 + 1)
    entry.keep_bytes(data[:size])
    assert (entry.tail_bytes is None) == (size == 0)
    assert b64decode(entry.tail_bytes or "") == data[:size][-TAIL_BYTES:]


def test_entries_are_told_apart_by_who_they_are() -> None:
    assert len({Entry("a", 1.0), Entry("a", 1.0)}) == 2


def test_a_secret_in_the_last_bytes_is_masked_and_nothing_else_changes() -> None:
    entry = Entry("px-1", 0.0)
    entry.keep_bytes(b'data: {"text":"\xc3\xa9 sk-ant-api03-abcdefghijklmnop"}\n\n\xff')
    assert entry.tail_bytes is not None
    kept = b64decode(entry.tail_bytes)
    assert b"abcdefghijklmnop" not in kept
    assert kept.startswith(b'data: {"text":"\xc3\xa9 sk-ant-')
    assert kept.endswith(b'\n\n\xff')
