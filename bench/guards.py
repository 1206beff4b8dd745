"""What guards cost on an ordinary chunk of a Chat stream, in one process: the stage alone, without sockets.

    python bench/guards.py

Prints microseconds per chunk: the relay without guards, and with six regex guards that find nothing, that hold each word (e-mail), and of a user's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from penstock.pipeline.guarded import GuardedStream
from penstock.pipeline.stream import StreamRelay
from penstock.policy.guards import Guard, Guards
from penstock.policy.rules import Rule, Terms, built_in, of_pattern
from penstock.protocols import REGISTRY
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.wire.budget import Budget
from penstock.wire.sse import Scanner

WORDS = ["The", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", ",", "and", "in", "2024", "a", "hundred", "people", "saw", "it",
    ".", "They", "said", "that", "it", "was", "not", "the", "first", "time", ",", "nor", "would", "it", "be", "the", "last", ":", "foxes", "do",
    "that", "when", "nobody", "looks", "."]
CHAT = REGISTRY[ProtocolId.OPENAI_CHAT]
USERS = (r"\bproject-\w{1,20}", r"(?i)\bconfidential\b", r"\b\d{3}-\d{4}\b", r"[A-Z]{3}-\d{6}", r"\binternal use\b", r"#\d{5}")


def chunk(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
    fields = {"id": "chatcmpl-AbCdEfGhIjKlMnOpQrSt", "object": "chat.completion.chunk", "created": 1760000000, "model": "gpt-4o-2024-08-06",
              "system_fingerprint": "fp_0123456789", "choices": [choice]}
    return b"data: " + json.dumps(fields, separators=(",", ":")).encode() + b"\n\n"


FRAMES = [chunk(" " + word) for word in WORDS] * 200


def relay(rules: Sequence[Rule]) -> StreamRelay:
    parts = Scanner(1 << 20, Budget(1 << 24)), CHAT.observer(Operation.CHAT), CHAT.error_frame, 0.0
    if not rules:
        return StreamRelay(*parts)
    stream = GuardedStream(*parts)
    stream.guard(Guards([Guard("bench", tuple(rules))]), CHAT, Operation.CHAT)
    return stream


def measure(rules: Sequence[Rule]) -> float:
    best = float("inf")
    for _ in range(7):
        stream = relay(rules)
        stream.feed(chunk("x"), 0.0)
        began = time.process_time()
        feed = stream.feed
        for frame in FRAMES:
            feed(frame, 1.0)
        best = min(best, (time.process_time() - began) / len(FRAMES) * 1e6)
    return best


def main() -> None:
    terms = Terms("bench")
    kinds: dict[str, list[Rule]] = {
        "none": [],
        "card, phone, ssn, iban, api_token, private_key": [built_in(n, terms) for n in ("card", "phone", "ssn", "iban", "api_token", "private_key")],
        "six patterns of a user": [of_pattern(pattern, terms, streamed=True) for pattern in USERS],
        "email and five of the first": [built_in(n, terms) for n in ("email", "card", "phone", "ssn", "iban", "api_token")],
    }  # fmt: skip
    for name, rules in kinds.items():
        print(f"{name:50} {measure(rules):6.2f} us per chunk")


if __name__ == "__main__":
    main()
