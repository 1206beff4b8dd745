"""Behind the last that a provider ever sends (`terminal: finish_reason`): nobody waits for the end of its answer for long."""

from __future__ import annotations

import pytest

from penstock.exchange.conduct import Conduct
from penstock.exchange.gateway import LOOK
from penstock.pipeline.timers import Timers
from penstock.pipeline.watch import AFTER_LAST
from tests.exchange.test_watching import CHAT, OFF, STEP, ran_out
from tests.support.exchanges import CHUNK, DONE, STOP, USAGE, House


@pytest.mark.parametrize("idle", [2.0, 270.0, None])
def test_behind_the_finish_reason_of_a_provider_that_says_no_more(idle: float | None) -> None:
    """It stays connected. The answer is whole, and nobody waits for the end of it."""
    last = min(idle or AFTER_LAST, AFTER_LAST)
    timers = Timers(**{**OFF, "idle": idle})  # pyright: ignore[reportArgumentType]
    with House(conduct=Conduct(timers=timers, keepalive=None, early_head=None, terminal="finish_reason")) as house:
        asker, ask = house.stream(CHAT)
        ask.answer().body(CHUNK, STOP)
        house.loop.wait(last - 0.5)
        assert asker.reply.over is None
        ask.body(USAGE)
        took = house.until(lambda: asker.reply.over, last + 1.0)
        assert last - STEP <= took <= last + LOOK + STEP
        assert (asker.reply.over, asker.reply.body) == ("ended", CHUNK + STOP + USAGE + DONE)
        row = house.row()
        assert (row.outcome, row.timer, row.input_tokens is not None, ask.cancelled) == ("COMPLETE", None, True, True)
        house.check_quiet()


@pytest.mark.parametrize("shorter", ["content", "tool_call", "max_duration"])
def test_no_other_timer_makes_that_an_error(shorter: str) -> None:
    timers = Timers(**{**OFF, "idle": 6.0, shorter: 3.0})  # pyright: ignore[reportArgumentType]
    with House(conduct=Conduct(timers=timers, keepalive=None, early_head=None, terminal="finish_reason")) as house:
        asker, ask = house.stream(CHAT)
        ask.answer().body(CHUNK, STOP)
        took = house.until(lambda: asker.reply.over, 7.0)
        assert took <= 3.0 + LOOK + STEP if shorter == "max_duration" else took >= 6.0 - STEP
        assert (asker.reply.over, asker.reply.body) == ("ended", CHUNK + STOP + DONE)
        row = house.row()
        assert (row.outcome, row.timer, ask.cancelled) == ("COMPLETE", None, True)
        house.check_quiet()


@pytest.mark.parametrize("drained", [False, True])
def test_the_end_of_the_gateway_does_not_either(drained: bool) -> None:
    timers = Timers(**{**OFF, "drain": 2.0})  # pyright: ignore[reportArgumentType]
    with House(conduct=Conduct(timers=timers, keepalive=None, early_head=None, terminal="finish_reason")) as house:
        asker, ask = house.stream(CHAT)
        ask.answer().body(CHUNK, STOP)
        if drained:
            house.run(house.gateway.drain)
            assert asker.reply.over is None
            house.loop.wait(3.0)
        else:
            house.run(house.gateway.shut_down)
        assert (asker.reply.over, asker.reply.body) == ("ended", CHUNK + STOP + DONE)
        row = house.row()
        assert (row.outcome, row.ended_by, ask.cancelled) == ("COMPLETE", "upstream", True)
        house.check_quiet()


@pytest.mark.parametrize("held", [CHUNK, CHUNK + STOP + CHUNK[:9]])
def test_what_is_not_finished_there_is_shut_down_with_the_gateway(held: bytes) -> None:
    with House(conduct=Conduct(timers=Timers(**OFF), keepalive=None, early_head=None, terminal="finish_reason")) as house:  # pyright: ignore[reportArgumentType]
        asker, ask = house.stream(CHAT)
        ask.answer().body(held)
        house.run(house.gateway.shut_down)
        assert b"shutting down" in asker.reply.body
        assert b"[DONE]" not in asker.reply.body
        assert (house.row().outcome, ask.cancelled) == ("SHUTDOWN", True)
        house.check_quiet()


@pytest.mark.parametrize("held", [CHUNK, CHUNK + STOP + CHUNK[:9]])
def test_what_is_not_finished_there_is_waited_for_and_timed_out(held: bytes) -> None:
    with House(conduct=Conduct(timers=Timers(**{**OFF, "idle": 20.0}), keepalive=None, early_head=None, terminal="finish_reason")) as house:  # pyright: ignore[reportArgumentType]
        asker, ask = house.stream(CHAT)
        ask.answer().body(held)
        ran_out(house, asker, ask, "idle", 20.0)
        assert b"[DONE]" not in asker.reply.body
