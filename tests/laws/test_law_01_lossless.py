"""Law 1: what leaves, and what is held, are together what came; for any bytes, in any chunks, in every mode."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.pipeline.compose import Limits
from penstock.protocols import REGISTRY
from penstock.vocabulary.ids import ProtocolId
from penstock.wire.budget import Budget
from tests.support.corpus import Case, cases
from tests.support.relays import CUTS, Relay, cut, every, relayed, zipped
from tests.support.streams import as_array, damaged, few, named, small

GEMINI = ProtocolId.GEMINI


@pytest.mark.parametrize(**named(cases()))
def test_recordings_in_whole_and_in_pieces(case: Case) -> None:
    sizes = (len(case.body), 7, 1) if len(case.body) < 50_000 else (len(case.body), 1009)
    for size in sizes:
        assert relayed(case.recording.protocol, every(case.body, size)).out == case.body


@pytest.mark.parametrize(**named(small()))
@few
@given(at=CUTS)
def test_recordings_in_any_chunks(case: Case, at: list[int]) -> None:
    relay = relayed(case.recording.protocol, cut(case.body, at))
    assert relay.given == case.body
    assert relay.last == b""


@pytest.mark.parametrize("protocol", REGISTRY)
@given(data=st.data())
def test_any_bytes_and_what_is_held(protocol: ProtocolId, data: st.DataObject) -> None:
    """Where nothing of ours is said, the tail follows; so whatever came has left."""
    stream = data.draw(damaged(protocol) | st.binary(max_size=80))
    relay = Relay(protocol).feed(*cut(stream, data.draw(CUTS)))
    assert stream.startswith(relay.given)
    assert relay.given + relay.pipeline.end(None, "px") == stream


@pytest.mark.parametrize("protocol", REGISTRY)
@given(data=st.data(), limit=st.integers(1, 300), budget=st.integers(0, 300))
def test_any_bytes_whatever_may_be_held(protocol: ProtocolId, data: st.DataObject, limit: int, budget: int) -> None:
    """Limits decide what is understood, never what is passed on."""
    stream = data.draw(damaged(protocol))
    relay = Relay(protocol, limits=Limits(frame=limit), budget=Budget(budget)).feed(*cut(stream, data.draw(CUTS)))
    assert relay.given + relay.pipeline.end(None, "px") == stream


@pytest.mark.parametrize("case", [c for c in small() if c.recording.protocol is GEMINI], ids=lambda c: c.recording.name)
@few
@given(at=CUTS)
def test_arrays_in_any_chunks(case: Case, at: list[int]) -> None:
    body = as_array(case.body)
    assert relayed(GEMINI, cut(body, at), array=True).out == body


VALUES: st.SearchStrategy[object] = st.recursive(
    st.none() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)


@given(
    elements=st.lists(VALUES, max_size=5),
    gap=st.sampled_from([",", ",\r\n", " , ", "\n,\n\n"]),
    tail=st.sampled_from(["", "]", " ]\n", "] x", "}", '"', "{"]),
    at=CUTS,
    limit=st.integers(1, 60) | st.just(1 << 20),
)  # fmt: skip
def test_any_array(elements: list[object], gap: str, tail: str, at: list[int], limit: int) -> None:
    body = ("[" + gap.join(json.dumps(e) for e in elements) + tail).encode()
    relay = Relay(GEMINI, array=True, limits=Limits(frame=limit)).feed(*cut(body, at))
    assert relay.given + relay.pipeline.end(None, "px") == body


@pytest.mark.parametrize(**named(small()))
@few
@given(at=CUTS, level=st.integers(0, 9))
def test_gzip_leaves_as_what_it_holds(case: Case, at: list[int], level: int) -> None:
    relay = relayed(case.recording.protocol, cut(zipped(case.body, level), at), gzip=True)
    assert relay.mode.decoded
    assert relay.out == case.body


@given(
    body=st.binary(max_size=200), at=CUTS, status=st.sampled_from([200, 404, 500]), clean=st.booleans(), coding=st.sampled_from([b"", b"gzip", b"br"])
)
def test_bodies(body: bytes, at: list[int], status: int, clean: bool, coding: bytes) -> None:
    """A body that is no stream leaves as it comes, read or not; nothing is ever put behind it."""
    sent = zipped(body) if coding == b"gzip" else body
    relay = relayed(ProtocolId.OPENAI_CHAT, cut(sent, at), clean=clean, stream=False, status=status, coding=coding)
    assert relay.out == body
    assert relay.last == b""
