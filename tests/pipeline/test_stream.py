"""Own bytes of a stream: what is measured, what the end means, what is said at a bad one. The laws stand in `tests/laws`."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.pipeline.contract import Pipeline, State
from penstock.pipeline.stream import StreamRelay
from penstock.pipeline.tail import TailBytes
from penstock.protocols import REGISTRY
from penstock.protocols.contract import Observer
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.vocabulary.outcome import EndedBy, Ending
from penstock.wire.budget import Budget
from penstock.wire.sse import Scanner
from tests.support.exchanges import CHUNK, DONE, STOP, USAGE
from tests.support.relays import FAULT, ID, Relay, every, frames_of, relayed, zipped

CHAT, GEMINI = ProtocolId.OPENAI_CHAT, ProtocolId.GEMINI
ERROR = b'data: {"error":{"message":"overloaded","code":"x"}}\n\n'


@pytest.mark.parametrize(
    ("pieces", "clean", "ending", "words"),
    [
        ([CHUNK, STOP, DONE], True, Ending.COMPLETE, "terminal event"),
        ([CHUNK, DONE], True, Ending.COMPLETE, "without a stop reason"),
        ([CHUNK, STOP, DONE], False, Ending.COMPLETE, "terminal event"),
        ([CHUNK, STOP], True, Ending.TRUNCATED, "without the terminal event"),
        ([CHUNK, DONE[:-1]], True, Ending.TRUNCATED, "inside a frame (13 bytes"),
        ([], True, Ending.TRUNCATED, "before its first event"),
        ([b": hello\n\n"], True, Ending.TRUNCATED, "before its first event"),
        ([CHUNK, STOP], False, Ending.UPSTREAM_LOST, "the connection was reset"),
        ([CHUNK, ERROR], True, Ending.UPSTREAM_ERROR, "in the stream (x)"),
        ([CHUNK, ERROR], False, Ending.UPSTREAM_ERROR, "in the stream"),
        ([CHUNK, ERROR, DONE], True, Ending.UPSTREAM_ERROR, "in the stream"),
    ],
)
def test_what_the_end_means(pieces: list[bytes], clean: bool, ending: Ending, words: str) -> None:
    relay = relayed(CHAT, pieces, clean=clean)
    assert relay.outcome is not None
    assert relay.outcome.ending is ending
    assert words in relay.outcome.cause
    assert relay.outcome.ended_by is EndedBy.UPSTREAM
    assert relay.spoke is (ending in (Ending.TRUNCATED, Ending.UPSTREAM_LOST))


def test_state() -> None:
    relay = Relay(CHAT).feed(CHUNK, STOP, USAGE)
    assert relay.pipeline.state is State.RUNNING
    assert relay.pipeline.may_speak()
    relay.feed(DONE)
    assert relay.pipeline.state is State.ENDED
    assert not relay.pipeline.may_speak()
    assert (relay.pipeline.deadline(), relay.pipeline.wants()) == (None, [])


def test_an_error_in_band_is_the_last_word() -> None:
    relay = Relay(CHAT).feed(CHUNK, ERROR)
    assert not relay.pipeline.may_speak()
    assert relay.pipeline.end(FAULT, ID) == b""


def measured(relay: Pipeline) -> tuple[int, int, float]:
    return relay.events, relay.bytes_out, relay.largest_gap


def test_what_is_measured() -> None:
    observer = REGISTRY[CHAT].observer(Operation.CHAT)
    relay = StreamRelay(Scanner(1 << 20, Budget(1 << 20)), observer, REGISTRY[CHAT].error_frame, 10.0)
    role = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
    relay.feed(role, 10.5)
    assert relay.first_content_at is None
    relay.feed(b": keep-alive\n\n", 12.5)
    relay.feed(CHUNK[:20], 13.0)
    assert measured(relay) == (1, len(role) + 14, 2.0)
    relay.feed(CHUNK[20:] + STOP, 13.25)
    assert relay.first_content_at == 13.25
    assert measured(relay) == (3, len(role) + 14 + len(CHUNK) + len(STOP), 2.0)
    assert relay.last_at == 13.25
    relay.feed(CHUNK, 14.0)
    assert relay.first_content_at == 13.25
    assert relay.bytes_out == len(role) + 14 + 2 * len(CHUNK) + len(STOP)


def test_what_is_said_counts_as_given_out() -> None:
    relay = Relay(CHAT).feed(CHUNK, b"data: half").finish()
    assert relay.pipeline.bytes_out == len(relay.out)
    relay = Relay(CHAT).feed(DONE, b"data: half").finish()
    assert relay.last == b"data: half"
    assert relay.pipeline.bytes_out == len(relay.out)


@pytest.mark.parametrize("protocol", REGISTRY)
def test_a_bad_end_drops_the_half_frame_and_speaks(protocol: ProtocolId) -> None:
    relay = Relay(protocol).feed(b": c\n\n", b"data: half").finish()
    assert relay.spoke
    assert relay.given == b": c\n\n"
    assert b"half" not in relay.out
    assert FAULT.message.encode() in relay.last
    assert b"".join(frames_of(relay.last)) == relay.last, "whole frames"
    assert relay.budget.used == 0


def test_close_gives_back_and_may_be_called_again() -> None:
    relay = Relay(CHAT).feed(b"data: half")
    assert relay.budget.used == 10
    relay.pipeline.close()
    relay.pipeline.close()
    assert relay.budget.used == 0
    assert relay.pipeline.end(None, ID) == b""


def test_two_usage_frames_and_one_with_choices() -> None:
    with_choices = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}],"usage":{"prompt_tokens":1}}\n\n'
    relay = relayed(CHAT, [CHUNK + USAGE + with_choices + USAGE, USAGE, STOP + DONE], take_usage=True)
    assert relay.out == CHUNK + with_choices + STOP + DONE
    assert relay.outs[1] == b""
    assert relay.pipeline.bytes_out == len(relay.out)


def test_a_usage_frame_in_many_pieces_leaves_no_byte() -> None:
    relay = Relay(CHAT, take_usage=True).feed(*(USAGE[i : i + 3] for i in range(0, len(USAGE), 3)))
    assert relay.given == b""
    assert relay.feed(DONE).given == DONE


def test_frames_that_are_equal_are_told_apart() -> None:
    """One of two frames in one chunk goes and its twin, which is the same bytes object by chance, is judged for itself."""
    relay = relayed(CHAT, [USAGE + USAGE + STOP + STOP + DONE], take_usage=True)
    assert relay.out == STOP + STOP + DONE


# The array form.


PART = b'{"candidates":[{"content":{"parts":[{"text":"a"}]},"index":0}]}'
LAST = b'{"candidates":[{"finishReason":"STOP","index":0}]}'


@pytest.mark.parametrize(
    ("body", "ending", "spoke", "last"),
    [
        (b"[" + PART + b",\n" + LAST + b"]", Ending.COMPLETE, False, b""),
        (b"[" + PART + b",\n" + LAST + b"\n]\n", Ending.COMPLETE, False, b""),
        (b"[" + PART + b",\n" + LAST, Ending.TRUNCATED, True, b",E]"),
        (b"[" + PART + b",\n" + LAST[:-3], Ending.TRUNCATED, True, b",E]"),
        (b"[" + PART, Ending.TRUNCATED, True, b",E]"),
        (b"[", Ending.TRUNCATED, True, b"[E]"),
        (b"", Ending.TRUNCATED, True, b"[E]"),
        (b" [\n", Ending.TRUNCATED, True, b"[E]"),
        (b"[" + PART + b"]", Ending.TRUNCATED, True, b",E]"),  # the bracket of a broken answer waits, and the error takes its place
        (b"[" + PART + b"\n,\n]\n", Ending.TRUNCATED, True, b",E]"),
        (b"[]", Ending.TRUNCATED, True, b"[E]"),
        (b"[" + PART + b"]" + b" " * 2000, Ending.TRUNCATED, False, b""),  # more than is held behind it
        (b"[" + LAST[:-1] + b',"x":"]"}]', Ending.COMPLETE, False, b""),
        (b"<html>", Ending.UNVERIFIED, False, b""),
        (b'[{"error":{"code":503,"message":"m","status":"UNAVAILABLE"}}]', Ending.UPSTREAM_ERROR, False, b""),
        (b'{"error":{"code":503,"message":"m","status":"UNAVAILABLE"}}', Ending.UPSTREAM_ERROR, False, b""),
    ],
)
def test_arrays(body: bytes, ending: Ending, spoke: bool, last: bytes) -> None:
    relay = relayed(GEMINI, [body], array=True)
    assert relay.outcome is not None
    assert relay.outcome.ending is ending
    assert relay.spoke is spoke
    element = REGISTRY[GEMINI].error_element
    assert element is not None
    assert relay.last == last.replace(b"E", element(FAULT, ID))
    assert relay.pipeline.bytes_out == len(relay.out)
    for other in (relayed(GEMINI, every(body, 1), array=True), relayed(GEMINI, every(zipped(body), 3), gzip=True, array=True)):
        assert (other.out, other.spoke, other.pipeline.bytes_out) == (relay.out, spoke, len(relay.out))
    if spoke:
        assert json.loads(relay.out)[-1]["error"]["code"] == 502
    else:
        assert relay.out == body


@pytest.mark.parametrize("size", [1, 7, 4096])
@pytest.mark.parametrize("gzip", [False, True])
def test_the_bracket_of_an_array_is_its_terminal_event(size: int, gzip: bool) -> None:
    """A provider that lingers behind it keeps nobody waiting for a timer; nor does what is missing of the gzip."""
    body = b"[" + PART + b",\n" + LAST + b"\n]"
    sent = zipped(body)[:-8] if gzip else body
    relay = Relay(GEMINI, array=True, gzip=gzip)
    for piece in (sent[at : at + size] for at in range(0, len(sent), size)):
        relay.feed(piece)
        assert relay.pipeline.state is (State.ENDED if relay.out == body else State.RUNNING)
    assert relay.pipeline.conclude(True, "").ending is Ending.COMPLETE
    assert relay.out == body


@pytest.mark.parametrize("body", [b"[" + PART + b"]", b"[]", b"[" + LAST, b"[" + LAST + b",", LAST, b"<]>"])
def test_no_other_bracket_is(body: bytes) -> None:
    assert Relay(GEMINI, array=True).feed(body).pipeline.state is State.RUNNING


class Broken(Observer):
    """An observer with a bug."""

    __slots__ = ()

    def observe(self, name: bytes, data: bytes, now: float) -> int:
        raise RuntimeError("a bug")

    def observe_body(self, body: bytes) -> None:
        raise RuntimeError("a bug")


def test_a_failing_observer_is_counted_and_nothing_is_claimed() -> None:
    """What nobody could read is neither complete nor truncated."""
    relay = relayed(CHAT, [CHUNK, STOP, DONE], observer=Broken())
    assert relay.given == CHUNK + STOP + DONE
    assert isinstance(relay.pipeline, StreamRelay)
    assert relay.pipeline.failures == 3
    assert relay.outcome is not None
    assert relay.outcome.ending is Ending.UNVERIFIED
    assert not relay.spoke


# Providers that never send the last frame.


def repaired(pieces: list[bytes], *, clean: bool = True) -> tuple[bytes, Ending, str]:
    relay = StreamRelay(
        Scanner(1 << 20, Budget(1 << 20)), REGISTRY[CHAT].observer(Operation.CHAT), REGISTRY[CHAT].error_frame, 0.0, closing=REGISTRY[CHAT].closing
    )
    out = b"".join(relay.feed(piece, 1.0) for piece in pieces)
    outcome = relay.conclude(clean, "the connection was reset")
    whole = outcome.ending is Ending.COMPLETE
    out += relay.end(None if whole else FAULT, ID)
    assert relay.bytes_out == len(out)
    assert relay.end(None, ID) == b"", "never twice"
    return out, outcome.ending, outcome.cause


def test_a_finish_reason_and_a_clean_end_are_completed() -> None:
    out, ending, cause = repaired([CHUNK, STOP, USAGE])
    assert out == CHUNK + STOP + USAGE + b"data: [DONE]\n\n"
    assert (ending, cause) == (Ending.COMPLETE, "finish reason, and nothing behind it; [DONE] added")


def test_a_stream_that_has_its_last_frame_gets_no_second() -> None:
    assert repaired([CHUNK, STOP, DONE]) == (CHUNK + STOP + DONE, Ending.COMPLETE, "terminal event")


SECOND = CHUNK.replace(b'"index":0', b'"index":1')


@pytest.mark.parametrize(
    ("pieces", "clean", "ending"),
    [
        ([CHUNK], True, Ending.TRUNCATED),
        ([], True, Ending.TRUNCATED),
        ([b": x\n\n"], True, Ending.TRUNCATED),
        ([SECOND, STOP], True, Ending.TRUNCATED),  # of two answers one is finished
        ([CHUNK, STOP, CHUNK[:-1]], True, Ending.TRUNCATED),
        ([CHUNK, STOP], False, Ending.UPSTREAM_LOST),
        ([CHUNK, ERROR, STOP], True, Ending.UPSTREAM_ERROR),
    ],
)
def test_nothing_else_is_completed(pieces: list[bytes], clean: bool, ending: Ending) -> None:
    assert SECOND != CHUNK
    out, found, _ = repaired(pieces, clean=clean)
    assert found is ending
    assert b"[DONE]" not in out


def test_without_the_option_it_is_truncated() -> None:
    relay = relayed(CHAT, [CHUNK, STOP])
    assert relay.outcome is not None
    assert relay.outcome.ending is Ending.TRUNCATED
    assert b"[DONE]" not in relay.out


def test_what_has_begun() -> None:
    relay = Relay(CHAT)
    for piece, begun in ((b": hello\n\n", False), (b"\n", False), (CHUNK[:-1], False), (CHUNK[-1:], True)):
        assert relay.feed(piece).pipeline.begun is begun
    assert relay.pipeline.last_content_at == relay.pipeline.first_content_at == relay.now
    relay.feed(b": x\n\n")
    assert relay.pipeline.last_content_at != relay.now
    failed = Relay(CHAT).feed(ERROR)
    assert failed.pipeline.begun
    assert failed.seen.error is not None
    assert failed.pipeline.first_content_at is None
    body = Relay(CHAT, stream=False)
    assert not body.pipeline.begun
    assert body.feed(b"{").pipeline.begun


READS = st.lists(
    st.sampled_from([
        CHUNK, STOP, USAGE, CHUNK[:-1], CHUNK + CHUNK, b"data: [DO", b"NE]\n\n", b"\n", b"\n\n", b"\r", b"\r\n",
        b"event: ping\ndata: {}\n\n", b"event: x\ndata:y\n\n", b"event:x\ndata: y\n\n", b"data: a\ndata: b\n\n",
        b": still here\n\n", b"data: \n\n", b"event: only\n\n", b"data: a\r\n\r\n", b"data: \r\n\n",
        b"event: \ndata: {}\n\n", b"id: 7\ndata: {}\n\n", b"data: {}\n\n\n", b"event: a\nevent: b\n\n", b"", DONE,
    ]),
    max_size=12,
)  # fmt: skip


@given(READS, st.booleans())
def test_a_read_that_is_one_frame_is_read_as_any_other_is(reads: list[bytes], take_usage: bool) -> None:
    quick, thorough = (
        StreamRelay(
            Scanner(200, Budget(1000)), REGISTRY[CHAT].observer(Operation.CHAT), REGISTRY[CHAT].error_frame, 0.0, take_usage=take_usage, kept=kept,
        )
        for kept in (None, TailBytes())
    )  # fmt: skip
    for now, data in enumerate(reads, 1):
        assert quick.feed(data, now) == thorough.feed(data, now)
        for what in ("events", "bytes_out", "failures", "state", "first_content_at", "last_content_at", "last_at"):
            assert getattr(quick, what) == getattr(thorough, what), what
    assert quick.tail_rows(0.0) == thorough.tail_rows(0.0)
    assert quick.observer.malformed == thorough.observer.malformed
    assert quick.conclude(True, "") == thorough.conclude(True, "")


def test_the_bracket_of_an_array_that_a_policy_has_closed_stays_behind() -> None:
    relay = Relay(GEMINI, array=True).feed(b'[{"candidates":[{"index":0}]}\n', b"]")
    assert relay.out == b'[{"candidates":[{"index":0}]}'
    pipeline = relay.pipeline
    assert isinstance(pipeline, StreamRelay)
    assert pipeline.may_speak()
    assert pipeline.stop([(b"", b'{"candidates":[]}')]) + pipeline.end(None, "px-1") == b',{"candidates":[]}]'
