"""A secret in the wrong place of an unknown path is in no row."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support.gateway import gateway, providers_at, run
from tests.support.http import ask, read_answer


def test_a_key_in_an_unknown_path_is_masked_in_the_row(tmp_path: Path) -> None:
    async def main() -> None:
        async with gateway(tmp_path, providers_at(9)) as running:
            for path in ("/nothing;key=sentinel12345", "/nothing%3Fkey=sentinel12345"):
                answer = await ask(running.port, "GET", path)
                assert answer.status in (400, 404)
            rows = await running.rows()
            assert len(rows) == 2
            assert "sentinel" not in str(rows)

    run(main())


def test_nor_where_the_head_is_refused_before_anybody_looked_at_the_path(tmp_path: Path) -> None:
    async def main() -> None:
        async with gateway(tmp_path, providers_at(9)) as running:
            for rest in ("Host: evil.example", "Host: 127.0.0.1\r\nHost: evil.example", "Host: 127.0.0.1\r\nbroken"):
                reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
                writer.write(f"GET /v1/sk-ant-api03-sentinel12345/x HTTP/1.1\r\n{rest}\r\n\r\n".encode())
                assert (await read_answer(reader)).status in (400, 403)
                writer.close()
            rows = await running.rows()
            assert [row["path"] for row in rows] == ["/v1/sk-ant-***/x"] * 3
            assert "sentinel" not in str(rows)

    run(main())
