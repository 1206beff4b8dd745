"""Answers that are told again, and running ones that are joined: who is asked how often, what each client gets, and what the rows say."""

from __future__ import annotations

import json
from base64 import b64encode
from random import Random
from typing import Any

import pytest

from penstock.admission.budget.spec import make_budget
from penstock.admission.limits.spec import make_limit
from penstock.admission.settings import AdmissionSettings
from penstock.dedup import MemoryAnswers, Mode, Rules
from penstock.exchange import drive
from penstock.exchange.conduct import Conduct
from penstock.exchange.contract import Headers
from penstock.exchange.gateway import Settings
from penstock.exchange.joining import GRACE
from penstock.pipeline.timers import Timers
from penstock.vocabulary.ids import ProtocolId
from tests.support.admitted import Admitted
from tests.support.answers import ANSWERS
from tests.support.exchanges import CHUNK, DONE, STOP, USAGE, Asker, FakeAsk, House
from tests.support.kept import STORES, Make, desk_of

AGAIN: Headers = [(b"x-stainless-retry-count", b"1")]
WHOLE = CHUNK + CHUNK + STOP + USAGE + DONE
MIB = 1 << 20
EACH_STORE = pytest.mark.parametrize("make", STORES.values(), ids=list(STORES))


def house(mode: Mode = "retries", entries: int = 10, total: int = MIB, make: Make = MemoryAnswers, **conduct: Any) -> House:
    return House(conduct=Conduct(dedup=Rules(mode), **conduct), desk=desk_of(entries, total, make=make))


def chat(h: House, headers: Headers | None = None, path: str = "/v1/chat/completions", **more: Any) -> Asker:
    body: dict[str, Any] = {"model": "m", "stream": True, "stream_options": {"include_usage": True}, "messages": [], **more}
    return h.post(path, {name: value for name, value in body.items() if value is not None}, headers)


def joined(h: House) -> tuple[Asker, FakeAsk, Asker]:
    """A stream of which a chunk has come, its provider, and who asked for it again."""
    first = chat(h)
    ask = h.last.answer()
    ask.body(CHUNK)
    second = chat(h, AGAIN)
    h.loop.settle()
    return first, ask, second


def complete(h: House) -> None:
    h.last.answer().body(CHUNK, CHUNK, STOP, USAGE, DONE).end()


def replay(client: Asker) -> bytes | None:
    return client.reply.header(b"x-penstock-replay")


# -- a running stream is joined ----------------------------------------------------------------------------------------------------------


def test_a_retry_gets_what_was_sent_so_far_and_then_the_rest_live() -> None:
    with house() as h:
        first, ask, second = joined(h)
        assert (len(h.asks), second.reply.body, replay(second), replay(first)) == (1, CHUNK, b"join", None)
        ask.body(CHUNK)
        assert first.reply.body == second.reply.body == CHUNK + CHUNK
        ask.body(STOP, USAGE, DONE).end()
        assert first.reply.body == second.reply.body == WHOLE
        assert (first.reply.over, second.reply.over) == ("ended", "ended")
        one, two = sorted(h.book.settled, key=lambda row: row.id)
        assert (one.outcome, two.outcome) == ("COMPLETE", "COMPLETE")
        assert (one.input_tokens, one.output_tokens, one.replay) == (3, 2, None)
        assert (two.input_tokens, two.output_tokens, two.usage_source, two.replay, two.replay_of) == (0, 0, "none", "join", one.id)
        assert two.spared is not None
        assert (two.spared.input_tokens, two.spared.output_tokens) == (3, 2)
        h.check_quiet()


def test_the_leaders_leaving_ends_nothing_while_somebody_follows() -> None:
    with house() as h:
        first = chat(h)
        ask = h.last.answer()
        ask.body(CHUNK)
        first.leave()
        h.loop.wait(GRACE / 2)
        second = chat(h)
        h.loop.settle()
        assert (len(h.asks), second.reply.body) == (1, CHUNK)
        h.loop.wait(GRACE * 2)
        assert ask.live
        ask.body(CHUNK, STOP, USAGE, DONE)
        h.loop.settle()
        assert (second.reply.body, second.reply.over) == (WHOLE, "ended")
        gone, whole = sorted(h.book.settled, key=lambda row: row.id)
        assert (gone.outcome, gone.ended_by, gone.input_tokens, gone.output_tokens) == ("CLIENT_GONE", "client", 3, 2)
        assert (whole.outcome, whole.input_tokens, whole.replay_of) == ("COMPLETE", 0, gone.id)
        h.check_quiet()


def test_the_last_one_to_leave_is_waited_for_and_then_the_provider_is_let_go() -> None:
    with house() as h:
        first = chat(h)
        ask = h.last.answer()
        ask.body(CHUNK)
        first.leave()
        second = chat(h)
        h.loop.settle()
        h.loop.wait(1.0)
        second.leave()
        h.loop.wait(GRACE - 0.2)
        assert ask.live
        h.loop.wait(0.4)
        assert ask.cancelled
        assert {row.outcome for row in h.book.settled} == {"CLIENT_GONE"}
        h.check_quiet()


def test_nobody_comes_and_the_provider_is_let_go_after_the_wait() -> None:
    with house() as h:
        client = chat(h)
        ask = h.last.answer()
        ask.body(CHUNK)
        client.leave()
        h.loop.wait(GRACE - 0.2)
        assert not ask.cancelled
        h.loop.wait(0.4)
        assert ask.cancelled
        [row] = h.book.settled
        assert (row.outcome, row.cause) == ("CLIENT_GONE", "the client closed its connection")
        third = chat(h, AGAIN)
        assert (len(h.asks), replay(third)) == (2, None)


def test_a_client_that_left_comes_back_once() -> None:
    with house() as h:
        first = chat(h)
        h.last.answer().body(CHUNK)
        first.leave()
        chat(h)
        h.loop.settle()
        chat(h)
        assert len(h.asks) == 2, "the third is a request of its own"


@EACH_STORE
def test_equal_requests_without_evidence_are_separate_and_always_is_one(make: Make) -> None:
    for mode, asks in (("retries", 100), ("always", 1)):
        with house(mode, make=make) as h:  # type: ignore[arg-type]
            clients = [chat(h) for _ in range(100)]
            for ask in list(h.asks):
                ask.answer().body(CHUNK, CHUNK, STOP, USAGE, DONE).end()
            h.loop.settle()
            assert len(h.asks) == asks
            assert {client.reply.body for client in clients} == {WHOLE}
            assert len(h.book.settled) == 100
            assert sum(row.input_tokens or 0 for row in h.book.settled) == 3 * asks
            h.check_quiet()


# -- a whole answer is told again --------------------------------------------------------------------------------------------------------


@EACH_STORE
def test_a_whole_answer_is_told_again_for_a_while(make: Make) -> None:
    with house(make=make) as h:
        chat(h)
        complete(h)
        h.loop.wait(4.9)
        second = chat(h, AGAIN)
        h.loop.settle()
        assert (len(h.asks), second.reply.body, replay(second), second.reply.over) == (1, WHOLE, b"hit", "ended")
        h.loop.wait(0.2)
        chat(h, AGAIN)
        assert len(h.asks) == 2


@EACH_STORE
def test_turns_of_tool_results_are_kept_longer(make: Make) -> None:
    messages = [{"role": "user", "content": "x"}, {"role": "tool", "tool_call_id": "c", "content": "y"}]
    with house(make=make) as h:
        chat(h, messages=messages)
        complete(h)
        h.loop.wait(14.9)
        chat(h, AGAIN, messages=messages)
        h.loop.settle()
        assert len(h.asks) == 1
        h.loop.wait(0.2)
        chat(h, AGAIN, messages=messages)
        assert len(h.asks) == 2


@EACH_STORE
@pytest.mark.parametrize("ending", ["error", "cut", "lost", "status", "in band"])
def test_what_is_not_whole_and_good_is_never_told_again(ending: str, make: Make) -> None:
    with house("always", make=make) as h:
        chat(h)
        ask = h.last
        match ending:
            case "status":
                ask.answer_json({"error": {"message": "x", "type": "t"}}, 429)
            case "error":
                ask.answer().body(b'data: {"error":{"message":"x","type":"t"}}\n\n', DONE)
            case "in band":
                ask.answer().body(CHUNK, b'data: {"error":{"message":"x","type":"t"}}\n\n').end()
            case "cut":
                ask.answer().body(CHUNK).end()
            case _:
                ask.answer().body(CHUNK).lose()
        h.loop.settle()
        chat(h)
        assert len(h.asks) == 2


# -- other forms -------------------------------------------------------------------------------------------------------------------------


@EACH_STORE
def test_a_body_is_put_together_from_a_stream_and_told_from_a_body(make: Make) -> None:
    with house(make=make) as h:
        first = chat(h)
        h.last.answer().body(CHUNK)
        first.leave()
        body = chat(h, stream=None, stream_options=None)
        h.loop.settle()
        assert (len(h.asks), body.reply.status) == (1, None)
        h.last.body(CHUNK, STOP, USAGE, DONE)
        h.loop.settle()
        told = body.reply.json()
        assert (told["choices"][0]["message"]["content"], told["usage"]["completion_tokens"], replay(body)) == ("aa", 2, b"join")
        kept = chat(h, AGAIN, stream=None, stream_options=None)
        h.loop.settle()
        assert (kept.reply.json(), replay(kept), len(h.asks)) == (told, b"hit", 1)
    with house(make=make) as h:
        chat(h, stream=None, stream_options=None)
        whole = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "so it is"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}  # fmt: skip
        h.last.answer_json(whole)
        stream = chat(h, AGAIN)
        h.loop.settle()
        frames = [json.loads(frame.removeprefix(b"data: ")) for frame in stream.reply.body.split(b"\n\n")[:-2]]
        assert "".join(frame["choices"][0]["delta"].get("content") or "" for frame in frames if frame["choices"]) == "so it is"
        assert (stream.reply.body.endswith(DONE), replay(stream), len(h.asks)) == (True, b"hit", 1)


@EACH_STORE
def test_usage_that_was_not_asked_for_is_taken_out_for_each_who_did_not_ask(make: Make) -> None:
    with house(make=make) as h:
        chat(h, stream_options=None)
        complete(h)
        asked, plain = chat(h, AGAIN), chat(h, AGAIN, stream_options=None)
        h.loop.settle()
        assert (asked.reply.body, plain.reply.body, len(h.asks)) == (WHOLE, WHOLE.replace(USAGE, b""), 1)


# -- nobody else's answer ----------------------------------------------------------------------------------------------------------------


@EACH_STORE
@pytest.mark.parametrize("mode", ["retries", "always"])
def test_nothing_crosses_identity_path_query_header_model_or_body(mode: Mode, make: Make) -> None:
    base: list[tuple[str, dict[str, Any], Headers]] = [
        ("/v1/chat/completions", {}, []),
        ("/v1/chat/completions", {}, [(b"authorization", b"Bearer one")]),
        ("/v1/chat/completions", {}, [(b"authorization", b"Bearer two")]),
        ("/v1/chat/completions", {}, [(b"x-api-key", b"one")]),
        ("/v1/chat/completions", {}, [(b"openai-organization", b"o")]),
        ("/v1/chat/completions", {}, [(b"x-forwarded-for", b"10.0.0.1")]),
        ("/v1/chat/completions?a=1", {}, []),
        ("/chat/completions", {}, []),
        ("/openai/v1/chat/completions", {}, []),
        ("/v1/chat/completions", {"model": "n"}, []),
        ("/v1/chat/completions", {"temperature": 1}, []),
        ("/v1/chat/completions", {"temperature": 1.0}, []),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "1"}]}, []),
        ("/v1/chat/completions", {"seed": 12345678901234567890123}, []),
        ("/v1/chat/completions", {"seed": 12345678901234567890124}, []),
    ]  # fmt: skip
    more = AGAIN if mode == "retries" else []
    with house(mode, entries=100, make=make) as h:
        for path, body, headers in base:
            chat(h, [*headers, *more], path, **body)
            assert h.asks[-1].live, (path, body, headers)
            complete(h)
        assert len(h.asks) == len(base)
        for path, body, headers in base:
            client = chat(h, [*headers, *more], path, **body)
            h.loop.settle()
            assert replay(client) == b"hit"
        assert len(h.asks) == len(base)


@EACH_STORE
def test_an_idempotency_key_stands_for_the_body(make: Make) -> None:
    with house(make=make) as h:
        key: Headers = [(b"idempotency-key", b"k1")]
        chat(h, key)
        h.last.answer().body(CHUNK)
        joined, plain, other = chat(h, key), chat(h), chat(h, [(b"idempotency-key", b"k2")])
        refused = chat(h, key, temperature=0)
        h.loop.settle()
        assert (replay(joined), replay(plain), replay(other), len(h.asks)) == (b"join", None, None, 3)
        assert (refused.reply.status, "Idempotency-Key" in refused.reply.json()["error"]["message"]) == (422, True)
        assert chat(h, [*key, (b"authorization", b"Bearer x")], temperature=0).reply.status is None, "another identity's key is another key"


# -- pressure ----------------------------------------------------------------------------------------------------------------------------


def test_a_follower_that_does_not_read_slows_nobody() -> None:
    with house() as h:
        first, ask, second = joined(h)
        second.pause()
        ask.body(CHUNK, STOP)
        assert (ask.paused, first.reply.body, second.reply.body) == (False, CHUNK + CHUNK + STOP, CHUNK)
        second.resume()
        h.loop.settle()
        assert second.reply.body == CHUNK + CHUNK + STOP
        first.pause()
        assert not ask.paused, "somebody reads"
        ask.body(USAGE)
        assert first.reply.body == second.reply.body == CHUNK + CHUNK + STOP + USAGE, "and what is sent meanwhile is held, within bounds"
        second.pause()
        assert ask.paused, "nobody reads"
        first.resume()
        assert not ask.paused
        ask.body(DONE).end()
        second.resume()
        h.loop.settle()
        assert first.reply.body == second.reply.body == WHOLE
        h.check_quiet()


def test_beyond_what_is_noted_nobody_joins_any_more() -> None:
    with House(Settings(noted_bytes=6000), conduct=Conduct(dedup=Rules()), desk=desk_of(10, MIB)) as h:
        first, ask, second = joined(h)
        long = b'data: {"id":"c1","model":"m","choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % b64encode(Random(1).randbytes(6000))
        ask.body(long)
        assert first.reply.body == second.reply.body == CHUNK + long
        third = chat(h, AGAIN)
        assert (len(h.asks), replay(third)) == (2, None)
        ask.body(STOP, USAGE, DONE).end()
        assert first.reply.body == second.reply.body == CHUNK + long + STOP + USAGE + DONE


@pytest.mark.parametrize("protocol", list(ProtocolId), ids=lambda p: p.value)
def test_followers_share_a_bad_end_in_their_protocol(protocol: ProtocolId) -> None:
    with house("always") as h:
        first, ask = h.stream(protocol)
        second, again = h.stream(protocol)
        assert again is ask
        ask.answer().body(b": hello\n\n").lose()
        h.loop.settle()
        assert len(h.book.settled) == 2
        assert {row.outcome for row in h.book.settled} == {"UPSTREAM_LOST"}
        assert (first.reply.status, second.reply.status) == (502, 502)
        h.check_quiet()


def test_a_sibling_of_a_refused_request_keeps_its_answer_to_itself() -> None:
    """Best of n: one of them is told 429, and its client tries again."""
    with house() as h:
        one, other = chat(h), chat(h)
        h.asks[0].answer_json({"error": {"message": "slow down", "type": "t"}}, 429)
        h.asks[1].answer().body(CHUNK)
        again = chat(h, AGAIN)
        h.loop.settle()
        assert (len(h.asks), replay(again), one.reply.status, other.reply.body) == (3, None, 429, CHUNK)


def test_nor_is_a_siblings_answer_told_to_who_came_back_for_one_that_failed() -> None:
    with house() as h:
        one = chat(h)
        h.asks[0].answer().body(CHUNK)
        one.leave()
        back = chat(h)
        h.loop.settle()
        other = chat(h)
        h.asks[1].answer().body(CHUNK)
        assert (len(h.asks), replay(back), replay(other)) == (2, b"join", None)
        h.asks[0].lose()
        h.loop.settle()
        again = chat(h, AGAIN)
        h.loop.settle()
        assert (len(h.asks), replay(again)) == (3, None)
        chat(h, AGAIN)
        h.loop.settle()
        assert len(h.asks) == 3, "one failure is the reason of one try"


def budgeted(mode: Mode) -> Admitted:
    settings = AdmissionSettings(budgets=(make_budget("tokens", "1000000", "day", "block", (), "purse"),))
    return Admitted(settings, house=house(mode))


def test_those_who_wait_for_budgets_together_ask_once_where_equals_are_one() -> None:
    with budgeted("always") as admitted:
        h, keeper = admitted.house, admitted.keeper
        keeper.at_once = False
        clients = [chat(h) for _ in range(3)]
        assert not h.asks
        keeper.answer_all()
        assert len(h.asks) == 1
        complete(h)
        h.loop.settle()
        keeper.answer_all()
        assert {client.reply.body for client in clients} == {WHOLE}
        assert keeper.total == 5, "3 in, 2 out, once"
        admitted.check()


def test_a_refused_request_waits_for_budgets_and_asks_for_itself() -> None:
    with budgeted("retries") as admitted:
        h, keeper = admitted.house, admitted.keeper
        chat(h)
        chat(h)
        h.asks[0].answer_json({"error": {"message": "slow down", "type": "t"}}, 429)
        keeper.at_once = False
        again = chat(h, AGAIN)
        keeper.answer_all()
        assert (len(h.asks), replay(again)) == (3, None)


# -- an answer that turns out to be none for who follows ---------------------------------------------------------------------------------


PLAIN: dict[str, Any] = {"stream": None, "stream_options": None}
CODED: Headers = [(b"content-encoding", b"br"), (b"transfer-encoding", b"chunked")]


def coded(ask: FakeAsk, *, streamed: bool, status: int = 200) -> None:
    """An answer that nobody reads here begins."""
    ask.answer(status, [(b"content-type", b"text/event-stream" if streamed else b"application/json"), *CODED]).body(b"\x0b\x02")


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("mode", ["retries", "always"])
@pytest.mark.parametrize("budgets", [True, False])
def test_who_follows_in_the_other_form_asks_by_itself_where_it_cannot_be_read(mode: Mode, streamed: bool, budgets: bool) -> None:
    """As one does that comes when that is known; who follows in the same form goes on following."""
    wants, other = ({}, PLAIN) if streamed else (PLAIN, {})
    admitted = budgeted(mode) if budgets else None
    with admitted.house if admitted is not None else house(mode) as h:
        first, same, another = chat(h, **wants), chat(h, AGAIN, **wants), chat(h, AGAIN, **other)
        h.loop.wait(3.0)
        assert (len(h.asks), h.gateway.peeked.used > 0) == (1, True)
        ask = h.last
        coded(ask, streamed=streamed)
        h.loop.settle()
        assert len(h.asks) == 2
        assert (b'"stream":true' in h.last.rest.replace(b" ", b"")) is not streamed
        third = chat(h, AGAIN, **other)  # what it asks for now is joined
        if streamed:
            h.last.answer_json(ANSWERS[ProtocolId.OPENAI_CHAT].body)
        else:
            complete(h)
        ask.body(b"\x80\x03").end()
        h.loop.settle()
        assert [one.reply.body for one in (first, same)] == [b"\x0b\x02\x80\x03"] * 2
        for one in (another, third):
            assert one.reply.json() == ANSWERS[ProtocolId.OPENAI_CHAT].body if streamed else one.reply.body == WHOLE
        assert (replay(same), replay(another), replay(third), len(h.asks)) == (b"join", None, b"join", 2)
        row = {row.id: row for row in h.book.settled}[(another.reply.header(b"x-penstock-id") or b"").decode()]
        assert (row.outcome, row.replay, row.replay_of, row.retries) == ("COMPLETE", None, None, 0)
        assert (row.input_tokens or 0) > 0
        h.check_quiet()
        if admitted is not None:
            admitted.check()


def test_who_wants_usage_asks_by_itself_where_the_provider_tells_none_unasked() -> None:
    with house("always") as h:
        first, second = chat(h, stream_options=None), chat(h)
        h.last.answer_json({"error": {"message": "Unrecognized request argument supplied: stream_options"}}, 400)
        h.last.answer().body(CHUNK)
        h.loop.settle()
        assert len(h.asks) == 3
        complete(h)
        h.asks[1].body(STOP, DONE).end()
        h.loop.settle()
        assert (first.reply.body, second.reply.body, replay(second)) == (CHUNK + STOP + DONE, WHOLE, None)
        h.check_quiet()


def test_its_providers_time_begins_when_it_asks() -> None:
    with house("always", timers=Timers(first_content=10.0)) as h:
        chat(h)
        another = chat(h, **PLAIN)
        h.loop.wait(9.0)
        coded(h.last, streamed=True)
        h.loop.wait(9.0)
        assert (len(h.asks), another.reply.status) == (2, None)
        h.loop.wait(2.0)
        assert another.reply.status == 504


@pytest.mark.parametrize("leaves", [True, False])
def test_who_waited_for_budgets_beside_its_leader_does_not_wait_for_them_again(leaves: bool) -> None:
    with budgeted("always") as admitted:
        h, keeper = admitted.house, admitted.keeper
        keeper.at_once = False
        chat(h)
        another = chat(h, **PLAIN)
        keeper.answer_all()
        assert len(h.asks) == 1
        coded(h.last, streamed=True)
        h.loop.settle()
        assert (len(h.asks), keeper.waiting) == (2, [])
        if leaves:
            another.leave()
        else:
            h.last.answer_json(ANSWERS[ProtocolId.OPENAI_CHAT].body)
        h.asks[0].end()
        h.loop.wait(GRACE + 2)
        keeper.answer_all()
        admitted.check()


def test_it_may_be_refused_then() -> None:
    """It would have been told the answer without a limit's being asked."""
    settings = AdmissionSettings(limits=(make_limit("requests", 1, "minute"),))
    with Admitted(settings, house=house("always")) as admitted:
        h = admitted.house
        chat(h)
        another = chat(h, **PLAIN)
        coded(h.last, streamed=True)
        h.loop.settle()
        assert (len(h.asks), another.reply.status) == (1, 429)
        h.last.end()
        h.loop.settle()
        admitted.check()


def test_it_may_leave_before_and_behind_that() -> None:
    with house("always") as h:
        chat(h)
        one, other = chat(h, **PLAIN), chat(h, **PLAIN)
        one.leave()
        coded(h.last, streamed=True)
        h.loop.settle()
        assert len(h.asks) == 2
        other.leave()
        h.loop.wait(GRACE + 2)
        assert h.last.cancelled
        h.asks[0].end()
        h.loop.settle()
        h.check_quiet()


def test_an_error_that_is_not_read_here_is_told_as_it_comes() -> None:
    with house("always") as h:
        first, another = chat(h), chat(h, **PLAIN)
        coded(h.last, streamed=False, status=429)
        h.last.end()
        h.loop.settle()
        assert len(h.asks) == 1
        assert [(one.reply.status, one.reply.body) for one in (first, another)] == [(429, b"\x0b\x02")] * 2


def test_whose_stream_was_opened_is_told_that_it_is_lost() -> None:
    with house("always", early_head=1.0) as h:
        chat(h, **PLAIN)
        another = chat(h)
        h.loop.wait(2.0)
        coded(h.last, streamed=False)
        h.loop.settle()
        assert (len(h.asks), another.reply.status, another.reply.over) == (1, 200, "ended")
        assert b"came in another form" in another.reply.body


# -- what it takes -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["whole", "left", "broken"])
def test_no_ordinary_stream_has_attributes_for_which_there_is_no_room_beside_it(end: str) -> None:
    """One more than the interpreter keeps there, and each exchange has a table of its own: 1.6 KiB, for all whose clients leave at once."""
    with house() as h:
        asker = chat(h)
        (exchange,) = h.gateway.live
        h.last.answer().body(CHUNK)
        if end == "left":
            asker.leave()
        elif end == "broken":
            h.last.lose()
        else:
            h.last.body(STOP, USAGE, DONE).end()
        assert vars(exchange).keys() <= vars(drive._first).keys()  # pyright: ignore[reportPrivateUsage]
    assert len(vars(drive._first)) <= 30  # pyright: ignore[reportPrivateUsage]
