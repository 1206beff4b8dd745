"""What keeps a stream open and means nothing: where it may stand, and that the official clients do not see it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import anthropic._streaming as anthropic_streaming
import httpx
import openai._streaming as openai_streaming
import pytest
from google.genai._api_client import HttpResponse

from penstock.pipeline.body import BodyRelay, OpaqueRelay
from penstock.pipeline.contract import Pipeline, State
from penstock.protocols import REGISTRY
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.wire.budget import Budget
from tests.laws.talk import DIALECTS, Dialect, sse, stream
from tests.support.relays import FAULT, ID, Relay, frames_of, zipped

CHAT, GEMINI, MESSAGES, RESPONSES = (
    ProtocolId.OPENAI_CHAT, ProtocolId.GEMINI, ProtocolId.ANTHROPIC_MESSAGES, ProtocolId.OPENAI_RESPONSES,
)  # fmt: skip
EACH = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.protocol.value)


def still(protocol: ProtocolId) -> bytes:
    return REGISTRY[protocol].keepalive


# Where it may stand.


def measured(relay: Pipeline) -> tuple[object, ...]:
    return relay.events, relay.last_at, relay.first_content_at, relay.last_content_at, relay.largest_gap, relay.begun


@EACH
def test_between_frames_and_counted_as_given_out_alone(dialect: Dialect) -> None:
    relay = stream(dialect.protocol, 10.0)
    seen = measured(relay)
    assert relay.keepalive() == still(dialect.protocol) != b""
    assert relay.bytes_out == len(still(dialect.protocol))
    assert measured(relay) == seen
    assert relay.tail_rows(0.0) == []
    relay.feed(dialect.text(), 11.0)
    relay.feed(dialect.text()[:20], 12.0)
    out = relay.bytes_out
    assert relay.keepalive() == still(dialect.protocol), "what is held of the next frame has not left"
    assert relay.bytes_out == out + len(still(dialect.protocol))


@EACH
def test_nothing_behind_the_terminal_event(dialect: Dialect) -> None:
    terminal = dialect.terminal()
    if terminal is not None:
        relay = stream(dialect.protocol)
        relay.feed(dialect.text() + terminal, 1.0)
        assert relay.keepalive() == b""


def test_nothing_behind_an_error_of_the_providers() -> None:
    relay = stream(CHAT)
    relay.feed(sse({"error": {"message": "m"}}), 1.0)
    assert relay.keepalive() == b""


def over_the_limit() -> Pipeline:
    relay = stream(CHAT, limit=10)
    relay.feed(b"data: " + b"x" * 20, 1.0)
    return relay


def over_the_limit_and_whole_again() -> Pipeline:
    relay = over_the_limit()
    relay.feed(b"\n\n" + Dialect(CHAT).text(), 2.0)
    return relay


def cut() -> Pipeline:
    relay = stream(CHAT)
    relay.state = State.CUT
    return relay


def body() -> Pipeline:
    return BodyRelay(REGISTRY[CHAT].observer(Operation.CHAT), 200, 100, Budget(100), 0.0, keep=True, judged=True, delimited=True)


@pytest.mark.parametrize(
    "make",
    [
        over_the_limit, over_the_limit_and_whole_again, cut, body,
        lambda: stream(CHAT, promised=False),
        lambda: OpaqueRelay(REGISTRY[CHAT].observer(Operation.CHAT), 200, "br", Budget(100), 0.0),
        lambda: Relay(CHAT, coding=b"br").pipeline,
    ],
    ids=["overflowed", "overflowed before", "cut", "body", "nothing promised", "opaque", "opaque stream"],
)  # fmt: skip
def test_nothing_where_nothing_may_be_put_in(make: Callable[[], Pipeline]) -> None:
    relay = make()
    out = relay.bytes_out
    assert (relay.keepalive(), relay.bytes_out) == (b"", out)


def test_a_decoded_stream_is_kept_open_too() -> None:
    relay = Relay(CHAT, gzip=True).feed(zipped(Dialect(CHAT).text())[:-9])
    assert relay.pipeline.keepalive() == still(CHAT)


PART = b'{"candidates":[{"content":{"parts":[{"text":"a"}]},"index":0}]}'
DONE = b'{"candidates":[{"finishReason":"STOP","index":0}]}'


def test_an_array_is_kept_open_with_white_space() -> None:
    relay = Relay(GEMINI, array=True)
    out = relay.pipeline.keepalive()
    for piece in (b" [", PART[:30], PART[30:], b",", PART + b", ", PART[:5]):
        relay.feed(piece)
        out += relay.outs[-1] + relay.pipeline.keepalive()
    assert [list(e) for e in json.loads(out + b"]")] == [["candidates"], ["candidates"]]
    out += relay.pipeline.end(FAULT, ID)
    assert [list(e) for e in json.loads(out)] == [["candidates"], ["candidates"], ["error"]]


@pytest.mark.parametrize("pieces", [[b"[", DONE, b"]"], [b"<html>"], [b'{"error":{"code":500}}']], ids=["closed", "not an array", "an error"])
def test_nothing_in_an_array_that_is_over_or_none(pieces: list[bytes]) -> None:
    assert Relay(GEMINI, array=True).feed(*pieces).pipeline.keepalive() == b""


# The official clients.


def openai_events(out: bytes) -> list[Any]:
    return [(e.event, e.data) for e in openai_streaming.SSEDecoder().iter_bytes(iter([out]))]


def anthropic_events(out: bytes) -> list[Any]:
    """As `Stream.__stream__` takes them."""
    found = anthropic_streaming.SSEDecoder().iter_bytes(iter([out]))
    return [(e.event, e.data) for e in found if e.event is not None and e.event != "ping" and e.data]


def google_events(out: bytes) -> list[Any]:
    def chunks() -> Iterator[bytes]:
        yield out

    return list(HttpResponse(headers={}, response_stream=httpx.Response(200, content=chunks())).segments())


READERS: dict[ProtocolId, Callable[[bytes], list[Any]]] = {
    CHAT: openai_events, RESPONSES: openai_events, MESSAGES: anthropic_events, GEMINI: google_events,
}  # fmt: skip
IDS = [b"", b"id: 7\n", b"retry: 5\n"]


@EACH
@pytest.mark.parametrize("field", IDS)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_the_official_python_clients_see_the_same_events(dialect: Dialect, field: bytes, line_end: bytes) -> None:
    """With an `id:` before it, both OpenAI's and Anthropic's decoders dispatch an event at every empty line, and OpenAI's stream cannot read it."""
    if dialect.protocol is GEMINI and field:
        return  # Google's takes every line but `data:` for JSON, with or without us
    frames = [field + dialect.head(), dialect.text("a"), dialect.text("b"), dialect.terminal() or b""]
    frames = [frame.replace(b"\n", line_end) for frame in frames]
    read = READERS[dialect.protocol]
    expected = read(b"".join(frames))
    assert len(expected) == len([frame for frame in frames if frame])
    for times in (1, 2, 3):
        assert read(b"".join(still(dialect.protocol) * times + frame for frame in frames)) == expected


def go_genai(out: bytes) -> list[bytes]:
    """How Google's Go client reads: pieces that end with two line ends of a kind, empty ones skipped, `data` first in each of the others."""
    found: list[bytes] = []
    while out:
        for end in (b"\n\n", b"\r\n\r\n"):
            if end in out:
                piece, _, out = out.partition(end)
                break
        else:
            piece, out = out, b""
        piece = piece.removesuffix(b"\r")
        if piece:
            assert piece.startswith(b"data:"), piece
            found.append(piece)
    return found


def test_googles_go_client() -> None:
    """It reads what Google sends, with CRLF; an LF alone between two frames it would take for the beginning of a name."""
    frames = [Dialect(GEMINI).text(text).replace(b"\n", b"\r\n") for text in "abc"]
    assert go_genai(b"".join(still(GEMINI) + frame for frame in frames)) == go_genai(b"".join(frames))
    with pytest.raises(AssertionError):
        go_genai(b"".join(b"\n" + frame for frame in frames))


@EACH
def test_our_own_scanner_reads_the_same_events(dialect: Dialect) -> None:
    """A gateway behind a gateway."""
    frames = [dialect.head(), dialect.open(0), dialect.arguments(0, "{}"), dialect.close(0), dialect.text(), dialect.terminal() or b""]
    plain, kept = stream(dialect.protocol), stream(dialect.protocol)
    for frame in frames:
        plain.feed(frame, 1.0)
        kept.feed(still(dialect.protocol), 1.0)
        kept.feed(still(dialect.protocol) + frame, 1.0)
    assert kept.state is plain.state
    assert kept.observer.malformed == kept.observer.unknown == 0
    assert kept.observer.calls == plain.observer.calls == 1


def test_it_is_whole_in_server_sent_events() -> None:
    assert frames_of(still(MESSAGES)) == [still(MESSAGES)]
    assert still(CHAT) == still(RESPONSES)
    assert still(CHAT).startswith(b":")
    assert still(CHAT).count(b"\n") == 1
    assert not still(GEMINI).strip()
