"""Anthropic's endpoints beside the messages themselves, asked by its official client."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from penstock.lab.scripted import whole
from tests.support.gateway import run
from tests.support.sdk import Mode, Sdk, anthropic_sdk, each_mode, page, pages, recorded, site

BATCH = {
    "id": "msgbatch_1", "type": "message_batch", "processing_status": "in_progress", "created_at": "2026-01-01T00:00:00Z",
    "expires_at": "2026-01-02T00:00:00Z",
    "request_counts": {"processing": 1, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0},
    "ended_at": None, "archived_at": None, "cancel_initiated_at": None, "results_url": None,
}  # fmt: skip
MODEL = {"type": "model", "id": "claude-x", "display_name": "Claude X", "created_at": "2026-01-01T00:00:00Z", "lifecycle": "active"}
FILE = {
    "id": "file_1", "type": "file", "filename": "a.txt", "mime_type": "text/plain", "size_bytes": 3, "created_at": "2026-01-01T00:00:00Z",
    "downloadable": True,
}  # fmt: skip
TABLE = {
    "POST /v1/messages/count_tokens": page({"input_tokens": 42}),
    "POST /v1/messages/batches": page(BATCH),
    "GET /v1/messages/batches": page({"data": [BATCH], "has_more": False, "first_id": "msgbatch_1", "last_id": "msgbatch_1"}),
    "GET /v1/messages/batches/msgbatch_1": page({**BATCH, "processing_status": "ended", "results_url": "/v1/messages/batches/msgbatch_1/results"}),
    "POST /v1/messages/batches/msgbatch_1/cancel": page({**BATCH, "processing_status": "canceling"}),
    "DELETE /v1/messages/batches/msgbatch_1": page({"id": "msgbatch_1", "type": "message_batch_deleted"}),
    "GET /v1/messages/batches/msgbatch_1/results": whole(
        b'{"custom_id":"a","result":{"type":"canceled"}}\n{"custom_id":"b","result":{"type":"expired"}}\n', 200, "content-type: application/x-jsonl"),
    "GET /v1/models": page({"data": [MODEL], "has_more": False, "first_id": "claude-x", "last_id": "claude-x"}),
    "GET /v1/models/claude-x": page(MODEL),
    "GET /v1/files": page({"data": [FILE], "has_more": False, "first_id": "file_1", "last_id": "file_1"}),
    "POST /v1/files": page(FILE),
    "GET /v1/files/file_1": page(FILE),
    "GET /v1/files/file_1/content": whole(b"a\r\n\0" * 5, 200, "content-type: application/octet-stream"),
    "DELETE /v1/files/file_1": page({"id": "file_1", "type": "file_deleted"}),
}  # fmt: skip

ASKED: dict[str, Any] = {"model": "claude-x", "messages": [{"role": "user", "content": "x"}]}
CALLS: dict[str, tuple[Callable[[Any], Any], str, str]] = {
    "count": (lambda c: c.messages.count_tokens(**ASKED), "one", "count_tokens"),
    "count beta": (lambda c: c.beta.messages.count_tokens(**ASKED, betas=["b-1"]), "one", "count_tokens"),
    "batch made": (lambda c: c.messages.batches.create(requests=[{"custom_id": "a", "params": {**ASKED, "max_tokens": 1}}]), "one", "batches"),
    "batch": (lambda c: c.messages.batches.retrieve("msgbatch_1"), "one", "batches"),
    "batch cancelled": (lambda c: c.messages.batches.cancel("msgbatch_1"), "one", "batches"),
    "batch deleted": (lambda c: c.messages.batches.delete("msgbatch_1"), "one", "batches"),
    "batches": (lambda c: c.messages.batches.list(limit=3), "many", "batches"),
    "model": (lambda c: c.models.retrieve("claude-x"), "one", "models"),
    "files": (lambda c: c.beta.files.list(), "many", "files"),
    "file made": (lambda c: c.beta.files.upload(file=("a.txt", b"a\r\n")), "one", "files"),
    "file": (lambda c: c.beta.files.retrieve_metadata("file_1"), "one", "files"),
    "file deleted": (lambda c: c.beta.files.delete("file_1"), "one", "files"),
}  # fmt: skip


@each_mode
def test_same_answers_one_row_each(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        async with site(tmp_path, pages(TABLE)) as here:
            for name, (call, how, operation) in CALLS.items():

                async def ask(sdk: Sdk, call: Callable[[Any], Any] = call, how: str = how) -> Any:
                    return await (sdk.one(call) if how == "one" else sdk.many(call))

                await here.both(anthropic_sdk, mode, ask)
                straight, relayed = here.upstream.log[-2:]
                assert (relayed.method, relayed.target) == (straight.method, straight.target), name
                assert relayed.header("anthropic-beta") == straight.header("anthropic-beta"), name
                row = await here.last_row()
                assert (row["outcome"], row["operation"], row["provider"], row["client_protocol"]) == (
                    "COMPLETE",
                    operation,
                    "anthropic",
                    "anthropic_messages",
                ), (name, row["cause"])
                # Counting is no spending: nothing here may ever be summed.
                assert operation == "count_tokens" or row["usage_source"] == "none", name

    run(main())


@each_mode
def test_results_of_a_batch(tmp_path: Path, mode: Mode) -> None:
    """JSON Lines, which are no JSON document: all of them came, and that is complete."""

    async def main() -> None:
        async with site(tmp_path, pages(TABLE)) as here:
            found = await here.both(anthropic_sdk, mode, lambda sdk: sdk.many(lambda c: c.messages.batches.results("msgbatch_1")))
            assert [line.custom_id for line in found] == ["a", "b"]
            rows = await here.running.rows()
            assert [row["operation"] for row in rows] == ["batches", "batches"]
            assert [(row["outcome"], row["cause"]) for row in rows] == [("COMPLETE", "the whole body")] * 2

    run(main())


@each_mode
def test_files_come_as_they_are(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        async with site(tmp_path, pages(TABLE)) as here, anthropic_sdk(here.url, mode) as sdk:
            found = await sdk.one(lambda c: c.beta.files.download("file_1"))
            assert await sdk.one(lambda _: found.read()) == b"a\r\n\0" * 5
            row = await here.last_row()
            assert (row["outcome"], row["operation"], row["bytes_out"]) == ("COMPLETE", "files", 20)

    run(main())


@each_mode
def test_models_are_listed_in_the_clients_shape(tmp_path: Path, mode: Mode) -> None:
    """The gateway's list merges all providers'; what the client gets from its own provider is in it, unchanged."""

    async def main() -> None:
        async with site(tmp_path, recorded()) as here, anthropic_sdk(here.url, mode) as relayed, anthropic_sdk(here.upstream_url, mode) as direct:
            found = {m.id: m for m in await relayed.many(lambda c: c.models.list())}
            own = await direct.many(lambda c: c.models.list())
            assert len(own) == 7
            assert all(found[m.id] == m for m in own)
            assert "demo" in found
            assert len(found) > len(own)
            row = await here.last_row()
            assert (row["outcome"], row["operation"], row["status"]) == ("COMPLETE", "models", 200)

    run(main())
