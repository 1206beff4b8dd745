"""The engine: a text is judged the same however it is cut, and what is held is bounded."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.policy.matcher import Findings, Hold, Matcher
from penstock.policy.rules import Action, Rule, Terms, built_in, of_pattern, of_words
from penstock.policy.whole import judge
from tests.support.guards import SAMPLES, all_rules

RULES = (
    *all_rules(), of_pattern(r"ab{1,20}c|bb", Terms("d", mask="<D>"), streamed=True), of_words(["foo bar", "foo", "Fool"], Terms("w", mask="<W>")),
    of_pattern(r"at a|a", Terms("counted", Action.AUDIT), streamed=True),
)  # fmt: skip
SPEECH = st.lists(
    st.one_of(
        st.sampled_from([secret for secret, _ in SAMPLES.values()]),
        st.sampled_from([" ", "a", "bb", "abbc", "cat", "category", "foo  bar", "@", ".", "-", "4", "11", "\n", "key: "]),
        st.text(alphabet="ab c@.-:4 1foorcatABé\n", max_size=12),
    ),
    max_size=6,
).map("".join)
CUTS = st.lists(st.integers(0, 1 << 16), max_size=12)


def streamed(pieces: Iterable[str], rules: Sequence[Rule] = RULES, hold: Hold | None = None) -> tuple[str, Findings]:
    findings = Findings()
    matcher = Matcher(rules, findings, hold or Hold())
    out = ""
    for piece in pieces:
        out += piece if matcher.passes(piece) else "".join([text for text, _, _ in matcher.feed(piece, 0.0)])
    return out + "".join([text for text, _, _ in matcher.finish(0.0)]), findings


def cut(text: str, at: Iterable[int]) -> list[str]:
    marks = [0, *sorted(place % (len(text) + 1) for place in at), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(marks)]


@given(text=SPEECH, at=CUTS)
def test_a_stream_is_judged_as_a_body(text: str, at: list[int]) -> None:
    findings = Findings()
    wanted = judge(text, RULES, findings)
    out, found = streamed(cut(text, at))
    assert out == wanted
    assert found.hits == findings.hits


@pytest.mark.parametrize("name", SAMPLES)
def test_at_every_place(name: str) -> None:
    secret, mask = SAMPLES[name]
    text = f"so {secret} it"
    assert judge(text, RULES[:-1], Findings()) == f"so {mask} it"
    for place in range(len(text) + 1):
        for other in range(place, len(text) + 1, 3):
            assert streamed([text[:place], text[place:other], text[other:]], RULES[:-1])[0] == f"so {mask} it"


def test_a_match_that_may_go_on_waits() -> None:
    rules = [of_pattern(r"\bcat\b", Terms("g"), streamed=True)]
    matcher = Matcher(rules, Findings(), Hold())
    assert not matcher.passes("a cat")
    assert matcher.feed("a cat", 0.0) == [("a ", 2, False)]
    assert matcher.held == 3
    assert matcher.feed("egory", 0.0) == [("category", 8, False)]
    assert matcher.passes(" dog")


def test_with_nothing_in_sight_nothing_is_held() -> None:
    findings = Findings()
    matcher = Matcher([built_in(name, Terms("g")) for name in ("card", "ssn", "iban", "private_key", "api_token")], findings, Hold())
    assert all(matcher.passes(word) for word in ("Hello", " there", ",", " how", " is", " it", " going", "?"))
    assert findings.held_chars == 0


def test_overlapping_matches_are_one_mask_that_of_the_first() -> None:
    rules = [of_pattern("abcd", Terms("g", mask="<1>"), streamed=True), of_pattern("cdef", Terms("g", mask="<2>"), streamed=True)]
    assert judge("xabcdefx abcd cdef", rules, Findings()) == "x<1>x <1> <2>"


def test_audit_counts_and_holds_nothing() -> None:
    findings = Findings()
    matcher = Matcher([built_in("email", Terms("g", Action.AUDIT))], findings, Hold())
    for piece in ("write to jane", "@exam", "ple.com", " please"):
        assert "".join([text for text, _, _ in matcher.feed(piece, 0.0)]) == piece
    assert findings.hits == {("g", "audit"): 1}


@pytest.mark.parametrize("closed", [True, False])
def test_the_bound_in_characters(closed: bool) -> None:
    rules = [of_pattern("x{50}y", Terms("slow", closed=closed), streamed=True)]
    out, findings = streamed(["x" * 30, "x" * 10, "z"], rules, Hold(chars=20))
    if closed:
        assert findings.rejection is not None
        assert (findings.rejection.guard, out) == ("slow", "")
    else:
        assert findings.rejection is None
        assert out == "x" * 40 + "z"
        assert findings.let_go["slow"]


@pytest.mark.parametrize("closed", [True, False])
def test_the_bound_in_time(closed: bool) -> None:
    findings = Findings()
    matcher = Matcher([of_pattern("secret", Terms("slow", closed=closed), streamed=True)], findings, Hold(seconds=2.0))
    assert matcher.feed("a sec", 10.0) == [("a ", 2, False)]
    assert matcher.feed("r", 11.0) == []
    assert matcher.deadline() == 12.0
    assert matcher.expire(11.9) == []
    released = matcher.expire(12.0)
    assert (findings.rejection is not None) is closed
    assert released == ([] if closed else [("secr", 4, False)])
    assert closed or findings.held_seconds == 2.0


def test_full_stops_behind_a_key_that_may_go_on_are_held_within_the_bounds() -> None:
    findings = Findings()
    matcher = Matcher([built_in("cloud_key", Terms("d"))], findings, Hold(chars=10, seconds=3.0))
    out = matcher.feed("AKIAIOSFODNN7EXAMPLE.", 100.0)
    assert matcher.deadline() == 103.0
    out += matcher.expire(103.0)
    assert (matcher.deadline(), matcher.held) == (None, 0)
    out += matcher.feed("rest", 104.0)
    for _ in range(20):
        out += matcher.feed(".", 104.0)
    assert matcher.held <= 10
    out += matcher.feed("rest and", 104.0)
    out += matcher.finish(105.0)
    told = "".join([text for text, _, _ in out])
    assert told.startswith("[CLOUD_KEY].")
    assert told.endswith(" and")
    assert "rest" not in told
    assert findings.rejection is None


@pytest.mark.parametrize("closed", [True, False])
def test_a_pattern_that_runs_away_is_stopped(closed: bool) -> None:
    rule = of_pattern(r"(?:a|aa){1,200}z", Terms("redos", closed=closed, seconds=0.01), streamed=True)
    findings = Findings()
    text = "a" * 60 + "cz"
    assert judge(text, [rule], findings) == text
    assert (findings.rejection is not None) is closed
    assert bool(findings.let_go) is not closed


@pytest.mark.parametrize(("action", "closed"), [(Action.MASK, False), (Action.AUDIT, True)])
def test_a_pattern_that_runs_away_again_and_again_is_given_up(action: Action, closed: bool) -> None:
    """While it is searched for, nobody is served: neither all of a long answer nor many short ones may cost that each time."""
    rule = of_pattern(r"(?:a|aa){1,200}z", Terms("redos", action, closed=closed, seconds=0.01), streamed=True)
    findings = Findings()
    began = time.perf_counter()
    for _ in range(40):
        matcher = Matcher([rule], findings, Hold())
        told = [piece for _ in range(100) for piece in matcher.feed("aaaa", 0.0)] + matcher.finish(0.0)
        assert "".join([piece for piece, _, _ in told]) == "a" * 400
    assert judge("a" * 400, [rule], findings) == "a" * 400
    assert time.perf_counter() - began < 2.0
    assert findings.rejection is None
    assert findings.let_go == ({"redos": 8} if action is Action.MASK else {})
    other = Findings()
    assert judge("it is aaz", [rule], other) == ("it is [MASKED]" if action is Action.MASK else "it is aaz")
    assert other.hits, "it is of that exchange alone"


def test_what_is_kept_does_not_grow() -> None:
    matcher = Matcher(RULES, Findings(), Hold())
    for _ in range(2000):
        matcher.feed("4111 1111 1111 1111 and jane@example.com, then a word or two. ", 0.0)
    kept: list[Any] = [getattr(matcher, name) for name in Matcher.__slots__]
    assert all(len(value) < 200 for value in kept if hasattr(value, "__len__"))


@pytest.mark.parametrize(("words", "text", "told"), [
    (["cat", "C++"], "catalog, cat and c++x", "catalog, *** and ***x"),
    (["c", "c++"], "C and C++ are old", "*** and *** are old"),
    (["\u673a\u5bc6"], "\u8fd9\u662f\u673a\u5bc6\u6587\u4ef6", "\u8fd9\u662f***\u6587\u4ef6"),
    (["\ube44\ubc00", "cat"], "\ube44\ubc00\uc740 catalog", "***\uc740 catalog"),
    (["\u0915\u0940"], "\u0915\u0940 \u0915\u0940\u0932", "*** \u0915\u0940\u0932"),
    (["blue horizon", "caf"], "\u3053\u308c\u306fBlue Horizon\u3067\u3059 caf\u00e9", "\u3053\u308c\u306f***\u3067\u3059 caf\u00e9"),
    (["z\u00fcrich"], "Z\u00dcRICH, z\u00fcrichs", "***, z\u00fcrichs"),
])  # fmt: skip
def test_words_of_every_kind(words: list[str], text: str, told: str) -> None:
    rule = of_words(words, Terms("g", mask="***"))
    assert judge(text, [rule], Findings()) == told
    matcher = Matcher([rule], Findings(), Hold())
    assert "".join(piece for char in text for piece, _, _ in matcher.feed(char, 0.0)) + "".join(p for p, _, _ in matcher.finish(0.0)) == told
