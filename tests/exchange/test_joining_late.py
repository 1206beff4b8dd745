"""Running answers that are joined at an awkward moment: the provider is not read just then, or what is noted has no room any more."""

from __future__ import annotations

from base64 import b64encode
from random import Random

import pytest

from penstock.dedup import Rules
from penstock.exchange.conduct import Conduct, Retries, Timers
from penstock.exchange.gateway import Settings
from penstock.vocabulary.ids import ProtocolId
from tests.exchange.test_joining import AGAIN, MIB, PLAIN, budgeted, chat, coded, house, replay
from tests.exchange.test_joining_ends import held_back
from tests.support.answers import ANSWERS
from tests.support.exchanges import CHUNK, DONE, STOP, USAGE, House
from tests.support.kept import desk_of, log_in_memory


@pytest.mark.parametrize("leaves", [False, True])
def test_who_joins_while_the_leader_holds_the_provider_back_is_told_all_at_once_and_the_rest_later(leaves: bool) -> None:
    with house(total=8 * MIB, timers=Timers(client_stall=30.0, idle=5.0)) as h:
        first, ask, second = held_back(h)
        late = chat(h, AGAIN)
        h.loop.settle()
        assert replay(late) == b"join"
        assert late.reply.body == second.reply.body
        h.loop.wait(2.0)
        first.leave() if leaves else first.resume()
        assert not ask.paused
        ask.body(CHUNK, STOP, USAGE, DONE)
        if ask.live:
            ask.end()
        h.loop.settle()
        assert late.reply.body == second.reply.body
        assert late.reply.body.endswith(CHUNK + STOP + USAGE + DONE)
        assert (late.reply.over, second.reply.over) == ("ended", "ended")
        h.check_quiet()


def test_a_follower_whose_guards_have_caught_up_while_it_is_held_back_is_told_the_rest() -> None:
    with house(total=8 * MIB, timers=Timers(client_stall=30.0, idle=5.0)) as h:
        first, ask, second = held_back(h)
        h.run(second.handler.exchange.read_or_not)
        first.resume()
        ask.body(CHUNK, STOP, USAGE, DONE).end()
        h.loop.settle()
        assert second.reply.body.endswith(CHUNK + STOP + USAGE + DONE)
        h.check_quiet()


def test_who_joins_just_when_the_notes_find_no_room_is_told_the_rest_all_the_same() -> None:
    long = b'data: {"id":"c1","model":"m","choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % b64encode(Random(1).randbytes(3000))
    with house(total=40_000) as h:
        desk = h.gateway.desk
        assert desk is not None
        first = chat(h)
        ask = h.last.answer()
        ask.body(long)  # it is not written down yet
        others = desk.budget.total - desk.budget.used - 500
        assert desk.budget.take(others)
        second = chat(h, AGAIN)
        h.loop.settle()
        ask.body(CHUNK, STOP, USAGE, DONE).end()
        h.loop.settle()
        assert (replay(second), len(h.asks)) == (b"join", 1)
        assert first.reply.body == second.reply.body == long + CHUNK + STOP + USAGE + DONE
        assert {row.outcome for row in h.book.settled} == {"COMPLETE"}
        desk.budget.give(others)
        h.loop.wait(20.0)
        assert desk.budget.used == 0
        h.check_quiet()


def test_what_came_of_a_try_that_is_over_is_told_to_nobody_although_there_was_no_room_to_note_it() -> None:
    conduct = Conduct(dedup=Rules("retries"), retries=Retries(first_frame=1))
    with House(Settings(noted_bytes=500), conduct=conduct, desk=desk_of(10, MIB)) as h:
        first = chat(h)
        second = chat(h, AGAIN)
        h.loop.settle()
        h.last.answer().body(*[b": ping\n\n"] * 100, b'data: {"error":{"message":"overloaded","type":"server_error"}}\n\n')
        h.loop.wait(1.0)
        assert len(h.asks) == 2
        h.last.answer().body(CHUNK, STOP, USAGE, DONE).end()
        h.loop.settle()
        assert replay(second) == b"join"
        assert first.reply.body == second.reply.body == CHUNK + STOP + USAGE + DONE
        h.check_quiet()


def test_who_has_been_told_all_that_was_noted_misses_nothing_when_it_goes() -> None:
    with House(conduct=Conduct(dedup=Rules("retries")), desk=desk_of(10, MIB, log=log_in_memory(16 * 1024, 4096))) as h:
        desk = h.gateway.desk
        assert desk is not None
        first = chat(h)
        ask = h.last.answer()
        ask.body(CHUNK)
        second, slow = chat(h, AGAIN), chat(h, AGAIN)
        h.loop.settle()
        slow.pause()
        assert desk.budget.take(desk.budget.total - desk.budget.used)
        chunks = [CHUNK.replace(b'"a"', b'"%d"' % n) for n in range(1000)]
        ask.body(*chunks, STOP, USAGE, DONE).end()
        slow.resume()
        h.loop.settle()
        assert first.reply.body == second.reply.body == CHUNK + b"".join(chunks) + STOP + USAGE + DONE
        assert b"[DONE]" not in slow.reply.body
        assert sorted((row.replay or "", row.outcome or "") for row in h.book.settled) == [
            ("", "COMPLETE"), ("join", "COMPLETE"), ("join", "UPSTREAM_LOST"),
        ]  # fmt: skip
        desk.budget.give(desk.budget.used)
        h.check_quiet()


def test_whoever_has_a_row_takes_nothing_ahead() -> None:
    """What is set aside is on file before the row is, and that may be there by now."""
    with budgeted("always") as admitted:
        h, keeper = admitted.house, admitted.keeper
        keeper.ahead = True
        first, another = chat(h), chat(h, **PLAIN)
        coded(h.last, streamed=True)
        h.loop.settle()
        assert (len(h.asks), [first.reply.header(b"x-penstock-id")]) == (2, [id.encode() for id in keeper.took_ahead])
        h.last.answer_json(ANSWERS[ProtocolId.OPENAI_CHAT].body)
        h.asks[0].end()
        h.loop.settle()
        assert another.reply.status == 200
        admitted.check()
