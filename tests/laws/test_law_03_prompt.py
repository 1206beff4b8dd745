"""Law 3: each frame leaves in the feed that completes it, and none before it is whole."""

from __future__ import annotations

import itertools
import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.vocabulary.ids import ProtocolId
from tests.support.corpus import Case
from tests.support.relays import CUTS, Relay, cut, data_of, frames_of
from tests.support.streams import as_array, few, named, small

SOUP = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b"data: {}", b"data: [DONE]", b": c", b"event: e", b"\xff", b"\n\n", b"\r\r\n"]), max_size=16
).map(b"".join)


def complete(prefix: bytes) -> int:
    """Bytes of `prefix` up to the last empty line in it, by the WHATWG's rules: lines end with CRLF, LF or CR."""
    at = end = 0
    for line in prefix.splitlines(keepends=True):
        at += len(line)
        if line.strip(b"\r\n") == b"":
            end = at
    return end


@given(stream=SOUP, at=CUTS)
def test_any_line_ends(stream: bytes, at: list[int]) -> None:
    relay, seen = Relay(ProtocolId.OPENAI_CHAT), 0
    for chunk in cut(stream, at):
        relay.feed(chunk)
        seen += len(chunk)
        assert len(relay.given) == complete(stream[:seen])


@pytest.mark.parametrize(**named(small()))
@few
@given(at=CUTS)
def test_recordings(case: Case, at: list[int]) -> None:
    relay, seen = Relay(case.recording.protocol), 0
    for chunk in cut(case.body, at):
        relay.feed(chunk)
        seen += len(chunk)
        assert len(relay.given) == complete(case.body[:seen])
    assert seen == len(case.body)


@pytest.mark.parametrize(**named(small()))
def test_a_frame_waits_for_its_last_byte_and_for_no_other(case: Case) -> None:
    """All but one byte of a frame: nothing leaves. That byte: all of it leaves, and has been observed."""
    relay = Relay(case.recording.protocol)
    for number, frame in enumerate(frames_of(case.body), 1):
        body, end = (frame[:-2], frame[-2:]) if frame.endswith(b"\r\n") else (frame[:-1], frame[-1:])
        assert relay.feed(body).outs[-1] == b""
        assert relay.feed(end).outs[-1] == frame
        assert relay.pipeline.events <= number


@given(
    elements=st.lists(
        st.dictionaries(st.sampled_from(["a", "b"]), st.text(max_size=5) | st.lists(st.integers(0, 9), max_size=2)), min_size=1, max_size=5
    ),
    gap=st.sampled_from([b",", b",\r\n", b" ,\n"]),
    at=CUTS,
)
def test_elements_of_an_array(elements: list[object], gap: bytes, at: list[int]) -> None:
    pieces = [json.dumps(e).encode() for e in elements]
    body = b"[" + gap.join(pieces) + b"]"
    ends = list(itertools.accumulate(len(piece) + len(gap) for piece in pieces))
    ends = [1 + end - len(gap) for end in ends]
    relay, seen = Relay(ProtocolId.GEMINI, array=True), 0
    for chunk in cut(body, at):
        relay.feed(chunk)
        seen += len(chunk)
        left = [end for end in ends if end <= seen]
        assert len(relay.given) == max(left, default=0)  # no element is a finish: the bracket is no event, and waits for the end
        assert relay.pipeline.events == len(left)


@pytest.mark.parametrize("case", [c for c in small() if c.recording.protocol is ProtocolId.GEMINI], ids=lambda c: c.recording.name)
def test_recorded_elements(case: Case) -> None:
    relay = Relay(ProtocolId.GEMINI, array=True)
    body, at = as_array(case.body), 0
    for frame in frames_of(case.body):
        end = body.index(data_of(frame)[1], at) + len(data_of(frame)[1])
        relay.feed(body[at : end - 1])
        before = len(relay.given)
        relay.feed(body[end - 1 : end])
        assert before < len(relay.given) == end
        at = end


@pytest.mark.parametrize(**named(small()))
def test_gzip_gives_out_what_each_flush_of_the_provider_completes(case: Case) -> None:
    squeeze = zlib.compressobj(6, zlib.DEFLATED, 31)
    relay = Relay(case.recording.protocol, gzip=True)
    for frame in frames_of(case.body):
        relay.feed(squeeze.compress(frame) + squeeze.flush(zlib.Z_SYNC_FLUSH))
        assert relay.outs[-1] == frame


def test_the_chunk_itself_is_handed_on_where_nothing_is_changed() -> None:
    relay = Relay(ProtocolId.OPENAI_CHAT)
    chunk = b'data: {"choices":[]}\n\n' * 3
    relay.feed(chunk)
    assert relay.outs[-1] is chunk
