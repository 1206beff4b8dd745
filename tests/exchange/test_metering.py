"""Streams that run against a budget: what is looked at, more is asked for, and the cut in every protocol."""

from __future__ import annotations

import json
from typing import Any

import pytest

from penstock.admission.budget.charge import Made
from penstock.admission.budget.spec import make_budget
from penstock.exchange.admitting import Pass
from penstock.exchange.conduct import Conduct
from penstock.exchange.notice import HOLD
from penstock.exchange.quirks import find_quirks
from penstock.pipeline.timers import Timers
from penstock.routing import Glob, Route
from penstock.vocabulary.ids import ProtocolId
from tests.exchange.test_admitting import BEARER, KEYS, PLACE, TALK, a_budget, ask, budgeted
from tests.laws.talk import DIALECTS, Dialect, sse
from tests.support.admitted import Admitted
from tests.support.exchanges import CHUNK, DONE, REQUESTS, STOP, USAGE, House, told_last
from tests.support.guards import REJECTING

STOPS = {
    ProtocolId.OPENAI_CHAT: b'"finish_reason":"length"', ProtocolId.OPENAI_RESPONSES: b'"reason":"max_output_tokens"',
    ProtocolId.ANTHROPIC_MESSAGES: b'"stop_reason":"max_tokens"', ProtocolId.GEMINI: b'"finishReason":"MAX_TOKENS"',
}  # fmt: skip


def run_dry(a: Admitted, talk: Dialect, frame: bytes, most: int = 400) -> int:
    """The provider goes on until it is left; how many of these frames it got out."""
    for made in range(most):
        if not a.house.last.live:
            return made
        a.house.last.body(frame)
    raise AssertionError("nobody cut it")


@TALK
def test_a_stream_that_crosses_its_budget_is_stopped(talk: Dialect) -> None:
    with Admitted(budgeted(a_budget("cut", 150)), KEYS) as a:
        asker = ask(a.house, talk.protocol, PLACE[talk.protocol])
        begun = talk.head() + (talk.text() if talk.protocol is ProtocolId.OPENAI_RESPONSES else b"")
        a.house.last.answer().body(begun)
        run_dry(a, talk, talk.text())
        assert a.house.last.cancelled
        reply, row = asker.reply, a.house.row()
        assert (row.outcome, row.cause, row.ended_by) == ("CUT", "budget 'purse' is spent", "gateway")
        assert (row.refused_by, row.rule) == ("budget", "purse")
        assert (reply.status, reply.over) == (200, "ended")
        assert STOPS[talk.protocol] in reply.body
        assert b'"error":{' not in reply.body.replace(b" ", b"")
        assert 150 <= a.keeper.total <= 152
        assert a.keeper.total == (row.charged_input or 0) + (row.charged_output or 0)
        a.check()


@TALK
@pytest.mark.parametrize("let_go", ["by its text", "by its time"])
def test_one_that_was_held_for_a_notice_is_stopped_no_otherwise(talk: Dialect, let_go: str) -> None:
    notices = {"notices": ("AUTHENTICATION NOTICE",)}
    with Admitted(budgeted(a_budget("cut", 150)), KEYS, openai=notices, anthropic=notices, gemini=notices) as a:
        house = a.house
        house.gateway.quirks = find_quirks(house, house.providers, house.loop.time)
        asker = ask(house, talk.protocol, PLACE[talk.protocol])
        provider = house.last.answer()
        assert asker.reply.status is None
        if let_go == "by its time":
            house.loop.wait(HOLD + 0.1)
        provider.body(talk.head() + (talk.text() if talk.protocol is ProtocolId.OPENAI_RESPONSES else b""))
        run_dry(a, talk, talk.text())
        assert (house.row().outcome, asker.reply.over) == ("CUT", "ended")
        assert STOPS[talk.protocol] in asker.reply.body
        assert 150 <= a.keeper.total <= 152
        a.check()


@TALK
def test_with_a_tool_call_open_it_is_an_error(talk: Dialect) -> None:
    if talk.protocol is ProtocolId.GEMINI:
        pytest.skip("its calls come whole")
    with Admitted(budgeted(a_budget("cut", 150)), KEYS) as a:
        asker = ask(a.house, talk.protocol, PLACE[talk.protocol])
        a.house.last.answer().body(talk.head() + talk.open(0))
        run_dry(a, talk, talk.arguments(0))
        told_last(talk.protocol, asker.reply)
        assert STOPS[talk.protocol] not in asker.reply.body
        assert a.house.row().outcome == "CUT"
        a.check()


def test_an_array_is_closed() -> None:
    with Admitted(budgeted(a_budget("cut", 150)), KEYS) as a:
        asker = a.house.post("/v1beta/models/m:streamGenerateContent", {"contents": []}, PLACE[ProtocolId.GEMINI])
        piece = b'{"candidates":[{"content":{"parts":[{"text":"x"}],"role":"model"},"index":0}],"responseId":"r"}'
        a.house.last.answer(200, [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")]).body(b"[" + piece)
        run_dry(a, DIALECTS[-1], b",\n" + piece)
        told = json.loads(asker.reply.body)
        assert told[-1]["candidates"][0]["finishReason"] == "MAX_TOKENS"
        assert a.house.row().outcome == "CUT"


def test_more_is_asked_for_as_long_as_there_is_more() -> None:
    with Admitted(budgeted(a_budget("cut", 5000)), KEYS) as a:
        ask(a.house, ProtocolId.OPENAI_CHAT, BEARER, max_tokens=40)
        a.house.last.answer().body(CHUNK)
        for _ in range(3000):
            a.house.last.body(CHUNK)
        assert a.house.last.live
        assert a.keeper.set_aside >= 3000
        a.house.last.body(STOP + USAGE + DONE).end()
        assert (a.house.row().outcome, a.keeper.total) == ("COMPLETE", 5)
        a.check()


def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """By how many events it was worked out what was used."""
    at: list[int] = []
    over = Pass.over

    def counted(self: Pass, provider: str, model: str | None, made: Made, tier: str | None = None) -> Any:
        at.append(made.events)
        return over(self, provider, model, made, tier)

    monkeypatch.setattr(Pass, "over", counted)
    return at


def test_what_was_used_is_worked_out_when_the_share_runs_low_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    at = looks(monkeypatch)
    with Admitted(budgeted(a_budget("cut", 100_000)), KEYS) as a:
        ask(a.house, ProtocolId.OPENAI_CHAT, BEARER, max_tokens=4000)
        a.house.last.answer().body(CHUNK)
        for _ in range(2900):
            a.house.last.body(CHUNK)
        assert at == [1], "three quarters of it are not used"
        for _ in range(200):
            a.house.last.body(CHUNK)
        assert len(at) == 3, "it was looked at, and once more when there was more"
        a.house.last.body(STOP + USAGE + DONE).end()
        a.check()


@pytest.mark.parametrize(("piece", "most"), [(b"word " * 16, 20), (b"x", 4), ("世".encode(), 4)], ids=["a line", "a letter", "a character"])
def test_raw_text_is_measured_by_what_it_comes_to(piece: bytes, most: int) -> None:
    """`most`: tokens above the budget; whatever comes in one read is one event."""
    with Admitted(budgeted(a_budget("cut", 150)), KEYS, routes=[Route(Glob("*"), "argo_legacy")], argo_legacy={"user": "ada"}) as a:
        asker = ask(a.house, ProtocolId.OPENAI_CHAT, BEARER, model="gpt-4o")
        a.house.last.answer(200, [(b"content-type", b"text/plain"), (b"transfer-encoding", b"chunked")])
        run_dry(a, DIALECTS[0], piece, 800)
        row = a.house.row()
        assert (row.outcome, row.cause, row.usage_source) == ("CUT", "budget 'purse' is spent", "estimated")
        assert STOPS[ProtocolId.OPENAI_CHAT] in asker.reply.body
        assert 150 <= a.keeper.total <= 150 + most
        assert a.keeper.total == (row.charged_input or 0) + (row.charged_output or 0) == (row.input_tokens or 0) + (row.output_tokens or 0)
        a.check()


def test_many_tokens_in_one_event_are_seen_with_it() -> None:
    """The provider states on the way what it has made: it is not by our count of events alone that it is looked at again."""
    with Admitted(budgeted(a_budget("cut", 150)), KEYS) as a:
        ask(a.house, ProtocolId.OPENAI_CHAT, BEARER)
        told = CHUNK.replace(b'"choices"', b'"usage":{"prompt_tokens":5,"completion_tokens":%d,"total_tokens":9},"choices"')
        assert told != CHUNK
        a.house.last.answer().body(CHUNK)
        a.house.last.body(told.replace(b"%d", b"2"), CHUNK, CHUNK)
        assert a.house.last.live
        a.house.last.body(told.replace(b"%d", b"5000"), CHUNK)
        assert a.house.last.cancelled, "more was asked for with that frame, and there was none"
        assert a.house.row().outcome == "CUT"


def test_one_that_its_provider_has_ended_is_left_alone() -> None:
    with Admitted(budgeted(a_budget("cut", 20)), KEYS) as a:
        ask(a.house, ProtocolId.OPENAI_CHAT, BEARER)
        a.house.last.answer().body(CHUNK + STOP)
        a.house.last.body(*[b'data: {"id":"c1","choices":[]}\n\n'] * 200)
        a.house.last.body(DONE).end()
        assert a.house.row().outcome == "COMPLETE"
        a.check()


def test_one_whose_provider_told_an_error_ends_with_that() -> None:
    """The error event crosses the budget; nothing may be said behind it, and whose end it was is known."""
    error = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"busy"}}\n\n'
    talk = next(dialect for dialect in DIALECTS if dialect.protocol is ProtocolId.ANTHROPIC_MESSAGES)
    for before in range(110, 160):
        with Admitted(budgeted(a_budget("cut", 150)), KEYS) as a:
            asker = ask(a.house, talk.protocol, PLACE[talk.protocol])
            a.house.last.answer().body(talk.head(), *[talk.text()] * before)
            if not a.house.last.live:
                assert before > 115, "some of it was told"
                break
            a.house.last.body(error)
            assert a.house.last.live
            a.house.last.end()
            assert a.house.row().outcome == "UPSTREAM_ERROR", before
            assert (asker.reply.over, asker.reply.body.endswith(error)) == ("ended", True)
            a.check()
    else:
        raise AssertionError("nobody cut it")


def test_who_left_is_cut_too() -> None:
    with Admitted(budgeted(a_budget("cut", 100)), KEYS, conduct=Conduct(on_disconnect="drain")) as a:
        asker = ask(a.house, ProtocolId.OPENAI_CHAT, BEARER)
        a.house.last.answer().body(CHUNK)
        asker.leave()
        run_dry(a, DIALECTS[0], CHUNK)
        assert (a.house.row().outcome, a.house.row().rule) == ("CLIENT_GONE", None)
        a.check()


def test_a_running_stream_of_money() -> None:
    settings = budgeted(make_budget("money", "0.2", "day", "cut", ("key",), "purse"))
    with Admitted(settings, KEYS, price=1000) as a:
        ask(a.house, ProtocolId.OPENAI_CHAT, BEARER)
        a.house.last.answer().body(CHUNK)
        run_dry(a, DIALECTS[0], CHUNK)
        assert a.house.row().outcome == "CUT"
        assert 200_000 <= a.keeper.total <= 203_000
        a.check()


@pytest.mark.parametrize("price", [1, 3, 10])
@pytest.mark.parametrize("first", ["small", "large"])
@pytest.mark.parametrize("amount", [550, 925, 1450, 2125])
def test_of_several_budgets_the_one_that_is_spent_cuts(price: int, first: str, amount: int) -> None:
    """Each has its own unit, and its own answer to whether there is more: that one has none is nothing to the other."""
    small, large = make_budget("tokens", str(amount), "day", "cut", (), "small"), make_budget("money", "1000", "day", "cut", (), "large")
    with Admitted(budgeted(*((small, large) if first == "small" else (large, small))), KEYS, price=price) as a:
        ask(a.house, ProtocolId.OPENAI_CHAT, BEARER)
        a.house.last.answer().body(CHUNK)
        run_dry(a, DIALECTS[0], CHUNK, 3000)
        assert (a.house.row().outcome, a.house.row().rule) == ("CUT", "small")
        assert amount <= sum(spent for place, spent in a.keeper.spent.items() if place[0] == "small") <= amount + 2
        a.check()


def test_money_is_looked_at_when_it_may_run_out_and_seldom_before(monkeypatch: pytest.MonkeyPatch) -> None:
    at = looks(monkeypatch)
    with Admitted(budgeted(make_budget("money", "50", "day", "cut", ("key",), "purse")), KEYS, price=1000) as a:
        ask(a.house, ProtocolId.OPENAI_CHAT, BEARER, max_tokens=4000)
        a.house.last.answer().body(CHUNK)
        for _ in range(2900):
            a.house.last.body(CHUNK)
        assert len(at) < 2 * 2900 / 30
        a.house.last.body(STOP + USAGE + DONE).end()
        a.check()


def test_off_is_off() -> None:
    with House() as house:
        house.chat().leave()
        row = house.row()
        assert (row.key_id, row.charged_input, row.charged_micros) == (None, None, None)


@TALK
@pytest.mark.parametrize("how", ["a cut", "it is left", "it breaks off", "a timer"])
def test_a_stream_that_was_to_become_a_body_costs_what_was_made(talk: Dialect, how: str) -> None:
    """Nothing of it has gone out: it was made all the same, and a budget is no less spent."""
    conduct = Conduct(nonstream="force", timers=Timers(max_duration=5.0))
    with Admitted(budgeted(a_budget("cut", 150)), KEYS, conduct=conduct) as a:
        path, body = REQUESTS[talk.protocol]
        body = {name: value for name, value in body.items() if name != "stream_options"}
        asker = a.house.post(path.replace("streamGenerateContent?alt=sse", "generateContent"), body, PLACE[talk.protocol])
        asked = a.house.last.answer()
        opened = sse({"type": "content_block_start", "index": 90, "content_block": {"type": "text", "text": ""}}, "content_block_start")
        begun = {ProtocolId.OPENAI_RESPONSES: talk.text(), ProtocolId.ANTHROPIC_MESSAGES: opened}.get(talk.protocol, b"")
        asked.body(talk.head() + begun)
        if how == "a cut":
            run_dry(a, talk, talk.text())
        else:
            asked.body(*[talk.text()] * 40)
        match how:
            case "it is left":
                asker.leave()
            case "it breaks off":
                asked.lose()
            case "a timer":
                a.house.loop.wait(6.0)
            case _:
                pass
        assert not asked.live
        row = a.house.row()
        assert row.outcome == {"a cut": "CUT", "it is left": "CLIENT_GONE", "it breaks off": "UPSTREAM_LOST", "a timer": "TIMED_OUT"}[how], row.cause
        assert row.events is not None
        assert row.charged_output == row.events >= 40
        assert a.keeper.total == (row.charged_input or 0) + (row.charged_output or 0)
        assert how != "a cut" or 150 <= a.keeper.total <= 152
        assert asker.reply.status in (None, 429, 502, 504)
        a.check()


@TALK
def test_a_stream_that_was_to_become_a_body_and_began_without_a_word_costs_nothing(talk: Dialect) -> None:
    with Admitted(budgeted(a_budget("cut", 150)), KEYS, conduct=Conduct(nonstream="force")) as a:
        path, body = REQUESTS[talk.protocol]
        body = {name: value for name, value in body.items() if name != "stream_options"}
        a.house.post(path.replace("streamGenerateContent?alt=sse", "generateContent"), body, PLACE[talk.protocol])
        a.house.last.answer().body(b": nothing yet\n\n").lose()
        assert (a.house.row().charged_output, a.keeper.total) == (0, 0)
        a.check()


def test_a_body_that_a_guard_rejects_was_read_for_all_the_same() -> None:
    """Its provider states nothing: what it has read is known by its size."""
    with Admitted(budgeted(a_budget("block", 150)), KEYS, conduct=Conduct(guards=REJECTING)) as a:
        asker = a.house.post("/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "x" * 100}]}, BEARER)
        said = {"role": "assistant", "content": "It is 4111 1111 1111 1111."}
        a.house.last.answer_json({"id": "c", "model": "m", "choices": [{"index": 0, "message": said, "finish_reason": "stop"}]})
        row = a.house.row()
        assert (asker.reply.status, row.outcome, row.refused_by) == (403, "CUT", "guard")
        assert row.charged_input == -(-(row.bytes_in or 0) // 4) == a.keeper.total > 25
        a.check()
