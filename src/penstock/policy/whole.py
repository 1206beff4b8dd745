"""Texts that are there already, judged by the engine of the streams."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.policy.matcher import Findings, Hold, Matcher
from penstock.policy.rules import Rule

_NO_HOLD = Hold(chars=1 << 62)


def judge(text: str, rules: Sequence[Rule], findings: Findings) -> str:
    """`text` with its matches masked; the same object where nothing is. Where it is to be rejected, `findings.rejection` says so."""
    if not rules or findings.rejection is not None:
        return text
    matcher = Matcher(rules, findings, _NO_HOLD)
    if matcher.passes(text):
        return text
    pieces = matcher.take(text)
    if not any(masked for _, _, masked in pieces):
        return text
    return "".join([piece for piece, _, _ in pieces])
