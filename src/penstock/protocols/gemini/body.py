"""Whole bodies as JSON values: what assembling and unfolding share. Not on the hot path, so plain `json`: it keeps integers of any size."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn, cast

from penstock.protocols.contract import BodyError
from penstock.protocols.gemini.words import NOT_BLOCKED, NOT_FINISHED


def load(data: bytes) -> dict[str, Any]:
    """The object that `data` is. Raises `BodyError` where it is none, or is an error that the provider tells."""
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise BodyError(f"not JSON: {error}") from None
    if isinstance(value, list) and len(cast("list[object]", value)) == 1:
        value = cast("list[object]", value)[0]  # Google wraps some errors so
    if not isinstance(value, dict):
        raise BodyError("not a JSON object")
    found = cast("dict[str, Any]", value)
    if found.get("error") is not None:
        raise BodyError("the provider told an error")
    return found


def dump(value: dict[str, Any]) -> bytes:
    """Compact UTF-8 JSON."""
    try:
        try:
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        except UnicodeEncodeError:  # a lone surrogate: only an escape can write it
            return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise BodyError(f"cannot be written as JSON: {error}") from None


def frame(value: dict[str, Any]) -> bytes:
    """One event as Google sends it: the data, CRLF, no name and no comment ever (its SDK stumbles over both)."""
    return b"data: " + dump(value) + b"\r\n\r\n"


def finished(candidate: dict[str, Any]) -> bool:
    """Does the candidate have a finish reason that says something?"""
    reason = candidate.get("finishReason")
    return isinstance(reason, str) and reason not in NOT_FINISHED


def complete(body: dict[str, Any]) -> bool:
    """Is it a whole answer: every candidate finished and at least one there, or the prompt blocked?"""
    feedback = body.get("promptFeedback")
    if isinstance(feedback, dict):
        reason = cast("dict[str, Any]", feedback).get("blockReason")
        if isinstance(reason, str) and reason not in NOT_BLOCKED:
            return True
    candidates = body.get("candidates")
    if not isinstance(candidates, list) or not candidates:
        return False
    return all(isinstance(c, dict) and finished(cast("dict[str, Any]", c)) for c in cast("list[object]", candidates))


def plain(part: object) -> bool:
    """Text and nothing else but the `thought` flag: a part that may be cut, and be grown by what follows.

    A part with a signature is neither: Google asks that signed parts be sent back as they came, not merged with their neighbours
    (ai.google.dev/gemini-api/docs/thought-signatures).
    """
    if not isinstance(part, dict):
        return False
    fields = cast("dict[str, Any]", part)
    return isinstance(fields.get("text"), str) and all(key in ("text", "thought") for key in fields)


def continues(part: dict[str, Any], following: object) -> bool:
    """Would `following` grow `part` if it came first in the next frame? Both plain, with the same flag in the same spelling."""
    if not plain(part) or not plain(following):
        return False
    other = cast("dict[str, Any]", following)
    return ("thought" in part) == ("thought" in other) and part.get("thought") is other.get("thought")


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is out of range")
    return number
