"""Which mode an answer gets, from its head."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from penstock.pipeline.array_relay import ArrayRelay, DecodedArray
from penstock.pipeline.body import BodyRelay, OpaqueRelay
from penstock.pipeline.compose import Answer, Limits, Mode, compose
from penstock.pipeline.decoded import DecodedBody, DecodedStream
from penstock.pipeline.stream import StreamRelay
from penstock.pipeline.tail import TailBytes
from penstock.protocols import REGISTRY
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.vocabulary.outcome import Ending
from penstock.wire.budget import Budget
from tests.support.relays import Relay, zipped

PLAIN = Answer(Operation.GENERATE, 200, b"application/json", b"", delimited=True, stream_asked=False, array=False)
SSE = replace(PLAIN, content_type=b"text/event-stream", stream_asked=True)
ARRAY = replace(PLAIN, stream_asked=True, array=True)


def mode(answer: Answer) -> Mode:
    return compose(answer, REGISTRY[ProtocolId.GEMINI], Limits(), Budget(1 << 20), 0.0)


@pytest.mark.parametrize(
    ("answer", "kind", "streamed", "decoded"),
    [
        (SSE, StreamRelay, True, False),
        (replace(SSE, content_type=b"text/event-stream; charset=utf-8"), StreamRelay, True, False),
        (replace(SSE, stream_asked=False), StreamRelay, True, False),
        (replace(SSE, content_type=b""), StreamRelay, True, False),  # a server that says nothing, to a client that asked for a stream
        (replace(SSE, content_type=b"", stream_asked=False), BodyRelay, False, False),
        (replace(SSE, content_type=b"text/plain; charset=utf-8", operation=Operation.CHAT), StreamRelay, True, False),  # or knows no better word
        (replace(SSE, content_type=b"application/octet-stream", operation=Operation.CHAT), StreamRelay, True, False),
        (replace(SSE, content_type=b"text/plain", operation=Operation.CHAT, stream_asked=False), BodyRelay, False, False),
        (replace(SSE, content_type=b"text/plain", operation=Operation.AUDIO), BodyRelay, False, False),
        (replace(SSE, coding=b"identity"), StreamRelay, True, False),
        (replace(SSE, coding=b"gzip"), DecodedStream, True, True),
        (replace(SSE, coding=b"x-gzip"), DecodedStream, True, True),
        (replace(SSE, coding=b"br"), OpaqueRelay, True, False),
        (replace(SSE, coding=b"gzip, br"), OpaqueRelay, True, False),
        (replace(SSE, status=500), BodyRelay, False, False),
        (replace(SSE, content_type=b"text/html"), BodyRelay, False, False),
        (PLAIN, BodyRelay, False, False),
        (replace(PLAIN, coding=b"gzip"), DecodedBody, False, True),
        (replace(PLAIN, coding=b"zstd"), OpaqueRelay, False, False),
        (replace(PLAIN, stream_asked=True), BodyRelay, False, False),  # asked for a stream and answered whole: passed on whole
        (ARRAY, ArrayRelay, True, False),
        (replace(ARRAY, content_type=b"application/json; charset=utf-8"), ArrayRelay, True, False),
        (replace(ARRAY, content_type=b"text/event-stream"), StreamRelay, True, False),
        (replace(ARRAY, coding=b"gzip"), DecodedArray, True, True),
        (replace(ARRAY, status=400), BodyRelay, False, False),
        (replace(ARRAY, content_type=b"text/html"), BodyRelay, False, False),
        (replace(ARRAY, content_type=b""), BodyRelay, False, False),
    ],
)
def test_modes(answer: Answer, kind: type, streamed: bool, decoded: bool) -> None:
    made = mode(answer)
    assert type(made.pipeline) is kind
    assert (made.streamed, made.decoded) == (streamed, decoded)


def test_the_framing_of_gemini_is_what_its_head_says() -> None:
    """Asked for an array, answered with events: events they are."""
    relay = (
        Relay(ProtocolId.GEMINI, array=True, content_type=b"text/event-stream").feed(b'data: {"candidates":[{"finishReason":"STOP"}]}\n\n').finish()
    )
    assert relay.seen.stop_reason == "STOP"
    assert relay.outcome is not None
    assert relay.outcome.ending == "COMPLETE"


def test_limits_reach_their_places() -> None:
    limits = Limits(frame=7, body=9)
    assert Relay(ProtocolId.OPENAI_CHAT, limits=limits).feed(b"data: 12345").pipeline.conclude(True, "").ending == "UNVERIFIED"
    budget = Budget(100)
    Relay(ProtocolId.OPENAI_CHAT, stream=False, limits=limits, budget=budget).feed(b"x" * 9)
    assert budget.used == 9
    relay = Relay(ProtocolId.OPENAI_CHAT, stream=False, gzip=True, limits=limits, budget=budget).feed(zipped(b"x" * 10))
    assert budget.used == 9
    assert relay.given == b"x" * 10


def test_what_a_stream_is_given_to_say() -> None:
    chat, gemini = REGISTRY[ProtocolId.OPENAI_CHAT], REGISTRY[ProtocolId.GEMINI]
    assert compose(SSE, chat, Limits(), Budget(100), 0.0).pipeline.keepalive() == chat.keepalive
    array = replace(ARRAY, operation=Operation.GENERATE)
    assert not compose(array, gemini, Limits(), Budget(100), 0.0).pipeline.keepalive().strip()
    assert compose(PLAIN, chat, Limits(), Budget(100), 0.0).pipeline.keepalive() == b""


@pytest.mark.parametrize("repaired", [True, False])
def test_a_provider_that_never_closes_its_streams(repaired: bool) -> None:
    relay = compose(replace(SSE, operation=Operation.CHAT, repaired=repaired), REGISTRY[ProtocolId.OPENAI_CHAT], Limits(), Budget(1000), 0.0).pipeline
    relay.feed(b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n', 1.0)
    assert relay.conclude(True, "").ending is (Ending.COMPLETE if repaired else Ending.TRUNCATED)
    assert relay.end(None, "px-1") == (b"data: [DONE]\n\n" if repaired else b"")


def test_the_last_bytes_are_kept_where_that_is_asked() -> None:
    kept = TailBytes()
    relay = compose(SSE, REGISTRY[ProtocolId.OPENAI_CHAT], Limits(), Budget(1000), 0.0, kept).pipeline
    relay.feed(b"data: half", 1.0)
    assert relay.tail_bytes() == kept.get() == b"data: half"
    relay.close()
