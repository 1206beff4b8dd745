"""Captures of a running gateway: each phase holds the bytes that passed there, and no key."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.capture import Order, Phase
from penstock.capture.store import Store
from tests.edge.test_corpus import relay, stream
from tests.support.corpus import Case, distinct
from tests.support.gateway import run
from tests.support.streams import named

FIRST = {case.recording.protocol: case for case in reversed(distinct()) if case.expected["outcome"] == "COMPLETE"}


@pytest.mark.parametrize(**named(tuple(FIRST.values())))
def test_every_phase_of_a_stream(tmp_path: Path, case: Case) -> None:
    async def main() -> None:
        async with relay(tmp_path) as (running, _):
            recorder = running.app.recorder
            recorder.turn_on(Order())
            first, second = await stream(running, case), await stream(running, case)
            assert first.body == second.body == case.body, "capturing changes nothing"
            await running.quiet()
            assert recorder.flush()
            assert not recorder.active, "one exchange was ordered"
        (item,) = Store(tmp_path / "data").items()
        assert item.meta is not None
        assert item.meta.outcome == "COMPLETE"
        store = Store(tmp_path / "data")
        parts = {part.phase: store.read(item, part) for part in item.meta.parts}
        assert parts.keys() == set(Phase)
        assert parts[Phase.OUTBOUND_RESPONSE].body == case.body
        assert parts[Phase.UPSTREAM_RESPONSE].body.startswith(case.body[:64])
        assert b"test-openai" not in b"".join(part.head + part.body for part in parts.values())
        assert sum(size for _, size in parts[Phase.OUTBOUND_RESPONSE].times) == len(case.body)

    run(main())
