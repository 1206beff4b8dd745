"""Legacy Argo over real sockets, broken off and stalled at every stage: the client hears it in its own protocol, the row says it, and it is one row.

A raw text has no event for its end: it is whole where its framing says so. A connection that closes is the end of a body that has no other.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from penstock.lab.scripted import LAST_CHUNK, Do, ScriptedServer, Step, chunk, head, whole
from tests.support.argo import OPEN_HEAD, RAW_HEAD, TEXT, WEATHER, argo
from tests.support.gateway import run
from tests.support.http import Answer, ask
from tests.support.sdk import site

ASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}),
    "completions": ("/v1/completions", {"prompt": "hi"}),
    "responses": ("/v1/responses", {"input": "hi"}),
}
TIMERS = {"timers": {"first_content": "250ms", "idle": "250ms"}}
JSON_HEAD, TEXT_HEAD = "content-type: application/json", "content-type: text/plain"
GOOD = json.dumps({"response": TEXT}).encode()
HALF = chunk("Argo é".encode()[:-1])
"""A text that ends inside of a character."""


@dataclass(frozen=True)
class Scene:
    says: Sequence[Step]
    outcome: str
    status: int = 200
    """Of what the client gets; 200 for a bad ending means that it is told in band."""
    text: str | None = None
    """What of the text the client gets."""
    timer: str | None = None
    upstream: int | None = 200


STREAMS = {
    "chunked, whole": Scene([RAW_HEAD, chunk(TEXT.encode()), LAST_CHUNK], "COMPLETE", text=TEXT),
    "counted, whole": Scene([whole(TEXT.encode(), 200, "content-type: text/plain")], "COMPLETE", text=TEXT),
    "until the connection closes": Scene([OPEN_HEAD, TEXT.encode(), Do.CLOSE], "COMPLETE", text=TEXT),
    "nothing, chunked": Scene([RAW_HEAD, LAST_CHUNK], "TRUNCATED", 502),
    "nothing, counted": Scene([whole(b"", 200, "content-type: text/plain")], "TRUNCATED", 502),
    "nothing, and the connection closes": Scene([OPEN_HEAD, Do.CLOSE], "TRUNCATED", 502),
    "no head: FIN": Scene([Do.READ, Do.CLOSE], "UPSTREAM_LOST", 502, upstream=None),
    "no head: RST": Scene([Do.READ, Do.RESET], "UPSTREAM_LOST", 502, upstream=None),
    "head: FIN": Scene([RAW_HEAD, Do.CLOSE], "UPSTREAM_LOST", 502),
    "head: RST": Scene([RAW_HEAD, Do.RESET], "UPSTREAM_LOST", 502),
    "text: FIN": Scene([RAW_HEAD, chunk(b"Argo"), Do.CLOSE], "UPSTREAM_LOST", text="Argo"),
    "text: RST": Scene([RAW_HEAD, chunk(b"Argo"), Do.FLUSH, Do.RESET], "UPSTREAM_LOST", text="Argo"),
    "open text: RST": Scene([OPEN_HEAD, b"Argo", Do.FLUSH, Do.RESET], "UPSTREAM_LOST", text="Argo"),
    "counted text: FIN": Scene([head(200, TEXT_HEAD, "content-length: 99"), b"Argo", Do.CLOSE], "UPSTREAM_LOST", text="Argo"),
    "half a chunk: FIN": Scene([RAW_HEAD, b"9\r\nArgo", Do.CLOSE], "UPSTREAM_LOST", text="Argo"),
    "half a character, then the end": Scene([RAW_HEAD, HALF, LAST_CHUNK], "TRUNCATED", text="Argo "),
    "half a character alone": Scene([RAW_HEAD, chunk(b"\xc3"), LAST_CHUNK], "TRUNCATED", 502),
    "no head: silence": Scene([Do.READ, Do.WAIT_FOR_CLIENT], "TIMED_OUT", 504, timer="first_content", upstream=None),
    "head: silence": Scene([RAW_HEAD, Do.WAIT_FOR_CLIENT], "TIMED_OUT", 504, timer="first_content"),
    "text: silence": Scene([RAW_HEAD, chunk(b"Argo"), Do.WAIT_FOR_CLIENT], "TIMED_OUT", text="Argo", timer="idle"),
    "a body in the place of a stream": Scene([whole(GOOD)], "COMPLETE", text=TEXT),
    "a page": Scene([whole(b"<html><body>Log in</body></html>", 200, "content-type: text/html")], "UPSTREAM_ERROR", 502),
    "a body that is called a page": Scene([whole(GOOD, 200, "content-type: text/html")], "COMPLETE", text=TEXT),
    "a coding that nobody asked for": Scene([whole(b"xx", 200, "content-type: text/plain", "content-encoding: br")], "UPSTREAM_ERROR", 502),
    "429": Scene([whole(b'{"detail":"slow down"}', 429, "retry-after: 7")], "UPSTREAM_ERROR", 429, upstream=429),
    "503, a page": Scene([whole(b"<h1>Down</h1>", 503, "content-type: text/html")], "UPSTREAM_ERROR", 503, upstream=503),
    "half an error": Scene([head(500, JSON_HEAD, "content-length: 99"), b'{"det', Do.CLOSE], "UPSTREAM_ERROR", 500, upstream=500),
}
WHOLES = {
    "counted, whole": Scene([whole(GOOD)], "COMPLETE", text=TEXT),
    "mislabelled": Scene([whole(GOOD, 200, "content-type: text/plain")], "COMPLETE", text=TEXT),
    "empty text": Scene([whole(b'{"response":""}')], "COMPLETE", text=""),
    "until the connection closes": Scene([head(200, JSON_HEAD, "connection: close"), GOOD, Do.CLOSE], "COMPLETE", text=TEXT),
    "half of it until the connection closes": Scene([head(200, JSON_HEAD, "connection: close"), GOOD[:20], Do.CLOSE], "UPSTREAM_ERROR", 502),
    "half of it: FIN": Scene([head(200, JSON_HEAD, f"content-length: {len(GOOD)}"), GOOD[:20], Do.CLOSE], "UPSTREAM_LOST", 502),
    "half of it: RST": Scene([head(200, JSON_HEAD, f"content-length: {len(GOOD)}"), GOOD[:20], Do.FLUSH, Do.RESET], "UPSTREAM_LOST", 502),
    "half of it: silence": Scene(
        [head(200, JSON_HEAD, f"content-length: {len(GOOD)}"), GOOD[:20], Do.WAIT_FOR_CLIENT],
        "TIMED_OUT", 504, timer="first_content", upstream=None),
    "null": Scene([whole(b'{"response":null}')], "UPSTREAM_ERROR", 502),
    "not JSON": Scene([whole(b"None")], "UPSTREAM_ERROR", 502),
    "nothing": Scene([whole(b"")], "UPSTREAM_ERROR", 502),
    "a page": STREAMS["a page"], "called a page": STREAMS["a body that is called a page"],
    "429": STREAMS["429"], "503, a page": STREAMS["503, a page"],
}  # fmt: skip


def values_of(body: bytes) -> list[Any]:
    return [json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: ") and line != b"data: [DONE]"]


def told_text(operation: str, answer: Answer, *, streamed: bool) -> str:
    if not streamed:
        value = answer.json()
        if operation == "responses":
            return "".join(part["text"] for item in value["output"] for part in item["content"])
        return value["choices"][0]["text"] if operation == "completions" else value["choices"][0]["message"]["content"]
    found = ""
    for value in values_of(answer.body):
        if operation == "responses":
            found += value["delta"] if value["type"] == "response.output_text.delta" else ""
        for choice in value.get("choices", ()):
            found += (choice["text"] if operation == "completions" else choice["delta"].get("content")) or ""
    return found


def check(operation: str, scene: Scene, answer: Answer, row: dict[str, Any], *, streamed: bool) -> None:
    assert (row["outcome"], row["status"], row["timer"], row["late_settles"]) == (scene.outcome, scene.status, scene.timer, 0), row["cause"]
    assert row["upstream_status"] == scene.upstream
    assert (answer.status, answer.clean) == (scene.status, True)
    if scene.status != 200:
        assert answer.json()["error"]["message"]
        assert answer.header("content-type") == "application/json"
        assert row["output_tokens"] is None
        return
    assert told_text(operation, answer, streamed=streamed) == scene.text
    assert (row["usage_source"], row["input_tokens"] > 0) == ("estimated", True)
    if not streamed:
        return
    done = answer.body.endswith(b"data: [DONE]\n\n")
    last = values_of(answer.body)[-1]
    if scene.outcome == "COMPLETE":
        assert last["type"] == "response.completed" if operation == "responses" else done
    elif operation == "responses":
        assert last["type"] == "response.failed"
        assert last["response"]["error"]["message"]
    else:
        assert last["error"]["message"]
        assert not done


def play(tmp_path: Path, scenes: dict[str, Scene], operation: str, *, stream: bool, real: bool) -> None:
    path, body = ASKS[operation]

    async def main() -> None:
        upstream = ScriptedServer([Do.READ])
        async with site(tmp_path, upstream, lambda port: argo(port, real_stream=real), {**TIMERS, "retries": "off"}) as here:
            rows: list[dict[str, Any]] = []
            for name, scene in scenes.items():
                upstream.scripts[-1] = [Do.READ, *scene.says]
                answer = await ask(here.port, "POST", path, {"model": "gpt-4o", "stream": stream, **body})
                rows = await here.running.rows()
                try:
                    check(operation, scene, answer, rows[-1], streamed=stream)
                except AssertionError as error:
                    raise AssertionError(f"{name}: {answer}") from error
            assert len(rows) == len(scenes)
            assert here.running.app.gateway.held.used == 0
            assert here.running.app.gateway.peeked.used == 0

    run(main())


@pytest.mark.parametrize("operation", ASKS)
def test_real_streams(tmp_path: Path, operation: str) -> None:
    play(tmp_path, STREAMS, operation, stream=True, real=True)


@pytest.mark.parametrize("operation", ASKS)
def test_pseudo_streams(tmp_path: Path, operation: str) -> None:
    play(tmp_path, WHOLES, operation, stream=True, real=False)


@pytest.mark.parametrize("operation", ASKS)
def test_bodies(tmp_path: Path, operation: str) -> None:
    play(tmp_path, WHOLES, operation, stream=False, real=True)


def test_embeddings(tmp_path: Path) -> None:
    async def main() -> None:
        upstream = ScriptedServer([Do.READ])
        async with site(tmp_path, upstream, argo, TIMERS) as here:
            cut = [head(200, JSON_HEAD, "content-length: 9"), b"{", Do.CLOSE]
            page = [whole(b"<html>Log in</html>", 200, "content-type: text/html")]
            none = [whole(b'{"embedding":null}')]
            for says, status in ((none, 502), (page, 502), ([whole(b'{"detail":"no"}', 422)], 422), (cut, 502)):
                upstream.scripts[-1] = [Do.READ, *says]
                answer = await ask(here.port, "POST", "/v1/embeddings", {"model": "v3small", "input": "hi"})
                assert answer.status == status
                assert answer.json()["error"]["message"]

    run(main())


def test_retry_after_and_request_ids_stay(tmp_path: Path) -> None:
    async def main() -> None:
        upstream = ScriptedServer([Do.READ, whole(b'{"error":"slow down"}', 429, "retry-after: 7", "x-request-id: r1")])
        async with site(tmp_path, upstream, argo) as here:
            answer = await ask(here.port, "POST", "/v1/chat/completions", {"model": "gpt-4o", **ASKS["chat"][1], "stream": True})
            assert (answer.header("retry-after"), answer.header("x-request-id")) == ("7", "r1")
            assert answer.json()["error"]["message"] == "slow down"
            row = await here.last_row()
            assert (row["error_message"], row["upstream_request_id"]) == ("slow down", "r1")

    run(main())


def test_another_try_before_the_first_word(tmp_path: Path) -> None:
    async def main() -> None:
        upstream = ScriptedServer([Do.READ, RAW_HEAD, Do.FLUSH, Do.RESET], [Do.READ, RAW_HEAD, chunk(TEXT.encode()), LAST_CHUNK])
        async with site(tmp_path, upstream, argo, {"retries": {"first_frame": 1}}) as here:
            answer = await ask(here.port, "POST", "/v1/chat/completions", {"model": "gpt-4o", **ASKS["chat"][1], "stream": True})
            assert told_text("chat", answer, streamed=True) == TEXT
            row = await here.last_row()
            assert (row["outcome"], row["retries"]) == ("COMPLETE", 1)

    run(main())


def test_tools_and_a_bad_answer(tmp_path: Path) -> None:
    async def main() -> None:
        upstream = ScriptedServer([Do.READ, whole(b'{"response":{"content":null,"tool_calls":[{"id":"a"}]}}')])
        async with site(tmp_path, upstream, argo) as here:
            body = {"model": "gpt-4o", **ASKS["chat"][1], "stream": True, "tools": [WEATHER]}
            answer = await ask(here.port, "POST", "/v1/chat/completions", body)
            assert (answer.status, "has no name" in answer.json()["error"]["message"]) == (502, True)
            row = await here.last_row()
            assert row["cause"].endswith("has no name; asked for a whole body, told as a stream, because of its tools")

    run(main())
