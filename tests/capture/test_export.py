"""What was captured can be served again, byte for byte, by the server behind `penstock replay`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from penstock.capture import Order, Phase, Recorder
from penstock.capture.export import Exported, export
from penstock.capture.store import Store, StoreError
from penstock.lab.recordings import load_recordings, split_frames
from penstock.lab.server import ReplayServer
from tests.support.captures import CHAT, answer, begin, make, one, subject

CORPUS = Path(__file__).parents[1] / "corpus"
PATHS = {
    "openai_chat": "/v1/chat/completions", "openai_responses": "/v1/responses", "anthropic_messages": "/v1/messages",
    "gemini": "/v1beta/models/replay/{name}:streamGenerateContent?alt=sse",
}  # fmt: skip
OPERATIONS = {"openai_chat": "chat", "openai_responses": "responses", "anthropic_messages": "messages", "gemini": "generate"}
JSON = [(b"content-type", b"application/json; charset=UTF-8")]


def exported(recorder: Recorder, tmp_path: Path) -> tuple[Exported, str]:
    store, item = one(recorder, tmp_path / "data")
    recorder.close()
    return export(store, item, tmp_path / "out"), item.id


def served(directory: Path, path: str, body: dict[str, object]) -> httpx.Response:
    """What a client gets that asks for it."""

    async def ask() -> httpx.Response:
        server = ReplayServer(load_recordings(directory).recordings)
        port = await server.start()
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10) as client:
                return await client.post(path, json=body)
        finally:
            server.close()

    return asyncio.run(ask())


@pytest.mark.parametrize("protocol", PATHS)
def test_a_captured_stream_is_served_again_byte_for_byte(tmp_path: Path, protocol: str) -> None:
    recorded = sorted((CORPUS / protocol).glob("*.sse"))[0].read_bytes()
    recorder = make(tmp_path / "data")
    recording = begin(recorder, about=subject(protocol=protocol, operation=OPERATIONS[protocol]))
    recording.inbound("POST", "/", [], b'{"who":"client"}', 100)
    recording.provider((b"POST", b"/", b"Host: h\r\n\r\n{\"who\":\"us\"}"), 100)
    answer(recording, [recorded[at : at + 97] for at in range(0, len(recorded), 97)])
    done, name = exported(recorder, tmp_path)
    assert done.recording is not None
    assert done.recording == tmp_path / "out" / protocol / f"{name}.sse"
    assert done.note is None
    assert done.recording.with_suffix(".request.json").read_bytes() == b'{"who":"us"}'
    got = served(tmp_path / "out", PATHS[protocol].format(name=name), {"model": f"replay/{name}", "stream": True})
    assert (got.status_code, got.content) == (200, recorded)
    assert {path.name for path in done.folder.iterdir()} >= {"capture.json", "upstream_response.body", "upstream_response.times"}
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").rglob("*") if path.is_file()} == {0o600}


def test_of_several_tries_the_last_is_served(tmp_path: Path) -> None:
    recorder = make(tmp_path / "data")
    recording = begin(recorder, Order(phases=(Phase.UPSTREAM_RESPONSE,)))
    recording.provider((b"POST", b"/", b"\r\n\r\n"), 100)
    recording.answer(Phase.UPSTREAM_RESPONSE, 503, JSON, 100)
    recording.chunk(Phase.UPSTREAM_RESPONSE, b'{"error":{}}', 100)
    recording.provider((b"POST", b"/", b"\r\n\r\n"), 100)
    answer(recording, [CHAT])
    done, _ = exported(recorder, tmp_path)
    assert done.recording is not None
    assert done.recording.read_bytes() == CHAT


def test_a_whole_body_becomes_the_stream_that_makes_it_again(tmp_path: Path) -> None:
    whole = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "end_turn", "stop_sequence": None, "odd": [1, None],
        "content": [{"type": "text", "text": "Hello"}], "usage": {"input_tokens": 3, "output_tokens": 1},
    }  # fmt: skip
    recorder = make(tmp_path / "data")
    recording = begin(recorder, about=subject(protocol="anthropic_messages", operation="messages"))
    answer(recording, [json.dumps(whole).encode()], headers=JSON)
    done, name = exported(recorder, tmp_path)
    assert done.note is None
    got = served(tmp_path / "out", "/v1/messages", {"model": f"replay/{name}"})
    assert got.json() == whole


def test_geminis_array_is_served_as_array_and_as_events(tmp_path: Path) -> None:
    elements = [{"candidates": [{"content": {"parts": [{"text": f"{number}\n"}]}}]} for number in range(3)]
    array = json.dumps(elements, indent=2).encode()
    recorder = make(tmp_path / "data")
    recording = begin(recorder, about=subject(protocol="gemini", operation="generate"))
    answer(recording, [array[:50], array[50:]], headers=JSON)
    _, name = exported(recorder, tmp_path)
    path = f"/v1beta/models/replay/{name}:streamGenerateContent"
    assert served(tmp_path / "out", path, {}).json() == elements
    events = split_frames(served(tmp_path / "out", path + "?alt=sse", {}).content)
    assert [json.loads(event.data) for event in events] == elements


@pytest.mark.parametrize(
    ("status", "kind", "body", "words"),
    [
        (429, b"application/json", b'{"error":{}}', "status 429"),
        (200, b"text/html", b"<html>", "no stream"),
        (200, b"application/json", b"{", "no stream can be made"),
        (200, b"text/event-stream", b"", "nothing of the answer"),
    ],
)
def test_what_cannot_be_served_is_copied_and_said(tmp_path: Path, status: int, kind: bytes, body: bytes, words: str) -> None:
    recorder = make(tmp_path / "data")
    answer(begin(recorder), [body], headers=[(b"content-type", kind)], status=status)
    done, _ = exported(recorder, tmp_path)
    assert done.recording is None
    assert words in (done.note or "")
    assert (done.folder / "capture.json").is_file()


@pytest.mark.parametrize("start", ["\u00b2\u00b2", "9" * 6000, "99999999"])
def test_a_status_that_is_none_is_no_hindrance(tmp_path: Path, start: str) -> None:
    recorder = make(tmp_path / "data")
    answer(begin(recorder), [CHAT])
    recorder.close()
    (item,) = Store(tmp_path / "data").items()
    raw = json.loads((item.path / "capture.json").read_bytes())
    raw["parts"][0]["start"] = start
    (item.path / "capture.json").write_text(json.dumps(raw))
    (item,) = Store(tmp_path / "data").items()
    assert export(Store(tmp_path / "data"), item, tmp_path / "out").recording is not None


def test_without_the_providers_answer_ours_is_served_and_without_any_none(tmp_path: Path) -> None:
    recorder = make(tmp_path / "data")
    answer(begin(recorder, Order(phases=(Phase.OUTBOUND_RESPONSE,))), [CHAT], phase=Phase.OUTBOUND_RESPONSE)
    done, _ = exported(recorder, tmp_path)
    assert done.recording is not None
    assert done.recording.read_bytes() == CHAT
    recorder = make(tmp_path / "data2")
    recording = begin(recorder, Order(phases=(Phase.INBOUND_REQUEST,)))
    recording.inbound("POST", "/", [], b"{}", 100)
    recording.end("REFUSED", None, 101)
    store, item = one(recorder, tmp_path / "data2")
    recorder.close()
    assert "capture upstream_response" in (export(store, item, tmp_path / "out2").note or "")


def test_a_part_of_an_answer_is_served_and_said(tmp_path: Path) -> None:
    recorder = make(tmp_path / "data")
    answer(begin(recorder, Order(phases=(Phase.UPSTREAM_RESPONSE,), max_bytes=50)), [CHAT])
    done, _ = exported(recorder, tmp_path)
    assert done.recording is not None
    assert done.recording.read_bytes() == CHAT[:50]
    assert "only 50 bytes" in (done.note or "")


def test_nothing_is_written_over(tmp_path: Path) -> None:
    recorder = make(tmp_path / "data")
    answer(begin(recorder), [CHAT])
    store, item = one(recorder, tmp_path / "data")
    recorder.close()
    export(store, item, tmp_path / "out")
    with pytest.raises(StoreError, match="is there already"):
        export(store, item, tmp_path / "out")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match=r"cannot be written|is there already"):
        export(store, item, tmp_path / "file")
