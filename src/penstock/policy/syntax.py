"""What a regular expression needs of a stream: read once, at start, to say whether it can be judged before all of the text is there.

Rules
-----
A pattern can be judged on a stream where every answer to "could more text make a match here?" is found by looking at the text so far, and
where a match has a longest length. So these are refused, each with its reason: `$`, `\\Z`, `\\z` (they ask whether the text is over), look-ahead
(it asks what comes), repeats without an upper bound, back-references, conditionals, recursion, fuzzy matching, and the flag `x`.

Of what is left two other forms are made, for `matcher`:

- *touch*: finds the first place from which some way of matching reaches the end of the text and would go on, so that more text may change the
  answer. It is the pattern, then any character, then a failure; searched with `partial=True` of the `regex` library, it can only end at the
  text's end. A word boundary at that end may be one or none, so there both are let through.
- *gate*: a cheap pattern of the standard library that finds a place wherever the pattern or its touch could: the first few characters,
  each of which may be cut off by the end of the text. Mostly it finds nothing, and then the others are not asked. For `regex` a combining mark
  is a word character (UTS 18), for the standard library it is none, and with `²` it is the other way round: so there every character beyond ASCII
  counts as one and as none, whichever lets more through. What looks to the left is left out where that cannot be said.

Source of the syntax: the standard library's `re`, and the `regex` library's additions, of which those that are not known here are refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from penstock.policy.tree import BEGIN, END, Node, Reader, Unstreamable, items_of, write

ANY = r"[\s\S]"
_GATE_ATOMS = 6
"""Characters that a gate looks at; more cost more than they save."""
_GATE_COPIES = 12
_LITERAL = re.compile(r"[^\\\[.]|\\[^A-Za-z]")
_OWN_FLAGS = re.compile(r"\(\?[a-z]*(?:-[a-z]+)?:")
_BEYOND = r"\x1c-\x1f\x80-\U0010ffff"
"""What the two libraries may take for different things: word characters, digits, white space."""
_VAGUE = re.compile(r"\\[wWdDsS]")
_AT_WORD, _NO_WORD, _BEHIND_WORD = r"(?<![A-Za-z0-9_])", r"(?![A-Za-z0-9_])", rf"(?<=[A-Za-z0-9_{_BEYOND}])"
_NOT_BEHIND_WORD = re.compile(r"\(\?<!(?:\\w|\[(?!\^)(?:[^\\\]]|\\[^A-Za-z]|\\w)+\])\)")
_WORDLY = re.compile(r"[A-Za-z0-9_]|\[(?:[A-Za-z0-9_](?:-[A-Za-z0-9_])?)+\]")
"""Surely a word character, for both libraries."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A pattern that can be judged on a stream."""

    touch: str
    gate: str | None
    """`None`: none could be made that finds less than everything."""
    width: int
    """Characters of its longest match."""
    least: int
    """Characters of its shortest match."""
    behind: int
    """Characters before a place that it may look at."""


def shape_of(pattern: str, *, trusted: bool = False) -> Shape:
    """The shape of `pattern`, which compiles. Raises `Unstreamable`. `trusted`: its gate may repeat what varies, for it is known not to run away."""
    reader = Reader(pattern)
    flags = reader.leading_flags()
    tree = reader.alternatives(0)
    if reader.at < len(pattern):
        raise Unstreamable("has a parenthesis that was not opened")
    if tree.width == 0:
        raise Unstreamable("matches no character")
    touch = f"{flags}(?:{write(tree, touch=True)})(?s:.)(?!)"
    gate = _Gate(trusted).of(tree)
    return Shape(touch, flags + gate if gate is not None else None, tree.width, tree.least, max(tree.behind, 1))


@dataclass(frozen=True, slots=True)
class _Branch:
    """One alternative of a gate: its first character (empty: it may have several beginnings), what is looked at before it, and the rest."""

    first: str
    looks: str
    rest: str

    def alone(self) -> str:
        if not self.first:
            return self.looks + self.rest
        return f"{self.first}(?<={self.looks}{self.first}){self.rest}" if self.looks else self.first + self.rest

    @property
    def members(self) -> str | None:
        """The first character as part of a class; `None`: it cannot be."""
        first = self.first
        if first.startswith("[") and not first.startswith(("[^", "[]")):
            inner = first[1:-1]  # a hyphen at its rim is one, and no range with what stands beside it
            inner = "\\" + inner if inner.startswith("-") else inner
            return inner[:-1] + r"\-" if re.search(r"(?<!\\)(?:\\\\)*-\Z", inner) else inner
        return first if re.fullmatch(r"\\?[^\[\]^.-]|\\-", first) else None


class _Gate:
    """Writes a gate. Each character may be the end of the text instead, but for the first, which must be there."""

    def __init__(self, trusted: bool) -> None:
        self._trusted = trusted

    def of(self, tree: Node) -> str | None:
        branches: list[_Branch] = []
        for branch in tree.items if tree.kind == "alt" else [tree]:
            found = self._branch(branch)
            if found is None:
                return None
            branches += found
        if len(branches) == 1:
            return branches[0].alone()
        members = [branch.members for branch in branches]
        if None in members:
            return "|".join(f"(?:{branch.alone()})" for branch in branches)
        # One search for all first characters: the standard library then leaps from one to the next.
        if all(_LITERAL.fullmatch(branch.first) for branch in branches):
            return "|".join(branch.alone() for branch in branches)
        inner = "|".join(f"(?<={branch.looks}{branch.first}){branch.rest}" for branch in branches)
        return f"[{''.join(dict.fromkeys(one for one in members if one is not None))}](?:{inner})"

    def _branch(self, branch: Node) -> list[_Branch] | None:
        """One alternative: its looks to the left are asked behind its first character, so that the search is for that character."""
        items = branch.items if branch.kind == "seq" else [branch]
        zeros: list[Node] = []
        while items and items[0].kind == "zero":
            zeros.append(items[0])
            items = items[1:]
        if not items:
            return None
        first = items[0]
        if first.kind == "group" and first.source == "(?:":
            # A group at the beginning: each of its alternatives is one of ours.
            inner = first.items[0]
            within = inner.items if inner.kind == "alt" else [inner]
            expanded = [self._branch(Node("seq", items=[*zeros, *items_of(one), *items[1:]])) for one in within]
            return None if None in expanded else [one for found in expanded if found is not None for one in found]
        atom = first.items[0] if first.kind == "repeat" else first
        if atom.kind != "atom" or first.low == 0:
            rest, _ = self._sequence(items, _GATE_ATOMS)
            looks = "".join([_look(zero.source, False) for zero in zeros])
            return [_Branch("", looks, rf"(?!\Z){rest}")] if rest else None
        left: list[Node] = items[1:]
        if first.kind == "repeat" and first.high > 1:
            left = [Node("repeat", items=[atom], low=first.low - 1, high=first.high - 1), *left]
        rest, _ = self._sequence(left, _GATE_ATOMS - 1, atom)
        looks = "".join([_look(zero.source, _is_wordly(atom)) for zero in zeros])
        return [_Branch(_plain(atom), looks, rest)]

    def _sequence(self, items: list[Node], atoms: int, last: Node | None = None) -> tuple[str, bool]:
        """What of `items` is looked at; False where what follows them must not be. `last`: what stands before them."""
        written, varying = "", False
        for item in items:
            if atoms <= 0:
                return written, False
            before, last = last, item
            if item.kind == "zero" and item.source in (r"\b", r"\B") and not (item.source == r"\b" and before is not None and _is_wordly(before)):
                continue
            source, goes_on, varies = self._one(item)
            if varies and varying and not self._trusted:
                return written, False
            written += source
            varying = varying or varies
            atoms -= 1
            if not goes_on:
                return written, False
        return written, True

    def _one(self, item: Node) -> tuple[str, bool, bool]:
        """Source; may more follow; does its length vary."""
        match item.kind:
            case "atom":
                return rf"(?:{_plain(item)}|\Z)", True, False
            case "zero":
                # At the end of the text it is not known.
                look = _NO_WORD if item.source == r"\b" else _look(item.source, False)
                return rf"(?:{look}|\Z)" if look else "", True, False
            case "group":
                inner = item.items[0]
                branches = [self._sequence(items_of(one), _GATE_ATOMS) for one in (inner.items if inner.kind == "alt" else [inner])]
                opening = item.source if _OWN_FLAGS.fullmatch(item.source) else "(?:"
                return f"{opening}{'|'.join(source for source, _ in branches)})", all(on for _, on in branches), len(branches) > 1
            case "repeat":
                return self._repeat(item)
            case _:
                source, goes_on = self._sequence(item.items, _GATE_ATOMS)
                return source, goes_on, False

    def _repeat(self, item: Node) -> tuple[str, bool, bool]:
        inner, low, high = item.items[0], item.low, item.high
        if inner.kind == "atom":
            plain = _plain(inner)
            if low == 0:
                return f"{plain}{{0,{high}}}", True, True
            return rf"(?:{plain}{{{low},{high}}}|{plain}{{0,{low}}}\Z)", True, low != high
        source, goes_on, varies = self._one(inner)
        if high == 1:
            return f"(?:{source})?", goes_on, True
        if low == 0 or not goes_on:
            return ("", False, False) if low == 0 else (source, False, varies)
        copies = min(low, _GATE_COPIES) if self._trusted else 1
        return f"(?:{source}){{{copies}}}", False, varies


def _plain(atom: Node) -> str:
    """What the standard library takes for all that `regex` takes for it."""
    plain = atom.plain
    if plain is None:
        return ANY
    if _VAGUE.search(plain) is None:
        return plain
    if not plain.startswith("["):
        return f"[{plain}{_BEYOND}]"
    return f"(?:{plain}|[{_BEYOND}])" if plain.startswith(("[^", "[]")) else f"[{_BEYOND}{plain[1:]}"


def _look(source: str, wordly: bool) -> str:
    """A look to the left, which holds wherever that of `regex` does; empty: none can be written. `wordly`: before such a character (`_is_wordly`)."""
    if source in (BEGIN, END):
        return _AT_WORD if source == BEGIN else _NO_WORD
    if source in (r"\b", r"\B"):
        return "" if not wordly else _AT_WORD if source == r"\b" else _BEHIND_WORD
    if _VAGUE.search(source) is None and r"\b" not in source and r"\B" not in source:
        return source
    if _NOT_BEHIND_WORD.fullmatch(source) is None:
        return ""
    return source.replace(r"\w", "A-Za-z0-9_" if "[" in source else "[A-Za-z0-9_]")


def _is_wordly(node: Node) -> bool:
    """Is it, and does it end with, a character that both libraries take for one of a word?"""
    atom = node.items[0] if node.kind == "repeat" and node.low > 0 else node
    return atom.kind == "atom" and atom.plain is not None and _WORDLY.fullmatch(atom.plain) is not None
