"""A tape gives back every byte, in whatever reads they came, and stays small where a stream repeats itself."""

from __future__ import annotations

from random import Random
from typing import Protocol

from hypothesis import example, given
from hypothesis import strategies as st

from penstock.dedup.tape import LUMP, Tape
from penstock.wire.budget import Budget
from tests.support.corpus import cases

MIB = 1 << 20
TEXTS = (b"", b"a", b'\\"', b"longer words", b'"', b'","item":"0123456789012345","delta":"', b"long " * 60)
FRAME = b'data: {"id":"c1","choices":[{"delta":{"content":"a"}}]}\n\n'
WORDS = st.sampled_from(
    [b'data: {"id":"c1","choices":[{"delta":{"content":"%b"}}]}\n\n' % word for word in TEXTS]
    + [b'data: {"number":%d,"item":"0123456789012345","delta":"%b"}\n\n' % (at, word) for at in (0, 9, 10, 10**15) for word in TEXTS]
)


class Readable(Protocol):
    def read(self, start: int, most: int) -> tuple[bytes, int]: ...


def told(tape: Readable, most: int, at: int = 0) -> bytes:
    out = b""
    while True:
        piece, after = tape.read(at, most)
        assert after == at + len(piece)
        if not piece:
            return out
        out, at = out + piece, after


@given(st.lists(st.lists(st.one_of(WORDS, st.binary(min_size=1, max_size=300)), min_size=1, max_size=9), max_size=20), st.integers(1, 2000))
@example([[b"x"] * 9] * 9, 3)
@example([[FRAME] * 2, [FRAME * 3]], 3)
def test_every_read_comes_back(batches: list[list[bytes]], most: int) -> None:
    budget = Budget(MIB)
    tape = Tape(MIB, budget)
    for batch in batches:
        tape.add(batch)
    whole = b"".join(read for batch in batches for read in batch)
    assert tape.length == tape.reel().packed == len(whole)
    for start in {0, len(whole) // 3, len(whole) // 2, max(0, len(whole) - 1), len(whole)}:
        assert told(tape, most, start) == told(tape.reel(), most, start) == whole[start:]
    pieces = [len(b"".join(batch)) for batch in batches]
    assert len(tape.read(0, most)[0]) <= max([most, *pieces])
    assert told(tape.reel(), most) == whole
    assert tape.size == budget.used
    assert tape.reel().size <= tape.size
    tape.close()
    assert budget.used == 0
    assert told(tape, most) == whole, "who has it still reads it"


def test_a_first_read_that_is_unlike_the_others_is_forgotten() -> None:
    """It is no example of what follows."""
    frame = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"%d","logprobs":[],"content_index":0}\n\n'
    reads = [b'event: response.created\ndata: {"type":"response.created","delta":"x","logprobs":[],"content_index":0}\n\n']
    reads += [frame % number for number in range(400)]
    tape = Tape(MIB, Budget(MIB))
    for at in range(0, len(reads), 8):
        tape.add(reads[at : at + 8])
    assert told(tape, 4096) == b"".join(reads)
    assert tape.size < sum(map(len, reads)) / 6


def test_what_changes_is_learned_again() -> None:
    """Text, then a call, then text: each takes little room, whatever came first."""
    kinds = [
        b'data: {"id":"c1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"%d"},"finish_reason":null}]}\n\n',
        b'data: {"id":"c1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"%d"}}]},"logprobs":null}]}\n\n',
    ]
    reads = [kinds[number // 800 % 2] % number for number in range(3200)]
    tape = Tape(MIB, Budget(MIB))
    for at in range(0, len(reads), 8):
        tape.add(reads[at : at + 8])
    assert told(tape, 4096) == b"".join(reads)
    assert tape.size < sum(map(len, reads)) / 6


def test_it_tears_at_its_limit_or_the_budgets_and_keeps_what_it_has() -> None:
    for tape in (Tape(10_000, Budget(MIB)), Tape(MIB, Budget(10_000))):
        dice = Random(5)
        reads = [dice.randbytes(100) for _ in range(400)]
        for at in range(0, 400, 8):
            tape.add(reads[at : at + 8])
        assert tape.torn
        assert 0 < tape.length < 50 * 800
        assert told(tape, 1000) == b"".join(reads)[: tape.length]
        assert tape.length % 800 == 0
        assert tape.size <= 10_000 + LUMP
        tape.add([b"more"])
        assert told(tape, 1000) == b"".join(reads)[: tape.length]


def test_a_recorded_stream_takes_a_fraction_of_its_bytes() -> None:
    """Eight frames at a time, as they are noted: what a gateway holds for each running stream."""
    ratios: list[float] = []
    for stream in cases():
        frames = [frame + b"\n\n" for frame in stream.body.split(b"\n\n") if frame]
        if len(frames) < 100:
            continue
        tape = Tape(64 * MIB, Budget(64 * MIB))
        for at in range(0, len(frames), 8):
            tape.add(frames[at : at + 8])
        assert told(tape, 4096) == b"".join(frames)
        ratios.append(tape.size / sum(map(len, frames)))
    assert ratios
    assert min(ratios) < 0.25
    assert sorted(ratios)[len(ratios) // 2] < 0.45
    assert max(ratios) < 1.1, "where nothing recurs"


def test_what_is_over_may_go_on() -> None:
    """Behind what is on a reel, byte for byte, and from a budget of its own."""
    first, second = ([FRAME + b"%d" % n for n in range(at, at + 300)] for at in (0, 300))
    whole = b"".join([*first, *second])
    tape = Tape(MIB, Budget(MIB))
    for at in range(0, 300, 6):
        tape.add(first[at : at + 6])
    budget = Budget(MIB)
    other = Tape.of(tape.reel(), budget)
    assert (other.length, budget.used) == (tape.length, 0)
    for at in range(0, 300, 7):
        other.add(second[at : at + 7])
    assert told(other, 1000) == told(other.reel(), 1000) == whole
    assert budget.used == other.size > 0
    other.close()
    other.add([b"more"])
    assert budget.used == 0
    assert told(other, 1000) == whole + b"more"
    assert told(tape, 1000) == b"".join(first)
