"""Guards outside and the time of one exchange: who is waited for, what is paused, and what is given up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from penstock.exchange.conduct import Conduct
from penstock.exchange.hearing import AT_ONCE
from penstock.pipeline.awaited import AwaitedStream
from penstock.pipeline.timers import Timers
from penstock.policy.guards import Guard, Guards
from penstock.policy.outside import PASSED, Outside, Question, Said, Verdict
from penstock.policy.rules import Action
from penstock.policy.windows import Windows
from penstock.stores.guard_formats import About
from penstock.vocabulary.ids import ProtocolId
from tests.support.exchanges import DONE, SSE, STOP, House
from tests.support.guards import all_rules, frames_saying

CHAT = ProtocolId.OPENAI_CHAT
OFF: dict[str, Any] = {"first_content": None, "idle": None, "content": None, "tool_call": None, "client_stall": None, "drain": None}


def chunk(text: str) -> bytes:
    return b'data: {"id":"c1","model":"m","choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % text.encode()


class Bench:
    """Whoever is asked: the test answers."""

    def __init__(self) -> None:
        self.open: dict[int, tuple[Question, Callable[[Verdict], None]]] = {}
        self.count = 0

    def ask(self, question: Question, about: About, answered: Callable[[Verdict], None]) -> Callable[[], None]:
        self.count += 1
        number = self.count
        self.open[number] = question, answered

        def give_up() -> None:
            self.open.pop(number, None)

        return give_up

    def answer(self, house: House, verdict: Verdict = PASSED) -> Question:
        question, answered = self.open.pop(min(self.open))
        house.loop.call(answered, verdict)
        return question


def house_with(
    *, windows: Windows | None = None, keepalive: float | None = None, timers: dict[str, Any] | None = None, **more: Any
) -> tuple[House, Bench]:
    guards = Guards([Guard("judge", outside=Outside("judge", "service", Action.MASK))], windows=windows)
    conduct = Conduct(timers=Timers(**{**OFF, **(timers or {})}), keepalive=keepalive, early_head=None, guards=guards, **more)
    house, bench = House(conduct=conduct), Bench()
    house.gateway.judges = bench
    return house, bench


@pytest.mark.parametrize("timer", ["idle", "content"])
def test_the_silence_of_a_guard_is_not_the_providers(timer: str) -> None:
    house, bench = house_with(timers={timer: 2.0}, keepalive=1.0)
    with house:
        asker, ask = house.stream(CHAT)
        ask.answer().body(chunk("Hello there, this is one. "), STOP, DONE)
        house.loop.wait(7.0)  # the provider has said all that it had to say
        assert asker.reply.over is None
        assert asker.reply.body.count(b": ") >= 6
        assert b"Hello" not in asker.reply.body
        bench.answer(house)
        assert b"Hello there" in asker.reply.body
        assert house.row().outcome == "COMPLETE"


def test_before_anything_has_left_a_client_is_kept_as_long_without_a_word_as_later() -> None:
    house, bench = house_with(keepalive=5.0)
    with house:
        asker, ask = house.stream(CHAT)
        ask.answer().body(chunk("Hello there, this is one. "))
        house.loop.wait(4.5)
        assert asker.reply.body == b""
        house.loop.wait(1.0)
        assert asker.reply.body.startswith(b": ")
        bench.answer(house)
        ask.body(STOP, DONE)
        assert house.row().outcome == "COMPLETE"


@pytest.mark.parametrize("timer", ["idle", "content"])
def test_the_silence_of_the_provider_counts_while_no_guard_is_waited_for(timer: str) -> None:
    house, bench = house_with(timers={timer: 5.0}, windows=Windows(seconds=60.0))
    with house:
        asker, ask = house.stream(CHAT)
        ask.answer().body(chunk("Hello there, this is one. "))
        house.loop.wait(1.0)
        bench.answer(house)
        house.until(lambda: asker.reply.over, 6.0)
        assert (house.row().outcome, house.row().timer) == ("TIMED_OUT", timer)
        house.check_quiet()


@pytest.mark.parametrize("timer", ["idle", "content", "tool_call"])
def test_arguments_that_do_not_go_on_are_waited_for_as_long_as_any(timer: str) -> None:
    house, bench = house_with(timers={timer: 5.0}, keepalive=1.0)
    with house:
        asker, ask = house.stream(CHAT)
        call = b'{"index":0,"id":"call-1","type":"function","function":{"name":"send","arguments":"{\\"to\\":"}}'
        ask.answer().body(b'data: {"id":"c1","model":"m","choices":[{"index":0,"delta":{"tool_calls":[%b]}}]}\n\n' % call)
        house.until(lambda: asker.reply.over, 6.0)
        assert (house.row().outcome, house.row().timer, bench.count) == ("TIMED_OUT", timer, 0)
        assert b'"error"' in asker.reply.body
        assert b"to" not in asker.reply.body.partition(b'"error"')[0]
        house.check_quiet()


@pytest.mark.parametrize("end", ["complete", "rejected", "left"])
def test_a_frame_of_many_sentences_leaves_room_for_the_questions_of_others(end: str) -> None:
    house, bench = house_with()
    said = "".join([f"This is sentence number {number}. " for number in range(1000)])
    with house:
        asker, ask = house.stream(CHAT)
        ask.answer().body(chunk(said), STOP, DONE).end()
        assert len(bench.open) == AT_ONCE
        other, its = house.stream(CHAT)
        its.answer().body(chunk("It is well. "), STOP, DONE).end()
        assert len(bench.open) == AT_ONCE + 1
        if end == "left":
            asker.leave()
            assert len(bench.open) == 1
        while bench.open:
            assert len(bench.open) <= AT_ONCE + 1
            about = bench.open[min(bench.open)][0].texts[0].text
            bench.answer(house, Verdict(Said.REJECT, why="no") if end == "rejected" and "number 700." in about else PASSED)
        assert b"It is well." in other.reply.body
        assert other.reply.over == "ended"
        if end == "complete":
            assert (asker.reply.over, said.encode() in asker.reply.body) == ("ended", True)
        elif end == "rejected":
            assert b"content_filter" in asker.reply.body
        house.check_quiet()


@pytest.mark.parametrize("answered", [True, False])
def test_the_whole_time_of_a_stream_that_lacks_nothing_but_its_end(answered: bool) -> None:
    house, bench = house_with(timers={"max_duration": 3.0}, terminal="finish_reason")
    with house:
        asker, ask = house.stream(CHAT)
        ask.answer().body(chunk("Hello there, this is one. "), STOP)
        if answered:
            bench.answer(house)
        house.until(lambda: asker.reply.over, 4.0)
        row = house.row()
        assert (row.outcome, row.timer) == (("COMPLETE", None) if answered else ("TIMED_OUT", "max_duration"))
        assert (b"Hello" in asker.reply.body, asker.reply.body.endswith(DONE)) == (answered, answered)
        house.check_quiet()


def test_a_window_that_stays_open_is_asked_about_by_the_clock() -> None:
    house, bench = house_with(windows=Windows(seconds=2.0))
    with house:
        asker, ask = house.stream(CHAT)
        ask.answer().body(chunk("Hello "), chunk("there"))
        house.loop.wait(1.0)
        assert not bench.open
        house.loop.wait(1.5)
        assert bench.answer(house).texts[0].text == "Hello "
        assert b'"Hello "' in asker.reply.body


@pytest.mark.parametrize("lost", [True, False])
def test_an_end_waits_for_what_is_judged(lost: bool) -> None:
    house, bench = house_with()
    with house:
        asker, ask = house.stream(CHAT)
        ask.answer().body(chunk("Hello there, this is one. "))
        ask.lose() if lost else ask.end()
        house.loop.wait(1.0)
        assert asker.reply.over is None
        bench.answer(house)
        assert asker.reply.over == "ended"
        assert b"Hello there" in asker.reply.body
        assert b'"error"' in asker.reply.body
        assert house.row().outcome == ("UPSTREAM_LOST" if lost else "TRUNCATED")
        house.check_quiet()


def test_a_rejection_ends_the_provider_and_says_what_was_used() -> None:
    house, bench = house_with()
    with house:
        asker, ask = house.stream(CHAT)
        used = chunk("no. ").replace(b'}}]}', b'}}],"usage":{"prompt_tokens":3,"completion_tokens":2}}')
        ask.answer().body(chunk("Hello there, this is one. "), chunk("And this is two, "), used)
        bench.answer(house)
        bench.answer(house, Verdict(Said.REJECT, why="it rejects it"))
        assert ask.cancelled
        row = house.row()
        assert (row.outcome, row.rule, row.refused_by, row.input_tokens, row.output_tokens) == ("CUT", "judge", "guard", 3, 2)
        assert b"two" not in asker.reply.body
        assert asker.reply.body.endswith(b"data: [DONE]\n\n")
        assert not bench.open
        house.check_quiet()


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("on_disconnect", ["cancel", "drain"])
def test_a_client_that_leaves_gives_its_questions_up(on_disconnect: str, ended: bool) -> None:
    house, bench = house_with(on_disconnect=on_disconnect)
    with house:
        asker, ask = house.stream(CHAT)
        ask.answer().body(chunk("Hello there, this is one. "))
        if ended:
            ask.body(STOP).end()
        asker.leave()
        if not ended and on_disconnect == "drain":
            assert not ask.cancelled
            ask.body(chunk("And on. "), STOP, DONE)
        assert house.row().outcome == "CLIENT_GONE"
        assert not bench.open
        assert asker.reply.body.count(b"Hello") == 0
        house.check_quiet()


def test_of_an_answer_whose_client_left_before_it_began_nothing_is_held() -> None:
    house, bench = house_with(on_disconnect="drain", timers={"idle": 5.0})
    with house:
        asker, ask = house.stream(CHAT)
        exchange = asker.intake.exchange
        asker.leave()
        ask.answer().body(chunk("Hello there, this is one. "), chunk("And this is two."))
        pipeline = exchange.pipeline
        assert isinstance(pipeline, AwaitedStream)
        assert (pipeline.waiting, pipeline.awaiting.waiting, bench.count) == (False, False, 0)
        house.loop.wait(6.0)  # and its provider is timed
        assert house.row().outcome == "CLIENT_GONE"
        house.check_quiet()


@pytest.mark.parametrize("before", [True, False])
def test_a_rejection_by_a_guard_of_ours_ends_an_answer_whose_client_has_left(before: bool) -> None:
    guards = Guards([Guard("ours", all_rules(Action.REJECT)), Guard("judge", outside=Outside("judge", "service"))])
    house, bench = House(conduct=Conduct(guards=guards, on_disconnect="drain")), Bench()
    house.gateway.judges = bench
    with house:
        asker, ask = house.stream(CHAT)
        ask.answer().body(chunk("Hello there, this is one. "))
        if before:
            asker.leave()
        ask.body(chunk("PRJ-20417 and on "))
        if not before:
            asker.leave()
            ask.body(chunk("and on"))
        assert ask.cancelled
        assert house.row().outcome == "CLIENT_GONE"
        house.check_quiet()


def test_a_full_house_pauses_the_provider_and_a_client_that_reads_slowly_is_another_matter() -> None:
    house, bench = house_with(windows=Windows(held=600, chars=30))
    with house:
        asker, ask = house.stream(CHAT)
        ask.answer()
        for _ in range(8):
            ask.body(chunk("Hello there, this is one. "))
        assert ask.paused
        house.run(asker.handler.client_paused)
        house.run(asker.handler.client_resumed)
        assert ask.paused
        while bench.open:
            bench.answer(house)
        assert not ask.paused
        ask.body(STOP, DONE)
        assert house.row().outcome == "COMPLETE"
        assert asker.reply.body.count(b"Hello there") == 8


def test_a_client_that_leaves_a_full_house_lets_the_provider_be_read_on() -> None:
    house, bench = house_with(windows=Windows(held=600, chars=30), on_disconnect="drain")
    with house:
        asker, ask = house.stream(CHAT)
        ask.answer()
        for _ in range(8):
            ask.body(chunk("Hello there, this is one. "))
        assert ask.paused
        asker.leave()
        assert not ask.paused
        assert not bench.open
        ask.body(STOP, DONE)
        assert house.row().outcome == "CLIENT_GONE"
        assert house.row().stop_reason == "stop"
        house.check_quiet()


@pytest.mark.parametrize("on_disconnect", ["cancel", "drain"])
@pytest.mark.parametrize("ended", [True, False])
def test_a_client_that_leaves_while_its_body_is_judged(on_disconnect: str, ended: bool) -> None:
    house, bench = house_with(on_disconnect=on_disconnect, nonstream="force")
    with house:
        asker, ask = house.whole(ProtocolId.ANTHROPIC_MESSAGES)
        frames = frames_saying(ProtocolId.ANTHROPIC_MESSAGES, ["Hello there."])
        ask.answer().body(*frames)
        if ended:
            ask.end()
        assert bench.open
        answered = [answer for _, answer in bench.open.values()]
        asker.leave()
        assert not bench.open
        for answer in answered:
            house.loop.call(answer, PASSED)  # too late
        if ask.live:
            ask.end()
        assert house.row().outcome == "CLIENT_GONE"
        assert asker.reply.body == b""
        house.check_quiet()


def test_a_shutdown_delivers_nothing_that_was_not_judged() -> None:
    house, bench = house_with()
    with house:
        asker, ask = house.stream(CHAT)
        ask.answer().body(chunk("Hello there, this is one. "))
        house.run(house.gateway.shut_down)
        assert house.row().outcome == "SHUTDOWN"
        assert b"Hello" not in asker.reply.body
        assert b'"error"' in asker.reply.body
        assert not bench.open


@pytest.mark.parametrize("gone", [True, False])
def test_a_request_waits_for_its_guards_before_a_provider_is_asked(gone: bool) -> None:
    house, bench = house_with()
    with house:
        asker = house.post("/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "Hello"}]})
        assert not house.asks
        if gone:
            asker.leave()
            assert not bench.open
            assert house.row().outcome == "CLIENT_GONE"
            return
        assert bench.answer(house, Verdict(Said.MASK, ["Hi"])).where == "request"
        assert b'"Hi"' in house.last.sent_body


def test_the_time_that_the_guards_of_a_request_take_is_not_the_providers() -> None:
    house, bench = house_with(timers={"first_content": 2.0})
    with house:
        asker = house.chat(messages=[{"role": "user", "content": "Hello"}])
        house.loop.wait(3.0)
        bench.answer(house)
        house.loop.wait(1.5)
        assert house.last.live
        house.loop.wait(1.0)
        assert (house.row().outcome, house.row().timer, asker.reply.status) == ("TIMED_OUT", "first_content", 504)


def test_the_error_that_a_rejection_puts_in_names_the_providers_request() -> None:
    messages = ProtocolId.ANTHROPIC_MESSAGES
    house, bench = House(conduct=Conduct(guards=Guards([Guard("judge", outside=Outside("judge", "service", in_stream="error"))]))), Bench()
    house.gateway.judges = bench
    with house:
        asker, ask = house.stream(messages)
        ask.answer(200, [*SSE, (b"request-id", b"req_7")]).body(*frames_saying(messages, ["Hello there, this is one. "]))
        bench.answer(house, Verdict(Said.REJECT, why="it rejects it"))
        assert b'"request_id":"req_7"' in asker.reply.body
        assert b"Hello" not in asker.reply.body
        assert house.row().outcome == "CUT"
