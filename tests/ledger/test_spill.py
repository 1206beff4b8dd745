"""Where rows wait: in order, across restarts, past torn lines, and taken over only from the dead."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path

import pytest

from penstock.ledger.entry import COLUMNS, LINE, TAIL_BYTES, Try, row_of
from penstock.ledger.rows import Row
from penstock.ledger.spill import Spill
from tests.support.ledgers import COMPLETE, MIDNIGHT, make_entry, make_row


def _all(spill: Spill, limit: int = 2) -> list[Row]:
    rows: list[Row] = []
    while batch := spill.peek(limit):
        rows += batch
        spill.done()
    return rows


def _rows(*ids: str) -> list[Row]:
    return [make_row(id, outcome=COMPLETE, input_tokens=7, streamed=True, ttft_ms=1.5) for id in ids]


def test_rows_come_back_as_they_were_and_in_order(tmp_path: Path) -> None:
    spill = Spill(tmp_path, "i1")
    rows = _rows("a", "b", "c", "d", "e")
    spill.append(rows[:2])
    spill.append(rows[2:])
    [path] = tmp_path.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert spill.pending
    assert _all(spill) == rows
    assert not spill.pending
    assert list(tmp_path.iterdir()) == []


def test_rows_stay_until_they_are_done(tmp_path: Path) -> None:
    spill = Spill(tmp_path, "i1")
    spill.append(_rows("a", "b", "c"))
    assert [row[0] for row in spill.peek(2)] == ["a", "b"]
    assert [row[0] for row in spill.peek(2)] == ["a", "b"]
    spill.done()
    spill.append(_rows("d"))
    assert [row[0] for row in _all(spill)] == ["c", "d"]


def test_a_restart_adopts_what_the_dead_left(tmp_path: Path) -> None:
    first = Spill(tmp_path, "i1")
    first.append(_rows("a"))
    second = Spill(tmp_path, "i2")
    second.append(_rows("b"))
    assert second.adopt(frozenset()) == 0, "its owner lives and holds the lock"
    first.close()
    assert second.adopt({"i1"}) == 0, "its lease still holds"
    assert second.adopt(frozenset()) == 1
    assert [row[0] for row in _all(second)] == ["a", "b"], "older rows first"
    assert list(tmp_path.iterdir()) == []


def test_only_one_of_two_adopts(tmp_path: Path) -> None:
    first = Spill(tmp_path, "i1")
    first.append(_rows("a"))
    first.close()
    second, third = Spill(tmp_path, "i2"), Spill(tmp_path, "i3")
    assert (second.adopt(frozenset()), third.adopt(frozenset())) == (1, 0)


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_torn_last_line_is_counted_and_skipped(tmp_path: Path, cut: int) -> None:
    first = Spill(tmp_path, "i1")
    first.append(_rows("a", "b"))
    first.close()
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-cut])
    second = Spill(tmp_path, "i2")
    second.adopt(frozenset())
    ids = [row[0] for row in _all(second)]
    # Without its line end alone the last line is whole, and is read.
    assert (ids, second.torn) == ((["a", "b"], 0) if cut == 1 else (["a"], 1))
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_other_damage_is_kept_for_people(tmp_path: Path) -> None:
    first = Spill(tmp_path, "i1")
    first.append(_rows("a", "b", "c"))
    first.close()
    [path] = tmp_path.iterdir()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"\xff garbage\n" + b'{"id": 5}\n' + lines[2])
    second = Spill(tmp_path, "i2")
    second.adopt(frozenset())
    assert [row[0] for row in _all(second)] == ["a", "c"]
    assert second.torn == 2
    [left] = tmp_path.iterdir()
    assert left.name.endswith(".jsonl.damaged")
    assert Spill(tmp_path, "i3").adopt(frozenset()) == 0


def test_columns_of_another_version_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "spill-old-1.jsonl").write_text('{"id":"a","instance":"i0","started_at":5,"outcome":"COMPLETE","a_new_column":[1]}\n')
    spill = Spill(tmp_path, "i1")
    spill.adopt(frozenset())
    [row] = _all(spill)
    assert row[:5] == ("a", "i0", 5.0, None, "COMPLETE")


def test_what_was_kept_of_a_bad_ending_comes_back_whole(tmp_path: Path) -> None:
    entry = make_entry("a", instance="i1", timer="tool_call", route="claude-*", dial_ms=1.5, head_ms=2.5)
    entry.keep_tries(Try(float(at), 503, "the provider answered 503" * 20) for at in range(20))
    entry.keep_tail([(float(at), f"an_event_of_a_long_name_{at}", at) for at in range(64)])
    entry.keep_bytes(b"\xff" * TAIL_BYTES)
    entry.settle(COMPLETE, MIDNIGHT)
    spill = Spill(tmp_path, "i1")
    spill.append([row_of(entry)])
    assert _all(spill) == [row_of(entry)]


def test_text_that_is_of_no_use_in_part_is_left_out_where_it_is_too_long(tmp_path: Path) -> None:
    line = json.dumps({"id": "a", "instance": "i0", "started_at": 5, "tail": "x" * 99_999, "path": "y" * 99_999})
    (tmp_path / "spill-old-1.jsonl").write_text(line + "\n")
    spill = Spill(tmp_path, "i1")
    spill.adopt(frozenset())
    [row] = _all(spill)
    assert (row[COLUMNS.index("tail")], row[COLUMNS.index("path")]) == (None, "y" * LINE)


@pytest.mark.parametrize("truncates", [True, False])
def test_a_write_that_fails_halfway_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, truncates: bool) -> None:
    spill = Spill(tmp_path, "i1")
    spill.append(_rows("a"))
    whole = os.write

    def half(descriptor: int, data: memoryview) -> int:
        whole(descriptor, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    def refuse(descriptor: int, length: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        if not truncates:
            patch.setattr(os, "ftruncate", refuse)
        with pytest.raises(OSError, match="No space left"):
            spill.append(_rows("b"))
    spill.append(_rows("c"))
    assert [row[0] for row in _all(spill)] == ["a", "c"]
    assert spill.torn == (0 if truncates else 1)


@pytest.mark.parametrize("says", [errno.EINVAL, errno.EIO])
def test_a_directory_that_cannot_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: int) -> None:
    """Where that is never possible the file alone must do; where it failed, no empty file is left of each try."""
    fsync = os.fsync

    def failing(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(says, os.strerror(says))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    spill, rows = Spill(tmp_path, "i1"), _rows("a")
    if says == errno.EINVAL:
        spill.append(rows)
        assert _all(spill) == rows
    else:
        for _ in range(3):
            with pytest.raises(OSError, match=os.strerror(says)):
                spill.append(rows)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_removed_takes_no_further_rows_and_keeps_those_that_it_has(tmp_path: Path) -> None:
    spill = Spill(tmp_path, "i1")
    rows = _rows("a", "b")
    spill.append(rows[:1])
    [path] = tmp_path.iterdir()
    path.unlink()
    spill.append(rows[1:])
    assert len(list(tmp_path.iterdir())) == 1, "what comes now survives this process"
    assert _all(spill) == rows
    assert not list(tmp_path.iterdir())


def test_what_is_no_spill_file_hinders_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "spill-x-1.jsonl")
    (tmp_path / "spill-y-1.jsonl").mkdir()
    (tmp_path / "spill-z-1.jsonl").write_bytes(b'{"id":' + b"[" * 100_000 + b"\n")
    spill = Spill(tmp_path, "i1")
    assert spill.adopt([]) == 1
    assert _all(spill) == []
    assert spill.torn == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spill-i1-1.jsonl.damaged", "spill-x-1.jsonl", "spill-y-1.jsonl"]
