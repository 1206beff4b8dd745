"""A secret in the wrong place of an unknown path is in no row."""

from __future__ import annotations

from pathlib import Path

from tests.support.gateway import gateway, providers_at, run
from tests.support.http import ask


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
