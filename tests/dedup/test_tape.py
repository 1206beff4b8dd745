"""A tape gives back every byte, in whatever reads they came, and stays small where a stream repeats itself."""

from __future__ import annotations

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


def told(tape: Tape, most: int) -> bytes:
    out, at = b"", 0
    while at < tape.count:
        piece, after = tape.read(at, most)
        assert after > at
        out, at = out + piece, after
    return out


@given(st.lists(st.lists(st.one_of(WORDS, st.binary(min_size=1, max_size=300)), min_size=1, max_size=9), max_size=20), st.integers(1, 2000))
@example([[b"x"] * 9] * 9, 3)
@example([[FRAME] * 2, [FRAME * 3]], 3)
def test_every_read_comes_back(batches: list[list[bytes]], most: int) -> None:
    budget = Budget(MIB)
    tape = Tape(MIB, budget)
    for batch in batches:
        tape.add(batch)
    reads = [read for batch in batches for read in batch]
    assert tape.count >= len(reads), "frames that came together may be told apart"
    assert b"".join(tape.read_one(index) for index in range(tape.count)) == b"".join(reads)
    assert told(tape, most) == b"".join(reads)
    assert tape.size == budget.used
    tape.close()
    assert budget.used == 0
    assert told(tape, most) == b"".join(reads), "who has it still reads it"


def test_a_first_read_that_is_unlike_the_others_is_forgotten() -> None:
    """It ends as they do, so they fit beside it; what they have in common with each other is far more."""
    frame = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"%d","logprobs":[],"content_index":0}\n\n'
    reads = [b'event: response.created\ndata: {"type":"response.created","delta":"x","logprobs":[],"content_index":0}\n\n']
    reads += [frame % number for number in range(400)]
    tape = Tape(MIB, Budget(MIB))
    for read in reads:
        tape.add([read])
    assert told(tape, 4096) == b"".join(reads)
    assert tape.size < sum(map(len, reads)) / 6


def test_frames_that_come_together_take_no_more_room() -> None:
    """A provider, or a slow host, sends some of them in one read."""
    for front in (b'data: {"id":"c1","choices":[{"delta":{"content":"', b'data: {"id":"c1","number":%d,"choices":[{"delta":{"content":"'):
        frames = [(front % number if b"%d" in front else front) + b'%x"},"finish_reason":null}]}\n\n' % number for number in range(600)]
        sizes: list[int] = []
        for at_once in (1, 2, 3, 7):
            tape = Tape(MIB, Budget(MIB))
            for at in range(0, len(frames), at_once):
                tape.add([b"".join(frames[at : at + at_once])])
            assert told(tape, 4096) == b"".join(frames)
            sizes.append(tape.size)
        assert max(sizes) <= sizes[0] + LUMP


def test_it_tears_at_its_limit_or_the_budgets_and_keeps_what_it_has() -> None:
    for tape in (Tape(10_000, Budget(MIB)), Tape(MIB, Budget(10_000))):
        reads = [bytes([index % 256]) * 100 for index in range(400)]
        for at in range(0, 400, 8):
            tape.add(reads[at : at + 8])
        assert tape.torn
        assert 0 < tape.count < 400
        assert told(tape, 1000) == b"".join(reads[: tape.count])
        assert tape.size <= 10_000 + 2 * LUMP


def test_a_recorded_stream_takes_a_fraction_of_its_bytes() -> None:
    """Frame by frame, as they come: what a gateway holds for each running stream."""
    ratios: list[float] = []
    for stream in cases():
        frames = [frame + b"\n\n" for frame in stream.body.split(b"\n\n") if frame]
        if len(frames) < 100:
            continue
        tape = Tape(64 * MIB, Budget(64 * MIB))
        for frame in frames:
            tape.add([frame])
        assert told(tape, 4096) == b"".join(frames)
        ratios.append(tape.size / sum(map(len, frames)))
    assert ratios
    assert min(ratios) < 0.25
    assert sorted(ratios)[len(ratios) // 2] < 0.6
    assert max(ratios) < 1.1, "where nothing recurs"
