"""Law 8: the client receives the upstream's own bytes; with the one rewriting that there is, they differ exactly by the frames that it takes out.

The request's side of this law stands in `tests/exchange/test_compose_request.py`, that of heads and framing in `tests/exchange/test_drive.py`.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.vocabulary.ids import Operation, ProtocolId
from tests.support.corpus import Case, cases
from tests.support.relays import CUTS, cut, data_of, every, frames_of, relayed, zipped
from tests.support.streams import COMPLETE, as_array, few, named, of, small

CHAT = ProtocolId.OPENAI_CHAT
BOOKKEEPING = {"id", "object", "created", "model", "system_fingerprint", "service_tier", "obfuscation", "choices", "usage"}


def is_usage_only(frame: bytes) -> bool:
    """What asking for usage adds to a Chat stream (OpenAI's reference, `stream_options.include_usage`): one more chunk whose `choices` are an
    empty array and which has `usage`."""
    data = data_of(frame)[1]
    if not data.startswith(b"{"):
        return False
    chunk: dict[str, Any] = json.loads(data)
    return chunk.get("choices") == [] and bool(chunk.get("usage")) and set(chunk) <= BOOKKEEPING


@pytest.mark.parametrize(**named(cases()))
def test_identity(case: Case) -> None:
    for chunks in ([case.body], every(case.body, 4096), list(frames_of(case.body))):
        assert relayed(case.recording.protocol, chunks).out == case.body


@pytest.mark.parametrize("case", [c for c in cases() if c.recording.protocol is CHAT and len(c.body) < 20_000], ids=lambda c: c.recording.name)
@few
@given(at=CUTS, gzip=st.booleans())
def test_the_usage_frame_is_taken_out_and_nothing_else(case: Case, at: list[int], gzip: bool) -> None:
    body = zipped(case.body) if gzip else case.body
    relay = relayed(CHAT, cut(body, at), take_usage=True, gzip=gzip)
    assert relay.out == b"".join(frame for frame in frames_of(case.body) if not is_usage_only(frame))
    assert relay.seen.usage == relayed(CHAT, [case.body]).seen.usage, "it is counted all the same"


def test_some_recordings_have_such_a_frame_and_some_have_not() -> None:
    found = {any(map(is_usage_only, frames_of(case.body))) for case in cases() if case.recording.protocol is CHAT}
    assert found == {True, False}


USAGE = st.fixed_dictionaries({"prompt_tokens": st.integers(0, 99), "completion_tokens": st.integers(0, 99)})
ODD: list[dict[str, Any]] = [
    {"choices": [], "usage": None}, {"choices": []}, {"choices": None, "usage": {"prompt_tokens": 1}}, {"usage": {"prompt_tokens": 1}},
    {"choices": [], "moderation": {"x": 1}}, {"choices": [], "usage": {"prompt_tokens": 1}, "error": {"message": "m"}},
    {"choices": [], "usage": {}}, {"choices": [], "usage": {"prompt_tokens": 1}, "object": "chat.completion.chunk"},
]  # fmt: skip


def _with_usage(chunk: dict[str, Any]) -> st.SearchStrategy[Any]:
    return USAGE.map(lambda usage: {**chunk, "usage": usage})


CHUNKS: st.SearchStrategy[Any] = st.one_of(
    st.text(max_size=4).map(lambda text: {"choices": [{"index": 0, "delta": {"content": text}}]}),
    _with_usage({"choices": [{"index": 0, "delta": {"content": "x"}}]}),
    _with_usage({"id": "c", "choices": []}),
    _with_usage({"choices": [], "prompt_filter_results": [{"prompt_index": 0}]}),
    st.sampled_from(ODD),
)
BETWEEN = st.sampled_from([b"", b": keep-alive\n\n", b"\n", b"event: x\n\n", b"retry: 10\n\n"])


@given(chunks=st.lists(st.tuples(CHUNKS, BETWEEN, st.sampled_from([b"\n\n", b"\r\n\r\n"])), max_size=8), at=CUTS)
def test_any_chunks(chunks: list[tuple[Any, bytes, bytes]], at: list[int]) -> None:
    """Comments, empty lines and chunks that carry anything besides usage stay; so does each byte of what is around a frame that goes."""
    parts: list[tuple[bytes, bool]] = []
    for chunk, between, end in chunks:
        frame = b"data: " + json.dumps(chunk).encode() + end
        parts += [(between, True), (frame, not is_usage_only(frame))]
    parts.append((b"data: [DONE]\n\n", True))
    stream = b"".join(piece for piece, _ in parts)
    at = [place - (stream[place - 1 : place + 1] == b"\r\n") for place in (place % (len(stream) + 1) for place in at)]  # see the next test
    assert relayed(CHAT, cut(stream, at), take_usage=True).out == b"".join(piece for piece, stays in parts if stays)
    assert relayed(CHAT, cut(stream, at)).out == stream


def test_a_frame_takes_the_whole_of_its_line_end_with_it() -> None:
    """A CR at the end of a chunk already ends the frame; the LF that comes first in the next one belongs to it all the same."""
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":1}}\r\n\r\n'
    rest = b"data: [DONE]\r\n\r\n"
    for at in range(len(usage) + 1):
        assert relayed(CHAT, [usage[:at], usage[at:] + rest], take_usage=True).out == rest, f"cut at {at} of {len(usage)}"


@pytest.mark.parametrize("case", [c for c in small() if c.recording.protocol is not CHAT], ids=lambda c: c.name)
def test_other_protocols_have_nothing_to_take_out(case: Case) -> None:
    assert relayed(case.recording.protocol, every(case.body, 300), take_usage=True).out == case.body


def test_legacy_completions() -> None:
    frames = [
        b'data: {"id":"c","choices":[{"index":0,"text":"a","finish_reason":"stop"}]}\n\n',
        b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":1}}\n\n',
        b"data: [DONE]\n\n",
    ]
    assert relayed(CHAT, [b"".join(frames)], operation=Operation.COMPLETIONS, take_usage=True).out == frames[0] + frames[2]


@pytest.mark.parametrize("case", [c for c in COMPLETE if c.recording.protocol is ProtocolId.GEMINI], ids=lambda c: c.recording.name)
def test_arrays(case: Case) -> None:
    body = as_array(case.body)
    assert relayed(ProtocolId.GEMINI, every(body, 1000), array=True).out == body


@given(behind=st.sampled_from([b"", b"\n", b": bye\n\n", b"data: more\n\n", b"data: cut", b"\xff\xff"]), at=CUTS)
def test_what_comes_behind_the_terminal_event_goes_on_too(behind: bytes, at: list[int]) -> None:
    stream = of(CHAT)[0].body + behind
    assert relayed(CHAT, cut(stream, at)).out == stream
