"""Stream modes with a scripted provider and real sockets: how often it is asked, and what its client is told."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from penstock.lab.scripted import LAST_CHUNK, SSE_HEAD, Do, ScriptedServer, Sleep, Visit, chunk, head, whole
from penstock.protocols import REGISTRY
from tests.exchange.test_gathering import FAILURES
from tests.exchange.test_told import folded
from tests.laws.talk import sse
from tests.support.answers import ANSWERS, CHAT, GEMINI, MESSAGES, RESPONSES
from tests.support.exchanges import REQUESTS
from tests.support.gateway import gateway, providers_at, run
from tests.support.http import Answer, ask, request
from tests.support.sdk import site

WORDS = "Streaming is required for operations that may take longer than 10 minutes"
JSON_BOUNCE = json.dumps({"type": "error", "error": {"type": "api_error", "message": WORDS}}).encode()
IDS = "request-id: req_upstream", "anthropic-ratelimit-requests-remaining: 7", "retry-after: 3"
BODY: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": []}
FRAMES = ANSWERS[MESSAGES].frames
HEAD = head(200, "content-type: text/event-stream", "transfer-encoding: chunked", *IDS)


def streamed(visit: Visit) -> bool:
    return json.loads(visit.asked.body).get("stream") is True


async def ask_message(port: int, **more: Any) -> Answer:
    return await ask(port, "POST", "/v1/messages", {**BODY, **more}, {"anthropic-version": "2023-06-01"})


BOUNCES = {
    "500": whole(JSON_BOUNCE, 500, *IDS), "400": whole(JSON_BOUNCE, 400), "plain": whole(WORDS.encode(), 500, "content-type: text/plain"),
    "old": whole(JSON_BOUNCE.replace(b"required", b"strongly recommended"), 500),
    "wrapped": whole(json.dumps({"error": f"Upstream API error: 500 {WORDS}"}).encode(), 500),
}  # fmt: skip
OTHERS = {
    "500": whole(b'{"type":"error","error":{"type":"api_error","message":"Internal server error"}}', 500, *IDS),
    "529": whole(JSON_BOUNCE, 529), "429": whole(b'{"type":"error","error":{"type":"rate_limit_error","message":"slow"}}', 429),
}  # fmt: skip


@pytest.mark.parametrize(("mode", "calls"), [("force", [True]), ("retry", [False, True]), ("passthrough", [False])])
@pytest.mark.parametrize("bounce", BOUNCES)
def test_how_often_a_provider_is_asked_that_refuses_to_answer_without_streaming(tmp_path: Path, mode: str, calls: list[bool], bounce: str) -> None:
    async def answer(visit: Visit) -> None:
        await visit.body()
        await visit.send(HEAD + chunk(ANSWERS[MESSAGES].stream) + LAST_CHUNK if streamed(visit) else BOUNCES[bounce])

    async def main() -> None:
        async with site(tmp_path, ScriptedServer(answer), more={"anthropic_stream_mode": mode}) as here:
            found = await ask_message(here.port)
            assert [json.loads(asked.body).get("stream", False) for asked in here.upstream.log] == calls
            if mode == "passthrough":
                assert (found.status, found.body) == (int(BOUNCES[bounce][9:12]), BOUNCES[bounce].partition(b"\r\n\r\n")[2])
            else:
                assert (found.status, json.loads(found.body)) == (200, ANSWERS[MESSAGES].body)
                assert found.header("content-length") == str(len(found.body))
                assert (found.header("request-id"), found.header("anthropic-ratelimit-requests-remaining")) == ("req_upstream", "7")
            (row,) = await here.running.rows()
            assert row["retries"] == (1 if mode == "retry" else 0)

    run(main())


@pytest.mark.parametrize("mode", ["force", "retry", "passthrough"])
@pytest.mark.parametrize("error", OTHERS)
def test_other_errors_are_asked_once_and_passed_on(tmp_path: Path, mode: str, error: str) -> None:
    async def main() -> None:
        async with site(tmp_path, ScriptedServer([Do.READ, OTHERS[error]]), more={"anthropic_stream_mode": mode}) as here:
            found = await ask_message(here.port)
            assert (found.status, found.body) == (int(error), OTHERS[error].partition(b"\r\n\r\n")[2])
            assert len(here.upstream.log) == 1

    run(main())


class _Played:
    """What `FAILURES` does, written down as bytes and an end."""

    def __init__(self) -> None:
        self.steps: list[Any] = []
        self.live = True

    def body(self, data: bytes) -> _Played:
        self.steps.append(chunk(data))
        return self

    def end(self) -> None:
        self.steps.append(LAST_CHUNK)

    def lose(self) -> None:
        self.steps += [Do.FLUSH, Do.RESET]


@pytest.mark.parametrize("name", FAILURES)
def test_failures_have_their_status_and_anthropic_s_body(tmp_path: Path, name: str) -> None:
    play, status, outcome, word = FAILURES[name]
    played: Any = _Played()
    play(played)
    if played.steps[-1] not in (LAST_CHUNK, Do.RESET):
        played.steps.append(LAST_CHUNK)

    async def main() -> None:
        async with site(tmp_path, ScriptedServer([Do.READ, HEAD, *played.steps])) as here:
            found = await ask_message(here.port)
            assert (found.status, found.clean) == (status, True)
            told = json.loads(found.body)
            assert told["type"] == "error"
            assert word in told["error"]["message"]
            assert (found.header("request-id"), found.header("retry-after")) == ("req_upstream", "3")
            row = await here.last_row()
            assert (row["outcome"], row["status"], row["upstream_request_id"]) == (outcome, status, "req_upstream")

    run(main())


def test_a_stall_is_504_within_its_timer_and_a_flood_is_502(tmp_path: Path) -> None:
    delta = sse({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x" * 1000}}, "content_block_delta")
    stalls = [Do.READ, HEAD, *map(chunk, FRAMES[:4]), Do.WAIT_FOR_CLIENT]
    floods = [Do.READ, HEAD, *map(chunk, FRAMES[:2]), *[chunk(delta)] * 100, Do.WAIT_FOR_CLIENT]

    async def main() -> None:
        async with site(tmp_path, ScriptedServer(stalls, floods), more={"idle": "300ms", "limits": {"assembly": "50KiB"}}) as here:
            found = await ask_message(here.port)
            assert (found.status, json.loads(found.body)["error"]["type"]) == (504, "timeout_error")
            found = await ask_message(here.port)
            assert found.status == 502
            assert "larger than the 51200 bytes" in json.loads(found.body)["error"]["message"]
            assert [row["outcome"] for row in await here.running.rows()] == ["TIMED_OUT", "CUT"]
            assert here.running.app.gateway.held.used == 0

    run(main())


def test_a_client_that_leaves_cancels_the_provider_at_once(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def answer(visit: Visit) -> None:
        await visit.body()
        await visit.send(HEAD + chunk(FRAMES[0]))
        begun.set()
        await visit.left()

    async def main() -> None:
        async with site(tmp_path, ScriptedServer(answer)) as here:
            _, writer = await asyncio.open_connection("127.0.0.1", here.port)
            writer.write(request("POST", "/v1/messages", json.dumps(BODY).encode(), {"anthropic-version": "2023-06-01"}))
            await begun.wait()
            writer.close()
            asked = here.last_asked()
            async with asyncio.timeout(5):
                await asked.over.wait()
            assert asked.lost_at is not None
            assert (await here.last_row())["outcome"] == "CLIENT_GONE"

    run(main())


@pytest.mark.parametrize("protocol", [CHAT, RESPONSES, MESSAGES, GEMINI], ids=lambda p: p.value)
def test_a_client_of_a_pseudo_stream_is_kept_alive_and_then_told_all(tmp_path: Path, protocol: Any) -> None:
    data = ANSWERS[protocol].json
    script = [Do.READ, head(200, "content-type: application/json", f"content-length: {len(data)}", *IDS), data[:20], Sleep(0.6), data[20:]]

    async def main() -> None:
        more = {"pseudo_stream": True, "early_head": "100ms", "keepalive": "100ms", "pseudo_interval_ms": 5}
        async with site(tmp_path, ScriptedServer(script), more=more) as here:
            path, body = REQUESTS[protocol]
            found = await ask(here.port, "POST", path, {**body, **({} if protocol is GEMINI else {"stream": True})})
            assert (found.status, found.clean, found.header("content-type")) == (200, True, "text/event-stream")
            assert found.body.startswith(REGISTRY[protocol].keepalive * 3)
            assert folded(protocol, found.body) == ANSWERS[protocol].body
            row = await here.last_row()
            assert (row["outcome"], row["output_tokens"], row["bytes_out"]) == ("COMPLETE", 4, len(found.body))

    run(main())


def test_a_long_pseudo_stream_waits_for_a_client_that_reads_slowly(tmp_path: Path) -> None:
    """Sixteen MiB of text: what the client has not taken stays a body, and is not held as a stream."""
    text = "word " * (16 << 20 >> 3)
    data = json.dumps({**ANSWERS[MESSAGES].body, "content": [{"type": "text", "text": text}]}).encode()

    async def main() -> None:
        more = {"pseudo_stream": True, "pseudo_chunk_chars": 1000}
        async with site(tmp_path, ScriptedServer([Do.READ, whole(data)]), more=more) as here:
            reader, writer = await asyncio.open_connection("127.0.0.1", here.port, limit=1 << 16)
            body = json.dumps({**BODY, "stream": True}).encode()
            writer.write(request("POST", "/v1/messages", body, {"anthropic-version": "2023-06-01", "connection": "close"}))
            await asyncio.sleep(0.5)
            (exchange,) = here.running.app.gateway.live
            assert getattr(exchange, "paused_at", None) is not None, "it waits"
            told = 0
            async with asyncio.timeout(50):
                while piece := await reader.read(1 << 20):
                    told += piece.count(b"word ")
            writer.close()
            assert told > 0
            row = await here.last_row()
            assert (row["outcome"], row["stop_reason"]) == ("COMPLETE", "end_turn")

    run(main())


def test_a_route_decides_for_itself(tmp_path: Path) -> None:
    async def answer(visit: Visit) -> None:
        await visit.body()
        await visit.send(SSE_HEAD + chunk(ANSWERS[CHAT].stream) + LAST_CHUNK if streamed(visit) else whole(ANSWERS[CHAT].json))

    async def main() -> None:
        server = ScriptedServer(answer)
        port = await server.start("127.0.0.1", 0)
        routes = [{"model": "long", "provider": "openai", "nonstream_mode": "force"}, {"model": "told", "provider": "openai", "pseudo_stream": True}]
        try:
            async with gateway(tmp_path, providers_at(port), {"routes": routes}) as running:
                for model, stream, asked in (
                    ("long", False, True), ("told", False, False), ("told", True, False), ("m", False, False), ("m", True, True)
                ):  # fmt: skip
                    found = await ask(running.port, "POST", "/v1/chat/completions", {"model": model, "stream": stream, "messages": []})
                    assert (found.status, json.loads(server.log[-1].body).get("stream", False)) == (200, asked), (model, stream)
                    kind = "text/event-stream" if stream else "application/json"
                    assert found.header("content-type") == kind
        finally:
            server.close()

    run(main())
