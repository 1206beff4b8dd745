"""Law 7: P -> Q -> P keeps text, thoughts, tool calls and their arguments, stop reason and usage, minus the losses that `losses` lists."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.protocols import REGISTRY
from penstock.vocabulary.events import Ended, Event, Started, Stopped, StopReason, TextDelta, ToolDelta, ToolEnded, ToolStarted, UsageSeen
from penstock.vocabulary.ids import ProtocolId
from penstock.vocabulary.usage import Kinds, Usage
from tests.laws.losses import GEMINI, LOSSES, SPELLING, Loss, lose, page
from tests.support.corpus import Case, cases
from tests.support.neutral import Said, answers, read, spell, told
from tests.support.relays import neutral
from tests.support.streams import COMPLETE, small


def expected(events: list[Event], p: ProtocolId, q: ProtocolId, losses: tuple[Loss, ...]) -> Said:
    """What is left of what P told. P tells it again at the end, so what P itself never keeps goes last."""
    said = lose(lose(read(events), losses), LOSSES[p, p])
    return spell(said) if SPELLING in (*losses, *LOSSES[p, p]) else said


def there_and_back(events: list[Event], p: ProtocolId, q: ProtocolId) -> Said:
    said = read(told(p, told(q, events)))
    return spell(said) if SPELLING in (*LOSSES[p, q], *LOSSES[p, p]) else said


@pytest.mark.parametrize("p", REGISTRY)
@given(answer=answers())
def test_drawn_answers(p: ProtocolId, answer: list[Event]) -> None:
    events = told(p, answer)
    for q in REGISTRY:  # to draw an answer takes longer than to tell it in all of them
        assert there_and_back(events, p, q) == expected(events, p, q, LOSSES[p, q]), q


@pytest.mark.parametrize("p", REGISTRY)
@given(answer=answers())
def test_text_and_calls_are_never_on_the_list(p: ProtocolId, answer: list[Event]) -> None:
    """Without looking at any list: the first choice's words, calls and arguments arrive as the answer had them."""
    before, events = spell(read(answer)), told(p, answer)
    for q in REGISTRY:
        after = spell(read(told(p, told(q, events))))
        assert after.choices[0].content == before.choices[0].content, q
        assert after.ended, q


@pytest.mark.parametrize("q", REGISTRY)
@pytest.mark.parametrize("case", [c for c in small() if c in COMPLETE], ids=lambda c: c.name)
def test_recordings(case: Case, q: ProtocolId) -> None:
    p = case.recording.protocol
    events = recorded(case)
    assert there_and_back(events, p, q) == expected(events, p, q, LOSSES[p, q])


def recorded(case: Case) -> list[Event]:
    events = neutral(case.recording.protocol, case.body)[0]
    return [*events, Ended()] if case.recording.protocol is GEMINI else events


@pytest.mark.parametrize("q", REGISTRY)
@pytest.mark.parametrize("case", [c for c in cases() if c not in COMPLETE], ids=lambda c: c.name)
def test_recorded_failures(case: Case, q: ProtocolId) -> None:
    """An error in band stays one: never an end that looks good, and what was said before it is kept."""
    events = neutral(case.recording.protocol, case.body)[0]
    before, after = read(events), read(told(case.recording.protocol, told(q, events)))
    assert before.failed is not None
    assert (after.failed, after.ended, after.choices[0].content) == (before.failed, False, before.choices[0].content)


@pytest.mark.parametrize("p", REGISTRY)
@given(data=st.data())
def test_calls_that_run_side_by_side(p: ProtocolId, data: st.DataObject) -> None:
    """Some providers write several calls at once, a piece of this one, a piece of that one."""
    answer: list[Event] = [Started("r1", "m"), TextDelta("a"), ToolStarted(1, "c1", "f"), ToolStarted(2, "c2", "g")]
    open_calls = {1: ['{"a"', ":", "1}"], 2: ['{"b":', '"x"', "}"]}
    while open_calls:
        part = data.draw(st.sampled_from(sorted(open_calls)))
        answer.append(ToolDelta(part, open_calls[part].pop(0)))
        if not open_calls[part]:
            del open_calls[part]
            answer.append(ToolEnded(part))
    answer += [Stopped(StopReason.TOOL_CALLS), Ended()]
    events, wanted = told(p, answer), sorted(repr(item) for item in spell(read(answer)).choices[0].content[1:])
    for q in REGISTRY:
        after = read(told(p, told(q, events)))
        assert sorted(repr(item) for item in spell(after).choices[0].content[1:]) == wanted, q


# One answer for each word, which shows that the loss is real: a list that only grows would say nothing.
FULL = Usage(
    input=9,
    output=8,
    cache_read=7,
    cache_write=6,
    cache_write_5m=5,
    cache_write_1h=1,
    reasoning=4,
    audio_input=3,
    audio_output=2,
    tool_use=1,
    tool_requests=3,
    web_searches=2,
    kinds=Kinds(1, 2, 3, 4, 2, 1, 1),
)
CALLED: list[Event] = [ToolStarted(0, "c", "f"), ToolDelta(0, '{ "a": 1 }'), ToolEnded(0)]


NAMED = Started("x1", "m", 7)


def witness(*events: Event, reason: StopReason | None = StopReason.STOP, usage: Usage | None = FULL, start: Started = NAMED) -> list[Event]:
    counted = [] if usage is None else [UsageSeen(usage)]
    return [start, *(events or (TextDelta("a"),)), *([] if reason is None else [Stopped(reason)]), *counted, Ended()]


WITNESSES: dict[str, list[Event]] = {
    "alternatives": witness(TextDelta("a"), TextDelta("b", choice=1), Stopped(StopReason.STOP, choice=1)),
    "time": witness(),
    "epoch": witness(start=Started("x1", "m")),
    "resp_": witness(),
    "id": witness(start=Started(None, "m", 7)),
    "names": witness(start=Started("x1", None, 7)),
    "model": witness(start=Started("x1", None, 7)),
    "sequence": witness(reason=StopReason.STOP_SEQUENCE),
    "pause": witness(reason=StopReason.PAUSE),
    "pause as other": witness(reason=StopReason.PAUSE),
    "stop by calls": witness(*CALLED),
    "no reason is stop": witness(reason=None),
    "no reason is other": witness(reason=None),
    "cache lifetimes": witness(),
    "cache writes": witness(),
    "kinds of tokens": witness(),
    "cached kinds": witness(),
    "tool-use tokens": witness(),
    "tool requests": witness(),
    "zeros": witness(usage=None),
    "required counts": witness(usage=Usage(cache_read=5, output=3)),
    "spelling": witness(*CALLED),
}


@pytest.mark.parametrize(
    ("p", "q", "loss"), [pytest.param(p, q, loss, id=f"{p}-{q}-{loss.word}") for (p, q), losses in LOSSES.items() for loss in losses]
)
def test_every_listed_loss_is_real(p: ProtocolId, q: ProtocolId, loss: Loss) -> None:
    events = WITNESSES[loss.word] if p is q else told(p, WITNESSES[loss.word])
    left = tuple(other for other in LOSSES[p, q] if other is not loss)
    if p is q:
        assert read(told(p, events)) != lose(read(events), left)
    elif not (loss is SPELLING or loss in LOSSES[p, p]):
        assert there_and_back(events, p, q) != expected(events, p, q, left)


def test_every_pair_of_registered_protocols_is_listed() -> None:
    assert set(LOSSES) == {(p, q) for p in REGISTRY for q in REGISTRY}


def test_the_documentation_shows_the_list() -> None:
    text = (Path(__file__).parents[2] / "docs" / "protocols" / "losses.md").read_text()
    assert page() in text
