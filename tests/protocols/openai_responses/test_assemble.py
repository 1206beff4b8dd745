"""Streams folded into bodies: the corpus, cuts, failures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.protocols.contract import BodyError
from penstock.protocols.openai_responses.assemble import ResponsesAssembler
from penstock.wire.sse import parse

CORPUS = Path(__file__).parents[2] / "corpus" / "openai_responses"
RECORDINGS = sorted(CORPUS.glob("*.sse"))


def frames(raw: bytes) -> list[tuple[bytes, bytes]]:
    return [(name, data) for name, data in (parse(part) for part in raw.split(b"\n\n")) if data is not None]


def feed(*stream: tuple[bytes, bytes]) -> ResponsesAssembler:
    assembler = ResponsesAssembler()
    for name, data in stream:
        assembler.feed(name, data)
    return assembler


def event(kind: str, **members: object) -> tuple[bytes, bytes]:
    return kind.encode(), json.dumps({"type": kind, **members}).encode()


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_corpus_gives_the_response_byte_for_byte(path: Path) -> None:
    recorded = frames(path.read_bytes())
    body = feed(*recorded).body()
    assert body in recorded[-1][1]
    assert json.loads(body) == json.loads(recorded[-1][1])["response"]


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_cut_at_any_frame_gives_no_body(path: Path) -> None:
    assembler = ResponsesAssembler()
    for name, data in frames(path.read_bytes())[:-1]:
        assembler.feed(name, data)
        with pytest.raises(BodyError, match=r"ended without response\.completed"):
            assembler.body()


@settings(deadline=None)
@given(st.sampled_from([path for path in RECORDINGS if path.stat().st_size < 10_000]), st.data())
def test_cut_inside_a_frame_gives_no_body(path: Path, data: st.DataObject) -> None:
    raw = path.read_bytes().rstrip(b"\n")
    assembler = ResponsesAssembler()
    try:
        for name, frame in frames(raw[: data.draw(st.integers(0, len(raw) - 1))]):
            assembler.feed(name, frame)
    except BodyError:
        return
    with pytest.raises(BodyError):
        assembler.body()


def test_incomplete_is_a_body() -> None:
    response: dict[str, Any] = {"id": "r", "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "output": []}
    assert json.loads(feed(event("response.incomplete", response=response)).body()) == response


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        ([], "ended without"),
        ([event("response.failed", response={"id": "r", "status": "failed", "error": {"code": "c", "message": "m"}})], "the response failed: c: m"),
        ([event("response.completed", response={"id": "r", "status": "failed", "error": None})], "the response failed: no reason"),
        ([event("response.cancelled", response={"id": "r", "status": "cancelled"})], "the response cancelled"),
        ([event("error", code="c", message="m")], "the provider reported an error: c: m"),
        ([event("error", error={"message": "m"})], "the provider reported an error: m"),
        ([event("response.completed")], "ended without"),
        ([event("response.done", response={"id": "r"})], "ended without"),
    ],
)
def test_what_gives_no_body(stream: list[tuple[bytes, bytes]], said: str) -> None:
    with pytest.raises(BodyError, match=said):
        feed(*stream).body()


@pytest.mark.parametrize(
    "stream",
    [
        [(b"response.created", b"{")],
        [event("response.completed", response=[])],
        [(b"response.completed", b'{"type":"response.completed","response":{"id":"\xff"}}')],
        [event("response.created", response={"id": "a"}), event("response.completed", response={"id": "b"})],
    ],
)
def test_contradictions(stream: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(BodyError):
        feed(*stream)


def test_finished_items_fill_an_output_that_is_missing() -> None:
    items = [{"type": "reasoning", "id": "a", "x": 1.0}, {"type": "message", "id": "b"}]
    done = [event("response.output_item.done", output_index=index, item=item) for index, item in reversed(list(enumerate(items)))]
    empty: list[dict[str, Any]] = [{}, {"output": None}, {"output": []}]
    for output in empty:
        body = feed(*done, event("response.completed", response={"id": "r", **output, "z": 1})).body()
        assert json.loads(body) == {"id": "r", "output": items, "z": 1}
    said = {"id": "r", "output": [{"type": "message", "id": "c"}]}
    assert json.loads(feed(*done, event("response.completed", response=said)).body()) == said


def test_half_surrogates_survive() -> None:
    data = rb'{"type":"response.completed","response":{"id":"r","output":[{"type":"message","t":"\ud83d"}]}}'
    assert json.loads(feed((b"response.completed", data)).body()) == json.loads(data)["response"]


def test_half_surrogates_survive_beside_finished_items() -> None:
    done = event("response.output_item.done", output_index=0, item={"type": "message", "id": "b", "x": "\ud83d"})
    answers: list[dict[str, Any]] = [{"output": [], "user": "\ud83d", "z": None}, {"metadata": {"\ud83d": 1}}, {"\ud83d": 1}]
    for said in answers:
        body = feed(done, event("response.completed", response={"id": "r", **said})).body()
        assert json.loads(body) == {"id": "r", **said, "output": [{"type": "message", "id": "b", "x": "\ud83d"}]}


def test_a_finished_item_that_is_not_utf8_is_no_part_of_a_body() -> None:
    done = (b"", b'{"type":"response.output_item.done","output_index":0,"item":{"type":"message","id":"\xff"}}')
    with pytest.raises(BodyError, match="UTF-8"):
        feed(done, event("response.completed", response={"id": "r", "output": []}))


def test_nothing_behind_the_end_is_read() -> None:
    end = event("response.completed", response={"id": "r"})
    assert json.loads(feed(end, (b"", b"[DONE]"), (b"", b"{"), event("error", message="late")).body()) == {"id": "r"}
