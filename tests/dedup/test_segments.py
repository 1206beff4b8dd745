"""What lies in the log comes back as it was, or not at all; it takes no more than it may, and goes when nobody needs it."""

from __future__ import annotations

import os
import stat
import threading
import time
from io import BytesIO
from pathlib import Path
from random import Random
from weakref import WeakSet

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.dedup import Notes, Reel, SegmentLog, Shelf
from penstock.dedup.notes import is_there, opened
from penstock.dedup.segments import SEGMENT
from penstock.dedup.tape import Tape
from penstock.wire.budget import Budget
from tests.dedup.test_shelf import file_of, files_of, shelf_in, wait_until
from tests.dedup.test_tape import told
from tests.support.kept import failing

MIB = 1 << 20
SMALL = 4096
"""Bytes of a segment."""
FRAME = b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"%d"}}]}\n\n'


def log_in(path: Path | None, most: int = 64 * SMALL, in_memory: int = 32 * SMALL, said: list[str] | None = None, segment: int = SMALL) -> SegmentLog:
    return SegmentLog(path, most, in_memory, (said if said is not None else []).append, segment)


def notes_in(log: SegmentLog, budget: Budget | None = None, shelf: Shelf | None = None, limit: int = 64 * MIB) -> Notes:
    return Notes(limit, log, budget or Budget(64 * MIB), shelf)


def filled(log: SegmentLog, segments: int, stream: Notes | None = None) -> Notes:
    """Another stream's bytes, so many segments of them."""
    other = stream or notes_in(log)
    for _ in range(segments):
        assert other.add(bytes(SMALL - 100)) == b""
    return other


def writers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "penstock-notes-log"}


@given(st.data())
@settings(max_examples=60)
def test_whatever_streams_bring_each_is_told_its_own(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """In memory or in a file, packed or not, kept or running, each is read from anywhere on at any time."""
    on_disk = data.draw(st.booleans())
    path = tmp_path_factory.mktemp("log") if on_disk else None
    shelf = shelf_in(path) if path is not None else None
    log = log_in(path, data.draw(st.integers(4, 40)) * SMALL, data.draw(st.integers(4, 20)) * SMALL)
    budget = Budget(data.draw(st.sampled_from((0, 20_000, 64 * MIB))))
    dice = Random(data.draw(st.integers(0, 1 << 30)))
    running: list[tuple[Notes, bytearray]] = []
    kept: list[tuple[Reel, bytes]] = []
    read: list[tuple[Notes, bytes]] = []
    now = 0.0
    for _ in range(data.draw(st.integers(1, 400))):
        now += dice.random() / 4
        match dice.randrange(12):
            case 0:
                running.append((notes_in(log, budget, shelf, dice.choice((3000, 64 * MIB))), bytearray()))
            case 1 if running:
                notes, text = running.pop(dice.randrange(len(running)))
                reel = None if notes.torn else notes.reel()
                assert notes.torn or (reel is None) is (not text)
                if reel is not None:
                    kept.append((reel, bytes(text)))
                notes.close()
                del notes
            case 2 if kept:
                reel, text = dice.choice(kept)
                if is_there(reel, log):
                    read.append((opened(reel, log, shelf), text))
            case 3 if read:
                del read[dice.randrange(len(read))]
            case 4:
                log.sweep(now, dice.choice((0.0, 5.0)) if not kept else 5.0)
                kept = [one for one in kept if dice.random() < 0.9]
            case 5 if on_disk:
                assert log.flush()
            case _ if running:
                notes, text = dice.choice(running)
                piece = dice.randbytes(dice.choice((1, 7, 100, 300, 3000, 5000, 20_000))) if dice.random() < 0.5 else FRAME % dice.randrange(100)
                rest = notes.add(piece)
                assert piece.endswith(rest)
                assert not rest or notes.torn
                text += piece[: len(piece) - len(rest)]
            case _:
                pass
        for notes, text in (*running[-3:], *read[-3:]):
            start = dice.randrange(len(text) + 1)
            try:
                assert told(notes, dice.choice((1, 1000, MIB)), start) == text[start:]
            except OSError:
                assert notes.torn, "there was no room for it"
        assert log.segments <= 40
    running.clear()
    read.clear()
    del data
    notes = reel = None
    log.sweep(now + 100, 0.0)
    assert (log.holds, log.in_memory) == (False, 0)


def test_a_stream_that_is_longer_than_the_log_is_packed_as_it_goes(tmp_path: Path) -> None:
    log, shelf, budget = log_in(tmp_path), shelf_in(tmp_path), Budget(64 * MIB)
    notes = notes_in(log, budget, shelf)
    reads = [FRAME % n for n in range(12_000)]
    whole = b"".join(reads)
    assert len(whole) > 4 * 64 * SMALL
    for read in reads:
        assert notes.add(read) == b""
        assert log.segments <= 64
        assert log.flush() if log.in_memory > 16 else True
    assert 0 < budget.used < len(whole) / 4
    for start in (0, 1, len(whole) // 2, len(whole) - 100, len(whole)):
        assert told(notes, 50_000, start) == whole[start:]
    reel = notes.reel()
    assert reel is not None
    notes.close()
    assert budget.used == 0
    del notes
    assert told(opened(reel, log, shelf), 50_000) == whole


def test_the_file_has_no_name_is_nobody_elses_and_goes_when_nothing_lies_in_it(tmp_path: Path) -> None:
    place, others = tmp_path / "data", writers()
    log = log_in(place)
    notes = notes_in(log)
    notes.add(b"somebody's answer")
    assert not place.exists(), "made when it is needed"
    for _ in range(2):
        filled(log, 3, notes)
        assert log.flush()
        assert list(place.iterdir()) == []
        fd = file_of(place)
        status = os.fstat(fd)
        assert (status.st_nlink, stat.S_IMODE(status.st_mode) & 0o077, os.get_inheritable(fd)) == (0, 0, False)
        assert b"somebody's answer" in os.pread(fd, 100, 0)
        assert len(writers() - others) == 1
        del notes
        log.sweep(0.0, 0.0)
        wait_until(lambda: not files_of(place))
        wait_until(lambda: not writers() - others)
        assert not log.holds
        notes = notes_in(log)
        notes.add(b"somebody's answer")


def test_what_little_is_noted_never_reaches_the_file(tmp_path: Path) -> None:
    log, others = log_in(tmp_path, segment=SEGMENT), writers()
    for now in range(100):
        notes = notes_in(log)
        notes.add(b"x" * 2000)
        del notes
        log.sweep(float(now), 0.0)
    assert not files_of(tmp_path)
    assert not writers() - others


def test_places_are_used_again(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    for now in range(40):
        filled(log, 10)
        assert log.flush()
        log.sweep(float(now), 2.0)
    assert log.segments < 45
    assert 10 * SMALL <= os.fstat(file_of(tmp_path)).st_size <= 45 * SMALL


def test_what_is_kept_stays_as_long_as_it_may_be_asked_for_and_what_is_read_until_it_is_not() -> None:
    log = log_in(None)
    notes = notes_in(log)
    notes.add(b"an answer")
    now = 0.0

    def later(seconds: float) -> None:
        nonlocal now
        for _ in range(round(seconds)):
            now += 1.0
            filled(log, 1)
            log.sweep(now, 5.0)

    later(3)
    reel = notes.reel()
    assert reel is not None
    del notes
    later(5)
    assert is_there(reel, log)
    slow = opened(reel, log, None)
    assert opened(reel, log, None) is slow, "one for all who read it"
    later(8)
    assert told(slow, 100) == b"an answer"
    del slow
    later(6)
    assert not is_there(reel, log)
    with pytest.raises(OSError, match="not there any more"):
        opened(reel, log, None).read(0, 100)
    assert log.segments < 9


@pytest.mark.parametrize("fault", ["no directory", "full", "half", "mistake"])
def test_a_file_system_that_takes_nothing_is_told_once_and_left_alone_for_a_while(
    tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    said: list[str] = []
    place = tmp_path / "data"
    log = log_in(place, said=said)
    now = [0.0]
    monkeypatch.setattr("penstock.dedup.segments.time.monotonic", lambda: time.perf_counter() + now[0])

    if fault == "no directory":
        place.write_text("a file")
    with monkeypatch.context() as broken:
        if fault != "no directory":
            broken.setattr("penstock.dedup.writer.os.pwrite", failing(fault))
        notes, budget = notes_in(log), Budget(64 * MIB)
        notes.add(b"an answer")
        for _ in range(4):
            filled(log, 4)
            assert log.flush()
            assert log.in_memory == log.segments
            now[0] += 100.0
        assert len(said) == 1, "it is as it was"
        assert str(place) in said[0]
        long = notes_in(log, budget)
        for _ in range(100):
            filled(log, 1, long)
        assert log.segments == log.in_memory == 32, "its bound in memory"
        assert told(notes, 100) == b"an answer", "what is not taken stays in memory"
        assert told(long, MIB) == bytes(100 * (SMALL - 100))
        assert log.flush()
    if fault == "no directory":
        place.unlink()
    now[0] += 100.0
    filled(log, 4, long)
    assert log.flush()
    assert log.in_memory < log.segments
    assert told(long, MIB) == bytes(104 * (SMALL - 100))
    assert len(said) == 1
    monkeypatch.setattr("penstock.dedup.writer.os.pwrite", failing("full"))
    filled(log, 3)
    assert log.flush()
    assert len(said) == 2


def test_where_no_thread_can_be_had_it_stays_in_memory_and_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    said: list[str] = []
    log, now = log_in(tmp_path, said=said), [0.0]
    monkeypatch.setattr("penstock.dedup.segments.time.monotonic", lambda: now[0])
    with monkeypatch.context() as broken:
        broken.setattr("penstock.dedup.writer.threading.Thread.start", start)
        notes = filled(log, 3)
        assert log.in_memory == log.segments == 3
        assert len(said) == 1
    now[0] += 11.0
    filled(log, 3, notes)
    assert log.flush()
    assert log.in_memory < log.segments
    assert told(notes, MIB) == bytes(6 * (SMALL - 100))


def test_a_disk_that_hangs_holds_nobody_up_and_takes_no_more_memory_than_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    write = os.pwrite

    def wait(fd: int, data: memoryview, at: int) -> int:
        go.wait(10.0)
        return write(fd, data, at)

    buffers: WeakSet[BytesIO] = WeakSet()

    class Counted(BytesIO):
        def __init__(self, data: bytes = b"") -> None:
            super().__init__(data)
            buffers.add(self)

    monkeypatch.setattr("penstock.dedup.writer.os.pwrite", wait)
    monkeypatch.setattr("penstock.dedup.segments.BytesIO", Counted)
    log = log_in(tmp_path)
    try:
        notes = notes_in(log)
        began = time.monotonic()
        reads = [FRAME % n for n in range(8000)]
        for read in reads:
            assert notes.add(read) == b""
            assert log.in_memory <= 32
        assert len(buffers) < 32 + 8, "none for which the disk is waited for, and which nobody needs"
        assert time.monotonic() - began < 5.0
        assert told(notes, MIB) == b"".join(reads)
    finally:
        go.set()
    assert log.flush()
    assert told(notes, MIB) == b"".join(reads)


def test_a_disk_that_gets_full_tears_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies in the file then leaves no memory where it goes."""
    log, shelf = log_in(tmp_path, 320 * SMALL, 32 * SMALL), shelf_in(tmp_path)
    streams = [notes_in(log, Budget(64 * MIB), shelf) for _ in range(30)]
    texts = [b""] * 30
    for n in range(40_000):
        if n == 30_000:
            assert log.flush()
            assert log.segments > 310
            monkeypatch.setattr("penstock.dedup.writer.os.pwrite", failing("full"))
        piece = FRAME % n
        assert streams[n % 30].add(piece) == b""
        texts[n % 30] += piece
        if n % 100 == 0:
            assert log.flush()
        assert log.in_memory <= 32 + 320 / 16 + 1
    assert log.segments == log.in_memory == 32
    for stream, text in zip(streams, texts, strict=True):
        assert told(stream, 10_000) == text


@pytest.mark.parametrize("what", ["another segment", "nothing", "half"])
def test_what_was_written_over_is_an_error_and_not_anothers_bytes(tmp_path: Path, what: str) -> None:
    log = log_in(tmp_path)
    mine = notes_in(log)
    mine.add(b"mine" * 1000)
    other = filled(log, 1)
    filled(log, 2, other)
    assert log.flush()
    fd = file_of(tmp_path)
    match what:
        case "another segment":
            os.pwrite(fd, os.pread(fd, SMALL, SMALL), 0)
        case "nothing":
            os.ftruncate(fd, 0)
        case _:
            os.ftruncate(fd, SMALL // 2)
    with pytest.raises(OSError, match="not there any more"):
        told(mine, 10_000)


def test_a_segment_that_cannot_be_read_when_it_goes_tears_what_lies_in_it(tmp_path: Path) -> None:
    log = log_in(tmp_path, 8 * SMALL)
    old = notes_in(log)
    old.add(b"old")
    filled(log, 3)
    late = notes_in(log)
    late.add(b"late")
    filled(log, 2)
    assert log.flush()
    fd = file_of(tmp_path)
    os.pwrite(fd, bytes(100), 0)
    filled(log, 4)
    assert (old.torn, late.torn) == (True, False)
    with pytest.raises(OSError, match="not there any more"):
        old.read(0, 10)
    assert old.add(b"more") == b"more"
    assert told(late, 10) == b"late"


def test_who_has_read_what_there_is_no_room_for_reads_on() -> None:
    log = log_in(None, in_memory=8 * SMALL)
    notes = notes_in(log, Budget(0))
    text, at = b"", 0
    while not notes.torn:  # as others fill the log
        piece = Random(len(text)).randbytes(400)
        assert notes.add(piece) == b""
        text += piece
        data, at = notes.read(at, 10_000)
        assert data == piece
        filled(log, 1)
    filled(log, 2)
    assert notes.add(b"more") == b"more"
    assert notes.read(at, 10_000) == (b"", at)
    assert notes.read(len(text) - 500, 100)[0] == text[-500:-400], "it lies in the log"
    data, after = notes.read(0, 10)
    assert data == text[:after] != b"", "that was packed while there was room"
    with pytest.raises(OSError, match="not there any more"):
        told(notes, 10_000)


def test_threads_may_let_go_at_any_time(tmp_path: Path) -> None:
    """The garbage collector may come by in any of them."""
    log = log_in(tmp_path, 16 * SMALL, 8 * SMALL)
    bin_: list[Notes] = []
    ended = False

    def let_go() -> None:
        while bin_ or not ended:
            if bin_:
                bin_.pop()

    threads = [threading.Thread(target=let_go) for _ in range(3)]
    for thread in threads:
        thread.start()
    held = [(notes_in(log), bytearray()) for _ in range(20)]
    dice = Random(3)
    for n in range(4000):
        bin_.append(notes_in(log))
        piece = dice.randbytes(dice.randrange(1, 200))
        assert held[n % 20][0].add(piece) == b""
        held[n % 20][1].extend(piece)
        if n % 100 == 0:
            log.sweep(float(n), 0.0)
            time.sleep(0.001)
    ended = True
    for thread in threads:
        thread.join()
    assert not any(notes.torn for notes, _ in held)
    assert all(told(notes, 1000) == text for notes, text in held)
    del held
    log.sweep(1e6, 0.0)
    assert not log.holds


def test_an_answer_that_began_long_before_its_first_word_is_kept_as_any() -> None:
    log = log_in(None, in_memory=8 * SMALL)
    notes = notes_in(log)
    filled(log, 20)
    assert notes.add(b"an answer") == b""
    reel = notes.reel()
    assert reel is not None
    del notes
    assert is_there(reel, log)
    assert told(opened(reel, log, None), 100) == b"an answer"
    filled(log, 20)
    assert not is_there(reel, log)


def test_who_is_let_go_late_takes_nothing_from_who_holds_the_same() -> None:
    log = log_in(None)
    notes = notes_in(log)
    notes.add(b"an answer")
    reel = notes.reel()
    assert reel is not None
    reader = Notes(MIB, log, Budget(MIB), None, reel)
    del notes  # as where the collector in another thread has cleared the reference to them, and not ended them yet
    filled(log, 3)
    log.sweep(1.0, 0.0)
    assert told(reader, 100) == b"an answer"
    del reader
    log.sweep(2.0, 0.0)
    assert not log.holds


def test_a_mistake_where_notes_are_packed_ends_these_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def add(self: Tape, reads: list[bytes]) -> None:
        raise ValueError("of ours")

    said: list[str] = []
    log = log_in(None, in_memory=8 * SMALL, said=said)
    notes = notes_in(log)
    for at in range(100):
        assert notes.add(b"%04d" % at * 10) == b""
    with monkeypatch.context() as broken:
        broken.setattr("penstock.dedup.notes.Tape.add", add)
        for _ in range(20):
            filled(log, 1)
    assert notes.torn
    assert said == ["notes of an answer are lost: ValueError"]
    with pytest.raises(OSError, match="not there any more"):
        notes.read(0, 100)
    late = filled(log, 20)
    assert told(late, MIB) == bytes(20 * (SMALL - 100))


@pytest.mark.parametrize("limit", [0, 1000, 5000, 60_000, 400_000])
def test_past_its_limit_nothing_more_is_noted(limit: int) -> None:
    log = log_in(None, in_memory=64 * MIB)
    notes = notes_in(log, limit=limit)
    text = b""
    while not notes.torn:
        piece = FRAME % len(text)
        rest = notes.add(piece)
        text += piece[: len(piece) - len(rest)]
        assert len(text) < 1 << 20
    assert notes.add(b"more") == b"more"
    assert told(notes, 1000) == text
    if limit < 8 * SMALL:
        assert limit - 200 < len(text) <= limit
    else:
        assert limit - SMALL < len(text) <= limit + SMALL


def test_streams_that_go_in_step_are_all_cut_at_the_same_length() -> None:
    """One of them may be the one that fills each segment."""
    log = log_in(None, in_memory=64 * MIB)
    streams = [notes_in(log, limit=100_000) for _ in range(20)]
    piece = bytes((SMALL - 8) // 10 - 12)
    told_to = [0] * 20
    while not all(notes.torn for notes in streams):
        for at, notes in enumerate(streams):
            told_to[at] += len(piece) - len(notes.add(piece))
        assert sum(told_to) < 20 * 200_000
    assert min(told_to) > 100_000 - SMALL
    assert sum(told_to) / 20 < 115_000, "about"


def test_what_is_long_is_found_a_little_at_a_time() -> None:
    log = log_in(None, in_memory=MIB)
    notes, budget = notes_in(log, Budget(64 * MIB)), 0
    reads = [b"%d " % n for n in range(60_000)]
    for read in reads[:50_000]:
        notes.add(read)
    while not notes.ready(1000):
        budget += 1
        for read in reads[50_000 + budget * 10 : 50_010 + budget * 10]:
            notes.add(read)
    assert budget > 20
    text = b"".join([*reads[:50_000], *reads[50_010 : 50_010 + budget * 10]])
    assert told(notes, 10_000) == text
    assert notes.ready(0)


def test_the_thread_of_a_log_that_is_gone_ends(tmp_path: Path) -> None:
    others = writers()
    log = log_in(tmp_path)
    filled(log, 3)
    assert len(writers() - others) == 1
    del log
    wait_until(lambda: not writers() - others)
    assert not files_of(tmp_path)
