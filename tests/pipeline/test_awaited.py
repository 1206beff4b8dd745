"""Streams that wait for guards outside: order, bytes, what is never delivered, and that a body and a stream come to the same."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.pipeline.awaited import AwaitedStream
from penstock.pipeline.contract import State
from penstock.policy.asking import BodyJudge
from penstock.policy.awaiting import MOST_REMEMBERED
from penstock.policy.guards import Guard, Guards
from penstock.policy.matcher import Findings
from penstock.policy.outside import PASSED, Outside, Question, Said, Verdict
from penstock.policy.rules import Action, Terms, of_pattern
from penstock.policy.windows import Windows
from penstock.protocols import REGISTRY
from penstock.vocabulary.errors import Fault, FaultKind
from penstock.vocabulary.events import StopReason
from penstock.vocabulary.ids import ProtocolId
from penstock.vocabulary.outcome import Ending
from penstock.vocabulary.usage import EMPTY_USAGE
from penstock.wire.array import ArraySplitter
from penstock.wire.budget import Budget
from penstock.wire.sse import Scanner
from tests.pipeline.test_guarded import ENDS, PROTOCOLS, fails, said_of
from tests.support.guards import body_of, frames_saying, split_frames
from tests.support.judges import MASK, Judge, by_words
from tests.support.relays import OPERATIONS, cut

CHAT, RESPONSES, MESSAGES, GEMINI = PROTOCOLS
SPEECH = ["I like apples. ", "Do you like app", "les too?", " An apple a day keeps the doctor away", ". Fine."]
SMALL = Windows(chars=40)


def outsides(
    action: Action = Action.MASK, *, closed: bool = True, in_stream: str = "stop", windows: Windows = SMALL, more: Sequence[Guard] = ()
) -> Guards:  # fmt: skip
    return Guards([*more, Guard("judge", outside=Outside("judge", "a service", action, closed, "Not this.", in_stream))], windows=windows)


def awaited(protocol: ProtocolId, guards: Guards, *, array: bool = False) -> AwaitedStream:
    spec, budget = REGISTRY[protocol], Budget(1 << 28)
    scanner = ArraySplitter(1 << 24, budget) if array else Scanner(1 << 24, budget)
    stream = AwaitedStream(scanner, spec.observer(OPERATIONS[protocol]), spec.error_frame, 100.0, still=spec.keepalive)
    stream.guard(guards, spec, OPERATIONS[protocol])
    return stream


def verdict_of(question: Question, judge: Judge) -> Verdict:
    told = [judge(one.text) for one in question.texts]
    if None in told:
        return Verdict(Said.REJECT, why="it rejects it")
    return PASSED if told == [one.text for one in question.texts] else Verdict(Said.MASK, told)


class Play:
    """A stream and whoever answers its questions: at once, or in any order later."""

    def __init__(self, stream: AwaitedStream, judge: Judge, dice: random.Random | None = None) -> None:
        self.stream, self.judge, self.dice = stream, judge, dice
        self.open: list[Question] = []
        self.asked: list[str] = []
        self.out = b""

    def feed(self, data: bytes) -> None:
        self.out += self.stream.feed(data, 100.0)
        self.answer(everything=False)

    def answer(self, *, everything: bool = True) -> None:
        while True:
            wanted = self.stream.wants()
            self.open += wanted
            self.asked += [one.text for question in wanted for one in question.texts]
            if not self.open or (not everything and self.dice is not None and self.dice.random() < 0.6):
                return
            question = self.open.pop(self.dice.randrange(len(self.open)) if self.dice is not None else 0)
            self.out += self.stream.verdict(question.id, verdict_of(question, self.judge), 101.0)

    def end(self) -> Ending:
        self.out += self.stream.over(102.0)
        self.answer()
        found = self.stream.conclude(True, "").ending
        self.out += self.stream.end(None, "px-1")
        return found


def judged_body(protocol: ProtocolId, body: dict[str, Any], guards: Guards, judge: Judge) -> tuple[dict[str, Any], Findings]:
    findings = Findings()
    spec = REGISTRY[protocol]
    judging = BodyJudge(
        "response", spec.id, OPERATIONS[protocol], json.dumps(body).encode(), guards.ask_answers, guards.outsides, findings)
    while not judging.done:
        for question in judging.wants():
            judging.verdict(question.id, verdict_of(question, judge))
    return json.loads(judging.body), findings


WORDS = st.lists(st.sampled_from(["apple", "pear", "a", "so", "Yes.", "No!", "why?", "apples", "\n", "poison", "and", "。", "x" * 30]), max_size=40)


@settings(max_examples=60)
@given(words=WORDS, cuts=st.lists(st.integers(0, 400), max_size=12), seed=st.integers(0, 1 << 16), kind=st.sampled_from(["text", "thought"]))
def test_a_stream_and_a_body_come_to_the_same(words: list[str], cuts: list[int], seed: int, kind: str) -> None:
    text = " ".join(words)
    pieces = [piece for piece in (text[a:b] for a, b in zip([0, *sorted(cuts)], [*sorted(cuts), None], strict=True)) if piece]
    judge, guards = by_words(), outsides()
    for protocol in PROTOCOLS:
        frames = frames_saying(protocol, pieces, kind)
        whole, findings = judged_body(protocol, body_of(protocol, frames), guards, judge)
        play = Play(awaited(protocol, guards), judge, random.Random(seed))
        for frame in frames:
            play.feed(frame)
        ending = play.end()
        if findings.outside is not None:
            assert ending is Ending.CUT
            assert b"poison" not in play.out
        else:
            assert ending is Ending.COMPLETE
            assert body_of(protocol, split_frames(play.out)) == whole


@settings(max_examples=80)
@given(text=st.text(alphabet="ab .!?\n。\"' ", max_size=300), cuts=st.lists(st.integers(0, 300), max_size=20), chars=st.integers(1, 60))
def test_windows_do_not_depend_on_how_the_text_came(text: str, cuts: list[int], chars: int) -> None:
    def windows_of(pieces: Sequence[str]) -> list[str]:
        play = Play(awaited(CHAT, outsides(windows=Windows(chars=chars))), lambda text: text)
        for frame in frames_saying(CHAT, [piece for piece in pieces if piece]):
            play.feed(frame)
        assert play.end() is Ending.COMPLETE
        assert said_of(CHAT, play.out) == text
        return play.asked

    edges = sorted(min(at, len(text)) for at in cuts)
    pieces = [text[a:b] for a, b in zip([0, *edges], [*edges, len(text)], strict=True)]
    found = windows_of(pieces)
    assert found == windows_of([text]) == windows_of(list(text))
    assert "".join(found) == text
    assert all(len(window) <= chars for window in found)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_passes_is_the_providers_own_bytes_in_their_order(protocol: ProtocolId) -> None:
    frames = frames_saying(protocol, SPEECH)
    play = Play(awaited(protocol, outsides()), lambda text: text, random.Random(7))
    for frame in frames:
        play.feed(b": ping\n\n")
        play.feed(frame)
    assert play.end() is Ending.COMPLETE
    assert play.out.replace(b": ping\n\n", b"") == b"".join(frames)
    assert play.out.count(b": ping\n\n") == len(frames)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_leaves_before_its_verdict_and_the_end_waits_for_the_last(protocol: ProtocolId) -> None:
    stream = awaited(protocol, outsides())
    out = b"".join([stream.feed(frame, 100.0) for frame in frames_saying(protocol, SPEECH)])
    assert said_of(protocol, out) == ""
    assert (stream.state, stream.waiting) == (State.RUNNING, True)
    assert stream.conclude(True, "").ending is Ending.TRUNCATED
    questions = stream.wants()
    assert "".join(one.text for question in questions for one in question.texts if question.outside.guard == "judge").startswith("".join(SPEECH))
    for question in questions[1:]:
        assert said_of(protocol, stream.verdict(question.id, PASSED, 101.0)) == ""
    out += stream.verdict(questions[0].id, PASSED, 103.5)
    while stream.waiting:
        for question in stream.wants():
            out += stream.verdict(question.id, PASSED, 103.5)
    assert said_of(protocol, out) == "".join(SPEECH)
    assert stream.conclude(True, "").ending is Ending.COMPLETE
    assert stream.state is (State.RUNNING if protocol is GEMINI else State.ENDED)  # which has no event that ends it
    assert stream.findings.held_seconds == 3.5
    assert stream.findings.held_chars == len("".join(SPEECH))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("piece", [1, 4, 1000])
def test_of_a_window_that_is_rejected_not_a_character_leaves(protocol: ProtocolId, piece: int) -> None:
    text = "This is the first sentence. Here is the poison that nobody may have. And more of it."
    pieces = [text[at : at + piece] for at in range(0, len(text), piece)]
    for dice in (None, random.Random(3)):
        play = Play(awaited(protocol, outsides()), by_words(), dice)
        for frame in frames_saying(protocol, pieces):
            play.feed(frame)
        assert play.end() is Ending.CUT
        assert play.stream.findings.rejection is not None
        said = said_of(protocol, play.out)
        assert said == {1: "This is the first sentence. ", 4: "This is the first sentence. ", 1000: ""}[piece]
        assert b"poison" not in play.out
        assert ENDS[protocol] in play.out


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_rejection_told_as_an_error(protocol: ProtocolId) -> None:
    play = Play(awaited(protocol, outsides(in_stream="error")), by_words())
    for frame in frames_saying(protocol, ["A poison. "]):
        play.feed(frame)
    assert play.end() is Ending.CUT
    assert b"Not this." in play.out
    assert ENDS[protocol] not in play.out


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_error_decides_by_on_error(protocol: ProtocolId, closed: bool) -> None:
    stream = awaited(protocol, outsides(closed=closed))
    out = b"".join([stream.feed(frame, 100.0) for frame in frames_saying(protocol, SPEECH)])
    [first, *rest] = stream.wants()
    out += stream.verdict(first.id, Verdict(Said.ERROR, why="it gave no answer within 5 s"), 101.0)
    for question in rest:
        out += stream.verdict(question.id, PASSED, 101.0)
    outcome = stream.conclude(True, "")
    if closed:
        assert (outcome.ending, said_of(protocol, out)) == (Ending.CUT, "")
        assert "it gave no answer within 5 s" in outcome.cause
    else:
        assert (outcome.ending, said_of(protocol, out)) == (Ending.COMPLETE, "".join(SPEECH))
        assert stream.findings.let_go == {"judge": 1}
    assert stream.findings.hits["judge", "error"] == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_only_counted_waits_for_nothing_but_the_end(protocol: ProtocolId) -> None:
    stream = awaited(protocol, outsides(Action.AUDIT))
    frames = frames_saying(protocol, SPEECH)
    out = b"".join([stream.feed(frame, 100.0) for frame in frames])
    assert said_of(protocol, out) == "".join(SPEECH)
    assert stream.state is State.RUNNING
    out += stream.over(101.0)
    assert stream.waiting
    for question in stream.wants():
        out += stream.verdict(question.id, verdict_of(question, by_words()), 101.0)
    assert (stream.waiting, stream.conclude(True, "").ending) == (False, Ending.COMPLETE)
    assert out == b"".join(frames)
    assert stream.findings.hits["judge", "audit"] >= 2


@pytest.mark.parametrize("ours", [False, True])
def test_a_rejection_at_the_end_waits_for_nobody_who_only_counts(ours: bool) -> None:
    judge = Outside("judge", "a service", Action.REJECT, True, "Not this.", "stop")
    counter = Guard("counter", outside=Outside("counter", "another", Action.AUDIT, True, "", "stop"))
    rule = of_pattern(r"\bPRJ-[0-9]{4}\b", Terms("ours", Action.REJECT), streamed=True)
    guards = Guards([counter, Guard("ours", (rule,)) if ours else Guard("judge", outside=judge)], windows=SMALL)
    stream = awaited(CHAT, guards)
    out = b"".join([stream.feed(frame, 100.0) for frame in frames_saying(CHAT, ["A first sentence here. ", "PRJ-2041"])[:-1]])
    out += stream.over(101.0)
    asked = stream.wants()
    while asked:
        question = asked.pop(0)
        if question.outside is judge:
            word = PASSED if "first" in question.texts[0].text else Verdict(Said.REJECT, why="it rejects it")
            out += stream.verdict(question.id, word, 101.0)
            asked += stream.wants()
    assert (stream.state, said_of(CHAT, out)) == (State.CUT, "A first sentence here. ")
    assert not stream.waiting


def test_arguments_are_one_window_and_leave_as_json() -> None:
    for protocol in (CHAT, RESPONSES, MESSAGES):
        frames = frames_saying(protocol, ["an apple. ", "And an ", "app", "le. " * 30], "arguments")
        play = Play(awaited(protocol, outsides()), by_words())
        for frame in frames:
            play.feed(frame)
        assert play.end() is Ending.COMPLETE
        shown = json.dumps(body_of(protocol, split_frames(play.out)))
        assert "<masked>" in shown
        assert "apple" not in shown
        assert len({text for text in play.asked if "apple" in text}) == 1


def test_arguments_that_are_replaced_by_no_json_are_rejected() -> None:
    play = Play(awaited(CHAT, outsides()), lambda text: text.replace('"', ""))
    for frame in frames_saying(CHAT, ["x"], "arguments"):
        play.feed(frame)
    assert play.end() is Ending.CUT
    assert b'"error"' in play.out or b"content_filter" in play.out
    assert b'\\"to\\"' not in play.out


def test_as_much_as_may_waits_and_then_the_provider_is_not_read() -> None:
    stream = awaited(CHAT, outsides(windows=Windows(chars=10_000, held=4000)))
    frames = frames_saying(CHAT, ["word "] * 60)
    for frame in frames[:-4]:
        stream.feed(frame, 100.0)
        if stream.full:
            break
    assert stream.full
    assert not stream.eased
    questions = stream.wants()
    assert questions  # what waits has been asked about, so it goes on
    for question in questions:
        stream.verdict(question.id, PASSED, 101.0)
    assert stream.eased


def test_a_window_that_is_open_for_long_is_asked_about_up_to_its_last_word() -> None:
    stream = awaited(MESSAGES, outsides(windows=Windows(seconds=2.0)))
    frames = frames_saying(MESSAGES, ["Once upon a", " time, hel", "lo there."])
    out = b"".join([stream.feed(frame, 100.0) for frame in frames[:4]])
    assert (stream.deadline(), stream.wants()) == (102.0, [])
    out += stream.tick(102.0)
    [question] = stream.wants()
    assert question.texts[0].text == "Once upon a time, "
    out += stream.verdict(question.id, Verdict(Said.MASK, ["Long ago, "]), 102.0)
    assert said_of(MESSAGES, out) == "Long ago, "
    out += b"".join([stream.feed(frame, 103.0) for frame in frames[4:]])
    [question] = stream.wants()
    assert (question.texts[0].text, question.texts[0].before) == ("hello there.", "Once upon a time, ")
    out += stream.verdict(question.id, PASSED, 103.0)
    assert said_of(MESSAGES, out) == "Long ago, hello there."


def test_keep_alives_and_errors_pass_while_text_waits() -> None:
    for protocol in PROTOCOLS:
        stream = awaited(protocol, outsides())
        out = b"".join([stream.feed(frame, 100.0) for frame in frames_saying(protocol, SPEECH)])
        assert stream.keepalive() == REGISTRY[protocol].keepalive
        last = stream.end(Fault(FaultKind.UPSTREAM_TIMEOUT, 504, "Too late."), "px-1")
        assert b"Too late." in last
        assert said_of(protocol, out) == ""
        assert stream.verdict(1, PASSED, 101.0) == b""


def test_a_guard_of_ours_that_rejects_later_text_waits_for_the_text_before_it() -> None:
    terms = Terms("ours", Action.REJECT)
    guards = outsides(more=[Guard("ours", (of_pattern(r"\bPRJ-[0-9]{4}\b", terms, streamed=True),))])
    stream = awaited(CHAT, guards)
    out = b"".join([stream.feed(frame, 100.0) for frame in frames_saying(CHAT, ["A first sentence here. ", "PRJ-2041 ", "and on"])])
    assert (stream.state, said_of(CHAT, out)) == (State.RUNNING, "")
    for question in stream.wants():
        out += stream.verdict(question.id, PASSED, 101.0)
    assert (stream.state, said_of(CHAT, out)) == (State.CUT, "A first sentence here. ")
    assert b"content_filter" in out
    assert "'ours'" in stream.conclude(False, "").cause


def test_a_truncated_stream_gives_out_what_its_guards_let_through() -> None:
    play = Play(awaited(CHAT, outsides()), by_words())
    for frame in frames_saying(CHAT, SPEECH)[:-3]:
        play.feed(frame)
    assert play.end() is Ending.TRUNCATED
    assert said_of(CHAT, play.out) == "".join(SPEECH).replace("apple", "<masked>")


@given(cuts=st.lists(st.integers(0, 1 << 20), max_size=12), seed=st.integers(0, 99))
@settings(max_examples=25)
def test_an_array_stays_an_array(cuts: list[int], seed: int) -> None:
    frames = frames_saying(GEMINI, SPEECH)
    data = b"[" + b",\r\n".join(frame.strip().removeprefix(b"data: ") for frame in frames) + b"]\n"
    for judge, wanted in ((by_words(), "".join(SPEECH).replace("apple", "<masked>")), (by_words(rejected="doctor"), None)):
        play = Play(awaited(GEMINI, outsides(), array=True), judge, random.Random(seed))
        for piece in cut(data, cuts):
            play.feed(piece)
        ending = play.end()
        elements = json.loads(play.out)
        if wanted is not None:
            assert ending is Ending.COMPLETE
            assert "".join(p["text"] for e in elements for c in e["candidates"] for p in c["content"]["parts"]) == wanted
        else:
            assert ending is Ending.CUT
            assert elements[-1]["candidates"][0]["finishReason"] == "SAFETY"
            assert b"doctor" not in play.out


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_whoever_cuts_for_another_reason_goes_on_from_what_the_client_has(protocol: ProtocolId) -> None:
    stream = awaited(protocol, outsides())
    made = REGISTRY[protocol].closer
    assert made is not None
    closer, seen = made(OPERATIONS[protocol]), list[bytes]()
    stream.attend(closer.see)
    stream.attend(lambda name, data: seen.append(data))
    frames = frames_saying(protocol, ["This is the first sentence. ", "And this is the second one. ", "The third."])
    some = next(at for at, frame in enumerate(frames) if b"second" in frame) + 1
    out = b"".join([stream.feed(frame, 100.0) for frame in frames[:some]])
    assert b"first" not in b"".join(seen)
    out += stream.verdict(stream.wants()[0].id, PASSED, 101.0)
    assert b"first" in b"".join(seen)
    words = closer.close(StopReason.LENGTH, EMPTY_USAGE)
    assert words is not None
    out += stream.stop(words)
    assert said_of(protocol, out) == "This is the first sentence. "
    assert b"second" not in out
    assert (stream.wants(), stream.verdict(2, PASSED, 101.0), stream.end(None, "px-1")) == ([], b"", b"")


def test_whoever_cuts_an_array_of_which_nothing_has_left_opens_it() -> None:
    stream = awaited(GEMINI, outsides(), array=True)
    assert stream.feed(b'[{"candidates":[{"content":{"parts":[{"text":"This is one. "}]}}]}', 100.0) == b""
    assert stream.stop([(b"", b'{"candidates":[]}')]) == b'[{"candidates":[]}]'


@pytest.mark.parametrize("closed", [True, False])
def test_a_frame_whose_reading_fails_does_not_go_around_a_guard(closed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = awaited(CHAT, outsides(closed=closed))
    for editor in (stream.awaiting.editor, stream.awaiting.told):
        monkeypatch.setattr(editor, "steps", fails)
    frame = frames_saying(CHAT, ["I like apples. "])[0]
    out = stream.feed(frame, 100.0)
    assert (out == frame) is not closed
    assert (stream.state is State.CUT) is closed


@pytest.mark.parametrize("array", [False, True])
def test_a_frame_that_masks_have_made_larger_than_one_may_be_is_judged_all_the_same(array: bool) -> None:
    protocol = GEMINI if array else CHAT
    spec, budget = REGISTRY[protocol], Budget(1 << 28)
    scanner = ArraySplitter(1000, budget) if array else Scanner(1000, budget)
    stream = AwaitedStream(scanner, spec.observer(OPERATIONS[protocol]), spec.error_frame, 100.0, still=spec.keepalive)
    mask = Guard("own", (of_pattern("x", Terms("own", mask="[MASKED]"), streamed=True),))
    stream.guard(outsides(Action.REJECT, more=[mask]), spec, OPERATIONS[protocol])
    text = b"poison. " + b"x" * 600
    said = b'[{"candidates":[{"index":0,"content":{"parts":[{"text":"%b"}]}}]}\n' if array else (
        b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n')
    assert stream.feed(said % text, 100.0) == b""
    assert stream.wants()[0].texts[0].text == "poison. "


@pytest.mark.parametrize("array", [False, True])
def test_an_error_of_the_providers_is_the_end_once_it_was_told(array: bool) -> None:
    stream = awaited(GEMINI, outsides(), array=array)
    play = Play(stream, by_words())
    said: dict[str, Any] = {"role": "model", "parts": [{"text": "I like pears. So do I."}]}
    frames = [json.dumps({"candidates": [{"index": 0, "content": said}]}).encode(), b'{"error":{"code":503,"message":"m"}}']
    told = b"[" + b",".join(frames) if array else b"".join(b"data: %b\n\n" % frame for frame in frames)
    play.out += stream.feed(told, 100.0)
    play.out += stream.over(100.0)
    assert (stream.observer.error is not None, stream.has_error, b"error" in play.out) == (True, False, False), "it waits"
    play.answer()
    assert (stream.has_error, stream.may_speak()) == (True, False)
    assert stream.conclude(False, "lost").ending is Ending.UPSTREAM_ERROR
    fault = Fault(FaultKind.UPSTREAM_BROKEN, 502, "lost")
    assert play.out + stream.end(fault, "px-1") == told + (b"]" if array else b"")


def test_what_every_chunk_tells_again_is_asked_about_once() -> None:
    """Some tell in each which pages the answer rests on."""
    play = Play(awaited(CHAT, outsides()), by_words())
    beside = {"citations": ["https://x/apple", "https://x/pear"], "search_results": [{"title": "apple", "url": "https://x/pear"}]}
    for text in ("One. ", "Two. ", "Three. "):
        play.feed(b"data: %b\n\n" % json.dumps({"choices": [{"index": 0, "delta": {"content": text}}], **beside}).encode())
    play.feed(b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')
    assert play.end() is Ending.COMPLETE
    told = [json.loads(line[6:]) for line in play.out.split(b"\n\n") if b"citations" in line]
    assert [(one["citations"][0], one["search_results"][0]["title"]) for one in told] == [(f"https://x/{MASK}", MASK)] * 3
    assert b"apple" not in play.out
    assert sorted(text for text in play.asked if "." not in text[-2:]) == ["apple", "https://x/apple", "https://x/pear", "https://x/pear"]


def test_what_is_kept_of_what_is_told_again_is_bounded() -> None:
    """By its length: what stands in the place of each is kept, too."""
    play = Play(awaited(CHAT, outsides()), by_words())
    size = MOST_REMEMBERED * SMALL.chars // 3
    for number in (0, 0, 1, 1, 2, 2, 3, 3):
        page = f"{number} apple " + "x" * size
        play.feed(b"data: %b\n\n" % json.dumps({"choices": [{"index": 0, "delta": {}}], "citations": [page]}).encode())
    assert [text[0] for text in play.asked] == ["0", "1", "2", "2", "3", "3"]
    assert b"apple" not in play.out
