"""One text, judged as it is made: what of it may leave, with its matches masked. The same engine judges whole texts.

Rules
-----
Each rule finds its matches by itself, from left to right, none over another of its own. Where matches of several rules overlap, what they cover
together is masked once, with the mask of the one that begins first (the earlier rule where two begin together). A match counts when no
further text can change it: while it touches the end of the text, or another way of matching would go on there, it is undecided, and the text
from there on is held. A text that ends is decided.

What is held is bounded: past `Hold.chars` characters or `Hold.seconds` seconds the rule that holds it decides by its `closed`: the answer is
rejected, or the text is let go unjudged. Text that a rule only counts (`audit`) is not held for it. So it is where a search takes longer than it
may; a rule of which that has been so `_MOST_SLOW` times judges nothing more of that exchange, for each time nobody else is served.

So the masks do not depend on how the text was cut: `feed` over any pieces, then `finish`, gives what `feed` of all of it gives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from penstock.policy.rules import Action, Rule, TooSlow, search, touching

Piece = tuple[str, int, bool]
"""What leaves; how many characters of the text it stands for; is it a mask?"""

_MOST_SLOW = 8


@dataclass(frozen=True, slots=True)
class Hold:
    """How much text of one block may wait for a decision."""

    chars: int = 1024
    seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Rejection:
    guard: str
    why: str
    """A clause for the ledger, without a word of the text."""
    message: str = ""
    in_stream: str = "stop"
    bad_request: bool = False
    """It is about the form of a request, and not about what is said in it."""


@dataclass(slots=True)
class Findings:
    """What all texts of one exchange came to."""

    hits: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    """By guard and action."""
    let_go: Counter[str] = field(default_factory=Counter[str])
    """Texts that were not judged because their guard could not and is open."""
    unread: tuple[str, ...] = ()
    """Of a request: the open guards over its answer, which none of them can read."""
    rejection: Rejection | None = None
    """The first; nothing may leave any more."""
    outside: Rejection | None = None
    """That of a guard which was asked outside: it is about text before what `rejection` is about."""
    held_chars: int = 0
    """The most that waited at one time, of one text."""
    held_seconds: float = 0.0
    """The longest that a character waited."""
    slow: Counter[Rule] | None = None
    """How often a rule took longer than it may; `None`: none did."""


class Matcher:
    """See the rules above. After a rejection (`Findings.rejection`) nothing leaves any more."""

    __slots__ = ("_arrived", "_at", "_behind", "_covered", "_findings", "_hold", "_rules", "_running", "_spans", "_text", "_took", "held")

    def __init__(self, rules: Sequence[Rule], findings: Findings, hold: Hold) -> None:
        self._rules = rules
        self._findings = findings
        self._hold = hold
        self._behind = max((rule.behind for rule in rules), default=1)
        self._text = ""
        """What was given out but may still be looked back at, and behind it what is held."""
        self.held = 0
        """Characters that have not left."""
        self._at: list[int] | None = None
        """By rule, from where in `_text` on it is undecided; `None`: all is decided."""
        self._spans: list[tuple[int, int, int]] = []
        """Decided matches that have not left: start, end, rule; rule -1: more of the match that is masked up to there."""
        self._covered = 0
        """In `_text`, up to where a mask that has left stands for what is there."""
        self._running: dict[int, int] = {}
        """Rules whose match goes on as it comes, with the characters that it may still take."""
        self._took: dict[int, str] = {}
        """The last characters of such a match: its end may come in pieces."""
        self._arrived: list[tuple[int, float]] = []
        """What is held by when it came: characters up to it, from the start of what is held."""

    def passes(self, text: str) -> bool:
        """May `text` leave as it is, at once? Then it counts as fed. The ordinary case, and the cheap one."""
        if self._at is not None:
            return False
        before = self._text
        whole = before + text
        at = len(before)
        for rule in self._rules:
            gate = rule.gate
            if gate is None or gate(whole, at) is not None:
                return False
        self._text = whole[-self._behind :]
        return True

    def feed(self, text: str, now: float) -> list[Piece]:
        """What may leave now that `text` has come."""
        if self._findings.rejection is not None:
            return []
        if text:
            self._begin()
            self._text += text
            self.held += len(text)
            self._arrived.append((self.held, now))
        return self._judge(now, final=False)

    def take(self, text: str) -> list[Piece]:
        """`feed` and `finish` in one: `text` is all there is."""
        if not text or self._findings.rejection is not None:
            return []
        self._begin()
        self._text += text
        self.held += len(text)
        return self._judge(0.0, final=True)

    def finish(self, now: float) -> list[Piece]:
        """The text has ended: all that is left of it."""
        if self._findings.rejection is not None or self._at is None:
            return []
        return self._judge(now, final=True)

    def deadline(self) -> float | None:
        """When what is held has been held for as long as it may be."""
        return self._arrived[0][1] + self._hold.seconds if self._arrived else None

    def expire(self, now: float) -> list[Piece]:
        """That time has come."""
        due = self.deadline()
        if due is None or now < due or self._findings.rejection is not None or self._at is None:
            return []
        self._let_go(len(self._text) - self.held, f"text was held for {self._hold.seconds:g} s")
        return self._release(now)

    def _begin(self) -> None:
        if self._at is None:
            place = len(self._text)
            self._at = [place] * len(self._rules)
            self._covered = min(self._covered, place)

    def _judge(self, now: float, *, final: bool) -> list[Piece]:
        at = self._at
        if at is None:
            return []
        findings = self._findings
        for index, rule in enumerate(self._rules):
            if findings.slow is not None and findings.slow[rule] >= _MOST_SLOW:
                at[index] = len(self._text)
                continue
            try:
                at[index] = self._advance(index, rule, at[index], final)
            except TooSlow:
                findings.slow = findings.slow or Counter()
                findings.slow[rule] += 1
                self._cannot(rule, "it took longer than it may")
                at[index] = len(self._text)
            if self._findings.rejection is not None:
                return []
        if not final:
            self._let_go(len(self._text) - self._hold.chars, f"more than {self._hold.chars} characters were held")
        return self._release(now)

    def _advance(self, index: int, rule: Rule, at: int, final: bool) -> int:
        """Find the matches of `rule` that are decided; returns from where on it is undecided."""
        text = self._text
        end = len(text)
        if index in self._running:
            at = self._run(index, rule, at, final)
            if index in self._running:
                return at
        reach = -1
        while at < end:
            if rule.gate is not None:
                glance = rule.gate(text, at)
                if glance is None:
                    return end
                at = glance.start()
                if not final and glance.end() == end and end - at < rule.least:
                    return at  # all of it fits so far, and it is too short for a match: more has to come
            found = search(rule, text, at)
            if reach < at:
                reach = end if final or rule.touch is None else touching(rule, text, max(at, end - rule.width))
            if found is None:
                return end if final else reach
            start, stop = found.span()
            if not final and reach <= start:
                return reach
            if rule.check is not None:
                stop = start + rule.check(text[start:stop])
                if stop == start:
                    at = start + 1
                    continue
            meant = next(((a, b) for a, b in (found.span(name) for name in rule.group) if a >= 0), (start, stop))
            self._strike(index, rule, *meant)
            if self._findings.rejection is not None:
                return end
            at = max(stop, start + 1)
            if rule.run is not None:
                self._running[index] = rule.most
                self._took[index] = ""
                at = self._run(index, rule, at, final)
                if index in self._running:
                    return at
        return end

    def _strike(self, index: int, rule: Rule, start: int, stop: int) -> None:
        findings = self._findings
        findings.hits[rule.guard, rule.action.value] += 1
        if rule.action is Action.REJECT:
            findings.rejection = Rejection(rule.guard, "its pattern matched", rule.message, rule.in_stream)
        elif rule.action is Action.MASK:
            self._spans.append((start, stop, index))

    def _run(self, index: int, rule: Rule, at: int, final: bool) -> int:
        """Take what belongs to a match that goes on; returns where it stops."""
        text, left = self._text, self._running[index]
        assert rule.run is not None
        found = rule.run.match(text, at, min(len(text), at + left))
        stop = at if found is None else found.end()
        over = final or stop < len(text) or stop - at >= left
        if rule.until is not None:
            before = self._took[index]
            ended = rule.until.search(before + text[at:stop])
            if ended is not None:
                stop, over = at + ended.end() - len(before), True
            self._took[index] = (before + text[at:stop])[-80:]
        else:
            # A full stop belongs to it only where it goes on behind that.
            while stop > at and text[stop - 1] == ".":
                stop -= 1
        if stop > at and rule.action is Action.MASK:
            self._spans.append((at, stop, -1))
        if over:
            del self._running[index], self._took[index]
        else:
            self._running[index] = left - (stop - at)
        return stop

    def _cannot(self, rule: Rule, why: str) -> None:
        """`rule` cannot judge."""
        if not rule.holds:
            return
        if rule.closed:
            self._findings.rejection = self._findings.rejection or Rejection(rule.guard, why, rule.message, rule.in_stream)
        else:
            self._findings.let_go[rule.guard] += 1

    def _let_go(self, limit: int, why: str) -> None:
        """Rules that hold text from before `limit` or at it decide as they are set."""
        at = self._at
        if at is None:
            return
        end = len(self._text)
        for index, rule in enumerate(self._rules):
            if at[index] < end and at[index] <= limit:
                if index not in self._running:  # else it is a full stop behind a match that may go on, and belongs to none
                    self._cannot(rule, why)
                at[index] = end

    def _release(self, now: float) -> list[Piece]:
        at, findings = self._at, self._findings
        if at is None or findings.rejection is not None:
            return []
        text = self._text
        end = len(text)
        start = end - self.held
        edge = end
        for place, rule in zip(at, self._rules, strict=True):
            if place < edge and rule.holds:
                edge = place
        pieces: list[Piece] = []
        place, covered = start, max(self._covered, start)
        left: list[tuple[int, int, int]] = []
        for span in sorted(self._spans, key=lambda one: (one[0], one[2])):
            first, last, index = span
            if first >= edge:
                left.append(span)
            elif index < 0 or first < covered:
                # More of what is masked already. A run may begin where its mask ends.
                covered = max(covered, last)
            else:
                place = max(place, self._plain(pieces, place, first, covered))
                pieces.append((self._rules[index].mask, 0, True))
                covered = last
        self._plain(pieces, place, edge, covered)
        self._spans = left
        self._note(edge - start, now)
        keep = min([edge, *at]) - self._behind
        if keep > 0:
            self._text = text[keep:]
            self._at = at = [one - keep for one in at]
            self._spans = [(first - keep, last - keep, index) for first, last, index in left]
            covered -= keep
        self._covered = covered
        if not self.held and not self._running and not left and min(at, default=end) >= len(self._text) and covered <= len(self._text):
            self._at = None
        return pieces

    def _plain(self, pieces: list[Piece], place: int, edge: int, covered: int) -> int:
        """The text from `place` to `edge`, of which what stands before `covered` is masked already. Returns `edge`."""
        hidden = min(covered, edge) - place
        if hidden > 0:
            pieces.append(("", hidden, True))
            place += hidden
        if edge > place:
            pieces.append((self._text[place:edge], edge - place, False))
        return edge

    def _note(self, released: int, now: float) -> None:
        """`released` characters leave: how long did they wait, and what is left?"""
        arrived = self._arrived
        if arrived and released:
            waited = now - arrived[0][1]
            if waited > self._findings.held_seconds:
                self._findings.held_seconds = waited
            self._arrived = [(upto - released, when) for upto, when in arrived if upto > released]
        self.held -= released
        if self._arrived and self.held > self._findings.held_chars:
            self._findings.held_chars = self.held
