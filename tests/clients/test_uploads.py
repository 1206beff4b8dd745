"""Files go up and come down as they are read: nothing is kept, and the provider has the first bytes before the client has the last."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.lab.scripted import Visit, head, whole
from tests.support.gateway import Running, run
from tests.support.sdk import Lockstep, Mode, anthropic_sdk, each_mode, openai_sdk, page, pages, site

PIECE = 64 * 1024
PIECES = 12
OPENAI_FILE = {"id": "file-1", "object": "file", "bytes": PIECE * PIECES, "created_at": 1, "filename": "a", "purpose": "batch", "status": "processed"}
ANTHROPIC_FILE = {"id": "file_1", "type": "file", "filename": "a", "mime_type": "text/plain", "size_bytes": 1, "created_at": "2026-01-01T00:00:00Z"}


class SlowFile(io.RawIOBase):
    """Gives its last half only once the provider has got some of the first."""

    def __init__(self, arrived: threading.Event, sized: bool) -> None:
        super().__init__()
        self._arrived = arrived
        self._sized = sized
        self._at = 0
        self.waited = False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._sized

    def seek(self, offset: int, whence: int = 0) -> int:
        if not self._sized:
            raise io.UnsupportedOperation
        self._at = offset if whence == 0 else PIECE * PIECES + offset
        return self._at

    def tell(self) -> int:
        if not self._sized:
            raise io.UnsupportedOperation
        return self._at

    def read(self, size: int = -1) -> bytes:
        if self._at >= PIECE * PIECES // 2 and not self.waited:
            self.waited = True
            assert self._arrived.wait(10), "the provider has nothing of the file yet"
        give = min(PIECE if size < 0 else size, PIECE * PIECES - self._at)
        start, self._at = self._at, self._at + give
        return bytes((start // PIECE + i) & 0xFF for i in range(16)) * (give // 16) + b"z" * (give % 16)


CALLS: dict[str, tuple[Any, str, dict[str, Any], Callable[[Any, Any], Any]]] = {
    "openai": (openai_sdk, "POST /v1/files", OPENAI_FILE, lambda c, f: c.files.create(file=("a.jsonl", f), purpose="batch")),
    "anthropic": (anthropic_sdk, "POST /v1/files", ANTHROPIC_FILE, lambda c, f: c.beta.files.upload(file=("a.txt", f))),
}


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("kind", list(CALLS))
def test_an_upload_is_not_held(tmp_path: Path, kind: str, sized: bool) -> None:
    """In a thread of its own: a file that blocks would stop an async client, and the gateway with it."""
    make, where, told, call = CALLS[kind]
    arrived = threading.Event()
    held: list[int] = []
    running: list[Running] = []

    async def take(visit: Visit) -> None:
        async with asyncio.timeout(10):
            while len(visit.asked.body) < PIECE and not visit.asked.arrived.is_set():  # noqa: ASYNC110  # the server tells nobody; the wait is bounded
                await asyncio.sleep(0.001)
        assert not visit.asked.arrived.is_set()
        held.append(running[0].app.gateway.peeked.used)
        arrived.set()
        await visit.body()
        await visit.send(page(told))

    async def main() -> None:
        async with site(tmp_path, pages({where: take})) as here, make(here.url, "sync") as sdk:
            running.append(here.running)
            file = SlowFile(arrived, sized)

            def upload(client: Any) -> Any:
                return call(client, file)

            assert (await sdk.one(upload)).id == told["id"]
            assert file.waited
            assert held == [0]
            asked = here.last_asked()
            assert (asked.header("content-length") is not None) == (asked.header("transfer-encoding") is None)
            assert len(asked.body) > PIECE * PIECES
            row = await here.last_row()
            assert (row["outcome"], row["operation"], row["bytes_in"]) == ("COMPLETE", "files", len(asked.body))

    run(main())


@each_mode
def test_an_upload_arrives_byte_for_byte(tmp_path: Path, mode: Mode) -> None:
    content = bytes(range(256)) * 800

    async def main() -> None:
        async with site(tmp_path, pages({"POST /v1/files": page(OPENAI_FILE)})) as here:
            await here.both(openai_sdk, mode, lambda sdk: sdk.one(lambda c: c.files.create(file=("a.bin", io.BytesIO(content)), purpose="batch")))
            straight, relayed = here.upstream.log

            def parts(asked: Any) -> bytes:
                boundary = asked.header("content-type").partition("boundary=")[2].encode()
                return asked.body.replace(boundary, b"BOUNDARY")

            assert parts(relayed) == parts(straight)
            assert content in relayed.body

    run(main())


@each_mode
def test_a_download_is_not_held(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        steps = [(bytes([65 + i]) * 400, 400 * (i + 1)) for i in range(5)]
        paced = Lockstep(head(200, "content-type: application/octet-stream", "transfer-encoding: chunked"), steps)
        async with site(tmp_path, pages({"GET /v1/files/file-1/content": paced})) as here, openai_sdk(here.url, mode) as sdk:
            came: list[bytes] = []

            def take(piece: bytes) -> None:
                came.append(piece)
                for _ in piece:
                    paced.seen()

            def opened() -> Any:
                return sdk.client.files.with_streaming_response.content("file-1")

            def work() -> None:
                with opened() as answer:
                    for piece in answer.iter_bytes():
                        take(piece)

            if mode == "sync":
                await asyncio.to_thread(work)
            else:
                async with opened() as answer:
                    async for piece in answer.iter_bytes():
                        take(piece)
            assert b"".join(came) == b"".join(piece for piece, _ in steps)
            assert paced.waits == 5
            row = await here.last_row()
            assert (row["outcome"], row["operation"], row["bytes_out"]) == ("COMPLETE", "files", 2_000)

    run(main())


CONTENTS = [b'{"error": {"message": "of the file, not of the provider"}}', b"[1, 2]", b'{"half": ', b'{"a":1}\n{"a":2}\n', b"[]", b""]


@each_mode
def test_what_a_file_says_is_not_the_providers_word(tmp_path: Path, mode: Mode) -> None:
    """A file that comes down as JSON is a file: whatever stands in it, all of it came, and that is complete."""
    kinds = "application/json", "application/jsonl"

    async def main() -> None:
        for number, content in enumerate(CONTENTS):
            table[f"GET /v1/files/file-{number}/content"] = whole(content, 200, f"content-type: {kinds[number == 3]}")
        async with site(tmp_path, pages(table)) as here, openai_sdk(here.url, mode) as sdk:
            for number, content in enumerate(CONTENTS):
                assert (await sdk.one(lambda c, n=number: c.files.content(f"file-{n}"))).content == content
            rows = await here.running.rows()
            assert [(row["operation"], row["outcome"], row["cause"], row["error_message"]) for row in rows] == [
                ("files", "COMPLETE", "the whole body", None)
            ] * len(CONTENTS)

    table: dict[str, Any] = {}
    run(main())
