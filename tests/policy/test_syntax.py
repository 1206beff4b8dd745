"""Which patterns can judge a stream, and why others cannot."""

from __future__ import annotations

import re

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from penstock.policy.matcher import Findings
from penstock.policy.recognisers import RECOGNISERS
from penstock.policy.rules import BadPattern, Terms, built_in, of_pattern, of_words
from penstock.policy.syntax import Unstreamable, shape_of
from penstock.policy.whole import judge
from tests.support.guards import SAMPLES


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        (r"foo$", "'$'"), (r"foo\Z", r"'\Z'"), (r"foo(?=bar)", "looks ahead"), (r"foo(?!bar)", "looks ahead"), (r"a+", "without bound"),
        (r"a*b", "without bound"), (r"a{2,}", "without bound"), (r"(?:ab)+?", "without bound"), (r"(a)\1", "refers back"), (r"(?P<x>a)(?P=x)",
        "group"),
        (r"(?x) a b", "flag"), (r"(?:foo){e<=1}", "approximately"), (r"(a)?(?(1)b|c)", "group"), (r"a{60000}b{60000}", None), (r"(?:a{300}){300}",
        "more than"),
        (r"(?R)", "flag"), (r"\Gfoo", "escape"),
    ],
)  # fmt: skip
def test_refused(pattern: str, why: str | None) -> None:
    if why is None:
        assert shape_of(pattern).width == 120_000
        return
    with pytest.raises(Unstreamable) as refused:
        shape_of(pattern)
    assert why in str(refused.value)


@pytest.mark.parametrize(
    ("pattern", "width"),
    [
        (r"cat", 3), (r"\bcat\b", 3), (r"a{2,5}b?", 6), (r"(?:foo|ba)r", 4), (r"(?<!x)y", 1), (r"(?<=foo)y", 1), (r"[]a]{3}", 3), (r"[^]\]]", 1),
        (r"\x41\u0042", 2), (r"(?i:ab)c", 3), (r"(?>ab|a)c", 3), (r"(?P<secret>a{1,4})z", 5), (r"a{,3}b", 4), (r"\p{Lu}{2}", 2), (r"[[:alpha:]]x", 2),
        (r"^ab", 2), (r"a{b", 3), (r"(?s).{1,9}", 9), (r"a{1,3}+b", 4),
    ],
)  # fmt: skip
def test_taken(pattern: str, width: int) -> None:
    shape = shape_of(pattern)
    assert shape.width == width
    regex.compile(shape.touch)
    if shape.gate is not None:
        re.compile(shape.gate)


def test_bad_patterns_say_why() -> None:
    with pytest.raises(BadPattern, match="no regular expression"):
        of_pattern("(", Terms("g"), streamed=True)
    with pytest.raises(BadPattern, match="matches everywhere"):
        of_pattern("a?", Terms("g"), streamed=True)
    with pytest.raises(BadPattern, match="cannot be judged on a stream: it looks ahead"):
        of_pattern("a(?=b)", Terms("g"), streamed=True)
    assert of_pattern("a(?=b)", Terms("g"), streamed=False).touch is None
    with pytest.raises(BadPattern, match="no word"):
        of_words(["", "  "], Terms("g"))


PATTERNS = (r"\bcat\b", r"ab{1,3}c", r"a?b?c", r"(?:ab|abc)d?", r"(?<!a)b{2}", r"(?i)AbC", r"[ab]{2,4}\b", r"a\Bb", r"(?:a|b)(?:c|a){2}",
    r"a{2}+b?", r"(?<=a)b", r"(?i:aB)c", r"t(?i:ca|bb)", r"[+-]a|[0-9]b|[c-]d", r"\w{2}@", r"\bक\u093f\b", r"a\B\u0301?@", r"[^\W]@", r"[\w-]{1,3}@",
    r"\Bab\B", r"(?<!\w)ab", r"(?<![\w-])[ab]", r"(?<=\w)a", r"(?<=[^\w])a", r"\Wa", r"[^\w]a", r"[^\s@]{2}@", r"\b(?:\w{1,2}-){1,2}\w\b", r"a\Sb",
    r"(?:a(?<!\w)|\bb)c?")
TEXTS = st.text(alphabet="abcd tABC@5+-\u0301क\u093f²\x1c", max_size=24)


@given(pattern=st.sampled_from(PATTERNS), text=TEXTS, more=TEXTS)
def test_the_touch_finds_every_place_where_more_text_may_change_the_answer(pattern: str, text: str, more: str) -> None:
    """Where it finds none before a place, no match of the longer text begins before it that the shorter text has not."""
    shape = shape_of(pattern)
    find, touch = regex.compile(pattern), regex.compile(shape.touch)
    found = touch.search(text, partial=True)
    settled = len(text) if found is None else found.start()
    before = [match.span() for match in find.finditer(text) if match.start() < settled]
    after = [match.span() for match in find.finditer(text + more) if match.start() < settled]
    assert before == after


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"(?i:top secret)", "TOP SECRET"), (r"x(?i:top secret)", "xTop Secret"),
        (r"[+-]a|[0-9]b", "5b"), (r"[a-]x|[-+]y", "+y"),  # a hyphen at the rim of a class
        (r"\bक\u093f\b", "क\u093f है"), (r"\w{2}@", "क\u093f@"), (r"a\B", "a\u0301"),  # a mark is a character of a word
        (r"\Bab\B", "\u0301abc"), (r"\bPRJ-[0-9]{4}\b", "²PRJ-2041½"), (r"(?<!\w)cat", "①cat"), (r"\Wcat", "²cat"), (r"[^\w]cat", "½cat"),
        (r"(?<=\W)cat", "²cat"), (r"a\Sb", "a\x1cb"), (r"\b(?:\w{1,4}-){1,2}\w\b", "\u0301a-b 😀"),  # and a superscript is none
    ],
)  # fmt: skip
def test_the_gate_takes_what_the_pattern_takes(pattern: str, text: str) -> None:
    assert judge(text, [of_pattern(pattern, Terms("g"), streamed=True)], Findings()) != text


@pytest.mark.parametrize("name", [*RECOGNISERS, "words"])
@pytest.mark.parametrize("beside", ["²", "½", "①", "\u0301", "\x1c"])
def test_the_gates_of_the_house_take_what_their_patterns_take(name: str, beside: str) -> None:
    """A list of numbered lines, a footnote."""
    rule = of_words(["zanzibar"], Terms("g")) if name == "words" else built_in(name, Terms("g"))
    said = "zanzibar" if name == "words" else SAMPLES[name][0]
    for text in (beside + said, said + beside, beside + said + beside):
        assert rule.gate is not None
        assert rule.find.search(text) is None or rule.gate(text, 0) is not None
    assert judge(f"①{said} ②", [rule], Findings()) != f"①{said} ②" or rule.find.search(f"①{said} ②") is None


@given(pattern=st.sampled_from(PATTERNS), text=TEXTS)
def test_the_gate_is_never_closed_to_a_match_or_a_touch(pattern: str, text: str) -> None:
    shape = shape_of(pattern)
    if shape.gate is None or re.search(shape.gate, text) is not None:
        return
    assert regex.search(pattern, text) is None
    found = regex.search(shape.touch, text, partial=True)
    assert found is None or found.start() == len(text)
