"""Whole bodies: read once at their end, or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.pipeline.body import ERRORS
from penstock.pipeline.contract import State
from penstock.vocabulary.errors import UpstreamError
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.vocabulary.outcome import Ending
from penstock.vocabulary.usage import EMPTY_USAGE, Usage
from penstock.wire.budget import Budget
from tests.support.relays import FAULT, ID, Relay, every, relayed, zipped

CHAT = ProtocolId.OPENAI_CHAT
BODY = (
    b'{"id":"c1","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":1}}'
)
ERROR = b'{"error":{"message":"no","type":"t","code":"c"}}'


def whole(*pieces: bytes, clean: bool = True, **named: Any) -> Relay:
    return relayed(CHAT, pieces, clean=clean, stream=False, **named)


@pytest.mark.parametrize(
    ("pieces", "status", "clean", "delimited", "ending", "words"),
    [
        ([BODY], 200, True, True, Ending.COMPLETE, "the whole body"),
        ([BODY], 200, True, False, Ending.COMPLETE, "the whole body"),
        ([], 204, True, True, Ending.COMPLETE, "the whole body"),
        ([BODY[:50]], 200, True, True, Ending.UNVERIFIED, "not what the protocol promises"),
        ([BODY[:50]], 200, True, False, Ending.TRUNCATED, "inside the body"),
        ([BODY[:50]], 200, False, True, Ending.UPSTREAM_LOST, "the connection was reset"),
        ([BODY], 200, False, False, Ending.UPSTREAM_LOST, "the connection was reset"),
        ([ERROR], 200, True, True, Ending.UPSTREAM_ERROR, "in its answer (t)"),
        ([ERROR], 404, True, True, Ending.UPSTREAM_ERROR, "the provider answered 404"),
        ([ERROR[:9]], 500, False, True, Ending.UPSTREAM_ERROR, "the provider answered 500"),
        ([], 500, True, True, Ending.UPSTREAM_ERROR, "the provider answered 500"),
    ],
)
def test_what_the_end_means(pieces: list[bytes], status: int, clean: bool, delimited: bool, ending: Ending, words: str) -> None:
    relay = whole(*pieces, clean=clean, status=status, delimited=delimited)
    assert relay.outcome is not None
    assert (relay.outcome.ending, relay.outcome.ended_by) == (ending, "upstream")
    assert words in relay.outcome.cause
    assert relay.out == b"".join(pieces)
    assert relay.budget.used == 0


def test_it_is_read_once_at_its_end() -> None:
    relay = Relay(CHAT, stream=False).feed(BODY[:40], BODY[40:])
    assert relay.seen.usage == EMPTY_USAGE
    assert relay.budget.used == len(BODY)
    relay.finish()
    assert (relay.seen.usage, relay.seen.stop_reason, relay.seen.model) == (Usage(input=3, output=1), "stop", "m")


def test_an_error_is_read() -> None:
    assert whole(ERROR, status=429).seen.error == UpstreamError("no", "t", "c", None, 429)
    assert whole(b"<html>", status=502, content_type=b"text/html").seen.error is not None


def test_what_is_no_json_is_not_kept() -> None:
    budget = Budget(10)
    relay = Relay(CHAT, stream=False, content_type=b"audio/mpeg", operation=Operation.AUDIO, budget=budget).feed(b"x" * 1000)
    assert budget.used == 0
    relay.finish()
    assert relay.outcome is not None
    assert relay.outcome.ending is Ending.COMPLETE


@pytest.mark.parametrize("content_type", [b"", b"text/plain; charset=utf-8", b"application/octet-stream"])
def test_what_its_head_calls_it_makes_a_body_neither_an_answer_nor_none(content_type: bytes) -> None:
    relay = relayed(CHAT, [BODY[:40], BODY[40:]], stream=False, content_type=content_type)
    assert relay.outcome is not None
    assert (relay.outcome.ending, relay.seen.usage, relay.seen.stop_reason) == (Ending.COMPLETE, Usage(input=3, output=1), "stop")
    relay = relayed(CHAT, [b"Welcome!"], stream=False, content_type=content_type)
    assert relay.outcome is not None
    assert (relay.outcome.ending, relay.out) == (Ending.UNVERIFIED, b"Welcome!")


def test_what_is_no_json_where_json_was_promised_is_not_called_too_large() -> None:
    relay = relayed(CHAT, [b"data: {}\n\n"], stream=True, content_type=b"text/markdown")
    assert relay.outcome is not None
    assert (relay.outcome.ending, "not what the protocol promises" in relay.outcome.cause) == (Ending.UNVERIFIED, True)


@pytest.mark.parametrize("status", [200, 201, 204])
@pytest.mark.parametrize("content_type", [b"application/json", b"text/markdown"])
def test_nothing_at_all_where_a_stream_is_awaited(status: int, content_type: bytes) -> None:
    """A client that reads events would take it for an answer without words."""
    relay = relayed(CHAT, [], status=status, content_type=content_type)
    assert relay.outcome is not None
    assert (relay.outcome.ending, relay.outcome.cause) == (Ending.TRUNCATED, "the body ended before its first event")
    assert relayed(CHAT, [], stream=False, status=204).outcome != relay.outcome


def test_what_is_too_large_is_passed_on_unread() -> None:
    budget = Budget(100)
    relay = Relay(CHAT, stream=False, budget=budget).feed(BODY[:60])
    assert budget.used == 60
    relay.feed(BODY[60:])
    assert budget.used == 0, "what was kept of it is of no use"
    relay.finish()
    assert relay.out == BODY
    assert relay.seen.usage == EMPTY_USAGE


def test_measures() -> None:
    relay = Relay(CHAT, stream=False, now=10.0).feed(BODY[:9], BODY[9:])
    assert (relay.pipeline.first_content_at, relay.pipeline.bytes_out, relay.pipeline.largest_gap) == (10.25, len(BODY), 0.25)
    assert (relay.pipeline.events, relay.pipeline.state) == (0, State.RUNNING)


def test_nothing_is_ever_said_inside_a_body() -> None:
    relay = Relay(CHAT, stream=False).feed(b'{"id"')
    assert not relay.pipeline.may_speak()
    assert relay.pipeline.end(FAULT, ID) == b""
    relay.pipeline.close()
    assert relay.budget.used == 0


@pytest.mark.parametrize(("status", "clean", "ending"), [(200, True, "UNVERIFIED"), (200, False, "UNVERIFIED"), (500, True, "UPSTREAM_ERROR")])
@pytest.mark.parametrize("stream", [False, True])
def test_an_unknown_coding(status: int, clean: bool, ending: str, stream: bool) -> None:
    relay = relayed(CHAT, [b"\x00\x01", b"\x02"], clean=clean, stream=stream, status=status, coding=b"br")
    assert relay.outcome is not None
    assert relay.outcome.ending == ending
    assert relay.out == b"\x00\x01\x02"
    assert (relay.pipeline.bytes_out, relay.pipeline.first_content_at, relay.pipeline.largest_gap) == (3, 100.25, 0.25)
    assert not relay.spoke
    if ending == "UNVERIFIED":
        assert "'br'" in relay.outcome.cause
        assert ("reset" in relay.outcome.cause) is not clean


@pytest.mark.parametrize("pieces", [1, 7])
@pytest.mark.parametrize("packed", [False, True])
def test_of_a_long_error_the_beginning_is_read(pieces: int, packed: bool) -> None:
    body = b'{"error":{"message":"no"},"why":"' + b"x" * (3 * ERRORS) + b'"}'
    sent = zipped(body) if packed else body
    relay = Relay(CHAT, stream=False, status=400, gzip=packed, budget=Budget(ERRORS))
    relay.feed(*every(sent, len(sent) // pieces))
    assert relay.budget.used <= ERRORS
    relay.finish()
    assert relay.seen.error is not None
    assert (relay.seen.error.message or "").startswith('{"error":{"message":"no"}')
    assert relay.outcome is not None
    assert (relay.outcome.ending, relay.budget.used) == (Ending.UPSTREAM_ERROR, 0)
    if packed:
        assert ERRORS < relay.pipeline.bytes_out < 2 * ERRORS + (1 << 20), "and no more of it is decoded"
    else:
        assert relay.out == body
