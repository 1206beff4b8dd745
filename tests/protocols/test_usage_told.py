"""What returns CONTENT and nothing else has changed no usage (`Observer.tells_usage`): a stream that runs against a budget relies on it."""

from __future__ import annotations

import random

import pytest

from penstock.protocols import REGISTRY
from penstock.protocols.contract import CONTENT
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.wire.budget import Budget
from penstock.wire.sse import Scanner
from tests.support.corpus import Case, cases

USAGES = [
    b'"usage":{"prompt_tokens":5,"completion_tokens":7,"input_tokens":5,"output_tokens":7}', b'"usage":{"output_tokens":9}', b'"usage":{}',
    b'"x_groq":{"usage":{"prompt_tokens":5,"completion_tokens":8}}', b'"usage":"none"',
]  # fmt: skip
TOLD = [case for case in cases() if REGISTRY[ProtocolId(case.recording.protocol)].observer(Operation.CHAT).tells_usage]


def events(body: bytes) -> list[tuple[bytes, bytes]]:
    frames = Scanner(1 << 26, Budget(1 << 27)).feed(body)
    return [(name, data) for name, data, _ in frames if data is not None]


def spoil(data: bytes, chance: random.Random) -> bytes:
    """With usage where it does not belong."""
    at = [index for index in range(len(data)) if data[index: index + 1] == b"{"]
    if not at or chance.random() < 0.5:
        return data
    index = chance.choice(at) + 1
    return data[:index] + chance.choice(USAGES) + b"," * (data[index: index + 1] != b"}") + data[index:]


@pytest.mark.parametrize("case", TOLD, ids=lambda case: case.name)
def test_content_alone_changes_no_usage(case: Case) -> None:
    for seed in range(4):
        chance = random.Random(seed)
        observer = REGISTRY[ProtocolId(case.recording.protocol)].observer(Operation.CHAT)
        for name, data in events(case.body):
            before = observer.usage
            mark = observer.observe(name, spoil(data, chance) if seed else data, 0.0)
            assert mark != CONTENT or observer.usage is before


def test_it_is_told_of_all_but_gemini() -> None:
    assert {ProtocolId(case.recording.protocol) for case in TOLD} == set(REGISTRY) - {ProtocolId.GEMINI}
