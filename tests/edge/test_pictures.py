"""Pictures end to end: what is told apart in the ledger, what it costs, and what a budget of money is charged; whichever way the answer comes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from penstock.lab.scripted import Do, ScriptedServer, whole
from tests.support.gateway import gateway, providers_at, run
from tests.support.http import ask
from tests.support.process import rows_in

KINDS = ("image_input_tokens", "image_output_tokens", "cache_read_image_tokens", "video_input_tokens")
USED: dict[str, Any] = {
    "promptTokenCount": 268, "candidatesTokenCount": 1303, "totalTokenCount": 1571,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 10}, {"modality": "IMAGE", "tokenCount": 258}],
    "candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": 13}, {"modality": "IMAGE", "tokenCount": 1290}],
}  # fmt: skip
GEMINI: dict[str, Any] = {
    "candidates": [{"content": {"parts": [{"text": "Here it is."}, {"inlineData": {"mimeType": "image/png", "data": "aGVsbG8="}}], "role": "model"},
                    "finishReason": "STOP", "index": 0}],
    "modelVersion": "gemini-2.5-flash-image", "responseId": "r1",
    "usageMetadata": USED,
}  # fmt: skip
GEMINI_NANOS = 268 * 300 + 13 * 2500 + 1290 * 30_000
OPENAI = {"created": 1, "data": [{"b64_json": "aGVsbG8="}], "usage": {
    "input_tokens": 100, "input_tokens_details": {"image_tokens": 60, "text_tokens": 40},
    "output_tokens": 4160, "output_tokens_details": {"image_tokens": 4100, "text_tokens": 60}, "total_tokens": 4260,
}}  # fmt: skip
DRAWN = {"type": "image_generation.completed", "b64_json": "aGVsbG8=", "usage": {
    "input_tokens": 40, "input_tokens_details": {"image_tokens": 0, "text_tokens": 40}, "output_tokens": 4100, "total_tokens": 4140}}  # fmt: skip


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in events)


PATH = "/v1beta/models/gemini-2.5-flash-image:"
ASKED = {"model": "gpt-image-1.5", "prompt": "a gate"}


@pytest.mark.parametrize(("path", "body", "answer", "stream", "told", "nanos"), [
    (f"{PATH}generateContent", {"contents": []}, json.dumps(GEMINI).encode(), False, (258, 1290, None, None), GEMINI_NANOS),
    (f"{PATH}streamGenerateContent?alt=sse", {"contents": []}, sse(GEMINI), True, (258, 1290, None, None), GEMINI_NANOS),
    ("/v1/images/generations", ASKED, json.dumps(OPENAI).encode(), False, (60, 4100, None, None),
     40 * 5000 + 60 * 8000 + 60 * 10_000 + 4100 * 32_000),
    ("/v1/images/generations", {**ASKED, "stream": True}, sse({"type": "image_generation.partial_image", "b64_json": "aA=="}, DRAWN), True,
     (0, 4100, None, None), 40 * 5000 + 4100 * 32_000),
], ids=["gemini's body", "gemini's stream", "openai's body", "openai's stream"])  # fmt: skip
def test_a_picture_is_told_apart_priced_and_charged(
    tmp_path: Path, path: str, body: dict[str, Any], answer: bytes, stream: bool, told: tuple[int | None, ...], nanos: int
) -> None:
    async def main() -> None:
        server = ScriptedServer([Do.READ, whole(answer, 200, f"Content-Type: {'text/event-stream' if stream else 'application/json'}")])
        port = await server.start("127.0.0.1", 0)
        try:
            providers = providers_at(port)
            budgets = [{"money": "1", "per": "total", "action": "block", "name": "purse"}]
            async with gateway(tmp_path, providers, {"admission": {"budgets": budgets}}) as running:
                got = await ask(running.port, "POST", path, body)
                assert (got.status, got.body) == (200, answer)
                row = await running.last_row()
        finally:
            server.close()
        assert (row["outcome"], row["usage_source"], tuple(row[name] for name in KINDS)) == ("COMPLETE", "reported", told)
        assert (row["cost_nanousd"], row["charged_micros"]) == (nanos, -(-nanos // 1000))
        assert [each["spent"] for each in rows_in(tmp_path / "data", "budget_spent")] == [-(-nanos // 1000)]

    run(main())


def test_a_stream_that_is_put_together_and_a_body_that_is_told_as_one_keep_what_is_told_of_kinds(tmp_path: Path) -> None:
    """The client's own protocol both times: figures are as stated, and the row says the same."""

    async def main() -> None:
        first = {**GEMINI, "candidates": [{"content": {"parts": [{"text": "Here it is."}], "role": "model"}, "index": 0}], "usageMetadata": {
            "promptTokenCount": 268, "promptTokensDetails": USED["promptTokensDetails"]}}
        stream = whole(sse(first, GEMINI), 200, "Content-Type: text/event-stream")
        body = whole(json.dumps(GEMINI).encode(), 200, "Content-Type: application/json")
        server = ScriptedServer([Do.READ, stream], [Do.READ, body])
        port = await server.start("127.0.0.1", 0)
        try:
            more = {"routes": [{"model": "*", "provider": "gemini", "nonstream_mode": "force", "pseudo_stream": True}]}
            async with gateway(tmp_path, providers_at(port), more) as running:
                put_together = await ask(running.port, "POST", f"{PATH}generateContent", {"contents": []})
                told = await ask(running.port, "POST", f"{PATH}streamGenerateContent?alt=sse", {"contents": []})
                rows = await running.rows()
        finally:
            server.close()
        assert json.loads(put_together.body)["usageMetadata"] == USED
        last = told.body.rstrip().rpartition(b"data: ")[2]
        assert json.loads(last)["usageMetadata"] == USED
        assert [(row["outcome"], row["image_output_tokens"], row["cost_nanousd"]) for row in rows] == [("COMPLETE", 1290, GEMINI_NANOS)] * 2

    run(main())
