"""Long streams whose notes lie on the disk: joined at any time, told again from the beginning, and what happens where the disk cannot be read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.dedup import Desk, Notes, Rules, Shelf
from penstock.exchange.conduct import Conduct
from tests.dedup.test_segments import SMALL, log_in, notes_in
from tests.dedup.test_shelf import files_of, shelf_in
from tests.exchange.test_joining import AGAIN, EACH_STORE, chat, replay
from tests.support.exchanges import CHUNK, DONE, STOP, USAGE, Asker, House
from tests.support.kept import STORES, Make, desk_of

TEXT = [CHUNK.replace(b'"content":"', b'"content":"%d ' % at) for at in range(900)]
WHOLE = b"".join(TEXT) + STOP + USAGE + DONE


EACH_LOG = pytest.mark.parametrize("segments", [100, 8], ids=["in the log", "packed"])
"""All of it fits into the log, or only its end."""


def house(path: Path, segments: int, make: Make = STORES["memory"]) -> House:
    desk = desk_of(10, 1 << 20, make=make, shelf=shelf_in(path), log=log_in(path, segments * SMALL, 8 * SMALL))
    return House(conduct=Conduct(dedup=Rules("retries")), desk=desk)


def desk_in(h: House) -> Desk:
    assert h.gateway.desk is not None
    return h.gateway.desk


def flush(h: House) -> None:
    desk = desk_in(h)
    assert desk.log.flush()
    assert desk.shelf is not None
    assert desk.shelf.flush()


def empty(path: Path) -> None:
    for fd in files_of(path):
        os.ftruncate(fd, 0)


def on_the_way(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    """When somebody has been told some of an answer."""
    monkeypatch.setattr("penstock.exchange.following.PORTION", 1000)
    read = Notes.read

    def read_on(self: Notes, start: int, most: int) -> tuple[bytes, int]:
        if start > 5000:
            happens()
        return read(self, start, most)

    monkeypatch.setattr(Notes, "read", read_on)


@EACH_STORE
@EACH_LOG
def test_it_is_joined_and_told_again_as_from_memory(tmp_path: Path, segments: int, make: Make) -> None:
    with house(tmp_path, segments, make) as h:
        first = chat(h)
        ask = h.last.answer()
        others: list[Asker] = []
        for at in range(0, 900, 100):
            ask.body(*TEXT[at : at + 100])
            others.append(chat(h, AGAIN))
            h.loop.settle()
            assert others[-1].reply.body == b"".join(TEXT[: at + 100])
            flush(h)
        desk = desk_in(h)
        assert desk.shelf is not None
        assert (desk.shelf.pieces > 2) is (segments == 8)
        assert desk.log.segments > 4
        ask.body(STOP, USAGE, DONE).end()
        late = chat(h, AGAIN)
        h.loop.settle()
        assert len(h.asks) == 1
        assert {other.reply.body for other in (first, *others, late)} == {WHOLE}
        assert [replay(other) for other in (first, others[0], late)] == [None, b"join", b"hit"]
        assert {row.outcome for row in h.book.settled} == {"COMPLETE"}
        h.check_quiet()


@EACH_LOG
def test_who_reads_slowly_has_it_until_the_end_although_it_is_kept_no_more(tmp_path: Path, segments: int) -> None:
    with house(tmp_path, segments) as h:
        chat(h)
        h.last.answer().body(*TEXT, STOP, USAGE, DONE).end()
        slow = chat(h, AGAIN)
        slow.pause()
        h.loop.settle()
        h.loop.wait(20.0)
        desk = desk_in(h)
        desk.sweep(h.loop.time() + 100)
        assert not desk.store.holds
        others = [notes_in(desk.log, desk.budget, desk.shelf) for _ in range(30)]
        for at in range(300):
            others[at % 30].add(b"another's " * 100)
            flush(h)
        slow.resume()
        h.loop.settle()
        assert slow.reply.body == WHOLE
        del others
        h.loop.wait(20.0)
        desk.sweep(h.loop.time() + 100)
        assert not desk.holds


@EACH_LOG
def test_notes_that_cannot_be_read_end_the_follower_and_not_the_leader(tmp_path: Path, segments: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with house(tmp_path, segments) as h:
        first = chat(h)
        ask = h.last.answer()
        ask.body(*TEXT)
        flush(h)
        on_the_way(monkeypatch, lambda: empty(tmp_path))
        second = chat(h, AGAIN)
        h.loop.settle()
        ask.body(STOP, USAGE, DONE).end()
        assert first.reply.body == WHOLE
        assert second.reply.body.startswith(b"".join(TEXT[:50]))
        assert b"[DONE]" not in second.reply.body
        assert b'"error"' in second.reply.body
        rows = {row.replay: row for row in h.book.settled}
        assert rows[None].outcome == "COMPLETE"
        assert "cannot be read" in (rows["join"].cause or "")
        h.check_quiet()


@EACH_LOG
def test_who_comes_where_the_notes_cannot_be_read_asks_by_itself(tmp_path: Path, segments: int) -> None:
    with house(tmp_path, segments) as h:
        first = chat(h)
        ask = h.last.answer()
        ask.body(*TEXT)
        flush(h)
        empty(tmp_path)
        second = chat(h, AGAIN)
        h.loop.settle()
        assert len(h.asks) == 2
        ask.body(STOP, USAGE, DONE).end()
        h.last.answer().body(*TEXT, STOP, USAGE, DONE).end()
        assert first.reply.body == second.reply.body == WHOLE
        assert replay(second) is None
        assert [row.outcome for row in h.book.settled] == ["COMPLETE"] * 2
        h.check_quiet()


@EACH_LOG
def test_a_kept_answer_that_cannot_be_read_is_asked_for_anew(tmp_path: Path, segments: int) -> None:
    with house(tmp_path, segments) as h:
        chat(h)
        h.last.answer().body(*TEXT, STOP, USAGE, DONE).end()
        flush(h)
        empty(tmp_path)
        again = chat(h, AGAIN)
        h.loop.settle()
        assert len(h.asks) == 2
        h.last.answer().body(*TEXT, STOP, USAGE, DONE).end()
        assert (again.reply.body, replay(again)) == (WHOLE, None)
        assert [row.outcome for row in h.book.settled] == ["COMPLETE"] * 2
        h.check_quiet()


@pytest.mark.parametrize("kept", ["in memory", "on the shelf"])
def test_notes_that_were_spoilt_reach_neither_the_leader_nor_whoever_needs_the_room(
    tmp_path: Path, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    def read(self: Shelf, place: int) -> bytes:
        return b"spoilt"

    with house(tmp_path, 8) as h:
        first = chat(h)
        ask = h.last.answer()
        ask.body(*TEXT[:800])
        flush(h)
        on_the_way(monkeypatch, lambda: monkeypatch.setattr("penstock.dedup.shelf.Shelf.read", read))
        second = chat(h, AGAIN)
        h.loop.settle()
        assert replay(second) == b"join"
        ask.body(*TEXT[800:], STOP, USAGE, DONE).end()
        assert first.reply.body == WHOLE
        assert b"[DONE]" not in second.reply.body
        rows = {row.replay: row for row in h.book.settled}
        assert rows[None].outcome == "COMPLETE"
        assert "cannot be read" in (rows["join"].cause or "")
        if kept == "on the shelf":
            flush(h)
        again = chat(h, AGAIN)
        h.loop.settle()
        assert (len(h.asks), replay(again)) == (2, None)
        h.last.answer().body(*TEXT, STOP, USAGE, DONE).end()
        assert again.reply.body == WHOLE
        h.check_quiet()


@pytest.mark.parametrize("reads", [1, 4, 13])
@EACH_LOG
def test_another_try_and_a_client_that_leaves_give_their_places_back(tmp_path: Path, segments: int, reads: int) -> None:
    with house(tmp_path, segments) as h:
        first = chat(h)
        ask = h.last.answer()
        for at in range(0, 600, reads):
            ask.body(*TEXT[at : at + reads])
        desk = desk_in(h)
        assert desk.log.segments > 4
        first.leave()
        h.loop.wait(10.0)
        desk.sweep(h.loop.time())
        assert (desk.holds, desk.budget.used) == (False, 0)
