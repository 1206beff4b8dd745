"""Lines reach their file, wherever it is moved to, and what a full disk or a closed pipe does is told and harms nothing."""

from __future__ import annotations

import errno
import io
import os
import stat
import threading
from pathlib import Path

import pytest

from penstock.telemetry.sinks import FileSink, StreamSink, Unwritten
from tests.support.needs import lacking


def never(seconds: float) -> bool:
    raise AssertionError("nothing is to be waited for")


def opened(path: Path) -> FileSink:
    sink = FileSink(path)
    sink.open()
    return sink


def test_a_file_is_made_for_its_owner_alone_and_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "new" / "penstock.log"
    old = os.umask(0)
    try:
        sink = opened(path)
    finally:
        os.umask(old)
    sink.write(b"a\n", never)
    sink.close()
    sink = opened(path)
    sink.write(b"b\n", never)
    sink.close()
    assert path.read_bytes() == b"a\nb\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    path, moved = tmp_path / "log", tmp_path / "log.1"
    sink = opened(path)
    sink.write(b"a\n", never)
    path.rename(moved)
    sink.write(b"b\n", never)
    path.rename(tmp_path / "log.2")
    path.write_bytes(b"by another\n")  # as `create` of logrotate makes it
    sink.write(b"c\n", never)
    path.unlink()
    sink.write(b"d\n", never)
    sink.close()
    assert [moved.read_bytes(), (tmp_path / "log.2").read_bytes(), path.read_bytes()] == [b"a\n", b"b\n", b"d\n"]


def test_a_file_that_was_emptied_in_place_is_written_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "log"
    sink = opened(path)
    sink.write(b"a\n" * 100, never)
    os.truncate(path, 0)  # `copytruncate`
    sink.write(b"b\n", never)
    sink.close()
    assert path.read_bytes() == b"b\n"


def test_where_no_new_file_can_be_made_the_moved_one_is_written_and_a_removed_one_is_not(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    sink = opened(directory / "log")
    directory.rename(tmp_path / "old")
    directory.write_bytes(b"")  # a file in the directory's place: nothing can be made there
    sink.write(b"a\n", never)
    assert (tmp_path / "old" / "log").read_bytes() == b"a\n"
    (tmp_path / "old" / "log").unlink()
    with pytest.raises(Unwritten) as lost:
        sink.write(b"b\n", never)
    assert lost.value.written == 0
    sink.close()


def test_what_cannot_be_opened_is_told_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(OSError) as told:
        FileSink(tmp_path).open()
    assert str(tmp_path) in str(told.value)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError) as told:
        FileSink(tmp_path / "pipe").open()  # nobody reads: it does not wait for somebody
    assert told.value.errno == errno.ENXIO


def test_a_full_disk_costs_what_it_does_not_take_and_the_next_line_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    sink = opened(path)
    real, room = os.write, [12]

    def write(fd: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = real(fd, bytes(data)[: room[0]])
        room[0] -= taken
        return taken

    monkeypatch.setattr("penstock.telemetry.sinks.os.write", write)
    with pytest.raises(Unwritten, match="No space left") as lost:
        sink.write(b'{"n":1}\n{"n":2}\n{"n":3}\n', never)
    assert lost.value.written == 12
    with pytest.raises(Unwritten) as lost:
        sink.write(b'{"n":4}\n', never)
    assert lost.value.written == 0
    room[0] = 1000
    sink.write(b'{"n":5}\n', never)
    sink.write(b'{"n":6}\n', never)
    sink.close()
    assert path.read_bytes().splitlines() == [b'{"n":1}', b'{"n"', b'{"n":5}', b'{"n":6}']


def test_a_full_device(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        lacking("this system has no /dev/full")
    sink = opened(Path("/dev/full"))
    with pytest.raises(Unwritten, match="No space left"):
        sink.write(b"a\n", never)
    sink.close()


def test_a_stream_is_written_by_a_descriptor_of_our_own(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as out:
        sink = StreamSink(out)
        sink.open()
    sink.write(b"a\n", never)  # whoever else had it has closed it
    sink.close()
    assert (tmp_path / "out").read_bytes() == b"a\n"


def test_a_pipe_that_nobody_reads_any_more(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as out:
        sink = StreamSink(out)
        sink.open()
        os.close(reading)
        with pytest.raises(Unwritten, match="pipe") as lost:
            sink.write(b"a\n", never)
        sink.close()
    assert lost.value.written == 0
    assert not sink.terminal


def test_a_full_pipe_that_does_not_block_is_waited_for_as_long_as_there_is_time() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    taken = bytearray()
    with os.fdopen(writing, "w") as out:
        sink = StreamSink(out)
        sink.open()
        data = b"x" * 99 + b"\n"

        def read(seconds: float) -> bool:
            taken.extend(os.read(reading, 1 << 20))
            return False

        sink.write(data * 2000, read)  # three times what a pipe holds
        with pytest.raises(Unwritten, match="slow") as lost:
            sink.write(data * 2000, lambda _: True)
        sink.close()
    while piece := os.read(reading, 1 << 20):
        taken += piece
    os.close(reading)
    assert taken.startswith(data * 2000)
    assert len(taken) == len(data) * 2000 + lost.value.written


def test_streams_in_memory_and_none_at_all() -> None:
    out = io.StringIO()
    sink = StreamSink(out)
    sink.open()
    sink.write("ü\n".encode(), never)
    assert out.getvalue() == "ü\n"
    out.close()
    with pytest.raises(Unwritten):
        sink.write(b"a\n", never)
    nothing = StreamSink(None)
    nothing.open()
    with pytest.raises(Unwritten):
        nothing.write(b"a\n", never)
    for sink in (nothing, StreamSink(out)):  # closed
        assert not sink.terminal
        sink.close()


def test_a_terminal_is_seen_as_one() -> None:
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w") as out:
        sink = StreamSink(out)
        assert sink.terminal
        sink.open()
        told = threading.Thread(target=sink.write, args=(b"a\n", never))
        told.start()
        assert os.read(ours, 100).rstrip() == b"a"
        told.join()
        sink.close()
    os.close(ours)
