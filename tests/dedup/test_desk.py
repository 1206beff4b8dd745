"""Which earlier request is found, for how long, and what the desk forgets to stay within its bounds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.dedup import Conflict, Desk, Evidence, Fits, Form, Kept, Match, Mode, Record, Rules
from penstock.upstream.contract import ResponseHead
from penstock.wire.encoding import coding_of
from tests.support.kept import ANY, STORES, Leading, desk_of

RETRIES, ALWAYS = Rules("retries"), Rules("always")
MIB = 1 << 20


def record(id: str = "1", body: Any = None, *, head: bytes = b"h", model: str | None = "m", key: bytes | None = None, provider: str = "p") -> Record:
    return Record(id, (head, provider, model), json.dumps(body or {"model": "m"}).encode(), key)


def kept(desk: Desk, one: Record, now: float, answer: bytes = b"answer") -> Record:
    desk.open(one, Leading())
    desk.keep(one, 200, [], answer, now)
    return one


def found(desk: Desk, asked: Record, rules: Rules = RETRIES, now: float = 0.0, *, again: bool = False) -> tuple[str, Evidence] | None:
    match = desk.find(asked, rules, now, again=again, fits=ANY)
    assert not isinstance(match, Conflict)
    return (match.told.id, match.evidence) if match is not None else None


def test_evidence_decides() -> None:
    desk = desk_of(9, MIB)
    first = kept(desk, record(), 0.0)
    assert found(desk, record()) is None
    assert found(desk, record(), again=True) == ("1", Evidence.TRIES)
    assert found(desk, record(), ALWAYS) == ("1", Evidence.NONE)
    desk.left(first)
    assert found(desk, record()) == ("1", Evidence.LEFT)
    assert found(desk, record()) is None


@pytest.mark.parametrize(("codings", "is_told"), [
    ((), True), ((b"",), True), ((b"identity",), True), ((b"GZIP ",), True), ((b"x-gzip",), True),
    ((b"br",), False), ((b"gzip, br",), False), ((b"gzip", b"br"), False), ((b"gzip", b"gzip"), False), ((b"gzip", b"identity"), False),
])  # fmt: skip
def test_what_nobody_reads_here_is_told_in_its_own_form_only(codings: tuple[bytes, ...], is_told: bool) -> None:
    """Read here is what the pipeline reads: several headers are one coding behind another."""
    desk = desk_of(9, MIB)
    one = record()
    one.status, one.headers = 200, [(b"Content-Encoding", coding) for coding in codings]
    desk.open(one, Leading(Form.EVENTS))
    assert ResponseHead(200, one.headers).content_encoding == coding_of(one.headers)
    for forms, fits in (((Form.EVENTS, Form.BODY), True), ((Form.BODY, Form.EVENTS), is_told)):
        assert (desk.find(record("2"), ALWAYS, 0.0, again=False, fits=Fits(forms)) is not None) is fits


def test_the_newest_is_told() -> None:
    desk = desk_of(9, MIB)
    for name in ("1", "2"):
        kept(desk, record(name), 0.0)
    assert found(desk, record(), again=True) == ("2", Evidence.TRIES)


def test_time_runs_from_the_end_and_longer_for_tool_results() -> None:
    desk = desk_of(9, MIB)
    running = record("r")
    desk.open(running, Leading())
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
    desk = desk_of(9, MIB)
    kept(desk, record(key=b"k"), 0.0)
    assert found(desk, record(key=b"k")) == ("1", Evidence.KEY)
    assert isinstance(desk.find(record(body={"model": "m", "n": 2}, key=b"k"), RETRIES, 0.0, again=False, fits=ANY), Conflict)
    assert isinstance(desk.find(record(body={"model": "n"}, model="n", key=b"k"), RETRIES, 0.0, again=False, fits=ANY), Conflict)
    assert found(desk, record(key=b"l"), again=True) is None
    assert found(desk, record(), again=True) is None
    assert found(desk, record(key=b"k", head=b"other", body={"model": "m", "n": 2})) is None
    assert found(desk, record(key=b"k", provider="q")) is None
    assert found(desk, record(key=b"k"), now=5.0) is None


def test_the_oldest_make_room() -> None:
    desk = desk_of(2, 1000)
    for name in ("1", "2", "3"):
        kept(desk, record(name, {"model": name}, model=name), 0.0)
    assert [found(desk, record("x", {"model": name}, model=name), again=True) is not None for name in ("1", "2", "3")] == [False, True, True]
    large = kept(desk, record("4", {"model": "4"}, model="4"), 1.0, b"x" * 935)
    assert desk.budget.used <= 1000
    assert found(desk, record("x", {"model": "3"}, model="3"), now=1.0, again=True) is None
    assert found(desk, record("x", {"model": "4"}, model="4"), now=1.0, again=True) == (large.id, Evidence.TRIES)
    long = record("5", {"model": "x" * 1000})
    desk.open(long, Leading())
    assert found(desk, record("x", {"model": "x" * 1000}), again=True) == ("5", Evidence.TRIES), "whoever asked holds it"
    desk.hold(long)
    assert long.leader is None
    assert found(desk, record("x", {"model": "x" * 1000}), again=True) is None, "there is no room for its body"
    kept(desk, record("6"), 2.0, b"x" * 2000)
    assert found(desk, record(), now=2.0, again=True) is None, "larger than everything"


@given(st.data())
def test_nothing_is_found_that_is_not_equal_and_nothing_is_left_behind(data: st.DataObject) -> None:
    desk = desk_of(data.draw(st.integers(1, 5)), data.draw(st.integers(50, 5000)), make=data.draw(st.sampled_from(list(STORES.values()))))
    small = st.integers(0, 2)
    running: list[Record] = []
    every: dict[str, Record] = {}
    ends: dict[str, float] = {}
    now = 0.0
    for at in range(data.draw(st.integers(1, 40))):
        now += data.draw(st.floats(0, 6))
        mode: Mode = data.draw(st.sampled_from(["retries", "always"]))
        body = {"model": f"m{data.draw(small)}", "x": data.draw(small)}
        key = data.draw(st.sampled_from([None, None, b"k"]))
        asked = Record(str(at), (b"%d" % data.draw(small), "p", str(body["model"])), json.dumps(body).encode(), key)
        match = desk.find(asked, Rules(mode), now, again=data.draw(st.booleans()), fits=ANY)
        if isinstance(match, Match):
            hit = match.told
            assert (hit.place, json.loads(hit.body), hit.key) == (asked.place, body, asked.key)
            assert hit.id in every
            assert isinstance(hit, Kept) is (every[hit.id] not in running)
            assert hit.id not in ends or now - ends[hit.id] < 5.0
            if data.draw(st.booleans()):
                owed = desk.owed
                desk.give_back(match)
                assert desk.owed == owed + match.back
        elif match is None:
            desk.open(asked, Leading())
            if data.draw(st.booleans()):
                desk.hold(asked)
            if asked.leader is not None:
                running.append(asked)
                every[asked.id] = asked
        if running and data.draw(st.booleans()):
            over = running.pop(data.draw(st.integers(0, len(running) - 1)))
            if data.draw(st.booleans()):
                desk.left(over)
            match data.draw(st.sampled_from(["whole", "tape", "bad"])):
                case "whole":
                    ends[over.id] = now
                    desk.keep(over, 200, [], b"x" * data.draw(st.integers(0, 100)), now)
                case "tape":
                    over.answer = notes = desk.notes(1000)
                    notes.add(b"x" * 40)
                    if notes.torn:
                        desk.drop(over)
                    else:
                        ends[over.id] = now
                        desk.keep(over, 200, [], notes.reel() or b"", now, Form.EVENTS)
                    over.answer = None
                    del notes
                case _:
                    desk.drop(over)
        assert 0 <= desk.budget.used <= desk.budget.total
    for one in running:
        desk.drop(one)
    desk.sweep(now + 16.0)
    assert (desk.budget.used, desk.holds, desk.owed) == (0, False, 0)
    assert desk.find(Record("z", (b"0", "p", "m0"), b"{}", None), RETRIES, now, again=False, fits=ANY) is None


def test_a_try_that_a_failure_explains_takes_nobody_elses_answer() -> None:
    desk = desk_of(9, MIB)
    sibling, failed = record("1"), record("2")
    desk.open(sibling, Leading())
    desk.open(failed, Leading())
    desk.fail(failed, 10.0)
    assert found(desk, record(), now=11.0, again=True) is None, "it was refused, and asks for itself"
    assert found(desk, record(), now=11.0, again=True) == ("1", Evidence.TRIES), "once"
    other = record("3")
    desk.open(other, Leading())
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


def test_one_that_cannot_be_told_to_who_asks_stands_in_nobodys_way() -> None:
    """Gemini's two kinds of streams, say, asked for side by side."""
    desk = desk_of(9, MIB)
    for name, form in (("events", Form.EVENTS), ("array", Form.ARRAY)):
        desk.open(record(name), Leading(form))
    for form in (Form.EVENTS, Form.ARRAY):
        match = desk.find(record(), ALWAYS, 0.0, again=False, fits=Fits((form, Form.BODY)))
        assert isinstance(match, Match)
        assert match.told.id == form.name.lower()
    keyed = record("k", key=b"k")
    desk.open(keyed, Leading(Form.EVENTS))
    assert desk.find(record(key=b"k"), RETRIES, 0.0, again=False, fits=Fits((Form.ARRAY,))) is None


def test_what_is_under_way_goes_before_what_is_kept_and_what_was_left_before_both() -> None:
    desk = desk_of(9, MIB)
    running = record("running")
    desk.open(running, Leading())
    whole = kept(desk, record("kept"), 0.0)
    assert found(desk, record(), again=True) == ("running", Evidence.TRIES)
    desk.left(whole)
    assert found(desk, record(), again=True) == ("kept", Evidence.TRIES)
    desk.left(running)
    desk.left(whole)
    assert [found(desk, record()), found(desk, record()), found(desk, record())] == [("running", Evidence.LEFT), ("kept", Evidence.LEFT), None]
    assert desk.owed == 0
