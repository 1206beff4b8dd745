"""Long streams whose notes lie on the disk: joined at any time, told again from the beginning, and what happens where the disk cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from penstock.dedup import Rules, Shelf
from penstock.exchange.conduct import Conduct
from tests.dedup.test_shelf import file_of, shelf_in, wait_until
from tests.exchange.test_joining import AGAIN, EACH_STORE, chat, replay
from tests.support.exchanges import CHUNK, DONE, STOP, USAGE, Asker, House
from tests.support.kept import STORES, Make, desk_of

TEXT = [CHUNK.replace(b'"content":"', b'"content":"%d ' % at) for at in range(900)]
WHOLE = b"".join(TEXT) + STOP + USAGE + DONE


def house(shelf: Shelf, make: Make = STORES["memory"]) -> House:
    return House(conduct=Conduct(dedup=Rules("retries")), desk=desk_of(10, 1 << 20, make=make, shelf=shelf))


@EACH_STORE
def test_it_is_joined_and_told_again_as_from_memory(tmp_path: Path, make: Make) -> None:
    shelf = shelf_in(tmp_path)
    with house(shelf, make) as h:
        first = chat(h)
        ask = h.last.answer()
        others: list[Asker] = []
        for at in range(0, 900, 100):
            ask.body(*TEXT[at : at + 100])
            others.append(chat(h, AGAIN))
            h.loop.settle()
            assert others[-1].reply.body == b"".join(TEXT[: at + 100])
        assert shelf.pieces >= 3
        assert shelf.flush()
        ask.body(STOP, USAGE, DONE).end()
        late = chat(h, AGAIN)
        h.loop.settle()
        assert len(h.asks) == 1
        assert {other.reply.body for other in (first, *others, late)} == {WHOLE}
        assert [replay(other) for other in (first, others[0], late)] == [None, b"join", b"hit"]
        assert {row.outcome for row in h.book.settled} == {"COMPLETE"}
        h.check_quiet()


def test_who_reads_slowly_has_it_until_the_end_although_it_is_kept_no_more(tmp_path: Path) -> None:
    shelf = shelf_in(tmp_path)
    with house(shelf) as h:
        chat(h)
        h.last.answer().body(*TEXT, STOP, USAGE, DONE).end()
        slow = chat(h, AGAIN)
        slow.pause()
        h.loop.settle()
        h.loop.wait(20.0)
        assert h.gateway.desk is not None
        h.gateway.desk.sweep(h.loop.time() + 100)
        others = [shelf.put(b"another's" * 100) for _ in range(300)]
        assert shelf.flush()
        assert len(others) == 300
        slow.resume()
        h.loop.settle()
        assert slow.reply.body == WHOLE


def test_notes_that_cannot_be_read_end_the_follower_and_not_the_leader(tmp_path: Path) -> None:
    shelf = shelf_in(tmp_path)
    with house(shelf) as h:
        first = chat(h)
        ask = h.last.answer()
        ask.body(*TEXT)
        assert shelf.flush()
        os.ftruncate(file_of(tmp_path), 0)
        second = chat(h, AGAIN)
        h.loop.settle()
        ask.body(STOP, USAGE, DONE).end()
        assert first.reply.body == WHOLE
        assert b"[DONE]" not in second.reply.body
        assert b'"error"' in second.reply.body
        rows = {row.replay: row for row in h.book.settled}
        assert rows[None].outcome == "COMPLETE"
        assert "cannot be read" in (rows["join"].cause or "")
        h.check_quiet()


def test_a_kept_answer_that_cannot_be_read_is_asked_for_anew(tmp_path: Path) -> None:
    shelf = shelf_in(tmp_path)
    with house(shelf) as h:
        chat(h)
        h.last.answer().body(*TEXT, STOP, USAGE, DONE).end()
        assert shelf.flush()
        os.ftruncate(file_of(tmp_path), 0)
        chat(h, AGAIN)
        assert len(h.asks) == 2


@pytest.mark.parametrize("reads", [1, 4, 13])
def test_another_try_and_a_client_that_leaves_give_their_places_back(tmp_path: Path, reads: int) -> None:
    shelf = shelf_in(tmp_path)
    with house(shelf) as h:
        first = chat(h)
        ask = h.last.answer()
        for at in range(0, 600, reads):
            ask.body(*TEXT[at : at + reads])
        assert shelf.pieces > 1
        first.leave()
        h.loop.wait(10.0)
    del first, ask, h
    wait_until(lambda: shelf.pieces == 0)
