"""Law 2: any chunking gives the same events and the same facts: usage, stop reason, tools, outcome."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.protocols import REGISTRY
from penstock.vocabulary.ids import ProtocolId
from penstock.vocabulary.outcome import Ending
from tests.support.corpus import Case, cases, figures
from tests.support.relays import CUTS, OPERATIONS, cut, every, relayed, zipped
from tests.support.streams import as_array, damaged, few, named, small


@pytest.mark.parametrize(**named(small()))
@few
@given(at=CUTS, sink=st.booleans())
def test_recordings(case: Case, at: list[int], sink: bool) -> None:
    protocol = case.recording.protocol
    assert relayed(protocol, cut(case.body, at), sink=sink).facts() == relayed(protocol, [case.body], sink=sink).facts()


@pytest.mark.parametrize(**named(cases()))
def test_the_facts_are_those_of_the_recording(case: Case) -> None:
    """Whole or in pieces: what the body states, as it was read without any of this code."""
    for size in (len(case.body), 509):
        relay = relayed(case.recording.protocol, every(case.body, size))
        assert relay.outcome is not None
        assert relay.outcome.ending == case.expected["outcome"]
        facts = relay.facts()
        assert (facts["stop"], facts["id"], facts["model"]) == tuple(case.expected.get(key) for key in ("stop_reason", "response_id", "model"))
        usage: dict[str, int] = case.expected.get("usage") or {}
        assert figures(facts["usage"]) == usage
        assert facts["open"] == {}


@pytest.mark.parametrize("protocol", REGISTRY)
@given(data=st.data(), clean=st.booleans(), sink=st.booleans())
def test_damaged_streams(protocol: ProtocolId, data: st.DataObject, clean: bool, sink: bool) -> None:
    stream = data.draw(damaged(protocol))
    one, other = (relayed(protocol, chunks, clean=clean, sink=sink) for chunks in (cut(stream, data.draw(CUTS)), [stream]))
    assert one.facts() == other.facts()
    assert one.out == other.out


@pytest.mark.parametrize("protocol", REGISTRY)
@given(data=st.data())
def test_asking_for_neutral_events_changes_no_fact(protocol: ProtocolId, data: st.DataObject) -> None:
    """The quick way of reading, which is taken where nobody asks, sees what the other one sees."""
    stream = data.draw(damaged(protocol))
    quick, told = (relayed(protocol, [stream], sink=sink).facts() for sink in (False, True))
    for facts in (quick, told):
        del facts["told"]
        # What is not read is not checked either: arguments that come in pieces are put together for events only, and broken UTF-8 in
        # a field that is skipped is not seen.
        del facts["malformed"]
    assert quick == told


@pytest.mark.parametrize("case", [c for c in small() if c.recording.protocol is ProtocolId.GEMINI], ids=lambda c: c.recording.name)
@few
@given(at=CUTS)
def test_both_framings_of_gemini_say_the_same(case: Case, at: list[int]) -> None:
    array = relayed(ProtocolId.GEMINI, cut(as_array(case.body), at), array=True, sink=True).facts()
    events = relayed(ProtocolId.GEMINI, [case.body], sink=True).facts()
    assert array.pop("outcome").ending == events.pop("outcome").ending == Ending.COMPLETE  # the causes name the framing
    assert array == events


@pytest.mark.parametrize(**named(small()))
@few
@given(at=CUTS)
def test_gzip(case: Case, at: list[int]) -> None:
    protocol = case.recording.protocol
    assert relayed(protocol, cut(zipped(case.body), at), gzip=True).facts() == relayed(protocol, [case.body]).facts()


def test_every_registered_protocol_is_held_to_these_laws() -> None:
    assert set(OPERATIONS) == set(REGISTRY) == {case.recording.protocol for case in small()}
