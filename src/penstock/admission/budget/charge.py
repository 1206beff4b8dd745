"""What an exchange is charged: the provider's figures, and ours where it gave none.

Protocols count differently (`vocabulary.usage`); here `input` is all that was read and `output` all that was made, whatever the protocol.
An answer that did not come to its end, or whose provider says nothing, is charged what was made until then: a token per event of a stream, four
bytes of a body a token, four bytes of the request's body a token. An answer of which nothing came, and an error, cost what the provider
states, and nothing where it states nothing.
"""

from __future__ import annotations

from typing import Protocol

import msgspec
from msgspec.structs import asdict, replace

from penstock.admission.limits.estimate import BYTES_PER_TOKEN, input_of
from penstock.vocabulary.ids import ProtocolId
from penstock.vocabulary.usage import Usage

_ANTHROPIC, _GEMINI = ProtocolId.ANTHROPIC_MESSAGES.value, ProtocolId.GEMINI.value
MOST = 10**12
"""Tokens of one answer: what a provider states beyond it is no count, in the ledger too, and whoever keeps budgets could not add it up."""


class Pricing(Protocol):
    """What an answer costs."""

    def __call__(self, provider: str, model: str | None, protocol: str, usage: Usage, requested: str | None, tier: str | None) -> int | None:
        """In millionths of the currency; `None`: it is not known. Called per exchange, and now and then while one runs; must not block.

        `model`: the provider's word for it, once it has said one; `requested`: what it was asked for. `tier`: its word for how the answer was
        processed."""
        ...


class Made(msgspec.Struct, frozen=True, gc=False):
    """What is known of an answer."""

    protocol: str
    usage: Usage
    final: bool
    """The figures are the provider's last word, or an estimate of all of it."""
    events: int
    """Of a stream."""
    bytes_in: int
    """Of the request's body."""
    bytes_out: int
    streamed: bool
    failed: bool
    """It is an error, or nothing of it came."""


class Tokens(msgspec.Struct, frozen=True, gc=False):
    input: int
    output: int
    usage: Usage
    """The same in the provider's way of counting, with ours in the place of what it did not state: what it costs is found out by it."""


def tokens_of(made: Made) -> Tokens:
    stated = made.usage
    if made.final or made.failed:
        usage = stated
    else:
        guessed = made.events if made.streamed else made.bytes_out // BYTES_PER_TOKEN
        output = max(stated.output or 0, guessed)
        # A 0 that is not its last word is none: servers that translate open a Messages stream with it, for they do not know yet.
        opening = made.protocol == _ANTHROPIC and not _input(stated, made.protocol)
        known = input_of(made.bytes_in) if stated.input is None or opening else stated.input
        usage = replace(stated, input=known, output=output)
    tokens = Tokens(_input(usage, made.protocol), _output(usage, made.protocol), usage)
    if tokens.input > MOST or tokens.output > MOST:
        plain = asdict(replace(stated, kinds=None))
        known = {name: None if value is not None and value > MOST // 4 else value for name, value in plain.items()}
        return tokens_of(replace(made, usage=Usage(**known), final=False))
    return tokens


def _input(usage: Usage, protocol: str) -> int:
    found = usage.input or 0
    if protocol == _ANTHROPIC:
        found += (usage.cache_read or 0) + (usage.cache_write or 0)
    elif protocol == _GEMINI:
        found += usage.tool_use or 0
    return found


def _output(usage: Usage, protocol: str) -> int:
    return (usage.output or 0) + ((usage.reasoning or 0) if protocol == _GEMINI else 0)

