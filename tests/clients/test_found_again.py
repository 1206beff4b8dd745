"""Requests that name no model but an id: they go to the provider that made what they name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.lab.scripted import whole
from tests.support.gateway import run
from tests.support.sdk import Maker, Mode, anthropic_sdk, each_mode, openai_sdk, page, pages, site

RESPONSE: dict[str, Any] = {
    "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "gpt-x", "output": [], "parallel_tool_calls": True,
    "tool_choice": "auto", "tools": [],
    "usage": {
        "input_tokens": 5, "input_tokens_details": {"cached_tokens": 1}, "output_tokens": 7, "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 12,
    },
}  # fmt: skip
ITEM = {"id": "msg_1", "type": "message", "role": "user", "status": "completed", "content": [{"type": "input_text", "text": "x"}]}
ITEMS = {"object": "list", "data": [ITEM], "has_more": False, "first_id": "msg_1", "last_id": "msg_1"}
OTHER = {"x-penstock-provider": "other"}


def providers(port: int, protocol: str = "openai") -> dict[str, Any]:
    """Two of the same protocol; the other one's paths begin with `/other`."""
    base = f"http://127.0.0.1:{port}"
    other = base + "/other" + ("/v1" if protocol == "openai" else "")
    return {
        "first": {"protocol": protocol, "base_url": base, "api_key": "key-1"},
        "other": {"protocol": protocol, "base_url": other, "api_key": "key-2"},
    }


@each_mode
def test_responses(tmp_path: Path, mode: Mode) -> None:
    """Retrieved, listed, cancelled and deleted where it was made; and its usage counts once."""
    table = {
        "POST /other/v1/responses": page(RESPONSE), "GET /other/v1/responses/resp_1": page(RESPONSE), "DELETE /other/v1/responses/resp_1": whole(b""),
        "GET /other/v1/responses/resp_1/input_items": page(ITEMS), "POST /other/v1/responses/resp_1/cancel": page(RESPONSE),
    }  # fmt: skip

    async def main() -> None:
        routes = {"routes": [{"model": "gpt-x", "provider": "other"}]}
        async with site(tmp_path, pages(table), providers, routes) as here, openai_sdk(here.url, mode) as sdk:
            made = await sdk.one(lambda c: c.responses.create(model="gpt-x", input="x", background=True))
            assert (await sdk.one(lambda c: c.responses.retrieve(made.id))).usage.output_tokens == 7
            assert [i.id for i in await sdk.many(lambda c: c.responses.input_items.list(made.id))] == ["msg_1"]
            await sdk.one(lambda c: c.responses.cancel(made.id))
            await sdk.one(lambda c: c.responses.delete(made.id))
            assert {asked.header("authorization") for asked in here.upstream.log} == {"Bearer key-2"}
            rows = await here.running.rows()
            assert [row["operation"] for row in rows] == ["responses"] + ["response_item"] * 4
            assert {row["provider"] for row in rows} == {"other"}
            assert (rows[0]["input_tokens"], rows[0]["output_tokens"], rows[0]["reasoning_tokens"], rows[0]["cache_read_tokens"]) == (5, 7, 2, 1)
            assert rows[0]["response_id"] == "resp_1"

    run(main())


FILE = {"id": "file-1", "object": "file", "bytes": 3, "created_at": 1, "filename": "a.jsonl", "purpose": "batch", "status": "processed"}
BATCH = {
    "id": "batch_1", "object": "batch", "endpoint": "/v1/chat/completions", "input_file_id": "file-1", "completion_window": "24h", "created_at": 1,
    "status": "validating",
}  # fmt: skip
ANTHROPIC_FILE = {
    "id": "file_1", "type": "file", "filename": "a.txt", "mime_type": "text/plain", "size_bytes": 3, "created_at": "2026-01-01T00:00:00Z",
}  # fmt: skip
ANTHROPIC_BATCH = {
    "id": "msgbatch_1", "type": "message_batch", "processing_status": "in_progress", "created_at": "2026-01-01T00:00:00Z",
    "expires_at": "2026-01-02T00:00:00Z",
    "request_counts": {"processing": 1, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0},
}  # fmt: skip
REQUESTS: list[dict[str, Any]] = [{"custom_id": "a", "params": {"model": "m", "messages": [], "max_tokens": 1}}]

MADE: dict[str, tuple[Maker, str, str, dict[str, Any], Callable[[Any], Any], Callable[[Any], Any]]] = {
    "openai file": (
        openai_sdk, "openai", "/v1/files", FILE,
        lambda c: c.files.create(file=("a.jsonl", b"{}\n"), purpose="batch", extra_headers=OTHER),
        lambda c: c.files.retrieve("file-1"),
    ),
    "openai batch": (
        openai_sdk, "openai", "/v1/batches", BATCH,
        lambda c: c.batches.create(input_file_id="file-1", endpoint="/v1/chat/completions", completion_window="24h", extra_headers=OTHER),
        lambda c: c.batches.retrieve("batch_1"),
    ),
    "anthropic file": (
        anthropic_sdk, "anthropic", "/v1/files", ANTHROPIC_FILE, lambda c: c.beta.files.upload(file=("a.txt", b"abc"), extra_headers=OTHER),
        lambda c: c.beta.files.retrieve_metadata("file_1"),
    ),
    "anthropic batch": (
        anthropic_sdk, "anthropic", "/v1/messages/batches", ANTHROPIC_BATCH,
        lambda c: c.messages.batches.create(requests=REQUESTS, extra_headers=OTHER),
        lambda c: c.messages.batches.retrieve("msgbatch_1"),
    ),
}  # fmt: skip


@each_mode
@pytest.mark.parametrize("kind", list(MADE))
def test_files_and_batches(tmp_path: Path, kind: str, mode: Mode) -> None:
    """The header `x-penstock-provider` chose where it was made; afterwards its id alone says so."""
    make, protocol, path, told, create, again = MADE[kind]

    async def main() -> None:
        table = {f"POST /other{path}": page(told), f"GET /other{path}/{told['id']}": page(told)}
        async with site(tmp_path, pages(table), lambda port: providers(port, protocol)) as here, make(here.url, mode) as sdk:
            assert (await sdk.one(create)).id == told["id"]
            row = await here.last_row()
            assert (row["provider"], row["outcome"], row["response_id"]) == ("other", "COMPLETE", told["id"])
            assert here.last_asked().header("x-penstock-provider") is None
            assert (await sdk.one(again)).id == told["id"]
            assert (await here.last_row())["provider"] == "other"

    run(main())


@each_mode
def test_the_header_names_a_provider_that_is_none(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        async with site(tmp_path, pages({}), providers) as here, openai_sdk(here.url, mode) as sdk:
            with pytest.raises(Exception, match="x-penstock-provider names 'nobody', which is not configured") as told:
                await sdk.one(lambda c: c.files.retrieve("file-1", extra_headers={"x-penstock-provider": "nobody"}))
            assert type(told.value).__name__ == "NotFoundError"
            assert not here.upstream.log

    run(main())
