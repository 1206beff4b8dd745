"""Streams of each protocol for tests: recorded ones, mutated ones, long ones, and the frame with which each is over."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, cast

from hypothesis import settings
from hypothesis import strategies as st

from penstock.vocabulary.ids import ProtocolId
from tests.support.corpus import Case, cases, distinct
from tests.support.relays import data_of, frames_of

SMALL = 20_000
"""Bytes up to which a recording is cut and mutated again and again."""

few = settings(max_examples=max(5, (settings.default or settings()).max_examples // 4))
"""For what is tried on each of many recordings: all of them together are many examples."""


@cache
def small() -> tuple[Case, ...]:
    """A few of each protocol, no two alike."""
    return tuple(case for case in distinct() if len(case.body) < SMALL)


@cache
def of(protocol: ProtocolId) -> tuple[Case, ...]:
    return tuple(case for case in small() if case.recording.protocol is protocol)


def named(found: tuple[Case, ...]) -> dict[str, Any]:
    """Arguments of `pytest.mark.parametrize` for recordings."""
    return {"argnames": "case", "argvalues": found, "ids": [case.name for case in found]}


def as_array(stream: bytes) -> bytes:
    """The same elements in Gemini's other framing, punctuated as Google does it."""
    return b"[" + b",\r\n".join(data_of(frame)[1] for frame in frames_of(stream)) + b"]"


_TERMINAL: dict[ProtocolId, Callable[[bytes], bool]] = {
    ProtocolId.OPENAI_CHAT: lambda data: data == b"[DONE]",
    ProtocolId.OPENAI_RESPONSES: lambda data: json.loads(data).get("type") in ("response.completed", "response.incomplete", "response.failed"),
    ProtocolId.ANTHROPIC_MESSAGES: lambda data: json.loads(data).get("type") == "message_stop",
    ProtocolId.GEMINI: lambda data: any(c.get("finishReason") for c in json.loads(data).get("candidates", ())),
}


def complete_at(case: Case) -> int:
    """Bytes up to the end of the frame with which the recording is complete (Gemini: with which a clean end would complete it). Where lines end
    with CRLF, the CR of the empty line is enough."""
    end = 0
    for frame in frames_of(case.body):
        end += len(frame)
        data = data_of(frame)[1]
        if data and _TERMINAL[case.recording.protocol](data):
            return end - 1 if frame.endswith(b"\r\n") else end
    raise AssertionError(f"{case.name} is not complete")


COMPLETE = tuple(case for case in cases() if case.expected["outcome"] == "COMPLETE")

# Values where another type is promised.
ODD: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False),
    st.sampled_from(["", "0", "x", "[DONE]", "\ud83d", "\U0001f600" * 3]),
    st.just([]), st.just({}), st.just([None]), st.just([[]]), st.just({"type": None}), st.just([{}]), st.just({"error": {}}),
    st.just([{"index": "0"}]),
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place inside a JSON value."""
    yield path
    if isinstance(value, dict):
        for key, inner in cast("dict[str, Any]", value).items():
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(cast("list[Any]", value)):
            yield from places(inner, (*path, index))


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """`value` with `new` at `path`."""
    if not path:
        return new
    copied: Any = value.copy()
    copied[path[0]] = put(copied[path[0]], path[1:], new)
    return copied


@st.composite
def twisted(draw: st.DrawFn, data: bytes) -> bytes:
    """A JSON text with one to three of its values replaced by values of other types."""
    value = json.loads(data)
    for _ in range(draw(st.integers(1, 3))):
        value = put(value, draw(st.sampled_from(list(places(value)))), draw(ODD))
    return json.dumps(value).encode()


@st.composite
def mutated(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes flipped, taken out, put in, doubled."""
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        size = draw(st.integers(0, 40))
        telling = [b"\n", b"\n\n", b"\r", b"data:", b"[DONE]", b'"', b"}", b"\\", b"{}", b"\xff", b"1e999", b"[" * 3000]
        piece = draw(st.one_of(st.binary(max_size=6), st.sampled_from(telling)))
        data = data[:at] + piece + data[at + draw(st.sampled_from([0, 1, size])) :]
    return data


@st.composite
def damaged(draw: st.DrawFn, protocol: ProtocolId) -> bytes:
    """A stream of the protocol, or what is left of one: frames left out, doubled, moved, twisted, mutated, random bytes between them."""
    case = draw(st.sampled_from(of(protocol)))
    frames = frames_of(case.body)
    start = draw(st.integers(0, len(frames)))
    chosen = frames[: draw(st.integers(0, 3))] + frames[start : start + draw(st.integers(0, 12))] + frames[-draw(st.integers(0, 3)) or len(frames) :]
    out: list[bytes] = []
    for frame in chosen:
        what = draw(st.integers(0, 9))
        if what == 0:
            continue
        if what == 1:
            frame = draw(mutated(frame))
        elif what == 2:
            frame = frame + frame
        elif what == 3:
            before = [b"\n", b": c\n\n", b"data\n\n", b"event: error\ndata: {}\n\n", b"data: [DONE]\n\n", b"\r\n\r\n", b"data: null\n\n"]
            frame = draw(st.sampled_from(before)) + frame
        elif what in (4, 5, 6):
            name, data = data_of(frame)
            if data.startswith(b"{"):
                frame = (b"event: " + name + b"\n" if name else b"") + b"data: " + draw(twisted(data)) + b"\n\n"
        out.append(frame)
    return b"".join(out)
