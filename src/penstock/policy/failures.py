"""Errors in the place of an answer: the provider's own words, but some quote what the model wrote (Groq's `failed_generation`). Guards of our own
judge them; what they reject of them is told in their words, with the provider's status."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from penstock.policy.bodies import mask_place, mask_places
from penstock.policy.guards import Rules
from penstock.policy.matcher import Findings, Rejection
from penstock.policy.places import Kind, Object
from penstock.policy.rules import Scope
from penstock.policy.texts import answer_texts
from penstock.policy.whole import judge
from penstock.protocols.openai_chat.chunk import UNREADABLE, decode_any, encode_any
from penstock.vocabulary.errors import UpstreamError
from penstock.vocabulary.ids import Operation, ProtocolId


def guard_failure(protocol: ProtocolId, operation: Operation, body: bytes, rules: Rules, findings: Findings) -> bytes | None:
    """The body of an error with what was found masked; `None`: nothing was, or it is no JSON. Where it is rejected, `findings.rejection` says so."""
    try:
        value = decode_any(body)
    except UNREADABLE:
        return None
    fields = [cast("Object", one) for one in cast("list[Any]", value if isinstance(value, list) else [value]) if isinstance(one, dict)]
    changed = [mask_places(answer_texts(protocol, operation, one), rules, findings) for one in fields]
    return encode_any(value) if any(changed) else None


def guard_error(error: UpstreamError, rules: Rules, findings: Findings) -> UpstreamError:
    """The same of one that is told in words of ours; rejected, it has those of the guard."""
    spoken = rules.get(Scope.ASSISTANT, ())
    message = None if error.message is None else judge(error.message, spoken, findings)
    holder = {"members": error.members and decode_any(error.members)}
    changed = bool(error.members) and mask_place(holder, "members", Kind.TREE, spoken, findings)
    if message is not error.message or changed:
        error = replace(error, message=message, members=encode_any(holder["members"]) if changed else error.members)
    return error


def in_words_of(rejection: Rejection, error: UpstreamError, refusal: str) -> UpstreamError:
    """`error` as it is told where a guard rejects it."""
    return replace(error, message=rejection.message or refusal, members=b"")
