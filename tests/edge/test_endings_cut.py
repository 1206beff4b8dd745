"""Every recorded stream, cut and reset at every frame, as `test_endings` has it for those that stall. No timer runs here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.edge.test_endings import check, gather
from tests.support.endings import How, play
from tests.support.gateway import run


@pytest.mark.parametrize("how", [How.CLEAN, How.EOF, How.RESET])
def test_cut_at_every_frame(tmp_path: Path, how: How) -> None:
    async def main() -> None:
        ends = gather(how)
        assert len(ends) > 1000
        rows = await play(tmp_path, ends, at_once=32, timers={})
        for end in ends:
            check(end, rows[end.model])

    run(main())
