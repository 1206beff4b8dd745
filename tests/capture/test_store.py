"""Folders on the disk: their owner's alone, whole or not there, found by their names and nothing else."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.capture import CaptureSettings, Order
from penstock.capture.layout import META, Files
from penstock.capture.store import FOLDER, Store, StoreError, new_id
from tests.support.captures import BEGAN, answer, begin, make, one, subject

DAY = 86400.0
FOR_EVER = CaptureSettings(keep_days=None)


def fill(tmp_path: Path, *exchanges: str) -> Store:
    recorder = make(tmp_path)
    recorder.turn_on(Order(count=100))
    for number, exchange in enumerate(exchanges):
        recording = recorder.begin(subject(exchange, began=BEGAN + number * DAY))
        assert recording is not None
        answer(recording, [b"x" * 100])
    recorder.close()
    return Store(tmp_path)


def ids(store: Store) -> list[str]:
    return [item.id for item in store.items()]


def test_files_and_folders_are_their_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir(mode=0o755)
    before = os.umask(0)
    try:
        store = fill(tmp_path, "px-1")
    finally:
        os.umask(before)
    assert store.directory.stat().st_mode & 0o777 == 0o700
    (folder,) = store.directory.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    files = list(folder.iterdir())
    assert {path.name for path in files} == {META, *(f"upstream_response.{ending}" for ending in ("head", "body", "times"))}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_what_cannot_be_written_whole_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    real = os.fdopen

    class Full:
        def __init__(self) -> None:
            self.left = 2

        def __call__(self, descriptor: int, mode: str) -> object:
            self.left -= 1
            if self.left < 0:
                os.close(descriptor)
                raise OSError(errno.ENOSPC, "full")
            return real(descriptor, mode)

    monkeypatch.setattr(os, "fdopen", Full())
    with pytest.raises(OSError, match="full"):
        store.write(new_id(BEGAN), {"a": b"1", "b": b"2", "c": b"3"})
    assert list(store.directory.iterdir()) == []


def test_room_is_left_for_the_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        free: int

    def usage(path: Path) -> Usage:
        return Usage(10 << 20)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        Store(tmp_path).write(new_id(BEGAN), {"a": b"1"})


def test_the_newest_first_and_found_by_a_beginning_or_by_the_exchange(tmp_path: Path) -> None:
    store = fill(tmp_path, "px-a-1", "px-a-11", "px-b-2")
    newest, middle, oldest = store.items()
    assert [item.meta and item.meta.exchange for item in (newest, middle, oldest)] == ["px-b-2", "px-a-11", "px-a-1"]
    assert store.find(newest.id) == newest
    assert store.find("20231117") == newest
    assert store.find("px-b") == newest
    assert store.find("px-a-1") == oldest, "a whole name wins over a longer one"
    with pytest.raises(StoreError, match="could be any of 3"):
        store.find("2023")
    with pytest.raises(StoreError, match="could be any of 2"):
        store.find("px-a")
    with pytest.raises(StoreError, match="the newest capture is"):
        store.find("px-c")
    assert store.delete([middle]) == 1
    assert ids(store) == [newest.id, oldest.id]


@pytest.mark.parametrize(
    "wanted", ["", ".", "..", "../", "../../etc/passwd", "/", "/etc/passwd", "*", "\0", "2023\0", "~", ".new-", "C:\\", "a" * 10_000])
def test_no_name_leads_anywhere_else(tmp_path: Path, wanted: str) -> None:
    store = fill(tmp_path, "px-1")
    with pytest.raises(StoreError, match="begins with"):
        store.find(wanted)


@given(st.text(max_size=30))
def test_what_is_found_is_what_is_listed(wanted: str) -> None:
    store = Store(Path("nowhere"))
    with pytest.raises(StoreError, match="there is no capture"):
        store.find(wanted)


def test_others_folders_links_and_files_are_no_captures(tmp_path: Path) -> None:
    store = fill(tmp_path / "data", "px-1")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / META).write_text("{}")
    (store.directory / "20231115-000001-aaaaaa").symlink_to(elsewhere)
    (store.directory / "20231115-000001-bbbbbb").write_text("a file")
    (store.directory / "mine").mkdir()
    assert len(store.items()) == 1
    store.delete(store.items())
    store.prune(CaptureSettings(most=0), BEGAN + 1000 * DAY)
    assert (elsewhere / META).exists()
    assert len(list(store.directory.iterdir())) == 3


def test_a_damaged_capture_is_listed_cannot_be_read_elsewhere_and_can_be_deleted(tmp_path: Path) -> None:
    store = fill(tmp_path / "data", "px-1", "px-2")
    second, first = store.items()
    assert first.meta is not None
    (tmp_path / "secret.body").write_text("secret")
    raw = msgspec.json.decode((first.path / META).read_bytes())
    raw["parts"][0]["file"] = "../../../secret"
    (first.path / META).write_bytes(msgspec.json.encode(raw))
    (second.path / META).write_text("{not json")
    second, first = store.items()
    assert second.meta is None
    assert first.meta is not None
    with pytest.raises(StoreError, match="names a file"):
        store.read(first, first.meta.parts[0])
    with pytest.raises(StoreError, match="names a file"):
        list(store.files(first))
    assert store.delete([first, second]) == 2


@pytest.mark.parametrize("content", [b"", b'{"id":"\xff"}', b'{"unknown":' + b"[" * 100_000, b"\xff", b"[]", b'{"id":' + b"9" * 10_000])
def test_whatever_stands_in_a_captures_description_the_others_are_listed(tmp_path: Path, content: bytes) -> None:
    store = fill(tmp_path, "px-1", "px-2")
    (store.items()[0].path / META).write_bytes(content)
    assert [item.meta is None for item in store.items()] == [True, False]


def test_of_one_second_the_newest_is_the_one_that_began_last(tmp_path: Path) -> None:
    recorder = make(tmp_path)
    recorder.turn_on(Order(count=100))
    for number in range(8):
        recording = recorder.begin(subject(f"px-{number}", began=BEGAN + number / 100))
        assert recording is not None
        answer(recording, [b"x"])
    recorder.close()
    assert [item.meta and item.meta.exchange for item in Store(tmp_path).items()] == [f"px-{number}" for number in reversed(range(8))]


@pytest.mark.parametrize("what", ["folder", "pipe", "huge"])
def test_what_is_no_file_of_a_capture_is_not_read(tmp_path: Path, what: str) -> None:
    store = fill(tmp_path, "px-1")
    (item,) = store.items()
    body = item.path / "upstream_response.body"
    body.unlink()
    if what == "folder":
        body.mkdir()
    elif what == "pipe":
        os.mkfifo(body)
    else:
        with body.open("wb") as file:
            file.truncate(1 << 40)
    assert item.meta is not None
    with pytest.raises(StoreError, match=r"is no file|is larger than any file of a capture"):
        store.read(item, item.meta.parts[0])


def test_no_link_inside_is_followed(tmp_path: Path) -> None:
    store = fill(tmp_path / "data", "px-1")
    (item,) = store.items()
    (tmp_path / "secret").write_text("secret")
    (item.path / "upstream_response.body").unlink()
    (item.path / "upstream_response.body").symlink_to(tmp_path / "secret")
    assert item.meta is not None
    with pytest.raises(StoreError, match="cannot be read"):
        store.read(item, item.meta.parts[0])


def test_the_old_go_first_by_age_by_number_and_by_size(tmp_path: Path) -> None:
    store = fill(tmp_path, *(f"px-{number}" for number in range(6)))
    names = ids(store)
    assert store.prune(FOR_EVER, BEGAN + 1e6 * DAY) == 0
    assert store.prune(CaptureSettings(keep_days=5), BEGAN + 6.5 * DAY) == 2
    assert ids(store) == names[:4]
    assert store.prune(CaptureSettings(keep_days=None, most=3), BEGAN) == 1
    assert ids(store) == names[:3]
    size = sum(path.stat().st_size for path in (store.directory / names[0]).iterdir())
    assert store.prune(CaptureSettings(keep_days=None, total_bytes=size * 2 + 10), BEGAN) == 1
    assert ids(store) == names[:2]
    assert store.prune(CaptureSettings(keep_days=None, total_bytes=0), BEGAN) == 2
    assert ids(store) == []


def test_what_was_never_finished_is_cleared_away_but_not_at_once(tmp_path: Path) -> None:
    store = fill(tmp_path, "px-1")
    fresh = store.directory / f".new-{new_id(BEGAN)}"
    fresh.mkdir()
    now = fresh.stat().st_mtime
    store.prune(FOR_EVER, now + 60)
    assert fresh.exists()
    store.prune(FOR_EVER, now + 7200)
    assert not fresh.exists()
    assert len(store.items()) == 1


def test_the_same_id_is_not_written_twice(tmp_path: Path) -> None:
    store = Store(tmp_path)
    files: Files = {"a": b"1"}
    name = new_id(BEGAN)
    store.write(name, files)
    with pytest.raises(OSError, match=os.strerror(errno.ENOTEMPTY)):
        store.write(name, {"a": b"2"})
    assert (store.directory / name / "a").read_bytes() == b"1"


def test_a_capture_is_read_as_it_was_written(tmp_path: Path) -> None:
    recorder = make(tmp_path)
    answer(begin(recorder), [b"data: 1\n\n", b"data: 2\n\n"])
    store, item = one(recorder, tmp_path)
    recorder.close()
    assert item.meta is not None
    content = store.read(item, item.meta.parts[0])
    assert (content.head, content.body) == (b"200\ncontent-type: text/event-stream\n", b"data: 1\n\ndata: 2\n\n")
    assert content.times == [(0.5, 9), (0.51, 9)]
