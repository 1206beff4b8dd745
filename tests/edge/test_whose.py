"""Whose it is that a provider keeps under the gateway's one key: files, uploads, batches, responses, over real sockets and across a restart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from penstock.lab.scripted import Visit
from tests.edge.test_admission import keys
from tests.support.gateway import gateway, providers_at, run
from tests.support.http import ask
from tests.support.sdk import page, pages

ADA, EVE = "sk-pst-of-ada", "sk-pst-of-eve"
MADE: list[tuple[str, str, Any, str]] = [
    ("/v1/files", "file-1", {"id": "file-1", "object": "file"}, "/v1/files/file-1/content"),
    ("/openai/v1/files", "file-2", {"id": "file-2", "object": "file"}, "/openai/v1/files/file-2"),
    ("/openai/v1/uploads/upload_1/complete", "file-3", {"id": "upload_1", "file": {"id": "file-3"}}, "/openai/v1/files/file-3/content"),
    ("/openai/v1/batches", "batch_1", {"id": "batch_1", "object": "batch"}, "/openai/v1/batches/batch_1"),
    ("/anthropic/v1/files", "file_4", {"id": "file_4", "type": "file"}, "/anthropic/v1/files/file_4/content"),
    ("/anthropic/v1/messages/batches", "mb_1", {"id": "mb_1", "type": "message_batch"}, "/anthropic/v1/messages/batches/mb_1/results"),
    ("/openai/v1/responses", "resp_1", {"id": "resp_1", "object": "response", "status": "completed", "output": []}, "/openai/v1/responses/resp_1"),
]  # fmt: skip
WAYS = ["GET", "DELETE", "GET with a body"]


@pytest.mark.parametrize("restarted", [False, True])
def test_what_one_key_has_put_there_no_other_reads_or_deletes(tmp_path: Path, restarted: bool) -> None:
    asked: list[str] = []

    async def there(visit: Visit) -> None:
        await visit.body()
        asked.append(f"{visit.asked.method} {visit.asked.path}")
        await visit.send(page({"object": "that"}))

    bare = [(path.replace("/openai/v1/", "/v1/").replace("/anthropic/v1/", "/v1/"), of) for path, _, of, _ in MADE]
    table: dict[str, Any] = {f"POST {path}": page(of) for path, of in dict(bare).items()}
    # Two of them are made at one path.
    table["POST /v1/files"] = _one_after_the_other([of for path, of in bare if path == "/v1/files"])
    for _, _, _, at in MADE:
        place = "/v1/" + at.partition("/v1/")[2]
        table |= {f"{method} {place}": there for method in ("GET", "DELETE")}

    async def main() -> None:
        async with served(table) as at:

            async def make(port: int) -> None:
                for path, *_ in MADE:
                    body: Any = {"model": "m", "input": "x"} if path.endswith("/responses") else {}
                    assert (await ask(port, "POST", path, body, {"authorization": f"Bearer {ADA}"})).status == 200, path

            async def look(port: int) -> None:
                for _, id, _, path in MADE:
                    for way in WAYS:
                        body: Any = {} if way.endswith("body") else None
                        method = way.partition(" ")[0]
                        refused = await ask(port, method, path, body, {"authorization": f"Bearer {EVE}"})
                        assert (refused.status, asked) == (404, []), (way, path)
                        error = refused.json()["error"]
                        assert id in error["message"]
                        assert error["type"] == ("not_found_error" if "/anthropic/" in path else "invalid_request_error")
                        assert (await ask(port, method, path, body, {"authorization": f"Bearer {ADA}"})).status == 200, (way, path)
                        assert asked.pop() == f"{method} /v1/{path.partition('/v1/')[2]}"

            async with gateway(tmp_path, at) as running:
                await _let_in(tmp_path, running)
                await make(running.port)
                if not restarted:
                    await look(running.port)
            if restarted:  # what was in memory is in the database alone
                async with gateway(tmp_path, at) as running:
                    await look(running.port)

    run(main())


@asynccontextmanager
async def served(table: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any]]:
    provider = pages(table)
    try:
        yield providers_at(await provider.start("127.0.0.1", 0))
    finally:
        provider.close()


def _one_after_the_other(bodies: list[Any]) -> Any:
    left = iter(bodies)

    async def answer(visit: Visit) -> None:
        await visit.body()
        await visit.send(page(next(left)))

    return answer


async def _let_in(directory: Path, running: Any) -> None:
    for name, shown in (("ada", ADA), ("eve", EVE)):
        await asyncio.to_thread(keys, directory, "import", name, sha256(shown.encode()).hexdigest())
    await running.app._gatehouse.reload()  # it would look by itself within two seconds


def test_what_the_ledger_does_not_know_is_for_the_provider_to_know(tmp_path: Path) -> None:
    """As documented: lists, and what was put there by somebody else's hand."""
    table = {"GET /v1/files": page({"data": [{"id": "file-1"}]}), "GET /v1/files/file-9": page({"id": "file-9"})}

    async def main() -> None:
        async with served(table) as at, gateway(tmp_path, at) as running:
            await _let_in(tmp_path, running)
            for path in ("/openai/v1/files", "/openai/v1/files/file-9", "/v1/files/file-9"):
                for _ in range(2):  # whoever has asked for it once has not put it there
                    for shown in (ADA, EVE):
                        answer = await ask(running.port, "GET", path, None, {"authorization": f"Bearer {shown}"})
                        assert answer.status == 200, json.dumps([path, shown])

    run(main())
