"""Guards for tests, and streams that say what they are told to, in every protocol."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from penstock.pipeline.guarded import GuardedStream
from penstock.pipeline.tail import TailBytes
from penstock.policy.guards import Guard, Guards
from penstock.policy.matcher import Hold
from penstock.policy.recognisers import RECOGNISERS
from penstock.policy.rules import Action, Rule, Terms, built_in, of_pattern, of_words
from penstock.protocols import REGISTRY
from penstock.vocabulary.events import (
    Ended,
    Event,
    ReasoningDelta,
    Started,
    Stopped,
    StopReason,
    TextDelta,
    ToolDelta,
    ToolEnded,
    ToolStarted,
    UsageSeen,
)
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.vocabulary.usage import Usage
from penstock.wire.array import ArraySplitter
from penstock.wire.budget import Budget
from penstock.wire.sse import Scanner, parse
from tests.support.relays import OPERATIONS

PATTERNS = (r"\bPRJ-[0-9]{4,8}\b", r"(?i)top\s{1,3}secret", r"\bcat\b")
WORDS = ("blue horizon", "zanzibar")
SAMPLES: dict[str, tuple[str, str]] = {
    "email": ("jane.doe+x@mail.example.co.uk", "[EMAIL]"),
    "phone": ("+1 (415) 555-2671", "[PHONE]"),
    "card": ("4111 1111 1111 1111", "[CARD]"),
    "ssn": ("123-45-6789", "[SSN]"),
    "sin": ("130 692 544", "[SIN]"),
    "iban": ("DE89 3704 0044 0532 0130 00", "[IBAN]"),
    "ip_v4": ("192.168.10.25", "[IP]"),
    "ip_v6": ("2001:db8:85a3::8a2e:370:7334", "[IP]"),
    "cloud_key": ("AKIAIOSFODNN7EXAMPLE", "[CLOUD_KEY]"),
    "api_token": ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "[TOKEN]"),
    "jwt": ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U", "[JWT]"),
    "private_key": ("-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\nq83vEjRW==\n-----END RSA PRIVATE KEY-----", "[PRIVATE_KEY]"),
    "pattern": ("PRJ-20417", "[MASKED]"),
    "words": ("Blue  Horizon", "[MASKED]"),
}
"""A secret for each recogniser, and what stands in its place."""


def all_rules(action: Action = Action.MASK, *, closed: bool = True) -> tuple[Rule, ...]:
    terms = Terms("house", action, closed=closed)
    return (*(built_in(name, terms) for name in RECOGNISERS), *(of_pattern(text, terms, streamed=True) for text in PATTERNS), of_words(WORDS, terms))


MASKING = Guards([Guard("house", all_rules())])
REJECTING = Guards([Guard("house", all_rules(Action.REJECT))])


def guarded(
    protocol: ProtocolId, guards: Guards = MASKING, *, operation: Operation | None = None, array: bool = False, kept: TailBytes | None = None
) -> GuardedStream:  # fmt: skip
    spec = REGISTRY[protocol]
    budget = Budget(1 << 28)
    scanner = ArraySplitter(1 << 24, budget) if array else Scanner(1 << 24, budget)
    stream = GuardedStream(scanner, spec.observer(operation or OPERATIONS[protocol]), spec.error_frame, 100.0, still=spec.keepalive, kept=kept)
    stream.request_id = "px-1"
    stream.guard(guards, spec, operation or OPERATIONS[protocol])
    return stream


def rule_guards(*rules: Rule, hold: Hold | None = None) -> Guards:
    return Guards([Guard("house", rules)], hold)


def events_of(pieces: Sequence[str], kind: str = "text") -> list[Event]:
    """An answer that says `pieces` as speech, as thought, or as one string in a call's arguments."""
    said: list[Event] = [Started("id-1", "model-1", 1_700_000_000)]
    if kind == "arguments":
        pieces = [json.dumps(piece)[1:-1] for piece in pieces]
        said.append(ToolStarted(0, "call-1", "send"))
        said += [ToolDelta(0, piece) for piece in ['{"to": "', *pieces, '", "n": 1}'] if piece]
        said.append(ToolEnded(0))
    else:
        made = TextDelta if kind == "text" else ReasoningDelta
        said += [made(piece, 0) for piece in pieces if piece]
    if kind == "thought":
        said.append(TextDelta("So.", 1))
    return [*said, Stopped(StopReason.TOOL_CALLS if kind == "arguments" else StopReason.STOP), UsageSeen(Usage(input=3, output=5)), Ended()]


def frames_saying(protocol: ProtocolId, pieces: Sequence[str], kind: str = "text") -> list[bytes]:
    """The frames of such an answer, each by itself."""
    renderer = REGISTRY[protocol].renderer(OPERATIONS[protocol])
    whole = b"".join([renderer.render(event) for event in events_of(pieces, kind)])
    end = b"\r\n\r\n" if b"\r\n\r\n" in whole else b"\n\n"
    return [frame + end for frame in whole.split(end) if frame]


def body_of(protocol: ProtocolId, frames: Iterable[bytes]) -> dict[str, Any]:
    """What a client that folds the stream has in the end."""
    assembler = REGISTRY[protocol].assembler(OPERATIONS[protocol])
    for frame in frames:
        name, data = parse(frame)
        if data is not None:
            assembler.feed(name, data)
    return json.loads(assembler.body())


def split_frames(data: bytes) -> list[bytes]:
    end = b"\r\n\r\n" if b"\r\n\r\n" in data else b"\n\n"
    return [frame + end for frame in data.split(end) if frame]
