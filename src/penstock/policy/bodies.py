"""Whole requests and answers: their texts judged in place, and nothing else of them changed.

A body in which nothing is masked leaves as the very bytes that came; but for a request that says something twice (`alike.names_in`), of which only
what was judged goes out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from penstock.policy.alike import known_alike, misread, names_in
from penstock.policy.channels import judge_arguments
from penstock.policy.guards import Rules, closed_guard, let_pass
from penstock.policy.matcher import Findings, Rejection
from penstock.policy.places import Kind, Object, Place, objects
from penstock.policy.rules import Rule
from penstock.policy.texts import answer_texts, request_texts
from penstock.policy.tokens import responses_spelt
from penstock.policy.whole import judge
from penstock.protocols.openai_chat.chunk import UNREADABLE, decode_any, encode_any
from penstock.vocabulary.ids import Operation, ProtocolId

_UNREAD_REQUEST = "the request could not be read"
_DEEPEST = 200
"""Levels of a JSON value that are looked into; none that a tool takes is deeper."""


def guard_request(protocol: ProtocolId, operation: Operation, body: bytes, rules: Rules, findings: Findings) -> bytes:
    """The body of a request as it may go out. Where it is to be rejected, `findings.rejection` says so."""
    fields = _read(body, rules, findings, _UNREAD_REQUEST)
    if fields is None:
        return body
    names = names_in(body)
    try:
        known = known_alike(protocol, operation, fields, names)
        if known is not None:
            rule = closed_guard(rules)
            if rule is not None:
                findings.rejection = misread(Rejection(rule.guard, "", in_stream=rule.in_stream), known)
                return body
            let_pass(findings, rules)
        changed = mask_places(request_texts(protocol, operation, fields), rules, findings)
        return _written(body, fields, changed or names is None)
    except RecursionError:  # requests within requests, deeper than any server reads
        _give_up(rules, findings, _UNREAD_REQUEST)
        return body


def guard_answer(protocol: ProtocolId, operation: Operation, body: bytes, rules: Rules, findings: Findings) -> bytes:
    """The same of an answer."""
    fields = _read(body, rules, findings, "the answer could not be read")
    if fields is None:
        return body
    changed = mask_places(answer_texts(protocol, operation, fields), rules, findings)
    if changed:
        drop_logprobs(fields)
    return _written(body, fields, changed)


def _read(body: bytes, rules: Rules, findings: Findings, why: str) -> Object | None:
    if not rules or not body:
        return None
    try:
        value = decode_any(body)
    except UNREADABLE:
        value = None
    if isinstance(value, dict):
        return cast("Object", value)
    _give_up(rules, findings, why)
    return None


def _give_up(rules: Rules, findings: Findings, why: str) -> None:
    rule = closed_guard(rules)
    if rule is not None:
        findings.rejection = findings.rejection or Rejection(rule.guard, why, rule.message, rule.in_stream)
    else:
        let_pass(findings, rules)


def _written(body: bytes, fields: Object, changed: bool) -> bytes:
    return encode_any(fields) if changed else body


def mask_places(places: Iterator[Place], rules: Rules, findings: Findings) -> bool:
    """Judge each text where it stands; was one changed?"""
    changed = False
    for holder, key, scope, kind in places:
        chosen = rules.get(scope)
        if not chosen:
            continue
        changed = mask_place(holder, key, kind, chosen, findings) or changed
        if findings.rejection is not None:
            return changed
    return changed


def mask_place(holder: Any, key: Any, kind: Kind, rules: Sequence[Rule], findings: Findings) -> bool:
    value = holder[key]
    if kind is Kind.TEXT:
        told: Any = judge(value, rules, findings)
    elif kind is Kind.ARGUMENTS:
        told = judge_arguments(value, rules, findings)
    else:
        told = _tree(value, rules, findings, 0)
    if told is value:
        return False
    holder[key] = told
    return True


def _tree(value: Any, rules: Sequence[Rule], findings: Findings, depth: int) -> Any:
    """`value` with its strings, names and numbers judged; the same object where nothing is masked."""
    if isinstance(value, str):
        return judge(value, rules, findings)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        spelt = str(value)
        told = judge(spelt, rules, findings)
        return value if told is spelt else told
    if depth > _DEEPEST:
        rule = next((rule for rule in rules if rule.closed), None)
        if rule is not None:
            findings.rejection = findings.rejection or Rejection(rule.guard, "it is nested too deeply to be judged", rule.message, rule.in_stream)
        return value
    changed = False
    if isinstance(value, list):
        items = cast("list[Any]", value)
        new = [_tree(item, rules, findings, depth + 1) for item in items]
        return new if any(a is not b for a, b in zip(new, items, strict=True)) else items
    fields = cast("Object", value)
    made: Object = {}
    for name, item in fields.items():
        told_name, told = judge(name, rules, findings), _tree(item, rules, findings, depth + 1)
        changed = changed or told_name is not name or told is not item
        made[told_name] = told
    return made if changed else fields


def drop_logprobs(fields: Object) -> None:
    """They spell out the very tokens that were masked."""
    for choice in objects(fields.get("choices")):
        if choice.get("logprobs") is not None:
            choice["logprobs"] = None
    for candidate in objects(fields.get("candidates")):
        candidate.pop("logprobsResult", None)
    for part in responses_spelt(fields):
        part["logprobs"] = []
