"""A law beside the ten: a tool call has the time since its own last progress, whatever else comes, in every protocol."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.pipeline.timers import Timers
from penstock.pipeline.watch import expired, next_deadline, next_look
from tests.laws.talk import DIALECTS, Dialect, stream

EACH = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.protocol.value)
CALLS = 3
STEPS = st.lists(
    st.tuples(st.integers(0, 200), st.sampled_from(["open", "arguments", "empty", "close", "text", "ping"]), st.integers(0, CALLS - 1)), max_size=25
)
"""Milliseconds until it comes, what comes, which call (or which ping)."""
ONLY = Timers(first_content=None, idle=None, content=None, tool_call=0.5)
ALL = Timers(first_content=0.9, idle=0.3, content=0.6, tool_call=0.5, max_duration=3.0)


def frames_of(dialect: Dialect, steps: list[tuple[int, str, int]]) -> list[tuple[float, str, int, bytes]]:
    """The steps that make a conversation: a call is opened once, written while it is open, and closed once."""
    now, state = 0.0, ["new"] * CALLS
    found: list[tuple[float, str, int, bytes]] = []
    for wait, what, call in steps:
        now += wait / 1000
        match what:
            case "open" if state[call] == "new":
                state[call] = "open"
                found.append((now, what, call, dialect.open(call)))
            case "arguments" if state[call] == "open":
                found.append((now, what, call, dialect.arguments(call, "[")))
            case "close" if state[call] == "open":
                state[call] = "closed"
                found.append((now, what, call, dialect.close(call)))
            case "empty" if state[call] == "open":
                found.append((now, what, call, dialect.arguments(call, "")))
            case "text":
                found.append((now, what, call, dialect.text()))
            case "ping":
                pings = dialect.pings()
                found.append((now, what, call, pings[(call + wait) % len(pings)]))
            case _:
                pass
    return found


@EACH
@given(steps=STEPS)
def test_only_its_own_arguments_extend_a_call(dialect: Dialect, steps: list[tuple[int, str, int]]) -> None:
    relay = stream(dialect.protocol)
    progress: dict[int, float] = {}
    for now, what, call, frame in frames_of(dialect, steps):
        relay.feed(frame, now)
        if what in ("open", "arguments"):
            progress[call] = now
        elif what == "close":
            progress.pop(call)
        expected = min(progress.values(), default=None)
        assert next_deadline(ONLY, 0.0, relay) == (None if expected is None else expected + 0.5)


@EACH
@given(steps=STEPS, pings=st.lists(st.integers(0, 5000), max_size=20))
def test_no_ping_changes_a_deadline_but_that_of_silence(dialect: Dialect, steps: list[tuple[int, str, int]], pings: list[int]) -> None:
    plain, pinged = stream(dialect.protocol), stream(dialect.protocol)
    said = [(now, frame) for now, what, _, frame in frames_of(dialect, steps) if what != "ping"]
    every = dialect.pings()
    noise = [(ms / 1000, every[ms % len(every)]) for ms in pings]
    for now, frame in said:
        plain.feed(frame, now)
    for now, frame in sorted(said + noise, key=lambda come: come[0]):
        pinged.feed(frame, now)
    silent = Timers(first_content=0.9, idle=None, content=0.6, tool_call=0.5, max_duration=3.0)
    assert next_deadline(silent, 0.0, pinged) == next_deadline(silent, 0.0, plain)


@EACH
@given(steps=STEPS)
def test_looking_when_told_is_as_good_as_looking_always(dialect: Dialect, steps: list[tuple[int, str, int]]) -> None:
    """Between two looks nothing can run out and stay unseen: at each look, what is found ran out just then."""
    relay = stream(dialect.protocol)
    look = next_look(ALL, 0.0, None, 0.0)
    comes = frames_of(dialect, steps)
    for _ in range(200):
        assert look is not None
        while comes and comes[0][0] < look:
            now, _, _, frame = comes.pop(0)
            assert expired(ALL, 0.0, relay, now) is None, "what runs out is found before more comes"
            relay.feed(frame, now)
        over = expired(ALL, 0.0, relay, look)
        if over is not None:
            assert over.at == pytest.approx(look)
            return
        following = next_look(ALL, 0.0, relay, look)
        assert following is not None
        assert following > look
        look = following
    pytest.fail("it goes on for ever")
