"""Where one text of an answer goes through: plain text, or the JSON text of a tool call's arguments.

`push` takes what came and returns what may leave in its place; `finish` returns the rest. Of arguments the strings are judged, decoded, each by
itself (names too), and numbers whole; what leaves is JSON if what came was. The spelling of what is not masked stays: escapes are written as
they came. Text that cannot be JSON is judged as plain text from there on.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence

from penstock.policy.matcher import Findings, Hold, Matcher
from penstock.policy.rules import Rule
from penstock.policy.whole import judge

_PLAIN = re.compile(r'[^"\\]*')
_OUTSIDE = re.compile(r"[\s{}\[\],:truefalsn]*")
_NUMBER = re.compile(r"[-+0-9.eE]*")
_ESCAPE = re.compile(r"\\(?:u[0-9A-Fa-f]{4}|[^u])", re.DOTALL)
_PAIR = re.compile(r"\\u[dD][89abAB][0-9A-Fa-f]{2}\\u[dD][c-fC-F][0-9A-Fa-f]{2}")
_HIGH = re.compile(r"\\u[dD][89abAB][0-9A-Fa-f]{2}")
_LONGEST_NUMBER = 64
_SHORT = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


class Channel(ABC):
    """One text."""

    __slots__ = ()

    @abstractmethod
    def push(self, text: str, now: float) -> str:
        """`text` came; what may leave. The same object where nothing of it changes."""

    def passes(self, text: str) -> bool:
        """May `text` leave as it is, by a glance? Then it has been judged."""
        del text
        return False

    @abstractmethod
    def finish(self, now: float) -> str:
        """The text has ended; what is left. Another may follow."""

    @property
    @abstractmethod
    def holding(self) -> bool:
        """Has something come that has not left?"""

    @abstractmethod
    def deadline(self) -> float | None: ...

    @abstractmethod
    def expire(self, now: float) -> str:
        """What the time sets free."""


class TextChannel(Channel):
    __slots__ = ("_matcher",)

    def __init__(self, rules: Sequence[Rule], findings: Findings, hold: Hold) -> None:
        self._matcher = Matcher(rules, findings, hold)

    def passes(self, text: str) -> bool:
        return self._matcher.passes(text)

    def push(self, text: str, now: float) -> str:
        if self._matcher.passes(text):
            return text
        out = "".join([piece for piece, _, _ in self._matcher.feed(text, now)])
        return text if out == text else out

    def finish(self, now: float) -> str:
        return "".join([piece for piece, _, _ in self._matcher.finish(now)])

    @property
    def holding(self) -> bool:
        return self._matcher.held > 0

    def deadline(self) -> float | None:
        return self._matcher.deadline()

    def expire(self, now: float) -> str:
        return "".join([piece for piece, _, _ in self._matcher.expire(now)])


class ArgumentsChannel(Channel):
    """See above."""

    __slots__ = ("_findings", "_hold", "_matcher", "_number", "_odd", "_pending", "_rules", "_spelt")

    def __init__(self, rules: Sequence[Rule], findings: Findings, hold: Hold) -> None:
        self._rules, self._findings, self._hold = rules, findings, hold
        self._matcher: Matcher | None = None
        """Of the string that is open."""
        self._spelt: list[str] = []
        """How each character that the matcher holds was written."""
        self._pending = ""
        """The beginning of an escape."""
        self._number = ""
        self._odd: TextChannel | None = None
        """It is no JSON."""

    def push(self, text: str, now: float) -> str:
        out: list[str] = []
        at, size = 0, len(text)
        while at < size:
            if self._odd is not None:
                out.append(self._odd.push(text[at:], now))
                break
            at = self._string(text, at, out, now) if self._matcher is not None else self._outside(text, at, out)
        released = "".join(out)
        return text if released == text else released

    def _outside(self, text: str, at: int, out: list[str]) -> int:
        if self._number:
            return self._more_number(text, at, out)
        found = _OUTSIDE.match(text, at)
        end = at if found is None else found.end()
        if end > at:
            out.append(text[at:end])
        if end == len(text):
            return end
        char = text[end]
        if char == '"':
            self._matcher = Matcher(self._rules, self._findings, self._hold)
            out.append('"')
            return end + 1
        if char.isdigit() or char == "-":
            return self._more_number(text, end, out)
        self._odd = TextChannel(self._rules, self._findings, self._hold)
        return end

    def _more_number(self, text: str, at: int, out: list[str]) -> int:
        found = _NUMBER.match(text, at)
        end = at if found is None else found.end()
        self._number += text[at:end]
        if end < len(text) or len(self._number) > _LONGEST_NUMBER:
            self._end_number(out)
        return end

    def _end_number(self, out: list[str]) -> None:
        number, self._number = self._number, ""
        told = judge(number, self._rules, self._findings)
        if self._findings.rejection is None:
            out.append(number if told is number else json.dumps(told))

    def _string(self, text: str, at: int, out: list[str], now: float) -> int:
        matcher = self._matcher
        assert matcher is not None
        if self._pending:
            return self._more_escape(text, at, out, now)
        found = _PLAIN.match(text, at)
        end = at if found is None else found.end()
        if end > at:
            run = text[at:end]
            if not self._spelt and matcher.passes(run):
                out.append(run)
            else:
                self._spelt.extend(run)
                self._spell(matcher.feed(run, now), out)
        if end == len(text):
            return end
        if text[end] == '"':
            self._end_string(out, now)
            out.append('"')
            return end + 1
        self._pending = "\\"
        return end + 1

    def _more_escape(self, text: str, at: int, out: list[str], now: float) -> int:
        """Characters of an escape, until it is whole; half of a pair waits for the other."""
        matcher = self._matcher
        assert matcher is not None
        self._pending += text[at]
        pending = self._pending
        if _HIGH.match(pending) and len(pending) < 12 and (len(pending) < 7 or pending[6] == "\\") and (len(pending) < 8 or pending[7] == "u"):
            return at + 1
        if _PAIR.fullmatch(pending):
            self._decoded([(json.loads(f'"{pending}"'), pending)], out, now)
            return at + 1
        whole = _ESCAPE.match(pending)
        if whole is None:
            if len(pending) > 1 and pending[1] == "u" and len(pending) < 6 and _is_hex(pending[2:]):
                return at + 1
            # No escape of JSON: its characters stand for themselves.
            self._decoded([(char, char) for char in pending], out, now)
            return at + 1
        rest = pending[whole.end() :]
        self._pending = ""
        self._decoded([(_meaning(whole[0]), whole[0])], out, now)
        # What was waited for did not come: it is read again as what it is.
        return at + 1 - len(rest) if len(rest) <= 1 else self._again(rest, at + 1, out, now)

    def _again(self, rest: str, end: int, out: list[str], now: float) -> int:
        at = 0
        while at < len(rest) and self._matcher is not None:
            at = self._string(rest, at, out, now)
        if at < len(rest):
            out.append(self.push(rest[at:], now))
        return end

    def _decoded(self, chars: list[tuple[str, str]], out: list[str], now: float) -> None:
        self._pending = ""
        matcher = self._matcher
        assert matcher is not None
        self._spelt.extend(spelling for _, spelling in chars)
        self._spell(matcher.feed("".join([char for char, _ in chars]), now), out)

    def _spell(self, pieces: Sequence[tuple[str, int, bool]], out: list[str]) -> None:
        spelt = self._spelt
        at = 0
        for piece, count, masked in pieces:
            if masked:
                out.append(json.dumps(piece, ensure_ascii=False)[1:-1])
            else:
                out.append("".join(spelt[at : at + count]))
            at += count
        del spelt[:at]

    def _end_string(self, out: list[str], now: float) -> None:
        if self._matcher is not None:
            self._spell(self._matcher.finish(now), out)
            self._matcher = None
            self._spelt.clear()

    def finish(self, now: float) -> str:
        out: list[str] = []
        if self._odd is not None:
            out.append(self._odd.finish(now))
            self._odd = None
        if self._number:
            self._end_number(out)
        if self._matcher is not None:
            pending, self._pending = self._pending, ""
            self._end_string(out, now)
            out.append(pending if self._findings.rejection is None else "")
        return "".join(out)

    @property
    def holding(self) -> bool:
        if self._odd is not None:
            return self._odd.holding
        return bool(self._spelt or self._number or self._pending)

    def deadline(self) -> float | None:
        if self._odd is not None:
            return self._odd.deadline()
        return self._matcher.deadline() if self._matcher is not None else None

    def expire(self, now: float) -> str:
        if self._odd is not None:
            return self._odd.expire(now)
        out: list[str] = []
        if self._matcher is not None:
            self._spell(self._matcher.expire(now), out)
        return "".join(out)


def _is_hex(text: str) -> bool:
    return all(char in "0123456789abcdefABCDEF" for char in text)


def _meaning(escape: str) -> str:
    char = escape[1]
    if char == "u":
        return chr(int(escape[2:6], 16))
    return _SHORT.get(char, char)


def judge_arguments(text: str, rules: Sequence[Rule], findings: Findings) -> str:
    """The whole JSON text of a call's arguments; the same object where nothing is masked."""
    if not rules or findings.rejection is not None:
        return text
    channel = ArgumentsChannel(rules, findings, Hold(chars=1 << 62))
    out = channel.push(text, 0.0)
    rest = channel.finish(0.0)
    if findings.rejection is not None or (out is text and not rest):
        return text
    told = out + rest
    return text if told == text else told
