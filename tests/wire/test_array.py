"""The array splitter: laws 1 to 4 for any bytes, and what each shape of a body gives."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.wire.array import ArraySplitter
from penstock.wire.budget import Budget
from penstock.wire.sse import Frame

MIB = 1 << 20

values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text('ab"\\[]{},: \n', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('k"\\]', max_size=3), inner, max_size=3),
    max_leaves=8,
)
soup = st.text('[]{},:"\\ \na1', max_size=60).map(str.encode) | st.binary(max_size=60)


def splitter(limit: int = MIB, total: int = 4 * MIB) -> ArraySplitter:
    return ArraySplitter(limit, Budget(total))


def chop(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(c % (len(data) + 1) for c in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def run(s: ArraySplitter, chunks: list[bytes]) -> list[Frame]:
    frames: list[Frame] = []
    for chunk in chunks:
        held = s.tail()
        new = s.feed(chunk)
        raws = b"".join(f[2] for f in new)
        assert held + chunk == raws + s.tail()
        assert s.held == len(s.tail()) <= s.limit
        assert s.whole == (raws == chunk and not held and not s.held)
        frames += new
    return frames


def meanings(frames: list[Frame]) -> list[bytes]:
    return [f[1] for f in frames if f[1] is not None]


@given(soup, st.lists(st.integers(0, 100), max_size=8), st.integers(1, 80))
def test_lossless_and_chunk_blind_for_any_bytes(data: bytes, cuts: list[int], limit: int) -> None:
    whole, cut, single = splitter(limit), splitter(limit), splitter(limit)
    a = run(whole, [data])
    b = run(cut, chop(data, cuts))
    c = run(single, [data[i : i + 1] for i in range(len(data))])
    assert meanings(a) == meanings(b) == meanings(c)
    assert whole.tail() == cut.tail() == single.tail() or whole.overflowed
    assert len({(s.closed, s.understood, s.elements, s.overflowed) for s in (whole, cut, single)}) == 1


@given(st.lists(values, max_size=5), st.sampled_from([None, 1]), st.lists(st.integers(0, 500), max_size=8))
def test_the_elements_of_any_array(items: list[Any], indent: int | None, cuts: list[int]) -> None:
    s = splitter()
    frames = run(s, chop(json.dumps(items, indent=indent).encode(), cuts))
    assert [json.loads(m) for m in meanings(frames)] == items
    assert s.closed
    assert s.understood
    assert not s.held
    assert s.elements == len(items)


@given(st.lists(values.filter(lambda v: isinstance(v, (dict, list, str))), min_size=1, max_size=4))
def test_prompt_an_element_leaves_with_its_last_byte(items: list[Any]) -> None:
    s = splitter()
    assert s.feed(b"[") == []
    for n, item in enumerate(items):
        text = (", " if n else "").encode() + json.dumps(item).encode()
        for byte in text[:-1]:
            assert s.feed(bytes([byte])) == []
        frames = s.feed(text[-1:])
        assert [json.loads(f[1] or b"") for f in frames] == [item]


def test_a_stream_as_google_sends_it() -> None:
    s = splitter()
    assert s.feed(b'[{"a": 1}\n') == [(b"", b'{"a": 1}', b'[{"a": 1}')]
    assert s.tail() == b"\n"
    assert not s.whole
    assert s.feed(b',\r\n{"b": "]"}\n') == [(b"", b'{"b": "]"}', b'\n,\r\n{"b": "]"}')]
    assert not s.closed
    assert s.feed(b"]\n") == [(b"", None, b"\n]\n")]
    assert s.closed
    assert s.feed(b"\n") == [(b"", None, b"\n")]
    assert s.whole


def test_whole_when_nothing_is_held() -> None:
    s = splitter()
    data = b'[{"a": 1}'
    assert s.feed(data)[0][2] == data
    assert s.whole
    assert s.feed(b',{"a": 2}')[0][1] == b'{"a": 2}'
    assert s.whole


def test_one_object_in_the_place_of_the_array() -> None:
    s = splitter()
    assert meanings(s.feed(b' {"error": {"code": 400}}\n')) == [b'{"error": {"code": 400}}']
    assert s.closed
    assert s.elements == 1


@pytest.mark.parametrize("data", [b"<html>[{}]", b"data: {}\n\n", b'"text"', b"]", b'[{"a":1}},{"b":2}]'])
def test_what_is_no_array_passes_in_pieces(data: bytes) -> None:
    s = splitter()
    frames = run(s, [data, b"more"])
    assert not s.understood
    assert not s.closed
    assert frames[-1] == (b"", None, b"more")
    assert not s.held


def test_a_frame_over_the_limit_passes_in_pieces_and_the_next_is_understood() -> None:
    big = b'[{"x": "' + b"y" * 200 + b'"}'
    for size in (1, 7, 64, 4096):
        s = splitter(100)
        data = big + b', {"ok": 1}]'
        frames = run(s, [data[i : i + size] for i in range(0, len(data), size)])
        assert meanings(frames) == [b'{"ok": 1}']
        assert s.overflowed
        assert s.understood
        assert s.closed
        assert s.elements == 2


def test_the_budget_is_shared_and_given_back() -> None:
    budget = Budget(100)
    one, two = ArraySplitter(1000, budget), ArraySplitter(1000, budget)
    one.feed(b'[{"a": "' + b"x" * 70)
    assert budget.used == one.held == 78
    frames = two.feed(b'[{"b": "' + b"x" * 70)
    assert frames == [(b"", None, b'[{"b": "' + b"x" * 70)]
    assert two.overflowed
    assert meanings(one.feed(b'"}')) == [b'{"a": "' + b"x" * 70 + b'"}']
    assert budget.used == 0
    one.feed(b" , {")
    one.close()
    assert (budget.used, one.held) == (0, 0)


@pytest.mark.parametrize("filler", [b"A" * 64, b'{"k": [1, "v"]}, ' * 4, b'"a\\"\\\\b", ' * 6, b"[[[[]]]], " * 7])
def test_a_frame_of_many_reads_is_scanned_once(filler: bytes) -> None:
    size = 8 * MIB
    block = (filler * (16384 // len(filler) + 1))[: 16384 // len(filler) * len(filler)]
    s = ArraySplitter(64 * MIB, Budget(64 * MIB))
    opening, closing = (b'[{"x": "', b'"}]') if filler.startswith(b"A") else (b'[{"x": [', b"0]}]")
    began = time.process_time()
    s.feed(opening)
    for _ in range(size // 16384):
        assert s.feed(block) == []
    frames = s.feed(closing)
    took = time.process_time() - began
    assert len(meanings(frames)) == 1
    assert s.closed
    assert took < 20  # of the processor; 0.01 to 2 s, and a scan that began anew with every read would go through 2 GiB


@pytest.mark.parametrize("element", [b"{}", b'{"a": [{}]}'])
def test_a_read_of_many_elements_is_gone_over_once(element: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def reader(data: bytes) -> object:
        seen.append(len(data))
        return json.loads(data)

    monkeypatch.setattr("penstock.wire.array._is_object", reader)
    data = b"[" + b",".join([element] * 5000) + b"]"
    s = splitter()
    assert meanings(s.feed(data)) == [element] * 5000
    assert s.closed
    assert sum(seen) <= 2 * len(data)
