"""Folding streams: every field that the official SDK accumulates from the same bytes, and what it leaves out besides."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any, cast

import anthropic
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.protocols.anthropic_messages import SPEC
from penstock.protocols.contract import BodyError
from penstock.vocabulary.ids import Operation
from penstock.wire.sse import parse

CORPUS = Path(__file__).parents[2] / "corpus" / "anthropic_messages"
RECORDINGS = sorted(CORPUS.glob("*.sse"))
NAMES = [path.stem for path in RECORDINGS]

Object = dict[str, Any]


def assemble(raw: bytes) -> Object:
    assembler = SPEC.assembler(Operation.MESSAGES)
    for part in raw.split(b"\n\n"):
        name, data = parse(part + b"\n\n")
        if data is not None:
            assembler.feed(name, data)
    return json.loads(assembler.body())


def fold(*events: Object | bytes) -> Object:
    assembler = SPEC.assembler(Operation.MESSAGES)
    for event in events:
        assembler.feed(b"", event if isinstance(event, bytes) else json.dumps(event).encode())
    return json.loads(assembler.body())


def accumulate(raw: bytes, beta: bool) -> Object:
    """The final message of the SDK's stream helper; only fields that were set."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=raw)

    with httpx2.Client(transport=httpx2.MockTransport(answer)) as http:
        client = anthropic.Anthropic(api_key="none", base_url="http://upstream.test", http_client=http)
        if beta:
            with client.beta.messages.stream(model="m", max_tokens=1, messages=[{"role": "user", "content": "x"}]) as beta_stream:
                return beta_stream.get_final_message().to_dict(mode="json")
        with client.messages.stream(model="m", max_tokens=1, messages=[{"role": "user", "content": "x"}]) as stream:
            return stream.get_final_message().to_dict(mode="json")


def missing(ours: object, theirs: object, at: str = "") -> list[str]:
    """Paths at which `theirs` has a value that `ours` has not. A null that only they have is their model's default, no statement."""
    if isinstance(theirs, dict):
        if not isinstance(ours, dict):
            return [at]
        mine, members = cast("Object", ours), cast("Object", theirs)
        return [path for key, value in members.items() if key in mine or value is not None for path in missing(mine.get(key), value, f"{at}.{key}")]
    if isinstance(theirs, list):
        mine_list, their_list = cast("list[Any]", ours), cast("list[Any]", theirs)
        if not isinstance(ours, list) or len(mine_list) != len(their_list):
            return [at]
        return [path for i, (mine, value) in enumerate(zip(mine_list, their_list, strict=True)) for path in missing(mine, value, f"{at}[{i}]")]
    return [] if ours == theirs else [at]


UNKNOWN_TO_THE_PLAIN_CLIENT = {"test_anthropic_compaction_usage_with_cache_streaming_0": [".content[0].content"]}
"""Compaction is a beta: the plain client ignores `compaction_delta` and leaves the block's content null."""


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("beta", [False, True], ids=["plain", "beta"])
@pytest.mark.parametrize("path", RECORDINGS, ids=NAMES)
def test_it_holds_what_the_sdk_accumulates(path: Path, beta: bool) -> None:
    raw = path.read_bytes()
    assert missing(assemble(raw), accumulate(raw, beta)) == ([] if beta else UNKNOWN_TO_THE_PLAIN_CLIENT.get(path.stem, []))


@pytest.mark.parametrize("path", RECORDINGS, ids=NAMES)
def test_it_holds_what_the_recording_states(path: Path) -> None:
    """Held to the recording by plain means, apart from SDK and assembler: texts, inputs, citations, last usage, all top-level fields."""
    body = assemble(path.read_bytes())
    texts: dict[int, str] = {}
    inputs: dict[int, str] = {}
    citations: dict[int, int] = {}
    usage: Object = {}
    for line in path.read_bytes().split(b"\n"):
        if not line.startswith(b"data:"):
            continue
        event = json.loads(line[5:])
        match event["type"]:
            case "message_start":
                usage |= event["message"]["usage"]
                assert body["id"] == event["message"]["id"]
                assert set(event["message"]) <= set(body)
            case "content_block_start":
                block = body["content"][event["index"]]
                assert set(event["content_block"]) <= set(block)
                assert block["type"] == event["content_block"]["type"]
            case "content_block_delta":
                index, delta = event["index"], event["delta"]
                texts[index] = texts.get(index, "") + delta.get("text", "") + delta.get("thinking", "")
                inputs[index] = inputs.get(index, "") + delta.get("partial_json", "")
                citations[index] = citations.get(index, 0) + ("citation" in delta)
            case "message_delta":
                usage |= event["usage"]
                assert {key: body[key] for key in event["delta"]} == event["delta"]
            case _:
                pass
    assert body["usage"] == usage
    for index, block in enumerate(body["content"]):
        if block["type"] in ("text", "thinking"):
            assert block[block["type"]] == texts[index]
            assert len(block.get("citations", [])) == citations[index]
        if "input" in block:
            assert block["input"] == json.loads(inputs[index])


@pytest.mark.parametrize("path", RECORDINGS, ids=NAMES)
def test_a_recording_cut_at_any_frame_gives_no_body(path: Path) -> None:
    assembler = SPEC.assembler(Operation.MESSAGES)
    for part in path.read_bytes().split(b"\n\n"):
        name, data = parse(part + b"\n\n")
        if data is None or name == b"message_stop":
            continue
        assembler.feed(name, data)
        with pytest.raises(BodyError, match="without message_stop"):
            assembler.body()


def start(**fields: object) -> Object:
    return {"type": "message_start", "message": {"id": "m1", "type": "message", "content": [], "model": "m", "stop_reason": None} | fields}


def block(index: int, **fields: object) -> Object:
    return {"type": "content_block_start", "index": index, "content_block": fields}


def delta(index: int, **fields: object) -> Object:
    return {"type": "content_block_delta", "index": index, "delta": fields}


def stop(index: int) -> Object:
    return {"type": "content_block_stop", "index": index}


def change(usage: Object | None = None, **fields: object) -> Object:
    return {"type": "message_delta", "delta": fields} | ({} if usage is None else {"usage": usage})


END: Object = {"type": "message_stop"}


def only_block(*events: Object) -> Object:
    return fold(start(), *events, stop(0), END)["content"][0]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [([], {}), ([""], {}), (["", "{}"], {}), (['{"a"', ": [1, 2.50]}"], {"a": [1, 2.5]}), (['{"a":"\\ud83d', '\\ude00"}'], {"a": "😀"})],
)
@pytest.mark.parametrize("kind", ["tool_use", "server_tool_use", "mcp_tool_use", "some_new_tool_use"])
def test_inputs_are_parsed_from_their_pieces(kind: str, pieces: list[str], expected: object) -> None:
    deltas = [delta(0, type="input_json_delta", partial_json=piece) for piece in pieces]
    assert only_block(block(0, type=kind, id="t", name="n", input={}), *deltas)["input"] == expected


def test_an_input_that_came_whole_stays() -> None:
    assert only_block(block(0, type="tool_use", input={"a": 1}), delta(0, type="input_json_delta", partial_json=""))["input"] == {"a": 1}
    assert only_block(block(0, type="tool_use"), delta(0, type="input_json_delta", partial_json=""))["input"] == {}
    assert "input" not in only_block(block(0, type="tool_use"))


def test_numbers_keep_their_spelling() -> None:
    assembler = SPEC.assembler(Operation.MESSAGES)
    big = b"123456789012345678901234567890"
    assembler.feed(b"", b'{"type":"message_start","message":{"id":"m","content":[],"a":1.50,"b":%b,"c":1E400}}' % big)
    assembler.feed(b"", b'{"type":"message_stop"}')
    assert assembler.body() == b'{"id":"m","content":[],"a":1.50,"b":%b,"c":1E400}' % big


def test_half_a_surrogate_pair_in_each_delta_makes_one_character() -> None:
    halves = [b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\\ud8%b"}}' % half for half in (b"3d", b"3d")]
    halves[1] = halves[1].replace(b"ud83d", b"ude00")
    body = fold(start(), block(0, type="text", text=""), *halves, END)
    assert body["content"] == [{"type": "text", "text": "😀"}]


def test_a_signature_and_a_summary_replace() -> None:
    thought = block(0, type="thinking", thinking="", signature="")
    deltas = [delta(0, type="thinking_delta", thinking="h", estimated_tokens=50), delta(0, type="thinking_delta", thinking="m")]
    signed = only_block(thought, *deltas, delta(0, type="signature_delta", signature="sig"))
    assert signed == {"type": "thinking", "thinking": "hm", "signature": "sig"}
    summary = delta(0, type="compaction_delta", content="all of it", encrypted_content="e")
    assert only_block(block(0, type="compaction", content=None), summary) == {"type": "compaction", "content": "all of it", "encrypted_content": "e"}


@pytest.mark.parametrize("before", [{}, {"citations": None}, {"citations": []}])
def test_citations_append(before: Object) -> None:
    cite = [delta(0, type="citations_delta", citation={"n": n}) for n in (1, 2)]
    assert only_block(block(0, type="text", text="", **before), *cite)["citations"] == [{"n": 1}, {"n": 2}]


def test_unknown_blocks_deltas_and_fields_are_kept() -> None:
    body = fold(
        start(future={"a": 1}),
        block(0, type="hologram", layers=[1], label="x", depth=1),
        delta(0, type="hologram_delta", layers=[2, 3], label="y", depth=2, fresh={"z": None}),
        delta(0, type="hologram_delta", layers=[4], label="z"),
        stop(0),
        {"type": "weather", "index": 0},
        {"type": "ping"},
        change(stop_reason="end_turn", hint=7) | {"context_management": {"applied_edits": []}},
        END,
        delta(0, type="text_delta", text="behind the end"),
    )
    assert body["content"] == [{"type": "hologram", "layers": [1, 2, 3, 4], "label": "xyz", "depth": 2, "fresh": {"z": None}}]
    assert (body["future"], body["hint"], body["context_management"]) == ({"a": 1}, 7, {"applied_edits": []})


def test_usage_is_cumulative() -> None:
    body = fold(
        start(usage={"input_tokens": 5, "output_tokens": 1, "service_tier": "standard", "cache_read_input_tokens": 3}),
        change({"output_tokens": 4, "server_tool_use": {"web_search_requests": 1}}),
        change({"output_tokens": 9, "input_tokens": None, "cache_read_input_tokens": 8, "server_tool_use": {"web_fetch_requests": 2}, "new": None}),
        END,
    )
    assert body["usage"] == {
        "input_tokens": 5,
        "output_tokens": 9,
        "service_tier": "standard",
        "cache_read_input_tokens": 8,
        "server_tool_use": {"web_fetch_requests": 2},
        "new": None,
    }


def test_a_null_takes_away_only_stop_fields() -> None:
    body = fold(start(container={"id": "c"}, stop_sequence="x"), change(container=None, stop_sequence=None, stop_reason="end_turn"), END)
    assert (body["container"], body["stop_sequence"], body["stop_reason"]) == ({"id": "c"}, None, "end_turn")
    assert fold(start(), change(container={"id": "d"}), END)["container"] == {"id": "d"}


def test_a_fallback_relabels_the_message() -> None:
    hop = {"type": "content_block_start", "index": 0, "content_block": {"type": "fallback", "from": {"model": "m"}, "to": {"model": "n"}}}
    assert fold(start(), hop, stop(0), END)["model"] == "n"


CONTRADICTIONS: list[tuple[list[Object | bytes], str]] = [
    ([start(), {"type": "error", "error": {"type": "overloaded_error", "message": "no"}}], "overloaded_error"),
    ([start(), block(0, type="text", text=""), {"error": "x"}], "error of the provider"),
    ([start()], "without message_stop"),
    ([], "without message_stop"),
    ([END], "begin with message_start"),
    ([start(), start()], "second message_start"),
    ([{"type": "message_start"}], "no message"),
    ([block(0, type="text", text="")], "begin with message_start"),
    ([start(), delta(0, type="text_delta", text="a")], "not open"),
    ([start(), block(0, type="text", text=""), stop(0), delta(0, type="text_delta", text="a")], "not open"),
    ([start(), stop(3)], "not open"),
    ([start(), block(0, type="text", text=""), block(0, type="text", text="")], "began twice"),
    ([start(), {"type": "content_block_start", "content_block": {}}], "lacks its index"),
    ([start(), block(0, type="text", text=""), delta(0, type="text_delta", text=5)], "has no text"),
    ([start(), block(0, type="text", text=""), {"type": "content_block_delta", "index": 0}], "no object"),
    ([start(), b"{", END], "not a JSON object"),
    ([start(), b'{"type":"ping\xff"}', END], "not a JSON object"),
]


@pytest.mark.parametrize(("events", "words"), CONTRADICTIONS)
def test_what_contradicts_itself_gives_no_body(events: list[Object | bytes], words: str) -> None:
    with pytest.raises(BodyError, match=words):
        fold(*events)


@pytest.mark.parametrize("text", ["{", '{"a":1', "nul", '{"a":1},"b":{}', '1,"x":2', "{}{}", '{"a":NaN}', "\ud800"])
def test_an_input_that_is_not_json_gives_no_body(text: str) -> None:
    piece = delta(0, type="input_json_delta", partial_json=text)
    for end in (stop(0), END):
        with pytest.raises(BodyError, match="not JSON"):
            fold(start(), block(0, type="tool_use", input={}), piece, end)


@given(name=st.sampled_from(RECORDINGS), data=st.data())
def test_mutated_recordings_give_a_body_or_a_reason(name: Path, data: st.DataObject) -> None:
    raw = name.read_bytes()[:20_000]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw = raw[:at] + data.draw(st.binary(max_size=3)) + raw[at + data.draw(st.integers(0, 3)) :]
    with contextlib.suppress(BodyError):
        assert isinstance(assemble(raw + b"\n\nevent: message_stop\ndata: {}\n\n"), dict)


@pytest.mark.parametrize("depth", [200, 900, 960, 980, 990, 1000, 5000])
def test_deep_nesting_gives_a_body_or_a_reason(depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    assembler = SPEC.assembler(Operation.MESSAGES)
    with contextlib.suppress(BodyError):
        assembler.feed(b"", b'{"type":"message_start","message":{"id":"m","content":[],"x":%b}}' % deep)
        assembler.feed(b"", b'{"type":"content_block_start","index":0,"content_block":{"type":"x","y":%b}}' % deep)
        assembler.feed(b"", b'{"type":"content_block_delta","index":0,"delta":{"type":"z","y":%b}}' % deep)
        assembler.feed(b"", b'{"type":"message_stop"}')
        assert assembler.body().count(b"[") >= 2 * depth
