"""What a request may come to before it is answered: what is reserved for it, and what is charged where a provider says nothing.

Input by size: four bytes of a body are about a token, for English text and for JSON alike; a picture in base64 comes out too high, which only
reserves too much. Output by the request's own bound, else by what the same subject's answers lately came to, else `UNKNOWN`.
"""

from __future__ import annotations

from collections import OrderedDict
from math import inf
from typing import Any

import msgspec

from penstock.vocabulary.ids import ProtocolId

BYTES_PER_TOKEN = 4
UNKNOWN = 512
"""Output tokens of somebody's first answer without a bound."""
MOST_OUTPUT = 10**9
"""Tokens of one answer, at most, that are set aside: no model makes as many, and whoever keeps budgets must be able to add them up."""
_MOST = 10_000
"""Subjects whose average is kept; the oldest go."""
_WEIGHT = 0.2
"""Of the newest answer in an average."""


class _Generation(msgspec.Struct, rename="camel"):
    max_output_tokens: Any = None
    candidate_count: Any = None


class _Spelt(msgspec.Struct):
    """The same in the other spelling that Google takes (protobuf's JSON)."""

    max_output_tokens: Any = None
    candidate_count: Any = None


class _Bounds(msgspec.Struct):
    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None
    n: Any = None
    best_of: Any = None
    generation_config: _Generation | None = msgspec.field(default=None, name="generationConfig")
    spelt_config: _Spelt | None = msgspec.field(default=None, name="generation_config")


_decode = msgspec.json.Decoder(_Bounds).decode
_NO_GENERATION, _NO_SPELT = _Generation(), _Spelt()
_CHAT, _RESPONSES = ProtocolId.OPENAI_CHAT.value, ProtocolId.OPENAI_RESPONSES.value
_MESSAGES, _GEMINI = ProtocolId.ANTHROPIC_MESSAGES.value, ProtocolId.GEMINI.value


def stated_output(body: bytes | None, protocol: str | None = None) -> int | None:
    """The most output tokens that the request asks for, all of its alternative answers together; `None`: it says nothing that can be read. Where it
    says so twice, the greater number: of Chat's two words some providers know only the older one, and what is no word of its `protocol` bounds
    nothing (`None`: it may be any)."""
    if not body or (b"okens" not in body and b"\\u00" not in body):  # (a name may be spelled with escapes)
        return None
    try:
        found = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    config, spelt = found.generation_config or _NO_GENERATION, found.spelt_config or _NO_SPELT
    if protocol == _CHAT:
        most = _greatest(found.max_completion_tokens, found.max_tokens)
    elif protocol == _MESSAGES:
        most = _greatest(found.max_tokens)
    elif protocol == _RESPONSES:
        most = _greatest(found.max_output_tokens)
    elif protocol == _GEMINI:
        most = _greatest(config.max_output_tokens, spelt.max_output_tokens)
    elif protocol is None:
        most = _greatest(found.max_completion_tokens, found.max_tokens, found.max_output_tokens, config.max_output_tokens, spelt.max_output_tokens)
    else:
        return None
    times = _greatest(found.n, found.best_of, config.candidate_count, spelt.candidate_count, limit=128) or 1
    return min(most * times, MOST_OUTPUT) if most else None


def _greatest(*values: Any, limit: float = inf) -> int:
    """Of those that are whole numbers from 1 to `limit`; 0: none is."""
    found = 0
    for value in values:
        if type(value) is int and found < value <= limit:
            found = value
    return found


class _Behind(msgspec.Struct):
    background: Any = None


_decode_behind = msgspec.json.Decoder(_Behind).decode


def goes_on(body: bytes | None) -> bool:
    """Is the answer made whoever waits for it, and told by another path (Responses' `background`)?"""
    if not body or b'background"' not in body:
        return False
    try:
        return _decode_behind(body).background is True
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


def input_of(size: int) -> int:
    """Of a body of so many bytes."""
    return -(-size // BYTES_PER_TOKEN)


class Averages:
    """What the answers to each subject lately came to, in output tokens."""

    __slots__ = ("_means",)

    def __init__(self) -> None:
        self._means: OrderedDict[str, float] = OrderedDict()

    def learn(self, subject: str, output: int) -> None:
        means = self._means
        mean = means.get(subject)
        means[subject] = float(output) if mean is None else mean + _WEIGHT * (output - mean)
        means.move_to_end(subject)
        if len(means) > _MOST:
            means.popitem(last=False)

    def output_of(self, subject: str) -> int:
        mean = self._means.get(subject)
        return UNKNOWN if mean is None else max(1, round(mean))
