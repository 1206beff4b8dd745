"""A law beside the ten: keep-alives may be put in wherever a feed ends, and the client reads the same events; none is ever inside a frame, none
behind the end."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.pipeline.contract import State
from penstock.protocols import REGISTRY
from penstock.vocabulary.ids import ProtocolId
from tests.laws.talk import DIALECTS, Dialect, stream
from tests.support.corpus import Case
from tests.support.relays import CUTS, FAULT, ID, Relay, cut
from tests.support.streams import as_array, few, named, of, small

EACH = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.protocol.value)
BEHIND_A_FRAME = re.compile(rb"(?:\A|(?>\r\n|\n|\r))(?:\r\n|\n|\r)\Z")
"""An empty line is over, or could be."""
LINE = re.compile(r"\r\n|\n|\r")
PING = "ping"


def dispatched(out: bytes) -> list[tuple[str, str]]:
    """The events of a stream, read to the letter of WHATWG HTML, 9.2.6."""
    events: list[tuple[str, str]] = []
    name, data = "", list[str]()
    for line in LINE.split(out.decode().removeprefix("\ufeff"))[:-1]:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                events.append((name, "\n".join(data)))
            name, data = "", []
        elif field == "event":
            name = value
        elif field == "data":
            data.append(value)
    return events


def meant(out: bytes) -> list[tuple[str, str]]:
    """Without pings, which every client of Messages skips."""
    return [event for event in dispatched(out) if event[0] != PING]


@st.composite
def answers(draw: st.DrawFn, dialect: Dialect) -> bytes:
    """Frames of one protocol in any order, with any line ends, and what may stand between."""
    frames = [dialect.head(), dialect.text(), dialect.text("\u2028\n"), dialect.open(0), dialect.arguments(0), dialect.close(0), *dialect.pings()]
    frames += [b"id: 1\ndata: {}\n\n", b"data\n\n", b"event: x\n\n", b"data: [\ndata: ]\n\n"]
    body = b""
    for frame in draw(st.lists(st.sampled_from(frames), max_size=6)):
        body += frame.replace(b"\n", draw(st.sampled_from([b"\n", b"\r\n", b"\r"])))
    return body + draw(st.sampled_from([b"", b"data: hal", b"\r"]))


@EACH
@given(data=st.data(), at=CUTS, at_start=st.booleans())
def test_the_client_reads_the_same(dialect: Dialect, data: st.DataObject, at: list[int], at_start: bool) -> None:
    body = data.draw(answers(dialect))
    relay, plain = stream(dialect.protocol), stream(dialect.protocol)
    still = REGISTRY[dialect.protocol].keepalive
    out = relay.keepalive() if at_start else b""
    given_out = b""
    for piece in cut(body, at):
        left = relay.feed(piece, 1.0)
        given_out += left
        assert plain.feed(piece, 1.0) == left, "they change nothing of what is relayed"
        word = relay.keepalive() * data.draw(st.integers(0, 2))
        if word:
            assert word in (still, still * 2)
            assert given_out == b"" or BEHIND_A_FRAME.search(given_out), "never inside a frame"
        out += left + word
    assert meant(out) == meant(given_out)
    assert relay.observer.tools.keys() == plain.observer.tools.keys()
    assert relay.last_content_at == plain.last_content_at
    if relay.may_speak():
        last = relay.end(FAULT, ID)
        assert meant(out + last) == meant(given_out) + meant(last)


@pytest.mark.parametrize(**named(small()))
@few
@given(at=CUTS)
def test_recorded_streams(case: Case, at: list[int]) -> None:
    relay = stream(case.recording.protocol)
    out = b""
    for piece in cut(case.body, at):
        out += relay.keepalive() + relay.feed(piece, 1.0)
        if relay.state is State.ENDED:
            assert relay.keepalive() == b""
    assert meant(out + relay.end(None, ID)) == meant(case.body)


@pytest.mark.parametrize("case", of(ProtocolId.GEMINI), ids=lambda c: c.recording.name)
@few
@given(at=CUTS)
def test_arrays(case: Case, at: list[int]) -> None:
    body = as_array(case.body)
    relay = Relay(ProtocolId.GEMINI, array=True)
    out = relay.pipeline.keepalive()
    for piece in cut(body, at):
        relay.feed(piece)
        out += relay.outs[-1] + relay.pipeline.keepalive()
    assert json.loads(out + relay.finish().last) == json.loads(body)
