"""Law 4: nothing grows with the length of a stream, and nothing passes its limit; what is over a limit is passed on, no longer understood."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from itertools import chain
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.pipeline.compose import Limits
from penstock.protocols import REGISTRY
from penstock.vocabulary.ids import ProtocolId
from penstock.vocabulary.outcome import Ending
from penstock.wire.budget import Budget
from tests.support.relays import CUTS, Relay, cut, every, zipped
from tests.support.streams import damaged, of

CHAT, RESPONSES, MESSAGES, GEMINI = ProtocolId.OPENAI_CHAT, ProtocolId.OPENAI_RESPONSES, ProtocolId.ANTHROPIC_MESSAGES, ProtocolId.GEMINI
SHARED = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType, Budget)
"""What an observer refers to and does not own."""


def size_of(root: object) -> int:
    """Bytes of all that `root` holds."""
    seen: set[int] = set()
    todo, total = [root], 0
    while todo:
        value: Any = todo.pop()
        if id(value) in seen or isinstance(value, SHARED):
            continue
        seen.add(id(value))
        total += sys.getsizeof(value)
        if isinstance(value, dict):
            todo += chain.from_iterable(value.items())  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
        elif isinstance(value, (list, tuple, set, frozenset)):
            todo += value  # pyright: ignore[reportUnknownArgumentType]
        else:
            slots: set[str] = set(
                chain.from_iterable([s] if isinstance(s := getattr(kind, "__slots__", ()), str) else s for kind in type(value).__mro__)
            )
            slots |= set(getattr(value, "__struct_fields__", ()))
            todo += [getattr(value, name) for name in slots if hasattr(value, name)]
            todo += getattr(value, "__dict__", {}).values()
    return total


def chat(n: int, delta: Any, **more: Any) -> Any:
    return {"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": None}], **more}


LONG = "x" * 300
# Streams without end, by protocol: what the model says, and what only a broken or hostile server would send. `n` is the number of the frame.
ENDLESS: dict[ProtocolId, dict[str, Callable[[int], Any]]] = {
    CHAT: {
        "text": lambda n: chat(n, {"content": f"word {n}"}),
        "thoughts": lambda n: chat(n, {"reasoning_content": f"word {n}"}),
        "usage in every chunk": lambda n: chat(n, {"content": "x"}, usage={"prompt_tokens": n, "completion_tokens": n}),
        "calls": lambda n: chat(n, {"tool_calls": [{"index": n, "id": f"call_{n}{LONG}", "function": {"name": f"f{n}{LONG}", "arguments": "{}"}}]}),
        "calls that never close": lambda n: chat(
            n, {"tool_calls": [{"index": n, "id": f"call_{n}", "function": {"name": f"f{n}", "arguments": "{["}}]}
        ),
        "one call that never ends": lambda n: chat(n, {"tool_calls": [{"index": 0, "function": {"arguments": '"k' + "[" * 50}}]}),
        "choices": lambda n: {"choices": [{"index": n, "delta": {"content": "x"}}]},
        "errors": lambda n: {"error": {"message": f"{n}{LONG * 40}", "type": LONG, "code": LONG}},
        "unknown": lambda n: {f"x{n}": n},
    },
    RESPONSES: {
        "text": lambda n: {
            "type": "response.output_text.delta",
            "delta": f"word {n}",
            "item_id": "i",
            "output_index": 0,
            "content_index": 0,
            "sequence_number": n,
        },
        "items": lambda n: {
            "type": "response.output_item.added",
            "output_index": n,
            "item": {"type": "function_call", "id": f"fc_{n}{LONG}", "name": LONG, "call_id": f"{n}{LONG}"},
        },
        "calls": lambda n: {"type": "response.function_call_arguments.delta", "item_id": f"fc_{n}{LONG}", "output_index": n, "delta": "{"},
        "ended calls": lambda n: {
            "type": "response.output_item.done",
            "output_index": n,
            "item": {"type": "function_call", "id": f"fc_{n}", "name": "f", "arguments": "{}"},
        },
        "parts": lambda n: {
            "type": "response.reasoning_summary_text.delta",
            "delta": "x",
            "item_id": f"rs_{n}",
            "output_index": n,
            "summary_index": n,
        },
        "heads": lambda n: {"type": "response.created", "response": {"id": f"resp_{n}{LONG * 4}", "model": f"m{n}{LONG * 4}"}},
        "errors": lambda n: {"type": "error", "error": {"message": f"{n}{LONG * 40}", "code": LONG, "type": LONG}},
        "unknown": lambda n: {"type": f"response.x{n}"},
    },
    MESSAGES: {
        "text": lambda n: {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": f"word {n}"}},
        "blocks": lambda n: {
            "type": "content_block_start",
            "index": n,
            "content_block": {"type": "tool_use", "id": f"{n}{LONG}", "name": LONG, "input": {}},
        },
        "texts that never close": lambda n: {"type": "content_block_start", "index": n, "content_block": {"type": "text", "text": ""}},
        "blocks without a number": lambda n: {
            "type": "content_block_start",
            "content_block": {"type": "tool_use", "id": str(n), "name": "f", "input": {"a": LONG}},
        },
        "usage": lambda n: {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": n, "server_tool_use": {f"x{n}_requests": 1}},
        },
        "heads": lambda n: {"type": "message_start", "message": {"id": f"msg_{n}", "model": f"m{n}", "usage": {"input_tokens": n}}},
        "pings": lambda n: {"type": "ping", "n": n},
        "errors": lambda n: {"type": "error", "error": {"type": LONG, "message": f"{n}{LONG * 4}"}},
        "unknown": lambda n: {"type": f"x{n}"},
    },
    GEMINI: {
        "text": lambda n: {
            "candidates": [{"content": {"parts": [{"text": f"word {n}"}]}, "index": 0}],
            "usageMetadata": {"promptTokenCount": n, "candidatesTokenCount": n},
        },
        "calls": lambda n: {
            "candidates": [{"content": {"parts": [{"functionCall": {"name": f"f{n}{LONG}", "id": f"{n}", "args": {"a": LONG}}}]}, "index": 0}]
        },
        "calls that never end": lambda n: {
            "candidates": [{"content": {"parts": [{"functionCall": {"name": f"f{n}", "willContinue": True}}]}, "index": n % 64}]
        },
        "candidates": lambda n: {"candidates": [{"content": {"parts": [{"text": "x"}]}, "index": n}]},
        "feedback": lambda n: {"promptFeedback": {"blockReason": f"SAFETY{n}"}, "responseId": f"{n}", "modelVersion": f"m{n}"},
        "errors": lambda n: {"error": {"code": 500, "message": f"{n}{LONG}", "status": "INTERNAL", "details": [{"reason": LONG}]}},
        "details": lambda n: {"usageMetadata": {"promptTokensDetails": [{"modality": "AUDIO", "tokenCount": n}] * 3}},
        "unknown": lambda n: {f"x{n}": n},
    },
}
STREAMS = [
    pytest.param(protocol, make, id=f"{protocol}-{name}".replace(" ", "_")) for protocol, kinds in ENDLESS.items() for name, make in kinds.items()
]


def frames(make: Callable[[int], Any], numbers: Iterable[int]) -> list[bytes]:
    return [b"data: " + json.dumps(make(n)).encode() + b"\n\n" for n in numbers]


@pytest.mark.parametrize(("protocol", "make"), STREAMS)
def test_what_is_held_does_not_grow_with_the_stream(protocol: ProtocolId, make: Callable[[int], Any]) -> None:
    """After several times more frames than any memory has places, as many again change nothing (but the width of counters and ids)."""
    relay = Relay(protocol)
    feed = relay.pipeline.feed
    for frame in frames(make, range(1100, 5000)):
        feed(frame, 0.0)
    before = size_of(relay.pipeline)
    for frame in frames(make, range(5000, 9000)):
        feed(frame, 0.0)
    assert size_of(relay.pipeline) <= before * 1.005 + 512
    assert before < 3 << 20
    assert relay.pipeline.events == 7900
    assert getattr(relay.pipeline, "failures", 0) == 0


def test_every_registered_protocol_has_its_endless_streams() -> None:
    assert set(ENDLESS) == set(REGISTRY)


def test_the_measure_can_tell() -> None:
    assert size_of([[n] for n in range(1000)]) > size_of([[n] for n in range(100)]) * 5


@pytest.mark.parametrize("protocol", REGISTRY)
def test_a_plain_stream_costs_little(protocol: ProtocolId) -> None:
    """Two KiB of Python objects for scanner, observer and relay: a tenth of what an open stream may cost in all."""
    relay = Relay(protocol)
    for frame in frames(ENDLESS[protocol]["text"], range(500)):
        relay.pipeline.feed(frame, 0.0)
    assert size_of(relay.pipeline) < 4096


@pytest.mark.parametrize("protocol", REGISTRY)
@given(data=st.data(), limit=st.integers(1, 2000), total=st.integers(0, 2000))
def test_nothing_passes_its_limit(protocol: ProtocolId, data: st.DataObject, limit: int, total: int) -> None:
    budget = Budget(total)
    relay = Relay(protocol, limits=Limits(frame=limit), budget=budget)
    came = 0
    for chunk in cut(data.draw(damaged(protocol)), data.draw(CUTS)):
        relay.feed(chunk)
        came += len(chunk)
        assert 0 <= budget.used <= min(limit, total)
        assert came - len(relay.given) == budget.used
    relay.finish(clean=data.draw(st.booleans()))
    assert budget.used == 0


@pytest.mark.parametrize("protocol", REGISTRY)
@pytest.mark.parametrize("size", [1 << 20, 7, 1])
def test_a_frame_over_the_limit(protocol: ProtocolId, size: int) -> None:
    """Passed on, not understood, counted by the frame's length and not by its chunks; nothing is claimed and nothing is put in."""
    case = min(of(protocol), key=lambda c: len(c.body))
    big = b"data: " + b"y" * 40_000 + b"\n\n"
    for clean in (True, False):
        relay = Relay(protocol, limits=Limits(frame=30_000)).feed(*every(big + case.body, size)).finish(clean=clean)
        assert relay.out == big + case.body
        assert relay.outcome is not None
        assert relay.outcome.ending is Ending.UNVERIFIED
        assert not relay.spoke
        assert relay.seen.stop_reason == case.expected["stop_reason"], "the frames behind it are understood again"


@pytest.mark.parametrize("protocol", REGISTRY)
def test_the_shared_budget_is_a_limit_too(protocol: ProtocolId) -> None:
    case = min(of(protocol), key=lambda c: len(c.body))
    budget = Budget(100)
    budget.take(95)
    relay = Relay(protocol, budget=budget).feed(*every(case.body, 9)).finish()
    assert relay.out == case.body
    assert relay.outcome is not None
    assert relay.outcome.ending is Ending.UNVERIFIED
    assert budget.used == 95


@given(
    body=st.binary(max_size=400),
    at=CUTS,
    limit=st.integers(0, 300),
    total=st.integers(0, 300),
    status=st.sampled_from([200, 500]),
    gzip=st.booleans(),
)
def test_copies_of_bodies(body: bytes, at: list[int], limit: int, total: int, status: int, gzip: bool) -> None:
    budget = Budget(total)
    relay = Relay(CHAT, stream=False, status=status, limits=Limits(body=limit), budget=budget, gzip=gzip)
    for chunk in cut(zipped(body) if gzip else body, at):
        relay.feed(chunk)
        assert 0 <= budget.used <= min(limit, total)
    relay.finish()
    assert relay.out == body
    assert budget.used == 0


def test_a_small_gzip_that_swells_beyond_measure_is_cut_off() -> None:
    bomb = zipped(bytes(80 << 20), 9)
    assert len(bomb) < 1 << 20
    relay = Relay(CHAT, gzip=True, limits=Limits(frame=1 << 20), budget=Budget(1 << 20)).feed(bomb)
    assert len(relay.given) <= 65 << 20
    relay.finish()
    assert relay.outcome is not None
    assert relay.outcome.ending is not Ending.COMPLETE
    assert relay.budget.used == 0
