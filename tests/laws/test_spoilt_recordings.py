"""Laws 1, 2, 3 and 5 on recordings that were spoilt on the way: bits flipped, slices lost, said twice or moved, frames in another order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.protocols import REGISTRY
from penstock.vocabulary.ids import ProtocolId
from penstock.wire.budget import Budget
from penstock.wire.sse import Scanner
from tests.support.corpus import Case, distinct
from tests.support.fuzz import CUTS, bytewise, marred, split, tries
from tests.support.relays import Relay, frames_of, relayed, zipped
from tests.support.streams import as_array

GEMINI = ProtocolId.GEMINI
CASES: dict[ProtocolId, tuple[Case, ...]] = {p: tuple(c for c in distinct() if c.recording.protocol is p) for p in REGISTRY}
SPICE = st.sampled_from([
    b"\n", b"\n\n", b"\r", b"\r\n", b"\r\n\r\n", b"\r\r\n", b"data:", b"data: [DONE]\n\n", b": c\n\n", b"event: error\n", b"id: 1\nretry: 9\n",
    b"event: ping\ndata: {}\n\n", b'data: {"error": {"message": "m"}}\n\n', b"data: null\n\n", b"data: []\n\n", b'"', b"\\", b"{", b"}", b"[", b"]",
    b",", b"\xff", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\0", b"1e999", b"[" * 3000,
])  # fmt: skip


@st.composite
def spoilt(draw: st.DrawFn, protocol: ProtocolId, *, array: bool = False) -> bytes:
    """A recording, with its frames in another order or not, and then harmed."""
    frames = frames_of(draw(st.sampled_from(CASES[protocol])).body)
    if len(frames) > 12:  # not always all of a long one
        start = draw(st.integers(0, len(frames) - 6))
        frames = frames[: draw(st.integers(0, 4))] + frames[start : start + draw(st.integers(4, 40))] + frames[-draw(st.integers(1, 4)) :]
    for _ in range(draw(st.integers(0, 3))):
        one, other = draw(st.integers(0, len(frames) - 1)), draw(st.integers(0, len(frames) - 1))
        frames[one], frames[other] = frames[other], frames[one]
    stream = b"".join(frames)
    return draw(marred(as_array(stream) if array else stream, SPICE))


def complete(prefix: bytes) -> int:
    """Bytes up to the last empty line, where lines end with CRLF, LF or CR."""
    at = end = 0
    for line in prefix.splitlines(keepends=True):
        at += len(line)
        if not line.strip(b"\r\n"):
            end = at
    return end


def sound(relay: Relay) -> None:
    assert getattr(relay.pipeline, "failures", 0) == 0, "an observer raised"


@pytest.mark.parametrize("protocol", REGISTRY)
@tries(2)
@given(data=st.data(), cuts=CUTS)
def test_lossless_and_prompt(protocol: ProtocolId, data: st.DataObject, cuts: list[int]) -> None:
    stream = data.draw(spoilt(protocol))
    relay, seen = Relay(protocol), 0
    for piece in split(stream, cuts):
        relay.feed(piece)
        seen += len(piece)
        assert len(relay.given) == complete(stream[:seen])
        assert stream.startswith(relay.given)
    assert relay.given + relay.pipeline.end(None, "px") == stream
    sound(relay)


@pytest.mark.parametrize("protocol", REGISTRY)
@tries(2)
@given(data=st.data(), cuts=CUTS, clean=st.booleans(), sink=st.booleans())
def test_chunk_blind_and_total(protocol: ProtocolId, data: st.DataObject, cuts: list[int], clean: bool, sink: bool) -> None:
    stream = data.draw(spoilt(protocol))
    one, other = (relayed(protocol, pieces, clean=clean, sink=sink) for pieces in ([stream], split(stream, cuts)))
    assert one.facts() == other.facts()
    assert one.out == other.out
    assert one.out.startswith(stream[: complete(stream)])
    sound(one)
    sound(other)
    assert one.budget.used == other.budget.used == 0


@pytest.mark.parametrize("protocol", REGISTRY)
@tries(0.5)
@given(data=st.data())
def test_byte_by_byte(protocol: ProtocolId, data: st.DataObject) -> None:
    stream = data.draw(spoilt(protocol))[:6000]
    one, other = (relayed(protocol, pieces) for pieces in ([stream], bytewise(stream)))
    assert one.facts() == other.facts()
    assert one.out == other.out


@tries(4)
@given(data=st.data(), cuts=CUTS, clean=st.booleans(), sink=st.booleans())
def test_arrays(data: st.DataObject, cuts: list[int], clean: bool, sink: bool) -> None:
    stream = data.draw(spoilt(GEMINI, array=True))
    pieces = split(stream, cuts)
    one, other = (relayed(GEMINI, chunks, clean=clean, sink=sink, array=True) for chunks in ([stream], pieces))
    assert one.facts() == other.facts()
    assert one.out == other.out
    relay, seen = Relay(GEMINI, array=True), b""
    for piece in pieces:
        relay.feed(piece)
        seen += piece
        assert relay.given == Relay(GEMINI, array=True).feed(seen).given, "what has left depends on what has come, not on how it came"
    assert relay.given + relay.pipeline.end(None, "px") == stream
    for each in (one, other, relay):
        sound(each)


@pytest.mark.parametrize("protocol", REGISTRY)
@tries(1)
@given(data=st.data(), cuts=CUTS, clean=st.booleans())
def test_spoilt_and_then_packed(protocol: ProtocolId, data: st.DataObject, cuts: list[int], clean: bool) -> None:
    stream = data.draw(spoilt(protocol))
    plain, packed = relayed(protocol, [stream], clean=clean), relayed(protocol, split(zipped(stream), cuts), clean=clean, gzip=True)
    facts = packed.facts()
    assert plain.facts() | {"outcome": None} == facts | {"outcome": None}
    assert plain.given == packed.given
    sound(packed)


@pytest.mark.parametrize("protocol", REGISTRY)
@tries(2)
@given(data=st.data(), cuts=CUTS, limit=st.integers(1, 3000))
def test_the_scanner_alone(protocol: ProtocolId, data: st.DataObject, cuts: list[int], limit: int) -> None:
    """Frames and events are those of the whole, at any limit; names and data are what the WHATWG's rules say of each frame's bytes."""
    stream = data.draw(spoilt(protocol))
    budget = Budget(1 << 24)
    one, other = Scanner(limit, budget), Scanner(limit, budget)
    whole = one.feed(stream)
    pieces = [frame for piece in split(stream, cuts) for frame in other.feed(piece)]
    for scanner, frames in ((one, whole), (other, pieces)):
        assert b"".join(raw for _, _, raw in frames) + scanner.tail() == stream
        assert len(scanner.tail()) == scanner.held <= limit
    assert [(name, text) for name, text, _ in whole if text is not None] == [(name, text) for name, text, _ in pieces if text is not None]
    if limit > len(stream):
        assert [(name, text) for name, text, _ in whole if text is not None] == read(stream)
    one.close()
    other.close()
    assert budget.used == 0


def read(stream: bytes) -> list[tuple[bytes, bytes]]:
    """The WHATWG's rules, line by line."""
    found: list[tuple[bytes, bytes]] = []
    name, lines = b"", list[bytes]()
    for line in stream.removeprefix(b"\xef\xbb\xbf").splitlines(keepends=True):
        text = line.rstrip(b"\r\n")
        if len(text) == len(line):
            break
        field, _, value = text.partition(b":")
        value = value.removeprefix(b" ")
        if not text:
            if lines:
                found.append((name, b"\n".join(lines)))
            name, lines = b"", []
        elif field == b"data":
            lines.append(value)
        elif field == b"event":
            name = value
    return found
