"""A stream that was opened before its provider answered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.pipeline.unbegun import Unbegun
from penstock.protocols import REGISTRY
from penstock.vocabulary.errors import Fault, FaultKind, UpstreamError
from penstock.vocabulary.ids import ProtocolId
from penstock.vocabulary.outcome import EndedBy, Ending
from tests.laws.talk import DIALECTS, Dialect, stream
from tests.support.relays import CUTS, OPERATIONS, Relay, cut, data_of, frames_of

GEMINI = ProtocolId.GEMINI
EACH = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.protocol.value)
LATE = Fault(FaultKind.UPSTREAM_TIMEOUT, 504, "Nothing came in time.")
BOM = b"\xef\xbb\xbf"


def unbegun(protocol: ProtocolId, *, array: bool = False) -> Unbegun:
    return Unbegun(REGISTRY[protocol], OPERATIONS[protocol], 5.0, array=array)


def read(protocol: ProtocolId, out: bytes) -> Any:
    """An observer that has read what the client received."""
    observer = REGISTRY[protocol].observer(OPERATIONS[protocol])
    for frame in frames_of(out):
        name, data = data_of(frame)
        if data:
            observer.observe(name, data, 0.0)
    return observer


@EACH
def test_it_is_kept_open_and_fails_in_band(dialect: Dialect) -> None:
    early = unbegun(dialect.protocol)
    assert early.content_type == b"text/event-stream"
    assert not early.begun
    assert early.may_speak()
    out = early.keepalive() + early.keepalive()
    assert out == REGISTRY[dialect.protocol].keepalive * 2
    assert not early.begun, "a word without meaning is no beginning"
    out += early.end(LATE, "px-1")
    assert early.bytes_out == len(out)
    seen = read(dialect.protocol, out)
    assert seen.error is not None
    assert seen.error.message == LATE.message


def test_responses_has_its_beginning_before_its_failure() -> None:
    early = unbegun(ProtocolId.OPENAI_RESPONSES)
    out = early.keepalive() + early.end(LATE, "px-1")
    frames = [json.loads(data_of(frame)[1]) for frame in frames_of(out)]
    assert [(frame["type"], frame["sequence_number"]) for frame in frames] == [("response.created", 0), ("response.failed", 1)]


@EACH
def test_a_providers_error_keeps_its_words(dialect: Dialect) -> None:
    early = unbegun(dialect.protocol)
    error = UpstreamError(message="Slow down.", type="rate_limit_error", code="rate_limit_exceeded", status=429)
    seen = read(dialect.protocol, early.tell(error, "px-1"))
    assert seen.error.message == "Slow down."
    assert early.observer.error is error
    assert seen.error.type == ("RESOURCE_EXHAUSTED" if dialect.protocol is GEMINI else "rate_limit_error")


def test_the_array_form() -> None:
    early = unbegun(GEMINI, array=True)
    assert early.content_type == b"application/json"
    out = early.keepalive() + early.keepalive()
    assert not out.strip()
    out += early.end(LATE, "px-1")
    (element,) = json.loads(out)
    assert (element["error"]["code"], element["error"]["status"]) == (504, "DEADLINE_EXCEEDED")


def test_its_end_without_an_answer() -> None:
    early = unbegun(GEMINI)
    assert early.conclude(True, "").ending is Ending.TRUNCATED
    lost = early.conclude(False, "reset")
    assert (lost.ending, lost.cause, lost.ended_by) == (Ending.UPSTREAM_LOST, "reset", EndedBy.UPSTREAM)
    assert early.end(None, "px-1") == b""


@EACH
def test_the_answer_goes_on_behind_it(dialect: Dialect) -> None:
    early, relay = unbegun(dialect.protocol), stream(dialect.protocol)
    out = early.keepalive()
    relay.follow(early)
    frames = [dialect.head(), dialect.text(), dialect.terminal() or b""]
    for frame in frames:
        out += relay.feed(frame, 6.0)
    assert out == REGISTRY[dialect.protocol].keepalive + b"".join(frames)
    assert relay.bytes_out == len(out)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.protocol.value)
@given(at=CUTS, spoke=st.booleans(), bom=st.booleans())
def test_a_bom_behind_it_would_hide_the_first_line(dialect: Dialect, at: list[int], spoke: bool, bom: bool) -> None:
    """A BOM is skipped at the beginning of a stream only; where something stands before it already, it is taken out."""
    body = dialect.text("a") + dialect.text("b")
    early, relay = unbegun(dialect.protocol), stream(dialect.protocol)
    before = early.keepalive() if spoke else b""
    relay.follow(early)
    out = before + b"".join(relay.feed(piece, 6.0) for piece in cut(BOM + body if bom else body, at))
    assert out == (before + body if spoke or not bom else BOM + body)
    assert relay.events == 2
    assert relay.bytes_out == len(out)


def test_an_array_goes_on_behind_white_space() -> None:
    early, relay = unbegun(GEMINI, array=True), Relay(GEMINI, array=True)
    out = early.keepalive()
    relay.pipeline.follow(early)
    part = b'{"candidates":[{"content":{"parts":[{"text":"a"}]},"index":0}]}'
    relay.feed(BOM + b"[", part, b"," + part[:10])
    assert [list(e) for e in json.loads(out + relay.given + relay.pipeline.end(LATE, "px-1"))] == [["candidates"], ["error"]]
