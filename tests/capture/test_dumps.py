"""Dumps of refused requests: what is in them, who may read them, where they lie, and how many are kept."""

from __future__ import annotations

import json
import logging
import os
import stat
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from penstock.capture import dumps as module
from penstock.capture.dumps import FOLDER, LARGEST, LINE, Dump, Dumps, DumpSettings
from penstock.capture.line import Line

AT = 1_790_000_000.123456
KEY = "sk-ant-api03-abcdefghijklmnop"
BODY: dict[str, Any] = {"model": "claude-x", "max_tokens": 64000, "messages": [{"role": "user", "content": "héllo"}], "metadata": {"user_id": "u"}}


def dump(exchange: str = "px-abc-1", at: float = AT, **more: Any) -> Dump:
    given: dict[str, Any] = {
        "url": "https://api.anthropic.com/v1/messages?beta=true", "status": 500, "error": b'{"error":"Streaming is required"}',
        "body": json.dumps(BODY).encode(), **more,
    }  # fmt: skip
    return Dump(exchange, at, **given)


def written(dumps: Dumps, *some: Dump) -> None:
    for one in some:
        assert dumps.put(one)
    assert dumps.flush()
    dumps.close()


def only(folder: Path) -> Path:
    (path,) = (folder / FOLDER).iterdir()
    return path


def test_everything_that_is_needed_is_in_it(tmp_path: Path) -> None:
    written(Dumps([tmp_path], DumpSettings(keep_days=None)), dump())
    path = only(tmp_path)
    assert path.name == "retry_20260921_141320_123456_px-abc-1.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert json.loads(path.read_bytes()) == {
        "timestamp": "2026-09-21T14:13:20.123456+00:00", "exchange": "px-abc-1", "upstream_url": "https://api.anthropic.com/v1/messages?beta=true",
        "error_status": 500, "error_text": '{"error":"Streaming is required"}', "request_body": BODY,
    }  # fmt: skip


def test_the_umask_gives_nobody_more(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        written(Dumps([tmp_path], DumpSettings(keep_days=None)), dump())
    finally:
        os.umask(before)
    assert stat.S_IMODE(only(tmp_path).stat().st_mode) == 0o600


@pytest.mark.parametrize("body", [b"", b"no json", b'{"half": ', b"\xff\xfe", b'{"a": "\\ud83d"}', b"[" * 100_000])
def test_whatever_was_asked_the_dump_is_json(tmp_path: Path, body: bytes) -> None:
    written(Dumps([tmp_path], DumpSettings(keep_days=None)), dump(body=body, error=body))
    found = json.loads(only(tmp_path).read_bytes())
    assert found["request_body"] == body.decode("utf-8", "replace")


def test_no_credential_is_in_it(tmp_path: Path) -> None:
    body = {
        **BODY, "system": f"use {KEY} and house-token-12345678", "tools": [{"name": "f", "headers": {"authorization": f"Bearer {KEY}"}}],
        "max_tokens": 12345678, "key": 1234567890,
    }  # fmt: skip
    written(
        Dumps([tmp_path], DumpSettings(keep_days=None), ["house-token-12345678"]),
        dump(body=json.dumps(body).encode(), url=f"https://u:{KEY}@h.test/v1?key=AIzaSyA1234567&beta=true", error=f"invalid key {KEY}".encode()),
    )
    text = only(tmp_path).read_text()
    for secret in (KEY, KEY[10:], "AIzaSyA1234567", "house-token"):
        assert secret not in text
    found = json.loads(text)
    assert found["request_body"]["messages"] == BODY["messages"]
    assert (found["request_body"]["max_tokens"], found["request_body"]["key"]) == (12345678, 1234567890)
    assert "beta=true" in found["upstream_url"]


def test_where_the_first_folder_takes_nothing_the_second_does(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    written(Dumps([tmp_path / "file", tmp_path / "data"], DumpSettings(keep_days=None)), dump())
    assert only(tmp_path / "data").name.startswith("retry_")


def test_where_none_does_it_is_told_once_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    dumps = Dumps([tmp_path / "file"], DumpSettings())
    with caplog.at_level(logging.WARNING, "penstock.dumps"):
        written(dumps, dump(), dump("px-abc-2"))
    assert (dumps.kept, dumps.failed) == (0, 2)
    (record,) = caplog.records
    assert "cannot be dumped" in record.getMessage()
    assert "claude" not in record.getMessage()


def stamped(days: float) -> float:
    return time.time() - days * 86400


def names(folder: Path) -> set[str]:
    return {path.name.rpartition("_")[2].removesuffix(".json") for path in (folder / FOLDER).glob("retry_*")}


def test_the_oldest_go_where_there_are_too_many(tmp_path: Path) -> None:
    written(Dumps([tmp_path], DumpSettings(most=3)), *(dump(f"px-abc-{n}", stamped(1) + n) for n in range(6)))
    assert names(tmp_path) == {"px-abc-3", "px-abc-4", "px-abc-5"}


def test_and_where_they_are_too_large_together(tmp_path: Path) -> None:
    written(Dumps([tmp_path], DumpSettings(total_bytes=1200)), *(dump(f"px-abc-{n}", stamped(1) + n) for n in range(6)))
    assert 1 <= len(names(tmp_path)) < 6
    assert "px-abc-5" in names(tmp_path)


def test_the_old_go_also_while_nothing_is_dumped(tmp_path: Path) -> None:
    written(Dumps([tmp_path], DumpSettings(keep_days=None)), dump("px-old-1", stamped(8)), dump("px-new-1", stamped(6)))
    others = [tmp_path / FOLDER / name for name in ("retry_notes.json", "other.json", "retry_20200101_000000_000000_x.json.bak")]
    for path in others:
        path.write_text("mine")
    dumps = Dumps([tmp_path], DumpSettings(keep_days=7))
    dumps.start()
    assert dumps.flush()
    dumps.close()
    assert {"px-new-1"} <= names(tmp_path)
    assert "px-old-1" not in names(tmp_path)
    assert all(path.read_text() == "mine" for path in others), "what is no dump of ours stays"


def test_nothing_is_begun_where_nothing_lies(tmp_path: Path) -> None:
    dumps = Dumps([tmp_path], DumpSettings())
    dumps.start()
    assert dumps.flush()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_link_is_not_cleared(tmp_path: Path) -> None:
    written(Dumps([tmp_path / "real"], DumpSettings(keep_days=None)), dump("px-old-1", stamped(30)))
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / FOLDER).symlink_to(tmp_path / "real" / FOLDER)
    dumps = Dumps([tmp_path / "here"], DumpSettings(keep_days=1))
    dumps.start()
    assert dumps.flush()
    dumps.close()
    assert names(tmp_path / "real") == {"px-old-1"}


def test_nothing_is_written_where_nothing_is_cleared(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / FOLDER).symlink_to(tmp_path / "real")
    written(Dumps([tmp_path / "here", tmp_path / "there"], DumpSettings(keep_days=None)), dump())
    assert list((tmp_path / "real").iterdir()) == []
    assert only(tmp_path / "there").exists()


def stand_still(line: Line[Any]) -> None:
    """In the place of `start`."""


def test_what_has_no_place_is_dropped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    dumps = Dumps([tmp_path], DumpSettings(keep_days=None))
    monkeypatch.setattr(Line, "start", stand_still)  # the thread is busy for ever
    assert not dumps.put(dump(body=b"x" * (LARGEST + 1)))
    assert all(dumps.put(dump(f"px-abc-{n}")) for n in range(LINE))
    assert not dumps.put(dump())
    assert dumps.dropped == 2
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1


def test_all_that_waits_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING", 1000)
    dumps = Dumps([tmp_path], DumpSettings(keep_days=None))
    with monkeypatch.context() as busy:
        busy.setattr(Line, "start", stand_still)
        assert dumps.put(dump(body=b"x" * 900))
        assert not dumps.put(dump(body=b"x" * 200))
    (tmp_path / FOLDER).mkdir()
    dumps.start()
    assert dumps.flush()
    assert dumps.put(dump("px-abc-2", body=b"x" * 900)), "what is written makes room"


def test_a_disk_that_is_full_keeps_its_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESERVE", 1 << 62)
    dumps = Dumps([tmp_path], DumpSettings())
    written(dumps, dump())
    assert (dumps.kept, dumps.failed) == (0, 1)
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_the_time_is_utc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    try:
        written(Dumps([tmp_path], DumpSettings(keep_days=None)), dump())
    finally:
        monkeypatch.undo()
        time.tzset()
    assert datetime.fromtimestamp(AT, UTC).strftime("retry_%Y%m%d_%H%M%S") in only(tmp_path).name
