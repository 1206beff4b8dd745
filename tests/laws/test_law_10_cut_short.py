"""Law 10: a recorded stream that is cut at any byte before its terminal event is never COMPLETE, and its client is told in its own protocol.

Gemini has no terminal event: before the finish reason nothing is complete, and behind it only a clean end at the end of a frame is.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.protocols import REGISTRY
from penstock.vocabulary.ids import ProtocolId
from penstock.vocabulary.outcome import Ending
from tests.support.corpus import Case
from tests.support.relays import CUTS, FAULT, Relay, cut, data_of, every, frames_of, relayed, zipped
from tests.support.streams import COMPLETE, as_array, complete_at, few, named

GEMINI = ProtocolId.GEMINI
TOLD = [case for case in COMPLETE if len(case.body) < 50_000]


def ended(relay: Relay) -> Ending:
    assert relay.outcome is not None
    return relay.outcome.ending


def told(relay: Relay) -> bool:
    """Does a new observer, reading what the client received, see the error?"""
    observer = REGISTRY[relay.protocol].observer(relay.operation)  # pyright: ignore[reportArgumentType]
    for frame in frames_of(relay.out):
        name, data = data_of(frame)
        if data:
            observer.observe(name, data, 0.0)
    return observer.error is not None and observer.error.message == FAULT.message


@pytest.mark.parametrize(**named(COMPLETE))
@few
@given(data=st.data(), clean=st.booleans())
def test_cut_at_any_byte(case: Case, data: st.DataObject, clean: bool) -> None:
    at = data.draw(st.integers(0, complete_at(case) - 1))
    relay = relayed(case.recording.protocol, cut(case.body[:at], data.draw(CUTS)), clean=clean)
    assert ended(relay) is (Ending.TRUNCATED if clean else Ending.UPSTREAM_LOST)
    # What left before ended with a whole frame, so that the error stands alone and is read.
    assert case.body.startswith(relay.given)
    assert relay.spoke
    if at < 20_000:
        assert told(relay)


@pytest.mark.parametrize(**named(tuple(TOLD)))
def test_cut_at_every_frame_and_within_its_last_bytes(case: Case) -> None:
    end, at = complete_at(case), 0
    for frame in frames_of(case.body):
        at += len(frame)
        for short in (0, 1, 2, 3):
            if at - short < end:
                for clean in (True, False):
                    assert ended(relayed(case.recording.protocol, [case.body[: at - short]], clean=clean)) is not Ending.COMPLETE


@pytest.mark.parametrize("case", [c for c in TOLD if c.recording.protocol is not GEMINI], ids=lambda c: c.name)
@few
@given(data=st.data())
def test_lost_or_cut_behind_the_terminal_event_is_complete(case: Case, data: st.DataObject) -> None:
    at = data.draw(st.integers(complete_at(case), len(case.body)))
    assert ended(relayed(case.recording.protocol, [case.body[:at]], clean=data.draw(st.booleans()))) is Ending.COMPLETE


@pytest.mark.parametrize("case", [c for c in COMPLETE if c.recording.protocol is GEMINI], ids=lambda c: c.recording.name)
def test_gemini_behind_the_finish_reason(case: Case) -> None:
    end = complete_at(case)
    assert case.body[:end].endswith(b"\r\n\r")
    body = case.body[: end + 1] + b'data: {"usageMetadata":{"promptTokenCount":1}}\n\n'
    for at in range(end, len(body) + 1):
        whole = at in (end, end + 1, len(body))
        assert (ended(relayed(GEMINI, [body[:at]])) is Ending.COMPLETE) == whole
        assert ended(relayed(GEMINI, [body[:at]], clean=False)) is Ending.UPSTREAM_LOST


@pytest.mark.parametrize("case", [c for c in TOLD if c.recording.protocol is GEMINI], ids=lambda c: c.recording.name)
@few
@given(data=st.data(), clean=st.booleans())
def test_arrays_are_complete_with_their_bracket(case: Case, data: st.DataObject, clean: bool) -> None:
    body = as_array(case.body)
    at = data.draw(st.integers(0, len(body) - 1))
    relay = relayed(GEMINI, cut(body[:at], data.draw(CUTS)), clean=clean, array=True)
    assert ended(relay) is (Ending.TRUNCATED if clean else Ending.UPSTREAM_LOST)
    assert relay.spoke
    assert json.loads(relay.out)[-1]["error"]["message"] == FAULT.message, "an array that can be read, with the error as its last element"


@pytest.mark.parametrize("case", [c for c in TOLD if c.recording.protocol is GEMINI], ids=lambda c: c.recording.name)
@pytest.mark.parametrize("clean", [True, False])
def test_arrays_that_came_whole(case: Case, clean: bool) -> None:
    assert ended(relayed(GEMINI, every(as_array(case.body), 100), clean=clean, array=True)) is Ending.COMPLETE


@pytest.mark.parametrize(**named(tuple(TOLD)))
@few
@given(data=st.data(), clean=st.booleans())
def test_gzip_cut_at_any_byte(case: Case, data: st.DataObject, clean: bool) -> None:
    """The end of gzip proves nothing more: where the terminal event came out of it, the stream is complete, else it is not."""
    packed = zipped(case.body, 0 if data.draw(st.booleans()) else 6)
    relay = relayed(case.recording.protocol, cut(packed[: data.draw(st.integers(0, len(packed) - 1))], data.draw(CUTS)), gzip=True, clean=clean)
    if not relay.seen.terminal:
        assert ended(relay) in (Ending.TRUNCATED, Ending.UPSTREAM_LOST)
    assert relay.seen.terminal == (case.recording.protocol is not GEMINI and len(relay.given) >= complete_at(case))


@pytest.mark.parametrize("protocol", REGISTRY)
def test_nothing_at_all(protocol: ProtocolId) -> None:
    for chunks in ([], [b""], [b"\n"], [b": comment\n\n"], [b"event: message_stop\n\n"]):
        for clean in (True, False):
            assert ended(relayed(protocol, chunks, clean=clean)) is (Ending.TRUNCATED if clean else Ending.UPSTREAM_LOST)


@given(body=st.binary(max_size=60), delimited=st.booleans(), status=st.sampled_from([200, 201, 404, 529]))
def test_a_body_that_was_lost(body: bytes, delimited: bool, status: int) -> None:
    relay = relayed(ProtocolId.OPENAI_CHAT, [body], clean=False, stream=False, status=status, delimited=delimited)
    assert ended(relay) is (Ending.UPSTREAM_LOST if status < 400 else Ending.UPSTREAM_ERROR)
    assert not relay.spoke


@given(body=st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=5), min_size=1, max_size=3), data=st.data())
def test_a_body_that_ends_with_its_connection_is_not_taken_at_its_word(body: dict[str, object], data: st.DataObject) -> None:
    """Without a length or chunks a clean end proves nothing; that the JSON is cut does."""
    text = json.dumps({"object": "list", **body}).encode()
    at = data.draw(st.integers(1, len(text) - 1))
    assert ended(relayed(ProtocolId.OPENAI_CHAT, [text[:at]], stream=False, delimited=False)) is Ending.TRUNCATED
    assert ended(relayed(ProtocolId.OPENAI_CHAT, [text], stream=False, delimited=False)) is Ending.COMPLETE
