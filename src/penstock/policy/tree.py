"""A regular expression as a tree, as far as streams can have it. The rules stand in `syntax`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

MOST_WIDTH = 1 << 16
_COUNTED = re.compile(r"\{(\d*)(?:(,)(\d*))?\}")
_NAMED = re.compile(r"\?P?<[A-Za-z_]\w*>")
_FLAGS = re.compile(r"\?([a-zA-Z]*)(?:-([a-zA-Z]+))?([:)])")
_POSIX = re.compile(r"\[:\^?\w+:\]")
_LITERAL_ESCAPES = frozenset("nrtfv")
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff")
"""Scripts that are written without spaces, as part of a class: Thai, Lao, Burmese, Khmer, Kana, Han; and Hangul, whose words grow endings."""
BEGIN = rf"(?<![^\W{UNSPACED}])"
END = rf"(?![^\W{UNSPACED}])"
"""Borders of words, which are there beside such scripts as well; `END` is the one look ahead that streams can have, for it asks no more than `\b`."""


class Unstreamable(ValueError):
    """The pattern cannot be judged on a stream. Its text is a clause for people: why."""


@dataclass(slots=True)
class Node:
    """`atom`: one character. `zero`: a look to the left, or a border. `seq`, `alt`: of `items`. `group`: `items[0]`. `repeat`: `items[0]`, `low` to
    `high`."""

    kind: str
    source: str = ""
    plain: str | None = None
    """Of an atom, for the gate; `None`: any character."""
    items: list[Node] = field(default_factory=list["Node"])
    low: int = 1
    high: int = 1
    width: int = 0
    behind: int = 0
    least: int = 0


class Reader:
    def __init__(self, pattern: str) -> None:
        self.text = pattern
        self.at = 0

    def leading_flags(self) -> str:
        found = re.match(r"\(\?([a-zA-Z]+)\)", self.text)
        if found is None:
            return ""
        self._hold_flags(found[1])
        self.at = found.end()
        return found[0]

    @staticmethod
    def _hold_flags(flags: str) -> None:
        if set(flags) - set("ims"):
            raise Unstreamable(f"has a flag in {flags!r}; only i, m and s can be used on a stream")

    def alternatives(self, depth: int) -> Node:
        if depth > 40:
            raise Unstreamable("is nested too deeply")
        branches = [self._sequence(depth)]
        while self._take("|"):
            branches.append(self._sequence(depth))
        if len(branches) == 1:
            return branches[0]
        return Node("alt", items=branches, width=max(b.width for b in branches), behind=max(b.behind for b in branches),
                     least=min(b.least for b in branches))

    def _take(self, text: str) -> bool:
        if self.text.startswith(text, self.at):
            self.at += len(text)
            return True
        return False

    def _sequence(self, depth: int) -> Node:
        items: list[Node] = []
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            item = self._one(depth)
            item = self._repeated(item)
            items.append(item)
        return Node("seq", items=items, width=sum(i.width for i in items), behind=max((i.behind for i in items), default=0),
                     least=sum(i.least for i in items))

    def _one(self, depth: int) -> Node:
        char = self.text[self.at]
        if char == "(":
            return self._group(depth)
        if char == "[":
            return self._class()
        if char == "\\":
            return self._escape()
        self.at += 1
        if char == "^":
            return Node("zero", "^", behind=1)
        if char == "$":
            raise Unstreamable("asks with '$' whether the text is over")
        if char == ".":
            return Node("atom", ".", plain=".", width=1, least=1)
        if char in "*+?":
            raise Unstreamable(f"has a {char!r} that repeats nothing")
        return Node("atom", char, plain=re.escape(char), width=1, least=1)

    def _repeated(self, item: Node) -> Node:
        while self.at < len(self.text):
            char = self.text[self.at]
            counted = _COUNTED.match(self.text, self.at) if char == "{" else None
            if char in "*+":
                raise Unstreamable(f"repeats without bound ({char!r}); write an upper bound, like {{{'0' if char == '*' else '1'},64}}")
            if char == "?":
                low, high, written = 0, 1, "?"
            elif counted is not None and counted[0] not in ("{}", "{,}"):
                low = int(counted[1] or 0)
                if counted[2] and not counted[3]:
                    raise Unstreamable(f"repeats without bound ({counted[0]!r}); write an upper bound")
                high, written = int(counted[3]) if counted[2] else low, counted[0]
            elif char == "{":
                if re.match(r"\{[^}]*[eids<]", self.text[self.at :]):
                    raise Unstreamable("matches approximately ('{e...}')")
                return item
            else:
                return item
            self.at += len(written)
            for suffix in "?+":
                if self._take(suffix):
                    written += suffix
                    break
            width = item.width * high
            if width > MOST_WIDTH:
                raise Unstreamable(f"may match more than {MOST_WIDTH} characters")
            item = Node("repeat", written, items=[item], low=low, high=high, width=width, behind=item.behind, least=item.least * low)
        return item

    def _group(self, depth: int) -> Node:
        start = self.at
        self.at += 1
        opening = "(?:"
        if self.text.startswith("?", self.at):
            rest = self.text[self.at :]
            if rest.startswith(END[1:]):
                self.at += len(END) - 1
                return Node("zero", END, behind=1)
            if rest.startswith(("?=", "?!")):
                raise Unstreamable("looks ahead ('(?=' or '(?!')")
            if rest.startswith(("?<=", "?<!")):
                return self._behind(depth)
            if rest.startswith("?>"):
                opening = "(?>"
                self.at += 2
            elif (named := _NAMED.match(rest)) is not None:
                self.at += named.end()
            elif (flagged := _FLAGS.match(rest)) is not None and flagged[3] == ":":
                self._hold_flags(flagged[1] + (flagged[2] or ""))
                opening = "(" + flagged[0]
                self.at += flagged.end()
            else:
                raise Unstreamable(f"has a group that cannot be judged on a stream: {self.text[start : start + 8]!r}")
        inner = self.alternatives(depth + 1)
        if not self._take(")"):
            raise Unstreamable("has a parenthesis that is not closed")
        return Node("group", opening, items=[inner], width=inner.width, behind=inner.behind, least=inner.least)

    def _behind(self, depth: int) -> Node:
        opening = self.text[self.at - 1 : self.at + 3]
        self.at += 3
        inner = self.alternatives(depth + 1)
        if not self._take(")"):
            raise Unstreamable("has a parenthesis that is not closed")
        return Node("zero", f"{opening}{write(inner)})", behind=inner.width + inner.behind)

    def _escape(self) -> Node:
        escape = self.text[self.at : self.at + 2]
        char = escape[1:]
        self.at += 2
        if char in ("b", "B"):
            return Node("zero", escape, behind=1)
        if char in ("Z", "z"):
            raise Unstreamable(f"asks with '\\{char}' whether the text is over")
        if char == "A":
            return Node("zero", escape, behind=1)
        if char in "dDsSwW":
            return Node("atom", escape, plain=escape, width=1, least=1)
        if char in "pP":
            found = re.compile(r"\{[^}]*\}|\w").match(self.text, self.at)
            written = found[0] if found else ""
            self.at += len(written)
            return Node("atom", escape + written, width=1, least=1)
        if char in "xuU":
            digits = {"x": 2, "u": 4, "U": 8}[char]
            written = self.text[self.at : self.at + digits]
            self.at += digits
            return Node("atom", escape + written, plain=escape + written, width=1, least=1)
        if char.isdigit() or char in ("g", "k"):
            raise Unstreamable("refers back to what it has matched")
        if char.isalpha() and char not in _LITERAL_ESCAPES:
            raise Unstreamable(f"has the escape '\\{char}', which is not known on streams")
        return Node("atom", escape, plain=escape, width=1, least=1)

    def _class(self) -> Node:
        start = self.at
        self.at += 1
        self._take("^")
        self._take("]")
        odd = False
        while self.at < len(self.text) and self.text[self.at] != "]":
            posix = _POSIX.match(self.text, self.at)
            if posix is not None:
                odd = True
                self.at = posix.end()
            elif self.text[self.at] == "\\":
                odd = odd or self.text[self.at + 1 : self.at + 2] in ("p", "P")
                self.at += 2
            else:
                odd = odd or self.text[self.at] in "[&~|" or self.text.startswith("--", self.at)
                self.at += 1
        self.at += 1
        source = self.text[start : self.at]
        return Node("atom", source, plain=None if odd else source, width=1, least=1)


def write(node: Node, *, touch: bool = False) -> str:
    match node.kind:
        case "atom":
            return node.source
        case "zero":
            return rf"(?:{node.source}|\Z)" if touch and node.source in (r"\b", r"\B", END) else node.source
        case "seq":
            return "".join([write(item, touch=touch) for item in node.items])
        case "alt":
            return "|".join([write(item, touch=touch) for item in node.items])
        case "group":
            return f"{node.source}{write(node.items[0], touch=touch)})"
        case _:
            inner = node.items[0]
            written = write(inner, touch=touch)
            return (f"(?:{written})" if inner.kind == "repeat" else written) + node.source


def items_of(node: Node) -> list[Node]:
    return node.items if node.kind == "seq" else [node]
