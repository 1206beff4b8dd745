"""One rule, ready to be used: a pattern in all its forms, what is done with its matches, and where it holds.

`regex` and not the standard library, because it searches with a time limit and can tell that the end of a text may be the beginning of a
match.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import regex

from penstock.policy.recognisers import RECOGNISERS
from penstock.policy.syntax import Shape, Unstreamable, shape_of
from penstock.policy.tree import BEGIN, END, UNSPACED

MASK = "[MASKED]"
_NO_SHAPE = Shape("", None, 0, 0, 1)


class Action(StrEnum):
    MASK = "mask"
    REJECT = "reject"
    AUDIT = "audit"
    """Count it, and let it pass."""


class Scope(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL_ARGUMENTS = "tool_arguments"
    TOOL_RESULTS = "tool_results"
    REASONING = "reasoning"


IN_ANSWERS: frozenset[Scope] = frozenset({Scope.ASSISTANT, Scope.TOOL_ARGUMENTS, Scope.TOOL_RESULTS, Scope.REASONING})
"""Results stand there of tools that the provider runs itself."""


class BadPattern(ValueError):
    """A pattern that cannot be used. Its text is a clause for people."""


class TooSlow(Exception):
    """A pattern took longer than it may."""


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """`guard`: the name that people gave it, which is told where it strikes."""

    guard: str
    action: Action
    mask: str
    closed: bool
    """What happens where it cannot be judged: the answer is rejected; else the text is let go."""
    find: regex.Pattern[str]
    touch: regex.Pattern[str] | None
    """`None`: not for streams."""
    gate: Callable[..., Any] | None
    """`gate(text, at)`: anything at all from there on? `None`: always to be asked further."""
    width: int
    least: int
    behind: int
    seconds: float | None
    """The time of one search; `None`: it is known not to run away."""
    group: tuple[str, ...] = ()
    """What of a match is meant: the first of these groups that took part; else all of it."""
    check: Callable[[str], int] | None = None
    run: re.Pattern[str] | None = None
    until: re.Pattern[str] | None = None
    most: int = 0
    message: str = ""
    in_stream: str = "stop"
    """How a reject is told inside of a stream: `stop`, by the protocol's own stop reason; `error`."""

    @property
    def holds(self) -> bool:
        """Does text wait for it? What is only counted need not."""
        return self.action is not Action.AUDIT


@dataclass(frozen=True, slots=True)
class Terms:
    """What the rules of one guard have in common."""

    guard: str
    action: Action = Action.MASK
    mask: str | None = None
    closed: bool = True
    seconds: float = 0.05
    message: str = ""
    in_stream: str = "stop"


def built_in(name: str, terms: Terms) -> Rule:
    """The rule of a recogniser (`recognisers.RECOGNISERS`)."""
    known = RECOGNISERS[name]
    shape = shape_of(known.pattern, trusted=True)
    find = regex.compile(known.pattern)
    return Rule(
        terms.guard, terms.action, terms.mask if terms.mask is not None else known.mask, terms.closed, find, regex.compile(shape.touch),
        _gate(shape), shape.width, shape.least, shape.behind, None,
        tuple(find.groupindex), known.check, known.run, known.until, known.most, terms.message,
        terms.in_stream,
    )  # fmt: skip


def of_pattern(pattern: str, terms: Terms, *, streamed: bool) -> Rule:
    """The rule of a pattern that a user wrote. `streamed`: it is to judge streams. Raises `BadPattern`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            find = regex.compile(pattern)
        empty = find.search("") is not None
    except (regex.error, Warning, RecursionError, OverflowError) as error:
        raise BadPattern(f"is no regular expression: {error}") from None
    if empty:
        raise BadPattern("matches nothing at all, and so it matches everywhere")
    shape = _NO_SHAPE
    touch = None
    try:
        shape = shape_of(pattern)
        touch = regex.compile(shape.touch)
    except Unstreamable as error:
        if streamed:
            raise BadPattern(f"cannot be judged on a stream: it {error}") from None
    except regex.error as error:
        if streamed:
            raise BadPattern(f"cannot be judged on a stream: {error}") from None
    group = tuple(name for name in find.groupindex if name == "secret")
    return Rule(
        terms.guard, terms.action, MASK if terms.mask is None else terms.mask, terms.closed, find, touch, _gate(shape),
        shape.width, shape.least, shape.behind,
        terms.seconds, group, message=terms.message, in_stream=terms.in_stream,
    )  # fmt: skip


def of_words(words: Iterable[str], terms: Terms) -> Rule:
    """The rule of a list of words or phrases: whole words, in any case; white space in a phrase is any white space. Where a word begins or ends with
    a character of a script that is written without spaces, no border is asked for there. Raises `BadPattern`."""
    known = sorted({" ".join(word.split()).lower() for word in words} - {""})
    if not known:
        raise BadPattern("holds no word")
    if longest := next((word for word in known if len(word) > 200), None):
        raise BadPattern(f"holds a phrase of more than 200 characters: {longest[:20]!r}...")
    by_borders: dict[tuple[str, str], list[str]] = {}
    for word in known:
        front = "" if _UNSPACED.match(word) else BEGIN
        behind = END if regex.match(r"\w", word[-1]) and not _UNSPACED.match(word[-1]) else ""
        by_borders.setdefault((behind, front), []).append(word)
    # What asks for no border first, for it is the longer one: `c++` before `c`.
    return _trusted("(?i)" + "|".join(f"{front}(?:{_trie(some)}){behind}" for (behind, front), some in sorted(by_borders.items())), terms)


_UNSPACED = re.compile(f"[{UNSPACED}]")


def _trusted(pattern: str, terms: Terms) -> Rule:
    shape = shape_of(pattern, trusted=True)
    return Rule(
        terms.guard, terms.action, MASK if terms.mask is None else terms.mask, terms.closed, regex.compile(pattern), regex.compile(shape.touch),
        _gate(shape), shape.width, shape.least, shape.behind, None, message=terms.message, in_stream=terms.in_stream,
    )  # fmt: skip


def _trie(words: list[str]) -> str:
    """An alternation of `words`, sorted, in which each beginning stands once: the time of a search does not grow with their number."""
    if len(words) == 1:
        return _literal(words[0])
    branches: list[str] = []
    first = 0
    while first < len(words):
        head = words[first][:1]
        last = first
        while last < len(words) and words[last][:1] == head:
            last += 1
        tails = [word[1:] for word in words[first:last]]
        if tails[0] == "":
            rest = f"(?:{_trie(tails[1:])})?" if len(tails) > 1 else ""
        else:
            rest = _trie(tails) if len(tails) == 1 else f"(?:{_trie(tails)})"
        branches.append(_literal(head) + rest)
        first = last
    return "|".join(branches)


def _literal(text: str) -> str:
    return re.sub(r"(?:\\ )+", r"\\s{1,4}", re.escape(text))


def _gate(shape: Shape) -> Callable[..., Any] | None:
    if shape.gate is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return re.compile(shape.gate).search
    except (re.error, Warning, RecursionError, OverflowError):
        return None  # then `find` and `touch` are asked each time


def search(rule: Rule, text: str, at: int) -> regex.Match[str] | None:
    """The first match from `at` on. Raises `TooSlow`."""
    try:
        return rule.find.search(text, at, timeout=rule.seconds, concurrent=False)
    except TimeoutError:
        raise TooSlow from None


def touching(rule: Rule, text: str, at: int) -> int:
    """The first place from `at` on from which more text could make a match; the text's length where there is none. Raises `TooSlow`."""
    assert rule.touch is not None
    try:
        found = rule.touch.search(text, at, partial=True, timeout=rule.seconds, concurrent=False)
    except TimeoutError:
        raise TooSlow from None
    return len(text) if found is None else found.start()
