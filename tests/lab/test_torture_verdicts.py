"""Verdicts on evidence that is written down here: times, statuses and headers, with no socket and no clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from penstock.lab.http1 import Asked
from penstock.lab.torture.client import Answer, End
from penstock.lab.torture.forms import FORMS
from penstock.lab.torture.judging import Bounds, Evidence, judge
from penstock.lab.torture.matrix import FAULTS
from penstock.lab.torture.refusals import MESSAGE
from penstock.lab.torture.speakers import error_body
from penstock.lab.torture.tally import tally
from penstock.lab.torture.upstream import Visit, Watch
from penstock.protocols import REGISTRY
from penstock.vocabulary.errors import Fault, FaultKind
from penstock.vocabulary.ids import Operation

BOUNDS = Bounds(
    timers={"first_content": 2.0, "idle": 2.0, "content": 4.0, "tool_call": 1.0, "client_stall": 3.0}, exact=True, keepalive=0.5, holds_heads=True,
)  # fmt: skip
CHAT = FORMS["chat"]
ERROR = b'data: {"error":{"message":"m","type":"t","param":null,"code":null}}\n\n'
SAY = CHAT.speaker()
BEGUN = b"".join((*SAY.opening(), *SAY.text("Once ")))
STORY = BEGUN + b"".join((*SAY.finish(), *SAY.terminal()))
BODY = error_body(CHAT.speaker, 429, MESSAGE)
OWN_BODY = b'{"error":{"message":"m","type":"t","param":null,"code":null}}'


def evidence(
    fault: str, got: bytes, sent: bytes = BEGUN, *, status: int = 200, end: End = End.CLEAN, bounds: Bounds = BOUNDS,
    headers: tuple[str, ...] = (), came: tuple[tuple[str, str], ...] = (), whole: bool = False,
) -> Evidence:  # fmt: skip
    """At 10 the client asks, at 12 the provider goes on for the last time, at 14 the answer is over and the provider is left."""
    asked = Asked(1, 1, 10.0, lost_at=14.0)
    visit = Visit(asked, CHAT, tally(sent), whole, headers, progress_at=12.0)
    answer = Answer(10.0, status, list(came), tally(got), end, head_at=12.0 if status >= 400 else 10.0, last_at=14.0, over_at=14.0)
    return Evidence(FAULTS[fault], CHAT, bounds, answer, Watch([visit]))


def at(found: Evidence, **times: float | None) -> Evidence:
    """The same at other times: `asked`, `progress`, `told`, `left`, `gap`."""
    visit, answer = found.watch.visits[-1], found.answer
    answer.asked_at = times.get("asked", answer.asked_at) or 0.0
    answer.last_at = answer.over_at = times.get("told", answer.last_at) or 0.0
    answer.largest_gap = times.get("gap", answer.largest_gap) or 0.0
    visit.progress_at = times.get("progress", visit.progress_at)
    visit.asked.lost_at = times.get("left", visit.asked.lost_at)
    return found


def test_what_is_right_is_right() -> None:
    assert judge(evidence("plain", STORY, STORY)) is None
    assert judge(evidence("stall-in-text", BEGUN + ERROR)) is None
    assert judge(evidence("status-429", BODY, BODY, status=429, whole=True)) is None
    assert judge(evidence("client-leaves-mid-stream", b"", end=End.LEFT)) is None
    assert judge(evidence("error-event", BEGUN + b"".join(SAY.error(MESSAGE)), BEGUN + b"".join(SAY.error(MESSAGE)))) is None


@pytest.mark.parametrize(("told", "left", "words"), [
    (14.2, 14.2, None),
    (14.3, 14.3, "the error came after 2300 ms; 2000 ms was its time"),
    (13.7, 13.7, "before its time"),
    (14.0, 14.3, "was closed 300 ms after the error"),
    (14.0, None, "the provider's connection stays open"),
])  # fmt: skip
def test_a_timers_error_comes_in_its_time_and_the_provider_is_left(told: float, left: float | None, words: str | None) -> None:
    saw = judge(at(evidence("stall-in-text", BEGUN + ERROR), told=told, left=left))
    assert (saw is None) if words is None else (saw is not None and words in saw)


def test_of_a_stranger_only_patience_is_known() -> None:
    assert judge(at(evidence("stall-in-text", BEGUN + ERROR, bounds=replace(BOUNDS, exact=False)), told=12.5, left=12.5)) is None


def test_the_first_content_is_waited_for_from_the_request_on() -> None:
    assert judge(at(evidence("stall-before-content", BEGUN + ERROR), asked=12.0, progress=None)) is None
    assert judge(at(evidence("stall-before-content", BEGUN + ERROR), asked=11.0, progress=12.0)) is not None


@pytest.mark.parametrize(("left", "words"), [(14.1, None), (14.2, "was closed 200 ms later"), (None, "stays open")])
def test_a_provider_is_left_at_once(left: float | None, words: str | None) -> None:
    saw = judge(at(evidence("client-leaves-in-a-pause", b"", end=End.LEFT), told=14.0, left=left))
    assert (saw is None) if words is None else (saw is not None and words in saw)


def test_a_client_that_reads_nothing_has_its_time() -> None:
    assert judge(at(evidence("client-reads-nothing", b"", end=End.LEFT), left=15.2)) is None
    assert judge(at(evidence("client-reads-nothing", b"", end=End.LEFT), left=17.0)) is not None


def test_a_client_is_kept_awake() -> None:
    assert judge(at(evidence("gap", STORY, STORY), gap=0.7)) is None
    assert judge(at(evidence("gap", STORY, STORY), gap=0.8)) == "the client was sent nothing for 800 ms"
    assert judge(at(evidence("plain", STORY, STORY), gap=0.8)) is None
    assert judge(at(evidence("gap", STORY, STORY, bounds=replace(BOUNDS, keepalive=None)), gap=9.0)) is None


def _other(change: Callable[[dict[str, object]], object]) -> bytes:
    body = msgspec.json.decode(BODY, type=dict[str, dict[str, object]])
    change(body["error"])
    return msgspec.json.encode(body)


@pytest.mark.parametrize(("body", "status", "words"), [
    (BODY, 502, "502 instead of 429"),
    (BODY, 200, "200"),
    (b"<html>", 429, "no JSON object"),
    (b"", 429, "no JSON object"),
    (OWN_BODY, 429, "without the provider's message"),
    (_other(lambda error: error.update(type="x")), 429, "another type"),
    (_other(lambda error: error.update(code=None)), 429, "another code"),
    (_other(lambda error: error.pop("param")), 429, "no param"),
])  # fmt: skip
def test_a_providers_error_arrives_as_it_is(body: bytes, status: int, words: str) -> None:
    saw = judge(evidence("status-429", body, BODY, status=status, whole=True))
    assert saw is not None
    assert words in saw


def test_a_providers_headers_arrive_with_its_error() -> None:
    sent = ("retry-after: 7", "x-request-id: req_1")
    came = (("retry-after", "7"), ("x-request-id", "req_1"))
    assert judge(evidence("status-429", BODY, BODY, status=429, whole=True, headers=sent, came=came)) is None
    saw = judge(evidence("status-429", BODY, BODY, status=429, whole=True, headers=sent, came=came[1:]))
    assert saw == "429 without the provider's retry-after"


def test_before_the_commit_a_true_status_is_asked_of_those_who_hold_heads() -> None:
    assert judge(evidence("eof-after-head", OWN_BODY, b"", status=502)) is None
    assert judge(evidence("eof-after-head", OWN_BODY, b"", status=500)) == "500 instead of 502"
    assert judge(evidence("eof-after-head", OWN_BODY, b"", status=502, end=End.BROKEN)) is not None
    assert judge(evidence("eof-after-head", ERROR, b"")) == "200, and the error in band"
    assert judge(evidence("eof-after-head", ERROR, b"", bounds=replace(BOUNDS, holds_heads=False))) is None
    assert judge(at(evidence("early-head-then-stall", ERROR, b""), asked=12.0)) is None


def test_a_whole_stream_ends_as_a_whole_message() -> None:
    saw = judge(evidence("plain", STORY, STORY, end=End.BROKEN))
    assert saw is not None
    assert "the connection was closed in the middle of the answer" in saw


def test_an_error_in_band_ends_with_a_whole_message() -> None:
    saw = judge(evidence("clean-end-mid-stream", BEGUN + ERROR, end=End.RESET))
    assert saw == "the error, but the connection was reset"


def test_the_numbers_of_responses_go_on() -> None:
    form = FORMS["responses"]
    spec, say = REGISTRY[form.protocol], form.speaker()
    opening = b"".join(say.opening())
    observer = spec.observer(Operation.RESPONSES)  # has seen nothing: it begins to count anew
    wrong = spec.error_frame(Fault(FaultKind.UPSTREAM_BROKEN, 502, "m"), "x", observer)
    found = evidence("clean-end-mid-stream", opening + wrong[wrong.index(b"event: response.failed") :], opening)
    saw = judge(replace(found, form=form))
    assert saw is not None
    assert "the sequence numbers are [0, 1, 1] at the end, not [0, 1, 2]" in saw


def test_a_frame_that_is_no_json_in_front_of_the_error_is_found() -> None:
    saw = judge(evidence("clean-end-mid-stream", BEGUN + b'data: {"choices"\n\n' + ERROR))
    assert saw == "a frame that is not whole JSON before the error"


def test_nothing_is_said_of_a_provider_that_was_not_asked() -> None:
    found = replace(evidence("plain", b"no route", status=404), watch=Watch())
    assert judge(found) == "the provider was never asked (404: no route)"
