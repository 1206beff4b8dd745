"""What is wanted, how many, and for how long; and what becomes of it on the way to the disk."""

from __future__ import annotations

import errno
import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from penstock.capture import BadOrder, CaptureSettings, Order, Phase, Recorder
from penstock.capture import writer as writing
from penstock.capture.layout import Files
from penstock.capture.redact import BadPattern
from penstock.capture.store import Store
from tests.support.captures import Clock, answer, begin, body_of, make, one, subject

ROUTES = (("claude-*", "anthropic"), ("gpt-*", "openai"), ("gpt-*", "azure"))


def test_nothing_is_captured_until_it_is_turned_on(tmp_path: Path) -> None:
    recorder = make(tmp_path)
    assert recorder.active is False
    assert recorder.begin(subject()) is None
    recorder.start()
    recorder.close()
    assert not list(tmp_path.iterdir())


def test_so_many_are_captured_and_then_it_is_off(tmp_path: Path) -> None:
    recorder = make(tmp_path)
    recorder.turn_on(Order(count=2))
    assert recorder.state()["left"] == 2
    recordings = [recorder.begin(subject(f"px-{number}")) for number in range(4)]
    assert [recording is not None for recording in recordings] == [True, True, False, False]
    assert recorder.active is False
    for recording in recordings[:2]:
        assert recording is not None
        answer(recording, [b"x"])
    assert recorder.flush()
    assert sorted(item.meta.exchange for item in Store(tmp_path).items() if item.meta) == ["px-0", "px-1"]
    state = recorder.state()
    assert (state["on"], state["running"], state["begun"], state["kept"]) == (False, 0, 2, 2)
    recorder.close()


def test_turned_off_what_runs_goes_on(tmp_path: Path) -> None:
    recorder = make(tmp_path)
    recording = begin(recorder, Order(count=5))
    recorder.turn_off()
    assert recorder.begin(subject()) is None
    answer(recording, [b"all of it"])
    assert body_of(recorder, tmp_path) == b"all of it"
    recorder.close()


def test_its_time_runs_out(tmp_path: Path) -> None:
    clock = Clock()
    recorder = make(tmp_path, clock=clock)
    recorder.turn_on(Order(seconds=10, count=9))
    clock.now += 9.9
    assert recorder.state()["seconds_left"] == pytest.approx(0.1)
    assert recorder.begin(subject()) is not None
    clock.now += 0.1
    assert recorder.wants(subject()) is False
    assert recorder.active is False
    recorder.turn_on(Order(seconds=1))
    clock.now += 1
    assert recorder.state()["on"] is False
    recorder.turn_on(Order())
    clock.now += 1e9
    assert recorder.wants(subject()) is True
    recorder.close()


@pytest.mark.parametrize(
    ("order", "wanted"),
    [
        ({}, True),
        ({"provider": "openai"}, True),
        ({"provider": "azure"}, False),
        ({"model": "gpt-4?"}, True),
        ({"model": "gpt-4"}, False),
        ({"model": "real-*"}, True),
        ({"key": "0123"}, True),
        ({"key": "0123456789ab"}, True),
        ({"key": "123456789ab"}, False),
        ({"route": "gpt-*"}, True),
        ({"route": "1"}, True),
        ({"route": "2"}, False),
        ({"route": "claude-*"}, False),
        ({"route": "1", "model": "gpt-4o", "provider": "openai", "key": "01234"}, True),
        ({"route": "1", "model": "gpt-4o", "provider": "openai", "key": "ffff"}, False),
    ],
)
def test_every_filter_must_match(tmp_path: Path, order: dict[str, Any], wanted: bool) -> None:
    recorder = make(tmp_path, routes=ROUTES, providers=["openai", "azure", "anthropic"])
    recorder.turn_on(Order(**order))
    about = subject(model="gpt-4o", sent_model="real-model", route="gpt-*", provider="openai")
    assert recorder.wants(about) is wanted
    assert (recorder.begin(about) is not None) is wanted
    recorder.close()


def test_of_what_has_no_model_no_key_and_no_route_no_filter_matches(tmp_path: Path) -> None:
    recorder = make(tmp_path, routes=ROUTES)
    bare = subject(model=None, sent_model=None, fingerprint=None, provider=None, route=None)
    for order in (Order(model="*"), Order(key="0123"), Order(route="0"), Order(provider="openai")):
        recorder.turn_on(order)
        assert not recorder.wants(bare)
    recorder.turn_on(Order())
    assert recorder.wants(bare)
    recorder.close()


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ({"route": "mine"}, "no route 'mine'; there are 0"),
        ({"route": "3"}, "no route '3'"),
        ({"route": "9" * 5000}, "no route '999"),
        ({"provider": "me"}, "no provider 'me'; there are openai"),
    ],
)
def test_what_could_never_match_is_said(tmp_path: Path, order: dict[str, Any], words: str) -> None:
    recorder = make(tmp_path, routes=ROUTES, providers=["openai"])
    with pytest.raises(BadOrder, match=words):
        recorder.turn_on(Order(**order))
    assert recorder.active is False
    with pytest.raises(BadOrder, match="no routes"):
        make(tmp_path).turn_on(Order(route="1"))


@pytest.mark.parametrize(
    "order",
    [{"phases": ()}, {"count": 0}, {"count": 10**9}, {"max_bytes": 0}, {"max_bytes": 1 << 40}, {"seconds": 0}, {"seconds": 1e9},
     {"seconds": float("nan")}, {"key": "12"}, {"key": "nothex!"}, {"model": ""}, {"model": "a["}],
)  # fmt: skip
def test_an_order_that_makes_no_sense_is_none(order: dict[str, Any]) -> None:
    with pytest.raises(BadOrder) as told:
        Order(**order)
    assert len(str(told.value)) > 20


def test_a_pattern_of_the_configuration_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadPattern, match="regular expression"):
        make(tmp_path, CaptureSettings(patterns=("(",)))


def test_secrets_of_the_house_are_found_wherever_they_stand(tmp_path: Path) -> None:
    recorder = make(tmp_path, CaptureSettings(keep_days=None, mask_keys=False), secrets=["plain words", "x"])
    recording = begin(recorder)
    answer(recording, [b"said: plain", b" words, x"])
    assert body_of(recorder, tmp_path) == b"said: ***, x"
    recorder.close()


def test_a_key_in_the_place_of_a_model_s_name_is_masked(tmp_path: Path) -> None:
    recorder = make(tmp_path)
    key = "sk-ant-api03-abcdefgh12345678"
    answer(begin(recorder, about=subject(model=key, sent_model=key)), [b"data: {}"])
    _, item = one(recorder, tmp_path)
    assert item.meta is not None
    assert (item.meta.model, item.meta.sent_model) == ("sk-ant-***", "sk-ant-***")
    recorder.close()


def test_the_limit_is_shared_by_the_phases_and_an_order_may_set_it(tmp_path: Path) -> None:
    recorder = make(tmp_path)
    recording = begin(recorder, Order(phases=(Phase.UPSTREAM_RESPONSE, Phase.OUTBOUND_RESPONSE), max_bytes=200))
    answer(recording, [b"x" * 500])
    assert body_of(recorder, tmp_path) == b"x" * 100
    recorder.close()


# The way to the disk.


def broken(recorder: Recorder, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def write(self: Store, id: str, files: Files) -> None:
        raise error

    monkeypatch.setattr(Store, "write", write)


def test_a_full_disk_is_counted_and_told_once_and_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    recorder = make(tmp_path)
    with caplog.at_level(logging.WARNING, "penstock.capture"), monkeypatch.context() as patch:
        broken(recorder, patch, OSError(errno.ENOSPC, "No space left on device"))
        for _ in range(3):
            answer(begin(recorder), [b"x" * 1000])
        assert recorder.flush()
    assert recorder.state()["failed"] == 3
    assert len(caplog.records) == 1
    assert "No space left on device" in caplog.records[0].getMessage()
    with caplog.at_level(logging.WARNING, "penstock.capture"):
        answer(begin(recorder), [b"fine"])
        assert body_of(recorder, tmp_path) == b"fine"
    assert "again; 3 were lost" in caplog.records[1].getMessage()
    recorder.close()


def test_a_mistake_of_ours_is_told_without_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    recorder = make(tmp_path)
    broken(recorder, monkeypatch, ValueError("with a secret"))
    with caplog.at_level(logging.WARNING, "penstock.capture"):
        answer(begin(recorder), [b"x"])
        assert recorder.flush()
    assert "ValueError" in caplog.text
    assert "secret" not in caplog.text
    recorder.close()


def test_memory_is_given_back_when_it_is_written_or_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = make(tmp_path, CaptureSettings(keep_days=None, total_bytes=400_000))
    for number in range(10):
        if number == 5:
            broken(recorder, monkeypatch, OSError(errno.EACCES, "no"))
        recording = begin(recorder, Order(phases=(Phase.UPSTREAM_RESPONSE,)))
        answer(recording, [b"x" * 60_000])
        assert recording.parts[0].crowded is False
        assert recorder.flush()
    recorder.close()


def test_beyond_the_line_they_are_dropped_counted_and_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writing, "LINE", 3)
    hold = threading.Event()
    write = Store.write

    def slow(self: Store, id: str, files: Files) -> None:
        hold.wait(10)
        write(self, id, files)

    monkeypatch.setattr(Store, "write", slow)
    recorder = make(tmp_path, CaptureSettings(keep_days=None, total_bytes=100_000))
    with caplog.at_level(logging.WARNING, "penstock.capture"):
        for _ in range(20):
            answer(begin(recorder), [b"x" * 1000])
    hold.set()
    assert recorder.flush()
    state = recorder.state()
    # One may have been taken out of the line already.
    assert state["kept"] in (3, 4)
    assert state["dropped"] == 20 - state["kept"]
    assert len(caplog.records) == 1
    recording = begin(recorder, Order(phases=(Phase.UPSTREAM_RESPONSE,)))
    answer(recording, [b"x" * 20_000])
    assert recording.parts[0].crowded is False, "what was dropped gave its memory back"
    recorder.close()


def test_what_waits_is_written_at_the_end(tmp_path: Path) -> None:
    recorder = make(tmp_path)
    for _ in range(5):
        answer(begin(recorder), [b"x"])
    recorder.close()
    assert len(Store(tmp_path).items()) == 5
    assert recorder.active is False


def test_captures_from_before_are_looked_after_from_the_start(tmp_path: Path) -> None:
    recorder = make(tmp_path)
    answer(begin(recorder), [b"x"])
    _, item = one(recorder, tmp_path)
    recorder.close()
    assert item.path.is_dir()
    later = make(tmp_path, CaptureSettings(keep_days=1))
    later.start()
    assert later.flush()
    assert not item.path.exists()
    assert later.state()["pruned"] == 1
    later.close()
