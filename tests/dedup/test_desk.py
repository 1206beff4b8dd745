"""Which earlier request is found, for how long, and what the desk forgets to stay within its bounds."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from penstock.dedup import Conflict, Desk, Evidence, Match, Record, Rules, Tape
from penstock.dedup.desk import Mode

RETRIES, ALWAYS = Rules("retries"), Rules("always")
MIB = 1 << 20


def record(id: str = "1", body: Any = None, *, head: bytes = b"h", model: str | None = "m", key: bytes | None = None, provider: str = "p") -> Record:
    return Record(id, (head, provider, model), json.dumps(body or {"model": "m"}).encode(), key)


def kept(desk: Desk, one: Record, now: float, answer: bytes = b"answer") -> Record:
    assert desk.open(one)
    one.answer = answer
    desk.keep(one, now)
    return one


def found(desk: Desk, asked: Record, rules: Rules = RETRIES, now: float = 0.0, *, again: bool = False) -> tuple[str, Evidence] | None:
    match = desk.find(asked, rules, now, again=again)
    assert not isinstance(match, Conflict)
    return (match.record.id, match.evidence) if match is not None else None


def test_evidence_decides() -> None:
    desk = Desk(9, MIB, 15.0)
    first = kept(desk, record(), 0.0)
    assert found(desk, record()) is None
    assert found(desk, record(), again=True) == ("1", Evidence.TRIES)
    assert found(desk, record(), ALWAYS) == ("1", Evidence.NONE)
    desk.left(first)
    assert found(desk, record()) == ("1", Evidence.LEFT)
    desk.came_back(first)
    assert found(desk, record()) is None


def test_the_newest_is_told() -> None:
    desk = Desk(9, MIB, 15.0)
    for name in ("1", "2"):
        kept(desk, record(name), 0.0)
    assert found(desk, record(), again=True) == ("2", Evidence.TRIES)


def test_time_runs_from_the_end_and_longer_for_tool_results() -> None:
    desk = Desk(9, MIB, 15.0)
    running = record("r")
    assert desk.open(running)
    assert found(desk, record(), now=1e6, again=True) == ("r", Evidence.TRIES), "what runs is found for as long as it runs"
    desk.drop(running)
    kept(desk, record(), 100.0)
    assert found(desk, record(), now=104.9, again=True) is not None
    assert found(desk, record(), now=105.0, again=True) is None
    turn = {"model": "m", "messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "x"}]}]}
    kept(desk, record("t", turn), 100.0)
    assert found(desk, record("u", turn), now=114.9, again=True) is not None
    assert found(desk, record("u", turn), now=115.0, again=True) is None
    desk.sweep(115.0)
    assert not desk.holds
    assert desk.budget.used == 0


def test_a_key_stands_for_the_body_under_one_head() -> None:
    desk = Desk(9, MIB, 15.0)
    kept(desk, record(key=b"k"), 0.0)
    assert found(desk, record(key=b"k")) == ("1", Evidence.KEY)
    assert isinstance(desk.find(record(body={"model": "m", "n": 2}, key=b"k"), RETRIES, 0.0, again=False), Conflict)
    assert isinstance(desk.find(record(body={"model": "n"}, model="n", key=b"k"), RETRIES, 0.0, again=False), Conflict)
    assert found(desk, record(key=b"l"), again=True) is None
    assert found(desk, record(), again=True) is None
    assert found(desk, record(key=b"k", head=b"other", body={"model": "m", "n": 2})) is None
    assert found(desk, record(key=b"k", provider="q")) is None
    assert found(desk, record(key=b"k"), now=5.0) is None


def test_the_oldest_make_room() -> None:
    desk = Desk(2, 1000, 15.0)
    for name in ("1", "2", "3"):
        kept(desk, record(name, {"model": name}, model=name), 0.0)
    assert [found(desk, record("x", {"model": name}, model=name), again=True) is not None for name in ("1", "2", "3")] == [False, True, True]
    large = kept(desk, record("4", {"model": "4"}, model="4"), 1.0, b"x" * 970)
    assert desk.budget.used <= 1000
    assert found(desk, record("x", {"model": "3"}, model="3"), now=1.0, again=True) is None
    assert found(desk, record("x", {"model": "4"}, model="4"), now=1.0, again=True) == (large.id, Evidence.TRIES)
    assert not desk.open(record("5", {"model": "x" * 1000}))
    kept(desk, record("6"), 2.0, b"x" * 2000)
    assert found(desk, record(), now=2.0, again=True) is None, "larger than everything"


@given(st.data())
def test_nothing_is_found_that_is_not_equal_and_nothing_is_left_behind(data: st.DataObject) -> None:
    desk = Desk(data.draw(st.integers(1, 5)), data.draw(st.integers(50, 5000)), 15.0)
    small = st.integers(0, 2)
    running: list[Record] = []
    every: list[Record] = []
    now = 0.0
    for at in range(data.draw(st.integers(1, 40))):
        now += data.draw(st.floats(0, 6))
        mode: Mode = data.draw(st.sampled_from(["retries", "always"]))
        body = {"model": f"m{data.draw(small)}", "x": data.draw(small)}
        key = data.draw(st.sampled_from([None, None, b"k"]))
        asked = Record(str(at), (b"%d" % data.draw(small), "p", str(body["model"])), json.dumps(body).encode(), key)
        match = desk.find(asked, Rules(mode), now, again=data.draw(st.booleans()))
        if isinstance(match, Match):
            hit = match.record
            assert (hit.place, json.loads(hit.body), hit.key) == (asked.place, body, asked.key)
            assert hit in every
            assert hit.kept_at is None or now - hit.kept_at < 5.0
            desk.came_back(hit)
        elif match is None and desk.open(asked):
            running.append(asked)
            every.append(asked)
        if running and data.draw(st.booleans()):
            over = running.pop(data.draw(st.integers(0, len(running) - 1)))
            if data.draw(st.booleans()):
                desk.left(over)
            match data.draw(st.sampled_from(["whole", "tape", "bad"])):
                case "whole":
                    over.answer = b"x" * data.draw(st.integers(0, 100))
                    desk.keep(over, now)
                case "tape":
                    over.answer = tape = Tape(1000, desk.budget)
                    tape.add([b"x" * 40])
                    if tape.torn:
                        desk.drop(over)
                    else:
                        desk.keep(over, now)
                case _:
                    desk.drop(over)
        assert 0 <= desk.budget.used <= desk.budget.total
    for one in running:
        desk.drop(one)
    desk.sweep(now + 16.0)
    assert (desk.budget.used, desk.holds) == (0, False)
    assert desk.find(Record("z", (b"0", "p", "m0"), b"{}", None), RETRIES, now, again=False) is None


def test_a_try_that_a_failure_explains_takes_nobody_elses_answer() -> None:
    desk = Desk(9, MIB, 15.0)
    sibling, failed = record("1"), record("2")
    assert desk.open(sibling)
    assert desk.open(failed)
    desk.fail(failed, 10.0)
    assert found(desk, record(), now=11.0, again=True) is None, "it was refused, and asks for itself"
    assert found(desk, record(), now=11.0, again=True) == ("1", Evidence.TRIES), "once"
    other = record("3")
    assert desk.open(other)
    desk.fail(other, 20.0)
    assert found(desk, record(), now=80.0, again=True) == ("1", Evidence.TRIES), "that was long ago"
    desk.fail(record("5", model="alone"), 80.0)
    assert found(desk, record(model="alone"), now=81.0, again=True) is None
    kept(desk, record("6", model="alone"), 82.0)
    assert found(desk, record(model="alone"), now=83.0, again=True) == ("6", Evidence.TRIES), "the failure was the reason of the try before"
    desk.left(sibling)
    desk.fail(record("4"), 90.0)
    assert found(desk, record(), now=91.0, again=True) == ("1", Evidence.TRIES), "one that left is missing"
    for at in range(300):
        desk.fail(record(str(at), model=str(at)), 90.0)
    assert len(desk._failed) <= 256  # pyright: ignore[reportPrivateUsage]
