"""Did what had to arrive arrive? One function for each `Must`. Each promises a verdict for whatever came."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import msgspec

from penstock.lab.torture.client import Answer, End
from penstock.lab.torture.faults import Fault, Must, TimerName
from penstock.lab.torture.forms import Form
from penstock.lab.torture.reading import Kind, Piece, read_pieces, text_of
from penstock.lab.torture.refusals import MESSAGE
from penstock.lab.torture.shapes import wrong_in_band, wrong_with_body
from penstock.lab.torture.tally import Tally
from penstock.lab.torture.upstream import Watch

_FULL_S = 0.75
"""What a gateway may still carry from one kernel's buffers to the other's when its provider cannot send any more."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is known of the gateway under test. Seconds."""

    timers: Mapping[TimerName, float]
    """When each must have ended what it ends."""
    exact: bool = False
    """The timers are these, so that an error before its time is wrong, too."""
    slack: float = 0.25
    """By which a timer may be late."""
    let_go: float = 0.1
    """Within which a provider must be left when the client has."""
    keepalive: float | None = None
    """For which a client may be sent nothing; `None`: not known."""
    holds_heads: bool = False
    """Whatever fails before the first frame has a true status; else in band will do."""
    verbatim: bool = True
    """The provider's bytes are to arrive as they are; else what they say will do."""
    pause: float = 0.8
    """A healthy silence."""
    overtime: float = 2.0
    """For which an answer is waited for when its timer has run out, to tell late from never."""
    patience: float = 15.0
    """For which one is waited for that no timer has to end; a heavy one may take eight times as long."""


@dataclass(frozen=True, slots=True)
class Evidence:
    fault: Fault
    form: Form
    bounds: Bounds
    answer: Answer
    watch: Watch

    @property
    def sent(self) -> Tally:
        return self.watch.visits[-1].sent if self.watch.visits else Tally()

    def got(self) -> list[Piece]:
        return read_pieces(self.form, self.answer.decoded().kept)


def judge(evidence: Evidence) -> str | None:
    """`None`: what had to arrive arrived. Else what came instead, in a clause."""
    if not evidence.watch.visits:
        return f"the provider was never asked ({_status(evidence.answer)})"
    match evidence.fault.must:
        case Must.WHOLE:
            return _whole(evidence) or _kept_awake(evidence)
        case Must.UNTIL_TERMINAL:
            return _until_terminal(evidence)
        case Must.LET_GO:
            return _let_go(evidence)
        case Must.TOLD | Must.REFUSED:
            return _refused(evidence)
        case Must.BROKEN | Must.TOLD_IN_BAND:
            return _broken(evidence)


def _whole(evidence: Evidence) -> str | None:
    answer = evidence.answer
    if answer.status != 200:
        return _status(answer)
    if answer.end is not End.CLEAN:
        return f"{answer.end} after {answer.body.size:,} of {evidence.sent.size:,} bytes"
    body = answer.decoded()
    if body.same(evidence.sent):
        return None
    got, sent = evidence.got(), read_pieces(evidence.form, evidence.sent.kept)
    if body.clipped or evidence.sent.clipped:
        return f"{body.size:,} bytes that are not the {evidence.sent.size:,} that were sent"
    if any(piece.kind is Kind.ERROR for piece in got):
        return f"an error in a healthy stream: {_error_text(got)}"
    if not evidence.bounds.verbatim:
        return None if text_of(got) == text_of(sent) and _ends_well(got, sent) else "another text, or no proper end"
    return _unlike(sent, got)


def _until_terminal(evidence: Evidence) -> str | None:
    answer = evidence.answer
    if answer.status != 200 or answer.end is not End.CLEAN:
        return _status(answer) if answer.status != 200 else str(answer.end)
    got, sent = evidence.got(), read_pieces(evidence.form, evidence.sent.kept)
    if not any(piece.kind is Kind.TERMINAL for piece in got):
        return "no terminal event"
    if not evidence.bounds.verbatim:
        return None
    until = next(at for at, piece in enumerate(sent) if piece.kind is Kind.TERMINAL)
    came = next(at for at, piece in enumerate(got) if piece.kind is Kind.TERMINAL)
    # Behind it: nothing, or the provider's own bytes as far as they were taken.
    return _unlike(sent[: until + 1], got[: came + 1]) or _unlike(sent[until + 1 :], got[came + 1 :], lossy=True)


def _let_go(evidence: Evidence) -> str | None:
    visit = evidence.watch.visits[-1]
    asked, since, within = visit.asked, evidence.answer.over_at, evidence.bounds.let_go
    if evidence.fault.timer is not None and visit.progress_at is not None:
        # From when nothing was taken from the provider any more: everything in between was full, or as good as full.
        since, within = visit.progress_at, evidence.bounds.timers[evidence.fault.timer] + evidence.bounds.slack + _FULL_S
    if asked.lost_at is None:
        return "the provider's connection stays open"
    late = asked.lost_at - since
    return None if late <= within else f"the provider's connection was closed {_ms(late)} later"


def _refused(evidence: Evidence) -> str | None:
    fault, answer, form = evidence.fault, evidence.answer, evidence.form
    if answer.status == 200 and answer.end is not End.SILENT and (fault.early or not evidence.bounds.holds_heads):
        return _broken(evidence)
    if answer.status < 400:
        return f"200, and {_how(evidence)}" if answer.status == 200 else _status(answer)
    if answer.end is not End.CLEAN:
        return f"{answer.status}, and {answer.end}"
    if answer.status not in fault.statuses:
        return f"{answer.status} instead of {' or '.join(map(str, fault.statuses))}"
    try:
        value = msgspec.json.decode(answer.decoded().kept, type=dict[str, object])
    except msgspec.DecodeError:
        return f"{answer.status} with {answer.header('content-type') or 'a body'} that is no JSON object"
    if (wrong := wrong_with_body(form, value)) is not None:
        return f"{answer.status}, but {wrong}"
    if fault.must is Must.TOLD and MESSAGE not in str(value):
        return f"{answer.status} without the provider's message"
    for line in evidence.watch.visits[-1].headers if fault.must is Must.TOLD else ():
        name, _, expected = line.partition(": ")
        if answer.header(name) != expected:
            return f"{answer.status} without the provider's {name}"
    if fault.must is Must.TOLD and not fault.name.startswith("error-event") and (lost := _lost_member(evidence.sent.kept, value)) is not None:
        return f"{answer.status} with another {lost}"
    return _in_time(evidence, answer.head_at)


def _broken(evidence: Evidence) -> str | None:
    fault, answer, form = evidence.fault, evidence.answer, evidence.form
    if answer.status != 200:
        return _status(answer)
    got = evidence.got()
    told = [piece for piece in got if piece.kind is not Kind.QUIET]
    if form.array and told and told[-1].kind is Kind.TERMINAL and any(piece.kind is Kind.ERROR for piece in told):
        told.pop()  # the bracket behind an error closes the array
    elif form.array and told and told[-1].kind is Kind.ERROR:
        return "an error in an array that is not closed"
    if form.array and told and told[-1].kind is Kind.TERMINAL and evidence.sent.kept.rstrip().endswith(b"]") and answer.end is not End.CLEAN:
        return None  # the provider closed the array, so no error could be told in it: HTTP says that the answer is not whole
    if not told or told[-1].kind is not Kind.ERROR:
        return _how(evidence)
    for piece in told[:-1]:
        if piece.kind in (Kind.TERMINAL, Kind.ERROR, Kind.UNREADABLE, Kind.HALF):
            return f"{piece.kind.value} before the error"
    own = fault.must not in (Must.TOLD_IN_BAND, Must.TOLD)
    if (wrong := wrong_in_band(form, told, own=own)) is not None:
        return wrong
    if not own and MESSAGE not in str(told[-1].value):
        return "an error without the provider's message"
    if (wrong := _all_before(evidence, got)) is not None:
        return wrong
    if answer.end is not End.CLEAN and not (fault.lossy and not own):
        return f"the error, but {answer.end}"
    return _in_time(evidence, answer.last_at)


def _all_before(evidence: Evidence, got: list[Piece]) -> str | None:
    """The frames before the error are the provider's whole frames, in order."""
    stream = [] if evidence.watch.visits[-1].whole else read_pieces(evidence.form, evidence.sent.kept)
    sent = [piece for piece in stream if piece.kind not in (Kind.HALF, Kind.ERROR, Kind.TERMINAL)]
    before = got[: next(at for at, piece in enumerate(got) if piece.kind is Kind.ERROR)]
    if before and before[-1].value is not None and before[-1].value.get("type") == "response.created" and len(before) > len(sent):
        before = before[:-1]  # the opening that an error in Responses must not be without
    if not evidence.bounds.verbatim:
        return None if text_of(sent).startswith(text_of(before)) else "another text than was sent"
    return _unlike(sent, before, lossy=evidence.fault.lossy)


def _unlike(sent: list[Piece], got: list[Piece], *, lossy: bool = False) -> str | None:
    """How what came differs from what was sent, apart from keep-alives between the frames; `lossy`: the last ones may be missing."""
    at = 0
    for piece in got:
        if at < len(sent) and piece.raw == sent[at].raw:
            at += 1
        elif piece.kind is not Kind.QUIET:
            return f"frame {at + 1} is not the one that was sent" if at < len(sent) else "a frame that was not sent"
    missing = len(sent) - at
    return f"{missing} of {len(sent)} frames are missing" if missing and not lossy else None


def _in_time(evidence: Evidence, told_at: float | None) -> str | None:
    timer = evidence.fault.timer
    if timer is None or told_at is None:
        return None
    visit = evidence.watch.visits[-1]
    since = evidence.answer.asked_at if timer == "first_content" or visit.progress_at is None else visit.progress_at
    took, due = told_at - since, evidence.bounds.timers[timer]
    if took > due + evidence.bounds.slack:
        return f"the error came after {_ms(took)}; {_ms(due)} was its time"
    if evidence.bounds.exact and took < 0.9 * due:
        return f"the error came after {_ms(took)}, before its time ({_ms(due)})"
    if visit.asked.lost_at is None:
        return "the error came, but the provider's connection stays open"
    late = visit.asked.lost_at - told_at
    return None if late <= evidence.bounds.slack else f"the provider's connection was closed {_ms(late)} after the error"


def _kept_awake(evidence: Evidence) -> str | None:
    keepalive, gap = evidence.bounds.keepalive, evidence.answer.largest_gap
    if not evidence.fault.quiet or keepalive is None:
        return None
    return None if gap <= keepalive + evidence.bounds.slack else f"the client was sent nothing for {_ms(gap)}"


def _ends_well(got: list[Piece], sent: list[Piece]) -> bool:
    ends = [[piece.kind for piece in some if piece.kind in (Kind.TERMINAL, Kind.FINISH)] for some in (got, sent)]
    return ends[0] == ends[1]


def _how(evidence: Evidence) -> str:
    """How a stream ended that should have ended with an error."""
    answer, got = evidence.answer, evidence.got()
    last = next((piece for piece in reversed(got) if piece.kind is not Kind.QUIET), None)
    if answer.end is End.SILENT:
        return f"no error within {_ms(answer.over_at - answer.asked_at)} ({_count(got)} came)"
    if any(piece.kind is Kind.ERROR for piece in got):
        return "the error in band" if last is not None and last.kind is Kind.ERROR else "something behind the error"
    if last is not None and last.kind is Kind.TERMINAL:
        return "a false clean finish: a terminal event"
    if last is not None and last.kind in (Kind.HALF, Kind.UNREADABLE):
        return f"{last.kind.value} at the end, and no error"
    return "a clean end without an error" if answer.end is End.CLEAN else f"{answer.end}, and no error was told"


def _lost_member(sent: bytes, value: dict[str, object]) -> str | None:
    """Which member of the provider's error is another one now."""
    was, now = msgspec.json.decode(sent, type=dict[str, object]).get("error"), value.get("error")
    if not isinstance(was, dict) or not isinstance(now, dict):
        return "error"
    members, kept = cast("dict[str, object]", was), cast("dict[str, object]", now)
    return next((name for name, held in members.items() if kept.get(name) != held), None)


def _error_text(got: list[Piece]) -> str:
    return next((piece.raw.decode("utf-8", "replace").strip()[:120] for piece in got if piece.kind is Kind.ERROR), "")


def _status(answer: Answer) -> str:
    if not answer.status:
        return f"no answer; {answer.end}"
    words = answer.body.kept[:200].decode("utf-8", "replace").split()
    return f"{answer.status}: {' '.join(words)[:120]}"


def _count(pieces: list[Piece]) -> str:
    count = sum(piece.kind is not Kind.QUIET for piece in pieces)
    return f"{count} frame{'' if count == 1 else 's'}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.0f} s"
