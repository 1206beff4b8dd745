"""Errors in the place of an answer: the provider's own words, but some quote what the model wrote (Groq's `failed_generation`). Guards of our own
judge them; what they reject of them is told in their words, with the provider's status. Guards that are asked outside are not asked about them: what
the model wrote is left out for these."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from penstock.policy.beside import FAILED
from penstock.policy.bodies import mask_place, mask_places
from penstock.policy.guards import Guards, holding, let_pass, unreadable
from penstock.policy.matcher import Findings, Rejection
from penstock.policy.places import Kind, Object
from penstock.policy.quoted import Unquoted, hides, quoted, unquoted
from penstock.policy.rules import MASK, Scope
from penstock.policy.texts import answer_texts
from penstock.protocols.openai_chat.chunk import UNREADABLE, decode_any, encode_any
from penstock.vocabulary.errors import UpstreamError
from penstock.vocabulary.ids import Operation, ProtocolId

_DEEPEST = 200


def guard_failure(protocol: ProtocolId, operation: Operation, body: bytes, guards: Guards, findings: Findings) -> bytes | None:
    """The body of an error as it may be told; `None`: as it came, or it is no JSON. Where it is rejected, `findings.rejection` says so."""
    try:
        value = decode_any(body)
    except UNREADABLE:
        return None
    fields = [cast("Object", one) for one in cast("list[Any]", value if isinstance(value, list) else [value]) if isinstance(one, dict)]
    changed = [mask_places(answer_texts(protocol, operation, one), guards.answers, findings) for one in fields]
    told = without_made(value) if _unasked(guards) else cast("Any", value)
    return encode_any(told) if any(changed) or told is not value else None


def guard_error(error: UpstreamError, guards: Guards, findings: Findings) -> UpstreamError:
    """The same of one that is told in words of ours; rejected, it has those of the guard."""
    spoken = guards.answers.get(Scope.ASSISTANT, ())
    told: Object = {"message": error.message, "members": decode_any(error.members) if error.members else None}
    changed = False
    for key, kind in (("message", Kind.TEXT), ("members", Kind.TREE)):
        if told[key] is None:
            continue
        changed = mask_place(told, key, kind, spoken, findings) or changed
        if hides(told[key]):
            changed = mask_place(Unquoted(told), key, Kind.TREE, spoken, findings) or changed
    if _unasked(guards):
        known, told = told, without_made(told)
        changed = changed or told is not known
    return replace(error, message=told["message"], members=encode_any(told["members"]) if error.members else b"") if changed else error


def unread_failure(guards: Guards, findings: Findings) -> None:
    """Of an error that is longer than is looked at, or that nobody here can read: rejected, unless every guard is open."""
    findings.rejection = unreadable(guards, "the provider's error could not be read")
    if findings.rejection is None:
        let_pass(findings, guards.answers, guards.ask_answers)


def in_words_of(rejection: Rejection, error: UpstreamError, refusal: str) -> UpstreamError:
    """`error` as it is told where a guard rejects it."""
    return replace(error, message=rejection.message or refusal, members=b"")


def _unasked(guards: Guards) -> bool:
    """Is there a guard outside for which an answer would wait?"""
    return bool(holding({}, guards.ask_answers))


def without_made(value: Any) -> Any:
    """`value`, an error, without what a model made, also where it quotes another server's error; the same object where there is nothing of it."""
    plain = unquoted(value)
    told = _without(plain, _DEEPEST)
    return value if told == plain else quoted(told, value)


def _without(value: Any, deep: int) -> Any:
    if isinstance(value, str):
        return MASK if FAILED in value else value
    if not deep:
        return None
    if isinstance(value, list):
        return [_without(item, deep - 1) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {name: _without(item, deep - 1) for name, item in cast("Object", value).items() if name != FAILED}
    return value
