"""What lies on a shelf comes back as it was, or not at all; and its places are used again."""

from __future__ import annotations

import errno
import gc
import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.dedup import Claim, Form, MemoryAnswers, Reel, Room, Shelf
from penstock.dedup.shelf import Piece
from penstock.dedup.tape import Tape
from penstock.wire.budget import Budget
from tests.dedup.test_store import asked, ids, kept, text_of
from tests.dedup.test_tape import told
from tests.support.kept import BytesAnswers, Full, failing, wanted

MIB = 1 << 20
FRAME = b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"%d"}}]}\n\n'


def shelf_in(path: Path, most: int = 64 * MIB, told: list[str] | None = None) -> Shelf:
    return Shelf(path, most, (told if told is not None else []).append)


def files_of(path: Path) -> list[int]:
    """The descriptors of open files in `path`."""
    found: list[int] = []
    for fd in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if str(path) in str(fd.readlink()):
                found.append(int(fd.name))
    return found


def file_of(path: Path) -> int:
    """Of the only one."""
    (fd,) = files_of(path)
    return fd


def reel_of(shelf: Shelf | None, reads: list[bytes]) -> Reel:
    tape = Tape(MIB, Budget(MIB), shelf)
    for at in range(0, len(reads), 6):
        tape.add(reads[at : at + 6])
    assert not tape.torn
    return tape.reel()


def written(shelf: Shelf, what: bytes) -> Piece:
    piece = shelf.put(what)
    assert shelf.flush()
    return piece


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5.0
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@given(st.data())
@settings(max_examples=40)
def test_whatever_is_put_and_given_back_each_piece_is_its_own(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    shelf = shelf_in(tmp_path_factory.mktemp("shelf"))
    dice = Random(data.draw(st.integers(0, 1 << 30)))
    held: list[tuple[Piece, bytes]] = []
    for step in range(data.draw(st.integers(1, 60))):
        if held and dice.random() < 0.45:
            del held[dice.randrange(len(held))]
        else:
            what = dice.randbytes(dice.choice((0, 1, 500, 504, 505, 3000, 20_000, 70_000)))
            piece = shelf.put(what, step)
            assert piece.mark == step
            held.append((piece, what))
            del piece
        if dice.random() < 0.1:
            assert shelf.flush()
        for piece, what in held:
            assert piece.read() == what
            del piece
    assert shelf.flush()
    assert all(piece.read() == what and not piece.in_memory for piece, what in held)
    del data
    assert shelf.pieces == len(held)


def test_several_threads_let_go_while_pieces_are_written(tmp_path: Path) -> None:
    """The garbage collector may come by in any of them."""
    shelf = shelf_in(tmp_path)
    bin_: deque[Piece] = deque()
    ended = False

    def let_go() -> None:
        while bin_ or not ended:
            with suppress(IndexError):
                bin_.popleft()

    threads = [threading.Thread(target=let_go) for _ in range(3)]
    for thread in threads:
        thread.start()
    held: list[tuple[Piece, bytes]] = []
    for n in range(20_000):
        what = b"%d " % n * (1 + n % 300)
        if n % 40 == 0:
            held.append((shelf.put(what), what))
        else:
            bin_.append(shelf.put(what))
        if n % 1000 == 0:
            assert all(one.read() == text for one, text in held)
            time.sleep(0.02)
    ended = True
    for thread in threads:
        thread.join()
    assert shelf.flush()
    assert all(one.read() == text for one, text in held)
    wait_until(lambda: shelf.pieces == len(held))


def test_the_file_has_no_name_is_nobody_elses_and_goes_when_nothing_lies_in_it(tmp_path: Path) -> None:
    shelf = shelf_in(tmp_path / "data")
    assert not (tmp_path / "data").exists(), "made when it is needed"
    for _ in range(2):
        piece = written(shelf, b"somebody's answer")
        assert list((tmp_path / "data").iterdir()) == []
        fd = file_of(tmp_path / "data")
        status = os.fstat(fd)
        assert (status.st_nlink, stat.S_IMODE(status.st_mode) & 0o077, os.get_inheritable(fd)) == (0, 0, False)
        assert b"somebody's answer" in os.pread(fd, 100, 0)
        assert "penstock-notes" in {thread.name for thread in threading.enumerate()}
        del piece
        wait_until(lambda: not files_of(tmp_path / "data"))
        assert shelf.pieces == 0


def test_places_are_used_again(tmp_path: Path) -> None:
    shelf = shelf_in(tmp_path)
    stays = written(shelf, b"x")
    for _ in range(30):
        pieces = [shelf.put(bytes(2000)) for _ in range(200)]
        assert shelf.flush()
        del pieces
    assert 100_000 < os.fstat(file_of(tmp_path)).st_size <= 202 * 2048
    assert stays.read() == b"x"


def test_past_its_bound_pieces_stay_in_memory(tmp_path: Path) -> None:
    shelf = shelf_in(tmp_path, 8192)
    pieces = [written(shelf, b"%d" % n * 2000) for n in range(5)]
    assert [piece.in_memory for piece in pieces] == [False] * 4 + [True]
    assert [piece.read() for piece in pieces] == [b"%d" % n * 2000 for n in range(5)]
    del pieces[0]
    assert not written(shelf, bytes(1600)).in_memory


@pytest.mark.parametrize("fault", ["no directory", "full", "half", "mistake"])
def test_a_file_system_that_takes_nothing_is_told_once_and_left_alone_for_a_while(
    tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    said: list[str] = []
    place = tmp_path / "data"
    shelf = shelf_in(place, told=said)
    now = [0.0]
    monkeypatch.setattr("penstock.dedup.shelf.time.monotonic", lambda: time.perf_counter() + now[0])

    if fault == "no directory":
        place.write_text("a file")
    with monkeypatch.context() as broken:
        if fault != "no directory":
            broken.setattr("penstock.dedup.shelf.os.pwrite", failing(fault))
        reads = [FRAME % at for at in range(300)]
        reels = [reel_of(shelf, reads) for _ in range(10)]
        assert shelf.flush()
        wait_until(lambda: len(said) == 1)
        assert str(place) in said[0]
        for _ in range(3):
            now[0] += 100.0
            assert written(shelf, b"another try").in_memory
            time.sleep(0.05)  # the thread finds a mistake behind that
        assert len(said) == 1, "it is as it was"
        assert {told(reel, 1000) for reel in reels} == {b"".join(reads)}, "what is not taken stays in memory"
    if fault == "no directory":
        place.unlink()
    now[0] += 100.0
    piece = written(shelf, b"x" * 100)
    assert (piece.in_memory, piece.read()) == (False, b"x" * 100)
    assert len(said) == 1
    monkeypatch.setattr("penstock.dedup.shelf.os.pwrite", failing("full"))
    assert written(shelf, b"y" * 100).in_memory
    wait_until(lambda: len(said) == 2)


def test_where_no_thread_can_be_had_it_stays_in_memory_and_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    shelf = shelf_in(tmp_path)
    monkeypatch.setattr("penstock.dedup.shelf.threading.Thread.start", start)
    first = shelf.put(b"first")
    assert first.read() == b"first"
    monkeypatch.undo()
    second = written(shelf, b"second")
    assert (first.in_memory, second.in_memory) == (False, False)
    assert first.read() == b"first"


def test_what_was_written_over_is_an_error_and_not_anothers_bytes(tmp_path: Path) -> None:
    shelf = shelf_in(tmp_path)
    first, second = written(shelf, b"mine" * 100), written(shelf, b"yours" * 80)
    fd = file_of(tmp_path)
    os.pwrite(fd, os.pread(fd, 512, 512), 0)
    assert second.read() == b"yours" * 80
    with pytest.raises(OSError, match="not there any more"):
        first.read()
    os.ftruncate(fd, 100)
    with pytest.raises(OSError, match="not there any more"):
        second.read()


# -- tapes and kept answers ------------------------------------------------------------------------------------------------------------------


def test_a_tape_holds_no_more_in_memory_however_long_it_is(tmp_path: Path) -> None:
    shelf = shelf_in(tmp_path)
    tape = Tape(64 * MIB, Budget(64 * MIB), shelf)
    reads = [FRAME % at for at in range(30_000)]
    most = 0
    for at in range(0, len(reads), 6):
        tape.add(reads[at : at + 6])
        most = max(most, sum(map(len, tape._packs)))  # pyright: ignore[reportPrivateUsage]
    assert most < 4096
    assert shelf.flush()
    assert 15 < shelf.pieces < 45, "each takes some memory of its own"
    whole = b"".join(reads)
    for start in (0, 1, 77, 1_000_003, len(whole) - 1):
        assert told(tape, 500_000, start) == whole[start:]
    reel = tape.reel()
    assert sum(map(len, reel.packs)) < 4096
    assert shelf.flush()
    assert told(reel, 100_000) == whole
    del tape, reel
    gc.collect()
    assert shelf.pieces == 0


@given(st.lists(st.lists(st.binary(min_size=1, max_size=900), min_size=1, max_size=5), max_size=30), st.integers(1, 3000))
def test_every_read_comes_back_from_the_shelf(tmp_path_factory: pytest.TempPathFactory, batches: list[list[bytes]], most: int) -> None:
    shelf = shelf_in(tmp_path_factory.mktemp("shelf"))
    tape = Tape(MIB, Budget(MIB), shelf)
    whole = b""
    for batch in batches:
        tape.add(batch)
        whole += b"".join(batch)
        assert tape.length == len(whole)
    assert not batches or most % 2 or shelf.flush()
    for start in {0, len(whole) // 3, len(whole) // 2, max(0, len(whole) - 1), len(whole)}:
        assert told(tape, most, start) == whole[start:]
    assert told(tape.reel(), most) == whole


@pytest.mark.parametrize("fault", ["unreadable", "full"])
def test_pieces_that_cannot_become_one_in_the_file_are_told_all_the_same(tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = shelf_in(tmp_path, 64 * MIB if fault == "unreadable" else 15 * 2560)
    reads = [FRAME % at for at in range(2500)]
    tape = Tape(MIB, Budget(MIB), shelf)

    def gone(fd: int, size: int, at: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    if fault == "unreadable":
        monkeypatch.setattr("penstock.dedup.shelf.os.pread", gone)
    for at in range(0, len(reads), 6):
        tape.add(reads[at : at + 6])
        assert at % 300 or shelf.flush()
    assert not tape.torn
    monkeypatch.undo()
    assert shelf.flush()
    assert (shelf.pieces > 15) is (fault == "unreadable")
    assert told(tape, 5000) == told(tape.reel(), 5000) == b"".join(reads)


@pytest.mark.parametrize(("length", "lies_there"), [(1000, True), (15_000, True), (20_000, False), (4 * MIB, False)])
def test_a_long_request_stays_in_memory_so_that_no_search_reads_many_of_them(tmp_path: Path, length: int, *, lies_there: bool) -> None:
    shelf = shelf_in(tmp_path)
    store = MemoryAnswers(100, Room(64 * MIB), 15.0, shelf)
    record = asked({"text": "a" * length})
    reel = reel_of(shelf, [FRAME % n for n in range(300)])
    assert shelf.flush()
    before = os.fstat(file_of(tmp_path)).st_size
    store.put(kept("1", record, reel, Form.EVENTS), 0, 0.0)
    assert shelf.flush()
    assert (os.fstat(file_of(tmp_path)).st_size > before + length) is lies_there
    claim = store.claim(wanted(record), 1.0)
    assert isinstance(claim, Claim)
    assert claim.kept.body == record.body
    assert isinstance(claim.kept.answer, Reel)
    assert told(claim.kept.answer, 3000) == b"".join(FRAME % n for n in range(300))


def test_kept_answers_lie_on_the_shelf_and_leave_it_when_they_go(tmp_path: Path) -> None:
    shelf, room = shelf_in(tmp_path), Room(64 * MIB)
    stores: list[Full] = [MemoryAnswers(100, room, 15.0, shelf), BytesAnswers(100, Room(64 * MIB), 15.0)]
    answers = {at: [b"%d" % at + FRAME % n for n in range(300)] for at in range(20)}
    for at, reads in answers.items():
        for store in stores:
            store.put(kept(str(at), asked({"n": at}), reel_of(shelf, reads), Form.EVENTS), at % 2, float(at))
    gc.collect()
    assert shelf.pieces >= 40
    assert shelf.flush()
    for at, reads in answers.items():
        for store in stores:
            claim = store.claim(wanted(asked({"n": at}), ttl=60.0), 20.0)
            assert isinstance(claim, Claim)
            assert (claim.kept.id, claim.kept.status, claim.back) == (str(at), 200, at % 2 == 1)
            assert text_of(claim.kept.answer) == b"".join(reads)
    claim = stores[0].claim(wanted(asked({"n": 18}), ttl=60.0), 20.0)
    assert isinstance(claim, Claim)
    slow = claim.kept.answer
    assert isinstance(slow, Reel)
    for store in stores:
        store.sweep(100.0)
        assert not store.holds
    assert room.used == 0
    others = [shelf.put(b"another's" * 50) for _ in range(200)]
    assert shelf.flush()
    assert told(slow, 3000) == b"".join(answers[18]), "whoever reads it has it until the end"
    del claim, slow, others, stores
    gc.collect()
    assert shelf.pieces == 0


def test_an_answer_that_cannot_be_read_is_kept_no_more(tmp_path: Path) -> None:
    shelf, room = shelf_in(tmp_path), Room(64 * MIB)
    store = MemoryAnswers(100, room, 15.0, shelf)
    for at in range(3):
        store.put(kept(str(at), asked({"n": at}), reel_of(shelf, [FRAME % n for n in range(300)]), Form.EVENTS), 0, 0.0)
    assert shelf.flush()
    os.ftruncate(file_of(tmp_path), 0)
    assert ids(store, *(asked({"n": at}) for at in range(3))) == [None] * 3
    assert (len(store), room.used, store.holds) == (0, 0, False)
    store.put(kept("4", asked({"n": 4})), 0, 0.0)
    assert ids(store, asked({"n": 4})) == ["4"]


def test_a_reel_whose_notes_are_gone_raises(tmp_path: Path) -> None:
    shelf = shelf_in(tmp_path)
    reel = reel_of(shelf, [FRAME % n for n in range(300)])
    assert shelf.flush()
    os.ftruncate(file_of(tmp_path), 0)
    with pytest.raises(OSError, match="not there any more"):
        reel.read(0, 100)
