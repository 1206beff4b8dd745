"""Answers with followers at their edges: leaders that stall, leave or try again, and what becomes of those who follow."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from random import Random
from typing import Any

import pytest

from penstock.admission.budget.spec import make_budget
from penstock.admission.settings import AdmissionSettings
from penstock.capture import Order, Phase
from penstock.capture.store import Store
from penstock.dedup import Evidence, Match, MemoryAnswers, Mode, Record, Rules
from penstock.exchange.conduct import Conduct, NonstreamMode, Retries
from penstock.exchange.contract import Headers
from penstock.exchange.drive import Exchange
from penstock.exchange.following import BEHIND
from penstock.exchange.gateway import Settings
from penstock.pipeline.pseudo import Pace
from penstock.pipeline.timers import Timers
from penstock.upstream.contract import LossKind, ResponseHead
from penstock.vocabulary.ids import ProtocolId
from tests.exchange.test_joining import AGAIN, EACH_STORE, MIB, WHOLE, chat, complete, house, joined, replay
from tests.laws.talk import DIALECTS, Dialect
from tests.support import captures
from tests.support.admitted import Admitted
from tests.support.answers import ANSWERS
from tests.support.exchanges import CHUNK, DONE, REQUESTS, STOP, USAGE, Asker, FakeAsk, House, told_last
from tests.support.kept import ANY, Leading, Make, desk_of

LONG = b'data: {"id":"c1","model":"m","choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % (b"x" * 65536)
BOUNCE = {"error": {"message": "Streaming is required for operations that may take longer than 10 minutes", "type": "invalid_request_error"}}


def test_a_request_that_cannot_be_told_in_its_form_is_asked_as_it_came() -> None:
    """Below a provider's name no answer changes its form; what was tried for it leaves no trace."""
    with house() as h:
        path = "/openai/v1/chat/completions"
        chat(h, path=path)
        complete(h)
        plain = chat(h, AGAIN, path, stream=None, stream_options=None)
        assert len(h.asks) == 2
        assert b'"stream"' not in h.last.sent_body
        h.last.answer_json(ANSWERS[ProtocolId.OPENAI_CHAT].body)
        assert plain.reply.json() == ANSWERS[ProtocolId.OPENAI_CHAT].body
        kept = chat(h, AGAIN, path, stream=None, stream_options=None)
        h.loop.settle()
        assert (replay(kept), kept.reply.json(), len(h.asks)) == (b"hit", plain.reply.json(), 2)
        h.check_quiet()


@EACH_STORE
def test_a_leader_that_takes_nothing_is_let_go_and_those_who_follow_go_on(make: Make) -> None:
    with house(make=make, timers=Timers(client_stall=5.0, idle=60.0)) as h:
        first, ask, second = joined(h)
        first.pause()
        h.loop.wait(5.2)
        assert (first.reply.over, ask.live) == ("aborted", True)
        ask.body(CHUNK, STOP, USAGE, DONE)
        h.loop.settle()
        assert (second.reply.body, second.reply.over) == (WHOLE, "ended")
        leader, follower = sorted(h.book.settled, key=lambda row: row.id)
        assert (leader.outcome, leader.timer, leader.ended_by, leader.output_tokens) == ("TIMED_OUT", "client_stall", "client", 2)
        assert (follower.outcome, follower.output_tokens) == ("COMPLETE", 0)
        kept = chat(h)
        h.loop.settle()
        assert (replay(kept), kept.reply.body) == (b"hit", WHOLE), "it left before the end, and what it asked for is whole"
        h.check_quiet()


def held_back(h: House) -> tuple[Asker, FakeAsk, Asker]:
    """A leader that does not read, its provider, which is not read for that, and who follows and has read all that came."""
    first, ask, second = joined(h)
    first.pause()
    while not ask.paused:
        ask.body(LONG)
    return first, ask, second


def test_a_leader_that_holds_the_provider_back_costs_those_who_follow_no_timer() -> None:
    with house(total=8 * MIB, timers=Timers(client_stall=30.0, idle=5.0)) as h:
        first, ask, second = held_back(h)
        assert len(second.reply.body) > BEHIND
        h.loop.wait(20.0)
        assert second.reply.over is None, "the provider is not silent: it is not read"
        first.resume()
        assert not ask.paused
        ask.body(STOP, USAGE, DONE).end()
        h.loop.settle()
        assert first.reply.body == second.reply.body.replace(b": keep-alive\n", b"")
        assert {row.outcome for row in h.book.settled} == {"COMPLETE"}
        h.check_quiet()


def test_who_follows_a_client_that_reads_slowly_is_not_blamed_for_it_and_kept_alive() -> None:
    with house(total=8 * MIB, keepalive=2.0, timers=Timers(client_stall=5.0, idle=5.0)) as h:
        first, ask, second = held_back(h)
        told = len(second.reply.body)
        for waiting in range(20, 10, -1):  # bit by bit, and never so much that it could be given more
            first.reply.waiting = waiting
            h.loop.wait(2.0)
        assert first.reply.over is second.reply.over is None
        assert second.reply.body[told:].count(b": keep-alive") >= 8
        second.pause()
        second.reply.waiting = 7
        for waiting, over in ((9, None), (8, None), (7, "aborted")):
            first.reply.waiting = waiting
            h.loop.wait(2.0)
            assert second.reply.over == over, "it has read until it paused"
        assert first.reply.over is None
        first.resume()
        ask.body(STOP, USAGE, DONE).end()
        h.loop.settle()
        assert sorted(row.outcome or "" for row in h.book.settled) == ["COMPLETE", "TIMED_OUT"]
        h.check_quiet()


def test_where_nobody_reads_and_the_leader_leaves_the_provider_is_not_blamed() -> None:
    with house(timers=Timers(client_stall=30.0, idle=5.0)) as h:
        first, ask, second = joined(h)
        first.pause()
        second.pause()
        assert ask.paused
        first.leave()
        h.loop.wait(20.0)
        assert ask.live
        second.resume()
        assert not ask.paused
        ask.body(CHUNK, STOP, USAGE, DONE)
        h.loop.settle()
        assert (second.reply.body, second.reply.over) == (WHOLE, "ended")
        h.check_quiet()


def test_a_paused_leader_that_tries_again_is_read_for_those_who_follow() -> None:
    """Its client reads nothing of the keep-alives behind an early head."""
    with house(early_head=1.0, keepalive=1.0, retries=Retries(connect=1)) as h:
        first = chat(h)
        second = chat(h, AGAIN)
        h.loop.wait(1.5)
        assert first.reply.status == second.reply.status == 200
        first.pause()
        h.last.lose(LossKind.CONNECT)
        h.until(lambda: len(h.asks) == 2)
        assert not h.last.paused, "somebody reads"
        h.last.answer().body(CHUNK)
        h.loop.settle()
        second.pause()
        assert h.last.paused
        first.resume()
        assert not h.last.paused
        h.last.body(CHUNK, STOP, USAGE, DONE).end()
        second.resume()
        h.loop.settle()
        for client in (first, second):
            assert client.reply.body.replace(b": keep-alive\n\n", b"").endswith(WHOLE)
        h.check_quiet()


@EACH_STORE
def test_a_slow_follower_that_leaves_behind_the_end_may_come_again(make: Make) -> None:
    with house(make=make) as h:
        chat(h)
        ask = h.last.answer()
        ask.body(CHUNK)
        second = chat(h, AGAIN)
        h.loop.settle()
        second.pause()
        ask.body(CHUNK, STOP, USAGE, DONE).end()
        second.leave()
        third, fourth = chat(h), chat(h)
        h.loop.settle()
        assert (replay(third), third.reply.body, replay(fourth), len(h.asks)) == (b"hit", WHOLE, None, 2)


def test_a_retry_is_told_the_answer_that_was_left_rather_than_another_equal_one() -> None:
    """Of equal requests that run side by side each is somebody's sample."""
    with house() as h:
        left = chat(h)
        h.last.answer().body(CHUNK)
        chat(h)
        other = h.last.answer().body(LONG)
        left.leave()
        again = chat(h, AGAIN)
        h.loop.settle()
        assert (replay(again), again.reply.body, len(h.asks)) == (b"join", CHUNK, 2)
        other.body(STOP, DONE).end()


def test_a_search_reads_no_more_bodies_than_it_may() -> None:
    """Thousands of large conversations of one client may be under way when one of them is asked again."""
    rules, place = Rules(), (b"d", "p", "m")
    desk = desk_of(10, 1 << 30)
    filler = "x" * (1 << 20)
    records = [Record(f"px-{n}", place, json.dumps({"n": n, "messages": filler}).encode(), None) for n in range(20)]
    for record in records:
        desk.open(record, Leading())
    asked = Record("px-a", place, json.dumps({"messages": filler, "n": 0}).encode(), None)
    assert desk.find(asked, rules, 0.0, again=True, fits=ANY) is None
    assert sum(record.digest is not None for record in records) == 3
    exact = Record("px-b", place, records[0].body, None)
    assert desk.find(exact, rules, 0.0, again=True, fits=ANY) == Match(records[0], Evidence.TRIES), "what is the same byte by byte needs no reading"


@pytest.mark.parametrize("when", ["before the head", "while it is looked at"])
@pytest.mark.parametrize("mode", ["usage", "bounce"])
def test_an_error_about_what_the_gateway_added_is_told_to_nobody_who_follows(mode: str, when: str) -> None:
    """The leader's client has left, so there is no other try; an official client tries a 502 again, and a 400 not."""
    nonstream: NonstreamMode = "retry" if mode == "bounce" else "passthrough"
    more: dict[str, Any] = {"stream": None} if mode == "bounce" else {}
    error = BOUNCE if mode == "bounce" else {"error": {"message": "stream_options.include_usage: unknown field", "type": "t"}}
    path = "/v1/messages" if mode == "bounce" else "/v1/chat/completions"
    with house(nonstream=nonstream) as h:
        first = chat(h, path=path, stream_options=None, **more)
        second = chat(h, AGAIN, path, stream_options=None, **more)
        assert len(h.asks) == 1
        if when == "before the head":
            first.leave()
            h.last.answer_json(error, 400)
        else:
            body = json.dumps(error).encode()
            h.last.answer(400, [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]).body(body[:20])
            first.leave()
            h.last.body(body[20:])
            h.last.end()
        h.loop.settle()
        assert (second.reply.status, second.reply.over) == (502, "ended")
        assert b"had added" in second.reply.body
        assert [row.outcome for row in sorted(h.book.settled, key=lambda row: row.id)] == ["CLIENT_GONE", "UPSTREAM_LOST"]
        h.check_quiet()


def test_a_stream_that_was_asked_for_without_usage_is_not_told_to_who_wants_it() -> None:
    with House(conduct=Conduct(dedup=Rules(), nonstream="force"), desk=desk_of(10, MIB), openai={"ask_usage": False}) as h:
        plain = chat(h, stream=None, stream_options=None)
        assert b"include_usage" not in h.last.sent_body
        h.last.answer().body(CHUNK, STOP, DONE).end()
        assert plain.reply.over == "ended"
        asked = chat(h, AGAIN)
        h.loop.settle()
        assert (replay(asked), len(h.asks)) == (None, 2)


def test_what_an_exchange_does_is_never_what_a_part_of_it_only_asks_for() -> None:
    """Its parts are classes beside each other: one that only names what another does must not stand before it."""
    assert [name for name in dir(Exchange) if getattr(getattr(Exchange, name), "__isabstractmethod__", False)] == []


@pytest.mark.parametrize("mode", ["retries", "always"])
def test_a_body_that_came_in_one_read_is_kept_for_a_while_and_then_forgotten(mode: Mode) -> None:
    with house(mode) as h:
        body = ANSWERS[ProtocolId.OPENAI_CHAT].json
        asked = chat(h, stream=None, stream_options=None)
        ask, head = h.last, ResponseHead(200, [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))])
        receiver, ask.receiver = ask.to, None
        h.run(receiver.answer_whole, head, body, h.loop.now)
        assert asked.reply.body == body
        desk = h.gateway.desk
        assert desk is not None
        assert desk.holds
        kept = chat(h, AGAIN, stream=None, stream_options=None)
        h.loop.settle()
        assert (replay(kept), kept.reply.body) == (b"hit", body)
        h.loop.wait(16.0)
        assert (desk.holds, desk.budget.used) == (False, 0)
        chat(h, AGAIN, stream=None, stream_options=None)
        assert len(h.asks) == 2


@pytest.mark.parametrize("size", [7000, 12000])
@pytest.mark.parametrize("how", ["at once", "in some reads", "a stream"])
def test_whatever_way_an_answer_came_it_is_kept_only_within_its_bound(how: str, size: int) -> None:
    """Of its notes, which of a stream in which nothing recurs are all of it."""
    settings = Settings(noted_bytes=8192)
    with House(settings, conduct=Conduct(dedup=Rules("always")), desk=desk_of(10, MIB)) as h:
        streamed, noise = how == "a stream", b64encode(Random(1).randbytes(size))
        more: dict[str, Any] = {} if streamed else {"stream": None, "stream_options": None}
        body = json.dumps({**ANSWERS[ProtocolId.OPENAI_CHAT].body, "padding": ""}).encode()
        body = body.replace(b'"padding": ""', b'"padding": "%b"' % noise[: size - len(body)])
        stream = b"data: " + noise[: size - 7 - len(STOP + USAGE + DONE)] + b"\n" + STOP + USAGE + DONE
        chat(h, **more)
        if how == "at once":
            receiver, h.last.receiver = h.last.to, None
            head = ResponseHead(200, [(b"content-type", b"application/json"), (b"content-length", b"%d" % size)])
            h.run(receiver.answer_whole, head, body, h.loop.now)
        elif streamed:
            h.last.answer().body(stream).end()
        else:
            h.last.answer(200, [(b"content-type", b"application/json"), (b"content-length", b"%d" % size)]).body(body[:500], body[500:]).end()
        assert h.row().outcome == "COMPLETE"
        again = chat(h, **more)
        h.loop.settle()
        assert replay(again) == (b"hit" if size == 7000 else None)


@EACH_STORE
def test_captures_of_who_leads_and_of_who_follows_have_what_each_was_told(tmp_path: Path, make: Make) -> None:
    with house(make=make) as h:
        h.gateway.recorder = recorder = captures.make(tmp_path)
        recorder.turn_on(Order(count=3))
        chat(h)
        ask = h.last.answer()
        ask.body(CHUNK)
        second = chat(h, AGAIN)
        h.loop.settle()
        ask.body(CHUNK, STOP, USAGE, DONE).end()
        third = chat(h, AGAIN, stream=None, stream_options=None)
        h.loop.settle()
        assert (second.reply.body, replay(second), replay(third)) == (WHOLE, b"join", b"hit")
        assert recorder.flush()
        store = Store(tmp_path)
        bodies: dict[Phase, list[bytes]] = {Phase.UPSTREAM_RESPONSE: [], Phase.OUTBOUND_RESPONSE: []}
        for item in store.items():
            assert item.meta is not None
            for phase, found in bodies.items():
                part = item.meta.last(phase)
                assert part is not None
                found.append(store.read(item, part).body)
        assert bodies[Phase.UPSTREAM_RESPONSE] == [WHOLE] * 3
        assert sorted(bodies[Phase.OUTBOUND_RESPONSE]) == sorted([WHOLE, WHOLE, third.reply.body])
        recorder.close()
        h.check_quiet()


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("protocol", list(ProtocolId), ids=lambda p: p.value)
def test_a_leader_that_leaves_between_two_tries_makes_the_next_one_for_those_who_follow(protocol: ProtocolId, early: bool) -> None:
    more: dict[str, Any] = {"early_head": 0.1, "keepalive": 60.0} if early else {}
    with house("always", retries=Retries(status=1), **more) as h:
        first, ask = h.stream(protocol)
        second, again = h.stream(protocol)
        assert again is ask
        h.loop.wait(0.3)
        ask.answer_json({"error": {"message": "busy", "type": "t"}}, 503)
        first.leave()
        h.loop.settle()
        assert (len(h.asks), second.reply.over) == (1, None)
        h.until(lambda: len(h.asks) == 2)
        answer = ANSWERS[protocol]
        h.last.answer().body(answer.stream)
        if h.last.live:
            h.last.end()
        h.loop.settle()
        assert (second.reply.status, second.reply.over) == (200, "ended")
        assert second.reply.body.endswith(answer.stream)
        leader, follower = sorted(h.book.settled, key=lambda row: row.id)
        assert (leader.outcome, leader.ended_by, leader.retries) == ("CLIENT_GONE", "client", 1)
        assert (leader.input_tokens, leader.output_tokens) == answer.usage
        assert (follower.outcome, follower.replay, follower.replay_of) == ("COMPLETE", "join", leader.id)
        h.check_quiet()


@pytest.mark.parametrize("how", ["nobody follows", "who follows leaves, too", "the try fails", "the gateway stops"])
def test_the_next_try_of_a_leader_that_left_ends_as_any(how: str) -> None:
    with house("always", retries=Retries(status=5)) as h:
        first = chat(h)
        second = chat(h) if how != "nobody follows" else None
        h.last.answer_json({"error": {"message": "busy", "type": "t"}}, 503)
        first.leave()
        if second is None:
            assert h.row().outcome == "CLIENT_GONE"
        elif how == "who follows leaves, too":
            second.leave()
        elif how == "the gateway stops":
            h.run(h.gateway.shut_down)
        else:
            h.until(lambda: len(h.asks) == 2)
            h.last.answer_json({"error": {"message": "still busy", "type": "t"}}, 503)
        h.loop.wait(10.0)
        assert len(h.asks) == (1 if second is None or how == "the gateway stops" else 2)
        if second is not None and how == "the try fails":
            assert (second.reply.status, second.reply.json()["error"]["message"]) == (503, "still busy")
            assert second.intake.exchange.entry.outcome == "UPSTREAM_ERROR"
        assert first.intake.exchange.entry.outcome == "CLIENT_GONE"
        h.check_quiet()


def test_a_leader_that_stops_reading_between_two_tries_holds_nobody_up() -> None:
    with house(early_head=1.0, keepalive=1.0, retries=Retries(connect=1)) as h:
        first = chat(h)
        second = chat(h, AGAIN)
        h.loop.wait(1.5)
        h.last.lose(LossKind.CONNECT)
        first.pause()
        h.until(lambda: len(h.asks) == 2)
        assert not h.last.paused, "somebody reads"
        h.last.answer().body(CHUNK)
        h.loop.settle()
        assert second.reply.body.endswith(CHUNK)
        h.last.body(STOP, USAGE, DONE).end()
        first.resume()
        h.loop.settle()
        assert first.reply.body.endswith(CHUNK + STOP + USAGE + DONE)
        h.check_quiet()


def test_those_who_follow_and_stop_reading_between_two_tries_hold_the_next_one() -> None:
    with house(early_head=1.0, keepalive=1.0, retries=Retries(connect=1)) as h:
        first = chat(h)
        second = chat(h, AGAIN)
        h.loop.wait(1.5)
        h.last.lose(LossKind.CONNECT)
        first.leave()
        second.pause()
        h.until(lambda: len(h.asks) == 2)
        assert h.last.paused, "nobody reads"
        second.resume()
        assert not h.last.paused
        h.last.answer().body(CHUNK, STOP, USAGE, DONE)
        h.loop.settle()
        assert second.reply.body.endswith(CHUNK + STOP + USAGE + DONE)
        h.check_quiet()


@pytest.mark.parametrize("leaves", [False, True])
@pytest.mark.parametrize("talk", DIALECTS, ids=lambda d: d.protocol.value)
def test_a_budget_that_cuts_the_leader_ends_those_who_follow_with_an_error(talk: Dialect, leaves: bool) -> None:
    """It is the leader's budget: its stream is stopped in the protocol's own words; theirs was cut off. What was cut is not told again."""
    settings = AdmissionSettings(budgets=(make_budget("tokens", "150", "day", "cut", (), "purse"),))
    with Admitted(settings, house=house("always")) as admitted:
        h = admitted.house
        first, _ = h.stream(talk.protocol)
        h.loop.settle()
        ask = h.last.answer()
        second, _ = h.stream(talk.protocol)
        h.loop.settle()
        assert len(h.asks) == 1
        ask.body(talk.head())
        if leaves:
            first.leave()
        for _ in range(400):
            if ask.live:
                ask.body(talk.text())
        h.loop.settle()
        assert ask.cancelled
        told_last(talk.protocol, second.reply)
        rows = {row.replay: row for row in h.book.settled}
        assert len(h.book.settled) == 2
        assert (rows[None].outcome, rows["join"].outcome) == ("CLIENT_GONE" if leaves else "CUT", "UPSTREAM_LOST")
        assert (rows["join"].output_tokens, rows["join"].charged_output, rows["join"].rule) == (0, None, None)
        if not leaves:
            assert b'"error":{' not in first.reply.body.replace(b" ", b"")
        third = h.post(*REQUESTS[talk.protocol])
        h.loop.settle()
        assert replay(third) is None, "what was cut is kept for nobody"
        admitted.check()


@EACH_STORE
@pytest.mark.parametrize("over", [False, True])
def test_an_answer_in_a_form_that_cannot_be_told_hides_none_that_can(make: Make, over: bool) -> None:
    """Gemini's two kinds of streams are not told in each other's form; both are equal but for that."""
    with house("always", make=make) as h:
        path, body = REQUESTS[ProtocolId.GEMINI]
        kinds = path, path.removesuffix("?alt=sse")
        pieces = ANSWERS[ProtocolId.GEMINI].stream, b'[{"candidates":[{"content":{"parts":[{"text":"x"}]},"finishReason":"STOP"}]}]'
        firsts = [h.post(kind, body) for kind in kinds]
        assert len(h.asks) == 2
        array: Headers = [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")]

        def end() -> None:
            for ask, piece, headers in zip(list(h.asks), pieces, (None, array), strict=True):
                ask.answer(200, headers).body(piece).end()

        if over:
            end()
        again = [h.post(kind, body) for kind in kinds]
        assert len(h.asks) == 2
        if not over:
            end()
        h.loop.settle()
        assert [replay(client) for client in again] == [b"hit" if over else b"join"] * 2
        assert [client.reply.body for client in again] == [client.reply.body for client in firsts] == list(pieces)
        h.check_quiet()


@pytest.mark.parametrize("streamed", [True, False])
def test_a_body_that_has_no_room_when_its_exchange_no_longer_needs_it_costs_the_replay_alone(streamed: bool) -> None:
    """Somebody followed while the provider was dialed, and left."""
    with house(total=10_000) as h:
        more: dict[str, Any] = {"pad": "x" * 20_000} | ({} if streamed else {"stream": None, "stream_options": None})
        first, second = chat(h, **more), chat(h, AGAIN, **more)
        assert len(h.asks) == 1
        second.leave()
        h.loop.settle()
        if streamed:
            h.last.answer().body(*[CHUNK] * 30, STOP, USAGE, DONE).end()
        else:
            h.last.answer_json(ANSWERS[ProtocolId.OPENAI_CHAT].body)
        h.loop.settle()
        assert first.reply.over == "ended"
        h.loop.wait(20)
        desk = h.gateway.desk
        assert desk is not None
        assert (desk.holds, desk.budget.used) == (False, 0)
        h.check_quiet()


def test_notes_that_found_no_room_leave_nothing_behind_where_another_try_follows() -> None:
    with house(total=20_000, retries=Retries(first_frame=1)) as h:
        desk = h.gateway.desk
        assert desk is not None
        first = chat(h)
        others = desk.budget.total - desk.budget.used - 500
        assert desk.budget.take(others)
        h.last.answer().body(*[b": ping\n\n"] * 200, b'data: {"error":{"message":"overloaded","type":"server_error"}}\n\n')
        desk.budget.give(others)
        h.loop.wait(1.0)
        assert len(h.asks) == 2
        h.last.answer().body(CHUNK * 200, STOP, USAGE, DONE).end()  # so much is written down at once
        h.loop.wait(20)
        assert first.reply.over == "ended"
        assert (desk.holds, desk.budget.used) == (False, 0)
        h.check_quiet()


def test_what_came_of_a_try_that_is_over_is_told_to_nobody() -> None:
    with house(retries=Retries(first_frame=1)) as h:
        first = chat(h)
        h.last.answer().body(*[b": ping\n\n"] * 3, b'data: {"error":{"message":"overloaded","type":"server_error"}}\n\n')
        second = chat(h, AGAIN)  # between the tries
        h.loop.wait(1.0)
        assert len(h.asks) == 2
        h.last.answer().body(CHUNK, STOP, USAGE, DONE).end()
        h.loop.settle()
        assert (first.reply.body, second.reply.body) == (CHUNK + STOP + USAGE + DONE,) * 2
        h.check_quiet()


def test_a_request_that_is_refused_pushes_nothing_out_that_is_kept() -> None:
    with house(total=40_000) as h:
        chat(h)
        complete(h)
        h.book.full = True
        refused = chat(h, pad="y" * 39_800)
        assert refused.reply.status == 503
        assert h.gateway.desk is not None
        assert isinstance(h.gateway.desk.store, MemoryAnswers)
        assert len(h.gateway.desk.store) == 1
        h.check_quiet()


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("mode", ["retries", "always"])
def test_an_answer_in_a_coding_that_nobody_asked_for_is_joined_in_its_own_form_only(mode: Mode, streamed: bool) -> None:
    """It cannot be read here, so it cannot be told in another form: who wants that asks by itself."""
    plain: dict[str, Any] = {"stream": None, "stream_options": None}
    wants, other = ({}, plain) if streamed else (plain, {})
    kind = b"text/event-stream" if streamed else b"application/json"
    with house(mode) as h:
        first = chat(h, **wants)
        ask = h.last.answer(200, [(b"content-type", kind), (b"content-encoding", b"br"), (b"transfer-encoding", b"chunked")]).body(b"\x0b\x02")
        same, another = chat(h, AGAIN, **wants), chat(h, AGAIN, **other)
        h.loop.settle()
        assert len(h.asks) == 2
        if streamed:
            h.last.answer_json(ANSWERS[ProtocolId.OPENAI_CHAT].body)
        else:
            h.last.answer().body(WHOLE).end()
        ask.body(b"\x80\x03").end()
        h.loop.settle()
        assert [one.reply.body for one in (first, same)] == [b"\x0b\x02\x80\x03"] * 2
        assert (replay(same), replay(another), another.reply.status) == (b"join", None, 200)
        assert another.reply.json() == ANSWERS[ProtocolId.OPENAI_CHAT].body if streamed else another.reply.body == WHOLE
        h.check_quiet()


@EACH_STORE
@pytest.mark.parametrize("over", [True, False])
def test_a_stream_that_came_although_a_body_was_asked_for_is_told_again_as_what_it_is(make: Make, over: bool) -> None:
    with house("always", make=make, pace=Pace()) as h:
        first = chat(h)
        ask = h.last
        if over:
            ask.answer().body(CHUNK, STOP, DONE).end()
        body, stream = chat(h, stream=None, stream_options=None), chat(h, stream_options=None)
        if not over:
            ask.answer().body(CHUNK, STOP, DONE).end()
        h.loop.settle()
        assert [replay(client) for client in (body, stream)] == [b"hit" if over else b"join"] * 2
        assert body.reply.json()["choices"][0]["message"]["content"] == "a"
        assert stream.reply.body == first.reply.body == CHUNK + STOP + DONE
        assert len(h.asks) == 1
        h.check_quiet()
