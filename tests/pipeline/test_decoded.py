"""Answers that come gzipped although identity was asked for."""

from __future__ import annotations

import zlib

import pytest

from penstock.pipeline.contract import State
from penstock.vocabulary.ids import ProtocolId
from penstock.vocabulary.outcome import Ending
from tests.support.exchanges import CHUNK, DONE, STOP
from tests.support.relays import Relay, every, relayed, zipped

CHAT, GEMINI = ProtocolId.OPENAI_CHAT, ProtocolId.GEMINI
STREAM = CHUNK + STOP + DONE


def ending(relay: Relay) -> Ending:
    assert relay.outcome is not None
    return relay.outcome.ending


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_a_stream(size: int) -> None:
    relay = relayed(CHAT, every(zipped(STREAM), size), gzip=True)
    assert relay.out == STREAM
    assert ending(relay) is Ending.COMPLETE
    assert relay.pipeline.events == 3
    assert relay.pipeline.bytes_out == len(STREAM)


def test_each_event_leaves_with_the_flush_that_completes_it() -> None:
    squeeze = zlib.compressobj(6, zlib.DEFLATED, 31)
    relay = Relay(CHAT, gzip=True)
    for frame in (CHUNK, STOP, DONE):
        relay.feed(squeeze.compress(frame) + squeeze.flush(zlib.Z_SYNC_FLUSH))
        assert relay.outs[-1] == frame


def test_several_members() -> None:
    relay = relayed(CHAT, every(zipped(CHUNK) + zipped(STOP + DONE) + b"\0\0", 7), gzip=True)
    assert relay.out == STREAM


@pytest.mark.parametrize(
    ("body", "clean", "found", "words"),
    [
        (zipped(CHUNK + STOP)[:-4], True, Ending.UPSTREAM_LOST, "gzipped body ended before its end"),
        (zipped(CHUNK + STOP), True, Ending.TRUNCATED, "without the terminal event"),
        (zipped(CHUNK + STOP)[:-4], False, Ending.UPSTREAM_LOST, "the connection was reset"),
        (zipped(STREAM)[:-4], True, Ending.COMPLETE, "terminal event"),  # what counts came
        (b"", True, Ending.TRUNCATED, "before its first event"),
    ],
)
def test_cut_short(body: bytes, clean: bool, found: Ending, words: str) -> None:
    relay = relayed(CHAT, [body], gzip=True, clean=clean)
    assert ending(relay) is found
    assert relay.outcome is not None
    assert words in relay.outcome.cause


@pytest.mark.parametrize(
    "body", [STREAM, zipped(CHUNK + STOP) + b"trailing", b"\x1f\x8b\x08\xff" + b"\xff" * 40, zipped(STREAM)[:-8] + b"\0" * 8]
)
def test_what_is_not_gzip_breaks(body: bytes) -> None:
    relay = Relay(CHAT, gzip=True).feed(body)
    assert relay.pipeline.state is State.BROKEN
    assert STREAM.startswith(relay.given), "what could be decoded before has left"
    assert relay.feed(b"more").outs[-1] == b""


@pytest.mark.parametrize("size", [1, 1000])
def test_what_is_not_gzip_behind_the_terminal_event_changes_nothing(size: int) -> None:
    relay = relayed(CHAT, every(zipped(STREAM) + b"trailing", size), gzip=True)
    assert relay.pipeline.state is State.ENDED
    assert (relay.out, ending(relay)) == (STREAM, Ending.COMPLETE)


def test_bodies() -> None:
    body = b'{"id":"c1","model":"m","choices":[],"usage":{"prompt_tokens":3}}'
    relay = relayed(CHAT, every(zipped(body), 9), gzip=True, stream=False)
    assert relay.out == body
    assert (relay.seen.usage.input, ending(relay)) == (3, Ending.COMPLETE)
    short = relayed(CHAT, [zipped(body)[:-3]], gzip=True, stream=False)
    assert ending(short) is Ending.UPSTREAM_LOST
    assert short.budget.used == 0
    error = relayed(CHAT, [zipped(b'{"error":{"message":"no"}}')], gzip=True, stream=False, status=400)
    assert error.seen.error is not None
    assert error.seen.error.message == "no"


def test_arrays() -> None:
    body = b'[{"candidates":[{"finishReason":"STOP"}]}]'
    relay = relayed(GEMINI, every(zipped(body), 3), gzip=True, array=True)
    assert (relay.out, ending(relay)) == (body, Ending.COMPLETE)


def test_the_usage_frame_is_taken_out_of_gzip_too() -> None:
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n'
    assert relayed(CHAT, every(zipped(CHUNK + usage + DONE), 4), gzip=True, take_usage=True).out == CHUNK + DONE
