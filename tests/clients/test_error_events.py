"""The provider's own `error` event in a Responses stream, flat as it is documented and nested as it comes, and what may stand behind it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.support.gateway import run
from tests.support.http import ask
from tests.support.sdk import Mode, each_mode, openai_sdk, pages, site, sse

RESPONSE: dict[str, Any] = {
    "id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": "in_progress", "output": [], "parallel_tool_calls": True,
    "tool_choice": "auto", "tools": [],
}  # fmt: skip
TOLD = {"code": "rate_limit_exceeded", "message": "slow down", "param": None}


def event(name: str, number: int, **fields: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, 'sequence_number': number, **fields})}\n\n".encode()


def ended(word: str) -> bytes:
    error = {"error": {"code": TOLD["code"], "message": TOLD["message"]}} if word == "failed" else {}
    return event(f"response.{word}", 5, response={**RESPONSE, "status": word, **error})


ITEM: dict[str, Any] = {"id": "i", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
PART: dict[str, Any] = {"type": "output_text", "text": "", "annotations": []}


def delta(number: int) -> bytes:
    return event("response.output_text.delta", number, item_id="i", output_index=0, content_index=0, delta="a", logprobs=[])


BEGUN = b"".join([
    event("response.created", 0, response=RESPONSE), event("response.output_item.added", 1, output_index=0, item=ITEM),
    event("response.content_part.added", 2, item_id="i", output_index=0, content_index=0, part=PART), delta(3),
])  # fmt: skip
FLAT, NESTED = event("error", 4, **TOLD), event("error", 4, error={"type": "tokens", **TOLD})
BEHIND = {
    "the end": (b"", "error"), "response.failed": (ended("failed"), "response.failed"), "more": (delta(5), "response.output_text.delta"),
    "response.completed": (ended("completed"), "response.completed"),
}  # fmt: skip


@each_mode
@pytest.mark.parametrize("behind", list(BEHIND))
def test_what_a_client_sees_of_an_error_event(tmp_path: Path, mode: Mode, behind: str) -> None:
    """Its words, and an end; a clean one only where the provider went on to its own."""
    rest, last = BEHIND[behind]
    for told in (FLAT, NESTED):
        stream = BEGUN + told + rest

        async def main(told: bytes = told, stream: bytes = stream) -> None:
            async with site(tmp_path / str(told == FLAT), pages({"POST /v1/responses": sse(stream)})) as here, openai_sdk(here.url, mode) as sdk:
                raw = await ask(here.running.port, "POST", "/v1/responses", {"model": "m", "input": "x", "stream": True})
                assert (raw.body, raw.clean) == (stream, True), "the provider's own words, and nothing put behind them"
                seen: list[Any] = []
                if told == NESTED:
                    with pytest.raises(openai.APIError, match="slow down"):
                        seen = await sdk.many(lambda c: c.responses.create(model="m", input="x", stream=True))
                else:
                    seen = await sdk.many(lambda c: c.responses.create(model="m", input="x", stream=True))
                    assert (seen[4].type, seen[4].code, seen[4].message) == ("error", "rate_limit_exceeded", "slow down")
                    assert seen[-1].type == last
                    if last != "response.completed":
                        with pytest.raises(RuntimeError, match=r"response\.completed"):
                            await sdk.helped(lambda c: c.responses.stream(model="m", input="x"), lambda s: s.get_final_response())
                rows = await here.running.rows()
                assert {row["outcome"] for row in rows} == {"COMPLETE" if last == "response.completed" else "UPSTREAM_ERROR"}
                assert {row["error_code"] for row in rows} == {None if last == "response.completed" else "rate_limit_exceeded"}

        (tmp_path / str(told == FLAT)).mkdir()
        run(main())
