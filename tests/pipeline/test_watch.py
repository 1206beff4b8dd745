"""Timers as dialogues: what comes when, which timer runs out, and when exactly. Milliseconds; no clock but the one that is passed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from penstock.pipeline.body import BodyRelay
from penstock.pipeline.contract import Pipeline, State
from penstock.pipeline.timers import Timers
from penstock.pipeline.unbegun import Unbegun
from penstock.pipeline.watch import AFTER_LAST, Expired, excuse, expired, next_deadline, next_look
from penstock.protocols import REGISTRY
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.wire.budget import Budget
from tests.laws.talk import DIALECTS, Dialect, stream

CHAT = ProtocolId.OPENAI_CHAT
STARTED = 1000.0
MS = 0.001
TIMERS = Timers(first_content=0.900, idle=0.270, content=0.600, tool_call=0.240, max_duration=None)
EACH = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.protocol.value)


def at(ms: float) -> float:
    return STARTED + ms * MS


class Play:
    """A stream that is played, with the timers asked before each thing that comes."""

    def __init__(self, dialect: Dialect, timers: Timers = TIMERS) -> None:
        self.pipeline: Pipeline = stream(dialect.protocol, at(10))
        self.timers = timers

    def come(self, *frames: tuple[float, bytes]) -> Play:
        for ms, frame in frames:
            assert expired(self.timers, STARTED, self.pipeline, at(ms)) is None, f"nothing has run out at {ms} ms"
            self.pipeline.feed(frame, at(ms))
        return self

    def runs_out(self, timer: str, ms: float) -> Expired:
        """`timer` is the next, at `ms`, not a millisecond before."""
        found = next_deadline(self.timers, STARTED, self.pipeline)
        assert found is not None
        assert found == pytest.approx(at(ms), abs=1e-6)
        assert expired(self.timers, STARTED, self.pipeline, at(ms - 1)) is None
        over = expired(self.timers, STARTED, self.pipeline, at(ms + 0.01))
        assert over is not None
        assert (over.timer, over.at) == (timer, found)
        return over


@EACH
def test_first_content_runs_from_the_request_and_heads_are_none(dialect: Dialect) -> None:
    play = Play(dialect).come((10, dialect.head()), *((300, ping) for ping in dialect.pings()))
    over = play.runs_out("first_content", 900)
    assert over.cause == "first_content: no content within 0.9 s of the request"
    assert over.seconds == 0.9


def test_first_content_before_there_is_an_answer() -> None:
    assert next_deadline(TIMERS, STARTED, None) == STARTED + 0.9
    assert expired(TIMERS, STARTED, None, at(899)) is None
    over = expired(TIMERS, STARTED, None, at(900.01))
    assert over is not None
    assert over.timer == "first_content"


@EACH
def test_an_opened_stream_that_has_not_begun_waits_for_its_first_content(dialect: Dialect) -> None:
    unbegun = Unbegun(REGISTRY[dialect.protocol], Operation.CHAT, at(300))
    unbegun.keepalive()
    assert next_deadline(TIMERS, STARTED, unbegun) == STARTED + 0.9


@EACH
def test_idle_runs_from_the_last_read_once_content_has_come(dialect: Dialect) -> None:
    play = Play(dialect).come((100, dialect.head()), (800, dialect.text()))
    over = play.runs_out("idle", 800 + 270)
    assert over.cause == "idle: nothing came from the provider for 0.27 s"
    play.come((1000, dialect.text()[:5]))
    play.runs_out("idle", 1000 + 270)


@EACH
@pytest.mark.parametrize("idle", [None, 270.0, 9.0])
@pytest.mark.parametrize("begun", [True, False])
def test_behind_the_providers_own_error_nobody_waits_long(dialect: Dialect, idle: float | None, begun: bool) -> None:
    timers = Timers(first_content=900.0, idle=idle, content=600.0, tool_call=None, max_duration=None)
    play = Play(dialect, timers).come((100, dialect.text() if begun else dialect.head()))
    first = next_look(timers, STARTED, play.pipeline, at(100))
    assert first is not None
    play.come((200, dialect.error()))
    assert play.pipeline.observer.error is not None
    play.runs_out("idle", 200 + 1000 * min(idle or AFTER_LAST, AFTER_LAST))
    assert first <= at(200) + AFTER_LAST, "it was looked at before that, whether or not an error was to be expected"


@EACH
def test_pings_keep_a_stream_from_being_idle_and_not_from_bringing_nothing(dialect: Dialect) -> None:
    play = Play(dialect).come((100, dialect.text()))
    pings = dialect.pings()
    play.come(*((100 + 80 * i, pings[i % len(pings)]) for i in range(1, 8)))
    over = play.runs_out("content", 100 + 600)
    assert over.cause == "content: no content for 0.6 s, whatever else came"
    play.come((690, dialect.text()))
    play.runs_out("idle", 690 + 270)


@EACH
def test_a_call_that_is_announced_and_never_written(dialect: Dialect) -> None:
    over = Play(dialect).come((100, dialect.head()), (150, dialect.open(0))).runs_out("tool_call", 150 + 240)
    assert over.cause == "tool_call: 0.24 s without progress of the arguments of tool call 'f0'"


@EACH
def test_a_stall_inside_arguments(dialect: Dialect) -> None:
    play = Play(dialect).come((100, dialect.open(0)), (200, dialect.arguments(0)), (390, dialect.arguments(0, "1")))
    play.runs_out("tool_call", 390 + 240)


@EACH
def test_pings_text_and_empty_deltas_do_not_extend_a_call(dialect: Dialect) -> None:
    play = Play(dialect).come((100, dialect.open(0)), (110, dialect.arguments(0)))
    others = [*dialect.pings(), dialect.arguments(0, ""), dialect.text(), *dialect.pings()]
    play.come(*((120 + 10 * i, frame) for i, frame in enumerate(others)))
    play.runs_out("tool_call", 110 + 240)


@EACH
def test_calls_side_by_side_do_not_hide_each_other(dialect: Dialect) -> None:
    play = Play(dialect).come((100, dialect.open(0)), (110, dialect.arguments(0)), (120, dialect.open(1)))
    play.come(*((ms, dialect.arguments(1, "x")) for ms in range(130, 340, 20)))
    over = play.runs_out("tool_call", 110 + 240)
    assert "'f0'" in over.cause
    play.come((345, dialect.close(0)))
    over = play.runs_out("tool_call", 330 + 240)
    assert "'f1'" in over.cause


@EACH
def test_the_end_of_a_call_stops_its_timer(dialect: Dialect) -> None:
    play = Play(dialect).come((100, dialect.open(0)), (300, dialect.arguments(0, "{}")), (310, dialect.close(0)))
    play.runs_out("idle", 310 + 270)


@EACH
def test_nothing_runs_behind_the_terminal_event(dialect: Dialect) -> None:
    terminal = dialect.terminal()
    if terminal is None:
        return
    play = Play(dialect, replace(TIMERS, max_duration=2.0)).come((100, dialect.open(0)), (110, terminal))
    assert play.pipeline.state is State.ENDED
    assert next_deadline(play.timers, STARTED, play.pipeline) is None
    assert next_look(play.timers, STARTED, play.pipeline, at(120)) is None
    assert expired(play.timers, STARTED, play.pipeline, at(1e9)) is None


def test_a_chat_call_ends_when_its_json_closes_or_another_index_begins() -> None:
    chat = Dialect(CHAT)
    play = Play(chat).come((100, chat.open(0)), (110, chat.arguments(0, '{"a": 1')))
    play.runs_out("tool_call", 110 + 240)
    play.come((200, chat.arguments(0, "}")))
    play.runs_out("idle", 200 + 270)

    play = Play(chat).come((100, chat.open(0)), (110, chat.arguments(0)))
    second = chat.open(0).replace(b'"tool_calls": [{"index": 0', b'"tool_calls": [{"index": 1').replace(b'"c0"', b'"c9"').replace(b'"f0"', b'"f9"')
    over = play.come((200, second)).runs_out("tool_call", 200 + 240)
    assert "'f9'" in over.cause


def test_a_chat_call_that_is_taken_up_again_runs_from_then() -> None:
    """Some servers write two calls in turns; the delta that takes one up again may be empty."""
    chat = Dialect(CHAT)
    other = chat.open(0).replace(b'"tool_calls": [{"index": 0', b'"tool_calls": [{"index": 1').replace(b'"c0"', b'"c9"')
    play = Play(chat).come((100, chat.open(0)), (110, chat.arguments(0)), (200, other))
    play.come((430, chat.arguments(0, "")))
    play.runs_out("tool_call", 430 + 240)


@EACH
def test_each_timer_can_be_off(dialect: Dialect) -> None:
    off = Timers(first_content=None, idle=None, content=None, tool_call=None, max_duration=None)
    play = Play(dialect, off).come((100, dialect.open(0)), (110, dialect.text()))
    assert next_deadline(off, STARTED, play.pipeline) is None
    assert next_look(off, STARTED, play.pipeline, at(120)) == at(120) + AFTER_LAST
    for name, deadline in (("idle", 110 + 270), ("content", 110 + 600), ("tool_call", 100 + 240)):
        play.timers = replace(off, **{name: getattr(TIMERS, name)})
        play.runs_out(name, deadline)
    play.timers = replace(off, max_duration=5.0)
    assert play.runs_out("max_duration", 5000).cause == "max_duration: the exchange took longer than 5 s"


def test_of_several_that_ran_out_the_first_is_told() -> None:
    chat = Dialect(CHAT)
    play = Play(chat).come((100, chat.open(0)), (110, chat.text()))
    over = expired(TIMERS, STARTED, play.pipeline, at(1e6))
    assert over is not None
    assert (over.timer, over.at) == ("tool_call", at(340))


def test_names_of_calls_are_outsiders_text() -> None:
    chat = Dialect(CHAT)
    long = chat.open(0).replace(b'"f0"', b'"sk-ant-api03-abcdefghijkl' + b"x" * 500 + b'"')
    over = Play(chat).come((100, long)).runs_out("tool_call", 340)
    assert over.cause.endswith("of tool call 'sk-ant-***'")
    nameless = chat.open(0).replace(b'"f0"', b"null")
    assert Play(chat).come((100, nameless)).runs_out("tool_call", 340).cause.endswith("of a tool call")


# Where the content is not told from other bytes.


def body(now: float) -> BodyRelay:
    return BodyRelay(REGISTRY[CHAT].observer(Operation.CHAT), 200, 1 << 20, Budget(1 << 20), now, keep=True, judged=True, delimited=True)


def test_a_body_has_its_first_byte_and_then_idle() -> None:
    relay = body(at(10))
    assert next_deadline(TIMERS, STARTED, relay) == STARTED + 0.9
    relay.feed(b"{", at(700))
    assert next_deadline(TIMERS, STARTED, relay) == at(700) + 0.27
    over = expired(TIMERS, STARTED, relay, at(971))
    assert over is not None
    assert over.timer == "idle"
    relay.feed(b"}", at(900))
    assert next_deadline(TIMERS, STARTED, relay) == at(900) + 0.27
    assert expired(replace(TIMERS, idle=None), STARTED, relay, at(1e6)) is None


@pytest.mark.parametrize(
    "blind",
    [
        lambda: stream(CHAT, at(10), promised=False),
        lambda: stream(CHAT, at(10), limit=20),
    ],
    ids=["no terminal event is promised", "a frame over the limit"],
)
def test_a_stream_that_is_not_understood_has_idle_alone(blind: Callable[[], Pipeline]) -> None:
    relay = blind()
    relay.feed(b": x\n\n", at(20))
    assert next_deadline(TIMERS, STARTED, relay) == STARTED + 0.9
    relay.feed(Dialect(CHAT).head()[:30], at(90))
    relay.feed(Dialect(CHAT).head()[30:], at(100))
    assert next_deadline(TIMERS, STARTED, relay) == at(100) + 0.27
    relay.feed(Dialect(CHAT).open(0), at(200))
    assert next_deadline(TIMERS, STARTED, relay) == at(200) + 0.27


def mistaken(name: bytes, data: bytes, now: float) -> int:
    raise RuntimeError("a bug")


def test_a_silent_observer_makes_no_timer_of_content() -> None:
    """What our own mistake hides is not held against the provider."""
    relay = stream(CHAT, at(10))
    relay._observe = mistaken  # pyright: ignore[reportPrivateUsage]
    relay.feed(Dialect(CHAT).text(), at(100))
    assert next_deadline(TIMERS, STARTED, relay) == at(100) + 0.27


# When to look again.


@EACH
def test_whoever_looks_when_told_finds_every_end_at_once(dialect: Dialect) -> None:
    """Content comes, and a call opens, between two looks: each timer that began so is still found the moment it runs out."""
    comes = {100: dialect.text(), 333: dialect.text(), 340: dialect.open(0), 400: dialect.arguments(0), 420: dialect.text()}
    relay = stream(dialect.protocol, at(10))
    look = next_look(TIMERS, STARTED, None, STARTED)
    assert look is not None
    for ms in range(2000):
        if ms in comes:
            relay.feed(comes[ms], at(ms))
        if at(ms) < look:
            continue
        over = expired(TIMERS, STARTED, relay, at(ms))
        if over is not None:
            assert (over.timer, over.at) == ("tool_call", pytest.approx(at(640)))
            assert ms <= 641
            return
        look = next_look(TIMERS, STARTED, relay, at(ms))
        assert look is not None
        assert look > at(ms)
    pytest.fail("it was never found")


@EACH
def test_time_in_which_the_client_did_not_read_is_not_the_providers(dialect: Dialect) -> None:
    play = Play(dialect).come((100, dialect.open(0)), (110, dialect.text()))
    excuse(play.pipeline, 10.0)
    play.runs_out("tool_call", 10_000 + 340)
    fresh = stream(dialect.protocol, at(10))
    excuse(fresh, 10.0)
    assert next_deadline(TIMERS, STARTED, fresh) == STARTED + 0.9


