"""Texts inside of the JSON of a call's arguments: decoded, judged, and written again as they were."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.policy.channels import ArgumentsChannel, judge_arguments
from penstock.policy.matcher import Findings, Hold
from tests.support.guards import SAMPLES, all_rules

RULES = all_rules()
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=12),
              st.sampled_from([f"x {secret} y" for secret, _ in SAMPLES.values()])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def through(text: str, marks: list[int], *, judged: bool = True) -> str:
    channel = ArgumentsChannel(RULES if judged else (), Findings(), Hold())
    places = [0, *sorted(mark % (len(text) + 1) for mark in marks), len(text)]
    out = "".join([channel.push(text[a:b], 0.0) for a, b in itertools.pairwise(places)])
    return out + channel.finish(0.0)


@given(value=VALUES, ascii_only=st.booleans(), marks=st.lists(st.integers(0, 1 << 16), max_size=10), indent=st.sampled_from([None, 1]))
def test_json_stays_json_and_pieces_do_not_matter(value: object, ascii_only: bool, marks: list[int], indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    wanted = judge_arguments(text, RULES, Findings())
    json.loads(wanted)
    assert through(text, marks) == wanted
    assert through(text, marks, judged=False) == text


@pytest.mark.parametrize("name", SAMPLES)
def test_every_secret_in_a_string(name: str) -> None:
    secret, mask = SAMPLES[name]
    for ascii_only in (True, False):
        text = json.dumps({"to": f'"é\n{secret}\t😀"', "n": [1, True]}, ensure_ascii=ascii_only)
        for place in range(len(text) + 1):
            assert json.loads(through(text, [place])) == {"to": f'"é\n{mask}\t😀"', "n": [1, True]}


def test_numbers_and_names_are_judged() -> None:
    assert json.loads(through('{"card": 4111111111111111, "a@b.com": -1.5e3}', [12, 20])) == {"card": "[CARD]", "[EMAIL]": -1.5e3}


@pytest.mark.parametrize("text", ["not json", '{"a":"\\q\\u12zz \\ud83d\\n \\ud83dx \\ud83d\\u0041"}', '"abc\\', '{"a": "x\\ud83d', "[1, 2", ""])
def test_what_is_no_json_passes_as_it_is(text: str) -> None:
    for place in range(len(text) + 1):
        assert through(text, [place]) == text


def test_what_is_no_json_is_judged_all_the_same() -> None:
    assert through("mail jane@example.com now", [8, 11]) == "mail [EMAIL] now"
